//! What every core does for ever: take the vCPU that is due, run it until it leaves, and see why it left.

use core::sync::atomic::Ordering;

use el2_hyp::guest::Leave;
use el2_hyp::host::{Host, HostInterrupt};
use el2_hyp::sched::EntityId;

use crate::host::CoreHost;
use crate::{guests, interrupts, operator, queue};

/// Runs this core.
pub fn run(host: &CoreHost) -> ! {
    let own = host.per_core();
    loop {
        if guests::start_next(host) {
            continue;
        }
        if own.console.swap(false, Ordering::SeqCst) {
            operator::serve(host);
        }
        own.reschedule.store(false, Ordering::SeqCst);
        host.serve_devices();
        match queue::pick(host.core()) {
            Some(entity) => run_entity(host, entity),
            None => idle(host),
        }
    }
}

fn run_entity(host: &CoreHost, entity: EntityId) {
    let (guest, vcpu) = queue::guest_and_vcpu(entity);
    let slot = guests::find(guest).expect("only vCPUs of guests are in the queue");
    let own = host.per_core();
    own.set_current(Some(entity));
    own.shared.store(queue::is_shared(), Ordering::Relaxed);
    host.rearm();
    guests::note_first_entry();
    let leave = slot.guest.run(host, vcpu);
    own.set_current(None);
    match leave {
        Leave::Preempted => queue::preempt(entity),
        Leave::Parked(until) => {
            queue::park(entity, until, || slot.guest.vcpus()[vcpu].has_attention());
        }
        Leave::Off => queue::turn_off(entity, || slot.guest.is_on_pending(vcpu)),
        Leave::Stopped => {
            if queue::turn_off_for_good(entity) {
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
        host.deactivate(interrupts::virtual_timer());
    }
}
