//! GICv3 and later, with the CPU interface in system registers.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::distributor::*;
use super::{GicError, KICK, MAX_CORES, PRIORITY, configure, quiet_shared};
use crate::mmio::Mmio;
use crate::tree::{self, Affinity, Interrupt, Region};

/// GICD_CTLR: affinity routing for the non-secure side (in the view of non-secure software and of a GIC with one security state alike),
/// both groups on.
const CTLR_ON: u32 = 1 << 4 | 1 << 1 | 1 << 0;
/// GICD_CTLR.RWP: a write is under way.
const CTLR_PENDING: u32 = 1 << 31;

/// Redistributor registers: the RD frame, and the SGI frame behind it.
const GICR_TYPER: usize = 0x0008;
const GICR_WAKER: usize = 0x0014;
const SGI_FRAME: usize = 0x1_0000;
const WAKER_SLEEP: u32 = 1 << 1;
const WAKER_ASLEEP: u32 = 1 << 2;
/// Two frames, four with virtual LPIs (GICR_TYPER.VLPIS).
const FRAMES: usize = 0x2_0000;

/// A GICv3.
pub struct GicV3 {
    gicd: Mmio,
    redistributors: heapless::Vec<Region, { tree::MAX_REDISTRIBUTORS }>,
    stride: Option<u64>,
    /// The redistributor of each core.
    frames: [AtomicUsize; MAX_CORES],
    /// The value that ICC_SGI1R_EL1 takes to kick each core.
    kicks: [AtomicU64; MAX_CORES],
}

impl GicV3 {
    pub(super) unsafe fn new(tree: &tree::GicV3) -> Result<Self, GicError> {
        // SAFETY: the caller's promise.
        let gicd = unsafe { Mmio::new(tree.distributor) };
        gicd.write(CTLR, 0);
        wait(gicd);
        quiet_shared(gicd);
        for first in (32..lines(gicd.read(TYPER))).step_by(32) {
            gicd.write(IGROUPR + first / 32 * 4, !0);
        }
        wait(gicd);
        gicd.write(CTLR, CTLR_ON);
        wait(gicd);
        Ok(Self {
            gicd,
            redistributors: tree.redistributors.clone(),
            stride: tree.redistributor_stride,
            frames: [const { AtomicUsize::new(0) }; MAX_CORES],
            kicks: [const { AtomicU64::new(0) }; MAX_CORES],
        })
    }

    /// The redistributor whose GICR_TYPER names an affinity: each region is a row that ends with GICR_TYPER.Last.
    fn find(&self, affinity: u64) -> Option<Mmio> {
        let packed = (affinity >> 8 & 0xff00_0000) | affinity & 0xff_ffff;
        for region in &self.redistributors {
            // SAFETY: `new`'s promise.
            let row = unsafe { Mmio::new(*region) };
            let mut offset = 0;
            while offset as u64 + FRAMES as u64 <= region.size() {
                let typer = row.read64(offset + GICR_TYPER);
                if typer >> 32 == packed {
                    return Some(row.from(offset));
                }
                if typer & 1 << 4 != 0 {
                    break;
                }
                let own = if typer & 1 << 1 != 0 {
                    2 * FRAMES
                } else {
                    FRAMES
                };
                offset += self
                    .stride
                    .map_or(own, |stride| stride.max(FRAMES as u64) as usize);
            }
        }
        None
    }

    pub(super) fn initialise_core(&self, core: usize) -> Result<(), GicError> {
        let mpidr: u64;
        // SAFETY: reading an ID register has no effect.
        unsafe {
            asm!("mrs {}, mpidr_el1", out(reg) mpidr, options(nomem, nostack, preserves_flags))
        };
        let affinity = Affinity::from_mpidr(mpidr).get();
        let gicr = self.find(affinity).ok_or(GicError::NoRedistributor)?;
        self.frames[core].store(gicr.base(), Ordering::Relaxed);
        self.kicks[core].store(sgi_to(affinity), Ordering::Release);
        gicr.write(GICR_WAKER, gicr.read(GICR_WAKER) & !WAKER_SLEEP);
        while gicr.read(GICR_WAKER) & WAKER_ASLEEP != 0 {
            core::hint::spin_loop();
        }
        let sgi = gicr.from(SGI_FRAME);
        sgi.write(ICENABLER, 0xffff_0000);
        sgi.write(ICACTIVER, !0);
        sgi.write(IGROUPR, !0);
        sgi.write(ISENABLER, 0x0000_ffff);
        for first in (0..32).step_by(4) {
            sgi.write(IPRIORITYR + first, PRIORITY);
        }
        enable_cpu_interface()
    }

    #[inline(always)]
    pub(super) fn acknowledge(&self) -> u32 {
        let interrupt: u64;
        // SAFETY: this core takes interrupts only here. The barrier orders the acknowledge before what is done about it.
        unsafe {
            asm!("mrs {}, S3_0_C12_C12_0", "dsb sy", out(reg) interrupt, options(nostack, preserves_flags))
        };
        interrupt as u32
    }

