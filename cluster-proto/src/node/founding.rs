//! How a history begins: founded by all voters together, reformed around one by the operator's order, or joined.

use super::state::Founding;
use super::{Effect, Node, Sink};
use crate::ids::{BoardId, BoardSet, Era, Index, Memory, Term};
use crate::ledger::types::{Event, Happening, Origin, Outcome, Phase, Reason, RequestId, Seats};
use crate::limits::ERA_PATIENCE;
use crate::wire::auth::Authenticator;
use crate::wire::message::{Found, Message, Noted, Role};

/// Ownership epochs of a history begin at its generation, shifted so far.
const GENERATION_SHIFT: u32 = 32;

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Node<A, B, G, D, L>
{
    /// Whether this is a voter that remembers nothing, and whose former life's promises have run out.
    fn is_blank_voter(&self) -> bool {
        self.era.is_blank()
            && self.virgin
            && self.now >= self.booted.after(self.promise)
            && self.ledger.seats.memory(self.board).is_some()
    }

    /// Proposes a founding, when it is this board's turn and everybody is there.
    pub(super) fn keep_founding(&mut self, out: &mut dyn Sink) {
        if self.founding.reform.is_some() {
            return self.keep_reform(out);
        }
        if self.now < self.beat_at || !self.is_blank_voter() {
            return;
        }
        if self
            .ledger
            .seats
            .iter()
            .any(|(_, board, _)| board < self.board)
        {
            return;
        }
        let Some(seats) = self.everybody() else {
            return;
        };
        let current = self.founding.noted.filter(|(_, noted)| *noted == seats);
        let era = match current {
            Some((era, _)) => era,
            None => {
                let era = Era {
                    generation: self.newest_generation + 1,
                    nonce: self.random.name(),
                };
                self.founding = Founding {
                    noted: Some((era, seats)),
                    answers: BoardSet(self.board.bit()),
                    reform: None,
                };
                era
            }
        };
        let found = Message::Found(Found {
            era,
            seats,
            manifest: self.manifest,
        });
        let own = self.board;
        for (_, board, _) in seats.iter().filter(|seat| seat.1 != own) {
            self.send_board(board, &found, out);
        }
        self.complete_founding(out);
    }

    /// The memories of all configured voters, if each is there, blank, and of the same package.
    fn everybody(&self) -> Option<Seats> {
        let mut seats = self.ledger.seats;
        for (_, board, _) in self.ledger.seats.iter() {
            if board == self.board {
                seats = seats.with(board, self.memory);
                continue;
            }
            let peer = self.peers.get(board.at())?;
            let status = peer.status.as_ref()?;
            let blank = status.era.is_blank()
                && !status.reforming
                && status.manifest == self.manifest
                && peer.detector.hears(self.now);
            if !blank {
                return None;
            }
            seats = seats.with(board, status.memory);
        }
        Some(seats)
    }

    pub(super) fn on_found(&mut self, board: BoardId, found: &Found, out: &mut dyn Sink) {
        let names_us = found.seats.memory(self.board) == Some(self.memory);
        if self.founding.reform.is_some()
            || !self.is_blank_voter()
            || !names_us
            || found.manifest != self.manifest
            || found.era.is_blank()
        {
            return;
        }
        if self.founding.noted != Some((found.era, found.seats)) {
            self.founding = Founding {
                noted: Some((found.era, found.seats)),
                answers: BoardSet(0),
                reform: None,
            };
        }
        self.send_board(
            board,
            &Message::Noted(Noted {
                era: found.era,
                memory: self.memory,
            }),
            out,
        );
    }

    pub(super) fn on_noted(&mut self, board: BoardId, noted: &Noted, out: &mut dyn Sink) {
        let Some((era, seats)) = self.founding.noted else {
            return;
        };
        // Only a founder has answers to collect; its own is the first.
        let own = self.founding.answers.has(self.board);
        if own
            && self.era.is_blank()
            && noted.era == era
            && seats.memory(board) == Some(noted.memory)
        {
            self.founding.answers.set(board, true);
            self.complete_founding(out);
        }
    }

    fn complete_founding(&mut self, out: &mut dyn Sink) {
        let Some((era, seats)) = self.founding.noted else {
            return;
        };
        let answered = seats
            .iter()
            .all(|(_, board, _)| self.founding.answers.has(board));
        // Whoever is to be reformed around has said so before it counts on this board's being blank.
        if answered && self.everybody() == Some(seats) {
            self.enter_first(era, seats, Reason::None, out);
            self.lead_first(out);
        }
    }

    /// Begins the history `era` with the ledger as it stands and these seats.
    pub(super) fn enter_first(
        &mut self,
        era: Era,
        seats: Seats,
        reason: Reason,
        out: &mut dyn Sink,
    ) {
        self.era = era;
        self.newest_generation = self.newest_generation.max(era.generation);
        self.founding = Founding::NONE;
        self.virgin = false;
        self.ledger.index = self.ledger.index.next();
        self.ledger.term = Term(1);
        self.ledger.seats = seats;
        self.ledger.seats_at = self.ledger.index;
        // Epochs grow from one history to the next, so that nobody obeys what an older one left behind.
        for place in &mut self.ledger.guests {
            place.epoch = place.epoch.max(crate::ids::Epoch(
                u64::from(era.generation) << GENERATION_SHIFT,
            ));
            if let Some(guest) = &mut place.guest {
                // No copy is carried into a new history, nor what one is yet to be made of: that guest is stopped again.
                if matches!(guest.origin, Origin::Restored { .. }) && guest.phase == Phase::Starting
                {
                    guest.phase = Phase::Unowned;
                }
                (guest.origin, guest.moving) = (Origin::Fresh {}, None);
            }
        }
        let founded = Event {
            index: self.ledger.index,
            what: Happening::Founded,
            reason,
            board: BoardId(0),
            guest: None,
            epoch: crate::ids::Epoch(0),
        };
        self.ledger.events.push(founded);
        self.log.restart(self.ledger.index, Term(1));
        self.commit = self.ledger.index;
        (self.term, self.voted) = (Term(1), None);
        self.find_config();
        self.find_fences();
        self.after_apply();
        self.persist_snapshot(out);
    }

    /// The founder is the first leader: it votes for itself, and nobody else stands in the first term.
    pub(super) fn lead_first(&mut self, out: &mut dyn Sink) {
        self.voted = Some(self.board);
        self.persist_vote(out);
        self.role = Role::Leader;
        self.leader = Some(self.board);
        self.led_since = self.now;
        self.start_leading(out);
    }

    /// Whether a leader's message belongs to this board's history; joins it, or leaves the own one for it, by the rules.
    pub(super) fn fits_era(&mut self, era: Era, out: &mut dyn Sink) -> bool {
        if era == self.era {
            return !era.is_blank();
        }
        if era.is_blank() {
            return false;
        }
        if self.era.is_blank() {
            return self.join_era(era, out);
        }
        // Not for one of the same generation: its leader may be dead, and what it sent only late.
        if era.generation > self.era.generation || self.may_yield(era) {
            self.counters.eras_left += 1;
            self.destroy_copies(out);
            let memory = Memory(self.random.name());
            self.forget(memory);
            return self.join_era(era, out);
        }
        false
    }

    /// Whether this board may leave its history for one that is not newer, whose leader speaks: when its own has been silent for long while
    /// the other has been heard. There are two only when the operator reformed around a board that knew less than others
    /// who were off, and has vouched for that.
    fn may_yield(&mut self, era: Era) -> bool {
        let (other, since, last) = self.foreign;
        let goes_on = other == era && self.now.since(last) <= ERA_PATIENCE;
        let since = if goes_on { since } else { self.now };
        self.foreign = (era, since, self.now);
        !self.lease.holds(self.now)
            && self.now.since(self.era_heard) > ERA_PATIENCE
            && self.now.since(since) > ERA_PATIENCE
            && self.role != Role::Leader
    }

    fn join_era(&mut self, era: Era, out: &mut dyn Sink) -> bool {
        if let Some((noted, seats)) = self.founding.noted
            && noted == era
        {
            self.enter_first(era, seats, Reason::None, out);
            return true;
        }
        // A newcomer: the leader will send everything.
        self.founding = Founding::NONE;
        self.era = era;
        self.virgin = false;
        self.ledger.clear();
        (self.config, self.config_at, self.newcomer) = (Seats::NONE, Index(0), None);
        self.log.restart(Index(0), Term(0));
        self.commit = Index(0);
        (self.term, self.voted) = (Term(0), None);
        self.staging_free();
        self.persist_snapshot(out);
        true
    }

    /// Tells whoever asked.
    pub(super) fn tell(
        &mut self,
        id: &RequestId,
        outcome: Outcome,
        operator: Option<u8>,
        out: &mut dyn Sink,
    ) {
        match operator {
            None => out.emit(Effect::Answer {
                id: id.clone(),
                outcome,
            }),
            Some(number) => self.send_answer(number, id, outcome, out),
        }
    }
}
