//! Putting a guest's images into its memory, as if it had just been powered on.

use core::arch::asm;
use core::fmt;

use cluster_proto::package::{Fault, GuestView, ImageView};
use el2_hyp::addr::{BLOCK_2M, Ipa};
use el2_hyp::arch::maintenance;
use el2_hyp::fdt;
use el2_hyp::guest::Guest;
use el2_hyp::image::{HEAD_BYTES, ImageError, Kernel};
use el2_hyp::machine::VIRTIO_SLOTS;
use el2_hyp::memory::OutOfRange;
use el2_hyp::vgic::Version;

use crate::random;

/// Where a placed guest begins.
pub struct Placed {
    /// Its first instruction.
    pub entry: Ipa,
    /// x0: its device tree.
    pub argument: u64,
}

/// Why a guest cannot be placed.
pub enum PlaceError {
    /// An image has changed since it was packed.
    Damaged(cluster_proto::package::EntryName, Fault),
    /// The kernel cannot be started, or does not fit.
    Kernel(ImageError),
    /// The device tree cannot be made.
    DeviceTree(fdt::FdtError),
    /// A part lies outside RAM.
    OutOfRange,
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(entry, fault) => write!(f, "entry {entry} of the boot package: {fault}"),
            Self::Kernel(error) => write!(f, "its kernel: {error}"),
            Self::DeviceTree(error) => write!(f, "{error}"),
            Self::OutOfRange => write!(f, "a part of it lies outside its memory"),
        }
    }
}

impl From<OutOfRange> for PlaceError {
    fn from(_: OutOfRange) -> Self {
        Self::OutOfRange
    }
}

/// Fills the guest's memory: images and device tree in their places, zero everywhere else.
pub fn place(guest: &Guest, view: &GuestView<'_>) -> Result<Placed, PlaceError> {
    let kernel = view.kernel.bytes;
    let head = &kernel[..kernel.len().min(HEAD_BYTES)];
    let initrd_size = view.initrd.as_ref().map(|initrd| initrd.bytes.len() as u64);
    let layout = Kernel::new(head, kernel.len() as u64)
        .and_then(|kernel| kernel.layout(guest.memory.size(), initrd_size))
        .map_err(PlaceError::Kernel)?;
    let slots: heapless::Vec<u8, { VIRTIO_SLOTS as usize }> = (0..guest.slots()).collect();
    let tree = fdt::build(&fdt::Description {
        memory: guest.memory.size(),
        vcpus: guest.vcpus().len() as u8,
        gic: match guest.gic_version() {
            Version::V2 => fdt::GuestGic::V2,
            Version::V3 => fdt::GuestGic::V3,
        },
        command_line: view.guest.command_line.as_str(),
        initrd: layout.initrd,
        virtio: &slots,
        seeds: Some(fdt::Seeds {
            kaslr: u64::from_le_bytes(random::draw()),
            rng: random::draw(),
        }),
    })
    .map_err(PlaceError::DeviceTree)?;

    for &block in guest.memory.blocks() {
        // SAFETY: the block is this guest's, which does not run; the identity map covers it.
        unsafe { maintenance::zero_pages(block.0 as *mut u8, BLOCK_2M as usize) };
    }
    let base = guest.memory.base().0;
    copy(guest, Ipa(base + layout.kernel.offset), &view.kernel)?;
    if let (Some(place), Some(initrd)) = (layout.initrd, &view.initrd) {
        copy(guest, Ipa(base + place.offset), initrd)?;
    }
    guest
        .memory
        .write(Ipa(base + layout.device_tree.offset), &tree)?;
    // The guest begins with its caches off: it must find all of this, and the zeros, in memory.
    for &block in guest.memory.blocks() {
        maintenance::clean_to_coherency(block.0 as *const u8, BLOCK_2M as usize);
    }
    maintenance::invalidate_instructions();
    Ok(Placed {
        entry: Ipa(base + layout.kernel.offset),
        argument: base + layout.device_tree.offset,
    })
}

/// Copies an image, and checks by the way that it is what was packed.
fn copy(guest: &Guest, to: Ipa, image: &ImageView<'_>) -> Result<(), PlaceError> {
    let hardware = has_crc_instructions();
    let mut crc = !0;
    guest
        .memory
        .pieces(to, image.bytes.len(), |target, done, length| {
            let source = &image.bytes[done..done + length];
            if hardware {
                // SAFETY: `pieces` yields the guest's own memory, `length` bytes; the source is as long.
                crc = unsafe { copy_with_crc32c(target, source, crc) };
            } else {
                // SAFETY: as above.
                unsafe { core::ptr::copy_nonoverlapping(source.as_ptr(), target, length) };
            }
        })?;
    let check = |bytes: &[u8]| {
        if hardware {
            !crc
        } else {
            cluster_proto::package::crc32c(bytes)
        }
    };
    image
        .check(check)
        .map_err(|fault| PlaceError::Damaged(image.entry(), fault))
}

/// ID_AA64ISAR0_EL1.CRC32: optional in Armv8.0.
fn has_crc_instructions() -> bool {
    let isar0: u64;
    // SAFETY: reading an ID register has no effect.
    unsafe {
        asm!("mrs {}, id_aa64isar0_el1", out(reg) isar0, options(nomem, nostack, preserves_flags))
    };
    isar0 >> 16 & 15 != 0
}

/// Copies `from` to `to`, and carries a CRC-32C over it.
///
/// # Safety
/// `to` is valid for as many bytes, and the core has the CRC instructions.
unsafe fn copy_with_crc32c(to: *mut u8, from: &[u8], mut crc: u32) -> u32 {
    const STEP: usize = 32;
    let (mut source, mut target) = (from.as_ptr(), to);
    let end = source.wrapping_add(from.len() / STEP * STEP);
    // SAFETY: 32 bytes at a time below the end of both.
    unsafe {
        while source != end {
            asm!(
                ".arch_extension crc",
                "ldp {a}, {b}, [{source}], #16", "ldp {c}, {d}, [{source}], #16",
                "crc32cx {crc:w}, {crc:w}, {a}", "crc32cx {crc:w}, {crc:w}, {b}",
                "crc32cx {crc:w}, {crc:w}, {c}", "crc32cx {crc:w}, {crc:w}, {d}",
                "stp {a}, {b}, [{target}], #16", "stp {c}, {d}, [{target}], #16",
                source = inout(reg) source, target = inout(reg) target, crc = inout(reg) crc,
                a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                options(nostack, preserves_flags)
            );
        }
        for &byte in &from[from.len() / STEP * STEP..] {
            asm!(".arch_extension crc", "crc32cb {crc:w}, {crc:w}, {byte:w}", crc = inout(reg) crc, byte = in(reg) u32::from(byte),
                 options(nomem, nostack, preserves_flags));
            target.write(byte);
            target = target.add(1);
        }
    }
    crc
}
