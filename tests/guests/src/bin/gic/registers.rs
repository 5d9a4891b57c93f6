//! What can be written and read back.

use guest::{gic, mmio, read_sysreg, report};

use crate::{SPIS, spi};

/// GICD_PIDR2 of a GICv2 with a 4 KiB frame, and of a GICv3.
const PIDR2: [usize; 2] = [0xfe8, 0xffe8];

/// Runs the cases, on a machine of so many vCPUs.
pub fn run(cpus: usize) {
    report::case("identify", identify);
    report::case("enable-bits", |name| {
        set_and_clear(name, gic::ISENABLER, gic::ICENABLER)
    });
    report::case("pending-bits", |name| {
        set_and_clear(name, gic::ISPENDR, gic::ICPENDR)
    });
    report::case("active-bits", |name| {
        set_and_clear(name, gic::ISACTIVER, gic::ICACTIVER)
    });
    report::case("ppi-bits", private);
    report::case("priorities", priorities);
    report::case("triggers", triggers);
    report::case("routes", |name| routes(name, cpus));
    report::case("read-only", read_only);
    if gic::is_v3() {
        report::case("redistributor", redistributor);
        report::case("system-registers", system_registers);
    }
}

fn identify(name: &str) {
    report::expect(name, "has SPIs", gic::lines() >= 64);
    let revision = mmio::read32(gic::distributor() + PIDR2[usize::from(gic::is_v3())]) >> 4 & 0xf;
    report::expect_eq(
        name,
        "GICD_PIDR2.ArchRev",
        revision,
        if gic::is_v3() { 3 } else { 2 },
    );
}

/// Each bit of the free SPIs alone, by the one register and the other; zeroes written change nothing.
fn set_and_clear(name: &str, set: usize, clear: usize) {
    let at = |register: usize, id: u32| gic::distributor() + register + id as usize / 32 * 4;
    let all = (0..SPIS).fold(0, |mask, number| mask | 1 << (spi(number) % 32));
    let read = |register: usize| mmio::read32(at(register, spi(0))) & all;
    for number in 0..SPIS {
        gic::disable(spi(number));
        // A GICv2 may drop what is pending for no target.
        gic::set_target(spi(number), 0);
    }
    report::expect_eq(name, "at first", read(set), 0);
    for number in 0..SPIS {
        let id = spi(number);
        let bit = 1 << (id % 32);
        mmio::write32(at(set, id), bit);
        report::expect_eq(name, "set, read by the set register", read(set), bit);
        report::expect_eq(name, "set, read by the clear register", read(clear), bit);
        mmio::write32(at(set, id), 0);
        mmio::write32(at(clear, id), 0);
        mmio::write32(at(clear, id), all & !bit);
        report::expect_eq(name, "still set", read(set), bit);
        mmio::write32(at(clear, id), bit);
        report::expect_eq(name, "cleared", read(set), 0);
    }
    mmio::write32(at(set, spi(0)), all);
    report::expect_eq(name, "all set", read(set), all);
    mmio::write32(at(clear, spi(0)), all);
    report::expect_eq(name, "all cleared", read(set), 0);
}

/// Enable and active bits of two PPIs, in the bank of this vCPU.
fn private(name: &str) {
    for id in [27, 30] {
        gic::enable(id);
        report::expect(name, "enabled", gic::is_enabled(id));
        gic::disable(id);
        report::expect(name, "disabled", !gic::is_enabled(id));
        gic::set_active(id);
        report::expect(name, "active", gic::is_active(id));
        gic::clear_active(id);
        report::expect(name, "not active", !gic::is_active(id));
    }
}

/// At least the upper four bits of a priority are kept, by byte and by word, for SPIs and SGIs; neighbours do not change.
fn priorities(name: &str) {
    for id in [spi(1), 5] {
        let former = gic::priority(id);
        let neighbour = gic::priority(id + 1);
        for priority in [0x10, 0x50, 0xa0, 0xf0] {
            gic::set_priority(id, priority);
            report::expect_eq(name, "priority", gic::priority(id), priority);
            report::expect_eq(name, "the next one's", gic::priority(id + 1), neighbour);
        }
        gic::set_priority(id, 0xff);
        report::expect_eq(name, "upper bits of 0xff", gic::priority(id) & 0xf0, 0xf0);
        gic::set_priority(id, former);
    }
    let word = gic::distributor() + gic::IPRIORITYR + spi(0) as usize;
    mmio::write32(word, 0x4030_2010);
    report::expect_eq(name, "four by one word", mmio::read32(word), 0x4030_2010);
}

