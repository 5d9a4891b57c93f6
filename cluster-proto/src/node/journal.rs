//! Memory that survives: what a voter with a disk writes before it answers, and how it is read back.
//!
//! A journal begins with an identity, pages of a ledger, and the entries and vote of that moment; votes, entries and cuts follow as they come. Each record ends
//! with a checksum. What promises were given is not in it: a voter waits them out after every boot.

use super::{Effect, Journal, Node, Sink};
use crate::ids::{BoardId, Era, Index, Memory, Term};
use crate::ledger::page::Cursor;
use crate::ledger::types::Entry;
use crate::limits::{MAX_RECORD, PAYLOAD};
use crate::wire::auth::Authenticator;
use crate::wire::codec::{Malformed, Reader, Wire, Writer, tagged};

/// Records after which a journal is written anew.
const LONG: u32 = 1_024;
/// Bytes of a record's checksum.
const SUM: usize = 8;

tagged! {
    /// A record's head; a page's bytes follow it.
    Record {
        /// Whose memory this is.
        1 => Identity {
            /// In which history.
            era: Era,
            /// Its name.
            memory: Memory,
            /// Of which board.
            board: BoardId,
        },
        /// A piece of the ledger.
        2 => Page {},
        /// An entry; what stood there and behind it is dropped.
        3 => Kept {
            /// Where.
            index: Index,
            /// What.
            entry: Entry,
        },
        /// What was promised to candidates.
        4 => Voted {
            /// The term.
            term: Term,
            /// For whom.
            voted: Option<BoardId>,
        },
        /// Everything from here on is dropped.
        5 => Cut {
            /// From where.
            from: Index,
        },
        /// Everything up to here was agreed.
        6 => Agreed {
            /// Up to where.
            commit: Index,
        },
    }
}

/// Why a journal does not give a memory back. The board starts as one that remembers nothing: boot it again without a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalError {
    /// A record that was completed is damaged.
    Damaged,
    /// A record does not follow from those before.
    Disorder,
    /// It is another board's.
    Foreign,
}

