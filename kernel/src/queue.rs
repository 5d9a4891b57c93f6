//! The board's queue of vCPUs, behind its lock; the rules are [`el2_hyp::sched`]'s.
//!
//! A vCPU's place in the table follows from its guest's place and its own number.

use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use el2_hyp::arch::timer;
use el2_hyp::lock::Mutex;
use el2_hyp::sched::{Cap, Capper, CoreId, EntityId, Scheduler, Weight};
use el2_hyp::vgic::MAX_VCPUS;

use crate::percore;
use crate::smp::{self, MAX_CORES};

/// Guests that a board runs, at most.
pub const MAX_BOARD_GUESTS: usize = 16;

type Queue = Scheduler<MAX_CORES, { MAX_BOARD_GUESTS * MAX_VCPUS }, MAX_BOARD_GUESTS>;

static QUEUE: Mutex<Queue> = Mutex::new(Queue::new());

/// Whether vCPUs that wait give their cores away; mirrors the queue, for cores that must not wait for its lock.
static SHARED: AtomicBool = AtomicBool::new(false);

/// Lets the queue serve the cores that have come up.
pub fn initialise() {
    QUEUE.lock().configure(smp::running(), timer::frequency());
}

/// The place of a guest's vCPU.
pub fn entity(guest: usize, vcpu: usize) -> EntityId {
    EntityId((guest * MAX_VCPUS + vcpu) as u16)
}

/// The guest and vCPU at a place.
pub fn guest_and_vcpu(entity: EntityId) -> (usize, usize) {
    let place = usize::from(entity.0);
    (place / MAX_VCPUS, place % MAX_VCPUS)
}

/// The places of a guest's vCPUs.
fn places(guest: usize) -> Range<u16> {
    entity(guest, 0).0..entity(guest + 1, 0).0
}

/// Whether vCPUs that wait give their cores away: they outnumber the cores, or a guest has a cap.
pub fn is_shared() -> bool {
    SHARED.load(Ordering::Relaxed)
}

/// When sharing begins or ends, every core loads its vCPU anew, with waits trapped or not.
fn update_shared(queue: &Queue) {
    let shared = queue.is_shared();
    if SHARED.swap(shared, Ordering::Relaxed) != shared {
        percore::reschedule_all();
    }
}

/// When a core must look again.
pub fn next_event(core: u8) -> Option<u64> {
    QUEUE.lock().next_event(CoreId(core), timer::now())
}

/// Wakes what waited on this core's timer, and keeps the caps.
fn expire(queue: &mut Queue, core: CoreId, now: u64) {
    kick(queue.expire(core, now));
}

/// Whether what a core runs has had its turn. Timers of parked vCPUs that the core keeps are looked after by the way.
pub fn should_yield(core: u8) -> bool {
    let (core, now) = (CoreId(core), timer::now());
    let mut queue = QUEUE.lock();
    expire(&mut queue, core, now);
    queue.should_yield(core, now)
}

/// The vCPU that a core should run now.
pub fn pick(core: u8) -> Option<EntityId> {
    let (core, now) = (CoreId(core), timer::now());
    let mut queue = QUEUE.lock();
    expire(&mut queue, core, now);
    let picked = queue.pick(core, now);
    kick(queue.spare().into_iter());
    picked
}

/// A vCPU that may be parked has something to look at.
pub fn wake(entity: EntityId) {
    let kick = QUEUE.lock().wake(entity, timer::now());
    if let Some(core) = kick {
        percore::reschedule(usize::from(core.0));
    }
}

/// A vCPU that was off is to begin.
pub fn turn_on(entity: EntityId) {
    let mut queue = QUEUE.lock();
    let kick = queue.turn_on(entity, timer::now());
    update_shared(&queue);
    drop(queue);
    if let Some(core) = kick {
        percore::reschedule(usize::from(core.0));
    }
}

/// The running vCPU goes back to the queue.
pub fn preempt(entity: EntityId) {
    QUEUE.lock().preempt(entity, timer::now());
}

/// The running vCPU waits, at the latest until `until`, unless somebody `has_asked` since it last looked: who asks sets its flag
/// first and then wakes, so that one of the two is seen here.
pub fn park(entity: EntityId, until: Option<u64>, has_asked: impl Fn() -> bool) {
    let now = timer::now();
    let mut queue = QUEUE.lock();
    queue.park(entity, now, until);
    if has_asked() {
        queue.wake(entity, now);
    }
}

/// The running vCPU is off, unless it was turned on again since: who turns on says so to the guest first and then here.
pub fn turn_off(entity: EntityId, is_on_again: impl Fn() -> bool) {
    let now = timer::now();
    let mut queue = QUEUE.lock();
    queue.off(entity, now);
    if is_on_again() {
        queue.turn_on(entity, now);
    }
    update_shared(&queue);
}

/// The running vCPU of a stopping guest is off.
pub fn turn_off_for_good(entity: EntityId) {
    let mut queue = QUEUE.lock();
    queue.off(entity, timer::now());
    update_shared(&queue);
}

/// Whether all vCPUs of a guest are off.
pub fn are_all_off(guest: usize) -> bool {
    QUEUE.lock().all_off(places(guest))
}

/// Takes a guest's vCPUs off the cores, soon, and keeps them off.
pub fn hold(guest: usize) {
    let mut queue = QUEUE.lock();
    let kicks = queue.hold(places(guest));
    update_shared(&queue);
    drop(queue);
    kick(kicks);
}

/// Lets a guest's vCPUs have cores again.
pub fn release(guest: usize) {
    let mut queue = QUEUE.lock();
    let kicks = queue.release(places(guest), timer::now());
    update_shared(&queue);
    drop(queue);
    kick(kicks);
}

/// Whether no core runs a vCPU of a guest.
pub fn is_at_rest(guest: usize) -> bool {
    QUEUE.lock().is_at_rest(places(guest))
}

/// Each vCPU of a guest counts so much beside others from now on.
pub fn set_weight(guest: usize, weight: Weight) {
    kick(QUEUE.lock().set_weight(guest, weight, timer::now()));
}

/// A guest has no more than so much of a core from now on, by its operator's order.
pub fn set_cap(guest: usize, cap: Option<Cap>) {
    cap_by(Capper::Operator, guest, cap);
}

/// A guest has no more than so many percent of the speed that this board has for it, for the sake of its move; none for as much as it may.
pub fn slow(guest: usize, vcpus: usize, speed: Option<u8>) {
    let cores = vcpus.min(smp::running()) as u16;
    let cap = speed.and_then(|speed| Cap::new(cores * u16::from(speed)));
    cap_by(Capper::Move, guest, cap);
}

fn cap_by(capper: Capper, guest: usize, cap: Option<Cap>) {
    let mut queue = QUEUE.lock();
    let kicks = queue.set_cap(guest, capper, cap, timer::now());
    update_shared(&queue);
    drop(queue);
    kick(kicks);
}

/// A guest is gone: the next at its place has no weight and no cap of its.
pub fn forget(guest: usize) {
    set_weight(guest, Weight::DEFAULT);
    set_cap(guest, None);
    cap_by(Capper::Move, guest, None);
}

fn kick(cores: impl Iterator<Item = CoreId>) {
    for core in cores {
        percore::reschedule(usize::from(core.0));
    }
}
