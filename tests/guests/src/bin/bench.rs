//! `bench`: what a trap, an IPI and a timer cost, in instructions.
//!
//! Run it under `-icount shift=0,sleep=off`, where a nanosecond of virtual time is one instruction, with two vCPUs. The counter's step is
//! many instructions (16 at 62.5 MHz), so every figure is an average over many rounds, and where a round is timed alone its phase
//! against the counter is varied evenly.
//!
//! The loops are padded so that, without a hypervisor, the first four cost what the peers' public micro-benchmark costs there (12, 14, 15 and 21
//! instructions with GICv3): figures can be laid side by side. IPI and timer figures also hold this program's own path, which is shorter than
//! that benchmark's; compare what a hypervisor adds to the figure of a run without one.
//!
//! Parameters: `rounds=` (16384), rounds of each loop. Output: `BENCH key value` with the keys of [`main`], and `PASS bench`.
#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use guest::{Machine, console, exception, gic, println, report, smp, timer};

/// A virtio-mmio slot's device version register.
const VIRTIO_SLOT: usize = 0x0a00_0008;
/// The SGI that is sent.
const IPI: u32 = 1;
/// Ticks from arming to the due time: long enough to park in any case.
const TIMER_TICKS: u64 = 2_000;
/// Instructions of one tick at 62.5 MHz and one instruction a nanosecond; the phases that rounds go through.
const PHASES: u64 = 16;
/// Rounds of the figures that take an interrupt each.
const INTERRUPT_ROUNDS: u64 = 64 * PHASES;
/// What a lost interrupt may take, in looks at the flag.
const PATIENCE: u64 = 1 << 28;
/// Instructions that let a receiver reach its WFI before it is sent to.
const SETTLE: u64 = 4_000;

/// Set by the handler of the IPI.
static RECEIVED: AtomicBool = AtomicBool::new(false);
/// Times that the parked receiver went to its WFI.
static PARKINGS: AtomicU64 = AtomicU64::new(0);
/// The receiver is to leave.
static STOP: AtomicBool = AtomicBool::new(false);
/// The counter as the timer's handler saw it; 0 before.
static FIRED_AT: AtomicU64 = AtomicU64::new(0);
/// Instructions that the timer's handler waits before it looks at the counter.
static PHASE: AtomicU64 = AtomicU64::new(0);

guest::entry!(main);

fn main(machine: &'static Machine) {
    let rounds = machine.number("rounds", 16_384).max(1);
    loops(rounds);
    timers();
    if machine.cpus().len() > 1 {
        ipis(rounds);
    } else {
        report::skip("ipi", "one vCPU");
    }
    report::conclude("bench");
}

/// Prints tenths of instructions.
fn print(key: &str, ticks: u64, rounds: u64) {
    let tenths =
        u128::from(ticks) * 10_000_000_000 / u128::from(timer::frequency()) / u128::from(rounds);
    println!("BENCH {key} {}.{}", tenths / 10, tenths % 10);
}

/// Times `$rounds` runs of the instructions in a loop; `$pad` fills it up to what the peers' loop has.
macro_rules! time {
    ($rounds:expr, $pad:literal, [$($line:literal),+], $($operand:tt)*) => {{
        let start = timer::now();
        // SAFETY: calls an unknown function, or accesses a device register that may be read at any time.
        unsafe {
            asm!("2:", $($line,)+ concat!(".rept ", $pad), "nop", ".endr", "subs {rounds}, {rounds}, #1", "b.ne 2b",
                rounds = inout(reg) $rounds => _, $($operand)*)
        };
        timer::now() - start
    }};
}

/// `hvc_instructions`, `uart_instructions`, `virtio_read_instructions`, `vgic_mmio_instructions`, `eoi_instructions`.
fn loops(rounds: u64) {
    // SMCCC 1.0 let a call change x0 to x17.
    let ticks = time!(rounds, 8, ["mov w0, #0x4b000000", "hvc #0"],
        out("x0") _, out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _,
        out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,);
    print("hvc_instructions", ticks, rounds);
    let read = |address: usize| time!(rounds, 11, ["ldr {value:w}, [{address}]"], value = out(reg) _, address = in(reg) address,);
    print(
        "uart_instructions",
        read(console::UART + console::FR),
        rounds,
    );
    print("virtio_read_instructions", read(VIRTIO_SLOT), rounds);
    let iidr = gic::distributor() + gic::GICD_IIDR;
    let ticks = time!(rounds, 12, ["ldr {value:w}, [{address}]"], value = out(reg) _, address = in(reg) iidr,);
    print("vgic_mmio_instructions", ticks, rounds);
    let ticks = match gic::cpu_interface() {
        None => {
            time!(rounds, 17, ["msr S3_0_C12_C12_1, {id}", "isb"], id = in(reg) u64::from(gic::SPURIOUS),)
        }
        Some(base) => {
            time!(rounds, 18, ["str {id:w}, [{address}]"], id = in(reg) gic::SPURIOUS, address = in(reg) base + gic::GICC_EOIR,)
        }
    };
    print("eoi_instructions", ticks, rounds);
}

/// Takes the timer's interrupt; looks at the counter first of all, `PHASE` instructions late.
fn timer_handler() {
    let at: u64;
    // SAFETY: jumps over some of its own `nop`s.
    unsafe {
        asm!("adr {target}, 3f", "sub {target}, {target}, {phase}, lsl #2", "br {target}", ".rept 15", "nop", ".endr", "3:",
            "isb", "mrs {at}, cntvct_el0",
            phase = in(reg) PHASE.load(Ordering::Relaxed), target = out(reg) _, at = out(reg) at)
    };
    let id = gic::acknowledge();
    timer::disarm_virtual();
    FIRED_AT.store(at, Ordering::Relaxed);
    gic::end(id);
}

