//! What a chain asks of the disk (section 5.2.6): looked at once, and validated whole before anything is done.
//!
//! A request is a header of 16 bytes that the device reads, then data, and in the very last byte that the device may write, its status. A
//! driver may cut that into buffers as it likes (section 2.7.4.3), so bytes are counted here, never buffers.

use super::super::chain::{Chain, Segment};
use super::super::queue::{Queue, QueueError};
use super::config::{MAX_CLEAR_SECTORS, Serial, Shape, feature};
use crate::addr::Ipa;
use crate::memory::{GuestMemory, OutOfRange};
use crate::volume::SECTOR_BYTES;

/// Bytes of the header, and of the one range that a discard names.
const HEADER_BYTES: u32 = 16;
const RANGE_BYTES: u32 = 16;

/// Types of requests.
mod kind {
    pub const IN: u32 = 0;
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

/// The flag of a range to be cleared: it may be given up, too.
const UNMAP: u32 = 1;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// VIRTIO_BLK_S_OK.
    Ok = 0,
    /// VIRTIO_BLK_S_IOERR.
    Failed = 1,
    /// VIRTIO_BLK_S_UNSUPP.
    Unsupported = 2,
}

/// Sectors of a guest's disk, all of which it has; none, perhaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub first: u64,
    /// How many.
    pub sectors: u64,
}

impl Range {
    fn new(first: u64, sectors: u64, shape: &Shape) -> Result<Self, Status> {
        match first.checked_add(sectors) {
            Some(end) if end <= shape.sectors() => Ok(Self { first, sectors }),
            _ => Err(Status::Failed),
        }
    }

    /// Where it begins, bytes.
    pub fn offset(&self) -> u64 {
        self.first * SECTOR_BYTES
    }

    /// Its length, bytes.
    pub fn bytes(&self) -> u64 {
        self.sectors * SECTOR_BYTES
    }
}

/// What is asked for. The data is of exactly the range's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To fill the writable bytes before the status.
    Read(Range),
    /// To keep the readable bytes behind the header.
    Write(Range),
    /// To make safe what was written.
    Flush,
    /// To tell the serial.
    Identify,
    /// To give up a range, of which any content may remain.
    Discard(Range),
    /// To clear a range.
    Clear(Range),
    /// Nothing that could be done: to be answered so.
    Nothing(Status),
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// What is asked for.
    pub asked: Asked,
    status_at: Ipa,
}

/// The chain has no byte for a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Request {
    /// None yet.
    pub const NONE: Self = Self {
        asked: Asked::Nothing(Status::Failed),
        status_at: Ipa(0),
    };

    /// What `chain` asks of a disk of this `shape`.
    #[inline]
    pub fn parse(chain: &Chain, memory: &GuestMemory, shape: &Shape) -> Result<Self, Malformed> {
        let last = chain.writable().last().ok_or(Malformed)?;
        let asked = asked(chain, memory, shape).unwrap_or_else(Asked::Nothing);
        let status_at = Ipa(last.ipa.0 + u64::from(last.length) - 1);
        Ok(Self { asked, status_at })
    }

    /// Tells the driver how it ended. `filled` says that all data that the device was to write is there.
    #[inline]
    pub fn answer(
        &self,
        queue: &mut Queue,
        memory: &GuestMemory,
        chain: &Chain,
        status: Status,
        filled: bool,
    ) -> Result<(), QueueError> {
        memory.write(self.status_at, &[status as u8])?;
        // What counts as written begins at the first writable byte (section 2.7.8.2).
        let written = if filled { chain.writable_bytes() } else { 0 };
        queue.push(memory, chain.head(), written)
    }
}

