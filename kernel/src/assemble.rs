//! Which virtio devices a guest has, made from its description: disks first, then network cards, console and source of random numbers,
//! each in the next slot; and what of the board they take for that.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use cluster_proto::manifest::{Backing, Disk, Name};
use cluster_proto::package::{GuestView, ImageView};
use el2_hyp::addr::{BLOCK_2M, Pa};
use el2_hyp::device::virtio::block::{Block, Serial};
use el2_hyp::device::virtio::entropy::Generator;
use el2_hyp::frame::Mac;
use el2_hyp::guest::Device;
use el2_hyp::switch::{AttachError, PortId};
use el2_hyp::volume::SECTOR_BYTES;
use el2_hyp::volume::overlay::{BLOCK_BYTES, Overlay, OverlayError, OverlayMemory};

use crate::disk::{self, NoVolume};
use crate::{memory, net, random};

/// Why a guest cannot have its devices.
pub enum Unmade {
    /// No memory for what it writes to a disk, MiB.
    Memory(u64),
    /// A disk that makes no sense.
    Overlay(OverlayError),
    /// A volume.
    Volume(Name, NoVolume),
    /// A network card.
    Card(AttachError),
    /// There is no network.
    NoNetwork,
}

impl fmt::Display for Unmade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(mib) => {
                let (free, _) = memory::frames();
                write!(
                    f,
                    "its disks want {mib} MiB of memory, and {} are free",
                    free >> 8
                )
            }
            Self::Overlay(error) => write!(f, "its disk: {error:?}"),
            Self::Volume(name, why) => write!(f, "its volume {name}: {why}"),
            Self::Card(AttachError::Full) => write!(f, "the board's switch has no port left"),
            Self::Card(AttachError::Address) => write!(f, "its network card's address is taken"),
            Self::NoNetwork => write!(f, "the board has no network"),
        }
    }
}

/// What of the board a guest has for itself.
#[derive(Default)]
pub struct Holdings {
    /// Memory, in blocks of 2 MiB.
    pub memory: Vec<Pa>,
    /// Ports of the switch.
    pub ports: Vec<PortId>,
    volumes: Vec<Name>,
}

/// Blocks of memory that are given back at once.
const BLOCKS_AT_ONCE: usize = 64;

/// Whether a guest's cards are on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// From the beginning.
    Attached,
    /// Once the guest has arrived.
    Reserved,
}

impl Holdings {
    /// Puts a guest's cards on the network that were kept from it. `view` is what the guest was made from.
    ///
    /// # Errors
    /// If somebody on this board has one of their addresses.
    pub fn join(&self, view: &GuestView<'_>) -> Result<(), AttachError> {
        let network = net::network();
        for (nic, &port) in view.guest.nics.iter().zip(&self.ports) {
            network.map_or(Ok(()), |network| network.join(port, Mac(nic.mac.octets())))?;
        }
        Ok(())
    }

    /// Nothing comes in by its ports any more.
    pub fn detach(&self) {
        if let Some(network) = net::network() {
            self.ports.iter().for_each(|&port| network.detach(port));
        }
    }

    /// Gives a part of it back, none of which any core has in hand; whether that was the last.
    pub fn give_back(&mut self) -> bool {
        for port in self.ports.drain(..) {
            if let Some(network) = net::network() {
                network.release(port);
            }
        }
        for volume in self.volumes.drain(..) {
            if let Some(disk) = disk::disk() {
                disk.give_back(volume.as_str());
            }
        }
        let left = self.memory.len().saturating_sub(BLOCKS_AT_ONCE);
        memory::free_guest_ram(&self.memory[left..]);
        self.memory.truncate(left);
        left == 0
    }

    /// Gives all of it back, for a guest that did not come to be.
    pub fn give_all_back(mut self) {
        self.detach();
        while !self.give_back() {}
    }
}

/// The devices of guest number `id`. What they take of the board is added to `holdings`, also if that fails.
pub fn devices(
    id: usize,
    view: &GuestView<'static>,
    ports: Ports,
    holdings: &mut Holdings,
) -> Result<Box<[Device]>, Unmade> {
    let mut devices = Vec::new();
    for (disk, image) in view.guest.disks.iter().zip(&view.disks) {
        devices.push(Device::block(block(disk, image.as_ref(), holdings)?));
    }
    for nic in &view.guest.nics {
        let mac = Mac(nic.mac.octets());
        let network = net::network().ok_or(Unmade::NoNetwork)?;
        let port = match ports {
            Ports::Attached => network.attach(id, devices.len(), mac),
            Ports::Reserved => network.reserve(id, devices.len()),
        };
        let port = port.map_err(Unmade::Card)?;
        holdings.ports.push(port);
        devices.push(Device::network(mac, port));
    }
    if view.guest.virtio_console {
        devices.push(Device::console());
    }
    if view.guest.entropy {
        devices.push(Device::entropy(Generator::new(random::draw())));
    }
    Ok(devices.into_boxed_slice())
}

fn block(
    disk: &Disk,
    image: Option<&ImageView<'static>>,
    holdings: &mut Holdings,
) -> Result<Block<'static>, Unmade> {
    let serial = Serial::new(disk.serial.as_str());
    match &disk.backing {
        Backing::Local { volume } => {
            let taken = disk::disk().ok_or(NoVolume::NoTable);
            let taken = taken.and_then(|disk| disk.take(volume.as_str()));
            let (extent, read_only, limits) =
                taken.map_err(|why| Unmade::Volume(volume.clone(), why))?;
            holdings.volumes.push(volume.clone());
            let read_only = read_only || disk.read_only;
            Ok(Block::local(extent, limits, read_only, serial))
        }
        Backing::Ephemeral { size, overlay, .. } => {
            let image = image.map_or(&[][..], |image| image.bytes);
            let sectors = u64::from(size.sectors());
            let room = overlay.as_ref().map_or(0, |mib| u64::from(mib.get()) << 20);
            let memory = overlay_memory(sectors, room, holdings)?;
            let overlay = Overlay::new(image, sectors, memory).map_err(Unmade::Overlay)?;
            Ok(Block::ephemeral(overlay, disk.read_only, serial))
        }
    }
}

/// Memory for `room` bytes of what a guest writes to a disk of so many sectors, and for the map of its blocks.
fn overlay_memory(
    sectors: u64,
    room: u64,
    holdings: &mut Holdings,
) -> Result<OverlayMemory, Unmade> {
    let size = (sectors * SECTOR_BYTES).next_multiple_of(BLOCK_BYTES);
    let all = Overlay::memory_for(sectors).ok_or(Unmade::Overlay(OverlayError::Size))?;
    let bytes = (all - size + room.min(size)).next_multiple_of(BLOCK_2M);
    let blocks = memory::allocate_guest_ram(bytes).ok_or(Unmade::Memory(bytes >> 20))?;
    holdings.memory.extend(&blocks);
    // SAFETY: the blocks were just taken for this disk, and are given back when it is gone; the identity map covers them.
    Ok(unsafe { OverlayMemory::new(blocks.into_boxed_slice()) })
}
