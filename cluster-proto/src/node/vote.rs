//! Terms: who stands, who votes for whom, who steps down.

use super::state::Tally;
use super::{Node, Sink};
use crate::ids::{BoardId, Index, Micros, Span, Term};
use crate::ledger::types::Decree;
use crate::limits::{ELECTION_ROUND, ELECTION_SPREAD};
use crate::wire::auth::Authenticator;
use crate::wire::frame::{Party, Recipient};
use crate::wire::message::{Ask, Message, Role, Vote};

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Node<A, B, G, D, L>
{
    /// Stands for election, asks again, or steps down, when it is time.
    pub(super) fn keep_term(&mut self, out: &mut dyn Sink) {
        if self.role == Role::Leader {
            if self.now.since(self.led_since) > self.patience
                && self.now.since(self.contact()) > self.patience
            {
                self.counters.stepped_down += 1;
                self.follow(self.term, None, out);
            }
            return;
        }
        if self.now < self.election_at || !self.may_vote() {
            return;
        }
        // Whoever was a candidate has raised its term already, and asks first again: others may have a leader by now.
        self.role = Role::Asking;
        self.leader = None;
        self.tally = Tally::NONE;
        self.rest_round();
        self.ask(Term(self.term.0 + 1), true, out);
        self.count_own_vote(out);
    }

    /// The newest of its own stamps that a majority has returned: since then it may be alone. A voter that has forgotten is no company.
    pub(super) fn contact(&self) -> Micros {
        let stamp = |(_, board, memory): (usize, BoardId, crate::ids::Memory)| {
            if board == self.board {
                return self.now;
            }
            let peer = self
                .peers
                .get(board.at())
                .filter(|_| self.remembers(board, memory));
            peer.map_or(Micros(0), |peer| peer.echoed)
        };
        let uncounted = self.uncounted();
        let members = || {
            self.config
                .members()
                .filter(|seat| Some(seat.1) != uncounted)
        };
        let majority = members().count() / 2 + 1;
        let reached =
            |least: &Micros| members().filter(|&seat| stamp(seat) >= *least).count() >= majority;
        members()
            .map(stamp)
            .filter(reached)
            .max()
            .unwrap_or(Micros(0))
    }

    /// Whether `board` is known to have that memory now.
    pub(super) fn remembers(&self, board: BoardId, memory: crate::ids::Memory) -> bool {
        let status = self
            .peers
            .get(board.at())
            .and_then(|peer| peer.status.as_ref());
        status.is_some_and(|status| status.memory == memory && status.era == self.era)
    }

    /// How long the leader's silence is tolerated here.
    fn leader_patience(&self) -> Span {
        let peer = self.leader.and_then(|leader| self.peers.get(leader.at()));
        peer.map_or(self.patience, |peer| peer.detector.patience())
    }

    /// The leader was heard: no election for a while.
    pub(super) fn rest_election(&mut self) {
        let spread = self.random.below(ELECTION_SPREAD.0);
        self.election_at = self.now.after(Span(self.leader_patience().0 + spread));
    }

    fn rest_round(&mut self) {
        let spread = self.random.below(ELECTION_ROUND.0 + ELECTION_SPREAD.0);
        self.election_at = self.now.after(Span(ELECTION_ROUND.0 + spread));
    }

    fn hears_leader(&self) -> bool {
        match self.role {
            Role::Leader => self.now.since(self.contact()) <= self.patience,
            _ => {
                self.leader.is_some() && self.now.since(self.leader_heard) <= self.leader_patience()
            }
        }
    }

    fn ask(&mut self, term: Term, before: bool, out: &mut dyn Sink) {
        let ask = Message::Ask(Ask {
            era: self.era,
            term,
            before,
            last: self.log.last(),
            last_term: self.log.last_term(),
        });
        let (voters, own) = (self.config, self.board);
        for (_, board, _) in voters.members().filter(|&(_, board, _)| board != own) {
            self.send(Recipient::One(Party::Board(board)), &ask, out);
        }
    }

    fn count_own_vote(&mut self, out: &mut dyn Sink) {
        let (board, memory) = (self.board, self.memory);
        self.count_vote(board, memory, out);
    }

    fn count_vote(&mut self, board: BoardId, memory: crate::ids::Memory, out: &mut dyn Sink) {
        let Some(seat) = self.config.seat_of(board) else {
            return;
        };
        self.tally.granted[seat] = memory;
        if !self.tally.wins(&self.config) {
            return;
        }
        match self.role {
            Role::Asking => self.stand(out),
            Role::Candidate => self.take_office(out),
            Role::Follower | Role::Leader => {}
        }
    }

    fn stand(&mut self, out: &mut dyn Sink) {
        self.role = Role::Candidate;
        self.term = Term(self.term.0 + 1);
        self.voted = Some(self.board);
        self.verified = Index(0);
        self.tally = Tally::NONE;
        self.rest_round();
        self.persist_vote(out);
        self.ask(self.term, false, out);
        self.count_own_vote(out);
    }

    fn take_office(&mut self, out: &mut dyn Sink) {
        self.counters.elected += 1;
        self.role = Role::Leader;
        self.leader = Some(self.board);
        self.led_since = self.now;
        self.unwanted = crate::ids::BoardSet(0);
        self.start_leading(out);
    }

    /// The first of a term: its own entry, and word to everybody at once.
    pub(super) fn start_leading(&mut self, out: &mut dyn Sink) {
        let next = self.log.last().next();
        for peer in &mut self.peers {
            peer.progress = super::state::Progress {
                next,
                ..super::state::Progress::NEW
            };
        }
        self.staging_free();
        self.begun = next;
        self.lead_at = self.now;
        self.propose(Decree::Begin {}, out);
        self.beat_at = self.beat_at.max(self.now.after(self.heartbeat));
        self.announce(out);
    }

    /// Follows `leader`, or nobody yet, in `term`.
    pub(super) fn follow(&mut self, term: Term, leader: Option<BoardId>, out: &mut dyn Sink) {
        if term > self.term {
            self.term = term;
            self.voted = None;
            self.persist_vote(out);
        }
        if self.role == Role::Leader {
            self.staging_free();
        }
        self.role = Role::Follower;
        self.leader = leader;
        self.verified = Index(0);
        self.unwanted = crate::ids::BoardSet(0);
        if leader.is_none() {
            // A full round of silence before standing again, so that the newer term's leader can be heard.
            let spread = self.random.below(ELECTION_SPREAD.0);
            self.election_at = self
                .election_at
                .max(self.now.after(Span(ELECTION_ROUND.0 + spread)));
        }
    }

    pub(super) fn on_ask(&mut self, board: BoardId, ask: &Ask, out: &mut dyn Sink) {
        #[cfg(feature = "mutations")]
        if self.mutated(super::Mutation::AmnesiacCounts)
            && self.era.is_blank()
            && !ask.era.is_blank()
        {
            self.fits_era(ask.era, out);
        }
        if self.era.is_blank()
            && self
                .founding
                .noted
                .is_some_and(|(noted, _)| noted == ask.era)
        {
            // Only a completed founding has candidates: its founder may be gone before its first word came here.
            self.fits_era(ask.era, out);
        }
        // A newcomer may be asked before it has the entry that seats it: whoever is not counted does no harm by its vote.
        if ask.era != self.era || self.era.is_blank() {
            return;
        }
        // Whether the asker has a seat is not asked: it may know a newer configuration, and whom it counts is its own affair. Its log decides.
        let newer = (ask.last_term, ask.last) >= (self.log.last_term(), self.log.last());
        if self.hears_leader() && self.leader != Some(board) {
            self.answer_ask(board, ask, false, out);
            return;
        }
        if ask.before {
            let granted = newer && ask.term > self.term;
            self.answer_ask(board, ask, granted, out);
            return;
        }
        if ask.term > self.term {
            self.follow(ask.term, None, out);
        }
        let free = self.voted.is_none_or(|voted| voted == board) && self.role == Role::Follower;
        #[cfg(feature = "mutations")]
        let free =
            free || (self.mutated(super::Mutation::VoteForgotten) && self.role != Role::Leader);
        let granted = newer && ask.term == self.term && free;
        if granted && self.voted.is_none() {
            self.voted = Some(board);
            self.persist_vote(out);
        }
        if granted {
            self.rest_round();
        }
        self.answer_ask(board, ask, granted, out);
    }

    fn answer_ask(&mut self, board: BoardId, ask: &Ask, granted: bool, out: &mut dyn Sink) {
        let term = if granted { ask.term } else { self.term };
        let vote = Vote {
            era: self.era,
            term,
            before: ask.before,
            granted,
            memory: self.memory,
        };
        self.send_board(board, &Message::Vote(vote), out);
    }

    pub(super) fn on_vote(&mut self, board: BoardId, vote: &Vote, out: &mut dyn Sink) {
        if vote.era != self.era {
            return;
        }
        if !vote.granted {
            if vote.term > self.term {
                self.follow(vote.term, None, out);
            }
            return;
        }
        let wanted = match self.role {
            Role::Asking => vote.before && vote.term.0 == self.term.0 + 1,
            Role::Candidate => !vote.before && vote.term == self.term,
            Role::Follower | Role::Leader => false,
        };
        if wanted {
            #[cfg(feature = "mutations")]
            let memory = self.counted_memory(&self.config, board, vote.memory);
            #[cfg(not(feature = "mutations"))]
            let memory = vote.memory;
            self.count_vote(board, memory, out);
        }
    }
}
