//! The board's own disk: whose volumes guests have, and whose requests come and go.
//!
//! Requests are submitted by whatever core serves a guest's device. Completions are taken by core 0, which has the disk's interrupt. A
//! request's name is its device's (guest and slot) and the device's own for it.
//!
//! **Locks.** A guest's device, then the disk. Completions are first taken from the disk, and then, without its lock, to their devices.

use core::sync::atomic::{AtomicBool, Ordering};

use alloc::vec::Vec;
use el2_hyp::addr::PAGE_SIZE;
use el2_hyp::arch::timer;
use el2_hyp::device::virtio::block::disk::{
    self as requests, Flushed, Limits, MAX_PIECES, Piece, Refused,
};
use el2_hyp::lock::Mutex;
use el2_hyp::volume::table::{COPY_BYTES, Copies, Table};
use el2_hyp::volume::{Extent, Label, Sector};
use platform::disk::virtio::{SLOTS, VirtioDisk};
use platform::disk::{Disk, Flush, NotTaken, Operation, Segment, Tag};
use spin::Once;

use crate::devices::Opened;
use crate::host::CoreHost;
use crate::{guests, info, memory, smp, warn};

/// How long the disk may take to read its table at boot, milliseconds.
const PATIENCE_MS: u64 = 5000;

/// The disk.
pub struct BoardDisk {
    device: Mutex<VirtioDisk>,
    /// Its interrupt has come, and core 0 has not looked yet.
    called: AtomicBool,
    table: Option<Table>,
    /// Volumes that guests have.
    taken: Mutex<Vec<Label>>,
    limits: Limits,
}

static DISK: Once<BoardDisk> = Once::new();

/// The disk, if the board has one.
pub fn disk() -> Option<&'static BoardDisk> {
    DISK.get()
}

/// Why a guest cannot have a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoVolume {
    /// There is no disk, or no table on it.
    NoTable,
    /// The table has none of that name.
    Unknown,
    /// Another guest has it.
    Taken,
}

impl core::fmt::Display for NoVolume {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoTable => "this board has no disk with volumes",
            Self::Unknown => "this board's disk has no such volume",
            Self::Taken => "another guest has it",
        })
    }
}

/// Takes the disk and reads its table.
pub fn initialise(opened: Option<Opened<VirtioDisk>>) {
    let Some(Opened { device, .. }) = opened else {
        return;
    };
    let limits = Limits {
        pieces: device.most_segments(),
        flush: true,
    };
    let mut device = device;
    let sectors = device.sectors().0;
    let table = match read_table(&mut device) {
        Ok(table) => {
            info!(
                "disk: {} MiB, {} volumes",
                sectors >> 11,
                table.volumes().len()
            );
            Some(table)
        }
        Err(why) => {
            info!("disk: {} MiB, no volumes: {why}", sectors >> 11);
            None
        }
    };
    DISK.call_once(|| BoardDisk {
        device: Mutex::new(device),
        called: AtomicBool::new(false),
        table,
        taken: Mutex::new(Vec::new()),
        limits,
    });
}

/// Reads both copies of the table, while nobody else uses the disk.
fn read_table(device: &mut VirtioDisk) -> Result<Table, &'static str> {
    let pages = (COPY_BYTES as u64).div_ceil(PAGE_SIZE) as usize;
    let pages = pages.next_power_of_two();
    let buffer = memory::allocate(pages).ok_or("no memory to read them")?;
    let mut copies = Copies::default();
    for (start, bytes) in copies.each_mut() {
        let piece = Segment {
            address: buffer.0,
            bytes: COPY_BYTES as u32,
        };
        read_now(device, start, piece)?;
        // SAFETY: the frames are ours, and the disk is done with them.
        let read = unsafe { core::slice::from_raw_parts(buffer.0 as *const u8, COPY_BYTES) };
        bytes.copy_from_slice(read);
    }
    memory::free(buffer, pages);
    let sectors = device.sectors().0;
    Table::read(&copies, sectors)
        .map_err(|_| "its table is not readable, or it has none (hearth volume init makes one)")
}

/// Reads and waits. A disk that does not answer keeps its memory for ever.
fn read_now(device: &mut VirtioDisk, first: Sector, to: Segment) -> Result<(), &'static str> {
    let first = platform::disk::Sector(first.0);
    // SAFETY: the memory was taken for this; nobody refers to it until the disk is done.
    unsafe { device.submit(Tag(0), Operation::Read, first, &[to]) }
        .map_err(|_| "it cannot be read")?;
    device.kick();
    let deadline = timer::now() + timer::frequency() * PATIENCE_MS / 1000;
    let mut result = None;
    while result.is_none() {
        device
            .completions(1, |_, done| result = Some(done))
            .map_err(|_| "it is broken")?;
        if timer::now() > deadline {
            return Err("it does not answer");
        }
        smp::relax();
    }
    match result {
        Some(Ok(())) => Ok(()),
        _ => Err("it cannot be read"),
    }
}

