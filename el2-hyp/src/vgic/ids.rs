//! The quantities of the interrupt controller, each a type of its own.
//!
//! Every index that reaches an array goes through one of these types, and each of them masks
//! its value to the array's size, so that indexing needs no bounds check and cannot panic.

use core::ops::{BitAnd, BitOr, BitOrAssign};

/// The most virtual processors of one guest: what a GICv2 distributor can address.
pub const MAX_VCPUS: usize = 8;
/// Interrupt identifiers of a guest: 16 SGIs, 16 PPIs and 96 SPIs.
pub const INTIDS: usize = 128;
/// The first shared peripheral interrupt.
pub const FIRST_SPI: u32 = 32;
/// Words of 32 interrupts that one virtual processor sees: its own, and three of SPIs.
pub(super) const WORDS: usize = INTIDS / 32;

const _: () = assert!(MAX_VCPUS.is_power_of_two() && MAX_VCPUS == u8::BITS as usize);
const _: () = assert!(INTIDS.is_power_of_two() && WORDS == 4);

/// A virtual interrupt's identifier, 0 to 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Intid(u8);

impl Intid {
    /// The virtual timer's PPI, as every arm64 machine has it (Base System Architecture, "PPI assignments").
    pub const VIRTUAL_TIMER: Self = Self(27);

    /// An identifier, or nothing when `number` is not below [`INTIDS`].
    pub const fn new(number: u32) -> Option<Self> {
        if number < INTIDS as u32 {
            Some(Self(number as u8))
        } else {
            None
        }
    }

    /// The identifier in the low seven bits of `number`.
    pub(super) const fn wrap(number: u32) -> Self {
        Self((number % INTIDS as u32) as u8)
    }

    /// The identifier of bit `bit` in word `word`.
    pub(super) const fn of(word: usize, bit: u32) -> Self {
        Self::wrap((word as u32) << 5 | bit)
    }

    /// The number, 0 to 127.
    pub const fn number(self) -> u32 {
        self.0 as u32
    }

    /// Whether this is a software generated interrupt, 0 to 15.
    pub const fn is_sgi(self) -> bool {
        self.0 < 16
    }

    /// Whether this is a private peripheral interrupt, 16 to 31.
    pub const fn is_ppi(self) -> bool {
        self.0 >= 16 && self.0 < 32
    }

    /// Whether this is a shared peripheral interrupt, 32 to 127.
    pub const fn is_spi(self) -> bool {
        self.0 >= 32
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize % INTIDS
    }

    pub(super) const fn word(self) -> usize {
        (self.0 as usize >> 5) % WORDS
    }

    /// The place inside a word, 0 to 31.
    pub(super) const fn place(self) -> usize {
        self.0 as usize % 32
    }

    pub(super) const fn bit(self) -> u32 {
        1 << (self.0 % 32)
    }
}

/// A virtual processor of a guest, 0 to 7; also its affinity level 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId(u8);

impl VcpuId {
    /// A virtual processor, or nothing when `number` is not below [`MAX_VCPUS`].
    pub const fn new(number: usize) -> Option<Self> {
        if number < MAX_VCPUS {
            Some(Self(number as u8))
        } else {
            None
        }
    }

    /// The virtual processor in the low three bits of `number`.
    pub(super) const fn wrap(number: u32) -> Self {
        Self((number % MAX_VCPUS as u32) as u8)
    }

    /// The number, 0 to 7.
    pub const fn index(self) -> usize {
        self.0 as usize % MAX_VCPUS
    }
}

/// A set of virtual processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuMask(pub u8);

impl VcpuMask {
    /// Nobody.
    pub const EMPTY: Self = Self(0);

    /// The first `count` virtual processors; all eight when `count` is larger.
    pub const fn first(count: usize) -> Self {
        if count >= MAX_VCPUS {
            Self(!0)
        } else {
            Self((1_u8 << count).wrapping_sub(1))
        }
    }

