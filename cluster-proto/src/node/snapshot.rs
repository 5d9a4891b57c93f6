//! The ledger as a whole, for whom the log is too long ago: page by page, checked as a whole, and only then in the place of the old one.

use super::state::Intake;
use super::{Node, Sink};
use crate::ids::{BoardId, Index, Span};
use crate::ledger::Ledger;
use crate::ledger::page::Cursor;
use crate::limits::{MAX_FRAME, PAYLOAD};
use crate::wire::auth::Authenticator;
use crate::wire::codec::Writer;
use crate::wire::message::{Message, PageAck, PageHead, Role};

impl<const B: usize, const G: usize, const D: usize> Ledger<B, G, D> {
    /// Makes this ledger the same as `other`, page by page, without a third one on the stack.
    pub(super) fn copy_from(&mut self, other: &Self) {
        let mut scratch = [0; MAX_FRAME];
        let mut at = Cursor::START;
        self.clear();
        while at != Cursor::END {
            let mut page = Writer::new(&mut scratch);
            let next = other.write_page(at, &mut page);
            let read = self.read_page(page.bytes());
            debug_assert!(
                read.is_ok() && next != at,
                "a ledger's own page is readable and not empty"
            );
            if next == at {
                return;
            }
            at = next;
        }
    }
}

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Node<A, B, G, D, L>
{
    pub(super) fn staging_free(&mut self) {
        self.intake = Intake::NONE;
        self.sending = Index(0);
    }

    pub(super) fn send_page(&mut self, board: BoardId, from: Cursor, out: &mut dyn Sink) {
        if self.sending.0 == 0 || self.sending < self.log.base() {
            self.staging.copy_from(&self.ledger);
            self.sending = self.ledger.index;
        }
        let mut scratch = [0; PAYLOAD];
        let mut to = Writer::new(&mut scratch);
        let next = self.staging.write_page(from, &mut to);
        let head = PageHead {
            era: self.era,
            term: self.term,
            index: self.sending,
            from,
            next,
            // Only the last page needs it, and it costs a walk over the ledger.
            checksum: if next == Cursor::END {
                self.staging.checksum()
            } else {
                0
            },
        };
        let progress = &mut self.peers[board.at()].progress;
        (progress.page, progress.sent_at) = (Some(from), self.now);
        self.send_board(board, &Message::Page(head, to.bytes()), out);
    }

    pub(super) fn on_page(
        &mut self,
        board: BoardId,
        head: &PageHead,
        page: &[u8],
        out: &mut dyn Sink,
    ) {
        if !self.hear_from_leader(board, head.era, head.term, out) {
            return;
        }
        if head.index <= self.commit {
            self.verified = self.verified.max(head.index);
            self.answer_append(board, self.verified, true, Span(0), out);
            return;
        }
        if self.intake.index != head.index || head.from == Cursor::START {
            self.staging.clear();
            self.intake = Intake {
                index: head.index,
                ..Intake::NONE
            };
        }
        if head.from == self.intake.next
            && head.next > head.from
            && self.staging.read_page(page).is_ok()
        {
            self.intake.next = head.next;
        }
        if self.intake.next == Cursor::END {
            let whole =
                self.staging.index == head.index && self.staging.checksum() == head.checksum;
            self.intake = Intake::NONE;
            if whole {
                self.install(out);
                self.verified = self.verified.max(head.index);
                self.answer_append(board, self.verified, true, Span(0), out);
                return;
            }
        }
        let ack = PageAck {
            era: self.era,
            term: self.term,
            index: head.index,
            next: self.intake.next,
        };
        self.send_board(board, &Message::PageAck(ack), out);
    }

    /// Makes the received ledger this board's own.
    fn install(&mut self, out: &mut dyn Sink) {
        self.counters.snapshots += 1;
        self.ledger.copy_from(&self.staging);
        let (index, term) = (self.ledger.index, self.ledger.term);
        if self.log.term_at(index) == Some(term) {
            // What was acknowledged behind it stays.
            self.log.forget(index);
        } else {
            self.log.restart(index, term);
        }
        self.commit = index;
        self.find_config();
        self.find_fences();
        self.keep_quiet();
        self.virgin = false;
        self.after_apply();
        self.persist_snapshot(out);
    }

    pub(super) fn on_page_ack(&mut self, board: BoardId, ack: &PageAck, out: &mut dyn Sink) {
        if ack.era != self.era || self.role != Role::Leader || ack.term != self.term {
            return;
        }
        if self.peers[board.at()].progress.page.is_none() {
            return;
        }
        let from = if ack.index == self.sending {
            ack.next
        } else {
            Cursor::START
        };
        self.send_page(board, from, out);
    }
}
