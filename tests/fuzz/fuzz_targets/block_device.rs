//! A driver that does anything with its disk: registers, rings, requests, resets, while the board's disk completes what it has in any order.
//! No request reaches beyond the guest's RAM or its extent, none is in flight twice or for ever, and a draining reset ends.
#![no_main]

use std::cell::RefCell;

use el2_hyp::addr::{BLOCK_2M, Ipa, PAGE_SIZE, Pa};
use el2_hyp::device::virtio::Served;
use el2_hyp::device::virtio::block::disk::{
    BoardDisk, Flushed, Limits, Operation, Piece, Refused, Tag,
};
use el2_hyp::device::virtio::block::{Block, IN_FLIGHT, Serial, Written};
use el2_hyp::device::virtio::signals::Signals;
use el2_hyp::device::virtio::testing::{Driver, Ram, Register, bring_up};
use el2_hyp::memory::GuestMemory;
use el2_hyp::vgic::Width;
use el2_hyp::volume::overlay::{Overlay, OverlayMemory};
use el2_hyp::volume::{Extent, Sector};
use libfuzzer_sys::fuzz_target;

const BLOCKS: usize = 2;
const QUEUE: u16 = 32;
const SECTORS: u64 = 600;
const FIRST: u64 = 40;
/// Where the driver has its rings, headers, statuses and data.
const RINGS: u64 = 0;
const HEADERS: u64 = 0x1000;
const DATA: u64 = 0x2000;

/// The memory of a guest, and that of an overlay: made once, since that is slow, and zeroed where it was written.
struct Memory {
    ram: Ram,
    overlay: Ram,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::new(Memory { ram: Ram::new(BLOCKS), overlay: Ram::new(1) });
}

fn scrub(memory: &GuestMemory) {
    let log = memory.dirty();
    let dirty: Vec<(usize, u64)> = log.take(0..log.words()).collect();
    for (word, bits) in dirty {
        for bit in (0..64).filter(|bit| bits & 1 << bit != 0) {
            let page = (word as u64 * 64 + bit) * PAGE_SIZE;
            memory
                .write(Ipa(memory.base().0 + page), &[0; PAGE_SIZE as usize])
                .expect("RAM");
        }
    }
    log.clear();
    log.set_on(true);
}

struct Pending {
    tag: Tag,
    operation: Option<Operation>,
    first: u64,
    pieces: Vec<Piece>,
}

struct Disk {
    bytes: Vec<u8>,
    pending: Vec<Pending>,
    room: usize,
    pieces: usize,
    refuses: bool,
    blocks: Vec<Pa>,
}

impl BoardDisk for Disk {
    fn room(&mut self) -> usize {
        self.room.saturating_sub(self.pending.len())
    }

    fn submit(
        &mut self,
        tag: Tag,
        operation: Operation,
        first: Sector,
        pieces: &[Piece],
    ) -> Result<(), Refused> {
        assert!(!pieces.is_empty() && pieces.len() <= self.pieces);
        let mut bytes = 0;
        for piece in pieces {
            let within = self.blocks.iter().any(|block| {
                let start = piece.address.0.wrapping_sub(block.0);
                start < BLOCK_2M && u64::from(piece.bytes) <= BLOCK_2M - start
            });
            assert!(within && piece.bytes > 0, "a piece outside the guest's RAM");
            bytes += u64::from(piece.bytes);
        }
        assert!(bytes.is_multiple_of(512) && first.0 >= FIRST);
        assert!(
            first.0 + bytes / 512 <= FIRST + SECTORS,
            "beyond the extent"
        );
        self.take(tag, Some(operation), first.0, pieces.to_vec())
    }

    fn flush(&mut self, tag: Tag) -> Result<Flushed, Refused> {
        if self.room & 1 == 0 {
            return Ok(Flushed::Needless);
        }
        self.take(tag, None, 0, Vec::new())
            .map(|()| Flushed::Underway)
    }
}

impl Disk {
    fn take(
        &mut self,
        tag: Tag,
        operation: Option<Operation>,
        first: u64,
        pieces: Vec<Piece>,
    ) -> Result<(), Refused> {
        assert!(
            self.pending.iter().all(|pending| pending.tag != tag),
            "a tag twice"
        );
        if self.refuses {
            return Err(Refused);
        }
        self.pending.push(Pending {
            tag,
            operation,
            first,
            pieces,
        });
        Ok(())
    }

