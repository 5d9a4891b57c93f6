//! A whole record of a guest in the middle of its work: a card, a disk and a console with requests in flight, pages of every form, and blocks of a disk.

use std::format;
use std::string::String;

use super::*;
use crate::device::pl011::Pl011;
use crate::device::watchdog::Watchdog;
use crate::record::content::put_pages;
use crate::record::header::tests::header;
use crate::record::images::{self, Digest};
use crate::record::intake::{Event, Intake, Taken};
use crate::record::vcpu::tests::a_vcpu;
use crate::record::{Kind, NoRoom};
use crate::vgic::{Intid, MappedInterrupt, Version, Vgic};

/// As the other golden record: a change of it is a change of the format, and of its version.
const GOLDEN: &str = include_str!("../../../../record/golden-disk.txt");
const MAPPED: MappedInterrupt = MappedInterrupt {
    virtual_intid: Intid::VIRTUAL_TIMER,
    physical_intid: 27,
};
const SLOTS: [DeviceId; 3] = [DeviceId::Console, DeviceId::Network, DeviceId::Block];
/// A kernel, an initial RAM disk, and the image of the disk.
const IMAGES: [Digest; 3] = [[1; 32], [2; 32], [3; 32]];
/// Pages of the header's guest.
const PAGES: u16 = 1024;
/// A page of one byte again and again, packed by hand: the byte, so often again as leaves five, and those (LZ4's block format).
const AGAIN: u8 = 0x5a;
const PACKED: [u8; 26] = {
    let mut bytes = [0xff; 26];
    // One literal; a match of 4,090 bytes, one byte back: 19 in the token, 15 times 255 and 246.
    [bytes[0], bytes[1], bytes[2], bytes[3], bytes[19]] = [0x1f, AGAIN, 1, 0, 246];
    // Five literals.
    bytes[20] = 0x50;
    let mut at = 21;
    while at < bytes.len() {
        bytes[at] = AGAIN;
        at += 1;
    }
    bytes
};

/// A guest of which every device has something in hand.
fn busy() -> Guest {
    let mut guest = Guest::new(true);
    for step in [
        // The console has said a part of a line, and has input that nobody asked for.
        Step::Say(40),
        Step::Console(7),
        Step::Type(b'x'),
        // Of two frames one waits for room; one that came lies in the first of two buffers.
        Step::Send(60),
        Step::Send(90),
        Step::Forward(1, 1),
        Step::Forward(1, 0),
        Step::Give(300),
        Step::Give(300),
        Step::Deliver,
        Step::Announce,
        // One request of the disk is done, one is in the middle, and one waits.
        Step::Disk(1, 8, 8),
        Step::Serve(4),
        Step::Disk(0, 100, 140),
        Step::Disk(1, 0, 8),
        Step::Serve(1),
    ] {
        guest.step(&step);
    }
    assert!(guest.block.is_in_the_middle());
    guest
}

struct Sections(Writer, Vec<Vec<u8>>);

impl Sections {
    fn put(&mut self, write: impl FnOnce(&mut Writer, &mut [u8]) -> Result<usize, NoRoom>) {
        let mut buffer = vec![0; MAX_SECTION];
        let length = write(&mut self.0, &mut buffer).unwrap();
        buffer.truncate(length);
        self.1.push(buffer);
    }

