//! Memory that a device reads and writes by itself.
//!
//! The kernel gives a driver some [`Page`]s for good. [`Memory`] cuts them into typed parts ([`Shared`]): what a part is made of may
//! change under the driver's eyes, so it consists of atomics, or of [`Buffer`]s whose bytes are reached only with a token that says
//! that the device does not have them. EL2's map is the identity: a reference is a physical address.
//!
//! A device is taken to see memory as the cores do (`dma-coherent`). One that does not needs its lines cleaned before it is told of a
//! buffer, and invalidated before the buffer is read: the traits of [`crate::nic`] and [`crate::disk`] hand frames out in closures
//! so that such a driver has both places.

use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

/// The size of a [`Page`], bytes.
pub const PAGE_BYTES: usize = 4096;

/// A page of memory for a device.
#[repr(C, align(4096))]
pub struct Page([u8; PAGE_BYTES]);

impl Page {
    /// A page of zeroes.
    pub const ZERO: Self = Self([0; PAGE_BYTES]);
}

/// What may stand in memory that a device changes.
///
/// # Safety
/// All bits zero are a value, and every part of it may change at any time: it is made of atomics and of cells that are not read while
/// the device may write to them.
pub unsafe trait Shared: Sync + 'static {}

// SAFETY: integers that may change.
unsafe impl Shared for AtomicU16 {}
// SAFETY: as above.
unsafe impl Shared for AtomicU32 {}
// SAFETY: as above.
unsafe impl Shared for AtomicU64 {}
// SAFETY: each of its parts is.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}

/// The pages that were given are too few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall;

impl fmt::Display for TooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too little memory was given for the device")
    }
}

/// Memory that is still to be handed out.
pub struct Memory {
    rest: &'static mut [u8],
}

impl Memory {
    /// All of `pages`, which are zeroed.
    pub fn new(pages: &'static mut [Page]) -> Self {
        pages.fill_with(|| Page::ZERO);
        let bytes = size_of_val(pages);
        // SAFETY: a page is its bytes, and the exclusive borrow is given up for this one.
        let rest = unsafe { core::slice::from_raw_parts_mut(pages.as_mut_ptr().cast(), bytes) };
        Self { rest }
    }

    /// A part of it, all zero.
    ///
    /// # Errors
    /// [`TooSmall`].
    pub fn place<T: Shared>(&mut self) -> Result<&'static T, TooSmall> {
        const { assert!(align_of::<T>() <= PAGE_BYTES) };
        let skip = self.rest.as_ptr().align_offset(align_of::<T>());
        let end = skip.checked_add(size_of::<T>()).ok_or(TooSmall)?;
        let rest = core::mem::take(&mut self.rest);
        if end > rest.len() {
            self.rest = rest;
            return Err(TooSmall);
        }
        let (taken, rest) = rest.split_at_mut(end);
        self.rest = rest;
        // SAFETY: the part is aligned and as long as a `T`, zero, which is a value of it, and nobody else has it: its bytes have left
        // `rest` for good.
        Ok(unsafe { &*taken.as_ptr().add(skip).cast::<T>() })
    }
}

/// Where a device finds `part`.
#[inline(always)]
pub fn address<T: Shared>(part: &T) -> u64 {
    (&raw const *part) as u64
}

/// The size of a [`Buffer`], bytes.
pub const BUFFER_BYTES: usize = 2048;

/// Memory for one frame.
#[repr(C, align(64))]
pub struct Buffer(UnsafeCell<[u8; BUFFER_BYTES]>);

// SAFETY: its bytes are reached by `bytes` alone, whose caller answers for that.
unsafe impl Sync for Buffer {}
// SAFETY: bytes, in a cell.
unsafe impl Shared for Buffer {}

impl Buffer {
    /// Its bytes.
    ///
    /// # Safety
    /// Neither the device nor anybody else has the buffer while the borrow lives.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn bytes(&self) -> &mut [u8; BUFFER_BYTES] {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.0.get() }
    }
}

/// Order between what a core and what a device see in memory.
pub mod barrier {
    macro_rules! barriers {
        ($($(#[$doc:meta])* $name:ident: $kind:literal;)*) => { $(
            $(#[$doc])*
            #[inline(always)]
            pub fn $name() {
                #[cfg(target_arch = "aarch64")]
                // SAFETY: a barrier.
                unsafe {
                    core::arch::asm!(concat!("dmb ", $kind), options(nostack, preserves_flags))
                };
                #[cfg(not(target_arch = "aarch64"))]
                core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
            }
        )* };
    }

    barriers! {
        /// Writes before it are seen before writes behind it.
        write: "oshst";
        /// Reads before it are done before anything behind it.
        read: "oshld";
        /// Everything before it comes before everything behind it, device registers included.
        full: "osh";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(pages: usize) -> Memory {
        let pages: Vec<_> = (0..pages).map(|_| Page([0xa5; PAGE_BYTES])).collect();
        Memory::new(pages.leak())
    }

    #[test]
    fn parts_are_zero_aligned_and_apart() {
        let mut memory = memory(2);
        let a: &AtomicU16 = memory.place().unwrap();
        let b: &[AtomicU64; 8] = memory.place().unwrap();
        let c: &Buffer = memory.place().unwrap();
        assert_eq!(a.load(core::sync::atomic::Ordering::Relaxed), 0);
        assert_eq!((address(b) % 8, address(c) % 64), (0, 0));
        assert!(address(b) >= address(a) + 2 && address(c) >= address(b) + 64);
        // SAFETY: there is no device.
        assert!(unsafe { c.bytes() }.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn no_more_is_handed_out_than_there_is() {
        let mut memory = memory(1);
        let first: &Buffer = memory.place().unwrap();
        assert_eq!(memory.place::<[Buffer; 2]>().err(), Some(TooSmall));
        let second: &Buffer = memory.place().unwrap();
        assert_eq!(address(second) - address(first), BUFFER_BYTES as u64);
        assert!(memory.place::<AtomicU16>().is_err());
    }
}
