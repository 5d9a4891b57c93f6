//! Copies that move while they run: the driver is told, what it reports is passed on, and a copy for which the hand-over was asked waits for the ledger.

use super::agent::Charge;
use super::copy::{Asked, Copy};
use super::{CopyState, Effect, Node, Sink};
use crate::ids::{Epoch, GuestId, MoveId, Tenure};
use crate::ledger::types::{Move, Observation, Origin, Phase, Reason};
use crate::limits::REPORT_GAP;
use crate::wire::auth::Authenticator;
use crate::wire::message::{HandOver, Message, Role};

/// What this board is to do with a copy that a move brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arrival {
    /// It does not know of that move yet: keep the copy, or have it sent again later.
    NotYet,
    /// Take it, and keep it.
    Awaited,
    /// Drop it: that move has ended otherwise, or the copy was started and is another by now.
    Over,
}

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Node<A, B, G, D, L>
{
    /// What to do with the copy of `guest` that move `id` of ownership epoch `epoch` brings to this board.
    #[must_use]
    pub fn arrival(&self, guest: GuestId, epoch: Epoch, id: MoveId) -> Arrival {
        // Epochs grow from one history to the next; the indexes that name moves may begin anew.
        let newest = self.ledger.epoch(guest);
        if self.ledger.index.0 < id.0 && newest <= epoch {
            return Arrival::NotYet;
        }
        let tenure = self.own_tenure();
        let here = |(to, there): (_, Tenure)| to == self.board && there == tenure && tenure.0 != 0;
        let awaited = self.ledger.guest(guest).is_some_and(|guest| {
            let ordered = guest.moving.as_ref();
            (newest == epoch
                && ordered.is_some_and(|order| order.id == id && here((order.to, order.tenure))))
                || (newest.0 == epoch.0 + 1
                    && (guest.origin == Origin::Arrived { id }
                        || guest.origin == Origin::Restored { id })
                    && guest.phase == Phase::Starting
                    && here((guest.owner, guest.tenure)))
        });
        if awaited {
            Arrival::Awaited
        } else {
            Arrival::Over
        }
    }

    /// Whether this board's copy of `guest` is stopped until the ledger has said which copy is the guest.
    #[must_use]
    pub fn is_handing_over(&self, guest: GuestId) -> bool {
        let copy = self.copies.get(guest.at());
        copy.is_some_and(|copy| copy.asked.is_some())
    }

    /// The ledger leaves a guest here for whose hand-over this board had asked: its copy goes on in the next epoch.
    pub(super) fn renew_copy(&mut self, id: GuestId, charge: &Charge, out: &mut dyn Sink) {
        let copy = &mut self.copies[id.at()];
        let kept = charge.phase.is_some()
            && charge.origin == Origin::Kept {}
            && copy.state == CopyState::Running
            && copy.tenure == charge.tenure
            && copy.epoch.0 + 1 == charge.epoch.0;
        if !kept {
            return;
        }
        let from = copy.epoch;
        *copy = Copy {
            state: CopyState::Running,
            frozen: true,
            epoch: charge.epoch,
            tenure: charge.tenure,
            ..Copy::NONE
        };
        out.emit(Effect::Renew {
            guest: id,
            from,
            to: charge.epoch,
        });
    }

    /// Tells the driver which move it is to carry out, and which no longer.
    pub(super) fn tend_move(&mut self, id: GuestId, order: Option<&Move>, out: &mut dyn Sink) {
        let copy = &mut self.copies[id.at()];
        if copy.state != CopyState::Running
            || copy.asked.is_some()
            || copy.moving == order.map(|order| order.id)
        {
            return;
        }
        let epoch = copy.epoch;
        if let Some(over) = copy.moving {
            if copy.is_moved(over) {
                out.emit(Effect::Abandon {
                    guest: id,
                    epoch,
                    id: over,
                });
            }
            copy.moving = None;
        }
        if let Some(order) = order.filter(|_| !copy.frozen) {
            copy.moving = Some(order.id);
            out.emit(Effect::Move {
                guest: id,
                epoch,
                id: order.id,
                to: order.to,
                downtime: order.downtime,
            });
        }
    }

    /// The destination has all: from here on only the ledger lets this copy go on.
    pub(super) fn copy_ready(&mut self, guest: GuestId, epoch: Epoch, id: MoveId) {
        let now = self.now;
        let Some(copy) = self.copies.get_mut(guest.at()) else {
            return;
        };
        if copy.epoch == epoch && copy.is_moved(id) && copy.asked.is_none() {
            copy.asked = Some(Asked {
                complete: Some(id),
                reason: Reason::None,
            });
            copy.report_at = now;
            self.stirred = true;
        }
    }

    /// A move is given up. One for which the hand-over was asked is not over with that: the question may be on its way, and the ledger answers the
    /// first that reaches it.
    pub(super) fn copy_stays(&mut self, guest: GuestId, epoch: Epoch, id: MoveId, reason: Reason) {
        let now = self.now;
        let Some(copy) = self.copies.get_mut(guest.at()) else {
            return;
        };
        if copy.epoch != epoch || !copy.is_moved(id) {
            return;
        }
        match &mut copy.asked {
            Some(asked) => {
                *asked = Asked {
                    complete: None,
                    reason,
                };
            }
            None => copy.seen = Some(Observation::Stays { id, reason }),
        }
        copy.report_at = now;
        self.stirred = true;
    }

    /// The deliberate fault of a source that does not wait for the ledger.
    #[cfg(feature = "mutations")]
    pub(super) fn regret_at_once(&mut self, guest: GuestId, id: MoveId, out: &mut dyn Sink) {
        let at_once = self.mutated(super::Mutation::RegretAtOnce);
        if let Some(copy) = self.copies.get_mut(guest.at())
            && at_once
            && copy.moving == Some(id)
            && copy.asked.take().is_some()
        {
            let epoch = copy.epoch;
            out.emit(Effect::Abandon { guest, epoch, id });
        }
    }

    /// Asks the leader which copy is the guest, until the ledger has answered.
    pub(super) fn ask_for_hand_over(&mut self, id: GuestId, out: &mut dyn Sink) {
        let copy = &mut self.copies[id.at()];
        let Some(asked) = copy.asked.filter(|_| copy.report_at <= self.now) else {
            return;
        };
        copy.report_at = self.now.after(REPORT_GAP);
        let question = HandOver {
            era: self.era,
            guest: id,
            epoch: copy.epoch,
            complete: asked.complete,
            reason: asked.reason,
        };
        match self.report_to() {
            Some(leader) => self.send_board(leader, &Message::HandOver(question), out),
            None if self.role == Role::Leader => self.on_hand_over(&question, out),
            None => {}
        }
    }
}
