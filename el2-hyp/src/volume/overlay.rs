//! An ephemeral disk: a read-only image of the boot package, and over it, in memory, the blocks that the guest has written.
//!
//! ```text
//! disk block:   0     1     2     3     4     5     6
//! image      [ ### | ### | ### | ##  ]  zeros  zeros  zeros      the image may end within a block; the disk may go on behind it
//! map        [  .  |  2  |  .  |  .  |  0  |  z  |  .  ]         . as in the image   n in that frame   z zeros
//! frames     [ blk 4 |  free | blk 1 ]                           page frames that were reserved when the guest was made
//! ```
//!
//! The first write to a block takes a frame, and copies from the image what the write leaves of the block; a write of a whole block copies
//! nothing of it. Map and frames lie in memory that is handed over when the guest is made ([`OverlayMemory`]), so nothing is
//! allocated later. With [`Overlay::memory_for`] the whole disk a write cannot fail; with less, a write that finds no frame
//! says [`Full`], and a discard gives frames back. [`Overlay::reset`] makes the disk fresh, as at each start of its guest.
//!
//! Bytes are lent, not copied: [`Overlay::read`] and [`Overlay::write`] call back with each stretch of image or frame, and the caller copies
//! it straight to or from where it belongs.

mod frames;
mod record;
#[cfg(test)]
mod tests;

pub use frames::OverlayMemory;
use frames::{FRAME_BYTES, Frame};
pub use record::Now;

use super::SECTOR_BYTES;

/// Bytes of the blocks in which the disk is copied.
pub const BLOCK_BYTES: u64 = FRAME_BYTES as u64;

/// Entries of the map in one frame.
const ENTRIES_PER_FRAME: u32 = (FRAME_BYTES / size_of::<u32>()) as u32;

/// What a disk reads where neither image nor frame is.
static ZEROS: Frame = [0; FRAME_BYTES];

/// No frame is left for a block that is written the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Why an overlay cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayError {
    /// The disk has no sectors, or more blocks than the map can number.
    Size,
    /// The image is longer than the disk.
    ImageTooLong,
    /// The memory does not hold the map and at least one frame; this many bytes would.
    MemoryTooSmall(u64),
}

/// Why a write was not done, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError<E> {
    /// No frame was left.
    Full,
    /// The source of the bytes failed.
    Source(E),
}

/// Where a block's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Where they were in the beginning: in the image, and zeros behind its end.
    Image,
    /// Nowhere: they are zeros.
    Zeros,
    /// In this frame.
    Frame(u32),
}

/// Of an entry of the map: the block was changed since somebody last asked for it ([`record`]).
const CHANGED: u32 = 1 << 31;

impl Place {
    const IMAGE: u32 = 0;
    const ZEROS: u32 = 1;
    const FIRST_FRAME: u32 = 2;

    #[inline]
    fn from_entry(entry: u32) -> Self {
        match entry & !CHANGED {
            Self::IMAGE => Self::Image,
            Self::ZEROS => Self::Zeros,
            frame => Self::Frame(frame - Self::FIRST_FRAME),
        }
    }

    #[inline]
    fn entry(self) -> u32 {
        match self {
            Self::Image => Self::IMAGE,
            Self::Zeros => Self::ZEROS,
            Self::Frame(frame) => frame + Self::FIRST_FRAME,
        }
    }
}

/// The disk.
pub struct Overlay<'a> {
    image: &'a [u8],
    /// Sectors of the disk.
    sectors: u64,
    memory: OverlayMemory,
    /// Frames at the start of the memory that hold the map, an entry a block.
    map_frames: u32,
    /// From here on frames have not been taken since the last reset.
    untouched: u32,
    /// The first of the frames that were given back; each holds the next one's number plus one, the last zero.
    given_back: Option<u32>,
    /// Frames that hold blocks.
    used: u32,
    /// Where blocks may be that were changed ([`record`]).
    changed: record::Summary,
}

/// A stretch of the disk within one block.
#[derive(Clone, Copy)]
struct Stretch {
    block: u32,
    from: usize,
    to: usize,
}

impl Stretch {
    fn is_whole(&self) -> bool {
        self.to - self.from == FRAME_BYTES
    }
}

/// The bytes `offset..offset + length` of a disk, block by block.
#[inline]
fn stretches(offset: u64, length: u64) -> impl Iterator<Item = Stretch> {
    let end = offset + length;
    let mut at = offset;
    core::iter::from_fn(move || {
        (at < end).then(|| {
            let from = at % BLOCK_BYTES;
            let to = (from + end - at).min(BLOCK_BYTES);
            let stretch = Stretch {
                block: (at / BLOCK_BYTES) as u32,
                from: from as usize,
                to: to as usize,
            };
            at += to - from;
            stretch
        })
    })
}

