//! The log: proposed by a leader, taken by followers, agreed by majorities, applied by everybody; and snapshots for whom it is too long ago.

use super::{Node, Sink};
use crate::ids::{BoardId, BoardSet, Index, Span, Tenure};
use crate::ledger::page::Cursor;
use crate::ledger::types::{Decree, Entry};
use crate::limits::{APPEND_ENTRIES, APPEND_RETRY, PAYLOAD};
use crate::wire::auth::Authenticator;
use crate::wire::codec::{Wire, Writer};
use crate::wire::message::{AppendHead, Appended, Message, Role, read_entries};

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Node<A, B, G, D, L>
{
    /// As leader, puts a decree into its log. Returns whether there was room. It is sent by [`Self::spread`].
    pub(super) fn propose(&mut self, decree: Decree, out: &mut dyn Sink) -> bool {
        // The last places are kept for what begins a term, without which nothing of the former ones could be agreed.
        let waiting = self.log.last().0 - self.ledger.index.0;
        let reserved = !matches!(decree, Decree::Begin {}) && waiting >= (L - L / 4) as u64;
        let entry = Entry {
            term: self.term,
            decree,
        };
        if reserved || self.take_entry(entry, out).is_err() {
            self.counters.log_full += 1;
            return false;
        }
        self.lead_at = self.now;
        true
    }

    /// Puts an entry behind the last of the log, with what follows from its being there.
    fn take_entry(
        &mut self,
        entry: Entry,
        out: &mut dyn Sink,
    ) -> Result<Index, crate::log::LogFull> {
        if self.log.is_full() {
            self.log.forget(self.ledger.index);
        }
        if self.log.last().next().0 - self.journaled_commit.0 >= L as u64 {
            // A log that is read back must not hold more than this one can.
            self.note_agreed(out);
        }
        if let Decree::Fence { board, .. } = &entry.decree {
            self.pending_fences.set(*board, true);
        }
        let configured = match &entry.decree {
            Decree::Configure {
                seats,
                previous,
                board,
            } => Some((*seats, *previous, *board)),
            _ => None,
        };
        let index = self.log.push(entry)?;
        if let Some((seats, previous, board)) = configured {
            self.configure(index, seats, previous, board, out);
        }
        self.persist_entry(index, out);
        Ok(index)
    }

    /// A configuration is in force as soon as it is in the log.
    fn configure(
        &mut self,
        index: Index,
        seats: crate::ledger::types::Seats,
        previous: Index,
        board: BoardId,
        out: &mut dyn Sink,
    ) {
        self.config = seats;
        self.config_at = index;
        self.newcomer = Some(board);
        // Promises that others gave under the former configuration are not to be outvoted by this one.
        self.keep_quiet();
        // It would not have been proposed before the one before it was agreed.
        self.commit_to(previous, out);
    }

    /// As leader, sends to everybody what it lacks.
    pub(super) fn spread(&mut self, out: &mut dyn Sink) {
        for at in 0..B {
            // B is at most 64.
            let board = BoardId(at as u8);
            if board != self.board && self.met(board) {
                self.feed(board, out);
            }
        }
    }

    /// Says at once who leads.
    pub(super) fn announce(&mut self, out: &mut dyn Sink) {
        self.beat_at = self.now;
        self.beat(out);
        self.spread(out);
    }

    /// Sends `board` what it lacks, if it is time.
    fn feed(&mut self, board: BoardId, out: &mut dyn Sink) {
        let (now, last, base, commit) = (self.now, self.log.last(), self.log.base(), self.commit);
        let peer = &mut self.peers[board.at()];
        let known = peer.status.as_ref().map_or(commit, |status| status.commit);
        let progress = &mut peer.progress;
        if known < commit && now.since(progress.sent_at) >= APPEND_RETRY {
            // It says itself that it did not hear what is agreed.
            progress.told = progress.told.min(known);
        }
        if progress.sent < progress.next.previous() {
            progress.sent = progress.next.previous();
        }
        let waits = progress.matched < progress.sent || progress.page.is_some();
        let late = now.since(progress.sent_at) >= APPEND_RETRY;
        if waits && late {
            progress.sent = progress.next.previous();
        }
        if progress.next <= base {
            if progress.page.is_none() || late {
                let from = progress.page.unwrap_or(Cursor::START);
                self.send_page(board, from, out);
            }
            return;
        }
        progress.page = None;
        let held = now < progress.hold_until;
        if (progress.sent < last && !held) || progress.told < commit || (waits && late && !held) {
            self.send_append(board, held, out);
        }
    }

    fn send_append(&mut self, board: BoardId, only_commit: bool, out: &mut dyn Sink) {
        let mut scratch = [0; PAYLOAD];
        let mut to = Writer::new(&mut scratch);
        let previous = self.peers[board.at()].progress.sent;
        let Some(previous_term) = self.log.term_at(previous) else {
            return;
        };
        let mut sent = previous;
        let mut count = 0u8;
        while !only_commit && usize::from(count) < APPEND_ENTRIES {
            let Some(entry) = self.log.get(sent.next()) else {
                break;
            };
            let before = to.used();
            if entry.put(&mut to).is_err() {
                to.truncate(before);
                break;
            }
            sent = sent.next();
            count += 1;
        }
        let head = AppendHead {
            era: self.era,
            term: self.term,
            previous,
            previous_term,
            commit: self.commit,
            count,
        };
        let progress = &mut self.peers[board.at()].progress;
        (progress.sent, progress.sent_at, progress.told) = (sent, self.now, self.commit);
        self.send_board(board, &Message::Append(head, to.bytes()), out);
    }

    pub(super) fn on_append(
        &mut self,
        board: BoardId,
        head: &AppendHead,
        entries: &[u8],
        out: &mut dyn Sink,
    ) {
        if !self.hear_from_leader(board, head.era, head.term, out) {
            return;
        }
        let previous_fits = match self.log.term_at(head.previous) {
            Some(term) => term == head.previous_term,
            // What is behind the log's beginning was agreed, and so is the leader's too.
            None => head.previous < self.log.base(),
        };
        if !previous_fits {
            let matched = self
                .log
                .last()
                .min(head.previous.previous())
                .max(self.ledger.index.min(head.previous.previous()));
            self.answer_append(board, matched, false, Span(0), out);
            return;
        }
        let (matched, hold) = self.take_entries(head, entries, out);
        self.verified = self.verified.max(matched);
        self.commit_to(head.commit.min(self.verified), out);
        self.confirm(head.commit);
        self.answer_append(board, self.verified, true, hold, out);
    }

    /// Takes what is new of an append's entries, up to a fence that has to wait. Returns how far the log is the leader's, and the wait.
    fn take_entries(
        &mut self,
        head: &AppendHead,
        entries: &[u8],
        out: &mut dyn Sink,
    ) -> (Index, Span) {
        let mut matched = head.previous;
        for entry in read_entries(entries).take(usize::from(head.count)) {
            let index = matched.next();
            if index <= self.log.base() || self.log.term_at(index) == Some(entry.term) {
                matched = index;
                continue;
            }
            if index <= self.commit {
                // What is agreed does not change; a leader who says otherwise is not one.
                self.counters.contradictions += 1;
                break;
            }
            if index <= self.log.last() {
                self.drop_from(index, out);
            }
            // One that is agreed without this voter breaks no promise of this voter.
            if let Decree::Fence { board, tenure, .. } = &entry.decree
                && index > head.commit
                && let Some(hold) = self.holds_fence(*board, *tenure)
            {
                self.counters.fence_held += 1;
                self.unwanted.set(*board, true);
                return (matched, hold);
            }
            if self.take_entry(entry, out).is_err() {
                break;
            }
            matched = index;
        }
        (matched, Span(0))
    }

    /// How long this voter has to refuse a fence of `board`, if it has to.
    pub(super) fn holds_fence(&self, board: BoardId, tenure: Tenure) -> Option<Span> {
        #[cfg(feature = "mutations")]
        if self.mutated(super::Mutation::FenceAtOnce) {
            return None;
        }
        let wait = self.promises.free_at(board).since(self.now);
        (tenure.0 != 0 && wait.0 > 0).then_some(wait)
    }

    /// Drops entries that a newer leader replaces, with what followed from them.
    fn drop_from(&mut self, index: Index, out: &mut dyn Sink) {
        self.counters.truncated += 1;
        self.log.truncate(index);
        self.find_config();
        self.find_fences();
        self.persist_cut(index, out);
    }

    /// The configuration in force: the newest in the log, or else the ledger's.
    pub(super) fn find_config(&mut self) {
        let newest = self.log.newest_seats(self.ledger.seats_at);
        let (at, seats) = newest.unwrap_or((self.ledger.seats_at, self.ledger.seats));
        if at != self.config_at {
            self.keep_quiet();
        }
        (self.config_at, self.config) = (at, seats);
        self.newcomer = match self.log.get(at).map(|entry| &entry.decree) {
            Some(Decree::Configure { board, .. }) => Some(*board),
            _ => None,
        };
    }

    pub(super) fn find_fences(&mut self) {
        let mut fences = BoardSet(0);
        for (_, entry) in self
            .log
            .iter()
            .filter(|(index, _)| *index > self.ledger.index)
        {
            if let Decree::Fence { board, .. } = &entry.decree {
                fences.set(*board, true);
            }
        }
        self.pending_fences = fences;
    }

    pub(super) fn answer_append(
        &mut self,
        board: BoardId,
        matched: Index,
        fits: bool,
        hold: Span,
        out: &mut dyn Sink,
    ) {
        let reply = Appended {
            era: self.era,
            term: self.term,
            memory: self.memory,
            matched,
            fits,
            hold,
        };
        self.send_board(board, &Message::Appended(reply), out);
    }

    /// Whether an append or a page is by the leader to follow; follows it then.
    pub(super) fn hear_from_leader(
        &mut self,
        board: BoardId,
        era: crate::ids::Era,
        term: crate::ids::Term,
        out: &mut dyn Sink,
    ) -> bool {
        if !self.fits_era(era, out) {
            return false;
        }
        if term < self.term {
            self.answer_append(board, Index(0), false, Span(0), out);
            return false;
        }
        if term > self.term || self.leader != Some(board) {
            if term == self.term && self.role == Role::Leader {
                // Two leaders in one term: this cannot be; if it is, the one that notices steps down.
                self.counters.contradictions += 1;
            }
            self.follow(term, Some(board), out);
        }
        (self.leader_heard, self.era_heard) = (self.now, self.now);
        self.rest_election();
        true
    }

    pub(super) fn on_appended(&mut self, board: BoardId, reply: &Appended, out: &mut dyn Sink) {
        if reply.era != self.era {
            return;
        }
        if reply.term > self.term {
            self.follow(reply.term, None, out);
            return;
        }
        if self.role != Role::Leader || reply.term != self.term {
            return;
        }
        let (now, last) = (self.now, self.log.last());
        let progress = &mut self.peers[board.at()].progress;
        if progress.memory != reply.memory {
            (progress.memory, progress.matched) = (reply.memory, Index(0));
        }
        self.lead_at = now;
        let matched = reply.matched.min(last);
        if !reply.fits {
            if matched < progress.next.previous() {
                progress.next = matched.next();
                progress.sent = matched;
                progress.page = None;
            }
            return;
        }
        progress.matched = progress.matched.max(matched);
        progress.next = progress.next.max(progress.matched.next());
        if progress.page.take().is_some() {
            progress.sent = progress.matched;
        }
        if reply.hold.0 > 0 {
            progress.hold_until = now.after(reply.hold);
            progress.sent = progress.matched;
        }
        self.agree(out);
    }

    /// As leader, finds what a majority has, and agrees to it.
    pub(super) fn agree(&mut self, out: &mut dyn Sink) {
        loop {
            let mut index = self.log.last();
            while index > self.commit
                && self.log.term_at(index) == Some(self.term)
                && !self.is_held(index)
            {
                index = index.previous();
            }
            if index <= self.commit || self.log.term_at(index) != Some(self.term) {
                return;
            }
            self.commit_to(index, out);
        }
    }

    /// Whether enough voters have the log up to `index`. What lets a newcomer in needs a majority of the others; what follows
    /// it, one with the newcomer.
    fn is_held(&self, index: Index) -> bool {
        let uncounted = self.uncounted();
        let by_others = uncounted.is_none() || self.majority_has(index, uncounted);
        let by_all =
            (uncounted.is_some() && index <= self.config_at) || self.majority_has(index, None);
        by_others && by_all
    }

    /// Whoever is not counted in its own admission, while this leader's proposal of it is not agreed. A later leader counts it like
    /// everybody, since the seat was emptied before without it.
    pub(super) fn uncounted(&self) -> Option<BoardId> {
        #[cfg(feature = "mutations")]
        if self.mutated(super::Mutation::AmnesiacCounts) {
            return None;
        }
        let pending =
            self.commit < self.config_at && self.log.term_at(self.config_at) == Some(self.term);
        self.newcomer.filter(|_| pending)
    }

    /// Whether a majority of the members other than `uncounted` have the log up to `index`.
    fn majority_has(&self, index: Index, uncounted: Option<BoardId>) -> bool {
        let has = |board: BoardId, memory: crate::ids::Memory| {
            if board == self.board {
                return memory == self.memory && self.log.last() >= index;
            }
            let Some(peer) = self.peers.get(board.at()) else {
                return false;
            };
            #[cfg(feature = "mutations")]
            let memory = if self.mutated(super::Mutation::AmnesiacCounts) {
                peer.progress.memory
            } else {
                memory
            };
            peer.progress.memory == memory && peer.progress.matched >= index
        };
        let (mut members, mut holders) = (0, 0);
        for (_, board, memory) in self
            .config
            .members()
            .filter(|seat| Some(seat.1) != uncounted)
        {
            members += 1;
            holders += usize::from(has(board, memory));
        }
        holders > members / 2
    }

    /// Everything up to `index` is agreed: applies it.
    pub(super) fn commit_to(&mut self, index: Index, out: &mut dyn Sink) {
        let index = index.min(self.log.last());
        if index <= self.commit {
            return;
        }
        self.commit = index;
        while self.ledger.index < self.commit {
            let next = self.ledger.index.next();
            let Some(entry) = self.log.get(next).cloned() else {
                debug_assert!(false, "an agreed entry is in the log until it is applied");
                return;
            };
            if let Some((id, outcome)) = self.ledger.apply(next, &entry) {
                self.answer(&id, outcome, out);
            }
        }
        self.after_apply();
        let kept = L / 2;
        if self.log.len() > kept {
            self.log.forget(
                self.ledger
                    .index
                    .min(Index(self.log.last().0 - kept as u64)),
            );
        }
        self.compact_journal(out);
    }

    /// What follows from a ledger that has moved.
    pub(super) fn after_apply(&mut self) {
        if !self.pending_fences.is_empty() {
            self.find_fences();
        }
        let tenure = self.own_tenure();
        if self.lease.tenure() != tenure {
            self.lease.enter(tenure, self.now);
            self.leaseless_since = self.now;
        }
        self.stirred = true;
        self.lead_at = self.now;
    }
}
