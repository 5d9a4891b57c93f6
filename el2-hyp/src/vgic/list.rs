//! List registers: the window through which the hardware delivers virtual interrupts.
//!
//! A list register holds one interrupt while the guest acknowledges, ends and deactivates it
//! without an exit. [`ListRegister`] is its decoded value; GICv2 (GICH_LRn, IHI 0048B)
//! and GICv3 (ICH_LRn_EL2, IHI 0069) pack it differently. [`ListRegisters`] is what the
//! hardware side implements, over GICH's memory or the ICH system registers.

use super::ids::{Group, Intid, Priority, VcpuId};

/// The most list registers that either architecture has and that the model uses.
pub const MAX_LIST_REGISTERS: usize = 16;

/// What a list register's interrupt is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing: the register is free, or the guest is done with its interrupt.
    Invalid,
    /// Waiting for the guest's acknowledgement.
    Pending,
    /// Acknowledged, not deactivated.
    Active,
    /// Acknowledged, and pending again behind it.
    PendingActive,
}

impl State {
    const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Invalid,
            1 => Self::Pending,
            2 => Self::Active,
            _ => Self::PendingActive,
        }
    }

    const fn bits(self) -> u32 {
        match self {
            Self::Invalid => 0,
            Self::Pending => 1,
            Self::Active => 2,
            Self::PendingActive => 3,
        }
    }

    /// Of the two facts.
    pub const fn of(pending: bool, active: bool) -> Self {
        match (pending, active) {
            (false, false) => Self::Invalid,
            (true, false) => Self::Pending,
            (false, true) => Self::Active,
            (true, true) => Self::PendingActive,
        }
    }

    /// Whether an acknowledgement is outstanding.
    pub const fn is_pending(self) -> bool {
        self.bits() & 1 != 0
    }

    /// Whether a deactivation is outstanding.
    pub const fn is_active(self) -> bool {
        self.bits() & 2 != 0
    }
}

/// Where a listed interrupt comes from, which decides what its end does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The model made it.
    Software {
        /// The sender of a GICv2 guest's SGI; 0 for everything else.
        source: VcpuId,
        /// Whether its deactivation raises the maintenance interrupt.
        notify: bool,
    },
    /// A physical interrupt stands behind it, and the guest's deactivation deactivates that too.
    /// Never together with [`State::PendingActive`].
    Hardware {
        /// The physical interrupt.
        physical: u32,
    },
}

/// The decoded value of a list register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListRegister {
    /// The virtual interrupt.
    pub intid: Intid,
    /// Its state.
    pub state: State,
    /// Its priority.
    pub priority: Priority,
    /// Its group.
    pub group: Group,
    /// Its origin.
    pub origin: Origin,
}

/// Physical interrupt numbers that a list register can carry: ten bits in both encodings.
const PHYSICAL_MASK: u32 = 0x3ff;

/// Packs a GICv2 list register: HW 31, Grp1 30, State 29:28, Priority 27:23, then PhysicalID 19:10,
/// or EOI 19 and CPUID 12:10, and VirtualID 9:0.
#[inline(always)]
pub const fn encode_v2(entry: ListRegister) -> u32 {
    let origin = match entry.origin {
        Origin::Software { source, notify } => {
            (notify as u32) << 19 | (source.index() as u32) << 10
        }
        Origin::Hardware { physical } => 1 << 31 | (physical & PHYSICAL_MASK) << 10,
    };
    let group = matches!(entry.group, Group::One) as u32;
    let priority = entry.priority.byte() as u32 >> 3;
    origin | group << 30 | entry.state.bits() << 28 | priority << 23 | entry.intid.number()
}

/// The state in a GICv2 list register.
#[inline(always)]
pub const fn state_v2(raw: u32) -> State {
    State::from_bits(raw >> 28)
}

/// Unpacks a GICv2 list register; nothing when it names an interrupt that no guest has.
pub const fn decode_v2(raw: u32) -> Option<ListRegister> {
    let Some(intid) = Intid::new(raw & 0x3ff) else {
        return None;
    };
    let origin = if raw >> 31 != 0 {
        Origin::Hardware {
            physical: raw >> 10 & PHYSICAL_MASK,
        }
    } else {
        Origin::Software {
            source: VcpuId::wrap(raw >> 10),
            notify: raw >> 19 & 1 != 0,
        }
    };
    Some(ListRegister {
        intid,
        state: state_v2(raw),
        priority: Priority::from_byte((raw >> 23 << 3) as u8),
        group: if raw >> 30 & 1 != 0 {
            Group::One
        } else {
            Group::Zero
        },
        origin,
    })
}

