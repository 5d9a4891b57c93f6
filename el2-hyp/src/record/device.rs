//! The device in a virtio slot, whatever its kind.

use alloc::boxed::Box;

use super::codec::{Decoder, Encoder, Malformed, require};
use crate::device::virtio::console::Console;
use crate::device::virtio::entropy::Entropy;
use crate::device::virtio::signals::Signals;
use crate::device::virtio::{DeviceId, block, net};

/// A device that has come, of one kind.
pub enum Parts {
    /// A disk, without its blocks.
    Block(Box<block::record::Parts>),
    /// A network card.
    Network(Box<net::record::Parts>),
    /// A console.
    Console(Box<Console>),
    /// A source of random bytes.
    Entropy(Box<Entropy>),
}

/// A device that has come.
pub struct Arrived {
    /// What it has told its driver.
    pub signals: Signals,
    /// The rest.
    pub parts: Parts,
}

impl Arrived {
    /// The device of kind `device` that a section holds.
    ///
    /// # Errors
    /// If no device can be so.
    pub fn from_record(from: &mut Decoder<'_>, device: DeviceId) -> Result<Self, Malformed> {
        require(from.u8()? == device as u8, "the kind of a device")?;
        let signals = Signals::from_record(from)?;
        let parts = match device {
            DeviceId::Block => Parts::Block(Box::new(block::record::Parts::from_record(from)?)),
            DeviceId::Network => Parts::Network(Box::new(net::record::Parts::from_record(from)?)),
            DeviceId::Console => Parts::Console(Box::new(Console::from_record(from)?)),
            DeviceId::Entropy => Parts::Entropy(Box::new(Entropy::from_record(from)?)),
        };
        Ok(Self { signals, parts })
    }
}

/// Begins a device's section: its kind, and what it has told its driver. The device itself follows.
pub fn begin(device: DeviceId, signals: &Signals, to: &mut Encoder<'_>) {
    to.u8(device as u8);
    signals.to_record(to);
}
