//! The guest's physical timer, which EL2 emulates. (The virtual timer is the hardware's own: see `arch::timer`.)
//!
//! To a guest the physical and the virtual counter are one, so that time can be kept when it moves to another board.

mod record;

use crate::sysreg::TimerRegister;

/// CNTP_CTL_EL0.
const ENABLE: u64 = 1 << 0;
const MASKED: u64 = 1 << 1;
const STATUS: u64 = 1 << 2;

/// CNTP_CTL_EL0 and CNTP_CVAL_EL0 of one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhysicalTimer {
    control: u64,
    compare: u64,
}

impl PhysicalTimer {
    /// Off.
    pub const fn reset() -> Self {
        Self {
            control: 0,
            compare: 0,
        }
    }

    /// A read at virtual count `now`.
    pub fn read(&self, register: TimerRegister, now: u64) -> u64 {
        match register {
            // The timer value is the low half of what is left, signed.
            TimerRegister::Value => self.compare.wrapping_sub(now) & 0xffff_ffff,
            TimerRegister::Control if self.control & ENABLE != 0 && self.expired(now) => {
                self.control | STATUS
            }
            TimerRegister::Control => self.control,
            TimerRegister::Compare => self.compare,
        }
    }

    /// A write at virtual count `now`.
    pub fn write(&mut self, register: TimerRegister, value: u64, now: u64) {
        match register {
            TimerRegister::Value => {
                self.compare = now.wrapping_add(i64::from(value as u32 as i32) as u64)
            }
            TimerRegister::Control => self.control = value & (ENABLE | MASKED),
            TimerRegister::Compare => self.compare = value,
        }
    }

    /// Whether the guest uses it at all.
    pub const fn is_enabled(&self) -> bool {
        self.control & ENABLE != 0
    }

    const fn expired(&self, now: u64) -> bool {
        now >= self.compare
    }

    /// The state of its interrupt line.
    pub const fn line(&self, now: u64) -> bool {
        self.control == ENABLE && self.expired(now)
    }

    /// When the line will rise, on the virtual counter; `None` if it is up or will not.
    pub const fn due(&self, now: u64) -> Option<u64> {
        if self.control == ENABLE && !self.expired(now) {
            Some(self.compare)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_down_and_stays_up() {
        let mut t = PhysicalTimer::reset();
        t.write(TimerRegister::Value, 100, 1000);
        t.write(TimerRegister::Control, ENABLE, 1000);
        assert_eq!(t.due(1000), Some(1100));
        assert!(!t.line(1099));
        assert!(t.line(1100));
        assert_eq!(t.due(1100), None);
        assert_eq!(t.read(TimerRegister::Control, 1100), ENABLE | STATUS);
        assert_eq!(t.read(TimerRegister::Value, 1101), 0xffff_ffff);
        t.write(TimerRegister::Control, ENABLE | MASKED, 1100);
        assert!(!t.line(1100));
    }

    #[test]
    fn a_negative_value_is_past() {
        let mut t = PhysicalTimer::reset();
        t.write(TimerRegister::Value, 0xffff_ffff, 1000);
        assert_eq!(t.read(TimerRegister::Compare, 0), 999);
    }
}
