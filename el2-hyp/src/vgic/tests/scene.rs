//! What the tests of delivery share.

use super::super::Version;
use super::machine::{Machine, Op};
use super::{intid, vcpu};

pub(super) const BOTH: [Version; 2] = [Version::V2, Version::V3];

/// Both groups on, SPIs 32 to 47 enabled and routed to the first processor.
pub(super) fn machine(version: Version, vcpus: usize, registers: usize, split: bool) -> Machine {
    let mut machine = Machine::new(version, vcpus, registers, split);
    machine.apply(&Op::Enable(true, true));
    for number in 32..48 {
        machine.apply(&Op::Bits {
            by: 0,
            of: 0,
            bits: 1,
            intid: intid(number),
            also: 0,
        });
        if vcpus > 1 {
            machine.apply(&Op::Route(intid(number), u64::from(version == Version::V2)));
        }
    }
    machine.settle();
    machine
}

pub(super) fn edge(machine: &mut Machine, number: u32, priority: u8) {
    machine.apply(&Op::Trigger(intid(number), true));
    machine.apply(&Op::Priority(0, intid(number), priority));
}

pub(super) fn send(machine: &mut Machine, from: usize, to: usize, sgi: u32) {
    machine.apply(&Op::Send {
        from,
        targets: 1 << to,
        all_but_self: false,
        sgi,
        kind: 0,
    });
}

/// What the processor takes next, by number and sender.
pub(super) fn take(machine: &mut Machine, of: usize) -> Option<(u32, usize)> {
    machine.settle();
    machine.check();
    let taken = machine.acknowledge(vcpu(of));
    machine.settle();
    taken.map(|taken| (taken.intid.number(), taken.source.index()))
}

pub(super) fn end(machine: &mut Machine, of: usize) {
    machine.end(vcpu(of));
    machine.settle();
    machine.check();
}
