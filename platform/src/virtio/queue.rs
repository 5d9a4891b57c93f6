//! A split queue from the driver's side (section 2.7).
//!
//! A [`Head`] is the right to a descriptor and to what it describes: whoever has it may write there, and [`Queue::offer`] gives it to
//! the device. [`Queue::take`] gives it back, after it has checked that the device had it. A batch is offered piece by piece,
//! and [`Queue::publish`] shows the whole to the device with one write and at most one notification.
//!
//! With the event index (section 2.7.10) both sides name the point from which on they want to hear of the other.

use core::fmt;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::dma::{self, Shared, barrier};

/// Flag of a descriptor: another follows.
const NEXT: u16 = 1;
/// Flag of a descriptor: the device writes.
const WRITE: u16 = 2;
/// Flag of a descriptor: it names a table of descriptors.
const INDIRECT: u16 = 4;
/// Flag of either ring: its owner wants to hear nothing.
const QUIET: u16 = 1;

/// One piece of memory for the device.
#[repr(C)]
pub struct Descriptor {
    address: AtomicU64,
    /// Length, flags and the next one's index: 32, 16 and 16 bits from the lowest.
    rest: AtomicU64,
}

// SAFETY: atomics.
unsafe impl Shared for Descriptor {}

impl Descriptor {
    /// Describes `bytes` bytes at `address`; `next` is the index of the one that follows.
    #[inline(always)]
    pub fn set(&self, address: u64, bytes: u32, access: Access, next: Option<u16>) {
        let flags = match access {
            Access::DeviceReads => 0,
            Access::DeviceWrites => WRITE,
        };
        self.write(address, bytes, flags | next.map_or(0, |_| NEXT), next);
    }

    /// Describes a table of `entries` descriptors.
    #[inline(always)]
    pub fn set_table(&self, address: u64, entries: u32) {
        self.write(address, entries * size_of::<Self>() as u32, INDIRECT, None);
    }

    #[inline(always)]
    fn write(&self, address: u64, bytes: u32, flags: u16, next: Option<u16>) {
        let rest = u64::from(bytes) | u64::from(flags) << 32 | u64::from(next.unwrap_or(0)) << 48;
        self.address.store(address.to_le(), Relaxed);
        self.rest.store(rest.to_le(), Relaxed);
    }
}

/// Who writes to a piece of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The driver.
    DeviceReads,
    /// The device.
    DeviceWrites,
}

/// What the driver tells the device.
#[repr(C, align(64))]
pub struct Available<const N: usize> {
    flags: AtomicU16,
    index: AtomicU16,
    ring: [AtomicU16; N],
    /// The device interrupts when it uses the entry with this index.
    used_event: AtomicU16,
}

// SAFETY: atomics.
unsafe impl<const N: usize> Shared for Available<N> {}

/// What the device tells the driver.
#[repr(C, align(64))]
pub struct Used<const N: usize> {
    flags: AtomicU16,
    index: AtomicU16,
    ring: [UsedElement; N],
    /// The driver notifies when it offers the entry with this index.
    available_event: AtomicU16,
}

// SAFETY: atomics.
unsafe impl<const N: usize> Shared for Used<N> {}

#[repr(C)]
struct UsedElement {
    head: AtomicU32,
    bytes: AtomicU32,
}

/// The memory of a queue of `N` entries.
#[repr(C)]
pub struct Rings<const N: usize> {
    descriptors: [Descriptor; N],
    available: Available<N>,
    used: Used<N>,
}

// SAFETY: its parts are.
unsafe impl<const N: usize> Shared for Rings<N> {}

impl<const N: usize> Rings<N> {
    pub(super) fn descriptors(&self) -> &[Descriptor; N] {
        &self.descriptors
    }

    pub(super) fn available(&self) -> &Available<N> {
        &self.available
    }

    pub(super) fn used(&self) -> &Used<N> {
        &self.used
    }
}

/// What a device does that it must not. It is not used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It claims to be done with more than it was given.
    TooMany {
        /// How many more.
        claimed: u16,
        /// How many it has.
        given: u16,
    },
    /// It gives back an entry that it did not have.
    NotGiven {
        /// The index that it named.
        head: u32,
    },
    /// It claims to have written more than there is room for.
    TooLong {
        /// How many bytes.
        claimed: u32,
        /// How many there are.
        room: u32,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { claimed, given } => {
                write!(f, "the device claims {claimed} of {given} entries")
            }
            Self::NotGiven { head } => write!(f, "the device gives back entry {head} unasked"),
            Self::TooLong { claimed, room } => {
                write!(f, "the device claims {claimed} bytes where {room} fit")
            }
        }
    }
}

/// The right to one descriptor of a queue, and to the memory that goes with it.
#[derive(Debug, PartialEq, Eq)]
pub struct Head(u16);

impl Head {
    /// Its index, less than the queue's size.
    #[inline(always)]
    pub fn index(&self) -> usize {
        self.0.into()
    }
}

/// A queue of `N` entries, a power of two.
pub struct Queue<const N: usize> {
    rings: &'static Rings<N>,
    /// The index behind the last entry offered, the last one shown to the device, and the last one taken back.
    offered: u16,
    published: u16,
    taken: u16,
    /// Which entries the device has. It may give back each of them once.
    given: [bool; N],
    event_index: bool,
}

impl<const N: usize> Queue<N> {
    const MASK: usize = N - 1;

