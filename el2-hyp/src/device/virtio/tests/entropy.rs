//! The source of random bytes as a driver uses it.

use std::vec::Vec;

use crate::addr::Ipa;
use crate::device::virtio::Served;
use crate::device::virtio::entropy::{Entropy, Generator, REQUEST_BYTES, REQUESTS, STEP_REQUESTS};
use crate::device::virtio::signals::Signals;
use crate::device::virtio::testing::{Driver, Ram, Register, bring_up};
use crate::machine::RAM_BASE;
use crate::vgic::Width;

const DATA: u64 = RAM_BASE + 0x10_0000;

struct Scene {
    ram: Ram,
    entropy: Entropy,
    signals: Signals,
    driver: Driver,
    generator: Generator,
}

impl Scene {
    fn new() -> Self {
        let mut s = Self {
            ram: Ram::new(1),
            entropy: Entropy::new(),
            signals: Signals::new(),
            driver: Driver::new(Ipa(RAM_BASE), 16, 0),
            generator: Generator::new([7; 32]),
        };
        bring_up(0, &[s.driver.layout()], |access| match access {
            Register::Read(offset) => s.entropy.read(offset, Width::Word, &s.signals),
            Register::Write(offset, value) => {
                s.entropy
                    .write(offset, Width::Word, value.into(), &s.signals);
                0
            }
        });
        s
    }

    fn notify(&mut self) -> Served {
        let generator = &mut self.generator;
        self.entropy
            .notify(REQUESTS, &self.ram, &self.signals, |bytes| {
                generator.fill(bytes)
            })
    }

    fn bytes(&self, length: usize) -> Vec<u8> {
        let mut bytes = std::vec![0; length];
        self.ram.read(Ipa(DATA), &mut bytes).unwrap();
        bytes
    }
}

#[test]
fn a_request_gets_so_many_bytes_at_most() {
    for (length, got) in [(1, 1), (64, 64), (4096, REQUEST_BYTES as u32), (0, 0)] {
        let mut s = Scene::new();
        s.driver.add(&s.ram, &[], &[(Ipa(DATA), length)]).unwrap();
        assert_eq!(s.notify(), Served::Rest);
        assert_eq!(s.driver.take(&s.ram).unwrap().1, got);
        assert_eq!(s.signals.take_line_change(), Some(true));
        let mut expected = std::vec![0; got as usize];
        Generator::new([7; 32]).fill(&mut expected);
        let bytes = s.bytes(length as usize);
        assert_eq!(bytes[..got as usize], expected);
        assert!(bytes[got as usize..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn each_step_is_bounded() {
    let mut s = Scene::new();
    for _ in 0..=STEP_REQUESTS {
        s.driver.add(&s.ram, &[], &[(Ipa(DATA), 8)]).unwrap();
    }
    assert_eq!(s.notify(), Served::More);
    assert_eq!(s.notify(), Served::Rest);
    for _ in 0..=STEP_REQUESTS {
        assert!(s.driver.take(&s.ram).is_some());
    }
}

#[test]
fn a_broken_rule_stops_it_until_the_reset() {
    let mut s = Scene::new();
    s.driver.make_available(&s.ram, 99);
    assert_eq!(s.notify(), Served::Rest);
    assert_eq!(s.entropy.read(0x70, Width::Word, &s.signals), 0x4f);
    s.driver.add(&s.ram, &[], &[(Ipa(DATA), 8)]).unwrap();
    assert_eq!(s.notify(), Served::Rest);
    assert_eq!(s.driver.take(&s.ram), None);
}

#[test]
fn numbers_differ_by_seed_and_after_a_reseed() {
    let draw = |generator: &mut Generator| {
        let mut bytes = [0; 32];
        generator.fill(&mut bytes);
        bytes
    };
    let (mut a, mut b) = (Generator::new([1; 32]), Generator::new([1; 32]));
    assert_ne!(draw(&mut Generator::new([2; 32])), draw(&mut a));
    draw(&mut b);
    a.reseed(&[3; 32]);
    b.reseed(&[4; 32]);
    assert_ne!(draw(&mut a), draw(&mut b));
    // A seed that an adversary chose does not make numbers known: what was there before counts.
    let (mut c, mut d) = (Generator::new([5; 32]), Generator::new([6; 32]));
    c.reseed(&[0; 32]);
    d.reseed(&[0; 32]);
    assert_ne!(draw(&mut c), draw(&mut d));
}
