//! The output gate: what a guest sends leaves the board only with a [`Permit`].
//!
//! At most one board's copy of a guest may have effects at any moment. A board that is not sure that its copy is the one must not let
//! anything out, so a way out does not begin with asking whether one may; it takes a value that only the authority can make:
//!
//! ```compile_fail,E0451
//! use el2_hyp::gate::{Permit, Ticks};
//! let forged = Permit { until: Ticks(u64::MAX), epoch: 0 };
//! ```
//!
//! The one way onto the wire for guests' frames is [`Uplink::send`](crate::switch::Uplink::send): it demands a permit, compares its end with the
//! time that it is given, and owns the network card's transmit side. The time must be read after the decision to send, and nothing may come between
//! the check and the doorbell: EL2 runs with interrupts masked, so that a core cannot be taken away in between.

/// A moment, as the board's physical counter has it; also a distance between two, in the same unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u64);

impl Ticks {
    /// The end of time.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `distance` later; the end of time if that is past it.
    pub const fn after(self, distance: Self) -> Self {
        Self(self.0.saturating_add(distance.0))
    }

    /// How far this moment is past `earlier`; nothing if it is before.
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// Leave for a guest's output, until a moment, in an epoch of its ownership. Only an [`Authority`] makes one.
#[derive(Debug)]
pub struct Permit {
    until: Ticks,
    epoch: u64,
}

impl Permit {
    /// Whether output at `now` is covered. The moment of the end itself is not.
    #[inline]
    pub fn covers(&self, now: Ticks) -> bool {
        now < self.until
    }

    /// The epoch of ownership in which it was given.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// Who gives permits. The kernel makes the board's one, and hands it to nobody but what decides over leases.
#[derive(Debug)]
pub struct Authority(());

impl Authority {
    /// The board's authority.
    #[expect(
        clippy::new_without_default,
        reason = "an authority is appointed, not defaulted"
    )]
    pub const fn new() -> Self {
        Self(())
    }

    /// A permit without end, in epoch 0: for a board that belongs to no cluster, whose guests exist nowhere else.
    pub const fn always(&self) -> Permit {
        self.until(Ticks::NEVER, 0)
    }

    /// A permit until a lease ends.
    pub const fn until(&self, until: Ticks, epoch: u64) -> Permit {
        Permit { until, epoch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_ends_with_its_lease() {
        let authority = Authority::new();
        let permit = authority.until(Ticks(100), 7);
        assert!(permit.covers(Ticks(0)) && permit.covers(Ticks(99)));
        assert!(!permit.covers(Ticks(100)) && !permit.covers(Ticks::NEVER));
        assert_eq!(permit.epoch(), 7);
        assert!(authority.always().covers(Ticks(u64::MAX - 1)));
    }

    #[test]
    fn time_saturates() {
        assert_eq!(Ticks(5).since(Ticks(7)), Ticks(0));
        assert_eq!(Ticks(7).since(Ticks(5)), Ticks(2));
        assert_eq!(Ticks(7).after(Ticks::NEVER), Ticks::NEVER);
    }
}
