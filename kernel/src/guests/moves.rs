//! What becomes of the places between which a guest moves.
//!
//! A guest is copied while it runs; who copies it marks both places ([`begin_copy`], [`super::create_for_arrival`]), so that neither is taken apart under its hands, whatever is
//! ordered meanwhile, and looks by [`is_copied`] whether it is still to go on. Then the one copy [departs](depart) and the other [arrives](arrive).

use core::fmt;
use core::sync::atomic::Ordering;

use el2_hyp::guest::record;
use el2_hyp::host::Host as _;
use el2_hyp::psci::VcpuPower;
use el2_hyp::record::intake::Parts;

use super::life::{self, Stage};
use super::{PLACES, Slot, find, leave};
use crate::host::CoreHost;
use crate::warn;

/// Why a guest is not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// It does not run.
    NotRunning,
    /// It is frozen.
    Frozen,
    /// It is copied already.
    Copied,
    /// It has a disk that is the board's.
    Pinned,
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRunning => "it does not run",
            Self::Frozen => "it is frozen: let it go on first",
            Self::Copied => "it is being moved already",
            Self::Pinned => "it has a disk on this board's own, and stays with that",
        })
    }
}

/// A guest that runs is to be copied.
///
/// # Errors
/// [`Stays`].
pub fn begin_copy(id: usize) -> Result<(), Stays> {
    let mut life = PLACES[id].life.lock();
    let slot = find(id).ok_or(Stays::NotRunning)?;
    if life.copied {
        return Err(Stays::Copied);
    }
    if life.frozen {
        return Err(Stays::Frozen);
    }
    if life.doomed || !matches!(life.stage, Stage::Running) || slot.guest.is_stopping() {
        return Err(Stays::NotRunning);
    }
    match slot.guest.can_move() {
        Err(record::Stays::Pinned(_)) => return Err(Stays::Pinned),
        Ok(()) | Err(record::Stays::NoRoom) => {}
    }
    life.copied = true;
    Ok(())
}

/// A guest that is copied, as long as nobody has ordered otherwise.
pub fn is_copied(id: usize) -> Option<&'static Slot> {
    let life = PLACES[id].life.lock();
    let slot = find(id).filter(|slot| !slot.guest.is_stopping());
    let stands = matches!(life.stage, Stage::Running | Stage::Arriving) && !life.doomed;
    slot.filter(|_| life.copied && stands)
}

/// A guest is not copied any more, and stays what and where it is.
pub fn end_copy(id: usize) {
    let mut life = PLACES[id].life.lock();
    life.copied = false;
    if matches!(life.stage, Stage::Leaving(_)) {
        leave::call(id);
    }
}

/// A guest goes on elsewhere: this copy has no effects from here on, and once it is not copied any more its place is free. It is stopped.
pub fn depart(host: &CoreHost, id: usize) {
    if let Some(slot) = find(id) {
        slot.holdings.detach();
    }
    PLACES[id].life.lock().departed = true;
    super::destroy(host, id);
}

/// All of a guest has come, and goes on here, if nobody has ordered otherwise. Its gate is the caller's to open.
///
/// # Panics
/// If `parts` are [not its own](el2_hyp::guest::Guest::can_adopt).
pub fn arrive(host: &CoreHost, id: usize, parts: Parts) {
    let mut life = PLACES[id].life.lock();
    life.copied = false;
    let Some(slot) = find(id) else { return };
    if life.doomed || !matches!(life.stage, Stage::Arriving) {
        return leave::call(id);
    }
    if slot.holdings.join(&slot.view).is_err() {
        warn!(
            "guest {}: somebody on this board has the address of one of its cards",
            slot.guest.name
        );
    }
    slot.guest.adopt(parts);
    slot.starts.fetch_add(1, Ordering::Relaxed);
    life.stage = Stage::Running;
    for vcpu in 0..slot.guest.vcpus().len() {
        if slot.guest.power(vcpu) != VcpuPower::Off {
            host.turn_on(id, vcpu);
        }
    }
    slot.guest.announce(host);
    life.news.started = true;
    life::tell();
    leave::begin_announcing(id, &mut life);
}

/// What should have come does not: the place is given up.
pub fn arrival_failed(id: usize) {
    let mut life = PLACES[id].life.lock();
    life.copied = false;
    life.doomed = true;
    if matches!(life.stage, Stage::Leaving(_)) {
        leave::call(id);
    } else if let Some(slot) = find(id) {
        life::leave_if_doomed(slot, &mut life);
    }
}
