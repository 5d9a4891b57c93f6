//! GICv2, such as the Pi's GIC-400.

use core::sync::atomic::{AtomicU8, Ordering};

use super::distributor::*;
use super::{GicError, KICK, MAX_CORES, PRIORITY, configure, quiet_shared};
use crate::mmio::Mmio;
use crate::tree::{self, Interrupt};

/// GICC registers.
const GICC_CTLR: usize = 0x0000;
const GICC_PMR: usize = 0x0004;
const GICC_BPR: usize = 0x0008;
const GICC_IAR: usize = 0x000c;
const GICC_EOIR: usize = 0x0010;
const GICC_DIR: usize = 0x1000;

/// GICC_CTLR as non-secure software sees it: group 1 on, EOImode split.
const GICC_CTLR_ON: u32 = 1 << 0 | 1 << 9;

/// A GICv2.
pub struct GicV2 {
    gicd: Mmio,
    gicc: Mmio,
    /// Each core's bit in the target registers, which need not be that of its number.
    targets: [AtomicU8; MAX_CORES],
}

impl GicV2 {
    pub(super) unsafe fn new(tree: &tree::GicV2) -> Result<Self, GicError> {
        if tree.hypervisor_interface.is_none() || tree.virtual_cpu_interface.is_none() {
            return Err(GicError::NoVirtualisation);
        }
        // SAFETY: the caller's promise.
        let (gicd, gicc) = unsafe { (Mmio::new(tree.distributor), Mmio::new(tree.cpu_interface)) };
        gicd.write(CTLR, 0);
        quiet_shared(gicd);
        gicd.write(CTLR, 1);
        Ok(Self {
            gicd,
            gicc,
            targets: [const { AtomicU8::new(0) }; MAX_CORES],
        })
    }

    pub(super) fn initialise_core(&self, core: usize) -> Result<(), GicError> {
        // The banked target registers read as this core's own bit.
        self.targets[core].store(self.gicd.read(ITARGETSR) as u8, Ordering::Relaxed);
        // The groups stay what they are: beside a secure side interrupts of ours are in group 1 and we cannot change it, without one
        // they are in group 0, and bit 0 of each control register turns on whichever is ours.
        self.gicd.write(ICENABLER, 0xffff_0000);
        self.gicd.write(ISENABLER, 0x0000_ffff);
        self.gicd.write(ICACTIVER, !0);
        for first in (0..32).step_by(4) {
            self.gicd.write(IPRIORITYR + first, PRIORITY);
        }
        self.gicc.write(GICC_PMR, 0xff);
        self.gicc.write(GICC_BPR, 7);
        self.gicc.write(GICC_CTLR, GICC_CTLR_ON);
        Ok(())
    }

    #[inline(always)]
    pub(super) fn acknowledge(&self) -> u32 {
        // With the source of an SGI, which its end must name.
        self.gicc.read(GICC_IAR)
    }

    #[inline(always)]
    pub(super) fn drop_priority(&self, interrupt: u32) {
        self.gicc.write(GICC_EOIR, interrupt);
    }

    #[inline(always)]
    pub(super) fn deactivate(&self, interrupt: u32) {
        self.gicc.write(GICC_DIR, interrupt);
    }

    pub(super) fn activate_private(&self, _: usize, intid: u32) {
        self.gicd.write(ISACTIVER, 1 << intid);
    }

    pub(super) fn is_active_private(&self, _: usize, intid: u32) -> bool {
        self.gicd.read(ISACTIVER) & 1 << intid != 0
    }

    pub(super) fn enable_private(&self, _: usize, intid: u32) {
        self.gicd.write(ISENABLER, 1 << intid);
    }

    pub(super) fn enable_shared(&self, core: usize, interrupt: Interrupt) {
        let intid = interrupt.id.get() as usize;
        configure(self.gicd, interrupt);
        let at = ITARGETSR + intid / 4 * 4;
        let shift = intid % 4 * 8;
        let others = self.gicd.read(at) & !(0xff << shift);
        let target = u32::from(self.targets[core].load(Ordering::Relaxed));
        self.gicd.write(at, others | target << shift);
        self.gicd
            .write(ISENABLER + intid / 32 * 4, 1 << (intid % 32));
    }

    #[inline(always)]
    pub(super) fn kick(&self, core: usize) {
        barrier();
        let target = u32::from(self.targets[core].load(Ordering::Relaxed));
        self.gicd.write(SGIR, target << 16 | KICK);
    }
}

/// What was written before is seen by the core that takes the interrupt.
#[inline(always)]
fn barrier() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier.
    unsafe {
        core::arch::asm!("dsb ishst", options(nostack, preserves_flags));
    }
}
