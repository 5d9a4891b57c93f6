//! What a device has told its driver, as bytes.

use core::sync::atomic::Ordering;

use super::{CAUSES, CHANGED, DIP, NEEDS_RESET, Signals};
use crate::record::codec::{Decoder, Encoder, Malformed, require};

impl Signals {
    /// Writes the state.
    pub fn to_record(&self, to: &mut Encoder<'_>) {
        to.u16(self.0.load(Ordering::Acquire) as u16);
    }

    /// The state that [`to_record`](Self::to_record) wrote.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_record(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let state = u32::from(from.u16()?);
        require(
            state & !(CAUSES | NEEDS_RESET | CHANGED | DIP) == 0,
            "the signals of a device",
        )?;
        Ok(Self(state.into()))
    }

    /// Takes on another's state: the device is that of a guest that has come here. Nobody signals meanwhile.
    pub fn adopt(&self, other: &Self) {
        let state = other.0.load(Ordering::Acquire);
        self.0.store(state, Ordering::Release);
    }
}
