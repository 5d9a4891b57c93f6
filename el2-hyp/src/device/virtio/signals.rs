//! What a device tells its driver unasked: the interrupt with its causes, and that the device needs a reset.
//!
//! One word of atomics, so that the two halves of a device and its registers need not share a lock for it.
//!
//! Whoever moves the interrupt line in the interrupt controller does so like this, whenever it has called anything that may signal or
//! acknowledge. As the change is taken with the controller's lock held, the last that is taken is the last that was made:
//! ```text
//! if signals.has_line_change() {
//!     let mut controller = …lock();
//!     while let Some(level) = signals.take_line_change() { controller.set_line(…, level) }
//! }
//! ```

mod record;

use core::sync::atomic::{AtomicU32, Ordering};

/// Bits of InterruptStatus (section 4.2.2): a buffer was used; the configuration, or the status, has changed.
const USED: u32 = 1;
const CONFIGURATION: u32 = 2;
const CAUSES: u32 = USED | CONFIGURATION;
/// The device needs a reset.
const NEEDS_RESET: u32 = 1 << 8;
/// The line has changed since the change was last taken.
const CHANGED: u32 = 1 << 9;
/// The driver acknowledged some causes, and others are left; or the line rose again before its fall was taken.
const DIP: u32 = 1 << 10;

/// The state of one device.
#[derive(Debug)]
pub struct Signals(AtomicU32);

impl Default for Signals {
    fn default() -> Self {
        Self::new()
    }
}

impl Signals {
    /// All quiet.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Interrupts, because buffers were used.
    pub fn used(&self) {
        self.update(|state| state | USED);
    }

    /// Interrupts, because the configuration changed.
    pub fn configuration_changed(&self) {
        self.update(|state| state | CONFIGURATION);
    }

    /// The driver broke a rule: DEVICE_NEEDS_RESET, and an interrupt for it (section 2.1.2).
    pub fn fail(&self) {
        self.update(|state| state | NEEDS_RESET | CONFIGURATION);
    }

    /// Whether the device needs a reset: it serves no queue until then.
    #[inline(always)]
    pub fn needs_reset(&self) -> bool {
        self.0.load(Ordering::Relaxed) & NEEDS_RESET != 0
    }

    /// InterruptStatus.
    pub fn causes(&self) -> u32 {
        self.0.load(Ordering::Acquire) & CAUSES
    }

    /// InterruptACK. Where a cause is left that the driver did not know of, the line goes down for a moment: a driver that has set its
    /// interrupt to edges hears of it, too.
    pub fn acknowledge(&self, causes: u32) {
        self.update(|state| {
            let left = state & !(causes & CAUSES);
            let dip = left != state && left & CAUSES != 0;
            left | if dip { DIP | CHANGED } else { 0 }
        });
    }

    /// Quiet again, after a reset. A device whose queues have locks of their own does this after it has stopped the last of them.
    pub fn clear(&self) {
        self.update(|state| state & !(CAUSES | NEEDS_RESET | DIP));
    }

    /// The level of the interrupt line.
    pub fn line(&self) -> bool {
        self.causes() != 0
    }

    /// Whether the line has changed since the change was last taken.
    #[inline(always)]
    pub fn has_line_change(&self) -> bool {
        self.0.load(Ordering::Relaxed) & CHANGED != 0
    }

    /// The level of the line, if it has changed since this was last asked. Called until it says no, with the interrupt controller's
    /// lock held.
    #[inline]
    pub fn take_line_change(&self) -> Option<bool> {
        if !self.has_line_change() {
            return None;
        }
        // One step: what changes meanwhile is seen by the next, or by whoever changed it.
        let taken = self
            .0
            .try_update(Ordering::AcqRel, Ordering::Relaxed, |state| {
                if state & DIP != 0 {
                    Some(state & !DIP)
                } else {
                    (state & CHANGED != 0).then_some(state & !CHANGED)
                }
            });
        taken
            .ok()
            .map(|state| state & DIP == 0 && state & CAUSES != 0)
    }

    /// Changes the state, and notes in the same step whether the line changed by that.
    fn update(&self, change: impl Fn(u32) -> u32) {
        self.0.update(Ordering::AcqRel, Ordering::Relaxed, |state| {
            let next = change(state);
            let up = next & CAUSES != 0;
            let flips = up != (state & CAUSES != 0);
            // It has fallen and risen before anybody took the fall: that must be seen as an edge, too.
            let dip = flips && up && state & CHANGED != 0;
            next | if flips { CHANGED } else { 0 } | if dip { DIP } else { 0 }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_behind_a_fall_that_nobody_took_is_an_edge() {
        let signals = Signals::new();
        signals.used();
        assert_eq!(signals.take_line_change(), Some(true));
        signals.acknowledge(USED);
        signals.used();
        let levels: Vec<_> = core::iter::from_fn(|| signals.take_line_change()).collect();
        assert_eq!(levels, [false, true]);
        assert!(!signals.has_line_change());
    }
}
