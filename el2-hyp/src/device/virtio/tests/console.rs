//! The console as a driver uses it.

use std::vec::Vec;

use crate::addr::Ipa;
use crate::device::pl011::Sink;
use crate::device::virtio::console::{
    Console, INPUT_BYTES, RECEIVE, STEP_BYTES, STEP_CHAINS, TRANSMIT,
};
use crate::device::virtio::signals::Signals;
use crate::device::virtio::testing::{Driver, Ram, Register, bring_up};
use crate::device::virtio::{Served, feature};
use crate::machine::RAM_BASE;
use crate::vgic::Width;

const DATA: u64 = RAM_BASE + 0x10_0000;

/// A line that takes so many bytes.
struct Line(Vec<u8>, usize);

impl Sink for Line {
    fn put(&mut self, byte: u8) {
        assert!(!self.is_full());
        self.0.push(byte);
    }
    fn is_full(&self) -> bool {
        self.0.len() >= self.1
    }
}

struct Scene {
    ram: Ram,
    console: Console,
    signals: Signals,
    line: Line,
    drivers: [Driver; 2],
}

impl Scene {
    fn new(features: u64) -> Self {
        let driver = |n: u64| Driver::new(Ipa(RAM_BASE + 0x1_0000 * n), 128, features);
        let mut scene = Self {
            ram: Ram::new(1),
            console: Console::new(),
            signals: Signals::new(),
            line: Line(Vec::new(), usize::MAX),
            drivers: [driver(0), driver(1)],
        };
        let layouts = [scene.drivers[0].layout(), scene.drivers[1].layout()];
        bring_up(features, &layouts, |access| match access {
            Register::Read(offset) => scene.console.read(offset, Width::Word, &scene.signals),
            Register::Write(offset, value) => {
                scene.write(offset, value);
                0
            }
        });
        scene
    }

    fn write(&mut self, offset: u64, value: u32) -> Option<u16> {
        self.console.write(
            offset,
            Width::Word,
            value.into(),
            &self.signals,
            &mut self.line,
        )
    }

    fn notify(&mut self, queue: u16) -> Served {
        assert_eq!(self.write(0x50, queue.into()), Some(queue));
        self.console
            .notify(queue, &self.ram, &self.signals, &mut self.line)
    }

    /// Makes text ready to go out.
    fn send(&mut self, text: &[u8]) {
        self.ram.write(Ipa(DATA), text).unwrap();
        let half = text.len() as u32 / 2;
        let rest = text.len() as u32 - half;
        let buffers = [(Ipa(DATA), half), (Ipa(DATA + u64::from(half)), rest)];
        self.drivers[1].add(&self.ram, &buffers, &[]).unwrap();
    }
}

#[test]
fn output_leaves_with_one_interrupt() {
    for features in [0, feature::EVENT_IDX] {
        let mut s = Scene::new(features);
        s.send(b"hello, ");
        assert!(s.drivers[1].should_notify(&s.ram));
        assert_eq!(s.notify(TRANSMIT), Served::Rest);
        assert_eq!(s.line.0, b"hello, ");
        assert!(s.drivers[1].take(&s.ram).is_some());
        assert_eq!(s.signals.take_line_change(), Some(true));
        s.write(0x64, 1);
        assert_eq!(s.signals.take_line_change(), Some(false));
        s.drivers[1].disable_interrupts(&s.ram);
        s.send(b"world");
        assert!(s.drivers[1].should_notify(&s.ram));
        assert_eq!(s.notify(TRANSMIT), Served::Rest);
        assert_eq!(s.line.0, b"hello, world");
        assert_eq!(s.signals.take_line_change(), None);
    }
}

#[test]
fn a_full_sink_keeps_the_rest_with_the_guest() {
    let mut s = Scene::new(0);
    s.line.1 = 70;
    let text: Vec<u8> = (0..200).collect();
    s.send(&text);
    assert_eq!(s.notify(TRANSMIT), Served::Full);
    assert_eq!(s.line.0, text[..70]);
    assert_eq!(s.drivers[1].take(&s.ram), None);
    assert_eq!(s.notify(TRANSMIT), Served::Full);
    s.line.1 = 300;
    assert_eq!(s.notify(TRANSMIT), Served::Rest);
    assert_eq!(s.line.0, text);
    assert!(s.drivers[1].take(&s.ram).is_some());
}

