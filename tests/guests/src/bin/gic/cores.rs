//! What goes from one vCPU to another.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use guest::machine::GicFrames;
use guest::{Machine, exception, gic, mmio, report, smp, timer, write_sysreg};

use crate::{demand, entry, forget, logged, logging_handler, prepare, spi};

/// The SGI of these cases.
const SGI: u32 = 6;
/// How long another vCPU may take, in milliseconds.
const PATIENCE_MS: u64 = 5_000;

/// The others are to turn themselves off.
static STOP: AtomicBool = AtomicBool::new(false);
/// A bit for each vCPU that is up.
static UP: AtomicU64 = AtomicU64::new(0);
/// A bit for each vCPU that is to send [`SGI`] to vCPU 0.
static SEND: AtomicU64 = AtomicU64::new(0);
/// How often the others have sent it.
static SENT: AtomicU64 = AtomicU64::new(0);
/// The others spin instead of parking.
static SPIN: AtomicBool = AtomicBool::new(false);

/// Runs the cases.
pub fn run(machine: &'static Machine) {
    let cpus = machine.cpus().len();
    if cpus < 2 {
        report::skip("cores", "one vCPU");
        return;
    }
    exception::set_irq_handler(logging_handler);
    for index in 1..cpus {
        if let Err(error) = smp::start(index, other) {
            report::fail("cores", format_args!("CPU_ON of {index} says {error}"));
            return;
        }
    }
    let everyone = (1 << cpus) - 2;
    report::expect(
        "cores",
        "all are up",
        wait(|| UP.load(Ordering::Acquire) == everyone),
    );
    for spin in [false, true] {
        SPIN.store(spin, Ordering::Release);
        report::case(
            if spin {
                "sgi-to-spinning"
            } else {
                "sgi-to-parked"
            },
            |name| sgi(name, cpus),
        );
        report::case(
            if spin {
                "spi-to-spinning"
            } else {
                "spi-to-parked"
            },
            |name| targets(name, cpus),
        );
    }
    SPIN.store(false, Ordering::Release);
    report::case("sgi-sources", |name| sources(name, cpus));
    report::case("sgi-to-all-others", |name| broadcast(name, cpus));
    report::case("retarget-pending", retarget);
    report::case("pend-for-another", |name| remote(name, machine));
    report::case("wake-from-wfi", wake);
    STOP.store(true, Ordering::Release);
    for index in 1..cpus {
        gic::send_sgi(SGI, index);
        report::expect("cores", "turned off", smp::wait_off(index));
    }
}

fn wait(done: impl FnMut() -> bool) -> bool {
    timer::wait_until(PATIENCE_MS, done)
}

/// What the others do: take interrupts, and send when they are told to.
fn other(index: usize) {
    UP.fetch_or(1 << index, Ordering::AcqRel);
    while !STOP.load(Ordering::Acquire) {
        // Taken back first: once the SGI is out the next request may come.
        if SEND.fetch_and(!(1 << index), Ordering::AcqRel) >> index & 1 != 0 {
            gic::send_sgi(SGI, 0);
            SENT.fetch_add(1, Ordering::AcqRel);
        }
        if SPIN.load(Ordering::Acquire) {
            exception::unmask_interrupts();
            core::hint::spin_loop();
        } else {
            exception::mask_interrupts();
            exception::park();
            exception::unmask_interrupts();
            core::hint::spin_loop();
        }
        exception::mask_interrupts();
    }
}

/// What the log has for interrupt `id` taken by vCPU `cpu`.
fn on(cpu: usize, id: u32) -> u32 {
    id | (cpu as u32) << 24
}

fn sgi(name: &str, cpus: usize) {
    for index in 1..cpus {
        for id in [0, SGI, 15] {
            forget();
            gic::send_sgi(id, index);
            report::expect(name, "arrives", wait(|| logged() == 1));
            report::expect_eq(name, "at its target", entry(0), on(index, id));
        }
    }
    forget();
}

fn targets(name: &str, cpus: usize) {
    for index in 1..cpus {
        forget();
        prepare(spi(0), 0x80);
        gic::set_target(spi(0), index);
        gic::set_pending(spi(0));
        report::expect(name, "arrives", wait(|| logged() == 1));
        report::expect_eq(name, "at its target", entry(0), on(index, spi(0)));
    }
    prepare(spi(0), 0x80);
    forget();
    gic::set_pending(spi(0));
    demand(name, "back at vCPU 0", &[on(0, spi(0))]);
}

