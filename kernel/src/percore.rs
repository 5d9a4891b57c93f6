//! What each core keeps for itself and others may look at or ask for.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use el2_hyp::arch::config;
use el2_hyp::published::Laps;
use el2_hyp::sched::EntityId;

use crate::interrupts;
use crate::smp::{self, MAX_CORES};

/// One core's.
pub struct PerCore {
    /// Somebody wants this core to look at the queue.
    pub reschedule: AtomicBool,
    /// The console line has something for this core to see to.
    pub console: AtomicBool,
    /// When the loaded vCPU needs EL2's timer; `u64::MAX` for never.
    pub guest_deadline: AtomicU64,
    /// When the core, which has worked, may work again, after a vCPU's turn; `u64::MAX` if it has not.
    pub work_at: AtomicU64,
    /// When to look whether the virtual timer's interrupt is still active; `u64::MAX` for never.
    pub timer_look: AtomicU64,
    /// Whether waits of the loaded vCPU trap.
    pub shared: AtomicBool,
    /// The vCPU that is loaded, plus one; zero for none.
    current: AtomicU32,
    /// EL2's instructions on this core when it was last asked.
    instructions: AtomicU64,
}

static CORES: [PerCore; MAX_CORES] = [const {
    PerCore {
        reschedule: AtomicBool::new(false),
        console: AtomicBool::new(false),
        guest_deadline: AtomicU64::new(u64::MAX),
        work_at: AtomicU64::new(u64::MAX),
        timer_look: AtomicU64::new(u64::MAX),
        shared: AtomicBool::new(false),
        current: AtomicU32::new(0),
        instructions: AtomicU64::new(0),
    }
}; MAX_CORES];

/// How often each core has had no guest in hand but the one that it runs or puts into memory.
pub static LAPS: Laps<MAX_CORES> = Laps::new();

/// A core's.
pub fn of(core: usize) -> &'static PerCore {
    &CORES[core]
}

impl PerCore {
    /// The vCPU that is loaded.
    pub fn current(&self) -> Option<EntityId> {
        let entity = self.current.load(Ordering::Relaxed).checked_sub(1)?;
        Some(EntityId(entity as u16))
    }

    /// Says which vCPU is loaded.
    pub fn set_current(&self, entity: Option<EntityId>) {
        let value = entity.map_or(0, |entity| u32::from(entity.0) + 1);
        self.current.store(value, Ordering::Relaxed);
    }
}

/// Makes a core, this one perhaps, look at the queue.
pub fn reschedule(core: usize) {
    CORES[core].reschedule.store(true, Ordering::SeqCst);
    if core != smp::this_core() {
        interrupts::kick(core);
    }
}

/// Makes every core look at the queue.
pub fn reschedule_all() {
    (0..smp::running()).for_each(reschedule);
}

/// What each core has spent at EL2, in instructions, as it last said; asks for newer figures.
pub fn instructions() -> impl Iterator<Item = u64> {
    publish_instructions();
    interrupts::kick_others();
    CORES[..smp::running()]
        .iter()
        .map(|core| core.instructions.load(Ordering::Relaxed))
}

/// This core says what it has spent at EL2. The hardware counts modulo 2^32.
pub fn publish_instructions() {
    if let Some(count) = config::el2_instructions() {
        let total = &CORES[smp::this_core()].instructions;
        let former = total.load(Ordering::Relaxed);
        let more = u64::from(count.wrapping_sub(former as u32));
        total.store(former + more, Ordering::Relaxed);
    }
}
