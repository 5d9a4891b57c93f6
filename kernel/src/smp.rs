//! The board's cores: their numbers, and bringing up the others.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use platform::tree::{StartMethod, Tree};

use crate::boot;

pub use crate::boot::MAX_CORES;

/// The affinity of each core by its number; `start.S` looks itself up here after a spin table.
#[unsafe(no_mangle)]
static core_affinities: [AtomicU64; MAX_CORES] = [const { AtomicU64::new(u64::MAX) }; MAX_CORES];

static RUNNING: AtomicUsize = AtomicUsize::new(1);

/// The number of this core, 0 for the boot core.
pub fn this_core() -> usize {
    let core;
    // SAFETY: TPIDR_EL2 holds the core's number from its first instructions on.
    unsafe {
        core::arch::asm!("mrs {}, tpidr_el2", out(reg) core, options(nomem, nostack, preserves_flags))
    };
    core
}

/// How many cores have come up.
pub fn running() -> usize {
    RUNNING.load(Ordering::Acquire)
}

/// A secondary core tells that it is up.
pub fn arrived() {
    RUNNING.fetch_add(1, Ordering::AcqRel);
}

/// Lets others go first while this core waits for one of them. Unlike [`core::hint::spin_loop`], which is a barrier, this also makes an
/// emulator that runs its cores in turn go to the next.
pub fn relax() {
    // SAFETY: a hint.
    unsafe { core::arch::asm!("yield", options(nomem, nostack, preserves_flags)) };
}

/// How long a started core may take to come up, in milliseconds.
const START_PATIENCE: u64 = 1000;

/// Starts the other cores, one after another, and waits for each. Cores that do not come are told and left out. The numbers are
/// dense: a core gets the next number only when the one before it is up.
pub fn start_others(tree: &Tree) {
    let own = aarch64_mpidr();
    core_affinities[0].store(own, Ordering::Relaxed);
    for core in tree.cores.iter().filter(|core| core.affinity.get() != own) {
        let number = running();
        if number == MAX_CORES {
            crate::warn!(
                "core {:#x} stays off: {MAX_CORES} cores are used at most",
                core.affinity.get()
            );
            continue;
        }
        core_affinities[number].store(core.affinity.get(), Ordering::Release);
        crate::memory::publish_to_uncached(&core_affinities);
        let entry = match core.start {
            StartMethod::SpinTable { .. } => boot::spin_entry as *const () as u64,
            _ => boot::secondary_start as *const () as u64,
        };
        // SAFETY: both entries take a core in the state that PSCI and the spin table leave it in.
        let started = unsafe { platform::smp::start(core, tree.psci, entry, number as u64) };
        if let Err(error) = started {
            crate::warn!("core {:#x} does not start: {error}", core.affinity.get());
        } else if !wait_for(number + 1) {
            crate::warn!(
                "core {:#x} was started and does not come up",
                core.affinity.get()
            );
            // It may still come with this number: give it to nobody else.
            return;
        }
    }
}

fn wait_for(count: usize) -> bool {
    let deadline =
        el2_hyp::arch::timer::now() + el2_hyp::arch::timer::frequency() * START_PATIENCE / 1000;
    while running() < count {
        if el2_hyp::arch::timer::now() > deadline {
            return false;
        }
        relax();
    }
    true
}

fn aarch64_mpidr() -> u64 {
    let mpidr: u64;
    // SAFETY: reading an ID register has no effect.
    unsafe {
        core::arch::asm!("mrs {}, mpidr_el1", out(reg) mpidr, options(nomem, nostack, preserves_flags))
    };
    platform::tree::Affinity::from_mpidr(mpidr).get()
}
