//! A disk's device as bytes. The blocks of an ephemeral disk have sections of their own; a local one is pinned to its board.
//!
//! A request that was begun and is not answered begins anew: its chain is popped again. What it has moved already is moved once more, between the same
//! buffers and the same blocks, which are the device's until it answers.

use super::config::Shape;
use super::{Backend, Block, Serial, transport};
use crate::device::virtio::queue::Queue;
use crate::device::virtio::transport::Transport;
use crate::record::codec::{Decoder, Encoder, Malformed, require};
use crate::volume::SECTOR_BYTES;

/// The disk is an extent of a board's, and stays there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned;

/// The guest has another disk in this slot than the board made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherDisk;

/// A device that has come, without the blocks of its disk.
pub struct Parts {
    shape: Shape,
    image_bytes: u64,
    transport: Transport<1>,
    queue: Queue,
}

impl Parts {
    /// The device that [`Block::to_record`] wrote.
    ///
    /// # Errors
    /// If no device can be so.
    pub fn from_record(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let sectors = from.u64()?;
        require(
            (1..=u64::MAX / SECTOR_BYTES).contains(&sectors),
            "the size of a disk",
        )?;
        let read_only = from.bool("whether a disk can be written")?;
        let serial = Serial::from_bytes(from.array()?);
        let image_bytes = from.u64()?;
        require(
            image_bytes <= sectors * SECTOR_BYTES,
            "the size of an image",
        )?;
        let shape = Shape::ephemeral(sectors, read_only, serial);
        let transport = Transport::from_record(from, transport(&shape))?;
        let queue = Queue::from_record(from, &transport, 0)?;
        Ok(Self {
            shape,
            image_bytes,
            transport,
            queue,
        })
    }
}

impl Block<'_> {
    /// Whether the disk can go to another board.
    ///
    /// # Errors
    /// If it cannot.
    pub fn can_move(&self) -> Result<(), Pinned> {
        match self.backend {
            Backend::Ephemeral(_) => Ok(()),
            Backend::Local(_) => Err(Pinned),
        }
    }

    /// Whether a request was begun and is not answered.
    #[cfg(test)]
    pub fn is_in_the_middle(&self) -> bool {
        matches!(&self.backend, Backend::Ephemeral(ephemeral) if ephemeral.is_busy())
    }

    /// Writes the device.
    ///
    /// # Errors
    /// If the disk is pinned. Nothing is written then.
    pub fn to_record(&self, to: &mut Encoder<'_>) -> Result<(), Pinned> {
        let Backend::Ephemeral(ephemeral) = &self.backend else {
            return Err(Pinned);
        };
        to.u64(self.shape.sectors());
        to.bool(self.shape.has(super::feature::READ_ONLY));
        to.bytes(self.shape.serial().bytes());
        to.u64(ephemeral.overlay().image_bytes());
        self.transport.to_record(to);
        self.queue.to_record(ephemeral.is_busy().into(), to);
        Ok(())
    }

    /// Whether `parts` are of this device, as the board made it for the guest.
    ///
    /// # Errors
    /// If they are not.
    pub fn fits(&self, parts: &Parts) -> Result<(), OtherDisk> {
        let image_bytes = self.overlay().map(|overlay| overlay.image_bytes());
        let same = image_bytes == Some(parts.image_bytes)
            && self.shape.sectors() == parts.shape.sectors()
            && self.shape.serial() == parts.shape.serial()
            && self.shape.features() == parts.shape.features();
        if same { Ok(()) } else { Err(OtherDisk) }
    }

    /// Becomes the device that has come, over the disk that has come before. [`serve`](Self::serve) is due.
    ///
    /// # Panics
    /// If it does not [`fit`](Self::fits).
    pub fn adopt(&mut self, parts: Parts) {
        assert!(self.fits(&parts).is_ok(), "another disk");
        self.stop();
        self.transport = parts.transport;
        self.queue = parts.queue;
        self.fault = None;
    }
}
