//! How guests send SGIs, and what arrives.

use super::super::{Frame, Origin, SgiKind, State, VcpuMask, Version, Width};
use super::machine::Op;
use super::scene::{end, machine, send, take};
use super::{intid, vcpu};

#[test]
fn each_sender_of_an_sgi_counts() {
    let mut machine = machine(Version::V2, 4, 4, false);
    for from in [3, 1, 2, 1] {
        send(&mut machine, from, 0, 7);
        machine.settle();
    }
    assert_eq!(
        machine.cores[0].entries().len(),
        1,
        "one instance at a time"
    );
    let mut senders = Vec::new();
    while let Some((7, sender)) = take(&mut machine, 0) {
        senders.push(sender);
        end(&mut machine, 0);
    }
    senders.sort_unstable();
    assert_eq!(senders, [1, 2, 3]);
}

#[test]
fn filters_of_sgir_choose_the_targets() {
    let mut machine = machine(Version::V2, 4, 4, false);
    let sgir = (Frame::Distributor, 0xf00);
    for (value, targets) in [
        (0x0006_0001, 0b0110),
        (0x01ff_0002, 0b1101),
        (0x0200_0003, 0b0010),
        (0x03ff_0004, 0),
        (0x00f0_0005, 0),
    ] {
        machine.due = VcpuMask::EMPTY;
        machine.write(vcpu(1), sgir, Width::Word, value);
        assert_eq!(machine.due, VcpuMask(targets), "{value:x}");
        machine.settle();
    }
}

#[test]
fn sgi1r_names_its_targets_by_affinity() {
    let mut machine = machine(Version::V3, 4, 4, false);
    for (value, targets) in [
        (1 << 24 | 0b0110, 0b0110),
        (2 << 24 | 1 << 40, 0b1101),
        (3 << 24 | 0xfff0, 0),
        (4 << 24 | 1 << 16 | 0xf, 0),
        (5 << 24 | 1 << 32 | 0xf, 0),
        (6 << 24 | 1 << 48 | 0xf, 0),
        (7 << 24 | 1 << 44 | 0xf, 0),
    ] {
        let told = machine.vgic.sgi1r(vcpu(1), value, SgiKind::Group1);
        assert_eq!(told, VcpuMask(targets), "{value:x}");
        machine.due |= told;
        machine.settle();
    }
}

#[test]
fn the_other_sgi_registers_reach_group_0_alone() {
    for kind in [SgiKind::Group0, SgiKind::Alias1] {
        let mut machine = machine(Version::V3, 2, 4, false);
        let frame = Frame::Redistributor(vcpu(1));
        machine.write(vcpu(0), (frame, 0x1_0080), Width::Word, !(1 << 4));
        assert!(machine.vgic.sgi1r(vcpu(0), 3 << 24 | 2, kind).is_empty());
        assert_eq!(machine.vgic.sgi1r(vcpu(0), 4 << 24 | 2, kind), VcpuMask(2));
    }
}

#[test]
fn a_listed_sender_can_be_withdrawn() {
    let mut machine = machine(Version::V2, 3, 4, false);
    send(&mut machine, 1, 0, 7);
    machine.settle();
    send(&mut machine, 2, 0, 7);
    machine.settle();
    machine.apply(&Op::Sources {
        of: 0,
        set: false,
        sgi: 7,
        byte: 1 << 1,
    });
    assert_eq!(take(&mut machine, 0), Some((7, 2)));
    end(&mut machine, 0);
    assert_eq!(take(&mut machine, 0), None);
    send(&mut machine, 1, 0, 7);
    machine.settle();
    machine.apply(&Op::Sources {
        of: 0,
        set: false,
        sgi: 7,
        byte: 1 << 1,
    });
    assert_eq!(take(&mut machine, 0), None);
}

#[test]
fn an_sgi_made_active_by_a_write_ends_like_one_of_the_writer() {
    let mut machine = machine(Version::V2, 3, 4, true);
    machine.apply(&Op::Bits {
        by: 2,
        of: 2,
        bits: 5,
        intid: intid(7),
        also: 0,
    });
    machine.settle();
    let entry = machine.cores[2].entries()[0];
    assert_eq!((entry.intid, entry.state), (intid(7), State::Active));
    assert_eq!(
        entry.origin,
        Origin::Software {
            source: vcpu(2),
            notify: false
        }
    );
    machine.cores[2].deactivate(intid(7), vcpu(2));
    assert!(machine.cores[2].entries().is_empty());
}

#[test]
fn a_listed_sender_shows_in_the_source_registers_until_it_is_taken() {
    let mut machine = machine(Version::V2, 3, 4, false);
    send(&mut machine, 1, 0, 7);
    machine.settle();
    send(&mut machine, 2, 0, 7);
    machine.settle();
    let place = (Frame::Distributor, 0xf27);
    // To its own processor, whose list registers are folded for it, and to the model.
    assert_eq!(machine.read(vcpu(0), place, Width::Byte), 0b110);
    machine.settle();
    assert_eq!(machine.vgic.source_byte(vcpu(0), intid(7)), 0b110);
    assert_eq!(take(&mut machine, 0), Some((7, 1)));
    assert_eq!(machine.read(vcpu(0), place, Width::Byte), 0b100);
}
