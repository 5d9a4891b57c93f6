//! What every core does for ever: take the vCPU that is due, run it until it leaves, and see why it left.

use core::sync::atomic::Ordering;

use el2_hyp::arch::timer;
use el2_hyp::guest::Leave;
use el2_hyp::host::Host;
use el2_hyp::sched::EntityId;

use crate::host::CoreHost;
use crate::work::{self, Work};
use crate::{guests, operator, queue};

/// A core that has long work, and has a vCPU to run as well, does both in turns of this, in microseconds.
const TURN_US: u64 = 250;

/// Runs this core.
pub fn run(host: &CoreHost) -> ! {
    let own = host.per_core();
    let turn = timer::frequency() * TURN_US / 1_000_000;
    let mut begun: Option<Work> = None;
    loop {
        // SAFETY: the core is here with nothing in hand but what it puts into memory.
        unsafe { host.pass() };
        if host.takes_console() {
            operator::serve(host);
        }
        own.reschedule.store(false, Ordering::SeqCst);
        host.serve_devices();
        if begun.is_none() && !host.is_resting() {
            begun = work::next();
            own.work_at.store(u64::MAX, Ordering::Relaxed);
        }
        if let Some(work) = begun.take() {
            let since = timer::now();
            begun = work.go_on(host, since + turn);
            // A vCPU's turn is as long: steps may be longer than a turn. Also when that was all, for what comes next.
            let now = timer::now();
            own.work_at
                .store(now + turn.max(now - since), Ordering::Relaxed);
        }
        match queue::pick(host.core()) {
            Some(entity) => run_entity(host, entity),
            // Nobody else wants the core.
            None if begun.is_some() || work::is_waiting() => {
                own.work_at.store(u64::MAX, Ordering::Relaxed);
            }
            None => idle(host),
        }
    }
}

fn run_entity(host: &CoreHost, entity: EntityId) {
    let (guest, vcpu) = queue::guest_and_vcpu(entity);
    let slot = guests::find(guest).expect("only vCPUs of guests are in the queue");
    let own = host.per_core();
    own.set_current(Some(entity));
    own.shared.store(host.wants_sharing(), Ordering::Relaxed);
    host.rearm();
    guests::note_first_entry();
    let leave = slot.guest.run(host, vcpu);
    own.set_current(None);
    match leave {
        Leave::Preempted => queue::preempt(entity),
        Leave::Parked(until) => {
            queue::park(entity, until, || slot.guest.vcpus()[vcpu].has_attention());
        }
        Leave::Off => {
            queue::turn_off(entity, || slot.guest.is_on_pending(vcpu));
            // Its guest may have been ended meanwhile, and this have been the last to leave.
            if slot.guest.is_stopping() {
                guests::finish(slot);
            }
        }
        Leave::Stopped => {
            queue::turn_off_for_good(entity);
            guests::finish(slot);
        }
    }
}

/// Waits for an interrupt and takes what has come.
fn idle(host: &CoreHost) {
    host.rearm();
    // SAFETY: interrupts are masked at EL2, so that one that is pending only ends the wait.
    unsafe { core::arch::asm!("dsb sy", "wfi", options(nostack)) };
    host.take_interrupt();
}
