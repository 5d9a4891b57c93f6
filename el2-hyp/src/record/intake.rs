//! Taking a record in, section by section, as its bytes come.
//!
//! Nothing of a guest is touched here. Pages and blocks are handed on, for whoever has memory for them; everything else is decoded to the parts of a guest
//! and kept. Only when the end has come, and all that belongs to the guest was there once, [`Intake::finish`] gives the parts out: with them a guest can be put
//! together without a further question. What is not known, out of order, doubled or missing ends the intake.

use alloc::boxed::Box;
use core::fmt;

use heapless::Vec;

use super::codec::{Decoder, Malformed, require};
use super::device::Arrived;
use super::header::Header;
use super::images::Images;
use super::section::{Broken, Kind, Section};
use super::units::Units;
use super::vcpu::VcpuState;
use crate::device::pl011::Pl011;
use crate::device::virtio::DeviceId;
use crate::device::watchdog::Watchdog;
use crate::machine;
use crate::psci::MAX_VCPUS;
use crate::vgic::{MappedInterrupt, Vgic};

/// Bytes of a console's backlog, at most.
pub const MAX_BACKLOG: usize = 16 << 10;

/// Why a record is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A section is broken.
    Broken(Broken),
    /// What a section holds is none of its kind.
    Malformed(Kind, Malformed),
    /// A section came where none of its kind belongs: before the header, twice, for something that the guest does not have, or after the end.
    Misplaced(Kind),
    /// The end came before this.
    Missing(Kind),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(broken) => write!(f, "a section is broken: {broken}"),
            Self::Malformed(kind, malformed) => write!(f, "in section {kind:?}: {malformed}"),
            Self::Misplaced(kind) => write!(f, "a section {kind:?} does not belong there"),
            Self::Missing(kind) => write!(f, "it ends without a section {kind:?}"),
        }
    }
}

