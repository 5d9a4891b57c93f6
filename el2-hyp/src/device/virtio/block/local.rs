//! A disk that is an extent of the board's: requests are handed on, and come back.
//!
//! The board's disk reads and writes the guest's memory where it is. A request keeps its slot, with the chain as it was validated, until it
//! comes back, whatever the guest does meanwhile; so what was validated is what is marked as written and answered. After a reset
//! slots are orphans: they still wait, and are then freed without a trace in the guest's rings.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::super::chain::Chain;
use super::super::queue::{Queue, QueueError};
use super::Counters;
use super::config::Shape;
use super::disk::{BoardDisk, Flushed, Limits, MAX_PIECES, Operation, Piece, Tag};
use super::request::{Asked, Range, Request, Status, identify, read_data, write_data};
use crate::memory::GuestMemory;
use crate::volume::Extent;

/// Most requests of one device that the board's disk has at a time.
pub const IN_FLIGHT: usize = 16;

/// The pieces of one request.
type Pieces = heapless::Vec<Piece, MAX_PIECES>;

/// A request's place while it is being served.
struct Slot {
    chain: Chain,
    request: Request,
    /// The queue from which it came has been stopped.
    orphan: bool,
    /// It is a write that is done, and being made safe.
    flushing: bool,
}

/// The disk and its requests in flight.
pub struct Local {
    extent: Extent,
    limits: Limits,
    slots: Box<[Slot]>,
    /// A bit for each slot that no request has.
    free: u32,
    /// Room for the pieces of the request that is being submitted.
    pieces: Box<Pieces>,
    /// Whether the driver flushes by itself; else each write is made safe before it is said to be done (section 5.2.5.1).
    driver_flushes: bool,
}

const ALL_FREE: u32 = (1 << IN_FLIGHT) - 1;

/// What happened to a request.
enum Next {
    /// The board's disk has it.
    InFlight,
    /// It is done.
    Done(Status, bool),
}

impl Next {
    const OK: Self = Self::Done(Status::Ok, true);
    const FAILED: Self = Self::Done(Status::Failed, false);
}

impl Local {
    /// The disk, at rest.
    pub fn new(extent: Extent, limits: Limits) -> Self {
        let mut slots = Vec::with_capacity(IN_FLIGHT);
        slots.resize_with(IN_FLIGHT, || Slot {
            chain: Chain::new(),
            request: Request::NONE,
            orphan: false,
            flushing: false,
        });
        Self {
            extent,
            limits: Limits {
                pieces: limits.pieces.min(MAX_PIECES),
                ..limits
            },
            slots: slots.into_boxed_slice(),
            free: ALL_FREE,
            pieces: Box::new(Pieces::new()),
            driver_flushes: false,
        }
    }

    /// Where it lies.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// How many requests the board's disk has.
    pub fn in_flight(&self) -> usize {
        (ALL_FREE & !self.free).count_ones() as usize
    }

    /// A driver begins, and flushes by itself, or does not.
    pub fn start(&mut self, driver_flushes: bool) {
        self.driver_flushes = driver_flushes;
    }

    /// What is in flight is nobody's any more.
    pub fn stop(&mut self) {
        for slot in &mut self.slots {
            slot.orphan = true;
        }
    }

    /// The tags that are in flight.
    pub fn tags(&self) -> impl Iterator<Item = Tag> + use<> {
        let busy = ALL_FREE & !self.free;
        (0..IN_FLIGHT as u32)
            .filter(move |index| busy & 1 << index != 0)
            .map(Tag)
    }

    /// Takes the next request and hands it on, or answers it; whether there was room for it.
    pub fn take(
        &mut self,
        queue: &mut Queue,
        memory: &GuestMemory,
        shape: &Shape,
        counters: &mut Counters,
        disk: &mut impl BoardDisk,
    ) -> Result<bool, QueueError> {
        if self.free == 0 || disk.room() == 0 {
            return Ok(false);
        }
        let index = self.free.trailing_zeros();
        let slot = &mut self.slots[index as usize];
        if !queue.pop(memory, &mut slot.chain)? {
            return Ok(true);
        }
        let Ok(request) = Request::parse(&slot.chain, memory, shape) else {
            counters.malformed += 1;
            queue.push(memory, slot.chain.head(), 0)?;
            return Ok(true);
        };
        (slot.request, slot.orphan, slot.flushing) = (request, false, false);
        match self.hand_on(index, memory, shape, disk) {
            Next::InFlight => self.free &= !(1 << index),
            Next::Done(status, filled) => {
                let chain = &self.slots[index as usize].chain;
                counters.count(&request.asked, status);
                request.answer(queue, memory, chain, status, filled)?;
            }
        }
        Ok(true)
    }

