//! The EL1 timers and the counter.

use crate::{read_sysreg, write_sysreg};

/// The virtual timer's interrupt.
pub const VIRTUAL_PPI: u32 = 27;
/// The physical timer's interrupt.
pub const PHYSICAL_PPI: u32 = 30;

/// ENABLE in CNTx_CTL_EL0; IMASK clear.
const ENABLE: u64 = 1;

/// The virtual counter, not read ahead of what stands before it.
pub fn now() -> u64 {
    // SAFETY: a barrier changes no state.
    unsafe { core::arch::asm!("isb", options(nostack)) };
    read_sysreg!("cntvct_el0")
}

/// The physical counter.
pub fn now_physical() -> u64 {
    // SAFETY: a barrier changes no state.
    unsafe { core::arch::asm!("isb", options(nostack)) };
    read_sysreg!("cntpct_el0")
}

/// Ticks in a second.
pub fn frequency() -> u64 {
    read_sysreg!("cntfrq_el0")
}

/// Ticks in so many microseconds.
pub fn micros(count: u64) -> u64 {
    count * frequency() / 1_000_000
}

/// Microseconds in so many ticks.
pub fn to_micros(ticks: u64) -> u64 {
    ticks * 1_000_000 / frequency()
}

/// Lets the virtual timer fire at `due`.
pub fn arm_virtual(due: u64) {
    write_sysreg!("cntv_cval_el0", due);
    write_sysreg!("cntv_ctl_el0", ENABLE);
}

/// Lets the physical timer fire at `due`, a value of the physical counter.
pub fn arm_physical(due: u64) {
    write_sysreg!("cntp_cval_el0", due);
    write_sysreg!("cntp_ctl_el0", ENABLE);
}

/// Turns the virtual timer off.
pub fn disarm_virtual() {
    write_sysreg!("cntv_ctl_el0", 0);
}

/// Turns the physical timer off.
pub fn disarm_physical() {
    write_sysreg!("cntp_ctl_el0", 0);
}

/// Spins for so many microseconds.
pub fn delay(count: u64) {
    let end = now() + micros(count);
    while now() < end {
        core::hint::spin_loop();
    }
}

/// Spins until `done`, for at most so many milliseconds; says whether it became true.
pub fn wait_until(milliseconds: u64, mut done: impl FnMut() -> bool) -> bool {
    let end = now() + micros(milliseconds * 1_000);
    loop {
        if done() {
            return true;
        }
        if now() >= end {
            return done();
        }
        // SAFETY: a hint; it lets the other vCPUs run where they share a core.
        unsafe { core::arch::asm!("yield", options(nostack)) };
    }
}
