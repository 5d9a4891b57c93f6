//! Any access to the registers of a device, with a device behind them that signals. What may be read is what the specification says of the
//! state that the writes led to; the line follows the causes; no queue runs that was not set up soundly.
#![no_main]

use el2_hyp::device::virtio::queue::MAX_QUEUE_SIZE;
use el2_hyp::device::virtio::signals::Signals;
use el2_hyp::device::virtio::transport::{Transport, Written, notified};
use el2_hyp::device::virtio::{DeviceId, feature};
use el2_hyp::vgic::Width;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

const QUEUES: usize = 3;
const OFFERED: u64 = 0b111 | feature::COMMON;
const CONFIG: [u8; 21] = *b"abcdefghijklmnopqrstu";
const STATUS: u64 = 0x70;

struct Scene {
    transport: Transport<QUEUES>,
    signals: Signals,
    /// The queues that a device would be serving.
    running: [bool; QUEUES],
    /// The line as the interrupt controller has it.
    line: bool,
}

/// Feature 2 needs feature 1.
fn accepts(features: u64) -> bool {
    features & 0b110 != 0b100
}

impl Scene {
    fn read(&self, offset: u64) -> u64 {
        self.transport
            .read(offset, Width::Word, &CONFIG, &self.signals)
    }

    fn write(&mut self, offset: u64, width: Width, value: u64) {
        let before = self.read(STATUS);
        let was_running = self.transport.is_running();
        let features = self.transport.features();
        let written = self.transport.write(offset, width, value, &self.signals);
        match written {
            Written::Notify(queue) => {
                assert!(usize::from(queue) < QUEUES);
                assert_eq!(notified(offset, width, value & 0xffff_ffff), Some(queue));
            }
            Written::Start => {
                assert!(!was_running && self.transport.is_running());
                for queue in 0..QUEUES {
                    self.running[queue] = self.transport.layout(queue as u16).is_some();
                }
            }
            Written::StartQueue(queue) => {
                assert!(was_running && !self.running[usize::from(queue)]);
                assert!(!self.signals.needs_reset());
                self.running[usize::from(queue)] = true;
            }
            Written::StopQueue(queue) => self.running[usize::from(queue)] = false,
            Written::Stop => {
                self.running = [false; QUEUES];
                self.signals.clear();
            }
            Written::Config { offset: at, .. } => assert_eq!(at + 0x100, offset),
            Written::Nothing => {}
        }
        let after = self.read(STATUS);
        // Only a reset takes bits away, and features stay once they are accepted.
        if after != 0 && written != Written::Stop {
            assert_eq!(before & !after, 0);
            assert!(before & 8 == 0 || features == self.transport.features());
        }
        self.check();
    }

    fn check(&mut self) {
        let status = self.read(STATUS);
        let features = self.transport.features();
        assert_eq!(status & !0xcf, 0);
        assert!(status & 4 == 0 || status & 8 != 0);
        if status & 8 != 0 {
            assert_eq!(features & !OFFERED, 0);
            assert!(features & feature::VERSION_1 != 0 && accepts(features));
        }
        for (index, running) in self.running.iter().enumerate() {
            let layout = self.transport.layout(index as u16);
            assert!(!running || self.transport.is_running());
            assert!(!running || layout.is_some());
            if let Some(layout) = layout {
                let [descriptors, available, used] = layout.addresses();
                assert!(layout.size().is_power_of_two() && layout.size() <= MAX_QUEUE_SIZE);
                assert!(descriptors.0 % 16 == 0 && available.0 % 2 == 0 && used.0 % 4 == 0);
            }
        }
        assert_eq!(self.signals.line(), self.read(0x60) != 0);
        let changed = self.signals.has_line_change();
        let mut taken = 0;
        while let Some(level) = self.signals.take_line_change() {
            self.line = level;
            taken += 1;
        }
        assert!(changed == (taken > 0) && taken <= 2);
        assert_eq!(self.line, self.signals.line());
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        const WIDTHS: [Width; 4] = [Width::Byte, Width::Half, Width::Word, Width::Double];
        let offset = match u.int_in_range(0..=3)? {
            0 => u.int_in_range(0..=0x1ff_u64)?,
            // Status, features and the registers of queues.
            _ => *u.choose(&[
                0x14_u64, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64, 0x70, 0x70, 0x80, 0x84, 0x90,
                0x94, 0xa0, 0xa4,
            ])?,
        };
        let width = if u.ratio(1, 8)? {
            *u.choose(&WIDTHS)?
        } else {
            Width::Word
        };
        match u.int_in_range(0..=9)? {
            0 => self.signals.used(),
            1 => self.transport.configuration_changed(&self.signals),
            2 if u.ratio(1, 8)? => self.signals.fail(),
            2 | 3 => {
                let value = self.transport.read(offset, width, &CONFIG, &self.signals);
                assert_eq!(value & !width.mask(), 0);
                assert!(width == Width::Word || offset >= 0x100 || value == 0);
            }
            _ => {
                let value = match u.int_in_range(0..=2)? {
                    0 => u.arbitrary()?,
                    1 => 1 << u.int_in_range(0..=31)?,
                    _ => u64::from(u.arbitrary::<u8>()?),
                };
                self.write(offset, width, value);
            }
        }
        self.check();
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    let mut scene = Scene {
        transport: Transport::new(DeviceId::Block, 0b111, accepts),
        signals: Signals::new(),
        running: [false; QUEUES],
        line: false,
    };
    let mut u = Unstructured::new(data);
    // An input that ends within a step ends the run.
    while !u.is_empty() && scene.step(&mut u).is_ok() {}
});
