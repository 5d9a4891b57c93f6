//! The tool's side of a cluster's protocol.

pub mod wire;
