//! What can be wrong with a tree, in whole and in part.

use core::fmt;

use heapless::String;

use super::{MAX_NAME_BYTES, MAX_RESERVED, MAX_TREE_BYTES, blob};

/// A device tree that cannot be read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// The first word is not a device tree's.
    NotATree,
    /// A block or the whole tree ends before its time.
    Truncated,
    /// Longer than [`MAX_TREE_BYTES`].
    TooLarge {
        /// The length that the header gives.
        bytes: usize,
    },
    /// Not of version 17, nor compatible with it.
    Version {
        /// The version that the header gives.
        version: u32,
    },
    /// The structure block makes no sense.
    Structure {
        /// Where, in bytes from the block's start.
        offset: usize,
    },
    /// Nodes nest deeper than [`blob::MAX_DEPTH`].
    TooDeep,
    /// More than [`MAX_RESERVED`] reserved regions.
    TooManyReservations,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATree => write!(f, "not a device tree"),
            Self::Truncated => write!(f, "the device tree is truncated"),
            Self::TooLarge { bytes } => {
                write!(
                    f,
                    "a device tree of {bytes} bytes; the most is {MAX_TREE_BYTES}"
                )
            }
            Self::Version { version } => write!(f, "device tree version {version}; 17 is known"),
            Self::Structure { offset } => {
                write!(
                    f,
                    "the device tree's structure block is damaged at byte {offset}"
                )
            }
            Self::TooDeep => write!(
                f,
                "the device tree nests deeper than {} nodes",
                blob::MAX_DEPTH
            ),
            Self::TooManyReservations => {
                write!(
                    f,
                    "the device tree reserves more than {MAX_RESERVED} regions"
                )
            }
        }
    }
}

impl core::error::Error for TreeError {}

/// Why a node was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has no `reg` where one is needed.
    NoReg,
    /// Its `reg` or its parent's `ranges` ends in the middle of an entry.
    ShortReg,
    /// A number has more cells than the two that are supported.
    Cells {
        /// How many it has.
        count: usize,
    },
    /// A bus above it does not pass addresses on.
    NoRanges,
    /// No window of a bus above it holds its address.
    OutsideRanges,
    /// A region wraps around the address space.
    Wraps,
    /// The node stands at the root, where it has no meaning.
    NoParent,
    /// A core's start method lacks its release address.
    NoReleaseAddress,
    /// The capacity for nodes of this kind is used up.
    Full,
    /// A text was too long and has been cut.
    Cut,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoReg => "has no reg",
            Self::ShortReg => "has a reg or ranges that ends inside an entry",
            Self::Cells { count } => return write!(f, "has numbers of {count} cells"),
            Self::NoRanges => "stands on a bus without ranges",
            Self::OutsideRanges => "lies outside the ranges of its bus",
            Self::Wraps => "has a region beyond the end of the address space",
            Self::NoParent => "stands at the root",
            Self::NoReleaseAddress => "has no cpu-release-addr",
            Self::Full => "is one more than there is room for",
            Self::Cut => "has a text that is too long and was cut",
        })
    }
}

/// What could not be used, for the console: how much, and the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many nodes.
    pub count: u32,
    /// The first one's name, cut to [`MAX_NAME_BYTES`], and what is wrong with it.
    pub first: Option<(String<MAX_NAME_BYTES>, Fault)>,
}

impl LeftOut {
    /// Counts one, and remembers it if it is the first.
    pub(super) fn note(&mut self, name: &str, fault: Fault) {
        self.count = self.count.saturating_add(1);
        if self.first.is_none() {
            self.first = Some((cut(name).0, fault));
        }
    }
}

/// As much of `text` as fits, cut between characters, and whether that is all.
pub(super) fn cut<const N: usize>(text: &str) -> (String<N>, bool) {
    let fits = text.floor_char_boundary(N);
    (
        String::try_from(&text[..fits]).unwrap_or_default(),
        fits == text.len(),
    )
}
