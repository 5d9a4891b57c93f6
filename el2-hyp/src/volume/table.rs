//! The table at the start of a board's disk that says which extents are volumes, and their names.
//!
//! It lies there twice, each copy 8 KiB with a sequence number and a CRC-32C of its own; the copy with the higher number counts. A
//! change writes the *other* copy, with the next number. So a write that is torn anywhere leaves the old table whole, and the new
//! one counts from the moment when its last byte is on the disk.
//!
//! A disk is somebody else's bytes: [`Table::read`] trusts nothing. A copy whose checksum is wrong is as if it were not there; a copy
//! that is whole and still breaks a rule (volumes that overlap, that leave the disk, that have one name) is an error of the whole
//! table, since falling back to an older one could give a guest the sectors of another.

mod codec;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use super::{Extent, Label, Sector};

/// Bytes of one copy.
pub const COPY_BYTES: usize = 8 << 10;
/// Sectors of one copy.
pub const COPY_SECTORS: u64 = COPY_BYTES as u64 / super::SECTOR_BYTES;
/// Where the copies start: far apart, so that a damaged spot of the medium seldom takes both.
pub const COPY_START: [Sector; 2] = [Sector(0), Sector(1024)];
/// The first sector that a volume may have: 1 MiB into the disk.
pub const DATA_START: Sector = Sector(2048);
/// Volumes that are made start on a multiple of this and have a multiple of it: 1 MiB, which suits flash memory.
pub const UNIT_SECTORS: u64 = 2048;
/// Every extent starts on a multiple of this and has a multiple of it, so that a guest's blocks of 4 KiB are the disk's, too.
pub const BLOCK_SECTORS: u64 = 8;
/// Most volumes of a disk.
pub const MAX_VOLUMES: usize = 63;
/// The smallest disk that can hold a volume.
pub const MIN_DISK_SECTORS: u64 = DATA_START.0 + UNIT_SECTORS;

const _: () = assert!(
    COPY_START[0].0 + COPY_SECTORS <= COPY_START[1].0
        && COPY_START[1].0 + COPY_SECTORS <= DATA_START.0
        && DATA_START.0.is_multiple_of(UNIT_SECTORS)
        && UNIT_SECTORS.is_multiple_of(BLOCK_SECTORS)
);

/// The bytes of one copy, as they are on the disk.
pub type CopyBytes = [u8; COPY_BYTES];

/// Both copies, as they were read from the disk.
pub struct Copies([Box<CopyBytes>; 2]);

impl Default for Copies {
    /// Zeros, to be filled.
    fn default() -> Self {
        Self([codec::zeros(), codec::zeros()])
    }
}

impl Copies {
    /// Where each copy starts on the disk, and its bytes.
    pub fn each_mut(&mut self) -> impl Iterator<Item = (Sector, &mut CopyBytes)> {
        COPY_START
            .into_iter()
            .zip(self.0.iter_mut().map(Box::as_mut))
    }
}

/// A volume of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    name: Label,
    extent: Extent,
    read_only: bool,
}

impl Volume {
    /// Its name, which no other volume of the disk has.
    pub fn name(&self) -> &Label {
        &self.name
    }

    /// Where it lies.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Whether guests may only read it.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }
}

/// A disk's table of volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The number of the newest copy; 0 before the first is written.
    sequence: u64,
    disk_sectors: u64,
    volumes: Vec<Volume>,
}

/// A copy that is to be written, and then flushed, for a change to count.
pub struct CopyWrite {
    /// Where it goes.
    pub start: Sector,
    /// What is written there.
    pub bytes: Box<CopyBytes>,
}

/// Why a disk has no table that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// Neither copy begins with the magic number: this disk was never made ready.
    None,
    /// There is a table, but the checksums of both copies are wrong.
    Damaged,
    /// The table's format is of another version.
    Version(u32),
    /// The table is of a disk with this many sectors, more than there are.
    Disk(u64),
    /// It says that it has this many volumes, more than fit.
    TooMany(u32),
    /// This entry, from 0, breaks a rule.
    Entry(usize, EntryError),
    /// Bytes that must be zero are not.
    NotZero,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// Its name is no DNS label.
    Name,
    /// Another entry, this one, has its name.
    NameTwice(usize),
    /// It is empty, begins within the table, or is not in whole blocks of 4 KiB.
    Extent,
    /// It ends past the disk.
    Outside,
    /// It shares sectors with this entry.
    Overlap(usize),
    /// It has flags that this version does not know.
    Flags(u32),
}

/// Why a volume cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateError {
    /// There is one of that name.
    NameTaken,
    /// The table is full.
    TableFull,
    /// It would be empty.
    Empty,
    /// No free run is as long; the longest has this many sectors.
    NoRoom(u64),
}

impl Table {
    /// The table of a disk of `disk_sectors` without volumes; `None` if the disk is smaller than [`MIN_DISK_SECTORS`].
    ///
    /// A disk is made ready by writing both copies: [`commit`](Self::commit) twice.
    pub fn new(disk_sectors: u64) -> Option<Self> {
        (disk_sectors >= MIN_DISK_SECTORS).then(|| Self {
            sequence: 0,
            disk_sectors,
            volumes: Vec::new(),
        })
    }

    /// The table of a disk of `disk_sectors`, from both copies as they are there.
    ///
    /// # Errors
    /// [`TableError`], if there is none that is whole, or if the newest that is whole breaks a rule.
    pub fn read(copies: &Copies, disk_sectors: u64) -> Result<Self, TableError> {
        let newest = copies
            .0
            .iter()
            .enumerate()
            .filter_map(|(place, bytes)| codec::whole(bytes, place))
            .max_by_key(|whole| whole.sequence());
        match newest {
            Some(whole) => whole.decode(disk_sectors),
            None if copies.0.iter().any(|copy| codec::has_magic(copy)) => Err(TableError::Damaged),
            None => Err(TableError::None),
        }
    }

