//! `timers`: vCPUs set their virtual and physical timers to random times and park; nothing may fire early, be lost, or be slow without being told.
//!
//! Parameters: `rounds=` (200) for each vCPU, `busy=` (0): so many vCPUs, the last ones, spin instead, `seed=` (1), `max_us=` (0: any): a
//! lateness that fails. Output: `TIMERS vcpu fired=… max_late_us=… mean_late_us=…` for every vCPU, then `PASS timers max_late_us=…`.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use guest::rng::Rng;
use guest::start::MAX_CPUS;
use guest::{Machine, exception, gic, println, read_sysreg, report, smp, timer};

/// The longest time that a timer is set to, in microseconds.
const LONGEST_US: u64 = 20_000;
/// Beyond its due time a timer is given so long before it counts as lost, in milliseconds.
const LOST_MS: u64 = 5_000;

/// ISTATUS in CNTx_CTL_EL0.
const DUE: u64 = 4;

/// Which timer.
#[derive(Clone, Copy, Debug)]
enum Which {
    Virtual,
    Physical,
}

/// One vCPU's record: the counter as each timer's handler saw it (0 before), and the statistics.
#[repr(align(64))]
struct Record {
    virtual_at: AtomicU64,
    physical_at: AtomicU64,
    fired: AtomicU64,
    total: AtomicU64,
    worst: AtomicU64,
}

static RECORDS: [Record; MAX_CPUS] = [const {
    Record {
        virtual_at: AtomicU64::new(0),
        physical_at: AtomicU64::new(0),
        fired: AtomicU64::new(0),
        total: AtomicU64::new(0),
        worst: AtomicU64::new(0),
    }
}; MAX_CPUS];

static ROUNDS: AtomicU64 = AtomicU64::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);
static FINISHED: AtomicUsize = AtomicUsize::new(0);
static STOP: AtomicBool = AtomicBool::new(false);

guest::entry!(main);

fn main(machine: &'static Machine) {
    let cpus = machine.cpus().len();
    let workers = cpus - (machine.number("busy", 0) as usize).min(cpus - 1);
    ROUNDS.store(machine.number("rounds", 200), Ordering::Relaxed);
    SEED.store(machine.number("seed", 1), Ordering::Relaxed);
    exception::set_irq_handler(handler);
    for index in 1..cpus {
        let program = if index < workers { work } else { spin };
        if let Err(error) = smp::start(index, program) {
            report::fail("timers", format_args!("CPU_ON of {index} says {error}"));
        }
    }
    work(0);
    let patience = ROUNDS.load(Ordering::Relaxed) * LOST_MS;
    let all = timer::wait_until(patience, || FINISHED.load(Ordering::Acquire) == workers);
    report::expect("timers", "all vCPUs finished", all);
    STOP.store(true, Ordering::Relaxed);
    conclude(workers, machine.number("max_us", 0));
}

fn conclude(workers: usize, limit: u64) {
    let mut worst_of_all = 0;
    for (index, record) in RECORDS.iter().enumerate().take(workers) {
        let fired = record.fired.load(Ordering::Relaxed);
        let worst = timer::to_micros(record.worst.load(Ordering::Relaxed));
        let mean = timer::to_micros(record.total.load(Ordering::Relaxed)) / fired.max(1);
        println!("TIMERS {index} fired={fired} max_late_us={worst} mean_late_us={mean}");
        worst_of_all = worst.max(worst_of_all);
    }
    if limit != 0 && worst_of_all > limit {
        report::fail(
            "timers",
            format_args!("{worst_of_all} us late, at most {limit} allowed"),
        );
    }
    match report::failures() {
        0 => println!("PASS timers max_late_us={worst_of_all}"),
        count => println!("FAIL timers failures={count}"),
    }
}

fn spin(_index: usize) {
    while !STOP.load(Ordering::Relaxed) {
        core::hint::spin_loop();
    }
}

