//! A manifest as bytes.

use core::fmt;
use core::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::{
    Board, CommandLine, Guest, Image, MAX_BOARDS, MAX_DISKS, MAX_GUESTS, MAX_IMAGES, Name, Serial,
    Summary,
};
use crate::package::crc32c;

/// The first bytes of a manifest.
const MAGIC: [u8; 8] = *b"HEARTHPK";
/// The version of the format that this reads and writes.
const VERSION: u32 = 3;
/// Bytes before the records: magic, then version, length and CRC-32C of the records as little-endian words.
pub const HEAD_BYTES: usize = 20;
/// The longest manifest, head included.
pub const MAX_MANIFEST_BYTES: usize = 192 << 10;

/// More than the encoding of any record adds to its text: counts, numbers, a digest, addresses.
const RECORD_BYTES: usize = 64;
/// Most that a guest's disks take up in its record.
const DISKS_BYTES: usize = MAX_DISKS * (16 + Name::MAX_BYTES + Serial::MAX_BYTES);
const _: () = assert!(
    HEAD_BYTES
        + RECORD_BYTES
        + Name::MAX_BYTES
        + MAX_BOARDS * (RECORD_BYTES + Name::MAX_BYTES)
        + MAX_IMAGES * RECORD_BYTES
        + MAX_GUESTS * (RECORD_BYTES + Name::MAX_BYTES + CommandLine::MAX_BYTES + DISKS_BYTES)
        <= MAX_MANIFEST_BYTES
);

/// Why bytes are not a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestError {
    /// They do not begin like one.
    NotAManifest,
    /// It is of another version.
    Version {
        /// Which.
        found: u32,
    },
    /// It ends early, or goes on behind its end.
    Length {
        /// What its head says, bytes behind the head.
        said: u32,
        /// What is there.
        found: u32,
    },
    /// It is longer than [`MAX_MANIFEST_BYTES`].
    TooLarge {
        /// How long it is, in bytes.
        bytes: u32,
    },
    /// Its bytes changed since it was written.
    Checksum,
    /// The summary makes no sense: no or too many boards, images or guests, or a board that is not there.
    Summary,
    /// A record makes no sense.
    Record {
        /// Boards first, then images, then guests, counted from 0.
        index: u16,
    },
    /// Something stands behind the last record.
    Trailing,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAManifest => write!(f, "does not begin like a manifest"),
            Self::Version { found } => {
                write!(
                    f,
                    "has format version {found}; this image reads {VERSION}: pack it again"
                )
            }
            Self::Length { said, found } => {
                write!(
                    f,
                    "is {found} bytes long behind its head, which says {said}"
                )
            }
            Self::TooLarge { bytes } => {
                write!(f, "is {bytes} bytes long; the most is {MAX_MANIFEST_BYTES}")
            }
            Self::Checksum => write!(f, "is corrupted: its checksum is wrong"),
            Self::Summary => write!(f, "has a summary that makes no sense"),
            Self::Record { index } => write!(f, "has a record ({index}) that makes no sense"),
            Self::Trailing => write!(f, "goes on behind its last record"),
        }
    }
}

impl core::error::Error for ManifestError {}

/// Why a manifest was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// There are more boards, images or guests than a manifest holds, or no board.
    Count,
    /// The buffer is too small.
    Buffer,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => write!(
                f,
                "a cluster has 1 to {MAX_BOARDS} boards, up to {MAX_GUESTS} guests and {MAX_IMAGES} images"
            ),
            Self::Buffer => write!(f, "the buffer is too small for the manifest"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Writes a manifest into `buffer` and gives the part that it fills; [`MAX_MANIFEST_BYTES`] are always enough.
/// The counts in `summary` are set from the lists.
///
/// # Errors
/// [`EncodeError`] where a list is too long or the buffer too small.
pub fn encode<'b>(
    mut summary: Summary,
    boards: &[Board],
    images: &[Image],
    guests: &[Guest],
    buffer: &'b mut [u8],
) -> Result<&'b [u8], EncodeError> {
    let count = |length: usize, most: usize| {
        u16::try_from(length)
            .ok()
            .filter(|_| length <= most)
            .ok_or(EncodeError::Count)
    };
    let narrow = |count| u8::try_from(count).map_err(|_| EncodeError::Count);
    summary.boards = narrow(count(boards.len(), MAX_BOARDS)?)?;
    summary.images = count(images.len(), MAX_IMAGES)?;
    summary.guests = narrow(count(guests.len(), MAX_GUESTS)?)?;
    if summary.board.0 >= summary.boards {
        return Err(EncodeError::Count);
    }
    let mut end = HEAD_BYTES;
    put(&summary, buffer, &mut end)?;
    boards
        .iter()
        .try_for_each(|board| put(board, buffer, &mut end))?;
    images
        .iter()
        .try_for_each(|image| put(image, buffer, &mut end))?;
    guests
        .iter()
        .try_for_each(|guest| put(guest, buffer, &mut end))?;

    let (head, records) = buffer[..end].split_at_mut(HEAD_BYTES);
    let length = u32::try_from(records.len()).map_err(|_| EncodeError::Buffer)?;
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head[12..16].copy_from_slice(&length.to_le_bytes());
    head[16..20].copy_from_slice(&crc32c(records).to_le_bytes());
    Ok(&buffer[..end])
}

