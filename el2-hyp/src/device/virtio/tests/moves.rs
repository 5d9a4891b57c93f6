//! Devices that move: two guests do the same, one stays and the other's devices become bytes and devices again between its steps. Nothing that a guest
//! can see tells the two apart: neither their memory, nor what left them, nor their registers.

mod golden;

use proptest::prelude::*;
use std::boxed::Box;
use std::vec::Vec;

use crate::addr::{BLOCK_2M, Ipa, Pa};
use crate::device::pl011::Sink;
use crate::device::virtio::block::disk::NoDisk;
use crate::device::virtio::block::{Block, Serial};
use crate::device::virtio::console::{self, Console};
use crate::device::virtio::net::{self, Control, Receive, Sent, Transmit};
use crate::device::virtio::signals::Signals;
use crate::device::virtio::testing::{Driver, Ram, Register, bring_up};
use crate::device::virtio::{DeviceId, block, feature};
use crate::frame::{Frame, Mac};
use crate::record::codec::{Decoder, Encoder};
use crate::record::content::{put_blocks, write_blocks};
use crate::record::device::{Arrived, Parts, begin};
use crate::record::section::Section;
use crate::record::units::{Packer, Units};
use crate::record::{MAX_SECTION, Writer};
use crate::vgic::Width;
use crate::volume::overlay::{Overlay, OverlayMemory};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);
const SIZE: u16 = 16;
const DISK_SECTORS: u64 = 1000;
const DATA: u64 = 0x10_0000;

/// What a guest has sent, and whether its line takes more.
#[derive(Default)]
struct Line(Vec<u8>, usize);

impl Sink for Line {
    fn put(&mut self, byte: u8) {
        self.0.push(byte);
        self.1 = self.1.saturating_sub(1);
    }
    fn is_full(&self) -> bool {
        self.1 == 0
    }
}

struct Guest {
    ram: Ram,
    signals: [Signals; 3],
    console: Console,
    card: (Control, Transmit, Receive),
    // Before the memory that its overlay is in.
    block: Block<'static>,
    backing: Ram,
    /// Console receive and transmit; card receive, transmit and control; the disk's.
    drivers: [Driver; 6],
    line: Line,
    frames: Vec<Vec<u8>>,
    made: u64,
}

static IMAGE: [u8; 9000] = [0x5a; 9000];

fn disk() -> (Block<'static>, Ram) {
    let bytes = Overlay::memory_for(DISK_SECTORS).unwrap();
    let backing = Ram::new(bytes.div_ceil(BLOCK_2M) as usize);
    let blocks: Box<[Pa]> = backing.blocks().into();
    // SAFETY: the guest keeps the RAM, and touches it through the overlay alone.
    let memory = unsafe { OverlayMemory::new(blocks) };
    let overlay = Overlay::new(&IMAGE, DISK_SECTORS, memory).unwrap();
    (Block::ephemeral(overlay, false, Serial::new("it")), backing)
}

impl Guest {
    fn new(event_index: bool) -> Self {
        let wanted = if event_index {
            u64::MAX
        } else {
            !feature::EVENT_IDX
        };
        let ram = Ram::new(4);
        let features = wanted & feature::EVENT_IDX;
        let driver = |n: u64| Driver::new(Ipa(ram.base().0 + n * 0x1000), SIZE, features);
        let drivers = [0, 1, 2, 3, 4, 5].map(driver);
        let (block, backing) = disk();
        let mut it = Self {
            signals: [const { Signals::new() }; 3],
            console: Console::new(),
            card: (Control::new(MAC), Transmit::new(), Receive::new()),
            block,
            backing,
            drivers,
            line: Line::default(),
            frames: Vec::new(),
            made: 0,
            ram,
        };
        for device in 0..3 {
            let layouts: Vec<_> = it.drivers[[0, 2, 5][device]..[2, 5, 6][device]]
                .iter()
                .map(Driver::layout)
                .collect();
            bring_up(wanted, &layouts, |access| it.access(device, access));
        }
        it
    }

