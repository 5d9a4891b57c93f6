//! What the guest sends.

use super::taken_by_device;
use crate::device::virtio::chain::Chain;
use crate::device::virtio::queue::{Layout, Queue, QueueError};
use crate::frame::{Checked, Frame, HEAD, Malformed, Taken, VirtioNetHeader};
use crate::memory::GuestMemory;

/// Bytes before a frame.
const BEFORE: usize = VirtioNetHeader::BYTES;

/// What became of a frame that was handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It was dealt with: the guest gets its buffers back.
    Done,
    /// There is no room for it. It stays first in the queue.
    Wait,
}

/// Where serving the queue ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All is sent; the guest notifies when there is more.
    Idle,
    /// The budget is used up; there may be more, for which the guest does not notify. Serve it again.
    More,
    /// The first frame waits for room, and the guest does not notify. Serve it again when there is some.
    Waiting,
}

/// The transmit queue.
#[derive(Default)]
pub struct Transmit {
    pub(super) queue: Queue,
    pub(super) taken: Taken,
    chain: Chain,
}

impl Transmit {
    /// A queue that is not started.
    pub const fn new() -> Self {
        Self {
            queue: Queue::new(),
            taken: Taken {
                checksum: false,
                tcp4: false,
                tcp6: false,
            },
            chain: Chain::new(),
        }
    }

    pub(super) fn start(&mut self, layout: Layout, features: u64) {
        self.taken = taken_by_device(features);
        self.queue.start(layout, features);
    }

    pub(super) fn stop(&mut self) {
        self.queue.stop();
    }

    /// Hands up to `budget` frames to `send`, in order, with those that are none, as what is wrong with them. The guest sees what was sent when this
    /// returns.
    ///
    /// # Errors
    /// When the driver broke a rule of the queue, which is stopped: the device fails.
    pub fn serve(
        &mut self,
        memory: &GuestMemory,
        budget: usize,
        mut send: impl FnMut(Result<&Frame, Malformed>) -> Sent,
    ) -> Result<Progress, QueueError> {
        self.queue.disable_notifications(memory)?;
        let mut left = budget;
        loop {
            let progress = self.serve_some(memory, &mut left, &mut send)?;
            self.queue.publish(memory)?;
            match progress {
                Progress::Idle if self.queue.enable_notifications(memory)? => {
                    self.queue.disable_notifications(memory)?;
                }
                progress => return Ok(progress),
            }
        }
    }

    fn serve_some(
        &mut self,
        memory: &GuestMemory,
        left: &mut usize,
        send: &mut impl FnMut(Result<&Frame, Malformed>) -> Sent,
    ) -> Result<Progress, QueueError> {
        loop {
            if *left == 0 {
                return Ok(Progress::More);
            }
            if !self.queue.pop(memory, &mut self.chain)? {
                return Ok(Progress::Idle);
            }
            *left -= 1;
            if Self::hand_on(&self.chain, self.taken, memory, send)? == Sent::Wait {
                self.queue.unpop(1);
                return Ok(Progress::Waiting);
            }
            self.queue.put(memory, self.chain.head(), 0)?;
        }
    }

    /// Makes a frame of a chain. Its header and head are read here, once.
    #[inline]
    fn hand_on(
        chain: &Chain,
        taken: Taken,
        memory: &GuestMemory,
        send: &mut impl FnMut(Result<&Frame, Malformed>) -> Sent,
    ) -> Result<Sent, QueueError> {
        let mut start = [0; BEFORE + HEAD];
        let mut reader = chain.reader(memory);
        let read = reader.read(&mut start)?;
        let (header, head) = start[..read]
            .split_first_chunk::<BEFORE>()
            .unwrap_or((&[0; BEFORE], &[]));
        let length = (chain.readable_bytes() as usize).saturating_sub(BEFORE);
        let header = VirtioNetHeader::from_bytes(header);
        match Checked::new(head, length, &header, taken) {
            Ok(checked) => Ok(send(Ok(&Frame::from_guest(head, reader, checked)))),
            Err(malformed) => Ok(send(Err(malformed))),
        }
    }

    /// Whether what was sent since this was last asked calls for an interrupt.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub fn should_interrupt(&mut self, memory: &GuestMemory) -> Result<bool, QueueError> {
        self.queue.should_interrupt(memory)
    }
}
