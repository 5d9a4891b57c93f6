//! Resets in the middle of requests.

use super::scene::*;
use crate::device::virtio::Served;
use crate::device::virtio::block::Written;

const SECTORS: u64 = 2048;

#[test]
fn a_reset_is_over_when_all_requests_are_back() {
    let mut scene = Scene::local(0, SECTORS);
    let data = scene.at(DATA);
    let status = scene.ask(IN, 0, &[(data, 512)]);
    scene.ask(OUT, 0, &[(data, 512)]);
    scene.serve_all();
    assert_eq!(scene.set_status(0), Written::Reset);
    assert!(scene.block.is_draining());
    assert_eq!(scene.status(), 0xf);
    // Once more is the same.
    assert_eq!(scene.set_status(0), Written::Reset);
    assert_eq!(scene.status(), 0xf);
    let before = scene.ram.bytes();
    scene.complete(1, true);
    assert!(scene.block.is_draining());
    scene.complete(0, false);
    assert!(!scene.block.is_draining());
    assert_eq!(scene.status(), 0);
    // Neither status nor ring was touched.
    assert!(scene.ram.bytes() == before);
    assert_eq!(scene.bytes(status, 1), [UNTOLD]);
    assert!(!scene.signals.line());
    scene.up(ALL_FEATURES);
    assert_eq!(scene.exchange(IN, 0, &[(data, 512)]).0, OK);
}

#[test]
fn a_reset_without_requests_is_over_at_once() {
    for mut scene in [Scene::local(0, SECTORS), Scene::ephemeral(&[], SECTORS)] {
        assert_eq!(scene.set_status(0), Written::Reset);
        assert!(!scene.block.is_draining());
        assert_eq!(scene.status(), 0);
    }
}

/// Linux' mmio driver does not wait. If its vCPU is let go on nevertheless, what is left of the old requests does not disturb the new.
#[test]
fn old_requests_leave_no_trace_in_new_rings() {
    let mut scene = Scene::local(0, SECTORS);
    let data = scene.at(DATA);
    scene.ask(IN, 0, &[(data, 512)]);
    scene.ask(FLUSH, 0, &[]);
    scene.serve_all();
    let old: std::vec::Vec<_> = scene.disk.pending.drain(..).collect();
    scene.up(ALL_FEATURES);
    assert!(!scene.block.is_draining());
    let status = scene.ask(IN, 0, &[(data, 512)]);
    assert_eq!(scene.serve(), Served::Rest);
    assert_eq!(scene.block.in_flight(), 3);
    for old in &old {
        assert_ne!(old.tag, scene.disk.pending[0].tag);
        scene
            .block
            .complete(&scene.ram, &scene.signals, (old.tag, true), &mut scene.disk);
    }
    assert!(scene.driver.take(&scene.ram).is_none());
    assert_eq!(scene.bytes(status, 1), [UNTOLD]);
    scene.complete(0, true);
    assert_eq!(scene.bytes(status, 1), [OK]);
    assert!(scene.driver.take(&scene.ram).is_some());
    assert!(scene.driver.take(&scene.ram).is_none());
}

#[test]
fn what_a_driver_that_gave_up_had_asked_is_dropped() {
    let mut scene = Scene::local(0, SECTORS);
    let data = scene.at(DATA);
    let status = scene.ask(IN, 0, &[(data, 512)]);
    scene.serve_all();
    // FAILED.
    assert_eq!(scene.set_status(0x80), Written::Nothing);
    assert!(!scene.block.is_draining());
    scene.complete(0, true);
    assert_eq!(scene.bytes(status, 1), [UNTOLD]);
    assert_eq!(scene.status(), 0x8f);
}

#[test]
fn a_guest_that_starts_anew_finds_a_new_disk() {
    let image: &[u8] = &[5; 4096];
    let mut scene = Scene::ephemeral(image, 16);
    let (from, to) = (scene.at(DATA), scene.at(DATA + 0x2000));
    assert_eq!(scene.exchange(OUT, 0, &[(from, 8192)]).0, OK);
    scene.block.restart(&scene.signals);
    assert_eq!(scene.status(), 0);
    scene.up(ALL_FEATURES);
    assert_eq!(scene.exchange(IN, 0, &[(to, 8192)]).0, OK);
    assert_eq!(scene.bytes(to, 8192), [[5; 4096], [0; 4096]].concat());
}

/// A long request that was begun is nothing after a reset.
#[test]
fn a_reset_ends_a_request_that_was_begun() {
    let mut scene = Scene::ephemeral(&[], SECTORS);
    let data = scene.at(DATA);
    let status = scene.ask(OUT, 0, &[(data, SECTORS as u32 * 512)]);
    let served = scene
        .block
        .serve(&scene.ram, &scene.signals, &mut scene.disk, 1);
    assert_eq!(served, Served::More);
    assert_eq!(scene.set_status(0), Written::Reset);
    assert_eq!(scene.status(), 0);
    assert_eq!(scene.serve(), Served::Rest);
    assert_eq!(scene.bytes(status, 1), [UNTOLD]);
}
