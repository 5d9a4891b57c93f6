//! One rule of delivery each, as a guest and the hypervisor's core see it.

use super::super::{Control, Frame, ListRegisters, Origin, State, VcpuMask, Version, Width};
use super::machine::Op;
use super::scene::{BOTH, edge, end, machine, send, take};
use super::{intid, vcpu};

#[test]
fn a_flush_with_nothing_to_do_leaves_the_hardware_alone() {
    for version in BOTH {
        let mut machine = machine(version, 2, 4, false);
        let writes = machine.cores[0].writes;
        for _ in 0..10 {
            assert!(
                machine
                    .vgic
                    .flush(vcpu(0), &mut machine.cores[0])
                    .is_empty()
            );
        }
        assert_eq!(machine.cores[0].writes, writes);
    }
}

#[test]
fn only_those_concerned_are_told() {
    for version in BOTH {
        let mut machine = machine(version, 4, 4, false);
        send(&mut machine, 0, 2, 5);
        assert_eq!(machine.due, VcpuMask(0b100));
        machine.due = VcpuMask::EMPTY;
        send(&mut machine, 0, 2, 5);
        assert_eq!(machine.due, VcpuMask::EMPTY, "told already");
        assert!(
            machine
                .vgic
                .set_line(intid(33), vcpu(3), true)
                .contains(vcpu(0))
        );
        assert!(
            machine.vgic.set_line(intid(33), vcpu(3), true).is_empty(),
            "no change"
        );
        assert!(
            machine.vgic.set_line(intid(90), vcpu(0), true).is_empty(),
            "disabled"
        );
    }
}

#[test]
fn a_level_comes_again_until_it_falls() {
    for version in BOTH {
        let mut machine = machine(version, 1, 4, false);
        machine.apply(&Op::Route(intid(33), 1));
        machine.apply(&Op::Bits {
            by: 0,
            of: 0,
            bits: 1,
            intid: intid(20),
            also: 0,
        });
        machine.apply(&Op::Line(0, intid(20), true));
        for _ in 0..3 {
            assert_eq!(take(&mut machine, 0), Some((20, 0)));
            assert_eq!(take(&mut machine, 0), None);
            end(&mut machine, 0);
        }
        assert_eq!(take(&mut machine, 0), Some((20, 0)));
        machine.apply(&Op::Line(0, intid(20), false));
        end(&mut machine, 0);
        assert_eq!(take(&mut machine, 0), None);
    }
}

#[test]
fn a_level_that_fell_while_it_was_handled_needs_no_maintenance() {
    for version in BOTH {
        let mut machine = machine(version, 2, 4, false);
        machine.apply(&Op::Line(0, intid(33), true));
        assert_eq!(take(&mut machine, 0), Some((33, 0)));
        machine.apply(&Op::Line(0, intid(33), false));
        machine.settle();
        machine.end(vcpu(0));
        assert!(!machine.cores[0].maintenance());
    }
}

#[test]
fn a_level_that_falls_before_it_is_taken_is_withdrawn() {
    for version in BOTH {
        let mut machine = machine(version, 2, 4, false);
        machine.apply(&Op::Line(0, intid(33), true));
        machine.settle();
        assert!(machine.cores[0].offered().is_some());
        machine.apply(&Op::Line(0, intid(33), false));
        assert_eq!(take(&mut machine, 0), None);
    }
}

#[test]
fn an_edge_while_it_is_active_comes_once_more() {
    for version in BOTH {
        let mut machine = machine(version, 2, 4, false);
        edge(&mut machine, 40, 0x80);
        machine.apply(&Op::Pulse(intid(40)));
        assert_eq!(take(&mut machine, 0), Some((40, 0)));
        machine.apply(&Op::Pulse(intid(40)));
        machine.apply(&Op::Pulse(intid(40)));
        assert_eq!(take(&mut machine, 0), None, "not while it is active");
        end(&mut machine, 0);
        assert_eq!(take(&mut machine, 0), Some((40, 0)));
        end(&mut machine, 0);
        assert_eq!(take(&mut machine, 0), None);
    }
}

