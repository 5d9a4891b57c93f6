//! A queue as bytes: where both sides stand. Where it lies and what was negotiated is the transport's to say.

use super::Queue;
use crate::device::virtio::transport::Transport;
use crate::record::codec::{Decoder, Encoder, Malformed, require};

impl Queue {
    /// Writes the queue. The last `begun` chains that were popped have not been answered: whoever reads the record pops them again.
    pub fn to_record(&self, begun: u16, to: &mut Encoder<'_>) {
        to.bool(self.running);
        to.u16(self.next_available.wrapping_sub(begun));
        to.u16(self.seen_available);
        to.u16(self.next_used);
        to.u16(self.considered);
    }

    /// Queue number `index` of `transport`, as [`to_record`](Self::to_record) wrote it.
    ///
    /// # Errors
    /// If no queue can be so.
    pub fn from_record<const QUEUES: usize>(
        from: &mut Decoder<'_>,
        transport: &Transport<QUEUES>,
        index: u16,
    ) -> Result<Self, Malformed> {
        let mut it = Self::new();
        let running = from.bool("whether a queue runs")?;
        if running {
            let layout = transport.layout(index).filter(|_| transport.is_running());
            let layout = layout.ok_or(Malformed::Value("whether a queue runs"))?;
            it.start(layout, transport.features());
        }
        it.next_available = from.u16()?;
        it.seen_available = from.u16()?;
        it.next_used = from.u16()?;
        it.considered = from.u16()?;
        let seen = it.seen_available.wrapping_sub(it.next_available);
        require(!running || seen <= it.layout.size, "the index of a queue")?;
        Ok(it)
    }
}
