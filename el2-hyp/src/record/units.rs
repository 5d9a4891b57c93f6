//! Pages of RAM and blocks of a disk: units of 4 KiB, as few bytes as pays.
//!
//! A unit of zeros costs nothing but its number, and a run of them no more than one. Another may be compressed (LZ4, each unit by itself, so that a lost or
//! refused one is no other's loss); it is where that saves an eighth or more, else the receiver would unpack for nothing. docs/record.md has what was
//! measured.
//!
//! ```text
//! entry:  number (4)  form (1)   0: zeros    count (2)
//!                                1: as it is 4096 bytes
//!                                2: packed   length (2), so many bytes
//! ```
//! Numbers ascend, and no two entries speak of one unit.

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into};

use crate::memory::copy::is_slice_zero;

use super::codec::{Decoder, Encoder, Malformed, require};

/// Bytes of a unit.
pub const UNIT_BYTES: usize = 4096;
/// The bytes of a unit.
pub type Unit = [u8; UNIT_BYTES];

/// A packed unit is at most this long; one that packs worse is sent as it is.
pub const MAX_PACKED: usize = UNIT_BYTES - UNIT_BYTES / 8;
/// Bytes that LZ4 may need for its output before it knows how long that is: more than `16 + 4 + 1.1 * UNIT_BYTES`.
const SCRATCH_BYTES: usize = UNIT_BYTES + UNIT_BYTES / 8 + 64;
/// Bytes of an entry, at most.
const MAX_ENTRY: usize = 5 + UNIT_BYTES;
/// Bytes of an entry of zeros.
const ZEROS_ENTRY: usize = 7;

mod form {
    pub const ZEROS: u8 = 0;
    pub const PLAIN: u8 = 1;
    pub const PACKED: u8 = 2;
}

/// Packs units. It is 13 KiB: made once and used again.
pub struct Packer {
    table: CompressTable,
    scratch: [u8; SCRATCH_BYTES],
}

impl Default for Packer {
    fn default() -> Self {
        Self::new()
    }
}

impl Packer {
    /// A packer.
    pub const fn new() -> Self {
        Self {
            table: CompressTable::small(),
            scratch: [0; SCRATCH_BYTES],
        }
    }

    /// `unit` packed, if that pays.
    fn pack(&mut self, unit: &Unit) -> Option<&[u8]> {
        let length = compress_into_with_table(unit, &mut self.scratch, &mut self.table).ok()?;
        (length <= MAX_PACKED).then(|| &self.scratch[..length])
    }
}

/// What a batch had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Units of zeros.
    pub zeros: u32,
    /// Units that were sent as they are.
    pub plain: u32,
    /// Units that were packed.
    pub packed: u32,
}

/// Fills a section with units.
pub struct Batch<'a, 'b> {
    to: &'a mut Encoder<'b>,
    packer: Option<&'a mut Packer>,
    /// A run of zeros that is not written yet: its first unit, and how many.
    run: Option<(u32, u16)>,
    tally: Tally,
}

impl<'a, 'b> Batch<'a, 'b> {
    /// A batch that goes to `to`. Units are packed if there is a packer.
    pub fn new(to: &'a mut Encoder<'b>, packer: Option<&'a mut Packer>) -> Self {
        Self {
            to,
            packer,
            run: None,
            tally: Tally::default(),
        }
    }

    /// Whether there is room for another unit, whatever it holds.
    pub fn has_room(&self) -> bool {
        self.to.left() >= ZEROS_ENTRY + MAX_ENTRY
    }

    /// There is no room for even one.
    pub(super) fn overflow(&mut self) {
        self.to.overflow();
    }

    /// Adds unit `number`, higher than all before it, which `read` copies. [`has_room`](Self::has_room) was asked.
    pub fn put(&mut self, number: u32, read: impl FnOnce(&mut Unit)) {
        // Read where it would lie if it stays as it is: behind a run that is to be written, and its own number and form.
        let before = if self.run.is_some() { ZEROS_ENTRY } else { 0 } + 5;
        let place = self.to.tail().get_mut(before..before + UNIT_BYTES);
        let Some(unit) = place.and_then(|place| place.as_mut_array::<UNIT_BYTES>()) else {
            self.to.overflow();
            return;
        };
        read(unit);
        if is_slice_zero(unit) {
            return self.put_zero(number);
        }
        let packed = match &mut self.packer {
            Some(packer) => packer.pack(unit),
            None => None,
        };
        if let Some((first, count)) = self.run.take() {
            write_run(self.to, first, count);
        }
        self.to.u32(number);
        match packed {
            Some(packed) => {
                self.tally.packed += 1;
                self.to.u8(form::PACKED);
                self.to.u16(packed.len() as u16);
                self.to.bytes(packed);
            }
            None => {
                self.tally.plain += 1;
                self.to.u8(form::PLAIN);
                self.to.advance(UNIT_BYTES);
            }
        }
    }