/// How many blocks a disk of `sectors` has, if the map can number them, and frames for all of them.
fn blocks(sectors: u64) -> Option<u32> {
    let bytes = sectors.checked_mul(SECTOR_BYTES)?;
    let blocks = u32::try_from(bytes.div_ceil(BLOCK_BYTES)).ok()?;
    // The map and all blocks' frames together are still numbers of frames, and those of the map.
    let frames = blocks.checked_add(blocks.div_ceil(ENTRIES_PER_FRAME))?;
    (blocks > 0 && frames < CHANGED - Place::FIRST_FRAME).then_some(blocks)
}

impl<'a> Overlay<'a> {
    /// The bytes of memory with which no write to a disk of `sectors` is ever refused, a multiple of 4 KiB; `None` if there can be no such
    /// disk.
    pub fn memory_for(sectors: u64) -> Option<u64> {
        let blocks = blocks(sectors)?;
        let frames = blocks + blocks.div_ceil(ENTRIES_PER_FRAME);
        Some(u64::from(frames) * BLOCK_BYTES)
    }

    /// A fresh disk of `sectors` with the bytes of `image` at its start and zeros behind.
    ///
    /// # Errors
    /// [`OverlayError`] if there can be no such disk.
    pub fn new(image: &'a [u8], sectors: u64, memory: OverlayMemory) -> Result<Self, OverlayError> {
        let blocks = blocks(sectors).ok_or(OverlayError::Size)?;
        if image.len() as u64 > sectors * SECTOR_BYTES {
            return Err(OverlayError::ImageTooLong);
        }
        let map_frames = blocks.div_ceil(ENTRIES_PER_FRAME);
        if memory.frames() <= map_frames {
            let least = (u64::from(map_frames) + 1) * BLOCK_BYTES;
            return Err(OverlayError::MemoryTooSmall(least));
        }
        let mut overlay = Self {
            image,
            sectors,
            memory,
            map_frames,
            untouched: 0,
            given_back: None,
            used: 0,
            changed: record::Summary::of(blocks),
        };
        overlay.reset();
        Ok(overlay)
    }

    /// Sectors of the disk.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// How many blocks the guest has written, and for how many there is memory.
    pub fn usage(&self) -> (u32, u32) {
        (self.used, self.memory.frames() - self.map_frames)
    }

    /// Makes the disk as it was in the beginning. The work is that of clearing the map, 4 bytes for each block of the disk.
    pub fn reset(&mut self) {
        for frame in 0..self.map_frames {
            self.memory.frame_mut(frame).fill(0);
        }
        self.untouched = self.map_frames;
        self.given_back = None;
        self.used = 0;
        self.changed.clear();
    }

