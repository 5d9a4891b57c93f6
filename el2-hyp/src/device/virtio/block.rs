//! The block device: a disk for a guest (section 5.2).
//!
//! What lies behind it is either an overlay in memory, which is served at once, or an extent of the board's disk, which is a matter of
//! submitting and of completions that come in any order. The data of those is read and written by the board's disk right in the guest's
//! memory; nothing is copied.
//!
//! How the owner of a device uses it, with one lock around it, and the lock of the board's disk behind that:
//! ```text
//! a register is accessed:     block.read(…), block.write(…); when that says Written::Notified: serve
//! serve:                      block.serve(memory, signals, &mut disk, budget), then the disk's kick
//!                                Served::Rest   the driver notifies when it has more
//!                                Served::More   the budget is used up: once more, later; no notification comes for it
//!                                Served::Full   once more, when anything on the board's disk has completed
//! the board's disk completes: block.complete(memory, signals, (tag, ok), &mut disk) for each,
//!                             block.finish(memory, signals) once for the batch, and serve whoever was told Full
//! after any of these:         if signals.has_line_change() { … }, as `signals` says
//! the guest starts anew:      once block.in_flight() is 0, block.restart(signals)
//! the board's disk is broken: block.lose_disk(memory, signals)
//! ```
//! A disk on an overlay is served with [`disk::NoDisk`], and never says `Full`.
//! The guest's memory must not go to anybody else while [`Block::in_flight`] is not 0.
//!
//! **Resets.** A driver may use its buffers for something else once it sees a reset done, which is when the status reads 0 (section
//! 2.1.2). The board's disk cannot be told to stop, so the status stays what it was until all requests have come back. Linux' driver for
//! this bus does not wait for that; so whoever emulates the store that was a reset keeps that vCPU from going on while
//! [`Block::is_draining`]. What comes back after a reset leaves no trace but in the dirty log.
//!
//! - [`config`]: what the driver reads of the device. - `request`: what a chain asks for, validated once. - `ephemeral`: served from an overlay.
//! - [`disk`]: the board's disk as seen from here. - `local`: served by it.

pub mod config;
pub mod disk;
mod ephemeral;
mod local;
pub mod record;
mod request;
#[cfg(test)]
mod tests;

pub use config::Serial;
use config::{Shape, feature};
use disk::{BoardDisk, Limits, NoDisk, Tag};
use ephemeral::Ephemeral;
pub use ephemeral::STEP_BYTES;
pub use local::IN_FLIGHT;
use local::Local;
use request::{Asked, Status};

use super::queue::{Queue, QueueError};
use super::signals::Signals;
use super::transport::{self, Transport};
use super::{DeviceId, Served};
use crate::memory::GuestMemory;
use crate::vgic::Width;
use crate::volume::Extent;
use crate::volume::overlay::Overlay;

/// What a write of a register led to, for the device's owner to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing.
    Nothing,
    /// The driver has made requests available: [`Block::serve`] is due.
    Notified,
    /// The driver has reset the device: its vCPU waits while [`Block::is_draining`].
    Reset,
}

/// What a device has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads that succeeded.
    pub reads: u64,
    /// Sectors that they read.
    pub sectors_read: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Sectors that they wrote.
    pub sectors_written: u64,
    /// Flushes that succeeded.
    pub flushes: u64,
    /// Requests that were answered with VIRTIO_BLK_S_IOERR.
    pub failed: u64,
    /// Requests of a kind that the device does not serve, answered with VIRTIO_BLK_S_UNSUPP.
    pub unsupported: u64,
    /// Chains without a byte for a status, which were given back as they are.
    pub malformed: u64,
    /// Requests for which an overlay had no memory left. They are among the failed.
    pub overlay_full: u64,
}

impl Counters {
    #[inline]
    fn count(&mut self, asked: &Asked, status: Status) {
        match (status, asked) {
            (Status::Failed, _) => self.failed += 1,
            (Status::Unsupported, _) => self.unsupported += 1,
            (Status::Ok, Asked::Read(range)) => {
                self.reads += 1;
                self.sectors_read += range.sectors;
            }
            (Status::Ok, Asked::Write(range)) => {
                self.writes += 1;
                self.sectors_written += range.sectors;
            }
            (Status::Ok, Asked::Flush) => self.flushes += 1,
            (Status::Ok, _) => {}
        }
    }
}

