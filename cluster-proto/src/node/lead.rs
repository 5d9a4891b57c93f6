//! What a leader does: watches the boards, fences the lost, lets boards and voters in, and gives guests to boards.

use super::{Node, Sink};
use crate::ids::{BoardId, BoardSet, GuestId, Incarnation, Memory, Micros, Span};
use crate::ledger::types::{Decree, Guest, Phase, Reason, Wanted};
use crate::limits::{LEASELESS_PATIENCE, REPORT_GAP};
use crate::placement::{Choice, choose, choose_live, fits_elsewhere};
use crate::wire::auth::Authenticator;
use crate::wire::message::{HandOver, JoinMe, Report, Role};

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Node<A, B, G, D, L>
{
    /// Everything that is due now.
    pub(super) fn lead(&mut self, out: &mut dyn Sink) {
        if self.now < self.lead_at {
            return;
        }
        self.lead_at = self.now.after(self.heartbeat);
        self.agree(out);
        if self.commit >= self.begun {
            self.confirmed = self.confirmed.max(self.contact());
            self.watch_boards(out);
            self.watch_seats(out);
            // One step at a time: a decision is taken on a ledger that has all earlier ones in it.
            if self.ledger.index == self.log.last() && !self.log.is_full() {
                self.place_guests(out);
            }
            self.agree(out);
        }
        self.spread(out);
        self.lead_at = self.lead_at.max(Micros(self.now.0 + 1));
    }

    /// Wants fenced who is lost, and fences whom no promise protects any more.
    fn watch_boards(&mut self, out: &mut dyn Sink) {
        for at in 0..B {
            // B is at most 64.
            let board = BoardId(at as u8);
            let reason = self.lost(board);
            let wanted = reason.is_some();
            if wanted && !self.unwanted.has(board) {
                // Say so at once, so that promises end everywhere at the same time.
                self.beat_at = self.beat_at.min(self.now);
            }
            self.unwanted.set(board, wanted);
            let Some(reason) = reason else { continue };
            if self.pending_fences.has(board) {
                continue;
            }
            let tenure = self.ledger.tenure(board);
            match self.holds_fence(board, tenure) {
                Some(wait) => self.lead_at = self.lead_at.min(self.now.after(wait)),
                None => {
                    self.propose(
                        Decree::Fence {
                            board,
                            tenure,
                            reason,
                        },
                        out,
                    );
                }
            }
        }
    }

    /// Why `board` should be fenced, if it should.
    fn lost(&mut self, board: BoardId) -> Option<Reason> {
        let entry = self.ledger.board(board)?;
        if entry.tenure.0 == 0 {
            return None;
        }
        let tenure = entry.tenure;
        let (incarnation, disarmed) = (entry.incarnation, entry.disarmed || self.ledger.disarmed);
        if board == self.board {
            return if incarnation == self.incarnation {
                None
            } else {
                Some(Reason::Rebooted)
            };
        }
        let peer = self.peers.get(board.at())?;
        if peer.incarnation.0 != 0 && peer.incarnation != incarnation {
            return Some(Reason::Rebooted);
        }
        if disarmed {
            return None;
        }
        if self.now.since(self.led_since) < self.patience && peer.incarnation.0 == 0 {
            // A leader that has only just met its peers waits for this one to speak.
            return None;
        }
        // Only what it says about its present tenure counts: before that it could have no lease.
        let present = peer
            .status
            .as_ref()
            .filter(|status| status.tenure == tenure);
        let leaseless = present.map_or(0, |status| u64::from(status.leaseless_ms));
        let heard_here = peer.detector.hears(self.now);
        if heard_here && Span::millis(leaseless) > LEASELESS_PATIENCE {
            return Some(Reason::Leaseless);
        }
        if let Some(deadline) = peer.detector.deadline().filter(|_| heard_here) {
            self.lead_at = self.lead_at.min(Micros(deadline.0 + 1));
        }
        let heard = self.heard_by(board, heard_here);
        (heard < self.config.majority()).then_some(Reason::Silent)
    }

    /// How many voters hear `board`, itself among them if it votes.
    fn heard_by(&self, board: BoardId, heard_here: bool) -> usize {
        let hears = |voter: BoardId| {
            if voter == self.board {
                return heard_here;
            }
            let Some(peer) = self.peers.get(voter.at()) else {
                return false;
            };
            if !peer.detector.hears(self.now) {
                return false;
            }
            peer.hears.has(board)
        };
        let counts =
            |voter: BoardId, memory: Memory| voter == self.board || self.remembers(voter, memory);
        let others = || self.config.members().filter(|seat| seat.1 != board);
        let heard = others()
            .filter(|&(_, voter, memory)| counts(voter, memory) && hears(voter))
            .count();
        heard + usize::from(heard > 0 && self.config.members().any(|seat| seat.1 == board))
    }

    /// Gives seats back to voters that lost their memory, one change at a time.
    fn watch_seats(&mut self, out: &mut dyn Sink) {
        if self.config_at > self.commit {
            return;
        }
        let seats = self.config;
        let newcomer = seats.iter().find_map(|(_, board, memory)| {
            let peer = self.peers.get(board.at())?;
            let status = peer.status.as_ref()?;
            let progress = &peer.progress;
            let back = board != self.board
                && status.era == self.era
                && status.memory != memory
                && peer.detector.hears(self.now)
                && progress.memory == status.memory
                && progress.matched >= self.commit;
            back.then_some((board, memory, status.memory))
        });
        let Some((board, holder, memory)) = newcomer else {
            return;
        };
        let next = if holder.0 == 0 { memory } else { Memory(0) };
        #[cfg(feature = "mutations")]
        let next = if self.mutated(super::Mutation::AmnesiacCounts) {
            memory
        } else {
            next
        };
        self.propose(
            Decree::Configure {
                seats: seats.with(board, next),
                previous: self.config_at,
                board,
            },
            out,
        );
    }

    pub(super) fn on_join(&mut self, board: BoardId, join: &JoinMe, out: &mut dyn Sink) {
        if !self.leads() || join.era != self.era {
            return;
        }
        let Some(peer) = self.peers.get_mut(board.at()) else {
            return;
        };
        let incarnation = if board == self.board {
            self.incarnation
        } else {
            peer.incarnation
        };
        if self.now < peer.join_at || incarnation == Incarnation(0) {
            return;
        }
        if self.ledger.may_join(board, incarnation, join.after) {
            peer.join_at = self.now.after(REPORT_GAP);
            self.propose(
                Decree::Join {
                    board,
                    incarnation,
                    after: join.after,
                    capacity: join.capacity.clone(),
                },
                out,
            );
        }
    }

    pub(super) fn on_report(&mut self, report: &Report, out: &mut dyn Sink) {
        if !self.leads() || report.era != self.era {
            return;
        }
        let Some(guest) = self.ledger.guest(report.guest) else {
            return;
        };
        if self.ledger.epoch(report.guest) != report.epoch || guest.phase == Phase::Unowned {
            return;
        }
        let decree = Decree::Observe {
            guest: report.guest,
            epoch: report.epoch,
            seen: report.seen.clone(),
        };
        if !self.is_pending(&decree) {
            self.propose(decree, out);
        }
    }

    pub(super) fn on_hand_over(&mut self, question: &HandOver, out: &mut dyn Sink) {
        if !self.leads() || question.era != self.era {
            return;
        }
        let Some(guest) = self.ledger.guest(question.guest) else {
            return;
        };
        if self.ledger.epoch(question.guest) != question.epoch || guest.phase != Phase::Running {
            return;
        }
        let complete = question.complete;
        #[cfg(feature = "mutations")]
        let complete = match &guest.moving {
            Some(order) if self.mutated(super::Mutation::HandUnnamed) => complete.map(|_| order.id),
            _ => complete,
        };
        let decree = Decree::Hand {
            guest: question.guest,
            epoch: question.epoch,
            complete,
            reason: question.reason,
        };
        if !self.is_pending(&decree) {
            self.propose(decree, out);
        }
    }

    /// Whether the log already has that decree waiting.
    pub(super) fn is_pending(&self, decree: &Decree) -> bool {
        let mut index = self.log.last();
        while index > self.ledger.index {
            if self
                .log
                .get(index)
                .is_some_and(|entry| entry.decree == *decree)
            {
                return true;
            }
            index = index.previous();
        }
        false
    }

    /// Takes the most important step towards every guest being where it should be.
    fn place_guests(&mut self, out: &mut dyn Sink) {
        if let Some(decree) = self.next_placement().or_else(|| self.next_departure()) {
            self.propose(decree, out);
        }
    }

    /// The next owner to be named, or guest to be displaced for one: highest priority first. A board that is being cleared for one guest takes no
    /// other of lower priority, or the two would displace each other for ever.
    fn next_placement(&mut self) -> Option<Decree> {
        let mut cleared = BoardSet(0);
        let mut last = None;
        while let Some((priority, id)) = self.next_waiting(last) {
            last = Some((priority, id));
            if !self.may_try(id) {
                continue;
            }
            match choose(&self.ledger, id) {
                Choice::Board(board) if !self.unwanted.has(board) && !cleared.has(board) => {
                    let (epoch, tenure) = (self.ledger.epoch(id), self.ledger.tenure(board));
                    return Some(Decree::Place {
                        guest: id,
                        epoch,
                        board,
                        tenure,
                        reason: Reason::Placed,
                    });
                }
                Choice::Displace(board, victim) if !cleared.has(board) => {
                    let epoch = self.ledger.epoch(victim);
                    let goes =
                        |guest: &Guest| guest.phase == Phase::Leaving || guest.moving.is_some();
                    if !self.ledger.owned_by(board).any(|it| goes(it.2)) {
                        return Some(Decree::Retire {
                            guest: victim,
                            epoch,
                            reason: Reason::Displaced,
                        });
                    }
                    cleared.set(board, true);
                }
                Choice::Board(_) | Choice::Displace(..) | Choice::Nowhere => {}
            }
        }
        None
    }

    /// The guest that should run and has no owner and comes after `last`, by falling priority, then by rising number.
    fn next_waiting(&self, last: Option<(u8, GuestId)>) -> Option<(u8, GuestId)> {
        let waits =
            |guest: &Guest| guest.phase == Phase::Unowned && guest.wanted == Wanted::Running;
        self.ledger
            .guests()
            .filter(|(_, _, guest)| waits(guest))
            .map(|(id, _, guest)| (guest.spec.priority, id))
            .filter(|&(priority, id)| {
                last.is_none_or(|(before, number)| (priority, number) < (before, id))
            })
            .max_by_key(|&(priority, id)| (priority, core::cmp::Reverse(id)))
    }

    /// Whether a guest that failed so often may be tried again now.
    fn may_try(&mut self, id: GuestId) -> bool {
        let failures = self.ledger.guest(id).map_or(0, |guest| guest.failures);
        let until = self.backoff[id.at()].until(failures, self.now);
        self.is_time(until)
    }

    /// Whether a guest whose moves were given up so often may be moved now.
    fn may_move(&mut self, id: GuestId) -> bool {
        let stays = self.ledger.guest(id).map_or(0, |guest| guest.stays);
        let until = self.move_backoff[id.at()].until(stays, self.now);
        self.is_time(until)
    }

    /// Whether a pause is over; if not, looks again when it is.
    fn is_time(&mut self, until: Micros) -> bool {
        if self.now < until {
            self.lead_at = self.lead_at.min(until);
        }
        self.now >= until
    }

    /// The next guest that should leave a drained board, one after another.
    fn next_departure(&mut self) -> Option<Decree> {
        let drains = |guest: &Guest| match &guest.moving {
            Some(order) => order.reason == Reason::Drained,
            None => guest.phase == Phase::Leaving && guest.reason == Reason::Drained,
        };
        if self.ledger.guests().any(|(_, _, guest)| drains(guest)) {
            return None;
        }
        // G is a small capacity, far below 65,536.
        (0..G).find_map(|at| self.departure(GuestId(at as u16)))
    }

    /// How a guest leaves its board, if that is drained: while it runs, or, where that cannot be, to be started elsewhere.
    fn departure(&mut self, id: GuestId) -> Option<Decree> {
        let guest = self.ledger.guest(id)?;
        let board = self.ledger.board(guest.owner)?;
        let drained = board.drained && board.tenure.0 != 0;
        if guest.phase != Phase::Running || guest.moving.is_some() || !drained {
            return None;
        }
        let (owner, movable) = (guest.owner, guest.stay != Reason::CannotMove);
        let (epoch, reason) = (self.ledger.epoch(id), Reason::Drained);
        match choose_live(&self.ledger, id).filter(|_| movable) {
            Some(to) => self.may_move(id).then(|| Decree::Send {
                guest: id,
                epoch,
                to,
                tenure: self.ledger.tenure(to),
                reason,
            }),
            None => fits_elsewhere(&self.ledger, id, owner).then_some(Decree::Retire {
                guest: id,
                epoch,
                reason,
            }),
        }
    }

    /// Whether this board leads and its ledger has everything that was decided; then its view is the cluster's.
    #[must_use]
    pub fn is_settled_leader(&self) -> bool {
        self.leads() && self.role == Role::Leader && self.ledger.index == self.log.last()
    }
}
