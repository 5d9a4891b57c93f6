//! TLB invalidation and cache maintenance.

use core::arch::asm;

use crate::addr::Ipa;
use crate::stage2::{Fault, Invalidate};

/// Waits until every table write before it is seen by every core's walker.
pub fn publish_tables() {
    // SAFETY: a barrier.
    unsafe { asm!("dsb ishst", options(nostack, preserves_flags)) };
}

/// With `vttbr` as the current VMID for the time of `body`.
fn with_vmid(vttbr: u64, body: impl FnOnce()) {
    let former: u64;
    // SAFETY: EL2's own translation does not use VTTBR_EL2; no guest runs on this core meanwhile, and walks that are
    // speculated for EL1 under the wrong VMID are held off by TCR_EL1.EPDx (erratum 1319367).
    unsafe {
        let tcr: u64;
        asm!("mrs {former}, vttbr_el2", "mrs {tcr}, tcr_el1", "orr {off}, {tcr}, #1 << 7", "orr {off}, {off}, #1 << 23",
             "msr tcr_el1, {off}", "isb", "msr vttbr_el2, {new}", "isb",
             former = out(reg) former, tcr = out(reg) tcr, off = out(reg) _, new = in(reg) vttbr,
             options(nostack, preserves_flags));
        body();
        asm!("msr vttbr_el2, {former}", "isb", "msr tcr_el1, {tcr}", former = in(reg) former, tcr = in(reg) tcr,
             options(nostack, preserves_flags));
    }
}

/// Invalidates what any core's TLB holds of one page or block of a guest, in stage 2 and combined: the sequence of the
/// Arm ARM D8.17 for a change of one stage 2 entry.
pub fn invalidate_ipa(vttbr: u64, ipa: Ipa) {
    with_vmid(vttbr, || {
        // SAFETY: invalidation only costs time.
        unsafe {
            asm!("dsb ishst", "tlbi ipas2e1is, {page}", "dsb ish", "tlbi vmalle1is", "dsb ish", "isb",
                 page = in(reg) ipa.0 >> 12, options(nostack, preserves_flags));
        }
    });
}

/// Invalidates all that any core's TLB holds of a guest.
pub fn invalidate_guest(vttbr: u64) {
    with_vmid(vttbr, || {
        // SAFETY: invalidation only costs time.
        unsafe {
            asm!(
                "dsb ishst",
                "tlbi vmalls12e1is",
                "dsb ish",
                "isb",
                options(nostack, preserves_flags)
            )
        };
    });
}

/// Invalidates what any core's TLB holds of each of these pages or blocks of a guest, with one wait for all.
pub fn invalidate_each(vttbr: u64, ipas: &[Ipa]) {
    with_vmid(vttbr, || {
        // SAFETY: invalidation only costs time.
        unsafe {
            asm!("dsb ishst", options(nostack, preserves_flags));
            for ipa in ipas {
                asm!("tlbi ipas2e1is, {}", in(reg) ipa.0 >> 12, options(nostack, preserves_flags));
            }
            asm!(
                "dsb ish",
                "tlbi vmalle1is",
                "dsb ish",
                "isb",
                options(nostack, preserves_flags)
            );
        }
    });
}

/// Invalidates what this core's TLB holds of the page of the loaded guest that it has just met a fault at, whose permission is wider now. With the virtual address only what
/// leads from there is forgotten; the same page under another address meets the fault once more.
pub fn invalidate_widened(fault: Fault) {
    /// VA\[55:12\], in bits 43:0 of the operand.
    const PAGE_OF_VA: u64 = (1 << 44) - 1;
    let page = fault.ipa.0 >> 12;
    // SAFETY: invalidation only costs time. The descriptor's store is seen by this core's walker before.
    unsafe {
        asm!("dsb ishst", "tlbi ipas2e1, {}", "dsb nsh", in(reg) page, options(nostack, preserves_flags));
        match fault.va {
            Some(va) => {
                asm!("tlbi vaae1, {}", in(reg) va >> 12 & PAGE_OF_VA, options(nostack, preserves_flags));
            }
            None => asm!("tlbi vmalle1", options(nostack, preserves_flags)),
        }
        asm!("dsb nsh", "isb", options(nostack, preserves_flags));
    }
}

