//! What is asked and what is answered, the same for both kinds of disk.

use std::vec;
use std::vec::Vec;

use super::scene::*;
use crate::addr::{BLOCK_2M, Ipa};
use crate::device::virtio::Served;
use crate::device::virtio::block::config::{MAX_CLEAR_SECTORS, feature};
use crate::device::virtio::block::{Block, STEP_BYTES, Serial, Written};
use crate::device::virtio::queue::QueueError;
use crate::vgic::Width;
use crate::volume::{Extent, Sector};

const SECTORS: u64 = 512;

fn both() -> [Scene; 2] {
    [Scene::ephemeral(&[], SECTORS), Scene::local(100, SECTORS)]
}

fn pattern(length: usize) -> Vec<u8> {
    (1..=251_u8).cycle().take(length).collect()
}

#[test]
fn what_is_written_is_read() {
    for mut scene in both() {
        let (from, to) = (scene.at(DATA), scene.at(DATA + 0x8000));
        scene.ram.write(from, &pattern(4096)).unwrap();
        assert_eq!(scene.exchange(OUT, 11, &[(from, 4096)]), (OK, 1));
        assert_eq!(scene.exchange(IN, 11, &[(to, 4096)]), (OK, 4097));
        assert_eq!(scene.bytes(to, 4096), pattern(4096));
        let counters = scene.block.counters();
        assert_eq!((counters.reads, counters.sectors_read), (1, 8));
        assert_eq!((counters.writes, counters.sectors_written), (1, 8));
    }
}

#[test]
fn a_local_disk_is_its_extent_and_no_more() {
    let mut scene = Scene::local(100, SECTORS);
    let from = scene.at(DATA);
    scene.ram.write(from, &pattern(512)).unwrap();
    assert_eq!(scene.exchange(OUT, SECTORS - 1, &[(from, 512)]), (OK, 1));
    let at = (100 + SECTORS as usize - 1) * 512;
    assert_eq!(scene.disk.bytes[at..at + 512], pattern(512));
    assert!(scene.disk.bytes[at + 512..].iter().all(|&byte| byte == 0));
    assert!(scene.disk.bytes[..at].iter().all(|&byte| byte == 0));
}

/// Section 2.7.4.3: no device relies on how a driver cuts its buffers.
#[test]
fn buffers_may_be_cut_anywhere() {
    for mut scene in both() {
        let data = scene.at(BLOCK_2M - 700);
        scene.ram.write(data, &pattern(1536)).unwrap();
        let header = scene.header(OUT, 5).0;
        let status = scene.status_room();
        let cut = |at: Ipa, parts: &[u32]| {
            let mut buffers = vec![];
            let mut at = at.0;
            for &part in parts {
                buffers.push((Ipa(at), part));
                at += u64::from(part);
            }
            buffers
        };
        let mut readable = cut(header, &[3, 0, 12, 1]);
        readable.extend(cut(data, &[1, 699, 1, 800, 35]));
        scene.driver.add(&scene.ram, &readable, &[status]).unwrap();
        // The header and the data of a write in one buffer, the data of a read and its status in another.
        let back = scene.at(DATA + 0x4000);
        let header = scene.header(IN, 5);
        let joined = [(back, 1000), (Ipa(back.0 + 1000), 537)];
        assert_eq!(scene.serve(), Served::Rest);
        scene.complete_all();
        scene.driver.add(&scene.ram, &[header], &joined).unwrap();
        assert_eq!(scene.serve(), Served::Rest);
        scene.complete_all();
        assert_eq!(scene.bytes(status.0, 1), [OK]);
        let mut expected = pattern(1536);
        expected.push(OK);
        assert_eq!(scene.bytes(back, 1537), expected);
        assert_eq!(scene.driver.take(&scene.ram).unwrap().1, 1);
        assert_eq!(scene.driver.take(&scene.ram).unwrap().1, 1537);
    }
}

#[test]
fn the_serial_is_told() {
    for mut scene in both() {
        let data = scene.at(DATA);
        scene.ram.write(data, &[0xff; 30]).unwrap();
        assert_eq!(scene.exchange(GET_ID, 0, &[(data, 20)]), (OK, 21));
        let mut serial = [0; 20];
        serial[..6].copy_from_slice(b"a-disk");
        assert_eq!(scene.bytes(data, 21), [&serial[..], &[0xff]].concat());
        // Less room than the serial needs, and more.
        assert_eq!(scene.exchange(GET_ID, 0, &[(data, 3)]), (OK, 4));
        assert_eq!(scene.exchange(GET_ID, 0, &[(data, 30)]), (OK, 0));
        assert_eq!(scene.exchange(GET_ID, 0, &[]), (OK, 1));
    }
    let long = Serial::new("a-name-of-more-than-twenty");
    assert_eq!(long.bytes(), b"a-name-of-more-than-");
}

