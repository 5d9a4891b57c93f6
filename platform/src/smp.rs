//! Starting cores, and turning the board off, by what its firmware offers.

use core::fmt;

use smccc::{Hvc, Smc, psci};

use crate::tree::{Conduit, Core, Psci, StartMethod};

/// Why a core does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The device tree names no way.
    NoMethod,
    /// PSCI refuses.
    Psci(psci::error::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMethod => write!(f, "the device tree names no way to start it"),
            Self::Psci(error) => write!(f, "PSCI CPU_ON: {error}"),
        }
    }
}

/// Starts `core` at physical address `entry` with `argument` in x0, where the method passes one.
///
/// # Safety
/// `entry` is code for a core with translation and caches off at EL2, and does not return.
pub unsafe fn start(
    core: &Core,
    firmware: Option<Psci>,
    entry: u64,
    argument: u64,
) -> Result<(), StartError> {
    match core.start {
        StartMethod::SpinTable { release_address } => {
            // SAFETY: the caller's promise.
            unsafe { release(release_address, entry) };
            Ok(())
        }
        _ => {
            let affinity = core.affinity.get();
            match firmware.ok_or(StartError::NoMethod)?.conduit {
                Conduit::Smc => psci::cpu_on::<Smc>(affinity, entry, argument),
                Conduit::Hvc => psci::cpu_on::<Hvc>(affinity, entry, argument),
            }
            .map_err(StartError::Psci)
        }
    }
}

/// Writes the entry where a spin table's core looks for it.
///
/// # Safety
/// As [`start`]; the release address is mapped and the tree's.
#[cfg(target_arch = "aarch64")]
unsafe fn release(address: u64, entry: u64) {
    // SAFETY: the core waits with its caches off, so the word is cleaned to memory before the event.
    unsafe {
        (address as *mut u64).write_volatile(entry);
        core::arch::asm!("dc civac, {}", "dsb sy", "sev", in(reg) address, options(nostack));
    }
}

#[cfg(not(target_arch = "aarch64"))]
unsafe fn release(_: u64, _: u64) {
    unreachable!("no spin table here");
}

/// Turns the board off, where its firmware can; returns where it cannot.
pub fn power_off(firmware: Option<Psci>) {
    match firmware.map(|psci| psci.conduit) {
        Some(Conduit::Smc) => drop(psci::system_off::<Smc>()),
        Some(Conduit::Hvc) => drop(psci::system_off::<Hvc>()),
        None => {}
    }
}
