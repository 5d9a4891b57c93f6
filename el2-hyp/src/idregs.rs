//! What a guest learns of its processor: the ID registers, field by field (Arm ARM DDI 0487 D19, DDI 0601).
//!
//! A field that is not named here reads as zero: a feature of a newer core is absent until somebody has made sure that a guest may use
//! it. What needs state that EL2 does not switch, or a trap that EL2 does not open, is left out on purpose.

use crate::exit::SystemRegister;
use crate::vgic::Version;

/// Registers with op0 = 3, op1 = 0, CRn = 0, CRm = 1 to 7: the group that HCR_EL2.TID3 traps.
pub const REGISTERS: usize = 7 * 8;

/// The values that the group has, by [`index`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdRegisters([u64; REGISTERS]);

/// The place of a register in the group; `None` for any other register.
pub const fn index(register: SystemRegister) -> Option<usize> {
    let named = register.op0() == 3 && register.op1() == 0 && register.crn() == 0;
    if named && 1 <= register.crm() && register.crm() <= 7 {
        Some(((register.crm() - 1) * 8 + register.op2()) as usize)
    } else {
        None
    }
}

/// How much of a field a guest sees.
#[derive(Clone, Copy)]
enum Show {
    /// All of it.
    Host,
    /// No more than this.
    AtMost(u64),
    /// This, whatever the core has.
    Fixed(u64),
}
use Show::{AtMost, Fixed, Host};

