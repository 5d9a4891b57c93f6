//! What every core does for ever: take the vCPU that is due, run it until it leaves, and see why it left.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use el2_hyp::arch::timer;
use el2_hyp::guest::{Guest, Leave};
use el2_hyp::host::{Host, HostInterrupt};
use el2_hyp::sched::{CoreId, EntityId, Scheduler};
use spin::{Mutex, Once};

use crate::guests::{self, MAX_BOARD_VCPUS};
use crate::host::{self, CoreHost};
use crate::smp::{self, MAX_CORES};

static QUEUE: Once<Mutex<Scheduler<MAX_CORES, MAX_BOARD_VCPUS>>> = Once::new();

/// Whether vCPUs outnumber cores; mirrors the queue, for cores that must not wait for its lock.
static SHARED: AtomicBool = AtomicBool::new(false);

/// The entity that each core runs, plus one, for the report of a fault.
static CURRENT: [AtomicU32; MAX_CORES] = [const { AtomicU32::new(0) }; MAX_CORES];

/// Makes the queue, for the cores that have come up.
pub fn initialise() {
    QUEUE.call_once(|| Mutex::new(Scheduler::new(smp::running(), timer::frequency())));
}

fn queue() -> spin::MutexGuard<'static, Scheduler<MAX_CORES, MAX_BOARD_VCPUS>> {
    QUEUE
        .get()
        .expect("the queue is made before any core looks at it")
        .lock()
}

/// The guest and vCPU that a core has loaded.
pub fn current_guest(core: usize) -> Option<(usize, usize)> {
    let entity = CURRENT[core].load(Ordering::Relaxed).checked_sub(1)?;
    guests::of_entity(entity as u16).map(|(slot, vcpu)| (slot.guest.id, vcpu))
}

/// Whether vCPUs outnumber cores.
pub fn is_shared() -> bool {
    SHARED.load(Ordering::Relaxed)
}

/// When this core must look at the queue again.
pub fn next_event(core: u8) -> Option<u64> {
    queue().next_event(CoreId(core), timer::now())
}

/// Whether what this core runs has had its turn. Timers of parked vCPUs that this core keeps are looked after by the way.
pub fn should_yield(host: &CoreHost) -> bool {
    let now = timer::now();
    let mut queue = queue();
    let core = CoreId(host.core());
    let kicks = queue.expire(core, now);
    let answer = queue.should_yield(core, now);
    drop(queue);
    kicks.for_each(|other| host.reschedule(other.0));
    answer
}

/// A vCPU that may be parked has something to look at.
pub fn wake(host: &CoreHost, guest: &Guest, vcpu: usize) {
    let kick = queue().wake(guests::entity_of(guest.id, vcpu), timer::now());
    if let Some(core) = kick {
        host.reschedule(core.0);
    }
}

/// A vCPU that was off is to begin.
pub fn turn_on(host: &CoreHost, guest: &Guest, vcpu: usize) {
    let mut queue = queue();
    let kick = queue.turn_on(guests::entity_of(guest.id, vcpu), timer::now());
    update_shared(queue.is_shared());
    drop(queue);
    if let Some(core) = kick {
        host.reschedule(core.0);
    }
}

/// When sharing begins or ends, every core loads its vCPU anew with waits trapped or not.
fn update_shared(shared: bool) {
    if SHARED.swap(shared, Ordering::Relaxed) != shared {
        host::reschedule_all();
    }
}

/// Runs this core.
pub fn run(host: &CoreHost) -> ! {
    let core = CoreId(host.core());
    loop {
        if guests::start_next(host) {
            continue;
        }
        host.clear_reschedule();
        let now = timer::now();
        let mut queue = queue();
        let kicks = queue.expire(core, now);
        let picked = queue.pick(core, now);
        drop(queue);
        kicks.for_each(|other| host.reschedule(other.0));
        match picked {
            Some(entity) => run_entity(host, entity),
            None => idle(host),
        }
    }
}

fn run_entity(host: &CoreHost, entity: EntityId) {
    let (slot, vcpu) = guests::of_entity(entity.0).expect("only vCPUs of guests are in the queue");
    let current = &CURRENT[usize::from(host.core())];
    current.store(u32::from(entity.0) + 1, Ordering::Relaxed);
    host.note_shared(is_shared());
    host.rearm();
    guests::note_first_entry();
    let leave = slot.guest.run(host, vcpu);
    current.store(0, Ordering::Relaxed);

    let now = timer::now();
    let mut queue = queue();
    match leave {
        Leave::Preempted => queue.preempt(entity, now),
        Leave::Parked(until) => {
            queue.park(entity, now, until);
            // Asked between the last look and here: see `Vcpu::ask`.
            if slot.guest.vcpus()[vcpu].has_attention() {
                queue.wake(entity, now);
            }
        }
        Leave::Off => {
            queue.off(entity, now);
            // Turned on again between the call and here.
            if slot.guest.is_on_pending(vcpu) {
                queue.turn_on(entity, now);
            }
            update_shared(queue.is_shared());
        }
        Leave::Stopped => {
            queue.off(entity, now);
            update_shared(queue.is_shared());
            let last = queue.all_off(slot.entities());
            drop(queue);
            if last {
                guests::finish(host, slot);
            }
        }
    }
}

/// Waits for an interrupt and takes what has come.
fn idle(host: &CoreHost) {
    host.rearm();
    // SAFETY: interrupts are masked at EL2, so that one that is pending only ends the wait.
    unsafe { core::arch::asm!("dsb sy", "wfi", options(nostack)) };
    if host.interrupt() == HostInterrupt::VirtualTimer {
        // It came too late for a vCPU that has left; active, it would keep the next one's from coming.
        host.deactivate(host::virtual_timer());
    }
}
