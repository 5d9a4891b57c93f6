//! The device's side of a split queue (section 2.7), with indirect descriptors and event indices.
//!
//! A driver is taken at its word once: each index and each descriptor is loaded once, checked, and used from the copy. All loops end by a
//! bound of ours. A driver that breaks a rule gets a [`QueueError`]; the queue then stands still until it is started again, and
//! its owner says so through [`Signals::fail`](super::signals::Signals::fail).
//!
//! A device serves a queue like this, in which notifications are off while it works:
//! ```text
//! queue.disable_notifications(memory)?;
//! loop {
//!     while queue.pop(memory, &mut chain)? { …; queue.push(memory, chain.head(), written)?; }
//!     if !queue.enable_notifications(memory)? { break }     // more has come meanwhile
//! }
//! if queue.should_interrupt(memory)? { signals.used() }      // once per batch
//! ```

mod record;

use core::sync::atomic::{Ordering, fence};

use crate::addr::Ipa;
use crate::device::virtio::chain::{Chain, Head, MAX_SEGMENTS};
use crate::device::virtio::descriptor::{DESCRIPTOR_BYTES, INDIRECT, NEXT, Table, WRITE};
use crate::device::virtio::feature;
use crate::memory::window::Window;
use crate::memory::{GuestMemory, OutOfRange};

/// Descriptors of a queue, at most.
pub const MAX_QUEUE_SIZE: u16 = 256;
const _: () = assert!(MAX_QUEUE_SIZE.is_power_of_two());

/// Descriptors that are read for one chain, at most: as many as there may be segments, and one that leads to an indirect table.
const MAX_DESCRIPTORS: usize = MAX_SEGMENTS + 1;

/// Bytes of an entry of the used ring (section 2.7.8).
const USED_ENTRY_BYTES: u64 = 8;
/// Where `idx` and `ring` lie in both rings (sections 2.7.6 and 2.7.8); `flags` is first.
const INDEX: u64 = 2;
const RING: u64 = 4;

/// VIRTQ_AVAIL_F_NO_INTERRUPT and VIRTQ_USED_F_NO_NOTIFY.
const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;

/// Which rule a driver broke (docs/virtio.md has them all).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// A ring or table lies outside RAM.
    RingOutside,
    /// A buffer lies outside RAM.
    BufferOutside,
    /// More was made available than the queue has room for.
    IndexJump,
    /// A descriptor is named that the queue, or the indirect table, does not have.
    NoSuchDescriptor,
    /// A chain has more segments, descriptors or bytes than are allowed, or is a loop.
    ChainTooLong,
    /// A buffer for reading follows one for writing.
    ReadableAfterWritable,
    /// An indirect table within another, or one that the driver did not negotiate, or that has a successor.
    BadIndirect,
    /// The length of an indirect table is zero, no multiple of a descriptor's, or too large.
    BadIndirectLength,
}

impl From<OutOfRange> for QueueError {
    fn from(_: OutOfRange) -> Self {
        Self::RingOutside
    }
}

/// Where a queue lies: sound by construction, though not necessarily within RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    size: u16,
    descriptors: Ipa,
    available: Ipa,
    used: Ipa,
}

impl Layout {
    /// `None` unless `size` is a power of two up to [`MAX_QUEUE_SIZE`], each part is aligned (section 2.7) and ends within the
    /// address space.
    pub fn new(size: u16, descriptors: Ipa, available: Ipa, used: Ipa) -> Option<Self> {
        let entries = u64::from(size);
        let fits =
            |at: Ipa, alignment, bytes| at.is_aligned(alignment) && at.checked_add(bytes).is_some();
        let sound = size.is_power_of_two()
            && size <= MAX_QUEUE_SIZE
            && fits(descriptors, 16, DESCRIPTOR_BYTES * entries)
            && fits(available, 2, RING + 2 * entries + 2)
            && fits(used, 4, RING + USED_ENTRY_BYTES * entries + 2);
        sound.then_some(Self {
            size,
            descriptors,
            available,
            used,
        })
    }

    /// How many descriptors it has.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// The table of descriptors, the available ring and the used ring.
    pub fn addresses(&self) -> [Ipa; 3] {
        [self.descriptors, self.available, self.used]
    }

    /// Where the event index of the other side follows: `used_event` the available ring, `avail_event` the used ring.
    fn used_event(&self) -> Ipa {
        at(self.available, RING + 2 * u64::from(self.size))
    }

    fn avail_event(&self) -> Ipa {
        at(self.used, RING + USED_ENTRY_BYTES * u64::from(self.size))
    }
}

/// An address within a ring; [`Layout::new`] has seen that none wraps.
#[inline(always)]
fn at(base: Ipa, offset: u64) -> Ipa {
    Ipa(base.0.wrapping_add(offset))
}

