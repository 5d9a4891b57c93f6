//! A guest as bytes, and a guest made of them.
//!
//! **To bytes.** Pages and blocks go while the guest runs (`record::content`). Then it stops: no vCPU is loaded, none will be, and nothing is in flight at the board's
//! disk, and its cards take no frames ([`Guest::set_still`]). [`Guest::write_state`] writes the rest, a section a call.
//!
//! **From bytes.** A guest with the same vCPUs and devices was made, and never ran. Its memory and disks have been filled. [`Guest::can_adopt`] compares what has come with
//! what was made, and changes nothing; [`Guest::adopt`] then cannot fail. After that each vCPU that is on is to be put on a core, as after PSCI's CPU_ON.

use core::ops::Range;
use core::sync::atomic::Ordering;

use crate::arch::{config, timer};
use crate::device::virtio::block::record::{OtherDisk, Pinned};
use crate::device::virtio::{DeviceId, net};
use crate::guest::devices::Device;
use crate::guest::{Guest, PHYSICAL_TIMER};
use crate::host::Host;
use crate::psci::{Power, VcpuPower};
use crate::record::content::{self, Written};
use crate::record::header::{Board, Header, Identity};
use crate::record::intake::Parts;
use crate::record::units::{Packer, Units};
use crate::record::vcpu::Aarch32;
use crate::record::{Kind, Malformed, NoRoom, Writer, device};
use crate::vcpu::Context;
use crate::vgic::{VcpuId, VcpuMask};
use crate::volume::overlay::Overlay;

/// Why a guest does not go to another board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// The disk in this slot is the board's.
    Pinned(u8),
    /// A section did not fit into the buffer.
    NoRoom,
}

impl From<NoRoom> for Stays {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// What has come is not what was made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It has another interrupt controller, or other numbers of vCPUs or bytes.
    Machine,
    /// The device in this slot is another.
    Slot(u8),
}

impl Guest {
    /// Whether all its disks can go to another board.
    ///
    /// # Errors
    /// Which cannot.
    pub fn can_move(&self) -> Result<(), Stays> {
        for (slot, device) in self.devices.iter().enumerate() {
            if let Device::Block(_, block) = device {
                let moves = block.lock().can_move();
                moves.map_err(|Pinned| Stays::Pinned(slot as u8))?;
            }
        }
        Ok(())
    }

    /// The header of its record.
    pub fn header(&self) -> Header {
        Header {
            gic: self.gic_version(),
            priority_registers: self.hardware.interface.active_priority_registers() as u8,
            vcpus: self.vcpus.len() as u8,
            ram: self.memory.size(),
            // The architecture has 32 bits for it.
            frequency: timer::frequency() as u32,
            identity: self.identity(),
            slots: self.kinds(),
        }
    }

    /// Why a guest of that header cannot become this one, which was made for it on this board.
    ///
    /// # Errors
    /// [`Refused`](crate::record::header::Refused).
    pub fn can_host(&self, header: &Header) -> Result<(), crate::record::header::Refused> {
        header.fits(&Board {
            gic: self.gic_version(),
            priority_registers: self.hardware.interface.active_priority_registers() as u8,
            memory: self.memory.size(),
            frequency: timer::frequency() as u32,
            identity: &self.identity(),
        })
    }

    fn identity(&self) -> Identity {
        Identity {
            midr: config::midr(),
            ctr: config::ctr(),
            dczid: config::dczid(),
            id: self.id_registers.clone(),
        }
    }

    /// How many blocks the disk in a slot has, if that has an ephemeral one.
    pub fn disk_blocks(&self, slot: usize) -> Option<u32> {
        self.with_disk(slot, |overlay| overlay.blocks())
    }

    /// Makes all blocks in `range` of the disk in a slot that differ from its image count as changed: a copy begins.
    ///
    /// # Panics
    /// If the range goes beyond the disk.
    pub fn change_blocks(&self, slot: usize, range: Range<u32>) {
        self.with_disk(slot, |overlay| overlay.change_all(range));
    }

