//! What core 0 does for guests over time: one that is destroyed is taken apart, one that has come is made known to the network, one that has a watchdog is watched.
//!
//! **Taking apart.** First the board's disk has to be done with the guest's memory. Then its ports and its place on the console are taken away and it is withdrawn, so that no
//! core finds it; the cores are asked to pass. When each has, nobody has it in hand: its translations leave the TLBs, and its memory goes back in parts.
//!
//! **Making known.** The switches outside deliver to where a station was heard last. So a guest that has come is announced by a frame from each of its addresses, through its own
//! port and gate: a reverse ARP request for itself (RFC 903), to all, as QEMU announces guests that have moved. More follow in case some are lost.

use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use alloc::boxed::Box;
use el2_hyp::arch::timer;
use el2_hyp::frame::{self, Frame, Mac};
use el2_hyp::guest::{Stop, Watch};
use el2_hyp::host::Network as _;
use el2_hyp::lock::MutexGuard;
use el2_hyp::published::Withdrawn;

use super::life::{self, Life, Stage};
use super::make::Last;
use super::{PLACES, Slot, find};
use crate::assemble::Holdings;
use crate::boot::MAX_CORES;
use crate::host::CoreHost;
use crate::percore::LAPS;
use crate::{console, net, percore, queue, smp};

/// How far a guest has been taken apart.
pub(super) enum Leaving {
    /// The board's disk may still have its memory.
    Draining,
    /// Cores may still have it in hand.
    Withdrawn(Withdrawn<Slot, MAX_CORES>),
    /// It is gone; what it had of the board is given back.
    GivingBack(Holdings),
}

/// Nothing is left of it.
struct Gone;

/// While something has to be waited for, it is looked at so often, microseconds.
const LOOK_EVERY_US: u64 = 100;
/// When announcements go out, milliseconds after the guest has come.
const ANNOUNCE_AT_MS: [u64; 5] = [0, 50, 150, 250, 350];

/// Which announcement is next.
pub(super) struct Announcing {
    since: u64,
    next: usize,
}

impl Announcing {
    pub const NOT: Self = Self {
        since: 0,
        next: ANNOUNCE_AT_MS.len(),
    };

    fn due(&self) -> Option<u64> {
        let after = ANNOUNCE_AT_MS.get(self.next)?;
        Some(self.since + net::ticks(after * 1000))
    }
}

/// Places with something to do here, a bit each.
static BUSY: AtomicU16 = AtomicU16::new(0);
/// When core 0 has to look, by the counter.
static DUE: AtomicU64 = AtomicU64::new(u64::MAX);

/// When core 0 has something to do here, by the counter.
pub fn next_due() -> u64 {
    DUE.load(Ordering::Relaxed)
}

pub(super) fn call(id: usize) {
    BUSY.fetch_or(1 << id, Ordering::SeqCst);
    DUE.store(0, Ordering::SeqCst);
    percore::reschedule(0);
}

/// A guest that has stopped, or never ran, leaves.
pub(super) fn begin(slot: &Slot, life: &mut Life) {
    life.stage = Stage::Leaving(Leaving::Draining);
    call(slot.guest.id);
}

/// Makes a guest known to the network, now and a few times more.
pub(super) fn begin_announcing(id: usize, life: &mut Life) {
    life.announcing = Announcing {
        since: timer::now(),
        next: 0,
    };
    call(id);
}

/// Looks at a guest's watchdog from now on.
pub fn watch(id: usize) {
    call(id);
}

/// Core 0 does what is due, in short. It has no guest in hand but one that it runs or places.
pub fn tend(host: &CoreHost) {
    DUE.store(u64::MAX, Ordering::SeqCst);
    let mut left = BUSY.swap(0, Ordering::SeqCst);
    let mut due = u64::MAX;
    while left != 0 {
        let id = left.trailing_zeros() as usize;
        left &= left - 1;
        if let Some(next) = tend_place(host, id) {
            BUSY.fetch_or(1 << id, Ordering::SeqCst);
            due = due.min(next);
        }
    }
    DUE.fetch_min(due, Ordering::SeqCst);
}