/// Every core's TLB, for the stage 2 of the guest with this VTTBR_EL2. A fault is told of on the core where the guest's vCPU is loaded.
pub struct GuestTlb(pub u64);

impl Invalidate for GuestTlb {
    fn ipa(&mut self, ipa: Ipa) {
        invalidate_ipa(self.0, ipa);
    }
    fn each(&mut self, ipas: &[Ipa]) {
        invalidate_each(self.0, ipas);
    }
    fn widened(&mut self, fault: Fault) {
        invalidate_widened(fault);
    }
    fn all(&mut self) {
        invalidate_guest(self.0);
    }
    fn publish(&mut self) {
        publish_tables();
    }
}

/// Invalidates what this core's TLB holds of the loaded guest's own translations.
pub fn invalidate_loaded() {
    // SAFETY: invalidation only costs time.
    unsafe {
        asm!(
            "isb",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            options(nostack, preserves_flags)
        )
    };
}

/// Invalidates everything of EL1 and EL0 on this core, and its instruction cache: before the first guest.
pub fn invalidate_core() {
    // SAFETY: invalidation only costs time.
    unsafe {
        asm!(
            "dsb nshst",
            "tlbi alle1",
            "ic iallu",
            "dsb nsh",
            "isb",
            options(nostack, preserves_flags)
        )
    };
}

/// Makes instructions written as data visible to every core's fetches, after [`clean_to_coherency`] of the same bytes.
pub fn invalidate_instructions() {
    // SAFETY: invalidation only costs time.
    unsafe {
        asm!(
            "ic ialluis",
            "dsb ish",
            "isb",
            options(nostack, preserves_flags)
        )
    };
}

/// The smallest data cache line of this core, in bytes (CTR_EL0.DminLine).
fn line() -> usize {
    let ctr: usize;
    // SAFETY: reading an ID register has no effect.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    4 << (ctr >> 16 & 15)
}

/// Writes a range back to the point of coherency, so that an observer with its caches off reads it. Lines are also invalidated,
/// so that what such an observer writes is read.
pub fn clean_to_coherency(start: *const u8, length: usize) {
    let line = line();
    let end = start.addr() + length;
    let mut at = start.addr() & !(line - 1);
    // SAFETY: maintenance by address changes no data; the range is mapped, else this is a fault of EL2's own.
    unsafe {
        // Four lines at a time: a guest's whole memory comes through here.
        while at + 4 * line <= end {
            asm!(
                "dc civac, {a}", "add {a}, {a}, {l}", "dc civac, {a}", "add {a}, {a}, {l}",
                "dc civac, {a}", "add {a}, {a}, {l}", "dc civac, {a}", "add {a}, {a}, {l}",
                a = inout(reg) at, l = in(reg) line, options(nostack, preserves_flags)
            );
        }
        while at < end {
            asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags));
            at += line;
        }
        asm!("dsb sy", options(nostack, preserves_flags));
    }
}

/// Zeroes whole pages with the core's own block-zero instruction where it has one.
///
/// # Safety
/// The range is EL2's to write, page aligned, mapped as normal memory.
pub unsafe fn zero_pages(start: *mut u8, length: usize) {
    let dczid: usize;
    // SAFETY: reading an ID register has no effect.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) dczid, options(nomem, nostack, preserves_flags)) };
    let block = 4usize << (dczid & 15);
    // DZP, or a block that a page does not hold a multiple of eight times.
    if dczid & 16 != 0 || block > 512 {
        // SAFETY: the caller's promise.
        return unsafe { start.write_bytes(0, length) };
    }
    let mut at = start.addr();
    let end = at + length;
    while at < end {
        // SAFETY: the caller's promise; eight blocks fit a page, and the range is whole pages.
        unsafe {
            asm!(
                "dc zva, {a}", "add {a}, {a}, {b}", "dc zva, {a}", "add {a}, {a}, {b}",
                "dc zva, {a}", "add {a}, {a}, {b}", "dc zva, {a}", "add {a}, {a}, {b}",
                "dc zva, {a}", "add {a}, {a}, {b}", "dc zva, {a}", "add {a}, {a}, {b}",
                "dc zva, {a}", "add {a}, {a}, {b}", "dc zva, {a}", "add {a}, {a}, {b}",
                a = inout(reg) at, b = in(reg) block, options(nostack, preserves_flags)
            );
        }
    }
}
