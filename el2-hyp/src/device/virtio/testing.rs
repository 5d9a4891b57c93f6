//! The other side, for tests and fuzzing: a guest's memory, and a driver that keeps the rules where it is not told otherwise.

use alloc::alloc::{alloc_zeroed, dealloc};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::Layout as Allocation;
use core::ops::Deref;
use core::sync::atomic::{Ordering, fence};

use crate::addr::{BLOCK_2M, Ipa, Pa};
use crate::device::virtio::feature;
use crate::device::virtio::queue::{Layout, MAX_QUEUE_SIZE};
use crate::machine;
use crate::memory::GuestMemory;

/// Flags of a descriptor: another follows; the device writes; it names a table.
pub const NEXT: u16 = 1;
/// See [`NEXT`].
pub const WRITE: u16 = 2;
/// See [`NEXT`].
pub const INDIRECT: u16 = 4;

/// Bytes around the RAM that nobody may touch.
const GUARD: usize = 1024;
const GUARD_BYTE: u8 = 0xa5;

/// A guest's RAM on the host, zero at first, with its blocks in another order than a guest sees them. Bytes around it are guarded: when
/// it is dropped they must be as they were.
pub struct Ram {
    memory: GuestMemory,
    start: *mut u8,
    allocation: Allocation,
}

// SAFETY: the allocation is owned, and only reached through `GuestMemory`, which cores share.
unsafe impl Send for Ram {}
// SAFETY: as above.
unsafe impl Sync for Ram {}

impl Ram {
    /// RAM of `blocks` times 2 MiB, where a guest has it.
    pub fn new(blocks: usize) -> Self {
        let block = BLOCK_2M as usize;
        let allocation = Allocation::from_size_align((blocks + 2) * block, block).expect("small");
        // SAFETY: the size is not zero.
        let start = unsafe { alloc_zeroed(allocation) };
        assert!(!start.is_null());
        let first = start.wrapping_add(block);
        let backing: Box<[Pa]> = (0..blocks)
            .rev()
            .map(|n| Pa(first.wrapping_add(n * block).expose_provenance() as u64))
            .collect();
        for guard in guards(start, blocks) {
            // SAFETY: both guards lie within the allocation.
            unsafe { guard.write_bytes(GUARD_BYTE, GUARD) };
        }
        // SAFETY: the blocks are this value's alone until it is dropped.
        let memory = unsafe { GuestMemory::new(Ipa(machine::RAM_BASE), backing) };
        Self {
            memory,
            start,
            allocation,
        }
    }

    /// Looks at the bytes around it.
    ///
    /// # Panics
    /// When they were touched.
    pub fn check_guards(&self) {
        for guard in guards(self.start, self.memory.blocks().len()) {
            // SAFETY: both guards lie within the allocation, and nobody writes to them.
            let guard = unsafe { core::slice::from_raw_parts(guard, GUARD) };
            assert!(guard == [GUARD_BYTE; GUARD], "outside RAM");
        }
    }

    /// All of it, read as a guest would.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = alloc::vec![0; self.size() as usize];
        self.read(self.base(), &mut bytes).expect("RAM");
        bytes
    }
}

/// Where the guards before and behind `blocks` blocks are.
fn guards(start: *mut u8, blocks: usize) -> [*mut u8; 2] {
    let block = BLOCK_2M as usize;
    [
        start.wrapping_add(block - GUARD),
        start.wrapping_add((blocks + 1) * block),
    ]
}

impl Deref for Ram {
    type Target = GuestMemory;
    fn deref(&self) -> &GuestMemory {
        &self.memory
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        self.check_guards();
        // SAFETY: allocated by `new` with the same layout.
        unsafe { dealloc(self.start, self.allocation) };
    }
}

/// One side of a buffer: an address and bytes.
pub type Buffer = (Ipa, u32);

/// A driver's side of a queue.
pub struct Driver {
    base: Ipa,
    size: u16,
    event_index: bool,
    free: Vec<u16>,
    /// The descriptors of each chain that is out, by its head.
    out: Vec<Vec<u16>>,
    next_available: u16,
    /// What `next_available` was when a notification was last considered.
    considered: u16,
    next_used: u16,
}

