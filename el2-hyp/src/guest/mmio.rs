//! The guest machine's map (docs/guest-machine.md), and an access to each place in it.

use crate::addr::Ipa;
use crate::arch::lists::Lists;
use crate::arch::timer::VirtualTimer;
use crate::device::watchdog;
use crate::exit::Width;
use crate::guest::devices::Access;
use crate::guest::{Guest, signs};
use crate::host::Host;
use crate::machine;
use crate::vgic::{Frame, Intid, ListRegisters, VcpuId, VcpuMask, Vgic};

/// GICv2: the first page of the CPU interface is the hardware's virtual interface, by stage 2; the second, with the deactivate register,
/// traps.
const GICC_DIR: u64 = machine::GICC_BASE + 0x1000;
/// The console's interrupt.
const UART_INTID: Intid = Intid::new(machine::intid(
    machine::InterruptKind::Shared,
    machine::UART_SPI,
))
.expect("an SPI");

/// MagicValue, Version, DeviceID of an empty slot (virtio 1.2, section 4.2.2): drivers pass over device 0.
const VIRTIO_MAGIC: u64 = 0x7472_6976;
const VIRTIO_VERSION: u64 = 2;

/// A shared line is no vCPU's own.
pub(super) const ANY: VcpuId = VcpuId::new(0).expect("there is a first vCPU");

/// A place that answers.
enum Place {
    Gic(Frame, u32),
    Deactivate,
    Uart(u64),
    Slot(usize, u64),
    Watchdog(watchdog::Frame, u64),
    PanicNotice(u64),
}

/// What answers at an address; what is asked most comes first.
#[inline(always)]
fn place(ipa: Ipa, v3: bool) -> Option<Place> {
    let within =
        |base: u64, bytes: u64| ipa.offset_from(Ipa(base)).filter(|&offset| offset < bytes);
    if let Some(offset) = within(machine::UART_BASE, machine::UART_BYTES) {
        return Some(Place::Uart(offset));
    }
    if let Some(offset) = within(machine::GICD_BASE, machine::GICD_BYTES) {
        return Some(Place::Gic(Frame::Distributor, offset as u32));
    }
    if v3 {
        let all = machine::GICR_BYTES * u64::from(machine::MAX_VCPUS);
        if let Some(offset) = within(machine::GICR_BASE, all) {
            return Frame::redistributor_at(offset)
                .map(|(frame, offset)| Place::Gic(frame, offset));
        }
    } else if ipa.0 == GICC_DIR {
        return Some(Place::Deactivate);
    }
    let slots = machine::VIRTIO_BYTES * u64::from(machine::VIRTIO_SLOTS);
    if let Some(offset) = within(machine::VIRTIO_BASE, slots) {
        let slot = (offset / machine::VIRTIO_BYTES) as usize;
        return Some(Place::Slot(slot, offset % machine::VIRTIO_BYTES));
    }
    for (base, frame) in [
        (machine::WATCHDOG_REFRESH_BASE, watchdog::Frame::Refresh),
        (machine::WATCHDOG_CONTROL_BASE, watchdog::Frame::Control),
    ] {
        if let Some(offset) = within(base, machine::WATCHDOG_BYTES) {
            return Some(Place::Watchdog(frame, offset));
        }
    }
    within(machine::PANIC_BASE, machine::PANIC_BYTES).map(Place::PanicNotice)
}

/// Nothing answers at that address.
pub(super) struct NoDevice;

/// The guest may have turned its timer off, or on to a later time, since the interrupt was listed; the hardware does not say so.
#[inline(always)]
pub(super) fn sample_timer(
    vgic: &mut Vgic,
    vcpu: VcpuId,
    lists: &mut impl ListRegisters,
) -> VcpuMask {
    if VirtualTimer::line() {
        VcpuMask::EMPTY
    } else {
        vgic.lower_mapped(vcpu, lists)
    }
}

impl Guest {
    fn is_v3(&self) -> bool {
        matches!(self.hardware.interface, crate::arch::lists::Interface::V3)
    }

