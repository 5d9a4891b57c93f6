//! What the guest gets.

use heapless::Vec;

use super::{feature, taken_by_driver};
use crate::addr::Ipa;
use crate::device::virtio::chain::{Chain, Head, Writer};
use crate::device::virtio::queue::{Layout, Queue, QueueError};
use crate::frame::{Frame, MAX_WIRE, Offload, Piece, Source, Taken, VirtioNetHeader};
use crate::memory::{GuestMemory, OutOfRange};

/// Bytes before a frame.
const BEFORE: usize = VirtioNetHeader::BYTES;
/// Buffers for one frame, at most: enough for the largest in buffers of 1,024 bytes, where Linux gives 1,536 and more.
pub const MAX_MERGED: usize = 65;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The guest has it.
    Whole,
    /// It was cut for a guest that does not take it whole; buffers sufficed for the first so many frames.
    Part(usize),
    /// The guest has given too few buffers.
    NoBuffers,
    /// The guest's buffers are too small, or too many would be needed.
    TooSmall,
    /// The guest's driver is not ready, or the card is still.
    Down,
}

/// Why a frame cannot be placed.
enum Failed {
    NoBuffers,
    TooSmall,
    Queue(QueueError),
}

impl From<QueueError> for Failed {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

/// The receive queue.
#[derive(Default)]
pub struct Receive {
    pub(super) queue: Queue,
    pub(super) taken: Taken,
    pub(super) merges: bool,
    /// Whether the driver was asked not to notify: buffers are looked for when a frame comes.
    pub(super) asked: bool,
    /// Nothing is delivered for now.
    is_still: bool,
    /// The buffer that is being filled.
    chain: Chain,
    /// The buffers that the frame has so far, and what was written to each.
    filled: Vec<(Head, u32), MAX_MERGED>,
}

impl Receive {
    /// A queue that is not started.
    pub const fn new() -> Self {
        Self {
            queue: Queue::new(),
            taken: Taken {
                checksum: false,
                tcp4: false,
                tcp6: false,
            },
            merges: false,
            asked: false,
            is_still: false,
            chain: Chain::new(),
            filled: Vec::new(),
        }
    }

    pub(super) fn start(&mut self, layout: Layout, features: u64) {
        self.taken = taken_by_driver(features);
        self.merges = features & feature::MRG_RXBUF != 0;
        self.asked = false;
        self.queue.start(layout, features);
    }

    pub(super) fn stop(&mut self) {
        self.queue.stop();
    }

    /// Says whether frames are lost for now, so that the guest's memory and this queue stay as they are: the two are written one after the other.
    pub fn set_still(&mut self, is_still: bool) {
        self.is_still = is_still;
    }

    /// Gives the guest a frame: as it is, where the guest takes it so, otherwise finished. It sees it at once.
    ///
    /// # Errors
    /// When the driver broke a rule of the queue, which is stopped: the device fails.
    #[inline]
    pub fn deliver(
        &mut self,
        memory: &GuestMemory,
        frame: &Frame,
    ) -> Result<Delivered, QueueError> {
        if self.is_still || !self.queue.is_running() {
            return Ok(Delivered::Down);
        }
        if !self.asked {
            self.asked = true;
            self.queue.disable_notifications(memory)?;
        }
        let delivered = if frame.offload().is_taken(self.taken) {
            let header = frame.offload().header(frame.layers());
            self.place(memory, frame.bytes(), frame.length(), header)
                .map(|()| Delivered::Whole)
        } else {
            self.deliver_finished(memory, frame)
        };
        match delivered {
            Ok(delivered) => Ok(delivered),
            Err(Failed::NoBuffers) => Ok(Delivered::NoBuffers),
            Err(Failed::TooSmall) => Ok(Delivered::TooSmall),
            Err(Failed::Queue(error)) => Err(error),
        }
    }

    /// Finishes a frame in memory of EL2's, part by part.
    #[cold]
    fn deliver_finished(
        &mut self,
        memory: &GuestMemory,
        frame: &Frame,
    ) -> Result<Delivered, Failed> {
        let mut finished = frame.finish();
        let mut part = [0; MAX_WIRE];
        let mut placed = 0;
        while let Some(length) = finished.write_next(&mut part) {
            let bytes = Source::from(&part[..length]);
            match self.place(memory, bytes, length, Offload::None.header(frame.layers())) {
                Ok(()) => placed += 1,
                Err(Failed::NoBuffers | Failed::TooSmall) if placed > 0 => {
                    return Ok(Delivered::Part(placed));
                }
                Err(failed) => return Err(failed),
            }
        }
        Ok(Delivered::Whole)
    }

