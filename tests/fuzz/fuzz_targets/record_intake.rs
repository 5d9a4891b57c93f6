//! Records with anything in them: an error, or the parts of a guest that are written back to the same bytes.
//!
//! An even first byte: the input is the record. An odd one: the golden record, whose sections the input leaves out, doubles and changes, with their numbers and
//! checksums made right again, so that what is behind those is reached.
#![no_main]

use std::sync::LazyLock;

use el2_hyp::record::device::Parts;
use el2_hyp::record::intake::{Event, Intake, Taken};
use el2_hyp::record::units::{Content, UNIT_BYTES, Units};
use el2_hyp::record::{Decoder, Encoder, Kind, MAX_SECTION, Section, Writer};
use el2_hyp::vgic::{Intid, MappedInterrupt};
use libfuzzer_sys::fuzz_target;

/// The golden record's sections: kind, index, payload.
static GOLDEN: LazyLock<Vec<(Kind, u16, Vec<u8>)>> = LazyLock::new(|| {
    let text = include_str!("../../../el2-hyp/src/record/golden.txt");
    let digits: Vec<u8> = text
        .bytes()
        .filter_map(|byte| (byte as char).to_digit(16).map(|digit| digit as u8))
        .collect();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    let (mut sections, mut at) = (Vec::new(), 0);
    while let Some(section) = Section::read(&bytes[at..], sections.len() as u32).expect("sound") {
        sections.push((section.kind, section.index, section.payload.to_vec()));
        at += section.length();
    }
    assert!(sections.len() == 12);
    sections
});

const KINDS: u16 = 12;

/// The golden record, changed as the input says: three bytes a change.
fn changed(input: &[u8]) -> Vec<u8> {
    let mut sections = GOLDEN.clone();
    // Pages and blocks to work on.
    let units = input.get(..64).unwrap_or(input).to_vec();
    sections.insert(1, (Kind::Pages, 0, units));
    for change in input.chunks_exact(4) {
        let [what, which, at, value] = change else {
            continue;
        };
        let which = usize::from(*which) % sections.len();
        match what % 16 {
            0 => drop(sections.remove(which)),
            1 => {
                let twice = sections[which].clone();
                sections.insert(usize::from(*at) % sections.len(), twice);
            }
            2 => sections[which].1 = u16::from(*value),
            3 => {
                sections[which].0 =
                    Kind::from_number(u16::from(*value) % KINDS + 1).expect("a kind")
            }
            4 => sections[which]
                .2
                .truncate(usize::from(*at) * 4 + usize::from(*value % 4)),
            5 => sections[which].2.push(*value),
            _ => {
                let payload = &mut sections[which].2;
                let at = (usize::from(what >> 4) << 8 | usize::from(*at)) % payload.len().max(1);
                if let Some(byte) = payload.get_mut(at) {
                    *byte ^= value;
                }
            }
        }
        if sections.is_empty() {
            break;
        }
    }
    let (mut writer, mut buffer, mut record) = (Writer::new(), vec![0; MAX_SECTION], Vec::new());
    for (kind, index, payload) in &sections {
        let length = if *kind == Kind::End && payload.len() == 4 {
            writer.end(&mut buffer)
        } else {
            writer.section(&mut buffer, *kind, *index, |to| to.bytes(payload))
        };
        record.extend_from_slice(&buffer[..length.expect("small")]);
    }
    record
}

/// What was decoded is written back the same.
fn is_same(payload: &[u8], write: impl FnOnce(&mut Encoder<'_>)) {
    let mut buffer = vec![0; MAX_SECTION];
    let mut encoder = Encoder::new(&mut buffer);
    write(&mut encoder);
    let length = encoder.finish().expect("room");
    assert!(buffer[..length] == *payload);
}

fn unpack(units: Units<'_>) {
    let mut next = 0;
    for (number, content) in units {
        assert!(number >= next);
        next = number + 1;
        let mut scratch = [0; UNIT_BYTES];
        if let (Content::Zeros(_), Err(_)) = (content, content.unpack(&mut scratch)) {
            unreachable!("zeros are zeros");
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, input)) = input.split_first() else {
        return;
    };
    let record = if first & 1 == 0 {
        input.to_vec()
    } else {
        changed(input)
    };
    let mapped = MappedInterrupt {
        virtual_intid: Intid::VIRTUAL_TIMER,
        physical_intid: 27,
    };
    let (mut intake, mut at, mut payloads) = (Intake::new(mapped), 0, Vec::new());
    loop {
        let Ok(Taken::Section(length, event)) = intake.take(&record[at..]) else {
            break;
        };
        match event {
            Event::Pages(units) | Event::Blocks(_, units) => unpack(units),
            _ => {}
        }
        let section = Section::read(&record[at..], payloads.len() as u32)
            .expect("taken")
            .expect("whole");
        payloads.push(section);
        at += length;
    }
    let Ok(parts) = intake.finish(0) else {
        return;
    };
    let find = |kind, index: usize| {
        let found = payloads
            .iter()
            .find(|it| it.kind == kind && usize::from(it.index) == index);
        found.expect("it was there").payload
    };
    is_same(find(Kind::Header, 0), |to| parts.header.to_record(to));
    is_same(find(Kind::Uart, 0), |to| parts.uart.to_record(to));
    for (index, vcpu) in parts.vcpus.iter().enumerate() {
        is_same(find(Kind::Vcpu, index), |to| vcpu.to_record(to));
    }
    for (index, device) in parts.devices.iter().enumerate() {
        is_same(find(Kind::Device, index), |to| {
            let kind = find(Kind::Device, index)[0];
            to.u8(kind);
            device.signals.to_record(to);
            match &device.parts {
                Parts::Console(console) => console.to_record(to),
                Parts::Entropy(entropy) => entropy.to_record(to),
                Parts::Network(card) => {
                    el2_hyp::device::virtio::net::record::to_record(
                        &card.control,
                        &card.transmit,
                        &card.receive,
                        to,
                    );
                }
                Parts::Block(_) => to.bytes(&find(Kind::Device, index)[3..]),
            }
        });
    }
    // What a controller works out anew may differ from what was claimed, but only once.
    let mut buffer = vec![0; MAX_SECTION];
    let mut encoder = Encoder::new(&mut buffer);
    parts.vgic.to_record(&mut encoder);
    let length = encoder.finish().expect("room");
    let (gic, vcpus) = (parts.header.gic, parts.header.vcpus.into());
    let mut decoder = Decoder::new(&buffer[..length]);
    let again =
        el2_hyp::vgic::Vgic::from_record(&mut decoder, gic, vcpus, mapped).expect("a controller");
    is_same(&buffer[..length], |to| again.to_record(to));
});
