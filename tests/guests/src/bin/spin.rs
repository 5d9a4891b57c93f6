//! `spin`: every vCPU spins and counts, to show how a board divides its cores.
//!
//! Parameters: `secs=` (0: for ever), after which the guest ends. Output: at each second of the counter `SPIN vcpu count` for every vCPU,
//! the count being that of all its life in units of the same work; at the end `PASS spin`.
#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use guest::start::MAX_CPUS;
use guest::{Machine, println, report, smp, timer};

/// Turns of the innermost loop for one count.
const WORK: u64 = 1_000;

/// A counter in a cache line of its own.
#[repr(align(64))]
struct Counter(AtomicU64);

static COUNTERS: [Counter; MAX_CPUS] = [const { Counter(AtomicU64::new(0)) }; MAX_CPUS];

guest::entry!(main);

fn main(machine: &'static Machine) {
    let seconds = machine.number("secs", 0);
    for index in 1..machine.cpus().len() {
        if let Err(error) = smp::start(index, spin) {
            report::fail("spin", format_args!("CPU_ON of {index} says {error}"));
        }
    }
    let start = timer::now();
    let mut second = 0;
    while seconds == 0 || second < seconds {
        let due = start + (second + 1) * timer::frequency();
        while timer::now() < due {
            work(0);
        }
        second += 1;
        for (index, counter) in COUNTERS.iter().enumerate().take(machine.cpus().len()) {
            println!("SPIN {index} {}", counter.0.load(Ordering::Relaxed));
        }
    }
    report::conclude("spin");
}

fn spin(index: usize) {
    loop {
        work(index);
    }
}

/// Does one count of work.
fn work(index: usize) {
    // SAFETY: counts a register down.
    unsafe { asm!("2: subs {n}, {n}, #1", "b.ne 2b", n = inout(reg) WORK => _, options(nostack)) };
    COUNTERS[index].0.fetch_add(1, Ordering::Relaxed);
}
