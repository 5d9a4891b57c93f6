//! Which trapped system register means what: the encoding becomes an action, and what has no action is undefined to the guest.

use crate::exit::{SystemAccess, SystemRegister};
use crate::idregs;
use crate::vgic::SgiKind;

/// What a trapped access is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the ID register with this place in its group.
    Id(usize),
    /// Read as zero, ignore writes.
    ReadZero,
    /// Read this; a write is undefined.
    ReadOnly(u64),
    /// Read this; a write is ignored.
    Constant(u64),
    /// Write to deactivate an interrupt.
    Deactivate,
    /// Write to generate an SGI.
    Sgi(SgiKind),
    /// Read the physical counter, which to a guest is its virtual one.
    Counter,
    /// The physical timer.
    PhysicalTimer(TimerRegister),
    /// Data cache maintenance by set and way.
    SetWay,
    /// A write to EL1's translation controls, trapped while those are watched.
    Translation(TranslationControl),
    /// The guest gets an undefined exception.
    Undefined,
}

/// A register of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerRegister {
    /// CNTP_TVAL_EL0.
    Value,
    /// CNTP_CTL_EL0.
    Control,
    /// CNTP_CVAL_EL0.
    Compare,
}

/// A register that HCR_EL2.TVM traps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the register of that name")]
pub enum TranslationControl {
    Sctlr,
    Ttbr0,
    Ttbr1,
    Tcr,
    Afsr0,
    Afsr1,
    Esr,
    Far,
    Mair,
    Amair,
    Contextidr,
}

/// OSLSR_EL1: the OS lock is implemented (OSLM = 0b10) and not locked.
const OSLSR: u64 = 1 << 3;

/// ICC_SRE_EL1: SRE, DFB, DIB.
const ICC_SRE: u64 = 7;

/// Breakpoints and watchpoints that ID_AA64DFR0_EL1 shows.
const DEBUG_PAIRS: u32 = 2;

/// What the access means.
pub fn action(access: SystemAccess) -> Action {
    let r = access.register;
    if let Some(index) = idregs::index(r) {
        return if access.read {
            Action::Id(index)
        } else {
            Action::Undefined
        };
    }
    let found = match r.op0() {
        1 => maintenance(r),
        2 => debug(r),
        _ => register(r),
    };
    match found {
        // Generating an SGI and maintenance are writes; reading them is undefined.
        Action::Sgi(_) | Action::Deactivate | Action::SetWay | Action::Translation(_)
            if access.read =>
        {
            Action::Undefined
        }
        Action::ReadOnly(_) | Action::Counter if !access.read => Action::Undefined,
        found => found,
    }
}

/// DC ISW, CSW and CISW.
fn maintenance(r: SystemRegister) -> Action {
    match (r.op1(), r.crn(), r.crm(), r.op2()) {
        (0, 7, 6 | 10 | 14, 2) => Action::SetWay,
        _ => Action::Undefined,
    }
}

/// The self-hosted debug registers: there is nothing behind them, but an operating system may set them up (docs/guest-machine.md).
fn debug(r: SystemRegister) -> Action {
    match (r.op1(), r.crn(), r.crm(), r.op2()) {
        // DBGBVR, DBGBCR, DBGWVR, DBGWCR.
        (0, 0, n, 4..=7) if n < DEBUG_PAIRS => Action::ReadZero,
        // OSDTRRX, MDCCINT, MDSCR, OSDTRTX, OSECCR.
        (0, 0, 0 | 3, 2) | (0, 0, 2, 0 | 2) | (0, 0, 6, 2) => Action::ReadZero,
        // MDRAR, OSLAR, OSLSR, OSDLR, DBGPRCR.
        (0, 1, 0, 0) => Action::ReadOnly(0),
        (0, 1, 0, 4) | (0, 1, 3 | 4, 4) => Action::ReadZero,
        (0, 1, 1, 4) => Action::ReadOnly(OSLSR),
        // DBGCLAIMSET, DBGCLAIMCLR, DBGAUTHSTATUS.
        (0, 7, 8 | 9, 6) => Action::ReadZero,
        (0, 7, 14, 6) => Action::ReadOnly(0),
        // MDCCSR, DBGDTR, DBGDTRRX and TX.
        (3, 0, 1, 0) => Action::ReadOnly(0),
        (3, 0, 4 | 5, 0) => Action::ReadZero,
        _ => Action::Undefined,
    }
}

