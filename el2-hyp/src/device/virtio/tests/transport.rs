//! The registers, driven as drivers do and as they should not.

use proptest::prelude::*;

use crate::addr::Ipa;
use crate::device::virtio::queue::Layout;
use crate::device::virtio::signals::Signals;
use crate::device::virtio::testing::{Register, bring_up};
use crate::device::virtio::transport::{Transport, Written, notified};
use crate::device::virtio::{DeviceId, feature};
use crate::vgic::Width;

const CONFIG: [u8; 5] = [1, 2, 3, 4, 5];

struct Scene {
    transport: Transport<2>,
    signals: Signals,
}

/// Feature 1 needs feature 0.
fn accepts(features: u64) -> bool {
    features & 0b10 == 0 || features & 0b01 != 0
}

impl Scene {
    fn new() -> Self {
        Self {
            transport: Transport::new(DeviceId::Entropy, 0b11, accepts),
            signals: Signals::new(),
        }
    }

    fn read(&self, offset: u64) -> u64 {
        self.transport
            .read(offset, Width::Word, &CONFIG, &self.signals)
    }

    fn write(&mut self, offset: u64, value: u32) -> Written {
        self.transport
            .write(offset, Width::Word, value.into(), &self.signals)
    }

    fn up(&mut self) -> u64 {
        bring_up(u64::MAX, &[layout(0)], |access| match access {
            Register::Read(offset) => self.read(offset),
            Register::Write(offset, value) => {
                self.write(offset, value);
                0
            }
        })
    }
}

fn layout(n: u64) -> Layout {
    let base = 0x4000_0000 + 0x1_0000 * n;
    Layout::new(16, Ipa(base), Ipa(base + 0x1002), Ipa(base + 0x2004)).unwrap()
}

#[test]
fn it_says_what_it_is() {
    let s = Scene::new();
    assert_eq!(s.read(0), 0x7472_6976);
    assert_eq!(s.read(4), 2);
    assert_eq!(s.read(8), 4);
    assert_eq!(s.read(0xb0), 0xffff_ffff);
    assert_eq!(s.read(0xbc), 0xffff_ffff);
}

#[test]
fn a_driver_brings_it_up() {
    let mut s = Scene::new();
    assert_eq!(s.up(), 0b11 | feature::COMMON);
    assert!(s.transport.is_running());
    assert_eq!(s.transport.features(), 0b11 | feature::COMMON);
    assert_eq!(s.transport.layout(0), Some(layout(0)));
    assert_eq!(s.transport.layout(1), None);
    assert_eq!(s.transport.layout(2), None);
    assert_eq!(s.write(0x50, 1), Written::Notify(1));
    assert_eq!(s.write(0x50, 2), Written::Nothing);
    assert_eq!(s.write(0x70, 0), Written::Stop);
    assert_eq!(s.read(0x70), 0);
    assert_eq!(s.transport.features(), 0);
    assert_eq!(s.transport.layout(0), None);
}

#[test]
fn the_last_step_starts_it() {
    let mut s = Scene::new();
    s.write(0x24, 1);
    s.write(0x20, 1);
    assert_eq!(s.write(0x70, 0xb), Written::Nothing);
    assert_eq!(s.write(0x70, 0xf), Written::Start);
    assert_eq!(s.write(0x70, 0xf), Written::Nothing);
    // Bits are not taken away one by one.
    assert_eq!(s.write(0x70, 1), Written::Nothing);
    assert_eq!(s.read(0x70), 0xf);
    assert_eq!(s.write(0x70, 0x8f), Written::Stop);
    assert_eq!(s.read(0x70), 0x8f);
    assert_eq!(s.write(0x70, 0xf), Written::Nothing);
    assert!(!s.transport.is_running());
}

#[test]
fn features_are_a_subset_that_goes_together() {
    for (low, high, accepted) in [
        (0, 1, true),
        (1, 1, true),
        (3, 1, true),
        (2, 1, false),
        (0, 0, false),
        (4, 1, false),
        (0, 3, false),
    ] {
        let mut s = Scene::new();
        for (select, value) in [(0, low), (1, high), (2, 0xffff_ffff)] {
            s.write(0x24, select);
            s.write(0x20, value);
        }
        s.write(0x70, 0xb);
        assert_eq!(s.read(0x70), if accepted { 0xb } else { 3 });
        s.write(0x70, 0xf);
        assert_eq!(s.transport.is_running(), accepted);
    }
}

#[test]
fn accepted_features_stay() {
    let mut s = Scene::new();
    s.up();
    s.write(0x24, 0);
    s.write(0x20, 0);
    assert_eq!(s.transport.features(), 0b11 | feature::COMMON);
    for (select, value) in [(0, 0x3000_0003), (1, 1), (2, 0), (u32::MAX, 0)] {
        s.write(0x14, select);
        assert_eq!(s.read(0x10), value);
    }
}

