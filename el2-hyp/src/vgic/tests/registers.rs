//! One rule of a guest-visible register each.

use super::super::{ConfigError, Intid};
use super::super::{Frame, INTIDS, MappedInterrupt, VcpuMask, Version, Vgic, Width};
use super::core::Core;
use super::{intid, vcpu, vgic};

const D: Frame = Frame::Distributor;

fn redistributor(of: usize) -> Frame {
    Frame::Redistributor(vcpu(of))
}

/// A word as `of` reads it, list registers empty.
fn read(vgic: &mut Vgic, of: usize, frame: Frame, offset: u32) -> u64 {
    sized(vgic, of, frame, offset, Width::Word)
}

fn sized(vgic: &mut Vgic, of: usize, frame: Frame, offset: u32, width: Width) -> u64 {
    let mut core = Core::new(Version::V2, 4, false);
    vgic.read(vcpu(of), frame, offset, width, &mut core).value
}

fn write(vgic: &mut Vgic, of: usize, frame: Frame, offset: u32, value: u64) -> VcpuMask {
    vgic.write(vcpu(of), frame, offset, Width::Word, value)
}

#[test]
fn a_configuration_is_checked() {
    let mapped = |virtual_intid, physical_intid| MappedInterrupt {
        virtual_intid,
        physical_intid,
    };
    let good = mapped(Intid::VIRTUAL_TIMER, 27);
    assert_eq!(
        Vgic::new(Version::V2, 0, good).err(),
        Some(ConfigError::VcpuCount(0))
    );
    assert_eq!(
        Vgic::new(Version::V3, 9, good).err(),
        Some(ConfigError::VcpuCount(9))
    );
    let spi = mapped(intid(32), 27);
    assert_eq!(
        Vgic::new(Version::V2, 1, spi).err(),
        Some(ConfigError::MappedVirtual(intid(32)))
    );
    let sgi = mapped(Intid::VIRTUAL_TIMER, 15);
    assert_eq!(
        Vgic::new(Version::V2, 1, sgi).err(),
        Some(ConfigError::MappedPhysical(15))
    );
    assert_eq!(
        Vgic::new(Version::V2, 8, good).map(|vgic| vgic.vcpus()),
        Ok(8)
    );
}

#[test]
fn v2_identifies_itself() {
    let mut it = vgic(Version::V2, 3);
    assert_eq!(
        read(&mut it, 0, D, 0x004),
        3 | 2 << 5,
        "128 interrupts, 3 processors"
    );
    assert_eq!(read(&mut it, 0, D, 0x008) & 0xfff, 0x43b);
    assert_eq!(read(&mut it, 0, D, 0xfe8) >> 4 & 0xf, 2, "ArchRev");
}

#[test]
fn v3_identifies_itself() {
    let mut it = vgic(Version::V3, 3);
    let kind = read(&mut it, 0, D, 0x0004);
    assert_eq!(kind & 0x1f, 3, "128 interrupts");
    assert_eq!(kind >> 19 & 0x1f, 9, "ten bits of identifier");
    assert_eq!(kind >> 16 & 3, 0, "neither LPIs nor message-based SPIs");
    assert_eq!(read(&mut it, 0, D, 0xffe8) >> 4 & 0xf, 3, "ArchRev");
    assert_eq!(
        read(&mut it, 0, redistributor(1), 0xffe8) >> 4 & 0xf,
        3,
        "ArchRev"
    );
    assert_eq!(
        read(&mut it, 0, redistributor(1), 0x0004),
        read(&mut it, 0, D, 0x0008)
    );
}

#[test]
fn redistributors_name_their_processor_and_the_last_one() {
    let mut it = vgic(Version::V3, 3);
    for of in 0..3 {
        let number = of as u64;
        let last = if of == 2 { 1 << 4 } else { 0 };
        let frame = redistributor(of);
        assert_eq!(
            sized(&mut it, 0, frame, 8, Width::Double),
            number << 32 | number << 8 | last
        );
        assert_eq!(read(&mut it, 0, frame, 8), number << 8 | last);
        assert_eq!(read(&mut it, 0, frame, 12), number);
    }
    assert_eq!(
        sized(&mut it, 0, redistributor(3), 8, Width::Double),
        0,
        "not there"
    );
}

