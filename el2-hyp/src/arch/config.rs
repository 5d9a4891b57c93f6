//! How EL2 confines EL1: one value a register, one reason a bit (Arm ARM DDI 0487, D19).

use core::arch::asm;

use aarch64_cpu::registers::{ID_AA64MMFR0_EL1, Readable};

/// HCR_EL2.VM: stage 2 is on.
const VM: u64 = 1 << 0;
/// HCR_EL2.SWIO: a cache invalidate by set/way also cleans, so that no guest can drop another's data.
const SWIO: u64 = 1 << 1;
/// HCR_EL2.PTW: a guest's table walk that reaches a device faults instead of reading it.
const PTW: u64 = 1 << 2;
/// HCR_EL2.FMO, IMO, AMO: physical FIQ, IRQ and SError come to EL2, and EL1 sees the virtual ones.
const FMO: u64 = 1 << 3;
const IMO: u64 = 1 << 4;
const AMO: u64 = 1 << 5;
/// HCR_EL2.FB, BSU = inner shareable: the guest's local TLB and cache maintenance and its barriers reach every core, since its
/// vCPUs change cores.
const FB: u64 = 1 << 9;
const BSU_IS: u64 = 1 << 10;
/// HCR_EL2.TWI, TWE: a waiting vCPU gives its core to another. Only when vCPUs outnumber cores: else the core waits by itself,
/// which costs nothing and wakes by the same physical interrupt.
const TWI: u64 = 1 << 13;
const TWE: u64 = 1 << 14;
/// HCR_EL2.TID3: the ID registers are answered by us.
const TID3: u64 = 1 << 18;
/// HCR_EL2.TSC: SMC comes to EL2; firmware is not the guest's.
const TSC: u64 = 1 << 19;
/// HCR_EL2.TIDCP, TACR: implementation defined registers are not the guest's.
const TIDCP: u64 = 1 << 20;
const TACR: u64 = 1 << 21;
/// HCR_EL2.TSW: cache maintenance by set and way is answered for the guest's memory alone.
const TSW: u64 = 1 << 22;
/// HCR_EL2.TVM: writes to EL1's translation controls, watched after a set/way operation until the caches are on or off for good.
const TVM: u64 = 1 << 26;
/// HCR_EL2.RW: EL1 is AArch64.
const RW: u64 = 1 << 31;
/// HCR_EL2.TLOR, TERR: limited ordering regions and error records are not the guest's.
const TLOR: u64 = 1 << 35;
const TERR: u64 = 1 << 36;

/// HCR_EL2 for a guest. `share`: the vCPU shares its core, so that a wait must come to EL2. `watch_caches`: the guest has
/// used cache maintenance by set and way.
///
/// Left at zero on purpose: APK and API (pointer authentication, whose keys are not switched, traps), E2H and TGE (nVHE is the
/// baseline), ATA, EnSCXT, FIEN, NV (features that the ID registers do not show trap or are undefined).
pub const fn hcr(share: bool, watch_caches: bool) -> u64 {
    let always = VM
        | SWIO
        | PTW
        | FMO
        | IMO
        | AMO
        | FB
        | BSU_IS
        | TID3
        | TSC
        | TIDCP
        | TACR
        | TSW
        | RW
        | TLOR
        | TERR;
    always | if share { TWI | TWE } else { 0 } | if watch_caches { TVM } else { 0 }
}

/// CPTR_EL2 without VHE: RES1 bits 13, 9 and 7:0; TZ (8), TSM (12), TTA (20), TAM (30): SVE, SME, trace and activity monitors trap.
/// TFP and TCPAC stay clear: FP belongs to the loaded vCPU.
const CPTR: u64 = 0x22ff | 1 << 8 | 1 << 12 | 1 << 20 | 1 << 30;

/// MDCR_EL2: TPMCR (5), TPM (6): no performance monitor; TDA (9), TDOSA (10), TDRA (11): debug registers are answered by us;
/// TPMS (14): no statistical profiling, whose buffer (E2PB = 0) is EL2's; TTRF (19): no trace filter. TDE stays clear: a guest's own
/// breakpoint instructions are its own exceptions.
const MDCR: u64 = 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 14 | 1 << 19;

