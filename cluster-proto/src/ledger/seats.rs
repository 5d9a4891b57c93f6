//! Who votes.

use crate::ids::{BoardId, Memory};
use crate::limits::SEATS;
use crate::wire::codec::{Full, Malformed, Reader, Wire, Writer};

/// Who votes: a memory for each seat that is taken. Seats belong to boards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seats {
    /// Board and memory; a zero memory is a vacant seat, and `count` says how many there are.
    seats: [(BoardId, Memory); SEATS],
    count: u8,
}

impl Seats {
    /// No seat at all.
    pub const NONE: Self = Self {
        seats: [(BoardId(0), Memory(0)); SEATS],
        count: 0,
    };

    /// Adds a vacant seat for `board`. Returns whether there was room.
    pub fn add(&mut self, board: BoardId) -> bool {
        match self.seats.get_mut(usize::from(self.count)) {
            Some(seat) => {
                *seat = (board, Memory(0));
                self.count += 1;
                true
            }
            None => false,
        }
    }

    /// All seats, vacant ones with a zero memory.
    pub fn iter(&self) -> impl Iterator<Item = (usize, BoardId, Memory)> + '_ {
        self.seats
            .iter()
            .take(usize::from(self.count))
            .enumerate()
            .map(|(seat, &(board, memory))| (seat, board, memory))
    }

    /// The seats that are taken.
    pub fn members(&self) -> impl Iterator<Item = (usize, BoardId, Memory)> + '_ {
        self.iter().filter(|(_, _, memory)| memory.0 != 0)
    }

    /// How many seats are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.members().count()
    }

    /// How many members make a majority.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.taken() / 2 + 1
    }

    /// The memory that holds the seat of `board`, zero if vacant; nothing if the board has no seat.
    #[must_use]
    pub fn memory(&self, board: BoardId) -> Option<Memory> {
        self.iter().find(|seat| seat.1 == board).map(|seat| seat.2)
    }

    /// Whether `memory` of `board` votes.
    #[must_use]
    pub fn votes(&self, board: BoardId, memory: Memory) -> bool {
        memory.0 != 0 && self.memory(board) == Some(memory)
    }

    /// The seat of `board`.
    #[must_use]
    pub fn seat_of(&self, board: BoardId) -> Option<usize> {
        self.iter().find(|seat| seat.1 == board).map(|seat| seat.0)
    }

    /// The same with another memory (zero: vacant) in the seat of `board`.
    #[must_use]
    pub fn with(mut self, board: BoardId, memory: Memory) -> Self {
        for seat in self
            .seats
            .iter_mut()
            .take(usize::from(self.count))
            .filter(|seat| seat.0 == board)
        {
            seat.1 = memory;
        }
        self
    }
}

impl Wire for Seats {
    fn put(&self, to: &mut Writer<'_>) -> Result<(), Full> {
        self.count.put(to)?;
        self.iter().try_for_each(|(_, board, memory)| {
            board.put(to)?;
            memory.put(to)
        })
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut seats = Self::NONE;
        for _ in 0..u8::get(from)? {
            let (board, memory) = (BoardId::get(from)?, Memory::get(from)?);
            if seats.memory(board).is_some() || !seats.add(board) {
                return Err(Malformed::Range);
            }
            seats = seats.with(board, memory);
        }
        Ok(seats)
    }
}