#[test]
fn offsets_lead_to_redistributors() {
    assert_eq!(
        Frame::redistributor_at(0x14),
        Some((redistributor(0), 0x14))
    );
    assert_eq!(
        Frame::redistributor_at(0x3_0100),
        Some((redistributor(1), 0x1_0100))
    );
    assert_eq!(Frame::redistributor_at(0x10_0000), None);
    assert_eq!(Frame::redistributor_at(u64::MAX), None);
}

#[test]
fn control_keeps_the_group_enables_alone() {
    let mut it = vgic(Version::V2, 1);
    write(&mut it, 0, D, 0, !0);
    assert_eq!(read(&mut it, 0, D, 0), 3);
    let mut it = vgic(Version::V3, 1);
    assert_eq!(read(&mut it, 0, D, 0), 1 << 6 | 1 << 4, "DS and ARE");
    write(&mut it, 0, D, 0, 2);
    assert_eq!(read(&mut it, 0, D, 0), 1 << 6 | 1 << 4 | 2);
    write(&mut it, 0, D, 0, 0);
    assert_eq!(read(&mut it, 0, D, 0), 1 << 6 | 1 << 4);
}

#[test]
fn enables_set_and_clear() {
    let mut it = vgic(Version::V2, 1);
    assert_eq!(read(&mut it, 0, D, 0x100), 0xffff, "SGIs");
    write(&mut it, 0, D, 0x104, 0xff);
    write(&mut it, 0, D, 0x184, 0x0f);
    assert_eq!(read(&mut it, 0, D, 0x104), 0xf0);
    assert_eq!(read(&mut it, 0, D, 0x184), 0xf0);
    assert_eq!(read(&mut it, 0, D, 0x110), 0, "beyond the last interrupt");
}

#[test]
fn private_registers_are_banked() {
    let mut it = vgic(Version::V2, 2);
    write(&mut it, 1, D, 0x100, 1 << 27);
    assert_eq!(read(&mut it, 0, D, 0x100), 0xffff);
    assert_eq!(read(&mut it, 1, D, 0x100), 0xffff | 1 << 27);
    let mut it = vgic(Version::V3, 2);
    write(&mut it, 0, redistributor(1), 0x1_0100, 1 << 27);
    assert_eq!(read(&mut it, 0, redistributor(0), 0x1_0100), 0xffff);
    assert_eq!(
        read(&mut it, 0, redistributor(1), 0x1_0100),
        0xffff | 1 << 27
    );
    write(&mut it, 0, D, 0x100, !0);
    assert_eq!(
        read(&mut it, 0, D, 0x100),
        0,
        "with affinity routing not in the distributor"
    );
    assert_eq!(
        read(&mut it, 0, redistributor(0), 0x1_0104),
        0,
        "no SPIs in a redistributor"
    );
}

#[test]
fn pending_and_active_set_and_clear() {
    let mut it = vgic(Version::V2, 1);
    for (set, clear) in [(0x204, 0x284), (0x304, 0x384)] {
        write(&mut it, 0, D, set, 0xff);
        write(&mut it, 0, D, clear, 0x0f);
        assert_eq!(read(&mut it, 0, D, set), 0xf0);
        assert_eq!(read(&mut it, 0, D, clear), 0xf0);
    }
}

#[test]
fn a_high_level_stays_pending_when_cleared() {
    let mut it = vgic(Version::V2, 1);
    it.set_line(intid(40), vcpu(0), true);
    write(&mut it, 0, D, 0x284, 1 << 8);
    assert_eq!(read(&mut it, 0, D, 0x204), 1 << 8);
    it.set_line(intid(40), vcpu(0), false);
    assert_eq!(read(&mut it, 0, D, 0x204), 0);
}

