//! Pulling one image: a window of pieces at a time, asked for again until it is whole.
//!
//! Pieces go to where they belong as they come, in any order; the digest is carried on window by window, so that no step is long. Time comes in, what
//! to ask comes out; where the bytes are kept is [`Store`]'s to know.

use sha2::{Digest as _, Sha256};

use super::{PIECE, Parcel, WINDOW, piece_range, pieces};
use crate::ids::{Micros, Span};
use crate::ledger::types::Digest;

/// A window of which no piece has come for so long is asked for again.
const RETRY: Span = Span::millis(60);
/// A source from which nothing has come for so long is given up.
pub const PATIENCE: Span = Span::millis(1_500);

/// Where images are kept.
pub trait Store {
    /// Puts bytes of an image that is being fetched to their place.
    fn write(&mut self, digest: &Digest, from: u32, bytes: &[u8]);

    /// All bytes of an image that is being fetched pass by here in their order, as they go into its digest: for a sum of the store's own.
    fn pass(&mut self, digest: &Digest, bytes: &[u8]) {
        let _ = (digest, bytes);
    }

    /// Gets bytes of an image that is here whole or in part; false if they are not.
    fn read(&self, digest: &Digest, from: u32, to: &mut [u8]) -> bool;
}

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Going,
    /// All of it is there, and is what the digest names.
    Whole,
    /// All of it is there, and is something else.
    Wrong,
}

/// An image on its way here.
#[derive(Clone)]
pub struct Fetch {
    digest: Digest,
    length: u32,
    /// The first piece of the window.
    first: u32,
    /// Which pieces of the window are still to come.
    missing: u16,
    asked_at: Option<Micros>,
    /// When something last came from the present source.
    heard_at: Micros,
    sum: Sha256,
}

impl Fetch {
    /// Begins to fetch the image `digest` of `length` bytes, more than none.
    #[must_use]
    pub fn new(digest: Digest, length: u32, now: Micros) -> Self {
        let mut fetch = Self {
            digest,
            length,
            first: 0,
            missing: 0,
            asked_at: None,
            heard_at: now,
            sum: Sha256::new(),
        };
        fetch.open();
        fetch
    }

    /// Which image.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// How many bytes of it are here and in order.
    #[must_use]
    pub fn have(&self) -> u32 {
        (self.first.saturating_mul(PIECE as u32)).min(self.length)
    }

    /// Goes on with another source.
    pub fn turn(&mut self, now: Micros) {
        (self.asked_at, self.heard_at) = (None, now);
    }

    /// Whether the present source has been silent for too long.
    #[must_use]
    pub fn is_stuck(&self, now: Micros) -> bool {
        now.since(self.heard_at) >= PATIENCE
    }

    /// When there is something to do if nothing comes.
    #[must_use]
    pub fn deadline(&self) -> Micros {
        let again = self.asked_at.map_or(Micros(0), |at| at.after(RETRY));
        again.min(self.heard_at.after(PATIENCE))
    }

