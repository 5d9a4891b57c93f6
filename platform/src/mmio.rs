//! A device's registers.

use crate::tree::Region;

/// A block of registers, mapped as device memory at its physical address.
#[derive(Clone, Copy, Debug)]
pub struct Mmio {
    base: usize,
    size: usize,
}

impl Mmio {
    /// The registers in `region`.
    ///
    /// # Safety
    /// The region is a device's, mapped as device memory, and every register of it may be written at any time by the owner of this
    /// value without breaking memory safety.
    pub const unsafe fn new(region: Region) -> Self {
        Self {
            base: region.base() as usize,
            size: region.size() as usize,
        }
    }

    /// The block from `offset` on.
    pub const fn from(self, offset: usize) -> Self {
        assert!(offset <= self.size);
        Self {
            base: self.base + offset,
            size: self.size - offset,
        }
    }

    /// The physical address.
    pub const fn base(self) -> usize {
        self.base
    }

    /// Reads the 32-bit register at `offset`.
    #[inline(always)]
    pub fn read(self, offset: usize) -> u32 {
        debug_assert!(offset + 4 <= self.size);
        // SAFETY: `new`'s promise.
        unsafe { (self.base.wrapping_add(offset) as *const u32).read_volatile() }
    }

    /// Writes the 32-bit register at `offset`.
    #[inline(always)]
    pub fn write(self, offset: usize, value: u32) {
        debug_assert!(offset + 4 <= self.size);
        // SAFETY: `new`'s promise.
        unsafe { (self.base.wrapping_add(offset) as *mut u32).write_volatile(value) }
    }

    /// Reads the 8-bit register at `offset`.
    pub fn read8(self, offset: usize) -> u8 {
        debug_assert!(offset < self.size);
        // SAFETY: `new`'s promise.
        unsafe { (self.base.wrapping_add(offset) as *const u8).read_volatile() }
    }

    /// Reads the 16-bit register at `offset`.
    pub fn read16(self, offset: usize) -> u16 {
        debug_assert!(offset + 2 <= self.size);
        // SAFETY: `new`'s promise.
        unsafe { (self.base.wrapping_add(offset) as *const u16).read_volatile() }
    }

    /// Reads the 64-bit register at `offset`.
    pub fn read64(self, offset: usize) -> u64 {
        debug_assert!(offset + 8 <= self.size);
        // SAFETY: `new`'s promise.
        unsafe { (self.base.wrapping_add(offset) as *const u64).read_volatile() }
    }

    /// Writes the 64-bit register at `offset`.
    pub fn write64(self, offset: usize, value: u64) {
        debug_assert!(offset + 8 <= self.size);
        // SAFETY: `new`'s promise.
        unsafe { (self.base.wrapping_add(offset) as *mut u64).write_volatile(value) }
    }
}
