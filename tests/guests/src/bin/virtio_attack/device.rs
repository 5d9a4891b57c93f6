//! A device's registers, and the sound use that shows that it is well.

use guest::machine::{Range, Slot};
use guest::{mmio, report, timer};

/// Offsets of registers (VIRTIO 1.2, section 4.2.2).
pub mod register {
    pub const MAGIC: usize = 0x000;
    pub const DEVICE_ID: usize = 0x008;
    pub const DEVICE_FEATURES: usize = 0x010;
    pub const DEVICE_FEATURES_SEL: usize = 0x014;
    pub const DRIVER_FEATURES: usize = 0x020;
    pub const DRIVER_FEATURES_SEL: usize = 0x024;
    pub const QUEUE_SEL: usize = 0x030;
    pub const QUEUE_NUM: usize = 0x038;
    pub const QUEUE_READY: usize = 0x044;
    pub const QUEUE_NOTIFY: usize = 0x050;
    pub const INTERRUPT_STATUS: usize = 0x060;
    pub const INTERRUPT_ACK: usize = 0x064;
    pub const STATUS: usize = 0x070;
    pub const QUEUE_DESC: usize = 0x080;
    pub const QUEUE_DRIVER: usize = 0x090;
    pub const QUEUE_DEVICE: usize = 0x0a0;
    pub const CONFIG: usize = 0x100;
}

/// Kinds of devices.
pub const NETWORK: u32 = 1;
pub const BLOCK: u32 = 2;
pub const CONSOLE: u32 = 3;
pub const ENTROPY: u32 = 4;

/// Status bits.
pub const ACKNOWLEDGE: u32 = 1;
pub const DRIVER: u32 = 2;
pub const DRIVER_OK: u32 = 4;
pub const FEATURES_OK: u32 = 8;
pub const NEEDS_RESET: u32 = 64;
/// VIRTIO_F_VERSION_1.
pub const VERSION_1: u64 = 1 << 32;

/// Descriptor flags.
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// "virt".
const MAGIC: u32 = 0x7472_6976;
/// What a sound request may take, milliseconds.
const PATIENCE_MS: u64 = 5_000;
/// How long memory is watched after a reset, microseconds.
const WATCH_US: u64 = 100;
/// What memory that nobody touches is full of: no address, no index and no length of anything.
pub const UNTOUCHED: u64 = 0xa5a5_5a5a_a5a5_5a5a;
/// Entries of the sound queue.
const ENTRIES: u32 = 8;

/// What stands in a slot; 0 for nothing.
pub fn kind(slot: &Slot) -> u32 {
    if mmio::read32(slot.base + register::MAGIC) != MAGIC {
        return 0;
    }
    mmio::read32(slot.base + register::DEVICE_ID)
}

/// A device.
pub struct Device {
    /// Its registers.
    pub base: usize,
    /// What it is.
    pub kind: u32,
}

impl Device {
    pub fn new(slot: Slot) -> Self {
        Self {
            base: slot.base,
            kind: kind(&slot),
        }
    }

    pub fn read(&self, register: usize) -> u32 {
        mmio::read32(self.base + register)
    }

    pub fn write(&self, register: usize, value: u32) {
        mmio::write32(self.base + register, value);
    }

    pub fn needs_reset(&self) -> bool {
        self.read(register::STATUS) & NEEDS_RESET != 0
    }

    /// Resets it, and waits for that as the standard wants (section 2.4.2).
    pub fn reset(&self) {
        self.write(register::STATUS, 0);
        let done = timer::wait_until(PATIENCE_MS, || self.read(register::STATUS) == 0);
        report::expect("virtio_attack", "a reset does not end", done);
    }

    /// What it offers.
    pub fn features(&self) -> u64 {
        [1, 0].into_iter().fold(0, |features, half| {
            self.write(register::DEVICE_FEATURES_SEL, half);
            features << 32 | u64::from(self.read(register::DEVICE_FEATURES))
        })
    }

