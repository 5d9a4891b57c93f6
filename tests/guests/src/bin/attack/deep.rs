//! The other vCPUs: the first dies and rises all the time, and in the end all of them lose themselves in faults that never end.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use guest::rng::Rng;
use guest::{exception, gic, machine, println, psci, report, smp, timer};

global_asm!(include_str!("deep.S"));

// SAFETY: `deep.S` defines them with these signatures.
unsafe extern "C" {
    fn lose_vectors(address: u64) -> !;
    fn lose_stack(address: u64) -> !;
    fn lose_tables(address: u64) -> !;
    fn lose_translation(address: u64) -> !;
}

/// An address where nothing is, aligned for a table and for vectors.
const NOTHING: u64 = 0x0b00_0000;
/// How long a vCPU may take to die, in milliseconds.
const PATIENCE_MS: u64 = 10_000;

/// Times that the first of the others came up.
static LIVES: AtomicU64 = AtomicU64::new(0);
/// What it is to do in its next life.
static GARBAGE: AtomicU64 = AtomicU64::new(0);

/// Times that the dying vCPU was restarted.
pub fn lives() -> u64 {
    LIVES.load(Ordering::Relaxed)
}

/// What has been done with the others.
pub struct Others {
    cpus: usize,
    started: u64,
    lost: bool,
    /// Its own sequence: how often it is drawn from depends on how fast vCPUs die.
    rng: Rng,
}

impl Others {
    /// For a machine of so many vCPUs.
    pub fn new(cpus: usize, seed: u64) -> Self {
        Self {
            cpus,
            started: 0,
            lost: false,
            rng: Rng::new(seed),
        }
    }

    /// Starts the dying vCPU again when it is dead.
    pub fn revive(&mut self) {
        let dead = self.cpus > 1
            && !self.lost
            && machine::get()
                .is_some_and(|machine| psci::affinity_info(machine.cpus()[1]) == psci::STATE_OFF);
        // Without a hypervisor the start takes effect some time later, so it is counted, too.
        if dead && LIVES.load(Ordering::Acquire) == self.started {
            GARBAGE.store(self.rng.draw(), Ordering::Release);
            if let Err(error) = smp::start(1, life) {
                report::fail("deep", format_args!("CPU_ON says {error}"));
            }
            self.started += 1;
        }
    }

    /// Sends all others where they never come back from, once.
    pub fn lose(&mut self) {
        if self.lost {
            return;
        }
        self.lost = true;
        for index in 1..self.cpus {
            let off = timer::wait_until(PATIENCE_MS, || {
                LIVES.load(Ordering::Acquire) == self.started
                    && machine::get().is_some_and(|machine| {
                        psci::affinity_info(machine.cpus()[index]) == psci::STATE_OFF
                    })
            });
            report::expect("deep", "the dying vCPU is dead", off);
            if let Err(error) = smp::start(index, lost) {
                report::fail("deep", format_args!("CPU_ON of {index} says {error}"));
            }
        }
    }

    /// Says how often, and demands that the vCPU lived at all.
    pub fn tell(&self) {
        if self.cpus > 1 {
            println!(
                "\nDEEP lives={} lost={}",
                lives(),
                if self.lost { self.cpus - 1 } else { 0 }
            );
            report::expect_eq("deep", "lives that began", lives(), self.started);
        }
    }
}

/// One life: suspends with garbage, a timer to wake it, and turns itself off; the entry point given to a power-down is this life's own.
fn life(index: usize) {
    let garbage = GARBAGE.swap(0, Ordering::AcqRel);
    // A life that comes out of a power-down has nothing left to do.
    if garbage != 0 {
        LIVES.fetch_add(1, Ordering::AcqRel);
        exception::mask_interrupts();
        gic::enable(timer::VIRTUAL_PPI);
        timer::arm_virtual(timer::now() + timer::micros(garbage & 0xff));
        let function = if garbage & 0x100 == 0 {
            psci::PSCI_CPU_SUSPEND_64
        } else {
            psci::PSCI_CPU_SUSPEND_32
        };
        let state = if garbage & 0x200 == 0 {
            garbage >> 32
        } else {
            garbage >> 15 & 0x1_0000
        };
        psci::call(function, [state, smp::entry_point(), index as u64]);
        timer::disarm_virtual();
    }
}

/// One of the ways to be lost, another for each vCPU.
fn lost(index: usize) {
    // SAFETY: none returns, and none writes to memory that is not its own.
    unsafe {
        match index % 4 {
            1 => lose_vectors(NOTHING),
            2 => lose_stack(NOTHING),
            3 => lose_tables(NOTHING),
            _ => lose_translation(NOTHING),
        }
    }
}