impl Driver {
    /// A queue of `size` descriptors whose rings lie from `base`, a multiple of 16, [`Driver::bytes`] of them, and are zero.
    pub fn new(base: Ipa, size: u16, features: u64) -> Self {
        assert!(size.is_power_of_two() && size <= MAX_QUEUE_SIZE);
        Self {
            base,
            size,
            event_index: features & feature::EVENT_IDX != 0,
            free: (0..size).rev().collect(),
            out: (0..size).map(|_| Vec::new()).collect(),
            next_available: 0,
            considered: 0,
            next_used: 0,
        }
    }

    /// Bytes of the rings of a queue of `size`.
    pub fn bytes(size: u16) -> u64 {
        // Table, available ring, used ring, each rounded up to 16.
        let size = u64::from(size);
        16 * size + (2 * size + 6).next_multiple_of(16) + (8 * size + 6).next_multiple_of(16)
    }

    /// The table of descriptors.
    pub fn descriptors(&self) -> Ipa {
        self.base
    }

    /// The available ring: `flags`, `idx`, entries, `used_event`.
    pub fn available(&self) -> Ipa {
        Ipa(self.base.0 + 16 * u64::from(self.size))
    }

    /// The used ring: `flags`, `idx`, entries, `avail_event`.
    pub fn used(&self) -> Ipa {
        Ipa(self.available().0 + (2 * u64::from(self.size) + 6).next_multiple_of(16))
    }

    /// Where the queue lies.
    pub fn layout(&self) -> Layout {
        Layout::new(self.size, self.descriptors(), self.available(), self.used()).expect("sound")
    }

    /// Descriptors that are free.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Writes a descriptor of the queue's table, or of any other at `table`.
    pub fn write_descriptor(
        memory: &GuestMemory,
        table: Ipa,
        index: u16,
        (address, length): Buffer,
        flags: u16,
        next: u16,
    ) {
        let rest = u64::from(length) | u64::from(flags) << 32 | u64::from(next) << 48;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.0.to_le_bytes());
        bytes[8..].copy_from_slice(&rest.to_le_bytes());
        let at = Ipa(table.0 + 16 * u64::from(index));
        memory.write(at, &bytes).expect("a table in RAM");
    }

    /// Makes a chain of buffers for the device to read and to write available; its head. `None` when there are too few descriptors.
    /// There is at least one buffer.
    pub fn add(
        &mut self,
        memory: &GuestMemory,
        readable: &[Buffer],
        writable: &[Buffer],
    ) -> Option<u16> {
        let count = readable.len() + writable.len();
        assert!(count > 0);
        if count > self.free.len() {
            return None;
        }
        let indices: Vec<u16> = self.free.split_off(self.free.len() - count);
        let table = self.descriptors();
        for (n, &index) in indices.iter().enumerate() {
            let next = indices.get(n + 1).copied();
            let (buffer, write) = match readable.get(n) {
                Some(&buffer) => (buffer, 0),
                None => (writable[n - readable.len()], WRITE),
            };
            let flags = write | if next.is_some() { NEXT } else { 0 };
            Self::write_descriptor(memory, table, index, buffer, flags, next.unwrap_or(0));
        }
        let head = indices[0];
        self.out[usize::from(head)] = indices;
        self.make_available(memory, head);
        Some(head)
    }

    /// The same by one descriptor and a table of its own at `table`.
    pub fn add_indirect(
        &mut self,
        memory: &GuestMemory,
        table: Ipa,
        readable: &[Buffer],
        writable: &[Buffer],
    ) -> Option<u16> {
        let head = self.free.pop()?;
        let count = readable.len() + writable.len();
        for n in 0..count {
            let (buffer, write) = match readable.get(n) {
                Some(&buffer) => (buffer, 0),
                None => (writable[n - readable.len()], WRITE),
            };
            let flags = write | if n + 1 < count { NEXT } else { 0 };
            Self::write_descriptor(memory, table, n as u16, buffer, flags, n as u16 + 1);
        }
        let whole = (table, 16 * count as u32);
        Self::write_descriptor(memory, self.descriptors(), head, whole, INDIRECT, 0);
        self.out[usize::from(head)] = alloc::vec![head];
        self.make_available(memory, head);
        Some(head)
    }

    /// Puts a head, whatever it is, into the available ring, and moves the index on.
    pub fn make_available(&mut self, memory: &GuestMemory, head: u16) {
        let slot = u64::from(self.next_available % self.size);
        let entry = Ipa(self.available().0 + 4 + 2 * slot);
        memory.store_u16(entry, head).expect("RAM");
        self.next_available = self.next_available.wrapping_add(1);
        let index = Ipa(self.available().0 + 2);
        memory
            .store_u16_release(index, self.next_available)
            .expect("RAM");
    }

    /// Whether the device wants to be notified of what was made available since this was last asked.
    pub fn should_notify(&mut self, memory: &GuestMemory) -> bool {
        fence(Ordering::SeqCst);
        let before = core::mem::replace(&mut self.considered, self.next_available);
        if !self.event_index {
            return memory.load_u16(self.used()).expect("RAM") & 1 == 0;
        }
        let at = Ipa(self.used().0 + 4 + 8 * u64::from(self.size));
        let event = memory.load_u16(at).expect("RAM");
        self.next_available.wrapping_sub(event).wrapping_sub(1)
            < self.next_available.wrapping_sub(before)
    }

    /// The next chain that the device gave back: its head, and the bytes that it says it wrote.
    ///
    /// # Panics
    /// When the device gives back what it does not have.
    pub fn take(&mut self, memory: &GuestMemory) -> Option<(u16, u32)> {
        let index = memory
            .load_u16_acquire(Ipa(self.used().0 + 2))
            .expect("RAM");
        if index == self.next_used {
            return None;
        }
        let slot = u64::from(self.next_used % self.size);
        let entry = self.used().0 + 4 + 8 * slot;
        let head = memory.load_u32(Ipa(entry)).expect("RAM");
        let written = memory.load_u32(Ipa(entry + 4)).expect("RAM");
        self.next_used = self.next_used.wrapping_add(1);
        let indices = core::mem::take(&mut self.out[head as usize]);
        assert!(!indices.is_empty(), "the device gave back {head}");
        self.free.extend(indices);
        Some((head as u16, written))
    }

    /// Wants an interrupt for what the device gives back next; whether something is there already.
    pub fn enable_interrupts(&mut self, memory: &GuestMemory) -> bool {
        if self.event_index {
            let at = Ipa(self.available().0 + 4 + 2 * u64::from(self.size));
            memory.store_u16(at, self.next_used).expect("RAM");
        } else {
            memory.store_u16(self.available(), 0).expect("RAM");
        }
        fence(Ordering::SeqCst);
        memory.load_u16(Ipa(self.used().0 + 2)).expect("RAM") != self.next_used
    }

    /// Wants no interrupts.
    pub fn disable_interrupts(&mut self, memory: &GuestMemory) {
        if !self.event_index {
            memory.store_u16(self.available(), 1).expect("RAM");
        }
    }
}