    /// Adds units `first` to `first + count - 1`, of zeros.
    pub fn put_zeros(&mut self, first: u32, count: u32) {
        for number in first..first.saturating_add(count) {
            self.put_zero(number);
        }
    }

    fn put_zero(&mut self, number: u32) {
        self.tally.zeros += 1;
        match &mut self.run {
            Some((first, count)) if number == *first + u32::from(*count) && *count < u16::MAX => {
                *count += 1;
            }
            run => {
                if let Some((first, count)) = run.replace((number, 1)) {
                    write_run(self.to, first, count);
                }
            }
        }
    }

    /// Ends the batch; what it had.
    pub fn finish(mut self) -> Tally {
        if let Some((first, count)) = self.run.take() {
            write_run(self.to, first, count);
        }
        self.tally
    }
}

fn write_run(to: &mut Encoder<'_>, first: u32, count: u16) {
    to.u32(first);
    to.u8(form::ZEROS);
    to.u16(count);
}

/// What a unit holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// This many units from the number on are zeros.
    Zeros(u16),
    /// These bytes.
    Plain(&'a Unit),
    /// Bytes that [`unpack`](Self::unpack) makes a unit of.
    Packed(&'a [u8]),
}

impl Content<'_> {
    /// The bytes of the unit, in `scratch` if they have to be made.
    ///
    /// # Errors
    /// If the packed bytes are not those of a unit.
    pub fn unpack<'s>(&'s self, scratch: &'s mut Unit) -> Result<&'s Unit, Malformed> {
        match self {
            Self::Plain(unit) => Ok(unit),
            Self::Zeros(_) => {
                scratch.fill(0);
                Ok(scratch)
            }
            Self::Packed(packed) => match decompress_into(packed, scratch) {
                Ok(UNIT_BYTES) => Ok(scratch),
                _ => Err(Malformed::Value("a packed unit")),
            },
        }
    }
}

/// The units of a section, of which all but the packed bytes were looked at.
#[derive(Clone, Debug)]
pub struct Units<'a>(Decoder<'a>);

impl<'a> Units<'a> {
    /// The units in `payload`, all below `limit`.
    ///
    /// # Errors
    /// If they do not ascend, reach beyond that, or are of no known form.
    pub fn read(payload: &'a [u8], limit: u32) -> Result<Self, Malformed> {
        let units = Self(Decoder::new(payload));
        let mut rest = units.0.clone();
        let mut next = 0_u64;
        while !rest.is_empty() {
            let (number, content) = entry(&mut rest)?;
            require(u64::from(number) >= next, "the order of units")?;
            let count = match content {
                Content::Zeros(count) => count,
                _ => 1,
            };
            require(count > 0, "a run of zeros")?;
            next = u64::from(number) + u64::from(count);
            require(next <= u64::from(limit), "the number of a unit")?;
        }
        Ok(units)
    }
}

impl<'a> Iterator for Units<'a> {
    type Item = (u32, Content<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        // All of it was looked at: an error comes only at the end.
        entry(&mut self.0).ok()
    }
}

