//! A guest that is moved while it runs: the order, its end, and the one step that says which of two copies is the guest.

use super::Ledger;
use super::types::{Denied, Guest, Happening, Move, Origin, Phase, Reason, Wanted};
use crate::ids::{BoardId, Epoch, GuestId, MoveId, Tenure};
use crate::limits::{DOWNTIME_MS_MAX, DOWNTIME_MS_MIN};
use crate::placement::{Verdict, choose_live, held_by_volume, verdict_live};

impl<const B: usize, const G: usize, const D: usize> Ledger<B, G, D> {
    fn guest_mut(&mut self, id: GuestId) -> Option<&mut Guest> {
        self.guests.get_mut(id.at())?.guest.as_mut()
    }

    /// Has a running guest moved, if it still runs in that epoch, is not being moved, and the destination in that tenure can take it.
    pub(super) fn send(
        &mut self,
        id: GuestId,
        epoch: Epoch,
        (to, tenure): (BoardId, Tenure),
        reason: Reason,
    ) {
        let Some(guest) = self.guest(id) else {
            return;
        };
        let still = guest.phase == Phase::Running
            && guest.owner != to
            && guest.moving.is_none()
            && self.epoch(id) == epoch;
        let fits = matches!(verdict_live(self, id, to), Verdict::Fits { .. });
        if still && fits && self.tenure(to) == tenure {
            let from = self.guest(id).map(|guest| guest.owner);
            let from = from.and_then(|owner| self.board(owner));
            let downtime = from.and_then(|board| board.downtime);
            self.order_move(id, to, (reason, downtime));
        }
    }

    fn order_move(&mut self, id: GuestId, to: BoardId, (reason, downtime): (Reason, Option<u16>)) {
        let order = Move {
            id: MoveId(self.index.0),
            to,
            tenure: self.tenure(to),
            reason,
            downtime,
        };
        if let Some(guest) = self.guest_mut(id) {
            guest.moving = Some(order);
            self.note(Happening::Moving, reason, to, Some(id));
        }
    }

    /// Ends a guest's move; the guest stays with its owner.
    pub(super) fn stay(&mut self, id: GuestId, reason: Reason) {
        let Some(guest) = self.guest_mut(id) else {
            return;
        };
        guest.moving = None;
        guest.stays = guest.stays.saturating_add(1);
        guest.stay = reason;
        let owner = guest.owner;
        self.note(Happening::Stayed, reason, owner, Some(id));
    }

    /// Says whose the guest is from here on: the destination's, if the move that is `complete` is the one under way; its owner's otherwise.
    /// Only that move: what an earlier one left on a board was dropped when that one ended.
    pub(super) fn hand(
        &mut self,
        id: GuestId,
        epoch: Epoch,
        complete: Option<MoveId>,
        reason: Reason,
    ) {
        let Some(guest) = self.guest(id) else {
            return;
        };
        if self.epoch(id) != epoch || guest.phase != Phase::Running {
            return;
        }
        let goes = guest.wanted == Wanted::Running;
        let order = guest.moving.clone().filter(|order| {
            goes && complete == Some(order.id) && self.tenure(order.to) == order.tenure
        });
        let Some(place) = self.guests.get_mut(id.at()) else {
            return;
        };
        place.epoch = Epoch(epoch.0 + 1);
        match order {
            Some(order) => self.hand_to(id, &order),
            None => self.keep(id, reason),
        }
    }

    fn hand_to(&mut self, id: GuestId, order: &Move) {
        let Some(guest) = self.guest_mut(id) else {
            return;
        };
        (guest.phase, guest.owner, guest.tenure, guest.reason) =
            (Phase::Starting, order.to, order.tenure, order.reason);
        (guest.origin, guest.moving) = (Origin::Arrived { id: order.id }, None);
        (guest.stays, guest.stay) = (0, Reason::None);
        self.note(Happening::Handed, order.reason, order.to, Some(id));
    }

    /// Leaves the guest with its owner, under the epoch that was just begun.
    fn keep(&mut self, id: GuestId, reason: Reason) {
        let Some(guest) = self.guest_mut(id) else {
            return;
        };
        guest.origin = Origin::Kept {};
        if guest.moving.is_some() {
            self.stay(id, reason);
        } else {
            // Whoever ended the move has said why, and it counts once.
            let (reason, owner) = (guest.stay, guest.owner);
            self.note(Happening::Stayed, reason, owner, Some(id));
        }
    }

    /// Has the guests of a board leave it, each still for so long at most, or lets them come back.
    pub(super) fn drain(
        &mut self,
        board: BoardId,
        on: bool,
        downtime: Option<u16>,
    ) -> Result<u16, Denied> {
        check_downtime(downtime)?;
        self.with_board(board, |entry| {
            (entry.drained, entry.downtime) = (on, downtime.filter(|_| on));
        })
    }

    pub(super) fn migrate(
        &mut self,
        id: GuestId,
        to: Option<BoardId>,
        downtime: Option<u16>,
    ) -> Result<u16, Denied> {
        check_downtime(downtime)?;
        let guest = self.guest(id).ok_or(Denied::Unknown)?;
        if to.is_some_and(|to| self.board(to).is_none()) {
            return Err(Denied::Unknown);
        }
        if guest.phase != Phase::Running {
            return Err(Denied::NotRunning);
        }
        if to == Some(guest.owner) {
            return Err(Denied::AlreadyThere);
        }
        if let Some(order) = &guest.moving {
            let same = to.is_none_or(|to| to == order.to)
                && downtime.is_none_or(|downtime| order.downtime == Some(downtime));
            return if same { Ok(id.0) } else { Err(Denied::Moving) };
        }
        if held_by_volume(self, id).is_some() {
            return Err(Denied::LocalVolume);
        }
        let to = match to {
            Some(to) => {
                Some(to).filter(|to| matches!(verdict_live(self, id, *to), Verdict::Fits { .. }))
            }
            None => choose_live(self, id),
        };
        let to = to.ok_or(Denied::NoBoard)?;
        if let Some(guest) = self.guest_mut(id) {
            guest.stays = 0;
        }
        self.order_move(id, to, (Reason::Operator, downtime));
        Ok(id.0)
    }

    pub(super) fn cancel_move(&mut self, id: GuestId) -> Result<u16, Denied> {
        let guest = self.guest(id).ok_or(Denied::Unknown)?;
        if guest.moving.is_none() {
            return Err(Denied::NotMoving);
        }
        self.stay(id, Reason::Operator);
        Ok(id.0)
    }
}

/// Whether a guest may be still for so long.
fn check_downtime(downtime: Option<u16>) -> Result<(), Denied> {
    let fits = downtime.is_none_or(|ms| (DOWNTIME_MS_MIN..=DOWNTIME_MS_MAX).contains(&ms));
    fits.then_some(()).ok_or(Denied::Invalid)
}
