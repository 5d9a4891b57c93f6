//! A disk, driven by polling.

use core::ptr::NonNull;

use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceStatus, Transport};

use super::{CHOSEN, Queue, negotiate, pages};

/// Bytes of a request's data.
pub const BLOCK: usize = 4096;
/// Requests that a disk holds.
pub const SLOTS: usize = 32;
/// Sectors of a block.
const SECTORS: u64 = (BLOCK / 512) as u64;
/// Three descriptors for a request: header, data, status.
const ENTRIES: usize = 128;
const QUEUE: u16 = 0;
/// The status before the disk wrote one.
const NO_STATUS: u8 = 0xff;

/// Which way the data goes, by the standard's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// To memory.
    Read = 0,
    /// To the disk.
    Write = 1,
}

/// An open disk.
pub struct Disk {
    device: MmioTransport<'static>,
    queue: Queue<ENTRIES>,
    blocks: u64,
    /// A page of data for each request, and one for all headers and statuses.
    data: NonNull<u8>,
    control: NonNull<u8>,
    of_token: [u8; ENTRIES],
    operations: [Operation; SLOTS],
    busy: [bool; SLOTS],
}

impl Disk {
    /// Opens the disk; it does not interrupt. `None` where it is not as the standard says.
    pub fn open(mut device: MmioTransport<'static>) -> Option<Self> {
        negotiate(&mut device, 0)?;
        let low: u32 = device.read_config_space(0).ok()?;
        let high: u32 = device.read_config_space(4).ok()?;
        let sectors = u64::from(low) | u64::from(high) << 32;
        let mut queue = Queue::new(&mut device, QUEUE, false, false).ok()?;
        queue.set_dev_notify(false);
        device.set_status(CHOSEN | DeviceStatus::DRIVER_OK);
        Some(Self {
            device,
            queue,
            blocks: sectors / SECTORS,
            data: pages(SLOTS)?,
            control: pages(1)?,
            of_token: [0; ENTRIES],
            operations: [Operation::Read; SLOTS],
            busy: [false; SLOTS],
        })
    }

    /// Whole blocks that it has.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The data of a request.
    ///
    /// # Panics
    /// If the disk has it, or there is none of that number.
    pub fn data(&mut self, request: usize) -> &mut [u8] {
        assert!(!self.busy[request]);
        self.parts(request).1
    }

    /// Header, data and status of a request, which the caller knows not to be the disk's or to become so.
    fn parts(&self, request: usize) -> (&'static mut [u8], &'static mut [u8], &'static mut [u8]) {
        assert!(request < SLOTS);
        // SAFETY: parts of memory that is never given back and that this disk alone has; one request's at a time.
        unsafe {
            let control = self.control.as_ptr().add(request * 32);
            (
                core::slice::from_raw_parts_mut(control, 16),
                core::slice::from_raw_parts_mut(self.data.as_ptr().add(request * BLOCK), BLOCK),
                core::slice::from_raw_parts_mut(control.add(16), 1),
            )
        }
    }

    /// Begins a request, of which the disk is not told yet.
    ///
    /// # Panics
    /// If it is under way.
    pub fn submit(&mut self, request: usize, operation: Operation, block: u64) {
        assert!(!self.busy[request]);
        let (header, data, status) = self.parts(request);
        header[..4].copy_from_slice(&(operation as u32).to_le_bytes());
        header[4..8].fill(0);
        header[8..].copy_from_slice(&(block * SECTORS).to_le_bytes());
        status[0] = NO_STATUS;
        // SAFETY: the parts are not touched before the disk gives them back.
        let token = unsafe {
            match operation {
                Operation::Read => self.queue.add(&[header], &mut [data, status]),
                Operation::Write => self.queue.add(&[header, data], &mut [status]),
            }
        };
        let token = token.expect("room for each request");
        self.of_token[usize::from(token)] = request as u8;
        self.operations[request] = operation;
        self.busy[request] = true;
    }

    /// Tells the disk what was begun, if it wants to know.
    pub fn kick(&mut self) {
        if self.queue.should_notify() {
            self.device.notify(QUEUE);
        }
    }

    /// A request that is complete, and whether it went well.
    pub fn complete(&mut self) -> Option<(usize, bool)> {
        let token = self.queue.peek_used()?;
        let request = usize::from(self.of_token[usize::from(token)]);
        let (header, data, status) = self.parts(request);
        // SAFETY: the same parts as when it was begun.
        let popped = unsafe {
            match self.operations[request] {
                Operation::Read => self
                    .queue
                    .pop_used(token, &[header], &mut [data, &mut *status]),
                Operation::Write => {
                    self.queue
                        .pop_used(token, &[header, data], &mut [&mut *status])
                }
            }
        };
        popped.expect("a request");
        self.busy[request] = false;
        Some((request, status[0] == 0))
    }
}
