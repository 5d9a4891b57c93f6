//! Whether a peer's heartbeats arrive as they should, by a timeout that follows what is measured: how much they are late, and how many are lost.
//!
//! Loss is no jitter: of gaps between heartbeats of which one in twenty is lost mean and deviation hardly tell a run of three from one of two, but a run of three comes every few
//! minutes. So the share of what is lost is kept, and such a run is waited for as comes once in 2^[`FALSE_ALARM_BITS`] heartbeats.
//!
//! Suspicion is never safety: it makes a follower stand for election and a leader propose. So a wrong one costs a little, and a late one delays a failover.

use crate::ids::{Micros, Span};
use crate::limits::{DETECT_MAX, DETECT_MIN, FALSE_ALARM_BITS, HEARTBEAT};

/// The moving average of what is lost takes in a heartbeat with this weight, as a shift: 1/64.
const WEIGHT: u32 = 6;

/// What is known of one peer's rhythm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Detector {
    last: Option<Micros>,
    /// Eight times the moving average of the gaps.
    mean8: u64,
    /// Four times the moving average of their deviation from it.
    deviation4: u64,
    /// The moving average of the share of heartbeats that are lost, in parts of 2^32.
    lost: u32,
}

impl Detector {
    /// Of a peer that was never heard.
    pub const NEW: Self = Self {
        last: None,
        mean8: HEARTBEAT.0 * 8,
        deviation4: 0,
        lost: 0,
    };

    /// A heartbeat arrived.
    pub fn beat(&mut self, now: Micros) {
        if let Some(last) = self.last {
            if self.hears(now) {
                self.count(now.since(last));
            }
            // A long silence is a fault, not a rhythm: it counts as the longest gap that may be tolerated, halved.
            let gap = now.since(last).0.min(DETECT_MAX.0 / 2);
            let mean = self.mean8 / 8;
            self.deviation4 = self.deviation4 - self.deviation4 / 4 + gap.abs_diff(mean);
            self.mean8 = self.mean8 - mean + gap;
        }
        self.last = Some(now);
    }

    /// Takes in what was lost in a gap, and that its end was not. A silence that was too long was no loss.
    fn count(&mut self, gap: Span) {
        let lost = ((gap.0 + HEARTBEAT.0 / 2) / HEARTBEAT.0).saturating_sub(1);
        for _ in 0..lost {
            self.lost += (u32::MAX - self.lost) >> WEIGHT;
        }
        self.lost -= self.lost >> WEIGHT;
    }

    /// How long a silence is tolerated.
    #[must_use]
    pub fn patience(&self) -> Span {
        let jitter = self.mean8 / 8 + self.deviation4 + 2 * HEARTBEAT.0;
        // A share of at most 2^-n: so many in a row are lost once in 2^FALSE_ALARM_BITS.
        let run = FALSE_ALARM_BITS.div_ceil(self.lost.leading_zeros().max(1));
        let loss = u64::from(run + 1) * HEARTBEAT.0 + HEARTBEAT.0 / 2;
        Span(jitter.max(loss).clamp(DETECT_MIN.0, DETECT_MAX.0))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Hears of `of` heartbeats all but those whose number `is_lost`.
    fn heard(of: u64, is_lost: impl Fn(u64) -> bool) -> Detector {
        let mut detector = Detector::NEW;
        for n in (0..of).filter(|n| !is_lost(*n)) {
            detector.beat(Micros(n * HEARTBEAT.0));
        }
        detector
    }

    #[test]
    fn a_sound_network_is_waited_for_as_short_as_can_be() {
        assert_eq!(heard(1_000, |_| false).patience(), DETECT_MIN);
        // What was lost long ago is forgotten.
        assert_eq!(heard(1_000, |n| n == 100).patience().0, 175_000);
    }

    #[test]
    fn the_more_is_lost_the_longer_runs_are_waited_for() {
        for (one_in, runs) in [(64, 5..=6), (20, 6..=9), (10, 9..=13), (5, 13..=13)] {
            let patience = heard(2_000, |n| n % one_in == 0).patience().0;
            let heartbeats = patience / HEARTBEAT.0 - 1;
            assert!(runs.contains(&heartbeats), "1 in {one_in}: {heartbeats}");
        }
    }

    #[test]
    fn a_silence_is_no_loss() {
        let mut detector = heard(1_000, |_| false);
        let before = detector.lost;
        detector.beat(Micros(1_000 * HEARTBEAT.0 + 5_000_000));
        assert_eq!(detector.lost, before);
        assert!(detector.patience() <= DETECT_MAX);
    }

    #[test]
    fn even_when_nearly_all_is_lost_there_is_an_end() {
        let detector = heard(10_000, |n| n % 8 != 0);
        assert!(detector.patience() <= DETECT_MAX);
    }
}
