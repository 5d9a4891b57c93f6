//! The replicated state: boards, guests, volumes, images, events, and who votes.
//!
//! [`types`] says what there is, [`decree`] in which steps it changes, [`apply`] how each changes it, [`page`] how it travels. The ledger is a pure function of
//! its first state and the decrees; it knows no clock.

pub mod apply;
pub mod decree;
mod images;
mod moves;
pub mod page;
mod restore;
mod seats;
pub mod types;

use heapless::Vec;
pub use images::Images;

use crate::ids::{BoardId, Epoch, GuestId, Index, Tenure, Term};
use crate::limits::{ANSWERS, EVENTS};
use types::{Answered, Board, Event, Guest, Phase, RequestId, Seats, Volume};

/// A guest's place. The epoch outlives the guest, so that a place used again never repeats one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The newest ownership epoch.
    pub epoch: Epoch,
    /// The guest, if the place is taken.
    pub guest: Option<Guest>,
}

/// The ledger: `B` boards, `G` guests and [`IMAGES_PER_GUEST`](crate::limits::IMAGES_PER_GUEST) times as many images, `D` volumes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ledger<const B: usize, const G: usize, const D: usize> {
    /// The newest decree in it.
    pub index: Index,
    /// That decree's term.
    pub term: Term,
    /// Who votes, as far as it is applied.
    pub seats: Seats,
    /// Where that was decreed.
    pub seats_at: Index,
    /// Whether failover is off everywhere.
    pub disarmed: bool,
    /// The boards, by number; numbers may be unused.
    pub boards: [Option<Board>; B],
    /// The guests, by place.
    pub guests: [Place; G],
    /// The volumes, by place.
    pub volumes: [Option<Volume>; D],
    /// The images.
    pub images: Images<G>,
    /// What happened, the oldest overwritten first.
    pub events: Ring<Event, EVENTS>,
    /// Which commands were carried out.
    pub answers: Ring<Answered, ANSWERS>,
}

/// The newest `N` of a sequence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ring<T, const N: usize> {
    items: Vec<T, N>,
    /// Where the oldest stands once it is full.
    oldest: usize,
}

impl<T, const N: usize> Ring<T, N> {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            items: Vec::new(),
            oldest: 0,
        }
    }

    /// Adds one, in the place of the oldest when there is no other.
    pub fn push(&mut self, item: T) {
        if let Err(item) = self.items.push(item)
            && let Some(slot) = self.items.get_mut(self.oldest)
        {
            *slot = item;
            self.oldest = (self.oldest + 1) % N;
        }
    }

    /// From the oldest to the newest.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let (newer, older) = self.items.split_at(self.oldest.min(self.items.len()));
        older.iter().chain(newer)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl<T, const N: usize> Default for Ring<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const B: usize, const G: usize, const D: usize> Ledger<B, G, D> {
    const NO_BOARD: Option<Board> = None;
    const NO_GUEST: Place = Place {
        epoch: Epoch(0),
        guest: None,
    };
    const NO_VOLUME: Option<Volume> = None;

    /// An empty ledger, before any decree.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            index: Index(0),
            term: Term(0),
            seats: Seats::NONE,
            seats_at: Index(0),
            disarmed: false,
            boards: [Self::NO_BOARD; B],
            guests: [Self::NO_GUEST; G],
            volumes: [Self::NO_VOLUME; D],
            images: Images::new(),
            events: Ring::new(),
            answers: Ring::new(),
        }
    }

    /// Empties it where it stands, without a second copy on the stack.
    pub fn clear(&mut self) {
        self.index = Index(0);
        self.term = Term(0);
        self.seats = Seats::NONE;
        self.seats_at = Index(0);
        self.disarmed = false;
        self.boards.fill(None);
        for place in &mut self.guests {
            *place = Self::NO_GUEST;
        }
        self.volumes.fill(None);
        self.images.clear();
        self.events.items.clear();
        self.events.oldest = 0;
        self.answers.items.clear();
        self.answers.oldest = 0;
    }

    /// The board `board`, if there is one.
    #[must_use]
    pub fn board(&self, board: BoardId) -> Option<&Board> {
        self.boards.get(board.at())?.as_ref()
    }

    /// The guest `guest`, if there is one.
    #[must_use]
    pub fn guest(&self, guest: GuestId) -> Option<&Guest> {
        self.guests.get(guest.at())?.guest.as_ref()
    }

    /// The newest ownership epoch of the place `guest`.
    #[must_use]
    pub fn epoch(&self, guest: GuestId) -> Epoch {
        self.guests
            .get(guest.at())
            .map_or(Epoch(0), |place| place.epoch)
    }

    /// The tenure of `board`; zero while it is out.
    #[must_use]
    pub fn tenure(&self, board: BoardId) -> Tenure {
        self.board(board).map_or(Tenure(0), |board| board.tenure)
    }

    /// The boards, with their numbers.
    pub fn boards(&self) -> impl Iterator<Item = (BoardId, &Board)> {
        // B is at most 64.
        self.boards
            .iter()
            .enumerate()
            .filter_map(|(at, board)| Some((BoardId(at as u8), board.as_ref()?)))
    }

    /// The guests, with their places and epochs.
    pub fn guests(&self) -> impl Iterator<Item = (GuestId, Epoch, &Guest)> {
        // G is a small capacity, far below 65,536.
        self.guests.iter().enumerate().filter_map(|(at, place)| {
            Some((GuestId(at as u16), place.epoch, place.guest.as_ref()?))
        })
    }

    /// The guests that `board` owns.
    pub fn owned_by(&self, board: BoardId) -> impl Iterator<Item = (GuestId, Epoch, &Guest)> {
        self.guests()
            .filter(move |(_, _, guest)| guest.phase != Phase::Unowned && guest.owner == board)
    }

    /// The guests that need room on `board`: those that it owns and those that are being moved there.
    pub fn bound_to(&self, board: BoardId) -> impl Iterator<Item = (GuestId, Epoch, &Guest)> {
        self.guests().filter(move |(_, _, guest)| {
            let arrives = guest.moving.as_ref().is_some_and(|order| order.to == board);
            arrives || (guest.phase != Phase::Unowned && guest.owner == board)
        })
    }

    /// What became of a command, if it is remembered.
    #[must_use]
    pub fn answer(&self, id: &RequestId) -> Option<&Answered> {
        self.answers
            .items
            .iter()
            .find(|answered| answered.id == *id)
    }
}

impl<const B: usize, const G: usize, const D: usize> Default for Ledger<B, G, D> {
    fn default() -> Self {
        Self::new()
    }
}
