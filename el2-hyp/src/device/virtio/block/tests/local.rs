//! Requests that the board's disk has.

use super::scene::*;
use crate::addr::{BLOCK_2M, Ipa, PAGE_SIZE};
use crate::device::virtio::Served;
use crate::device::virtio::block::config::feature;
use crate::device::virtio::block::disk::{Limits, NoDisk, Operation, Tag};
use crate::device::virtio::block::{Block, IN_FLIGHT, Serial};
use crate::vgic::Width;
use crate::volume::{Extent, Sector};
use std::vec::Vec;

const SECTORS: u64 = 2048;

#[test]
fn completions_come_in_any_order() {
    let mut scene = Scene::local(0, SECTORS);
    let data = scene.at(DATA);
    for (n, byte) in scene.disk.bytes.chunks_mut(512).zip(0_u8..4) {
        n.fill(byte);
    }
    let place = |n: u64| Ipa(data.0 + 512 * n);
    let statuses: Vec<Ipa> = (0..4)
        .map(|n| scene.ask(IN, n, &[(place(n), 512)]))
        .collect();
    assert_eq!(scene.serve(), Served::Rest);
    assert_eq!(scene.block.in_flight(), 4);
    for (pending, n) in [(2, 2), (0, 0), (1, 3), (0, 1)] {
        assert_eq!(scene.bytes(statuses[n], 1), [UNTOLD]);
        scene.complete(pending, true);
        assert_eq!(scene.bytes(statuses[n], 1), [OK]);
        assert_eq!(scene.bytes(place(n as u64), 512), [n as u8; 512]);
    }
    assert_eq!(scene.block.in_flight(), 0);
}

#[test]
fn a_buffer_across_blocks_is_two_pieces() {
    let mut scene = Scene::local(0, SECTORS);
    let data = scene.at(BLOCK_2M - 4096);
    scene.ask(OUT, 0, &[(data, 12288)]);
    assert_eq!(scene.serve(), Served::Rest);
    let lengths: Vec<u32> = scene.disk.pending[0]
        .pieces
        .iter()
        .map(|piece| piece.bytes)
        .collect();
    assert_eq!(lengths, [4096, 8192]);
}

#[test]
fn no_more_is_taken_than_there_is_room_for() {
    let mut scene = Scene::local(0, SECTORS);
    let data = scene.at(DATA);
    for _ in 0..IN_FLIGHT + 3 {
        scene.ask(IN, 0, &[(data, 512)]);
    }
    assert_eq!(scene.serve(), Served::Full);
    assert_eq!(scene.disk.pending.len(), IN_FLIGHT);
    scene.complete(5, true);
    assert_eq!(scene.serve(), Served::Full);
    assert_eq!(scene.disk.pending.len(), IN_FLIGHT);
    // The disk's own room.
    scene.disk.depth = scene.disk.pending.len();
    scene.complete(0, true);
    scene.disk.depth = scene.disk.pending.len();
    assert_eq!(scene.serve(), Served::Full);
    scene.disk.depth = 1000;
    scene.complete_all();
    assert_eq!(scene.serve(), Served::Rest);
    scene.complete_all();
    assert_eq!(scene.block.counters().reads, IN_FLIGHT as u64 + 3);
}

#[test]
fn a_budget_is_kept() {
    let mut scene = Scene::local(0, SECTORS);
    let data = scene.at(DATA);
    for _ in 0..3 {
        scene.ask(IN, 0, &[(data, 512)]);
    }
    let served = scene
        .block
        .serve(&scene.ram, &scene.signals, &mut scene.disk, 2);
    assert_eq!((served, scene.disk.pending.len()), (Served::More, 2));
    assert_eq!(scene.serve(), Served::Rest);
    assert_eq!(scene.disk.pending.len(), 3);
}

#[test]
fn what_fails_is_told() {
    let mut scene = Scene::local(0, SECTORS);
    let data = scene.at(DATA);
    let status = scene.ask(IN, 0, &[(data, 512)]);
    scene.serve_all();
    scene.complete(0, false);
    assert_eq!(scene.bytes(status, 1), [FAILED]);
    scene.disk.refuses = true;
    for (kind, data) in [
        (IN, &[(data, 512)][..]),
        (OUT, &[(data, 512)]),
        (FLUSH, &[]),
    ] {
        assert_eq!(scene.exchange(kind, 0, data).0, FAILED);
    }
    assert_eq!(scene.block.counters().failed, 4);
    assert_eq!(scene.block.in_flight(), 0);
}

#[test]
fn a_lost_disk_fails_all_that_it_had() {
    let mut scene = Scene::local(0, SECTORS);
    let data = scene.at(DATA);
    let statuses = [IN, OUT].map(|kind| scene.ask(kind, 0, &[(data, 512)]));
    scene.serve_all();
    scene.disk.pending.clear();
    scene.block.lose_disk(&scene.ram, &scene.signals);
    for status in statuses {
        assert_eq!(scene.bytes(status, 1), [FAILED]);
    }
    assert_eq!(scene.block.in_flight(), 0);
    assert_eq!(scene.signals.take_line_change(), Some(true));
}

