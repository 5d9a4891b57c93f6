//! The bulk stream: what a guest that moves is sent by, from board to board, beside the protocol's own frames.
//!
//! - [`frame`]: a frame of the stream, authentic under a key that only this move has. - [`Outgoing`], [`Incoming`]: its two ends. They know neither what is sent nor how time
//!   passes: chunks of bytes go in at one end and come out at the other in order, once each, whatever datagrams do in between.
//!
//! **It yields.** A heartbeat must not wait behind it. So at most a window of chunks is on its way, and the window follows the delay that the stream itself causes (in the manner of LEDBAT,
//! RFC 6817): it grows while a round trip is about as short as the shortest, and shrinks when one is longer by more than [`DELAY`].

pub mod frame;
mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

pub use incoming::Incoming;
pub use outgoing::Outgoing;

use crate::ids::{Micros, Span};

/// Bytes of a chunk, at most: with its frame a datagram of an Ethernet's.
pub const CHUNK: usize = 1_424;
/// Chunks that either end keeps, at most: as many as lie in 128 KiB.
pub const MAX_RING: usize = 88;
const _: () = assert!(MAX_RING * size_of::<Chunk>() <= 128 << 10);
/// What the stream may add to a round trip before it sends less at once.
pub const DELAY: Span = Span::millis(10);
/// Chunks that may be on their way however long a round trip takes, once the other end has answered.
pub const LEAST_WINDOW: u32 = 16;

/// A chunk that an end keeps: on its way, or come before its turn.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    bytes: [u8; CHUNK],
    length: u16,
    /// When it was sent last.
    sent: Micros,
    /// It was sent more than once.
    again: bool,
    /// It has come to the other end.
    seen: bool,
    /// How often something that was sent later came first.
    late: u8,
}

impl Chunk {
    /// Room for one.
    pub const EMPTY: Self = Self {
        bytes: [0; CHUNK],
        length: 0,
        sent: Micros(0),
        again: false,
        seen: false,
        late: 0,
    };

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        // A chunk is far shorter than 65,536 bytes.
        self.length = bytes.len() as u16;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// What the receiving end says of what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// All chunks below this number have come.
    pub next: u32,
    /// Which have come of those behind it: bit 0 is chunk `next + 1`.
    pub beyond: u128,
    /// How the receiver stands to it all.
    pub verdict: Verdict,
}

/// How the receiver stands to what it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It is for more.
    #[default]
    Going,
    /// It has all that it needs.
    Whole,
    /// It will not take it.
    Refused,
}
