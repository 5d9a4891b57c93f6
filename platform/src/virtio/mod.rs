//! Virtio devices over memory-mapped registers, from the driver's side.
//!
//! [`Device::probe`] looks what stands in a slot that the device tree names; [`crate::nic::virtio`] and [`crate::disk::virtio`] drive
//! what it finds. They share [`Device`], the way from a reset to a running device, and [`queue`], the split queue.
//!
//! Only the modern interface is driven (version 2 of the registers), and only devices that see memory as the cores do. A device is
//! believed no more than needed: what it writes is checked against what it was given, and one that breaks the rules is reset and not
//! used any more ([`queue::Fault`]).
//!
//! Source: Virtual I/O Device (VIRTIO) Version 1.2, sections 2.7 (split queues), 3.1 (initialisation), 4.2 (registers).

#[cfg(test)]
pub(crate) mod fake;
pub mod queue;
#[cfg(test)]
pub(crate) mod tests;

use core::fmt;

use crate::dma::{self, Shared, TooSmall};
use crate::mmio::Mmio;
use crate::tree::VirtioSlot;
use queue::{Queue, Rings};

/// Register offsets (section 4.2.2).
pub(crate) mod register {
    pub const MAGIC: usize = 0x000;
    pub const VERSION: usize = 0x004;
    pub const DEVICE_ID: usize = 0x008;
    pub const DEVICE_FEATURES: usize = 0x010;
    pub const DEVICE_FEATURES_SEL: usize = 0x014;
    pub const DRIVER_FEATURES: usize = 0x020;
    pub const DRIVER_FEATURES_SEL: usize = 0x024;
    pub const QUEUE_SEL: usize = 0x030;
    pub const QUEUE_NUM_MAX: usize = 0x034;
    pub const QUEUE_NUM: usize = 0x038;
    pub const QUEUE_READY: usize = 0x044;
    pub const QUEUE_NOTIFY: usize = 0x050;
    pub const INTERRUPT_STATUS: usize = 0x060;
    pub const INTERRUPT_ACK: usize = 0x064;
    pub const STATUS: usize = 0x070;
    pub const QUEUE_DESC: usize = 0x080;
    pub const QUEUE_DRIVER: usize = 0x090;
    pub const QUEUE_DEVICE: usize = 0x0a0;
    pub const CONFIG_GENERATION: usize = 0x0fc;
    pub const CONFIG: usize = 0x100;
}

/// Bits of the status register (section 2.1).
pub(crate) mod status {
    pub const ACKNOWLEDGE: u32 = 1;
    pub const DRIVER: u32 = 2;
    pub const DRIVER_OK: u32 = 4;
    pub const FEATURES_OK: u32 = 8;
    pub const NEEDS_RESET: u32 = 64;
    pub const FAILED: u32 = 128;
}

/// Features that every driver here knows (section 6).
pub(crate) mod feature {
    pub const INDIRECT: u64 = 1 << 28;
    pub const EVENT_INDEX: u64 = 1 << 29;
    pub const VERSION_1: u64 = 1 << 32;
}

/// "virt", little endian.
const MAGIC: u32 = 0x7472_6976;
/// The register layout without the legacy interface.
const VERSION: u32 = 2;
/// Looks at a register that has to change before the device is given up.
const PATIENCE: usize = 100_000;

/// How a device's registers are reached: memory-mapped on a board, a model of them in a test. Copies are of the same device.
pub trait Registers: Copy {
    /// Reads a 32-bit register.
    fn read(&self, offset: usize) -> u32;
    /// Writes a 32-bit register.
    fn write(&self, offset: usize, value: u32);
    /// Reads a byte of the configuration, which the standard wants to be accessed in each field's own width (section 4.2.2.2).
    fn read8(&self, offset: usize) -> u8;
    /// Reads 16 bits of the configuration.
    fn read16(&self, offset: usize) -> u16;
}

impl Registers for Mmio {
    #[inline(always)]
    fn read(&self, offset: usize) -> u32 {
        Mmio::read(*self, offset)
    }

    #[inline(always)]
    fn write(&self, offset: usize, value: u32) {
        Mmio::write(*self, offset, value);
    }

    fn read8(&self, offset: usize) -> u8 {
        Mmio::read8(*self, offset)
    }

    fn read16(&self, offset: usize) -> u16 {
        Mmio::read16(*self, offset)
    }
}

/// What kind of device stands in a slot (section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A network card.
    Network,
    /// A disk.
    Block,
    /// One that is not driven here, by its number.
    Other(u32),
}