    /// One virtual processor.
    #[inline(always)]
    pub const fn one(vcpu: VcpuId) -> Self {
        Self(1 << (vcpu.0 % MAX_VCPUS as u8))
    }

    /// Whether nobody is in it.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `vcpu` is in it.
    #[inline(always)]
    pub const fn contains(self, vcpu: VcpuId) -> bool {
        self.0 & Self::one(vcpu).0 != 0
    }

    /// The set without `vcpu`.
    #[inline(always)]
    #[must_use]
    pub const fn without(self, vcpu: VcpuId) -> Self {
        Self(self.0 & !Self::one(vcpu).0)
    }

    /// The member with the lowest number.
    #[inline(always)]
    pub const fn lowest(self) -> Option<VcpuId> {
        if self.0 == 0 {
            None
        } else {
            Some(VcpuId::wrap(self.0.trailing_zeros()))
        }
    }
}

impl Iterator for VcpuMask {
    type Item = VcpuId;

    /// Takes the member with the lowest number out of the set.
    #[inline(always)]
    fn next(&mut self) -> Option<VcpuId> {
        let vcpu = self.lowest()?;
        self.0 &= self.0.wrapping_sub(1);
        Some(vcpu)
    }
}

impl BitOr for VcpuMask {
    type Output = Self;

    #[inline(always)]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for VcpuMask {
    #[inline(always)]
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for VcpuMask {
    type Output = Self;

    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// An interrupt's priority: the upper five bits count, the lower the value the more urgent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    /// The bits that the controller implements.
    const IMPLEMENTED: u8 = 0xf8;

    /// The priority that a register's byte names; its lower three bits are dropped.
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte & Self::IMPLEMENTED)
    }

    /// The byte as registers hold it, its lower three bits zero.
    pub const fn byte(self) -> u8 {
        self.0
    }
}

/// An interrupt group (IHI 0048B and IHI 0069, "Interrupt grouping").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Signalled as FIQ on GICv3, and on GICv2 when the guest asks for it.
    Zero,
    /// Signalled as IRQ.
    One,
}

/// The architecture that a guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// GICv2: banked distributor registers, SGIs with their source.
    V2,
    /// GICv3: one security state, affinity routing always on, no LPIs.
    V3,
}

/// The one interrupt whose deactivation by the guest deactivates a physical interrupt: the virtual timer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedInterrupt {
    /// The PPI that the guest sees, 16 to 31.
    pub virtual_intid: Intid,
    /// The physical interrupt of the core on which the virtual processor runs, 16 to 1019.
    pub physical_intid: u32,
}

/// The size of a guest's access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One byte.
    Byte,
    /// Two bytes; no register takes it.
    Half,
    /// Four bytes.
    Word,
    /// Eight bytes.
    Double,
}

impl Width {
    /// Of a number of bytes, when it is 1, 2, 4 or 8.
    pub const fn from_bytes(bytes: usize) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Half),
            4 => Some(Self::Word),
            8 => Some(Self::Double),
            _ => None,
        }
    }

    /// The bits of an offset that must be zero in an aligned access.
    pub(super) const fn misalignment(self) -> u32 {
        match self {
            Self::Byte => 0,
            Self::Half => 1,
            Self::Word => 3,
            Self::Double => 7,
        }
    }
}

/// The block of registers that an access names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The distributor: 4 KiB for GICv2, 64 KiB for GICv3.
    Distributor,
    /// A virtual processor's redistributor (GICv3): 64 KiB of RD registers, then 64 KiB of SGI registers.
    Redistributor(VcpuId),
}

/// Which of the three system registers a GICv3 guest wrote to send an SGI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiKind {
    /// ICC_SGI0R_EL1: group 0 interrupts only.
    Group0,
    /// ICC_SGI1R_EL1.
    Group1,
    /// ICC_ASGI1R_EL1; with one security state it does what ICC_SGI0R_EL1 does.
    Alias1,
}
