//! What can be wrong with a package, always with the entry's name.

use core::fmt;

use heapless::String;

use super::{IMAGE_PREFIX, KEY_ENTRY, MANIFEST_ENTRY};
use crate::manifest::{Digest, ManifestError, Name};

/// Bytes of an image's entry name: `images/` and 64 digits.
pub(super) const IMAGE_NAME_BYTES: usize = IMAGE_PREFIX.len() + 64;
/// How much of a name that `pack` does not give is kept, bytes.
const STRANGER_BYTES: usize = 31;

/// Which entry of an archive; what it displays is the entry's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryName {
    /// `manifest`
    Manifest,
    /// `key`
    Key,
    /// `images/` and the digest.
    Image(Digest),
    /// One whose name cannot be read, by its place in the archive, counted from 1.
    Number(u16),
    /// One that `pack` does not write: its name, cut, with a question mark for what cannot be shown.
    Stranger(String<STRANGER_BYTES, u8>),
}

impl EntryName {
    /// The entry called `name`.
    pub(super) fn of(name: &[u8]) -> Self {
        if name == MANIFEST_ENTRY.as_bytes() {
            return Self::Manifest;
        }
        if name == KEY_ENTRY.as_bytes() {
            return Self::Key;
        }
        if let Some(digest) = name.strip_prefix(IMAGE_PREFIX.as_bytes()).and_then(digest) {
            return Self::Image(digest);
        }
        let shown = |&byte: &u8| {
            if byte.is_ascii_graphic() {
                byte as char
            } else {
                '?'
            }
        };
        Self::Stranger(name.iter().map(shown).take(STRANGER_BYTES).collect())
    }
}

/// The digest of 64 lower-case hexadecimal digits.
fn digest(digits: &[u8]) -> Option<Digest> {
    let mut digest = [0; 32];
    if digits.len() != 2 * digest.len() || digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let value = |digit: u8| (digit as char).to_digit(16);
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(value(pair[0])? << 4 | value(pair[1])?).ok()?;
    }
    Some(Digest(digest))
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest => f.write_str(MANIFEST_ENTRY),
            Self::Key => f.write_str(KEY_ENTRY),
            Self::Image(digest) => write!(f, "{IMAGE_PREFIX}{digest}"),
            Self::Number(number) => write!(f, "entry {number}"),
            Self::Stranger(name) => f.write_str(name),
        }
    }
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not in the archive.
    Missing,
    /// The archive ends, or its chain of entries breaks off, before it.
    ArchiveEnds,
    /// What stands there is not a newc header.
    NotAnEntry,
    /// The archive has more entries than a package can have.
    TooManyEntries,
    /// The archive ends within the entry.
    Truncated {
        /// How many bytes the entry says it has.
        said: u32,
        /// How many are there.
        found: u32,
    },
    /// The entry has another length than the manifest says.
    Length {
        /// What the manifest says, bytes.
        said: u32,
        /// What the entry has.
        found: u32,
    },
    /// The bytes are not those that were packed.
    Checksum {
        /// The CRC-32C that the manifest says.
        said: u32,
        /// The one that was found.
        found: u32,
    },
    /// The manifest is unsound.
    Manifest(ManifestError),
    /// The manifest refers to an image or a board that it does not list.
    NoImage,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "is missing"),
            Self::ArchiveEnds => write!(f, "is missing: the archive ends before it"),
            Self::NotAnEntry => write!(f, "is not a newc cpio entry"),
            Self::TooManyEntries => write!(f, "is one entry too many"),
            Self::Truncated { said, found } => {
                write!(f, "is truncated: {found} of {said} bytes are there")
            }
            Self::Length { said, found } => {
                write!(f, "has {found} bytes, but was packed with {said}")
            }
            Self::Checksum { said, found } => {
                write!(
                    f,
                    "is corrupted: CRC-32C {found:08x}, but was packed with {said:08x}"
                )
            }
            Self::Manifest(error) => write!(f, "{error}"),
            Self::NoImage => write!(f, "refers to an entry that it does not list"),
        }
    }
}

impl core::error::Error for Fault {}

/// Why a package as a whole is unsound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageError {
    /// The entry.
    pub entry: EntryName,
    /// What is wrong with it.
    pub what: Fault,
}

impl fmt::Display for PackageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot package: {}: {}", self.entry, self.what)
    }
}

impl core::error::Error for PackageError {}

/// Why a guest of a package cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestError {
    /// The guest.
    pub name: Name,
    /// The entry that is to blame.
    pub entry: EntryName,
    /// What is wrong with it.
    pub what: Fault,
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest {}: {}: {}", self.name, self.entry, self.what)
    }
}

impl core::error::Error for GuestError {}
