//! Where a guest's kernel, initrd and device tree go in its memory.
//!
//! A kernel is an arm64 Linux `Image`, which says in its first 64 bytes where it wants to be and how much
//! room it takes with its uninitialised data (the Linux kernel's Documentation/arch/arm64/booting.rst), or a flat binary,
//! which says nothing and is put where QEMU's `virt` puts one. Whatever is neither but easily mistaken for one, a
//! compressed kernel or an ELF file, is refused by name.
//!
//! ```text
//! start of memory + 0            text offset        middle, at most 128 MiB       next 2 MiB
//!                  |                 | kernel and its .bss  |  initrd                 |  device tree ...
//! ```
//!
//! The middle is QEMU's rule: initrd and tree lie in the middle of memory, at most 128 MiB up, so that a flat binary
//! (whose stacks and uninitialised data nobody knows) has that much to itself and finds the rest above the tree. An `Image`
//! that is larger pushes them up; one in a tight memory has them right behind it.
//!
//! All offsets are bytes from the start of the guest's memory, which is aligned to 2 MiB.

use core::fmt;

/// How much of a kernel's start is looked at, bytes.
pub const HEAD_BYTES: usize = 64;
/// Where a flat binary goes: QEMU's place for one, a multiple of 64 KiB.
pub const FLAT_OFFSET: u64 = 0x8_0000;
/// Room for the device tree, bytes.
pub const DEVICE_TREE_BYTES: u64 = 64 << 10;

/// The tree's alignment; booting.rst forbids that it crosses a 2 MiB boundary.
const DEVICE_TREE_ALIGN: u64 = 2 << 20;
/// The initrd's alignment; the architecture's smallest page.
const INITRD_ALIGN: u64 = 4 << 10;
/// Initrd and tree lie at most this far up unless the kernel is larger.
const HIGHEST_MIDDLE: u64 = 128 << 20;
/// Where an `Image` from before Linux 3.17, which gives no size, wants to be.
const OLD_TEXT_OFFSET: u64 = 0x8_0000;

/// The magic of an arm64 `Image` and where it stands.
const IMAGE_MAGIC: (usize, &[u8]) = (56, b"ARM\x64");
/// Flags: big-endian kernel.
const FLAG_BIG_ENDIAN: u64 = 1;

/// What is not a kernel that can be started, though it may contain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// gzip, as `vmlinuz` often is.
    Gzip,
    /// Zstandard, LZ4, xz, LZMA or bzip2.
    Compressed,
    /// An EFI application that unpacks a kernel (Linux' "zboot").
    EfiZboot,
    /// An ELF file, as `vmlinux` is.
    Elf,
    /// U-Boot's legacy wrapping.
    UImage,
    /// A flattened image tree or device tree.
    FitOrTree,
    /// A zImage for 32-bit Arm.
    Arm32,
    /// A cpio archive: an initrd, or a boot package.
    Cpio,
}

impl Foreign {
    /// What the first bytes of such a file are, and where they stand.
    const SIGNS: &[(usize, &[u8], Self)] = &[
        (0, b"\x1f\x8b", Self::Gzip),
        (0, b"\x28\xb5\x2f\xfd", Self::Compressed),
        (0, b"\x04\x22\x4d\x18", Self::Compressed),
        (0, b"\x02\x21\x4c\x18", Self::Compressed),
        (0, b"\xfd7zXZ\0", Self::Compressed),
        (0, b"\x5d\0\0\x80", Self::Compressed),
        (0, b"BZh", Self::Compressed),
        (4, b"zimg", Self::EfiZboot),
        (0, b"\x7fELF", Self::Elf),
        (0, b"\x27\x05\x19\x56", Self::UImage),
        (0, b"\xd0\x0d\xfe\xed", Self::FitOrTree),
        (0x24, b"\x18\x28\x6f\x01", Self::Arm32),
        (0, b"070701", Self::Cpio),
        (0, b"070702", Self::Cpio),
    ];

    /// What to do about it, for the operator.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Gzip => "unpack it first: zcat vmlinuz > Image",
            Self::Compressed => "unpack it first: the kernel must be an uncompressed Image",
            Self::EfiZboot => {
                "unpack it first: it is a compressed EFI kernel; use the uncompressed Image"
            }
            Self::Elf => "make it flat first: objcopy -O binary vmlinux Image",
            Self::UImage => "take the kernel out first: dumpimage -T kernel -p 0 -o Image uImage",
            Self::FitOrTree => "give the kernel that the image tree holds, not the tree",
            Self::Arm32 => "give a 64-bit kernel",
            Self::Cpio => "give it as initrd, and a kernel as kernel",
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "compressed with gzip",
            Self::Compressed => "compressed",
            Self::EfiZboot => "an EFI application around a compressed kernel",
            Self::Elf => "an ELF file",
            Self::UImage => "a U-Boot uImage",
            Self::FitOrTree => "a flattened image tree",
            Self::Arm32 => "a kernel for 32-bit Arm",
            Self::Cpio => "a cpio archive",
        })
    }
}

/// Which part of a guest's memory is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The kernel with its uninitialised data.
    Kernel,
    /// The initrd.
    Initrd,
    /// The device tree.
    DeviceTree,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::DeviceTree => "device tree",
        })
    }
}

