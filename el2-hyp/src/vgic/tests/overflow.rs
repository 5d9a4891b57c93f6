//! More interrupts than list registers.

use super::super::{Control, Intid, Version};
use super::machine::{Machine, Op};
use super::scene::{BOTH, edge, end, machine, take};
use super::{intid, vcpu};

#[test]
fn the_most_urgent_come_first_when_more_wait_than_fit() {
    for version in BOTH {
        let mut machine = machine(version, 2, 3, false);
        for number in 32..48 {
            edge(&mut machine, number, ((number * 5 % 16) << 3) as u8);
        }
        for number in 32..48 {
            machine.apply(&Op::Pulse(intid(number)));
        }
        machine.settle();
        assert!(machine.cores[0].control.no_pending, "more wait");
        assert!(!machine.cores[0].control.entry_not_present);
        let mut order = Vec::new();
        while let Some((number, _)) = take(&mut machine, 0) {
            order.push(number * 5 % 16);
            end(&mut machine, 0);
        }
        assert_eq!(order, (0..16).collect::<Vec<_>>());
        assert_eq!(
            machine.cores[0].control,
            Control::NONE,
            "nothing is left to watch"
        );
    }
}

#[test]
fn active_ones_beyond_the_list_registers_end_in_order() {
    for version in BOTH {
        let mut machine = machine(version, 2, 2, false);
        for number in 32..40 {
            edge(&mut machine, number, 0x80 - (8 * (number - 32)) as u8);
        }
        for number in 32..40 {
            machine.apply(&Op::Pulse(intid(number)));
            assert_eq!(take(&mut machine, 0), Some((number, 0)), "nested");
        }
        assert!(machine.cores[0].control.entry_not_present);
        for number in (32..40).rev() {
            machine.apply(&Op::Read {
                by: 0,
                of: 0,
                bits: 5,
                word: 1,
            });
            machine.apply(&Op::Pulse(intid(number)));
            end(&mut machine, 0);
            assert_eq!(take(&mut machine, 0), Some((number, 0)), "again");
            end(&mut machine, 0);
        }
        assert_eq!(take(&mut machine, 0), None);
        assert_eq!(machine.cores[0].control, Control::NONE);
    }
}

#[test]
fn deactivations_out_of_order_are_trapped() {
    for version in BOTH {
        let mut machine = machine(version, 2, 2, true);
        for number in 32..40 {
            edge(&mut machine, number, 0x80);
            machine.apply(&Op::Pulse(intid(number)));
        }
        for _ in 0..8 {
            assert!(take(&mut machine, 0).is_some());
            end(&mut machine, 0);
        }
        assert!(machine.cores[0].control.trap_deactivate);
        for left in (0..8).rev() {
            machine.apply(&Op::Deactivate(0, 5 * left % (left + 1)));
            machine.apply(&Op::Read {
                by: 0,
                of: 0,
                bits: 6,
                word: 1,
            });
            machine.settle();
            machine.check();
        }
        assert_eq!(machine.cores[0].control, Control::NONE);
    }
}

#[test]
fn nothing_stays_behind_on_a_core() {
    for version in BOTH {
        let mut machine = machine(version, 2, 2, false);
        for number in 32..40 {
            edge(&mut machine, number, 8 * (number - 32) as u8);
            machine.apply(&Op::Pulse(intid(number)));
        }
        assert_eq!(take(&mut machine, 0), Some((32, 0)));
        machine.apply(&Op::Load(0, false));
        assert!(machine.cores[0].idle());
        assert_eq!(machine.cores[0].control, Control::NONE);
        machine.check();
        machine.apply(&Op::Load(0, true));
        end(&mut machine, 0);
        assert_eq!(take(&mut machine, 0), Some((33, 0)));
    }
}

#[test]
fn an_edge_behind_an_active_one_does_not_overtake() {
    for version in BOTH {
        let mut machine = machine(version, 2, 2, true);
        edge(&mut machine, 40, 0xf0);
        machine.apply(&Op::Pulse(intid(40)));
        assert_eq!(take(&mut machine, 0), Some((40, 0)));
        end(&mut machine, 0);
        for (number, priority) in [(40, 0xf0), (41, 0x80), (42, 0x90), (43, 0xa0)] {
            edge(&mut machine, number, priority);
            machine.apply(&Op::Pulse(intid(number)));
        }
        machine.settle();
        // Now 40 is pending again, and listed, but the least urgent.
        machine.apply(&Op::Deactivate(0, 0));
        for number in [41, 42, 43, 40] {
            assert_eq!(take(&mut machine, 0), Some((number, 0)));
            end(&mut machine, 0);
        }
    }
}

