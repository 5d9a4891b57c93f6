//! The pieces of the model's state.

use super::ids::{Group, Intid, Priority, VcpuId, WORDS};
use super::list::{Control, MAX_LIST_REGISTERS};

/// Something listed must change: list registers have to be folded.
pub(super) const STALE: u8 = 1;
/// There is something to do at the next flush.
pub(super) const READY: u8 = 2;

/// 32 interrupts, one bit each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bank {
    pub enabled: u32,
    /// An edge seen, or pending set by software.
    pub latch: u32,
    /// The level of the input.
    pub line: u32,
    /// Edge-triggered, not level-sensitive.
    pub edge: u32,
    /// Acknowledged and not deactivated; of a listed interrupt, as of when it was listed.
    pub active: u32,
    pub group1: u32,
    /// In a list register of its owner.
    pub listed: u32,
    /// Of listed ones: the list register's pending state came from `latch`, and returns to it unless acknowledged.
    /// Cleared when the guest withdraws it.
    pub listed_latch: u32,
    /// Of listed ones: the guest has written the active state since; what the list register says about it is void.
    pub pinned: u32,
    /// Those whose way in or out of a list register takes more than bitmaps: the mapped one, a GICv2's SGIs, and SPIs
    /// whose owner is not where their route leads.
    pub special: u32,
    pub priority: [u8; 32],
}

impl Bank {
    /// Nothing pending, nothing enabled, priorities zero.
    pub(super) const RESET: Self = Self {
        enabled: 0,
        latch: 0,
        line: 0,
        edge: 0,
        active: 0,
        group1: 0,
        listed: 0,
        listed_latch: 0,
        pinned: 0,
        special: 0,
        priority: [0; 32],
    };

    #[inline(always)]
    pub(super) fn priority(&self, intid: Intid) -> Priority {
        Priority::from_byte(self.priority[intid.place()])
    }

    #[inline(always)]
    pub(super) fn group(&self, bit: u32) -> Group {
        if self.group1 & bit != 0 {
            Group::One
        } else {
            Group::Zero
        }
    }

    #[inline(always)]
    pub(super) fn pending(&self) -> u32 {
        self.latch | (self.line & !self.edge)
    }

    /// Pending and nothing in the distributor stands in the way.
    #[inline(always)]
    pub(super) fn signalled(&self, group_on: [u32; 2]) -> u32 {
        let forwarded = (self.group1 & group_on[1]) | (!self.group1 & group_on[0]);
        self.pending() & self.enabled & forwarded
    }
}

/// The mapped interrupt of one virtual processor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mapped {
    /// Pending in the model, with the physical interrupt active behind it.
    pub pending: bool,
    /// Active, with the physical interrupt active behind it.
    pub active: bool,
    /// In a list register with the hardware bit.
    pub listed: bool,
    /// In which one, while it is listed.
    pub slot: u8,
    /// It ended without the guest's deactivation, so the physical interrupt must be deactivated.
    pub release: bool,
}

impl Mapped {
    #[inline(always)]
    pub(super) fn in_flight(self) -> bool {
        self.pending | self.active | self.listed
    }
}

/// What one virtual processor has of its own beside its bank.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu {
    /// To be listed, and not listed.
    pub ready: [u32; WORDS],
    /// Whose interrupts these are: all of its own, and the SPIs that it owns.
    pub owned: [u32; WORDS],
    /// Active ones that the last flush had no list register for.
    pub spilled: [u32; WORDS],
    /// [`STALE`] and [`READY`].
    pub attention: u8,
    /// What the hardware was asked to watch.
    pub control: Control,
    /// Whether that is anything.
    pub armed: bool,
    /// List registers that hold an interrupt as far as the model knows.
    pub used: u16,
    /// List registers that were folded and not emptied yet.
    pub vacated: u16,
    /// The interrupt in each used list register.
    pub slots: [Intid; MAX_LIST_REGISTERS],
    /// GICv2: the senders of each SGI that wait in the model.
    pub sources: [u8; 16],
    /// GICv2: the sender of each SGI that is listed or active.
    pub in_service: [VcpuId; 16],
    pub mapped: Mapped,
    /// GICv3: GICR_WAKER.ProcessorSleep.
    pub asleep: bool,
}

impl Cpu {
    pub(super) const RESET: Self = Self {
        ready: [0; WORDS],
        owned: [!0, 0, 0, 0],
        spilled: [0; WORDS],
        attention: 0,
        control: Control::NONE,
        armed: false,
        used: 0,
        vacated: 0,
        slots: [Intid::wrap(0); MAX_LIST_REGISTERS],
        sources: [0; 16],
        in_service: [VcpuId::wrap(0); 16],
        mapped: Mapped {
            pending: false,
            active: false,
            listed: false,
            slot: 0,
            release: false,
        },
        asleep: true,
    };
}
