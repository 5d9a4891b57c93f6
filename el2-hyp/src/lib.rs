//! Virtual machines on EL2.
#![cfg_attr(not(test), no_std)]

pub mod vgic;
