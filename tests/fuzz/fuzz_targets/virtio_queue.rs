//! A hostile driver against the device's side of a queue: any rings, any descriptors, changed at any time. Nothing outside the guest's RAM
//! is touched, and within it only the used ring and what the driver gave to be written; every chain keeps the bounds; a queue that met a
//! broken rule stands still.
#![no_main]

use hearth_fuzz::virtio;

use std::collections::BTreeSet;

use el2_hyp::addr::Ipa;
use el2_hyp::device::virtio::chain::{Chain, Head, MAX_SEGMENTS, Segment};
use el2_hyp::device::virtio::queue::{Layout, Queue, QueueError};
use el2_hyp::device::virtio::testing::Ram;
use el2_hyp::machine::RAM_BASE;
use hearth_fuzz::virtio::{END, act, dirty_pages, layout, pages};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

/// Bytes that are read or written of a chain at once.
const COPIED: usize = 3000;

struct Scene<'a> {
    ram: &'a Ram,
    queue: Queue,
    layout: Layout,
    chain: Chain,
    held: Vec<Head>,
    /// Pops since anything was pushed, which may be taken back.
    fresh: u16,
    /// Pages that the device may have written.
    allowed: BTreeSet<u64>,
    /// Pages that anyone has written.
    touched: BTreeSet<u64>,
}

impl Scene<'_> {
    /// The device may write to the pages of the used ring.
    fn allow_ring(&mut self) {
        let used = self.layout.addresses()[2].0;
        let bytes = 6 + 8 * u64::from(self.layout.size());
        self.allowed.extend(pages(used, bytes));
    }

    /// What the driver does lies beside what the device does.
    fn act(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        self.settle();
        let acted = act(u, self.ram, &self.layout);
        self.touched.extend(dirty_pages(self.ram));
        acted
    }

    /// The device wrote where it might.
    fn settle(&mut self) {
        for page in dirty_pages(self.ram) {
            assert!(self.allowed.contains(&page), "page {page} was written");
            self.touched.insert(page);
        }
    }

    fn pop(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match self.queue.pop(self.ram, &mut self.chain) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                self.broken(error);
                return Ok(());
            }
        }
        let (readable, writable) = (self.chain.readable(), self.chain.writable());
        assert!(readable.len() + writable.len() <= MAX_SEGMENTS);
        for (segments, bytes) in [
            (readable, self.chain.readable_bytes()),
            (writable, self.chain.writable_bytes()),
        ] {
            let sum: u64 = segments.iter().map(|s| u64::from(s.length)).sum();
            assert_eq!(sum, u64::from(bytes));
            for Segment { ipa, length } in segments {
                assert!(ipa.0 >= RAM_BASE && *length > 0);
                assert!(ipa.0 + u64::from(*length) <= END);
            }
        }
        self.serve(u)?;
        self.held.push(self.chain.head());
        self.fresh += 1;
        Ok(())
    }

    /// Reads and writes some of the chain.
    fn serve(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut bytes = [0xff; COPIED];
        let wanted = usize::from(u.arbitrary::<u16>()?) % COPIED;
        let mut reader = self.chain.reader(self.ram);
        let read = reader.read(&mut bytes[..wanted]).expect("within RAM");
        assert_eq!(read, wanted.min(self.chain.readable_bytes() as usize));
        assert_eq!(
            reader.remaining() + read,
            self.chain.readable_bytes() as usize
        );
        let room = self.chain.writable_bytes() as usize;
        let mut left = (wanted + COPIED).min(room) as u64;
        for segment in self.chain.writable() {
            let here = left.min(segment.length.into());
            left -= here;
            self.allowed.extend(pages(segment.ipa.0, here));
        }
        let mut writer = self.chain.writer(self.ram);
        let written = writer.write(&bytes[..wanted]).expect("within RAM");
        assert_eq!(written, wanted.min(room));
        let copied = writer.copy(&mut reader, COPIED).expect("within RAM");
        let whole = (self.chain.readable_bytes() as usize - read).min(room - written);
        assert_eq!(copied, COPIED.min(whole));
        assert_eq!(writer.written() as usize, written + copied);
        Ok(())
    }

    fn checked<T>(&mut self, result: core::result::Result<T, QueueError>) {
        if let Err(error) = result {
            self.broken(error);
        }
    }

    /// The queue stands still, and what it was lent is forgotten.
    fn broken(&mut self, _: QueueError) {
        assert!(!self.queue.is_running());
        self.held.clear();
        self.fresh = 0;
        assert_eq!(self.queue.pop(self.ram, &mut self.chain), Ok(false));
        assert_eq!(self.queue.enable_notifications(self.ram), Ok(false));
    }

    fn start(&mut self, layout: Layout, features: u64) {
        self.layout = layout;
        self.queue.start(layout, features);
        self.held.clear();
        self.fresh = 0;
        self.allow_ring();
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if !self.queue.is_running() {
            if let Some(layout) = layout(u)? {
                self.start(layout, u64::from(u.arbitrary::<u8>()?) << 25);
            }
            return Ok(());
        }
        match u.int_in_range(0..=11)? {
            0..=5 => self.act(u)?,
            6 | 7 => self.pop(u)?,
            8 => {
                if let Some(head) = self.held.pop() {
                    self.fresh = 0;
                    let pushed = self.queue.push(self.ram, head, u.arbitrary()?);
                    self.checked(pushed);
                }
            }
            9 => {
                let asked = self.queue.should_interrupt(self.ram).map(drop);
                self.checked(asked);
                let off = self.queue.disable_notifications(self.ram);
                self.checked(off);
            }
            10 => {
                let more = self.queue.enable_notifications(self.ram);
                let found = self.queue.has_available(self.ram);
                if let (Ok(true), Ok(found)) = (more, found) {
                    assert!(found);
                }
                self.checked(more);
                self.checked(found);
            }
            _ => {
                if u.ratio(3, 4)? {
                    self.queue.unpop(self.fresh);
                    self.held
                        .truncate(self.held.len() - usize::from(self.fresh));
                    self.fresh = 0;
                } else {
                    self.queue.stop();
                }
            }
        }
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    virtio::with_ram(|ram| {
        let mut scene = Scene {
            ram,
            queue: Queue::new(),
            layout: Layout::new(1, Ipa(0), Ipa(0), Ipa(0)).expect("sound"),
            chain: Chain::new(),
            held: Vec::new(),
            fresh: 0,
            allowed: BTreeSet::new(),
            touched: BTreeSet::new(),
        };
        let mut u = Unstructured::new(data);
        // An input that ends within a step ends the run.
        while !u.is_empty() && scene.step(&mut u).is_ok() {}
        scene.settle();
        virtio::clean(ram, scene.touched);
    });
});
