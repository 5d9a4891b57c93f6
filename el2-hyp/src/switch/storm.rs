//! A limit for what goes to everyone.
//!
//! A frame to a group, or to a station that nobody has heard of, is copied to many and delivered by every switch of the network behind ours. So
//! each guest's port may send only so many of them a second, and a burst at once. It is a token bucket, kept as one number: the time at
//! which it will be full again.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::gate::Ticks;

/// Frames a second, in the long run. Hosts send some ten; each frame costs every guest of the network an interrupt, or as much.
pub const FLOODS_PER_SECOND: u64 = 500;
/// Frames at once.
pub const FLOOD_BURST: u64 = 64;

/// The bucket of one port.
pub(super) struct Bucket(AtomicU64);

impl Bucket {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether a frame may pass at `now`, on a counter of `hertz`. It is taken for passed.
    pub(super) fn take(&self, now: Ticks, hertz: u64) -> bool {
        let each = hertz / FLOODS_PER_SECOND;
        let taken = self
            .0
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |full| {
                let full = full.max(now.0);
                (full - now.0 <= each * (FLOOD_BURST - 1)).then(|| full.saturating_add(each))
            });
        taken.is_ok()
    }

    /// Gives back what was taken for a frame that then did not pass.
    pub(super) fn give_back(&self, hertz: u64) {
        let each = hertz / FLOODS_PER_SECOND;
        self.0.update(Ordering::Relaxed, Ordering::Relaxed, |full| {
            full.saturating_sub(each)
        });
    }

    /// Full, for the port's next user.
    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERTZ: u64 = 62_500_000;

    #[test]
    fn a_burst_and_then_the_rate() {
        let bucket = Bucket::new();
        let start = Ticks(5_000_000_000);
        let burst = (0..1000).filter(|_| bucket.take(start, HERTZ)).count() as u64;
        assert_eq!(burst, FLOOD_BURST);
        // Ten seconds of asking ten times as often as is allowed.
        let step = HERTZ / FLOODS_PER_SECOND / 10;
        let passed = (1..=10 * FLOODS_PER_SECOND * 10)
            .filter(|n| bucket.take(Ticks(start.0 + n * step), HERTZ))
            .count() as u64;
        assert_eq!(passed, 10 * FLOODS_PER_SECOND);
    }

    #[test]
    fn what_is_given_back_can_be_taken() {
        let bucket = Bucket::new();
        while bucket.take(Ticks(0), HERTZ) {}
        bucket.give_back(HERTZ);
        assert!(bucket.take(Ticks(0), HERTZ));
        assert!(!bucket.take(Ticks(0), HERTZ));
        bucket.reset();
        assert!(bucket.take(Ticks(0), HERTZ));
    }

    #[test]
    fn the_end_of_time_is_no_trap() {
        let bucket = Bucket::new();
        assert!(bucket.take(Ticks::NEVER, HERTZ));
        assert!(!bucket.take(Ticks(0), HERTZ));
    }
}
