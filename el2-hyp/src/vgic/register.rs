//! What the guest-visible registers do, whatever their address.
//!
//! [`v2`](super::v2) and [`v3`](super::v3) turn an offset into a [`Register`]; here each of them is read and written. What is
//! reserved, unimplemented, misaligned or of a width that the register does not take reads as zero and ignores writes
//! (IHI 0048B section 4.1.4, and the GICD and GICR accesses of IHI 0069, allow it).

use super::ids::{Frame, Intid, VcpuId, VcpuMask, Version, WORDS, Width};
use super::list::ListRegisters;
use super::model::{Vgic, bank};
use super::state::Bank;

/// GICD_TYPER.ITLinesNumber: 128 interrupts are 32 * (3 + 1).
const TYPER_LINES: u64 = WORDS as u64 - 1;
/// GICD_TYPER.IDbits of GICv3: ten bits of interrupt identifier, less one. No LPIs, no message-based SPIs.
const TYPER_ID_BITS: u64 = 9 << 19;
/// GICD_IIDR and GICR_IIDR: product 'H', variant and revision 0, implementer Arm, which the architecture's owner is.
const IIDR: u64 = 0x4800_043b;
/// GICD_PIDR2 of a GICv2, as GIC-400 has it; ArchRev 2.
const PIDR2_V2: u64 = 0x2b;
/// GICD_PIDR2 and GICR_PIDR2 of a GICv3; ArchRev 3.
const PIDR2_V3: u64 = 0x3b;
/// GICD_CTLR of GICv3: one security state (DS) and affinity routing (ARE), both fixed.
const CTLR_FIXED_V3: u64 = 1 << 6 | 1 << 4;
/// GICR_TYPER.Last.
const REDISTRIBUTOR_LAST: u64 = 1 << 4;
/// GICR_WAKER.ProcessorSleep.
pub(super) const WAKER_SLEEP: u64 = 1 << 1;
/// GICR_WAKER.ChildrenAsleep.
const WAKER_CHILDREN_ASLEEP: u64 = 1 << 2;

/// The registers with one bit for each interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bits {
    Group,
    SetEnable,
    ClearEnable,
    SetPending,
    ClearPending,
    SetActive,
    ClearActive,
}

impl Bits {
    /// The register at 0x080 to 0x3ff of a distributor or an SGI frame, 0x80 bytes each, and its word.
    #[inline(always)]
    pub(super) fn at(offset: u32) -> Option<(Self, usize)> {
        let bits = match offset >> 7 {
            1 => Self::Group,
            2 => Self::SetEnable,
            3 => Self::ClearEnable,
            4 => Self::SetPending,
            5 => Self::ClearPending,
            6 => Self::SetActive,
            7 => Self::ClearActive,
            _ => return None,
        };
        let word = (offset as usize & 0x7f) >> 2;
        (word < WORDS).then_some((bits, word))
    }

    /// Whether its value may be in list registers.
    fn is_state(self) -> bool {
        !matches!(self, Self::Group | Self::SetEnable | Self::ClearEnable)
    }
}

/// A register that a guest can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    /// GICD_CTLR.
    Control,
    /// GICD_TYPER.
    Kind,
    /// GICD_IIDR, GICR_IIDR.
    Implementer,
    /// PIDR2.
    Peripheral,
    /// One bit for each interrupt of a word.
    Bits(Bits, usize),
    /// IPRIORITYR, one byte for each interrupt.
    Priority(Intid),
    /// ITARGETSR, one byte for each interrupt.
    Target(Intid),
    /// ICFGR, two bits for each interrupt: the upper (true) or lower half of a word.
    Trigger(usize, bool),
    /// IROUTER; true is its upper half.
    Route(Intid, bool),
    /// GICD_SGIR.
    Send,
    /// GICD_CPENDSGIR, one byte for each SGI.
    ClearSource(Intid),
    /// GICD_SPENDSGIR, one byte for each SGI.
    SetSource(Intid),
    /// GICR_TYPER; true is its upper half.
    RedistributorKind(bool),
    /// GICR_WAKER.
    Waker,
    /// Nothing that is there.
    Reserved,
}

