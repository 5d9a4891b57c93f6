//! Heartbeats, both ways: promises are given here, leases are counted here.

use super::{Node, Sink};
use crate::ids::{BoardId, BoardSet, Micros};
use crate::ledger::types::Board;
use crate::limits::BOARDS_MAX;
use crate::wire::auth::Authenticator;
use crate::wire::codec::{Wire, Writer};
use crate::wire::frame::Recipient;
use crate::wire::message::{ECHO, Echo, Message, Role, Status, read_echoes};

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Node<A, B, G, D, L>
{
    /// Sends the heartbeat that is due, and does what is to be done as often.
    pub(super) fn beat(&mut self, out: &mut dyn Sink) {
        // After a pause the rhythm starts anew; it does not catch up.
        let planned = self.beat_at.after(self.heartbeat);
        self.beat_at = if planned <= self.now {
            self.now.after(self.heartbeat)
        } else {
            planned
        };
        let status = self.status();
        let mut scratch = [0; ECHO * BOARDS_MAX];
        let echoes = self.write_echoes(&mut scratch);
        self.send(
            Recipient::All,
            &Message::Heartbeat(status.clone(), echoes),
            out,
        );
        self.promise_to_self(&status);
        self.ask_to_join(out);
        self.push_forwards(out);
        self.stirred = true;
    }

    /// What this board says about itself now.
    pub(super) fn status(&self) -> Status {
        let leaseless = if self.lease.holds(self.now) {
            0
        } else {
            (self.now.since(self.leaseless_since).0 / 1_000).max(1)
        };
        Status {
            speaks: crate::wire::frame::VERSION,
            era: self.era,
            memory: self.memory,
            term: self.term,
            role: self.role,
            leader: self.leader,
            commit: self.commit,
            last: self.log.last(),
            last_term: self.log.last_term(),
            votes: self.may_vote(),
            reforming: self.founding.reform.is_some(),
            tenure: self.own_tenure(),
            stamp: self.now,
            leaseless_ms: u16::try_from(leaseless).unwrap_or(u16::MAX),
            config_at: self.config_at,
            // One that is being fenced stays unwanted even when it is heard again: the log cannot go on before promises to it end.
            unwanted: if self.role == Role::Leader {
                BoardSet(self.unwanted.0 | self.pending_fences.0)
            } else {
                BoardSet(0)
            },
            manifest: self.manifest,
        }
    }

    pub(super) fn write_echoes<'a>(&self, scratch: &'a mut [u8; ECHO * BOARDS_MAX]) -> &'a [u8] {
        let mut to = Writer::new(scratch);
        for (at, peer) in self.peers.iter().enumerate() {
            let Some(status) = peer.status.as_ref() else {
                continue;
            };
            let echo = Echo {
                // B is at most 64.
                board: BoardId(at as u8),
                heard: peer.detector.hears(self.now),
                promised: peer.promised,
                incarnation: peer.incarnation,
                stamp: status.stamp,
            };
            if echo.put(&mut to).is_err() {
                break;
            }
        }
        let used = to.used();
        &scratch[..used]
    }

    /// The tenure of this life of this board.
    pub(super) fn own_tenure(&self) -> crate::ids::Tenure {
        match self.ledger.board(self.board) {
            Some(Board {
                incarnation,
                tenure,
                ..
            }) if *incarnation == self.incarnation => *tenure,
            _ => crate::ids::Tenure(0),
        }
    }

    /// Whether this voter may promise to the life behind `status`.
    fn may_promise(
        &self,
        board: BoardId,
        incarnation: crate::ids::Incarnation,
        status: &Status,
    ) -> bool {
        self.may_vote()
            && self.founding.reform.is_none()
            && status.era == self.era
            && status.tenure.0 != 0
            && !self.pending_fences.has(board)
            && !self.unwanted.has(board)
            && self.ledger.board(board).is_some_and(|entry| {
                entry.tenure == status.tenure && entry.incarnation == incarnation
            })
    }

    /// A voter promises to itself like to others.
    fn promise_to_self(&mut self, status: &Status) {
        if !self.may_promise(self.board, self.incarnation, status) {
            return;
        }
        self.promises
            .promise(self.board, self.now.after(self.promise));
        let voter = (self.board, self.memory);
        let (seats, applied) = (self.ledger.seats, self.ledger.seats_at);
        self.lease.promised(
            &seats,
            voter,
            self.config_at,
            applied,
            status.stamp,
            self.now,
            self.lease_span,
        );
    }

    pub(super) fn on_heartbeat(
        &mut self,
        board: BoardId,
        status: Status,
        echoes: &[u8],
        out: &mut dyn Sink,
    ) {
        let now = self.now;
        let Some(incarnation) = self.peers.get(board.at()).map(|peer| peer.incarnation) else {
            return;
        };
        self.newest_generation = self.newest_generation.max(status.era.generation);
        if status.role == Role::Leader && !self.fits_era(status.era, out) {
            return;
        }
        if self.role == Role::Leader && status.era == self.era && status.term > self.term {
            // Whoever has a newer term follows no older one. It stood with a majority's leave, so the cluster moves on to it.
            self.follow(status.term, None, out);
        }
        let Some(peer) = self.peers.get_mut(board.at()) else {
            return;
        };
        if peer
            .status
            .as_ref()
            .is_some_and(|old| old.stamp >= status.stamp)
        {
            // Overtaken by a newer one: nothing here is news.
            return;
        }
        peer.detector.beat(now);
        let promised = self.may_promise(board, incarnation, &status);
        if promised {
            #[cfg(feature = "mutations")]
            let keeps = !self.mutated(super::Mutation::EmptyPromise);
            #[cfg(not(feature = "mutations"))]
            let keeps = true;
            if keeps {
                self.promises.promise(board, now.after(self.promise));
            }
        }
        if status.role == Role::Leader && status.era == self.era {
            self.hear_leader(board, &status, out);
        }
        let hears = self.read_peer_echoes(board, &status, echoes);
        let Some(peer) = self.peers.get_mut(board.at()) else {
            return;
        };
        let old = peer.status.as_ref();
        let told = |status: &Status| {
            (
                status.memory,
                status.tenure,
                status.era,
                status.leaseless_ms == 0,
                status.commit,
            )
        };
        let news = peer.hears != hears || old.map(told) != Some(told(&status));
        peer.promised = promised;
        peer.hears = hears;
        peer.status = Some(status);
        if news && self.role == Role::Leader {
            // What a leader decides by has changed; otherwise its own rhythm is enough.
            self.lead_at = now;
        }
    }

    /// Takes from `board`'s echoes whom it hears, and counts its promises to this board.
    fn read_peer_echoes(&mut self, board: BoardId, status: &Status, echoes: &[u8]) -> BoardSet {
        let mut hears = BoardSet(0);
        let mut own = None;
        for echo in read_echoes(echoes) {
            if echo.board == self.board {
                own = Some(echo).filter(|echo| echo.incarnation == self.incarnation);
                hears.set(echo.board, own.is_some() && echo.heard);
            } else if echo.heard {
                let tenant = self.ledger.board(echo.board).map(|entry| entry.incarnation);
                hears.set(echo.board, tenant == Some(echo.incarnation));
            }
        }
        let Some(echo) = own else { return hears };
        if let Some(peer) = self.peers.get_mut(board.at()) {
            peer.echoed = peer.echoed.max(Micros(echo.stamp.0.min(self.now.0)));
        }
        if echo.promised && status.era == self.era {
            let (seats, applied) = (self.ledger.seats, self.ledger.seats_at);
            #[cfg(feature = "mutations")]
            let memory = self.counted_memory(&seats, board, status.memory);
            #[cfg(not(feature = "mutations"))]
            let memory = status.memory;
            let longer = self.lease.promised(
                &seats,
                (board, memory),
                status.config_at,
                applied,
                echo.stamp,
                self.now,
                self.lease_span,
            );
            if longer && self.froze_at >= self.confirmed {
                self.stirred = true;
            }
        }
        hears
    }

    /// The memory for which `board` is counted: its own, unless a test makes amnesiacs count.
    #[cfg(feature = "mutations")]
    pub(super) fn counted_memory(
        &self,
        seats: &crate::ledger::types::Seats,
        board: BoardId,
        memory: crate::ids::Memory,
    ) -> crate::ids::Memory {
        if self.mutated(super::Mutation::AmnesiacCounts) {
            seats.memory(board).unwrap_or(memory)
        } else {
            memory
        }
    }

    /// A leader's heartbeat, in this era.
    fn hear_leader(&mut self, board: BoardId, status: &Status, out: &mut dyn Sink) {
        if status.term < self.term {
            return;
        }
        if status.term > self.term || self.leader != Some(board) {
            self.follow(status.term, Some(board), out);
        }
        self.leader_heard = self.now;
        self.era_heard = self.now;
        self.unwanted = status.unwanted;
        self.rest_election();
        self.confirm(status.commit);
        self.commit_to(status.commit.min(self.verified), out);
    }

    /// A leader has told what is agreed: if this board has applied all of it, its copies may go on.
    pub(super) fn confirm(&mut self, commit: crate::ids::Index) {
        if commit <= self.ledger.index {
            if self.confirmed <= self.froze_at {
                self.stirred = true;
            }
            self.confirmed = self.now;
        }
    }
}
