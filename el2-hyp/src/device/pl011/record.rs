//! The console as bytes: its registers, and what waits to be read.

use super::{INT_ALL, Pl011, RECEIVE_FIFO};
use crate::record::codec::{Decoder, Encoder, Malformed, require};

impl Pl011 {
    /// Writes the device.
    pub fn to_record(&self, to: &mut Encoder<'_>) {
        for register in self.registers() {
            to.u32(register);
        }
        to.bool(self.told);
        to.u16(self.received.len() as u16);
        self.received.iter().for_each(|byte| to.u8(*byte));
    }

    /// The device that [`to_record`](Self::to_record) wrote.
    ///
    /// # Errors
    /// If no device can be so.
    pub fn from_record(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        let mut it = Self::new();
        for (register, implemented) in [
            (&mut it.raw, INT_ALL),
            (&mut it.mask, INT_ALL),
            (&mut it.control, 0xffff),
            (&mut it.line_control, 0xff),
            (&mut it.levels, 0x3f),
            (&mut it.baud_integer, 0xffff),
            (&mut it.baud_fraction, 0x3f),
            (&mut it.low_power, 0xff),
            (&mut it.dma, 7),
        ] {
            *register = from.u32()?;
            require(*register & !implemented == 0, "a register of the PL011")?;
        }
        it.told = from.bool("the line of the PL011")?;
        let waiting = from.u16()?;
        require(usize::from(waiting) <= RECEIVE_FIFO, "the length of a FIFO")?;
        for byte in from.bytes(waiting.into())? {
            // It was looked at that there is room.
            let _ = it.received.push_back(*byte);
        }
        Ok(it)
    }

    fn registers(&self) -> [u32; 9] {
        [
            self.raw,
            self.mask,
            self.control,
            self.line_control,
            self.levels,
            self.baud_integer,
            self.baud_fraction,
            self.low_power,
            self.dma,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::pl011::Sink;
    use proptest::prelude::*;
    use std::vec::Vec;

    struct Line(bool);

    impl Sink for Line {
        fn put(&mut self, _: u8) {}
        fn is_full(&self) -> bool {
            self.0
        }
    }

    fn encode(uart: &Pl011) -> Vec<u8> {
        let mut bytes = vec![0; 2048];
        let mut encoder = Encoder::new(&mut bytes);
        uart.to_record(&mut encoder);
        let length = encoder.finish().unwrap();
        bytes.truncate(length);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Pl011, Malformed> {
        let mut decoder = Decoder::new(bytes);
        let uart = Pl011::from_record(&mut decoder)?;
        decoder.end()?;
        Ok(uart)
    }

    proptest! {
        /// Whatever was done to it, a copy made of its bytes answers every register as it does, and goes on as it does.
        #[test]
        fn a_copy_goes_on_as_it_would(
            before: Vec<(u8, u8, u32)>, after: Vec<(u8, u8, u32)>, typed in prop::collection::vec(any::<u8>(), 0..1100)
        ) {
            let mut uart = Pl011::new();
            let step = |uart: &mut Pl011, (what, offset, value): (u8, u8, u32)| {
                let offset = u64::from(offset) % 20 * 4;
                match what % 4 {
                    0 => uart.write(offset, value, &mut Line(false)),
                    1 => { let _ = uart.receive(value as u8); }
                    2 => { uart.take_line_change(); }
                    _ => { uart.read(offset, &Line(false)); }
                }
            };
            typed.into_iter().for_each(|byte| { let _ = uart.receive(byte); });
            before.into_iter().for_each(|it| step(&mut uart, it));
            let mut copy = decode(&encode(&uart)).unwrap();
            prop_assert_eq!(encode(&copy), encode(&uart));
            for it in after {
                step(&mut uart, it);
                step(&mut copy, it);
                prop_assert_eq!(copy.line(), uart.line());
                prop_assert_eq!(encode(&copy), encode(&uart));
            }
        }

        #[test]
        fn damage_is_refused_or_a_device(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(uart) = decode(&bytes) {
                prop_assert_eq!(encode(&uart), bytes);
            }
        }
    }

    #[test]
    fn it_looks_like_this() {
        let mut uart = Pl011::new();
        uart.receive(b'x').unwrap();
        uart.write(0x038, 0x50, &mut Line(false));
        assert_eq!(uart.take_line_change(), Some(true));
        let expected = [
            &[
                0x40, 0, 0, 0, 0x50, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x12, 0, 0, 0,
            ][..],
            &[0; 16],
            &[1, 1, 0, b'x'],
        ];
        assert_eq!(encode(&uart), expected.concat());
        let mut wrong = encode(&uart);
        wrong[1] = 8;
        assert!(matches!(decode(&wrong), Err(Malformed::Value(_))));
    }
}