#[test]
fn pending_set_by_software_outlives_the_line() {
    let mut it = vgic(Version::V2, 1);
    it.set_line(intid(40), vcpu(0), true);
    write(&mut it, 0, D, 0x204, 1 << 8);
    it.set_line(intid(40), vcpu(0), false);
    assert_eq!(read(&mut it, 0, D, 0x204), 1 << 8);
}

#[test]
fn v2_sgis_are_not_pended_but_by_their_sources() {
    let mut it = vgic(Version::V2, 2);
    write(&mut it, 0, D, 0x200, 0xffff);
    assert_eq!(read(&mut it, 0, D, 0x200), 0);
    it.write(vcpu(0), D, 0xf21, Width::Byte, 0xff);
    assert_eq!(read(&mut it, 0, D, 0x200), 1 << 1);
    assert_eq!(read(&mut it, 0, D, 0xf20), 0x0300, "of two processors");
    assert_eq!(read(&mut it, 0, D, 0xf10), 0x0300);
    write(&mut it, 0, D, 0x280, 0xffff);
    assert_eq!(read(&mut it, 0, D, 0x200), 1 << 1);
    it.write(vcpu(0), D, 0xf11, Width::Byte, 1);
    assert_eq!(sized(&mut it, 0, D, 0xf21, Width::Byte), 2);
    it.write(vcpu(0), D, 0xf11, Width::Byte, 2);
    assert_eq!(read(&mut it, 0, D, 0x200), 0);
}

#[test]
fn v3_sgis_are_pended_by_software() {
    let mut it = vgic(Version::V3, 1);
    write(&mut it, 0, redistributor(0), 0x1_0200, 0x8001);
    assert_eq!(read(&mut it, 0, redistributor(0), 0x1_0280), 0x8001);
}

#[test]
fn priorities_have_five_bits_and_take_bytes_and_words() {
    let mut it = vgic(Version::V2, 2);
    write(&mut it, 1, D, 0x41c, 0x1234_56ff);
    assert_eq!(read(&mut it, 1, D, 0x41c), 0x1030_50f8);
    assert_eq!(read(&mut it, 0, D, 0x41c), 0, "banked");
    it.write(vcpu(0), D, 0x47f, Width::Byte, 0xa7);
    assert_eq!(sized(&mut it, 1, D, 0x47f, Width::Byte), 0xa0);
    assert_eq!(read(&mut it, 1, D, 0x47c), 0xa000_0000);
    assert_eq!(read(&mut it, 0, D, 0x480), 0);
    let mut it = vgic(Version::V3, 1);
    write(&mut it, 0, D, 0x41c, !0);
    assert_eq!(read(&mut it, 0, D, 0x41c), 0);
    write(&mut it, 0, redistributor(0), 0x1_041c, !0);
    assert_eq!(read(&mut it, 0, redistributor(0), 0x1_041c), 0xf8f8_f8f8);
    assert_eq!(read(&mut it, 0, redistributor(0), 0x1_0420), 0);
}

#[test]
fn targets_show_the_reader_and_keep_who_exists() {
    let mut it = vgic(Version::V2, 3);
    for of in 0..3 {
        let mask = 1 << of;
        assert_eq!(read(&mut it, of, D, 0x81c), mask * 0x0101_0101);
    }
    write(&mut it, 0, D, 0x800, !0);
    assert_eq!(read(&mut it, 1, D, 0x800), 0x0202_0202, "read-only");
    write(&mut it, 0, D, 0x820, 0xff02_0104);
    assert_eq!(read(&mut it, 0, D, 0x820), 0x0702_0104);
    assert_eq!(sized(&mut it, 0, D, 0x823, Width::Byte), 7);
    let mut lone = vgic(Version::V2, 1);
    write(&mut lone, 0, D, 0x820, !0);
    assert_eq!(
        read(&mut lone, 0, D, 0x820),
        0,
        "one processor has no targets to choose"
    );
    assert_eq!(read(&mut lone, 0, D, 0x800), 0);
}

