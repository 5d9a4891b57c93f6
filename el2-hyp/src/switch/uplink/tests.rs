use super::*;
use crate::frame::{MAX_WIRE, Mac};
use crate::gate::Authority;
use proptest::prelude::*;
use std::vec::Vec;

/// The shortest frame.
fn frame() -> Vec<u8> {
    [[2, 0, 0, 0, 0, 1], Mac::BROADCAST.0]
        .concat()
        .into_iter()
        .chain([8, 6])
        .collect()
}

/// A card whose frames leave when it is told.
struct Card {
    slots: usize,
    ring: Vec<Vec<u8>>,
    kicks: usize,
    listens: usize,
    wanted: usize,
    broken: bool,
}

impl Wire for Card {
    fn slots(&self) -> usize {
        self.slots
    }
    fn room(&mut self) -> Option<usize> {
        (!self.broken).then(|| self.slots - self.ring.len())
    }
    fn put(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        if self.broken || self.ring.len() == self.slots {
            return false;
        }
        let mut slot = [0xee; MAX_WIRE];
        let length = write(&mut slot);
        self.ring.push(slot[..length].to_vec());
        true
    }
    fn kick(&mut self) {
        self.kicks += 1;
    }
    fn listen(&mut self, frames: usize) -> bool {
        self.listens += 1;
        self.wanted = frames;
        self.slots - self.ring.len() >= frames
    }
}

fn uplink(slots: usize) -> Uplink<Card> {
    Uplink::new(Card {
        slots,
        ring: Vec::new(),
        kicks: 0,
        listens: 0,
        wanted: 0,
        broken: false,
    })
}

fn port(card: usize) -> PortId {
    PortId::card(card).unwrap()
}

fn send(uplink: &mut Uplink<Card>, from: PortId) -> Sending {
    let bytes = frame();
    let permit = Authority::new().always();
    uplink.send(&permit, Ticks(1), from, &Frame::finished(&bytes).unwrap())
}

fn fill(uplink: &mut Uplink<Card>, from: PortId) -> usize {
    (0..1000)
        .take_while(|_| send(uplink, from) == Sending::Sent)
        .count()
}

#[test]
fn a_shut_gate_lets_nothing_out() {
    let mut uplink = uplink(64);
    let bytes = frame();
    let frame = Frame::finished(&bytes).unwrap();
    let permit = Authority::new().until(Ticks(100), 1);
    assert_eq!(
        uplink.send(&permit, Ticks(100), port(0), &frame),
        Sending::Shut
    );
    assert!(uplink.wire.ring.is_empty());
    assert_eq!(
        uplink.send(&permit, Ticks(99), port(0), &frame),
        Sending::Sent
    );
    uplink.flush();
    uplink.flush();
    assert_eq!(uplink.wire.kicks, 1);
    // It was filled up to the shortest that a wire takes, with zeros.
    let mut wanted = bytes.clone();
    wanted.resize(MIN_WIRE, 0);
    assert_eq!(uplink.wire.ring, [wanted]);
}

#[test]
fn slots_are_shared_and_the_boards_are_left() {
    let mut uplink = uplink(128);
    // Alone: half. The second: a third of what there is then for both.
    assert_eq!(fill(&mut uplink, port(0)), 64);
    assert_eq!(fill(&mut uplink, port(1)), 32);
    assert_eq!(fill(&mut uplink, port(2)), 16);
    for n in 3..40 {
        fill(&mut uplink, port(n));
    }
    assert_eq!(uplink.wire.ring.len(), 128 - BOARD_SLOTS);
    for _ in 0..BOARD_SLOTS {
        assert!(uplink.send_own(|slot| {
            slot[..60].fill(1);
            60
        }));
    }
    assert!(!uplink.send_own(|_| panic!("there is no room")));
}

#[test]
fn those_who_wait_are_called_in_turn() {
    let mut uplink = uplink(64);
    for n in [3, 0, 7, 5] {
        fill(&mut uplink, port(n));
        // The card is asked to tell when there is room, so that nobody has to look.
        let before = uplink.wire.listens;
        assert_eq!(send(&mut uplink, port(n)), Sending::Wait);
        assert_eq!(uplink.wire.listens, before + 1);
    }
    assert_eq!(uplink.next_waiting(), None);
    assert!(uplink.is_awaited());
    uplink.wire.ring.clear();
    uplink.forget(port(5));
    let called: Vec<_> = std::iter::from_fn(|| uplink.next_waiting()).collect();
    assert_eq!(called, [port(0), port(3), port(7)]);
    assert!(!uplink.is_awaited());
    // What was held is given back, and the turn goes on behind the last.
    for n in [0, 7, 9] {
        assert!(fill(&mut uplink, port(n)) > 0);
    }
    uplink.wire.ring.clear();
    assert_eq!(uplink.next_waiting(), Some(port(9)));
    assert_eq!(uplink.next_waiting(), Some(port(0)));
}

/// Whatever waits for however much: who is called gets something, so that calling comes to an end.
#[test]
fn who_is_called_finds_room() {
    let mut uplink = uplink(64);
    let small = frame();
    let small = Frame::finished(&small).unwrap();
    let permit = Authority::new().always();
    for left in (0..64).rev() {
        fill(&mut uplink, port(0));
        fill(&mut uplink, port(1));
        assert_eq!(uplink.wait_for_room(port(2), 56), Some(false));
        uplink.wire.ring.truncate(left);
        let mut called = 0;
        while let Some(port) = uplink.next_waiting() {
            called += 1;
            assert!(called <= 3, "it comes to an end");
            let parts = if port == PortId::card(2).unwrap() {
                56
            } else {
                1
            };
            assert!(uplink.may_take(port, parts), "{port:?} with {left} left");
            let sent = uplink.send(&permit, Ticks(0), port, &small);
            assert_eq!(sent, Sending::Sent);
        }
        assert_eq!(called > 0, left == 0, "{left}");
        assert!(called > 0 || uplink.wire.wanted == 64);
        uplink.wire.ring.clear();
        uplink.look();
    }
}

#[test]
fn a_broken_card_is_down() {
    let mut uplink = uplink(16);
    uplink.wire.broken = true;
    assert_eq!(send(&mut uplink, port(0)), Sending::Down);
    assert!(!uplink.send_own(|_| panic!("broken")));
    assert_eq!(uplink.next_waiting(), None);
}

proptest! {
    /// Whatever is sent and finished: accounts agree with the ring.
    #[test]
    fn accounts_are_right(steps in prop::collection::vec((0usize..6, 0usize..20), 1..300)) {
        let mut uplink = uplink(40);
        let mut owners: Vec<PortId> = Vec::new();
        for (who, count) in steps {
            if who == 5 {
                let done = count.min(owners.len());
                uplink.wire.ring.drain(..done);
                owners.drain(..done);
                continue;
            }
            for _ in 0..count {
                let held = owners.iter().filter(|&&owner| owner == port(who)).count();
                let free = 40 - owners.len();
                let may = held < free && free > BOARD_SLOTS;
                let sent = send(&mut uplink, port(who));
                prop_assert_eq!(sent, if may { Sending::Sent } else { Sending::Wait });
                owners.extend(may.then(|| port(who)));
            }
        }
        prop_assert_eq!(uplink.wire.ring.len(), owners.len());
    }
}