    /// Moves the data of a request that was pending.
    fn perform(&mut self, pending: &Pending) {
        let mut at = ((pending.first
            - if pending.operation.is_some() {
                FIRST
            } else {
                0
            })
            * 512) as usize;
        for piece in &pending.pieces {
            let there = &mut self.bytes[at..at + piece.bytes as usize];
            let memory = piece.address.0 as *mut u8;
            // SAFETY: `submit` has seen that the piece lies in the guest's RAM, which no reference covers.
            unsafe {
                match pending.operation {
                    Some(Operation::Read) => memory.copy_from(there.as_ptr(), there.len()),
                    _ => memory.copy_to(there.as_mut_ptr(), there.len()),
                }
            }
            at += there.len();
        }
    }
}

/// The input, byte by byte; zeros behind its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }
    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }
    fn long(&mut self) -> u32 {
        u32::from(self.word()) | u32::from(self.word()) << 16
    }
}

struct Machine<'a> {
    block: Block<'static>,
    signals: Signals,
    ram: &'a Ram,
    driver: Driver,
    disk: Disk,
    made: u64,
}

impl Machine<'_> {
    fn at(&self, offset: u64) -> Ipa {
        Ipa(self.ram.base().0 + offset)
    }

    fn up(&mut self, wanted: u64) {
        let driver = Driver::new(self.at(RINGS), QUEUE, 0);
        let rings = vec![0; Driver::bytes(QUEUE) as usize];
        self.ram.write(self.at(RINGS), &rings).expect("RAM");
        let (block, signals) = (&mut self.block, &self.signals);
        let mut drained = true;
        let features = bring_up(wanted, &[driver.layout()], |register| match register {
            Register::Read(offset) => block.read(offset, Width::Word, signals),
            Register::Write(offset, value) => {
                let written = block.write(offset, Width::Word, value.into(), signals);
                drained &= written != Written::Reset || !block.is_draining();
                0
            }
        });
        assert!(drained || self.block.in_flight() > 0);
        self.driver = Driver::new(self.at(RINGS), QUEUE, features);
    }

    /// A request that is nearly right.
    fn ask(&mut self, input: &mut Input<'_>) {
        let kind = [0, 1, 0, 1, 4, 8, 11, 13][usize::from(input.byte() & 7)];
        let header = self.at(HEADERS + 32 * (self.made % 64));
        let status = Ipa(header.0 + 16 + self.made % 16);
        self.made += 1;
        let first = u64::from(input.word() % 700);
        let bytes = u128::from(kind as u32) | u128::from(first) << 64;
        self.ram.write(header, &bytes.to_le_bytes()).expect("RAM");
        let shape = input.byte();
        let mut data = Vec::new();
        for _ in 0..shape & 7 {
            let place = u64::from(input.word()) * 67;
            let length = match shape >> 3 & 3 {
                0 => u32::from(input.byte() & 15) * 512,
                1 => u32::from(input.word()),
                2 => 16,
                _ => 4096,
            };
            data.push((
                self.at(DATA + place % ((BLOCKS as u64 * BLOCK_2M) - DATA)),
                length,
            ));
        }
        if kind >= 11 {
            let at = self.at(DATA - 16);
            let range = u128::from(input.word() % 700)
                | u128::from(input.word()) << 64
                | u128::from(shape >> 6) << 96;
            self.ram.write(at, &range.to_le_bytes()).expect("RAM");
            data.insert(0, (at, 16));
        }
        let (mut readable, mut writable) = (vec![(header, 16)], vec![(status, 1)]);
        if kind == 0 || kind == 8 {
            writable.splice(0..0, data);
        } else {
            readable.extend(data);
        }
        if shape & 0x20 != 0 {
            let table = self.at(HEADERS + 0x800);
            self.driver
                .add_indirect(self.ram, table, &readable, &writable);
        } else {
            self.driver.add(self.ram, &readable, &writable);
        }
    }

    fn complete(&mut self, index: usize, ok: bool) {
        if self.disk.pending.is_empty() {
            return;
        }
        let pending = self.disk.pending.remove(index % self.disk.pending.len());
        if ok {
            self.disk.perform(&pending);
        }
        self.block
            .complete(self.ram, &self.signals, (pending.tag, ok), &mut self.disk);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let kind = input.byte();
        match kind & 15 {
            0..=3 => self.ask(input),
            4 | 5 => {
                let budget = u32::from(kind >> 4);
                let served = self
                    .block
                    .serve(self.ram, &self.signals, &mut self.disk, budget);
                let waits = self.block.in_flight() > 0 || self.disk.room() == 0;
                assert!(
                    served != Served::Full || waits,
                    "full, and nothing will end that"
                );
            }
            6 | 7 => {
                self.complete(usize::from(kind >> 4), kind & 1 != 0 || kind & 0x10 != 0);
                self.block.finish(self.ram, &self.signals);
            }
            8 => {
                // Into the rings, where it hurts.
                let at = self.at(RINGS + u64::from(input.word() % 0x1200));
                let value = input.long().to_le_bytes();
                let length = 1 + usize::from(kind >> 4) % value.len();
                self.ram.write(at, &value[..length]).expect("RAM");
            }
            9 => self
                .driver
                .make_available(self.ram, input.word() % (QUEUE + 2)),
            10 => {
                let offset = u64::from(input.byte()) << if kind & 0x80 != 0 { 1 } else { 0 };
                self.block
                    .write(offset, Width::Word, input.long().into(), &self.signals);
            }
            11 => {
                let width = [Width::Byte, Width::Half, Width::Word, Width::Double]
                    [usize::from(kind >> 4) & 3];
                self.block
                    .read(u64::from(input.word() & 0x1ff), width, &self.signals);
            }
            12 => {
                self.block
                    .write(0x70, Width::Word, u64::from(kind >> 4) & 7, &self.signals);
                assert!(!self.block.is_draining() || self.block.in_flight() > 0);
            }
            13 => self.up(u64::from(input.long()) << 8 | u64::from(input.long())),
            14 if self.block.in_flight() == 0 && kind >> 4 > 12 => {
                self.block.restart(&self.signals)
            }
            14 if kind >> 4 == 0 => {
                self.disk.pending.clear();
                self.block.lose_disk(self.ram, &self.signals);
                assert_eq!(self.block.in_flight(), 0);
            }
            14 => self.disk.refuses = kind & 0x10 != 0,
            _ => self.disk.room = usize::from(kind >> 4),
        }
    }
}

