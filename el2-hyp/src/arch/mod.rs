//! The one corner that knows the machine: assembly, system registers and the hardware's tables.
//!
//! - [`enter`]: into the guest and back, one call.
//! - [`regs`]: the state of EL1 that stays in the machine while a vCPU is loaded.
//! - [`config`]: what is trapped and why, [`config::hcr`] bit by bit.
//! - [`lists`]: the list registers of both kinds of GIC.
//! - [`timer`]: the counter, the virtual timer and EL2's own.
//! - [`maintenance`]: TLB invalidation and cache maintenance.
//!
//! Everything here runs at EL2 on the core it is about, with interrupts masked.

pub mod config;
pub mod enter;
pub mod lists;
pub mod maintenance;
pub mod regs;
pub mod timer;