#[test]
fn what_the_disk_does_not_have_is_refused_whole() {
    for mut scene in both() {
        let data = scene.at(DATA);
        scene.ram.write(data, &[7; 8192]).unwrap();
        for kind in [IN, OUT] {
            for (sector, bytes) in [
                (SECTORS, 512),
                (SECTORS - 1, 1024),
                (u64::MAX, 512),
                (u64::MAX, 1024),
                (1 << 55, 512),
                (0, 511),
                (0, 1),
                (0, 4095),
                (0, 4097),
            ] {
                let answer = scene.exchange(kind, sector, &[(data, bytes)]);
                let written = u32::from(kind == OUT);
                assert_eq!(answer.0, FAILED, "{kind} {sector} {bytes}");
                assert!(answer.1 <= written);
            }
        }
        assert_eq!(scene.bytes(data, 8192), [7; 8192]);
        assert!(scene.disk.bytes.iter().all(|&byte| byte == 0));
        assert_eq!(scene.block.counters().failed, 18);
        // Nothing at all is no mistake.
        assert_eq!(scene.exchange(IN, SECTORS, &[]), (OK, 1));
        assert_eq!(scene.exchange(OUT, 0, &[]), (OK, 1));
    }
}

#[test]
fn other_kinds_are_unsupported() {
    for mut scene in both() {
        for kind in [2, 3, 5, 9, 10, 12, 14, 0x8000_0000, u32::MAX] {
            assert_eq!(scene.exchange(kind, 0, &[]).0, UNSUPPORTED, "{kind}");
        }
        assert_eq!(scene.block.counters().unsupported, 9);
    }
}

#[test]
fn a_chain_without_a_status_is_given_back() {
    for mut scene in both() {
        let header = scene.header(IN, 0);
        scene.driver.add(&scene.ram, &[header], &[]).unwrap();
        assert_eq!(scene.serve(), Served::Rest);
        assert_eq!(scene.driver.take(&scene.ram).unwrap().1, 0);
        assert_eq!(scene.block.counters().malformed, 1);
        // Without a whole header there still is a status.
        let status = scene.status_room();
        let short = (header.0, 15);
        scene.driver.add(&scene.ram, &[short], &[status]).unwrap();
        scene.driver.add(&scene.ram, &[], &[(header.0, 1)]).unwrap();
        assert_eq!(scene.serve(), Served::Rest);
        assert_eq!(scene.bytes(status.0, 1), [FAILED]);
        assert_eq!(scene.bytes(header.0, 1), [FAILED]);
    }
}

#[test]
fn a_read_only_disk_is_only_read() {
    let extent = Extent::new(Sector(0), SECTORS).unwrap();
    let block = Block::local(extent, LIMITS, true, Serial::new("x"));
    let mut scene = Scene::new(block, None);
    let features = scene.up(ALL_FEATURES);
    assert!(features & feature::READ_ONLY != 0);
    let data = scene.at(DATA);
    scene.ram.write(data, &[7; 512]).unwrap();
    assert_eq!(scene.exchange(OUT, 0, &[(data, 512)]).0, FAILED);
    assert!(scene.disk.bytes.iter().all(|&byte| byte == 0));
    assert_eq!(scene.exchange(IN, 0, &[(data, 512)]).0, OK);
}

#[test]
fn the_configuration_is_the_documented_one() {
    let field = |scene: &Scene, at: u64, width| scene.block.read(0x100 + at, width, &scene.signals);
    let mut scene = Scene::local(100, SECTORS);
    assert_eq!(field(&scene, 0, Width::Double), SECTORS);
    assert_eq!(field(&scene, 12, Width::Word), 63);
    assert_eq!(field(&scene, 20, Width::Word), 512);
    assert_eq!(field(&scene, 24, Width::Byte), 3);
    assert_eq!(field(&scene, 36, Width::Word), 0);
    let common = feature::SEG_MAX | feature::BLOCK_SIZE | feature::TOPOLOGY | feature::FLUSH;
    let negotiated = scene.up(ALL_FEATURES) & 0xff_ffff;
    assert_eq!(negotiated, common);
    let mut scene = Scene::ephemeral(&[], SECTORS);
    let clears = feature::DISCARD | feature::WRITE_ZEROES;
    assert_eq!(scene.up(ALL_FEATURES) & 0xff_ffff, common | clears);
    assert_eq!(field(&scene, 12, Width::Word), 64);
    assert_eq!(field(&scene, 36, Width::Word), MAX_CLEAR_SECTORS.into());
    assert_eq!(field(&scene, 40, Width::Word), 1);
    assert_eq!(field(&scene, 56, Width::Byte), 1);
    assert_eq!(field(&scene, 60, Width::Word), 0);
}

/// A range to discard or clear.
fn range(scene: &mut Scene, sector: u64, sectors: u32, flags: u32) -> (Ipa, u32) {
    let at = scene.at(DATA + 0x9000);
    let range = u128::from(sector) | u128::from(sectors) << 64 | u128::from(flags) << 96;
    scene.ram.write(at, &range.to_le_bytes()).unwrap();
    (at, 16)
}