fn entry<'a>(from: &mut Decoder<'a>) -> Result<(u32, Content<'a>), Malformed> {
    let number = from.u32()?;
    let content = match from.u8()? {
        form::ZEROS => Content::Zeros(from.u16()?),
        form::PLAIN => {
            let bytes = from.bytes(UNIT_BYTES)?;
            Content::Plain(bytes.as_array().ok_or(Malformed::Short)?)
        }
        form::PACKED => {
            let length = usize::from(from.u16()?);
            require(length <= MAX_PACKED, "the length of a packed unit")?;
            Content::Packed(from.bytes(length)?)
        }
        _ => return Err(Malformed::Value("the form of a unit")),
    };
    Ok((number, content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// A unit that a seed stands for: zeros, text that packs, or bytes that do not.
    fn unit(kind: u8, seed: u32) -> Unit {
        let mut state = seed | 1;
        let mut unit = [0; UNIT_BYTES];
        for (n, byte) in unit.iter_mut().enumerate() {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            *byte = match kind % 3 {
                0 => 0,
                1 => (n / 64) as u8 + 1,
                _ => state as u8,
            };
        }
        unit
    }

    fn write(units: &[(u32, Unit)], packs: bool) -> (Vec<u8>, Tally) {
        let mut buffer = vec![0; 1 << 20];
        let mut packer = Packer::new();
        let mut encoder = Encoder::new(&mut buffer);
        let mut batch = Batch::new(&mut encoder, packs.then_some(&mut packer));
        for (number, unit) in units {
            assert!(batch.has_room());
            batch.put(*number, |to| *to = *unit);
        }
        let tally = batch.finish();
        let length = encoder.finish().unwrap();
        buffer.truncate(length);
        (buffer, tally)
    }

    fn read(bytes: &[u8], limit: u32) -> Vec<(u32, Unit)> {
        let mut found = Vec::new();
        for (number, content) in Units::read(bytes, limit).unwrap() {
            let mut scratch = [0xee; UNIT_BYTES];
            let unit = *content.unpack(&mut scratch).unwrap();
            let count = match content {
                Content::Zeros(count) => count.into(),
                _ => 1,
            };
            found.extend((number..number + count).map(|number| (number, unit)));
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn units_come_back(kinds in prop::collection::btree_map(0..500_u32, (0..3_u8, any::<u32>()), 0..60), packs: bool) {
            let units: Vec<_> = kinds.iter().map(|(n, (kind, seed))| (*n, unit(*kind, *seed))).collect();
            let (bytes, tally) = write(&units, packs);
            prop_assert_eq!(tally.zeros + tally.plain + tally.packed, units.len() as u32);
            prop_assert_eq!(tally.packed > 0, packs && kinds.values().any(|(kind, _)| *kind == 1));
            prop_assert!(read(&bytes, 500) == units);
            if let Some((last, _)) = units.last() {
                prop_assert!(Units::read(&bytes, *last).is_err());
            }
        }

        #[test]
        fn damage_is_an_error_or_units(mut bytes in prop::collection::vec(any::<u8>(), 0..64), at: prop::sample::Index) {
            let (written, _) = write(&[(1, unit(1, 1)), (2, unit(0, 0)), (9, unit(1, 2))], true);
            bytes.splice(0..0, written[..at.index(written.len())].iter().copied());
            if let Ok(units) = Units::read(&bytes, 100) {
                for (_, content) in units {
                    let _ = content.unpack(&mut [0; UNIT_BYTES]);
                }
            }
        }
    }

    #[test]
    fn a_run_of_zeros_is_seven_bytes() {
        let units: Vec<_> = (5..5000).map(|n| (n, unit(0, 0))).collect();
        let (bytes, tally) = write(&units, true);
        assert_eq!(tally.zeros, 4995);
        assert_eq!(bytes, [5, 0, 0, 0, 0, 0x83, 0x13]);
        let long: Vec<_> = (0..70_000).map(|n| (n, unit(0, 0))).collect();
        assert_eq!(write(&long, false).0.len(), 14);
    }

    #[test]
    fn a_packed_unit_looks_like_this() {
        let mut sparse = [0; UNIT_BYTES];
        sparse[0] = 7;
        let (bytes, _) = write(&[(3, sparse)], true);
        assert_eq!(bytes[..7], [3, 0, 0, 0, 2, bytes.len() as u8 - 7, 0]);
        assert!(bytes.len() < 40);
        assert_eq!(read(&bytes, 4), [(3, sparse)]);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let zeros = |first: u8, count: u8| [first, 0, 0, 0, 0, count, 0];
        for (bytes, what) in [
            ([zeros(1, 2), zeros(2, 1)].concat(), "the order of units"),
            (zeros(1, 0).to_vec(), "a run of zeros"),
            (zeros(9, 2).to_vec(), "the number of a unit"),
            ([9, 0, 0, 0, 3].to_vec(), "the form of a unit"),
            (
                [9, 0, 0, 0, 2, 1, 14].to_vec(),
                "the length of a packed unit",
            ),
        ] {
            let read = Units::read(&bytes, 10).map(|_| ());
            assert_eq!(read, Err(Malformed::Value(what)));
        }
        assert!(Units::read(&[9, 0, 0, 0, 1, 1], 10).is_err());
        let short = Content::Packed(&[0x10, 1]);
        assert!(short.unpack(&mut [0; UNIT_BYTES]).is_err());
    }
}
