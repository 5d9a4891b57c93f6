//! From the loader's jump to the first line of [`crate::kernel_main`].
//!
//! `start.S` finds the image wherever it was put, relocates it, turns on translation with the tables that [`early`] builds, and
//! calls `kernel_main`. The other cores come in by `secondary_start` later and find the final tables.

mod early;

use core::arch::global_asm;
use core::cell::UnsafeCell;

pub use early::tree_size;

/// Cores that are used; a board with more leaves the rest off.
pub const MAX_CORES: usize = 8;
/// Size of a core's stack with its guard page.
pub const STACK_SIZE: usize = 128 << 10;
/// Size of the stack on which a core reports a fault of its own.
pub const EMERGENCY_STACK_SIZE: usize = 8 << 10;
/// The unit in which the image is mapped.
pub const PAGE_SIZE: usize = 4 << 10;

global_asm!(
    ".equ STACK_SIZE, {STACK_SIZE}",
    ".equ MAX_CORES, {MAX_CORES}",
    include_str!("start.S"),
    STACK_SIZE = const STACK_SIZE,
    MAX_CORES = const MAX_CORES,
);

/// Memory that only assembly and the hardware use by itself.
#[repr(C, align(4096))]
struct Raw<T>(UnsafeCell<T>);

// SAFETY: nothing in Rust touches the contents; each core's assembly uses its own part.
unsafe impl<T> Sync for Raw<T> {}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".noinit.stacks")]
static core_stacks: Raw<[[u8; STACK_SIZE]; MAX_CORES]> =
    Raw(UnsafeCell::new([[0; STACK_SIZE]; MAX_CORES]));

#[unsafe(no_mangle)]
#[unsafe(link_section = ".noinit.stacks")]
static emergency_stacks: Raw<[[u8; EMERGENCY_STACK_SIZE]; MAX_CORES]> =
    Raw(UnsafeCell::new([[0; EMERGENCY_STACK_SIZE]; MAX_CORES]));

/// The parts of the image, as addresses where it runs.
pub mod image {
    // SAFETY: the linker script defines them; their addresses alone are taken.
    unsafe extern "C" {
        static _image_start: u8;
        static _text_end: u8;
        static _rodata_end: u8;
        static _image_end: u8;
    }

    /// The first address.
    pub fn start() -> usize {
        &raw const _image_start as usize
    }
    /// The end of what is executed, the start of what is only read.
    pub fn text_end() -> usize {
        &raw const _text_end as usize
    }
    /// The end of what is only read, the start of what is written.
    pub fn rodata_end() -> usize {
        &raw const _rodata_end as usize
    }
    /// The end.
    pub fn end() -> usize {
        &raw const _image_end as usize
    }
    /// The guard page under each core's stack.
    pub fn guards() -> impl Iterator<Item = usize> {
        let stacks = &raw const super::core_stacks as usize;
        (0..super::MAX_CORES).map(move |core| stacks + core * super::STACK_SIZE)
    }
}

// SAFETY: `start.S` defines them with these signatures.
unsafe extern "C" {
    /// Turns this core from the early to the final tables (`start.S`).
    pub fn replace_translation(table: usize);
    /// Where PSCI starts a core; x0 is its number.
    pub fn secondary_start();
    /// Where a spin table starts a core.
    pub fn spin_entry();
}
