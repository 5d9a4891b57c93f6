//! An ephemeral disk on its way to another board: what of it differs from its image, block by block, while its guest may go on writing.
//!
//! The image itself does not travel; both boards have it, by its digest. Each entry of the map has a bit that every write, clearing and discard of the
//! block sets. Whoever copies the disk takes it before it looks at the block ([`Overlay::take_changed`]), with the disk's lock held over both, so that
//! what is written afterwards sets it again. A [`Summary`] tells which parts of the map are worth a look, so that a pass over a large disk in which little has changed is short.

use core::ops::Range;

use super::frames::Frame;
use super::{BLOCK_BYTES, CHANGED, Full, Overlay, Place, WriteError, blocks};

/// What a block is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now<'a> {
    /// As the image has it.
    Image,
    /// Zeros.
    Zeros,
    /// These bytes.
    Bytes(&'a Frame),
}

/// Words of a summary.
const WORDS: usize = 16;
const BITS: u32 = WORDS as u32 * u64::BITS;

/// In which parts of the disk blocks may have been changed, a bit each: a part without its bit has none.
#[derive(Debug)]
pub(super) struct Summary {
    parts: [u64; WORDS],
    /// A part has two to the power of this blocks.
    shift: u32,
}

impl Summary {
    /// That of a disk of so many blocks, of which none was changed.
    pub(super) fn of(blocks: u32) -> Self {
        let mut shift = 0;
        while blocks.saturating_sub(1) >> shift >= BITS {
            shift += 1;
        }
        Self {
            parts: [0; WORDS],
            shift,
        }
    }

    pub(super) fn clear(&mut self) {
        self.parts = [0; WORDS];
    }

    /// Whether no block was changed.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.parts == [0; WORDS]
    }

    /// A block was changed.
    #[inline]
    pub(super) fn note(&mut self, block: u32) {
        let part = block >> self.shift;
        self.parts[(part / u64::BITS) as usize] |= 1 << (part % u64::BITS);
    }

    /// The blocks of the part in which `block` is, and whether some may have been changed.
    fn part(&self, block: u32) -> (Range<u32>, bool) {
        let part = block >> self.shift;
        let is_noted = self.parts[(part / u64::BITS) as usize] >> (part % u64::BITS) & 1 != 0;
        (part << self.shift..(part + 1) << self.shift, is_noted)
    }

    /// None of the blocks of this part is changed.
    fn forget(&mut self, part: &Range<u32>) {
        let part = part.start >> self.shift;
        self.parts[(part / u64::BITS) as usize] &= !(1 << (part % u64::BITS));
    }
}

impl Overlay<'_> {
    /// How many blocks the disk has.
    pub fn blocks(&self) -> u32 {
        // There is an overlay, so its blocks can be counted.
        blocks(self.sectors).unwrap_or(0)
    }

    /// Bytes of the image.
    pub fn image_bytes(&self) -> u64 {
        self.image.len() as u64
    }

    /// The first block in `range` that was changed since it was last taken; its bit is cleared. The work is bounded by the range.
    ///
    /// # Panics
    /// If the range goes beyond the disk.
    pub fn take_changed(&mut self, range: Range<u32>) -> Option<u32> {
        let mut from = range.start;
        while from < range.end {
            let (part, is_noted) = self.changed.part(from);
            let end = part.end.min(range.end);
            if is_noted {
                let taken = (from..end).find(|&block| self.entry(block) & CHANGED != 0);
                if let Some(block) = taken {
                    self.set_entry(block, self.entry(block) & !CHANGED);
                    return Some(block);
                }
                // Only who has seen all of it knows.
                if from == part.start && end == part.end.min(self.blocks()) {
                    self.changed.forget(&part);
                }
            }
            from = end;
        }
        None
    }

    /// What a block is now.
    ///
    /// # Panics
    /// If the disk has no such block.
    pub fn now(&self, block: u32) -> Now<'_> {
        match self.place(block) {
            Place::Image => Now::Image,
            Place::Zeros => Now::Zeros,
            Place::Frame(frame) => Now::Bytes(self.memory.frame(frame)),
        }
    }

    /// Makes every block in `range` that differs from the image count as changed: a copy begins anew.
    ///
    /// # Panics
    /// If the range goes beyond the disk.
    pub fn change_all(&mut self, range: Range<u32>) {
        for block in range {
            let entry = self.entry(block);
            if Place::from_entry(entry) != Place::Image {
                self.set_entry(block, entry | CHANGED);
            }
        }
    }

    /// Makes a block zeros, on the board to which the disk comes.
    ///
    /// # Panics
    /// If the disk has no such block.
    pub fn put_zeros(&mut self, block: u32) {
        assert!(block < self.blocks());
        self.drop_block(block);
    }

    /// Makes a block these bytes, on the board to which the disk comes.
    ///
    /// # Errors
    /// If there is no memory for it.
    ///
    /// # Panics
    /// If the disk has no such block.
    pub fn put_bytes(&mut self, block: u32, bytes: &Frame) -> Result<(), Full> {
        assert!(block < self.blocks());
        let start = u64::from(block) * BLOCK_BYTES;
        let written = self.write(start, BLOCK_BYTES, |to| {
            crate::memory::copy::copy_slice(to, bytes);
            Ok::<(), core::convert::Infallible>(())
        });
        written.map_err(|error| match error {
            WriteError::Full => Full,
            WriteError::Source(never) => match never {},
        })
    }
}