    fn add(&mut self, kind: Kind, index: u16, payload: impl FnOnce(&mut Encoder<'_>)) {
        self.put(|writer, buffer| writer.section(buffer, kind, index, payload));
    }
}

/// The plain page.
fn plain() -> Vec<u8> {
    (0..4096_u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect()
}

fn record(guest: &mut Guest) -> Vec<Vec<u8>> {
    let mut it = Sections(Writer::new(), Vec::new());
    it.add(Kind::Header, 0, |to| {
        header(Version::V2, 1, &SLOTS).to_record(to)
    });
    it.add(Kind::Images, 0, |to| images::to_record(&IMAGES, to));
    it.add(Kind::Pages, 0, |to| {
        to.u32(0);
        to.u8(1);
        to.bytes(&plain());
        to.u32(1);
        to.u8(2);
        to.u16(PACKED.len() as u16);
        to.bytes(&PACKED);
        to.u32(2);
        to.u8(0);
        to.u16(PAGES - 2);
    });
    let overlay = guest.block.overlay_mut().unwrap();
    overlay.change_all(0..overlay.blocks());
    it.put(|writer, buffer| {
        let all = 0..overlay.blocks();
        let (written, rest) = write_blocks(writer, buffer, (2, overlay), all, None)?;
        assert_eq!(rest, None);
        Ok(written.bytes)
    });
    it.add(Kind::Time, 0, |to| to.u64(987_654_321));
    it.add(Kind::Uart, 0, |to| Pl011::new().to_record(to));
    it.add(Kind::Watchdog, 0, |to| Watchdog::new().to_record(to));
    it.add(Kind::Interrupts, 0, |to| {
        Vgic::new(Version::V2, 1, MAPPED).unwrap().to_record(to)
    });
    it.add(Kind::Vcpu, 0, |to| a_vcpu(3).to_record(to));
    for (slot, device) in SLOTS.iter().enumerate() {
        it.add(Kind::Device, slot as u16, |to| {
            begin(*device, &guest.signals[slot], to);
            let (control, transmit, receive) = &guest.card;
            match device {
                DeviceId::Console => guest.console.to_record(to),
                DeviceId::Network => net::record::to_record(control, transmit, receive, to),
                _ => guest.block.to_record(to).unwrap(),
            }
        });
    }
    it.add(Kind::Backlog, 0, |to| {
        to.u64(0);
        to.bytes(b"ready\n");
    });
    it.put(|writer, buffer| writer.end(buffer));
    it.1
}

fn hex(sections: &[Vec<u8>]) -> String {
    let line =
        |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let section = |section: &Vec<u8>| {
        let lines: Vec<_> = section.chunks(64).map(line).collect();
        lines.join("\n") + "\n"
    };
    let sections: Vec<_> = sections.iter().map(section).collect();
    sections.join("\n")
}

fn contents(block: &Block<'_>) -> Vec<u8> {
    let mut all = Vec::new();
    let keep = |bytes: &[u8]| {
        all.extend_from_slice(bytes);
        Ok::<_, ()>(())
    };
    block
        .overlay()
        .unwrap()
        .read(0, DISK_SECTORS * 512, keep)
        .unwrap();
    all
}

#[test]
fn a_guest_in_the_middle_of_its_work_looks_like_this_and_comes_back() {
    let mut guest = busy();
    let sections = record(&mut guest);
    assert_eq!(hex(&sections), GOLDEN, "the format has changed");
    let (ram, (mut block, _backing)) = (Ram::new(2), disk());
    // What was there before does not shine through.
    ram.write(Ipa(ram.base().0 + 4096), &[9; 3 * 4096]).unwrap();
    let mut intake = Intake::new(MAPPED);
    for section in &sections {
        let Taken::Section(length, event) = intake.take(section).unwrap() else {
            panic!("it is whole");
        };
        assert_eq!(length, section.len());
        match event {
            Event::Images(images) => assert_eq!(images.digests(), IMAGES),
            Event::Pages(units) => put_pages(units, &ram).unwrap(),
            Event::Blocks(2, units) => put_blocks(units, block.overlay_mut().unwrap()).unwrap(),
            _ => {}
        }
    }
    let parts = intake.finish(5).ok().unwrap();
    let mut pages = vec![0; PAGES as usize * 4096];
    pages[..4096].copy_from_slice(&plain());
    pages[4096..2 * 4096].fill(AGAIN);
    assert!(ram.bytes() == pages);
    assert!(contents(&block) == contents(&guest.block));
    // Every device, written again, is the same; the disk's once it is the disk's of what has come.
    let devices = &sections[9..12];
    for (device, (arrived, section)) in parts.devices.into_iter().zip(devices).enumerate() {
        let signals = arrived.signals;
        let again = encode(|to| {
            begin(SLOTS[device], &signals, to);
            match arrived.parts {
                Parts::Console(console) => console.to_record(to),
                Parts::Network(card) => {
                    net::record::to_record(&card.control, &card.transmit, &card.receive, to);
                }
                Parts::Block(parts) => {
                    block.fits(&parts).unwrap();
                    block.adopt(*parts);
                    block.to_record(to).unwrap();
                }
                Parts::Entropy(_) => unreachable!("there is none"),
            }
        });
        assert!(section[16..] == again[..], "device {device}");
    }
}
