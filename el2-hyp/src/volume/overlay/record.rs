//! An ephemeral disk on its way to another board: what of it differs from its image, block by block, while its guest may go on writing.
//!
//! The image itself does not travel; both boards have it, by its digest. Each entry of the map has a bit that every write, clearing and discard of the
//! block sets. Whoever copies the disk takes it before it looks at the block ([`Overlay::take_changed`]), with the disk's lock held over both, so that
//! what is written afterwards sets it again.

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
        for block in range {
            let entry = self.entry(block);
            if entry & CHANGED != 0 {
                self.set_entry(block, entry & !CHANGED);
                return Some(block);
            }
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
