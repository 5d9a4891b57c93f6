//! A chain of descriptors, as it was when it was looked at: checked once, and copied, so that a guest that changes its rings afterwards
//! changes nothing.

use crate::addr::Ipa;
use crate::device::virtio::queue::QueueError;
use crate::memory::{GuestMemory, OutOfRange};

/// Segments of a chain, at most. Linux' block driver uses the device's `seg_max` and 2 more, its network driver 19.
pub const MAX_SEGMENTS: usize = 66;

/// What names a chain to its driver: the index of its first descriptor. It comes from a [`Chain`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head(pub(super) u16);

/// A range of the guest's RAM, not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins.
    pub ipa: Ipa,
    /// Bytes.
    pub length: u32,
}

/// Segments that the device reads, followed by segments that it writes. All lie within the guest's RAM.
#[derive(Clone, Debug)]
pub struct Chain {
    head: Head,
    readable: u16,
    count: u16,
    readable_bytes: u32,
    writable_bytes: u32,
    segments: [Segment; MAX_SEGMENTS],
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl Chain {
    /// An empty chain, to be filled by [`Queue::pop`](super::queue::Queue::pop). It is a kilobyte: made once and used again.
    pub const fn new() -> Self {
        Self {
            head: Head(0),
            readable: 0,
            count: 0,
            readable_bytes: 0,
            writable_bytes: 0,
            segments: [Segment {
                ipa: Ipa(0),
                length: 0,
            }; MAX_SEGMENTS],
        }
    }

    /// Its name towards the driver.
    pub fn head(&self) -> Head {
        self.head
    }

    /// What the device may read.
    pub fn readable(&self) -> &[Segment] {
        &self.segments[..usize::from(self.readable)]
    }

    /// What the device may write.
    pub fn writable(&self) -> &[Segment] {
        &self.segments[usize::from(self.readable)..usize::from(self.count)]
    }

    /// Bytes that the device may read.
    pub fn readable_bytes(&self) -> u32 {
        self.readable_bytes
    }

    /// Bytes that the device may write.
    pub fn writable_bytes(&self) -> u32 {
        self.writable_bytes
    }

    /// Reads what is readable, from its beginning.
    pub fn reader<'a>(&'a self, memory: &'a GuestMemory) -> Reader<'a> {
        Reader {
            memory,
            place: Place::new(self.readable()),
        }
    }

    /// Writes what is writable, from its beginning.
    pub fn writer<'a>(&'a self, memory: &'a GuestMemory) -> Writer<'a> {
        Writer {
            memory,
            place: Place::new(self.writable()),
            written: 0,
        }
    }

    /// Forgets everything, and is filled anew.
    #[inline(always)]
    pub(super) fn fill(&mut self) -> Filling<'_> {
        Filling {
            chain: self,
            count: 0,
            readable: 0,
            readable_bytes: 0,
            writable_bytes: 0,
        }
    }
}

/// A chain while it is filled; it has no meaning until that is [`finish`](Self::finish)ed. What is counted lies here, so that it can stay
/// in registers.
pub(super) struct Filling<'a> {
    chain: &'a mut Chain,
    count: usize,
    readable: usize,
    readable_bytes: u64,
    writable_bytes: u64,
}

impl Filling<'_> {
    /// Adds what a descriptor names. Empty buffers leave no trace.
    #[inline(always)]
    pub(super) fn add(
        &mut self,
        memory: &GuestMemory,
        segment: Segment,
        writable: bool,
    ) -> Result<(), QueueError> {
        if !memory.contains(segment.ipa, segment.length.into()) {
            return Err(QueueError::BufferOutside);
        }
        // Section 2.7.4.2: what is readable comes first.
        if !writable && self.count != self.readable {
            return Err(QueueError::ReadableAfterWritable);
        }
        if segment.length == 0 {
            return Ok(());
        }
        let place = self
            .chain
            .segments
            .get_mut(self.count)
            .ok_or(QueueError::ChainTooLong)?;
        *place = segment;
        self.count += 1;
        // At most MAX_SEGMENTS times 2^32.
        if writable {
            self.writable_bytes = self.writable_bytes.wrapping_add(segment.length.into());
        } else {
            self.readable = self.count;
            self.readable_bytes = self.readable_bytes.wrapping_add(segment.length.into());
        }
        Ok(())
    }

    /// The chain is that of `head`.
    #[inline(always)]
    pub(super) fn finish(self, head: u16) -> Result<(), QueueError> {
        // Section 2.7.5: no chain is longer than 2^32 bytes in total. Ours stay below for each half.
        if (self.readable_bytes | self.writable_bytes) >> 32 != 0 {
            return Err(QueueError::ChainTooLong);
        }
        self.chain.head = Head(head);
        self.chain.readable = self.readable as u16;
        self.chain.count = self.count as u16;
        self.chain.readable_bytes = self.readable_bytes as u32;
        self.chain.writable_bytes = self.writable_bytes as u32;
        Ok(())
    }
}

