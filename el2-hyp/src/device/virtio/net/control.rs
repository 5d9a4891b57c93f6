//! The card's registers, its configuration, and the control queue.

use super::{CONTROL, QUEUES, RECEIVE, Receive, TRANSMIT, Transmit, feature};
use crate::device::virtio::DeviceId;
use crate::device::virtio::chain::Chain;
use crate::device::virtio::queue::{MAX_QUEUE_SIZE, Queue, QueueError};
use crate::device::virtio::signals::Signals;
use crate::device::virtio::transport::{Transport, Written};
use crate::frame::{MTU, Mac};
use crate::memory::GuestMemory;
use crate::vgic::Width;

/// `struct virtio_net_config` (section 5.1.4), as far as our features give it a meaning: address, status, pairs of queues, largest packet.
const CONFIG_BYTES: usize = 12;
pub(super) const STATUS_AT: usize = 6;
const PAIRS_AT: usize = 8;
const MTU_AT: usize = 10;

/// Bits of the status: the link is up; the driver should announce the guest.
const LINK_UP: u8 = 1;
pub(super) const ANNOUNCE: u8 = 2;

/// The control queue's only command (section 5.1.6.5.4): class and number.
const ANNOUNCE_ACK: [u8; 2] = [3, 0];
/// What the device answers.
const OK: u8 = 0;
const ERROR: u8 = 1;

/// What belongs to neither direction.
pub struct Control {
    pub(super) transport: Transport<QUEUES>,
    pub(super) config: [u8; CONFIG_BYTES],
    pub(super) queue: Queue,
    chain: Chain,
}

impl Control {
    /// A card after reset, with a link and the address `mac`.
    pub fn new(mac: Mac) -> Self {
        let mut config = [0; CONFIG_BYTES];
        config[..6].copy_from_slice(&mac.0);
        config[STATUS_AT] = LINK_UP;
        config[PAIRS_AT] = 1;
        config[MTU_AT..].copy_from_slice(&MTU.to_le_bytes());
        Self {
            transport: Transport::new(DeviceId::Network, feature::OFFERED, feature::accepts),
            config,
            queue: Queue::new(),
            chain: Chain::new(),
        }
    }

    /// The card's address.
    pub fn mac(&self) -> Mac {
        let [a, b, c, d, e, f, ..] = self.config;
        Mac([a, b, c, d, e, f])
    }

    /// A read of a register.
    pub fn read(&self, offset: u64, width: Width, signals: &Signals) -> u64 {
        self.transport.read(offset, width, &self.config, signals)
    }

    /// A write to a register. What concerns the control queue alone is done; the rest is the owner's: a notification of the transmit queue, and
    /// what [`carry_out`](Self::carry_out) is for.
    pub fn write(
        &mut self,
        memory: &GuestMemory,
        offset: u64,
        width: Width,
        value: u64,
        signals: &Signals,
    ) -> Written {
        let written = self.transport.write(offset, width, value, signals);
        if written != Written::Notify(CONTROL) {
            return written;
        }
        if self.serve(memory, signals).is_err() {
            signals.fail();
        }
        Written::Nothing
    }

    /// Starts and stops queues as a write demands, with both directions' locks held.
    pub fn carry_out(
        &mut self,
        written: Written,
        transmit: &mut Transmit,
        receive: &mut Receive,
        signals: &Signals,
    ) {
        match written {
            Written::Start => (0..QUEUES as u16).for_each(|n| self.start(n, transmit, receive)),
            Written::StartQueue(queue) => self.start(queue, transmit, receive),
            Written::StopQueue(RECEIVE) => receive.stop(),
            Written::StopQueue(TRANSMIT) => transmit.stop(),
            Written::StopQueue(_) => self.queue.stop(),
            Written::Stop => {
                receive.stop();
                transmit.stop();
                self.queue.stop();
                self.config[STATUS_AT] &= !ANNOUNCE;
                signals.clear();
            }
            Written::Nothing | Written::Notify(_) | Written::Config { .. } => {}
        }
    }

    fn start(&mut self, queue: u16, transmit: &mut Transmit, receive: &mut Receive) {
        let features = self.transport.features();
        let Some(layout) = self.transport.layout(queue) else {
            return;
        };
        match queue {
            RECEIVE => receive.start(layout, features),
            TRANSMIT => transmit.start(layout, features),
            _ => self.queue.start(layout, features),
        }
    }

    /// Whether the driver is ready, and has not given up.
    pub fn is_running(&self) -> bool {
        self.transport.is_running()
    }

    /// Asks the guest to announce itself, after it has come to this board. `false` if its driver is not ready or cannot: then the board
    /// does it in its name.
    pub fn announce(&mut self, signals: &Signals) -> bool {
        let can = self.transport.features() & feature::GUEST_ANNOUNCE != 0;
        if !can || !self.transport.is_running() {
            return false;
        }
        self.config[STATUS_AT] |= ANNOUNCE;
        self.transport.configuration_changed(signals);
        true
    }

    /// Whether the guest was asked to announce itself and has not confirmed yet.
    pub fn is_announcing(&self) -> bool {
        self.config[STATUS_AT] & ANNOUNCE != 0
    }

    /// Serves the control queue: each command gets an answer, of which ours is a byte.
    fn serve(&mut self, memory: &GuestMemory, signals: &Signals) -> Result<(), QueueError> {
        // As many as a queue can hold: a driver that adds while it is served notifies again.
        for _ in 0..MAX_QUEUE_SIZE {
            if self.queue.pop(memory, &mut self.chain)? {
                self.answer(memory)?;
            } else if !self.queue.enable_notifications(memory)? {
                break;
            }
        }
        if self.queue.should_interrupt(memory)? {
            signals.used();
        }
        Ok(())
    }

    fn answer(&mut self, memory: &GuestMemory) -> Result<(), QueueError> {
        let mut command = [0; 2];
        let length = self.chain.reader(memory).read(&mut command)?;
        let known = length == command.len() && command == ANNOUNCE_ACK;
        if known {
            self.config[STATUS_AT] &= !ANNOUNCE;
        }
        let mut writer = self.chain.writer(memory);
        writer.write(&[if known { OK } else { ERROR }])?;
        let written = writer.written();
        self.queue.push(memory, self.chain.head(), written)
    }
}
