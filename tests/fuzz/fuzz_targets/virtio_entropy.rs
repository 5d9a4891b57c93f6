//! A hostile driver against the source of random bytes: any access to its registers, any rings. No step draws more than its bound, and nothing
//! outside the guest's RAM is touched.
#![no_main]

use hearth_fuzz::virtio;

use el2_hyp::addr::Ipa;
use el2_hyp::device::virtio::entropy::{Entropy, REQUEST_BYTES, STEP_REQUESTS};
use el2_hyp::device::virtio::queue::Layout;
use el2_hyp::device::virtio::signals::Signals;
use el2_hyp::device::virtio::testing::Ram;
use el2_hyp::vgic::Width;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

struct Scene<'a> {
    ram: &'a Ram,
    entropy: Entropy,
    signals: Signals,
    layout: Layout,
}

impl Scene<'_> {
    fn write(&mut self, offset: u64, width: Width, value: u64) {
        let queue = self.entropy.write(offset, width, value, &self.signals);
        if let Some(queue) = queue {
            self.notify(queue);
        }
    }

    fn notify(&mut self, queue: u16) {
        let mut requests = 0;
        let source = |bytes: &mut [u8]| {
            assert!(bytes.len() <= REQUEST_BYTES);
            bytes.fill(0x5a);
            requests += 1;
        };
        let _ = self.entropy.notify(queue, self.ram, &self.signals, source);
        assert!(requests <= STEP_REQUESTS);
    }

    fn set_up(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let features = u64::from(u.arbitrary::<u8>()?) << 24;
        self.layout = virtio::layout(u)?.unwrap_or(self.layout);
        let layout = self.layout;
        virtio::set_up(features, &[layout], |offset, value| {
            self.write(offset, Width::Word, value.into());
        });
        Ok(())
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        const WIDTHS: [Width; 4] = [Width::Word, Width::Byte, Width::Half, Width::Double];
        match u.int_in_range(0..=9)? {
            0 => self.set_up(u)?,
            1 => {
                let (offset, width) = (virtio::register(u)?, *u.choose(&WIDTHS)?);
                self.write(offset, width, u.arbitrary::<u16>()?.into());
            }
            2 => {
                let width = *u.choose(&WIDTHS)?;
                let value = self
                    .entropy
                    .read(virtio::register(u)?, width, &self.signals);
                assert_eq!(value & !width.mask(), 0);
            }
            3 | 4 => self.notify(0),
            _ => virtio::act(u, self.ram, &self.layout)?,
        }
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    virtio::with_ram(|ram| {
        let mut scene = Scene {
            ram,
            entropy: Entropy::new(),
            signals: Signals::new(),
            layout: Layout::new(1, Ipa(0), Ipa(0), Ipa(0)).expect("sound"),
        };
        let mut u = Unstructured::new(data);
        // An input that ends within a step ends the run.
        let _ = scene.set_up(&mut u);
        while !u.is_empty() && scene.step(&mut u).is_ok() {}
    });
});
