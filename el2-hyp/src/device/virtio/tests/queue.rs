//! The queue against a driver that keeps the rules, and against each way to break one.

use std::vec::Vec;

use crate::addr::{BLOCK_2M, Ipa};
use crate::device::virtio::chain::{Chain, MAX_SEGMENTS};
use crate::device::virtio::feature;
use crate::device::virtio::queue::{Layout, Queue, QueueError};
use crate::device::virtio::testing::{Driver, INDIRECT, NEXT, Ram, WRITE};
use crate::machine::RAM_BASE;

pub const RINGS: u64 = RAM_BASE + 0x1000;
const DATA: u64 = RAM_BASE + 0x10_0000;
pub const TABLE: u64 = RAM_BASE + 0x8000;

pub struct Scene {
    pub ram: Ram,
    pub driver: Driver,
    pub queue: Queue,
    pub chain: Chain,
}

impl Scene {
    fn new(size: u16, features: u64) -> Self {
        Self::at(RINGS, size, features)
    }

    pub fn at(rings: u64, size: u16, features: u64) -> Self {
        let driver = Driver::new(Ipa(rings), size, features);
        let mut queue = Queue::new();
        queue.start(driver.layout(), features);
        Self {
            ram: Ram::new(2),
            driver,
            queue,
            chain: Chain::new(),
        }
    }

    pub fn pop(&mut self) -> Result<bool, QueueError> {
        self.queue.pop(&self.ram, &mut self.chain)
    }

    /// Descriptor `index` of the queue's table.
    fn describe(&self, index: u16, buffer: (Ipa, u32), flags: u16, next: u16) {
        let table = self.driver.descriptors();
        Driver::write_descriptor(&self.ram, table, index, buffer, flags, next);
    }

    /// What comes of a chain that begins at descriptor 0.
    fn refused(&mut self) -> QueueError {
        self.driver.make_available(&self.ram, 0);
        let error = self.pop().unwrap_err();
        // The queue stands still, and touches nothing any more.
        assert!(!self.queue.is_running());
        let before = self.ram.bytes();
        assert_eq!(self.pop(), Ok(false));
        let head = self.chain.head();
        assert_eq!(self.queue.push(&self.ram, head, 1), Ok(()));
        assert_eq!(self.queue.should_interrupt(&self.ram), Ok(false));
        assert_eq!(self.queue.enable_notifications(&self.ram), Ok(false));
        assert_eq!(self.queue.disable_notifications(&self.ram), Ok(()));
        assert!(self.ram.bytes() == before);
        error
    }
}

pub fn data(offset: u64, length: u32) -> (Ipa, u32) {
    (Ipa(DATA + offset), length)
}

#[test]
fn a_chain_goes_there_and_back() {
    let mut s = Scene::new(8, 0);
    assert_eq!(s.pop(), Ok(false));
    s.ram.write(Ipa(DATA), b"request").unwrap();
    let head = s.driver.add(
        &s.ram,
        &[data(0, 3), data(3, 4)],
        &[data(100, 2), data(200, 10)],
    );
    assert_eq!(s.pop(), Ok(true));
    assert_eq!((s.chain.readable().len(), s.chain.writable().len()), (2, 2));
    assert_eq!(
        (s.chain.readable_bytes(), s.chain.writable_bytes()),
        (7, 12)
    );
    let mut text = [0; 16];
    let mut reader = s.chain.reader(&s.ram);
    assert_eq!(reader.remaining(), 7);
    assert_eq!(reader.read(&mut text[..5]), Ok(5));
    assert_eq!(reader.read(&mut text[5..]), Ok(2));
    assert_eq!(&text[..7], b"request");
    let mut writer = s.chain.writer(&s.ram);
    assert_eq!(writer.write(b"answer"), Ok(6));
    assert_eq!((writer.remaining(), writer.written()), (6, 6));
    s.queue.push(&s.ram, s.chain.head(), 6).unwrap();
    assert_eq!(s.driver.take(&s.ram), head.map(|head| (head, 6)));
    let mut back = [0; 2];
    s.ram.read(Ipa(DATA + 100), &mut back).unwrap();
    assert_eq!(&back, b"an");
    assert_eq!(s.pop(), Ok(false));
}

#[test]
fn what_the_guest_changes_after_the_look_changes_nothing() {
    let mut s = Scene::new(8, 0);
    s.driver.add(&s.ram, &[data(0, 8)], &[data(64, 8)]).unwrap();
    assert_eq!(s.pop(), Ok(true));
    for index in 0..8 {
        s.describe(index, (Ipa(u64::MAX), u32::MAX), NEXT | INDIRECT, index);
    }
    assert_eq!(s.chain.readable()[0].ipa, Ipa(DATA));
    assert_eq!(s.chain.writer(&s.ram).write(&[1; 100]), Ok(8));
}

