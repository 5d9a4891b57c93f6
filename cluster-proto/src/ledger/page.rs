//! The ledger in pieces: for snapshots, journals and an operator's view. A cursor names an item; a page is as many items from
//! a cursor on as fit. Reading builds the same ledger again.

use super::Ledger;
use crate::limits::PAYLOAD;
use crate::wire::codec::{Full, Malformed, Reader, Wire, Writer};

/// Where in the ledger: `section` then `item`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// 0 head, 1 boards, 2 guests, 3 volumes, 4 images, 5 events, 6 answers.
    pub section: u8,
    /// The item's place in it.
    pub item: u16,
}

impl Cursor {
    /// The first item.
    pub const START: Self = Self {
        section: 0,
        item: 0,
    };
    /// Behind the last.
    pub const END: Self = Self {
        section: SECTIONS,
        item: 0,
    };
}

const SECTIONS: u8 = 7;

impl Wire for Cursor {
    fn put(&self, to: &mut Writer<'_>) -> Result<(), Full> {
        self.section.put(to)?;
        self.item.put(to)
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let cursor = Self {
            section: Wire::get(from)?,
            item: Wire::get(from)?,
        };
        if cursor.section > SECTIONS {
            Err(Malformed::Range)
        } else {
            Ok(cursor)
        }
    }
}

impl<const B: usize, const G: usize, const D: usize> Ledger<B, G, D> {
    fn items(&self, section: u8) -> usize {
        match section {
            0 => 1,
            1 => B,
            2 => G,
            3 => D,
            4 => self.images.len(),
            5 => self.events.len(),
            6 => self.answers.len(),
            _ => 0,
        }
    }

    fn put_item(&self, section: u8, item: usize, to: &mut Writer<'_>) -> Result<(), Full> {
        match section {
            0 => {
                self.index.put(to)?;
                self.term.put(to)?;
                self.seats.put(to)?;
                self.seats_at.put(to)?;
                self.disarmed.put(to)
            }
            1 => self
                .boards
                .get(item)
                .ok_or(Full)?
                .as_ref()
                .map_or(Ok(()), |board| board.put(to)),
            2 => {
                let place = self.guests.get(item).ok_or(Full)?;
                if place.epoch.0 == 0 && place.guest.is_none() {
                    return Ok(());
                }
                place.epoch.put(to)?;
                place.guest.put(to)
            }
            3 => self
                .volumes
                .get(item)
                .ok_or(Full)?
                .as_ref()
                .map_or(Ok(()), |volume| volume.put(to)),
            4 => self.images.get(item).ok_or(Full)?.put(to),
            5 => self.events.iter().nth(item).ok_or(Full)?.put(to),
            6 => self.answers.iter().nth(item).ok_or(Full)?.put(to),
            _ => Err(Full),
        }
    }

    /// Writes as many items from `from` on as fit, each as section, place, length and value; empty places are left out. Returns where the next page begins,
    /// [`Cursor::END`] when this is the last.
    pub fn write_page(&self, from: Cursor, to: &mut Writer<'_>) -> Cursor {
        let mut at = from;
        while at.section < SECTIONS {
            if usize::from(at.item) >= self.items(at.section) {
                at = Cursor {
                    section: at.section + 1,
                    item: 0,
                };
                continue;
            }
            let before = to.used();
            if self.put_tagged(at, to).is_err() {
                to.truncate(before);
                return at;
            }
            at.item += 1;
        }
        Cursor::END
    }

    fn put_tagged(&self, at: Cursor, to: &mut Writer<'_>) -> Result<(), Full> {
        let start = to.used();
        at.put(to)?;
        0u16.put(to)?;
        self.put_item(at.section, usize::from(at.item), to)?;
        let length = u16::try_from(to.used() - start - ITEM_HEAD)
            .map_err(|_| Full)?
            .to_le_bytes();
        if length == [0, 0] {
            to.truncate(start);
            return Ok(());
        }
        to.patch(start + 3, length[0]);
        to.patch(start + 4, length[1]);
        Ok(())
    }

    /// Takes a page into this ledger. Pages in order, from an empty ledger on, make the ledger that was written.
    ///
    /// # Errors
    /// [`Malformed`] when an item is none or has no place here; what was read before it stays.
    pub fn read_page(&mut self, page: &[u8]) -> Result<(), Malformed> {
        let mut from = Reader::new(page);
        while from.left() > 0 {
            let at = Cursor::get(&mut from)?;
            let length = u16::get(&mut from)?;
            let mut item = Reader::new(from.take(usize::from(length))?);
            self.read_item(at, &mut item)?;
            item.end()?;
        }
        Ok(())
    }

    fn read_item(&mut self, at: Cursor, from: &mut Reader<'_>) -> Result<(), Malformed> {
        let place = usize::from(at.item);
        match at.section {
            0 => {
                self.index = Wire::get(from)?;
                self.term = Wire::get(from)?;
                self.seats = Wire::get(from)?;
                self.seats_at = Wire::get(from)?;
                self.disarmed = Wire::get(from)?;
            }
            1 => *self.boards.get_mut(place).ok_or(Malformed::Range)? = Some(Wire::get(from)?),
            2 => {
                let slot = self.guests.get_mut(place).ok_or(Malformed::Range)?;
                slot.epoch = Wire::get(from)?;
                slot.guest = Wire::get(from)?;
            }
            3 => *self.volumes.get_mut(place).ok_or(Malformed::Range)? = Some(Wire::get(from)?),
            4 => self
                .images
                .push(Wire::get(from)?)
                .map_err(|_| Malformed::Range)?,
            5 => self.events.push(Wire::get(from)?),
            6 => self.answers.push(Wire::get(from)?),
            _ => return Err(Malformed::Range),
        }
        Ok(())
    }

    /// A 64-bit checksum (FNV-1a) of the ledger's encoding. It finds mistakes, not malice: frames are authenticated.
    #[must_use]
    pub fn checksum(&self) -> u64 {
        let mut sum = 0xcbf2_9ce4_8422_2325;
        let mut scratch = [0; PAYLOAD];
        let mut at = Cursor::START;
        loop {
            let mut page = Writer::new(&mut scratch);
            let next = self.write_page(at, &mut page);
            sum = page.bytes().iter().fold(sum, |sum: u64, byte| {
                (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
            });
            if next == Cursor::END || next == at {
                return sum;
            }
            at = next;
        }
    }
}

/// Section, place and length before an item's value.
const ITEM_HEAD: usize = 5;
