//! A guest's memory, and the one way into it for everything that EL2 does on a guest's behalf.
//!
//! An IPA from a guest is hostile. Here it is checked once, against the guest's own RAM, and turned into bytes; nothing else in
//! this crate touches guest memory. Guests run while EL2 reads and writes, so no reference to their memory is ever formed: bytes are
//! copied through raw pointers.

use alloc::boxed::Box;
use core::ptr;

use crate::addr::{BLOCK_2M, Ipa, Pa};

/// An access outside the guest's RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

/// The RAM of one guest: a range of IPA backed by blocks of 2 MiB, each anywhere in the board's memory.
pub struct GuestMemory {
    base: Ipa,
    blocks: Box<[Pa]>,
}

impl GuestMemory {
    /// RAM at `base`, a multiple of 2 MiB, made of `blocks`.
    ///
    /// # Safety
    /// Each block is 2 MiB of memory, aligned to that size, that this guest alone owns for the life of this value, and whose
    /// physical address is also EL2's virtual one.
    pub unsafe fn new(base: Ipa, blocks: Box<[Pa]>) -> Self {
        assert!(base.is_aligned(BLOCK_2M) && blocks.iter().all(|block| block.is_aligned(BLOCK_2M)));
        Self { base, blocks }
    }

    /// The first IPA.
    pub fn base(&self) -> Ipa {
        self.base
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_2M
    }

    /// Where each block of 2 MiB lies, lowest IPA first.
    pub fn blocks(&self) -> &[Pa] {
        &self.blocks
    }

    /// Copies from the guest at `ipa` to `to`.
    pub fn read(&self, ipa: Ipa, to: &mut [u8]) -> Result<(), OutOfRange> {
        self.pieces(ipa, to.len(), |from, done, length| {
            // SAFETY: `pieces` yields memory of this guest; `to` is ours and long enough.
            unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr().add(done), length) }
        })
    }

    /// Copies `from` to the guest at `ipa`.
    pub fn write(&self, ipa: Ipa, from: &[u8]) -> Result<(), OutOfRange> {
        self.pieces(ipa, from.len(), |to, done, length| {
            // SAFETY: `pieces` yields memory of this guest, which no reference covers; `from` is long enough.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr().add(done), to, length) }
        })
    }

    /// Calls `body(pointer, bytes before, length)` for each contiguous piece of a range of the guest's RAM. The range is checked
    /// before the first call.
    pub fn pieces(
        &self,
        ipa: Ipa,
        length: usize,
        mut body: impl FnMut(*mut u8, usize, usize),
    ) -> Result<(), OutOfRange> {
        let start = ipa.offset_from(self.base).ok_or(OutOfRange)?;
        let end = start.checked_add(length as u64).ok_or(OutOfRange)?;
        if end > self.size() {
            return Err(OutOfRange);
        }
        let mut at = start;
        while at < end {
            let within = at % BLOCK_2M;
            let piece = (BLOCK_2M - within).min(end - at);
            let pa = self.blocks[(at / BLOCK_2M) as usize].0 + within;
            body(pa as *mut u8, (at - start) as usize, piece as usize);
            at += piece;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::{Layout, alloc_zeroed};
    use std::vec;

    /// Three blocks, deliberately out of order.
    fn memory() -> GuestMemory {
        let layout = Layout::from_size_align(3 * BLOCK_2M as usize, BLOCK_2M as usize).unwrap();
        // SAFETY: the layout is not empty.
        let base = unsafe { alloc_zeroed(layout) } as u64;
        let blocks = [2, 0, 1].map(|n| Pa(base + n * BLOCK_2M));
        // SAFETY: the memory was just allocated for this value and is never freed.
        unsafe { GuestMemory::new(Ipa(0x4000_0000), Box::new(blocks)) }
    }

    #[test]
    fn bytes_cross_blocks() {
        let m = memory();
        let text: vec::Vec<u8> = (0..200u8).collect();
        let at = Ipa(m.base().0 + BLOCK_2M - 100);
        m.write(at, &text).unwrap();
        let mut back = vec![0; 200];
        m.read(at, &mut back).unwrap();
        assert_eq!(back, text);
        let mut first = [0];
        m.read(Ipa(m.base().0 + BLOCK_2M), &mut first).unwrap();
        assert_eq!(first, [100]);
    }

    #[test]
    fn outside_is_refused() {
        let m = memory();
        let end = Ipa(m.base().0 + m.size());
        for (ipa, length) in [
            (Ipa(0), 1),
            (Ipa(m.base().0 - 1), 2),
            (end, 1),
            (Ipa(end.0 - 1), 2),
            (Ipa(u64::MAX), 2),
        ] {
            assert_eq!(m.read(ipa, &mut vec![0; length]), Err(OutOfRange));
            assert_eq!(m.write(ipa, &vec![0; length]), Err(OutOfRange));
        }
        assert_eq!(m.write(end, &[]), Ok(()));
    }
}
