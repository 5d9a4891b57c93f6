//! Why a vCPU came back to EL2, decoded from its syndrome to a value.
//!
//! The rules are those of the Arm ARM (DDI 0487), ESR_EL2 and the ISS encodings of each exception class.
//! Decoding is total: what has no better name is [`Trap::Undefined`], which the guest gets back as its own
//! undefined exception, or [`Trap::Unexpected`], which ends that guest.

use crate::addr::Ipa;
pub use crate::vgic::Width;

/// What the guest did that only EL2 can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// `HVC`; the return address is already past it.
    Hvc,
    /// `SMC`; the return address is still at it.
    Smc,
    /// `WFI` (or `WFIT`).
    WaitForInterrupt,
    /// `WFE` (or `WFET`).
    WaitForEvent,
    /// A load or store that stage 2 does not map.
    DataAbort(DataAbort),
    /// An instruction fetch that stage 2 does not map.
    InstructionAbort(Fault),
    /// `MRS`, `MSR` or a system instruction.
    SystemRegister(SystemAccess),
    /// Something the guest may not use: it gets an undefined exception.
    Undefined,
    /// An exception class that no configuration of ours produces.
    Unexpected {
        /// ESR_EL2 as it was read.
        esr: u64,
    },
}

/// What a stage 2 fault says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The page's intermediate physical address with the offset of the access.
    pub ipa: Ipa,
    /// The virtual address.
    pub far: u64,
    /// Translation, permission or something else.
    pub kind: FaultKind,
    /// The fault was met by the guest's own table walk, not by the access itself.
    pub on_walk: bool,
}

/// The class of a fault status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// No translation.
    Translation,
    /// A translation without that permission.
    Permission,
    /// Any other: external aborts, alignment, conflicts.
    Other,
}

/// A faulting load or store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataAbort {
    /// Where.
    pub fault: Fault,
    /// The access itself, when the hardware described it; `None` for pairs, exclusives, write-back and the like.
    pub access: Option<Access>,
    /// The access was a write, a cache operation or an atomic.
    pub write: bool,
    /// Cache maintenance by address: there is nothing to do where nothing is.
    pub maintenance: bool,
}

/// One load or store of one general-purpose register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The access's size.
    pub width: Width,
    /// The register, 0 to 31, of which 31 is the zero register.
    pub register: u8,
    /// The load sign-extends.
    pub sign_extend: bool,
    /// The register is 64 bits wide: sign extension fills all of it.
    pub wide_register: bool,
}

impl Width {
    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        1 << self as u64
    }

    /// The bits that an access of this size carries.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}

impl Access {
    /// What a load leaves in the register for `value` read from the device.
    pub const fn extend(self, value: u64) -> u64 {
        let value = value & self.width.mask();
        if !self.sign_extend {
            return value;
        }
        let shift = 64 - 8 * self.width.bytes();
        let extended = (((value << shift) as i64) >> shift) as u64;
        if self.wide_register {
            extended
        } else {
            extended & 0xffff_ffff
        }
    }
}

/// A system register or system instruction by its encoding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SystemRegister(u32);

impl SystemRegister {
    /// The register that assembly calls `S<op0>_<op1>_C<crn>_C<crm>_<op2>`.
    pub const fn new(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> Self {
        // The layout of ESR_ELx.ISS for EC 0x18, with Rt and the direction blank.
        Self(op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1)
    }

    /// op0 of the encoding.
    pub const fn op0(self) -> u32 {
        self.0 >> 20 & 3
    }
    /// op1 of the encoding.
    pub const fn op1(self) -> u32 {
        self.0 >> 14 & 7
    }
    /// CRn of the encoding.
    pub const fn crn(self) -> u32 {
        self.0 >> 10 & 15
    }
    /// CRm of the encoding.
    pub const fn crm(self) -> u32 {
        self.0 >> 1 & 15
    }
    /// op2 of the encoding.
    pub const fn op2(self) -> u32 {
        self.0 >> 17 & 7
    }
}

impl core::fmt::Debug for SystemRegister {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "S{}_{}_C{}_C{}_{}",
            self.op0(),
            self.op1(),
            self.crn(),
            self.crm(),
            self.op2()
        )
    }
}

/// A trapped `MRS` or `MSR`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemAccess {
    /// Which register.
    pub register: SystemRegister,
    /// `MRS`: the guest reads it.
    pub read: bool,
    /// The general-purpose register, 0 to 31, of which 31 is the zero register.
    pub target: u8,
}

const EC_SHIFT: u32 = 26;
const ISS_MASK: u64 = (1 << 25) - 1;

