//! Several words of a guest's memory, found once.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::{GuestMemory, OutOfRange};
use crate::addr::{BLOCK_2M, Ipa};

/// A range of RAM within one block of 2 MiB, from a multiple of `ALIGNMENT` bytes.
pub struct Window<'a, const ALIGNMENT: u64> {
    memory: &'a GuestMemory,
    start: *mut u8,
    /// The offset in RAM.
    at: u64,
    length: u64,
}

impl GuestMemory {
    /// The range of `length` bytes from `ipa`; `None` if that is not aligned, lies outside RAM, or across the border of two blocks of 2 MiB.
    #[inline(always)]
    pub fn window<const ALIGNMENT: u64>(
        &self,
        ipa: Ipa,
        length: u64,
    ) -> Option<Window<'_, ALIGNMENT>> {
        let at = ipa.0.wrapping_sub(self.base.0);
        let within = at % BLOCK_2M;
        if !at.is_multiple_of(ALIGNMENT) || length > BLOCK_2M - within {
            return None;
        }
        let block = self.blocks.get((at / BLOCK_2M) as usize)?;
        Some(Window {
            memory: self,
            start: block.0.wrapping_add(within) as *mut u8,
            at,
            length,
        })
    }
}

impl Window<'_, 16> {
    /// Loads two little-endian words at `offset`, a multiple of 8, each by one access (Relaxed).
    #[inline(always)]
    pub fn load_u64_pair(&self, offset: u64) -> Result<[u64; 2], OutOfRange> {
        let at = self.place(offset, 8, 16)?.cast::<u64>();
        // SAFETY: `place` yields 16 bytes of this guest, aligned to 8, which no reference covers.
        let words = unsafe { [AtomicU64::from_ptr(at), AtomicU64::from_ptr(at.add(1))] };
        Ok(words.map(|word| u64::from_le(word.load(Ordering::Relaxed))))
    }
}

impl Window<'_, 4> {
    /// Stores two little-endian words at `offset`, each by one access (Relaxed).
    #[inline(always)]
    pub fn store_u32_pair(&self, offset: u64, values: [u32; 2]) -> Result<(), OutOfRange> {
        let at = self.place(offset, 4, 8)?;
        for (n, value) in values.into_iter().enumerate() {
            // SAFETY: `place` yields 8 bytes of this guest, aligned to 4, which no reference covers.
            let word = unsafe { AtomicU32::from_ptr(at.add(4 * n).cast()) };
            word.store(value.to_le(), Ordering::Relaxed);
        }
        self.memory.note(self.at.wrapping_add(offset), 8);
        Ok(())
    }

    /// Stores a little-endian word at `offset` by one access (Release).
    #[inline(always)]
    pub fn store_u16_release(&self, offset: u64, value: u16) -> Result<(), OutOfRange> {
        let at = self.place(offset, 2, 2)?;
        // SAFETY: `place` yields 2 bytes of this guest, aligned to that, which no reference covers.
        unsafe { AtomicU16::from_ptr(at.cast()) }.store(value.to_le(), Ordering::Release);
        self.memory.note(self.at.wrapping_add(offset), 2);
        Ok(())
    }
}

impl<const ALIGNMENT: u64> Window<'_, ALIGNMENT> {
    /// `bytes` at `offset`, a multiple of `alignment`, within the window.
    #[inline(always)]
    fn place(&self, offset: u64, alignment: u64, bytes: u64) -> Result<*mut u8, OutOfRange> {
        if offset.saturating_add(bytes) <= self.length && offset.is_multiple_of(alignment) {
            Ok(self.start.wrapping_add(offset as usize))
        } else {
            Err(OutOfRange)
        }
    }
}