/// The queue. One that was never started, or was stopped, has nothing to give and takes what is given back without a trace.
#[derive(Clone, Debug)]
pub struct Queue {
    running: bool,
    indirect: bool,
    event_index: bool,
    layout: Layout,
    /// The next entry of the available ring.
    next_available: u16,
    /// The available index as last loaded: what lies before it need not be looked for.
    seen_available: u16,
    /// The next entry of the used ring.
    next_used: u16,
    /// `next_used` when the driver was last considered for an interrupt.
    considered: u16,
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

impl Queue {
    /// A queue that is not started.
    pub const fn new() -> Self {
        Self {
            running: false,
            indirect: false,
            event_index: false,
            layout: Layout {
                size: 1,
                descriptors: Ipa(0),
                available: Ipa(0),
                used: Ipa(0),
            },
            next_available: 0,
            seen_available: 0,
            next_used: 0,
            considered: 0,
        }
    }

    /// Begins anew at `layout`, with the negotiated `features`.
    pub fn start(&mut self, layout: Layout, features: u64) {
        *self = Self {
            running: true,
            indirect: features & feature::INDIRECT_DESC != 0,
            event_index: features & feature::EVENT_IDX != 0,
            layout,
            ..Self::new()
        };
    }

    /// Stands still until it is started again.
    pub fn stop(&mut self) {
        self.running = false;
    }

    /// Whether it was started and neither stopped nor broken.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Takes the next chain that the driver made available; whether there was one. `chain` has no meaning otherwise.
    ///
    /// # Errors
    /// When the driver broke a rule. The queue is stopped.
    #[inline]
    pub fn pop(&mut self, memory: &GuestMemory, chain: &mut Chain) -> Result<bool, QueueError> {
        if !self.running {
            return Ok(false);
        }
        let popped = self.take(memory, chain);
        self.checked(popped)
    }

    /// Gives back the last `count` chains that were popped, for which nothing was put: they will be popped again.
    ///
    /// # Panics
    /// Never, but giving back more than was popped since the last start confuses the driver.
    pub fn unpop(&mut self, count: u16) {
        self.next_available = self.next_available.wrapping_sub(count);
    }

    /// Whether there is a chain to pop, as far as the available index says.
    ///
    /// # Errors
    /// When the driver broke a rule. The queue is stopped.
    #[inline]
    pub fn has_available(&mut self, memory: &GuestMemory) -> Result<bool, QueueError> {
        if !self.running {
            return Ok(false);
        }
        let found = self.look(memory);
        self.checked(found)
    }

    /// Gives a chain back, of which `written` bytes were written, and shows it to the driver.
    ///
    /// # Errors
    /// When the ring lies outside RAM. The queue is stopped.
    #[inline]
    pub fn push(
        &mut self,
        memory: &GuestMemory,
        head: Head,
        written: u32,
    ) -> Result<(), QueueError> {
        if !self.running {
            return Ok(());
        }
        let pushed = match self.used_window(memory) {
            Some(ring) => ring
                .store_u32_pair(self.next_entry(), [head.0.into(), written])
                .and_then(|()| {
                    self.next_used = self.next_used.wrapping_add(1);
                    ring.store_u16_release(INDEX, self.next_used)
                }),
            None => self.push_across(memory, head, written),
        };
        self.checked(pushed)
    }

    /// Gives a chain back that the driver sees only after [`publish`](Self::publish): several become visible at once.
    ///
    /// # Errors
    /// When the ring lies outside RAM. The queue is stopped.
    #[inline]
    pub fn put(
        &mut self,
        memory: &GuestMemory,
        head: Head,
        written: u32,
    ) -> Result<(), QueueError> {
        if !self.running {
            return Ok(());
        }
        let put = match self.used_window(memory) {
            Some(ring) => ring.store_u32_pair(self.next_entry(), [head.0.into(), written]),
            None => self.put_across(memory, head, written),
        };
        self.next_used = self.next_used.wrapping_add(1);
        self.checked(put)
    }

    /// Shows the driver all that was [`put`](Self::put).
    ///
    /// # Errors
    /// When the ring lies outside RAM. The queue is stopped.
    #[inline]
    pub fn publish(&mut self, memory: &GuestMemory) -> Result<(), QueueError> {
        if !self.running {
            return Ok(());
        }
        // Release: whoever sees the index sees the entries and what was written to the buffers (section 2.7.8.2).
        let stored = memory.store_u16_release(at(self.layout.used, INDEX), self.next_used);
        self.checked(stored)
    }

    /// Whether what was published since this was last asked calls for an interrupt (section 2.7.7). Asked once for a batch.
    ///
    /// # Errors
    /// When the ring lies outside RAM. The queue is stopped.
    #[inline]
    pub fn should_interrupt(&mut self, memory: &GuestMemory) -> Result<bool, QueueError> {
        if !self.running || self.considered == self.next_used {
            return Ok(false);
        }
        // The driver stores what it wants and then looks at our index; we store the index and then look at what it wants. One of the two
        // sees the other's store.
        fence(Ordering::SeqCst);
        let wanted = if self.event_index {
            let before = self.considered;
            memory.load_u16(self.layout.used_event()).map(|event| {
                self.next_used.wrapping_sub(event).wrapping_sub(1)
                    < self.next_used.wrapping_sub(before)
            })
        } else {
            memory
                .load_u16(self.layout.available)
                .map(|flags| flags & NO_INTERRUPT == 0)
        };
        self.considered = self.next_used;
        self.checked(wanted)
    }

