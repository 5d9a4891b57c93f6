//! The bulk stream: what a guest that moves is sent by, from board to board, or between a board and a tool that has it in a file, beside the protocol's own frames.
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
    Refused(Refusal),
}

/// Why the receiver will not take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It waits for no such guest, or not any more.
    Unawaited = 0,
    /// It has no room for the guest, or cannot make one of that description.
    NoRoom = 1,
    /// Its interrupt controller is another, or tells other priorities apart.
    Interrupts = 2,
    /// Its counter runs at another speed.
    Counter = 3,
    /// Its processor is another.
    Processor = 4,
    /// The guest has more memory than was made for it.
    Memory = 5,
    /// What comes is no record of a guest, or a damaged one.
    Record = 6,
    /// It is the record of a guest with other vCPUs, devices or images.
    Other = 7,
    /// The receiver has called it off, or the sender was silent for too long.
    CalledOff = 8,
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Unawaited => "it waits for no such guest, or not any more",
            Self::NoRoom => "it has no room for it, or cannot make a guest of that description",
            Self::Interrupts => "its interrupt controller is another",
            Self::Counter => "its counter runs at another speed",
            Self::Processor => "its processor is another",
            Self::Memory => "the guest has more memory than was made for it",
            Self::Record => "what came is no record of a guest, or a damaged one",
            Self::Other => {
                "it is the record of a guest with other vCPUs, memory, devices or images"
            }
            Self::CalledOff => "it was called off, or nothing more came",
        })
    }
}

/// What a board tells a tool behind the record of a guest that it has saved, as the stream's last chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// How long the guest was still, microseconds.
    pub still_us: u32,
    /// How many rounds it was copied in while it ran.
    pub rounds: u32,
}

impl Saved {
    /// Its bytes.
    pub const BYTES: usize = 8;

    /// As bytes, little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let (still, rounds) = (u64::from(self.still_us), u64::from(self.rounds));
        (still | rounds << 32).to_le_bytes()
    }

    /// From a chunk; none if it is no such.
    #[must_use]
    pub fn from_bytes(chunk: &[u8]) -> Option<Self> {
        let both = u64::from_le_bytes(chunk.try_into().ok()?);
        Some(Self {
            still_us: both as u32,
            rounds: (both >> 32) as u32,
        })
    }
}

impl Refusal {
    const ALL: [Self; 9] = [
        Self::Unawaited,
        Self::NoRoom,
        Self::Interrupts,
        Self::Counter,
        Self::Processor,
        Self::Memory,
        Self::Record,
        Self::Other,
        Self::CalledOff,
    ];
}

impl Verdict {
    /// Verdicts from this number on are refusals.
    const REFUSED: u8 = 2;

    fn to_byte(self) -> u8 {
        match self {
            Self::Going => 0,
            Self::Whole => 1,
            Self::Refused(why) => Self::REFUSED + why as u8,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Going),
            1 => Some(Self::Whole),
            why => {
                let why = Refusal::ALL.get(usize::from(why - Self::REFUSED))?;
                Some(Self::Refused(*why))
            }
        }
    }
}
