//! The devices that EL2 serves to a guest.

pub mod pl011;
pub mod virtio;
pub mod watchdog;