#[test]
fn indirect_tables_are_followed_from_anywhere() {
    for table in [TABLE, TABLE + 8, TABLE + 3, RAM_BASE + BLOCK_2M - 20] {
        let mut s = Scene::new(8, feature::INDIRECT_DESC);
        let buffers: Vec<_> = (0..20).map(|n| data(n * 64, 8)).collect();
        s.driver
            .add_indirect(&s.ram, Ipa(table), &buffers[..5], &buffers[5..])
            .unwrap();
        assert_eq!(s.pop(), Ok(true));
        assert_eq!(s.chain.readable().len(), 5);
        assert_eq!(s.chain.writable().len(), 15);
        assert_eq!(s.chain.writable()[14].ipa, Ipa(DATA + 19 * 64));
    }
    // Direct descriptors may precede the table (section 2.7.5.3.2).
    let mut s = Scene::new(8, feature::INDIRECT_DESC);
    s.describe(0, data(0, 1), NEXT, 3);
    s.describe(3, (Ipa(TABLE), 16), INDIRECT, 0);
    Driver::write_descriptor(&s.ram, Ipa(TABLE), 0, data(1, 2), WRITE, 0);
    s.driver.make_available(&s.ram, 0);
    assert_eq!(s.pop(), Ok(true));
    assert_eq!((s.chain.readable_bytes(), s.chain.writable_bytes()), (1, 2));
}

#[test]
fn empty_buffers_leave_no_trace() {
    let mut s = Scene::new(8, 0);
    s.driver
        .add(&s.ram, &[data(0, 0), data(0, 1), data(9, 0)], &[data(0, 0)])
        .unwrap();
    assert_eq!(s.pop(), Ok(true));
    assert_eq!((s.chain.readable().len(), s.chain.writable().len()), (1, 0));
}

#[test]
fn the_longest_chain_is_taken_and_a_longer_one_is_not() {
    for (count, result) in [
        (MAX_SEGMENTS, Ok(true)),
        (MAX_SEGMENTS + 1, Err(QueueError::ChainTooLong)),
    ] {
        let buffers: Vec<_> = (0..count as u64).map(|n| data(n, 1)).collect();
        let mut s = Scene::new(128, feature::INDIRECT_DESC);
        s.driver.add(&s.ram, &buffers, &[]).unwrap();
        assert_eq!(s.pop(), result);
        let mut s = Scene::new(128, feature::INDIRECT_DESC);
        s.driver
            .add_indirect(&s.ram, Ipa(TABLE), &buffers, &[])
            .unwrap();
        assert_eq!(s.pop(), result);
    }
}

#[test]
fn loops_end() {
    let mut s = Scene::new(4, 0);
    s.describe(0, data(0, 1), NEXT, 1);
    s.describe(1, data(0, 1), NEXT, 0);
    assert_eq!(s.refused(), QueueError::ChainTooLong);
    // Empty buffers leave no trace, but are counted.
    let mut s = Scene::new(4, 0);
    s.describe(0, data(0, 0), NEXT, 0);
    assert_eq!(s.refused(), QueueError::ChainTooLong);
}

#[test]
fn descriptors_that_are_not_there() {
    let mut s = Scene::new(4, 0);
    s.describe(0, data(0, 1), NEXT, 4);
    assert_eq!(s.refused(), QueueError::NoSuchDescriptor);
    let mut s = Scene::new(4, 0);
    s.driver.make_available(&s.ram, 0xffff);
    assert_eq!(s.pop(), Err(QueueError::NoSuchDescriptor));
    let mut s = Scene::new(4, feature::INDIRECT_DESC);
    s.describe(0, (Ipa(TABLE), 32), INDIRECT, 0);
    Driver::write_descriptor(&s.ram, Ipa(TABLE), 0, data(0, 1), NEXT, 2);
    assert_eq!(s.refused(), QueueError::NoSuchDescriptor);
}

#[test]
fn what_may_be_read_comes_first() {
    let mut s = Scene::new(4, 0);
    s.describe(0, data(0, 1), NEXT | WRITE, 1);
    s.describe(1, data(0, 1), 0, 0);
    assert_eq!(s.refused(), QueueError::ReadableAfterWritable);
}

