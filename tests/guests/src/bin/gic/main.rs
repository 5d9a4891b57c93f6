//! `gic`: whether the guest's interrupt controller does what the architecture says, GICv2 and GICv3.
//!
//! Parameters: none but `bare=1`. Output: `PASS case` or `FAIL case why` for each case, at the end `PASS gic`. Uses three vCPUs where it has them;
//! cases that lack a vCPU say `SKIP`.
//!
//! [`registers`]: what can be written and read back. [`delivery`]: what arrives at a vCPU, how often and in which order. [`cores`]: what goes
//! from one vCPU to another. [`sources`]: the lines of the UART and the timer.
#![no_std]
#![no_main]

mod cores;
mod delivery;
mod registers;
mod sources;

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use guest::{Machine, exception, gic, report, smp, timer};

/// SPIs without a device on QEMU's `virt` and on the guest machine: the last of the distributor.
pub const SPIS: u32 = 8;
/// Interrupts that the log holds.
const LOG_ENTRIES: usize = 64;
/// How long an interrupt may take to arrive, in milliseconds.
const PATIENCE_MS: u64 = 2_000;
/// How long is waited for one that must not arrive, in microseconds.
const SETTLE_US: u64 = 300;

/// What was acknowledged, in order: the identifier (with the source on GICv2), and the vCPU above bit 24.
static LOG: [AtomicU32; LOG_ENTRIES] = [const { AtomicU32::new(UNWRITTEN) }; LOG_ENTRIES];
/// No interrupt of any vCPU.
const UNWRITTEN: u32 = u32::MAX;
static LOGGED: AtomicUsize = AtomicUsize::new(0);

guest::entry!(main);

fn main(machine: &'static Machine) {
    registers::run(machine.cpus().len());
    delivery::run();
    sources::run(machine.is_bare());
    cores::run(machine);
    report::conclude("gic");
}

/// The SPI of that number among the ones that no device has.
pub fn spi(number: u32) -> u32 {
    gic::lines() - SPIS + number
}

/// Enables a free SPI for vCPU 0 with this priority, edge triggered.
pub fn prepare(id: u32, priority: u8) {
    gic::disable(id);
    gic::clear_pending(id);
    gic::clear_active(id);
    gic::set_edge(id, true);
    gic::set_priority(id, priority);
    gic::set_target(id, 0);
    gic::enable(id);
}

/// Appends to the log.
pub fn log(id: u32) {
    let at = LOGGED.fetch_add(1, Ordering::AcqRel);
    if let Some(entry) = LOG.get(at) {
        entry.store(id | (smp::this_cpu() as u32) << 24, Ordering::Release);
    }
}

/// Entries of the log. One whose place is taken but that is not written yet does not count.
pub fn logged() -> usize {
    let taken = LOGGED.load(Ordering::Acquire);
    let unwritten = LOG
        .iter()
        .take(taken)
        .filter(|entry| entry.load(Ordering::Acquire) == UNWRITTEN)
        .count();
    taken - unwritten
}

/// The entry of the log at `at`.
pub fn entry(at: usize) -> u32 {
    LOG[at].load(Ordering::Acquire)
}

/// Empties the log.
pub fn forget() {
    LOG.iter()
        .for_each(|entry| entry.store(UNWRITTEN, Ordering::Release));
    LOGGED.store(0, Ordering::Release);
}

/// The plain handler: acknowledge, log, end.
pub fn logging_handler() {
    let id = gic::acknowledge();
    if id & 0x3ff >= gic::SPECIAL {
        return;
    }
    log(id);
    gic::end(id);
}

/// Unmasks interrupts until `count` are logged and some time more, so that too many show as well.
pub fn receive(count: usize) {
    exception::unmask_interrupts();
    timer::wait_until(PATIENCE_MS, || logged() >= count);
    timer::delay(SETTLE_US);
    exception::mask_interrupts();
}

/// Receives, and demands exactly these in this order, on vCPU 0.
pub fn demand(name: &str, what: &str, wanted: &[u32]) {
    receive(wanted.len());
    let count = logged();
    if !report::expect_eq(name, what, count as u64, wanted.len() as u64) {
        for at in 0..count.min(LOG_ENTRIES) {
            report::fail(name, format_args!("  entry {at}: {:#x}", entry(at)));
        }
        return;
    }
    for (at, id) in wanted.iter().enumerate() {
        report::expect_eq(name, what, entry(at), *id);
    }
}

/// Demands that nothing arrives.
pub fn demand_silence(name: &str, what: &str) {
    demand(name, what, &[]);
}
