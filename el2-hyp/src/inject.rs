//! The exceptions that EL2 gives to a guest: what hardware does on taking an exception to EL1 (Arm ARM D1.3, AArch64.TakeException),
//! as a calculation.

/// PSTATE bits in the form of SPSR_EL2.
const MODE_MASK: u64 = 0x1f;
const MODE_EL1H: u64 = 0b00101;
const MODE_AARCH32: u64 = 1 << 4;
const MASK_DAIF: u64 = 0xf << 6;
/// BTYPE[11:10], SSBS[12], IL[20], SS[21], PAN[22], UAO[23].
const BTYPE: u64 = 3 << 10;
const SSBS: u64 = 1 << 12;
const ILLEGAL: u64 = 1 << 20;
const STEP: u64 = 1 << 21;
const PAN: u64 = 1 << 22;
const UAO: u64 = 1 << 23;
/// SCTLR_EL1.SPAN: PAN stays as it is; DSSBS: the value of SSBS.
const SCTLR_SPAN: u64 = 1 << 23;
const SCTLR_DSSBS: u64 = 1 << 44;

/// ESR.IL: the instruction was 32 bits long.
const ESR_LONG: u64 = 1 << 25;

/// An exception for EL1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// The instruction is undefined here.
    Undefined,
    /// The access at `far` met nothing that answers: a synchronous external abort.
    DataAbort {
        /// The virtual address.
        far: u64,
        /// It was a write.
        write: bool,
        /// The guest's own table walk met it, not the access.
        on_walk: bool,
    },
    /// The fetch from `far` met nothing that answers.
    InstructionAbort {
        /// The virtual address.
        far: u64,
        /// The guest's own table walk met it.
        on_walk: bool,
    },
}

/// What the machine must hold for EL1 to take an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The address of the vector.
    pub pc: u64,
    /// PSTATE at the vector.
    pub pstate: u64,
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1, where the exception sets it.
    pub far: Option<u64>,
    /// ELR_EL1.
    pub elr: u64,
    /// SPSR_EL1.
    pub spsr: u64,
}

/// What is known of the guest when it takes an exception.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// The address of the instruction.
    pub pc: u64,
    /// PSTATE at it.
    pub pstate: u64,
    /// VBAR_EL1.
    pub vbar: u64,
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// The core has PAN (ID_AA64MMFR1_EL1), so that an exception sets it unless SCTLR_EL1.SPAN says otherwise.
    pub has_pan: bool,
}

/// Synchronous external abort, not on a walk; on a walk at level 0 to 3 the status is 0b0101LL; level 3 is where ours are met.
const STATUS_EXTERNAL: u64 = 0x10;
const STATUS_EXTERNAL_ON_WALK: u64 = 0x17;

/// Takes `exception` at EL1.
pub fn take(exception: Exception, before: Before) -> Taken {
    let from_el0 = before.pstate & 0b1111 == 0;
    let abort_status = |on_walk| {
        if on_walk {
            STATUS_EXTERNAL_ON_WALK
        } else {
            STATUS_EXTERNAL
        }
    };
    // The class of an abort from the same EL is one above that from a lower one.
    let class = |lower: u64| (if from_el0 { lower } else { lower + 1 }) << 26;
    let (esr, far) = match exception {
        Exception::Undefined => (ESR_LONG, None),
        Exception::DataAbort {
            far,
            write,
            on_walk,
        } => (
            class(0x24) | ESR_LONG | u64::from(write) << 6 | abort_status(on_walk),
            Some(far),
        ),
        Exception::InstructionAbort { far, on_walk } => {
            (class(0x20) | ESR_LONG | abort_status(on_walk), Some(far))
        }
    };
    Taken {
        pc: before.vbar.wrapping_add(vector(before.pstate)),
        pstate: pstate(before),
        esr,
        far,
        elr: before.pc,
        spsr: before.pstate,
    }
}

/// The offset of the synchronous vector for an exception from the state `from` (D1.3.2).
fn vector(from: u64) -> u64 {
    match from & MODE_MASK {
        mode if mode & MODE_AARCH32 != 0 => 0x600,
        0b00000 => 0x400,
        0b00101 => 0x200,
        _ => 0x000,
    }
}

fn pstate(before: Before) -> u64 {
    let keep = before.pstate & !(MODE_MASK | BTYPE | SSBS | ILLEGAL | STEP | UAO);
    // From AArch32, the bits that AArch64 does not have are gone; only the flags remain.
    let keep = if before.pstate & MODE_AARCH32 != 0 {
        keep & (0xf << 28 | PAN)
    } else {
        keep
    };
    let pan = if before.has_pan && before.sctlr & SCTLR_SPAN == 0 {
        PAN
    } else {
        0
    };
    let ssbs = if before.sctlr & SCTLR_DSSBS != 0 {
        SSBS
    } else {
        0
    };
    keep | MODE_EL1H | MASK_DAIF | pan | ssbs
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Before = Before {
        pc: 0x4000_1234,
        pstate: 0x6000_0005 | PAN,
        vbar: 0xffff_0000_0000_0800,
        sctlr: SCTLR_SPAN,
        has_pan: true,
    };

    #[test]
    fn an_undefined_instruction_of_the_kernel() {
        let taken = take(Exception::Undefined, BEFORE);
        assert_eq!(taken.pc, BEFORE.vbar + 0x200);
        assert_eq!(taken.esr, 1 << 25);
        assert_eq!(
            (taken.elr, taken.spsr, taken.far),
            (BEFORE.pc, BEFORE.pstate, None)
        );
        assert_eq!(taken.pstate, 0x6000_03c5 | PAN);
    }

    #[test]
    fn an_abort_of_a_program() {
        let before = Before {
            pstate: 0,
            sctlr: 0,
            ..BEFORE
        };
        let taken = take(
            Exception::DataAbort {
                far: 0x1000,
                write: true,
                on_walk: false,
            },
            before,
        );
        assert_eq!(taken.pc, BEFORE.vbar + 0x400);
        assert_eq!(taken.esr, 0x24 << 26 | 1 << 25 | 1 << 6 | 0x10);
        assert_eq!(taken.far, Some(0x1000));
        assert_eq!(taken.pstate, 0x3c5 | PAN);
        let without = take(
            Exception::Undefined,
            Before {
                has_pan: false,
                ..before
            },
        );
        assert_eq!(without.pstate, 0x3c5);
    }

    #[test]
    fn a_jump_of_the_kernel_into_nothing() {
        let taken = take(
            Exception::InstructionAbort {
                far: 8,
                on_walk: true,
            },
            BEFORE,
        );
        assert_eq!(taken.esr, 0x21 << 26 | 1 << 25 | 0x17);
    }

    #[test]
    fn a_32_bit_program() {
        let before = Before {
            pstate: 0x2000_0030 | 0x1f << 8,
            ..BEFORE
        };
        let taken = take(Exception::Undefined, before);
        assert_eq!(taken.pc, BEFORE.vbar + 0x600);
        assert_eq!(taken.pstate, 0x2000_03c5);
    }
}
