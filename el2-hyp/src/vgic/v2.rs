//! The GICv2 distributor's addresses (IHI 0048B section 4.1.2), and how a GICv2 guest sends SGIs.

use super::ids::{INTIDS, Intid, VcpuId, VcpuMask};
use super::model::Vgic;
use super::register::{Bits, Register};

const INTERRUPTS: u32 = INTIDS as u32;

/// The register at an offset.
#[inline(always)]
pub(super) fn distributor(offset: u32) -> Register {
    match offset {
        0x000 => Register::Control,
        0x004 => Register::Kind,
        0x008 => Register::Implementer,
        0x080..0x400 => match Bits::at(offset) {
            Some((bits, word)) => Register::Bits(bits, word),
            None => Register::Reserved,
        },
        0x400..0x800 => bytewise(offset - 0x400, INTERRUPTS, Register::Priority),
        0x800..0xc00 => bytewise(offset - 0x800, INTERRUPTS, Register::Target),
        0xc00..0xc20 => {
            let half = (offset - 0xc00) >> 2;
            Register::Trigger(half as usize >> 1, half & 1 != 0)
        }
        0xf00 => Register::Send,
        0xf10..0xf20 => bytewise(offset - 0xf10, 16, Register::ClearSource),
        0xf20..0xf30 => bytewise(offset - 0xf20, 16, Register::SetSource),
        0xfe8 => Register::Peripheral,
        _ => Register::Reserved,
    }
}

fn bytewise(number: u32, limit: u32, register: fn(Intid) -> Register) -> Register {
    match Intid::new(number) {
        Some(intid) if number < limit => register(intid),
        _ => Register::Reserved,
    }
}

impl Vgic {
    /// GICD_SGIR (IHI 0048B section 4.3.15): SGIINTID 3:0, CPUTargetList 23:16, TargetListFilter 25:24.
    pub(super) fn write_send(&mut self, sender: VcpuId, value: u32) -> VcpuMask {
        let targets = match value >> 24 & 3 {
            0 => VcpuMask((value >> 16) as u8),
            1 => self.everyone().without(sender),
            2 => VcpuMask::one(sender),
            _ => return VcpuMask::EMPTY,
        };
        self.send_sgi(sender, targets, value)
    }
}
