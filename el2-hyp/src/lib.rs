//! Virtual machines on EL2: what a guest is made of, and what each of its exits means.
//!
//! The crate knows no board, no cluster and no device driver. What it needs of the board reaches it as data (addresses, interrupt numbers) and
//! through one trait, [`host::Host`]. All but [`arch`] and what drives it is plain logic that is tested on any machine.
//!
//! In reading order:
//! - [`addr`]: addresses that cannot be mistaken for one another. - [`memory`]: the one way into a guest's memory.
//! - [`lock`]: what cores share is behind one. - [`stage2`]: from what a guest calls physical to what is.
//! - [`exit`]: why a vCPU came back, as a value. - [`sysreg`], [`idregs`]: trapped registers. - [`inject`]: exceptions for the guest.
//! - [`psci`]: firmware calls. - [`vtimer`]: the emulated timer. - [`vgic`]: the interrupt controller. - [`device`]: the console.
//! - [`volume`]: where guests' disks have their bytes.
//! - [`frame`], [`gate`], [`switch`]: the network between guests, board and wire.
//! - [`machine`]: the guest machine's map. - [`image`], [`fdt`]: a kernel's place in memory, and the device tree that it is given.
//! - [`sched`]: which vCPU runs on which core. - [`published`]: what all cores find without a lock.
//! - [`record`]: a guest as bytes.
//! - [`arch`]: system registers and assembly. - [`vcpu`], [`guest`]: the virtual machine put together.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod addr;
#[cfg(target_os = "none")]
pub mod arch;
pub mod device;
pub mod exit;
pub mod fdt;
pub mod frame;
pub mod gate;
#[cfg(target_os = "none")]
pub mod guest;
#[cfg(target_os = "none")]
pub mod host;
pub mod idregs;
pub mod image;
pub mod inject;
pub mod lock;
pub mod machine;
pub mod memory;
pub mod psci;
pub mod published;
pub mod record;
pub mod sched;
pub mod stage2;
pub mod switch;
pub mod sysreg;
#[cfg(target_os = "none")]
pub mod vcpu;
pub mod vgic;
pub mod volume;
pub mod vtimer;
