//! Both ends, with a wire between them that does its worst.

use std::collections::BinaryHeap;
use std::vec::Vec;

use core::cmp::Reverse;

use proptest::prelude::*;

use super::frame::{Body, Key, MAX_FRAME, Name, claim};
use super::*;
use crate::ids::{Epoch, GuestId, MoveId};

const NAME: Name = Name {
    guest: GuestId(7),
    epoch: Epoch(3),
    id: MoveId(1 << 40),
};

/// Once its turn has come, a chunk is here.
const CONTENT: fn(u32) -> [u8; 4] = u32::to_le_bytes;

fn ring(length: usize) -> Vec<Chunk> {
    std::vec![Chunk::EMPTY; length]
}

/// What a wire does, in each direction.
#[derive(Clone, Copy, Debug)]
struct Wire {
    /// Of 256 datagrams so many are lost, and so many come twice.
    lost: u8,
    twice: u8,
    /// Microseconds that each takes, and what may come on top.
    delay: u64,
    jitter: u64,
    /// Microseconds for which a datagram keeps the wire to itself.
    each: u64,
}

/// A small generator, so that a run is its seed.
struct Random(u64);

impl Random {
    fn draw(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % below.max(1)
    }
}

/// What came out, when the last of it did, the longest stay on the wire, and how many chunks went twice.
struct Outcome {
    took: u64,
    longest: u64,
    repeats: u64,
}

/// On its way: when it comes, in which order of those, whether to the receiver, since when, and what it is.
type Datagram = (u64, u64, bool, u64, Vec<u8>);

