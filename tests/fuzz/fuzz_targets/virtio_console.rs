//! A hostile driver against the console: any access to its registers, any rings, input at any time, a sink that has room or not. No step is
//! longer than its bound, what leaves fits the sink, and nothing outside the guest's RAM is touched.
#![no_main]

use hearth_fuzz::virtio;

use el2_hyp::addr::Ipa;
use el2_hyp::device::pl011::Sink;
use el2_hyp::device::virtio::Served;
use el2_hyp::device::virtio::console::{Console, RECEIVE, STEP_BYTES, TRANSMIT};
use el2_hyp::device::virtio::queue::Layout;
use el2_hyp::device::virtio::signals::Signals;
use el2_hyp::device::virtio::testing::Ram;
use el2_hyp::vgic::Width;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

/// Room for so many bytes, and how many came.
struct Line {
    room: usize,
    came: usize,
}

impl Sink for Line {
    fn put(&mut self, _: u8) {
        self.came += 1;
        self.room = self.room.saturating_sub(1);
    }
    fn is_full(&self) -> bool {
        self.room == 0
    }
}

struct Scene<'a> {
    ram: &'a Ram,
    console: Console,
    signals: Signals,
    line: Line,
    layouts: [Layout; 2],
}

impl Scene<'_> {
    fn write(&mut self, offset: u64, width: Width, value: u64) {
        let queue = self
            .console
            .write(offset, width, value, &self.signals, &mut self.line);
        if let Some(queue) = queue {
            self.notify(queue);
        }
    }

    fn notify(&mut self, queue: u16) {
        let (before, room) = (self.line.came, self.line.room);
        let served = self
            .console
            .notify(queue, self.ram, &self.signals, &mut self.line);
        let came = self.line.came - before;
        assert!(came <= STEP_BYTES && came <= room);
        assert!(served != Served::Full || self.line.is_full());
        assert!(queue == TRANSMIT || came == 0);
        if self.signals.needs_reset() {
            assert_eq!(self.console.receive(0), Err(0));
        }
    }

    fn set_up(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let features = u64::from(u.arbitrary::<u8>()?) << 24;
        for layout in &mut self.layouts {
            *layout = virtio::layout(u)?.unwrap_or(*layout);
        }
        let layouts = self.layouts;
        virtio::set_up(features, &layouts, |offset, value| {
            self.write(offset, Width::Word, value.into());
        });
        Ok(())
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        const WIDTHS: [Width; 4] = [Width::Word, Width::Byte, Width::Half, Width::Double];
        match u.int_in_range(0..=15)? {
            0 => self.set_up(u)?,
            1 => {
                let (offset, width) = (virtio::register(u)?, *u.choose(&WIDTHS)?);
                self.write(offset, width, u.arbitrary::<u16>()?.into());
            }
            2 => {
                let width = *u.choose(&WIDTHS)?;
                let value = self
                    .console
                    .read(virtio::register(u)?, width, &self.signals);
                assert_eq!(value & !width.mask(), 0);
            }
            3 => self.line.room = u.arbitrary::<u16>()?.into(),
            4 => {
                for _ in 0..u.arbitrary::<u8>()? {
                    // Too much, or too early: it is handed back.
                    let _ = self.console.receive(7);
                }
                self.notify(RECEIVE);
            }
            5 | 6 => self.notify(RECEIVE),
            7 | 8 => self.notify(TRANSMIT),
            _ => {
                let layout = *u.choose(&self.layouts)?;
                virtio::act(u, self.ram, &layout)?;
            }
        }
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    virtio::with_ram(|ram| {
        let nowhere = Layout::new(1, Ipa(0), Ipa(0), Ipa(0)).expect("sound");
        let mut scene = Scene {
            ram,
            console: Console::new(),
            signals: Signals::new(),
            line: Line {
                room: 1000,
                came: 0,
            },
            layouts: [nowhere; 2],
        };
        let mut u = Unstructured::new(data);
        // An input that ends within a step ends the run.
        let _ = scene.set_up(&mut u);
        while !u.is_empty() && scene.step(&mut u).is_ok() {}
    });
});
