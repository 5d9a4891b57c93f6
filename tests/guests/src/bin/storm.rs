//! `storm`: all vCPUs call each other by SGI, as a kernel's cross-calls do, some spinning and some parked.
//!
//! A call is a number in a mailbox of sender and target; the target's handler answers every mailbox that it finds changed. Between calls a
//! vCPU now and then parks until its timer or a call wakes it.
//!
//! Parameters: `secs=` (10), `seed=` (1). Output: each second `STORM second calls worst_us`, at the end `PASS storm calls=… worst_us=…`.
//! `FAIL storm` when a call is unanswered for two seconds: who called whom, with which SGI.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use guest::rng::Rng;
use guest::start::MAX_CPUS;
use guest::{Machine, exception, gic, machine, println, report, smp, timer};

/// A call that takes longer is a stall, in milliseconds.
const STALL_MS: u64 = 2_000;
/// SGIs that calls use.
const SGIS: u64 = 8;
/// A vCPU parks after a call once in so many.
const PARK_ONE_IN: u64 = 8;
/// The longest that a vCPU parks without being called, in microseconds.
const PARK_US: u64 = 500;

/// The calls of one vCPU: the newest number for each target, and what each target has answered.
#[repr(align(64))]
struct Mailbox {
    asked: [AtomicU64; MAX_CPUS],
    answered: [AtomicU64; MAX_CPUS],
    calls: AtomicU64,
    worst: AtomicU64,
}

static MAILBOXES: [Mailbox; MAX_CPUS] = [const {
    Mailbox {
        asked: [const { AtomicU64::new(0) }; MAX_CPUS],
        answered: [const { AtomicU64::new(0) }; MAX_CPUS],
        calls: AtomicU64::new(0),
        worst: AtomicU64::new(0),
    }
}; MAX_CPUS];

static STOP: AtomicBool = AtomicBool::new(false);
/// vCPUs that send no more; they answer until all of them do.
static FINISHED: AtomicUsize = AtomicUsize::new(0);
static CPUS: AtomicUsize = AtomicUsize::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);

guest::entry!(main);

fn main(machine: &'static Machine) {
    let cpus = machine.cpus().len();
    if cpus < 2 {
        report::skip("storm", "one vCPU");
        return;
    }
    CPUS.store(cpus, Ordering::Relaxed);
    SEED.store(machine.number("seed", 1), Ordering::Relaxed);
    exception::set_irq_handler(handler);
    for index in 1..cpus {
        if let Err(error) = smp::start(index, caller) {
            report::fail("storm", format_args!("CPU_ON of {index} says {error}"));
            return;
        }
    }
    run(0, machine.number("secs", 10));
    for index in 1..cpus {
        report::expect("storm", "vCPU turned off", smp::wait_off(index));
    }
    match report::failures() {
        0 => println!("PASS storm calls={} worst_us={}", calls(), worst()),
        count => println!("FAIL storm failures={count}"),
    }
}

fn caller(index: usize) {
    run(index, 0);
}

fn calls() -> u64 {
    MAILBOXES
        .iter()
        .map(|mailbox| mailbox.calls.load(Ordering::Relaxed))
        .sum()
}

fn worst() -> u64 {
    timer::to_micros(
        MAILBOXES
            .iter()
            .map(|mailbox| mailbox.worst.load(Ordering::Relaxed))
            .max()
            .unwrap_or(0),
    )
}

/// Answers all calls to this vCPU; a timer's interrupt has done its work by waking it.
fn handler() {
    let id = gic::acknowledge();
    if id & 0x3ff >= gic::SPECIAL {
        return;
    }
    if id == timer::VIRTUAL_PPI {
        timer::disarm_virtual();
    }
    let me = smp::this_cpu();
    for caller in &MAILBOXES {
        let asked = caller.asked[me].load(Ordering::Acquire);
        caller.answered[me].store(asked, Ordering::Release);
    }
    gic::end(id);
}

/// Calls, parks and answers; vCPU 0 also keeps the time.
fn run(me: usize, seconds: u64) {
    let cpus = CPUS.load(Ordering::Relaxed);
    let mut rng = Rng::new(SEED.load(Ordering::Relaxed) * MAX_CPUS as u64 + me as u64);
    gic::enable(timer::VIRTUAL_PPI);
    exception::unmask_interrupts();
    let mut next = timer::now() + timer::frequency();
    let mut second = 0;
    while !STOP.load(Ordering::Relaxed) {
        let target = (me + 1 + rng.below(cpus as u64 - 1) as usize) % cpus;
        if !call(me, target, rng.below(SGIS) as u32) {
            STOP.store(true, Ordering::Relaxed);
        }
        if rng.one_in(PARK_ONE_IN) {
            park(1 + rng.below(PARK_US));
        }
        if me == 0 && timer::now() >= next {
            next += timer::frequency();
            second += 1;
            println!("STORM {second} {} {}", calls(), worst());
            if second >= seconds {
                STOP.store(true, Ordering::Relaxed);
            }
        }
    }
    FINISHED.fetch_add(1, Ordering::AcqRel);
    let all = timer::wait_until(2 * STALL_MS, || FINISHED.load(Ordering::Acquire) == cpus);
    report::expect("storm", "all vCPUs finished", all);
    exception::mask_interrupts();
    timer::disarm_virtual();
}

/// One call; says whether it was answered in time.
fn call(me: usize, target: usize, sgi: u32) -> bool {
    let mailbox = &MAILBOXES[me];
    let number = mailbox.asked[target].load(Ordering::Relaxed) + 1;
    let start = timer::now();
    mailbox.asked[target].store(number, Ordering::Release);
    gic::send_sgi(sgi, target);
    let answered = timer::wait_until(STALL_MS, || {
        mailbox.answered[target].load(Ordering::Acquire) == number
    });
    mailbox
        .worst
        .fetch_max(timer::now() - start, Ordering::Relaxed);
    mailbox.calls.fetch_add(1, Ordering::Relaxed);
    if !answered {
        let mpidr = machine::get().map_or(0, |machine| machine.cpus()[target]);
        report::fail(
            "storm",
            format_args!("vCPU {me}: SGI {sgi} to {target} (mpidr {mpidr:#x}) unanswered"),
        );
    }
    answered
}

/// Parks for so many microseconds, or until called: whatever interrupt comes first.
fn park(micros: u64) {
    // Masked first: a timer that fires before the wait begins must end it, not pass before it.
    let former = exception::mask_interrupts();
    timer::arm_virtual(timer::now() + timer::micros(micros));
    exception::park();
    exception::restore_interrupts(former);
}