#[test]
fn routes_take_doublewords_and_halves() {
    let mut it = vgic(Version::V3, 2);
    it.write(vcpu(0), D, 0x6100, Width::Double, !0);
    assert_eq!(sized(&mut it, 0, D, 0x6100, Width::Double), 0xff_80ff_ffff);
    write(&mut it, 0, D, 0x6100, 1);
    assert_eq!(read(&mut it, 0, D, 0x6100), 1);
    assert_eq!(read(&mut it, 0, D, 0x6104), 0xff);
    write(&mut it, 0, D, 0x6104, 0);
    assert_eq!(sized(&mut it, 0, D, 0x6100, Width::Double), 1);
    it.write(vcpu(0), D, 0x63f8, Width::Double, 1);
    assert_eq!(
        sized(&mut it, 0, D, 0x63f8, Width::Double),
        1,
        "interrupt 127"
    );
    it.write(vcpu(0), D, 0x60f8, Width::Double, 1);
    assert_eq!(
        sized(&mut it, 0, D, 0x60f8, Width::Double),
        0,
        "not of private interrupts"
    );
}

#[test]
fn triggers_are_free_for_spis_alone() {
    let mut it = vgic(Version::V2, 1);
    for offset in [0xc00, 0xc04, 0xc08, 0xc1c] {
        write(&mut it, 0, D, offset, !0);
    }
    assert_eq!(read(&mut it, 0, D, 0xc00), 0xaaaa_aaaa, "SGIs are edges");
    assert_eq!(read(&mut it, 0, D, 0xc04), 0, "PPIs are levels");
    assert_eq!(read(&mut it, 0, D, 0xc08), 0xaaaa_aaaa);
    assert_eq!(read(&mut it, 0, D, 0xc1c), 0xaaaa_aaaa);
    write(&mut it, 0, D, 0xc0c, 1 << 3);
    assert_eq!(read(&mut it, 0, D, 0xc0c), 1 << 3, "interrupt 49");
    let mut it = vgic(Version::V3, 1);
    assert_eq!(read(&mut it, 0, redistributor(0), 0x1_0c00), 0xaaaa_aaaa);
    assert_eq!(read(&mut it, 0, redistributor(0), 0x1_0c04), 0);
    assert_eq!(read(&mut it, 0, D, 0xc00), 0);
}

#[test]
fn groups_reset_by_version_and_are_written_whole() {
    let mut it = vgic(Version::V2, 1);
    assert_eq!(read(&mut it, 0, D, 0x084), 0);
    write(&mut it, 0, D, 0x084, 0xf0);
    write(&mut it, 0, D, 0x084, 0x0f);
    assert_eq!(read(&mut it, 0, D, 0x084), 0x0f);
    let mut it = vgic(Version::V3, 1);
    assert_eq!(read(&mut it, 0, D, 0x084), 0xffff_ffff);
    assert_eq!(read(&mut it, 0, redistributor(0), 0x1_0080), 0xffff_ffff);
}

#[test]
fn a_redistributor_wakes_and_sleeps() {
    let mut it = vgic(Version::V3, 2);
    assert_eq!(
        read(&mut it, 0, redistributor(1), 0x14),
        6,
        "asleep with its children"
    );
    write(&mut it, 0, redistributor(1), 0x14, 0);
    assert_eq!(read(&mut it, 0, redistributor(1), 0x14), 0);
    assert_eq!(read(&mut it, 0, redistributor(0), 0x14), 6);
    write(&mut it, 0, redistributor(1), 0x14, 2);
    assert_eq!(read(&mut it, 0, redistributor(1), 0x14), 6);
}

#[test]
fn sgir_reads_as_zero() {
    let mut it = vgic(Version::V2, 2);
    write(&mut it, 0, D, 0xf00, 0x0001_0003);
    assert_eq!(read(&mut it, 0, D, 0xf00), 0);
}

