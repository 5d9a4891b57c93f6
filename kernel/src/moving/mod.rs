//! Guests move while they run.
//!
//! - [`sender`]: a guest becomes a record, section by section, while it runs; then it is stopped for the rest. - [`receiver`]: a record becomes a guest. Neither knows how the bytes
//!   get from one to the other.
//! - [`log`]: the log of what it writes. - [`watch`]: how much that is, measured. - [`course`]: how a move went over time. - [`packing`]: what it would bring to pack pages. - [`hold`]: moves that wait for who tests them.
//! - [`within`]: a move from one place of the board to another.
//! - [`departure`], [`arrival`]: the ends of a move between boards, each on its own. - [`lanes`]: what comes for them, and how they wait for it. - [`progress`]: what they tell.
//!
//! **Who works.** Any core that is free for it ([`crate::work`]), in steps of at most a section, between which it runs vCPUs and serves the board.

mod arrival;
pub mod course;
mod departure;
pub mod hold;
pub mod lanes;
mod log;
pub mod packing;
pub mod progress;
mod receiver;
mod sender;
pub mod watch;
pub mod within;

use alloc::boxed::Box;

use el2_hyp::record::MAX_SECTION;
use el2_hyp::record::precopy::Limits;

pub use arrival::Arrival;
pub use departure::Departure;

/// How long a guest is to be still at most, and may be if rounds do not bring it there, where the operator says nothing.
const DOWNTIME_US: u64 = 10_000;
const AT_WORST_US: u64 = 300_000;
/// Percent of its speed that it keeps at the least while it is slowed down to get there.
const SLOWEST: u8 = 20;

/// What a move may cost its guest where the operator says nothing.
const LIMITS: Limits = Limits {
    downtime: DOWNTIME_US,
    at_worst: AT_WORST_US,
    slowest: SLOWEST,
};

/// What a move may cost its guest that the operator allows to be still for so many milliseconds: it stops as soon as that is kept, and never for longer.
pub fn limits(downtime: Option<u16>) -> Limits {
    downtime.map_or(LIMITS, |milliseconds| {
        let microseconds = u64::from(milliseconds) * 1000;
        Limits {
            downtime: microseconds,
            at_worst: microseconds,
            ..LIMITS
        }
    })
}

/// Room for a section. It is made where it stays: a stack has none for it.
fn room() -> Box<[u8; MAX_SECTION]> {
    let bytes = alloc::vec![0; MAX_SECTION].into_boxed_slice();
    bytes.try_into().expect("as many bytes")
}
