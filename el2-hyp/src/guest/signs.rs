//! Signs of a guest's life: its watchdog, and its notice that it panics.

use core::sync::atomic::Ordering;

use crate::device::watchdog::{Expiry, Frame};
use crate::exit::Width;
use crate::guest::mmio::ANY;
use crate::guest::{Guest, Stop};
use crate::host::Host;
use crate::machine;
use crate::vgic::Intid;

/// The interrupt of the watchdog's first signal.
const WATCHDOG_INTID: Intid = Intid::new(machine::intid(
    machine::InterruptKind::Shared,
    machine::WATCHDOG_SPI,
))
.expect("an SPI");

/// The events of QEMU's pvpanic that are taken: the kernel panics. (That it loads another kernel instead is its own affair.)
const PANICKED: u64 = 1 << 0;

/// What a look at a guest's watchdog came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// It is off.
    Off,
    /// It is to be looked at again then, by the physical counter.
    Until(u64),
    /// The guest has shown no sign of life for too long.
    Over,
}

/// A read of the register for panics: which events it takes.
pub(super) fn read_panic_register(offset: u64) -> u64 {
    if offset == 0 { PANICKED } else { 0 }
}

impl Guest {
    pub(super) fn watchdog_read(&self, (frame, offset): (Frame, u64), width: Width) -> u64 {
        let is_wide = width == Width::Double;
        self.watchdog.lock().read(frame, offset, is_wide)
    }

    pub(super) fn watchdog_write<H: Host>(
        &self,
        host: &H,
        register: (Frame, u64),
        width: Width,
        value: u64,
    ) {
        let (is_wide, now) = (width == Width::Double, self.virtual_now());
        let mut watchdog = self.watchdog.lock();
        let before = watchdog.due();
        watchdog.write(register, value, is_wide, now);
        let (line, due) = (watchdog.line(), watchdog.due());
        drop(watchdog);
        self.set_watchdog_line(host, line);
        // One that is due later is looked at when it was due before, and then again.
        let is_earlier = due.is_some_and(|due| before.is_none_or(|before| due < before));
        if is_earlier {
            host.watch(self.id);
        }
    }

    /// Looks at the watchdog of a guest that is not kept from running.
    pub fn look_at_watchdog<H: Host>(&self, host: &H) -> Watch {
        let mut watchdog = self.watchdog.lock();
        let expiry = watchdog.expire(self.virtual_now());
        let due = watchdog.due();
        drop(watchdog);
        match expiry {
            Expiry::Second => return Watch::Over,
            Expiry::First => self.set_watchdog_line(host, true),
            Expiry::Nothing => {}
        }
        let offset = self.counter_offset.load(Ordering::Relaxed);
        due.map_or(Watch::Off, |due| Watch::Until(due.saturating_add(offset)))
    }

    /// The guest goes on after it was kept from running: its watchdog waits for all of its time again.
    pub fn forgive_watchdog(&self) {
        let now = self.virtual_now();
        self.watchdog.lock().begin_anew(now);
    }

    fn set_watchdog_line<H: Host>(&self, host: &H, level: bool) {
        let told = self.vgic.lock().set_line(WATCHDOG_INTID, ANY, level);
        self.tell(host, told);
    }

    /// A write to the register for panics.
    pub(super) fn notice_panic<H: Host>(&self, host: &H, offset: u64, value: u64) {
        if offset == 0 && value & PANICKED != 0 {
            self.end(host, Stop::Panic);
        }
    }
}
