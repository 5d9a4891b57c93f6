//! The board's switch.

use platform::tree::{Psci, Tree};
use spin::Once;

use crate::{console, fault, info, warn};

static FIRMWARE: Once<Option<Psci>> = Once::new();

/// Notes what firmware there is.
pub fn initialise(tree: &Tree) {
    FIRMWARE.call_once(|| tree.psci);
}

/// Turns the board off.
pub fn off() -> ! {
    info!("the board turns itself off");
    console::flush();
    if let Some(firmware) = FIRMWARE.get() {
        platform::smp::power_off(*firmware);
    }
    warn!("the firmware cannot turn the board off: it may be unplugged now");
    console::flush();
    fault::halt()
}
