//! Putting a guest's images into its memory, as if it had just been powered on. That is long, so it is done in steps.

use alloc::vec::Vec;
use core::arch::asm;
use core::fmt;

use cluster_proto::package::{Fault, GuestView, ImageView};
use el2_hyp::addr::{BLOCK_2M, Ipa};
use el2_hyp::arch::maintenance;
use el2_hyp::fdt;
use el2_hyp::guest::Guest;
use el2_hyp::image::{HEAD_BYTES, ImageError, Kernel, Layout};
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

/// Bytes that one step zeroes, copies or cleans. Whatever else the core has to do waits as long as that takes.
const STEP: u64 = 256 << 10;
const _: () = assert!(BLOCK_2M.is_multiple_of(STEP));

/// What a step is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Zero everywhere.
    Zero,
    /// The kernel to its place.
    Kernel,
    /// The initrd, if there is one.
    Initrd,
    /// The device tree.
    Tree,
    /// All of it is written back.
    Clean,
}

/// The filling of a guest's memory, step by step: images and device tree in their places, zero everywhere else.
pub struct Plan {
    layout: Layout,
    tree: Vec<u8>,
    phase: Phase,
    /// Bytes that the phase has done.
    done: u64,
    /// CRC-32C of what was copied of the image that is being copied.
    crc: u32,
}

impl Plan {
    /// What goes where. Nothing is written yet.
    pub fn new(guest: &Guest, view: &GuestView<'_>) -> Result<Self, PlaceError> {
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
        Ok(Self {
            layout,
            tree,
            phase: Phase::Zero,
            done: 0,
            crc: !0,
        })
    }

    /// Goes on by at most [`STEP`]. Where the guest begins, once all is done.
    pub fn step(
        &mut self,
        guest: &Guest,
        view: &GuestView<'_>,
    ) -> Result<Option<Placed>, PlaceError> {
        let base = guest.memory.base().0;
        match self.phase {
            Phase::Zero => {
                let at = self.address(guest);
                // SAFETY: a part of a block of this guest's, which does not run; the identity map covers it.
                unsafe { maintenance::zero_pages(at as *mut u8, STEP as usize) };
                self.advance(STEP, guest.memory.size(), Phase::Kernel);
            }
            Phase::Kernel => {
                let to = base + self.layout.kernel.offset;
                self.copy(guest, to, &view.kernel, Phase::Initrd)?;
            }
            Phase::Initrd => match (self.layout.initrd, &view.initrd) {
                (Some(place), Some(initrd)) => {
                    self.copy(guest, base + place.offset, initrd, Phase::Tree)?;
                }
                _ => self.phase = Phase::Tree,
            },
            Phase::Tree => {
                let to = Ipa(base + self.layout.device_tree.offset);
                guest.memory.write(to, &self.tree)?;
                self.phase = Phase::Clean;
            }
            // The guest begins with its caches off: it must find all of this, and the zeros, in memory.
            Phase::Clean if self.done < guest.memory.size() => {
                let at = self.address(guest);
                maintenance::clean_to_coherency(at as *const u8, STEP as usize);
                self.done += STEP;
            }
            Phase::Clean => {
                maintenance::invalidate_instructions();
                return Ok(Some(Placed {
                    entry: Ipa(base + self.layout.kernel.offset),
                    argument: base + self.layout.device_tree.offset,
                }));
            }
        }
        Ok(None)
    }

    /// Where in the board's memory the phase goes on.
    fn address(&self, guest: &Guest) -> u64 {
        let block = guest.memory.blocks()[(self.done / BLOCK_2M) as usize];
        block.0 + self.done % BLOCK_2M
    }

    /// So many bytes more are done, of `all`.
    fn advance(&mut self, bytes: u64, all: u64, next: Phase) {
        self.done += bytes;
        if self.done >= all {
            self.done = 0;
            self.crc = !0;
            self.phase = next;
        }
    }

    /// Copies the next part of an image, and checks by the way that it is what was packed.
    fn copy(
        &mut self,
        guest: &Guest,
        to: u64,
        image: &ImageView<'_>,
        next: Phase,
    ) -> Result<(), PlaceError> {
        let all = image.bytes.len() as u64;
        let length = STEP.min(all - self.done);
        let part = &image.bytes[self.done as usize..(self.done + length) as usize];
        let mut crc = self.crc;
        let to = Ipa(to + self.done);
        guest
            .memory
            .pieces(to, part.len(), |target, done, length| {
                let source = &part[done..done + length];
                if has_crc_instructions() {
                    // SAFETY: `pieces` yields the guest's own memory, `length` bytes; the source is as long.
                    crc = unsafe { copy_with_crc32c(target, source, crc) };
                } else {
                    // SAFETY: as above.
                    unsafe { core::ptr::copy_nonoverlapping(source.as_ptr(), target, length) };
                    crc = crc32c(crc, source);
                }
            })?;
        self.crc = crc;
        if self.done + length == all {
            let damaged = |fault| PlaceError::Damaged(image.entry(), fault);
            image.check(|_| !crc).map_err(damaged)?;
        }
        self.advance(length, all, next);
        Ok(())
    }
}

/// Carries a CRC-32C on over `bytes`; it begins with all ones, and its complement is the sum.
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    /// The polynomial, reflected (RFC 3720, section 12.1).
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    if !has_crc_instructions() {
        let step = |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                crc >> 1 ^ POLYNOMIAL & (crc & 1).wrapping_neg()
            })
        };
        return bytes.iter().fold(crc, step);
    }
    let (words, rest) = bytes.as_chunks::<8>();
    let mut crc = crc;
    for word in words {
        // SAFETY: the core has the instruction, which touches no memory.
        unsafe {
            asm!(".arch_extension crc", "crc32cx {crc:w}, {crc:w}, {word}", crc = inout(reg) crc, word = in(reg) u64::from_le_bytes(*word),
                 options(nomem, nostack, preserves_flags, pure));
        }
    }
    for &byte in rest {
        // SAFETY: as above.
        unsafe {
            asm!(".arch_extension crc", "crc32cb {crc:w}, {crc:w}, {byte:w}", crc = inout(reg) crc, byte = in(reg) u32::from(byte),
                 options(nomem, nostack, preserves_flags, pure));
        }
    }
    crc
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