/// Appends one record.
fn put(
    record: &impl serde::Serialize,
    buffer: &mut [u8],
    end: &mut usize,
) -> Result<(), EncodeError> {
    let room = buffer.get_mut(*end..).ok_or(EncodeError::Buffer)?;
    *end += postcard::to_slice(record, room)
        .map_err(|_| EncodeError::Buffer)?
        .len();
    Ok(())
}

/// A manifest whose bytes have been checked: all its records decode.
#[derive(Clone, Debug)]
pub struct ManifestView<'a> {
    bytes: &'a [u8],
    summary: Summary,
    boards: &'a [u8],
    images: &'a [u8],
    guests: &'a [u8],
}

impl<'a> ManifestView<'a> {
    /// Checks `bytes`, all of them, and decodes every record once.
    ///
    /// # Errors
    /// A [`ManifestError`] for bytes that [`encode`] has not written.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ManifestError> {
        let records = check_head(bytes)?;
        let (summary, boards) =
            postcard::take_from_bytes::<Summary>(records).map_err(|_| ManifestError::Summary)?;
        let (boards_said, images_said) = (u16::from(summary.boards), summary.images);
        let guests_said = u16::from(summary.guests);
        if usize::from(summary.boards) > MAX_BOARDS
            || usize::from(summary.images) > MAX_IMAGES
            || usize::from(summary.guests) > MAX_GUESTS
            || summary.board.0 >= summary.boards
        {
            return Err(ManifestError::Summary);
        }
        let images = skip::<Board>(boards, boards_said, 0)?;
        let guests = skip::<Image>(images, images_said, boards_said)?;
        let rest = skip::<Guest>(guests, guests_said, boards_said + images_said)?;
        if !rest.is_empty() {
            return Err(ManifestError::Trailing);
        }
        let view = Self {
            bytes,
            summary,
            boards,
            images,
            guests,
        };
        // A guest of boards that are not in the list, or run none, would run nowhere, and nobody would say so.
        let hosts = view.hosts();
        let elsewhere = |guest: Guest| {
            let first = 1u16.checked_shl(guest.first_board().0.into());
            let starts = guest.board.is_none() || first.unwrap_or(0) & hosts != 0;
            !starts || (guest.allowed != 0 && guest.allowed & hosts == 0)
        };
        match (boards_said + images_said..)
            .zip(view.guests())
            .find_map(|(index, guest)| elsewhere(guest).then_some(index))
        {
            Some(index) => Err(ManifestError::Record { index }),
            None => Ok(view),
        }
    }

    /// All its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What stands before the lists.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The boards, in order of [`super::BoardNumber`].
    pub fn boards(&self) -> impl Iterator<Item = Board> + use<'a> {
        Records::new(self.boards, self.summary.boards.into())
    }

    /// The boards that run guests, bit *n* for board *n*.
    pub fn hosts(&self) -> u16 {
        let numbered = self.boards().zip(0..u16::BITS);
        numbered.fold(0, |hosts, (board, number)| {
            hosts | u16::from(!board.witness) << number
        })
    }

    /// The images, in order of [`super::ImageNumber`].
    pub fn images(&self) -> impl Iterator<Item = Image> + use<'a> {
        Records::new(self.images, self.summary.images)
    }

    /// The guests, in the operator's order.
    pub fn guests(&self) -> impl Iterator<Item = Guest> + use<'a> {
        Records::new(self.guests, self.summary.guests.into())
    }
}

/// Checks the head and gives the records behind it.
fn check_head(bytes: &[u8]) -> Result<&[u8], ManifestError> {
    if bytes.len() > MAX_MANIFEST_BYTES {
        return Err(ManifestError::TooLarge {
            bytes: saturated(bytes.len()),
        });
    }
    let rest = bytes
        .strip_prefix(&MAGIC)
        .ok_or(ManifestError::NotAManifest)?;
    let (words, records) = rest
        .split_at_checked(HEAD_BYTES - 8)
        .ok_or(ManifestError::NotAManifest)?;
    let word = |index: usize| {
        let bytes = words[index * 4..].first_chunk().copied();
        bytes
            .map(u32::from_le_bytes)
            .ok_or(ManifestError::NotAManifest)
    };
    let (version, said, checksum) = (word(0)?, word(1)?, word(2)?);
    if version != VERSION {
        return Err(ManifestError::Version { found: version });
    }
    let found = saturated(records.len());
    if said != found {
        return Err(ManifestError::Length { said, found });
    }
    if crc32c(records) != checksum {
        return Err(ManifestError::Checksum);
    }
    Ok(records)
}

/// A length as a word; no entry of an archive is longer.
fn saturated(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Decodes `count` records of one kind and gives what stands behind them.
fn skip<T: DeserializeOwned>(
    mut bytes: &[u8],
    count: u16,
    first: u16,
) -> Result<&[u8], ManifestError> {
    for index in first..first + count {
        let taken = postcard::take_from_bytes::<T>(bytes);
        bytes = taken.map_err(|_| ManifestError::Record { index })?.1;
    }
    Ok(bytes)
}

/// Records of one kind, decoded one at a time.
struct Records<'a, T> {
    bytes: &'a [u8],
    left: u16,
    kind: PhantomData<T>,
}

impl<'a, T> Records<'a, T> {
    fn new(bytes: &'a [u8], left: u16) -> Self {
        Self {
            bytes,
            left,
            kind: PhantomData,
        }
    }
}

impl<T: DeserializeOwned> Iterator for Records<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.left = self.left.checked_sub(1)?;
        let (record, rest) = postcard::take_from_bytes(self.bytes).ok()?;
        self.bytes = rest;
        Some(record)
    }
}
