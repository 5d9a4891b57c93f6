//! The virtual timer's interrupt and the physical one behind it.

use super::super::{Intid, Origin, VcpuMask, Version, Width};
use super::machine::{Machine, Op};
use super::{PHYSICAL, vcpu};

const BOTH: [Version; 2] = [Version::V2, Version::V3];
const TIMER: Intid = Intid::VIRTUAL_TIMER;

/// Two processors with their timers enabled.
fn machine(version: Version, registers: usize) -> Machine {
    let mut machine = Machine::new(version, 2, registers, false);
    machine.apply(&Op::Enable(true, true));
    for of in 0..2 {
        machine.apply(&Op::Bits {
            by: of,
            of,
            bits: 1,
            intid: TIMER,
            also: 0,
        });
    }
    machine.settle();
    machine
}

fn settle(machine: &mut Machine) {
    machine.settle();
    machine.check();
}

#[test]
fn the_guest_s_end_deactivates_the_physical_interrupt() {
    for version in BOTH {
        let mut machine = machine(version, 4);
        machine.apply(&Op::TimerLine(0, true));
        settle(&mut machine);
        let entry = machine.cores[0].entries()[0];
        assert_eq!(entry.origin, Origin::Hardware { physical: PHYSICAL });
        assert!(machine.vgic.mapped_in_flight(vcpu(0)));
        assert!(!machine.vgic.mapped_in_flight(vcpu(1)));
        machine.acknowledge(vcpu(0));
        machine.apply(&Op::TimerLine(0, false));
        settle(&mut machine);
        assert!(machine.cores[0].physical_active);
        machine.end(vcpu(0));
        assert!(!machine.cores[0].physical_active);
        assert!(!machine.cores[0].maintenance(), "no exit");
        machine.vgic.fold(vcpu(0), &mut machine.cores[0]);
        assert!(!machine.vgic.mapped_in_flight(vcpu(0)));
    }
}

#[test]
fn a_timer_that_is_still_due_comes_again() {
    for version in BOTH {
        let mut machine = machine(version, 4);
        machine.apply(&Op::TimerLine(0, true));
        for _ in 0..3 {
            settle(&mut machine);
            assert_eq!(
                machine.acknowledge(vcpu(0)).map(|taken| taken.intid),
                Some(TIMER)
            );
            settle(&mut machine);
            assert!(machine.cores[0].offered().is_none());
            machine.end(vcpu(0));
        }
    }
}

#[test]
fn the_physical_state_moves_with_the_processor() {
    for version in BOTH {
        for acknowledged in [false, true] {
            let mut machine = machine(version, 4);
            machine.apply(&Op::TimerLine(0, true));
            settle(&mut machine);
            if acknowledged {
                machine.acknowledge(vcpu(0));
            }
            // Machine::load compares what unload says with the core's state.
            machine.apply(&Op::Load(0, false));
            assert!(!machine.cores[0].physical_active);
            assert!(machine.vgic.mapped_in_flight(vcpu(0)));
            machine.apply(&Op::Load(0, true));
            assert!(machine.cores[0].physical_active);
            settle(&mut machine);
            if !acknowledged {
                machine.acknowledge(vcpu(0));
            }
            machine.apply(&Op::TimerLine(0, false));
            machine.end(vcpu(0));
            assert!(!machine.cores[0].physical_active);
            machine.apply(&Op::Load(0, false));
            assert!(!machine.vgic.mapped_in_flight(vcpu(0)));
        }
    }
}

#[test]
fn a_withdrawn_timer_lets_the_physical_interrupt_go() {
    for version in BOTH {
        for (acknowledged, bits) in [(false, 4), (true, 6)] {
            let mut machine = machine(version, 4);
            machine.apply(&Op::TimerLine(0, true));
            settle(&mut machine);
            machine.apply(&Op::TimerLine(0, false));
            if acknowledged {
                machine.acknowledge(vcpu(0));
                machine.cores[0].running.clear();
            }
            machine.apply(&Op::Bits {
                by: 0,
                of: 0,
                bits,
                intid: TIMER,
                also: 0,
            });
            assert_eq!(machine.due, VcpuMask(1));
            settle(&mut machine);
            assert!(!machine.cores[0].physical_active);
            assert!(machine.cores[0].entries().is_empty());
            machine.apply(&Op::TimerLine(0, true));
            settle(&mut machine);
            assert_eq!(
                machine.cores[0].offered().map(|offered| offered.intid),
                Some(TIMER)
            );
        }
    }
}

