//! Disks.
//!
//! Requests are submitted with a tag of the caller's and complete in any order, by tag. Their data is named by physical address, so that a
//! guest's memory is read and written where it is. Requests are collected until [`Disk::kick`].
//!
//! **Completions.** [`Disk::acknowledge_interrupt`], [`Disk::suppress`], then [`Disk::completions`] until it finds none, then
//! [`Disk::listen`], which says when some have come meanwhile.
//!
//! A driver whose device goes past the caches cleans and invalidates a request's memory when it is submitted, and invalidates what was read
//! before it reports the completion.

#[cfg(test)]
mod tests;
pub mod virtio;

use core::fmt;

pub use crate::virtio::Interrupts;
pub use crate::virtio::queue::Fault;

/// The unit in which disks are addressed, bytes.
pub const SECTOR_BYTES: u64 = 512;
/// Most pieces of memory of a request. A disk may take fewer: [`Disk::most_segments`].
pub const MAX_SEGMENTS: usize = 126;

/// The caller's name for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

/// A number of a sector, or of sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sector(pub u64);

/// A piece of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its physical address.
    pub address: u64,
    /// Its length, at least 1.
    pub bytes: u32,
}

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// From the disk to memory.
    Read,
    /// From memory to the disk.
    Write,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// The disk has as many requests as it takes; there is room after a completion.
    Full,
    /// The data is in no piece or in too many, one is empty, or together they are no whole sectors.
    Shape,
    /// It goes beyond the disk's end.
    Beyond,
    /// The disk cannot be written to.
    ReadOnly,
    /// The disk is not used any more.
    Broken(Fault),
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The disk says so: the data is lost, or was not written.
    Medium,
    /// The disk does not know such a request.
    Unsupported,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Medium => "the disk failed",
            Self::Unsupported => "the disk does not know the request",
        })
    }
}

/// What became of the wish to flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Its completion will tell.
    Underway,
    /// The disk keeps nothing back: what has completed is safe. No completion will come.
    Needless,
}

/// A disk.
pub trait Disk {
    /// How many sectors it has.
    fn sectors(&self) -> Sector;

    /// Whether it cannot be written to.
    fn is_read_only(&self) -> bool;

    /// The most pieces of memory of one request, from 1 to [`MAX_SEGMENTS`].
    fn most_segments(&self) -> usize;

    /// How many requests can be submitted now.
    fn room(&self) -> usize;

    /// Takes a request. The disk need not see it before [`kick`](Self::kick).
    ///
    /// # Errors
    /// [`NotTaken`].
    ///
    /// # Safety
    /// Until the request completes, or the disk is found broken, the disk may write to `data` ([`Operation::Read`]) or read it: it is
    /// memory that nobody else refers to by reference then, such as a guest's.
    unsafe fn submit(
        &mut self,
        tag: Tag,
        operation: Operation,
        first: Sector,
        data: &[Segment],
    ) -> Result<(), NotTaken>;

    /// Asks that all writes that have completed be made safe from a loss of power.
    ///
    /// # Errors
    /// [`NotTaken`].
    fn flush(&mut self, tag: Tag) -> Result<Flush, NotTaken>;

    /// Begins what was submitted. Once for a batch.
    fn kick(&mut self);

    /// Tells `done` of up to `budget` requests that have completed, and returns how many.
    ///
    /// # Errors
    /// [`Fault`]: the disk is not used any more, and no request that it still has will complete.
    fn completions(
        &mut self,
        budget: usize,
        done: impl FnMut(Tag, Result<(), Failure>),
    ) -> Result<usize, Fault>;

    /// Asks for an interrupt for the next completion, as it is at first. Says whether one is there already: then the interrupt may not come.
    ///
    /// # Errors
    /// [`Fault`]: the disk is not used any more.
    fn listen(&mut self) -> Result<bool, Fault>;

    /// Asks for no interrupts.
    fn suppress(&mut self);

    /// Ends the disk's interrupt and says why it came. To be called before the completions are looked at.
    fn acknowledge_interrupt(&self) -> Interrupts;
}
