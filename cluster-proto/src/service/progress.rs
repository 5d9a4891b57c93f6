//! How a guest's move goes, as the boards at its ends tell who asks. It decides nothing: what became of a move is in the ledger.
//!
//! Each end tells what it knows by its own clock. The source: rounds, rates, and of the stop how long it took to bring the guest to rest and to send what was
//! left. The destination: from when all was there to when the guest went on.

use crate::ids::{Epoch, MoveId};
use crate::wire::codec::{choice, record};

choice! {
    /// How far an end of a move is.
    Step {
        /// The source: it is ordered, and has not begun, or asks to be let in.
        Knocks = 0,
        /// The source: the guest runs and is copied.
        Copies = 1,
        /// The source: the guest is still, and what is left goes.
        Stopped = 2,
        /// The source: all is there, and the cluster was asked whose the guest is.
        Asks = 3,
        /// The source: the guest goes on at the destination.
        Left = 4,
        /// The source: the guest stays.
        Stays = 5,
        /// The destination: the guest is coming.
        Comes = 6,
        /// The destination: all of it is here.
        Whole = 7,
        /// The destination: it goes on here.
        GoesOn = 8,
    }
}

record! {
    /// How far a move is, as one of its ends tells.
    Progress {
        /// Which move.
        id: MoveId,
        /// In which ownership epoch it began.
        epoch: Epoch,
        /// How far.
        step: Step,
        /// Rounds that are over.
        rounds: u32,
        /// Bytes that have gone, in all.
        sent: u64,
        /// Bytes that are left of this round at the most: pages that are zeros will go in a few.
        left: u64,
        /// Bytes in a second, in this round.
        rate: u64,
        /// How long the round goes on at the speed at which it has gone so far, milliseconds; the largest number if nobody knows.
        left_ms: u32,
        /// Percent of its speed at which the guest runs.
        speed: u8,
        /// How long it took to bring the guest to rest, microseconds; zero until it was.
        stop_us: u32,
        /// How long it took from then until all was there, microseconds; zero until it was.
        rest_us: u32,
        /// How long it took from when all was there until the guest went on, microseconds; zero until it did.
        hand_over_us: u32,
    }
}

impl Copy for Progress {}

impl Progress {
    /// Nobody knows how long a round goes on.
    pub const UNKNOWN: u32 = u32::MAX;

    /// Of a move that has just begun, at one of its ends.
    #[must_use]
    pub const fn new(id: MoveId, epoch: Epoch, step: Step) -> Self {
        Self {
            id,
            epoch,
            step,
            rounds: 0,
            sent: 0,
            left: 0,
            rate: 0,
            left_ms: Self::UNKNOWN,
            speed: 100,
            stop_us: 0,
            rest_us: 0,
            hand_over_us: 0,
        }
    }
}
