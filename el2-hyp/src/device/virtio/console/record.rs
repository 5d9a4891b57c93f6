//! The console as bytes.

use super::{Console, INPUT_BYTES, RECEIVE, TRANSMIT};
use crate::device::virtio::queue::Queue;
use crate::device::virtio::transport::Transport;
use crate::record::codec::{Decoder, Encoder, Malformed, require};

impl Console {
    /// Writes the device.
    pub fn to_record(&self, to: &mut Encoder<'_>) {
        self.transport.to_record(to);
        self.receive.to_record(0, to);
        self.transmit.to_record(0, to);
        to.u32(self.sent as u32);
        to.u16(self.input.len() as u16);
        self.input.iter().for_each(|byte| to.u8(*byte));
    }

    /// The device that [`to_record`](Self::to_record) wrote. What it has to do is to be gone on with: both queues are to be notified once.
    ///
    /// # Errors
    /// If no device can be so.
    pub fn from_record(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let mut it = Self::new();
        it.transport = Transport::from_record(from, it.transport)?;
        it.receive = Queue::from_record(from, &it.transport, RECEIVE)?;
        it.transmit = Queue::from_record(from, &it.transport, TRANSMIT)?;
        it.sent = from.u32()? as usize;
        let waiting = from.u16()?;
        require(
            usize::from(waiting) <= INPUT_BYTES,
            "the length of a console's input",
        )?;
        for byte in from.bytes(waiting.into())? {
            // It was looked at that there is room.
            let _ = it.input.push_back(*byte);
        }
        Ok(it)
    }
}
