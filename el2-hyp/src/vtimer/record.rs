//! The physical timer as bytes. Its deadline is a count of the guest's own counter, which goes on where the guest does.

use super::{ENABLE, MASKED, PhysicalTimer};
use crate::record::codec::{Decoder, Encoder, Malformed, require};

impl PhysicalTimer {
    /// Writes the timer.
    pub fn to_record(&self, to: &mut Encoder<'_>) {
        to.u8(self.control as u8);
        to.u64(self.compare);
    }

    /// The timer that [`to_record`](Self::to_record) wrote.
    ///
    /// # Errors
    /// If there is no such control.
    pub fn from_record(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let control = u64::from(from.u8()?);
        require(control & !(ENABLE | MASKED) == 0, "CNTP_CTL_EL0")?;
        let compare = from.u64()?;
        Ok(Self { control, compare })
    }
}
