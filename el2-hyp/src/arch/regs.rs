//! The state of EL1 and EL0 that stays in the machine while a vCPU is loaded: EL2 neither uses nor saves it on an exit,
//! only when the core turns to another vCPU.

use core::arch::{asm, global_asm};

use crate::addr::Ipa;

macro_rules! registers {
    ($($field:ident = $name:literal, $reset:expr, $doc:literal;)*) => {
        /// EL1's and EL0's system registers.
        #[derive(Clone, Debug)]
        pub struct El1Registers {
            $(#[doc = $doc] pub $field: u64,)*
        }

        impl El1Registers {
            /// The values at reset: those that the architecture leaves unknown are zero.
            pub const fn reset() -> Self {
                Self { $($field: $reset,)* }
            }

            /// Copies the machine's registers here.
            pub fn save(&mut self) {
                // SAFETY: reading EL1's registers at EL2 has no effect.
                unsafe { $(asm!(concat!("mrs {}, ", $name), out(reg) self.$field, options(nomem, nostack, preserves_flags));)* }
            }

            /// Copies these values to the machine's registers.
            ///
            /// # Safety
            /// No other vCPU's state is in the machine unsaved, and stage 2 is that of this vCPU's guest (or EL1's translation
            /// is held off).
            pub unsafe fn restore(&self) {
                // SAFETY: EL2 does not run under these registers; the rest is the caller's promise.
                unsafe { $(asm!(concat!("msr ", $name, ", {}"), in(reg) self.$field, options(nomem, nostack, preserves_flags));)* }
            }
        }
    };
}

/// SCTLR_EL1 at reset: the bits that are RES1 in Armv8.0, all else off (Arm ARM D19, SCTLR_EL1).
pub const SCTLR_EL1_RESET: u64 = 0x30d0_0800;

registers! {
    // SCTLR_EL1 and TCR_EL1 are restored by `switch_in`, in their place in the order.
    sp_el0 = "sp_el0", 0, "EL0's stack pointer.";
    sp_el1 = "sp_el1", 0, "EL1's stack pointer.";
    elr = "elr_el1", 0, "Exception link register.";
    spsr = "spsr_el1", 0, "Saved program status.";
    cpacr = "cpacr_el1", 0, "FP, SIMD and trace access.";
    ttbr0 = "ttbr0_el1", 0, "Translation table base 0.";
    ttbr1 = "ttbr1_el1", 0, "Translation table base 1.";
    esr = "esr_el1", 0, "Exception syndrome.";
    afsr0 = "afsr0_el1", 0, "Auxiliary fault status 0.";
    afsr1 = "afsr1_el1", 0, "Auxiliary fault status 1.";
    far = "far_el1", 0, "Fault address.";
    mair = "mair_el1", 0, "Memory attributes.";
    amair = "amair_el1", 0, "Auxiliary memory attributes.";
    vbar = "vbar_el1", 0, "Vector base.";
    contextidr = "contextidr_el1", 0, "Context ID.";
    tpidr_el0 = "tpidr_el0", 0, "EL0's thread pointer.";
    tpidrro_el0 = "tpidrro_el0", 0, "EL0's read-only thread pointer.";
    tpidr_el1 = "tpidr_el1", 0, "EL1's thread pointer.";
    cntkctl = "cntkctl_el1", 0, "EL0's access to the timers.";
    par = "par_el1", 0, "Result of the last address translation.";
    csselr = "csselr_el1", 0, "Cache size selection.";
}

/// What decides how EL1 translates; kept apart because a switch orders these against stage 2.
#[derive(Clone, Debug)]
pub struct TranslationRegisters {
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// TCR_EL1.
    pub tcr: u64,
}

impl TranslationRegisters {
    /// EL1's translation and caches off.
    pub const fn reset() -> Self {
        Self {
            sctlr: SCTLR_EL1_RESET,
            tcr: 0,
        }
    }

    /// Copies the machine's registers here.
    pub fn save(&mut self) {
        // SAFETY: reading EL1's registers at EL2 has no effect.
        unsafe {
            asm!("mrs {}, sctlr_el1", out(reg) self.sctlr, options(nomem, nostack, preserves_flags));
            asm!("mrs {}, tcr_el1", out(reg) self.tcr, options(nomem, nostack, preserves_flags));
        }
    }
}

/// TCR_EL1.EPD0 and EPD1: no table walk through either base.
const TCR_EL1_NO_WALKS: u64 = 1 << 7 | 1 << 23;

/// Turns the core to another vCPU's translation: stage 2 `vttbr`, then EL1's own registers.
///
/// Cortex-A72 erratum 1319367: a speculative address translation between the two could cache a walk of one context under
/// the identity of the other, so walks are off meanwhile.
///
/// # Safety
/// The former vCPU's registers are saved; `vttbr` names a live stage 2 of the guest that the registers belong to.
pub unsafe fn switch_in(vttbr: u64, registers: &El1Registers, translation: &TranslationRegisters) {
    // SAFETY: EL2 does not run under these registers; the rest is the caller's promise.
    unsafe {
        asm!(
            "msr tcr_el1, {off}", "isb", "msr vttbr_el2, {vttbr}",
            off = in(reg) translation.tcr | TCR_EL1_NO_WALKS, vttbr = in(reg) vttbr,
            options(nostack, preserves_flags)
        );
        registers.restore();
        asm!(
            "msr sctlr_el1, {sctlr}", "isb", "msr tcr_el1, {tcr}",
            sctlr = in(reg) translation.sctlr, tcr = in(reg) translation.tcr,
            options(nostack, preserves_flags)
        );
    }
}

/// The floating-point and SIMD registers. EL2 is built without them, so they are the guest's for as long as its vCPU is loaded.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub struct FpRegisters {
    /// q0 to q31.
    pub q: [u128; 32],
    /// FPSR and FPCR.
    pub status: [u64; 2],
}