#[test]
fn ranges_are_discarded_and_cleared() {
    let image = vec![9; SECTORS as usize * 512].leak();
    let mut scene = Scene::ephemeral(image, SECTORS);
    let data = scene.at(DATA);
    let used = |scene: &Scene| scene.block.overlay().unwrap().usage().0;
    let named = range(&mut scene, 8, 16, 0);
    assert_eq!(scene.exchange(DISCARD, 0, &[named]), (OK, 1));
    let named = range(&mut scene, 33, 1, 1);
    assert_eq!(scene.exchange(WRITE_ZEROES, 0, &[named]), (OK, 1));
    assert_eq!(used(&scene), 1);
    assert_eq!(scene.exchange(IN, 0, &[(data, 40 * 512)]).0, OK);
    let read = scene.bytes(data, 40 * 512);
    for (sector, bytes) in read.chunks(512).enumerate() {
        let cleared = (8..24).contains(&sector) || sector == 33;
        assert!(
            bytes.iter().all(|&b| b == if cleared { 0 } else { 9 }),
            "{sector}"
        );
    }
    for (kind, sector, sectors, flags, status) in [
        (DISCARD, SECTORS - 1, 2, 0, FAILED),
        (DISCARD, 0, MAX_CLEAR_SECTORS + 1, 0, FAILED),
        (DISCARD, u64::MAX, 1, 0, FAILED),
        (DISCARD, 0, 1, 1, UNSUPPORTED),
        (WRITE_ZEROES, SECTORS, 1, 0, FAILED),
        (WRITE_ZEROES, 0, u32::MAX, 0, FAILED),
        (WRITE_ZEROES, 0, 1, 2, UNSUPPORTED),
    ] {
        let named = range(&mut scene, sector, sectors, flags);
        assert_eq!(
            scene.exchange(kind, 0, &[named]).0,
            status,
            "{kind} {sector}"
        );
    }
    for length in [0, 8, 15, 17, 32] {
        assert_eq!(scene.exchange(DISCARD, 0, &[(data, length)]).0, FAILED);
    }
    let mut local = Scene::local(0, SECTORS);
    let named = range(&mut local, 0, 8, 0);
    assert_eq!(local.exchange(DISCARD, 0, &[named]).0, UNSUPPORTED);
    assert_eq!(local.exchange(WRITE_ZEROES, 0, &[named]).0, UNSUPPORTED);
}

/// A driver that knows nothing of `seg_max` may ask for much at once; it costs itself the time, step by step.
#[test]
fn a_long_request_is_served_in_steps() {
    let image = pattern(SECTORS as usize * 512).leak();
    let mut scene = Scene::ephemeral(image, SECTORS);
    let data = scene.at(DATA);
    let status = scene.ask(IN, 0, &[(data, SECTORS as u32 * 512)]);
    let steps = SECTORS as u32 * 512 / STEP_BYTES;
    assert!(steps > 1);
    for _ in 1..steps {
        let served = scene
            .block
            .serve(&scene.ram, &scene.signals, &mut scene.disk, 1);
        assert_eq!(served, Served::More);
        assert_eq!(scene.bytes(status, 1), [UNTOLD]);
    }
    let served = scene
        .block
        .serve(&scene.ram, &scene.signals, &mut scene.disk, 1);
    assert_eq!(served, Served::Rest);
    assert_eq!(scene.bytes(status, 1), [OK]);
    assert_eq!(scene.bytes(data, image.len()), image);
}

#[test]
fn a_batch_interrupts_once() {
    let mut scene = Scene::local(0, SECTORS);
    let data = scene.at(DATA);
    scene.driver.enable_interrupts(&scene.ram);
    for _ in 0..5 {
        scene.ask(IN, 0, &[(data, 512)]);
    }
    assert_eq!(scene.serve(), Served::Rest);
    assert_eq!(scene.signals.take_line_change(), None);
    for _ in 0..5 {
        let tag = scene.disk.perform(0).tag;
        scene
            .block
            .complete(&scene.ram, &scene.signals, (tag, true), &mut scene.disk);
    }
    assert_eq!(scene.signals.take_line_change(), None);
    scene.block.finish(&scene.ram, &scene.signals);
    assert_eq!(scene.signals.take_line_change(), Some(true));
    scene.block.write(0x64, Width::Word, 1, &scene.signals);
    assert_eq!(scene.signals.take_line_change(), Some(false));
}

#[test]
fn a_notification_is_told_and_a_broken_queue_needs_a_reset() {
    for mut scene in both() {
        let notified = scene.block.write(0x50, Width::Word, 0, &scene.signals);
        assert_eq!(notified, Written::Notified);
        assert_eq!(
            scene.block.write(0x50, Width::Word, 1, &scene.signals),
            Written::Nothing
        );
        scene.driver.make_available(&scene.ram, QUEUE_SIZE);
        assert_eq!(scene.serve(), Served::Rest);
        assert_eq!(scene.block.fault(), Some(QueueError::NoSuchDescriptor));
        assert_eq!(scene.status(), 0x4f);
        assert_eq!(scene.signals.take_line_change(), Some(true));
        // After a reset it works again.
        scene.up(ALL_FEATURES);
        let data = scene.at(DATA);
        assert_eq!(scene.exchange(IN, 0, &[(data, 512)]).0, OK);
    }
}
