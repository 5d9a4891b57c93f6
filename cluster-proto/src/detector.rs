//! Whether a peer's heartbeats arrive as they should, by a timeout that follows the jitter that is measured.
//!
//! Suspicion is never safety: it makes a follower stand for election and a leader propose. So a wrong one costs a little, and a late one delays a failover.

use crate::ids::{Micros, Span};
use crate::limits::{DETECT_MAX, DETECT_MIN, HEARTBEAT};

/// What is known of one peer's rhythm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Detector {
    last: Option<Micros>,
    /// Eight times the moving average of the gaps.
    mean8: u64,
    /// Four times the moving average of their deviation from it.
    deviation4: u64,
}

impl Detector {
    /// Of a peer that was never heard.
    pub const NEW: Self = Self {
        last: None,
        mean8: HEARTBEAT.0 * 8,
        deviation4: 0,
    };

    /// A heartbeat arrived.
    pub fn beat(&mut self, now: Micros) {
        if let Some(last) = self.last {
            // A long silence is a fault, not a rhythm: it counts as the longest gap that may be tolerated, halved.
            let gap = now.since(last).0.min(DETECT_MAX.0 / 2);
            let mean = self.mean8 / 8;
            self.deviation4 = self.deviation4 - self.deviation4 / 4 + gap.abs_diff(mean);
            self.mean8 = self.mean8 - mean + gap;
        }
        self.last = Some(now);
    }

    /// How long a silence is tolerated.
    #[must_use]
    pub fn patience(&self) -> Span {
        Span((self.mean8 / 8 + self.deviation4 + 2 * HEARTBEAT.0).clamp(DETECT_MIN.0, DETECT_MAX.0))
    }

    /// Whether the peer is heard.
    #[must_use]
    pub fn hears(&self, now: Micros) -> bool {
        self.last
            .is_some_and(|last| now.since(last) <= self.patience())
    }

    /// When the silence will be too long; never for a peer that was not heard.
    #[must_use]
    pub fn deadline(&self) -> Option<Micros> {
        self.last.map(|last| last.after(self.patience()))
    }

    /// When it was last heard.
    #[must_use]
    pub fn last(&self) -> Option<Micros> {
        self.last
    }
}
