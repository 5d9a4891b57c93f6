//! A guest with a disk: its memory, its driver, the device, and what is behind it.

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use crate::addr::{BLOCK_2M, Ipa, Pa};
use crate::device::virtio::Served;
use crate::device::virtio::block::disk::{
    BoardDisk, Flushed, Limits, Operation, Piece, Refused, Tag,
};
use crate::device::virtio::block::{Block, Serial, Written};
use crate::device::virtio::signals::Signals;
use crate::device::virtio::testing::{Buffer, Driver, Ram, Register, bring_up};
use crate::vgic::Width;
use crate::volume::overlay::{Overlay, OverlayMemory};
use crate::volume::{Extent, Sector};

pub const IN: u32 = 0;
pub const OUT: u32 = 1;
pub const FLUSH: u32 = 4;
pub const GET_ID: u32 = 8;
pub const DISCARD: u32 = 11;
pub const WRITE_ZEROES: u32 = 13;

pub const OK: u8 = 0;
pub const FAILED: u8 = 1;
pub const UNSUPPORTED: u8 = 2;
/// What a status byte is before it is written.
pub const UNTOLD: u8 = 0xee;

pub const ALL_FEATURES: u64 = u64::MAX;
pub const STATUS: u64 = 0x70;
pub const QUEUE_SIZE: u16 = 64;

/// Where the guest has things: the rings; a header and a status for each request; data from the middle of the first block on, so that it
/// crosses into the second.
pub const RINGS: u64 = 0;
pub const HEADERS: u64 = 0x1_0000;
pub const STATUSES: u64 = 0x2_0000;
pub const DATA: u64 = 0x10_0000;

/// A request that the disk has.
pub struct Pending {
    pub tag: Tag,
    /// `None` for a flush.
    pub operation: Option<Operation>,
    pub first: Sector,
    pub pieces: Vec<Piece>,
}

/// The board's disk: it has what it is told, and does it when the test says so.
pub struct Disk {
    pub bytes: Vec<u8>,
    pub pending: Vec<Pending>,
    pub depth: usize,
    pub refuses: bool,
    pub needless: bool,
}

impl Disk {
    pub fn new(sectors: u64) -> Self {
        Self {
            bytes: vec![0; sectors as usize * 512],
            pending: Vec::new(),
            depth: 1000,
            refuses: false,
            needless: false,
        }
    }

    /// Does the request at `index` of those that are pending, and gives its tag.
    pub fn perform(&mut self, index: usize) -> Pending {
        let pending = self.pending.remove(index);
        let mut at = pending.first.0 as usize * 512;
        for piece in &pending.pieces {
            let length = piece.bytes as usize;
            let there = &mut self.bytes[at..at + length];
            let memory = piece.address.0 as *mut u8;
            // SAFETY: the device hands over pieces of the test's RAM, whose guards tell if it does not; no reference covers it.
            unsafe {
                match pending.operation {
                    Some(Operation::Read) => memory.copy_from(there.as_ptr(), length),
                    Some(Operation::Write) => memory.copy_to(there.as_mut_ptr(), length),
                    None => {}
                }
            }
            at += length;
        }
        pending
    }
}

impl BoardDisk for Disk {
    fn room(&mut self) -> usize {
        self.depth - self.pending.len()
    }

    fn submit(
        &mut self,
        tag: Tag,
        operation: Operation,
        first: Sector,
        pieces: &[Piece],
    ) -> Result<(), Refused> {
        if self.refuses {
            return Err(Refused);
        }
        let bytes: u64 = pieces.iter().map(|piece| u64::from(piece.bytes)).sum();
        assert!(bytes > 0 && bytes.is_multiple_of(512));
        assert!(first.0 * 512 + bytes <= self.bytes.len() as u64);
        assert!(self.pending.iter().all(|pending| pending.tag != tag));
        self.pending.push(Pending {
            tag,
            operation: Some(operation),
            first,
            pieces: pieces.to_vec(),
        });
        Ok(())
    }

    fn flush(&mut self, tag: Tag) -> Result<Flushed, Refused> {
        if self.refuses {
            return Err(Refused);
        }
        if self.needless {
            return Ok(Flushed::Needless);
        }
        self.pending.push(Pending {
            tag,
            operation: None,
            first: Sector(0),
            pieces: Vec::new(),
        });
        Ok(Flushed::Underway)
    }
}

/// The guest and all that it needs.
pub struct Scene {
    // The device goes before what it refers to.
    pub block: Block<'static>,
    pub signals: Signals,
    pub ram: Ram,
    pub driver: Driver,
    pub disk: Disk,
    _overlay: Option<Ram>,
    made: u64,
}

pub const LIMITS: Limits = Limits {
    pieces: 126,
    flush: true,
};