/// What a section was, for whoever has the guest's memory and disks.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The header: whether the board can host the guest is to be asked now.
    Header,
    /// The images that the guest was started from: whether they are those of the guest that was made for it is to be asked now.
    Images(Images<'a>),
    /// Pages of RAM, counted from its start.
    Pages(Units<'a>),
    /// Blocks of the disk in a slot. How many that has is for the caller to compare.
    Blocks(u8, Units<'a>),
    /// The last of what the console has shown, and the position of its first byte since the guest's first.
    Backlog(u64, &'a [u8]),
    /// When the guest stopped, on its own clock: from now on it is this board's to count on.
    Time,
    /// A part of the guest, which is kept.
    Part,
    /// The end: the intake can be finished.
    End,
}

/// What became of bytes.
#[derive(Clone, Debug)]
pub enum Taken<'a> {
    /// They are the beginning of a section: more are needed.
    More,
    /// A section of so many bytes.
    Section(usize, Event<'a>),
}

/// A guest's parts, all of them.
pub struct Parts {
    /// What guest it is.
    pub header: Header,
    /// Its vCPUs.
    pub vcpus: Vec<Box<VcpuState>, MAX_VCPUS>,
    /// Its interrupt controller.
    pub vgic: Box<Vgic>,
    /// Its PL011.
    pub uart: Box<Pl011>,
    /// Its watchdog.
    pub watchdog: Watchdog,
    /// Its virtio devices.
    pub devices: Vec<Arrived, { machine::VIRTIO_SLOTS as usize }>,
    /// Its virtual count when it stopped.
    pub time: u64,
    /// This board's count when that had come.
    pub since: u64,
}

/// A record that is being taken in.
pub struct Intake {
    mapped: MappedInterrupt,
    number: u32,
    header: Option<Header>,
    vcpus: [Option<Box<VcpuState>>; MAX_VCPUS],
    vgic: Option<Box<Vgic>>,
    uart: Option<Box<Pl011>>,
    watchdog: Option<Watchdog>,
    devices: [Option<Arrived>; machine::VIRTIO_SLOTS as usize],
    time: Option<u64>,
    has_images: bool,
    has_backlog: bool,
    ended: bool,
}

impl Intake {
    /// A record of which nothing has come, on a board with that interrupt behind its guests' virtual timers.
    pub fn new(mapped: MappedInterrupt) -> Self {
        Self {
            mapped,
            number: 0,
            header: None,
            vcpus: [const { None }; MAX_VCPUS],
            vgic: None,
            uart: None,
            watchdog: None,
            devices: [const { None }; machine::VIRTIO_SLOTS as usize],
            time: None,
            has_images: false,
            has_backlog: false,
            ended: false,
        }
    }

    /// The header, once it has come.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Takes the section at the beginning of `bytes`, if all of it is there: at most [`MAX_SECTION`](super::MAX_SECTION) bytes.
    ///
    /// # Errors
    /// [`Error`]: the record is not to be taken. The intake is of no use any more.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> Result<Taken<'a>, Error> {
        let Some(section) = Section::read(bytes, self.number).map_err(Error::Broken)? else {
            return Ok(Taken::More);
        };
        let event = self.open(&section)?;
        self.number = self.number.wrapping_add(1);
        Ok(Taken::Section(section.length(), event))
    }

    fn open<'a>(&mut self, section: &Section<'a>) -> Result<Event<'a>, Error> {
        let kind = section.kind;
        let malformed = |error| Error::Malformed(kind, error);
        if self.ended {
            return Err(Error::Misplaced(kind));
        }
        let Some(header) = &self.header else {
            if (kind, section.index) != (Kind::Header, 0) {
                return Err(Error::Misplaced(kind));
            }
            self.header = Some(whole(section.payload, Header::from_record).map_err(malformed)?);
            return Ok(Event::Header);
        };
        let (pages, slot) = (header.pages(), usize::from(section.index));
        match kind {
            Kind::Pages if slot == 0 => {
                let units = Units::read(section.payload, pages).map_err(malformed)?;
                Ok(Event::Pages(units))
            }
            Kind::Blocks if header.slots.get(slot) == Some(&DeviceId::Block) => {
                let units = Units::read(section.payload, u32::MAX).map_err(malformed)?;
                Ok(Event::Blocks(slot as u8, units))
            }
            Kind::Images if slot == 0 && !self.has_images => {
                let disks = header.slots.iter();
                let disks = disks.filter(|it| **it == DeviceId::Block).count();
                let images = Images::read(section.payload, disks).map_err(malformed)?;
                self.has_images = true;
                Ok(Event::Images(images))
            }
            Kind::Backlog if slot == 0 && !self.has_backlog => {
                let (from, said) = backlog(section.payload).map_err(malformed)?;
                self.has_backlog = true;
                Ok(Event::Backlog(from, said))
            }
            Kind::End if slot == 0 => {
                let number = self.number;
                let count = whole(section.payload, |from| from.u32()).map_err(malformed)?;
                require(count == number, "the number of sections").map_err(malformed)?;
                self.is_complete()?;
                self.ended = true;
                Ok(Event::End)
            }
            _ => self.open_part(section),
        }
    }

    /// A part of the guest, each of which comes once.
    fn open_part<'a>(&mut self, section: &Section<'_>) -> Result<Event<'a>, Error> {
        let (kind, index) = (section.kind, usize::from(section.index));
        let misplaced = Err(Error::Misplaced(kind));
        let Some(header) = &self.header else {
            return misplaced;
        };
        let malformed = |error| Error::Malformed(kind, error);
        let (gic, vcpus) = (header.gic, usize::from(header.vcpus));
        let (aarch32, mapped) = (header.identity.aarch32(), self.mapped);
        match kind {
            Kind::Vcpu if index < vcpus && self.vcpus[index].is_none() => {
                let it = whole(section.payload, |from| {
                    VcpuState::from_record(from, aarch32)
                });
                self.vcpus[index] = Some(Box::new(it.map_err(malformed)?));
            }
            Kind::Interrupts if index == 0 && self.vgic.is_none() => {
                let it = whole(section.payload, |from| {
                    Vgic::from_record(from, gic, vcpus, mapped)
                });
                self.vgic = Some(Box::new(it.map_err(malformed)?));
            }
            Kind::Uart if index == 0 && self.uart.is_none() => {
                let it = whole(section.payload, Pl011::from_record).map_err(malformed)?;
                self.uart = Some(Box::new(it));
            }
            Kind::Watchdog if index == 0 && self.watchdog.is_none() => {
                let it = whole(section.payload, Watchdog::from_record).map_err(malformed)?;
                self.watchdog = Some(it);
            }
            Kind::Device => {
                let (Some(&device), Some(place @ None)) =
                    (header.slots.get(index), self.devices.get_mut(index))
                else {
                    return misplaced;
                };
                let it = whole(section.payload, |from| Arrived::from_record(from, device));
                *place = Some(it.map_err(malformed)?);
            }
            Kind::Time if index == 0 && self.time.is_none() => {
                let it = whole(section.payload, |from| from.u64()).map_err(malformed)?;
                self.time = Some(it);
                return Ok(Event::Time);
            }
            _ => return misplaced,
        }
        Ok(Event::Part)
    }

    /// Whether all parts of the guest have come.
    fn is_complete(&self) -> Result<(), Error> {
        let Some(header) = &self.header else {
            return Err(Error::Missing(Kind::Header));
        };
        let vcpus = &self.vcpus[..usize::from(header.vcpus)];
        let devices = &self.devices[..header.slots.len()];
        for (there, kind) in [
            (vcpus.iter().all(Option::is_some), Kind::Vcpu),
            (self.vgic.is_some(), Kind::Interrupts),
            (self.uart.is_some(), Kind::Uart),
            (self.watchdog.is_some(), Kind::Watchdog),
            (devices.iter().all(Option::is_some), Kind::Device),
            (self.time.is_some(), Kind::Time),
            (self.has_images, Kind::Images),
        ] {
            if !there {
                return Err(Error::Missing(kind));
            }
        }
        Ok(())
    }

    /// The guest's parts, if the end has come. `since` is the board's count when [its time](Event::Time) came.
    ///
    /// # Errors
    /// What is missing.
    pub fn finish(self, since: u64) -> Result<Parts, Error> {
        if !self.ended {
            return Err(Error::Missing(Kind::End));
        }
        self.is_complete()?;
        let (Some(header), Some(vgic), Some(uart), Some(watchdog), Some(time)) =
            (self.header, self.vgic, self.uart, self.watchdog, self.time)
        else {
            return Err(Error::Missing(Kind::End));
        };
        Ok(Parts {
            header,
            vcpus: self.vcpus.into_iter().flatten().collect(),
            vgic,
            uart,
            watchdog,
            devices: self.devices.into_iter().flatten().collect(),
            time,
            since,
        })
    }
}

/// What a console has shown: all of it, or the last [`MAX_BACKLOG`] bytes.
fn backlog(payload: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let (from, said) = payload
        .split_first_chunk()
        .ok_or(Malformed::Value("the length of a backlog"))?;
    let from = u64::from_le_bytes(*from);
    let is_full = said.len() == MAX_BACKLOG;
    require(
        is_full || said.len() < MAX_BACKLOG && from == 0,
        "the length of a backlog",
    )?;
    require(from < u64::MAX / 2, "the position of a backlog")?;
    Ok((from, said))
}

/// What all of `payload` is.
fn whole<'a, T>(
    payload: &'a [u8],
    read: impl FnOnce(&mut Decoder<'a>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut decoder = Decoder::new(payload);
    let it = read(&mut decoder)?;
    decoder.end()?;
    Ok(it)
}
