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
mod devices;
#[cfg(test)]
mod tests;
mod values;

use heapless::Vec;
use serde::{Deserialize, Serialize};

pub use codec::{EncodeError, HEAD_BYTES, MAX_MANIFEST_BYTES, ManifestError, ManifestView, encode};
pub use devices::{Backing, Disk, DiskSize, Ipv4Place, MAX_DISKS, MAX_NICS, Mac, Nic, Serial};
pub use values::{CommandLine, Digest, MemoryMib, Name, OutOfRange, VcpuCount};

/// Most boards in a cluster, witnesses among them.
pub const MAX_BOARDS: usize = 16;
/// Most guests in a cluster.
pub const MAX_GUESTS: usize = 64;
/// Most images in a package: a kernel, an initrd and disks of its own for every guest.
pub const MAX_IMAGES: usize = (2 + MAX_DISKS) * MAX_GUESTS;
/// The priority of a guest whose description names none.
pub const DEFAULT_PRIORITY: Priority = Priority(100);

/// A board's place in its cluster's list, below [`MAX_BOARDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BoardNumber(pub u8);

/// An image's place in its manifest's list, below [`MAX_IMAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageNumber(pub u16);

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
    /// The CRC-32C of the cluster's key, if the package has one: a board whose key is damaged would be mute without knowing why.
    pub key: Option<u32>,
    /// How many boards follow, 1 to [`MAX_BOARDS`].
    pub boards: u8,
    /// How many images follow, up to [`MAX_IMAGES`].
    pub images: u16,
    /// How many guests follow, up to [`MAX_GUESTS`].
    pub guests: u8,
}

/// A board of the cluster, or a witness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// Its name, different from every other board's.
    pub name: Name,
    /// How much memory it has, where the operator says so.
    pub memory: Option<MemoryMib>,
    /// Its own place on the network, where the operator gives it one.
    pub address: Option<Ipv4Place>,
    /// Its own Ethernet address, where it is not to be its network card's.
    pub mac: Option<Mac>,
    /// Whether it is a witness: a program on any machine that votes and runs no guest.
    pub witness: bool,
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
    /// The board that it starts on, where the operator names one.
    pub board: Option<BoardNumber>,
    /// The boards that it may run on, bit *n* for board *n*; none for all.
    pub allowed: u16,
    /// Guests of one group other than 0 never share a board.
    pub apart: u8,
    /// Whether it is started in the beginning.
    pub starts: bool,
    /// Its disks, in the order in which it finds them.
    pub disks: Vec<Disk, MAX_DISKS, u8>,
    /// Its network cards, in the order in which it finds them.
    pub nics: Vec<Nic, MAX_NICS, u8>,
    /// Whether it has a virtio console besides its PL011.
    pub virtio_console: bool,
    /// Whether it has a source of random numbers.
    pub entropy: bool,
}

impl Guest {
    /// The board that starts it while no cluster decides where it runs: the one that the operator named, else the first.
    pub fn first_board(&self) -> BoardNumber {
        self.board.unwrap_or(BoardNumber(0))
    }
}

// The numbers fit the types that carry them.
const _: () = assert!(MAX_BOARDS < MAX_GUESTS && MAX_GUESTS <= u8::MAX as usize);
const _: () = assert!(MAX_IMAGES <= u16::MAX as usize);
const _: () = assert!(MAX_BOARDS <= u16::BITS as usize);
