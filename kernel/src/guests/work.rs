//! A guest is put into memory. Any core does it, in steps, between which it does what else it has to.

use core::sync::atomic::{AtomicU16, Ordering};

use el2_hyp::arch::timer;
use el2_hyp::host::Host as _;

use super::{Slot, life};
use crate::host::CoreHost;
use crate::percore;
use crate::place::{PlaceError, Placed, Plan};

/// Places whose guest waits for a core, a bit each. The stage says whether that still stands.
static WAITING: AtomicU16 = AtomicU16::new(0);

/// The guest of a place waits for a core.
pub(super) fn call(id: usize) {
    WAITING.fetch_or(1 << id, Ordering::SeqCst);
    percore::reschedule_all();
}

/// Whether a guest waits for a core.
pub fn is_work_waiting() -> bool {
    WAITING.load(Ordering::Relaxed) != 0
}

/// A guest that a core is about to put into memory. While it does, the guest stays.
pub struct Placing {
    slot: &'static Slot,
    /// None before the guest is as new.
    plan: Option<Plan>,
}

/// The next guest that waits for a core, for this core. Several cores place several guests side by side.
pub fn next_to_place() -> Option<Placing> {
    loop {
        let waiting = WAITING.load(Ordering::SeqCst);
        if waiting == 0 {
            return None;
        }
        let id = waiting.trailing_zeros() as usize;
        if WAITING.fetch_and(!(1 << id), Ordering::SeqCst) & 1 << id != 0
            && let Some(slot) = life::begin_placing(id)
        {
            return Some(Placing { slot, plan: None });
        }
    }
}

impl Placing {
    /// Goes on until `end`, by the counter, or until the core is asked to look at something. None when there is no more to do.
    pub fn go_on(mut self, host: &CoreHost, end: u64) -> Option<Self> {
        loop {
            if life::is_abandoned(self.slot) {
                return None;
            }
            match self.step() {
                Ok(None) => {}
                Ok(Some(placed)) => {
                    life::placed(host, self.slot, &placed);
                    return None;
                }
                Err(why) => {
                    life::placing_failed(self.slot, why);
                    return None;
                }
            }
            host.look_up();
            if host.is_asked() || timer::now() >= end {
                return Some(self);
            }
        }
    }

    fn step(&mut self) -> Result<Option<Placed>, PlaceError> {
        let guest = &self.slot.guest;
        if let Some(plan) = &mut self.plan {
            return plan.step(guest, &self.slot.view);
        }
        // The board's disk may still write to the memory of a guest that has stopped: nothing else is done with it until that is over.
        if guest.in_flight() > 0 {
            crate::smp::relax();
        } else {
            guest.reset_devices();
            self.plan = Some(Plan::new(guest, &self.slot.view)?);
        }
        Ok(None)
    }
}
