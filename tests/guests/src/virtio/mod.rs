//! Virtio devices, by way of the crate `virtio-drivers`: a driver that knows nothing of Hearth.
//!
//! Its queue and its transport are used, not its device drivers: a program decides itself when it notifies, and what it offers. The event
//! index is not agreed on: with it the crate neither suppresses interrupts nor tells rightly when to notify once indices have wrapped.
//! [`net`] is a card, [`block`] a disk.

pub mod block;
pub mod net;

use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// A device's queue of `N` entries.
type Queue<const N: usize> = virtio_drivers::queue::VirtQueue<Memory, N>;

/// VIRTIO_F_VERSION_1.
const VERSION_1: u64 = 1 << 32;
/// Status bits: acknowledged, with a driver, its features chosen, running.
const CHOSEN: DeviceStatus = DeviceStatus::ACKNOWLEDGE
    .union(DeviceStatus::DRIVER)
    .union(DeviceStatus::FEATURES_OK);

use crate::Machine;
use crate::machine::{self, Slot};
use crate::mmio;

/// Bytes of RAM, above what [`Machine::spare`] gives from its start, that devices' queues are made in.
const POOL_BYTES: usize = 4 << 20;

/// Where the pool goes on; 0 before the first use.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Zeroed memory for as long as the guest lives, `pages` pages of it; `None` when there is no more.
pub fn pages(pages: usize) -> Option<NonNull<u8>> {
    let spare = machine::get()?.spare(POOL_BYTES)?;
    let bytes = pages.checked_mul(PAGE_SIZE)?;
    let start = match NEXT.load(Ordering::Relaxed) {
        0 => spare.start,
        next => next,
    };
    let end = start.checked_add(bytes)?;
    if end > spare.end {
        return None;
    }
    // vCPU 0 alone sets devices up.
    NEXT.store(end, Ordering::Relaxed);
    let memory = NonNull::new(start as *mut u8)?;
    // SAFETY: nobody else has this part of the spare memory.
    unsafe { memory.write_bytes(0, bytes) };
    Some(memory)
}

/// Memory as the crate wants it: the guest's map is the identity, and nothing is ever given back.
pub struct Memory;

// SAFETY: `pages` hands out each page once; addresses are physical.
unsafe impl Hal for Memory {
    fn dma_alloc(count: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let memory = pages(count).expect("memory for queues");
        (memory.as_ptr() as PhysAddr, memory)
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        unreachable!("no PCI here")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

/// The device in `slot`, if there is one.
pub fn open(slot: &Slot) -> Option<MmioTransport<'static>> {
    let header = NonNull::new(slot.base as *mut VirtIOHeader)?;
    // SAFETY: the device tree says that a virtio device's registers are there.
    unsafe { MmioTransport::new(header, slot.bytes) }.ok()
}

/// Resets a device and takes what it offers of `wished`; gives that, or `None` where the device lacks the modern interface or refuses.
fn negotiate(device: &mut MmioTransport<'static>, wished: u64) -> Option<u64> {
    device.set_status(DeviceStatus::empty());
    device.set_status(DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER);
    let features = device.read_device_features() & (wished | VERSION_1);
    device.write_driver_features(features);
    device.set_status(CHOSEN);
    let taken = device.get_status().contains(CHOSEN);
    (taken && features & VERSION_1 != 0).then_some(features)
}

/// The devices of a kind, in the order of their slots. Others are not opened: a transport that is dropped resets its device.
pub fn devices(
    machine: &'static Machine,
    kind: DeviceType,
) -> impl Iterator<Item = (Slot, MmioTransport<'static>)> {
    /// The register that says what a device is.
    const DEVICE_ID: usize = 0x008;
    let wanted = machine
        .slots()
        .iter()
        .filter(move |slot| mmio::read32(slot.base + DEVICE_ID) == kind as u32);
    wanted.filter_map(|slot| Some((*slot, open(slot)?)))
}