fn asked(chain: &Chain, memory: &GuestMemory, shape: &Shape) -> Result<Asked, Status> {
    let header = read(chain, memory, 0).ok_or(Status::Failed)?;
    // The word between them was a priority once.
    let (kind, first) = (header as u32, (header >> 64) as u64);
    match kind {
        kind::IN => whole(first, chain.writable_bytes() - 1, shape).map(Asked::Read),
        kind::OUT if shape.has(feature::READ_ONLY) => Err(Status::Failed),
        kind::OUT => whole(first, chain.readable_bytes() - HEADER_BYTES, shape).map(Asked::Write),
        kind::FLUSH => Ok(Asked::Flush),
        kind::GET_ID => Ok(Asked::Identify),
        kind::DISCARD if shape.has(feature::DISCARD) => {
            let (range, flags) = range(chain, memory, shape)?;
            // Section 5.2.6.2: a discard has no flags.
            (flags == 0)
                .then_some(Asked::Discard(range))
                .ok_or(Status::Unsupported)
        }
        kind::WRITE_ZEROES if shape.has(feature::WRITE_ZEROES) => {
            let (range, flags) = range(chain, memory, shape)?;
            (flags & !UNMAP == 0)
                .then_some(Asked::Clear(range))
                .ok_or(Status::Unsupported)
        }
        _ => Err(Status::Unsupported),
    }
}

/// The sectors from `first` on that `bytes` fill.
#[inline]
fn whole(first: u64, bytes: u32, shape: &Shape) -> Result<Range, Status> {
    let bytes = u64::from(bytes);
    if !bytes.is_multiple_of(SECTOR_BYTES) {
        return Err(Status::Failed);
    }
    Range::new(first, bytes / SECTOR_BYTES, shape)
}

/// The one range that a discard or a clearing names, and its flags.
fn range(chain: &Chain, memory: &GuestMemory, shape: &Shape) -> Result<(Range, u32), Status> {
    if chain.readable_bytes() != HEADER_BYTES + RANGE_BYTES {
        return Err(Status::Failed);
    }
    let named = read(chain, memory, HEADER_BYTES).ok_or(Status::Failed)?;
    let (first, sectors, flags) = (named as u64, (named >> 64) as u32, (named >> 96) as u32);
    if sectors > MAX_CLEAR_SECTORS {
        return Err(Status::Failed);
    }
    Ok((Range::new(first, sectors.into(), shape)?, flags))
}

/// The 16 bytes that lie `skip` bytes into what the device reads, as one little-endian number.
#[inline]
fn read(chain: &Chain, memory: &GuestMemory, skip: u32) -> Option<u128> {
    if let Some(first) = chain.readable().first()
        && skip == 0
        && first.length >= 16
        && first.ipa.is_aligned(8)
    {
        // As every driver has its header.
        let low = memory.load_u64(first.ipa).ok()?;
        let high = memory.load_u64(Ipa(first.ipa.0 + 8)).ok()?;
        return Some(u128::from(low) | u128::from(high) << 64);
    }
    let mut bytes = [0; 16];
    let mut reader = chain.reader(memory);
    reader.skip(skip as usize);
    let read = reader.read(&mut bytes).ok()?;
    (read == bytes.len()).then(|| u128::from_le_bytes(bytes))
}

/// The buffers of the data of a read.
pub fn read_data(chain: &Chain, from: u32, length: u32) -> impl Iterator<Item = Segment> {
    stretch(chain.writable(), from, length)
}

/// The buffers of the data of a write.
pub fn write_data(chain: &Chain, from: u32, length: u32) -> impl Iterator<Item = Segment> {
    stretch(chain.readable(), HEADER_BYTES + from, length)
}

/// The `length` bytes that lie `skip` bytes into `segments`, or what there is of them.
#[inline]
fn stretch(segments: &[Segment], skip: u32, length: u32) -> impl Iterator<Item = Segment> {
    let (mut skip, mut left) = (skip, length);
    segments.iter().filter_map(move |segment| {
        let from = skip.min(segment.length);
        skip -= from;
        let length = (segment.length - from).min(left);
        left -= length;
        (length > 0).then(|| Segment {
            ipa: Ipa(segment.ipa.0 + u64::from(from)),
            length,
        })
    })
}

/// Writes the serial, or as much of it as there is room for before the status; whether all of that room is filled.
pub fn identify(chain: &Chain, memory: &GuestMemory, serial: &Serial) -> Result<bool, OutOfRange> {
    let room = chain.writable_bytes() - 1;
    let length = room.min(Serial::BYTES as u32);
    let mut rest = &serial.bytes()[..length as usize];
    for piece in read_data(chain, 0, length) {
        let (now, later) = rest.split_at(piece.length as usize);
        memory.write(piece.ipa, now)?;
        rest = later;
    }
    Ok(length == room)
}
