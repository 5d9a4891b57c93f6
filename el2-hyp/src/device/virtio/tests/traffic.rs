//! Both sides of a queue in any order of steps, beside a plain list.

use proptest::prelude::*;
use std::collections::VecDeque;
use std::vec::Vec;

use super::queue::{RINGS, Scene, TABLE, data};
use crate::addr::{BLOCK_2M, Ipa};
use crate::device::virtio::feature;
use crate::machine::RAM_BASE;

/// What the two sides do, in any order.
#[derive(Clone, Debug)]
enum Step {
    Add {
        readable: usize,
        writable: usize,
        indirect: bool,
    },
    Pop,
    /// Gives back one of those that are held, in any order.
    Push(usize),
    /// The device goes to rest.
    Rest,
    /// The driver takes everything, and asks for an interrupt.
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4usize, 0..4usize, any::<bool>()).prop_map(|(readable, writable, indirect)| {
            Step::Add {
                readable,
                writable,
                indirect,
            }
        }),
        Just(Step::Pop),
        any::<usize>().prop_map(Step::Push),
        Just(Step::Rest),
        Just(Step::Take),
    ]
}

proptest! {
    /// Everything that is made available is popped in order and comes back once; nobody waits for the other in vain.
    #[test]
    fn nothing_is_lost_or_invented(
        steps in prop::collection::vec(step(), 1..200), power in 0..6u32, event_index: bool, crossing: bool,
    ) {
        let features = feature::INDIRECT_DESC | if event_index { feature::EVENT_IDX } else { 0 };
        // Rings that lie across the border of two blocks work as any other.
        let rings = if crossing { RAM_BASE + BLOCK_2M - 64 } else { RINGS };
        let mut s = Scene::at(rings, 1 << power, features);
        let mut added: VecDeque<(u16, u32, u32)> = VecDeque::new();
        let mut held = Vec::new();
        let mut tables = 0;
        let (mut back, mut device_rests, mut driver_rests) = (Vec::new(), true, false);
        for step in steps {
            match step {
                Step::Add { readable, writable, indirect } => {
                    if readable + writable == 0 { continue }
                    let r: Vec<_> = (0..readable as u64).map(|n| data(n * 8, n as u32 + 1)).collect();
                    let w: Vec<_> = (0..writable as u64).map(|n| data(0x1000 + n * 8, n as u32 + 1)).collect();
                    let sum = |b: &[(Ipa, u32)]| b.iter().map(|b| b.1).sum();
                    // A table of its own for each that is out.
                    tables += 1;
                    let table = Ipa(TABLE + 256 * (tables % 64));
                    let head = if indirect { s.driver.add_indirect(&s.ram, table, &r, &w) } else { s.driver.add(&s.ram, &r, &w) };
                    let Some(head) = head else { continue };
                    added.push_back((head, sum(&r), sum(&w)));
                    if s.driver.should_notify(&s.ram) {
                        device_rests = false;
                    }
                }
                Step::Pop => {
                    let popped = s.pop().unwrap();
                    prop_assert_eq!(popped, !added.is_empty());
                    if let Some((head, r, w)) = added.pop_front() {
                        prop_assert_eq!(s.chain.head().0, head);
                        prop_assert_eq!((s.chain.readable_bytes(), s.chain.writable_bytes()), (r, w));
                        held.push(s.chain.head());
                    }
                }
                Step::Push(which) => {
                    if held.is_empty() { continue }
                    let head = held.swap_remove(which % held.len());
                    s.queue.push(&s.ram, head, 7).unwrap();
                    back.push(head.0);
                    if s.queue.should_interrupt(&s.ram).unwrap() {
                        driver_rests = false;
                    }
                }
                Step::Rest => device_rests = !s.queue.enable_notifications(&s.ram).unwrap(),
                Step::Take => loop {
                    for head in back.drain(..) {
                        prop_assert_eq!(s.driver.take(&s.ram), Some((head, 7)));
                    }
                    prop_assert_eq!(s.driver.take(&s.ram), None);
                    driver_rests = !s.driver.enable_interrupts(&s.ram);
                    if driver_rests { break }
                }
            }
            prop_assert!(!device_rests || added.is_empty(), "the device sleeps over work");
            prop_assert!(!driver_rests || back.is_empty(), "the driver sleeps over work");
        }
    }
}
