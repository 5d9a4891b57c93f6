//! Boards and their devices: what a board is, read from its device tree, and drivers for what EL2 itself uses.
//!
//! Nothing here knows of guests or clusters, and no board has a constant here: a driver is told where its device is.
//!
//! - [`tree`]: the device tree as plain data. It runs anywhere and is tested on the host.
//! - [`mmio`]: a device's registers.
//! - [`dma`]: memory that a device reads and writes by itself. - [`nic`]: network cards. - [`disk`]: disks. - [`virtio`]: what
//!   emulated boards have of either.
//! - [`gic`]: the physical interrupt controller. - [`smp`]: other cores, and the power switch. - [`uart`]: the console line.
#![cfg_attr(not(test), no_std)]

pub mod disk;
pub mod dma;
#[cfg(target_os = "none")]
pub mod gic;
pub mod mmio;
pub mod nic;
#[cfg(target_os = "none")]
pub mod smp;
pub mod tree;
#[cfg(target_os = "none")]
pub mod uart;
pub mod virtio;
