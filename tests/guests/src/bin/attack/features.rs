//! What the ID registers offer; what they do not must be undefined.

use guest::read_sysreg;

/// Optional parts of the architecture, as this vCPU claims to have them.
pub struct Features {
    /// FEAT_LSE.
    pub atomics: bool,
    /// FEAT_SVE.
    pub sve: bool,
    /// FEAT_SME.
    pub sme: bool,
    /// FEAT_PAuth.
    pub pauth: bool,
    /// FEAT_MTE2.
    pub mte: bool,
    /// FEAT_RAS.
    pub ras: bool,
    /// FEAT_LOR.
    pub regions: bool,
    /// FEAT_PMUv3.
    pub pmu: bool,
    /// FEAT_RNG.
    pub random: bool,
    /// FEAT_AMUv1.
    pub activity: bool,
    /// FEAT_MPAM.
    pub mpam: bool,
    /// FEAT_SPE.
    pub profiling: bool,
    /// System registers of the GIC's CPU interface.
    pub gic: bool,
}

impl Features {
    /// Reads the ID registers.
    pub fn read() -> Self {
        let field = |value: u64, shift: u32| value >> shift & 0xf;
        let isar0 = read_sysreg!("id_aa64isar0_el1");
        let isar1 = read_sysreg!("id_aa64isar1_el1");
        let isar2 = read_sysreg!("S3_0_C0_C6_2");
        let pfr0 = read_sysreg!("id_aa64pfr0_el1");
        let pfr1 = read_sysreg!("id_aa64pfr1_el1");
        let dfr0 = read_sysreg!("id_aa64dfr0_el1");
        let mmfr1 = read_sysreg!("id_aa64mmfr1_el1");
        Self {
            atomics: field(isar0, 20) != 0,
            sve: field(pfr0, 32) != 0,
            sme: field(pfr1, 24) != 0,
            pauth: isar1 & 0xff00_0ff0 != 0 || isar2 & 0xff00 != 0,
            mte: field(pfr1, 8) >= 2,
            ras: field(pfr0, 28) != 0,
            regions: field(mmfr1, 16) != 0,
            pmu: !matches!(field(dfr0, 8), 0 | 0xf),
            random: field(isar0, 60) != 0,
            activity: field(pfr0, 44) != 0,
            mpam: field(pfr0, 40) != 0 || field(pfr1, 16) != 0,
            profiling: field(dfr0, 32) != 0,
            gic: field(pfr0, 24) != 0,
        }
    }
}
