//! The board's console line.

use core::ptr::NonNull;

use arm_pl011_uart::{DataBits, Interrupts, LineConfig, PL011Registers, Parity, StopBits, Uart};
use safe_mmio::UniqueMmioPointer;

use crate::mmio::Mmio;
use crate::tree;

/// UARTCR, of which the driver shows no more than on and off at a given speed.
const CONTROL: usize = 0x030;

/// The line's speed where the device tree names none, in bits per second.
const BAUD: u32 = 115_200;

/// A PL011. Where the tree tells its clock it is set up, 8N1; elsewhere speed and line control stay as the loader left them.
pub struct Console {
    uart: Uart<'static>,
}

impl Console {
    /// The line.
    ///
    /// # Safety
    /// `description` is of a PL011, mapped as device memory, and nobody else drives it.
    pub unsafe fn new(description: &tree::Uart, baud: Option<u32>) -> Option<Self> {
        let registers = NonNull::new(description.region.base() as *mut PL011Registers)?;
        // A loader that said nothing may have left it off: UARTCR.UARTEN, TXE, RXE.
        // SAFETY: the caller's promise.
        let block = unsafe { Mmio::new(description.region) };
        block.write(CONTROL, block.read(CONTROL) | 1 << 0 | 1 << 8 | 1 << 9);
        // SAFETY: the caller's promise.
        let mut uart = Uart::new(unsafe { UniqueMmioPointer::new(registers) });
        if let Some(clock) = description.clock {
            let line = LineConfig {
                data_bits: DataBits::Bits8,
                parity: Parity::None,
                stop_bits: StopBits::One,
            };
            // A speed that the clock cannot make leaves the line as it is.
            let _ = uart.enable(line, baud.unwrap_or(BAUD), clock);
        }
        uart.set_interrupt_masks(Interrupts::RXI | Interrupts::RTI);
        Some(Self { uart })
    }

    /// A byte that came in. Bytes that came in damaged are dropped.
    pub fn receive(&mut self) -> Option<u8> {
        loop {
            match self.uart.read_word() {
                Ok(byte) => return byte,
                Err(_) => continue,
            }
        }
    }

    /// Sends a byte if the line takes one now.
    #[inline]
    pub fn try_send(&mut self, byte: u8) -> bool {
        if self.uart.is_tx_fifo_full() {
            return false;
        }
        self.uart.write_word(byte);
        true
    }

    /// Whether the line's interrupt is to come also when it takes bytes again.
    pub fn notify_room(&mut self, notify: bool) {
        let always = Interrupts::RXI | Interrupts::RTI;
        self.uart.set_interrupt_masks(if notify {
            always | Interrupts::TXI
        } else {
            always
        });
    }

    /// Ends the line's interrupt.
    pub fn clear_interrupt(&mut self) {
        self.uart
            .clear_interrupts(Interrupts::RXI | Interrupts::RTI | Interrupts::TXI);
    }
}
