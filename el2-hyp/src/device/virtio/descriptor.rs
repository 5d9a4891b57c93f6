//! Descriptors and the tables that they stand in (section 2.7.5).

use crate::addr::Ipa;
use crate::device::virtio::chain::Segment;
use crate::device::virtio::queue::{MAX_QUEUE_SIZE, QueueError, at};
use crate::memory::GuestMemory;

/// Bytes of a descriptor.
pub(super) const DESCRIPTOR_BYTES: u64 = 16;

/// Flags of a descriptor.
pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

/// A descriptor (section 2.7.5), loaded once.
pub(super) struct Descriptor {
    pub segment: Segment,
    pub flags: u16,
    pub next: u16,
}

/// A table of descriptors: the queue's own, or an indirect one.
pub(super) struct Table {
    base: Ipa,
    entries: u16,
    /// Whether a descriptor in it may name an indirect table.
    may_lead_on: bool,
}

impl Table {
    /// The queue's own table.
    #[inline(always)]
    pub fn new(base: Ipa, entries: u16, may_lead_on: bool) -> Self {
        Self {
            base,
            entries,
            may_lead_on,
        }
    }

    /// The descriptor at `index`.
    #[inline(always)]
    pub fn load(&self, memory: &GuestMemory, index: u16) -> Result<Descriptor, QueueError> {
        if index >= self.entries {
            return Err(QueueError::NoSuchDescriptor);
        }
        let place = at(self.base, DESCRIPTOR_BYTES * u64::from(index));
        let [address, rest] = if self.base.is_aligned(DESCRIPTOR_BYTES) {
            memory.load_u64_pair(place)?
        } else {
            load_unaligned(memory, place)?
        };
        Ok(Descriptor {
            segment: Segment {
                ipa: Ipa(address),
                length: rest as u32,
            },
            flags: (rest >> 32) as u16,
            next: (rest >> 48) as u16,
        })
    }

    /// The indirect table that a descriptor of this one names (section 2.7.5.3).
    #[cold]
    pub fn follow(&self, descriptor: &Descriptor) -> Result<Self, QueueError> {
        if !self.may_lead_on || descriptor.flags & NEXT != 0 {
            return Err(QueueError::BadIndirect);
        }
        let bytes = descriptor.segment.length;
        let entries = bytes / DESCRIPTOR_BYTES as u32;
        if entries == 0
            || !bytes.is_multiple_of(DESCRIPTOR_BYTES as u32)
            || entries > MAX_QUEUE_SIZE.into()
        {
            return Err(QueueError::BadIndirectLength);
        }
        Ok(Self {
            base: descriptor.segment.ipa,
            entries: entries as u16,
            may_lead_on: false,
        })
    }
}

/// An indirect table need not be aligned.
#[cold]
fn load_unaligned(memory: &GuestMemory, place: Ipa) -> Result<[u64; 2], QueueError> {
    let mut bytes = [0; DESCRIPTOR_BYTES as usize];
    memory.read(place, &mut bytes)?;
    let both = u128::from_le_bytes(bytes);
    Ok([both as u64, (both >> 64) as u64])
}