    #[inline(always)]
    pub(super) fn drop_priority(&self, interrupt: u32) {
        // SAFETY: ICC_EOIR1_EL1 with EOImode 1 only drops the priority.
        unsafe {
            asm!("msr S3_0_C12_C12_1, {}", "isb", in(reg) u64::from(interrupt), options(nostack, preserves_flags))
        };
    }

    #[inline(always)]
    pub(super) fn deactivate(&self, interrupt: u32) {
        // SAFETY: ICC_DIR_EL1 changes the state of an interrupt that EL2 owns.
        unsafe {
            asm!("msr S3_0_C12_C11_1, {}", "isb", in(reg) u64::from(interrupt), options(nostack, preserves_flags))
        };
    }

    fn sgi_frame(&self, core: usize) -> Mmio {
        let base = self.frames[core].load(Ordering::Relaxed) as u64;
        let region = Region::new(base, FRAMES as u64).expect("a frame that was found");
        // SAFETY: `new`'s promise; `initialise_core` found the frame in one of its regions.
        unsafe { Mmio::new(region) }.from(SGI_FRAME)
    }

    pub(super) fn activate_private(&self, core: usize, intid: u32) {
        self.sgi_frame(core).write(ISACTIVER, 1 << intid);
    }

    pub(super) fn is_active_private(&self, core: usize, intid: u32) -> bool {
        self.sgi_frame(core).read(ISACTIVER) & 1 << intid != 0
    }

    pub(super) fn enable_private(&self, core: usize, intid: u32) {
        self.sgi_frame(core).write(ISENABLER, 1 << intid);
    }

    pub(super) fn enable_shared(&self, core: usize, interrupt: Interrupt) {
        let intid = interrupt.id.get() as usize;
        configure(self.gicd, interrupt);
        let kick = self.kicks[core].load(Ordering::Acquire);
        self.gicd.write64(IROUTER + 8 * intid, route_of(kick));
        self.gicd
            .write(ISENABLER + intid / 32 * 4, 1 << (intid % 32));
    }

    #[inline(always)]
    pub(super) fn kick(&self, core: usize) {
        let value = self.kicks[core].load(Ordering::Relaxed);
        // SAFETY: an SGI to a core of ours. The barrier before it: what was written is seen by the core that takes it.
        unsafe {
            asm!("dsb ishst", "msr S3_0_C12_C11_5, {}", "isb", in(reg) value, options(nostack, preserves_flags))
        };
    }
}

/// ICC_SGI1R_EL1 for [`KICK`] to one core: Aff3 55:48, RS 47:44, Aff2 39:32, INTID 27:24, Aff1 23:16, one bit of 16 for Aff0.
fn sgi_to(affinity: u64) -> u64 {
    let aff = |level: u32| affinity >> (8 * level) & 0xff;
    let aff3 = affinity >> 32 & 0xff;
    aff3 << 48
        | (aff(0) / 16) << 44
        | aff(2) << 32
        | u64::from(KICK) << 24
        | aff(1) << 16
        | 1 << (aff(0) % 16)
}

/// GICD_IROUTER for the core that an SGI value names.
fn route_of(kick: u64) -> u64 {
    let aff0 = (kick >> 44 & 15) * 16 + u64::from((kick as u16).trailing_zeros());
    (kick >> 48 & 0xff) << 32 | (kick >> 32 & 0xff) << 16 | (kick >> 16 & 0xff) << 8 | aff0
}

fn wait(gicd: Mmio) {
    while gicd.read(CTLR) & CTLR_PENDING != 0 {
        core::hint::spin_loop();
    }
}

fn enable_cpu_interface() -> Result<(), GicError> {
    let sre: u64;
    // SAFETY: ICC_SRE_EL2: SRE, no bypass; Enable stays clear, so that EL1's ICC_SRE_EL1 traps; then PMR lets every priority through, BPR1 is the finest,
    // EOImode is split and group 1 is on. Nothing else uses this core's CPU interface.
    unsafe {
        asm!(
            "msr S3_4_C12_C9_5, {own}", "isb",
            "mrs {sre}, S3_4_C12_C9_5",
            own = in(reg) 7u64, sre = out(reg) sre, options(nostack, preserves_flags)
        );
        if sre & 1 == 0 {
            return Err(GicError::NoSystemRegisters);
        }
        asm!(
            "msr S3_0_C4_C6_0, {mask}", "msr S3_0_C12_C12_3, xzr", "mrs {t}, S3_0_C12_C12_4", "orr {t}, {t}, #2",
            "msr S3_0_C12_C12_4, {t}", "msr S3_0_C12_C12_7, {on}", "isb",
            mask = in(reg) 0xffu64, on = in(reg) 1u64, t = out(reg) _, options(nostack, preserves_flags)
        );
    }
    Ok(())
}
