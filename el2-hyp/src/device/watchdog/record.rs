//! The watchdog as bytes.

use super::{OFFSET_BITS, Watchdog};
use crate::record::codec::{Decoder, Encoder, Malformed, require};

impl Watchdog {
    /// Writes the device.
    pub fn to_record(&self, to: &mut Encoder<'_>) {
        to.bool(self.is_on);
        to.bool(self.signalled);
        to.u64(self.offset);
        to.u64(self.compare);
    }

    /// The device that [`to_record`](Self::to_record) wrote.
    ///
    /// # Errors
    /// If no device can be so.
    pub fn from_record(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let it = Self {
            is_on: from.bool("whether the watchdog is on")?,
            signalled: from.bool("the line of the watchdog")?,
            offset: from.u64()?,
            compare: from.u64()?,
        };
        require(it.offset & !OFFSET_BITS == 0, "the watchdog's offset")?;
        Ok(it)
    }
}
