//! A guest as bytes: what is saved, and what moves from board to board.
//!
//! The format is explicit and versioned (docs/record.md has it, byte for byte); no memory layout becomes bytes. A record is a stream of
//! [`section`]s, each of bounded length, so that writer and reader need room for one at a time and neither a heap nor the whole.
//!
//! In reading order:
//! - [`codec`], [`checksum`]: numbers as bytes. - [`section`]: what a stream is made of.
//! - [`header`]: what guest it is, and which boards can host it. - [`images`]: what it was started from. - [`units`], [`content`]: its pages and disks. - [`vcpu`], [`device`]: its parts.
//! - [`intake`]: a record that is taken in. - [`precopy`]: when a guest that moves has been copied far enough to stop.
//!
//! **Where a part is described.** Each part of a guest has its `to_record` and `from_record` beside it (`vgic/record.rs`, `device/pl011/record.rs`, …), where
//! its fields are. `from_record` yields the part itself, with all that must hold of it, or says what is wrong: there is no half-checked state.

pub mod checksum;
pub mod codec;
pub mod content;
pub mod device;
pub mod header;
pub mod images;
pub mod intake;
pub mod precopy;
pub mod section;
#[cfg(test)]
mod tests;
pub mod units;
pub mod vcpu;

pub use codec::{Decoder, Encoder, Malformed, NoRoom};
pub use section::{Broken, Kind, MAX_SECTION, Section, Writer};
