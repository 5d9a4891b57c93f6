//! The cluster's protocol: who is alive, who leads, who runs what, agreed among boards that forget everything when they reboot.
//!
//! This crate touches no clock, socket, heap or global. Time, frames, local events and commands go into a [`node::Node`]; frames to send and
//! effects to carry out come out. So the same code runs on a board, in the operator's tool, as a witness, and in a
//! simulator a thousand times faster than life. `docs/protocol.md` describes the protocol and argues why it is safe.
//!
//! It knows nothing of virtual machines or devices: a guest is a number with an ownership epoch, an image is a digest.
//!
//! A newcomer reads: [`ids`] and [`limits`] (quantities and capacities), [`wire`] (frames and messages), [`detector`],
//! [`lease`] and [`log`] (the three small machines), [`ledger`] and [`placement`] (what is agreed), [`node`] (all of it together), and [`client`] (an operator's side of it). Apart from these stand
//! [`manifest`] and [`package`], what a board is told when it boots, and [`first`], which makes the first ledger of it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod agent;
pub mod bulk;
pub mod client;
pub mod described;
pub mod detector;
pub mod first;
pub mod ids;
pub mod lease;
pub mod ledger;
pub mod limits;
pub mod log;
pub mod manifest;
pub mod node;
pub mod package;
pub mod placement;
pub mod service;
pub mod wire;