/// Nested acknowledgements of `depth` edges from 32 on, each more urgent, on two list registers.
fn nested(version: Version, depth: u32) -> Machine {
    let mut machine = machine(version, 2, 2, false);
    for number in 32..32 + depth {
        edge(&mut machine, number, 0x80 - (8 * (number - 32)) as u8);
        machine.apply(&Op::Pulse(intid(number)));
        assert_eq!(take(&mut machine, 0), Some((number, 0)));
    }
    machine
}

#[test]
fn a_counted_end_is_seen_before_anything_is_listed() {
    for version in BOTH {
        let mut machine = nested(version, 4);
        // All four end before the maintenance interrupt is served; another exit flushes first.
        for _ in 0..4 {
            machine.end(vcpu(0));
        }
        edge(&mut machine, 40, 0);
        machine.apply(&Op::Pulse(intid(40)));
        machine.enter(vcpu(0));
        assert_eq!(machine.cores[0].entries().len(), 1);
        assert_eq!(take(&mut machine, 0), Some((40, 0)));
        end(&mut machine, 0);
        machine.apply(&Op::Read {
            by: 0,
            of: 0,
            bits: 5,
            word: 1,
        });
        machine.check();
    }
}

#[test]
fn an_end_from_before_the_watch_does_not_count() {
    for version in BOTH {
        let mut machine = machine(version, 2, 2, false);
        machine.cores[0].deactivate(intid(33), vcpu(0));
        assert!(!machine.cores[0].maintenance());
        for number in 32..36 {
            edge(&mut machine, number, 0x80 - (8 * (number - 32)) as u8);
            machine.apply(&Op::Pulse(intid(number)));
            assert_eq!(take(&mut machine, 0), Some((number, 0)));
        }
        machine.apply(&Op::Read {
            by: 0,
            of: 0,
            bits: 5,
            word: 1,
        });
        for number in (32..36).rev() {
            assert_eq!(
                machine.cores[0].running.last().map(|top| top.intid),
                Some(intid(number))
            );
            end(&mut machine, 0);
            machine.apply(&Op::Read {
                by: 0,
                of: 0,
                bits: 5,
                word: 1,
            });
        }
    }
}

#[test]
fn what_becomes_pending_by_losing_its_active_state_is_told() {
    for version in BOTH {
        let mut machine = machine(version, 2, 1, true);
        machine.apply(&Op::Bits {
            by: 0,
            of: 0,
            bits: 5,
            intid: intid(32),
            also: 0xff,
        });
        edge(&mut machine, 37, 0);
        machine.apply(&Op::Pulse(intid(37)));
        assert_eq!(take(&mut machine, 0), None, "all active");
        machine.apply(&Op::Bits {
            by: 0,
            of: 0,
            bits: 6,
            intid: intid(37),
            also: 0,
        });
        assert_eq!(take(&mut machine, 0), Some((37, 0)));
    }
}

#[test]
fn a_counted_end_is_seen_before_an_ended_one_comes_again() {
    for version in BOTH {
        for depth in 3..8 {
            let mut machine = nested(version, depth);
            for _ in 0..depth {
                machine.end(vcpu(0));
            }
            let last = 31 + depth;
            machine.apply(&Op::Pulse(intid(last)));
            machine.enter(vcpu(0));
            assert_eq!(machine.cores[0].entries().len(), 1);
            assert_eq!(take(&mut machine, 0), Some((last, 0)));
            end(&mut machine, 0);
            assert_eq!(take(&mut machine, 0), None);
            machine.apply(&Op::Read {
                by: 0,
                of: 0,
                bits: 5,
                word: 1,
            });
        }
    }
}

#[test]
fn a_ticking_timer_does_not_overtake_what_waits() {
    for version in BOTH {
        let mut machine = machine(version, 2, 2, false);
        machine.apply(&Op::Bits {
            by: 0,
            of: 0,
            bits: 1,
            intid: Intid::VIRTUAL_TIMER,
            also: 0,
        });
        machine.apply(&Op::Priority(0, Intid::VIRTUAL_TIMER, 0x80));
        machine.apply(&Op::TimerLine(0, true));
        assert_eq!(take(&mut machine, 0), Some((27, 0)));
        for number in [40, 41] {
            edge(&mut machine, number, 0);
            machine.apply(&Op::Pulse(intid(number)));
        }
        machine.settle();
        assert!(machine.cores[0].control.no_pending);
        // The timer fires again at once, while 41 is in no list register.
        end(&mut machine, 0);
        for number in [40, 41, 27] {
            assert_eq!(take(&mut machine, 0), Some((number, 0)));
            end(&mut machine, 0);
        }
    }
}
