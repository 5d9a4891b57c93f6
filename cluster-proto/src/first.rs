//! A cluster's first ledger, made from its manifest: the same on every board, whichever board the package is for.

use core::fmt;

use crate::ids::{BoardId, BoardSet, GuestId, Incarnation, Index, Tenure};
use crate::ledger::types::{
    Board, Capacity, CommandLine, Denied, Digest, GuestSpec, Image, Name, Volume, VolumeKind,
    Wanted,
};
use crate::ledger::{Images, Ledger};
use crate::limits::SEATS;
use crate::manifest::{self, Backing, ImageNumber, ManifestView};

/// Why a manifest makes no ledger. Whoever packs it asks too, so that a board never has to say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstError {
    /// The ledger has no room for so many boards.
    Boards,
    /// The guest with this number does not fit.
    Guest(u8, Denied),
    /// A disk of the guest with this number does not fit.
    Disk(u8, Denied),
    /// The image with this number does not fit.
    Image(u16),
    /// The guest with this number names an image that is not there.
    NoImage(u8),
}

impl fmt::Display for FirstError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = |denied: &Denied| match denied {
            Denied::Capacity => "there is no room for more",
            Denied::Taken => "its name is taken",
            _ => "it is out of range",
        };
        match self {
            Self::Boards => write!(f, "there are more boards than the ledger has room for"),
            Self::Guest(at, denied) => write!(f, "guest {at}: {}", why(denied)),
            Self::Disk(at, denied) => write!(f, "a disk of guest {at}: {}", why(denied)),
            Self::Image(at) => write!(f, "image {at}: there is no room for more"),
            Self::NoImage(at) => write!(f, "guest {at} names an image that is not there"),
        }
    }
}

impl core::error::Error for FirstError {}

/// Fills the empty `ledger` with what `manifest` describes: no seat is taken, no board is in, and no guest runs. Its checksum is the digest by which
/// boards see that they were packed alike.
///
/// # Errors
/// [`FirstError`] when it does not fit; the ledger is of no use then.
pub fn first_ledger<const B: usize, const G: usize, const D: usize>(
    manifest: &ManifestView<'_>,
    ledger: &mut Ledger<B, G, D>,
) -> Result<u64, FirstError> {
    let hosts = manifest.hosts();
    let boards = hosts.count_ones() as usize;
    let mut voters = Voters::of(boards, usize::from(manifest.summary().boards) - boards);
    for (at, board) in manifest.boards().enumerate() {
        // A manifest has at most 16 boards.
        let id = BoardId(at as u8);
        let votes = voters.next(board.witness);
        let slot = ledger.boards.get_mut(at).ok_or(FirstError::Boards)?;
        *slot = Some(first_board(&board, votes));
        if votes && !ledger.seats.add(id) {
            return Err(FirstError::Boards);
        }
    }
    let everywhere = BoardSet(hosts.into());
    for (at, image) in manifest.images().enumerate() {
        let held = Image {
            digest: image.digest.0,
            size: u64::from(image.length),
            held: everywhere,
        };
        // A manifest has at most 384 images.
        let room = ledger.images.push(held);
        room.map_err(|_| FirstError::Image(at as u16))?;
    }
    for (at, guest) in manifest.guests().enumerate() {
        // A manifest has at most 64 guests.
        first_guest(at as u8, &guest, ledger)?;
    }
    Ok(ledger.checksum())
}

/// Who votes: witnesses, which do nothing else, and the first of the boards. An odd number, since one more than that survives no more losses.
struct Voters {
    boards: usize,
    witnesses: usize,
}

impl Voters {
    /// Of so many boards and witnesses. There is a board among them if there is one at all.
    fn of(boards: usize, witnesses: usize) -> Self {
        let witnesses = witnesses.min(SEATS - usize::from(boards > 0));
        let most = boards.min(SEATS - witnesses);
        let even = (most + witnesses).is_multiple_of(2);
        Self {
            boards: most - usize::from(even && most > 1),
            witnesses: witnesses - usize::from(even && most <= 1 && witnesses > 0),
        }
    }

    /// Whether the next board or witness of the list votes.
    fn next(&mut self, witness: bool) -> bool {
        let left = if witness {
            &mut self.witnesses
        } else {
            &mut self.boards
        };
        let votes = *left > 0;
        *left = left.saturating_sub(1);
        votes
    }
}

