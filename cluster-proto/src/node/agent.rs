//! This board's copies of guests: brought in line with the ledger, frozen by the clock alone, and only then let go on when the ledger confirms.

use super::copy::Copy;
use super::{CopyState, Effect, Node, Sink};
use crate::ids::{BoardId, Epoch, GuestId, MoveId, Tenure};
use crate::ledger::types::{Guest, Move, Observation, Origin, Phase, Reason};
use crate::limits::REPORT_GAP;
use crate::wire::auth::Authenticator;
use crate::wire::message::{JoinMe, Message, Report, Role};

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Node<A, B, G, D, L>
{
    pub(super) fn copies_run(&self) -> bool {
        self.copies.iter().any(Copy::runs)
    }

    /// Freezes everything the moment that the lease is seen to be over.
    pub(super) fn freeze_if_leaseless(&mut self, out: &mut dyn Sink) {
        if self.lease.holds(self.now) {
            self.leaseless_since = self.now;
            return;
        }
        if !self.copies_run() {
            return;
        }
        self.counters.freezes += 1;
        self.froze_at = self.now;
        for at in 0..G {
            let copy = &mut self.copies[at];
            if copy.runs() {
                copy.frozen = true;
                // G is a small capacity, far below 65,536.
                out.emit(Effect::Freeze {
                    guest: GuestId(at as u16),
                    epoch: copy.epoch,
                });
            }
        }
        self.stirred = true;
    }

    /// Brings the copies in line with the ledger.
    pub(super) fn tend_copies(&mut self, out: &mut dyn Sink) {
        let holds = self.lease.holds(self.now);
        let confirmed = holds && self.confirmed > self.froze_at;
        let tenure = self.own_tenure();
        for at in 0..G {
            let place = &self.ledger.guests[at];
            if place.guest.is_none() && self.copies[at].state == CopyState::None {
                continue;
            }
            // G is a small capacity, far below 65,536.
            let id = GuestId(at as u16);
            let guest = place.guest.as_ref();
            let guest = guest.filter(|guest| self.is_ours(guest, tenure));
            let charge = Charge {
                epoch: place.epoch,
                tenure,
                phase: guest.map(|guest| guest.phase),
                origin: guest.map_or(Origin::Fresh {}, |guest| guest.origin.clone()),
                order: guest.and_then(|guest| guest.moving.clone()),
                holds,
                confirmed,
            };
            self.tend_copy(id, &charge, out);
            self.report_copy(id, out);
            self.ask_for_hand_over(id, out);
        }
    }

    fn is_ours(&self, guest: &Guest, tenure: Tenure) -> bool {
        guest.phase != Phase::Unowned
            && guest.owner == self.board
            && guest.tenure == tenure
            && tenure.0 != 0
    }

    fn tend_copy(&mut self, id: GuestId, charge: &Charge, out: &mut dyn Sink) {
        self.renew_copy(id, charge, out);
        let copy = &mut self.copies[id.at()];
        let current =
            charge.phase.is_some() && copy.epoch == charge.epoch && copy.tenure == charge.tenure;
        #[cfg(feature = "mutations")]
        let current = if self.mutation == Some(super::Mutation::EpochIgnored)
            && copy.state != CopyState::None
        {
            copy.tenure = self.lease.tenure();
            true
        } else {
            current
        };
        match copy.state {
            CopyState::None if charge.phase.is_some() && !(current && copy.seen.is_some()) => {
                if !current {
                    *copy = Copy {
                        epoch: charge.epoch,
                        tenure: charge.tenure,
                        ..Copy::NONE
                    };
                }
                self.begin_copy(id, charge, out);
            }
            CopyState::None => {
                if !current {
                    copy.seen = None;
                }
            }
            CopyState::Starting | CopyState::Running
                if !current || charge.phase == Some(Phase::Leaving) =>
            {
                let epoch = copy.epoch;
                copy.go();
                out.emit(Effect::Destroy { guest: id, epoch });
            }
            CopyState::Starting | CopyState::Running => {
                if copy.frozen && charge.confirmed && copy.asked.is_none() {
                    copy.frozen = false;
                    out.emit(Effect::Resume {
                        guest: id,
                        epoch: copy.epoch,
                    });
                }
                self.tend_move(id, charge.order.as_ref(), out);
            }
            CopyState::Going => {}
        }
    }

    /// There is no copy of a guest that the ledger gives to this board.
    fn begin_copy(&mut self, id: GuestId, charge: &Charge, out: &mut dyn Sink) {
        let copy = &mut self.copies[id.at()];
        let gone = match (charge.phase, &charge.origin) {
            (Some(Phase::Leaving), _) => Some(Reason::Operator),
            // The copy that it was to keep ended before the ledger said so.
            (_, Origin::Kept {}) => Some(Reason::Crashed),
            _ => None,
        };
        if let Some(reason) = gone {
            copy.seen = Some(Observation::Gone { reason });
            copy.report_at = self.now;
        } else if charge.holds {
            copy.state = CopyState::Starting;
            out.emit(Effect::Start {
                guest: id,
                epoch: charge.epoch,
                arrived: charge.arrived(),
            });
        }
    }

    /// Tells the leader what it does not know yet, until the ledger shows it.
    fn report_copy(&mut self, id: GuestId, out: &mut dyn Sink) {
        let copy = &self.copies[id.at()];
        let Some(seen) = copy.seen.clone() else {
            return;
        };
        let (epoch, due) = (copy.epoch, copy.report_at <= self.now);
        let known = self.ledger.guest(id).is_none_or(|guest| {
            self.ledger.epoch(id) != epoch
                || guest.phase == Phase::Unowned
                || match &seen {
                    Observation::Running {} => guest.phase != Phase::Starting,
                    Observation::Gone { .. } => false,
                    Observation::Stays { id, .. } => {
                        guest.moving.as_ref().is_none_or(|order| order.id != *id)
                    }
                }
        });
        if known {
            // That a copy is gone stays remembered: it is not to be begun again in this epoch.
            if !matches!(seen, Observation::Gone { .. }) {
                self.copies[id.at()].seen = None;
            }
            return;
        }
        if !due {
            return;
        }
        self.copies[id.at()].report_at = self.now.after(REPORT_GAP);
        let report = Report {
            era: self.era,
            guest: id,
            epoch,
            seen,
        };
        match self.report_to() {
            Some(leader) => self.send_board(leader, &Message::Report(report), out),
            None if self.role == Role::Leader => self.on_report(&report, out),
            None => {}
        }
    }

    pub(super) fn copy_started(&mut self, guest: GuestId, epoch: Epoch) {
        let Some(copy) = self.copies.get_mut(guest.at()) else {
            return;
        };
        if copy.epoch == epoch && copy.state == CopyState::Starting {
            copy.state = CopyState::Running;
            self.observe(guest, epoch, Observation::Running {});
        }
    }

    pub(super) fn copy_gone(&mut self, guest: GuestId, epoch: Epoch, reason: Reason) {
        let Some(copy) = self.copies.get_mut(guest.at()) else {
            return;
        };
        if copy.epoch != epoch || copy.state == CopyState::None {
            return;
        }
        copy.state = CopyState::None;
        (copy.frozen, copy.moving, copy.asked) = (false, None, None);
        if copy.tenure.0 == 0 {
            // It belonged to a history that is over: nobody is to be told.
            self.stirred = true;
            return;
        }
        self.observe(guest, epoch, Observation::Gone { reason });
    }

    /// Whatever runs here belongs to a history that is over.
    pub(super) fn destroy_copies(&mut self, out: &mut dyn Sink) {
        for at in 0..G {
            let copy = &mut self.copies[at];
            if copy.runs() || copy.frozen || copy.asked.is_some() {
                copy.go();
                // G is a small capacity, far below 65,536.
                out.emit(Effect::Destroy {
                    guest: GuestId(at as u16),
                    epoch: copy.epoch,
                });
            }
            copy.seen = None;
            copy.tenure = Tenure(0);
        }
    }

    /// Asks to be let in, when this board is out and has nothing left of a former tenure.
    pub(super) fn ask_to_join(&mut self, out: &mut dyn Sink) {
        let Some(entry) = self.ledger.board(self.board) else {
            return;
        };
        let out_of_it = entry.tenure.0 == 0 || entry.incarnation != self.incarnation;
        let clean = self.copies.iter().all(|copy| copy.state == CopyState::None);
        #[cfg(feature = "mutations")]
        let clean = clean || self.mutated(super::Mutation::EpochIgnored);
        if self.era.is_blank() || entry.witness || !out_of_it || !clean {
            return;
        }
        let join = JoinMe {
            era: self.era,
            after: self.ledger.index,
            capacity: self.capacity.clone(),
        };
        match self.report_to() {
            Some(leader) => self.send_board(leader, &Message::JoinMe(join), out),
            None if self.role == Role::Leader => {
                let board: BoardId = self.board;
                self.on_join(board, &join, out);
            }
            None => {}
        }
    }
}

/// What the ledger says of a guest, and this board's lease of itself.
pub(super) struct Charge {
    pub epoch: Epoch,
    /// This board's.
    pub tenure: Tenure,
    /// How far the guest is, if this board owns it.
    pub phase: Option<Phase>,
    pub origin: Origin,
    /// The move that was ordered.
    pub order: Option<Move>,
    pub holds: bool,
    pub confirmed: bool,
}

impl Charge {
    fn arrived(&self) -> Option<MoveId> {
        match self.origin {
            Origin::Arrived { id } | Origin::Restored { id } => Some(id),
            Origin::Fresh {} | Origin::Kept {} => None,
        }
    }
}