/// Does what is due for one place; when it is to be looked at again, if it is.
fn tend_place(host: &CoreHost, id: usize) -> Option<u64> {
    let mut life = PLACES[id].life.lock();
    let leaving = match core::mem::replace(&mut life.stage, Stage::Free) {
        Stage::Leaving(leaving) => leaving,
        stage => {
            life.stage = stage;
            let slot = find(id)?;
            // One that is kept from running shows no signs of life. It is looked at again when it goes on.
            let watched = if life.is_lively() {
                look_at_watchdog(host, slot, &mut life)
            } else {
                None
            };
            let announced = announce_when_due(host, slot, life);
            return [watched, announced].into_iter().flatten().min();
        }
    };
    if life.copied {
        // Whoever copies it lets go soon, and calls.
        life.stage = Stage::Leaving(leaving);
        return None;
    }
    match take_apart(id, leaving) {
        Ok(leaving) => {
            life.stage = Stage::Leaving(leaving);
            Some(timer::now() + net::ticks(LOOK_EVERY_US))
        }
        Err(Gone) => {
            queue::forget(id);
            life.end();
            None
        }
    }
}

/// When a guest's watchdog is to be looked at again, if it is on.
fn look_at_watchdog(host: &CoreHost, slot: &'static Slot, life: &mut Life) -> Option<u64> {
    match slot.guest.look_at_watchdog(host) {
        Watch::Off => None,
        Watch::Until(due) => Some(due),
        Watch::Over => {
            life::end_running(host, slot, life, Stop::Watchdog);
            None
        }
    }
}

/// Announces a guest if that is due; when next.
fn announce_when_due(
    host: &CoreHost,
    slot: &'static Slot,
    mut life: MutexGuard<'_, Life>,
) -> Option<u64> {
    let next = life.announcing.due()?;
    if next > timer::now() {
        return Some(next);
    }
    life.announcing.next += 1;
    let (speaks, next) = (life.is_lively(), life.announcing.due());
    drop(life);
    if speaks {
        send_announcements(host, slot);
    }
    next
}

/// Goes on with taking a guest apart, by as much as can be done at once.
fn take_apart(id: usize, leaving: Leaving) -> Result<Leaving, Gone> {
    match leaving {
        Leaving::Draining => {
            let slot = find(id).expect("it is withdrawn only now");
            if slot.guest.in_flight() > 0 {
                return Ok(Leaving::Draining);
            }
            slot.holdings.detach();
            console::remove_guest(id);
            let withdrawn = PLACES[id].slot.withdraw(&LAPS, smp::running());
            percore::reschedule_all();
            Ok(Leaving::Withdrawn(withdrawn.expect("it was found")))
        }
        Leaving::Withdrawn(withdrawn) => match withdrawn.take(&LAPS) {
            Ok(slot) => Ok(Leaving::GivingBack(dissolve(slot))),
            Err(withdrawn) => Ok(Leaving::Withdrawn(withdrawn)),
        },
        Leaving::GivingBack(mut holdings) => {
            if holdings.give_back() {
                Err(Gone)
            } else {
                Ok(Leaving::GivingBack(holdings))
            }
        }
    }
}

/// Nobody else has the guest: nothing of it stays but what it had of the board.
fn dissolve(slot: Box<Slot>) -> Holdings {
    let stage2 = slot.stage2.into_inner().into_stage2();
    stage2.destroy(&mut Last(slot.guest.vttbr()));
    slot.holdings
}

/// Sends a frame from each of a guest's addresses. What finds no room is lost, as frames are.
fn send_announcements(host: &CoreHost, slot: &Slot) {
    let Some(network) = net::network() else {
        return;
    };
    let view = network.view(host);
    for (nic, &port) in slot.view.guest.nics.iter().zip(&slot.holdings.ports) {
        let bytes = frame::announcement(Mac(nic.mac.octets()));
        if let Ok(frame) = Frame::finished(&bytes) {
            view.forward(port, Ok(&frame));
        }
    }
    view.finish();
}
