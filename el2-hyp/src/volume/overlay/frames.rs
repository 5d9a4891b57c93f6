//! The memory of an overlay as numbered page frames: the only place where it is touched.

use alloc::boxed::Box;

use crate::addr::{BLOCK_2M, PAGE_SIZE, Pa};

/// Bytes of a page frame.
pub const FRAME_BYTES: usize = PAGE_SIZE as usize;
/// The bytes of a page frame.
pub type Frame = [u8; FRAME_BYTES];

/// Frames in one block of 2 MiB.
const FRAMES_PER_BLOCK: u32 = (BLOCK_2M / PAGE_SIZE) as u32;
/// Most blocks: the frames' numbers fit in 32 bits.
const MAX_BLOCKS: usize = (u32::MAX / FRAMES_PER_BLOCK) as usize;

/// Memory for an overlay: blocks of 2 MiB, as a guest's own memory is made of.
pub struct OverlayMemory {
    blocks: Box<[Pa]>,
    frames: u32,
}

impl OverlayMemory {
    /// The memory made of `blocks`. What lies in it does not matter: a guest sees nothing of it that it has not written.
    ///
    /// # Safety
    /// Each block is 2 MiB of memory, aligned to that size and initialised with any bytes, that nobody else reads or writes for the life of this value, and whose
    /// physical address is also EL2's virtual one.
    ///
    /// # Panics
    /// If a block is not aligned, or if there are 16 TiB of them.
    pub unsafe fn new(blocks: Box<[Pa]>) -> Self {
        assert!(blocks.iter().all(|block| block.is_aligned(BLOCK_2M)));
        assert!(blocks.len() <= MAX_BLOCKS);
        let frames = blocks.len() as u32 * FRAMES_PER_BLOCK;
        Self { blocks, frames }
    }

    /// How many page frames there are.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// The blocks that it was made of; for whoever gives them back when the overlay is gone.
    pub fn blocks(&self) -> &[Pa] {
        &self.blocks
    }

    #[inline]
    fn address(&self, frame: u32) -> u64 {
        let block = self.blocks[(frame / FRAMES_PER_BLOCK) as usize];
        block.0 + u64::from(frame % FRAMES_PER_BLOCK) * PAGE_SIZE
    }

    /// The bytes of frame number `frame`.
    #[inline]
    pub(super) fn frame(&self, frame: u32) -> &Frame {
        // SAFETY: the address is that of a whole frame within a block, which is initialised memory of this value alone, by `new`'s contract; the
        // reference borrows the value.
        unsafe { &*(self.address(frame) as *const Frame) }
    }

    /// The bytes of frame number `frame`.
    #[inline]
    pub(super) fn frame_mut(&mut self, frame: u32) -> &mut Frame {
        // SAFETY: as in `frame`, and the value is borrowed mutably for as long.
        unsafe { &mut *(self.address(frame) as *mut Frame) }
    }
}