// SAFETY: `fp.S` defines both with these signatures.
unsafe extern "C" {
    fn hearth_fp_save(to: *mut FpRegisters);
    fn hearth_fp_restore(from: *const FpRegisters);
}

global_asm!(include_str!("fp.S"));

impl FpRegisters {
    /// All zero.
    pub const fn reset() -> Self {
        Self {
            q: [0; 32],
            status: [0; 2],
        }
    }

    /// Copies the machine's registers here.
    pub fn save(&mut self) {
        // SAFETY: fp.S stores 32 quad words and two double words, the layout of this type.
        unsafe { hearth_fp_save(self) }
    }

    /// Copies these values to the machine's registers.
    ///
    /// # Safety
    /// No other vCPU's FP state is in the machine unsaved.
    pub unsafe fn restore(&self) {
        // SAFETY: fp.S reads the layout of this type; EL2 itself uses no FP register (softfloat).
        unsafe { hearth_fp_restore(self) }
    }
}

/// Reads what a guest's exception depends on.
pub fn exception_state(pc: u64, pstate: u64, has_pan: bool) -> crate::inject::Before {
    let (vbar, sctlr): (u64, u64);
    // SAFETY: reading EL1's registers at EL2 has no effect.
    unsafe {
        asm!("mrs {}, vbar_el1", "mrs {}, sctlr_el1", out(reg) vbar, out(reg) sctlr,
             options(nomem, nostack, preserves_flags));
    }
    crate::inject::Before {
        pc,
        pstate,
        vbar,
        sctlr,
        has_pan,
    }
}

/// Leaves in EL1's registers what an exception leaves there.
///
/// # Safety
/// The vCPU that takes it is the one loaded on this core.
pub unsafe fn deliver(taken: &crate::inject::Taken) {
    // SAFETY: the caller's promise; EL2 uses none of these.
    unsafe {
        asm!("msr elr_el1, {}", "msr spsr_el1, {}", "msr esr_el1, {}", in(reg) taken.elr, in(reg) taken.spsr, in(reg) taken.esr,
             options(nomem, nostack, preserves_flags));
        if let Some(far) = taken.far {
            asm!("msr far_el1, {}", in(reg) far, options(nomem, nostack, preserves_flags));
        }
    }
}

