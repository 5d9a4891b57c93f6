mod control;
mod receive;
mod transmit;

use super::feature::*;
use super::*;
use crate::addr::Ipa;
use crate::device::virtio::signals::Signals;
use crate::device::virtio::testing::{Driver, Ram, Register, bring_up};
use crate::device::virtio::transport::Written;
use crate::frame::checksum::Sum;
use crate::frame::{Frame, HEAD, MAX_WIRE, Mac, Malformed, VirtioNetHeader};
use crate::vgic::Width;
use proptest::prelude::*;
use std::vec::Vec;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const CONFIG_STATUS: u64 = 0x106;
const ALL: u64 = u64::MAX;

/// A frame, finished.
type Parts = Vec<Vec<u8>>;

/// A card and its driver.
struct Scene {
    ram: Ram,
    signals: Signals,
    control: Control,
    transmit: Transmit,
    receive: Receive,
    drivers: [Driver; QUEUES],
    next_buffer: u64,
}

impl Scene {
    fn new(wanted: u64) -> Self {
        let ram = Ram::new(2);
        let base = ram.base().0;
        let features = wanted & (OFFERED | crate::device::virtio::feature::COMMON);
        let driver = |n: u64, size| Driver::new(Ipa(base + n * 0x1_0000), size, features);
        let mut scene = Self {
            signals: Signals::new(),
            control: Control::new(MAC),
            transmit: Transmit::new(),
            receive: Receive::new(),
            drivers: [driver(0, 256), driver(1, 64), driver(2, 4)],
            next_buffer: base + 0x4_0000,
            ram,
        };
        let layouts = [0, 1, 2].map(|n: usize| scene.drivers[n].layout());
        bring_up(wanted, &layouts, |access| match access {
            Register::Read(offset) => scene.control.read(offset, Width::Word, &scene.signals),
            Register::Write(offset, value) => {
                scene.write(offset, value);
                0
            }
        });
        scene
    }

    fn write(&mut self, offset: u64, value: u32) -> Written {
        let Self {
            control,
            transmit,
            receive,
            signals,
            ram,
            ..
        } = self;
        let written = control.write(ram, offset, Width::Word, value.into(), signals);
        control.carry_out(written, transmit, receive, signals);
        written
    }

    fn status(&self) -> u64 {
        self.control.read(CONFIG_STATUS, Width::Half, &self.signals)
    }

    /// A buffer of the guest's that nobody else has.
    fn buffer(&mut self, length: u32) -> (Ipa, u32) {
        let at = Ipa(self.next_buffer);
        self.next_buffer += u64::from(length) + 64;
        (at, length)
    }

    /// Makes bytes available to be sent, in pieces of these lengths and a last one.
    fn queue(&mut self, bytes: &[u8], lengths: &[u32]) {
        let mut buffers = Vec::new();
        let mut rest = bytes;
        for length in lengths.iter().copied().chain([u32::MAX]) {
            let (now, later) = rest.split_at(rest.len().min(length as usize));
            let buffer = self.buffer(now.len() as u32);
            self.ram.write(buffer.0, now).unwrap();
            buffers.push(buffer);
            rest = later;
        }
        self.drivers[usize::from(TRANSMIT)]
            .add(&self.ram, &buffers, &[])
            .unwrap();
    }

    /// Serves the transmit queue, with every frame finished.
    fn sent(&mut self, budget: usize) -> (Progress, Vec<Result<Parts, Malformed>>) {
        let mut sent = Vec::new();
        let progress = self.transmit.serve(&self.ram, budget, |frame| {
            sent.push(frame.map(finish));
            Sent::Done
        });
        (progress.unwrap(), sent)
    }

    /// Gives the guest's driver buffers, each of these lengths in one piece or more.
    fn give(&mut self, buffers: &[&[u32]]) {
        for lengths in buffers {
            let pieces: Vec<_> = lengths.iter().map(|&length| self.buffer(length)).collect();
            let driver = &mut self.drivers[usize::from(RECEIVE)];
            let head = driver.add(&self.ram, &[], &pieces).unwrap();
            self.pieces_of(head, Some(pieces));
        }
    }

