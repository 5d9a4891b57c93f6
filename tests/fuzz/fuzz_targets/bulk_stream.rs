//! The bulk stream of a guest that moves: frames as a stranger sends them, and what a board with the key may say to either end.
#![no_main]

use cluster_proto::bulk::frame::{Body, Key, MAX_FRAME, Name, claim};
use cluster_proto::bulk::{Chunk, Incoming, MAX_RING, Outgoing, Refusal, Seen, Verdict};
use cluster_proto::ids::{Epoch, GuestId, Micros, MoveId};
use libfuzzer_sys::arbitrary::{self, Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;

const NAME: Name = Name { guest: GuestId(1), epoch: Epoch(2), id: MoveId(3) };

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    /// Any bytes from the network.
    Stranger(&'a [u8]),
    /// A chunk that the sender never sent, or sent at any time before.
    Chunk { number: u32, bytes: &'a [u8] },
    Said { next: u32, beyond: u128, verdict: u8 },
    Push(&'a [u8]),
    Wait(u16),
}

fn run(steps: Vec<Step>, length: usize) {
    let key = Key::new(&[7; 32], 9, NAME);
    let length = length % MAX_RING + 1;
    let mut into = Incoming::new(vec![Chunk::EMPTY; length]);
    let mut out = Outgoing::new(vec![Chunk::EMPTY; length], Micros(0));
    let (mut now, mut came, mut room) = (0, 0, [0; MAX_FRAME]);
    for step in steps {
        match step {
            Step::Stranger(bytes) => {
                let _ = claim(bytes);
                assert!(key.read(bytes).is_none());
            }
            Step::Chunk { number, bytes } => {
                let bytes = &bytes[..bytes.len().min(cluster_proto::bulk::CHUNK)];
                let body = Body::Chunk { number, bytes };
                let written = key.write(&body, &mut room);
                assert_eq!(key.read(&room[..written]), Some(body));
                let before = into.seen(Verdict::Going).next;
                let taken = into.take(number, bytes, |_| {
                    came += 1;
                    Ok::<(), ()>(())
                });
                assert!(taken.is_ok());
                let after = into.seen(Verdict::Going).next;
                assert!(after >= before && after == came && (after - before) as usize <= length);
            }
            Step::Said { next, beyond, verdict } => {
                let verdict = [Verdict::Going, Verdict::Whole, Verdict::Refused(Refusal::Record)][usize::from(verdict % 3)];
                out.hear(Micros(now), &Seen { next, beyond, verdict });
            }
            Step::Push(bytes) => {
                if out.has_room() {
                    let bytes = &bytes[..bytes.len().min(cluster_proto::bulk::CHUNK)];
                    let number = out.push(Micros(now), bytes);
                    assert_eq!(out.bytes(number), bytes);
                }
            }
            Step::Wait(us) => {
                now += u64::from(us) * 16;
                let mut lost = 0;
                while out.next_lost(Micros(now)).is_some() {
                    lost += 1;
                    assert!(lost <= length);
                }
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let parsed: Result<(usize, Vec<Step>)> = (|| Ok((input.arbitrary()?, input.arbitrary()?)))();
    if let Ok((length, steps)) = parsed {
        run(steps, length);
    }
});
