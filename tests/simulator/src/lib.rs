//! Whole clusters in one process, from one seed, a thousand times faster than life.
//!
//! A newcomer reads: [`world`] (boards, network, disks and time), [`machine`] (one board around its node), [`oracle`] (the properties that
//! must hold after every step), [`handover`] (those of guests that move), [`plan`] (what goes wrong), [`campaign`] (a run: faults, then healing), [`figures`] (what is measured),
//! [`steps`] (for tests that strike at each step).
//! [`model`] puts the same nodes under a model checker: few boards, every combination of faults up to a depth.
//! A seed and a commit replay any run.
#![forbid(unsafe_code)]

pub mod campaign;
pub mod dice;
pub mod figures;
pub mod handover;
pub mod machine;
pub mod model;
pub mod oracle;
pub mod plan;
pub mod stats;
pub mod steps;
pub mod world;
