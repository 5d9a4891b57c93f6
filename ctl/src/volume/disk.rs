//! A board's disk on this machine: a raw image file, or a block device.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use el2_hyp::volume::table::{Copies, MIN_DISK_SECTORS, Table, TableError};
use el2_hyp::volume::{SECTOR_BYTES, Sector};
use rustix::fs::{FlockOperation, fcntl_lock};

use crate::pack::Size;
use crate::report::Failure;

/// What is to be done with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is only looked at.
    Read,
    /// It is changed: nobody else may use it meanwhile.
    Write,
}

/// The disk.
pub struct Disk {
    file: File,
    path: PathBuf,
    sectors: u64,
}

impl Disk {
    /// The disk at `path`, which exists.
    pub fn open(path: &Path, access: Access) -> Result<Self, Failure> {
        let write = access == Access::Write;
        let opened = OpenOptions::new().read(true).write(write).open(path);
        let file = opened.map_err(|error| Failure::file("open", path, error))?;
        Self::new(file, path, access)
    }

    /// A new image file of `bytes`, full of holes. It goes away again if it cannot be a disk.
    pub fn make(path: &Path, bytes: u64) -> Result<Self, Failure> {
        let least = MIN_DISK_SECTORS * SECTOR_BYTES;
        if bytes < least {
            let what = format!(
                "{} are too few for a disk; give at least {}",
                Size(bytes),
                Size(least)
            );
            return Err(Failure::Trouble(what));
        }
        let mut options = OpenOptions::new();
        let made = options.read(true).write(true).create_new(true).open(path);
        let file = made.map_err(|error| Failure::file("make", path, error))?;
        file.set_len(bytes / SECTOR_BYTES * SECTOR_BYTES)
            .map_err(|error| {
                let _ = std::fs::remove_file(path); // What matters is why it could not be made.
                Failure::file("make", path, error)
            })?;
        Self::new(file, path, Access::Write)
    }

    fn new(mut file: File, path: &Path, access: Access) -> Result<Self, Failure> {
        // The locks of an emulator that has the disk conflict with this one, and so do those of another `hearth`.
        if access == Access::Write
            && fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
        {
            let what = format!(
                "{} is in use; stop the board, or whatever has it, first",
                path.display()
            );
            return Err(Failure::Trouble(what));
        }
        // Also tells the size of a block device, of which the metadata knows none.
        let end = file.seek(SeekFrom::End(0));
        let bytes = end.map_err(|error| Failure::file("read", path, error))?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            sectors: bytes / SECTOR_BYTES,
        })
    }

    /// As the operator named it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many sectors it has.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// The file that it is, for whole ranges of it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Fills `bytes` from the byte at `offset` on.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Failure> {
        let read = self.file.read_exact_at(bytes, offset);
        read.map_err(|error| Failure::file("read", &self.path, error))
    }

    /// Puts `bytes` at `offset`.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(|error| Failure::file("write", &self.path, error))
    }

    /// Returns when what was written is safe.
    pub fn sync(&self) -> Result<(), Failure> {
        let synced = self.file.sync_data();
        synced.map_err(|error| Failure::file("write", &self.path, error))
    }

    /// Both copies of the table, as they are. On a disk that is too small for them they are zeros.
    pub fn copies(&self) -> Result<Copies, Failure> {
        let mut copies = Copies::default();
        if self.sectors >= MIN_DISK_SECTORS {
            for (start, bytes) in copies.each_mut() {
                self.read(start.0 * SECTOR_BYTES, bytes)?;
            }
        }
        Ok(copies)
    }

    /// The table of volumes.
    pub fn table(&self) -> Result<Table, Failure> {
        let shown = self.path.display();
        Table::read(&self.copies()?, self.sectors).map_err(|error| {
            let help = match error {
                TableError::None => format!("make it ready with `hearth volume init {shown}`"),
                TableError::Version(_) => "use the `hearth` that made it".into(),
                TableError::Disk(_) => "the file was cut short; copy it again, whole".into(),
                _ => format!(
                    "`hearth volume init --force {shown}` makes a new one, without the volumes"
                ),
            };
            Failure::Trouble(format!("{shown}: {error}; {help}"))
        })
    }

    /// Writes the next copy of the table; when this returns, it counts.
    pub fn commit(&self, table: &mut Table) -> Result<(), Failure> {
        // What the table speaks of is on the disk before it does.
        self.sync()?;
        let write = table.commit();
        let Sector(start) = write.start;
        self.write(start * SECTOR_BYTES, &write.bytes[..])?;
        self.sync()
    }
}
