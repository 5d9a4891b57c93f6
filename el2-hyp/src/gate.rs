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
//!
//! What decides over leases and what sends run on different cores, so between them stands a [`Gate`] for each guest: the authority opens it until a
//! moment, in an epoch, and who sends takes from it the permit that stands. Opening it wants the authority, too:
//!
//! ```compile_fail,E0061
//! use el2_hyp::gate::{Gate, Ticks};
//! Gate::shut().open(Ticks::NEVER, 0);
//! ```

use core::sync::atomic::{AtomicU64, Ordering};

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

/// A guest's gate, as all cores see it: shut, or open until a moment in an epoch of the guest's ownership.
#[derive(Debug)]
pub struct Gate {
    /// Zero while it is shut.
    until: AtomicU64,
    epoch: AtomicU64,
}

impl Gate {
    /// A gate that is shut.
    pub const fn shut() -> Self {
        Self {
            until: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
        }
    }

    /// Opens it until a moment, exclusive, or shuts it with moment zero. One core at a time opens gates.
    ///
    /// Whoever has taken a permit just before may still send with it; so an end that is brought forward is in force when the cores have left what they did.
    pub fn open(&self, _: &Authority, until: Ticks, epoch: u64) {
        if self.epoch.load(Ordering::Relaxed) != epoch {
            // Nobody is to see the new end with the old epoch.
            self.until.store(0, Ordering::SeqCst);
            self.epoch.store(epoch, Ordering::SeqCst);
        }
        self.until.store(until.0, Ordering::Release);
    }

    /// Shuts it, which needs no authority.
    pub fn close(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// The permit that stands now. It may cover nothing.
    #[inline]
    pub fn permit(&self) -> Permit {
        loop {
            let until = self.until.load(Ordering::Acquire);
            let epoch = self.epoch.load(Ordering::Acquire);
            if self.until.load(Ordering::Relaxed) == until {
                return Permit {
                    until: Ticks(until),
                    epoch,
                };
            }
        }
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
    fn a_gate_is_as_open_as_was_last_said() {
        let authority = Authority::new();
        let gate = Gate::shut();
        assert!(!gate.permit().covers(Ticks(0)));
        gate.open(&authority, Ticks(100), 3);
        assert!(gate.permit().covers(Ticks(99)) && !gate.permit().covers(Ticks(100)));
        assert_eq!(gate.permit().epoch(), 3);
        gate.open(&authority, Ticks(150), 3);
        assert!(gate.permit().covers(Ticks(149)));
        gate.close();
        assert!(!gate.permit().covers(Ticks(0)));
        gate.open(&authority, Ticks::NEVER, 4);
        assert!(gate.permit().covers(Ticks(u64::MAX - 1)));
        assert_eq!(gate.permit().epoch(), 4);
        gate.open(&authority, Ticks(0), 5);
        assert!(!gate.permit().covers(Ticks(0)));
    }

    /// Each end that is ever published belongs to one epoch; no reader sees it with another.
    #[test]
    fn end_and_epoch_belong_together() {
        static GATE: Gate = Gate::shut();
        const EPOCHS: u64 = 20_000;
        let writer = std::thread::spawn(|| {
            let authority = Authority::new();
            for epoch in 1..=EPOCHS {
                GATE.open(&authority, Ticks(epoch * 10), epoch);
                GATE.open(&authority, Ticks(epoch * 10 + 5), epoch);
            }
        });
        let mut last = 0;
        while last < EPOCHS {
            let permit = GATE.permit();
            if permit.until == Ticks(0) {
                continue;
            }
            assert_eq!(permit.until.0 / 10, permit.epoch());
            assert!(permit.epoch() >= last, "time goes on");
            last = permit.epoch();
        }
        writer.join().unwrap();
    }

    #[test]
    fn time_saturates() {
        assert_eq!(Ticks(5).since(Ticks(7)), Ticks(0));
        assert_eq!(Ticks(7).since(Ticks(5)), Ticks(2));
        assert_eq!(Ticks(7).after(Ticks::NEVER), Ticks::NEVER);
    }
}
