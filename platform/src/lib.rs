//! Boards and their devices.
#![cfg_attr(not(test), no_std)]

pub mod tree;
