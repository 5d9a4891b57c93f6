//! A guest's memory, and the one way into it for everything that EL2 does on a guest's behalf.
//!
//! An IPA from a guest is hostile. Here it is checked, against the guest's own RAM, and turned into bytes; nothing else in this crate
//! touches guest memory. Guests run while EL2 reads and writes, so no reference to their memory is ever formed: bytes are copied
//! through raw pointers, and what must be whole (a ring's index, a descriptor) is loaded and stored by single accesses.
//!
//! - here: ranges and words. - [`window`]: several words near one another. - [`copy`]: how bytes move.
//! - [`dirty`]: a log of the pages that were written through here.

pub mod copy;
pub mod dirty;
#[cfg(test)]
mod tests;
pub mod window;

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::addr::{BLOCK_2M, Ipa, Pa};
use dirty::DirtyLog;

/// An access outside the guest's RAM, or of a word that is not aligned to its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

/// The RAM of one guest: a range of IPA backed by blocks of 2 MiB, each anywhere in the board's memory.
pub struct GuestMemory {
    base: Ipa,
    size: u64,
    blocks: Box<[Pa]>,
    dirty: DirtyLog,
}

/// Loads and stores of little-endian words, each one access that a guest sees whole or not at all.
macro_rules! words {
    ($($word:ty, $atomic:ty: $load:ident $load_order:ident, $store:ident $store_order:ident;)*) => { $(
        #[doc = concat!("Loads a little-endian `", stringify!($word), "` by one access (", stringify!($load_order), ").")]
        #[inline(always)]
        pub fn $load(&self, ipa: Ipa) -> Result<$word, OutOfRange> {
            let at = self.word::<$word>(ipa)?;
            // SAFETY: `word` yields aligned memory of this guest, which no reference covers.
            let value = unsafe { <$atomic>::from_ptr(at) }.load(Ordering::$load_order);
            Ok(<$word>::from_le(value))
        }

        #[doc = concat!("Stores a little-endian `", stringify!($word), "` by one access (", stringify!($store_order), ").")]
        #[inline(always)]
        pub fn $store(&self, ipa: Ipa, value: $word) -> Result<(), OutOfRange> {
            let at = self.word::<$word>(ipa)?;
            // SAFETY: `word` yields aligned memory of this guest, which no reference covers.
            unsafe { <$atomic>::from_ptr(at) }.store(value.to_le(), Ordering::$store_order);
            self.note(ipa.0.wrapping_sub(self.base.0), size_of::<$word>() as u64);
            Ok(())
        }
    )* };
}

impl GuestMemory {
    /// RAM at `base`, a multiple of 2 MiB, made of `blocks`.
    ///
    /// # Safety
    /// Each block is 2 MiB of memory, aligned to that size, that this guest alone owns for the life of this value, and whose
    /// physical address is also EL2's virtual one.
    pub unsafe fn new(base: Ipa, blocks: Box<[Pa]>) -> Self {
        assert!(base.is_aligned(BLOCK_2M) && blocks.iter().all(|block| block.is_aligned(BLOCK_2M)));
        let size = blocks.len() as u64 * BLOCK_2M;
        assert!(base.checked_add(size).is_some());
        Self {
            base,
            size,
            blocks,
            dirty: DirtyLog::new(size),
        }
    }

