//! A guest's watchdog: the generic watchdog of Arm's Base System Architecture (DEN0094, "Generic Watchdog"), version 1.
//!
//! The guest sets an offset and turns it on; from then on it has to refresh it within that time, again and again. When it does not, the interrupt WS0 comes up; when it does not
//! for as long again, so does WS1, and that ends the guest. Its count is the guest's own counter.
//!
//! A guest that was kept from running, because it was frozen or stopped for its move, could not refresh: its time [begins anew](Watchdog::begin_anew) when it goes on.

mod record;
#[cfg(test)]
mod tests;

/// The frame of which an access is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The refresh frame.
    Refresh,
    /// The control frame.
    Control,
}

mod offset {
    /// Refresh frame: WRR.
    pub const REFRESH: u64 = 0x000;
    /// Control frame: WCS, WOR and WCV, the latter two with their upper halves behind them.
    pub const STATUS: u64 = 0x000;
    pub const OFFSET: u64 = 0x008;
    pub const OFFSET_HIGH: u64 = 0x00c;
    pub const COMPARE: u64 = 0x010;
    pub const COMPARE_HIGH: u64 = 0x014;
    /// Both frames: W_IIDR.
    pub const IDENTIFICATION: u64 = 0xfcc;
}

/// WCS: on, and the two signals.
const ENABLED: u32 = 1 << 0;
const WS0: u32 = 1 << 1;
/// WCS.WS1. A guest never reads it set: it has ended by then.
#[cfg(test)]
const WS1: u32 = 1 << 2;

/// W_IIDR: version 1 of the architecture, which has 48 bits of offset; implementer and product are nobody's.
const IDENTIFICATION: u32 = 1 << 16;
/// Bits of WOR that there are.
const OFFSET_BITS: u64 = (1 << 48) - 1;

/// What has become of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It is not over, or the watchdog is off.
    Nothing,
    /// It is over for the first time: WS0 is up.
    First,
    /// And for the second: the guest is to end.
    Second,
}

/// The device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    is_on: bool,
    /// WS0, the line of its interrupt.
    signalled: bool,
    /// Ticks of the guest's counter between a refresh and a signal.
    offset: u64,
    /// The count after which time is over.
    compare: u64,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}

impl Watchdog {
    /// Off.
    pub const fn new() -> Self {
        Self {
            is_on: false,
            signalled: false,
            offset: 0,
            compare: 0,
        }
    }

    /// The state of its interrupt line.
    pub fn line(&self) -> bool {
        self.signalled
    }

    /// The first count at which time is over, if it is on.
    pub fn due(&self) -> Option<u64> {
        self.is_on.then(|| self.compare.saturating_add(1))
    }

    /// Looks whether time is over at `now`, and goes on as the architecture says if it is.
    pub fn expire(&mut self, now: u64) -> Expiry {
        match self.due() {
            Some(due) if due <= now => {}
            _ => return Expiry::Nothing,
        }
        if self.signalled {
            return Expiry::Second;
        }
        self.signalled = true;
        self.refresh(now);
        Expiry::First
    }

    /// The guest goes on at `now` and could not refresh before: it has all of its time again.
    pub fn begin_anew(&mut self, now: u64) {
        self.refresh(now);
    }

    fn refresh(&mut self, now: u64) {
        self.compare = now.saturating_add(self.offset);
    }

    fn refresh_explicitly(&mut self, now: u64) {
        self.signalled = false;
        self.refresh(now);
    }

    /// A read of the register at `offset`; of 64 bits if it `is_wide`.
    pub fn read(&self, frame: Frame, offset: u64, is_wide: bool) -> u64 {
        let of = |whole: u64| {
            if is_wide {
                whole
            } else {
                whole & u64::from(u32::MAX)
            }
        };
        match (frame, offset) {
            (_, offset::IDENTIFICATION) => IDENTIFICATION.into(),
            (Frame::Control, offset::STATUS) => {
                let enabled = if self.is_on { ENABLED } else { 0 };
                u64::from(enabled | if self.signalled { WS0 } else { 0 })
            }
            (Frame::Control, offset::OFFSET) => of(self.offset),
            (Frame::Control, offset::OFFSET_HIGH) => self.offset >> 32,
            (Frame::Control, offset::COMPARE) => of(self.compare),
            (Frame::Control, offset::COMPARE_HIGH) => self.compare >> 32,
            _ => 0,
        }
    }

    /// A write of the register at `offset`, at `now`.
    pub fn write(&mut self, (frame, offset): (Frame, u64), value: u64, is_wide: bool, now: u64) {
        match (frame, offset) {
            (Frame::Refresh, offset::REFRESH) => self.refresh_explicitly(now),
            (Frame::Control, offset::STATUS) => {
                self.is_on = value as u32 & ENABLED != 0;
                self.refresh_explicitly(now);
            }
            (Frame::Control, offset::OFFSET | offset::OFFSET_HIGH) => {
                let whole = put(self.offset, value, offset == offset::OFFSET_HIGH, is_wide);
                self.offset = whole & OFFSET_BITS;
                self.refresh_explicitly(now);
            }
            (Frame::Control, offset::COMPARE | offset::COMPARE_HIGH) => {
                let is_high = offset == offset::COMPARE_HIGH;
                self.compare = put(self.compare, value, is_high, is_wide);
            }
            _ => {}
        }
    }
}

/// A register of 64 bits of which all or a half was written.
fn put(whole: u64, value: u64, is_high: bool, is_wide: bool) -> u64 {
    let low = u64::from(u32::MAX);
    match (is_high, is_wide) {
        (false, true) => value,
        (false, false) => whole & !low | value & low,
        (true, _) => whole & low | value << 32,
    }
}