/// Notes when a timer came, and turns it off. An interrupt whose timer is not due counts for nothing: its line fell on the way.
fn handler() {
    let id = gic::acknowledge();
    let record = &RECORDS[smp::this_cpu()];
    match id {
        timer::VIRTUAL_PPI if read_sysreg!("cntv_ctl_el0") & DUE == 0 => {}
        timer::PHYSICAL_PPI if read_sysreg!("cntp_ctl_el0") & DUE == 0 => {}
        timer::VIRTUAL_PPI => {
            record.virtual_at.store(timer::now(), Ordering::Relaxed);
            timer::disarm_virtual();
        }
        timer::PHYSICAL_PPI => {
            record
                .physical_at
                .store(timer::now_physical(), Ordering::Relaxed);
            timer::disarm_physical();
        }
        _ => {}
    }
    if id < gic::SPECIAL {
        gic::end(id);
    }
}

fn work(index: usize) {
    let mut rng = Rng::new(SEED.load(Ordering::Relaxed) * MAX_CPUS as u64 + index as u64);
    gic::enable(timer::VIRTUAL_PPI);
    gic::enable(timer::PHYSICAL_PPI);
    exception::unmask_interrupts();
    for _ in 0..ROUNDS.load(Ordering::Relaxed) {
        match rng.below(3) {
            0 => one(index, Which::Virtual, rng.below(LONGEST_US)),
            1 => one(index, Which::Physical, rng.below(LONGEST_US)),
            _ => both(index, rng.below(LONGEST_US), rng.below(LONGEST_US)),
        }
    }
    exception::mask_interrupts();
    FINISHED.fetch_add(1, Ordering::AcqRel);
}

/// Sets one timer and parks, the other timer standing by to notice a loss.
fn one(index: usize, which: Which, micros: u64) {
    let record = &RECORDS[index];
    record.virtual_at.store(0, Ordering::Relaxed);
    record.physical_at.store(0, Ordering::Relaxed);
    let lost = micros + LOST_MS * 1_000;
    let (due, fired) = match which {
        Which::Virtual => {
            timer::arm_physical(timer::now_physical() + timer::micros(lost));
            (arm(which, micros), &record.virtual_at)
        }
        Which::Physical => {
            timer::arm_virtual(timer::now() + timer::micros(lost));
            (arm(which, micros), &record.physical_at)
        }
    };
    exception::park_until(|| {
        record.virtual_at.load(Ordering::Relaxed) | record.physical_at.load(Ordering::Relaxed) != 0
    });
    timer::disarm_virtual();
    timer::disarm_physical();
    judge(index, which, due, fired.load(Ordering::Relaxed));
}

/// Sets both timers and parks until both have fired; the two losses would show as a hang.
fn both(index: usize, virtual_us: u64, physical_us: u64) {
    let record = &RECORDS[index];
    record.virtual_at.store(0, Ordering::Relaxed);
    record.physical_at.store(0, Ordering::Relaxed);
    let virtual_due = arm(Which::Virtual, virtual_us);
    let physical_due = arm(Which::Physical, physical_us);
    exception::park_until(|| {
        record.virtual_at.load(Ordering::Relaxed) != 0
            && record.physical_at.load(Ordering::Relaxed) != 0
    });
    judge(
        index,
        Which::Virtual,
        virtual_due,
        record.virtual_at.load(Ordering::Relaxed),
    );
    judge(
        index,
        Which::Physical,
        physical_due,
        record.physical_at.load(Ordering::Relaxed),
    );
}

fn arm(which: Which, micros: u64) -> u64 {
    match which {
        Which::Virtual => {
            let due = timer::now() + timer::micros(micros);
            timer::arm_virtual(due);
            due
        }
        Which::Physical => {
            let due = timer::now_physical() + timer::micros(micros);
            timer::arm_physical(due);
            due
        }
    }
}

fn judge(index: usize, which: Which, due: u64, at: u64) {
    let record = &RECORDS[index];
    if at == 0 {
        report::fail("timers", format_args!("vCPU {index}: lost"));
    } else if at < due {
        report::fail(
            "timers",
            format_args!("vCPU {index}: {} us early", timer::to_micros(due - at)),
        );
    } else if at - due > timer::micros(LOST_MS * 1_000) / 2 {
        // It fired only because something else woke the vCPU.
        let late = timer::to_micros(at - due);
        report::fail(
            "timers",
            format_args!("vCPU {index}: {which:?} timer lost, {late} us late"),
        );
    } else {
        record.fired.fetch_add(1, Ordering::Relaxed);
        record.total.fetch_add(at - due, Ordering::Relaxed);
        record.worst.fetch_max(at - due, Ordering::Relaxed);
    }
}
