//! Whole records.

use proptest::prelude::*;
use std::format;
use std::string::String;
use std::vec::Vec;

use super::content::{put_pages, write_pages};
use super::header::tests::header;
use super::images::{self, Digest};
use super::intake::{Error, Event, Intake, MAX_BACKLOG, Parts, Taken};
use super::units::Packer;
use super::vcpu::tests::a_vcpu;
use super::{Broken, Kind, MAX_SECTION, Malformed, Writer, checksum, device};
use crate::addr::Ipa;
use crate::device::pl011::Pl011;
use crate::device::virtio::DeviceId;
use crate::device::virtio::console::Console;
use crate::device::virtio::entropy::Entropy;
use crate::device::virtio::signals::Signals;
use crate::device::virtio::testing::Ram;
use crate::device::watchdog::Watchdog;
use crate::vgic::{Intid, MappedInterrupt, Version, Vgic};

const MAPPED: MappedInterrupt = MappedInterrupt {
    virtual_intid: Intid::VIRTUAL_TIMER,
    physical_intid: 27,
};
const SLOTS: [DeviceId; 2] = [DeviceId::Console, DeviceId::Entropy];
const VCPUS: u8 = 2;
/// A kernel, and no initial RAM disk.
const IMAGES: [Digest; 2] = [[0xab; 32], [0; 32]];

/// The sections of a guest, each as bytes.
struct Record {
    writer: Writer,
    sections: Vec<Vec<u8>>,
}

impl Record {
    fn new() -> Self {
        Self {
            writer: Writer::new(),
            sections: Vec::new(),
        }
    }

