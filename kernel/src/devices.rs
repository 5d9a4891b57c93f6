//! The board's own card and disk: found in the device tree's slots, opened, and told apart by their interrupts.
//!
//! A board has one of each; more are told of and left alone.

use platform::disk::virtio::VirtioDisk;
use platform::dma::{PAGE_BYTES, Page};
use platform::nic::virtio::Card;
use platform::tree::{Interrupt, Tree, VirtioSlot};
use platform::virtio::{Device, Kind, OpenError};
use platform::{disk, nic};

use crate::{info, memory, warn};

/// A device and the interrupt that is its own.
pub struct Opened<D> {
    /// The device.
    pub device: D,
    /// Its interrupt.
    pub interrupt: Interrupt,
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// The network card.
    pub card: Option<Opened<Card>>,
    /// The disk.
    pub disk: Option<Opened<VirtioDisk>>,
}

/// Opens the first card and the first disk.
pub fn open(tree: &Tree) -> Found {
    let mut found = Found::default();
    for slot in &tree.virtio {
        if let Err(error) = take(slot, &mut found) {
            warn!(
                "the device at {:#x} is not used: {error}",
                slot.region.base()
            );
        }
    }
    found
}

fn take(slot: &VirtioSlot, found: &mut Found) -> Result<(), OpenError> {
    // SAFETY: the final map holds the slots of the tree, and this is their only user.
    let Some(device) = (unsafe { Device::probe(slot) })? else {
        return Ok(());
    };
    let at = slot.region.base();
    let Some(interrupt) = slot.interrupt else {
        warn!("the device at {at:#x} is not used: it has no interrupt");
        return Ok(());
    };
    match device.kind() {
        Kind::Network if found.card.is_none() => {
            let device = nic::virtio::open(device, pages(nic::virtio::PAGES)?)?;
            found.card = Some(Opened { device, interrupt });
        }
        Kind::Block if found.disk.is_none() => {
            let device = disk::virtio::open(device, pages(disk::virtio::PAGES)?)?;
            found.disk = Some(Opened { device, interrupt });
        }
        Kind::Network | Kind::Block => {
            info!(
                "a second {:?} device, at {at:#x}, is left alone",
                device.kind()
            );
        }
        Kind::Other(_) => {}
    }
    Ok(())
}

/// Memory for a device, for good.
fn pages(count: usize) -> Result<&'static mut [Page], OpenError> {
    const { assert!(PAGE_BYTES as u64 == el2_hyp::addr::PAGE_SIZE) };
    let at = memory::allocate(count.next_power_of_two()).ok_or(OpenError::Memory)?;
    // SAFETY: the frames were just given to us, are never given back, and the identity map covers them. Any bytes are a page.
    Ok(unsafe { core::slice::from_raw_parts_mut(at.0 as *mut Page, count) })
}