    fn access(&mut self, device: usize, access: Register) -> u64 {
        let signals = &self.signals[device];
        let (control, transmit, receive) = &mut self.card;
        match (device, access) {
            (0, Register::Read(at)) => self.console.read(at, Width::Word, signals),
            (1, Register::Read(at)) => control.read(at, Width::Word, signals),
            (_, Register::Read(at)) => self.block.read(at, Width::Word, signals),
            (0, Register::Write(at, value)) => {
                self.console
                    .write(at, Width::Word, value.into(), signals, &mut self.line);
                0
            }
            (1, Register::Write(at, value)) => {
                let written = control.write(&self.ram, at, Width::Word, value.into(), signals);
                control.carry_out(written, transmit, receive, signals);
                0
            }
            (_, Register::Write(at, value)) => {
                self.block.write(at, Width::Word, value.into(), signals);
                0
            }
        }
    }

    /// A buffer, filled in a way of its own; nothing reuses it within one test.
    fn buffer(&mut self, length: u32) -> (Ipa, u32) {
        let at = self.ram.base().0 + DATA + self.made;
        self.made += u64::from(length).next_multiple_of(512);
        let bytes: Vec<u8> = (0..length)
            .map(|n| (n as u64 * 31 + self.made) as u8)
            .collect();
        self.ram.write(Ipa(at), &bytes).unwrap();
        (Ipa(at), length)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Say(length) => {
                let buffer = self.buffer(length);
                self.drivers[1].add(&self.ram, &[buffer], &[]);
            }
            Step::Listen(length) => {
                let buffer = self.buffer(length);
                self.drivers[0].add(&self.ram, &[], &[buffer]);
            }
            Step::Type(byte) => {
                let _ = self.console.receive(byte);
            }
            Step::Console(room) => {
                self.line.1 += room;
                for queue in [console::RECEIVE, console::TRANSMIT] {
                    let _ = self
                        .console
                        .notify(queue, &self.ram, &self.signals[0], &mut self.line);
                }
            }
            Step::Send(length) => {
                let header = self.buffer(12);
                self.ram.write(header.0, &[0; 12]).unwrap();
                let buffer = self.buffer(length);
                self.drivers[3].add(&self.ram, &[header, buffer], &[]);
            }
            Step::Give(length) => {
                let buffer = self.buffer(length);
                self.drivers[2].add(&self.ram, &[], &[buffer]);
            }
            Step::Forward(budget, room) => self.forward(budget, room),
            Step::Deliver => {
                let frame: Vec<u8> = (0..200).map(|n| n as u8).collect();
                let frame = Frame::finished(&frame).unwrap();
                let _ = self.card.2.deliver(&self.ram, &frame).unwrap();
                if self.card.2.should_interrupt(&self.ram).unwrap() {
                    self.signals[1].used();
                }
            }
            Step::Announce => {
                self.card.0.announce(&self.signals[1]);
            }
            Step::Confirm => self.confirm(),
            Step::Disk(kind, sector, sectors) => self.ask(kind, sector, sectors),
            Step::Serve(budget) => {
                let _ = self
                    .block
                    .serve(&self.ram, &self.signals[2], &mut NoDisk, budget);
            }
            Step::Take(queue) => while self.drivers[queue].take(&self.ram).is_some() {},
            Step::Rest(queue) => {
                self.drivers[queue].enable_interrupts(&self.ram);
            }
            Step::Acknowledge(device) => {
                self.access(device, Register::Write(0x64, 3));
            }
            Step::Line(device) => {
                self.signals[device].take_line_change();
            }
            Step::Reset(device) => {
                self.access(device, Register::Write(0x70, 0));
            }
        }
    }

    fn forward(&mut self, budget: usize, room: usize) {
        let (frames, mut room) = (&mut self.frames, room);
        let served = self.card.1.serve(&self.ram, budget, |frame| {
            if room == 0 {
                return Sent::Wait;
            }
            room -= 1;
            frames.push(frame.map_or(Vec::new(), |frame| {
                let mut to = [0; crate::frame::MAX_WIRE];
                let length = frame.finish().write_next(&mut to).unwrap_or(0);
                to[..length].to_vec()
            }));
            Sent::Done
        });
        served.unwrap();
        if self.card.1.should_interrupt(&self.ram).unwrap() {
            self.signals[1].used();
        }
    }

    fn confirm(&mut self) {
        let command = self.buffer(2);
        self.ram.write(command.0, &[3, 0]).unwrap();
        let answer = self.buffer(1);
        self.drivers[4].add(&self.ram, &[command], &[answer]);
        self.access(1, Register::Write(0x50, net::CONTROL.into()));
    }

    /// Asks the disk: to read, to write, to give up, to clear.
    fn ask(&mut self, kind: usize, sector: u64, sectors: u32) {
        let number = [0_u32, 1, 11, 13][kind % 4];
        let header = self.buffer(16);
        let first = if number < 11 { sector } else { 0 };
        let bytes = u128::from(number) | u128::from(first) << 64;
        self.ram.write(header.0, &bytes.to_le_bytes()).unwrap();
        let data = self.buffer(if number < 11 { sectors * 512 } else { 16 });
        if number >= 11 {
            let range = u128::from(sector) | u128::from(sectors) << 64;
            self.ram.write(data.0, &range.to_le_bytes()).unwrap();
        }
        let status = self.buffer(1);
        if number == 0 {
            self.drivers[5].add(&self.ram, &[header], &[data, status]);
        } else {
            self.drivers[5].add(&self.ram, &[header, data], &[status]);
        }
    }

    /// To another board: every device, and the disk's blocks, as bytes and back.
    fn travel(&mut self) {
        let bytes = encode(|to| {
            begin(DeviceId::Console, &self.signals[0], to);
            self.console.to_record(to);
        });
        let Parts::Console(console) = self.arrive(0, DeviceId::Console, &bytes) else {
            unreachable!()
        };
        self.console = *console;
        let bytes = encode(|to| {
            begin(DeviceId::Network, &self.signals[1], to);
            net::record::to_record(&self.card.0, &self.card.1, &self.card.2, to);
        });
        let Parts::Network(card) = self.arrive(1, DeviceId::Network, &bytes) else {
            unreachable!()
        };
        self.card = (card.control, card.transmit, card.receive);
        self.travel_disk();
    }

    fn travel_disk(&mut self) {
        let bytes = encode(|to| {
            begin(DeviceId::Block, &self.signals[2], to);
            self.block.to_record(to).unwrap();
        });
        let Parts::Block(parts) = self.arrive(2, DeviceId::Block, &bytes) else {
            unreachable!()
        };
        let begun = self.block.is_in_the_middle();
        let (mut block, backing) = disk();
        copy_disk(&mut self.block, &mut block);
        block.fits(&parts).unwrap();
        block.adopt(*parts);
        self.block = block;
        self.backing = backing;
        if begun {
            // The request begins anew. None here takes more than two steps, so one brings it to where it was.
            self.step(&Step::Serve(1));
            assert!(self.block.is_in_the_middle());
        }
    }

    fn arrive(&mut self, device: usize, kind: DeviceId, bytes: &[u8]) -> Parts {
        let mut decoder = Decoder::new(bytes);
        let arrived = Arrived::from_record(&mut decoder, kind).unwrap();
        decoder.end().unwrap();
        self.signals[device] = Signals::new();
        self.signals[device].adopt(&arrived.signals);
        arrived.parts
    }

    /// All registers of a device, and its configuration.
    fn registers(&mut self, device: usize) -> Vec<u64> {
        (0..0x140)
            .step_by(4)
            .map(|at| self.access(device, Register::Read(at)))
            .collect()
    }
}

