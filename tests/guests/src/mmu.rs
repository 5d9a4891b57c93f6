//! The guest's own translation: an identity map of blocks, made by `start.S`, and one window onto any page.
//!
//! 39 bits of virtual address, 4 KiB granule. The last GiB of it leads to the window.

use core::cell::UnsafeCell;

use crate::{mmio, read_sysreg};

/// Entries in a table.
const ENTRIES: usize = 512;
/// Bytes that an entry of the root table spans.
const GIB: usize = 1 << 30;
/// Entry of the root table that leads to the window.
const WINDOW_ENTRY: usize = ENTRIES - 1;
/// Where the window is, one page of 4 KiB.
pub const WINDOW: usize = WINDOW_ENTRY * GIB;

/// The kind of memory that a mapping claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Device-nGnRnE.
    Device,
    /// Normal, write-back.
    Normal,
    /// Normal, not cached.
    Uncached,
    /// Device-nGnRE.
    DeviceEarly,
}

/// A descriptor's accessed flag.
const ACCESSED: u64 = 1 << 10;
/// Not executable at EL0.
const UXN: u64 = 1 << 54;
/// Not executable at EL1.
const PXN: u64 = 1 << 53;
/// EL0 may access as well.
const USER: u64 = 1 << 6;
/// Inner shareable.
const INNER: u64 = 3 << 8;

#[repr(C, align(4096))]
struct Table(UnsafeCell<[u64; ENTRIES]>);

// SAFETY: the walker reads it at any time; writes are whole 64-bit stores by vCPU 0 alone.
unsafe impl Sync for Table {}

impl Table {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; ENTRIES]))
    }

    fn address(&self) -> u64 {
        self.0.get() as u64
    }

    fn set(&self, index: usize, descriptor: u64) {
        assert!(index < ENTRIES);
        // SAFETY: in bounds, and only vCPU 0 writes.
        unsafe {
            self.0
                .get()
                .cast::<u64>()
                .add(index)
                .write_volatile(descriptor)
        };
    }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".table")]
static ROOT_TABLE: Table = Table::new();
static WINDOW_MIDDLE: Table = Table::new();
static WINDOW_LEAF: Table = Table::new();

fn attributes(kind: Kind, executable: bool) -> u64 {
    let index = match kind {
        Kind::Device => 0,
        Kind::Normal => 1,
        Kind::Uncached => 2,
        Kind::DeviceEarly => 3,
    };
    let never = if executable { UXN } else { UXN | PXN };
    index << 2 | ACCESSED | INNER | never
}

fn flush() {
    // SAFETY: dropping cached translations is always sound.
    unsafe {
        core::arch::asm!(
            "dsb ishst",
            "tlbi vmalle1is",
            "dsb ish",
            "isb",
            options(nostack)
        )
    };
}

/// Bits of physical address that the CPU says it has, at most 48.
pub fn physical_bits() -> u32 {
    const BITS: [u32; 6] = [32, 36, 40, 42, 44, 48];
    BITS[(read_sysreg!("id_aa64mmfr0_el1") & 0xf).min(5) as usize]
}

/// Maps all of the 39-bit space but the window's GiB, what `start.S` left out as devices, so that wild addresses reach stage 2.
pub fn map_everything() {
    for index in 9..WINDOW_ENTRY {
        ROOT_TABLE.set(
            index,
            (index * GIB) as u64 | attributes(Kind::Device, false) | 1,
        );
    }
    WINDOW_MIDDLE.set(0, WINDOW_LEAF.address() | 3);
    ROOT_TABLE.set(WINDOW_ENTRY, WINDOW_MIDDLE.address() | 3);
    flush();
}

/// Points the window at the page of `physical`; gives the address in the window of that byte. [`map_everything`] comes first.
pub fn map_window(physical: u64, kind: Kind, executable: bool) -> usize {
    WINDOW_LEAF.set(0, 0);
    flush_window();
    WINDOW_LEAF.set(
        0,
        (physical & 0xffff_ffff_f000) | attributes(kind, executable) | 3,
    );
    // SAFETY: a barrier changes no state.
    unsafe { core::arch::asm!("dsb ishst", "isb", options(nostack)) };
    WINDOW + (physical as usize & 0xfff)
}

/// Points the window at a page of memory that EL0 may execute and write as well.
pub fn map_window_user(physical: u64) -> usize {
    let address = map_window(physical, Kind::Normal, true);
    WINDOW_LEAF.set(
        0,
        (physical & 0xffff_ffff_f000) | ((attributes(Kind::Normal, true) | USER) & !UXN) | 3,
    );
    flush_window();
    address
}

fn flush_window() {
    // SAFETY: dropping cached translations is always sound.
    unsafe {
        core::arch::asm!("dsb ishst", "tlbi vaae1is, {}", "dsb ish", "isb", in(reg) WINDOW >> 12, options(nostack))
    };
}

/// Makes instructions just written to `[start, end)` the ones that run, with translation on or off.
pub fn sync_instructions(start: usize, end: usize) {
    // 16 bytes are the least that a line can be.
    for line in (start..end).step_by(16) {
        // SAFETY: cleaning loses nothing.
        unsafe { core::arch::asm!("dc cvac, {}", in(reg) line, options(nostack)) };
    }
    mmio::barrier();
    // SAFETY: dropping cached instructions loses nothing.
    unsafe { core::arch::asm!("ic iallu", "dsb nsh", "isb", options(nostack)) };
}