    /// Accepts features, and says that they are chosen.
    pub fn accept(&self, features: u64) {
        self.write(register::STATUS, ACKNOWLEDGE | DRIVER);
        for half in 0..2 {
            self.write(register::DRIVER_FEATURES_SEL, half);
            self.write(register::DRIVER_FEATURES, (features >> (32 * half)) as u32);
        }
        self.write(register::STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    }

    /// Makes a queue ready: of so many entries, with its table and its rings there.
    pub fn set_queue(&self, queue: u32, entries: u32, parts: [u64; 3]) {
        self.write(register::QUEUE_SEL, queue);
        self.write(register::QUEUE_READY, 0);
        self.write(register::QUEUE_NUM, entries);
        let registers = [
            register::QUEUE_DESC,
            register::QUEUE_DRIVER,
            register::QUEUE_DEVICE,
        ];
        for (register, part) in registers.into_iter().zip(parts) {
            self.write(register, part as u32);
            self.write(register + 4, (part >> 32) as u32);
        }
        mmio::barrier();
        self.write(register::QUEUE_READY, 1);
    }

    pub fn start(&self) {
        self.write(
            register::STATUS,
            ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK,
        );
    }

    pub fn notify(&self, queue: u32) {
        mmio::barrier();
        self.write(register::QUEUE_NOTIFY, queue);
    }

    /// Sets it up as a sound driver does, and has it serve one request. Its parts lie at the arena's start.
    pub fn serve_one(&self, arena: &Range) -> Result<(), &'static str> {
        let offered = self.features();
        if offered & VERSION_1 == 0 {
            return Err("VERSION_1 is not offered any more");
        }
        self.accept(VERSION_1);
        if self.read(register::STATUS) & FEATURES_OK == 0 {
            return Err("VERSION_1 is refused");
        }
        let queue = match self.kind {
            NETWORK | CONSOLE => 1,
            BLOCK | ENTROPY => 0,
            _ => return Ok(()),
        };
        let at = |offset: usize| arena.start as u64 + offset as u64;
        let (table, driver, used, data) = (at(0), at(0x400), at(0x800), at(0x1000));
        clear(arena, 0x2000);
        let pieces = self.request(data);
        for (index, &(address, bytes, flags)) in pieces.iter().enumerate() {
            let last = index + 1 == pieces.len() || pieces[index + 1].1 == 0;
            let flags = flags | if last { 0 } else { NEXT };
            put_descriptor(table, index as u64, address, bytes, flags, index as u16 + 1);
            if last {
                break;
            }
        }
        put16(driver + 4, 0);
        put16(driver + 2, 1);
        self.set_queue(queue, ENTRIES, [table, driver, used]);
        self.start();
        self.notify(queue);
        let done = timer::wait_until(PATIENCE_MS, || get16(used + 2) == 1);
        if !done {
            return Err("a sound request is not served");
        }
        let (head, bytes) = (get32(used + 4), get32(used + 8));
        if head != 0 {
            return Err("a sound request comes back under another name");
        }
        match self.kind {
            ENTROPY if !(1..=64).contains(&bytes) => Err("no random bytes"),
            BLOCK if get8(data + 0x800) != 0 => Err("the first sector cannot be read"),
            _ => Ok(()),
        }
    }

    /// The pieces of a sound request, with data from `data` on.
    fn request(&self, data: u64) -> [(u64, u32, u16); 3] {
        match self.kind {
            NETWORK => {
                // To itself: nobody else is to be troubled.
                for n in 0..6 {
                    let byte = mmio_byte(self.base + register::CONFIG + n);
                    put8(data + 12 + n as u64, byte);
                    put8(data + 18 + n as u64, byte);
                }
                put16(data + 24, 0xb588);
                [(data, 12 + 60, 0), (0, 0, 0), (0, 0, 0)]
            }
            BLOCK => {
                put8(data + 0x800, 0xff);
                [
                    (data, 16, 0),
                    (data + 0x400, 512, WRITE),
                    (data + 0x800, 1, WRITE),
                ]
            }
            CONSOLE => {
                put8(data, b' ');
                [(data, 1, 0), (0, 0, 0), (0, 0, 0)]
            }
            _ => [(data, 64, WRITE), (0, 0, 0), (0, 0, 0)],
        }
    }
}

/// A byte of the configuration.
fn mmio_byte(address: usize) -> u8 {
    let value: u32;
    // SAFETY: a device's register, which holds no Rust object.
    unsafe {
        core::arch::asm!("ldrb {0:w}, [{1}]", out(reg) value, in(reg) address, options(nostack))
    };
    value as u8
}

macro_rules! accessors {
    ($($get:ident $put:ident: $kind:ty;)*) => { $(
        pub fn $get(address: u64) -> $kind {
            // SAFETY: callers stay in the arena, which holds no Rust object.
            unsafe { (address as *const $kind).read_volatile() }
        }

        pub fn $put(address: u64, value: $kind) {
            // SAFETY: as above.
            unsafe { (address as *mut $kind).write_volatile(value) }
        }
    )* };
}

accessors! {
    get8 put8: u8;
    get16 put16: u16;
    get32 put32: u32;
    get64 put64: u64;
}

/// Writes a descriptor into a table in the arena.
pub fn put_descriptor(table: u64, index: u64, address: u64, bytes: u32, flags: u16, next: u16) {
    let at = table + 16 * index;
    put64(at, address);
    put32(at + 8, bytes);
    put16(at + 12, flags);
    put16(at + 14, next);
}

/// Zeroes the first bytes of the arena.
fn clear(arena: &Range, bytes: usize) {
    for offset in (0..bytes).step_by(8) {
        put64((arena.start + offset) as u64, 0);
    }
}

/// After all devices have been reset nobody writes to the arena.
pub fn expect_untouched(arena: &Range) {
    for at in (arena.start..arena.end).step_by(8) {
        put64(at as u64, UNTOUCHED);
    }
    timer::delay(WATCH_US);
    let touched = (arena.start..arena.end)
        .step_by(8)
        .find(|&at| get64(at as u64) != UNTOUCHED);
    if let Some(at) = touched {
        report::fail(
            "virtio_attack",
            format_args!("memory is written at {at:#x} after the reset of all devices"),
        );
    }
}
