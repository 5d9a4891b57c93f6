//! The board's own interrupt controller: the few things that EL2 asks of it, for either architecture.
//!
//! Priority drop and deactivation are split (EOImode 1): EL2 drops the priority of what it acknowledges at once; what belongs to
//! a guest stays active until the guest deactivates it through a list register.
//!
//! Sources: GICv2 (IHI 0048B), GICv3 and GICv4 (IHI 0069).

mod v2;
mod v3;

use core::fmt;

use crate::tree::{self, IntId, Interrupt};

/// Cores that a driver serves.
pub const MAX_CORES: usize = 8;

/// The SGI by which one core makes another look at its work.
pub const KICK: u32 = 0;

/// Why the controller cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GicError {
    /// A GICv2 without the virtualisation extensions.
    NoVirtualisation,
    /// No redistributor names this core's affinity.
    NoRedistributor,
    /// The system register interface does not turn on.
    NoSystemRegisters,
}

impl fmt::Display for GicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoVirtualisation => "the GICv2 has no virtual CPU interface",
            Self::NoRedistributor => "no redistributor belongs to this core",
            Self::NoSystemRegisters => "the GIC's system registers are not available to EL2",
        })
    }
}

/// What an acknowledge returned: the interrupt, with what its end needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged(u32);

impl Acknowledged {
    /// The interrupt.
    pub const fn intid(self) -> u32 {
        self.0 & 0x3ff
    }

    /// No interrupt was waiting: INTIDs from 1020 on.
    pub const fn is_spurious(self) -> bool {
        self.intid() >= 1020
    }
}

/// The controller. There is one of a board, so that its size does not matter, and boxing would only cost a load on every interrupt.
#[allow(clippy::large_enum_variant)]
pub enum Gic {
    /// GICv2.
    V2(v2::GicV2),
    /// GICv3 and later.
    V3(v3::GicV3),
}

macro_rules! either {
    ($self:ident, $gic:ident => $call:expr) => {
        match $self {
            Self::V2($gic) => $call,
            Self::V3($gic) => $call,
        }
    };
}

impl Gic {
    /// The controller that the device tree names, its distributor set up: every shared interrupt off.
    ///
    /// # Safety
    /// The tree tells the truth, and the regions are mapped as device memory; no other driver uses them.
    pub unsafe fn new(tree: &tree::Gic) -> Result<Self, GicError> {
        // SAFETY: the caller's promise.
        unsafe {
            match tree {
                tree::Gic::V2(gic) => v2::GicV2::new(gic).map(Self::V2),
                tree::Gic::V3(gic) => v3::GicV3::new(gic).map(Self::V3),
            }
        }
    }

    /// Sets up this core's part: its private interrupts off but the SGIs, all at one priority.
    ///
    /// # Errors
    /// [`GicError`] where the controller does not know this core.
    pub fn initialise_core(&self, core: usize) -> Result<(), GicError> {
        either!(self, gic => gic.initialise_core(core))
    }

    /// Acknowledges the most urgent interrupt of this core.
    #[inline(always)]
    pub fn acknowledge(&self) -> Acknowledged {
        Acknowledged(either!(self, gic => gic.acknowledge()))
    }

    /// Drops the priority that the acknowledge raised.
    #[inline(always)]
    pub fn drop_priority(&self, interrupt: Acknowledged) {
        either!(self, gic => gic.drop_priority(interrupt.0))
    }

    /// Makes the interrupt inactive, so that it can come again.
    #[inline(always)]
    pub fn deactivate(&self, interrupt: Acknowledged) {
        either!(self, gic => gic.deactivate(interrupt.0))
    }

    /// Makes an interrupt inactive that was left active: a private one of this core, or a shared one.
    #[inline(always)]
    pub fn deactivate_intid(&self, intid: u32) {
        either!(self, gic => gic.deactivate(intid))
    }

    /// Sets the active state of a private interrupt of this core, as if it had been acknowledged here.
    pub fn activate_private(&self, core: usize, intid: u32) {
        either!(self, gic => gic.activate_private(core, intid))
    }

    /// Whether a private interrupt of this core is active.
    pub fn is_active_private(&self, core: usize, intid: u32) -> bool {
        either!(self, gic => gic.is_active_private(core, intid))
    }

    /// Lets a private interrupt of this core through.
    pub fn enable_private(&self, core: usize, intid: IntId) {
        either!(self, gic => gic.enable_private(core, intid.get()))
    }

    /// Routes a shared interrupt to `core` and lets it through.
    pub fn enable_shared(&self, core: usize, interrupt: Interrupt) {
        either!(self, gic => gic.enable_shared(core, interrupt))
    }

    /// Sends [`KICK`] to a core.
    #[inline(always)]
    pub fn kick(&self, core: usize) {
        either!(self, gic => gic.kick(core))
    }
}

/// The priority of everything: there is one, and the mask lets it through.
const PRIORITY: u32 = 0xa0a0_a0a0;

/// Offsets that both distributors share.
mod distributor {
    pub const CTLR: usize = 0x000;
    pub const TYPER: usize = 0x004;
    pub const IGROUPR: usize = 0x080;
    pub const ISENABLER: usize = 0x100;
    pub const ICENABLER: usize = 0x180;
    pub const ICPENDR: usize = 0x280;
    pub const ISACTIVER: usize = 0x300;
    pub const ICACTIVER: usize = 0x380;
    pub const IPRIORITYR: usize = 0x400;
    pub const ITARGETSR: usize = 0x800;
    pub const ICFGR: usize = 0xc00;
    pub const SGIR: usize = 0xf00;
    pub const IROUTER: usize = 0x6000;

    /// How many interrupts there are (GICD_TYPER.ITLinesNumber).
    pub const fn lines(typer: u32) -> usize {
        let lines = 32 * ((typer as usize & 31) + 1);
        if lines > 1020 { 1020 } else { lines }
    }
}

/// Turns off and clears every shared interrupt.
fn quiet_shared(gicd: crate::mmio::Mmio) {
    use distributor::*;
    let lines = lines(gicd.read(TYPER));
    for first in (32..lines).step_by(32) {
        let word = first / 32 * 4;
        gicd.write(ICENABLER + word, !0);
        gicd.write(ICPENDR + word, !0);
        gicd.write(ICACTIVER + word, !0);
    }
    for first in (32..lines).step_by(4) {
        gicd.write(IPRIORITYR + first, PRIORITY);
    }
}

/// Sets whether a shared interrupt is edge or level triggered.
fn configure(gicd: crate::mmio::Mmio, interrupt: Interrupt) {
    let intid = interrupt.id.get() as usize;
    let at = distributor::ICFGR + intid / 16 * 4;
    let bit = 2 << (intid % 16 * 2);
    let edge = interrupt.trigger == tree::Trigger::Edge;
    let others = gicd.read(at) & !bit;
    gicd.write(at, if edge { others | bit } else { others });
}
