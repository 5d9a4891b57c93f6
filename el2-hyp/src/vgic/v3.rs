//! The GICv3 frames' addresses (IHI 0069, the GICD, GICR and SGI register maps), and how a GICv3 guest sends SGIs.
//!
//! With affinity routing always on, private interrupts are in the redistributor's SGI frame alone, and the distributor
//! has neither targets nor GICD_SGIR.

use super::ids::{FIRST_SPI, Frame, INTIDS, Intid, SgiKind, VcpuId, VcpuMask};
use super::model::{Vgic, bank};
use super::register::{Bits, Register};

/// Bytes from one redistributor to the next: the RD frame and the SGI frame.
pub(super) const REDISTRIBUTOR_STRIDE: u64 = 0x2_0000;
/// Where the SGI frame starts.
const SGI_FRAME: u32 = 0x1_0000;
/// GICD_IROUTER<32>.
const ROUTERS: u32 = 0x6000 + 8 * FIRST_SPI;
/// After the last GICD_IROUTER.
const ROUTERS_END: u32 = 0x6000 + 8 * INTIDS as u32;

impl Frame {
    /// The redistributor at an offset from the first one's base, and the offset in it; nothing beyond the eighth.
    pub const fn redistributor_at(offset: u64) -> Option<(Self, u32)> {
        match VcpuId::new((offset / REDISTRIBUTOR_STRIDE) as usize) {
            Some(vcpu) => Some((
                Self::Redistributor(vcpu),
                (offset % REDISTRIBUTOR_STRIDE) as u32,
            )),
            None => None,
        }
    }
}

/// The distributor's register at an offset.
#[inline(always)]
pub(super) fn distributor(offset: u32) -> Register {
    match offset {
        0x0000 => Register::Control,
        0x0004 => Register::Kind,
        0x0008 => Register::Implementer,
        0x0080..0x0400 => match Bits::at(offset) {
            Some((bits, word)) if word != 0 => Register::Bits(bits, word),
            _ => Register::Reserved,
        },
        0x0420..0x0480 => Register::Priority(Intid::wrap(offset - 0x400)),
        0x0c08..0x0c20 => trigger(offset),
        ROUTERS..ROUTERS_END => {
            Register::Route(Intid::wrap((offset - 0x6000) >> 3), offset & 4 != 0)
        }
        0xffe8 => Register::Peripheral,
        _ => Register::Reserved,
    }
}

/// A redistributor's register at an offset.
#[inline(always)]
pub(super) fn redistributor(offset: u32) -> Register {
    if offset >= SGI_FRAME {
        return private(offset - SGI_FRAME);
    }
    match offset {
        0x0004 => Register::Implementer,
        0x0008 => Register::RedistributorKind(false),
        0x000c => Register::RedistributorKind(true),
        0x0014 => Register::Waker,
        0xffe8 => Register::Peripheral,
        _ => Register::Reserved,
    }
}

fn private(offset: u32) -> Register {
    match offset {
        0x0080..0x0400 => match Bits::at(offset) {
            Some((bits, 0)) => Register::Bits(bits, 0),
            _ => Register::Reserved,
        },
        0x0400..0x0420 => Register::Priority(Intid::wrap(offset - 0x400)),
        0x0c00..0x0c08 => trigger(offset),
        _ => Register::Reserved,
    }
}

fn trigger(offset: u32) -> Register {
    let half = (offset & 0x1f) >> 2;
    Register::Trigger(half as usize >> 1, half & 1 != 0)
}

impl Vgic {
    /// The guest's write to one of the registers that send an SGI (IHI 0069, ICC_SGI1R_EL1):
    /// TargetList 15:0, Aff1 23:16, INTID 27:24, Aff2 39:32, IRM 40, RS 47:44, Aff3 55:48. A virtual processor's affinity
    /// is its number at level 0. Returns who has to flush.
    #[inline]
    pub fn sgi1r(&mut self, sender: VcpuId, value: u64, kind: SgiKind) -> VcpuMask {
        let sgi = (value >> 24) as u32 & 0xf;
        let mut targets = if value >> 40 & 1 != 0 {
            self.everyone().without(sender)
        } else if value & (0xff_00ff_00ff_0000 | 0xf << 44) == 0 {
            VcpuMask(value as u8)
        } else {
            return VcpuMask::EMPTY;
        };
        if kind != SgiKind::Group1 {
            // These reach group 0 interrupts only; ICC_SGI1R_EL1 reaches both (IHI 0069, "Generating SGIs", for one security state).
            let bit = Intid::wrap(sgi).bit();
            for vcpu in targets {
                if self.banks[bank(vcpu, 0)].group1 & bit != 0 {
                    targets = targets.without(vcpu);
                }
            }
        }
        self.send_sgi(sender, targets, sgi)
    }
}
