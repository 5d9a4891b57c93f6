//! What a cluster is made of: its boards, its guests and their images.
//!
//! The operator writes it in `cluster.toml`; `hearth pack` checks it and puts it, as the entry
//! `manifest`, into every board's boot package ([`crate::package`]). It is the first state of the
//! ledger, so its types stand here. They cannot hold what would be wrong: a [`Name`] is a DNS label, a
//! [`VcpuCount`] is one to eight, and decoding goes through the same checks as the operator's text.
//!
//! Its bytes ([`encode`], [`ManifestView`]): a head of [`HEAD_BYTES`] with magic, version, length and
//! CRC-32C of the rest; then, in postcard's encoding one behind the other, a [`Summary`] and as many
//! [`Board`]s, [`Image`]s and [`Guest`]s as that says. Records are decoded one at a time, so that a
//! board needs no room for all of them at once.

mod codec;
#[cfg(test)]
mod tests;
mod values;

use serde::{Deserialize, Serialize};

pub use codec::{EncodeError, HEAD_BYTES, MAX_MANIFEST_BYTES, ManifestError, ManifestView, encode};
pub use values::{CommandLine, Digest, MemoryMib, Name, OutOfRange, VcpuCount};

/// Most boards in a cluster.
pub const MAX_BOARDS: usize = 16;
/// Most guests in a cluster.
pub const MAX_GUESTS: usize = 64;
/// Most images in a package: a kernel and an initrd of its own for every guest.
pub const MAX_IMAGES: usize = 2 * MAX_GUESTS;
/// The priority of a guest whose description names none.
pub const DEFAULT_PRIORITY: Priority = Priority(100);

/// A board's place in its cluster's list, below [`MAX_BOARDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BoardNumber(pub u8);

/// An image's place in its manifest's list, below [`MAX_IMAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageNumber(pub u8);

/// Who goes first when not every guest fits: the greater runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Priority(pub u8);

/// Whose output a board's console shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsoleMode {
    /// One guest at a time, which also gets the input; the operator switches.
    #[default]
    Focus,
    /// All guests' lines, each behind its guest's name.
    All,
}

/// What stands before the lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The cluster's name.
    pub cluster: Name,
    /// The board that this package is for.
    pub board: BoardNumber,
    /// What that board's console shows.
    pub console: ConsoleMode,
    /// How many boards follow, 1 to [`MAX_BOARDS`].
    pub boards: u8,
    /// How many images follow, up to [`MAX_IMAGES`].
    pub images: u8,
    /// How many guests follow, up to [`MAX_GUESTS`].
    pub guests: u8,
}

/// A board of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// Its name, different from every other board's.
    pub name: Name,
    /// How much memory it has, where the operator says so.
    pub memory: Option<MemoryMib>,
}

/// An image that travels in the package, under the name of its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// SHA-256 of its bytes: its name, and how a later copy is known to be the same.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u32,
    /// CRC-32C of its bytes, which a board can check at boot with one instruction for eight of them.
    pub crc32c: u32,
}

/// A guest: a virtual machine and what starts in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Its name, different from every other guest's.
    pub name: Name,
    /// Its processors.
    pub vcpus: VcpuCount,
    /// Its memory.
    pub memory: MemoryMib,
    /// Who goes first when not all fit.
    pub priority: Priority,
    /// What it starts with.
    pub kernel: ImageNumber,
    /// What it finds in memory besides.
    pub initrd: Option<ImageNumber>,
    /// What its kernel is told.
    pub command_line: CommandLine,
}

// The numbers fit the types that carry them.
const _: () = assert!(MAX_BOARDS < MAX_IMAGES && MAX_IMAGES <= u8::MAX as usize);