impl BoardDisk {
    /// Gives a volume to a guest, until it is [given back](Self::give_back): its extent, whether it is only for reading, and what the disk can do.
    pub fn take(&self, name: &str) -> Result<(Extent, bool, Limits), NoVolume> {
        let table = self.table.as_ref().ok_or(NoVolume::NoTable)?;
        let name = Label::new(name).ok_or(NoVolume::Unknown)?;
        let volume = table.find(&name).ok_or(NoVolume::Unknown)?;
        let mut taken = self.taken.lock();
        if taken.contains(&name) {
            return Err(NoVolume::Taken);
        }
        taken.push(name);
        let read_only = volume.is_read_only() || self.device.lock().is_read_only();
        Ok((volume.extent(), read_only, self.limits))
    }

    /// A guest that had a volume is gone.
    pub fn give_back(&self, name: &str) {
        self.taken.lock().retain(|taken| taken.as_str() != name);
    }

    /// The disk's interrupt: core 0 will look.
    pub fn interrupt(&self) {
        self.device.lock().acknowledge_interrupt();
        self.called.store(true, Ordering::Release);
    }

    /// Whether core 0 has something to do here.
    pub fn is_due(&self) -> bool {
        self.called.load(Ordering::Acquire)
    }

    /// Takes completions to their devices. No lock is held.
    pub fn serve(&self, host: &CoreHost) {
        self.called.store(false, Ordering::Release);
        let mut done: heapless::Vec<(u64, bool), SLOTS> = heapless::Vec::new();
        let mut device = self.device.lock();
        device.suppress();
        let taken = device.completions(SLOTS, |tag, result| {
            done.push((tag.0, result.is_ok()))
                .expect("as many as asked for");
        });
        let more = taken.is_ok() && device.listen().unwrap_or(false);
        drop(device);
        if more {
            self.called.store(true, Ordering::Release);
        }
        for batch in done.chunk_by(|a, b| owner(a.0) == owner(b.0)) {
            let (guest, slot) = owner(batch[0].0);
            if let Some(found) = guests::find(guest) {
                let tags = batch
                    .iter()
                    .map(|&(tag, ok)| (requests::Tag(tag as u32), ok));
                found.guest.complete(host, slot, tags);
            }
        }
        match taken {
            Ok(_) => guests::all().for_each(|slot| slot.guest.resume_disks(host)),
            Err(fault) => {
                warn!("the disk is not used any more: {fault}");
                guests::all().for_each(|slot| slot.guest.lose_disk(host));
            }
        }
    }
}

/// Whose request it is: guest and slot.
fn owner(tag: u64) -> (usize, usize) {
    ((tag >> 40) as usize, (tag >> 32 & 0xff) as usize)
}

/// The disk for the requests of one device. They begin when this is dropped.
pub struct Requests {
    guest: usize,
    slot: usize,
    submitted: bool,
}

impl Requests {
    /// For the device in a slot of a guest.
    pub fn new(guest: usize, slot: usize) -> Self {
        Self {
            guest,
            slot,
            submitted: false,
        }
    }

    fn tag(&self, tag: requests::Tag) -> Tag {
        Tag((self.guest as u64) << 40 | (self.slot as u64) << 32 | u64::from(tag.0))
    }
}

impl requests::BoardDisk for Requests {
    #[inline]
    fn room(&mut self) -> usize {
        disk().map_or(0, |disk| disk.device.lock().room())
    }

    fn submit(
        &mut self,
        tag: requests::Tag,
        operation: requests::Operation,
        first: Sector,
        pieces: &[Piece],
    ) -> Result<(), Refused> {
        let mut data: heapless::Vec<Segment, MAX_PIECES> = heapless::Vec::new();
        for piece in pieces {
            let segment = Segment {
                address: piece.address.0,
                bytes: piece.bytes,
            };
            data.push(segment).map_err(|_| Refused)?;
        }
        let operation = match operation {
            requests::Operation::Read => Operation::Read,
            requests::Operation::Write => Operation::Write,
        };
        let first = platform::disk::Sector(first.0);
        let mut device = disk().ok_or(Refused)?.device.lock();
        // SAFETY: the pieces are a guest's memory, to which EL2 has no references, and which is not used otherwise until the request has
        // completed: `guests` waits for that before it starts a guest anew.
        let taken = unsafe { device.submit(self.tag(tag), operation, first, &data) };
        drop(device);
        self.submitted = true;
        taken.map_err(refused)
    }

    fn flush(&mut self, tag: requests::Tag) -> Result<Flushed, Refused> {
        let flush = disk().ok_or(Refused)?.device.lock().flush(self.tag(tag));
        self.submitted = true;
        match flush.map_err(refused)? {
            Flush::Underway => Ok(Flushed::Underway),
            Flush::Needless => Ok(Flushed::Needless),
        }
    }
}

fn refused(_: NotTaken) -> Refused {
    Refused
}

impl Drop for Requests {
    #[inline]
    fn drop(&mut self) {
        if self.submitted
            && let Some(disk) = disk()
        {
            disk.device.lock().kick();
        }
    }
}
