//! What `hearth volume` says.

use std::fmt;
use std::path::{Path, PathBuf};

use el2_hyp::volume::table::{Table, Volume};
use el2_hyp::volume::{Extent, SECTOR_BYTES};
use serde::Serialize;

use super::length;
use crate::pack::Size;

/// What was done.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Done {
    /// A disk was made ready.
    Init(Listed),
    /// A volume was made.
    Created(Shown),
    /// The volumes are these.
    List(Listed),
    /// A volume was removed.
    Removed(Shown),
    /// A volume was filled.
    Imported(Shown),
    /// A volume was copied.
    Exported(Shown),
}

/// What is in whole MiB, for people.
fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// A disk and its volumes.
#[derive(Debug, Serialize)]
pub struct Listed {
    disk: PathBuf,
    bytes: u64,
    free_bytes: u64,
    /// How many of the table's two copies are whole.
    whole_copies: usize,
    volumes: Vec<ShownVolume>,
}

/// A volume and its disk.
#[derive(Debug, Serialize)]
pub struct Shown {
    disk: PathBuf,
    volume: ShownVolume,
}

#[derive(Debug, Serialize)]
struct ShownVolume {
    name: String,
    bytes: u64,
    first_sector: u64,
    sectors: u64,
    read_only: bool,
}

impl From<&Volume> for ShownVolume {
    fn from(volume: &Volume) -> Self {
        let extent = volume.extent();
        Self {
            name: volume.name().to_string(),
            bytes: length(extent),
            first_sector: extent.first().0,
            sectors: extent.sectors(),
            read_only: volume.is_read_only(),
        }
    }
}

impl Listed {
    /// The volumes of `table`, in the order in which they lie.
    pub fn new(disk: &Path, table: &Table, whole_copies: usize) -> Self {
        let mut volumes: Vec<ShownVolume> = table.volumes().iter().map(Into::into).collect();
        volumes.sort_by_key(|volume| volume.first_sector);
        let free: u64 = table.free().iter().map(Extent::sectors).sum();
        Self {
            disk: disk.to_path_buf(),
            bytes: table.disk_sectors() * SECTOR_BYTES,
            free_bytes: free * SECTOR_BYTES,
            whole_copies,
            volumes,
        }
    }
}

impl Shown {
    /// `volume`, which is on `disk`.
    pub fn new(disk: &Path, volume: &Volume) -> Self {
        Self {
            disk: disk.to_path_buf(),
            volume: volume.into(),
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init(disk) => write!(f, "ready for volumes: {disk}"),
            Self::List(disk) => disk.fmt(f),
            Self::Created(shown) => write!(f, "made {shown}"),
            Self::Removed(shown) => write!(f, "removed {shown}"),
            Self::Imported(shown) => write!(f, "filled {shown}"),
            Self::Exported(shown) => write!(f, "copied {shown}"),
        }
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (disk, bytes) = (self.disk.display(), Size(self.bytes));
        let free = mib(self.free_bytes);
        writeln!(f, "{disk}: {bytes}, {free} free")?;
        if self.whole_copies < 2 {
            writeln!(
                f,
                "one of the table's two copies is torn; the next change mends it"
            )?;
        }
        let widest = self.volumes.iter().map(|volume| volume.name.len()).max();
        for volume in &self.volumes {
            let (name, size) = (&volume.name, mib(volume.bytes));
            let width = widest.unwrap_or(0);
            write!(
                f,
                "  {name:width$}  {size:>10}  from sector {}",
                volume.first_sector
            )?;
            writeln!(f, "{}", if volume.read_only { ", read-only" } else { "" })?;
        }
        if self.volumes.is_empty() {
            writeln!(f, "  no volumes")?;
        }
        Ok(())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, size) = (&self.volume.name, mib(self.volume.bytes));
        write!(f, "volume {name} of {} ({size})", self.disk.display())
    }
}
