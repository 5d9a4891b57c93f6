//! One copy of the table as bytes. All numbers are little-endian.
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | `HEARTHVT` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | CRC-32C of the whole copy, with zeros in place of this field |
//! | 16 | 8 | sequence number, from 1; even ones lie in the first copy, odd ones in the second |
//! | 24 | 8 | sectors of the disk |
//! | 32 | 4 | number of entries |
//! | 36 | 92 | zero |
//! | 128 | 128 each | entries; those behind the last are zero |
//!
//! An entry: 64 bytes of name with zeros behind it, first sector (8), sectors (8), flags (4; bit 0: read-only), zeros (44).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crc::{CRC_32_ISCSI, Crc};

use super::{
    BLOCK_SECTORS, COPY_BYTES, CopyBytes, DATA_START, EntryError, MAX_VOLUMES, Table, TableError,
    Volume,
};
use crate::volume::{Extent, Label, Sector};

/// The version that this code writes, and the only one that it reads.
pub const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"HEARTHVT";
const HEAD_BYTES: usize = 128;
const ENTRY_BYTES: usize = 128;
/// Room for the longest label, and at least one zero.
const NAME_BYTES: usize = 64;
const READ_ONLY: u32 = 1;

const VERSION_AT: usize = 8;
const CRC_AT: usize = 12;
const SEQUENCE_AT: usize = 16;
const DISK_AT: usize = 24;
const COUNT_AT: usize = 32;
const HEAD_END: usize = 36;

const FIRST_AT: usize = NAME_BYTES;
const SECTORS_AT: usize = FIRST_AT + 8;
const FLAGS_AT: usize = SECTORS_AT + 8;
const ENTRY_END: usize = FLAGS_AT + 4;

const _: () = assert!(HEAD_BYTES + MAX_VOLUMES * ENTRY_BYTES == COPY_BYTES);
const _: () = assert!(Label::MAX_BYTES < NAME_BYTES && ENTRY_END <= ENTRY_BYTES);

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Which copy, 0 or 1, a table of this sequence number is written to.
pub fn place_of(sequence: u64) -> usize {
    (sequence % 2) as usize
}

/// Whether the copy begins as one does.
pub fn has_magic(bytes: &CopyBytes) -> bool {
    bytes.starts_with(&MAGIC)
}

fn checksum(bytes: &CopyBytes) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&bytes[..CRC_AT]);
    digest.update(&[0; 4]);
    digest.update(&bytes[CRC_AT + 4..]);
    digest.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// A copy that was written whole, in its place.
pub struct Whole<'a>(&'a CopyBytes);

/// The copy, if its magic number and checksum are right, and its sequence number is one of this place, with another to follow.
pub fn whole(bytes: &CopyBytes, place: usize) -> Option<Whole<'_>> {
    let whole = Whole(bytes);
    let sound = has_magic(bytes)
        && (1..u64::MAX).contains(&whole.sequence())
        && place_of(whole.sequence()) == place
        && u32_at(bytes, CRC_AT) == checksum(bytes);
    sound.then_some(whole)
}

impl Whole<'_> {
    /// The greater, the newer. The same in all versions of the format.
    pub fn sequence(&self) -> u64 {
        u64_at(self.0, SEQUENCE_AT)
    }

    /// What it says, if it keeps all rules.
    pub fn decode(&self, disk_sectors: u64) -> Result<Table, TableError> {
        let bytes = self.0;
        let version = u32_at(bytes, VERSION_AT);
        if version != VERSION {
            return Err(TableError::Version(version));
        }
        let said = u64_at(bytes, DISK_AT);
        if said > disk_sectors {
            return Err(TableError::Disk(said));
        }
        let claimed = u32_at(bytes, COUNT_AT);
        let count = claimed as usize;
        if count > MAX_VOLUMES {
            return Err(TableError::TooMany(claimed));
        }
        let (entries, rest) = bytes[HEAD_BYTES..].split_at(count * ENTRY_BYTES);
        if !is_zero(&bytes[HEAD_END..HEAD_BYTES]) || !is_zero(rest) {
            return Err(TableError::NotZero);
        }
        let mut table = Table {
            sequence: self.sequence(),
            disk_sectors: said,
            volumes: Vec::with_capacity(count),
        };
        for (index, entry) in entries.as_chunks::<ENTRY_BYTES>().0.iter().enumerate() {
            let volume = volume(entry, &table).map_err(|error| TableError::Entry(index, error))?;
            if !is_zero(&entry[ENTRY_END..]) {
                return Err(TableError::NotZero);
            }
            table.volumes.push(volume);
        }
        Ok(table)
    }
}