/// Why a device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// What is in the slot is no virtio device.
    NotVirtio,
    /// The device speaks this version of the registers, and only 2 is driven. QEMU's is 1 unless it is told otherwise.
    Version(u32),
    /// The device does not see memory as the cores do.
    NotCoherent,
    /// The slot has fewer registers than the standard says.
    NoRegisters,
    /// It is another kind of device.
    WrongKind(Kind),
    /// The device does not come out of its reset.
    Stuck,
    /// The device lacks a feature that is needed, by the feature's bit.
    Lacks(u32),
    /// The device does not accept the features that were chosen.
    Refused,
    /// Queue `queue` can have only `most` entries.
    ShortQueue {
        /// Its number.
        queue: u16,
        /// Its largest size.
        most: u32,
    },
    /// The configuration changes as fast as it is read, or makes no sense.
    Configuration,
    /// Too little memory was given.
    Memory,
}

impl From<TooSmall> for OpenError {
    fn from(_: TooSmall) -> Self {
        Self::Memory
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotVirtio => write!(f, "no virtio device"),
            Self::Version(1) => write!(
                f,
                "a virtio device with the legacy interface only (QEMU: -global virtio-mmio.force-legacy=false)"
            ),
            Self::Version(version) => write!(f, "virtio registers of version {version}"),
            Self::NotCoherent => write!(f, "its memory accesses go past the caches"),
            Self::NoRegisters => write!(f, "its registers do not fit in the slot"),
            Self::WrongKind(kind) => write!(f, "a device of another kind: {kind:?}"),
            Self::Stuck => write!(f, "it does not come out of reset"),
            Self::Lacks(bit) => write!(f, "it lacks feature {bit}"),
            Self::Refused => write!(f, "it refuses the features that it offered"),
            Self::ShortQueue { queue, most } => {
                write!(f, "its queue {queue} has at most {most} entries")
            }
            Self::Configuration => write!(f, "its configuration makes no sense"),
            Self::Memory => write!(f, "{TooSmall}"),
        }
    }
}

/// Why an interrupt came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interrupts {
    /// A queue has news.
    pub queues: bool,
    /// The configuration changed, such as a link's state.
    pub configuration: bool,
}

/// A device that is not yet used.
pub struct Device<R = Mmio> {
    registers: R,
    kind: Kind,
}

impl Device<Mmio> {
    /// What stands in the slot, if anything does.
    ///
    /// # Errors
    /// [`OpenError`] for a device that cannot be used.
    ///
    /// # Safety
    /// The slot is one that the device tree names, mapped as device memory, and nobody else drives it.
    pub unsafe fn probe(slot: &VirtioSlot) -> Result<Option<Self>, OpenError> {
        if slot.region.size() <= register::CONFIG as u64 {
            return Err(OpenError::NoRegisters);
        }
        // SAFETY: the caller's promise; the device's own accesses to memory go where its queues say, and these are made here.
        let registers = unsafe { Mmio::new(slot.region) };
        match Self::find(registers)? {
            Some(_) if !slot.coherent => Err(OpenError::NotCoherent),
            found => Ok(found),
        }
    }
}

