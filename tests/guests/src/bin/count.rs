//! `count`: a neighbour who notices every disturbance.
//!
//! Every vCPU has a 100 ms tick of its virtual timer. Between ticks it keeps a pattern in all FP/SIMD and general registers, parked or spinning, and after each
//! verifies and rewrites a part of its memory. Its counters must not go back, its thread registers and timers must hold what was put in.
//!
//! Parameters: `ticks=` (0: for ever), `mib=` (8) of memory, divided among the vCPUs, of which each verifies and rewrites `kib=` (256) after a tick. Output: `COUNT n` at each tick of vCPU 0, in the end
//! `PASS count ticks=…`; at the first deviation `FAIL count …`, and the guest ends.
#![no_std]
#![no_main]

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use guest::machine::Range;
use guest::start::MAX_CPUS;
use guest::{
    Machine, exception, gic, println, psci, read_sysreg, report, smp, timer, write_sysreg,
};

global_asm!(include_str!("count.S"));

// SAFETY: `count.S` defines it with this signature.
unsafe extern "C" {
    fn hold_registers(seed: u64, word: *const AtomicU64, value: u64, spin: u64) -> u64;
}

/// Between two ticks, in microseconds.
const TICK_US: u64 = 100_000;
/// Put into CNTP_CVAL, with the timer off: nobody may change it.
const PHYSICAL_MARK: u64 = 0x0123_4567_89ab_cdef;

/// Ticks of each vCPU, and the due time of the next.
static TICKS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
static DUE: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
/// Where the memory is that the vCPUs divide, and how much each has.
static MEMORY: AtomicUsize = AtomicUsize::new(0);
static SHARE: AtomicUsize = AtomicUsize::new(0);
/// Bytes verified and rewritten after each tick.
static CHUNK: AtomicUsize = AtomicUsize::new(0);

guest::entry!(main);

fn main(machine: &'static Machine) {
    let cpus = machine.cpus().len();
    let chunk = (machine.number("kib", 256) as usize) << 10;
    let share = (((machine.number("mib", 8) as usize) << 20) / cpus).next_multiple_of(chunk);
    let Some(range) = machine.spare(share * cpus) else {
        report::fail(
            "count",
            format_args!("no room for {share} bytes for each vCPU"),
        );
        return;
    };
    MEMORY.store(range.start, Ordering::Relaxed);
    SHARE.store(share, Ordering::Relaxed);
    CHUNK.store(chunk, Ordering::Relaxed);
    exception::set_irq_handler(handler);
    for index in 1..cpus {
        if let Err(error) = smp::start(index, neighbour) {
            deviation(index, "CPU_ON", error as u64, 0);
        }
    }
    watch(0, machine.number("ticks", 0));
    println!("PASS count ticks={}", TICKS[0].load(Ordering::Relaxed));
}

fn neighbour(index: usize) {
    watch(index, 0);
}

fn deviation(index: usize, what: &str, found: u64, wanted: u64) -> ! {
    exception::mask_interrupts();
    report::fail(
        "count",
        format_args!("vCPU {index}: {what}: {found:#x}, should be {wanted:#x}"),
    );
    psci::system_off()
}

fn check(index: usize, what: &str, found: u64, wanted: u64) {
    if found != wanted {
        deviation(index, what, found, wanted);
    }
}

/// The tick: counts, and sets the timer to the next due time, so that none is left out.
fn handler() {
    let id = gic::acknowledge();
    if id == timer::VIRTUAL_PPI {
        let index = smp::this_cpu();
        let due = DUE[index].load(Ordering::Relaxed) + timer::micros(TICK_US);
        DUE[index].store(due, Ordering::Relaxed);
        timer::arm_virtual(due);
        TICKS[index].fetch_add(1, Ordering::Relaxed);
    }
    if id < gic::SPECIAL {
        gic::end(id);
    }
}

