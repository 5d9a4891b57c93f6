//! The console: a PL011 at the place that the guest machine's contract gives.

use core::fmt::{self, Write};

use spin::Mutex;

use crate::mmio;

/// Base of the PL011 (guest machine contract).
pub const UART: usize = 0x0900_0000;
/// Data register.
pub const DR: usize = 0x00;
/// Flag register.
pub const FR: usize = 0x18;
/// Line control.
pub const LCR_H: usize = 0x2c;
/// Control.
pub const CR: usize = 0x30;
/// Interrupt mask.
pub const IMSC: usize = 0x38;
/// Raw interrupt status.
pub const RIS: usize = 0x3c;
/// Interrupt clear.
pub const ICR: usize = 0x44;
/// Transmit interrupt, in IMSC, RIS and ICR.
pub const TX_INTERRUPT: u32 = 1 << 5;

/// Transmit FIFO full, in FR.
const FR_TXFF: u32 = 1 << 5;
/// Receive FIFO empty, in FR.
const FR_RXFE: u32 = 1 << 4;
/// Looks at the full flag before a byte is written regardless; an emulated FIFO always drains.
const PATIENCE: usize = 100_000;

static LOCK: Mutex<()> = Mutex::new(());

/// Sets the UART up, or again after somebody wrote garbage to it: 8 bits, FIFO, on, no interrupts.
pub fn init() {
    mmio::write32(UART + IMSC, 0);
    mmio::write32(UART + ICR, 0x7ff);
    mmio::write32(UART + LCR_H, 0x70);
    mmio::write32(UART + CR, 0x301);
}

/// Writes one byte, waiting for room.
pub fn put(byte: u8) {
    for _ in 0..PATIENCE {
        if mmio::read32(UART + FR) & FR_TXFF == 0 {
            break;
        }
    }
    mmio::write8(UART + DR, byte);
}

/// A byte that was typed, if there is one.
pub fn get() -> Option<u8> {
    (mmio::read32(UART + FR) & FR_RXFE == 0).then(|| mmio::read32(UART + DR) as u8)
}

/// The UART as a sink for formatted text.
struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                put(b'\r');
            }
            put(byte);
        }
        Ok(())
    }
}

/// Prints one line, whole even when other vCPUs print. Not to be called from an interrupt handler.
pub fn line(text: fmt::Arguments<'_>) {
    let _guard = LOCK.lock();
    // The UART never refuses.
    let _ = Uart.write_fmt(text);
    let _ = Uart.write_str("\n");
}

/// Opens the lock for a vCPU that is about to die and may hold it.
pub fn force_unlock() {
    // SAFETY: the caller never goes back to what it was doing, so a line may at worst be mixed with another.
    unsafe { LOCK.force_unlock() };
}

/// Prints one line on the guest's console.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => { $crate::console::line(format_args!($($argument)*)) };
}