/// Reads SCTLR_EL1.
pub fn sctlr_el1() -> u64 {
    let value;
    // SAFETY: reading EL1's registers at EL2 has no effect.
    unsafe { asm!("mrs {}, sctlr_el1", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a register that HCR_EL2.TVM trapped, on the guest's behalf.
///
/// # Safety
/// The vCPU that wrote it is the one loaded on this core.
pub unsafe fn write_translation(register: crate::sysreg::TranslationControl, value: u64) {
    use crate::sysreg::TranslationControl::*;
    macro_rules! set {
        ($name:literal) => {
            // SAFETY: the caller's promise; EL2 uses none of these.
            unsafe { asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) }
        };
    }
    match register {
        Sctlr => set!("sctlr_el1"),
        Ttbr0 => set!("ttbr0_el1"),
        Ttbr1 => set!("ttbr1_el1"),
        Tcr => set!("tcr_el1"),
        Afsr0 => set!("afsr0_el1"),
        Afsr1 => set!("afsr1_el1"),
        Esr => set!("esr_el1"),
        Far => set!("far_el1"),
        Mair => set!("mair_el1"),
        Amair => set!("amair_el1"),
        Contextidr => set!("contextidr_el1"),
    }
}

/// Whether a physical interrupt waits that EL2 has masked (ISR_EL1.I and .F).
#[inline(always)]
pub fn interrupt_waits() -> bool {
    const FIQ_AND_IRQ: u64 = 0b11 << 6;
    let value: u64;
    // SAFETY: reading a register has no effect.
    unsafe { asm!("mrs {}, isr_el1", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value & FIQ_AND_IRQ != 0
}

/// The syndrome of the synchronous exception that just came.
#[inline(always)]
pub fn syndrome() -> u64 {
    let value;
    // SAFETY: reading a register has no effect.
    unsafe { asm!("mrs {}, esr_el2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// FAR_EL2.
#[inline(always)]
pub fn fault_address() -> u64 {
    let value;
    // SAFETY: reading a register has no effect.
    unsafe { asm!("mrs {}, far_el2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// HPFAR_EL2.
#[inline(always)]
pub fn fault_ipa() -> u64 {
    let value;
    // SAFETY: reading a register has no effect.
    unsafe { asm!("mrs {}, hpfar_el2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Where the loaded guest's stage 1 leads from a virtual address, as for a read at EL1; none if it leads nowhere. The guest's PAR_EL1 stays as it was.
pub fn translate(va: u64) -> Option<Ipa> {
    /// PAR_EL1.F: the translation failed.
    const FAILED: u64 = 1;
    /// PAR_EL1.PA.
    const PAGE: u64 = 0x000f_ffff_ffff_f000;
    let par: u64;
    // SAFETY: the instruction changes nothing but PAR_EL1, which is put back.
    unsafe {
        asm!("mrs {own}, par_el1", "at s1e1r, {va}", "isb", "mrs {par}, par_el1", "msr par_el1, {own}",
             own = out(reg) _, va = in(reg) va, par = out(reg) par, options(nostack, preserves_flags));
    }
    (par & FAILED == 0).then_some(Ipa(par & PAGE | va & 0xfff))
}

/// This core's own ID registers, by `idregs::index`.
pub fn id_registers() -> [u64; crate::idregs::REGISTERS] {
    let mut values = [0; crate::idregs::REGISTERS];
    macro_rules! row {
        ($crm:literal) => { row!($crm, 0 1 2 3 4 5 6 7) };
        ($crm:literal, $($op2:literal)*) => {
            // SAFETY: every encoding of the group reads as an ID register or zero.
            $(unsafe {
                asm!(concat!("mrs {}, S3_0_C0_C", $crm, "_", $op2), out(reg) values[($crm - 1) * 8 + $op2],
                     options(nomem, nostack, preserves_flags));
            })*
        };
    }
    row!(1);
    row!(2);
    row!(3);
    row!(4);
    row!(5);
    row!(6);
    row!(7);
    values
}
