//! The guest's console: an Arm PL011 (DDI 0183, revision r1p5), as far as its drivers use one.
//!
//! The FIFOs are always on. What is sent leaves at once to a [`Sink`]; a sink that is full shows as a full transmit FIFO, as on a slow
//! line. Modem lines, DMA and the line's speed are registers without effect.

mod record;

use heapless::Deque;

/// Bytes that wait for the guest to read them: more than the 32 of the device, so that pasted text arrives whole.
pub const RECEIVE_FIFO: usize = 1024;
/// Bytes from which the receive interrupt comes, not only the timeout.
const RECEIVE_LEVEL: usize = 16;

/// Where the guest's output goes.
pub trait Sink {
    /// Takes a byte. Called also when [`is_full`](Self::is_full) said so, by a guest that does not look: it may be dropped then.
    fn put(&mut self, byte: u8);
    /// Whether the guest should wait.
    fn is_full(&self) -> bool;
}

mod offset {
    pub const DR: u64 = 0x000;
    pub const RSR: u64 = 0x004;
    pub const FR: u64 = 0x018;
    pub const ILPR: u64 = 0x020;
    pub const IBRD: u64 = 0x024;
    pub const FBRD: u64 = 0x028;
    pub const LCR_H: u64 = 0x02c;
    pub const CR: u64 = 0x030;
    pub const IFLS: u64 = 0x034;
    pub const IMSC: u64 = 0x038;
    pub const RIS: u64 = 0x03c;
    pub const MIS: u64 = 0x040;
    pub const ICR: u64 = 0x044;
    pub const DMACR: u64 = 0x048;
    pub const ID: u64 = 0xfe0;
}

/// UARTFR: receive FIFO empty, transmit FIFO full, receive FIFO full, transmit FIFO empty.
const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;
const FR_RXFF: u32 = 1 << 6;
const FR_TXFE: u32 = 1 << 7;

/// UARTRIS: receive, transmit, receive timeout.
const INT_RX: u32 = 1 << 4;
const INT_TX: u32 = 1 << 5;
const INT_RT: u32 = 1 << 6;
const INT_ALL: u32 = 0x7ff;