    /// Lets the driver notify again when it makes something available; whether something has come meanwhile, for which it may not have
    /// notified (section 2.7.10).
    ///
    /// # Errors
    /// When the driver broke a rule. The queue is stopped.
    pub fn enable_notifications(&mut self, memory: &GuestMemory) -> Result<bool, QueueError> {
        if !self.running {
            return Ok(false);
        }
        let enabled = if self.event_index {
            memory.store_u16(self.layout.avail_event(), self.next_available)
        } else {
            memory.store_u16(self.layout.used, 0)
        };
        // As above, with the parts exchanged.
        fence(Ordering::SeqCst);
        let found = enabled
            .map_err(QueueError::from)
            .and_then(|()| self.look(memory));
        self.checked(found)
    }

    /// Asks the driver not to notify, which it may still do.
    ///
    /// # Errors
    /// When the ring lies outside RAM. The queue is stopped.
    pub fn disable_notifications(&mut self, memory: &GuestMemory) -> Result<(), QueueError> {
        // With event indices there is nothing to do: the index that was asked for lies behind.
        if !self.running || self.event_index {
            return Ok(());
        }
        let stored = memory.store_u16(self.layout.used, NO_NOTIFY);
        self.checked(stored)
    }

    /// Where the next entry of the used ring lies in it.
    #[inline(always)]
    fn next_entry(&self) -> u64 {
        let slot = self.next_used & self.layout.size.wrapping_sub(1);
        RING + USED_ENTRY_BYTES * u64::from(slot)
    }

    /// The used ring, if it lies in one block.
    #[inline(always)]
    fn used_window<'a>(&self, memory: &'a GuestMemory) -> Option<Window<'a, 4>> {
        let bytes = RING + USED_ENTRY_BYTES * u64::from(self.layout.size);
        memory.window(self.layout.used, bytes)
    }

    /// [`put`](Self::put) for a ring that lies across the border of two blocks, or outside RAM.
    #[cold]
    fn put_across(&self, memory: &GuestMemory, head: Head, written: u32) -> Result<(), OutOfRange> {
        let entry = at(self.layout.used, self.next_entry());
        memory.store_u32(entry, head.0.into())?;
        memory.store_u32(at(entry, 4), written)
    }

    /// [`push`](Self::push) for such a ring.
    #[cold]
    fn push_across(
        &mut self,
        memory: &GuestMemory,
        head: Head,
        written: u32,
    ) -> Result<(), OutOfRange> {
        self.put_across(memory, head, written)?;
        self.next_used = self.next_used.wrapping_add(1);
        memory.store_u16_release(at(self.layout.used, INDEX), self.next_used)
    }

    /// Stops the queue at an error.
    #[inline(always)]
    fn checked<T, E: Into<QueueError>>(&mut self, result: Result<T, E>) -> Result<T, QueueError> {
        result.map_err(|error| {
            self.running = false;
            error.into()
        })
    }

    /// Whether there is a chain to pop; loads the index when all that was seen is popped.
    #[inline(always)]
    fn look(&mut self, memory: &GuestMemory) -> Result<bool, QueueError> {
        if self.next_available != self.seen_available {
            return Ok(true);
        }
        // Acquire: the ring and the descriptors are loaded after the index that announced them (section 2.7.13.1).
        let index = memory.load_u16_acquire(at(self.layout.available, INDEX))?;
        if index.wrapping_sub(self.next_available) > self.layout.size {
            return Err(QueueError::IndexJump);
        }
        self.seen_available = index;
        Ok(index != self.next_available)
    }

    #[inline(always)]
    fn take(&mut self, memory: &GuestMemory, chain: &mut Chain) -> Result<bool, QueueError> {
        if !self.look(memory)? {
            return Ok(false);
        }
        let slot = self.next_available & self.layout.size.wrapping_sub(1);
        let head = memory.load_u16(at(self.layout.available, RING + 2 * u64::from(slot)))?;
        self.walk(memory, head, chain)?;
        self.next_available = self.next_available.wrapping_add(1);
        Ok(true)
    }

    /// Copies the chain that begins at `head`.
    #[inline(always)]
    fn walk(&self, memory: &GuestMemory, head: u16, chain: &mut Chain) -> Result<(), QueueError> {
        let mut filling = chain.fill();
        let mut table = Table::new(
            memory,
            self.layout.descriptors,
            self.layout.size,
            self.indirect,
        );
        let mut index = head;
        let mut left = MAX_DESCRIPTORS;
        while left > 0 {
            left -= 1;
            let descriptor = table.load(index)?;
            if descriptor.flags & INDIRECT != 0 {
                table = table.follow(&descriptor)?;
                index = 0;
                continue;
            }
            filling.add(memory, descriptor.segment, descriptor.flags & WRITE != 0)?;
            if descriptor.flags & NEXT == 0 {
                return filling.finish(head);
            }
            index = descriptor.next;
        }
        Err(QueueError::ChainTooLong)
    }
}