    fn add(&mut self, kind: Kind, index: u16, payload: impl FnOnce(&mut super::Encoder<'_>)) {
        let mut buffer = vec![0; MAX_SECTION];
        let length = self
            .writer
            .section(&mut buffer, kind, index, payload)
            .unwrap();
        buffer.truncate(length);
        self.sections.push(buffer);
    }

    fn end(&mut self) {
        let mut buffer = vec![0; 64];
        let length = self.writer.end(&mut buffer).unwrap();
        buffer.truncate(length);
        self.sections.push(buffer);
    }

    fn pages(&mut self, ram: &Ram, pages: impl IntoIterator<Item = u32>, packs: bool) {
        let (mut buffer, mut packer) = (vec![0; MAX_SECTION], Packer::new());
        let mut pages = pages.into_iter();
        loop {
            let packer = packs.then_some(&mut packer);
            let written =
                write_pages(&mut self.writer, &mut buffer, ram, || pages.next(), packer).unwrap();
            if written.bytes == 0 {
                return;
            }
            self.sections.push(buffer[..written.bytes].to_vec());
        }
    }

    /// A part of a guest that has a value everywhere.
    fn part(&mut self, kind: Kind, index: u16) {
        match kind {
            Kind::Header => {
                let header = header(Version::V3, VCPUS, &SLOTS);
                self.add(kind, index, |to| header.to_record(to));
            }
            Kind::Vcpu => self.add(kind, index, |to| a_vcpu(u64::from(index) + 1).to_record(to)),
            Kind::Interrupts => {
                let vgic = Vgic::new(Version::V3, VCPUS.into(), MAPPED).unwrap();
                self.add(kind, index, |to| vgic.to_record(to));
            }
            Kind::Uart => self.add(kind, index, |to| Pl011::new().to_record(to)),
            Kind::Watchdog => self.add(kind, index, |to| Watchdog::new().to_record(to)),
            Kind::Device => self.add(kind, index, |to| {
                let device = SLOTS[usize::from(index) % 2];
                device::begin(device, &Signals::new(), to);
                match device {
                    DeviceId::Console => Console::new().to_record(to),
                    _ => Entropy::new().to_record(to),
                }
            }),
            Kind::Time => self.add(kind, index, |to| to.u64(123_456_789)),
            Kind::Images => self.add(kind, index, |to| images::to_record(&IMAGES, to)),
            Kind::Backlog => self.add(kind, index, |to| {
                to.u64(0);
                to.bytes(b"login: ");
            }),
            Kind::End => self.end(),
            Kind::Pages | Kind::Blocks => self.add(kind, index, |to| to.bytes(&[0; 7])),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.sections.concat()
    }
}

const WHOLE: [(Kind, u16); 12] = [
    (Kind::Header, 0),
    (Kind::Images, 0),
    (Kind::Time, 0),
    (Kind::Uart, 0),
    (Kind::Watchdog, 0),
    (Kind::Interrupts, 0),
    (Kind::Vcpu, 0),
    (Kind::Vcpu, 1),
    (Kind::Device, 0),
    (Kind::Device, 1),
    (Kind::Backlog, 0),
    (Kind::End, 0),
];

fn record(parts: &[(Kind, u16)]) -> Record {
    let mut record = Record::new();
    parts
        .iter()
        .for_each(|(kind, index)| record.part(*kind, *index));
    record
}

/// Takes a record in as it comes over a line, `chunk` bytes at a time. Pages go to `ram`.
fn take(bytes: &[u8], chunk: usize, ram: Option<&Ram>) -> Result<Parts, Error> {
    let mut intake = Intake::new(MAPPED);
    let (mut there, mut at) = (0, 0);
    while there < bytes.len() {
        there = (there + chunk).min(bytes.len());
        while let Taken::Section(length, event) = intake.take(&bytes[at..there])? {
            at += length;
            match event {
                Event::Pages(units) => {
                    if let Some(ram) = ram {
                        put_pages(units, ram)
                            .map_err(|error| Error::Malformed(Kind::Pages, error))?;
                    }
                }
                Event::Backlog(from, said) => assert_eq!((from, said), (0, &b"login: "[..])),
                _ => {}
            }
        }
    }
    intake.finish(77)
}

#[test]
fn a_record_comes_back_and_looks_like_this() {
    let record = record(&WHOLE);
    let bytes = record.bytes();
    for chunk in [1, 7, 100, bytes.len()] {
        let parts = take(&bytes, chunk, None).ok().unwrap();
        assert_eq!(parts.header, header(Version::V3, VCPUS, &SLOTS));
        assert_eq!((parts.time, parts.since), (123_456_789, 77));
        assert_eq!(*parts.vcpus[0], a_vcpu(1));
        assert_eq!(*parts.vcpus[1], a_vcpu(2));
        assert_eq!(parts.devices.len(), 2);
        // Written again, it is the same.
        let mut again = Record::new();
        again.add(Kind::Header, 0, |to| parts.header.to_record(to));
        again.add(Kind::Images, 0, |to| images::to_record(&IMAGES, to));
        again.add(Kind::Time, 0, |to| to.u64(parts.time));
        again.add(Kind::Uart, 0, |to| parts.uart.to_record(to));
        again.add(Kind::Watchdog, 0, |to| parts.watchdog.to_record(to));
        again.add(Kind::Interrupts, 0, |to| parts.vgic.to_record(to));
        for (index, vcpu) in parts.vcpus.iter().enumerate() {
            again.add(Kind::Vcpu, index as u16, |to| vcpu.to_record(to));
        }
        assert!(bytes.starts_with(&again.bytes()));
    }
    assert_eq!(hex(&record), GOLDEN, "the format has changed");
}

/// The record above, a section a paragraph. A change of it is a change of the format, and of its version; records of the old one are then to be
/// refused, or read by a reader that is kept for them.
const GOLDEN: &str = include_str!("golden.txt");

fn hex(record: &Record) -> String {
    let line =
        |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let section = |section: &Vec<u8>| {
        let lines: Vec<_> = section.chunks(64).map(line).collect();
        lines.join("\n") + "\n"
    };
    record
        .sections
        .iter()
        .map(section)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn what_is_out_of_place_is_refused() {
    let whole = WHOLE.to_vec();
    // Nothing before the header, and no second of anything.
    assert_eq!(
        take(&record(&whole[1..]).bytes(), 100, None).err(),
        Some(Error::Misplaced(Kind::Images))
    );
    for (at, part) in whole.iter().enumerate() {
        let mut twice = whole.clone();
        twice.insert(at, *part);
        let expected = if part.0 == Kind::End {
            Kind::End
        } else {
            part.0
        };
        assert_eq!(
            take(&record(&twice).bytes(), 5000, None).err(),
            Some(Error::Misplaced(expected)),
            "{part:?}"
        );
    }
    // Nothing that the guest does not have.
    for part in [
        (Kind::Vcpu, 2),
        (Kind::Device, 2),
        (Kind::Device, 500),
        (Kind::Time, 1),
        (Kind::Uart, 1),
        (Kind::Interrupts, 1),
        (Kind::Images, 1),
        (Kind::Blocks, 0),
        (Kind::Blocks, 9),
        (Kind::Pages, 1),
        (Kind::Backlog, 1),
    ] {
        let more = [(Kind::Header, 0), part];
        assert_eq!(
            take(&record(&more).bytes(), 5000, None).err(),
            Some(Error::Misplaced(part.0)),
            "{part:?}"
        );
    }
    // A device of another kind than the header says.
    let exchanged = record(&[(Kind::Header, 0), (Kind::Device, 2)]);
    let mut bytes = exchanged.bytes();
    assert_eq!(
        bytes.len(),
        exchanged.sections[0].len() + exchanged.sections[1].len()
    );
    let second = exchanged.sections[0].len();
    bytes[second + 2] = 1;
    let crc = checksum::checksum([&bytes[second..second + 12], &bytes[second + 16..]]);
    bytes[second + 12..second + 16].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(
        take(&bytes, 5000, None).err(),
        Some(Error::Malformed(
            Kind::Device,
            Malformed::Value("the kind of a device")
        ))
    );
}

#[test]
fn what_is_missing_is_refused() {
    for without in 1..WHOLE.len() - 1 {
        let mut parts = WHOLE.to_vec();
        let (kind, _) = parts.remove(without);
        let taken = take(&record(&parts).bytes(), 5000, None);
        if kind == Kind::Backlog {
            assert!(taken.is_ok());
        } else {
            assert_eq!(taken.err(), Some(Error::Missing(kind)));
        }
    }
    let unended = record(&WHOLE[..11]).bytes();
    assert_eq!(
        take(&unended, 5000, None).err(),
        Some(Error::Missing(Kind::End))
    );
}

#[test]
fn a_section_more_or_less_is_found() {
    let whole = record(&WHOLE);
    for lost in 0..WHOLE.len() - 1 {
        let mut sections = whole.sections.clone();
        sections.remove(lost);
        let number = lost as u32 + 1;
        assert_eq!(
            take(&sections.concat(), 5000, None).err(),
            Some(Error::Broken(Broken::Number(number)))
        );
        let mut sections = whole.sections.clone();
        sections.swap(lost, lost + 1);
        assert_eq!(
            take(&sections.concat(), 5000, None).err(),
            Some(Error::Broken(Broken::Number(number)))
        );
    }
}

#[test]
fn a_backlog_is_all_or_as_much_as_is_kept() {
    let refused = |from: u64, length: usize| {
        let mut it = record(&WHOLE[..1]);
        it.add(Kind::Backlog, 0, |to| {
            to.u64(from);
            to.bytes(&vec![0; length]);
        });
        take(&it.bytes(), 100_000, None).err()
    };
    let wrong = |what| Some(Error::Malformed(Kind::Backlog, Malformed::Value(what)));
    let length = wrong("the length of a backlog");
    assert_eq!(refused(0, MAX_BACKLOG + 1), length);
    assert_eq!(refused(1, MAX_BACKLOG - 1), length);
    assert_eq!(
        refused(u64::MAX, MAX_BACKLOG),
        wrong("the position of a backlog")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Pages in rounds, some of them more than once, arrive as they were last.
    #[test]
    fn memory_arrives(writes in prop::collection::vec((0..1000_u32, any::<u8>(), 1..9000_usize), 1..12), packs: bool, chunk in 1000..100_000_usize) {
        let (from, to) = (Ram::new(2), Ram::new(2));
        // What was there before does not shine through.
        to.write(Ipa(to.base().0 + 5 * 4096), &[9; 5000]).unwrap();
        let mut it = record(&WHOLE[..1]);
        it.pages(&from, 0..1024, packs);
        for (page, byte, length) in writes {
            let at = Ipa(from.base().0 + u64::from(page) * 4096 + 100);
            from.write(at, &vec![byte; length]).unwrap();
            let last = (u64::from(page) * 4096 + 100 + length as u64 - 1) / 4096;
            it.pages(&from, page..=last as u32, packs);
        }
        WHOLE[1..].iter().for_each(|(kind, index)| it.part(*kind, *index));
        prop_assert!(take(&it.bytes(), chunk, Some(&to)).is_ok());
        prop_assert!(to.bytes() == from.bytes());
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused(at: prop::sample::Index, bit in 0..8_u8) {
        let mut bytes = record(&WHOLE).bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(take(&bytes, 5000, None).is_err());
    }
}

#[test]
fn pages_beyond_ram_are_refused() {
    let mut it = record(&WHOLE[..1]);
    // The guest of this header has 1,024 pages.
    it.add(Kind::Pages, 0, |to| {
        to.u32(1023);
        to.u8(0);
        to.u16(2);
    });
    let error = take(&it.bytes(), 5000, None).err();
    assert_eq!(
        error,
        Some(Error::Malformed(
            Kind::Pages,
            Malformed::Value("the number of a unit")
        ))
    );
}