impl Register {
    /// Whether an access of `width` is one that the register takes.
    #[inline(always)]
    fn takes(self, width: Width) -> bool {
        match width {
            Width::Word => true,
            Width::Byte => matches!(
                self,
                Self::Priority(_) | Self::Target(_) | Self::ClearSource(_) | Self::SetSource(_)
            ),
            Width::Double => matches!(self, Self::Route(_, false) | Self::RedistributorKind(false)),
            Width::Half => false,
        }
    }
}

/// What a read gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The value; bits above the access's width are zero.
    pub value: u64,
    /// Who has to flush.
    pub told: VcpuMask,
}

impl Vgic {
    /// The register at `offset` of `frame`, and whose view of it.
    #[inline(always)]
    pub(super) fn decode(
        &self,
        vcpu: VcpuId,
        frame: Frame,
        offset: u32,
        width: Width,
    ) -> (VcpuId, Register) {
        if offset & width.misalignment() != 0 {
            return (vcpu, Register::Reserved);
        }
        let (subject, register) = match (self.version, frame) {
            (Version::V2, Frame::Distributor) => (vcpu, super::v2::distributor(offset)),
            (Version::V3, Frame::Distributor) => (vcpu, super::v3::distributor(offset)),
            (Version::V3, Frame::Redistributor(of)) if of.index() < self.vcpus() => {
                (of, super::v3::redistributor(offset))
            }
            _ => (vcpu, Register::Reserved),
        };
        if register.takes(width) {
            (subject, register)
        } else {
            (subject, Register::Reserved)
        }
    }

    /// The guest's read of `width` at `offset` of `frame`, made by `vcpu`, whose list registers `lists` are. They are
    /// folded first where they may hold the answer.
    pub fn read<L: ListRegisters>(
        &mut self,
        vcpu: VcpuId,
        frame: Frame,
        offset: u32,
        width: Width,
        lists: &mut L,
    ) -> Reading {
        let (subject, register) = self.decode(vcpu, frame, offset, width);
        let mut told = VcpuMask::EMPTY;
        if let Register::Bits(bits, word) = register
            && bits.is_state()
        {
            if self.cpus[vcpu.index()].used != 0 {
                told = self.fold(vcpu, lists) | VcpuMask::one(vcpu);
            }
            told |= self.observe(subject, word);
        } else if matches!(register, Register::ClearSource(_) | Register::SetSource(_))
            && self.cpus[vcpu.index()].used != 0
        {
            told = self.fold(vcpu, lists) | VcpuMask::one(vcpu);
        }
        Reading {
            value: self.value(subject, register, width),
            told,
        }
    }

    /// Asks everyone who has interrupts of a word listed to fold.
    fn observe(&mut self, vcpu: VcpuId, word: usize) -> VcpuMask {
        let listed = self.banks[bank(vcpu, word)].listed;
        if listed == 0 {
            return VcpuMask::EMPTY;
        }
        self.touch_word(vcpu, word, listed)
    }

