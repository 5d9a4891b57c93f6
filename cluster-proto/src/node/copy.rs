//! What a node remembers of its copies of guests.

use crate::ids::{Epoch, Micros, MoveId, Span, Tenure};
use crate::ledger::types::{Observation, Reason};
use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};

/// What this board's copy of a guest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CopyState {
    /// There is none.
    None,
    /// It was told to start.
    Starting,
    /// It runs.
    Running,
    /// It was told to go.
    Going,
}

/// What this board asks the ledger about a copy that it has stopped for good, unless the ledger gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    /// The move of which the destination has all; none: the guest is to stay.
    pub complete: Option<MoveId>,
    /// Why it is to stay.
    pub reason: Reason,
}

/// This board's copy of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Copy {
    pub state: CopyState,
    pub frozen: bool,
    pub epoch: Epoch,
    pub tenure: Tenure,
    /// What the leader is to be told.
    pub seen: Option<Observation>,
    pub report_at: Micros,
    /// The move that the driver was told of last, until it is told that it is over.
    pub moving: Option<MoveId>,
    /// Once it was asked, no word but the ledger's lets the copy go on.
    pub asked: Option<Asked>,
}

impl Copy {
    pub const NONE: Self = Self {
        state: CopyState::None,
        frozen: false,
        epoch: Epoch(0),
        tenure: Tenure(0),
        seen: None,
        report_at: Micros(0),
        moving: None,
        asked: None,
    };

    /// Whether it has effects while the lease holds.
    pub fn runs(&self) -> bool {
        matches!(self.state, CopyState::Starting | CopyState::Running)
            && !self.frozen
            && self.asked.is_none()
    }

    /// Whether the driver still has something to do for the move that it was told of.
    pub fn is_moved(&self, id: MoveId) -> bool {
        let given_up =
            matches!(&self.seen, Some(Observation::Stays { id: over, .. }) if *over == id);
        self.state == CopyState::Running && self.moving == Some(id) && !given_up
    }

    /// It is to go; nothing that it was asked or told counts any more.
    pub fn go(&mut self) {
        self.state = CopyState::Going;
        (self.seen, self.moving, self.asked) = (None, None, None);
    }
}

/// When a guest that failed so often may be tried again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Backoff {
    failures: u8,
    until: Micros,
}

impl Backoff {
    pub const NONE: Self = Self {
        failures: 0,
        until: Micros(0),
    };

    /// From when on it may be tried again, after `failures`: a pause begins when their number is seen to have changed.
    pub fn until(&mut self, failures: u8, now: Micros) -> Micros {
        if self.failures != failures {
            let doublings = u32::from(failures.saturating_sub(1)).min(16);
            let pause = Span((BACKOFF_MIN.0 << doublings).min(BACKOFF_MAX.0));
            self.until = if failures == 0 { now } else { now.after(pause) };
            self.failures = failures;
        }
        self.until
    }
}
