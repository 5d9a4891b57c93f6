//! The part of the log that is kept: entries behind the ledger's snapshot point, up to `L` of them.

use heapless::Deque;

use crate::ids::{Index, Term};
use crate::ledger::types::{Decree, Entry, Seats};

/// The log.
#[derive(Clone, Debug)]
pub struct Log<const L: usize> {
    entries: Deque<Entry, L>,
    /// The entry before the first that is kept.
    base: Index,
    base_term: Term,
}

impl<const L: usize> PartialEq for Log<L> {
    fn eq(&self, other: &Self) -> bool {
        self.base == other.base
            && self.base_term == other.base_term
            && self.entries.iter().eq(other.entries.iter())
    }
}

impl<const L: usize> core::hash::Hash for Log<L> {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.base.hash(state);
        self.base_term.hash(state);
        self.entries.len().hash(state);
        self.entries.iter().for_each(|entry| entry.hash(state));
    }
}

/// There is no room for another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFull;

impl<const L: usize> Log<L> {
    /// An empty log that begins behind entry 0.
    pub const NEW: Self = Self {
        entries: Deque::new(),
        base: Index(0),
        base_term: Term(0),
    };

    /// Forgets everything, and begins behind `base`.
    pub fn restart(&mut self, base: Index, base_term: Term) {
        self.entries.clear();
        self.base = base;
        self.base_term = base_term;
    }

    /// The entry before the first that is kept.
    #[must_use]
    pub fn base(&self) -> Index {
        self.base
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> Index {
        Index(self.base.0 + self.entries.len() as u64)
    }

    /// The last entry's term.
    #[must_use]
    pub fn last_term(&self) -> Term {
        self.entries
            .back()
            .map_or(self.base_term, |entry| entry.term)
    }

    fn at(&self, index: Index) -> Option<usize> {
        usize::try_from(index.0.checked_sub(self.base.0 + 1)?).ok()
    }

    /// The entry at `index`, if it is kept.
    #[must_use]
    pub fn get(&self, index: Index) -> Option<&Entry> {
        self.entries.get(self.at(index)?)
    }

    /// The term of the entry at `index`, if that is kept or is the one before.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base {
            Some(self.base_term)
        } else {
            self.get(index).map(|entry| entry.term)
        }
    }

    /// Whether no further entry fits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.is_full()
    }

    /// How many entries are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds an entry behind the last.
    ///
    /// # Errors
    /// [`LogFull`] when there is no room.
    pub fn push(&mut self, entry: Entry) -> Result<Index, LogFull> {
        self.entries.push_back(entry).map_err(|_| LogFull)?;
        Ok(self.last())
    }

    /// Drops `from` and everything behind it.
    pub fn truncate(&mut self, from: Index) {
        while self.last() >= from && self.entries.pop_back().is_some() {}
    }

    /// Forgets everything up to `to`, which must have been applied.
    pub fn forget(&mut self, to: Index) {
        while self.base < to {
            let Some(entry) = self.entries.pop_front() else {
                return;
            };
            self.base = self.base.next();
            self.base_term = entry.term;
        }
    }

    /// The entries with their places.
    pub fn iter(&self) -> impl Iterator<Item = (Index, &Entry)> {
        self.entries
            .iter()
            .enumerate()
            .map(|(at, entry)| (Index(self.base.0 + 1 + at as u64), entry))
    }

    /// The newest configuration behind `after`.
    #[must_use]
    pub fn newest_seats(&self, after: Index) -> Option<(Index, Seats)> {
        self.iter()
            .filter(|(index, _)| *index > after)
            .filter_map(|(index, entry)| match &entry.decree {
                Decree::Configure { seats, .. } => Some((index, *seats)),
                _ => None,
            })
            .last()
    }
}
