//! The last of what a guest said, by its position since the guest's first byte, so that whoever reads it twice knows what is new.

use alloc::boxed::Box;

/// Bytes that are kept, and move with the guest.
pub const RECORD: usize = el2_hyp::record::intake::MAX_BACKLOG;

/// What a guest said.
pub struct Record {
    bytes: Box<[u8; RECORD]>,
    said: u64,
}

impl Record {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            bytes: Box::new([0; RECORD]),
            said: 0,
        }
    }

    /// One more byte.
    #[inline]
    pub fn push(&mut self, byte: u8) {
        self.bytes[self.said as usize % RECORD] = byte;
        self.said += 1;
    }

    /// What was said elsewhere, from position `from` on: all, or the last [`RECORD`] bytes.
    pub fn restore(&mut self, from: u64, said: &[u8]) {
        self.said = from;
        said.iter().for_each(|&byte| self.push(byte));
    }

    /// How many bytes the guest has said: the position of the next.
    pub fn said(&self) -> u64 {
        self.said
    }

    /// The position of the first byte from `from` on that is kept.
    pub fn kept_from(&self, from: u64) -> u64 {
        from.max(self.said.saturating_sub(RECORD as u64))
            .min(self.said)
    }

    /// The byte at a position that is kept.
    pub fn byte(&self, position: u64) -> u8 {
        self.bytes[position as usize % RECORD]
    }
}