/// Decodes the syndrome of a synchronous exception from EL1 or EL0. `far` and `hpfar` are FAR_EL2 and HPFAR_EL2, whose
/// values count only for aborts.
pub fn decode(esr: u64, far: impl Fn() -> u64, hpfar: impl Fn() -> u64) -> Trap {
    let iss = esr & ISS_MASK;
    match esr >> EC_SHIFT & 0x3f {
        // ISS.TI: WFI and WFIT are even, WFE and WFET odd.
        0x01 if iss & 1 == 0 => Trap::WaitForInterrupt,
        0x01 => Trap::WaitForEvent,
        0x16 => Trap::Hvc,
        0x17 => Trap::Smc,
        0x18 => Trap::SystemRegister(SystemAccess {
            register: SystemRegister((iss & 0x3f_fc1e) as u32),
            read: iss & 1 == 1,
            target: (iss >> 5 & 31) as u8,
        }),
        0x20 => Trap::InstructionAbort(fault(iss, far(), hpfar())),
        0x24 => Trap::DataAbort(DataAbort {
            fault: fault(iss, far(), hpfar()),
            access: access(iss),
            write: iss & 1 << 6 != 0,
            maintenance: iss & 1 << 8 != 0,
        }),
        // Unknown reason, coprocessor accesses from AArch32 EL0, FP and SVE, PAuth, LD64B, BTI, SME, 32-bit HVC and SMC.
        0x00 | 0x03..=0x0a | 0x0c..=0x0e | 0x11..=0x14 | 0x19..=0x1d => Trap::Undefined,
        _ => Trap::Unexpected { esr },
    }
}

fn fault(iss: u64, far: u64, hpfar: u64) -> Fault {
    let status = iss & 0x3f;
    Fault {
        // HPFAR_EL2.FIPA holds bits 51:12 of the address at bits 43:4.
        ipa: Ipa((hpfar & 0xfff_ffff_fff0) << 8 | far & 0xfff),
        far,
        kind: match status >> 2 {
            1 => FaultKind::Translation,
            3 => FaultKind::Permission,
            _ => FaultKind::Other,
        },
        on_walk: iss & 1 << 7 != 0,
    }
}

fn access(iss: u64) -> Option<Access> {
    (iss & 1 << 24 != 0).then_some(Access {
        width: match iss >> 22 & 3 {
            0 => Width::Byte,
            1 => Width::Half,
            2 => Width::Word,
            _ => Width::Double,
        },
        sign_extend: iss & 1 << 21 != 0,
        register: (iss >> 16 & 31) as u8,
        wide_register: iss & 1 << 15 != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_word_store_is_described() {
        // str w3, [x0]: ISV, SAS=2, SRT=3, WnR, translation fault level 3.
        let esr = 0x24 << 26 | 1 << 25 | 1 << 24 | 2 << 22 | 3 << 16 | 1 << 6 | 0x7;
        let trap = decode(esr, || 0xffff_0000_0900_0018, || 0x9_0000);
        let Trap::DataAbort(abort) = trap else {
            panic!("{trap:?}")
        };
        assert_eq!(abort.fault.ipa, Ipa(0x0900_0018));
        assert_eq!(abort.fault.kind, FaultKind::Translation);
        assert!(abort.write);
        let access = abort.access.unwrap();
        assert_eq!((access.width, access.register), (Width::Word, 3));
    }

    #[test]
    fn a_pair_has_no_description() {
        let Trap::DataAbort(abort) = decode(0x24 << 26 | 1 << 25 | 0x6, || 0, || 0) else {
            panic!()
        };
        assert_eq!(abort.access, None);
    }

    #[test]
    fn a_register_is_found_by_its_encoding() {
        // mrs x5, ID_AA64PFR0_EL1 (3, 0, C0, C4, 0).
        let id = SystemRegister::new(3, 0, 0, 4, 0);
        let esr = 0x18 << 26 | 1 << 25 | u64::from(id.0) | 5 << 5 | 1;
        let expected = SystemAccess {
            register: id,
            read: true,
            target: 5,
        };
        assert_eq!(decode(esr, || 0, || 0), Trap::SystemRegister(expected));
    }

    #[test]
    fn sign_extension_stops_at_the_register() {
        let narrow = Access {
            width: Width::Byte,
            register: 0,
            sign_extend: true,
            wide_register: false,
        };
        assert_eq!(narrow.extend(0x80), 0xffff_ff80);
        assert_eq!(
            Access {
                wide_register: true,
                ..narrow
            }
            .extend(0x80),
            0xffff_ffff_ffff_ff80
        );
        assert_eq!(
            Access {
                sign_extend: false,
                ..narrow
            }
            .extend(0x180),
            0x80
        );
    }

    proptest! {
        #[test]
        fn decoding_is_total(esr: u64, far: u64, hpfar: u64) {
            decode(esr, || far, || hpfar);
        }

        #[test]
        fn encodings_round_trip(op0 in 0u32..4, op1 in 0u32..8, crn in 0u32..16, crm in 0u32..16, op2 in 0u32..8) {
            let r = SystemRegister::new(op0, op1, crn, crm, op2);
            prop_assert_eq!((r.op0(), r.op1(), r.crn(), r.crm(), r.op2()), (op0, op1, crn, crm, op2));
        }
    }
}