    /// The queue in fresh `rings`, and the rights to all its descriptors.
    pub(super) fn new(rings: &'static Rings<N>, event_index: bool) -> (Self, [Head; N]) {
        const { assert!(N.is_power_of_two() && N <= 1 << 15) };
        let queue = Self {
            rings,
            offered: 0,
            published: 0,
            taken: 0,
            given: [false; N],
            event_index,
        };
        (queue, core::array::from_fn(|index| Head(index as u16)))
    }

    /// The descriptor of `head`.
    #[inline(always)]
    pub fn descriptor(&self, head: &Head) -> &Descriptor {
        &self.rings.descriptors[head.index() & Self::MASK]
    }

    /// Gives `head` to the device, which does not yet see it.
    #[inline(always)]
    pub fn offer(&mut self, head: Head) {
        self.given[head.index() & Self::MASK] = true;
        let slot = usize::from(self.offered) & Self::MASK;
        self.rings.available.ring[slot].store(head.0.to_le(), Relaxed);
        self.offered = self.offered.wrapping_add(1);
    }

    /// Shows the device all that was offered. Says whether it must be notified.
    #[inline]
    #[must_use = "a device that must be notified and is not sleeps on"]
    pub fn publish(&mut self) -> bool {
        if self.offered == self.published {
            return false;
        }
        barrier::write();
        let available = &self.rings.available;
        available.index.store(self.offered.to_le(), Relaxed);
        // Either the device sees the index, or its wish to be notified is seen here.
        barrier::full();
        let before = core::mem::replace(&mut self.published, self.offered);
        let used = &self.rings.used;
        if self.event_index {
            let event = u16::from_le(used.available_event.load(Relaxed));
            passes(event, before, self.offered)
        } else {
            u16::from_le(used.flags.load(Relaxed)) & QUIET == 0
        }
    }

    /// How many entries the device has and may still give back.
    #[inline]
    pub fn in_flight(&self) -> u16 {
        self.published.wrapping_sub(self.taken)
    }

    /// How many entries the device is done with: so many times [`take`](Self::take) may be called.
    ///
    /// # Errors
    /// [`Fault::TooMany`].
    #[inline]
    pub fn ready(&self) -> Result<u16, Fault> {
        let claimed = u16::from_le(self.rings.used.index.load(Relaxed)).wrapping_sub(self.taken);
        let given = self.in_flight();
        if claimed > given {
            return Err(Fault::TooMany { claimed, given });
        }
        // What the device wrote before it moved its index.
        barrier::read();
        Ok(claimed)
    }

    /// Takes back an entry that [`ready`](Self::ready) has counted, with the number of bytes that the device says it wrote there.
    ///
    /// # Errors
    /// [`Fault::NotGiven`].
    #[inline]
    pub fn take(&mut self) -> Result<(Head, u32), Fault> {
        let element = &self.rings.used.ring[usize::from(self.taken) & Self::MASK];
        let head = u32::from_le(element.head.load(Relaxed));
        let bytes = u32::from_le(element.bytes.load(Relaxed));
        match self.given.get_mut(head as usize) {
            Some(given) if *given => *given = false,
            _ => return Err(Fault::NotGiven { head }),
        }
        self.taken = self.taken.wrapping_add(1);
        Ok((Head(head as u16), bytes))
    }

    /// Asks for no interrupts. One may still come, of what has happened already, or after 65,536 entries.
    pub fn suppress(&mut self) {
        if self.event_index {
            // A point that the device has passed.
            let passed = self.taken.wrapping_sub(1);
            self.rings
                .available
                .used_event
                .store(passed.to_le(), Relaxed);
        } else {
            self.rings.available.flags.store(QUIET.to_le(), Relaxed);
        }
    }

    /// Asks for an interrupt when the device is done with `entries` entries more than were taken back (at least one; less than one
    /// counts as one, and without the event index every count does). Says whether it is already: then that interrupt may not come.
    ///
    /// # Errors
    /// [`Fault::TooMany`].
    pub fn listen(&mut self, entries: u16) -> Result<bool, Fault> {
        let wanted = entries.max(1);
        let available = &self.rings.available;
        if self.event_index {
            let event = self.taken.wrapping_add(wanted - 1);
            available.used_event.store(event.to_le(), Relaxed);
        } else {
            available.flags.store(0, Relaxed);
        }
        // Either the device sees the wish, or what it did before is seen here.
        barrier::full();
        let least = if self.event_index { wanted } else { 1 };
        Ok(self.ready()? >= least)
    }
}

/// Whether an index that went from `before` to `after` has passed `event` (`vring_need_event`, section 2.7.10).
#[inline(always)]
fn passes(event: u16, before: u16, after: u16) -> bool {
    after.wrapping_sub(event).wrapping_sub(1) < after.wrapping_sub(before)
}

/// Where each part begins is the standard's (section 2.7).
const _: () = {
    assert!(size_of::<Descriptor>() == 16);
    assert!(core::mem::offset_of!(Available<8>, ring) == 4);
    assert!(core::mem::offset_of!(Available<8>, used_event) == 4 + 2 * 8);
    assert!(core::mem::offset_of!(Used<8>, ring) == 4);
    assert!(core::mem::offset_of!(Used<8>, available_event) == 4 + 8 * 8);
    assert!(dma::PAGE_BYTES.is_multiple_of(align_of::<Rings<8>>()));
};