#[test]
fn a_pulse_passes_a_level_sensitive_interrupt_by() {
    let mut machine = machine(Version::V3, 1, 4, false);
    machine.apply(&Op::Pulse(intid(40)));
    assert_eq!(take(&mut machine, 0), None);
}

#[test]
fn disabling_withdraws_and_keeps_pending() {
    for version in BOTH {
        let mut machine = machine(version, 2, 4, false);
        edge(&mut machine, 40, 0);
        machine.apply(&Op::Pulse(intid(40)));
        machine.settle();
        assert!(machine.cores[0].offered().is_some());
        machine.apply(&Op::Bits {
            by: 1,
            of: 0,
            bits: 2,
            intid: intid(40),
            also: 0,
        });
        assert_eq!(machine.due, VcpuMask(1), "the holder");
        assert_eq!(take(&mut machine, 0), None);
        machine.apply(&Op::Read {
            by: 1,
            of: 0,
            bits: 3,
            word: 1,
        });
        machine.apply(&Op::Bits {
            by: 1,
            of: 0,
            bits: 1,
            intid: intid(40),
            also: 0,
        });
        assert_eq!(take(&mut machine, 0), Some((40, 0)));
    }
}

#[test]
fn the_distributor_s_switch_holds_everything_back() {
    for version in BOTH {
        let mut machine = machine(version, 2, 4, false);
        send(&mut machine, 0, 0, 1);
        machine.settle();
        machine.apply(&Op::Enable(version == Version::V3, version == Version::V2));
        assert_eq!(take(&mut machine, 0), None);
        machine.apply(&Op::Enable(true, true));
        assert_eq!(take(&mut machine, 0), Some((1, 0)));
    }
}

#[test]
fn an_spi_follows_its_route_once_it_is_not_held() {
    for version in BOTH {
        let mut machine = machine(version, 3, 4, false);
        let to = |of: u64| if version == Version::V2 { 1 << of } else { of };
        machine.apply(&Op::Line(0, intid(35), true));
        assert_eq!(take(&mut machine, 0), Some((35, 0)));
        machine.apply(&Op::Route(intid(35), to(2)));
        assert_eq!(take(&mut machine, 2), None, "active elsewhere");
        end(&mut machine, 0);
        assert_eq!(take(&mut machine, 0), None);
        assert_eq!(take(&mut machine, 2), Some((35, 0)));
        machine.apply(&Op::Line(0, intid(35), false));
        end(&mut machine, 2);
        machine.apply(&Op::Line(0, intid(35), true));
        machine.settle();
        machine.apply(&Op::Route(intid(35), to(1)));
        assert_eq!(
            machine.due,
            VcpuMask(0b100),
            "pending elsewhere: its holder first"
        );
        assert_eq!(take(&mut machine, 2), None);
        assert_eq!(take(&mut machine, 1), Some((35, 0)));
    }
}

#[test]
fn an_spi_without_a_target_stays_pending() {
    for (version, nowhere) in [(Version::V2, 0), (Version::V3, 0x0100)] {
        let mut machine = machine(version, 2, 4, false);
        machine.apply(&Op::Route(intid(36), nowhere));
        machine.apply(&Op::Line(0, intid(36), true));
        assert_eq!(take(&mut machine, 0), None);
        assert_eq!(take(&mut machine, 1), None);
        machine.apply(&Op::Read {
            by: 0,
            of: 0,
            bits: 3,
            word: 1,
        });
        machine.apply(&Op::Route(
            intid(36),
            if version == Version::V2 { 2 } else { 1 },
        ));
        assert_eq!(take(&mut machine, 1), Some((36, 0)));
    }
}

#[test]
fn any_processor_means_the_first_that_is_awake() {
    let mut machine = machine(Version::V3, 3, 4, false);
    machine.apply(&Op::Route(intid(37), 1 << 31));
    machine.apply(&Op::Line(0, intid(37), true));
    machine.settle();
    assert!(
        machine.cores[0].offered().is_some(),
        "all asleep: the first"
    );
    machine.apply(&Op::Awake(2, true));
    assert_eq!(take(&mut machine, 0), None);
    assert_eq!(take(&mut machine, 2), Some((37, 0)));
    end(&mut machine, 2);
    machine.apply(&Op::Awake(1, true));
    assert_eq!(take(&mut machine, 1), Some((37, 0)));
}

