//! The board's disk, as a guest's block device sees it. The kernel implements [`BoardDisk`] with a driver of its platform.

use crate::addr::Pa;
use crate::volume::Sector;

/// Most pieces of memory of one request.
pub const MAX_PIECES: usize = 126;

/// Which of a device's requests it is. Two that are in flight never have the same; another device's may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(pub u32);

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// From the disk to memory.
    Read,
    /// From memory to the disk.
    Write,
}

/// A contiguous piece of a guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its first byte.
    pub address: Pa,
    /// Its length, at least 1.
    pub bytes: u32,
}

/// The disk does not take a request, and never will: it is broken, or cannot do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// What became of the wish to flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// A completion will tell.
    Underway,
    /// There is nothing to do: no completion will come.
    Needless,
}

/// What the board's disk can do; it holds for as long as devices on it exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most pieces of memory of one request, at least 2. Those beyond [`MAX_PIECES`] are of no use.
    pub pieces: usize,
    /// Whether a flush does anything: writes that have completed may be lost without.
    pub flush: bool,
}

/// The board's disk. All guests' devices on it share it.
pub trait BoardDisk {
    /// How many requests it takes now. It is asked before a request is taken from a guest. A broken disk has room, and refuses.
    fn room(&mut self) -> usize;

    /// Takes a request for the sectors from `first` on, as many as the `pieces` hold, one at least and a whole number. There are at most
    /// [`Limits::pieces`].
    ///
    /// The pieces are a guest's memory. It stays that guest's until the completion, and no reference to it exists.
    ///
    /// # Errors
    /// [`Refused`]: no completion will come.
    fn submit(
        &mut self,
        tag: Tag,
        operation: Operation,
        first: Sector,
        pieces: &[Piece],
    ) -> Result<(), Refused>;

    /// Asks that all writes that have completed be made safe from a loss of power.
    ///
    /// # Errors
    /// [`Refused`]: no completion will come.
    fn flush(&mut self, tag: Tag) -> Result<Flushed, Refused>;
}

/// No disk: for devices that are served from memory, and for one that is broken.
pub struct NoDisk;

impl BoardDisk for NoDisk {
    fn room(&mut self) -> usize {
        0
    }
    fn submit(&mut self, _: Tag, _: Operation, _: Sector, _: &[Piece]) -> Result<(), Refused> {
        Err(Refused)
    }
    fn flush(&mut self, _: Tag) -> Result<Flushed, Refused> {
        Err(Refused)
    }
}