    /// Calls `take` with the bytes from `offset` on, `length` in all, in order, in stretches of at most a block, until it fails.
    ///
    /// # Errors
    /// What `take` said.
    ///
    /// # Panics
    /// If the range ends past the disk's last block.
    #[inline]
    pub fn read<E>(
        &self,
        offset: u64,
        length: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for Stretch { block, from, to } in stretches(offset, length) {
            match self.place(block) {
                Place::Frame(frame) => take(&self.memory.frame(frame)[from..to])?,
                Place::Zeros => take(&ZEROS[from..to])?,
                Place::Image => {
                    let rest = self.in_image(block);
                    let (from_image, end) = (from.min(rest.len()), to.min(rest.len()));
                    let zeros = (to - from) - (end - from_image);
                    if end > from_image {
                        take(&rest[from_image..end])?;
                    }
                    if zeros > 0 {
                        take(&ZEROS[..zeros])?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Calls `fill` for the bytes from `offset` on, `length` in all, in order, in stretches of at most a block, to be overwritten
    /// with what the disk is to have there, until it fails. What was filled before a failure stays written.
    ///
    /// # Errors
    /// [`WriteError`].
    ///
    /// # Panics
    /// If the range ends past the disk's last block.
    #[inline]
    pub fn write<E>(
        &mut self,
        offset: u64,
        length: u64,
        mut fill: impl FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), WriteError<E>> {
        for stretch in stretches(offset, length) {
            let Stretch { block, from, to } = stretch;
            if let Place::Frame(frame) = self.place(block) {
                self.note_change(block);
                fill(&mut self.memory.frame_mut(frame)[from..to]).map_err(WriteError::Source)?;
                continue;
            }
            let frame = self.take_frame().ok_or(WriteError::Full)?;
            if !stretch.is_whole() {
                self.copy_up(block, frame);
            }
            let filled = fill(&mut self.memory.frame_mut(frame)[from..to]);
            // A frame whose filling failed holds bytes of nobody knows whom: the map never learns of it.
            if let Err(error) = filled {
                self.give_back(frame);
                return Err(WriteError::Source(error));
            }
            self.set_place(block, Place::Frame(frame));
        }
        Ok(())
    }

    /// Makes the bytes from `offset` on, `length` in all, read as zeros, and gives the frames of whole blocks back.
    ///
    /// # Errors
    /// [`Full`], if a part of a block must be cleared and there is no frame for the rest of it.
    ///
    /// # Panics
    /// If the range ends past the disk's last block.
    pub fn clear(&mut self, offset: u64, length: u64) -> Result<(), Full> {
        for stretch in stretches(offset, length) {
            if stretch.is_whole() {
                self.drop_block(stretch.block);
                continue;
            }
            let Stretch { block, from, to } = stretch;
            if self.place(block) == Place::Zeros {
                continue;
            }
            let start = u64::from(block) * BLOCK_BYTES + from as u64;
            let zero = |bytes: &mut [u8]| -> Result<(), core::convert::Infallible> {
                bytes.fill(0);
                Ok(())
            };
            self.write(start, (to - from) as u64, zero)
                .map_err(|_| Full)?;
        }
        Ok(())
    }

    /// Gives back the frames of the blocks that lie whole in the range; they read as zeros. Parts of blocks stay as they are, as a discard may
    /// leave them.
    ///
    /// # Panics
    /// If the range ends past the disk's last block.
    pub fn discard(&mut self, offset: u64, length: u64) {
        stretches(offset, length)
            .filter(Stretch::is_whole)
            .for_each(|stretch| self.drop_block(stretch.block));
    }

    fn drop_block(&mut self, block: u32) {
        if let Place::Frame(frame) = self.place(block) {
            self.give_back(frame);
        }
        self.set_place(block, Place::Zeros);
    }

    /// What of the image lies in a block, or behind it.
    #[inline]
    fn in_image(&self, block: u32) -> &'a [u8] {
        let start = block as usize * FRAME_BYTES;
        self.image.get(start..).unwrap_or(&[])
    }

    /// Makes `frame` what the block is now, which is in no frame.
    #[cold]
    fn copy_up(&mut self, block: u32, frame: u32) {
        let from = match self.place(block) {
            Place::Image => self.in_image(block),
            _ => &[],
        };
        let from = &from[..from.len().min(FRAME_BYTES)];
        let (copied, zeroed) = self.memory.frame_mut(frame).split_at_mut(from.len());
        copied.copy_from_slice(from);
        zeroed.fill(0);
    }

    #[inline]
    fn place(&self, block: u32) -> Place {
        Place::from_entry(self.entry(block))
    }

    #[inline]
    fn entry(&self, block: u32) -> u32 {
        let entries = self
            .memory
            .frame(block / ENTRIES_PER_FRAME)
            .as_chunks::<4>()
            .0;
        u32::from_le_bytes(entries[(block % ENTRIES_PER_FRAME) as usize])
    }

    #[inline]
    fn set_place(&mut self, block: u32, place: Place) {
        self.set_entry(block, place.entry() | CHANGED);
    }

    /// The bytes of a block change in the frame where they are.
    #[inline]
    fn note_change(&mut self, block: u32) {
        let entry = self.entry(block);
        if entry & CHANGED == 0 {
            self.set_entry(block, entry | CHANGED);
        }
    }

    #[inline]
    fn set_entry(&mut self, block: u32, entry: u32) {
        if entry & CHANGED != 0 {
            self.changed.note(block);
        }
        let entries = self
            .memory
            .frame_mut(block / ENTRIES_PER_FRAME)
            .as_chunks_mut::<4>()
            .0;
        entries[(block % ENTRIES_PER_FRAME) as usize] = entry.to_le_bytes();
    }

    /// A frame that no block has, with anything in it.
    #[inline]
    fn take_frame(&mut self) -> Option<u32> {
        let frame = match self.given_back {
            Some(frame) => {
                let (next, _) = self.memory.frame(frame).split_first_chunk::<4>()?;
                self.given_back = u32::from_le_bytes(*next).checked_sub(1);
                frame
            }
            None if self.untouched < self.memory.frames() => {
                self.untouched += 1;
                self.untouched - 1
            }
            None => return None,
        };
        self.used += 1;
        Some(frame)
    }

    fn give_back(&mut self, frame: u32) {
        let next = self.given_back.map_or(0, |next| next + 1);
        self.memory.frame_mut(frame)[..4].copy_from_slice(&next.to_le_bytes());
        self.given_back = Some(frame);
        self.used -= 1;
    }
}