fn device(shape: u8, pieces: usize, overlay: &Ram) -> Block<'static> {
    let read_only = shape & 2 != 0;
    let serial = Serial::new("fuzzed");
    if shape & 1 != 0 {
        let extent = Extent::new(Sector(FIRST), SECTORS).expect("an extent");
        let limits = Limits {
            pieces,
            flush: shape & 4 != 0,
        };
        return Block::local(extent, limits, read_only, serial);
    }
    // SAFETY: the memory lives as long as the thread, and only this device uses it, until the next is made.
    let frames = unsafe { OverlayMemory::new(overlay.blocks().into()) };
    let overlay = Overlay::new(&[0x5a; 100_000], SECTORS, frames).expect("an overlay");
    Block::ephemeral(overlay, read_only, serial)
}

fn run(input: &mut Input<'_>, memory: &Memory) {
    scrub(&memory.ram);
    let shape = input.byte();
    let pieces = 2 + usize::from(input.byte() % 130);
    let mut machine = Machine {
        block: device(shape, pieces, &memory.overlay),
        signals: Signals::new(),
        ram: &memory.ram,
        driver: Driver::new(Ipa(memory.ram.base().0 + RINGS), QUEUE, 0),
        disk: Disk {
            bytes: vec![0; SECTORS as usize * 512],
            pending: Vec::new(),
            room: 15,
            pieces: pieces.min(126),
            refuses: false,
            blocks: memory.ram.blocks().to_vec(),
        },
        made: 0,
    };
    machine.up(if shape & 8 != 0 { 0 } else { u64::MAX });
    while !input.0.is_empty() {
        machine.step(input);
        assert_eq!(machine.block.in_flight(), machine.disk.pending.len());
        assert!(machine.block.in_flight() <= IN_FLIGHT);
    }
    while !machine.disk.pending.is_empty() {
        machine.complete(0, true);
    }
    assert!(machine.block.in_flight() == 0 && !machine.block.is_draining());
    machine.block.finish(machine.ram, &machine.signals);
}

fuzz_target!(|input: &[u8]| {
    MEMORY.with_borrow(|memory| run(&mut Input(input), memory));
});