#[test]
fn a_bad_queue_does_not_become_ready() {
    let mut s = Scene::new();
    s.write(0x30, 1);
    for (size, address, ready) in [
        (3, 0, 0),
        (512, 0, 0),
        (0, 0, 0),
        (0x1_0010, 0, 0),
        (16, 8, 0),
        (16, 16, 1),
    ] {
        s.write(0x38, size);
        s.write(0x80, address);
        s.write(0x44, 1);
        assert_eq!(s.read(0x44), ready);
    }
    // A queue that is ready cannot be moved.
    s.write(0x80, 0x1000);
    s.write(0x44, 1);
    assert_eq!(s.transport.layout(1).unwrap().addresses()[0], Ipa(16));
    s.write(0x44, 0);
    assert_eq!(s.read(0x44), 0);
    s.write(0x30, 2);
    assert_eq!((s.read(0x34), s.read(0x44)), (0, 0));
    assert_eq!(s.write(0x44, 1), Written::Nothing);
}

#[test]
fn queues_start_and_stop_while_it_runs() {
    let mut s = Scene::new();
    s.up();
    assert_eq!(s.write(0x44, 0), Written::StopQueue(0));
    assert_eq!(s.write(0x44, 0), Written::Nothing);
    assert_eq!(s.write(0x44, 1), Written::StartQueue(0));
    assert_eq!(s.write(0x44, 1), Written::Nothing);
    // A device that needs a reset lets go of what it has, and takes nothing up.
    s.signals.fail();
    assert_eq!(s.write(0x44, 0), Written::StopQueue(0));
    assert_eq!(s.write(0x44, 1), Written::Nothing);
}

#[test]
fn interrupts_have_causes_and_a_line() {
    let mut s = Scene::new();
    s.up();
    assert_eq!(s.signals.take_line_change(), None);
    s.signals.used();
    assert!(s.signals.has_line_change());
    assert_eq!(s.signals.take_line_change(), Some(true));
    assert_eq!(s.signals.take_line_change(), None);
    s.transport.configuration_changed(&s.signals);
    assert_eq!(s.signals.take_line_change(), None);
    assert_eq!(s.read(0x60), 3);
    s.write(0x64, 1);
    // What is left shows as an edge.
    assert_eq!(s.read(0x60), 2);
    assert_eq!(s.signals.take_line_change(), Some(false));
    assert_eq!(s.signals.take_line_change(), Some(true));
    assert_eq!(s.signals.take_line_change(), None);
    s.write(0x64, 0xffff_ffff);
    assert_eq!(
        (s.read(0x60), s.signals.take_line_change()),
        (0, Some(false))
    );
    // Up and down before anyone looked is told as what it is.
    s.signals.used();
    s.write(0x64, 1);
    assert_eq!(s.signals.take_line_change(), Some(false));
}

#[test]
fn a_broken_rule_shows_until_the_reset() {
    let mut s = Scene::new();
    s.up();
    s.signals.fail();
    assert_eq!(s.read(0x70), 0x4f);
    assert_eq!(s.read(0x60), 2);
    assert_eq!(s.signals.take_line_change(), Some(true));
    s.write(0x64, 2);
    assert!(s.signals.needs_reset());
    s.write(0x70, 0);
    assert!(!s.signals.needs_reset());
    assert_eq!(s.read(0x70), 0);
    s.up();
    // The driver cannot say it.
    s.write(0x70, 0x4f);
    assert_eq!(s.read(0x70), 0xf);
}

#[test]
fn the_configuration_is_read_at_any_width() {
    let s = Scene::new();
    let read = |at, width| s.transport.read(0x100 + at, width, &CONFIG, &s.signals);
    assert_eq!(read(0, Width::Byte), 1);
    assert_eq!(read(1, Width::Half), 0x302);
    assert_eq!(read(2, Width::Word), 0x0005_0403);
    assert_eq!(read(0, Width::Double), 0x05_0403_0201);
    assert_eq!(read(5, Width::Double), 0);
    assert_eq!(read(u64::MAX - 0x100, Width::Double), 0);
}

#[test]
fn the_generation_tells_of_changes() {
    let mut s = Scene::new();
    let before = s.read(0xfc);
    s.transport.configuration_changed(&s.signals);
    assert_ne!(s.read(0xfc), before);
    // Nobody is there to be told.
    assert_eq!(s.read(0x60), 0);
}

#[test]
fn registers_take_words_alone() {
    let mut s = Scene::new();
    for width in [Width::Byte, Width::Half, Width::Double] {
        assert_eq!(s.transport.read(0, width, &CONFIG, &s.signals), 0);
        assert_eq!(
            s.transport.write(0x70, width, 1, &s.signals),
            Written::Nothing
        );
        assert_eq!(notified(0x50, width, 0), None);
    }
    assert_eq!(s.read(0x70), 0);
    assert_eq!(s.read(2), 0);
    assert_eq!(notified(0x50, Width::Word, 1), Some(1));
    assert_eq!(notified(0x54, Width::Word, 1), None);
    assert_eq!(notified(0x50, Width::Word, 0x1_0000), None);
}

proptest! {
    #[test]
    fn no_access_harms(accesses: Vec<(bool, u64, u8, u64)>) {
        let mut s = Scene::new();
        for (write, offset, width, value) in accesses {
            let width = [Width::Byte, Width::Half, Width::Word, Width::Double][usize::from(width % 4)];
            if write {
                s.transport.write(offset % 0x200, width, value, &s.signals);
            } else {
                s.transport.read(offset % 0x200, width, &CONFIG, &s.signals);
            }
            prop_assert!(!s.transport.is_running() || s.transport.features() & feature::VERSION_1 != 0);
        }
    }
}