    /// The first IPA.
    pub fn base(&self) -> Ipa {
        self.base
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where each block of 2 MiB lies, lowest IPA first.
    pub fn blocks(&self) -> &[Pa] {
        &self.blocks
    }

    /// The log of the pages that are written through this value.
    pub fn dirty(&self) -> &DirtyLog {
        &self.dirty
    }

    words! {
        u16, AtomicU16: load_u16 Relaxed, store_u16 Relaxed;
        u16, AtomicU16: load_u16_acquire Acquire, store_u16_release Release;
        u32, AtomicU32: load_u32 Relaxed, store_u32 Relaxed;
        u64, AtomicU64: load_u64 Relaxed, store_u64 Relaxed;
    }

    /// Whether `length` bytes from `ipa` are all RAM.
    #[inline(always)]
    pub fn contains(&self, ipa: Ipa, length: u64) -> bool {
        self.offset(ipa, length).is_ok()
    }

    /// Copies from the guest at `ipa` to `to`.
    #[inline]
    pub fn read(&self, ipa: Ipa, to: &mut [u8]) -> Result<(), OutOfRange> {
        self.each(ipa, to.len(), |from, done, length| {
            // SAFETY: `each` yields memory of this guest; `to` is ours and long enough.
            unsafe { copy::copy(to.as_mut_ptr().add(done), from, length) }
        })
        .map(|_| ())
    }

    /// Whether `length` bytes from `ipa`, a multiple of 64 that begins at one, are all zero.
    pub fn is_zero(&self, ipa: Ipa, length: usize) -> Result<bool, OutOfRange> {
        let mut zero = true;
        self.each(ipa, length, |from, _, length| {
            // SAFETY: `each` yields memory of this guest, which no reference covers.
            zero &= unsafe { copy::is_zero(from, length) };
        })?;
        Ok(zero)
    }

    /// Copies `from` to the guest at `ipa`.
    #[inline]
    pub fn write(&self, ipa: Ipa, from: &[u8]) -> Result<(), OutOfRange> {
        self.pieces(ipa, from.len(), |to, done, length| {
            // SAFETY: `pieces` yields memory of this guest, which no reference covers; `from` is long enough.
            unsafe { copy::copy(to, from.as_ptr().add(done), length) }
        })
    }

    /// Copies `length` bytes from this guest at `from` to `target`, which may be the same guest, at `to`. Both ranges are checked
    /// before anything is copied; where they overlap, what arrives is unspecified.
    #[inline]
    pub fn copy_to(
        &self,
        from: Ipa,
        target: &GuestMemory,
        to: Ipa,
        length: usize,
    ) -> Result<(), OutOfRange> {
        let source = self.offset(from, length as u64)?;
        target.pieces(to, length, |to, before, length| {
            let mut done = 0;
            while done < length {
                let at = source + (before + done) as u64;
                let (from, piece) = self.piece(at, (length - done) as u64);
                // SAFETY: both are memory of guests, which no reference covers, and valid for that length.
                unsafe { copy::copy(to.add(done), from, piece as usize) };
                done += piece as usize;
            }
        })
    }

    /// Calls `body(pointer, bytes before, length)` for each contiguous piece of a range of the guest's RAM, which it may read and write.
    /// The range is checked before the first call, and counts as written after the last.
    #[inline]
    pub fn pieces(
        &self,
        ipa: Ipa,
        length: usize,
        body: impl FnMut(*mut u8, usize, usize),
    ) -> Result<(), OutOfRange> {
        let at = self.each(ipa, length, body)?;
        self.note(at, length as u64);
        Ok(())
    }

    /// Notes in the dirty log, if that is on, that `length` bytes from `ipa` were written otherwise: by a device of the board to
    /// which the guest's memory was handed. After the write.
    pub fn mark_written(&self, ipa: Ipa, length: u64) -> Result<(), OutOfRange> {
        let at = self.offset(ipa, length)?;
        self.note(at, length);
        Ok(())
    }

    /// Where the byte at `ipa` lies, and how many of the `length` bytes from there, at least 1, lie behind one another: for a device of the board to which
    /// the memory is handed. What that writes is to be told to [`mark_written`](Self::mark_written).
    #[inline]
    pub fn physical(&self, ipa: Ipa, length: u32) -> Result<(Pa, u32), OutOfRange> {
        let length = u64::from(length.max(1));
        let at = self.offset(ipa, length)?;
        let (address, piece) = self.piece(at, length);
        Ok((Pa(address as u64), piece as u32))
    }

    /// [`pieces`](Self::pieces), for reading alone; the offset in RAM.
    #[inline(always)]
    fn each(
        &self,
        ipa: Ipa,
        length: usize,
        mut body: impl FnMut(*mut u8, usize, usize),
    ) -> Result<u64, OutOfRange> {
        let start = self.offset(ipa, length as u64)?;
        let mut done = 0;
        while done < length {
            let (at, piece) = self.piece(start + done as u64, (length - done) as u64);
            body(at, done, piece as usize);
            done += piece as usize;
        }
        Ok(start)
    }

    /// The offset in RAM of a range that lies in it.
    #[inline(always)]
    fn offset(&self, ipa: Ipa, length: u64) -> Result<u64, OutOfRange> {
        // Below RAM this wraps to more than any size, since RAM ends within the address space.
        let at = ipa.0.wrapping_sub(self.base.0);
        if at <= self.size && length <= self.size - at {
            Ok(at)
        } else {
            Err(OutOfRange)
        }
    }

    /// The memory at offset `at`, and how much of `length` is contiguous there; both within RAM.
    #[inline(always)]
    fn piece(&self, at: u64, length: u64) -> (*mut u8, u64) {
        let within = at % BLOCK_2M;
        let block = self.blocks[(at / BLOCK_2M) as usize];
        let address = block.0.wrapping_add(within);
        (address as *mut u8, length.min(BLOCK_2M - within))
    }

    /// A word of RAM, aligned to its size, so that it lies in one block.
    #[inline(always)]
    fn word<T>(&self, ipa: Ipa) -> Result<*mut T, OutOfRange> {
        let at = ipa.0.wrapping_sub(self.base.0);
        if !at.is_multiple_of(size_of::<T>() as u64) {
            return Err(OutOfRange);
        }
        let block = self
            .blocks
            .get((at / BLOCK_2M) as usize)
            .ok_or(OutOfRange)?;
        Ok(block.0.wrapping_add(at % BLOCK_2M) as *mut T)
    }

    #[inline(always)]
    fn note(&self, at: u64, length: u64) {
        if self.dirty.is_on() {
            self.dirty.note(at, length);
        }
    }
}
