//! The generic timer as EL2 sees it (Arm ARM D12): the counter, EL1's virtual timer, EL2's own timer.

use core::arch::asm;

/// The physical counter, in ticks.
pub fn now() -> u64 {
    let count;
    // SAFETY: reading the counter has no effect; the barrier keeps it from being read early.
    unsafe { asm!("isb", "mrs {}, cntpct_el0", out(reg) count, options(nostack, preserves_flags)) };
    count
}

/// Ticks per second.
pub fn frequency() -> u64 {
    let hertz;
    // SAFETY: reading CNTFRQ_EL0 has no effect.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hertz, options(nomem, nostack, preserves_flags)) };
    hertz
}

/// CNTx_CTL.ENABLE and IMASK: the timer is on, its interrupt is masked.
pub const ENABLE: u64 = 1 << 0;
/// See [`ENABLE`].
pub const MASKED: u64 = 1 << 1;

/// EL1's virtual timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualTimer {
    /// CNTV_CTL_EL0, without ISTATUS.
    pub control: u64,
    /// CNTV_CVAL_EL0, in ticks of the guest's virtual counter.
    pub compare: u64,
}

impl VirtualTimer {
    /// Off.
    pub const fn reset() -> Self {
        Self {
            control: 0,
            compare: 0,
        }
    }

    /// Takes the timer out of the machine: reads it and turns it off.
    pub fn unload() -> Self {
        let (control, compare): (u64, u64);
        // SAFETY: the virtual timer is the guest's alone.
        unsafe {
            asm!("mrs {control}, cntv_ctl_el0", "mrs {compare}, cntv_cval_el0", "msr cntv_ctl_el0, xzr", "isb",
                 control = out(reg) control, compare = out(reg) compare, options(nostack, preserves_flags));
        }
        Self {
            control: control & (ENABLE | MASKED),
            compare,
        }
    }

    /// The timer as it is in the machine.
    pub fn current() -> Self {
        let (control, compare): (u64, u64);
        // SAFETY: reading the virtual timer has no effect.
        unsafe {
            asm!("mrs {}, cntv_ctl_el0", "mrs {}, cntv_cval_el0", out(reg) control, out(reg) compare,
                 options(nomem, nostack, preserves_flags));
        }
        Self {
            control: control & (ENABLE | MASKED),
            compare,
        }
    }

    /// Whether the timer in the machine asserts its interrupt: it is on, not masked, and its condition is met (ISTATUS).
    #[inline(always)]
    pub fn line() -> bool {
        let control: u64;
        // SAFETY: reading the virtual timer has no effect.
        unsafe {
            asm!("mrs {}, cntv_ctl_el0", out(reg) control, options(nomem, nostack, preserves_flags))
        };
        control & (ENABLE | MASKED | 1 << 2) == ENABLE | 1 << 2
    }

    /// Puts the timer into the machine, with the guest's offset from the physical counter.
    pub fn load(self, offset: u64) {
        // SAFETY: the virtual timer is the guest's alone. The value is compared before the timer is on.
        unsafe {
            asm!("msr cntvoff_el2, {offset}", "msr cntv_cval_el0, {compare}", "isb", "msr cntv_ctl_el0, {control}",
                 offset = in(reg) offset, compare = in(reg) self.compare, control = in(reg) self.control,
                 options(nostack, preserves_flags));
        }
    }

    /// When the timer will interrupt, on the virtual counter; `None` if it will not.
    pub const fn due(self) -> Option<u64> {
        if self.control & (ENABLE | MASKED) == ENABLE {
            Some(self.compare)
        } else {
            None
        }
    }
}

/// Sets EL2's own timer to interrupt at `deadline` (physical counter), or not at all.
pub fn arm_el2(deadline: Option<u64>) {
    // SAFETY: EL2's timer is ours.
    unsafe {
        match deadline {
            Some(at) => {
                asm!("msr cnthp_cval_el2, {at}", "msr cnthp_ctl_el2, {on}", at = in(reg) at, on = in(reg) ENABLE,
                             options(nostack, preserves_flags))
            }
            None => asm!("msr cnthp_ctl_el2, xzr", options(nostack, preserves_flags)),
        }
    }
}