#[test]
fn a_disabled_timer_waits_with_its_physical_interrupt_active() {
    for version in BOTH {
        let mut machine = machine(version, 4);
        machine.apply(&Op::Bits {
            by: 0,
            of: 0,
            bits: 2,
            intid: TIMER,
            also: 0,
        });
        machine.apply(&Op::TimerLine(0, true));
        settle(&mut machine);
        assert!(machine.cores[0].physical_active);
        assert!(machine.cores[0].entries().is_empty());
        machine.apply(&Op::Bits {
            by: 0,
            of: 0,
            bits: 1,
            intid: TIMER,
            also: 0,
        });
        settle(&mut machine);
        assert!(machine.cores[0].offered().is_some());
    }
}

#[test]
fn a_timer_pended_by_software_has_nothing_behind_it() {
    for version in BOTH {
        let mut machine = machine(version, 4);
        machine.apply(&Op::Bits {
            by: 0,
            of: 0,
            bits: 3,
            intid: TIMER,
            also: 0,
        });
        settle(&mut machine);
        let entry = machine.cores[0].entries()[0];
        assert!(matches!(entry.origin, Origin::Software { .. }));
        assert!(!machine.vgic.mapped_in_flight(vcpu(0)));
        machine.acknowledge(vcpu(0));
        // The real one while the other is active: it comes when that has ended.
        machine.apply(&Op::TimerLine(0, true));
        settle(&mut machine);
        assert!(machine.cores[0].offered().is_none());
        machine.end(vcpu(0));
        settle(&mut machine);
        let entry = machine.cores[0].entries()[0];
        assert_eq!(entry.origin, Origin::Hardware { physical: PHYSICAL });
    }
}

#[test]
fn software_pending_behind_an_active_timer_still_lets_go() {
    for version in BOTH {
        let mut machine = machine(version, 4);
        machine.apply(&Op::TimerLine(0, true));
        settle(&mut machine);
        machine.acknowledge(vcpu(0));
        machine.apply(&Op::TimerLine(0, false));
        machine.apply(&Op::Bits {
            by: 0,
            of: 0,
            bits: 3,
            intid: TIMER,
            also: 0,
        });
        settle(&mut machine);
        assert!(machine.cores[0].physical_active);
        machine.end(vcpu(0));
        settle(&mut machine);
        assert!(!machine.cores[0].physical_active, "released by the model");
        assert_eq!(
            machine.cores[0].offered().map(|offered| offered.intid),
            Some(TIMER)
        );
    }
}

#[test]
fn lines_do_not_reach_the_mapped_interrupt() {
    let mut machine = machine(Version::V3, 4);
    assert!(machine.vgic.set_line(TIMER, vcpu(0), true).is_empty());
    settle(&mut machine);
    assert!(machine.cores[0].entries().is_empty());
}

#[test]
fn a_disabled_timer_that_is_withdrawn_lets_the_physical_interrupt_go() {
    for version in BOTH {
        let mut machine = machine(version, 4);
        machine.apply(&Op::Bits {
            by: 0,
            of: 0,
            bits: 2,
            intid: TIMER,
            also: 0,
        });
        machine.apply(&Op::TimerLine(0, true));
        settle(&mut machine);
        machine.apply(&Op::TimerLine(0, false));
        machine.apply(&Op::Bits {
            by: 0,
            of: 0,
            bits: 4,
            intid: TIMER,
            also: 0,
        });
        settle(&mut machine);
        assert!(!machine.cores[0].physical_active);
        assert!(!machine.vgic.mapped_in_flight(vcpu(0)));
    }
}

#[test]
fn what_is_to_be_let_go_is_not_let_go_on_another_core() {
    for version in BOTH {
        let mut machine = machine(version, 4);
        machine.apply(&Op::TimerLine(0, true));
        settle(&mut machine);
        machine.apply(&Op::TimerLine(0, false));
        machine.apply(&Op::Load(0, false));
        machine.apply(&Op::Bits {
            by: 0,
            of: 0,
            bits: 4,
            intid: TIMER,
            also: 0,
        });
        // A core on which the physical interrupt is not active: Core::deactivate would object.
        machine.apply(&Op::Load(0, true));
        settle(&mut machine);
        assert!(!machine.cores[0].physical_active);
    }
}

