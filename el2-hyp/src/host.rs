//! What a virtual machine needs of the board that runs it. The kernel implements it with its drivers; nothing here is `dyn`.

use crate::device::pl011::Sink;
use crate::device::virtio::block::disk::BoardDisk;
use crate::frame::{Frame, Malformed};
use crate::stage2::{Fault, dirty};
use crate::switch::{Forwarded, PortId};

/// What a physical interrupt was, once the board has dealt with its own part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostInterrupt {
    /// EL1's virtual timer. It stays active until the guest deactivates it.
    VirtualTimer,
    /// The virtual CPU interface asks for maintenance.
    Maintenance,
    /// The board's own, dealt with: a kick, its timer, a device.
    Other,
}

/// The board's Ethernet, for a batch of frames.
pub trait Network {
    /// Forwards what a guest's card sends.
    fn forward(&self, from: PortId, frame: Result<&Frame<'_>, Malformed>) -> Forwarded;
    /// A card's queue was reset: it does not wait for room any more.
    fn forget(&self, port: PortId);
    /// The batch is over: whoever got something is told. No lock of a device is held.
    fn finish(self);
}

/// The board, on the core that asks. A guest is named by its place among the board's guests.
pub trait Host {
    /// Where a guest's console output goes.
    type Console<'a>: Sink
    where
        Self: 'a;
    /// The board's Ethernet.
    type Network<'a>: Network
    where
        Self: 'a;
    /// The board's disk, for the requests of one device.
    type Disk<'a>: BoardDisk
    where
        Self: 'a;

    /// This core's number.
    fn core(&self) -> u8;
    /// Takes one physical interrupt.
    fn interrupt(&self) -> HostInterrupt;
    /// Whether this core has been asked to look whether the loaded vCPU should leave it. Looked at before every entry.
    fn is_asked(&self) -> bool;
    /// The answer, once asked.
    fn should_leave(&self) -> bool;
    /// Whether vCPUs outnumber cores, so that one that waits should leave.
    fn is_shared(&self) -> bool;
    /// Makes a private physical interrupt of this core active, as if it had been acknowledged.
    fn activate(&self, intid: u32);
    /// Makes a private physical interrupt of this core inactive.
    fn deactivate(&self, intid: u32);
    /// Makes another core leave its guest for a moment.
    fn kick(&self, core: u8);
    /// A vCPU that may be parked should look again.
    fn wake(&self, guest: usize, vcpu: usize);
    /// A vCPU that was off is to begin.
    fn turn_on(&self, guest: usize, vcpu: usize);
    /// This core must leave its guest at `deadline` (physical counter) at the latest, or need not on the guest's account.
    fn set_deadline(&self, deadline: Option<u64>);
    /// A guest's watchdog is due earlier than when it was looked at last.
    fn watch(&self, guest: usize);
    /// The loaded vCPU of a guest met a fault in the guest's RAM: its stage 2 and its log of written pages see to it.
    fn memory_fault(&self, guest: usize, fault: Fault) -> dirty::Found;
    /// A guest's console.
    fn console(&self, guest: usize) -> Self::Console<'_>;
    /// The Ethernet that a guest's card is a port of.
    fn network(&self) -> Self::Network<'_>;
    /// The board's disk, for the device in a slot of a guest. What was submitted begins when the value is dropped.
    fn disk(&self, guest: usize, slot: usize) -> Self::Disk<'_>;
}