/// Ticks and verifies, for so many ticks or for ever.
fn watch(index: usize, ticks: u64) {
    let share = SHARE.load(Ordering::Relaxed);
    let start = MEMORY.load(Ordering::Relaxed) + index * share;
    let range = Range {
        start,
        end: start + share,
    };
    let mut memory = Memory {
        range,
        next: range.start,
        chunk: CHUNK.load(Ordering::Relaxed),
        seed: index as u64 + 1,
    };
    memory.fill();
    write_sysreg!("tpidr_el0", mark(index));
    write_sysreg!("cntp_cval_el0", PHYSICAL_MARK);
    write_sysreg!("cntp_ctl_el0", 0);
    gic::enable(timer::VIRTUAL_PPI);
    let due = timer::now() + timer::micros(TICK_US);
    DUE[index].store(due, Ordering::Relaxed);
    timer::arm_virtual(due);
    exception::unmask_interrupts();
    let mut last = (timer::now(), timer::now_physical());
    let mut seen = 0;
    while ticks == 0 || seen < ticks {
        wait_for_tick(index, seen);
        let now = TICKS[index].load(Ordering::Relaxed);
        if index == 0 {
            for tick in seen + 1..=now {
                println!("COUNT {tick}");
            }
        }
        seen = now;
        check_registers(index);
        last = check_counters(index, last);
        memory.verify_some(index);
    }
    exception::mask_interrupts();
    timer::disarm_virtual();
}

/// What TPIDR_EL0 holds.
fn mark(index: usize) -> u64 {
    0xa5a5_0000_0000_5a5a | (index as u64) << 16
}

/// Keeps a pattern in the registers until the next tick, parked on even ones, spinning on odd ones.
fn wait_for_tick(index: usize, seen: u64) {
    let seed = (seen + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index as u64;
    // SAFETY: the word lives for ever; the function keeps the calling convention, and this program has no FP state of its own.
    let wrong = unsafe { hold_registers(seed, &raw const TICKS[index], seen, seen & 1) };
    check(
        index,
        "register (1+n: q, 101+n: x, 201: FPSR, 202: FPCR)",
        wrong,
        0,
    );
}

fn check_registers(index: usize) {
    check(index, "TPIDR_EL0", read_sysreg!("tpidr_el0"), mark(index));
    check(
        index,
        "TPIDR_EL1",
        read_sysreg!("tpidr_el1"),
        smp::local_address(index),
    );
    check(
        index,
        "CNTP_CVAL",
        read_sysreg!("cntp_cval_el0"),
        PHYSICAL_MARK,
    );
    check(index, "CNTP_CTL", read_sysreg!("cntp_ctl_el0") & 3, 0);
    let former = exception::mask_interrupts();
    check(
        index,
        "CNTV_CVAL",
        read_sysreg!("cntv_cval_el0"),
        DUE[index].load(Ordering::Relaxed),
    );
    check(index, "CNTV_CTL", read_sysreg!("cntv_ctl_el0") & 3, 1);
    exception::restore_interrupts(former);
}

/// Neither counter may go back; gives what they are now.
fn check_counters(index: usize, last: (u64, u64)) -> (u64, u64) {
    let now = (timer::now(), timer::now_physical());
    if now.0 < last.0 {
        deviation(index, "CNTVCT went back", now.0, last.0);
    }
    if now.1 < last.1 {
        deviation(index, "CNTPCT went back", now.1, last.1);
    }
    now
}

/// A vCPU's share of memory, in which every word is a function of its address and of how often it was rewritten.
struct Memory {
    range: Range,
    /// Where the next chunk begins; what lies before it is one generation ahead.
    next: usize,
    chunk: usize,
    seed: u64,
}

impl Memory {
    fn word(address: usize, seed: u64) -> u64 {
        (address as u64 ^ seed.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn fill(&mut self) {
        for address in (self.range.start..self.range.end).step_by(8) {
            // SAFETY: the range is memory that nothing else uses.
            unsafe { (address as *mut u64).write_volatile(Self::word(address, self.seed)) };
        }
    }

    /// Verifies the next chunk and rewrites it for the next round.
    fn verify_some(&mut self, index: usize) {
        for address in (self.next..self.next + self.chunk).step_by(8) {
            let at = address as *mut u64;
            // SAFETY: the range is memory that nothing else uses.
            let found = unsafe { at.read_volatile() };
            let wanted = Self::word(address, self.seed);
            if found != wanted {
                println!("FAIL count memory at {address:#x}");
                deviation(index, "memory", found, wanted);
            }
            // SAFETY: as above.
            unsafe { at.write_volatile(Self::word(address, self.seed + MAX_CPUS as u64)) };
        }
        self.next += self.chunk;
        if self.next == self.range.end {
            self.next = self.range.start;
            self.seed += MAX_CPUS as u64;
        }
    }
}