/// Size of the intermediate physical address space, in bits.
pub const IPA_BITS: u32 = 39;

/// VTCR_EL2: 39 bits of IPA translated from level 1 in 4 KiB granules, walks inner shareable and write-back.
fn vtcr() -> u64 {
    let output_size = ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange).min(5);
    let t0sz = 64 - u64::from(IPA_BITS);
    t0sz | 1 << 6 | 1 << 8 | 1 << 10 | 3 << 12 | output_size << 16 | 1 << 31
}

/// Sets the registers of this core that are the same for every guest. VBAR_EL2 is set here too.
///
/// # Safety
/// Called at EL2 with no guest loaded on this core, from an image whose vectors are mapped.
pub unsafe fn initialise_core() {
    let counters = pmcr_counters();
    // HPMN hides the last event counter from EL1 and keeps it for EL2's own count of instructions.
    let mdcr = MDCR | counters.saturating_sub(1);
    // SAFETY: the values confine EL1 and do not change how EL2 itself runs, but for the vectors, which are ours.
    unsafe {
        asm!(
            "msr vbar_el2, {vbar}", "msr cptr_el2, {cptr}", "msr mdcr_el2, {mdcr}", "msr vtcr_el2, {vtcr}",
            "msr hstr_el2, xzr", "msr cnthctl_el2, xzr", "msr cntvoff_el2, xzr", "msr hcr_el2, {hcr}",
            "msr vpidr_el2, {midr}", "isb",
            vbar = in(reg) super::enter::vectors(), cptr = in(reg) CPTR, mdcr = in(reg) mdcr, vtcr = in(reg) vtcr(),
            // Nothing translates at EL1 until a guest is loaded.
            hcr = in(reg) hcr(true, false) & !VM,
            midr = in(reg) midr(),
            options(nostack, preserves_flags)
        );
    }
    if counters > 0 {
        count_el2_instructions(counters - 1);
    }
    close_newer_features();
}

/// Registers of newer architectures that confine EL1 further and are unknown at reset: zero hides or traps what the ID registers do not show.
fn close_newer_features() {
    let mmfr0 = ID_AA64MMFR0_EL1.get();
    let (mmfr1, pfr0): (u64, u64);
    // SAFETY: reading ID registers has no effect; ACTLR_EL2 = 0 gives EL1 no implementation defined register.
    unsafe {
        asm!("mrs {}, id_aa64mmfr1_el1", "mrs {}, id_aa64pfr0_el1", "msr actlr_el2, xzr", out(reg) mmfr1, out(reg) pfr0,
             options(nomem, nostack, preserves_flags));
    }
    // FEAT_FGT: HFGRTR, HFGWTR, HFGITR, HDFGRTR, HDFGWTR.
    if mmfr0 >> 56 & 15 != 0 {
        // SAFETY: the registers exist; they concern EL1 and EL0 alone.
        unsafe {
            asm!(
                "msr S3_4_C1_C1_4, xzr",
                "msr S3_4_C1_C1_5, xzr",
                "msr S3_4_C1_C1_6, xzr",
                "msr S3_4_C3_C1_4, xzr",
                "msr S3_4_C3_C1_5, xzr",
                options(nomem, nostack, preserves_flags)
            );
        }
    }
    // FEAT_HCX: HCRX_EL2.
    if mmfr1 >> 40 & 15 != 0 {
        // SAFETY: as above.
        unsafe {
            asm!(
                "msr S3_4_C1_C2_2, xzr",
                options(nomem, nostack, preserves_flags)
            )
        };
    }
    // FEAT_MPAM: MPAM2_EL2.TRAPMPAM1EL1 and TRAPMPAM0EL1.
    if pfr0 >> 40 & 15 != 0 {
        // SAFETY: as above.
        unsafe {
            asm!("msr S3_4_C10_C5_0, {}", in(reg) 3u64 << 48, options(nomem, nostack, preserves_flags))
        };
    }
}

/// MIDR_EL1: what kind of core this is.
#[must_use]
pub fn midr() -> u64 {
    let midr;
    // SAFETY: reading an ID register has no effect.
    unsafe { asm!("mrs {}, midr_el1", out(reg) midr, options(nomem, nostack, preserves_flags)) };
    midr
}

