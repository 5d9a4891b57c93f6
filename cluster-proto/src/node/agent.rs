//! This board's copies of guests: brought in line with the ledger, frozen by the clock alone, and only then let go on when the ledger confirms.

use super::state::Copy;
use super::{CopyState, Effect, Node, Sink};
use crate::ids::{BoardId, Epoch, GuestId, Tenure};
use crate::ledger::types::{Guest, Observation, Phase, Reason};
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
            let epoch = place.epoch;
            let ours = place
                .guest
                .as_ref()
                .filter(|guest| self.is_ours(guest, tenure))
                .map(|guest| guest.phase);
            self.tend_copy(id, epoch, ours, tenure, (holds, confirmed), out);
            self.report_copy(id, out);
        }
    }

    fn is_ours(&self, guest: &Guest, tenure: Tenure) -> bool {
        guest.phase != Phase::Unowned
            && guest.owner == self.board
            && guest.tenure == tenure
            && tenure.0 != 0
    }

    fn tend_copy(
        &mut self,
        id: GuestId,
        epoch: Epoch,
        ours: Option<Phase>,
        tenure: Tenure,
        (holds, confirmed): (bool, bool),
        out: &mut dyn Sink,
    ) {
        let copy = &mut self.copies[id.at()];
        let current = ours.is_some() && copy.epoch == epoch && copy.tenure == tenure;
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
            CopyState::None if ours.is_some() && !(current && copy.seen.is_some()) => {
                if !current {
                    *copy = Copy {
                        epoch,
                        tenure,
                        ..Copy::NONE
                    };
                }
                if ours == Some(Phase::Leaving) {
                    copy.seen = Some(Observation::Gone {
                        reason: Reason::Operator,
                    });
                    copy.report_at = self.now;
                } else if holds {
                    copy.state = CopyState::Starting;
                    out.emit(Effect::Start { guest: id, epoch });
                }
            }
            CopyState::None => {
                if !current {
                    copy.seen = None;
                }
            }
            CopyState::Starting | CopyState::Running
                if !current || ours == Some(Phase::Leaving) =>
            {
                copy.state = CopyState::Going;
                copy.seen = None;
                out.emit(Effect::Destroy {
                    guest: id,
                    epoch: copy.epoch,
                });
            }
            CopyState::Starting | CopyState::Running => {
                if copy.frozen && confirmed {
                    copy.frozen = false;
                    out.emit(Effect::Resume { guest: id, epoch });
                }
            }
            CopyState::Going => {}
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
                || (guest.phase != Phase::Starting && seen == Observation::Running {})
        });
        if known {
            if seen == (Observation::Running {}) {
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
        copy.frozen = false;
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
            if copy.runs() || copy.frozen {
                copy.state = CopyState::Going;
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

impl Copy {
    /// Whether it has effects while the lease holds.
    fn runs(&self) -> bool {
        matches!(self.state, CopyState::Starting | CopyState::Running) && !self.frozen
    }
}