#[test]
fn a_line_that_falls_withdraws_what_was_not_acknowledged() {
    for version in BOTH {
        for enabled in [true, false] {
            let mut machine = machine(version, 4);
            let bits = if enabled { 1 } else { 2 };
            machine.apply(&Op::Bits {
                by: 0,
                of: 0,
                bits,
                intid: TIMER,
                also: 0,
            });
            machine.apply(&Op::TimerLine(0, true));
            settle(&mut machine);
            machine.apply(&Op::TimerLine(0, false));
            let told = machine.vgic.lower_mapped(vcpu(0), &mut machine.cores[0]);
            assert!(told.contains(vcpu(0)));
            machine.due |= told;
            machine.reference.get_mut(vcpu(0), TIMER).latch = false;
            settle(&mut machine);
            assert!(machine.cores[0].entries().is_empty());
            assert!(!machine.cores[0].physical_active);
        }
    }
}

#[test]
fn a_line_that_falls_leaves_what_was_acknowledged() {
    for version in BOTH {
        let mut machine = machine(version, 4);
        machine.apply(&Op::TimerLine(0, true));
        settle(&mut machine);
        machine.acknowledge(vcpu(0));
        machine.apply(&Op::TimerLine(0, false));
        let told = machine.vgic.lower_mapped(vcpu(0), &mut machine.cores[0]);
        assert!(told.is_empty(), "nothing to withdraw");
        settle(&mut machine);
        assert!(machine.cores[0].physical_active);
        machine.end(vcpu(0));
        assert!(!machine.cores[0].physical_active);
        assert!(
            machine
                .vgic
                .lower_mapped(vcpu(0), &mut machine.cores[0])
                .is_empty()
        );
    }
}

#[test]
fn a_ticking_timer_keeps_its_list_register() {
    for version in BOTH {
        let mut machine = machine(version, 4);
        let tick = |machine: &mut Machine| {
            let core = &mut machine.cores[0];
            core.physical_active = true;
            assert!(machine.vgic.deliver_mapped(vcpu(0), core).is_empty());
            machine.reference.get_mut(vcpu(0), TIMER).latch = true;
            settle(machine);
        };
        tick(&mut machine);
        for _ in 0..3 {
            assert!(machine.acknowledge(vcpu(0)).is_some());
            machine.end(vcpu(0));
            let writes = machine.cores[0].writes;
            tick(&mut machine);
            assert_eq!(machine.cores[0].writes, writes + 1);
        }
        machine.acknowledge(vcpu(0));
        machine.apply(&Op::Load(0, false));
        assert!(machine.vgic.mapped_in_flight(vcpu(0)));
        machine.apply(&Op::Load(0, true));
        settle(&mut machine);
        machine.end(vcpu(0));
        assert!(!machine.cores[0].physical_active);
        machine.apply(&Op::Bits {
            by: 0,
            of: 0,
            bits: 2,
            intid: TIMER,
            also: 0,
        });
        tick(&mut machine);
        assert!(machine.cores[0].entries().is_empty(), "disabled");
        assert!(machine.vgic.mapped_in_flight(vcpu(0)));
    }
}

#[test]
fn a_ticking_timer_lets_others_come_with_it() {
    for version in BOTH {
        let mut machine = machine(version, 4);
        machine.apply(&Op::TimerLine(0, true));
        settle(&mut machine);
        machine.acknowledge(vcpu(0));
        machine.apply(&Op::TimerLine(0, false));
        machine.end(vcpu(0));
        machine.apply(&Op::Send {
            from: 1,
            targets: 1,
            all_but_self: false,
            sgi: 3,
            kind: 0,
        });
        let core = &mut machine.cores[0];
        core.physical_active = true;
        machine.vgic.deliver_mapped(vcpu(0), core);
        let mut listed: Vec<_> = (core.entries().iter())
            .map(|entry| entry.intid.number())
            .collect();
        listed.sort_unstable();
        assert_eq!(listed, [3, 27]);
    }
}

#[test]
fn a_timer_that_ticks_again_is_not_active_to_others() {
    let mut machine = machine(Version::V3, 4);
    machine.apply(&Op::TimerLine(0, true));
    settle(&mut machine);
    machine.acknowledge(vcpu(0));
    // Listed as active.
    machine.apply(&Op::Load(0, false));
    machine.apply(&Op::Load(0, true));
    settle(&mut machine);
    machine.end(vcpu(0));
    settle(&mut machine);
    let (frame, offset) = machine.place(vcpu(0), true, 0x300);
    let core = &mut machine.cores[1];
    let reading = machine.vgic.read(vcpu(1), frame, offset, Width::Word, core);
    assert_eq!(reading.told, VcpuMask(1), "its holder is asked");
    assert_eq!(reading.value, 0);
}