/// What lies behind a device.
enum Backend<'a> {
    Ephemeral(Ephemeral<'a>),
    Local(Local),
}

/// The device.
pub struct Block<'a> {
    transport: Transport<1>,
    queue: Queue,
    backend: Backend<'a>,
    shape: Shape,
    /// The status before a reset that is not over.
    draining: Option<u64>,
    fault: Option<QueueError>,
    counters: Counters,
}

impl<'a> Block<'a> {
    /// A device on an overlay. `serial` is what identifies the disk to the guest.
    pub fn ephemeral(overlay: Overlay<'a>, read_only: bool, serial: Serial) -> Self {
        let shape = Shape::ephemeral(overlay.sectors(), read_only, serial);
        Self::new(Backend::Ephemeral(Ephemeral::new(overlay)), shape)
    }

    /// A device on `extent` of a disk that can do what `limits` say. `serial` is what identifies it to the guest.
    ///
    /// It takes 20 KiB of heap, for the requests in flight; nothing is allocated later.
    pub fn local(extent: Extent, limits: Limits, read_only: bool, serial: Serial) -> Self {
        let shape = Shape::local(extent.sectors(), limits, read_only, serial);
        Self::new(Backend::Local(Local::new(extent, limits)), shape)
    }

    fn new(backend: Backend<'a>, shape: Shape) -> Self {
        Self {
            transport: transport(&shape),
            queue: Queue::new(),
            backend,
            shape,
            draining: None,
            fault: None,
            counters: Counters::default(),
        }
    }

    /// What it has done.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The rule that the driver broke last since the guest started, if it did, for a console to tell.
    pub fn fault(&self) -> Option<QueueError> {
        self.fault
    }