#[test]
fn a_listed_interrupt_has_its_priority_and_group() {
    let mut machine = machine(Version::V3, 1, 4, false);
    machine.apply(&Op::Priority(0, intid(41), 0xa5));
    machine.apply(&Op::Bits {
        by: 0,
        of: 0,
        bits: 0,
        intid: intid(32),
        also: 0,
    });
    machine.apply(&Op::Line(0, intid(41), true));
    machine.settle();
    let entry = machine.cores[0].entries()[0];
    assert_eq!(entry.priority.byte(), 0xa0);
    assert_eq!(entry.group, super::super::Group::Zero);
    assert_eq!(entry.state, State::Pending);
    assert_eq!(
        entry.origin,
        Origin::Software {
            source: vcpu(0),
            notify: true
        }
    );
    machine.apply(&Op::Priority(0, intid(41), 0x08));
    machine.settle();
    assert_eq!(machine.cores[0].entries()[0].priority.byte(), 0x08);
}

#[test]
fn a_parked_processor_is_woken_by_what_it_may_take() {
    for version in BOTH {
        let mut machine = machine(version, 2, 4, false);
        machine.vgic.fold(vcpu(1), &mut machine.cores[1]);
        assert!(!machine.vgic.deliverable(vcpu(1)));
        send(&mut machine, 0, 1, 3);
        assert!(machine.due.contains(vcpu(1)));
        assert!(machine.vgic.deliverable(vcpu(1)));
        assert_eq!(take(&mut machine, 1), Some((3, 0)));
        machine.vgic.fold(vcpu(1), &mut machine.cores[1]);
        assert!(
            !machine.vgic.deliverable(vcpu(1)),
            "active is nothing to wake for"
        );
    }
}

#[test]
fn a_reset_withdraws_everything_and_lowers_the_lines() {
    for version in BOTH {
        let mut machine = machine(version, 2, 2, false);
        for number in 40..44 {
            machine.apply(&Op::Line(0, intid(number), true));
        }
        machine.settle();
        assert_ne!(machine.cores[0].control, Control::NONE);
        send(&mut machine, 1, 0, 3);
        machine.apply(&Op::Line(0, intid(33), true));
        machine.apply(&Op::TimerLine(0, true));
        assert!(take(&mut machine, 0).is_some());
        machine.vgic.reset();
        machine.vgic.flush(vcpu(0), &mut machine.cores[0]);
        let core = &mut machine.cores[0];
        assert!(core.entries().is_empty());
        assert_eq!(core.control, Control::NONE);
        assert!(!core.physical_active, "let go of");
        let place = (Frame::Distributor, 0x204);
        let reading = machine
            .vgic
            .read(vcpu(0), place.0, place.1, Width::Word, core);
        assert_eq!(reading.value, 0);
        assert_eq!(core.empty(), 0b11);
    }
}

#[test]
fn an_spi_that_loses_its_active_state_by_a_write_follows_its_route() {
    for version in BOTH {
        let mut machine = machine(version, 2, 4, false);
        let there = if version == Version::V2 { 2 } else { 1 };
        machine.apply(&Op::Line(0, intid(35), true));
        assert_eq!(take(&mut machine, 0), Some((35, 0)));
        machine.apply(&Op::Load(0, false));
        machine.apply(&Op::Route(intid(35), there));
        assert_eq!(take(&mut machine, 1), None);
        machine.cores[0].running.clear();
        machine.apply(&Op::Bits {
            by: 1,
            of: 0,
            bits: 6,
            intid: intid(35),
            also: 0,
        });
        assert_eq!(take(&mut machine, 1), Some((35, 0)));
    }
}