    /// Writes a frame of `length` bytes to the guest's next buffers and shows it to the driver; or leaves the buffers for another frame.
    #[inline]
    fn place(
        &mut self,
        memory: &GuestMemory,
        bytes: Source,
        length: usize,
        header: VirtioNetHeader,
    ) -> Result<(), Failed> {
        self.filled.clear();
        let filled = self.fill(memory, bytes, length, header);
        if filled.is_err() {
            self.queue.unpop(self.filled.len() as u16);
            return filled;
        }
        for &(head, written) in &self.filled {
            self.queue.put(memory, head, written)?;
        }
        Ok(self.queue.publish(memory)?)
    }

    #[inline]
    fn fill(
        &mut self,
        memory: &GuestMemory,
        mut bytes: Source,
        length: usize,
        mut header: VirtioNetHeader,
    ) -> Result<(), Failed> {
        header.num_buffers = 1;
        self.next_buffer(memory)?;
        let mut writer = self.chain.writer(memory);
        if writer.write(&header.to_bytes()).map_err(inside)? < BEFORE {
            return Err(Failed::TooSmall);
        }
        let mut left = length - fill_buffer(&mut writer, &mut bytes, length)?;
        let written = writer.written();
        self.note(written);
        if left == 0 {
            return Ok(());
        }
        if !self.merges {
            return Err(Failed::TooSmall);
        }
        let count_at = self.count_at(memory).ok_or(Failed::TooSmall)?;
        while left > 0 {
            self.next_buffer(memory)?;
            let mut writer = self.chain.writer(memory);
            left -= fill_buffer(&mut writer, &mut bytes, left)?;
            let written = writer.written();
            self.note(written);
        }
        let count = (self.filled.len() as u16).to_le_bytes();
        for (at, byte) in count_at.into_iter().zip(count) {
            memory.write(at, &[byte]).map_err(inside)?;
        }
        Ok(())
    }

    /// Takes the guest's next buffer, which counts as taken from here on.
    #[inline]
    fn next_buffer(&mut self, memory: &GuestMemory) -> Result<(), Failed> {
        if self.filled.is_full() {
            return Err(Failed::TooSmall);
        }
        if !self.queue.pop(memory, &mut self.chain)? {
            return Err(Failed::NoBuffers);
        }
        // There is room: it was looked at.
        let _ = self.filled.push((self.chain.head(), 0));
        Ok(())
    }

    /// Notes what was written to the buffer that was taken last.
    #[inline]
    fn note(&mut self, written: u32) {
        if let Some(last) = self.filled.last_mut() {
            last.1 = written;
        }
    }

    /// Where the two bytes of `num_buffers` lie in the buffer that was taken last. A header may begin anew in the middle of
    /// anything (section 2.7.4).
    fn count_at(&self, memory: &GuestMemory) -> Option<[Ipa; 2]> {
        let mut writer = self.chain.writer(memory);
        let mut before = BEFORE - 2;
        while before > 0 {
            before -= writer.piece(before)?.length as usize;
        }
        Some([writer.piece(1)?.ipa, writer.piece(1)?.ipa])
    }

    /// Whether what was delivered since this was last asked calls for an interrupt.
    ///
    /// # Errors
    /// As [`deliver`](Self::deliver).
    pub fn should_interrupt(&mut self, memory: &GuestMemory) -> Result<bool, QueueError> {
        self.queue.should_interrupt(memory)
    }
}

/// Buffers were checked when their chain was taken; should one be outside nevertheless, the queue is not served on.
fn inside(error: OutOfRange) -> QueueError {
    error.into()
}

/// Copies up to `length` bytes to what is left of a buffer; how many.
#[inline]
fn fill_buffer(
    writer: &mut Writer,
    bytes: &mut Source,
    length: usize,
) -> Result<usize, QueueError> {
    let memory = writer.memory();
    let mut done = 0;
    while let Some(segment) = writer.piece(length - done) {
        let room = segment.length as usize;
        let mut filled = 0;
        while filled < room
            && let Some(piece) = bytes.piece(room - filled)
        {
            let to = Ipa(segment.ipa.0 + filled as u64);
            filled += match piece {
                Piece::Bytes(from) => memory.write(to, from).map(|()| from.len()),
                Piece::Guest(sender, from) => {
                    let length = from.length as usize;
                    sender
                        .copy_to(from.ipa, memory, to, length)
                        .map(|()| length)
                }
            }
            .map_err(inside)?;
        }
        done += room;
    }
    Ok(done)
}
