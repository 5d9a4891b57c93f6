//! The cluster's protocol, sans I/O and heapless.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod manifest;
pub mod package;
