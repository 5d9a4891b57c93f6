//! The lock of everything that cores share at EL2.
//!
//! A core that waits says so with `yield`. [`core::hint::spin_loop`], which the `spin` crate's own strategy uses, is a barrier on
//! this architecture: it tells nobody, and an emulator that runs its cores in turn would let the waiting one wait out its whole turn.

use spin::relax::RelaxStrategy;

/// Waits by `yield`.
pub struct Yield;

impl RelaxStrategy for Yield {
    #[inline(always)]
    fn relax() {
        #[cfg(target_arch = "aarch64")]
        // SAFETY: a hint.
        unsafe {
            core::arch::asm!("yield", options(nomem, nostack, preserves_flags));
        }
        #[cfg(not(target_arch = "aarch64"))]
        core::hint::spin_loop();
    }
}

/// A spin lock. EL2 runs with interrupts masked, so that whoever holds one goes on and lets go soon.
pub type Mutex<T> = spin::mutex::Mutex<T, Yield>;

/// What holds a [`Mutex`].
pub type MutexGuard<'a, T> = spin::mutex::MutexGuard<'a, T, Yield>;