/// An access to a register of 32 bits.
#[derive(Clone, Copy, Debug)]
pub enum Register {
    /// A read at an offset.
    Read(u64),
    /// A write at an offset.
    Write(u64, u32),
}

/// What a driver does to bring a device up: resets it, takes the `wanted` features that are offered and
/// [`feature::VERSION_1`], sets the queues up, and is ready. The features that were accepted.
///
/// # Panics
/// When the device does not accept them, or refuses a queue.
pub fn bring_up(wanted: u64, queues: &[Layout], mut access: impl FnMut(Register) -> u64) -> u64 {
    use Register::{Read, Write};
    for value in [0, 1, 3] {
        access(Write(0x70, value));
    }
    let mut features = 0;
    for select in 0..2 {
        access(Write(0x14, select));
        features |= access(Read(0x10)) << (32 * select);
    }
    features &= wanted | feature::VERSION_1;
    for select in 0..2 {
        access(Write(0x24, select));
        access(Write(0x20, (features >> (32 * select)) as u32));
    }
    access(Write(0x70, 0xb));
    assert_eq!(access(Read(0x70)), 0xb, "features are accepted");
    for (index, queue) in queues.iter().enumerate() {
        access(Write(0x30, index as u32));
        assert!(access(Read(0x34)) >= queue.size().into());
        access(Write(0x38, queue.size().into()));
        for (offset, address) in [0x80, 0x90, 0xa0].into_iter().zip(queue.addresses()) {
            access(Write(offset, address.0 as u32));
            access(Write(offset + 4, (address.0 >> 32) as u32));
        }
        access(Write(0x44, 1));
        assert_eq!(access(Read(0x44)), 1, "queue {index} is ready");
    }
    access(Write(0x70, 0xf));
    assert_eq!(access(Read(0x70)), 0xf);
    features
}
