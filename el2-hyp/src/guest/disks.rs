//! A guest's disks on the board's own: requests that complete later.

use core::sync::atomic::Ordering;

use crate::device::virtio::Served;
use crate::device::virtio::block::Block;
use crate::device::virtio::block::disk::{BoardDisk, Tag};
use crate::device::virtio::signals::Signals;
use crate::guest::Guest;
use crate::guest::devices::{Device, STEP};
use crate::host::Host;

impl Guest {
    /// One step of a disk's queue.
    pub(super) fn serve_block<H: Host>(
        &self,
        host: &H,
        slot: usize,
        block: &mut Block<'static>,
        signals: &Signals,
    ) {
        if self.put_off(host, slot) {
            return;
        }
        let mut disk = host.disk(self.id, slot);
        let served = block.serve(&self.memory, signals, &mut disk, STEP);
        drop(disk);
        match served {
            Served::Rest => {}
            Served::More => self.defer(host, slot),
            Served::Full => {
                self.stalled.fetch_or(1 << slot, Ordering::AcqRel);
                // The last completion may have come before that was to be seen.
                if host.disk(self.id, slot).room() > 0 {
                    self.defer(host, slot);
                }
            }
        }
    }

    /// Requests to the board's disk have completed: their tags, and whether all went well.
    pub fn complete<H: Host>(
        &self,
        host: &H,
        slot: usize,
        done: impl IntoIterator<Item = (Tag, bool)>,
    ) {
        let Some(Device::Block(signals, block)) = self.devices.get(slot) else {
            return;
        };
        let mut block = block.lock();
        let mut disk = host.disk(self.id, slot);
        for (tag, ok) in done {
            block.complete(&self.memory, signals, (tag, ok), &mut disk);
        }
        drop(disk);
        block.finish(&self.memory, signals);
        self.update_line(host, slot, signals);
    }

    /// The board's disk has room again: devices that waited for it go on.
    pub fn resume_disks<H: Host>(&self, host: &H) {
        let mut left = self.stalled.swap(0, Ordering::AcqRel);
        while left != 0 {
            let slot = left.trailing_zeros() as usize;
            left &= left - 1;
            self.serve_slot(host, slot);
        }
    }

    /// The board's disk is broken: what it had has failed.
    pub fn lose_disk<H: Host>(&self, host: &H) {
        for (slot, device) in self.devices.iter().enumerate() {
            if let Device::Block(signals, block) = device {
                let mut block = block.lock();
                block.lose_disk(&self.memory, signals);
                self.update_line(host, slot, signals);
            }
        }
    }

    /// Requests that the board's disk has for this guest. Until there are none its memory is not to be used otherwise.
    pub fn in_flight(&self) -> usize {
        let disks = self.devices.iter().map(|device| match device {
            Device::Block(_, block) => block.lock().in_flight(),
            _ => 0,
        });
        disks.sum()
    }
}