    /// Begins a request, or does it.
    #[inline]
    fn hand_on(
        &mut self,
        index: u32,
        memory: &GuestMemory,
        shape: &Shape,
        disk: &mut impl BoardDisk,
    ) -> Next {
        let slot = &self.slots[index as usize];
        match slot.request.asked {
            Asked::Read(range) => self.submit(index, Operation::Read, range, memory, disk),
            Asked::Write(range) => self.submit(index, Operation::Write, range, memory, disk),
            Asked::Flush => self.flush(index, disk),
            Asked::Identify => match identify(&slot.chain, memory, shape.serial()) {
                Ok(filled) => Next::Done(Status::Ok, filled),
                Err(_) => Next::FAILED,
            },
            // Not offered.
            Asked::Discard(_) | Asked::Clear(_) => Next::Done(Status::Unsupported, false),
            Asked::Nothing(status) => Next::Done(status, false),
        }
    }

    #[inline]
    fn submit(
        &mut self,
        index: u32,
        operation: Operation,
        range: Range,
        memory: &GuestMemory,
        disk: &mut impl BoardDisk,
    ) -> Next {
        if range.sectors == 0 {
            return Next::OK;
        }
        let chain = &self.slots[index as usize].chain;
        // Both came from a length of 32 bits.
        let length = range.bytes() as u32;
        self.pieces.clear();
        let cut = match operation {
            Operation::Read => cut(&mut self.pieces, memory, read_data(chain, 0, length)),
            Operation::Write => cut(&mut self.pieces, memory, write_data(chain, 0, length)),
        };
        let part = self.extent.part(range.first, range.sectors);
        let (Some(()), Some(part)) = (cut, part) else {
            return Next::FAILED;
        };
        if self.pieces.len() > self.limits.pieces {
            return Next::FAILED;
        }
        match disk.submit(Tag(index), operation, part.first(), &self.pieces) {
            Ok(()) => Next::InFlight,
            Err(_) => Next::FAILED,
        }
    }

    fn flush(&self, index: u32, disk: &mut impl BoardDisk) -> Next {
        if !self.limits.flush {
            return Next::OK;
        }
        match disk.flush(Tag(index)) {
            Ok(Flushed::Underway) => Next::InFlight,
            Ok(Flushed::Needless) => Next::OK,
            Err(_) => Next::FAILED,
        }
    }

    /// The request of `tag` has come back.
    pub fn complete(
        &mut self,
        queue: &mut Queue,
        memory: &GuestMemory,
        counters: &mut Counters,
        (tag, ok): (Tag, bool),
        disk: &mut impl BoardDisk,
    ) -> Result<(), QueueError> {
        let index = tag.0;
        if index as usize >= IN_FLIGHT || self.free & 1 << index != 0 {
            // Not one of ours: the board's disk is wrong, and nothing of ours is changed by that.
            return Ok(());
        }
        let slot = &mut self.slots[index as usize];
        let request = slot.request;
        if let Asked::Read(range) = request.asked
            && memory.dirty().is_on()
        {
            // Also if it failed: a part may have been written.
            for piece in read_data(&slot.chain, 0, range.bytes() as u32) {
                memory.mark_written(piece.ipa, piece.length.into())?;
            }
        }
        let unsafe_yet = ok && !slot.orphan && !self.driver_flushes && !slot.flushing;
        if unsafe_yet && matches!(request.asked, Asked::Write(_)) {
            slot.flushing = true;
            match self.flush(index, disk) {
                Next::InFlight => return Ok(()),
                Next::Done(status, _) => return self.end(index, queue, memory, counters, status),
            }
        }
        let status = if ok { Status::Ok } else { Status::Failed };
        self.end(index, queue, memory, counters, status)
    }

    /// Answers a request that was in flight, and frees its slot.
    #[inline]
    fn end(
        &mut self,
        index: u32,
        queue: &mut Queue,
        memory: &GuestMemory,
        counters: &mut Counters,
        status: Status,
    ) -> Result<(), QueueError> {
        self.free |= 1 << index;
        let slot = &self.slots[index as usize];
        if slot.orphan {
            return Ok(());
        }
        counters.count(&slot.request.asked, status);
        let filled = status == Status::Ok;
        slot.request
            .answer(queue, memory, &slot.chain, status, filled)
    }
}

/// Adds to `pieces` where `buffers` lie in the board's memory; `None` if there are too many.
#[inline]
fn cut(
    pieces: &mut Pieces,
    memory: &GuestMemory,
    buffers: impl Iterator<Item = super::super::chain::Segment>,
) -> Option<()> {
    for buffer in buffers {
        let (mut ipa, mut left) = (buffer.ipa, buffer.length);
        while left > 0 {
            let (address, bytes) = memory.physical(ipa, left).ok()?;
            pieces.push(Piece { address, bytes }).ok()?;
            ipa.0 += u64::from(bytes);
            left -= bytes;
        }
    }
    Some(())
}
