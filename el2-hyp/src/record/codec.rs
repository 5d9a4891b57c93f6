//! Numbers as bytes, little-endian, one after another, with nothing between.
//!
//! Both sides are total. An [`Encoder`] that has no room writes nothing more and says so at the end; a [`Decoder`] says what is wrong with the
//! bytes at the first thing that is.

use core::fmt;

/// What is wrong with a section's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They end too soon.
    Short,
    /// More follow than belong there.
    Long,
    /// What is named here has a value that no guest can have.
    Value(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("it is too short"),
            Self::Long => f.write_str("it is too long"),
            Self::Value(what) => write!(f, "{what} cannot have that value"),
        }
    }
}

/// The room does not suffice for a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// Writes into a buffer of the caller's.
pub struct Encoder<'a> {
    buffer: &'a mut [u8],
    at: usize,
    full: bool,
}

macro_rules! numbers {
    ($($name:ident)*) => {
        impl Encoder<'_> { $(
            #[doc = concat!("A `", stringify!($name), "`.")]
            pub fn $name(&mut self, value: $name) {
                self.bytes(&value.to_le_bytes());
            }
        )* }

        impl Decoder<'_> { $(
            #[doc = concat!("A `", stringify!($name), "`.")]
            pub fn $name(&mut self) -> Result<$name, Malformed> {
                self.array().map($name::from_le_bytes)
            }
        )* }
    };
}

numbers! { u8 u16 u32 u64 u128 }

impl<'a> Encoder<'a> {
    /// An encoder that fills `buffer` from its beginning.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self {
            buffer,
            at: 0,
            full: false,
        }
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        match self.room(bytes.len()) {
            Some(room) => crate::memory::copy::copy_slice(room, bytes),
            None => self.full = true,
        }
    }

    /// The next `length` bytes, for the caller to fill; `None` if there is no room for them.
    pub fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        if self.full || length > self.buffer.len() - self.at {
            return None;
        }
        let at = self.at;
        self.at += length;
        Some(&mut self.buffer[at..self.at])
    }

    /// Yes or no.
    pub fn bool(&mut self, value: bool) {
        self.u8(value.into());
    }

    /// Bytes that there is room for.
    pub fn left(&self) -> usize {
        self.buffer.len() - self.at
    }

    /// The room that is left: what is put there counts once it is [`advance`](Self::advance)d over.
    pub fn tail(&mut self) -> &mut [u8] {
        &mut self.buffer[self.at..]
    }

    /// The next `length` bytes are there already.
    pub fn advance(&mut self, length: usize) {
        if self.room(length).is_none() {
            self.full = true;
        }
    }

    /// There was no room for something.
    pub fn overflow(&mut self) {
        self.full = true;
    }

    /// How much was written.
    ///
    /// # Errors
    /// If it was not all.
    pub fn finish(self) -> Result<usize, NoRoom> {
        if self.full { Err(NoRoom) } else { Ok(self.at) }
    }
}

/// Reads what an encoder wrote.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// A decoder of `bytes`, from their beginning.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// Yes or no; `what` is to be named if it is neither.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Value(what)),
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Long)
        }
    }
}

/// `Ok` if `condition` holds; else `what` has a value that no guest can have.
pub fn require(condition: bool, what: &'static str) -> Result<(), Malformed> {
    if condition {
        Ok(())
    } else {
        Err(Malformed::Value(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut buffer = [0; 64];
        let mut encoder = Encoder::new(&mut buffer);
        encoder.u8(1);
        encoder.u16(0x0203);
        encoder.u32(0x0405_0607);
        encoder.u64(8);
        encoder.u128(9);
        encoder.bool(true);
        let length = encoder.finish().unwrap();
        assert_eq!(length, 32);
        assert_eq!(buffer[..7], [1, 3, 2, 7, 6, 5, 4]);
        let mut decoder = Decoder::new(&buffer[..length]);
        assert_eq!(decoder.u8(), Ok(1));
        assert_eq!(decoder.u16(), Ok(0x0203));
        assert_eq!(decoder.u32(), Ok(0x0405_0607));
        assert_eq!(decoder.u64(), Ok(8));
        assert_eq!(decoder.end(), Err(Malformed::Long));
        assert_eq!(decoder.u128(), Ok(9));
        assert_eq!(decoder.bool("it"), Ok(true));
        assert_eq!(decoder.end(), Ok(()));
        assert_eq!(decoder.u8(), Err(Malformed::Short));
        assert_eq!(Decoder::new(&[2]).bool("it"), Err(Malformed::Value("it")));
    }

    #[test]
    fn a_full_buffer_is_told_and_what_fits_after_it_is_not_written() {
        let mut buffer = [0xee; 3];
        let mut encoder = Encoder::new(&mut buffer);
        encoder.u16(1);
        encoder.u16(2);
        encoder.u8(3);
        assert_eq!(encoder.finish(), Err(NoRoom));
        assert_eq!(buffer, [1, 0, 0xee]);
    }
}
