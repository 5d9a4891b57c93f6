//! A hostile driver against the device's side of a queue: any rings, any descriptors, changed at any time. Nothing outside the guest's RAM
//! is touched, and within it only the used ring and what the driver gave to be written; every chain keeps the bounds; a queue that met a
//! broken rule stands still.
#![no_main]

use std::collections::BTreeSet;

use el2_hyp::addr::{BLOCK_2M, Ipa, PAGE_SIZE};
use el2_hyp::device::virtio::chain::{Chain, Head, MAX_SEGMENTS, Segment};
use el2_hyp::device::virtio::queue::{Layout, Queue, QueueError};
use el2_hyp::device::virtio::testing::{Driver, Ram};
use el2_hyp::machine::RAM_BASE;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;

const BLOCKS: usize = 2;
const END: u64 = RAM_BASE + BLOCKS as u64 * BLOCK_2M;
/// Where rings lie and most addresses point: around the border of two blocks.
const WINDOW: u64 = RAM_BASE + BLOCK_2M - 0x2000;
const WINDOW_BYTES: u64 = 0x4000;
/// Bytes that are read or written of a chain at once.
const COPIED: usize = 3000;

thread_local! {
    static RAM: Ram = {
        let ram = Ram::new(BLOCKS);
        ram.dirty().set_on(true);
        ram
    };
}

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

fn page(at: u64) -> u64 {
    (at - RAM_BASE) / PAGE_SIZE
}

fn dirty_pages(ram: &Ram) -> impl Iterator<Item = u64> {
    let words = ram.dirty().take(0..ram.dirty().words());
    words.flat_map(|(word, bits)| {
        (0..64)
            .filter(move |bit| bits >> bit & 1 != 0)
            .map(move |bit| word as u64 * 64 + bit)
    })
}

/// An address: most often one that leads somewhere.
fn address(u: &mut Unstructured<'_>) -> Result<u64> {
    let near = u64::from(u.arbitrary::<u16>()?);
    Ok(match u.int_in_range(0..=9)? {
        0 => u.arbitrary()?,
        1 => END.wrapping_sub(near),
        2 => RAM_BASE.wrapping_sub(near % 64),
        3 => END - near % 64,
        _ => WINDOW + near % WINDOW_BYTES,
    })
}

fn length(u: &mut Unstructured<'_>) -> Result<u32> {
    Ok(match u.int_in_range(0..=5)? {
        0 => u.arbitrary()?,
        1 => 16 * u32::from(u.arbitrary::<u8>()?),
        _ => u.arbitrary::<u16>()?.into(),
    })
}

fn layout(u: &mut Unstructured<'_>) -> Result<Option<Layout>> {
    let size = 1 << u.int_in_range(0..=8)?;
    let mut part = |alignment: u64| Ok(Ipa(address(u)? & !(alignment - 1)));
    let (descriptors, available, used) = (part(16)?, part(2)?, part(4)?);
    Ok(Layout::new(size, descriptors, available, used))
}

impl Scene<'_> {
    /// The device may write to the pages of the used ring.
    fn allow_ring(&mut self) {
        let used = self.layout.addresses()[2].0;
        let bytes = 6 + 8 * u64::from(self.layout.size());
        for at in (used..used + bytes).step_by(2) {
            if (RAM_BASE..END).contains(&at) {
                self.allowed.insert(page(at));
            }
        }
    }

    /// What the driver does lies beside what the device does.
    fn as_driver(&mut self, act: impl FnOnce(&Ram)) {
        self.settle();
        act(self.ram);
        self.touched.extend(dirty_pages(self.ram));
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
            let (first, end) = (segment.ipa.0, segment.ipa.0 + here);
            self.allowed
                .extend((page(first)..).take_while(|n| RAM_BASE + n * PAGE_SIZE < end));
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
            0 => {
                let (at, value) = (address(u)?, u.arbitrary::<u16>()?);
                self.as_driver(|ram| {
                    // Where there is no RAM nothing is stored.
                    let _ = ram.store_u16(Ipa(at), value);
                });
            }
            1..=3 => {
                let (index, buffer) = (u.arbitrary::<u8>()?, (Ipa(address(u)?), length(u)?));
                let (flags, next) = (u.arbitrary::<u8>()? % 8, u.arbitrary::<u8>()?);
                let own = self.layout.addresses()[0].0;
                let table = if u.ratio(1, 4)? { address(u)? } else { own };
                let index = u16::from(index) % self.layout.size();
                let next = u16::from(next) % (self.layout.size() + 1);
                if (RAM_BASE..END - 0x1000).contains(&table) {
                    self.as_driver(|ram| {
                        Driver::write_descriptor(ram, Ipa(table), index, buffer, flags.into(), next)
                    });
                }
            }
            4 | 5 => {
                let head = u16::from(u.arbitrary::<u8>()?) % (self.layout.size() + 1);
                let (available, size) = (self.layout.addresses()[1].0, self.layout.size());
                self.as_driver(|ram| {
                    let index = ram.load_u16(Ipa(available.wrapping_add(2))).unwrap_or(0);
                    let entry = available.wrapping_add(4 + 2 * u64::from(index % size));
                    // Where the ring is outside RAM nothing is stored.
                    let _ = ram.store_u16(Ipa(entry), head);
                    let _ = ram.store_u16(Ipa(available.wrapping_add(2)), index.wrapping_add(1));
                });
            }
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
    RAM.with(|ram| {
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
        ram.check_guards();
        // Each run begins with zeros.
        for page in scene.touched {
            let at = Ipa(RAM_BASE + page * PAGE_SIZE);
            ram.write(at, &[0; PAGE_SIZE as usize]).expect("RAM");
        }
        ram.dirty().clear();
    });
});
