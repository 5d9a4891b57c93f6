//! Virtio devices over mmio (Virtual I/O Device (VIRTIO) Version 1.2), served inside EL2.
//!
//! A guest's driver is hostile until proven otherwise. What it may do wrong, and what then happens, is in docs/virtio.md; each rule has
//! its place in one of these modules, lowest first:
//! - [`chain`]: what a driver hands over, checked and copied once.
//! - [`queue`]: the split queue, from which chains come and to which they go back.
//! - [`signals`]: what a device tells its driver unasked: the interrupt, and that it needs a reset.
//! - [`transport`]: the register block.
//!
//! A device is plain logic over these: its own state, a [`Transport`](transport::Transport) and [`Queue`](queue::Queue)s, and methods that
//! serve a queue given the guest's memory. No lock is inside. Whoever owns a device decides which of its parts share a lock; only
//! [`Signals`](signals::Signals) is made to be used from several sides at once.
//!
//! Devices: [`block`], [`console`], [`entropy`], [`net`].

pub mod block;
pub mod chain;
pub mod console;
mod descriptor;
pub mod entropy;
pub mod net;
pub mod queue;
pub mod signals;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod transport;

/// What kind of device it is (section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DeviceId {
    /// A network card.
    Network = 1,
    /// A disk.
    Block = 2,
    /// A console.
    Console = 3,
    /// A source of random bytes.
    Entropy = 4,
}

impl DeviceId {
    /// The kind with that number, of those that there are here.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Network),
            2 => Some(Self::Block),
            3 => Some(Self::Console),
            4 => Some(Self::Entropy),
            _ => None,
        }
    }
}

/// How a step of serving a queue ended. Each step is bounded, so that whoever runs it can look meanwhile whether the core is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Served {
    /// Nothing is left; the driver notifies when there is more.
    Rest,
    /// The step's bound was reached: it is to be called again.
    More,
    /// What the device hands on to has no room: it is to be called again when that has.
    Full,
}

/// Feature bits that belong to no kind of device (section 6).
pub mod feature {
    /// VIRTIO_F_INDIRECT_DESC.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// VIRTIO_F_EVENT_IDX.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// VIRTIO_F_VERSION_1: without it a driver is not served.
    pub const VERSION_1: u64 = 1 << 32;
    /// All of these, which each of our devices offers.
    pub const COMMON: u64 = INDIRECT_DESC | EVENT_IDX | VERSION_1;
}