#[test]
fn each_step_is_bounded() {
    let mut s = Scene::new(0);
    let text: Vec<u8> = (0..STEP_BYTES * 5 / 2).map(|n| n as u8).collect();
    s.send(&text);
    assert_eq!(s.notify(TRANSMIT), Served::More);
    assert_eq!(s.line.0.len(), STEP_BYTES);
    assert_eq!(s.notify(TRANSMIT), Served::More);
    assert_eq!(s.notify(TRANSMIT), Served::Rest);
    assert_eq!(s.line.0, text);
    s.drivers[1].take(&s.ram).unwrap();
    s.line.0.clear();
    for _ in 0..=STEP_CHAINS {
        s.drivers[1].add(&s.ram, &[(Ipa(DATA), 1)], &[]).unwrap();
    }
    assert_eq!(s.notify(TRANSMIT), Served::More);
    assert_eq!(s.line.0.len(), STEP_CHAINS);
    assert_eq!(s.notify(TRANSMIT), Served::Rest);
    assert_eq!(s.line.0.len(), STEP_CHAINS + 1);
}

#[test]
fn input_waits_for_buffers_and_fills_them() {
    let mut s = Scene::new(feature::EVENT_IDX);
    for byte in 0..10 {
        s.console.receive(byte).unwrap();
    }
    assert_eq!(s.notify(RECEIVE), Served::Rest);
    assert_eq!(s.signals.take_line_change(), None);
    for n in 0..3 {
        let buffer = (Ipa(DATA + 16 * n), 4);
        s.drivers[0].add(&s.ram, &[], &[buffer]).unwrap();
    }
    assert!(s.drivers[0].should_notify(&s.ram));
    assert_eq!(s.notify(RECEIVE), Served::Rest);
    assert_eq!(s.signals.take_line_change(), Some(true));
    let written: Vec<u32> = (0..3)
        .map(|_| s.drivers[0].take(&s.ram).unwrap().1)
        .collect();
    assert_eq!(written, [4, 4, 2]);
    let mut bytes = [0; 4];
    s.ram.read(Ipa(DATA + 16), &mut bytes).unwrap();
    assert_eq!(bytes, [4, 5, 6, 7]);
}

#[test]
fn input_is_bounded_and_needs_a_driver() {
    assert_eq!(Console::new().receive(1), Err(1));
    let mut s = Scene::new(0);
    for _ in 0..INPUT_BYTES {
        s.console.receive(1).unwrap();
    }
    assert_eq!(s.console.receive(2), Err(2));
    // A reset drops what waits.
    s.write(0x70, 0);
    assert_eq!(s.console.receive(3), Err(3));
}

#[test]
fn a_broken_rule_stops_both_queues_until_the_reset() {
    let mut s = Scene::new(0);
    s.drivers[1].make_available(&s.ram, 999);
    assert_eq!(s.notify(TRANSMIT), Served::Rest);
    assert_eq!(s.signals.take_line_change(), Some(true));
    assert_eq!(s.console.read(0x70, Width::Word, &s.signals), 0x4f);
    assert_eq!(s.console.receive(1), Err(1));
    s.write(0x70, 0);
    assert_eq!(s.console.read(0x70, Width::Word, &s.signals), 0);
    assert_eq!(s.signals.take_line_change(), Some(false));
}

#[test]
fn a_byte_leaves_in_an_emergency() {
    let (mut console, signals) = (Console::new(), Signals::new());
    let mut line = Line(Vec::new(), 9);
    console.write(0x108, Width::Word, 0x121, &signals, &mut line);
    console.write(0x104, Width::Word, 0x121, &signals, &mut line);
    assert_eq!(line.0, b"!");
}