    /// This core's list registers.
    #[inline(always)]
    pub(super) fn lists<'a, H: Host>(&self, host: &'a H) -> Lists<impl Fn(u32) + use<'a, H>> {
        Lists::new(
            self.hardware.interface,
            self.hardware.list_registers,
            |intid| host.deactivate(intid),
        )
    }

    /// A load of `width` at `ipa`.
    #[inline]
    pub(super) fn mmio_read<H: Host>(
        &self,
        host: &H,
        vcpu: VcpuId,
        ipa: Ipa,
        width: Width,
    ) -> Result<u64, NoDevice> {
        match place(ipa, self.is_v3()).ok_or(NoDevice)? {
            Place::Gic(frame, offset) => {
                let mut vgic = self.vgic.lock();
                let lists = &mut self.lists(host);
                let sampled = sample_timer(&mut vgic, vcpu, lists);
                let reading = vgic.read(vcpu, frame, offset, width, lists);
                drop(vgic);
                self.tell(host, sampled | reading.told);
                Ok(reading.value)
            }
            Place::Uart(offset) => {
                let console = host.console(self.id);
                let mut uart = self.uart.lock();
                let value = uart.read(offset, &console);
                let line = uart.take_line_change();
                drop(uart);
                self.set_uart_line(host, line);
                Ok(value.into())
            }
            Place::Deactivate => Ok(0),
            Place::Slot(slot, offset) if slot < self.devices.len() => {
                Ok(self.slot_read(slot, offset, width))
            }
            Place::Slot(_, offset) => Ok(match offset {
                0 => VIRTIO_MAGIC,
                4 => VIRTIO_VERSION,
                _ => 0,
            }),
            Place::Watchdog(frame, offset) => Ok(self.watchdog_read((frame, offset), width)),
            Place::PanicNotice(offset) => Ok(signs::read_panic_register(offset)),
        }
    }

    /// A store of `value`, `width` wide, at `ipa`.
    #[inline]
    pub(super) fn mmio_write<H: Host>(
        &self,
        host: &H,
        vcpu: VcpuId,
        ipa: Ipa,
        width: Width,
        value: u64,
    ) -> Result<Access, NoDevice> {
        match place(ipa, self.is_v3()).ok_or(NoDevice)? {
            Place::Gic(frame, offset) => {
                let mut vgic = self.vgic.lock();
                let sampled = sample_timer(&mut vgic, vcpu, &mut self.lists(host));
                let told = vgic.write(vcpu, frame, offset, width, value);
                drop(vgic);
                self.tell(host, sampled | told);
            }
            Place::Uart(offset) => {
                let mut console = host.console(self.id);
                let mut uart = self.uart.lock();
                uart.write(offset, value as u32, &mut console);
                let line = uart.take_line_change();
                drop(uart);
                self.set_uart_line(host, line);
            }
            Place::Deactivate => self.deactivate(host, vcpu, value),
            Place::Slot(slot, offset) if slot < self.devices.len() => {
                return Ok(self.slot_write(host, slot, (offset, width, value)));
            }
            Place::Slot(..) => {}
            Place::Watchdog(frame, offset) => {
                self.watchdog_write(host, (frame, offset), width, value);
            }
            Place::PanicNotice(offset) => self.notice_panic(host, offset, value),
        }
        Ok(Access::Done)
    }

    /// A write to the deactivate register.
    pub(super) fn deactivate<H: Host>(&self, host: &H, vcpu: VcpuId, value: u64) {
        let Some(intid) = Intid::new(value as u32 & 0x3ff) else {
            return;
        };
        let told = self
            .vgic
            .lock()
            .deactivate(vcpu, intid, &mut self.lists(host));
        self.tell(host, told | VcpuMask::one(vcpu));
    }

    #[inline]
    fn set_uart_line<H: Host>(&self, host: &H, line: Option<bool>) {
        if let Some(level) = line {
            let told = self.vgic.lock().set_line(UART_INTID, ANY, level);
            self.tell(host, told);
        }
    }

    /// A byte for the guest's console: the virtio one if its driver is ready, else the PL011. Handed back when there is no room.
    pub fn receive<H: Host>(&self, host: &H, byte: u8) -> Result<(), u8> {
        if self.receive_virtio(host, byte).is_ok() {
            return Ok(());
        }
        let mut uart = self.uart.lock();
        let result = uart.receive(byte);
        let line = uart.take_line_change();
        drop(uart);
        self.set_uart_line(host, line);
        result
    }

    /// Makes vCPUs look at their interrupts: those that run are kicked, those that wait are woken.
    #[inline]
    pub fn tell<H: Host>(&self, host: &H, vcpus: VcpuMask) {
        for vcpu in vcpus {
            match self.vcpus[vcpu.index()].ask() {
                Some(core) if core == host.core() => {}
                Some(core) => host.kick(core),
                None => host.wake(self.id, vcpu.index()),
            }
        }
    }
}