/// Why a kernel cannot be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It has no bytes.
    Empty,
    /// It is something else.
    Foreign(Foreign),
    /// It is a big-endian kernel.
    BigEndian,
    /// The guest's memory is too small.
    DoesNotFit {
        /// For which part.
        part: Part,
        /// How much memory would do for this part and those below it, bytes.
        needs: u64,
        /// How much there is, bytes.
        has: u64,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the kernel is empty"),
            Self::Foreign(foreign) => write!(f, "the kernel is {foreign}; {}", foreign.advice()),
            Self::BigEndian => write!(f, "the kernel is big-endian"),
            Self::DoesNotFit { part, needs, has } => {
                let mib = |bytes: &u64| bytes.div_ceil(1 << 20);
                write!(
                    f,
                    "the {part} does not fit: {} MiB of memory are needed, {} MiB are there",
                    mib(needs),
                    mib(has)
                )
            }
        }
    }
}

impl core::error::Error for ImageError {}

/// What kind of kernel it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelKind {
    /// An arm64 Linux `Image`.
    Image,
    /// A flat binary, started at its first byte.
    Flat,
}

/// A kernel, as far as its placement goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    kind: KernelKind,
    offset: u64,
    /// Bytes of the file.
    file: u64,
    /// Bytes that it takes up in memory, at least `file`.
    extent: u64,
}

/// A part's place in the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start of the guest's memory.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

impl Place {
    /// The first offset behind it.
    pub const fn end(&self) -> u64 {
        self.offset + self.size // Cannot wrap: a layout lies within memory.
    }
}

/// Where everything goes. The parts do not overlap and lie within memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The kernel's file; it is entered at its first byte.
    pub kernel: Place,
    /// The kernel with the uninitialised data that it needs behind it, which must read as zero or not be read.
    pub kernel_extent: Place,
    /// The initrd.
    pub initrd: Option<Place>,
    /// Room for the device tree, whose address goes to x0.
    pub device_tree: Place,
}

impl Kernel {
    /// Looks at the first bytes of a kernel (up to [`HEAD_BYTES`] count) of `length` bytes in all.
    ///
    /// # Errors
    /// [`ImageError::Empty`], [`ImageError::Foreign`] or [`ImageError::BigEndian`].
    pub fn new(head: &[u8], length: u64) -> Result<Self, ImageError> {
        if length == 0 || head.is_empty() {
            return Err(ImageError::Empty);
        }
        let has =
            |at: usize, sign: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(sign));
        if let Some((_, _, foreign)) = Foreign::SIGNS.iter().find(|(at, sign, _)| has(*at, sign)) {
            return Err(ImageError::Foreign(*foreign));
        }
        let flat = Self {
            kind: KernelKind::Flat,
            offset: FLAT_OFFSET,
            file: length,
            extent: length,
        };
        if !has(IMAGE_MAGIC.0, IMAGE_MAGIC.1) {
            return Ok(flat);
        }
        let field = |at: usize| -> u64 {
            let bytes = head.get(at..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let (text_offset, image_size, flags) = (field(8), field(16), field(24));
        if flags & FLAG_BIG_ENDIAN != 0 {
            return Err(ImageError::BigEndian);
        }
        let offset = if image_size == 0 {
            OLD_TEXT_OFFSET
        } else {
            text_offset
        };
        let extent = image_size.max(length);
        Ok(Self {
            kind: KernelKind::Image,
            offset,
            file: length,
            extent,
        })
    }

    /// What kind of kernel it is.
    pub const fn kind(&self) -> KernelKind {
        self.kind
    }

    /// Lays out `memory` bytes with this kernel and perhaps an initrd of some bytes.
    ///
    /// # Errors
    /// [`ImageError::DoesNotFit`] names the first part that lies beyond the end.
    pub fn layout(&self, memory: u64, initrd: Option<u64>) -> Result<Layout, ImageError> {
        let kernel_end = within(Part::Kernel, self.offset, self.extent, memory)?;
        let middle = (memory / 2).min(HIGHEST_MIDDLE).max(kernel_end);
        let above = match (lay_above(middle, memory, initrd), self.kind) {
            // A flat binary needs its room; an image has said what it needs.
            (Err(_), KernelKind::Image) => lay_above(kernel_end, memory, initrd),
            (above, _) => above,
        };
        let (initrd, device_tree) = above?;
        Ok(Layout {
            kernel: Place {
                offset: self.offset,
                size: self.file,
            },
            kernel_extent: Place {
                offset: self.offset,
                size: self.extent,
            },
            initrd,
            device_tree,
        })
    }
}

/// Puts initrd and tree at or above `start`.
fn lay_above(
    start: u64,
    memory: u64,
    initrd: Option<u64>,
) -> Result<(Option<Place>, Place), ImageError> {
    let offset = aligned(Part::Initrd, start, INITRD_ALIGN, memory)?;
    let end = within(Part::Initrd, offset, initrd.unwrap_or(0), memory)?;
    let place = initrd.map(|size| Place { offset, size });
    let offset = aligned(Part::DeviceTree, end, DEVICE_TREE_ALIGN, memory)?;
    within(Part::DeviceTree, offset, DEVICE_TREE_BYTES, memory)?;
    let device_tree = Place {
        offset,
        size: DEVICE_TREE_BYTES,
    };
    Ok((place, device_tree))
}

/// The first multiple of `align` from `start`.
fn aligned(part: Part, start: u64, align: u64, has: u64) -> Result<u64, ImageError> {
    let needs = u64::MAX;
    let offset = start.checked_next_multiple_of(align);
    offset.ok_or(ImageError::DoesNotFit { part, needs, has })
}

/// The end of a part, if that lies within memory.
fn within(part: Part, offset: u64, size: u64, memory: u64) -> Result<u64, ImageError> {
    let end = offset.checked_add(size).filter(|&end| end <= memory);
    let needs = offset.saturating_add(size);
    end.ok_or(ImageError::DoesNotFit {
        part,
        needs,
        has: memory,
    })
}

#[cfg(test)]
mod tests;
