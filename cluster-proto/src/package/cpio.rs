//! The archive: cpio's "newc" format, read in place.
//!
//! Source: the Linux kernel's Documentation/driver-api/early-userspace/buffer-format.rst. An entry is a header of
//! thirteen hexadecimal numbers, a name closed by NUL, and its bytes, both filled up to a multiple of
//! four. Walking touches headers and names only, never the bytes.

use super::{EntryName, Fault};

/// Bytes of an entry's header.
const HEADER_BYTES: usize = 110;
/// The two magics of the format, without and with a sum of the bytes (which nothing checks).
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
/// Where in the header the length of the bytes and of the name stand.
const LENGTH_AT: usize = 6 + 6 * 8;
const NAME_LENGTH_AT: usize = 6 + 11 * 8;
/// The name of the mark behind the last entry.
const TRAILER: &[u8] = b"TRAILER!!!";
/// Most entries walked; a package has a manifest and up to [`crate::manifest::MAX_IMAGES`] images.
const MAX_ENTRIES: u16 = 512;
const _: () = assert!(crate::manifest::MAX_IMAGES + 1 < MAX_ENTRIES as usize);

/// An entry of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Where the next entry starts.
    pub next: usize,
}

/// The bytes that an entry with a name and contents of these lengths takes up.
pub(super) fn entry_bytes(name: usize, contents: usize) -> Option<usize> {
    let start = start_of_contents(name)?;
    start.checked_add(contents)?.checked_next_multiple_of(4)
}

/// How far behind its start an entry's contents begin.
pub(super) fn start_of_contents(name: usize) -> Option<usize> {
    HEADER_BYTES
        .checked_add(name)?
        .checked_add(1)?
        .checked_next_multiple_of(4)
}

/// A walk over an archive.
#[derive(Clone, Debug)]
pub(super) struct Entries<'a> {
    archive: &'a [u8],
    at: usize,
    walked: u16,
    ended: bool,
}

impl<'a> Entries<'a> {
    /// A walk from the start of `archive`.
    pub(super) fn new(archive: &'a [u8]) -> Self {
        Self {
            archive,
            at: 0,
            walked: 0,
            ended: false,
        }
    }

    /// The entry at the present place.
    fn entry(&self) -> Result<Entry<'a>, (EntryName, Fault)> {
        let lost = |fault| (EntryName::Number(self.walked + 1), fault);
        if self.walked == MAX_ENTRIES {
            return Err(lost(Fault::TooManyEntries));
        }
        let rest = self.archive.get(self.at..).unwrap_or_default();
        let magic = rest
            .get(..MAGICS[0].len())
            .ok_or(lost(Fault::ArchiveEnds))?;
        if !MAGICS.contains(&magic) {
            return Err(lost(Fault::NotAnEntry));
        }
        let header = rest.get(..HEADER_BYTES).ok_or(lost(Fault::ArchiveEnds))?;
        let length = hexadecimal(header, LENGTH_AT).ok_or(lost(Fault::NotAnEntry))?;
        let name_length = hexadecimal(header, NAME_LENGTH_AT).ok_or(lost(Fault::NotAnEntry))?;
        let name = name_length
            .checked_sub(1)
            .and_then(|bytes| rest.get(HEADER_BYTES..)?.get(..bytes as usize))
            .ok_or(lost(Fault::ArchiveEnds))?;
        let bytes = start_of_contents(name.len())
            .and_then(|start| rest.get(start..))
            .and_then(|contents| contents.get(..length as usize));
        let Some(bytes) = bytes else {
            let start = start_of_contents(name.len()).unwrap_or(usize::MAX);
            // Less than `length`, so it fits.
            let found = u32::try_from(rest.len().saturating_sub(start)).unwrap_or(u32::MAX);
            return Err((
                EntryName::of(name),
                Fault::Truncated {
                    said: length,
                    found,
                },
            ));
        };
        let size = entry_bytes(name.len(), length as usize).ok_or(lost(Fault::NotAnEntry))?;
        Ok(Entry {
            name,
            bytes,
            next: self.at + size,
        })
    }
}

impl<'a> Iterator for Entries<'a> {
    /// Entries, and last perhaps the reason why there are no more.
    type Item = Result<Entry<'a>, (EntryName, Fault)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.entry();
        match entry {
            Ok(entry) if entry.name == TRAILER => {
                self.ended = true;
                return None;
            }
            Ok(entry) => {
                self.at = entry.next;
                self.walked += 1;
            }
            Err(_) => self.ended = true,
        }
        Some(entry)
    }
}

/// The eight hexadecimal digits at `at`.
fn hexadecimal(header: &[u8], at: usize) -> Option<u32> {
    let digits = header.get(at..at + 8)?;
    digits.iter().try_fold(0, |number, &digit| {
        Some(number << 4 | (digit as char).to_digit(16)?)
    })
}