impl Scene {
    /// A disk of `sectors` in memory, over `image`.
    pub fn ephemeral(image: &'static [u8], sectors: u64) -> Self {
        let bytes = Overlay::memory_for(sectors).unwrap();
        // Another's RAM is as good as any memory.
        let backing = Ram::new(bytes.div_ceil(BLOCK_2M) as usize);
        let blocks: Box<[Pa]> = backing.blocks().into();
        // SAFETY: the scene keeps the RAM, and touches it through the overlay alone.
        let memory = unsafe { OverlayMemory::new(blocks) };
        let overlay = Overlay::new(image, sectors, memory).unwrap();
        let block = Block::ephemeral(overlay, false, Serial::new("a-disk"));
        Self::new(block, Some(backing))
    }

    /// A disk of the `sectors` from `first` on of a board's disk.
    pub fn local(first: u64, sectors: u64) -> Self {
        let extent = Extent::new(Sector(first), sectors).unwrap();
        let block = Block::local(extent, LIMITS, false, Serial::new("a-disk"));
        Self::new(block, None)
    }

    pub fn new(block: Block<'static>, overlay: Option<Ram>) -> Self {
        let ram = Ram::new(2);
        let sectors = block.extent().map_or(1, |extent| extent.end().0 + 10);
        let driver = Driver::new(Ipa(ram.base().0 + RINGS), QUEUE_SIZE, 0);
        let mut scene = Self {
            block,
            signals: Signals::new(),
            ram,
            driver,
            disk: Disk::new(sectors),
            _overlay: overlay,
            made: 0,
        };
        scene.up(ALL_FEATURES);
        scene
    }

    pub fn at(&self, offset: u64) -> Ipa {
        Ipa(self.ram.base().0 + offset)
    }

    /// The driver brings the device up with these features at most.
    pub fn up(&mut self, wanted: u64) -> u64 {
        let rings = vec![0; Driver::bytes(QUEUE_SIZE) as usize];
        self.ram.write(self.at(RINGS), &rings).unwrap();
        let driver = Driver::new(self.at(RINGS), QUEUE_SIZE, 0);
        let (block, signals) = (&mut self.block, &self.signals);
        let features = bring_up(wanted, &[driver.layout()], |register| match register {
            Register::Read(offset) => block.read(offset, Width::Word, signals),
            Register::Write(offset, value) => {
                block.write(offset, Width::Word, value.into(), signals);
                0
            }
        });
        self.driver = Driver::new(self.at(RINGS), QUEUE_SIZE, features);
        features
    }

    pub fn status(&self) -> u64 {
        self.block.read(STATUS, Width::Word, &self.signals)
    }

    pub fn set_status(&mut self, status: u64) -> Written {
        self.block.write(STATUS, Width::Word, status, &self.signals)
    }

    /// A header in memory.
    pub fn header(&mut self, kind: u32, sector: u64) -> Buffer {
        let at = self.at(HEADERS + 16 * (self.made % 64));
        let header = u128::from(kind) | u128::from(sector) << 64;
        self.ram.write(at, &header.to_le_bytes()).unwrap();
        (at, 16)
    }

    /// Room for a status.
    pub fn status_room(&mut self) -> Buffer {
        let at = self.at(STATUSES + self.made % 64);
        self.made += 1;
        self.ram.write(at, &[UNTOLD]).unwrap();
        (at, 1)
    }

    /// Makes a request available as Linux does: a buffer for the header, buffers for data, and one for the status. Where the status is.
    pub fn ask(&mut self, kind: u32, sector: u64, data: &[Buffer]) -> Ipa {
        let header = self.header(kind, sector);
        let status = self.status_room();
        let (mut readable, mut writable) = (vec![header], vec![]);
        match kind {
            IN | GET_ID => writable.extend(data),
            _ => readable.extend(data),
        }
        writable.push(status);
        self.driver.add(&self.ram, &readable, &writable).unwrap();
        status.0
    }

    pub fn serve(&mut self) -> Served {
        self.block
            .serve(&self.ram, &self.signals, &mut self.disk, 1000)
    }

    pub fn serve_all(&mut self) {
        assert_eq!(self.serve(), Served::Rest);
    }

    /// The disk is done with the request at `index` of those that are pending.
    pub fn complete(&mut self, index: usize, ok: bool) {
        let tag = if ok {
            self.disk.perform(index).tag
        } else {
            self.disk.pending.remove(index).tag
        };
        self.block
            .complete(&self.ram, &self.signals, (tag, ok), &mut self.disk);
        self.block.finish(&self.ram, &self.signals);
    }

    pub fn complete_all(&mut self) {
        while !self.disk.pending.is_empty() {
            self.complete(0, true);
        }
    }

    /// Asks, serves, completes; the status, and what the driver is told was written.
    pub fn exchange(&mut self, kind: u32, sector: u64, data: &[Buffer]) -> (u8, u32) {
        let status = self.ask(kind, sector, data);
        self.serve_all();
        self.complete_all();
        let (_, written) = self.driver.take(&self.ram).expect("an answer");
        (self.bytes(status, 1)[0], written)
    }

    pub fn bytes(&self, at: Ipa, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.ram.read(at, &mut bytes).unwrap();
        bytes
    }
}
