//! A record becomes a guest in a place that was made for it.

use core::fmt;

use cluster_proto::bulk::Refusal;
use el2_hyp::addr::{BLOCK_2M, Ipa, PAGE_SIZE};
use el2_hyp::arch::{maintenance, timer};
use el2_hyp::guest::Guest;
use el2_hyp::guest::record::Mismatch;
use el2_hyp::record::content::put_pages;
use el2_hyp::record::intake::{Error, Event, Intake, Parts, Taken};
use el2_hyp::record::units::{Content, Units};
use el2_hyp::record::{Malformed, header};

use crate::console;
use crate::guests::Slot;

/// Bytes of memory that one step clears.
const STEP: u64 = 256 << 10;
const _: () = assert!(BLOCK_2M.is_multiple_of(STEP));

/// Why a record is not taken.
pub enum Refused {
    /// The board is no host for the guest.
    Host(header::Refused),
    /// It is no record.
    Record(Error),
    /// A page or a block is none.
    Content(Malformed),
    /// It is another guest's.
    Other(Mismatch),
    /// It was started from other images.
    Images,
    /// A section was cut.
    Cut,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(why) => write!(f, "{why}"),
            Self::Record(why) => write!(f, "{why}"),
            Self::Content(why) => write!(f, "{why}"),
            Self::Other(Mismatch::Machine) => f.write_str("it is another machine"),
            Self::Other(Mismatch::Slot(slot)) => {
                write!(f, "the device in its slot {slot} is another")
            }
            Self::Images => f.write_str("it was started from other images"),
            Self::Cut => f.write_str("a section was cut"),
        }
    }
}

impl Refused {
    /// What the other end is told.
    pub fn told(&self) -> Refusal {
        match self {
            Self::Host(header::Refused::Gic | header::Refused::Priorities) => Refusal::Interrupts,
            Self::Host(header::Refused::Frequency(..)) => Refusal::Counter,
            Self::Host(header::Refused::Processor | header::Refused::Features) => {
                Refusal::Processor
            }
            Self::Host(header::Refused::Memory(..)) => Refusal::Memory,
            Self::Record(_) | Self::Content(_) | Self::Cut => Refusal::Record,
            Self::Other(_) | Self::Images => Refusal::Other,
        }
    }
}

/// A guest that comes.
pub struct Receiver {
    /// None once its parts were given out.
    intake: Option<Intake>,
    /// Bytes of its memory that are clear.
    cleared: u64,
    /// When its time came, by the counter.
    since: u64,
}

impl Receiver {
    /// Nothing has come. `like` is a guest of this board.
    pub fn new(like: &Guest) -> Self {
        Self {
            intake: Some(Intake::new(like.mapped_interrupt())),
            cleared: 0,
            since: 0,
        }
    }

    /// Clears a step's worth of the memory: the guest is to find nothing that was another's. Whether there was some left to clear.
    pub fn prepare(&mut self, slot: &Slot) -> bool {
        let memory = &slot.guest.memory;
        let Some(block) = memory.blocks().get((self.cleared / BLOCK_2M) as usize) else {
            return false;
        };
        let at = block.0 + self.cleared % BLOCK_2M;
        // SAFETY: a part of a block of this guest's, which does not run; the identity map covers it.
        unsafe { maintenance::zero_pages(at as *mut u8, STEP as usize) };
        maintenance::clean_to_coherency(at as *const u8, STEP as usize);
        self.cleared += STEP;
        true
    }

    /// Takes the next section.
    ///
    /// # Errors
    /// [`Refused`]: the guest cannot come any more.
    pub fn take(&mut self, slot: &Slot, section: &[u8]) -> Result<(), Refused> {
        match self.take_if_whole(slot, section)? {
            Some(_) => Ok(()),
            None => Err(Refused::Cut),
        }
    }

    /// Takes the next section if all of it is in `bytes`, and nothing else is; whether it was the last.
    ///
    /// # Errors
    /// [`Refused`]: the guest cannot come any more.
    pub fn take_if_whole(&mut self, slot: &Slot, bytes: &[u8]) -> Result<Option<bool>, Refused> {
        let intake = self.intake.as_mut().ok_or(Refused::Cut)?;
        let event = match intake.take(bytes).map_err(Refused::Record)? {
            Taken::Section(length, event) if length == bytes.len() => event,
            Taken::Section(..) => return Err(Refused::Cut),
            Taken::More => return Ok(None),
        };
        let is_last = matches!(event, Event::End);
        let guest = &slot.guest;
        let taken = match event {
            Event::Header => match intake.header() {
                Some(header) => guest.can_host(header).map_err(Refused::Host),
                None => Ok(()),
            },
            Event::Images(of) if *of.digests() == super::images(slot.view())[..] => Ok(()),
            Event::Images(_) => Err(Refused::Images),
            Event::Pages(units) => {
                put_pages(units.clone(), &guest.memory).map_err(Refused::Content)?;
                clean(guest, units);
                Ok(())
            }
            Event::Blocks(disk, units) => guest
                .put_blocks(disk.into(), units)
                .map_err(Refused::Content),
            Event::Backlog(from, said) => {
                console::restore(guest.id, from, said);
                Ok(())
            }
            Event::Time => {
                self.since = timer::now();
                Ok(())
            }
            Event::Part | Event::End => Ok(()),
        };
        taken.map(|()| Some(is_last))
    }

    /// All of the guest, if it has come and is the one that `slot` was made for.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn finish(&mut self, slot: &Slot) -> Result<Parts, Refused> {
        let intake = self.intake.take().ok_or(Refused::Cut)?;
        let parts = intake.finish(self.since).map_err(Refused::Record)?;
        slot.guest.can_adopt(&parts).map_err(Refused::Other)?;
        Ok(parts)
    }
}

/// Writes pages back, for a guest whose caches may be off.
fn clean(guest: &Guest, units: Units<'_>) {
    for (first, content) in units {
        let count = match content {
            Content::Zeros(count) => u32::from(count),
            _ => 1,
        };
        for page in first..first + count {
            let ipa = Ipa(guest.memory.base().0 + u64::from(page) * PAGE_SIZE);
            if let Ok((at, length)) = guest.memory.physical(ipa, PAGE_SIZE as u32) {
                maintenance::clean_to_coherency(at.0 as *const u8, length as usize);
            }
        }
    }
}
