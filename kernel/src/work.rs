//! Long work that any core does in steps, beside the vCPUs that it runs.

use alloc::boxed::Box;

use crate::guests::{self, Placing};
use crate::host::CoreHost;
use crate::moving::lanes::{self, End};
use crate::moving::packing::{self, Packing};
use crate::moving::watch::{self, Watch};
use crate::moving::within::{self, Move};
use el2_hyp::arch::timer;

/// What a core has begun.
pub enum Work {
    /// A guest is put into memory.
    Placing(Placing),
    /// A guest moves within the board.
    Moving(Box<Move>),
    /// A guest goes to another board, or comes from one.
    Carrying(End),
    /// What a guest writes is measured.
    Watching(Box<Watch>),
    /// What packing its pages would bring is measured.
    Packing(Box<Packing>),
}

/// Whether something waits for a core.
pub fn is_waiting() -> bool {
    guests::is_work_waiting()
        || within::is_waiting()
        || lanes::is_waiting()
        || watch::next_due() <= timer::now()
        || packing::is_waiting()
}

/// The next that waits, for this core.
pub fn next() -> Option<Work> {
    let placing = || guests::next_to_place().map(Work::Placing);
    let moving = || within::next().map(Work::Moving);
    let carrying = || lanes::next().map(Work::Carrying);
    let watching = || watch::next().map(Work::Watching);
    let packing = || packing::next().map(Work::Packing);
    placing()
        .or_else(carrying)
        .or_else(moving)
        .or_else(watching)
        .or_else(packing)
}

impl Work {
    /// Goes on until `end`, by the counter, or until the core is asked to look at something. None when there is no more to do.
    pub fn go_on(self, host: &CoreHost, end: u64) -> Option<Self> {
        match self {
            Self::Placing(placing) => placing.go_on(host, end).map(Self::Placing),
            Self::Moving(moving) => moving.go_on(host, end).map(Self::Moving),
            Self::Carrying(carrying) => carrying.go_on(host, end).map(Self::Carrying),
            Self::Watching(watch) => watch.go_on(host, end).map(Self::Watching),
            Self::Packing(packing) => packing.go_on(host, end).map(Self::Packing),
        }
    }
}