    /// The overlay, if it is on one.
    pub fn overlay(&self) -> Option<&Overlay<'a>> {
        match &self.backend {
            Backend::Ephemeral(ephemeral) => Some(ephemeral.overlay()),
            Backend::Local(_) => None,
        }
    }

    /// The overlay, if it is on one, to be changed: the guest is not running here yet.
    pub fn overlay_mut(&mut self) -> Option<&mut Overlay<'a>> {
        match &mut self.backend {
            Backend::Ephemeral(ephemeral) => Some(ephemeral.overlay_mut()),
            Backend::Local(_) => None,
        }
    }

    /// The extent of the board's disk, if it is on one.
    pub fn extent(&self) -> Option<Extent> {
        match &self.backend {
            Backend::Ephemeral(_) => None,
            Backend::Local(local) => Some(local.extent()),
        }
    }

    /// How many requests the board's disk has. While there is one, it may read and write the guest's memory.
    pub fn in_flight(&self) -> usize {
        match &self.backend {
            Backend::Ephemeral(_) => 0,
            Backend::Local(local) => local.in_flight(),
        }
    }

    /// Whether the driver has reset the device, and requests from before have not come back.
    pub fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// A read of a register.
    pub fn read(&self, offset: u64, width: Width, signals: &Signals) -> u64 {
        match self.draining {
            Some(before) if transport::is_status(offset, width) => before,
            _ => self.registers(offset, width, signals),
        }
    }

    fn registers(&self, offset: u64, width: Width, signals: &Signals) -> u64 {
        let config = self.shape.config();
        self.transport.read(offset, width, config, signals)
    }

    /// A write of a register.
    pub fn write(&mut self, offset: u64, width: Width, value: u64, signals: &Signals) -> Written {
        if !transport::is_status(offset, width) {
            match self.transport.write(offset, width, value, signals) {
                transport::Written::Notify(_) => return Written::Notified,
                transport::Written::StartQueue(_) => self.start(),
                transport::Written::StopQueue(_) => self.stop(),
                _ => {}
            }
            return Written::Nothing;
        }
        let before = self.read(offset, width, signals);
        match self.transport.write(offset, width, value, signals) {
            transport::Written::Start => self.start(),
            transport::Written::Stop => {
                self.stop();
                signals.clear();
            }
            _ => {}
        }
        let is_reset = self.registers(offset, width, signals) == 0;
        // A driver that goes on without waiting for the end of a reset sees what it writes.
        self.draining = (is_reset && before != 0 && self.in_flight() > 0).then_some(before);
        if is_reset {
            Written::Reset
        } else {
            Written::Nothing
        }
    }

    /// Makes the device as new, for a guest that starts anew; an overlay is fresh again.
    ///
    /// # Panics
    /// If requests are in flight.
    pub fn restart(&mut self, signals: &Signals) {
        assert_eq!(self.in_flight(), 0, "the board's disk still has requests");
        self.stop();
        self.transport = transport(&self.shape);
        signals.clear();
        self.draining = None;
        self.fault = None;
        if let Backend::Ephemeral(ephemeral) = &mut self.backend {
            ephemeral.reset();
        }
    }

    fn start(&mut self) {
        let features = self.transport.features();
        if let Backend::Local(local) = &mut self.backend {
            local.start(features & feature::FLUSH != 0);
        }
        if let Some(layout) = self.transport.layout(0) {
            self.queue.start(layout, features);
        }
    }

    fn stop(&mut self) {
        self.queue.stop();
        match &mut self.backend {
            Backend::Ephemeral(ephemeral) => ephemeral.stop(),
            Backend::Local(local) => local.stop(),
        }
    }

    /// The driver broke a rule, and the queue has stopped itself.
    #[cold]
    fn break_down(&mut self, error: QueueError, signals: &Signals) {
        self.fault = Some(error);
        self.stop();
        signals.fail();
    }

    /// Serves what the driver has made available, in at most `budget` steps, each a request or [`STEP_BYTES`] of one that is served from
    /// memory, and interrupts once if the driver wants that. `disk` is the board's, or [`NoDisk`] if the device is on an overlay.
    pub fn serve(
        &mut self,
        memory: &GuestMemory,
        signals: &Signals,
        disk: &mut impl BoardDisk,
        budget: u32,
    ) -> Served {
        let served = self.serve_queue(memory, disk, budget);
        if let Err(error) = served {
            self.break_down(error, signals);
        }
        self.finish(memory, signals);
        served.unwrap_or(Served::Rest)
    }

    fn serve_queue(
        &mut self,
        memory: &GuestMemory,
        disk: &mut impl BoardDisk,
        mut budget: u32,
    ) -> Result<Served, QueueError> {
        let Self {
            queue,
            shape,
            counters,
            ..
        } = self;
        queue.disable_notifications(memory)?;
        loop {
            loop {
                let begun = matches!(&self.backend, Backend::Ephemeral(it) if it.is_busy());
                if !begun && !queue.has_available(memory)? {
                    break;
                }
                if budget == 0 {
                    return Ok(Served::More);
                }
                budget -= 1;
                match &mut self.backend {
                    Backend::Ephemeral(it) => it.step(queue, memory, shape, counters)?,
                    Backend::Local(it) => {
                        if !it.take(queue, memory, shape, counters, disk)? {
                            return Ok(Served::Full);
                        }
                    }
                }
            }
            if !queue.enable_notifications(memory)? {
                return Ok(Served::Rest);
            }
        }
    }

    /// The board's disk is done with the request of a tag, well or not. After a batch, [`finish`](Self::finish).
    pub fn complete(
        &mut self,
        memory: &GuestMemory,
        signals: &Signals,
        (tag, ok): (Tag, bool),
        disk: &mut impl BoardDisk,
    ) {
        let Backend::Local(local) = &mut self.backend else {
            return;
        };
        let (queue, counters) = (&mut self.queue, &mut self.counters);
        if let Err(error) = local.complete(queue, memory, counters, (tag, ok), disk) {
            self.break_down(error, signals);
        }
        if self.draining.is_some() && self.in_flight() == 0 {
            self.draining = None;
        }
    }

    /// The board's disk is broken, and will complete nothing any more: what was in flight has failed.
    pub fn lose_disk(&mut self, memory: &GuestMemory, signals: &Signals) {
        if let Backend::Local(local) = &self.backend {
            for tag in local.tags() {
                self.complete(memory, signals, (tag, false), &mut NoDisk);
            }
        }
        self.finish(memory, signals);
    }

    /// Interrupts, if the driver wants that for what was completed.
    pub fn finish(&mut self, memory: &GuestMemory, signals: &Signals) {
        match self.queue.should_interrupt(memory) {
            Ok(true) => signals.used(),
            Ok(false) => {}
            Err(error) => self.break_down(error, signals),
        }
    }
}

/// The registers of a device of this shape, after reset.
fn transport(shape: &Shape) -> Transport<1> {
    // All features go together with all others.
    Transport::new(DeviceId::Block, shape.features(), |_| true)
}
