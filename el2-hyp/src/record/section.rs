//! A record's sections: typed, numbered, with a length and a checksum.
//!
//! ```text
//!  0    2     4         8       12        16
//!  ├────┼─────┼─────────┼────────┼─────────┼──── … ────┤
//!  │kind│index│ number  │ length │ CRC-32C │  payload  │
//!  └────┴─────┴─────────┴────────┴─────────┴──── … ────┘
//! ```
//! `index` says of which vCPU or slot the section speaks, and is zero otherwise. Sections are numbered from zero on, so that one that is lost,
//! repeated or out of place is found. The checksum is over all that is before it and the payload.

use core::fmt;

use super::checksum::checksum;
use super::codec::{Decoder, Encoder, NoRoom};

/// Bytes before a payload.
pub const HEAD_BYTES: usize = 16;
/// Bytes of a section, at most, its head among them: what a reader needs room for.
pub const MAX_SECTION: usize = 64 << 10;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a section holds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum Kind {
            $($(#[$doc])* $name = $number,)*
        }

        impl Kind {
            /// The kind with that number.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// What guest it is, and what it needs of a board. The first section, once.
    Header = 1,
    /// Pages of RAM.
    Pages = 2,
    /// Blocks of the ephemeral disk in a slot.
    Blocks = 3,
    /// A vCPU.
    Vcpu = 4,
    /// The interrupt controller.
    Interrupts = 5,
    /// The PL011.
    Uart = 6,
    /// The device in a slot.
    Device = 7,
    /// The virtual counter.
    Time = 8,
    /// What the guest's console has shown.
    Backlog = 9,
    /// Nothing follows. The last section, once.
    End = 10,
    /// The watchdog.
    Watchdog = 11,
    /// The images that it was started from.
    Images = 12,
}

/// What is wrong with a section, before anybody has looked what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A kind that this version does not know.
    Kind(u16),
    /// It is longer than a section may be.
    Length(u32),
    /// It has this number where another was due.
    Number(u32),
    /// The checksum is not that of the bytes.
    Checksum,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "its kind {kind} is not known"),
            Self::Length(length) => write!(f, "{length} bytes are too many"),
            Self::Number(number) => write!(f, "its number {number} is not the next"),
            Self::Checksum => f.write_str("its checksum is wrong"),
        }
    }
}

/// A section that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Of which vCPU or slot.
    pub index: u16,
    /// What is in it.
    pub payload: &'a [u8],
}

impl<'a> Section<'a> {
    /// The section number `number` at the beginning of `bytes`; `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn read(bytes: &'a [u8], number: u32) -> Result<Option<Self>, Broken> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let mut decoder = Decoder::new(head);
        let fields = (|| {
            let (kind, index) = (decoder.u16()?, decoder.u16()?);
            Ok::<_, super::Malformed>((kind, index, decoder.u32()?, decoder.u32()?, decoder.u32()?))
        })();
        // The head holds them all.
        let Ok((kind, index, own, length, crc)) = fields else {
            return Ok(None);
        };
        if length as usize > MAX_SECTION - HEAD_BYTES {
            return Err(Broken::Length(length));
        }
        let Some(payload) = rest.get(..length as usize) else {
            return Ok(None);
        };
        if checksum([&head[..HEAD_BYTES - 4], payload]) != crc {
            return Err(Broken::Checksum);
        }
        let kind = Kind::from_number(kind).ok_or(Broken::Kind(kind))?;
        if own != number {
            return Err(Broken::Number(own));
        }
        Ok(Some(Self {
            kind,
            index,
            payload,
        }))
    }

    /// Bytes of all of it.
    pub fn length(&self) -> usize {
        HEAD_BYTES + self.payload.len()
    }
}

/// Writes sections, and counts them.
#[derive(Debug, Default)]
pub struct Writer {
    number: u32,
}

impl Writer {
    /// The writer of a new record.
    pub const fn new() -> Self {
        Self { number: 0 }
    }

    /// Writes the next section to the beginning of `buffer`, of which up to [`MAX_SECTION`] are used; its length. `payload` fills it.
    ///
    /// # Errors
    /// If it does not fit. Nothing was written then, as far as the record goes.
    pub fn section(
        &mut self,
        buffer: &mut [u8],
        kind: Kind,
        index: u16,
        payload: impl FnOnce(&mut Encoder<'_>),
    ) -> Result<usize, NoRoom> {
        let room = buffer.len().min(MAX_SECTION);
        let (head, rest) = buffer[..room]
            .split_first_chunk_mut::<HEAD_BYTES>()
            .ok_or(NoRoom)?;
        let mut encoder = Encoder::new(rest);
        payload(&mut encoder);
        let length = encoder.finish()?;
        let mut encoder = Encoder::new(head);
        encoder.u16(kind as u16);
        encoder.u16(index);
        encoder.u32(self.number);
        encoder.u32(length as u32);
        let crc = checksum([&head[..HEAD_BYTES - 4], &rest[..length]]);
        head[HEAD_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        self.number = self.number.wrapping_add(1);
        Ok(HEAD_BYTES + length)
    }

    /// Writes the last section.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn end(&mut self, buffer: &mut [u8]) -> Result<usize, NoRoom> {
        let count = self.number;
        self.section(buffer, Kind::End, 0, |to| to.u32(count))
    }

    /// The next section has this number: what was written since is not sent.
    pub(super) fn resume_at(&mut self, number: u32) {
        self.number = number;
    }

    /// How many there were.
    pub fn count(&self) -> u32 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> ([u8; 64], usize) {
        let mut buffer = [0; 64];
        let mut writer = Writer::new();
        writer
            .section(&mut buffer, Kind::Header, 0, |to| to.u8(1))
            .unwrap();
        let length = writer
            .section(&mut buffer, Kind::Vcpu, 3, |to| to.u32(0x0403_0201))
            .unwrap();
        assert_eq!(writer.count(), 2);
        (buffer, length)
    }

    #[test]
    fn a_section_looks_like_this() {
        let (buffer, length) = written();
        assert_eq!(length, 20);
        assert_eq!(
            buffer[..length],
            [
                4, 0, 3, 0, 1, 0, 0, 0, 4, 0, 0, 0, 165, 88, 70, 9, 1, 2, 3, 4
            ]
        );
        let section = Section::read(&buffer, 1).unwrap().unwrap();
        assert_eq!((section.kind, section.index), (Kind::Vcpu, 3));
        assert_eq!(section.payload, [1, 2, 3, 4]);
        assert_eq!(section.length(), length);
    }

    #[test]
    fn less_than_a_section_asks_for_more() {
        let (buffer, length) = written();
        for some in 0..length {
            assert_eq!(Section::read(&buffer[..some], 1), Ok(None));
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (buffer, length) = written();
        for bit in 0..8 * length {
            let mut damaged = buffer;
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A length that has grown asks for more, or is too much.
            match Section::read(&damaged[..length], 1) {
                Ok(None) => assert!((64..96).contains(&bit)),
                Err(Broken::Checksum | Broken::Length(_)) => {}
                other => panic!("bit {bit}: {other:?}"),
            }
        }
        assert_eq!(Section::read(&buffer, 2), Err(Broken::Number(1)));
    }

    #[test]
    fn what_does_not_fit_does_not_count() {
        let mut writer = Writer::new();
        for room in [0, 15, 16, 19] {
            let mut buffer = [0; 64];
            let written = writer.section(&mut buffer[..room], Kind::Time, 0, |to| to.u32(1));
            assert_eq!(written, Err(NoRoom));
        }
        assert_eq!(writer.count(), 0);
    }
}