#[test]
fn buffers_and_rings_outside_ram() {
    let end = RAM_BASE + 2 * BLOCK_2M;
    for buffer in [
        (0, 1),
        (RAM_BASE - 1, 2),
        (end, 1),
        (end - 1, 2),
        (u64::MAX, 1),
        (u64::MAX, u32::MAX),
        (RAM_BASE, u32::MAX),
        // Empty, and yet outside.
        (end + 1, 0),
    ] {
        let mut s = Scene::new(4, 0);
        s.describe(0, (Ipa(buffer.0), buffer.1), 0, 0);
        assert_eq!(s.refused(), QueueError::BufferOutside, "{buffer:x?}");
    }
    let outside = Ipa(end);
    let inside = Driver::new(Ipa(RINGS), 4, 0);
    for (descriptors, available, used) in [
        (outside, inside.available(), inside.used()),
        (inside.descriptors(), outside, inside.used()),
        (inside.descriptors(), inside.available(), outside),
    ] {
        let mut s = Scene::new(4, 0);
        s.driver.add(&s.ram, &[data(0, 1)], &[]).unwrap();
        s.queue
            .start(Layout::new(4, descriptors, available, used).unwrap(), 0);
        let result = s
            .pop()
            .and_then(|_| s.queue.push(&s.ram, s.chain.head(), 0));
        assert_eq!(result, Err(QueueError::RingOutside));
        assert!(!s.queue.is_running());
    }
    let mut s = Scene::new(4, feature::INDIRECT_DESC);
    s.describe(0, (Ipa(end - 16), 32), INDIRECT, 0);
    Driver::write_descriptor(&s.ram, Ipa(end - 16), 0, data(0, 1), NEXT, 1);
    assert_eq!(s.refused(), QueueError::RingOutside);
    let mut s = Scene::new(4, feature::INDIRECT_DESC);
    s.describe(0, (Ipa(u64::MAX - 7), 32), INDIRECT, 0);
    assert_eq!(s.refused(), QueueError::RingOutside);
}

#[test]
fn indirect_tables_that_are_wrong() {
    let refused = |features, length, flags, inner| {
        let mut s = Scene::new(4, features);
        s.describe(0, (Ipa(TABLE), length), flags, 0);
        Driver::write_descriptor(&s.ram, Ipa(TABLE), 0, (Ipa(TABLE), 16), inner, 0);
        s.refused()
    };
    let on = feature::INDIRECT_DESC;
    assert_eq!(refused(0, 16, INDIRECT, 0), QueueError::BadIndirect);
    assert_eq!(refused(on, 16, INDIRECT | NEXT, 0), QueueError::BadIndirect);
    assert_eq!(refused(on, 16, INDIRECT, INDIRECT), QueueError::BadIndirect);
    for length in [0, 15, 17, 16 * 257, u32::MAX, 0xffff_fff0] {
        assert_eq!(
            refused(on, length, INDIRECT, 0),
            QueueError::BadIndirectLength
        );
    }
}

#[test]
fn the_index_may_not_jump() {
    for (index, result) in [
        (4, Ok(true)),
        (5, Err(QueueError::IndexJump)),
        (0xffff, Err(QueueError::IndexJump)),
    ] {
        let mut s = Scene::new(4, 0);
        s.describe(0, data(0, 1), 0, 0);
        let at = Ipa(s.driver.available().0 + 2);
        s.ram.store_u16(at, index).unwrap();
        assert_eq!(s.pop(), result);
    }
    // Nor go back, which is a jump the other way round.
    let mut s = Scene::new(4, 0);
    s.driver.add(&s.ram, &[data(0, 1)], &[]).unwrap();
    assert_eq!(s.pop(), Ok(true));
    let at = Ipa(s.driver.available().0 + 2);
    s.ram.store_u16(at, 0).unwrap();
    assert_eq!(s.queue.has_available(&s.ram), Err(QueueError::IndexJump));
}

#[test]
fn more_bytes_than_a_length_has_room_for() {
    // 4 GiB of RAM are not needed: the same part may be named again and again.
    const BLOCKS: usize = 32;
    const WHOLE: u32 = BLOCKS as u32 * BLOCK_2M as u32;
    for (writable, indirect) in [(0, false), (WRITE, false), (0, true)] {
        for (count, fits) in [(63, true), (64, false)] {
            let mut s = Scene::new(128, feature::INDIRECT_DESC);
            s.ram = Ram::new(BLOCKS);
            let buffers = [(Ipa(RAM_BASE), WHOLE); 64];
            let buffers = &buffers[..count];
            let (r, w) = if writable == 0 {
                (buffers, &[][..])
            } else {
                (&[][..], buffers)
            };
            if indirect {
                s.driver.add_indirect(&s.ram, Ipa(TABLE), r, w).unwrap();
            } else {
                s.driver.add(&s.ram, r, w).unwrap();
            }
            let expected = if fits {
                Ok(true)
            } else {
                Err(QueueError::ChainTooLong)
            };
            assert_eq!(s.pop(), expected);
            if fits {
                let sum = s.chain.readable_bytes() + s.chain.writable_bytes();
                assert_eq!(sum, 63 * WHOLE);
            }
        }
    }
}