    /// What the guest has received next: the header, and the frame.
    fn received(&mut self) -> Option<(VirtioNetHeader, Vec<u8>)> {
        let mut bytes = self.received_buffer()?;
        let header = VirtioNetHeader::from_bytes(bytes.first_chunk().unwrap());
        for _ in 1..header.num_buffers {
            bytes.extend(self.received_buffer().expect("as many as the header says"));
        }
        Some((header, bytes.split_off(VirtioNetHeader::BYTES)))
    }

    fn received_buffer(&mut self) -> Option<Vec<u8>> {
        let (head, written) = self.drivers[usize::from(RECEIVE)].take(&self.ram)?;
        let mut bytes = Vec::new();
        let mut left = written as usize;
        for (at, length) in self.pieces_of(head, None) {
            let mut piece = vec![0; left.min(length as usize)];
            self.ram.read(at, &mut piece).unwrap();
            left -= piece.len();
            bytes.extend(piece);
        }
        assert_eq!(left, 0, "no more is written than there is room for");
        Some(bytes)
    }

    /// Where a receive buffer's pieces are, noted in the guest's own memory beside its rings.
    fn pieces_of(&self, head: u16, set: Option<Vec<(Ipa, u32)>>) -> Vec<(Ipa, u32)> {
        let slot = Ipa(self.ram.base().0 + 0x3_0000 + u64::from(head) * 128);
        let Some(pieces) = set else {
            let count = self.ram.load_u64(slot).unwrap();
            let pieces = (0..count).map(|n| {
                let at = slot.0 + 8 + 16 * n;
                (
                    Ipa(self.ram.load_u64(Ipa(at)).unwrap()),
                    self.ram.load_u32(Ipa(at + 8)).unwrap(),
                )
            });
            return pieces.collect();
        };
        self.ram.store_u64(slot, pieces.len() as u64).unwrap();
        for (n, &(at, length)) in pieces.iter().enumerate() {
            let to = slot.0 + 8 + 16 * n as u64;
            self.ram.store_u64(Ipa(to), at.0).unwrap();
            self.ram.store_u32(Ipa(to + 8), length).unwrap();
        }
        pieces
    }
}

fn finish(frame: &Frame) -> Parts {
    let mut finished = frame.finish();
    let mut slot = [0; MAX_WIRE];
    let mut parts = Vec::new();
    while let Some(length) = finished.write_next(&mut slot) {
        parts.push(slot[..length].to_vec());
    }
    parts
}

fn plain(length: usize) -> Vec<u8> {
    let mut frame = [&[2, 0, 0, 0, 0, 9][..], &MAC.0, &[0x88, 0xb5]].concat();
    frame.extend((frame.len()..length).map(|n| (n * 7) as u8));
    frame
}

/// A TCP packet over IPv4 with so much payload, and the header that leaves it to the device to be cut to `size`.
fn tcp(payload: usize, size: u16) -> (VirtioNetHeader, Vec<u8>) {
    let mut frame = [&[2, 0, 0, 0, 0, 9][..], &MAC.0, &[8, 0, 0x45, 0]].concat();
    frame.extend(((40 + payload) as u16).to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0, 80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x18, 1, 0]);
    let mut sum = Sum::new();
    sum.add(&frame[26..34]);
    sum.add_u16(6);
    sum.add_u16((20 + payload) as u16);
    frame.extend(sum.bytes());
    frame.extend([0, 0]);
    frame.extend((0..payload).map(|n| (n * 13) as u8));
    let header = VirtioNetHeader {
        flags: 1,
        gso_type: u8::from(size > 0),
        hdr_len: 54,
        gso_size: size,
        csum_start: 34,
        csum_offset: 16,
        num_buffers: 0,
    };
    (header, frame)
}

fn with_header(header: VirtioNetHeader, frame: &[u8]) -> Vec<u8> {
    [&header.to_bytes(), frame].concat()
}

/// Whether a finished TCP frame's checksum is right, summed in the plainest way.
fn is_sound(frame: &[u8]) -> bool {
    let sum: u64 = frame[26..]
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    (sum + 6 + frame.len() as u64 - 34).is_multiple_of(0xffff)
}
