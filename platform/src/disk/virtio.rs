//! A virtio disk (VIRTIO 1.2, section 5.2).
//!
//! Each request has one descriptor in the queue and a [`Slot`] behind it: the header, the status, and the table of descriptors that leads
//! through header, data and status.

use core::array;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use heapless::Vec;

use super::{
    Disk, Failure, Fault, Flush, Interrupts, MAX_SEGMENTS, NotTaken, Operation, SECTOR_BYTES,
    Sector, Segment, Tag,
};
use crate::dma::{self, Memory, PAGE_BYTES, Page, Shared};
use crate::mmio::Mmio;
use crate::virtio::queue::{Access, Descriptor, Head, Queue, Rings};
use crate::virtio::{self, Device, Kind, OpenError, Opening, Registers, feature, register};

/// Requests that a disk has at a time.
pub const SLOTS: usize = 64;

const QUEUE: u16 = 0;

/// Features by bit (section 5.2.3).
const SEG_MAX: u64 = 1 << 2;
const RO: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;

/// The configuration's fields (section 5.2.4).
const CONFIG_CAPACITY: usize = register::CONFIG;
const CONFIG_SEG_MAX: usize = register::CONFIG + 12;

/// Request types (section 5.2.6).
const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
/// Statuses, and one that no device writes.
const STATUS_OK: u8 = 0;
const STATUS_UNSUPPORTED: u8 = 2;
const STATUS_NONE: u8 = 0xff;

/// Header, data, status.
const TABLE: usize = MAX_SEGMENTS + 2;

/// `struct virtio_blk_req` without its data, and the table that leads through it.
#[repr(C, align(64))]
struct Slot {
    table: [Descriptor; TABLE],
    kind: AtomicU32,
    reserved: AtomicU32,
    sector: AtomicU64,
    status: AtomicU8,
}

// SAFETY: atomics.
unsafe impl Shared for Slot {}

const HEADER_BYTES: u32 = 16;

/// How much memory a disk needs, pages.
pub const PAGES: usize =
    (size_of::<Rings<SLOTS>>() + size_of::<[Slot; SLOTS]>()).div_ceil(PAGE_BYTES) + 1;

/// A virtio disk.
pub struct VirtioDisk<R = Mmio> {
    registers: R,
    queue: Queue<SLOTS>,
    slots: &'static [Slot; SLOTS],
    tags: [Tag; SLOTS],
    free: Vec<Head, SLOTS>,
    sectors: Sector,
    most_segments: usize,
    read_only: bool,
    flushes: bool,
    fault: Option<Fault>,
}

/// Opens the disk with [`PAGES`] pages of memory. It interrupts for the first completion.
///
/// # Errors
/// [`OpenError`]; the device lies still then, and never touches the memory.
pub fn open<R: Registers>(
    device: Device<R>,
    pages: &'static mut [Page],
) -> Result<VirtioDisk<R>, OpenError> {
    let mut memory = Memory::new(pages);
    let wished = SEG_MAX | RO | FLUSH | feature::EVENT_INDEX;
    let opening = device.begin(Kind::Block, feature::INDIRECT, wished)?;
    let (sectors, most_segments) = geometry(&opening)?;
    let (read_only, flushes) = (opening.has(RO), opening.has(FLUSH));
    let (queue, heads) = opening.queue(QUEUE, memory.place()?)?;
    let slots = memory.place()?;
    Ok(VirtioDisk {
        registers: opening.finish(),
        queue,
        slots,
        tags: [Tag(0); SLOTS],
        free: Vec::from_array(heads),
        sectors,
        most_segments,
        read_only,
        flushes,
        fault: None,
    })
}

/// Capacity and the most pieces of a request.
fn geometry<R: Registers>(opening: &Opening<R>) -> Result<(Sector, usize), OpenError> {
    let sectors = opening.configuration(|registers| {
        let [low, high] = array::from_fn(|n| u64::from(registers.read(CONFIG_CAPACITY + 4 * n)));
        low | high << 32
    })?;
    if sectors.checked_mul(SECTOR_BYTES).is_none() {
        return Err(OpenError::Configuration);
    }
    // A device that does not say takes one (section 5.2.4 names no default; Linux assumes this).
    let most = if opening.has(SEG_MAX) {
        opening.configuration(|registers| registers.read(CONFIG_SEG_MAX))?
    } else {
        1
    };
    Ok((Sector(sectors), (most as usize).clamp(1, MAX_SEGMENTS)))
}