    /// How many of both copies are whole, from 0 to 2. A table with one is as good; the next change mends the other.
    pub fn whole_copies(copies: &Copies) -> usize {
        let places = copies.0.iter().enumerate();
        places
            .filter(|(place, bytes)| codec::whole(bytes, *place).is_some())
            .count()
    }

    /// Whether either copy begins as a table does, whole or not.
    pub fn is_present(copies: &Copies) -> bool {
        copies.0.iter().any(|copy| codec::has_magic(copy))
    }

    /// Sectors of the disk.
    pub fn disk_sectors(&self) -> u64 {
        self.disk_sectors
    }

    /// The number of the newest copy.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The volumes, in no particular order.
    pub fn volumes(&self) -> &[Volume] {
        &self.volumes
    }

    /// The volume called `name`.
    pub fn find(&self, name: &Label) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.name == *name)
    }

    /// Adds a volume of at least `sectors`, rounded up to [`UNIT_SECTORS`], in the first free run that holds it. The disk knows of it after
    /// the next [`commit`](Self::commit); what the extent held before is still there.
    ///
    /// # Errors
    /// [`CreateError`]; the table is as before then.
    pub fn create(
        &mut self,
        name: Label,
        sectors: u64,
        read_only: bool,
    ) -> Result<&Volume, CreateError> {
        if self.find(&name).is_some() {
            return Err(CreateError::NameTaken);
        }
        if self.volumes.len() == MAX_VOLUMES {
            return Err(CreateError::TableFull);
        }
        if sectors == 0 {
            return Err(CreateError::Empty);
        }
        let free = self.free();
        let rounded = sectors.checked_next_multiple_of(UNIT_SECTORS);
        let fits = rounded.and_then(|sectors| free.iter().find_map(|run| run.part(0, sectors)));
        let longest = free.iter().map(Extent::sectors).max().unwrap_or(0);
        let extent = fits.ok_or(CreateError::NoRoom(longest))?;
        self.volumes.push(Volume {
            name,
            extent,
            read_only,
        });
        Ok(&self.volumes[self.volumes.len() - 1])
    }

    /// Takes the volume called `name` out. The disk knows of it after the next [`commit`](Self::commit); the bytes stay.
    pub fn remove(&mut self, name: &Label) -> Option<Volume> {
        let at = self
            .volumes
            .iter()
            .position(|volume| volume.name == *name)?;
        Some(self.volumes.swap_remove(at))
    }

    /// The runs of whole units in which no volume lies, lowest first.
    pub fn free(&self) -> Vec<Extent> {
        let mut taken: Vec<Extent> = self.volumes.iter().map(Volume::extent).collect();
        taken.sort_unstable_by_key(Extent::first);
        let mut runs = Vec::new();
        let mut start = DATA_START;
        let ends = taken.iter().map(|next| (next.first(), next.end()));
        for (end, after) in ends.chain([(Sector(self.disk_sectors), Sector(self.disk_sectors))]) {
            // Whole units only: a table that other programs wrote may have volumes that start elsewhere.
            let first = start.0.next_multiple_of(UNIT_SECTORS);
            let sectors = end.0.saturating_sub(first) / UNIT_SECTORS * UNIT_SECTORS;
            runs.extend(Extent::new(Sector(first), sectors));
            start = after;
        }
        runs
    }

    /// The next copy to write. Until it is written and flushed, the disk has the table that was committed before.
    pub fn commit(&mut self) -> CopyWrite {
        // A number that only a forger reaches stays, and is read by nobody.
        self.sequence = self.sequence.saturating_add(1);
        CopyWrite {
            start: COPY_START[codec::place_of(self.sequence)],
            bytes: codec::encode(self),
        }
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "the disk has no table of volumes"),
            Self::Damaged => write!(f, "both copies of the table of volumes are damaged"),
            Self::Version(version) => {
                write!(
                    f,
                    "the table of volumes has version {version}; this program knows {}",
                    codec::VERSION
                )
            }
            Self::Disk(sectors) => {
                write!(
                    f,
                    "the table of volumes is of a disk of {sectors} sectors; this one is smaller"
                )
            }
            Self::TooMany(count) => write!(
                f,
                "the table claims {count} volumes; at most {MAX_VOLUMES} fit"
            ),
            Self::Entry(index, error) => write!(f, "entry {index} of the table of volumes {error}"),
            Self::NotZero => write!(
                f,
                "the table of volumes has bytes where this version has none"
            ),
        }
    }
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => write!(f, "has a name that is no label"),
            Self::NameTwice(other) => write!(f, "has the name of entry {other}"),
            Self::Extent => write!(
                f,
                "is empty, begins within the table, or is not in blocks of 4 KiB"
            ),
            Self::Outside => write!(f, "ends past the disk"),
            Self::Overlap(other) => write!(f, "shares sectors with entry {other}"),
            Self::Flags(flags) => write!(f, "has unknown flags ({flags:#x})"),
        }
    }
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken => write!(f, "there is a volume of that name"),
            Self::TableFull => write!(f, "the disk has {MAX_VOLUMES} volumes, and no more fit"),
            Self::Empty => write!(f, "a volume has at least one sector"),
            Self::NoRoom(sectors) => write!(f, "the longest free run has {sectors} sectors"),
        }
    }
}

impl core::error::Error for TableError {}
impl core::error::Error for CreateError {}