fn encode(write: impl FnOnce(&mut Encoder<'_>)) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut encoder = Encoder::new(&mut bytes);
    write(&mut encoder);
    let length = encoder.finish().unwrap();
    bytes.truncate(length);
    bytes
}

/// What of a disk was ever changed, in sections of blocks.
fn copy_disk(from: &mut Block<'static>, to: &mut Block<'static>) {
    let (mut writer, mut buffer, mut packer) = (Writer::new(), vec![0; MAX_SECTION], Packer::new());
    let overlay = from.overlay_mut().unwrap();
    overlay.change_all(0..overlay.blocks());
    let mut next = Some(0);
    while let Some(first) = next {
        let blocks = first..overlay.blocks();
        let (written, then) = write_blocks(
            &mut writer,
            &mut buffer,
            (0, overlay),
            blocks,
            Some(&mut packer),
        )
        .unwrap();
        next = then;
        if written.bytes > 0 {
            let section = Section::read(&buffer, writer.count() - 1).unwrap().unwrap();
            let units = Units::read(section.payload, u32::MAX).unwrap();
            put_blocks(units, to.overlay_mut().unwrap()).unwrap();
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Say(u32),
    Listen(u32),
    Type(u8),
    Console(usize),
    Send(u32),
    Give(u32),
    Forward(usize, usize),
    Deliver,
    Announce,
    Confirm,
    Disk(usize, u64, u32),
    Serve(u32),
    Take(usize),
    Rest(usize),
    Acknowledge(usize),
    Line(usize),
    Reset(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let sectors = prop_oneof![1..9_u32, 130..140_u32];
    prop_oneof![
        2 => (1..1500_u32).prop_map(Step::Say),
        2 => (1..40_u32).prop_map(Step::Listen),
        4 => any::<u8>().prop_map(Step::Type),
        4 => (0..800_usize).prop_map(Step::Console),
        3 => (14..1500_u32).prop_map(Step::Send),
        2 => (100..400_u32).prop_map(Step::Give),
        4 => (1..4_usize, 0..4_usize).prop_map(|(budget, room)| Step::Forward(budget, room)),
        3 => Just(Step::Deliver),
        1 => Just(Step::Announce),
        1 => Just(Step::Confirm),
        4 => (0..5_usize, 0..DISK_SECTORS, sectors).prop_map(|(kind, at, n)| Step::Disk(kind, at, n)),
        5 => (1..4_u32).prop_map(Step::Serve),
        3 => (0..6_usize).prop_map(Step::Take),
        2 => (0..6_usize).prop_map(Step::Rest),
        2 => (0..3_usize).prop_map(Step::Acknowledge),
        2 => (0..3_usize).prop_map(Step::Line),
        1 => (0..300_usize).prop_map(|n| if n < 3 { Step::Reset(n) } else { Step::Announce }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn a_guest_cannot_tell(event_index: bool, steps in prop::collection::vec((step(), prop::bool::weighted(0.2)), 1..80)) {
        let (mut stays, mut moves) = (Guest::new(event_index), Guest::new(event_index));
        for (step, travels) in &steps {
            stays.step(step);
            moves.step(step);
            if *travels {
                moves.travel();
            }
        }
        prop_assert!(stays.line.0 == moves.line.0);
        prop_assert!(stays.frames == moves.frames);
        for device in 0..3 {
            prop_assert_eq!(stays.registers(device), moves.registers(device));
            prop_assert_eq!(stays.signals[device].has_line_change(), moves.signals[device].has_line_change());
        }
        prop_assert!(stays.ram.bytes() == moves.ram.bytes());
        let contents = |block: &Block<'_>| {
            let mut all = Vec::new();
            let overlay = block.overlay().unwrap();
            overlay.read(0, DISK_SECTORS * 512, |bytes| { all.extend_from_slice(bytes); Ok::<_, ()>(()) }).unwrap();
            all
        };
        prop_assert!(contents(&stays.block) == contents(&moves.block));
    }

    #[test]
    fn damage_is_refused_or_a_device(
        steps in prop::collection::vec(step(), 0..12), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        after in prop::collection::vec(step(), 0..12),
    ) {
        let mut guest = Guest::new(true);
        steps.iter().for_each(|step| guest.step(step));
        let mut bytes = encode(|to| {
            begin(DeviceId::Console, &guest.signals[0], to);
            guest.console.to_record(to);
        });
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        if let Ok(Arrived { parts: Parts::Console(console), .. }) = Arrived::from_record(&mut Decoder::new(&bytes), DeviceId::Console) {
            guest.console = *console;
            // It may not find its rings, and then says so; it does no harm.
            for step in after.iter().filter(|step| matches!(step, Step::Console(_) | Step::Type(_))) {
                guest.step(step);
            }
        }
    }
}

#[test]
fn another_disk_is_told() {
    let (block, _backing) = disk();
    let bytes = encode(|to| block.to_record(to).unwrap());
    let read = |bytes: &[u8]| block::record::Parts::from_record(&mut Decoder::new(bytes));
    assert!(block.fits(&read(&bytes).ok().unwrap()).is_ok());
    // Another number of sectors, another serial, another image.
    for at in [0, 9, 29] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert!(block.fits(&read(&other).ok().unwrap()).is_err(), "{at}");
    }
    // One that cannot be written offers less.
    let mut other = bytes.clone();
    other[8] = 1;
    assert!(read(&other).is_err());
}