/// A place in a list of segments.
#[derive(Clone)]
struct Place<'a> {
    /// What begins at or after this place; the first is entered.
    segments: &'a [Segment],
    /// Bytes of the first that lie before this place; less than its length.
    within: u32,
}

impl<'a> Place<'a> {
    #[inline]
    fn new(segments: &'a [Segment]) -> Self {
        Self {
            segments,
            within: 0,
        }
    }

    /// What lies ahead in the same segment, `limit` bytes at most, and goes past it. `None` at the end.
    #[inline]
    fn next(&mut self, limit: usize) -> Option<Segment> {
        let first = self.segments.first()?;
        let left = first.length - self.within;
        let length = left.min(u32::try_from(limit).unwrap_or(u32::MAX));
        let piece = Segment {
            ipa: Ipa(first.ipa.0 + u64::from(self.within)),
            length,
        };
        if length == left {
            self.segments = &self.segments[1..];
            self.within = 0;
        } else {
            self.within += length;
        }
        Some(piece)
    }

    /// Calls `body(piece, bytes before)` for what lies ahead, `length` bytes or what there is; how much that was.
    #[inline]
    fn each(
        &mut self,
        length: usize,
        mut body: impl FnMut(Segment, usize) -> Result<(), OutOfRange>,
    ) -> Result<usize, OutOfRange> {
        let mut done = 0;
        while done < length
            && let Some(piece) = self.next(length - done)
        {
            body(piece, done)?;
            done += piece.length as usize;
        }
        Ok(done)
    }

    fn remaining(&self) -> usize {
        let all: usize = self.segments.iter().map(|s| s.length as usize).sum();
        all - self.within as usize
    }
}

/// Reads a chain's readable bytes in order, each once.
#[derive(Clone)]
pub struct Reader<'a> {
    memory: &'a GuestMemory,
    place: Place<'a>,
}

impl<'a> Reader<'a> {
    /// Fills `to`, or as much of it as there are bytes; how many.
    #[inline]
    pub fn read(&mut self, to: &mut [u8]) -> Result<usize, OutOfRange> {
        let memory = self.memory;
        self.place.each(to.len(), |piece, done| {
            memory.read(piece.ipa, &mut to[done..done + piece.length as usize])
        })
    }

    /// Passes over `length` bytes, or what there is; how many.
    pub fn skip(&mut self, length: usize) -> usize {
        let mut done = 0;
        while done < length
            && let Some(piece) = self.place.next(length - done)
        {
            done += piece.length as usize;
        }
        done
    }

    /// The next contiguous piece, `limit` bytes at most, which is passed over. `None` at the end.
    pub fn piece(&mut self, limit: usize) -> Option<Segment> {
        (limit > 0).then(|| self.place.next(limit)).flatten()
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> usize {
        self.place.remaining()
    }

    /// The memory that it reads.
    pub fn memory(&self) -> &'a GuestMemory {
        self.memory
    }
}

/// Writes a chain's writable bytes in order.
pub struct Writer<'a> {
    memory: &'a GuestMemory,
    place: Place<'a>,
    written: u32,
}

impl<'a> Writer<'a> {
    /// Writes `from`, or as much of it as there is room for; how many bytes.
    #[inline]
    pub fn write(&mut self, from: &[u8]) -> Result<usize, OutOfRange> {
        let memory = self.memory;
        let done = self.place.each(from.len(), |piece, done| {
            memory.write(piece.ipa, &from[done..done + piece.length as usize])
        })?;
        self.written += done as u32;
        Ok(done)
    }

    /// Copies up to `length` bytes from what `reader` reads, of this or another guest; how many: less than `length` where either ends.
    #[inline]
    pub fn copy(&mut self, reader: &mut Reader<'_>, length: usize) -> Result<usize, OutOfRange> {
        let mut done = 0;
        while done < length
            && let Some(target) = self.place.next(length - done)
        {
            let copied = reader.place.each(target.length as usize, |from, before| {
                let to = Ipa(target.ipa.0 + before as u64);
                reader
                    .memory
                    .copy_to(from.ipa, self.memory, to, from.length as usize)
            })?;
            self.written += copied as u32;
            done += copied;
            if copied < target.length as usize {
                break;
            }
        }
        Ok(done)
    }

    /// The next contiguous piece, `limit` bytes at most, which counts as written. `None` at the end.
    pub fn piece(&mut self, limit: usize) -> Option<Segment> {
        let piece = (limit > 0).then(|| self.place.next(limit)).flatten()?;
        self.written += piece.length;
        Some(piece)
    }

    /// Bytes for which there still is room.
    pub fn remaining(&self) -> usize {
        self.place.remaining()
    }

    /// Bytes written so far: what the driver is told.
    pub fn written(&self) -> u32 {
        self.written
    }

    /// The memory that it writes.
    pub fn memory(&self) -> &'a GuestMemory {
        self.memory
    }
}