#[test]
fn several_chains_become_visible_at_once_or_come_back() {
    let mut s = Scene::new(8, 0);
    let heads: Vec<_> = (0..3)
        .map(|n| s.driver.add(&s.ram, &[], &[data(n, 1)]).unwrap())
        .collect();
    for _ in 0..3 {
        assert_eq!(s.pop(), Ok(true));
    }
    s.queue.unpop(1);
    assert_eq!(s.pop(), Ok(true));
    assert_eq!(s.chain.writable()[0].ipa, Ipa(DATA + 2));
    s.queue.unpop(3);
    for _ in 0..2 {
        assert_eq!(s.pop(), Ok(true));
        s.queue.put(&s.ram, s.chain.head(), 1).unwrap();
        assert_eq!(s.driver.take(&s.ram), None);
    }
    s.queue.publish(&s.ram).unwrap();
    assert_eq!(s.driver.take(&s.ram), Some((heads[0], 1)));
    assert_eq!(s.driver.take(&s.ram), Some((heads[1], 1)));
    assert_eq!(s.driver.take(&s.ram), None);
}

#[test]
fn flags_suppress_both_ways() {
    let mut s = Scene::new(4, 0);
    assert!(s.driver.add(&s.ram, &[data(0, 1)], &[]).is_some());
    assert!(s.driver.should_notify(&s.ram));
    s.queue.disable_notifications(&s.ram).unwrap();
    s.driver.add(&s.ram, &[data(0, 1)], &[]).unwrap();
    assert!(!s.driver.should_notify(&s.ram));
    assert_eq!(s.queue.enable_notifications(&s.ram), Ok(true));
    for interrupt in [true, false] {
        if !interrupt {
            s.driver.disable_interrupts(&s.ram);
        }
        assert_eq!(s.queue.should_interrupt(&s.ram), Ok(false));
        assert_eq!(s.pop(), Ok(true));
        s.queue.push(&s.ram, s.chain.head(), 0).unwrap();
        assert_eq!(s.queue.should_interrupt(&s.ram), Ok(interrupt));
    }
    assert_eq!(s.queue.enable_notifications(&s.ram), Ok(false));
}

#[test]
fn event_indices_suppress_both_ways() {
    let mut s = Scene::new(4, feature::EVENT_IDX);
    let add = |s: &mut Scene| s.driver.add(&s.ram, &[data(0, 1)], &[]).unwrap();
    add(&mut s);
    assert!(s.driver.should_notify(&s.ram));
    add(&mut s);
    assert!(!s.driver.should_notify(&s.ram));
    assert_eq!(s.queue.enable_notifications(&s.ram), Ok(true));
    assert_eq!(s.pop(), Ok(true));
    s.queue.push(&s.ram, s.chain.head(), 0).unwrap();
    assert_eq!(s.queue.should_interrupt(&s.ram), Ok(true));
    assert_eq!(s.pop(), Ok(true));
    s.queue.push(&s.ram, s.chain.head(), 0).unwrap();
    // The driver has not asked again.
    assert_eq!(s.queue.should_interrupt(&s.ram), Ok(false));
    assert_eq!(s.queue.enable_notifications(&s.ram), Ok(false));
    add(&mut s);
    assert!(s.driver.should_notify(&s.ram));
    while s.driver.take(&s.ram).is_some() {}
    assert!(!s.driver.enable_interrupts(&s.ram));
    assert_eq!(s.pop(), Ok(true));
    s.queue.push(&s.ram, s.chain.head(), 0).unwrap();
    assert_eq!(s.queue.should_interrupt(&s.ram), Ok(true));
}

#[test]
fn layouts_are_sound_or_refused() {
    let layout = |size, d, a, u| Layout::new(size, Ipa(d), Ipa(a), Ipa(u));
    assert!(layout(256, 16, 2, 4).is_some());
    for (size, d, a, u) in [
        (0, 0, 0, 0),
        (3, 0, 0, 0),
        (512, 0, 0, 0),
        (4, 8, 0, 0),
        (4, 0, 1, 0),
        (4, 0, 0, 2),
        (4, u64::MAX - 15, 0, 0),
        (4, 0, u64::MAX - 1, 0),
        (4, 0, 0, u64::MAX - 3),
    ] {
        assert_eq!(layout(size, d, a, u), None);
    }
}