/// Sends `count` chunks; all must come, in order, once each.
fn run(count: u32, wire: Wire, length: usize, seed: u64) -> Outcome {
    let key = Key::new(&[9; 32], 5, NAME);
    let (mut out, mut into) = (
        Outgoing::new(ring(length), Micros(0)),
        Incoming::new(ring(length)),
    );
    let mut random = Random(seed);
    let mut flying: BinaryHeap<Reverse<Datagram>> = BinaryHeap::new();
    let (mut now, mut order, mut free, mut longest) = (0, 0, [0_u64; 2], 0);
    let (mut sent, mut came) = (0, 0);
    let mut room = [0; MAX_FRAME];
    loop {
        let mut leaving: Vec<(bool, Vec<u8>)> = Vec::new();
        while sent < count && out.has_room() {
            let bytes = CONTENT(sent);
            let number = out.push(Micros(now), &bytes);
            assert_eq!(number, sent);
            let n = key.write(
                &Body::Chunk {
                    number,
                    bytes: &bytes,
                },
                &mut room,
            );
            leaving.push((true, room[..n].to_vec()));
            sent += 1;
        }
        while let Some(number) = out.next_lost(Micros(now)) {
            let bytes = out.bytes(number);
            let n = key.write(&Body::Chunk { number, bytes }, &mut room);
            leaving.push((true, room[..n].to_vec()));
        }
        if sent == count && out.is_all_seen() {
            assert_eq!(came, count);
            let repeats = out.report().1;
            return Outcome {
                took: now,
                longest,
                repeats,
            };
        }
        if let Some(Reverse((at, ..))) = flying.peek()
            && *at <= now
        {
            let Some(Reverse((_, _, to_receiver, since, frame))) = flying.pop() else {
                unreachable!()
            };
            longest = longest.max(now - since);
            match key.read(&frame).expect("ours") {
                Body::Chunk { number, bytes } => {
                    assert!(to_receiver);
                    let taken = into.take(number, bytes, |bytes| {
                        assert_eq!(bytes, CONTENT(came));
                        came += 1;
                        Ok::<_, ()>(())
                    });
                    assert_eq!(taken, Ok(()));
                    let seen = into.seen(Verdict::Going);
                    let n = key.write(&Body::Seen(seen), &mut room);
                    leaving.push((false, room[..n].to_vec()));
                }
                Body::Seen(seen) => out.hear(Micros(now), &seen),
            }
        } else if leaving.is_empty() {
            let next = flying.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
            now = next.min(out.deadline().0).max(now + 1);
            assert!(now < 600_000_000, "it goes on for ever: {sent} of {count}");
        }
        for (to_receiver, frame) in leaving {
            let free = &mut free[usize::from(to_receiver)];
            *free = (*free).max(now) + if to_receiver { wire.each } else { 0 };
            let copies = match random.draw(256) as u8 {
                draw if draw < wire.lost => 0,
                draw if draw < wire.lost.saturating_add(wire.twice) => 2,
                _ => 1,
            };
            for _ in 0..copies {
                order += 1;
                let at = *free + wire.delay + random.draw(wire.jitter + 1);
                flying.push(Reverse((at, order, to_receiver, now, frame.clone())));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everything_comes_in_order_whatever_the_wire_does(
        lost in 0..100_u8, twice in 0..60_u8, delay in 0..50_000_u64, jitter in 0..30_000_u64,
        each in 0..500_u64, length in 1..=MAX_RING, seed: u64,
    ) {
        run(300, Wire { lost, twice, delay, jitter, each }, length, seed);
    }

    #[test]
    fn a_frame_that_was_touched_is_nobodys(place in 0..64_usize, bit in 0..8_u8) {
        let key = Key::new(&[9; 32], 5, NAME);
        let mut room = [0; MAX_FRAME];
        let length = key.write(&Body::Chunk { number: 77, bytes: &[3; 20] }, &mut room);
        prop_assert_eq!(length, 64);
        room[place] ^= 1 << bit;
        prop_assert_eq!(key.read(&room[..length]), None);
    }

    #[test]
    fn what_a_stranger_sends_is_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..MAX_FRAME)) {
        let key = Key::new(&[9; 32], 5, NAME);
        prop_assert_eq!(key.read(&bytes), None);
    }

    #[test]
    fn what_a_receiver_cannot_know_changes_nothing(next: u32, beyond: u128) {
        let mut out = Outgoing::new(ring(32), Micros(0));
        out.push(Micros(0), b"one");
        out.hear(Micros(1), &Seen { next, beyond, verdict: Verdict::Going });
        prop_assert_eq!(out.is_all_seen(), next == 1);
        prop_assert!(out.has_room() == (next <= 1));
    }
}

#[test]
fn a_frame_says_whose_it_is() {
    let key = Key::new(&[9; 32], 5, NAME);
    let mut room = [0; MAX_FRAME];
    let seen = Seen {
        next: 9,
        beyond: 1 << 100 | 5,
        verdict: Verdict::Whole,
    };
    let length = key.write(&Body::Seen(seen), &mut room);
    assert_eq!(claim(&room[..length]), Some((NAME, false)));
    assert_eq!(key.read(&room[..length]), Some(Body::Seen(seen)));
    let first = Body::Chunk {
        number: 0,
        bytes: &[1; CHUNK],
    };
    let length = key.write(&first, &mut room);
    assert_eq!(length, MAX_FRAME);
    assert_eq!(claim(&room), Some((NAME, true)));
    assert_eq!(key.read(&room), Some(first));
    // Of another move, cluster or key.
    let id = MoveId(NAME.id.0 + 1);
    for other in [
        Key::new(&[9; 32], 5, Name { id, ..NAME }),
        Key::new(&[9; 32], 6, NAME),
        Key::new(&[8; 32], 5, NAME),
    ] {
        assert_eq!(other.read(&room), None);
    }
}

const CLEAN: Wire = Wire {
    lost: 0,
    twice: 0,
    delay: 200,
    jitter: 0,
    each: 12,
};

#[test]
fn a_clean_wire_carries_each_chunk_once_and_is_full() {
    let outcome = run(10_000, CLEAN, MAX_RING, 1);
    assert_eq!(outcome.repeats, 0);
    // A chunk takes 12 us of a gigabit.
    assert!(outcome.took < 10_000 * 12 * 5 / 4, "{} us", outcome.took);
}

#[test]
fn a_slow_wire_is_not_filled_with_what_waits() {
    // Ten megabits: a full ring would keep it for 150 ms.
    let slow = Wire {
        each: 1_200,
        ..CLEAN
    };
    let outcome = run(5_000, slow, MAX_RING, 1);
    assert!(
        outcome.longest < 60_000,
        "a datagram waited {} us",
        outcome.longest
    );
    assert!(outcome.took < 5_000 * 1_200 * 5 / 4, "{} us", outcome.took);
}

#[test]
fn nobody_is_flooded_before_he_answers() {
    let mut out = Outgoing::new(ring(MAX_RING), Micros(0));
    assert!(out.has_room());
    out.push(Micros(0), b"anybody?");
    assert!(!out.has_room());
    let mut asked = 0;
    let mut now = Micros(0);
    while now < Micros(3_000_000) {
        now = out.deadline();
        assert_eq!(out.next_lost(now), Some(0));
        asked += 1;
    }
    assert!((4..20).contains(&asked), "{asked} times in three seconds");
}