/// UARTPeriphID0 to 3, UARTPCellID0 to 3: PL011 r1p5.
const IDENTIFICATION: [u8; 8] = [0x11, 0x10, 0x34, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// UARTCR after reset: transmit and receive enabled.
const CR_RESET: u32 = 0x300;
/// UARTIFLS after reset: both FIFOs at half.
const IFLS_RESET: u32 = 0x12;

/// The device.
pub struct Pl011 {
    received: Deque<u8, RECEIVE_FIFO>,
    raw: u32,
    mask: u32,
    control: u32,
    line_control: u32,
    levels: u32,
    baud_integer: u32,
    baud_fraction: u32,
    low_power: u32,
    dma: u32,
    /// The line as it was last told.
    told: bool,
}

impl Default for Pl011 {
    fn default() -> Self {
        Self::new()
    }
}

impl Pl011 {
    /// The device after reset.
    pub const fn new() -> Self {
        Self {
            received: Deque::new(),
            raw: 0,
            mask: 0,
            control: CR_RESET,
            line_control: 0,
            levels: IFLS_RESET,
            baud_integer: 0,
            baud_fraction: 0,
            low_power: 0,
            dma: 0,
            told: false,
        }
    }

    /// The state of the interrupt line.
    pub fn line(&self) -> bool {
        self.raw & self.mask != 0
    }

    /// The new state of the line, if it has changed since this was last asked.
    #[inline]
    pub fn take_line_change(&mut self) -> Option<bool> {
        let line = self.line();
        (line != self.told).then(|| {
            self.told = line;
            line
        })
    }

    /// A byte from the other end; handed back when the FIFO is full.
    pub fn receive(&mut self, byte: u8) -> Result<(), u8> {
        self.received.push_back(byte)?;
        // The timeout interrupt stands for the time that would pass before the driver heard of a single byte.
        self.raw |= INT_RT;
        if self.received.len() >= RECEIVE_LEVEL {
            self.raw |= INT_RX;
        }
        Ok(())
    }

    /// A read of the register at `offset`, of any width up to 32 bits.
    #[inline]
    pub fn read(&mut self, offset: u64, sink: &impl Sink) -> u32 {
        match offset {
            offset::FR => self.flags(sink),
            offset::DR => self.take(),
            offset::RSR => 0,
            offset::ILPR => self.low_power,
            offset::IBRD => self.baud_integer,
            offset::FBRD => self.baud_fraction,
            offset::LCR_H => self.line_control,
            offset::CR => self.control,
            offset::IFLS => self.levels,
            offset::IMSC => self.mask,
            offset::RIS => self.raw,
            offset::MIS => self.raw & self.mask,
            offset::DMACR => self.dma,
            offset::ID..=0xffc if offset.is_multiple_of(4) => {
                u32::from(IDENTIFICATION[((offset - offset::ID) / 4) as usize])
            }
            _ => 0,
        }
    }

    /// A write of the register at `offset`.
    #[inline]
    pub fn write(&mut self, offset: u64, value: u32, sink: &mut impl Sink) {
        match offset {
            offset::DR => {
                sink.put(value as u8);
                // The FIFO has room again as soon as the byte is gone.
                self.raw |= INT_TX;
            }
            offset::ILPR => self.low_power = value & 0xff,
            offset::IBRD => self.baud_integer = value & 0xffff,
            offset::FBRD => self.baud_fraction = value & 0x3f,
            offset::LCR_H => self.line_control = value & 0xff,
            offset::CR => self.control = value & 0xffff,
            offset::IFLS => self.levels = value & 0x3f,
            offset::IMSC => self.mask = value & INT_ALL,
            offset::ICR => self.raw &= !value,
            offset::DMACR => self.dma = value & 7,
            _ => {}
        }
    }

    fn flags(&self, sink: &impl Sink) -> u32 {
        let receive = if self.received.is_empty() {
            FR_RXFE
        } else if self.received.is_full() {
            FR_RXFF
        } else {
            0
        };
        receive | if sink.is_full() { FR_TXFF } else { FR_TXFE }
    }

    fn take(&mut self) -> u32 {
        let byte = self.received.pop_front().unwrap_or(0);
        if self.received.len() < RECEIVE_LEVEL {
            self.raw &= !INT_RX;
        }
        if self.received.is_empty() {
            self.raw &= !INT_RT;
        }
        u32::from(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[derive(Default)]
    struct Line(Vec<u8>, bool);

    impl Sink for Line {
        fn put(&mut self, byte: u8) {
            self.0.push(byte);
        }
        fn is_full(&self) -> bool {
            self.1
        }
    }

    #[test]
    fn bytes_go_out() {
        let (mut uart, mut line) = (Pl011::new(), Line::default());
        assert_eq!(uart.read(offset::FR, &line), FR_RXFE | FR_TXFE);
        uart.write(offset::DR, 0x1_41, &mut line);
        assert_eq!(line.0, b"A");
        line.1 = true;
        assert_eq!(uart.read(offset::FR, &line), FR_RXFE | FR_TXFF);
    }

    #[test]
    fn bytes_come_in_with_an_interrupt_while_any_waits() {
        let (mut uart, mut line) = (Pl011::new(), Line::default());
        uart.write(offset::IMSC, INT_RX | INT_RT, &mut line);
        assert!(!uart.line());
        uart.receive(b'x').unwrap();
        uart.receive(b'y').unwrap();
        assert!(uart.line());
        assert_eq!(uart.read(offset::DR, &line), u32::from(b'x'));
        assert!(uart.line());
        assert_eq!(uart.read(offset::DR, &line), u32::from(b'y'));
        assert!(!uart.line());
    }

    #[test]
    fn a_full_fifo_hands_the_byte_back() {
        let mut uart = Pl011::new();
        for n in (0..RECEIVE_FIFO).map(|n| n as u8) {
            uart.receive(n).unwrap();
        }
        assert_eq!(uart.receive(99), Err(99));
        assert_eq!(uart.read(offset::FR, &Line::default()) & FR_RXFF, FR_RXFF);
    }

    #[test]
    fn the_transmit_interrupt_follows_its_mask_and_clear() {
        let (mut uart, mut line) = (Pl011::new(), Line::default());
        uart.write(offset::DR, 1, &mut line);
        assert!(!uart.line());
        uart.write(offset::IMSC, INT_TX, &mut line);
        assert!(uart.line());
        assert_eq!(uart.read(offset::MIS, &line), INT_TX);
        uart.write(offset::ICR, INT_TX, &mut line);
        assert!(!uart.line());
    }

    #[test]
    fn it_says_what_it_is() {
        let mut uart = Pl011::new();
        let id: Vec<u32> = (0..8)
            .map(|n| uart.read(offset::ID + 4 * n, &Line::default()))
            .collect();
        assert_eq!(id, [0x11, 0x10, 0x34, 0, 0x0d, 0xf0, 0x05, 0xb1]);
    }

    proptest! {
        #[test]
        fn no_access_harms(accesses: Vec<(bool, u64, u32)>) {
            let (mut uart, mut line) = (Pl011::new(), Line::default());
            for (write, offset, value) in accesses {
                let offset = offset % 0x1000;
                if write { uart.write(offset, value, &mut line) } else { uart.read(offset, &line); }
            }
        }
    }
}