fn first_board(board: &manifest::Board, votes: bool) -> Board {
    Board {
        name: Name::try_from(board.name.as_str()).unwrap_or_default(),
        votes,
        witness: board.witness,
        drained: false,
        downtime: None,
        disarmed: false,
        incarnation: Incarnation(0),
        tenure: Tenure(0),
        fenced_at: Index(0),
        // A board says what it has when it is let in.
        capacity: Capacity {
            memory_mib: 0,
            cores: 0,
            class: 0,
        },
    }
}

/// Adds a guest with its disks.
fn first_guest<const B: usize, const G: usize, const D: usize>(
    at: u8,
    guest: &manifest::Guest,
    ledger: &mut Ledger<B, G, D>,
) -> Result<(), FirstError> {
    let digest = |images: &Images<G>, number: ImageNumber| {
        let image = images.get(usize::from(number.0));
        image.map(|image| image.digest)
    };
    let spec = guest_spec(guest, &|number| digest(&ledger.images, number));
    let made = ledger.create_guest(&spec.ok_or(FirstError::NoImage(at))?);
    let id = GuestId(made.map_err(|denied| FirstError::Guest(at, denied))?);
    for disk in &guest.disks {
        let volume = guest_volume(guest, disk, id, &|number| digest(&ledger.images, number));
        let volume = volume.ok_or(FirstError::NoImage(at))?;
        match ledger.create_volume(&volume) {
            Ok(_) => {}
            // Two disks over one volume that is only read.
            Err(Denied::Taken) if volume.kind == VolumeKind::Local => {}
            Err(denied) => return Err(FirstError::Disk(at, denied)),
        }
    }
    Ok(())
}

/// A guest as the ledger has it, if `digest` knows its images.
pub fn guest_spec(
    guest: &manifest::Guest,
    digest: &dyn Fn(ImageNumber) -> Option<Digest>,
) -> Option<GuestSpec> {
    // What a guest may write over an image is kept in memory.
    let overlays = guest.disks.iter().map(|disk| match disk.backing {
        Backing::Ephemeral { overlay, .. } => overlay.map_or(0, manifest::MemoryMib::get),
        Backing::Local { .. } => 0,
    });
    Some(GuestSpec {
        name: Name::try_from(guest.name.as_str()).unwrap_or_default(),
        memory_mib: overlays.fold(guest.memory.get(), u32::saturating_add),
        vcpus: u16::from(guest.vcpus.get()),
        class: 0,
        priority: guest.priority.0,
        apart: guest.apart,
        allowed: BoardSet(guest.allowed.into()),
        wanted: if guest.starts {
            Wanted::Running
        } else {
            Wanted::Stopped
        },
        mac: guest.nics.first().map_or([0; 6], |nic| nic.mac.octets()),
        kernel: digest(guest.kernel)?,
        initrd: match guest.initrd {
            Some(initrd) => digest(initrd)?,
            None => [0; 32],
        },
        command_line: CommandLine::try_from(guest.command_line.as_str()).unwrap_or_default(),
    })
}

/// A disk of `guest`, whose number in the ledger is `id`, as the ledger has it, if `digest` knows its image.
pub fn guest_volume(
    guest: &manifest::Guest,
    disk: &manifest::Disk,
    id: GuestId,
    digest: &dyn Fn(ImageNumber) -> Option<Digest>,
) -> Option<Volume> {
    Some(match &disk.backing {
        Backing::Ephemeral { image, size, .. } => Volume {
            name: Name::try_from(disk.serial.as_str()).unwrap_or_default(),
            guest: id,
            kind: VolumeKind::Ephemeral,
            board: BoardId(0),
            size_mib: u32::try_from(size.bytes().div_ceil(1 << 20)).unwrap_or(u32::MAX),
            image: digest(*image)?,
        },
        // Its size is the board's to know.
        Backing::Local { volume } => Volume {
            name: Name::try_from(volume.as_str()).unwrap_or_default(),
            guest: id,
            kind: VolumeKind::Local,
            board: BoardId(guest.first_board().0),
            size_mib: 0,
            image: [0; 32],
        },
    })
}
