//! A guest as the ledger alone describes it: one that was created while the cluster ran, of which no package says more.
//!
//! What a manifest can say and the ledger cannot is the same for all of them: one network card if it has an address, a source of random numbers, and
//! disks in the order of their volumes. An ephemeral disk may be written whole: [`overlay_mib`] of memory is kept for it, which the guest's
//! `memory_mib` has counted in. Whoever creates a guest asks [`memory_mib`] what to write there.

use heapless::Vec;

use crate::ids::GuestId;
use crate::ledger::Ledger;
use crate::ledger::types::{Digest, Volume, VolumeKind};
use crate::manifest::{
    Backing, CommandLine, Disk, DiskSize, Guest, ImageNumber, MAX_DISKS, Mac, MemoryMib, Name, Nic,
    OutOfRange, Priority, Serial, VcpuCount,
};

/// Where a digest is all zeros, there is no image.
pub const NO_IMAGE: Digest = [0; 32];

/// A guest and the digests of its images. The image numbers in `guest` mean nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its description.
    pub guest: Guest,
    /// Its kernel.
    pub kernel: Digest,
    /// Its initial RAM disk.
    pub initrd: Option<Digest>,
    /// The images of its disks, in their order; none for a local volume.
    pub disks: Vec<Option<Digest>, MAX_DISKS>,
}

/// Why a guest of the ledger cannot be one on a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undescribed {
    /// There is no such guest.
    Unknown,
    /// A value is out of a board's range.
    Range(OutOfRange),
    /// It has more disks than a board gives a guest.
    Disks,
    /// Its disks leave it no memory.
    Memory,
}

impl From<OutOfRange> for Undescribed {
    fn from(range: OutOfRange) -> Self {
        Self::Range(range)
    }
}

/// What is kept in memory for what a guest writes to a volume, MiB.
#[must_use]
pub fn overlay_mib(volume: &Volume) -> u32 {
    match volume.kind {
        VolumeKind::Ephemeral => volume.size_mib.next_multiple_of(2),
        VolumeKind::Local => 0,
    }
}

/// What a guest with `ram_mib` of its own and these volumes takes of a board, MiB.
#[must_use]
pub fn memory_mib<'a>(ram_mib: u32, volumes: impl IntoIterator<Item = &'a Volume>) -> u32 {
    let overlays = volumes.into_iter().map(overlay_mib);
    overlays.fold(ram_mib, u32::saturating_add)
}

/// The guest `id` of `ledger`.
///
/// # Errors
/// Why it cannot be one.
pub fn describe<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    id: GuestId,
) -> Result<Described, Undescribed> {
    let spec = &ledger.guest(id).ok_or(Undescribed::Unknown)?.spec;
    let volumes = || {
        ledger
            .volumes
            .iter()
            .flatten()
            .filter(|volume| volume.guest == id)
    };
    let overlays = volumes().map(overlay_mib).fold(0, u32::saturating_add);
    let ram = spec.memory_mib.checked_sub(overlays);
    let (mut disks, mut images) = (Vec::new(), Vec::new());
    for volume in volumes() {
        let (disk, image) = disk(volume)?;
        disks.push(disk).map_err(|_| Undescribed::Disks)?;
        images.push(image).map_err(|_| Undescribed::Disks)?;
    }
    let mut nics = Vec::new();
    if spec.mac != [0; 6] {
        let mac = Mac::try_from(spec.mac)?;
        assert!(nics.push(Nic { mac }).is_ok(), "a guest may have a card");
    }
    let vcpus = u8::try_from(spec.vcpus).map_err(|_| OutOfRange::Vcpus)?;
    let guest = Guest {
        name: Name::new(&spec.name)?,
        vcpus: VcpuCount::try_from(vcpus)?,
        memory: MemoryMib::new(ram.ok_or(Undescribed::Memory)?)?,
        priority: Priority(spec.priority),
        kernel: ImageNumber(0),
        initrd: (spec.initrd != NO_IMAGE).then_some(ImageNumber(0)),
        command_line: CommandLine::new(&spec.command_line)?,
        board: None,
        allowed: 0,
        apart: spec.apart,
        starts: true,
        disks,
        nics,
        virtio_console: false,
        entropy: true,
    };
    Ok(Described {
        guest,
        kernel: spec.kernel,
        initrd: (spec.initrd != NO_IMAGE).then_some(spec.initrd),
        disks: images,
    })
}