/// Packs a GICv3 list register: State 63:62, HW 61, Group 60, Priority 55:48, then pINTID 44:32, or
/// EOI 41, and vINTID 31:0. A GICv3 SGI has no source, so none is written.
#[inline(always)]
pub const fn encode_v3(entry: ListRegister) -> u64 {
    let origin = match entry.origin {
        Origin::Software { source: _, notify } => (notify as u64) << 41,
        Origin::Hardware { physical } => 1 << 61 | ((physical & PHYSICAL_MASK) as u64) << 32,
    };
    let group = matches!(entry.group, Group::One) as u64;
    let state = entry.state.bits() as u64;
    let priority = entry.priority.byte() as u64;
    origin | state << 62 | group << 60 | priority << 48 | entry.intid.number() as u64
}

/// The state in a GICv3 list register.
#[inline(always)]
pub const fn state_v3(raw: u64) -> State {
    State::from_bits((raw >> 62) as u32)
}

/// Unpacks a GICv3 list register; nothing when it names an interrupt that no guest has.
pub const fn decode_v3(raw: u64) -> Option<ListRegister> {
    let Some(intid) = Intid::new(raw as u32) else {
        return None;
    };
    let origin = if raw >> 61 & 1 != 0 {
        Origin::Hardware {
            physical: (raw >> 32) as u32 & PHYSICAL_MASK,
        }
    } else {
        Origin::Software {
            source: VcpuId::wrap(0),
            notify: raw >> 41 & 1 != 0,
        }
    };
    Some(ListRegister {
        intid,
        state: state_v3(raw),
        priority: Priority::from_byte((raw >> 48) as u8),
        group: if raw >> 60 & 1 != 0 {
            Group::One
        } else {
            Group::Zero
        },
        origin,
    })
}

/// What the hardware is asked to tell while the list registers cannot hold everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Raise the maintenance interrupt when no list register is pending (NPIE): the next ones wait in the model.
    /// Underflow (UIE) would not do: a guest that separates priority drop from deactivation fills the
    /// registers with active interrupts, and they never run empty.
    pub no_pending: bool,
    /// Raise the maintenance interrupt when the guest ends an interrupt that is in no list register (LRENPIE).
    pub entry_not_present: bool,
    /// Trap the guest's writes of the deactivate register, where the hardware can (ICH_HCR_EL2.TDIR, or the second
    /// page of a GICv2 CPU interface left out of stage 2), and bring them to `Vgic::deactivate`.
    pub trap_deactivate: bool,
}

impl Control {
    /// Nothing to tell.
    pub const NONE: Self = Self {
        no_pending: false,
        entry_not_present: false,
        trap_deactivate: false,
    };
}

/// The list registers of the core on which a virtual processor is loaded.
///
/// Slots are numbers below `count`. Implementations are called with the guest's lock held, on that core, and
/// should be inlined: they are one or two instructions each.
pub trait ListRegisters {
    /// How many there are, 1 to [`MAX_LIST_REGISTERS`].
    fn count(&self) -> usize;
    /// The slots that are free to use: state invalid and no end of interrupt to report (GICH_ELRSR, ICH_ELRSR_EL2).
    /// It must be right for slots written since the last entry too, else what they hold is taken for ended and is lost: on
    /// GICv3 that takes an ISB before the register is read (Arm ARM, "Synchronization requirements for AArch64 System registers").
    fn empty(&self) -> u32;
    /// The state in a slot ([`state_v2`], [`state_v3`]).
    fn state(&self, slot: usize) -> State;
    /// Fills a slot ([`encode_v2`], [`encode_v3`]).
    fn write(&mut self, slot: usize, entry: ListRegister);
    /// Empties a slot: writes zero.
    fn clear(&mut self, slot: usize);
    /// Arms what `control` names and nothing else (the enables of GICH_HCR, ICH_HCR_EL2); EOIcount stays.
    fn set_control(&mut self, control: Control);
    /// Reads EOIcount and sets it to zero.
    fn take_eoi_count(&mut self) -> u32;
    /// Deactivates a physical interrupt that this core acknowledged and whose guest will not do so (GICC_DIR,
    /// ICC_DIR_EL1).
    fn deactivate(&mut self, physical: u32);
}
