//! Addresses that cannot be mistaken for one another: what a guest calls physical ([`Ipa`]) and what is
//! physical ([`Pa`]). EL2 runs on an identity map, so a [`Pa`] is also EL2's own virtual address.

use core::fmt;

/// Size of the smallest translation granule, in bytes.
pub const PAGE_SIZE: u64 = 4 << 10;
/// Size of a level 2 block, in bytes.
pub const BLOCK_2M: u64 = 2 << 20;
/// Size of a level 1 block, in bytes.
pub const BLOCK_1G: u64 = 1 << 30;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The address `bytes` above this one; `None` past the end of the address space.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// How far this address lies above `base`; `None` if it lies below.
            pub const fn offset_from(self, base: Self) -> Option<u64> {
                self.0.checked_sub(base.0)
            }

            /// Whether the address is a multiple of `alignment`, a power of two.
            pub const fn is_aligned(self, alignment: u64) -> bool {
                self.0 & (alignment - 1) == 0
            }

            /// The address rounded down to a multiple of `alignment`, a power of two.
            pub const fn align_down(self, alignment: u64) -> Self {
                Self(self.0 & !(alignment - 1))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address!(
    /// An intermediate physical address: the output of a guest's own translation.
    Ipa
);
address!(
    /// A physical address of the board.
    Pa
);
