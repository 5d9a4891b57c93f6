//! The register block of a device on the memory-mapped bus, version 2 (section 4.2.2), and the device's status (section 2.1).

mod record;

use crate::addr::Ipa;
use crate::device::virtio::DeviceId;
use crate::device::virtio::feature;
use crate::device::virtio::queue::{Layout, MAX_QUEUE_SIZE};
use crate::device::virtio::signals::Signals;
use crate::vgic::Width;

mod offset {
    pub const MAGIC_VALUE: u64 = 0x000;
    pub const VERSION: u64 = 0x004;
    pub const DEVICE_ID: u64 = 0x008;
    pub const VENDOR_ID: u64 = 0x00c;
    pub const DEVICE_FEATURES: u64 = 0x010;
    pub const DEVICE_FEATURES_SEL: u64 = 0x014;
    pub const DRIVER_FEATURES: u64 = 0x020;
    pub const DRIVER_FEATURES_SEL: u64 = 0x024;
    pub const QUEUE_SEL: u64 = 0x030;
    pub const QUEUE_NUM_MAX: u64 = 0x034;
    pub const QUEUE_NUM: u64 = 0x038;
    pub const QUEUE_READY: u64 = 0x044;
    pub const QUEUE_NOTIFY: u64 = 0x050;
    pub const INTERRUPT_STATUS: u64 = 0x060;
    pub const INTERRUPT_ACK: u64 = 0x064;
    pub const STATUS: u64 = 0x070;
    pub const QUEUE_DESC_LOW: u64 = 0x080;
    pub const QUEUE_DESC_HIGH: u64 = 0x084;
    pub const QUEUE_DRIVER_LOW: u64 = 0x090;
    pub const QUEUE_DRIVER_HIGH: u64 = 0x094;
    pub const QUEUE_DEVICE_LOW: u64 = 0x0a0;
    pub const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
    pub const SHM_LEN_LOW: u64 = 0x0b0;
    pub const SHM_BASE_HIGH: u64 = 0x0bc;
    pub const CONFIG_GENERATION: u64 = 0x0fc;
    pub const CONFIG: u64 = 0x100;
}

/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// "HRTH", little-endian: drivers do not look at it.
const VENDOR: u32 = 0x4854_5248;

/// The device's status (section 2.1).
mod status {
    pub const ACKNOWLEDGE: u32 = 1;
    pub const DRIVER: u32 = 2;
    pub const DRIVER_OK: u32 = 4;
    pub const FEATURES_OK: u32 = 8;
    pub const DEVICE_NEEDS_RESET: u32 = 64;
    pub const FAILED: u32 = 128;
}

/// What a write led to, for the device to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing that the device need know.
    Nothing,
    /// The driver has something in this queue, which the device has.
    Notify(u16),
    /// The driver is ready: every queue that has a [`layout`](Transport::layout) starts.
    Start,
    /// The driver has set this queue up after it was ready: it starts.
    StartQueue(u16),
    /// The driver takes this queue back: it stops, and what the device still has of it is dropped.
    StopQueue(u16),
    /// A reset, or the driver has given up: every queue stops, what the device still has is dropped, and it is as new. The device
    /// then calls [`Signals::clear`].
    Stop,
    /// A write to the device's configuration.
    Config {
        /// Bytes from its beginning.
        offset: u64,
        /// How many bytes.
        width: Width,
        /// What.
        value: u64,
    },
}

/// The queue that a write of `value` at `offset` notifies, if it is a notification. It needs no state, so that the device's owner can find
/// the queue's lock without taking the registers'. The device need not have such a queue.
#[inline(always)]
pub fn notified(offset: u64, width: Width, value: u64) -> Option<u16> {
    (offset == offset::QUEUE_NOTIFY && width == Width::Word)
        .then(|| u16::try_from(value).ok())
        .flatten()
}

/// Whether an access is one to the device's status.
#[inline(always)]
pub fn is_status(offset: u64, width: Width) -> bool {
    offset == offset::STATUS && width == Width::Word
}

/// What the registers know of a queue.
#[derive(Clone, Copy, Debug)]
struct QueueRegisters {
    size: u32,
    descriptors: u64,
    available: u64,
    used: u64,
    layout: Option<Layout>,
}

const NO_QUEUE: QueueRegisters = QueueRegisters {
    size: 0,
    descriptors: 0,
    available: 0,
    used: 0,
    layout: None,
};