/// CTR_EL0: how long the lines of this core's caches are.
pub fn ctr() -> u64 {
    let ctr;
    // SAFETY: reading an ID register has no effect.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    ctr
}

/// DCZID_EL0: how much one instruction zeroes.
pub fn dczid() -> u64 {
    let dczid;
    // SAFETY: reading an ID register has no effect.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) dczid, options(nomem, nostack, preserves_flags)) };
    dczid
}

/// Sets HCR_EL2.
///
/// # Safety
/// `value` comes from [`hcr`], so that EL1 stays confined.
pub unsafe fn set_hcr(value: u64) {
    // SAFETY: HCR_EL2 without TGE and E2H does not change how EL2 runs; the entry to the guest synchronises it.
    unsafe { asm!("msr hcr_el2, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// Gives EL1 the identity of vCPU `index`: VMPIDR_EL2 with affinity level 0, in a multiprocessor system (bit 31).
///
/// # Safety
/// That vCPU is the one being loaded on this core.
pub unsafe fn set_mpidr(index: u8) {
    // SAFETY: VMPIDR_EL2 only changes what EL1 reads.
    unsafe {
        asm!("msr vmpidr_el2, {}", in(reg) 1 << 31 | u64::from(index), options(nomem, nostack, preserves_flags))
    };
}

/// How many event counters the core has (PMCR_EL0.N); zero where there is no performance monitor.
fn pmcr_counters() -> u64 {
    let (dfr0, mut pmcr): (u64, u64);
    // SAFETY: reading ID registers has no effect.
    unsafe {
        asm!("mrs {}, id_aa64dfr0_el1", out(reg) dfr0, options(nomem, nostack, preserves_flags))
    };
    if !matches!(dfr0 >> 8 & 15, 1..=14) {
        return 0;
    }
    // SAFETY: the performance monitor exists, so PMCR_EL0 does.
    unsafe { asm!("mrs {}, pmcr_el0", out(reg) pmcr, options(nomem, nostack, preserves_flags)) };
    pmcr = pmcr >> 11 & 31;
    pmcr
}

/// Whether the core counts retired instructions: PMCEID0_EL0, bit of event 0x08.
fn counts_instructions() -> bool {
    let events: u64;
    // SAFETY: called where there is a performance monitor; reading the register has no effect.
    unsafe {
        asm!("mrs {}, pmceid0_el0", out(reg) events, options(nomem, nostack, preserves_flags))
    };
    events & 1 << 8 != 0
}

/// Event INST_RETIRED, counted at EL2 alone: P and U exclude EL1 and EL0, NSH includes EL2 (PMEVTYPER<n>_EL0).
const INSTRUCTIONS_AT_EL2: u64 = 0x08 | 1 << 31 | 1 << 30 | 1 << 27;

fn count_el2_instructions(counter: u64) {
    // SAFETY: the counter exists and is EL2's (HPMN); MDCR_EL2.HPME starts it.
    unsafe {
        asm!(
            "msr pmselr_el0, {n}", "isb", "msr pmxevtyper_el0, {event}", "msr pmxevcntr_el0, xzr",
            "msr pmcntenset_el0, {bit}", "mrs {t}, mdcr_el2", "orr {t}, {t}, #1 << 7", "msr mdcr_el2, {t}", "isb",
            n = in(reg) counter, event = in(reg) INSTRUCTIONS_AT_EL2, bit = in(reg) 1u64 << counter, t = out(reg) _,
            options(nostack, preserves_flags)
        );
    }
}

/// Instructions that this core has retired at EL2, modulo 2^32; `None` where nothing counts them.
pub fn el2_instructions() -> Option<u32> {
    let counters = pmcr_counters();
    (counters > 0 && counts_instructions()).then(|| {
        let count: u64;
        // SAFETY: the counter exists and is EL2's.
        unsafe {
            asm!("msr pmselr_el0, {n}", "isb", "mrs {c}, pmxevcntr_el0", n = in(reg) counters - 1, c = out(reg) count,
                 options(nostack, preserves_flags));
        }
        count as u32
    })
}