    /// Writes a section of blocks of the disk in a slot: see [`content::write_blocks`].
    ///
    /// # Errors
    /// If there is no room.
    pub fn write_blocks(
        &self,
        slot: usize,
        blocks: Range<u32>,
        (writer, buffer): (&mut Writer, &mut [u8]),
        packer: Option<&mut Packer>,
    ) -> Result<(Written, Option<u32>), NoRoom> {
        let write = |overlay: &mut Overlay<'static>| {
            content::write_blocks(writer, buffer, (slot as u8, overlay), blocks, packer)
        };
        self.with_disk(slot, write)
            .unwrap_or(Ok((Written::default(), None)))
    }

    /// Puts blocks into the disk in a slot, of a guest that is coming.
    ///
    /// # Errors
    /// If there is no such disk, or [`content::put_blocks`] says so.
    pub fn put_blocks(&self, slot: usize, units: Units<'_>) -> Result<(), Malformed> {
        self.with_disk(slot, |overlay| content::put_blocks(units, overlay))
            .unwrap_or(Err(Malformed::Value("the slot of a disk")))
    }

    fn with_disk<R>(
        &self,
        slot: usize,
        body: impl FnOnce(&mut Overlay<'static>) -> R,
    ) -> Option<R> {
        match self.devices.get(slot)? {
            Device::Block(_, block) => block.lock().overlay_mut().map(body),
            _ => None,
        }
    }

    /// Its devices' kinds, for a header.
    pub fn kinds(&self) -> crate::record::header::Slots {
        self.devices.iter().map(Device::kind).collect()
    }

    /// How many sections [`write_state`](Self::write_state) writes: the counter, the PL011, the interrupt controller, the watchdog, then vCPUs and devices.
    pub fn state_sections(&self) -> usize {
        4 + self.vcpus.len() + self.devices.len()
    }

    /// Writes section `step` of what the guest is besides its memory and disks; the bytes of it. The steps are taken from zero up to
    /// [`state_sections`](Self::state_sections), with the guest stopped all the while.
    ///
    /// # Errors
    /// If a disk is the board's, or there is no room.
    ///
    /// # Panics
    /// If there is no such step, or a vCPU is loaded.
    pub fn write_state(
        &self,
        step: usize,
        writer: &mut Writer,
        buffer: &mut [u8],
    ) -> Result<usize, Stays> {
        let vcpus = self.vcpus.len();
        let written = match step {
            0 => writer.section(buffer, Kind::Time, 0, |to| to.u64(self.virtual_now())),
            1 => writer.section(buffer, Kind::Uart, 0, |to| self.uart.lock().to_record(to)),
            2 => writer.section(buffer, Kind::Interrupts, 0, |to| {
                self.vgic.lock().to_record(to)
            }),
            3 => writer.section(buffer, Kind::Watchdog, 0, |to| {
                self.watchdog.lock().to_record(to)
            }),
            step if step < 4 + vcpus => {
                let index = step - 4;
                let power = self.power.lock().state(index);
                let context = self.vcpus[index].context.lock();
                let state = context.state(power, self.aarch32());
                writer.section(buffer, Kind::Vcpu, index as u16, |to| state.to_record(to))
            }
            step => return self.write_device(step - 4 - vcpus, writer, buffer),
        };
        Ok(written?)
    }

    fn write_device(
        &self,
        slot: usize,
        writer: &mut Writer,
        buffer: &mut [u8],
    ) -> Result<usize, Stays> {
        let it = &self.devices[slot];
        let mut moves = Ok(());
        let written = writer.section(buffer, Kind::Device, slot as u16, |to| match it {
            Device::Block(signals, block) => {
                device::begin(DeviceId::Block, signals, to);
                moves = block.lock().to_record(to);
            }
            Device::Network(card) => {
                let (control, transmit, receive) = card.halves();
                device::begin(DeviceId::Network, card.signals(), to);
                net::record::to_record(&control.lock(), &transmit.lock(), &receive.lock(), to);
            }
            Device::Console(signals, console) => {
                device::begin(DeviceId::Console, signals, to);
                console.lock().to_record(to);
            }
            Device::Entropy(signals, entropy) => {
                device::begin(DeviceId::Entropy, signals, to);
                entropy.lock().0.to_record(to);
            }
        })?;
        moves.map_err(|Pinned| Stays::Pinned(slot as u8))?;
        Ok(written)
    }

    /// Whether this guest, which was made for what has come and never ran, can become it.
    ///
    /// # Errors
    /// What is not the same.
    pub fn can_adopt(&self, parts: &Parts) -> Result<(), Mismatch> {
        let header = &parts.header;
        let same = header.gic == self.gic_version()
            && usize::from(header.vcpus) == self.vcpus.len()
            && parts.vcpus.len() == self.vcpus.len()
            && header.ram == self.memory.size()
            && header.identity.id == self.id_registers
            && parts.devices.len() == self.devices.len();
        if !same {
            return Err(Mismatch::Machine);
        }
        for (slot, (own, its)) in self.devices.iter().zip(&parts.devices).enumerate() {
            let mismatch = Mismatch::Slot(slot as u8);
            let fits = match (own, &its.parts) {
                (Device::Block(_, block), device::Parts::Block(parts)) => {
                    block.lock().fits(parts).map_err(|OtherDisk| mismatch)
                }
                (Device::Network(card), device::Parts::Network(parts)) => {
                    let (control, ..) = card.halves();
                    let same = control.lock().mac() == parts.control.mac();
                    same.then_some(()).ok_or(mismatch)
                }
                (Device::Console(..), device::Parts::Console(_))
                | (Device::Entropy(..), device::Parts::Entropy(_)) => Ok(()),
                _ => Err(mismatch),
            };
            fits?;
        }
        Ok(())
    }

    /// Becomes what has come. Its counter goes on from where it stood. Each device looks once for work; a card's guest is still to be asked to announce itself.
    /// Its memory has been made coherent for a guest whose caches may be off.
    ///
    /// # Panics
    /// If it [cannot](Self::can_adopt).
    pub fn adopt(&self, parts: Parts) {
        assert!(self.can_adopt(&parts).is_ok(), "another guest");
        // Its time went on while it was still: from when its count came, by this board's.
        let offset = parts.since.wrapping_sub(parts.time);
        self.counter_offset.store(offset, Ordering::Relaxed);
        *self.power.lock() = Power::from_states(parts.vcpus.iter().map(|vcpu| vcpu.power));
        for (index, (vcpu, state)) in self.vcpus.iter().zip(&parts.vcpus).enumerate() {
            let id = VcpuId::new(index).expect("a vCPU of this guest");
            let line = parts.vgic.line(PHYSICAL_TIMER, id);
            *vcpu.context.lock() = Context::from_state(state, line);
        }
        *self.vgic.lock() = *parts.vgic;
        *self.uart.lock() = *parts.uart;
        *self.watchdog.lock() = parts.watchdog;
        self.forgive_watchdog();
        for (own, its) in self.devices.iter().zip(parts.devices) {
            own.adopt(its);
        }
        let all = VcpuMask::first(self.vcpus.len());
        let slots = (1_u64 << self.devices.len()) - 1;
        self.pending.store(slots as u32, Ordering::Release);
        self.stalled.store(0, Ordering::Relaxed);
        self.unheard.store(0, Ordering::Relaxed);
        for vcpu in all {
            self.vcpus[vcpu.index()].ask();
        }
        *self.stop.lock() = None;
        self.stopping.store(false, Ordering::Release);
        crate::arch::maintenance::invalidate_guest(self.vttbr);
    }

    /// Says whether its devices do nothing for now, not even take frames: what they did between the last of its pages and their queues would be in the one and not
    /// in the other. The guest is frozen, or goes on: a core that is still serving a device has its lock, and one that comes later finds the guest frozen.
    pub fn set_still(&self, is_still: bool) {
        for device in &self.devices {
            match device {
                Device::Network(card) => {
                    let (_, transmit, receive) = card.halves();
                    drop(transmit.lock());
                    receive.lock().set_still(is_still);
                }
                Device::Block(_, block) => drop(block.lock()),
                Device::Console(_, console) => drop(console.lock()),
                Device::Entropy(_, entropy) => drop(entropy.lock()),
            }
        }
    }

    /// Asks the guest to announce itself to its networks, by each card whose driver can, and has it look at both queues of each: what happened in them last, before it came to this
    /// board, it may not have been told.
    pub fn announce<H: Host>(&self, host: &H) {
        for (slot, device) in self.devices.iter().enumerate() {
            if let Device::Network(card) = device {
                let (control, ..) = card.halves();
                let mut control = control.lock();
                control.announce(card.signals());
                if control.is_running() {
                    card.signals().used();
                }
                drop(control);
                self.update_line(host, slot, card.signals());
            }
        }
    }

    /// The power state of a vCPU: which are to be put on cores after [`adopt`](Self::adopt).
    pub fn power(&self, vcpu: usize) -> VcpuPower {
        self.power.lock().state(vcpu)
    }

    /// What a guest knows of 32-bit instructions.
    fn aarch32(&self) -> Aarch32 {
        crate::record::header::aarch32(&self.id_registers)
    }
}

impl Device {
    /// What kind of device it is.
    fn kind(&self) -> DeviceId {
        match self {
            Self::Block(..) => DeviceId::Block,
            Self::Network(_) => DeviceId::Network,
            Self::Console(..) => DeviceId::Console,
            Self::Entropy(..) => DeviceId::Entropy,
        }
    }

    /// Becomes a device that has come, of the same kind.
    fn adopt(&self, arrived: device::Arrived) {
        let signals = match (self, arrived.parts) {
            (Self::Block(signals, block), device::Parts::Block(parts)) => {
                block.lock().adopt(*parts);
                signals
            }
            (Self::Network(card), device::Parts::Network(parts)) => {
                let (control, transmit, receive) = card.halves();
                *control.lock() = parts.control;
                *transmit.lock() = parts.transmit;
                *receive.lock() = parts.receive;
                card.signals()
            }
            (Self::Console(signals, console), device::Parts::Console(its)) => {
                *console.lock() = *its;
                signals
            }
            (Self::Entropy(signals, entropy), device::Parts::Entropy(its)) => {
                entropy.lock().0 = *its;
                signals
            }
            // `can_adopt` compared the kinds.
            _ => return,
        };
        signals.adopt(&arrived.signals);
    }
}