impl<R: Registers> Device<R> {
    /// The device behind `registers`, if there is one.
    pub(crate) fn find(registers: R) -> Result<Option<Self>, OpenError> {
        if registers.read(register::MAGIC) != MAGIC {
            return Err(OpenError::NotVirtio);
        }
        let kind = match registers.read(register::DEVICE_ID) {
            0 => return Ok(None),
            1 => Kind::Network,
            2 => Kind::Block,
            other => Kind::Other(other),
        };
        match registers.read(register::VERSION) {
            VERSION => Ok(Some(Self { registers, kind })),
            other => Err(OpenError::Version(other)),
        }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Resets the device and agrees on features: all of `required`, and what it offers of `wished` (section 3.1.1, steps 1 to 6).
    pub(crate) fn begin(
        self,
        kind: Kind,
        required: u64,
        wished: u64,
    ) -> Result<Opening<R>, OpenError> {
        let registers = self.registers;
        if self.kind != kind {
            return Err(OpenError::WrongKind(self.kind));
        }
        reset(&registers);
        if !(0..PATIENCE).any(|_| registers.read(register::STATUS) == 0) {
            return Err(OpenError::Stuck);
        }
        let mut state = status::ACKNOWLEDGE | status::DRIVER;
        registers.write(register::STATUS, state);
        let required = required | feature::VERSION_1;
        let offered = read_features(&registers);
        let lacking = required & !offered;
        if lacking != 0 {
            registers.write(register::STATUS, state | status::FAILED);
            return Err(OpenError::Lacks(lacking.trailing_zeros()));
        }
        let features = offered & (required | wished);
        for half in 0..2 {
            registers.write(register::DRIVER_FEATURES_SEL, half);
            registers.write(register::DRIVER_FEATURES, (features >> (32 * half)) as u32);
        }
        state |= status::FEATURES_OK;
        registers.write(register::STATUS, state);
        if registers.read(register::STATUS) & status::FEATURES_OK == 0 {
            registers.write(register::STATUS, state | status::FAILED);
            return Err(OpenError::Refused);
        }
        Ok(Opening {
            registers,
            features,
            state,
        })
    }
}

fn read_features<R: Registers>(registers: &R) -> u64 {
    (0..2).fold(0, |features, half| {
        registers.write(register::DEVICE_FEATURES_SEL, half);
        features | u64::from(registers.read(register::DEVICE_FEATURES)) << (32 * half)
    })
}

/// Makes the device forget everything; it does not touch memory any more.
pub(crate) fn reset<R: Registers>(registers: &R) {
    registers.write(register::STATUS, 0);
}

/// A device between its features and its first work. One that is dropped here has been reset and lies still.
pub(crate) struct Opening<R> {
    pub registers: R,
    /// What was agreed on.
    pub features: u64,
    state: u32,
}

impl<R: Registers> Opening<R> {
    /// Whether a feature, given as its bit, was agreed on.
    pub fn has(&self, bit: u64) -> bool {
        self.features & bit != 0
    }

    /// Sets up queue `number` with `N` entries in `rings` (section 4.2.3.2).
    pub fn queue<const N: usize>(
        &self,
        number: u16,
        rings: &'static Rings<N>,
    ) -> Result<(Queue<N>, [queue::Head; N]), OpenError> {
        let registers = &self.registers;
        registers.write(register::QUEUE_SEL, number.into());
        let most = registers.read(register::QUEUE_NUM_MAX);
        if (most as usize) < N {
            return Err(OpenError::ShortQueue {
                queue: number,
                most,
            });
        }
        registers.write(register::QUEUE_NUM, N as u32);
        write_address(registers, register::QUEUE_DESC, rings.descriptors());
        write_address(registers, register::QUEUE_DRIVER, rings.available());
        write_address(registers, register::QUEUE_DEVICE, rings.used());
        dma::barrier::full();
        registers.write(register::QUEUE_READY, 1);
        Ok(Queue::new(rings, self.has(feature::EVENT_INDEX)))
    }

    /// Reads something of more than one word from the configuration, again while it changes (section 2.5.3).
    pub fn configuration<T>(&self, read: impl Fn(&R) -> T) -> Result<T, OpenError> {
        const TRIES: usize = 8;
        for _ in 0..TRIES {
            let before = self.registers.read(register::CONFIG_GENERATION);
            let value = read(&self.registers);
            if self.registers.read(register::CONFIG_GENERATION) == before {
                return Ok(value);
            }
        }
        Err(OpenError::Configuration)
    }

    /// From here on the device works.
    pub fn finish(self) -> R {
        dma::barrier::full();
        self.registers
            .write(register::STATUS, self.state | status::DRIVER_OK);
        self.registers
    }
}

fn write_address<R: Registers, T: Shared>(registers: &R, offset: usize, part: &T) {
    let address = dma::address(part);
    registers.write(offset, address as u32);
    registers.write(offset + 4, (address >> 32) as u32);
}

/// Reads why the device interrupts and ends its interrupt. Called before the queues are looked at: what comes later interrupts anew.
pub(crate) fn acknowledge<R: Registers>(registers: &R) -> Interrupts {
    let reasons = registers.read(register::INTERRUPT_STATUS) & 3;
    if reasons != 0 {
        registers.write(register::INTERRUPT_ACK, reasons);
        // A shared line or an edge: the acknowledge must have arrived before the queues are read.
        dma::barrier::full();
    }
    Interrupts {
        queues: reasons & 1 != 0,
        configuration: reasons & 2 != 0,
    }
}

/// Tells the device to look at a queue.
#[inline(always)]
pub(crate) fn notify<R: Registers>(registers: &R, queue: u16) {
    registers.write(register::QUEUE_NOTIFY, queue.into());
}

/// Whether the device works: it was neither reset nor does it say that it is broken.
pub(crate) fn is_working<R: Registers>(registers: &R) -> bool {
    let bits = status::DRIVER_OK | status::NEEDS_RESET | status::FAILED;
    registers.read(register::STATUS) & bits == status::DRIVER_OK
}
