//! A disk that is served at once, from an overlay.

use alloc::boxed::Box;

use super::super::chain::{Chain, Segment};
use super::super::queue::{Queue, QueueError};
use super::Counters;
use super::config::Shape;
use super::request::{Asked, Range, Request, Status, identify, read_data, write_data};
use crate::addr::Ipa;
use crate::memory::{GuestMemory, OutOfRange};
use crate::volume::overlay::{Overlay, WriteError};

/// Bytes that one step moves, at most.
pub const STEP_BYTES: u32 = 64 << 10;

/// The disk and the request that is being served.
pub struct Ephemeral<'a> {
    overlay: Overlay<'a>,
    chain: Box<Chain>,
    current: Option<Request>,
    /// Bytes of the current request's data that have been moved.
    done: u32,
}

impl<'a> Ephemeral<'a> {
    /// The disk, at rest.
    pub fn new(overlay: Overlay<'a>) -> Self {
        Self {
            overlay,
            chain: Box::new(Chain::new()),
            current: None,
            done: 0,
        }
    }

    /// The disk.
    pub fn overlay(&self) -> &Overlay<'a> {
        &self.overlay
    }

    /// The disk, to be changed.
    pub fn overlay_mut(&mut self) -> &mut Overlay<'a> {
        &mut self.overlay
    }

    /// Whether a request was begun and is not done.
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// Drops what was begun.
    pub fn stop(&mut self) {
        self.current = None;
    }

    /// Makes the disk fresh.
    pub fn reset(&mut self) {
        self.stop();
        self.overlay.reset();
    }

    /// Goes on with the request that was begun, or begins the next: a request, or [`STEP_BYTES`] of one.
    pub fn step(
        &mut self,
        queue: &mut Queue,
        memory: &GuestMemory,
        shape: &Shape,
        counters: &mut Counters,
    ) -> Result<(), QueueError> {
        let request = match self.current {
            Some(request) => request,
            None => {
                if !queue.pop(memory, &mut self.chain)? {
                    return Ok(());
                }
                let Ok(request) = Request::parse(&self.chain, memory, shape) else {
                    counters.malformed += 1;
                    return queue.push(memory, self.chain.head(), 0);
                };
                self.done = 0;
                request
            }
        };
        self.current = Some(request);
        let Some((status, filled)) = self.serve(&request, memory, shape, counters) else {
            return Ok(());
        };
        self.current = None;
        counters.count(&request.asked, status);
        request.answer(queue, memory, &self.chain, status, filled)
    }

    /// A step of `request`: its status and whether all that was to be written is, or `None` if there is more to do.
    #[inline]
    fn serve(
        &mut self,
        request: &Request,
        memory: &GuestMemory,
        shape: &Shape,
        counters: &mut Counters,
    ) -> Option<(Status, bool)> {
        match request.asked {
            Asked::Read(range) => self.read(range, memory),
            Asked::Write(range) => self.write(range, memory, counters),
            // What is only in memory is as safe as it can be.
            Asked::Flush => Some((Status::Ok, true)),
            Asked::Identify => {
                let filled = identify(&self.chain, memory, shape.serial());
                Some(filled.map_or((Status::Failed, false), |filled| (Status::Ok, filled)))
            }
            Asked::Discard(range) => {
                self.overlay.discard(range.offset(), range.bytes());
                Some((Status::Ok, true))
            }
            Asked::Clear(range) => {
                let cleared = self.overlay.clear(range.offset(), range.bytes());
                counters.overlay_full += u64::from(cleared.is_err());
                Some(match cleared {
                    Ok(()) => (Status::Ok, true),
                    Err(_) => (Status::Failed, false),
                })
            }
            Asked::Nothing(status) => Some((status, false)),
        }
    }

    #[inline]
    fn read(&mut self, range: Range, memory: &GuestMemory) -> Option<(Status, bool)> {
        let (mut offset, now) = self.step_of(range);
        for Segment { ipa, length } in read_data(&self.chain, self.done, now) {
            let mut at = ipa.0;
            let read = self.overlay.read(offset, length.into(), |bytes| {
                memory.write(Ipa(at), bytes)?;
                at += bytes.len() as u64;
                Ok::<(), OutOfRange>(())
            });
            if read.is_err() {
                return Some((Status::Failed, false));
            }
            offset += u64::from(length);
        }
        self.done += now;
        self.is_done(range).then_some((Status::Ok, true))
    }

    #[inline]
    fn write(
        &mut self,
        range: Range,
        memory: &GuestMemory,
        counters: &mut Counters,
    ) -> Option<(Status, bool)> {
        let (mut offset, now) = self.step_of(range);
        for Segment { ipa, length } in write_data(&self.chain, self.done, now) {
            let mut at = ipa.0;
            let written = self.overlay.write(offset, length.into(), |bytes| {
                memory.read(Ipa(at), bytes)?;
                at += bytes.len() as u64;
                Ok::<(), OutOfRange>(())
            });
            if let Err(error) = written {
                counters.overlay_full += u64::from(error == WriteError::Full);
                return Some((Status::Failed, false));
            }
            offset += u64::from(length);
        }
        self.done += now;
        self.is_done(range).then_some((Status::Ok, true))
    }

    /// Where on the disk the next step begins, and its length.
    #[inline]
    fn step_of(&self, range: Range) -> (u64, u32) {
        let done = u64::from(self.done);
        let now = (range.bytes() - done).min(STEP_BYTES.into());
        (range.offset() + done, now as u32)
    }

    #[inline]
    fn is_done(&self, range: Range) -> bool {
        u64::from(self.done) >= range.bytes()
    }
}
