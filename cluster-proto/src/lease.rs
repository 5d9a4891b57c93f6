//! Leases, from both sides: the promises that a voter gave, and the lease that a board has by them.
//!
//! The inequality on which everything rests is [`promise_span`]: a promise on any clock outlasts a lease on any other.

use crate::ids::{BoardId, Epoch, Index, Memory, Micros, Span, Tenure};
use crate::ledger::types::Seats;
use crate::limits::SEATS;

/// How long a promise lasts on its voter's clock, so that it outlasts a lease of `lease` on a clock that is slow by the bound while the voter's is fast.
#[must_use]
pub fn promise_span(lease: Span, drift_ppm: u32) -> Span {
    const MILLION: u64 = 1_000_000;
    // A bound of half the time or more would be no clock at all.
    let drift = u64::from(drift_ppm).min(MILLION / 2);
    Span((lease.0 * (MILLION + drift)).div_ceil(MILLION - drift) + 1)
}

/// Leave for one copy of a guest to have effects. There is no other way to one but from [`crate::node::Node::permit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    until: Micros,
    epoch: Epoch,
}

impl Permit {
    pub(crate) fn new(until: Micros, epoch: Epoch) -> Self {
        Self { until, epoch }
    }

    /// Up to when, on this board's clock, exclusive.
    #[must_use]
    pub fn until(&self) -> Micros {
        self.until
    }

    /// In which ownership epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether it still holds.
    #[must_use]
    pub fn valid(&self, now: Micros) -> bool {
        now < self.until
    }
}

/// A voter's promises, one for each board.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promises<const B: usize> {
    until: [Micros; B],
    /// No fence at all before this: promises of a former life or an older configuration may still run.
    quiet: Micros,
}

impl<const B: usize> Promises<B> {
    /// None.
    pub const NEW: Self = Self {
        until: [Micros(0); B],
        quiet: Micros(0),
    };

    /// Promises not to accept a fence of `board` before `until`.
    pub fn promise(&mut self, board: BoardId, until: Micros) {
        if let Some(slot) = self.until.get_mut(board.at()) {
            *slot = (*slot).max(until);
        }
    }

    /// Accepts no fence before `until`.
    pub fn hold_all(&mut self, until: Micros) {
        self.quiet = self.quiet.max(until);
    }

    /// From when a fence of `board` may be accepted.
    #[must_use]
    pub fn free_at(&self, board: BoardId) -> Micros {
        self.until
            .get(board.at())
            .map_or(self.quiet, |&until| until.max(self.quiet))
    }

    /// When no promise to any board is left.
    #[must_use]
    pub fn all_free_at(&self) -> Micros {
        self.until
            .iter()
            .fold(self.quiet, |latest, &until| latest.max(until))
    }
}

/// A board's own lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The newest promised stamp by seat, with the memory that promised.
    stamps: [(Memory, Micros); SEATS],
    /// Under which tenure; promises to older ones do not count.
    tenure: Tenure,
    /// Stamps before this were sent under another tenure.
    since: Micros,
    until: Micros,
}

impl Lease {
    /// None.
    pub const NEW: Self = Self {
        stamps: [(Memory(0), Micros(0)); SEATS],
        tenure: Tenure(0),
        since: Micros(0),
        until: Micros(0),
    };

    /// Begins to count under `tenure`, from `now` on. What was promised under another tenure counts no more.
    pub fn enter(&mut self, tenure: Tenure, now: Micros) {
        if self.tenure != tenure {
            *self = Self {
                tenure,
                since: now,
                ..Self::NEW
            };
        }
    }

    /// Under which tenure it counts.
    #[must_use]
    pub fn tenure(&self) -> Tenure {
        self.tenure
    }

    /// A voter promised for the heartbeat with `stamp`. `config_at` is the voter's newest configuration, `applied_config` the board's.
    /// Returns whether the lease runs longer by it.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one fact of the rule, and all come from one heartbeat"
    )]
    pub fn promised(
        &mut self,
        seats: &Seats,
        voter: (BoardId, Memory),
        config_at: Index,
        applied_config: Index,
        stamp: Micros,
        now: Micros,
        lease: Span,
    ) -> bool {
        if self.tenure.0 == 0 || stamp <= self.since || stamp > now || config_at > applied_config {
            return false;
        }
        let Some(seat) = seats
            .seat_of(voter.0)
            .filter(|_| seats.votes(voter.0, voter.1))
        else {
            return false;
        };
        let slot = &mut self.stamps[seat];
        if slot.0 == voter.1 && slot.1 >= stamp {
            return false;
        }
        *slot = (voter.1, stamp);
        self.count(seats, lease)
    }

    /// Finds the newest stamp that a majority has reached.
    fn count(&mut self, seats: &Seats, lease: Span) -> bool {
        let mut falling = [0; SEATS];
        let mut members = 0;
        for (seat, _, memory) in seats.members() {
            let (promised_by, stamp) = self.stamps[seat];
            falling[members] = if promised_by == memory { stamp.0 } else { 0 };
            members += 1;
        }
        falling[..members].sort_unstable_by(|one, other| other.cmp(one));
        let newest = Micros(falling[members / 2]);
        let until = newest.after(lease);
        if newest.0 == 0 || until <= self.until {
            return false;
        }
        self.until = until;
        true
    }

    /// Up to when, on the board's clock, exclusive.
    #[must_use]
    pub fn until(&self) -> Micros {
        self.until
    }

    /// Whether it holds.
    #[must_use]
    pub fn holds(&self, now: Micros) -> bool {
        now < self.until
    }
}