    fn value(&self, vcpu: VcpuId, register: Register, width: Width) -> u64 {
        match register {
            Register::Control => self.control(),
            Register::Kind => self.kind(),
            Register::Implementer => IIDR,
            Register::Peripheral if self.version == Version::V2 => PIDR2_V2,
            Register::Peripheral => PIDR2_V3,
            Register::Bits(bits, word) => u64::from(self.bits(&self.banks[bank(vcpu, word)], bits)),
            Register::Priority(first) => {
                gather(width, first, |intid| self.priority(vcpu, intid).byte())
            }
            Register::Target(first) => gather(width, first, |intid| self.target_byte(vcpu, intid)),
            Register::ClearSource(first) | Register::SetSource(first) => {
                gather(width, first, |intid| self.source_byte(vcpu, intid))
            }
            Register::Trigger(word, upper) => {
                let edge = self.banks[bank(vcpu, word)].edge;
                spread(if upper { edge >> 16 } else { edge & 0xffff })
            }
            Register::Route(intid, upper) => half(self.route(intid), upper, width),
            Register::RedistributorKind(upper) => half(self.redistributor_kind(vcpu), upper, width),
            Register::Waker if self.cpus[vcpu.index()].asleep => {
                WAKER_SLEEP | WAKER_CHILDREN_ASLEEP
            }
            Register::Waker | Register::Send | Register::Reserved => 0,
        }
    }

    fn control(&self) -> u64 {
        let enables = u64::from(self.group_on[0] & 1) | u64::from(self.group_on[1] & 2);
        match self.version {
            Version::V2 => enables,
            Version::V3 => enables | CTLR_FIXED_V3,
        }
    }

    fn kind(&self) -> u64 {
        match self.version {
            Version::V2 => TYPER_LINES | u64::from(self.count.saturating_sub(1)) << 5,
            Version::V3 => TYPER_LINES | TYPER_ID_BITS,
        }
    }

    fn redistributor_kind(&self, vcpu: VcpuId) -> u64 {
        let number = vcpu.index() as u64;
        let last = vcpu.index() as u8 == self.count.saturating_sub(1);
        number << 32 | number << 8 | if last { REDISTRIBUTOR_LAST } else { 0 }
    }

    fn bits(&self, bank: &Bank, bits: Bits) -> u32 {
        match bits {
            Bits::Group => bank.group1,
            Bits::SetEnable | Bits::ClearEnable => bank.enabled,
            Bits::SetPending | Bits::ClearPending => bank.pending() | bank.listed_latch,
            Bits::SetActive | Bits::ClearActive => bank.active,
        }
    }

    /// GICD_ITARGETSR: a private interrupt shows who asks, except that one lone processor reads zero throughout
    /// (IHI 0048B section 4.3.12).
    fn target_byte(&self, vcpu: VcpuId, intid: Intid) -> u8 {
        if self.count == 1 {
            0
        } else if intid.is_spi() {
            self.route(intid) as u8
        } else {
            VcpuMask::one(vcpu).0
        }
    }

    /// The senders of an SGI that is pending, the listed one among them.
    pub(super) fn source_byte(&self, vcpu: VcpuId, intid: Intid) -> u8 {
        let cpu = &self.cpus[vcpu.index()];
        let place = intid.place() % 16;
        let listed = if self.banks[bank(vcpu, 0)].listed_latch & intid.bit() != 0 {
            VcpuMask::one(cpu.in_service[place]).0
        } else {
            0
        };
        cpu.sources[place] | listed
    }
}

/// Bytes of an access to a register of one byte for each interrupt: one or four.
pub(super) fn bytes(width: Width) -> u32 {
    if width == Width::Byte { 1 } else { 4 }
}

fn gather(width: Width, first: Intid, byte: impl Fn(Intid) -> u8) -> u64 {
    let mut value = 0;
    for place in 0..bytes(width) {
        let intid = Intid::wrap(first.number() | place);
        value |= u64::from(byte(intid)) << (8 * place);
    }
    value
}

/// What an access sees of a register of 64 bits.
fn half(value: u64, upper: bool, width: Width) -> u64 {
    match (width, upper) {
        (Width::Double, _) => value,
        (_, true) => value >> 32,
        (_, false) => value & 0xffff_ffff,
    }
}

/// The 16 bits of `edge` as the upper bits of 16 pairs.
fn spread(edge: u32) -> u64 {
    let mut pairs = 0;
    for place in 0..16 {
        pairs |= (edge >> place & 1) << (2 * place + 1);
    }
    u64::from(pairs)
}