    /// What to ask the source now, if anything.
    pub fn ask(&mut self, now: Micros) -> Option<Parcel<'static>> {
        let due = self.asked_at.is_none_or(|at| now.since(at) >= RETRY);
        if !due || self.missing == 0 {
            return None;
        }
        self.asked_at = Some(now);
        Some(Parcel::Ask {
            digest: self.digest,
            first: self.first,
            wanted: self.missing,
        })
    }

    /// A piece came. One that is not wanted, or not as long as it should be, is dropped.
    pub fn take(
        &mut self,
        number: u32,
        bytes: &[u8],
        now: Micros,
        store: &mut impl Store,
    ) -> State {
        let place = number.wrapping_sub(self.first);
        let range = piece_range(number, self.length);
        let Some((from, length)) = range.filter(|_| place < WINDOW) else {
            return State::Going;
        };
        if length != bytes.len() || self.missing >> place & 1 == 0 {
            return State::Going;
        }
        store.write(&self.digest, from, bytes);
        self.missing &= !(1 << place);
        self.heard_at = now;
        if self.missing != 0 {
            // While pieces come, nothing is asked for twice.
            self.asked_at = Some(now);
            return State::Going;
        }
        self.close(store)
    }

    /// The window is complete: its bytes go into the sum, and the next one is opened.
    fn close(&mut self, store: &mut impl Store) -> State {
        let mut bytes = [0; PIECE];
        for number in self.first..self.first.saturating_add(WINDOW) {
            let Some((from, length)) = piece_range(number, self.length) else {
                break;
            };
            if !store.read(&self.digest, from, &mut bytes[..length]) {
                return State::Wrong;
            }
            self.sum.update(&bytes[..length]);
            store.pass(&self.digest, &bytes[..length]);
        }
        self.first += WINDOW;
        self.asked_at = None;
        self.open();
        if self.missing != 0 {
            return State::Going;
        }
        let found: Digest = self.sum.clone().finalize().into();
        if found == self.digest {
            State::Whole
        } else {
            State::Wrong
        }
    }

    /// All pieces of the window are to come.
    fn open(&mut self) {
        let left = pieces(self.length).saturating_sub(self.first).min(WINDOW);
        self.missing = ((1u32 << left) - 1) as u16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    struct Bytes(Vec<u8>);

    impl Store for Bytes {
        fn write(&mut self, _: &Digest, from: u32, bytes: &[u8]) {
            self.0[from as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        fn read(&self, _: &Digest, from: u32, to: &mut [u8]) -> bool {
            let here = self.0.get(from as usize..from as usize + to.len());
            here.map(|bytes| to.copy_from_slice(bytes)).is_some()
        }
    }

    fn image(length: usize) -> (Vec<u8>, Digest) {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + at / 251) as u8).collect();
        let digest = Sha256::digest(&bytes).into();
        (bytes, digest)
    }

    /// Pulls `source` through a network that loses what `lost` says, delivers backwards, and doubles everything.
    fn pull(source: &[u8], digest: Digest, mut lost: impl FnMut() -> bool) -> (State, Vec<u8>) {
        let mut now = Micros(1);
        let mut fetch = Fetch::new(digest, source.len() as u32, now);
        let mut here = Bytes(std::vec![0; source.len()]);
        for _ in 0..100_000 {
            if let Some(Parcel::Ask { first, wanted, .. }) = fetch.ask(now)
                && !lost()
            {
                let numbers = (0..WINDOW).rev().filter(|bit| wanted >> bit & 1 != 0);
                for number in numbers.map(|bit| first + bit) {
                    let (from, length) =
                        piece_range(number, source.len() as u32).expect("asked for what is there");
                    let piece = &source[from as usize..][..length];
                    for _ in 0..2 {
                        if lost() {
                            continue;
                        }
                        match fetch.take(number, piece, now, &mut here) {
                            State::Going => {}
                            end => return (end, here.0),
                        }
                    }
                }
            }
            now = fetch.deadline().max(now.after(Span(1)));
        }
        panic!("it does not end");
    }

    #[test]
    fn an_image_comes_whole() {
        for length in [
            1,
            PIECE - 1,
            PIECE,
            PIECE + 1,
            PIECE * 16,
            PIECE * 16 + 1,
            100_000,
        ] {
            let (source, digest) = image(length);
            let (state, here) = pull(&source, digest, || false);
            assert_eq!((state, here), (State::Whole, source));
        }
    }

    #[test]
    fn what_is_lost_is_asked_for_again() {
        let (source, digest) = image(200_000);
        let mut dice = 1u32;
        let lost = || {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            dice >> 30 == 0
        };
        let (state, here) = pull(&source, digest, lost);
        assert_eq!((state, here), (State::Whole, source));
    }

    #[test]
    fn another_image_than_was_named_is_found_out() {
        let (source, _) = image(30_000);
        let (_, digest) = image(30_001);
        assert_eq!(pull(&source, digest, || false).0, State::Wrong);
    }

    #[test]
    fn pieces_that_do_not_fit_are_dropped() {
        let (source, digest) = image(5 * PIECE);
        let mut here = Bytes(std::vec![0; source.len()]);
        let mut fetch = Fetch::new(digest, source.len() as u32, Micros(0));
        for (number, bytes) in [
            (5, &source[..PIECE]),
            (u32::MAX, &source[..PIECE]),
            (0, &source[..PIECE - 1]),
            (0, &[][..]),
        ] {
            assert_eq!(
                fetch.take(number, bytes, Micros(0), &mut here),
                State::Going
            );
        }
        assert_eq!(fetch.missing, 0b1_1111, "all are still to come");
    }

    #[test]
    fn a_silent_source_is_noticed() {
        let (_, digest) = image(10);
        let mut fetch = Fetch::new(digest, 10, Micros(0));
        assert!(fetch.ask(Micros(0)).is_some());
        assert!(fetch.ask(Micros(1)).is_none(), "not at once again");
        assert!(fetch.ask(Micros(RETRY.0)).is_some());
        assert!(!fetch.is_stuck(Micros(PATIENCE.0 - 1)));
        assert!(fetch.is_stuck(Micros(PATIENCE.0)));
        fetch.turn(Micros(PATIENCE.0));
        assert!(!fetch.is_stuck(Micros(PATIENCE.0)));
        assert!(
            fetch.ask(Micros(PATIENCE.0)).is_some(),
            "the next source is asked at once"
        );
    }
}
