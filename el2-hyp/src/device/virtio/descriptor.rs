//! Descriptors and the tables that they stand in (section 2.7.5).

use crate::addr::Ipa;
use crate::device::virtio::chain::Segment;
use crate::device::virtio::queue::{MAX_QUEUE_SIZE, QueueError};
use crate::memory::GuestMemory;
use crate::memory::window::Window;

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
pub(super) struct Table<'a> {
    memory: &'a GuestMemory,
    base: Ipa,
    entries: u16,
    /// All of it, where it is aligned and lies in one block of RAM.
    window: Option<Window<'a, 16>>,
    /// Whether a descriptor in it may name an indirect table.
    may_lead_on: bool,
}

impl<'a> Table<'a> {
    /// The table at `base`, which need not be in RAM.
    #[inline(always)]
    pub fn new(memory: &'a GuestMemory, base: Ipa, entries: u16, may_lead_on: bool) -> Self {
        Self {
            memory,
            base,
            entries,
            window: memory.window(base, DESCRIPTOR_BYTES * u64::from(entries)),
            may_lead_on,
        }
    }

    /// The descriptor at `index`.
    #[inline(always)]
    pub fn load(&self, index: u16) -> Result<Descriptor, QueueError> {
        let [address, rest] = match &self.window {
            Some(window) => window
                .load_u64_pair(DESCRIPTOR_BYTES * u64::from(index))
                .map_err(|_| QueueError::NoSuchDescriptor)?,
            None => load_anywhere(self.memory, self.base, self.entries, index)?,
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
    #[inline(always)]
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
        let base = descriptor.segment.ipa;
        Ok(Self::new(self.memory, base, entries as u16, false))
    }
}

/// [`Table::load`] where the table lies across the border of two blocks, or is not aligned, which an indirect one need not be. It takes the
/// table apart, so that the common way keeps it in registers.
#[cold]
fn load_anywhere(
    memory: &GuestMemory,
    base: Ipa,
    entries: u16,
    index: u16,
) -> Result<[u64; 2], QueueError> {
    if index >= entries {
        return Err(QueueError::NoSuchDescriptor);
    }
    let offset = DESCRIPTOR_BYTES * u64::from(index);
    let place = base.checked_add(offset).ok_or(QueueError::RingOutside)?;
    let mut bytes = [0; DESCRIPTOR_BYTES as usize];
    memory.read(place, &mut bytes)?;
    let both = u128::from_le_bytes(bytes);
    Ok([both as u64, (both >> 64) as u64])
}