/// What a journal gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    /// There was nothing in it.
    Nothing,
    /// The memory goes on.
    Remembered,
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// The record's value and what follows it, if its checksum is right.
fn read(record: &[u8]) -> Result<(Record, &[u8]), Malformed> {
    let (body, checksum) = record.split_last_chunk::<SUM>().ok_or(Malformed::Short)?;
    if sum(body).to_le_bytes() != *checksum {
        return Err(Malformed::Range);
    }
    let mut from = Reader::new(body);
    let head = Record::get(&mut from)?;
    if !matches!(head, Record::Page {}) {
        from.end()?;
    }
    Ok((head, from.rest()))
}

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Node<A, B, G, D, L>
{
    fn record(&mut self, place: Journal, head: &Record, rest: &[u8], out: &mut dyn Sink) {
        let mut buffer = [0; MAX_RECORD];
        let mut to = Writer::new(&mut buffer);
        let written = head.put(&mut to).and_then(|()| to.put(rest));
        let checksum = sum(to.bytes());
        if written.and_then(|()| checksum.put(&mut to)).is_err() {
            debug_assert!(false, "a record outgrew its buffer");
            return;
        }
        self.journal_length = self.journal_length.saturating_add(1);
        out.emit(Effect::Persist {
            place,
            record: to.bytes(),
        });
    }

    pub(super) fn persist_vote(&mut self, out: &mut dyn Sink) {
        if self.journaled && !self.era.is_blank() {
            self.record(
                Journal::Append,
                &Record::Voted {
                    term: self.term,
                    voted: self.voted,
                },
                &[],
                out,
            );
        }
    }

    pub(super) fn persist_entry(&mut self, index: Index, out: &mut dyn Sink) {
        if self.journaled
            && let Some(entry) = self.log.get(index).cloned()
        {
            self.record(Journal::Append, &Record::Kept { index, entry }, &[], out);
        }
    }

    pub(super) fn persist_cut(&mut self, from: Index, out: &mut dyn Sink) {
        if self.journaled {
            self.record(Journal::Append, &Record::Cut { from }, &[], out);
        }
    }

    /// Begins a new journal with everything that is remembered now.
    pub(super) fn persist_snapshot(&mut self, out: &mut dyn Sink) {
        if !self.journaled {
            return;
        }
        self.journal_length = 0;
        self.journaled_commit = self.ledger.index;
        let identity = Record::Identity {
            era: self.era,
            memory: self.memory,
            board: self.board,
        };
        self.record(Journal::Begin, &identity, &[], out);
        let mut at = Cursor::START;
        while at != Cursor::END {
            let mut scratch = [0; PAYLOAD];
            let mut to = Writer::new(&mut scratch);
            let next = self.ledger.write_page(at, &mut to);
            self.record(Journal::Append, &Record::Page {}, to.bytes(), out);
            if next == at {
                debug_assert!(false, "an item outgrew a page");
                return;
            }
            at = next;
        }
        let mut index = self.ledger.index.next();
        while index <= self.log.last() {
            self.persist_entry(index, out);
            index = index.next();
        }
        self.record(
            Journal::Complete,
            &Record::Voted {
                term: self.term,
                voted: self.voted,
            },
            &[],
            out,
        );
    }

    /// Writes what is agreed and applied, so that a log that goes on because of it can be read back.
    pub(super) fn note_agreed(&mut self, out: &mut dyn Sink) {
        if self.journaled && self.journaled_commit < self.ledger.index {
            self.journaled_commit = self.ledger.index;
            self.record(
                Journal::Append,
                &Record::Agreed {
                    commit: self.ledger.index,
                },
                &[],
                out,
            );
        }
    }

    /// Notes now and then what is agreed, so that a recalled log is not full of what nobody knows to be; and writes a long journal anew.
    pub(super) fn compact_journal(&mut self, out: &mut dyn Sink) {
        if !self.journaled {
            return;
        }
        if self.commit.0 - self.journaled_commit.0 >= L as u64 / 8 {
            self.note_agreed(out);
        }
        if self.journal_length > LONG {
            self.persist_snapshot(out);
        }
    }

    /// Takes back what the former life of this voter wrote, after [`Node::boot`] and before any other input. `records` are those of the newest
    /// complete journal, in order. A damaged last one was never answered for, and is dropped.
    ///
    /// # Errors
    /// [`JournalError`] when the memory is not whole. The node is then of no use before it is booted again.
    pub fn recall<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Recall, JournalError> {
        let mut records = records.into_iter().peekable();
        let mut known = false;
        while let Some(record) = records.next() {
            let (head, rest) = match read(record) {
                Ok(read) => read,
                Err(_) if records.peek().is_none() => break,
                Err(_) => return Err(JournalError::Damaged),
            };
            if !known && !matches!(head, Record::Identity { .. }) {
                return Err(JournalError::Disorder);
            }
            known = true;
            self.recall_one(head, rest)?;
        }
        if !known || self.era.is_blank() {
            return Ok(Recall::Nothing);
        }
        self.commit = self.ledger.index;
        self.find_config();
        self.find_fences();
        self.after_apply();
        self.rewrite = true;
        Ok(Recall::Remembered)
    }

    fn recall_one(&mut self, head: Record, rest: &[u8]) -> Result<(), JournalError> {
        match head {
            Record::Identity { era, memory, board } => {
                if board != self.board {
                    return Err(JournalError::Foreign);
                }
                self.forget(memory);
                self.era = era;
                self.newest_generation = era.generation;
            }
            Record::Page {} => {
                self.ledger
                    .read_page(rest)
                    .map_err(|_| JournalError::Damaged)?;
                self.log.restart(self.ledger.index, self.ledger.term);
            }
            Record::Kept { index, entry } => {
                if index <= self.log.base() || index > self.log.last().next() {
                    return Err(JournalError::Disorder);
                }
                self.log.truncate(index);
                if self.log.is_full() {
                    self.log.forget(self.ledger.index);
                }
                self.log.push(entry).map_err(|_| JournalError::Disorder)?;
            }
            Record::Voted { term, voted } => (self.term, self.voted) = (term, voted),
            Record::Cut { from } => self.log.truncate(from),
            Record::Agreed { commit } => {
                while self.ledger.index < commit {
                    let index = self.ledger.index.next();
                    let entry = self.log.get(index).cloned().ok_or(JournalError::Disorder)?;
                    self.ledger.apply(index, &entry);
                }
            }
        }
        Ok(())
    }
}
