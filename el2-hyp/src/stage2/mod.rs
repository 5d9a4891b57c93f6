//! Stage 2: from what a guest calls physical to what is.
//!
//! [`table`] is the tree of descriptors and the only place that edits one. It knows the machine through two small
//! traits, [`Tables`] (frames that hold tables) and [`Invalidate`] (the TLB), so that its order of stores and
//! invalidations is tested on any machine. [`dirty`] logs which pages a guest writes.

pub mod dirty;
pub mod table;

pub use dirty::Logged;
pub use table::{Attributes, Fault, Invalidate, MapError, Stage2, Table, Tables};