/// Ticks from due to handler, summed over [`INTERRUPT_ROUNDS`]; by Hermite's identity the phases add up to the exact mean.
fn lateness(wait: fn()) -> u64 {
    let mut total = 0;
    for round in 0..INTERRUPT_ROUNDS {
        PHASE.store(round % PHASES, Ordering::Relaxed);
        FIRED_AT.store(0, Ordering::Relaxed);
        let due = timer::now() + TIMER_TICKS;
        timer::arm_virtual(due);
        wait();
        let at = FIRED_AT.load(Ordering::Relaxed);
        report::expect("timer", "fired early", at >= due);
        total += at - due;
    }
    total
}

fn fired() -> bool {
    FIRED_AT.load(Ordering::Relaxed) != 0
}

fn spin_for_timer() {
    for _ in 0..PATIENCE {
        if fired() {
            return;
        }
        relax();
    }
    panic!("the timer never fired");
}

fn park_for_timer() {
    exception::park_until(fired);
}

/// `timer_instructions`, `timer_wfi_instructions`: from the due time to the handler. `timer_round_instructions`: how late the interrupted
/// code goes on, which is what the peers' benchmark calls timer.
fn timers() {
    exception::set_irq_handler(timer_handler);
    gic::enable(timer::VIRTUAL_PPI);
    exception::unmask_interrupts();
    print(
        "timer_instructions",
        lateness(spin_for_timer),
        INTERRUPT_ROUNDS,
    );
    print(
        "timer_wfi_instructions",
        lateness(park_for_timer),
        INTERRUPT_ROUNDS,
    );

    PHASE.store(0, Ordering::Relaxed);
    let start = timer::now();
    for _ in 0..INTERRUPT_ROUNDS {
        FIRED_AT.store(0, Ordering::Relaxed);
        timer::arm_virtual(timer::now() + TIMER_TICKS);
        spin_for_timer();
    }
    let ticks = timer::now() - start - INTERRUPT_ROUNDS * TIMER_TICKS;
    print("timer_round_instructions", ticks, INTERRUPT_ROUNDS);
    exception::mask_interrupts();
    gic::disable(timer::VIRTUAL_PPI);
}

/// The peers' wait: a hint that another may run.
fn relax() {
    // SAFETY: a hint.
    unsafe { asm!("yield", options(nostack)) };
}

fn ipi_handler() {
    let id = gic::acknowledge();
    RECEIVED.store(true, Ordering::Relaxed);
    gic::end(id);
}

/// A receiver that runs.
fn spinning_receiver(_index: usize) {
    exception::unmask_interrupts();
    PARKINGS.store(1, Ordering::Relaxed);
    while !STOP.load(Ordering::Relaxed) {
        relax();
    }
}

/// A receiver that is parked.
fn parked_receiver(_index: usize) {
    while !STOP.load(Ordering::Relaxed) {
        PARKINGS.fetch_add(1, Ordering::Relaxed);
        exception::park();
        exception::unmask_interrupts();
        exception::mask_interrupts();
    }
}

fn begin(receiver: fn(usize)) {
    STOP.store(false, Ordering::Relaxed);
    PARKINGS.store(0, Ordering::Relaxed);
    if let Err(error) = smp::start(1, receiver) {
        panic!("CPU_ON says {error}");
    }
    wait(|| PARKINGS.load(Ordering::Relaxed) != 0);
}

fn finish() {
    STOP.store(true, Ordering::Relaxed);
    gic::send_sgi(IPI, 1);
    report::expect("ipi", "receiver turned off", smp::wait_off(1));
}

/// Waits as the peers' benchmark does.
fn wait(done: impl Fn() -> bool) {
    for _ in 0..PATIENCE {
        if done() {
            return;
        }
        relax();
    }
    panic!("nothing came in time");
}

fn received() -> bool {
    RECEIVED.load(Ordering::Relaxed)
}

/// `ipi_instructions`: sender and receiver added up, since only one vCPU runs at a time under icount. `ipi_wfi_instructions`: the same with a
/// parked receiver.
fn ipis(rounds: u64) {
    exception::set_irq_handler(ipi_handler);
    begin(spinning_receiver);
    let start = timer::now();
    for _ in 0..rounds {
        RECEIVED.store(false, Ordering::Relaxed);
        gic::send_sgi(IPI, 1);
        wait(received);
    }
    print("ipi_instructions", timer::now() - start, rounds);
    finish();

    begin(parked_receiver);
    let mut total = 0;
    for round in 0..INTERRUPT_ROUNDS {
        settle(round);
        RECEIVED.store(false, Ordering::Relaxed);
        let parkings = PARKINGS.load(Ordering::Relaxed);
        let start = timer::now();
        gic::send_sgi(IPI, 1);
        wait(received);
        total += timer::now() - start;
        wait(|| PARKINGS.load(Ordering::Relaxed) > parkings);
    }
    print("ipi_wfi_instructions", total, INTERRUPT_ROUNDS);
    finish();
}

/// Lets the receiver park, and shifts the phase against the counter from round to round.
fn settle(round: u64) {
    for _ in 0..SETTLE / 4 {
        relax();
    }
    // Shifts add up to triangular numbers, which visit every phase equally often.
    // SAFETY: jumps over some of its own `nop`s.
    unsafe {
        asm!("adr {target}, 3f", "sub {target}, {target}, {phase}, lsl #2", "br {target}", ".rept 15", "nop", ".endr", "3:",
            phase = in(reg) round % PHASES, target = out(reg) _)
    };
}
