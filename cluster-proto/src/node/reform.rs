//! A reform: the operator's order to go on around one board after the memory of a majority is gone. The operator vouches for the voters that nobody
//! hears; whatever else would make it wrong this board sees for itself, once when it is ordered and again before it is done
//! (`docs/protocol.md`, section 7).

use super::state::Reform;
use super::{Node, Sink};
use crate::ids::{BoardId, BoardSet, Era, Memory, Micros};
use crate::ledger::types::{Answered, Denied, Outcome, Reason, RequestId};
use crate::limits::ERA_PATIENCE;
use crate::wire::auth::Authenticator;
use crate::wire::message::{Role, Status};

/// What is known of a voter's memory.
enum Account<'a> {
    /// It is off and remembers nothing: the operator says so, and nobody is heard who says otherwise.
    Lost,
    /// It says so itself.
    Heard(&'a Status),
    /// Nothing.
    Missing,
}

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Node<A, B, G, D, L>
{
    /// Orders a reform around this board: at once no promises any more, and when the last has run out and every voter has spoken since, the founding.
    pub(super) fn order_reform(
        &mut self,
        id: RequestId,
        lost: BoardSet,
        operator: Option<u8>,
        out: &mut dyn Sink,
    ) {
        if let Some(answered) = self.ledger.answer(&id) {
            let outcome = answered.outcome.clone();
            return self.tell(&id, outcome, operator, out);
        }
        if let Some(waiting) = &mut self.founding.reform {
            if waiting.id == id {
                waiting.operator = operator;
                return;
            }
            return self.tell(&id, Outcome::Refused { why: Denied::Busy }, operator, out);
        }
        if let Some(why) = self.reform_denied(lost, None) {
            return self.tell(&id, Outcome::Refused { why }, operator, out);
        }
        let due = self
            .promises
            .all_free_at()
            .max(self.now.after(self.promise));
        self.founding.reform = Some(Reform {
            id,
            operator,
            lost,
            ordered_at: self.now,
            due,
        });
    }

    /// Does what was ordered, when it is time; or says why not.
    pub(super) fn keep_reform(&mut self, out: &mut dyn Sink) {
        let Some(reform) = self.founding.reform.clone() else {
            return;
        };
        if self.now < reform.due {
            return;
        }
        let denied = if self.now.since(reform.due).0 > 2 * self.heartbeat.0 {
            // It slept over the moment, and what the operator vouched for may be over.
            Some(Denied::Busy)
        } else {
            self.reform_denied(reform.lost, Some(reform.ordered_at))
        };
        match denied {
            None => self.reform_now(&reform, out),
            Some(Denied::Unaccounted) if self.now.since(reform.ordered_at) < ERA_PATIENCE => {
                if let Some(waiting) = &mut self.founding.reform {
                    waiting.due = self.now.after(self.heartbeat);
                }
            }
            Some(why) => {
                self.founding.reform = None;
                self.tell(&reform.id, Outcome::Refused { why }, reform.operator, out);
            }
        }
    }

    /// Why a reform around this board would be wrong, as far as it can know. With `since`, what others say must have been said after they heard what
    /// this board sent then.
    fn reform_denied(&self, lost: BoardSet, since: Option<Micros>) -> Option<Denied> {
        if self.ledger.seats.memory(self.board).is_none() {
            return Some(Denied::Invalid);
        }
        let led = since.is_some_and(|since| self.leader_heard >= since);
        let followed = self.leader.is_some() && self.now.since(self.leader_heard) < self.patience;
        if led || followed || self.role == Role::Leader {
            return Some(Denied::NotAlone);
        }
        #[cfg(feature = "mutations")]
        if self.mutated(super::Mutation::ReformUnasked) {
            return None;
        }
        let member = self.may_vote();
        let mut remember = usize::from(member);
        for (_, board, _) in self.ledger.seats.iter().filter(|seat| seat.1 != self.board) {
            let status = match self.account(board, lost, since) {
                Account::Lost => continue,
                Account::Missing => return Some(Denied::Unaccounted),
                Account::Heard(status) => status,
            };
            if let Some(why) = self.outdone_by(status, member) {
                return Some(why);
            }
            let seated = status.era == self.era && self.config.votes(board, status.memory);
            remember += usize::from(seated);
        }
        (member && remember >= self.config.majority()).then_some(Denied::NotAlone)
    }

    fn account(&self, board: BoardId, lost: BoardSet, since: Option<Micros>) -> Account<'_> {
        let peer = self.peers.get(board.at());
        let heard = peer.filter(|peer| peer.incarnation.0 != 0 && peer.detector.hears(self.now));
        let Some(peer) = heard else {
            return if lost.has(board) {
                Account::Lost
            } else {
                Account::Missing
            };
        };
        match &peer.status {
            Some(status) if since.is_none_or(|since| peer.echoed >= since) => {
                Account::Heard(status)
            }
            _ => Account::Missing,
        }
    }

    /// Why a voter that says `status` is the reason not to reform here. A voter that votes remembers; among those who do the
    /// one that remembers most is to be chosen, and nobody else while there is one.
    fn outdone_by(&self, status: &Status, member: bool) -> Option<Denied> {
        if status.reforming || (status.role == Role::Leader && status.era == self.era) {
            return Some(Denied::NotAlone);
        }
        if status.era > self.era && status.last.0 > 0 {
            return Some(Denied::Behind);
        }
        let own = (self.log.last_term(), self.log.last());
        let more = (status.last_term, status.last) > own || status.config_at > self.config_at;
        let outdone = status.era == self.era && status.votes && (more || !member);
        outdone.then_some(Denied::Behind)
    }

    fn reform_now(&mut self, reform: &Reform, out: &mut dyn Sink) {
        // What stands in the log may have been agreed by those who are gone: it is kept.
        self.commit_to(self.log.last(), out);
        let mut seats = self.ledger.seats;
        let others = self.ledger.seats;
        for (_, board, _) in others.iter() {
            let memory = if board == self.board {
                self.memory
            } else {
                Memory(0)
            };
            seats = seats.with(board, memory);
        }
        self.ledger.reform(self.board);
        let outcome = Outcome::Done {
            number: crate::ledger::apply::NO_NUMBER,
        };
        self.ledger.answers.push(Answered {
            id: reform.id.clone(),
            outcome: outcome.clone(),
        });
        // A board that remembers nothing cannot know of the first founding; that its generation was 1 is likely.
        let era = Era {
            generation: self.newest_generation.max(self.era.generation).max(1) + 1,
            nonce: self.random.name(),
        };
        self.enter_first(era, seats, Reason::Reformed, out);
        self.lead_first(out);
        self.tell(&reform.id, outcome, reform.operator, out);
    }
}