/// CRm, op2, and for each field its lowest bit and what is shown. Every field is four bits wide.
type Rule = (u32, u32, &'static [(u32, Show)]);

const RULES: &[Rule] = &[
    // The AArch32 group describes EL0 only: EL1 is AArch64. ID_PFR0, ID_PFR1 (no virtualisation, GIC or security extension), ID_DFR0.
    (
        1,
        0,
        &[(0, Host), (4, Host), (8, Host), (12, Host), (24, Host)],
    ),
    (1, 1, &[(0, Host), (8, Host), (16, Host)]),
    (1, 2, &[(0, AtMost(6))]),
    // ID_MMFR0 to 3, ID_ISAR0 to 5, ID_MMFR4, ID_ISAR6, MVFR0 to 2, ID_PFR2.
    (1, 4, ALL),
    (1, 5, ALL),
    (1, 6, ALL),
    (1, 7, ALL),
    (2, 0, ALL),
    (2, 1, ALL),
    (2, 2, ALL),
    (2, 3, ALL),
    (2, 4, ALL),
    (2, 5, ALL),
    (2, 6, ALL),
    (2, 7, ALL),
    (3, 0, ALL),
    (3, 1, ALL),
    (3, 2, ALL),
    (3, 4, &[(0, Host), (4, Host)]),
    // ID_AA64PFR0_EL1: EL0, EL1 (AArch64 only); no EL2, EL3; FP, AdvSIMD; DIT, CSV2 (without the SCXTNUM registers), CSV3.
    (
        4,
        0,
        &[
            (0, AtMost(2)),
            (4, Fixed(1)),
            (16, Host),
            (20, Host),
            (48, AtMost(1)),
            (56, AtMost(1)),
            (60, AtMost(1)),
        ],
    ),
    // ID_AA64PFR1_EL1: BT, SSBS.
    (4, 1, &[(0, AtMost(1)), (4, AtMost(2))]),
    // ID_AA64DFR0_EL1: the debug architecture of Armv8.0; two breakpoints and two watchpoints, the least that there can be.
    (5, 0, &[(0, Fixed(6)), (12, Fixed(1)), (20, Fixed(1))]),
    // ID_AA64ISAR0_EL1: AES, SHA1, SHA2, CRC32, Atomic, RDM, SHA3, SM3, SM4, DP, FHM, TS, TLB, RNDR; no TME.
    (
        6,
        0,
        &[
            (4, Host),
            (8, Host),
            (12, Host),
            (16, Host),
            (20, Host),
            (28, Host),
            (32, Host),
            (36, Host),
            (40, Host),
            (44, Host),
            (48, Host),
            (52, AtMost(2)),
            (56, AtMost(2)),
            (60, AtMost(1)),
        ],
    ),
    // ID_AA64ISAR1_EL1: DPB, JSCVT, FCMA, LRCPC, FRINTTS, SB, BF16, DGH, I8MM; no pointer authentication, LS64, XS, SPECRES.
    (
        6,
        1,
        &[
            (0, AtMost(2)),
            (12, AtMost(1)),
            (16, AtMost(1)),
            (20, AtMost(2)),
            (32, AtMost(1)),
            (36, AtMost(1)),
            (44, AtMost(1)),
            (48, AtMost(1)),
            (52, AtMost(1)),
        ],
    ),
    // ID_AA64MMFR0_EL1: 36 bits of physical address; ASIDBits, BigEnd, BigEndEL0, TGran16, TGran64, TGran4.
    (
        7,
        0,
        &[
            (0, AtMost(1)),
            (4, Host),
            (8, Host),
            (16, Host),
            (20, Host),
            (24, Host),
            (28, Host),
        ],
    ),
    // ID_AA64MMFR1_EL1: HAFDBS, HPDS, PAN, ETS.
    (
        7,
        1,
        &[
            (0, AtMost(2)),
            (12, AtMost(1)),
            (20, AtMost(3)),
            (36, AtMost(2)),
        ],
    ),
    // ID_AA64MMFR2_EL1: CnP, UAO, LSM, VARange, CCIDX, ST, AT, IDS, TTL, BBM, E0PD.
    (
        7,
        2,
        &[
            (0, AtMost(1)),
            (4, AtMost(1)),
            (8, AtMost(1)),
            (16, AtMost(1)),
            (20, AtMost(1)),
            (28, AtMost(1)),
            (32, AtMost(1)),
            (36, AtMost(1)),
            (48, AtMost(2)),
            (52, AtMost(2)),
            (60, AtMost(1)),
        ],
    ),
];

const ALL: &[(u32, Show)] = &[
    (0, Host),
    (4, Host),
    (8, Host),
    (12, Host),
    (16, Host),
    (20, Host),
    (24, Host),
    (28, Host),
];

/// ID_AA64PFR0_EL1.GIC: the system registers of a GICv3 CPU interface.
const PFR0_GIC_SHIFT: u32 = 24;

impl IdRegisters {
    /// What a guest with that kind of interrupt controller sees on a core whose own registers `host` reads.
    pub fn new(host: impl Fn(usize) -> u64, gic: Version) -> Self {
        let mut values = [0; REGISTERS];
        for &(crm, op2, fields) in RULES {
            let at = ((crm - 1) * 8 + op2) as usize;
            let own = host(at);
            values[at] = fields.iter().fold(0, |value, &(shift, show)| {
                let field = own >> shift & 15;
                let shown = match show {
                    Host => field,
                    AtMost(most) => field.min(most),
                    Fixed(fixed) => fixed,
                };
                value | shown << shift
            });
        }
        if gic == Version::V3 {
            values[(4 - 1) * 8] |= 1 << PFR0_GIC_SHIFT;
        }
        Self(values)
    }

    /// Values that a guest has seen before, by [`index`].
    pub const fn from_values(values: [u64; REGISTERS]) -> Self {
        Self(values)
    }

    /// What a guest reads from a register of the group.
    pub fn read(&self, index: usize) -> u64 {
        self.0[index]
    }

    /// Whether exceptions to EL1 may set PSTATE.PAN.
    pub fn has_pan(&self) -> bool {
        self.0[(7 - 1) * 8 + 1] >> 20 & 15 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register(crm: u32, op2: u32) -> usize {
        index(SystemRegister::new(3, 0, 0, crm, op2)).unwrap()
    }

    #[test]
    fn a_core_with_everything_shows_only_what_is_switched() {
        let all = IdRegisters::new(|_| u64::MAX, Version::V3);
        let pfr0 = all.read(register(4, 0));
        assert_eq!(pfr0 >> 8 & 0xff, 0, "EL2 and EL3");
        assert_eq!(pfr0 >> 32 & 15, 0, "SVE");
        assert_eq!(pfr0 >> 24 & 15, 1, "GIC");
        assert_eq!(all.read(register(4, 4)), 0, "ZFR0");
        assert_eq!(all.read(register(4, 5)), 0, "SMFR0");
        assert_eq!(all.read(register(4, 1)) >> 8 & 15, 0, "MTE");
        let isar1 = all.read(register(6, 1));
        for pointer_authentication in [4, 8, 24, 28] {
            assert_eq!(isar1 >> pointer_authentication & 15, 0);
        }
        assert_eq!(all.read(register(6, 2)), 0, "MOPS, WFxT");
        let dfr0 = all.read(register(5, 0));
        assert_eq!(dfr0 >> 8 & 15, 0, "PMU");
        assert_eq!(dfr0 >> 32, 0, "SPE, trace buffer");
        assert!(all.has_pan());
    }

    #[test]
    fn nothing_is_invented() {
        let none = IdRegisters::new(|_| 0, Version::V2);
        for at in 0..REGISTERS {
            let expected = match at {
                at if at == register(4, 0) => 1 << 4,
                at if at == register(5, 0) => 6 | 1 << 12 | 1 << 20,
                _ => 0,
            };
            assert_eq!(none.read(at), expected, "register {at}");
        }
    }

    #[test]
    fn absent_floating_point_stays_absent() {
        // FP and AdvSIMD say 15 where they are not implemented.
        let without = IdRegisters::new(
            |at| if at == register(4, 0) { 0xff << 16 } else { 0 },
            Version::V2,
        );
        assert_eq!(without.read(register(4, 0)) >> 16 & 0xff, 0xff);
    }

    #[test]
    fn only_the_group_has_a_place() {
        assert_eq!(index(SystemRegister::new(3, 0, 0, 0, 0)), None);
        assert_eq!(index(SystemRegister::new(3, 0, 1, 1, 0)), None);
        assert_eq!(index(SystemRegister::new(3, 1, 0, 4, 0)), None);
        assert_eq!(
            index(SystemRegister::new(3, 0, 0, 7, 7)),
            Some(REGISTERS - 1)
        );
    }
}