fn register(r: SystemRegister) -> Action {
    use TranslationControl::*;
    match (r.op1(), r.crn(), r.crm(), r.op2()) {
        // ACTLR_EL1: nothing to control.
        (0, 1, 0, 1) => Action::ReadZero,
        (0, 1, 0, 0) => Action::Translation(Sctlr),
        (0, 2, 0, 0) => Action::Translation(Ttbr0),
        (0, 2, 0, 1) => Action::Translation(Ttbr1),
        (0, 2, 0, 2) => Action::Translation(Tcr),
        (0, 5, 1, 0) => Action::Translation(Afsr0),
        (0, 5, 1, 1) => Action::Translation(Afsr1),
        (0, 5, 2, 0) => Action::Translation(Esr),
        (0, 6, 0, 0) => Action::Translation(Far),
        (0, 10, 2, 0) => Action::Translation(Mair),
        (0, 10, 3, 0) => Action::Translation(Amair),
        (0, 13, 0, 1) => Action::Translation(Contextidr),
        // ICC_SGI1R_EL1, ICC_ASGI1R_EL1, ICC_SGI0R_EL1.
        (0, 12, 11, 5) => Action::Sgi(SgiKind::Group1),
        (0, 12, 11, 6) => Action::Sgi(SgiKind::Alias1),
        (0, 12, 11, 7) => Action::Sgi(SgiKind::Group0),
        // ICC_DIR_EL1, where ICH_HCR_EL2.TDIR traps it; ICC_SRE_EL1: the system register interface, for good.
        (0, 12, 11, 1) => Action::Deactivate,
        (0, 12, 12, 5) => Action::Constant(ICC_SRE),
        // CNTPCT_EL0.
        (3, 14, 0, 1) => Action::Counter,
        (3, 14, 2, 0) => Action::PhysicalTimer(TimerRegister::Value),
        (3, 14, 2, 1) => Action::PhysicalTimer(TimerRegister::Control),
        (3, 14, 2, 2) => Action::PhysicalTimer(TimerRegister::Compare),
        _ => Action::Undefined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn access(read: bool, r: (u32, u32, u32, u32, u32)) -> Action {
        let register = SystemRegister::new(r.0, r.1, r.2, r.3, r.4);
        action(SystemAccess {
            register,
            read,
            target: 0,
        })
    }

    #[test]
    fn registers_have_their_meaning() {
        assert_eq!(access(true, (3, 0, 0, 4, 0)), Action::Id(24));
        assert_eq!(access(false, (3, 0, 0, 4, 0)), Action::Undefined);
        assert_eq!(
            access(false, (3, 0, 12, 11, 5)),
            Action::Sgi(SgiKind::Group1)
        );
        assert_eq!(access(true, (3, 0, 12, 11, 5)), Action::Undefined);
        assert_eq!(access(true, (3, 3, 14, 0, 1)), Action::Counter);
        assert_eq!(access(false, (1, 0, 7, 14, 2)), Action::SetWay);
        assert_eq!(access(false, (2, 0, 1, 0, 4)), Action::ReadZero);
        assert_eq!(access(true, (2, 0, 1, 1, 4)), Action::ReadOnly(8));
    }

    #[test]
    fn what_is_hidden_is_undefined() {
        // PMCR_EL0, ZCR_EL1, ERRIDR_EL1, LORID_EL1, CPTR_EL2, an implementation defined register, a third breakpoint.
        for r in [
            (3, 3, 9, 12, 0),
            (3, 0, 1, 2, 0),
            (3, 0, 5, 3, 0),
            (3, 0, 10, 4, 7),
            (3, 4, 1, 1, 2),
            (3, 1, 15, 2, 0),
            (2, 0, 0, 2, 4),
        ] {
            assert_eq!(access(true, r), Action::Undefined, "{r:?}");
        }
    }

    proptest! {
        #[test]
        fn every_access_has_a_meaning(read: bool, op0 in 0u32..4, op1 in 0u32..8, crn in 0u32..16, crm in 0u32..16, op2 in 0u32..8) {
            access(read, (op0, op1, crn, crm, op2));
        }
    }
}
