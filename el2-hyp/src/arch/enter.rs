//! Into a guest and back.

use core::arch::global_asm;

global_asm!(include_str!("enter.S"));

/// The registers that every exit stores and every entry loads. `enter.S` knows the layout.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Frame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Where the guest goes on.
    pub pc: u64,
    /// The guest's PSTATE, in the form of SPSR_EL2.
    pub pstate: u64,
}

impl Frame {
    /// Goes past the instruction at which the guest stands: four bytes, for every instruction of A64 and every one of AArch32 EL0 that comes
    /// here. A guest may stand at the very end of its address space.
    pub fn skip(&mut self) {
        self.pc = self.pc.wrapping_add(4);
    }
}

const _: () = assert!(core::mem::offset_of!(Frame, pc) == 31 * 8);
const _: () = assert!(core::mem::offset_of!(Frame, pstate) == 32 * 8);

/// By which vector the guest came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vector {
    /// A synchronous exception: ESR_EL2 says which.
    Synchronous,
    /// An interrupt waits at the physical GIC, unacknowledged.
    Interrupt,
    /// A physical SError.
    SystemError,
}

// SAFETY: `enter.S` defines both, the function with this signature.
unsafe extern "C" {
    fn hearth_enter(frame: *mut Frame) -> u64;
    static hearth_vectors: u8;
}

/// The address for VBAR_EL2.
pub fn vectors() -> u64 {
    // The address alone is taken; nothing is read.
    &raw const hearth_vectors as u64
}

/// Runs the loaded vCPU until its next exit.
///
/// # Safety
/// This core's EL1 and stage 2 registers hold the state of the vCPU whose frame this is, and `frame.pstate` names EL1 or
/// EL0, never EL2.
pub unsafe fn enter(frame: &mut Frame) -> Vector {
    // SAFETY: hearth_enter keeps to the procedure call standard and touches nothing but the frame and its own stack; that
    // the guest's state is loaded is the caller's promise.
    match unsafe { hearth_enter(frame) } {
        0 => Vector::Synchronous,
        3 => Vector::SystemError,
        // FIQ too: group 0 interrupts of a GIC without security come that way.
        _ => Vector::Interrupt,
    }
}