#[test]
fn an_edge_with_its_line_high_comes_once() {
    for version in BOTH {
        let mut machine = machine(version, 2, 4, false);
        edge(&mut machine, 40, 0);
        machine.apply(&Op::Line(0, intid(40), true));
        assert_eq!(take(&mut machine, 0), Some((40, 0)));
        end(&mut machine, 0);
        assert_eq!(take(&mut machine, 0), None);
        machine.apply(&Op::Line(0, intid(40), false));
        assert_eq!(take(&mut machine, 0), None);
        machine.apply(&Op::Line(0, intid(40), true));
        assert_eq!(take(&mut machine, 0), Some((40, 0)));
    }
}

#[test]
fn an_ended_interrupt_made_active_by_a_write_is_active() {
    for version in BOTH {
        for again in [false, true] {
            let mut machine = machine(version, 2, 4, true);
            edge(&mut machine, 40, 0);
            machine.apply(&Op::Pulse(intid(40)));
            assert_eq!(take(&mut machine, 0), Some((40, 0)));
            end(&mut machine, 0);
            machine.apply(&Op::Deactivate(0, 0));
            // Its list register is not folded yet.
            machine.apply(&Op::Bits {
                by: 1,
                of: 0,
                bits: 5,
                intid: intid(40),
                also: 0,
            });
            if again {
                machine.apply(&Op::Pulse(intid(40)));
            }
            assert_eq!(take(&mut machine, 0), None);
            machine.apply(&Op::Read {
                by: 0,
                of: 0,
                bits: 5,
                word: 1,
            });
            machine.settle();
            assert!(machine.cores[0].entries()[0].state.is_active());
            machine.cores[0].deactivate(intid(40), vcpu(0));
            machine.reference.get_mut(vcpu(0), intid(40)).active = false;
            assert_eq!(take(&mut machine, 0), again.then_some((40, 0)));
        }
    }
}

#[test]
fn what_was_written_about_a_listed_interrupt_is_forgotten_with_it() {
    for version in BOTH {
        let mut machine = machine(version, 2, 4, true);
        edge(&mut machine, 40, 0);
        machine.apply(&Op::Pulse(intid(40)));
        assert_eq!(take(&mut machine, 0), Some((40, 0)));
        end(&mut machine, 0);
        machine.apply(&Op::Deactivate(0, 0));
        machine.apply(&Op::Bits {
            by: 1,
            of: 0,
            bits: 6,
            intid: intid(40),
            also: 0,
        });
        machine.apply(&Op::Pulse(intid(40)));
        assert_eq!(take(&mut machine, 0), Some((40, 0)));
        machine.apply(&Op::Fold(0));
        machine.apply(&Op::Read {
            by: 0,
            of: 0,
            bits: 5,
            word: 1,
        });
    }
}

#[test]
fn a_trapped_deactivation_reaches_an_spi_held_elsewhere() {
    for version in BOTH {
        let mut machine = machine(version, 2, 4, true);
        edge(&mut machine, 40, 0);
        machine.apply(&Op::Pulse(intid(40)));
        assert_eq!(take(&mut machine, 0), Some((40, 0)));
        end(&mut machine, 0);
        let told = machine
            .vgic
            .deactivate(vcpu(1), intid(40), &mut machine.cores[1]);
        assert_eq!(told, VcpuMask(1), "its holder");
        machine.due |= told;
        machine.reference.get_mut(vcpu(0), intid(40)).active = false;
        machine.settle();
        assert!(machine.cores[0].entries().is_empty());
        machine.apply(&Op::Pulse(intid(40)));
        assert_eq!(take(&mut machine, 0), Some((40, 0)));
    }
}

#[test]
fn an_edge_behind_an_active_one_follows_a_new_route() {
    for version in BOTH {
        let mut machine = machine(version, 2, 4, true);
        let there = if version == Version::V2 { 2 } else { 1 };
        edge(&mut machine, 40, 0);
        machine.apply(&Op::Pulse(intid(40)));
        assert_eq!(take(&mut machine, 0), Some((40, 0)));
        end(&mut machine, 0);
        machine.apply(&Op::Pulse(intid(40)));
        machine.apply(&Op::Route(intid(40), there));
        machine.settle();
        machine.apply(&Op::Deactivate(0, 0));
        assert_eq!(take(&mut machine, 0), None);
        assert_eq!(take(&mut machine, 1), Some((40, 0)));
    }
}