/// The volume of `entry`, behind those that `table` already has.
fn volume(entry: &[u8; ENTRY_BYTES], table: &Table) -> Result<Volume, EntryError> {
    let name = name(&entry[..NAME_BYTES]).ok_or(EntryError::Name)?;
    let first = Sector(u64_at(entry, FIRST_AT));
    let sectors = u64_at(entry, SECTORS_AT);
    let in_blocks = first.0.is_multiple_of(BLOCK_SECTORS) && sectors.is_multiple_of(BLOCK_SECTORS);
    let extent = Extent::new(first, sectors)
        .filter(|extent| in_blocks && extent.first() >= DATA_START)
        .ok_or(EntryError::Extent)?;
    if extent.end().0 > table.disk_sectors {
        return Err(EntryError::Outside);
    }
    let flags = u32_at(entry, FLAGS_AT);
    if flags & !READ_ONLY != 0 {
        return Err(EntryError::Flags(flags));
    }
    for (index, other) in table.volumes.iter().enumerate() {
        if other.name == name {
            return Err(EntryError::NameTwice(index));
        }
        if other.extent.overlaps(&extent) {
            return Err(EntryError::Overlap(index));
        }
    }
    Ok(Volume {
        name,
        extent,
        read_only: flags & READ_ONLY != 0,
    })
}

/// The label in a field that is filled with zeros.
fn name(field: &[u8]) -> Option<Label> {
    let length = field.iter().position(|&byte| byte == 0)?;
    let (name, rest) = field.split_at(length);
    let label = Label::new(core::str::from_utf8(name).ok()?)?;
    is_zero(rest).then_some(label)
}

/// A copy of zeros. It is made on the heap, since a board's stacks are short.
pub fn zeros() -> Box<CopyBytes> {
    match alloc::vec![0; COPY_BYTES].try_into() {
        Ok(copy) => copy,
        Err(_) => unreachable!("as long as asked for"),
    }
}

/// The copy that says what `table` does.
pub fn encode(table: &Table) -> Box<CopyBytes> {
    let mut copy = zeros();
    let mut put = |at: usize, bytes: &[u8]| copy[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC);
    put(VERSION_AT, &VERSION.to_le_bytes());
    put(SEQUENCE_AT, &table.sequence.to_le_bytes());
    put(DISK_AT, &table.disk_sectors.to_le_bytes());
    put(COUNT_AT, &(table.volumes.len() as u32).to_le_bytes());
    for (volume, index) in table.volumes.iter().zip(0..) {
        let at = HEAD_BYTES + index * ENTRY_BYTES;
        let flags = if volume.read_only { READ_ONLY } else { 0 };
        put(at, volume.name.as_str().as_bytes());
        put(at + FIRST_AT, &volume.extent.first().0.to_le_bytes());
        put(at + SECTORS_AT, &volume.extent.sectors().to_le_bytes());
        put(at + FLAGS_AT, &flags.to_le_bytes());
    }
    seal(&mut copy);
    copy
}

/// Makes the checksum right.
pub fn seal(copy: &mut CopyBytes) {
    let crc = checksum(copy);
    copy[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
}