/// The same SGI from several vCPUs: GICv2 keeps the sources apart, GICv3 has one pending state.
fn sources(name: &str, cpus: usize) {
    forget();
    let senders = (1 << cpus) - 2;
    SENT.store(0, Ordering::Release);
    SEND.store(senders, Ordering::Release);
    for index in 1..cpus {
        gic::send_sgi(SGI - 1, index);
    }
    report::expect(
        name,
        "all have sent",
        wait(|| SENT.load(Ordering::Acquire) == cpus as u64 - 1 && logged() == cpus - 1),
    );
    report::expect(name, "pending", gic::is_pending(SGI));
    forget();
    if gic::is_v3() {
        demand(name, "once", &[SGI]);
        return;
    }
    let sources = mmio::read32(gic::distributor() + gic::SPENDSGIR + (SGI as usize & !3))
        >> (SGI % 4 * 8)
        & 0xff;
    report::expect_eq(name, "GICD_SPENDSGIR", u64::from(sources), senders);
    crate::receive(cpus - 1);
    report::expect_eq(
        name,
        "once for each source",
        logged() as u64,
        cpus as u64 - 1,
    );
    let mut seen = 0;
    for at in 0..logged().min(cpus - 1) {
        report::expect_eq(name, "the SGI", entry(at) & 0x3ff, SGI);
        seen |= 1 << (entry(at) >> 10 & 7);
    }
    report::expect_eq(name, "every source", seen, senders);
    pending_sources(name);
}

/// GICv2: sources set and cleared by register.
fn pending_sources(name: &str) {
    let word = SGI as usize & !3;
    let shift = SGI % 4 * 8;
    let base = gic::distributor();
    forget();
    mmio::write32(base + gic::SPENDSGIR + word, 3 << shift);
    mmio::write32(base + gic::CPENDSGIR + word, 2 << shift);
    report::expect_eq(
        name,
        "GICD_CPENDSGIR",
        mmio::read32(base + gic::CPENDSGIR + word) >> shift & 0xff,
        1,
    );
    demand(name, "the source that is left", &[SGI]);
}

fn broadcast(name: &str, cpus: usize) {
    forget();
    if gic::is_v3() {
        write_sysreg!("S3_0_C12_C11_5", 1 << 40 | u64::from(SGI) << 24);
    } else {
        mmio::write32(gic::distributor() + gic::GICD_SGIR, 1 << 24 | SGI);
    }
    report::expect(
        name,
        "arrives at every other",
        wait(|| logged() == cpus - 1),
    );
    crate::receive(cpus - 1);
    report::expect_eq(
        name,
        "and not at the sender",
        logged() as u64,
        cpus as u64 - 1,
    );
    let seen = (0..logged().min(cpus)).fold(0, |seen, at| seen | 1_u64 << (entry(at) >> 24));
    report::expect_eq(name, "each once", seen, (1 << cpus) - 2);
    if !gic::is_v3() {
        forget();
        mmio::write32(gic::distributor() + gic::GICD_SGIR, 2 << 24 | SGI);
        demand(name, "to oneself", &[SGI]);
    }
}

/// Pending at one vCPU that masks it, then sent to another.
fn retarget(name: &str) {
    forget();
    prepare(spi(1), 0x80);
    gic::set_pending(spi(1));
    gic::set_target(spi(1), 1);
    report::expect(name, "arrives", wait(|| logged() == 1));
    report::expect_eq(name, "at the new target", entry(0), on(1, spi(1)));
    demand(name, "and only there", &[on(1, spi(1))]);
    gic::set_target(spi(1), 0);
}

/// GICv3: an SGI made pending in another vCPU's redistributor.
fn remote(name: &str, machine: &Machine) {
    let GicFrames::V3 { redistributors, .. } = machine.gic else {
        return;
    };
    // The region lists the vCPUs in order on both machines.
    let base = redistributors[0].0 + 0x2_0000;
    let mpidr = machine.cpus()[1];
    let affinity = (mpidr >> 32 & 0xff) << 24 | mpidr & 0xff_ffff;
    report::expect_eq(
        name,
        "GICR_TYPER of vCPU 1",
        mmio::read64(base + 8) >> 32,
        affinity,
    );
    forget();
    mmio::write32(base + 0x1_0000 + gic::ISPENDR, 1 << SGI);
    report::expect(name, "arrives", wait(|| logged() == 1));
    report::expect_eq(name, "at its vCPU", entry(0), on(1, SGI));
}

/// Parks with interrupts masked: the SGI of another vCPU wakes, and is taken only when unmasked.
fn wake(name: &str) {
    for _ in 0..20 {
        // Before the order is sent: a quick answer must not be taken in between.
        exception::mask_interrupts();
        forget();
        SEND.store(2, Ordering::Release);
        gic::send_sgi(SGI - 1, 1);
        // The timer ends the wait when the SGI does not.
        let end = timer::now() + timer::micros(PATIENCE_MS * 1_000);
        gic::enable(timer::VIRTUAL_PPI);
        timer::arm_virtual(end);
        while !gic::is_pending(SGI) && timer::now() < end {
            exception::park();
        }
        timer::disarm_virtual();
        gic::disable(timer::VIRTUAL_PPI);
        report::expect(name, "pending while parked", gic::is_pending(SGI));
        report::expect(name, "vCPU 1 took its own", wait(|| logged() == 1));
        forget();
        demand(name, "taken when unmasked", &[sent_by_one()]);
    }
}

/// What an acknowledge gives for [`SGI`] sent by vCPU 1.
fn sent_by_one() -> u32 {
    if gic::is_v3() { SGI } else { SGI | 1 << 10 }
}
