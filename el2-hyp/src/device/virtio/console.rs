//! A console (section 5.3) with one port: bytes in, bytes out.
//!
//! What the guest sends goes to a [`Sink`], as its PL011's does; a sink that is full keeps the rest with the guest until it has room. What
//! comes in waits here until the guest gives a buffer.

mod record;

use heapless::Deque;

use crate::device::pl011::Sink;
use crate::device::virtio::chain::Chain;
use crate::device::virtio::queue::{Queue, QueueError};
use crate::device::virtio::signals::Signals;
use crate::device::virtio::transport::{Transport, Written};
use crate::device::virtio::{DeviceId, Served};
use crate::memory::GuestMemory;
use crate::vgic::Width;

/// The queue of buffers for what comes in.
pub const RECEIVE: u16 = 0;
/// The queue of what goes out.
pub const TRANSMIT: u16 = 1;

/// Bytes that wait for the guest to give a buffer.
pub const INPUT_BYTES: usize = 1024;
/// Bytes that leave in one step, at most.
pub const STEP_BYTES: usize = 1024;
/// Chains that are served in one step, at most.
pub const STEP_CHAINS: usize = 64;
/// Bytes that are copied from the guest at once.
const COPY_BYTES: usize = 64;

/// VIRTIO_CONSOLE_F_EMERG_WRITE: a byte leaves by a write to the configuration, without a queue.
const EMERGENCY_WRITE: u64 = 1 << 2;
/// Where in the configuration it is written.
const EMERGENCY_OFFSET: u64 = 8;
/// `cols`, `rows`, `max_nr_ports`, `emerg_wr`: no size is told, and there is no second port.
const CONFIGURATION: [u8; 12] = [0; 12];

/// The device.
pub struct Console {
    transport: Transport<2>,
    receive: Queue,
    transmit: Queue,
    chain: Chain,
    input: Deque<u8, INPUT_BYTES>,
    /// Bytes of the first chain that waits to go out which have left already.
    sent: usize,
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Console {
    /// The device after reset.
    pub const fn new() -> Self {
        Self {
            transport: Transport::new(DeviceId::Console, EMERGENCY_WRITE, |_| true),
            receive: Queue::new(),
            transmit: Queue::new(),
            chain: Chain::new(),
            input: Deque::new(),
            sent: 0,
        }
    }

    /// A read of a register.
    pub fn read(&self, offset: u64, width: Width, signals: &Signals) -> u64 {
        self.transport.read(offset, width, &CONFIGURATION, signals)
    }

    /// A write of a register; the queue for which [`notify`](Self::notify) is to be called, if any.
    pub fn write(
        &mut self,
        offset: u64,
        width: Width,
        value: u64,
        signals: &Signals,
        sink: &mut impl Sink,
    ) -> Option<u16> {
        match self.transport.write(offset, width, value, signals) {
            Written::Notify(queue) => return Some(queue),
            Written::Start => [RECEIVE, TRANSMIT]
                .into_iter()
                .for_each(|queue| self.start(queue)),
            Written::StartQueue(queue) => self.start(queue),
            Written::StopQueue(queue) => self.queue(queue).stop(),
            Written::Stop => {
                self.stop();
                self.input.clear();
                signals.clear();
            }
            Written::Config {
                offset: EMERGENCY_OFFSET,
                ..
            } => sink.put(value as u8),
            Written::Config { .. } | Written::Nothing => {}
        }
        None
    }

    /// The driver has something in a queue, or what made the last step end has passed.
    pub fn notify(
        &mut self,
        queue: u16,
        memory: &GuestMemory,
        signals: &Signals,
        sink: &mut impl Sink,
    ) -> Served {
        let served = match queue {
            RECEIVE => self.give(memory, signals),
            TRANSMIT => self.send(memory, signals, sink),
            _ => Ok(Served::Rest),
        };
        served.unwrap_or_else(|_| {
            self.stop();
            signals.fail();
            Served::Rest
        })
    }

    /// A byte from the other end, which waits for the next [`notify`](Self::notify) of [`RECEIVE`]: called once, after all that came
    /// together. Handed back when too many wait, or the driver is not there.
    pub fn receive(&mut self, byte: u8) -> Result<(), u8> {
        if !self.receive.is_running() {
            return Err(byte);
        }
        self.input.push_back(byte)
    }

    fn queue(&mut self, queue: u16) -> &mut Queue {
        if queue == RECEIVE {
            &mut self.receive
        } else {
            &mut self.transmit
        }
    }

    fn start(&mut self, queue: u16) {
        let features = self.transport.features();
        if let Some(layout) = self.transport.layout(queue) {
            self.queue(queue).start(layout, features);
        }
        if queue == TRANSMIT {
            self.sent = 0;
        }
    }

    fn stop(&mut self) {
        self.receive.stop();
        self.transmit.stop();
    }

    /// Gives what came in to the guest, as far as there are buffers.
    fn give(&mut self, memory: &GuestMemory, signals: &Signals) -> Result<Served, QueueError> {
        let mut served = Served::More;
        for _ in 0..STEP_CHAINS {
            if self.input.is_empty() {
                // The driver need not tell of buffers that nothing waits for.
                self.receive.disable_notifications(memory)?;
                served = Served::Rest;
                break;
            }
            if !self.receive.pop(memory, &mut self.chain)? {
                if self.receive.enable_notifications(memory)? {
                    continue;
                }
                served = Served::Rest;
                break;
            }
            let mut writer = self.chain.writer(memory);
            let (front, back) = self.input.as_slices();
            let mut given = writer.write(front)?;
            given += writer.write(back)?;
            for _ in 0..given {
                self.input.pop_front();
            }
            self.receive.push(memory, self.chain.head(), given as u32)?;
        }
        if self.receive.should_interrupt(memory)? {
            signals.used();
        }
        Ok(served)
    }

    /// Sends what the guest has, as far as the sink takes it.
    fn send(
        &mut self,
        memory: &GuestMemory,
        signals: &Signals,
        sink: &mut impl Sink,
    ) -> Result<Served, QueueError> {
        self.transmit.disable_notifications(memory)?;
        let mut served = Served::More;
        let mut left = STEP_BYTES;
        for _ in 0..STEP_CHAINS {
            if !self.transmit.pop(memory, &mut self.chain)? {
                if self.transmit.enable_notifications(memory)? {
                    continue;
                }
                served = Served::Rest;
                break;
            }
            let whole = self.send_chain(memory, &mut left, sink)?;
            if !whole {
                // It is popped again. A driver that changes it meanwhile garbles its own output.
                self.transmit.unpop(1);
                if left > 0 {
                    served = Served::Full;
                }
                break;
            }
            self.sent = 0;
            self.transmit.push(memory, self.chain.head(), 0)?;
        }
        if self.transmit.should_interrupt(memory)? {
            signals.used();
        }
        Ok(served)
    }

    /// Sends what has not left yet of the chain, `left` bytes at most; whether all has left.
    fn send_chain(
        &mut self,
        memory: &GuestMemory,
        left: &mut usize,
        sink: &mut impl Sink,
    ) -> Result<bool, QueueError> {
        let mut reader = self.chain.reader(memory);
        reader.skip(self.sent);
        loop {
            let mut bytes = [0; COPY_BYTES];
            let read = reader.read(&mut bytes[..COPY_BYTES.min(*left)])?;
            if read == 0 {
                return Ok(reader.remaining() == 0);
            }
            for &byte in &bytes[..read] {
                if sink.is_full() {
                    return Ok(false);
                }
                sink.put(byte);
                self.sent += 1;
                *left -= 1;
            }
        }
    }
}