/// The registers of a device with so many queues.
#[derive(Clone, Debug)]
pub struct Transport<const QUEUES: usize> {
    device: DeviceId,
    offered: u64,
    accepts: fn(u64) -> bool,
    status: u32,
    driver_features: u64,
    device_features_select: u32,
    driver_features_select: u32,
    queue_select: u32,
    generation: u32,
    queues: [QueueRegisters; QUEUES],
}

impl<const QUEUES: usize> Transport<QUEUES> {
    /// The registers of a device after reset, which offers `features` besides [`feature::COMMON`]. `accepts` says of a subset that a
    /// driver chose whether its parts go together (a feature may need another).
    pub const fn new(device: DeviceId, features: u64, accepts: fn(u64) -> bool) -> Self {
        Self {
            device,
            offered: features | feature::COMMON,
            accepts,
            status: 0,
            driver_features: 0,
            device_features_select: 0,
            driver_features_select: 0,
            queue_select: 0,
            generation: 0,
            queues: [NO_QUEUE; QUEUES],
        }
    }

    /// The features that were negotiated; none before that.
    pub fn features(&self) -> u64 {
        if self.status & status::FEATURES_OK != 0 {
            self.driver_features
        } else {
            0
        }
    }

    /// Whether the driver is ready, and has not given up.
    pub fn is_running(&self) -> bool {
        self.status & (status::DRIVER_OK | status::FAILED) == status::DRIVER_OK
    }

    /// Where a queue lies that the driver has set up.
    pub fn layout(&self, queue: u16) -> Option<Layout> {
        self.queues.get(usize::from(queue))?.layout
    }

    /// The device changed its configuration: the generation moves on, and a running driver is told.
    pub fn configuration_changed(&mut self, signals: &Signals) {
        self.generation = self.generation.wrapping_add(1);
        if self.is_running() {
            signals.configuration_changed();
        }
    }

    /// A read at `offset`. `config` is the device's configuration as it is now.
    pub fn read(&self, offset: u64, width: Width, config: &[u8], signals: &Signals) -> u64 {
        if let Some(at) = offset.checked_sub(offset::CONFIG) {
            return read_config(at, width, config);
        }
        if width != Width::Word {
            return 0;
        }
        let queue = self.queues.get(self.queue_select as usize);
        let value = match offset {
            offset::MAGIC_VALUE => MAGIC,
            offset::VERSION => VERSION,
            offset::DEVICE_ID => self.device as u32,
            offset::VENDOR_ID => VENDOR,
            offset::DEVICE_FEATURES => word(self.offered, self.device_features_select),
            offset::QUEUE_NUM_MAX => queue.map_or(0, |_| MAX_QUEUE_SIZE.into()),
            offset::QUEUE_READY => queue.is_some_and(|queue| queue.layout.is_some()).into(),
            offset::INTERRUPT_STATUS => signals.causes(),
            offset::STATUS if signals.needs_reset() => self.status | status::DEVICE_NEEDS_RESET,
            offset::STATUS => self.status,
            // There is no shared memory: its base and length are all ones (section 4.2.2).
            offset::SHM_LEN_LOW..=offset::SHM_BASE_HIGH if offset.is_multiple_of(4) => u32::MAX,
            offset::CONFIG_GENERATION => self.generation,
            _ => 0,
        };
        value.into()
    }

    /// A write of `value` at `offset`.
    pub fn write(&mut self, offset: u64, width: Width, value: u64, signals: &Signals) -> Written {
        if let Some(offset) = offset.checked_sub(offset::CONFIG) {
            return Written::Config {
                offset,
                width,
                value,
            };
        }
        if width != Width::Word {
            return Written::Nothing;
        }
        let value = value as u32;
        match offset {
            offset::QUEUE_NOTIFY if (value as usize) < QUEUES => {
                return Written::Notify(value as u16);
            }
            offset::INTERRUPT_ACK => signals.acknowledge(value),
            offset::DEVICE_FEATURES_SEL => self.device_features_select = value,
            offset::DRIVER_FEATURES_SEL => self.driver_features_select = value,
            offset::DRIVER_FEATURES => self.write_features(value),
            offset::QUEUE_SEL => self.queue_select = value,
            offset::QUEUE_READY => return self.write_ready(value, signals),
            offset::STATUS => return self.write_status(value, signals),
            _ => self.write_layout(offset, value),
        }
        Written::Nothing
    }