fn disk(volume: &Volume) -> Result<(Disk, Option<Digest>), Undescribed> {
    let (backing, image) = match volume.kind {
        VolumeKind::Ephemeral => {
            let backing = Backing::Ephemeral {
                image: ImageNumber(0),
                size: DiskSize::holding(u64::from(volume.size_mib) << 20)?,
                overlay: Some(MemoryMib::new(overlay_mib(volume))?),
            };
            (backing, Some(volume.image))
        }
        VolumeKind::Local => {
            let volume = Name::new(&volume.name)?;
            (Backing::Local { volume }, None)
        }
    };
    // A name may be longer than what a disk can say of itself.
    let serial = volume.name.get(..Serial::MAX_BYTES).unwrap_or(&volume.name);
    let disk = Disk {
        backing,
        read_only: false,
        serial: Serial::new(serial)?,
    };
    Ok((disk, image))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BoardId, BoardSet};
    use crate::ledger::types::{self, GuestSpec, Wanted};

    fn spec() -> GuestSpec {
        GuestSpec {
            name: types::Name::try_from("web").expect("short"),
            memory_mib: 128 + 42,
            vcpus: 2,
            class: 0,
            priority: 7,
            apart: 0,
            allowed: BoardSet(0),
            wanted: Wanted::Running,
            mac: [2, 0, 0, 0, 0, 9],
            kernel: [1; 32],
            initrd: [2; 32],
            command_line: types::CommandLine::try_from("quiet").expect("short"),
        }
    }

    fn volume(name: &str, kind: VolumeKind, size_mib: u32) -> Volume {
        Volume {
            name: types::Name::try_from(name).expect("short"),
            guest: GuestId(0),
            kind,
            board: BoardId(1),
            size_mib,
            image: [3; 32],
        }
    }

    fn board() -> types::Board {
        types::Board {
            name: types::Name::new(),
            votes: true,
            witness: false,
            drained: false,
            downtime: None,
            disarmed: false,
            incarnation: crate::ids::Incarnation(0),
            tenure: crate::ids::Tenure(0),
            fenced_at: crate::ids::Index(0),
            capacity: types::Capacity {
                memory_mib: 0,
                cores: 0,
                class: 0,
            },
        }
    }

    fn ledger(spec: &GuestSpec, volumes: &[Volume]) -> std::boxed::Box<Ledger<2, 2, 8>> {
        let mut ledger = std::boxed::Box::new(Ledger::new());
        ledger.boards[1] = Some(board());
        ledger.create_guest(spec).expect("room");
        for volume in volumes {
            ledger.create_volume(volume).expect("room");
        }
        ledger
    }

    #[test]
    fn what_was_created_is_described() {
        let volumes = [
            volume("root", VolumeKind::Ephemeral, 41),
            volume("data", VolumeKind::Local, 500),
        ];
        assert_eq!(memory_mib(128, &volumes), spec().memory_mib);
        let found = describe(&ledger(&spec(), &volumes), GuestId(0)).expect("in range");
        assert_eq!(found.guest.memory.get(), 128);
        assert_eq!(found.guest.vcpus.get(), 2);
        assert_eq!(found.guest.nics.len(), 1);
        assert_eq!((found.kernel, found.initrd), ([1; 32], Some([2; 32])));
        assert_eq!(found.disks[..], [Some([3; 32]), None]);
        assert_eq!(found.guest.disks[0].serial.as_str(), "root");
        assert!(
            matches!(&found.guest.disks[1].backing, Backing::Local { volume } if volume.as_str() == "data")
        );
    }

    #[test]
    fn what_no_board_could_make_is_refused() {
        assert_eq!(
            describe(&ledger(&spec(), &[]), GuestId(1)),
            Err(Undescribed::Unknown)
        );
        let mut odd = spec();
        odd.memory_mib = 129;
        assert_eq!(
            describe(&ledger(&odd, &[]), GuestId(0)),
            Err(Undescribed::Range(OutOfRange::Memory))
        );
        let many: std::vec::Vec<_> = (0..5)
            .map(|at| volume(["a", "b", "c", "d", "e"][at], VolumeKind::Local, 2))
            .collect();
        assert_eq!(
            describe(&ledger(&spec(), &many), GuestId(0)),
            Err(Undescribed::Disks)
        );
        let large = [volume("root", VolumeKind::Ephemeral, 500)];
        assert_eq!(
            describe(&ledger(&spec(), &large), GuestId(0)),
            Err(Undescribed::Memory)
        );
    }
}
