//! A source of random bytes (section 5.4), and the generator that feeds it.

mod record;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use crate::device::virtio::chain::Chain;
use crate::device::virtio::queue::{Queue, QueueError};
use crate::device::virtio::signals::Signals;
use crate::device::virtio::transport::{Transport, Written};
use crate::device::virtio::{DeviceId, Served};
use crate::memory::GuestMemory;
use crate::vgic::Width;

/// The one queue.
pub const REQUESTS: u16 = 0;

/// Bytes that a request gets, at most; a device may give less than there is room for (section 5.4.6.1).
pub const REQUEST_BYTES: usize = 256;
/// Requests that are served in one step, at most.
pub const STEP_REQUESTS: usize = 8;
/// Bytes of a seed.
pub const SEED_BYTES: usize = 32;

/// A guest's own random numbers: ChaCha20 under a key that the board gives. Nobody else draws from it, so no guest learns from what it gets
/// what another gets.
pub struct Generator(ChaCha20Rng);

impl Generator {
    /// A generator whose numbers nobody can tell who does not know `seed`.
    pub fn new(seed: [u8; SEED_BYTES]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    /// Adds what is unpredictable to what is there: the result is as good as the better of the two. To be done after a snapshot was taken or
    /// restored, or two machines draw the same numbers.
    pub fn reseed(&mut self, seed: &[u8; SEED_BYTES]) {
        let mut mixed = [0; SEED_BYTES];
        self.0.fill_bytes(&mut mixed);
        for (byte, more) in mixed.iter_mut().zip(seed) {
            *byte ^= more;
        }
        *self = Self::new(mixed);
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

/// The device.
pub struct Entropy {
    transport: Transport<1>,
    requests: Queue,
    chain: Chain,
}

impl Default for Entropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy {
    /// The device after reset.
    pub const fn new() -> Self {
        Self {
            transport: Transport::new(DeviceId::Entropy, 0, |_| true),
            requests: Queue::new(),
            chain: Chain::new(),
        }
    }

    /// A read of a register.
    pub fn read(&self, offset: u64, width: Width, signals: &Signals) -> u64 {
        self.transport.read(offset, width, &[], signals)
    }

    /// A write of a register; the queue for which [`notify`](Self::notify) is to be called, if any.
    pub fn write(
        &mut self,
        offset: u64,
        width: Width,
        value: u64,
        signals: &Signals,
    ) -> Option<u16> {
        match self.transport.write(offset, width, value, signals) {
            Written::Notify(queue) => return Some(queue),
            Written::Start | Written::StartQueue(_) => {
                if let Some(layout) = self.transport.layout(REQUESTS) {
                    self.requests.start(layout, self.transport.features());
                }
            }
            Written::StopQueue(_) => self.requests.stop(),
            Written::Stop => {
                self.requests.stop();
                signals.clear();
            }
            Written::Config { .. } | Written::Nothing => {}
        }
        None
    }

    /// The driver wants random bytes, which `source` gives.
    pub fn notify(
        &mut self,
        queue: u16,
        memory: &GuestMemory,
        signals: &Signals,
        source: impl FnMut(&mut [u8]),
    ) -> Served {
        if queue != REQUESTS {
            return Served::Rest;
        }
        self.serve(memory, signals, source).unwrap_or_else(|_| {
            signals.fail();
            Served::Rest
        })
    }

    fn serve(
        &mut self,
        memory: &GuestMemory,
        signals: &Signals,
        mut source: impl FnMut(&mut [u8]),
    ) -> Result<Served, QueueError> {
        self.requests.disable_notifications(memory)?;
        let mut served = Served::More;
        for _ in 0..STEP_REQUESTS {
            if !self.requests.pop(memory, &mut self.chain)? {
                if self.requests.enable_notifications(memory)? {
                    continue;
                }
                served = Served::Rest;
                break;
            }
            let length = REQUEST_BYTES.min(self.chain.writable_bytes() as usize);
            let mut bytes = [0; REQUEST_BYTES];
            source(&mut bytes[..length]);
            let mut writer = self.chain.writer(memory);
            writer.write(&bytes[..length])?;
            let written = writer.written();
            self.requests.push(memory, self.chain.head(), written)?;
        }
        if self.requests.should_interrupt(memory)? {
            signals.used();
        }
        Ok(served)
    }
}
