//! `reboot`: restarts for ever, each life leaving as much behind as it can and finding nothing of the former.
//!
//! On entry all memory above the image must be zero (the device tree aside), the distributor off with nothing enabled, pending or active, both timers
//! off, the other vCPUs off. Then it dirties a line in every page, pends and enables interrupts, starts the other vCPUs, arms the timers, and resets.
//!
//! It forgets everything, so the one outside counts its lives. Parameters: `bare=1`: leaves memory alone, since QEMU keeps it over a reset.
//! Output: `BOOT zeroed_mib=…` in each life, or `FAIL` and the end.
#![no_std]
#![no_main]

use core::arch::asm;

use guest::machine::Range;
use guest::{Machine, exception, gic, mmio, println, psci, read_sysreg, report, smp, timer};

/// A page; one line of each is dirtied.
const PAGE: usize = 4096;
/// The SPIs that are left behind in every state: the last ones that the distributor has.
const LEFT_BEHIND: u32 = 8;

guest::entry!(main);

fn main(machine: &'static Machine) {
    check_memory(machine);
    check_devices(machine);
    if report::failures() != 0 {
        report::conclude("reboot");
        return;
    }
    println!(
        "BOOT zeroed_mib={}",
        (machine.memory.end - machine.image().end) >> 20
    );
    leave_a_mess(machine);
    psci::system_reset();
}

/// The parts of memory above the image, the device tree cut out; empty ones among them.
fn free_ranges(machine: &Machine) -> [Range; 2] {
    let start = machine.image().end;
    let before = Range {
        start,
        end: machine.tree.start.clamp(start, machine.memory.end) & !63,
    };
    let after = Range {
        start: machine.tree.end.max(start).next_multiple_of(PAGE),
        end: machine.memory.end,
    };
    if machine.tree.end <= start {
        [after, Range { start, end: start }]
    } else {
        [before, after]
    }
}

/// The address of the first bytes that are not zero, 64 at a time.
fn first_dirty(range: Range) -> Option<usize> {
    let mut at = range.start;
    let mut seen: u64 = 0;
    // SAFETY: reads memory that no Rust object lives in; the range is a multiple of 64 bytes.
    unsafe {
        asm!(
            "2: cmp {at}, {end}", "b.hs 3f",
            "ldp {a}, {b}, [{at}]", "ldp {c}, {d}, [{at}, #16]", "orr {a}, {a}, {b}", "orr {c}, {c}, {d}", "orr {seen}, {a}, {c}",
            "ldp {a}, {b}, [{at}, #32]", "ldp {c}, {d}, [{at}, #48]", "orr {a}, {a}, {b}", "orr {c}, {c}, {d}", "orr {a}, {a}, {c}",
            "orr {seen}, {seen}, {a}", "cbnz {seen}, 3f", "add {at}, {at}, #64", "b 2b", "3:",
            at = inout(reg) at, end = in(reg) range.end, seen = inout(reg) seen,
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _, options(nostack, readonly)
        )
    };
    (seen != 0).then_some(at)
}

fn check_memory(machine: &Machine) {
    for range in free_ranges(machine) {
        if let Some(address) = first_dirty(range) {
            report::fail("reboot", format_args!("memory at {address:#x} is not zero"));
        }
    }
}

fn check_devices(machine: &Machine) {
    for line in (32..gic::lines()).step_by(32) {
        let at = |register: usize| mmio::read32(gic::distributor() + register + line as usize / 8);
        // A device may hold its line up from the start; enabled or active is nothing that a device can make.
        report::expect_eq("reboot", "ISENABLER", at(gic::ISENABLER), 0);
        report::expect_eq("reboot", "ISACTIVER", at(gic::ISACTIVER), 0);
    }
    for id in left_behind() {
        report::expect("reboot", "an SPI is pending", !gic::is_pending(id));
    }
    report::expect_eq("reboot", "CNTV_CTL", read_sysreg!("cntv_ctl_el0") & 1, 0);
    report::expect_eq("reboot", "CNTP_CTL", read_sysreg!("cntp_ctl_el0") & 1, 0);
    for mpidr in &machine.cpus()[1..] {
        report::expect_eq(
            "reboot",
            "AFFINITY_INFO",
            psci::affinity_info(*mpidr),
            psci::STATE_OFF,
        );
    }
}

fn left_behind() -> core::ops::Range<u32> {
    gic::lines() - LEFT_BEHIND..gic::lines()
}

fn leave_a_mess(machine: &'static Machine) {
    for index in 1..machine.cpus().len() {
        if let Err(error) = smp::start(index, busy) {
            report::fail("reboot", format_args!("CPU_ON of {index} says {error}"));
        }
    }
    for (number, id) in left_behind().enumerate() {
        gic::set_priority(id, 0xf0);
        if number & 1 != 0 {
            gic::enable(id);
        }
        if number & 2 != 0 {
            gic::set_pending(id);
        }
        if number & 4 != 0 {
            gic::set_active(id);
        }
    }
    timer::arm_virtual(timer::now() + timer::micros(1_000));
    timer::arm_physical(timer::now_physical() + timer::micros(1_000));
    if machine.is_bare() {
        return;
    }
    for range in free_ranges(machine) {
        for address in range.into_pages() {
            // SAFETY: memory that nothing uses.
            unsafe { (address as *mut u64).write_volatile(address as u64 | 1) };
        }
    }
}

/// Every page's first byte.
trait Pages {
    /// Addresses, a page apart.
    fn into_pages(self) -> core::iter::StepBy<core::ops::Range<usize>>;
}

impl Pages for Range {
    fn into_pages(self) -> core::iter::StepBy<core::ops::Range<usize>> {
        (self.start..self.end).step_by(PAGE)
    }
}

/// Half of the others spin when the reset comes, half are parked.
fn busy(index: usize) {
    loop {
        if index & 1 == 0 {
            exception::park();
        }
    }
}
