//! Stage 2: from what a guest calls physical to what is.
//!
//! [`table`] is the tree of descriptors and the only place that edits one. It knows the machine through two small
//! traits, [`Tables`] (frames that hold tables) and [`Invalidate`] (the TLB), so that its order of stores and
//! invalidations is tested on any machine.

pub mod table;

pub use table::{Attributes, Invalidate, MapError, Stage2, Table, Tables};
