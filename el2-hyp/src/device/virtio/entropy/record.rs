//! The source of random bytes, as bytes. Its generator stays: the board to which a guest comes has its own, and two copies of a guest never
//! draw the same numbers.

use super::{Entropy, REQUESTS};
use crate::device::virtio::queue::Queue;
use crate::device::virtio::transport::Transport;
use crate::record::codec::{Decoder, Encoder, Malformed};

impl Entropy {
    /// Writes the device.
    pub fn to_record(&self, to: &mut Encoder<'_>) {
        self.transport.to_record(to);
        self.requests.to_record(0, to);
    }

    /// The device that [`to_record`](Self::to_record) wrote. Its queue is to be notified once.
    ///
    /// # Errors
    /// If no device can be so.
    pub fn from_record(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let mut it = Self::new();
        it.transport = Transport::from_record(from, it.transport)?;
        it.requests = Queue::from_record(from, &it.transport, REQUESTS)?;
        Ok(it)
    }
}
