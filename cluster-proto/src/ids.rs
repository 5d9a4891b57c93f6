//! The quantities of the protocol, each with a type of its own, so that no term is taken for an index.

use core::fmt;

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

quantity! {
    /// A board's number, below [`crate::limits::BOARDS_MAX`]. A witness has one too.
    BoardId(u8)
}
quantity! {
    /// A guest's place in the ledger. A place that is used again goes on counting ownership epochs.
    GuestId(u16)
}
quantity! {
    /// A volume's place in the ledger.
    VolumeId(u16)
}
quantity! {
    /// Which life of a board: random at every boot. Zero is no life.
    Incarnation(u64)
}
quantity! {
    /// Which memory votes: random when the replicated state starts from nothing. Zero is an empty seat.
    Memory(u64)
}
quantity! {
    /// A term of leadership.
    Term(u64)
}
quantity! {
    /// A position in the log; the first entry of an era is 1.
    Index(u64)
}
quantity! {
    /// A guest's ownership epoch. Zero: never owned.
    Epoch(u64)
}
quantity! {
    /// The log index of the decree that let a board in. Zero: it is not in.
    Tenure(u64)
}
quantity! {
    /// Which move of a guest: the log index of the decree that ordered it. Zero is no move. One with its highest bit set is none between boards, but a
    /// guest's way to or from a file ([`MoveId::of_file`]).
    MoveId(u64)
}

impl MoveId {
    const FILE: u64 = 1 << 63;

    /// The name of a guest's way to or from a file, made of random bits. No index of a log comes that far.
    #[must_use]
    pub const fn of_file(random: u64) -> Self {
        Self(random | Self::FILE)
    }

    /// Whether it names a guest's way to or from a file.
    #[must_use]
    pub const fn is_of_file(self) -> bool {
        self.0 & Self::FILE != 0
    }
}
quantity! {
    /// A moment on one board's own clock, in microseconds since an arbitrary start.
    Micros(u64)
}
quantity! {
    /// A length of time on one board's own clock, in microseconds.
    Span(u64)
}

/// Which history terms, indexes and epochs belong to. A higher generation replaces a lower one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Era {
    /// Grows with every founding that its founder knows of. Zero: blank.
    pub generation: u32,
    /// Random, so that two foundings differ.
    pub nonce: u64,
}

impl Era {
    /// No era: this memory is blank.
    pub const BLANK: Self = Self {
        generation: 0,
        nonce: 0,
    };

    /// Whether this is no era.
    #[must_use]
    pub fn is_blank(self) -> bool {
        self.generation == 0
    }
}

impl BoardId {
    /// This board as a bit of a [`BoardSet`]'s mask.
    #[must_use]
    pub fn bit(self) -> u64 {
        1u64.checked_shl(u32::from(self.0)).unwrap_or(0)
    }

    /// As an index of a table by board.
    #[must_use]
    pub fn at(self) -> usize {
        usize::from(self.0)
    }
}

impl GuestId {
    /// As an index of the table of guests.
    #[must_use]
    pub fn at(self) -> usize {
        usize::from(self.0)
    }
}

impl Span {
    /// From milliseconds.
    #[must_use]
    pub const fn millis(ms: u64) -> Self {
        Self(ms * 1_000)
    }
}

impl Micros {
    /// The moment `span` later; the end of time at most.
    #[must_use]
    pub fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// How long ago `earlier` was; zero when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Index {
    /// The next position.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The position before; zero stays zero.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// A set of boards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BoardSet(pub u64);

impl BoardSet {
    /// Whether `board` belongs to it.
    #[must_use]
    pub fn has(self, board: BoardId) -> bool {
        self.0 & board.bit() != 0
    }

    /// Adds or removes `board`.
    pub fn set(&mut self, board: BoardId, on: bool) {
        if on {
            self.0 |= board.bit();
        } else {
            self.0 &= !board.bit();
        }
    }

    /// How many.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
