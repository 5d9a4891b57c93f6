//! Where a guest's disk has its bytes.
//!
//! Two kinds, and each is a value that a block device ([`crate::device::virtio::block`]) is made with:
//! - *local*: an [`Extent`] of the board's own disk, found by name in the [`table`] at the disk's start. It outlives the guest and the board.
//! - *ephemeral*: an [`overlay`] over a read-only image of the boot package. What the guest writes lies in memory, and is forgotten when
//!   the guest starts anew.
//!
//! Nothing here does input or output. Whoever has the disk (the board's kernel, or `hearth volume` with a file) reads the table's two
//! copies and hands them to [`table::Table::read`]; both use this same code. docs/volumes.md has the format.
//!
//! On a board:
//! ```
//! use el2_hyp::volume::{Label, table::{COPY_SECTORS, Copies, Table}};
//! # fn read_disk(_: u64, to: &mut [u8]) { to.fill(0) }
//! # let sectors = 1 << 21;
//! let mut copies = Copies::default();
//! for (start, bytes) in copies.each_mut() {
//!     read_disk(start.0, bytes); // COPY_SECTORS of them
//! }
//! match Table::read(&copies, sectors) {
//!     Ok(table) => {
//!         let volume = Label::new("web-data").and_then(|name| table.find(&name));
//!         // volume.extent() goes into Block::local(...)
//!     }
//!     Err(why) => println!("no volumes: {why}"),
//! }
//! ```

pub mod overlay;
pub mod table;

use core::fmt;

use heapless::String;

/// Bytes of a sector, the unit in which disks and virtio count, whatever the medium's own is.
pub const SECTOR_BYTES: u64 = 512;

/// The place of a sector on a disk, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sector(pub u64);

/// A run of sectors of a disk: at least one, and its end is a number of a sector, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    first: Sector,
    sectors: u64,
}

impl Extent {
    /// The `sectors` from `first` on; `None` if there are none, or if they end past the last possible sector.
    pub const fn new(first: Sector, sectors: u64) -> Option<Self> {
        match first.0.checked_add(sectors) {
            Some(_) if sectors > 0 => Some(Self { first, sectors }),
            _ => None,
        }
    }

    /// The first sector.
    pub const fn first(&self) -> Sector {
        self.first
    }

    /// How many sectors it has.
    pub const fn sectors(&self) -> u64 {
        self.sectors
    }

    /// The first sector behind it.
    pub const fn end(&self) -> Sector {
        Sector(self.first.0 + self.sectors)
    }

    /// Whether the two share a sector.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.first.0 < other.end().0 && other.first.0 < self.end().0
    }

    /// The `sectors` from this extent's sector number `from` on, as an extent of the disk; `None` unless all of them lie in this one.
    #[inline]
    pub const fn part(&self, from: u64, sectors: u64) -> Option<Self> {
        match from.checked_add(sectors) {
            Some(end) if sectors > 0 && end <= self.sectors => Some(Self {
                first: Sector(self.first.0 + from),
                sectors,
            }),
            _ => None,
        }
    }
}

/// A volume's name: a DNS label of lower-case letters, digits and, within, hyphens.
#[derive(Clone, PartialEq, Eq)]
pub struct Label(String<{ Label::MAX_BYTES }>);

impl Label {
    /// The longest name.
    pub const MAX_BYTES: usize = 63;

    /// The name `text`; `None` if it is none.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let sound = bytes.first().is_some_and(plain)
            && bytes.last().is_some_and(plain)
            && bytes.iter().all(|byte| plain(byte) || *byte == b'-');
        sound
            .then(|| String::try_from(text).ok())
            .flatten()
            .map(Self)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Label({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_lies_within() {
        let extent = Extent::new(Sector(100), 10).unwrap();
        assert_eq!(extent.part(0, 10), Some(extent));
        assert_eq!(extent.part(9, 1), Extent::new(Sector(109), 1));
        for (from, sectors) in [(0, 11), (10, 1), (0, 0), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(extent.part(from, sectors), None, "{from} {sectors}");
        }
    }

    #[test]
    fn an_extent_is_not_empty_and_ends() {
        assert_eq!(Extent::new(Sector(5), 0), None);
        assert_eq!(Extent::new(Sector(u64::MAX), 1), None);
        assert!(Extent::new(Sector(u64::MAX - 1), 1).is_some());
    }

    #[test]
    fn names_are_labels() {
        for good in ["a", "web-data", "0", &"x".repeat(63)] {
            assert_eq!(Label::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a_b",
            "ä",
            "a\0",
            &"x".repeat(64),
        ] {
            assert!(Label::new(bad).is_none(), "{bad}");
        }
    }
}