impl<R: Registers> VirtioDisk<R> {
    /// How many sectors `data` has.
    fn measure(&self, data: &[Segment]) -> Result<u64, NotTaken> {
        if data.is_empty() || data.len() > self.most_segments {
            return Err(NotTaken::Shape);
        }
        let mut bytes = 0u64;
        for segment in data {
            if segment.bytes == 0 {
                return Err(NotTaken::Shape);
            }
            // At most `MAX_SEGMENTS` numbers of 32 bits.
            bytes += u64::from(segment.bytes);
        }
        if bytes.is_multiple_of(SECTOR_BYTES) {
            Ok(bytes / SECTOR_BYTES)
        } else {
            Err(NotTaken::Shape)
        }
    }

    /// Puts a request into a free slot and offers it.
    fn put(
        &mut self,
        tag: Tag,
        kind: u32,
        first: Sector,
        data: &[Segment],
        access: Access,
    ) -> Result<(), NotTaken> {
        if let Some(fault) = self.fault {
            return Err(NotTaken::Broken(fault));
        }
        let head = self.free.pop().ok_or(NotTaken::Full)?;
        let index = head.index() & (SLOTS - 1);
        let slot = &self.slots[index];
        self.tags[index] = tag;
        slot.kind.store(kind.to_le(), Relaxed);
        slot.sector.store(first.0.to_le(), Relaxed);
        slot.status.store(STATUS_NONE, Relaxed);
        let header = (&raw const slot.kind) as u64;
        slot.table[0].set(header, HEADER_BYTES, Access::DeviceReads, Some(1));
        let mut last = 1;
        for (descriptor, segment) in slot.table[1..].iter().zip(data) {
            last += 1;
            descriptor.set(segment.address, segment.bytes, access, Some(last));
        }
        let status = (&raw const slot.status) as u64;
        slot.table[usize::from(last)].set(status, 1, Access::DeviceWrites, None);
        self.queue
            .descriptor(&head)
            .set_table(dma::address(&slot.table), u32::from(last) + 1);
        self.queue.offer(head);
        Ok(())
    }

    fn complete(
        &mut self,
        budget: usize,
        done: &mut impl FnMut(Tag, Result<(), Failure>),
    ) -> Result<usize, Fault> {
        let count = usize::from(self.queue.ready()?).min(budget);
        for _ in 0..count {
            let (head, _) = self.queue.take()?;
            let index = head.index() & (SLOTS - 1);
            let outcome = match self.slots[index].status.load(Relaxed) {
                STATUS_OK => Ok(()),
                STATUS_UNSUPPORTED => Err(Failure::Unsupported),
                _ => Err(Failure::Medium),
            };
            // There are as many places as heads.
            let _ = self.free.push(head);
            done(self.tags[index], outcome);
        }
        Ok(count)
    }

    /// A device that breaks the rules is reset, so that it leaves memory alone, and remembered.
    fn give_up_on_fault<T>(&mut self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        if let Err(fault) = outcome {
            virtio::reset(&self.registers);
            self.fault = Some(fault);
        }
        outcome
    }
}

impl<R: Registers> Disk for VirtioDisk<R> {
    fn sectors(&self) -> Sector {
        self.sectors
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn most_segments(&self) -> usize {
        self.most_segments
    }

    fn room(&self) -> usize {
        self.free.len()
    }

    unsafe fn submit(
        &mut self,
        tag: Tag,
        operation: Operation,
        first: Sector,
        data: &[Segment],
    ) -> Result<(), NotTaken> {
        let count = self.measure(data)?;
        let end = first.0.checked_add(count);
        if end.is_none_or(|end| end > self.sectors.0) {
            return Err(NotTaken::Beyond);
        }
        match operation {
            Operation::Read => self.put(tag, TYPE_IN, first, data, Access::DeviceWrites),
            Operation::Write if self.read_only => Err(NotTaken::ReadOnly),
            Operation::Write => self.put(tag, TYPE_OUT, first, data, Access::DeviceReads),
        }
    }

    fn flush(&mut self, tag: Tag) -> Result<Flush, NotTaken> {
        if !self.flushes {
            return Ok(Flush::Needless);
        }
        self.put(tag, TYPE_FLUSH, Sector(0), &[], Access::DeviceReads)?;
        Ok(Flush::Underway)
    }

    fn kick(&mut self) {
        if self.queue.publish() {
            virtio::notify(&self.registers, QUEUE);
        }
    }

    fn completions(
        &mut self,
        budget: usize,
        mut done: impl FnMut(Tag, Result<(), Failure>),
    ) -> Result<usize, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let outcome = self.complete(budget, &mut done);
        self.give_up_on_fault(outcome)
    }

    fn listen(&mut self) -> Result<bool, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let outcome = self.queue.listen(1);
        self.give_up_on_fault(outcome)
    }

    fn suppress(&mut self) {
        self.queue.suppress();
    }

    fn acknowledge_interrupt(&self) -> Interrupts {
        virtio::acknowledge(&self.registers)
    }
}
