//! Where everybody lives: learned from where their frames come from, so that nobody has to be told.
//!
//! An address is believed when its frame was authentic and fresh. A board of which none is known is reached with everybody else. While a datagram is looked at, its
//! sender is where it came from: so a challenge finds somebody who cannot have proved anything yet, and it is small and rare.

use crate::ids::BoardId;
use crate::limits::OPERATORS;
use crate::wire::frame::{ALL, Party, Recipient};

/// Where somebody is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The IPv4 address.
    pub address: [u8; 4],
    /// The UDP port.
    pub port: u16,
    /// The Ethernet address behind that, so that a board that sends has nobody to ask and nothing to wait for; zeros where a socket sees to it.
    pub station: [u8; 6],
}

/// Where a frame is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The cluster's multicast group.
    Everyone,
    /// One address.
    One(Endpoint),
}

/// The byte of a frame's header that names its sender.
const SENDER: usize = 8;

/// The addresses that are known.
pub struct Book<const B: usize> {
    boards: [Option<Endpoint>; B],
    /// Operators by their number, oldest first.
    operators: heapless::Vec<(u8, Endpoint), OPERATORS>,
    /// Who is speaking now, as far as they say, and from where.
    speaking: Option<(Party, Endpoint)>,
}

impl<const B: usize> Book<B> {
    /// Nobody is known.
    pub(super) const fn new() -> Self {
        Self {
            boards: [None; B],
            operators: heapless::Vec::new(),
            speaking: None,
        }
    }

    pub(super) fn forget(&mut self) {
        self.boards.fill(None);
        self.operators.clear();
        self.speaking = None;
    }

    /// A datagram is about to be looked at.
    pub(super) fn begin(&mut self, datagram: &[u8], from: Endpoint) {
        let party = datagram.get(SENDER).copied().and_then(Party::from_number);
        self.speaking = party.map(|party| (party, from));
    }

    /// It was looked at; whether it was authentic and fresh.
    pub(super) fn end(&mut self, accepted: bool) {
        let Some((party, from)) = self.speaking.take().filter(|_| accepted) else {
            return;
        };
        match party {
            Party::Board(board) => {
                if let Some(slot) = self.boards.get_mut(board.at()) {
                    *slot = Some(from);
                }
            }
            Party::Operator(number) => {
                let place = self.operators.iter().position(|known| known.0 == number);
                match place {
                    Some(place) => self.operators[place].1 = from,
                    None => {
                        if self.operators.is_full() {
                            self.operators.remove(0);
                        }
                        let room = self.operators.push((number, from)).is_ok();
                        assert!(room, "the oldest made room");
                    }
                }
            }
        }
    }

    /// Where a frame for `to` goes; nowhere if it is for an operator who is not known.
    #[must_use]
    pub fn find(&self, to: Recipient) -> Option<Destination> {
        let Some(party) = to.party() else {
            return Some(Destination::Everyone);
        };
        if let Some((speaking, from)) = self.speaking
            && speaking == party
        {
            return Some(Destination::One(from));
        }
        match party {
            Party::Board(board) => Some(self.board(board)),
            Party::Operator(number) => {
                let known = self.operators.iter().find(|known| known.0 == number)?;
                Some(Destination::One(known.1))
            }
        }
    }

    fn board(&self, board: BoardId) -> Destination {
        let known = self.boards.get(board.at()).copied().flatten();
        known.map_or(Destination::Everyone, Destination::One)
    }
}

const _: () = assert!(
    ALL < 128,
    "a sender's byte names boards below and operators above"
);

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Endpoint = Endpoint {
        address: [10, 7, 0, 1],
        port: 7266,
        station: [0; 6],
    };
    const THERE: Endpoint = Endpoint {
        address: [10, 7, 0, 2],
        port: 9,
        station: [2, 0, 0, 0, 0, 1],
    };

    fn frame_of(sender: u8) -> [u8; 28] {
        let mut frame = [0; 28];
        frame[SENDER] = sender;
        frame
    }

    fn board(number: u8) -> Recipient {
        Recipient::One(Party::Board(BoardId(number)))
    }

    fn operator(number: u8) -> Recipient {
        Recipient::One(Party::Operator(number))
    }

    #[test]
    fn who_proved_himself_is_remembered() {
        let mut book = Book::<4>::new();
        assert_eq!(book.find(board(2)), Some(Destination::Everyone));
        book.begin(&frame_of(2), HERE);
        book.end(true);
        assert_eq!(book.find(board(2)), Some(Destination::One(HERE)));
        assert_eq!(book.find(Recipient::All), Some(Destination::Everyone));
    }

    #[test]
    fn who_did_not_is_only_answered() {
        let mut book = Book::<4>::new();
        book.begin(&frame_of(2), HERE);
        book.end(true);
        book.begin(&frame_of(2), THERE);
        assert_eq!(book.find(board(2)), Some(Destination::One(THERE)));
        book.end(false);
        assert_eq!(book.find(board(2)), Some(Destination::One(HERE)));
        book.begin(&frame_of(200), THERE);
        assert_eq!(book.find(operator(200)), Some(Destination::One(THERE)));
        book.end(false);
        assert_eq!(book.find(operator(200)), None);
    }

    #[test]
    fn the_oldest_operator_makes_room() {
        let mut book = Book::<4>::new();
        for number in 130..130 + OPERATORS as u8 + 1 {
            book.begin(&frame_of(number), HERE);
            book.end(true);
        }
        assert_eq!(book.find(operator(130)), None);
        assert_eq!(book.find(operator(131)), Some(Destination::One(HERE)));
    }

    #[test]
    fn noise_names_nobody() {
        let mut book = Book::<4>::new();
        book.begin(&[1, 2, 3], HERE);
        book.end(true);
        book.begin(&frame_of(100), HERE);
        book.end(true);
        book.begin(&frame_of(63), HERE);
        book.end(true);
        assert_eq!(book.find(board(1)), Some(Destination::Everyone));
    }
}