#[test]
fn wrong_widths_and_alignments_read_as_zero_and_write_nothing() {
    for version in [Version::V2, Version::V3] {
        let mut it = vgic(version, 2);
        for (offset, width) in [
            (0x004, Width::Byte),
            (0x004, Width::Half),
            (0x000, Width::Double),
            (0x104, Width::Byte),
            (0x424, Width::Half),
            (0x424, Width::Double),
            (0x425, Width::Word),
            (0xc0a, Width::Word),
        ] {
            it.write(vcpu(0), D, offset, width, !0);
            assert_eq!(
                sized(&mut it, 0, D, offset, width),
                0,
                "{offset:x} {width:?}"
            );
        }
        assert_eq!(read(&mut it, 0, D, 0x000) & 3, 0);
        assert_eq!(read(&mut it, 0, D, 0x104), 0);
        assert_eq!(read(&mut it, 0, D, 0x424), 0);
        assert_eq!(read(&mut it, 0, D, 0xc08), 0);
    }
    let mut it = vgic(Version::V3, 2);
    it.write(vcpu(0), D, 0x6104, Width::Double, !0);
    assert_eq!(sized(&mut it, 0, D, 0x6100, Width::Double), 0);
    assert_eq!(sized(&mut it, 0, redistributor(0), 8, Width::Byte), 0);
}

#[test]
fn what_is_not_there_reads_as_zero() {
    let mut v2 = vgic(Version::V2, 2);
    for offset in [
        0x00c, 0x07c, 0x090, 0x390, 0x880, 0xc20, 0xd00, 0xe00, 0xf04, 0xffc, 0x6100, !3,
    ] {
        write(&mut v2, 0, D, offset, !0);
        assert_eq!(read(&mut v2, 0, D, offset), 0, "{offset:x}");
    }
    write(&mut v2, 0, redistributor(0), 0x1_0100, !0);
    assert_eq!(
        read(&mut v2, 0, redistributor(0), 0x1_0100),
        0,
        "GICv2 has none"
    );
    let mut v3 = vgic(Version::V3, 2);
    for offset in [
        0x00c, 0x040, 0x820, 0xd04, 0xe08, 0xf00, 0xf10, 0x6000, 0x6400, 0x1_0004, !3,
    ] {
        write(&mut v3, 0, D, offset, !0);
        assert_eq!(read(&mut v3, 0, D, offset), 0, "{offset:x}");
    }
    for offset in [
        0x000, 0x010, 0x070, 0x078, 0x1_0000, 0x1_0d00, 0x1_0e00, 0x2_0000, !3,
    ] {
        write(&mut v3, 0, redistributor(0), offset, !0);
        assert_eq!(read(&mut v3, 0, redistributor(0), offset), 0, "{offset:x}");
    }
}

#[test]
fn widths_come_from_bytes() {
    assert_eq!(Width::from_bytes(1), Some(Width::Byte));
    assert_eq!(Width::from_bytes(2), Some(Width::Half));
    assert_eq!(Width::from_bytes(4), Some(Width::Word));
    assert_eq!(Width::from_bytes(8), Some(Width::Double));
    assert_eq!(Width::from_bytes(16), None);
}

#[test]
fn identifiers_have_their_ranges() {
    assert_eq!(Intid::new(INTIDS as u32), None);
    let kinds = |number| {
        (
            intid(number).is_sgi(),
            intid(number).is_ppi(),
            intid(number).is_spi(),
        )
    };
    assert_eq!(kinds(15), (true, false, false));
    assert_eq!(kinds(16), (false, true, false));
    assert_eq!(kinds(31), (false, true, false));
    assert_eq!(kinds(32), (false, false, true));
    assert_eq!(VcpuMask::first(8), VcpuMask(0xff));
    assert_eq!(
        VcpuMask(0b1010)
            .map(|vcpu| vcpu.index())
            .collect::<Vec<_>>(),
        [1, 3]
    );
    assert_eq!(VcpuMask(0b1010).without(vcpu(1)).lowest(), Some(vcpu(3)));
}