/// SPIs can be either; SGIs are edges whatever is written.
fn triggers(name: &str) {
    for edge in [true, false, true] {
        gic::set_edge(spi(2), edge);
        report::expect(name, "SPI", gic::is_edge(spi(2)) == edge);
    }
    gic::set_edge(3, false);
    report::expect(name, "SGI is an edge", gic::is_edge(3));
}

fn routes(name: &str, cpus: usize) {
    if gic::is_v3() {
        let at = gic::distributor() + gic::IROUTER + spi(0) as usize * 8;
        mmio::write64(at, 1 << 31);
        report::expect_eq(
            name,
            "IROUTER.IRM or the affinity",
            mmio::read64(at) & !(1 << 31),
            0,
        );
        gic::set_target(spi(0), 0);
        report::expect_eq(
            name,
            "IROUTER",
            mmio::read64(at),
            read_sysreg!("mpidr_el1") & 0xff_00ff_ffff,
        );
    } else if cpus > 1 {
        // A GICv2 of one CPU has no targets: the registers read as zero (IHI 0048, 4.3.12).
        let at = gic::distributor() + gic::ITARGETSR;
        let own = mmio::read32(at) & 0xff;
        report::expect_eq(name, "banked ITARGETSR0 of vCPU 0", own, 1);
        gic::set_target(spi(0), 0);
        report::expect_eq(
            name,
            "ITARGETSR",
            mmio::read32(at + (spi(0) as usize & !3)) >> (spi(0) % 4 * 8) & 0xff,
            1,
        );
    }
}

/// Writes to what only tells change nothing.
fn read_only(name: &str) {
    for register in [
        gic::GICD_TYPER,
        gic::GICD_IIDR,
        PIDR2[usize::from(gic::is_v3())],
    ] {
        let at = gic::distributor() + register;
        let former = mmio::read32(at);
        mmio::write32(at, !former);
        report::expect_eq(
            name,
            "a register that cannot be written",
            mmio::read32(at),
            former,
        );
    }
}

fn redistributor(name: &str) {
    let Some(base) = gic::find_redistributor() else {
        report::fail(name, format_args!("none with this vCPU's affinity"));
        return;
    };
    let kind = mmio::read64(base + 8);
    let halves = u64::from(mmio::read32(base + 8)) | u64::from(mmio::read32(base + 12)) << 32;
    report::expect_eq(name, "GICR_TYPER by halves", halves, kind);
    report::expect_eq(name, "GICR_WAKER, awake", mmio::read32(base + 0x14) & 6, 0);
    report::expect_eq(
        name,
        "GICR_PIDR2.ArchRev",
        mmio::read32(base + 0xffe8) >> 4 & 0xf,
        3,
    );
    report::expect_eq(
        name,
        "GICD_ICENABLER0, none with affinity routing",
        mmio::read32(gic::distributor() + gic::ICENABLER),
        0,
    );
}

fn system_registers(name: &str) {
    report::expect_eq(
        name,
        "ICC_SRE_EL1.SRE",
        read_sysreg!("S3_0_C12_C12_5") & 1,
        1,
    );
    let control = read_sysreg!("S3_0_C12_C12_4");
    report::expect(
        name,
        "ICC_CTLR_EL1.PRIbits is at least 4",
        control >> 8 & 7 >= 3,
    );
    gic::set_mask(0xa0);
    report::expect_eq(name, "ICC_PMR_EL1", read_sysreg!("S3_0_C4_C6_0"), 0xa0);
    gic::set_mask(0xf0);
    report::expect_eq(
        name,
        "ICC_RPR_EL1 when idle",
        read_sysreg!("S3_0_C12_C11_3"),
        0xff,
    );
    report::expect_eq(name, "ICC_IGRPEN1_EL1", read_sysreg!("S3_0_C12_C12_7"), 1);
}