#[test]
fn a_tag_of_nobody_is_ignored() {
    let mut scene = Scene::local(0, SECTORS);
    for tag in [0, 15, 16, 32, u32::MAX] {
        scene
            .block
            .complete(&scene.ram, &scene.signals, (Tag(tag), true), &mut NoDisk);
    }
    assert!(scene.driver.take(&scene.ram).is_none());
    let mut scene = Scene::ephemeral(&[], 8);
    scene
        .block
        .complete(&scene.ram, &scene.signals, (Tag(0), true), &mut NoDisk);
    assert!(scene.driver.take(&scene.ram).is_none());
}

#[test]
fn a_flush_passes_through() {
    let mut scene = Scene::local(0, SECTORS);
    let status = scene.ask(FLUSH, 0, &[]);
    scene.serve_all();
    assert!(scene.disk.pending[0].operation.is_none());
    assert_eq!(scene.bytes(status, 1), [UNTOLD]);
    scene.complete(0, true);
    assert_eq!(scene.bytes(status, 1), [OK]);
    scene.disk.needless = true;
    assert_eq!(scene.exchange(FLUSH, 0, &[]), (OK, 1));
    assert_eq!(scene.block.counters().flushes, 2);
}

/// Section 5.2.5.1: a driver that does not flush by itself has a disk that writes through.
#[test]
fn writes_of_a_driver_without_flush_are_made_safe_at_once() {
    let mut scene = Scene::local(0, SECTORS);
    scene.up(ALL_FEATURES & !feature::FLUSH);
    let data = scene.at(DATA);
    let status = scene.ask(OUT, 0, &[(data, 512)]);
    scene.serve_all();
    assert_eq!(scene.disk.pending[0].operation, Some(Operation::Write));
    scene.complete(0, true);
    assert_eq!(scene.bytes(status, 1), [UNTOLD]);
    assert_eq!(scene.disk.pending[0].operation, None);
    scene.complete(0, true);
    assert_eq!(scene.bytes(status, 1), [OK]);
    // A flush that fails fails the write; a write that failed is not flushed; a read needs none.
    let status = scene.ask(OUT, 0, &[(data, 512)]);
    scene.serve_all();
    scene.complete(0, true);
    scene.complete(0, false);
    assert_eq!(scene.bytes(status, 1), [FAILED]);
    let status = scene.ask(OUT, 0, &[(data, 512)]);
    scene.serve_all();
    scene.complete(0, false);
    assert_eq!(scene.bytes(status, 1), [FAILED]);
    scene.ask(IN, 0, &[(data, 512)]);
    scene.serve_all();
    scene.complete(0, true);
    assert_eq!(scene.block.in_flight(), 0);
}

#[test]
fn what_the_disk_wrote_is_in_the_dirty_log() {
    let mut scene = Scene::local(0, SECTORS);
    let pages = |scene: &Scene| {
        let log = scene.ram.dirty();
        let mut pages = Vec::new();
        for (word, bits) in log.take(0..log.words()) {
            let set = (0..64).filter(|bit| bits & 1 << bit != 0);
            pages.extend(set.map(|bit| word as u64 * 64 + bit));
        }
        pages
    };
    let [rings, statuses] = [RINGS, STATUSES].map(|at| at / PAGE_SIZE);
    let first = BLOCK_2M / PAGE_SIZE - 1;
    let data = scene.at(BLOCK_2M - PAGE_SIZE);
    scene.ask(IN, 0, &[(data, 8192)]);
    scene.serve_all();
    scene.ram.dirty().set_on(true);
    let tag = scene.disk.perform(0).tag;
    scene
        .block
        .complete(&scene.ram, &scene.signals, (tag, true), &mut scene.disk);
    assert_eq!(pages(&scene), [rings, statuses, first, first + 1]);
    // What the disk only reads is not dirty.
    let buffers = [(data, 8192)];
    scene.ask(OUT, 0, &buffers);
    pages(&scene);
    scene.serve_all();
    scene.complete_all();
    assert_eq!(pages(&scene), [rings, statuses]);
}

#[test]
fn a_disk_that_takes_few_pieces_has_short_requests() {
    for (pieces, segments) in [(2, 1), (3, 1), (16, 8), (126, 63), (1000, 63)] {
        let extent = Extent::new(Sector(0), SECTORS).unwrap();
        let limits = Limits {
            pieces,
            flush: false,
        };
        let block = Block::local(extent, limits, false, Serial::new("x"));
        let mut scene = Scene::new(block, None);
        let seg_max = scene.block.read(0x10c, Width::Word, &scene.signals);
        assert_eq!(seg_max, segments);
        let data = scene.at(DATA);
        let buffers: Vec<_> = (0..4).map(|n| (Ipa(data.0 + 8192 * n), 512)).collect();
        let answer = scene.exchange(IN, 0, &buffers).0;
        assert_eq!(answer, if pieces < 4 { FAILED } else { OK });
        // This one keeps nothing back: no write and no flush waits for it.
        scene.up(ALL_FEATURES & !feature::FLUSH);
        assert_eq!(scene.exchange(OUT, 0, &[(data, 512)]).0, OK);
        scene.ask(FLUSH, 0, &[]);
        scene.serve_all();
        assert!(scene.disk.pending.is_empty() && scene.block.in_flight() == 0);
    }
}