    /// What the driver chose stays as it is once it was accepted.
    fn write_features(&mut self, value: u32) {
        if self.status & status::FEATURES_OK == 0 && self.driver_features_select < 2 {
            let shift = 32 * self.driver_features_select;
            self.driver_features &= !(u64::from(u32::MAX) << shift);
            self.driver_features |= u64::from(value) << shift;
        }
    }

    /// A part of the selected queue's description, while it is not ready.
    fn write_layout(&mut self, offset: u64, value: u32) {
        let Some(queue) = self.queues.get_mut(self.queue_select as usize) else {
            return;
        };
        if queue.layout.is_some() {
            return;
        }
        match offset {
            offset::QUEUE_NUM => queue.size = value,
            offset::QUEUE_DESC_LOW => set_low(&mut queue.descriptors, value),
            offset::QUEUE_DESC_HIGH => set_high(&mut queue.descriptors, value),
            offset::QUEUE_DRIVER_LOW => set_low(&mut queue.available, value),
            offset::QUEUE_DRIVER_HIGH => set_high(&mut queue.available, value),
            offset::QUEUE_DEVICE_LOW => set_low(&mut queue.used, value),
            offset::QUEUE_DEVICE_HIGH => set_high(&mut queue.used, value),
            _ => {}
        }
    }

    fn write_ready(&mut self, value: u32, signals: &Signals) -> Written {
        let running = self.is_running();
        let Some(queue) = self.queues.get_mut(self.queue_select as usize) else {
            return Written::Nothing;
        };
        let was = queue.layout.is_some();
        queue.layout = match value {
            1 if was => queue.layout,
            1 => u16::try_from(queue.size).ok().and_then(|size| {
                let (descriptors, available) = (Ipa(queue.descriptors), Ipa(queue.available));
                Layout::new(size, descriptors, available, Ipa(queue.used))
            }),
            _ => None,
        };
        let index = self.queue_select as u16;
        match (was, queue.layout.is_some()) {
            (false, true) if running && !signals.needs_reset() => Written::StartQueue(index),
            (true, false) if running => Written::StopQueue(index),
            _ => Written::Nothing,
        }
    }

    /// Bits are added by a driver one after another, never taken away but by a reset.
    fn write_status(&mut self, value: u32, signals: &Signals) -> Written {
        if value == 0 {
            *self = Self::new(self.device, self.offered, self.accepts).aged(self.generation);
            signals.clear();
            return Written::Stop;
        }
        let was_running = self.is_running();
        self.status |= value & (status::ACKNOWLEDGE | status::DRIVER | status::FAILED);
        if value & status::FEATURES_OK != 0 && self.is_acceptable() {
            self.status |= status::FEATURES_OK;
        }
        if value & status::DRIVER_OK != 0
            && self.status & status::FEATURES_OK != 0
            && !signals.needs_reset()
        {
            self.status |= status::DRIVER_OK;
        }
        match (was_running, self.is_running()) {
            (false, true) => Written::Start,
            (true, false) => Written::Stop,
            _ => Written::Nothing,
        }
    }

    fn is_acceptable(&self) -> bool {
        self.driver_features & !self.offered == 0
            && self.driver_features & feature::VERSION_1 != 0
            && (self.accepts)(self.driver_features)
    }

    /// The generation outlives a reset: a driver that reads the configuration across one sees that something happened.
    fn aged(mut self, generation: u32) -> Self {
        self.generation = generation.wrapping_add(1);
        self
    }
}

/// The low or high word of features; there are no others.
fn word(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

fn set_low(value: &mut u64, low: u32) {
    *value = *value & !u64::from(u32::MAX) | u64::from(low);
}

fn set_high(value: &mut u64, high: u32) {
    *value = *value & u64::from(u32::MAX) | u64::from(high) << 32;
}

/// Any width at any offset; beyond the configuration there are zeros.
fn read_config(at: u64, width: Width, config: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    for (to, offset) in bytes[..width.bytes() as usize].iter_mut().zip(at..) {
        let from = usize::try_from(offset).ok().and_then(|n| config.get(n));
        *to = from.copied().unwrap_or(0);
    }
    u64::from_le_bytes(bytes)
}
