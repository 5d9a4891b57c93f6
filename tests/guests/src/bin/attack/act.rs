//! One hostile act, and what may come of it.

use guest::exception::{EC_DATA_ABORT, EC_INSTRUCTION_ABORT, EXTERNAL_ABORT, Fault, Probed};
use guest::mmu::Kind;

/// NOP.
pub const NOP: u32 = 0xd503_201f;

/// Where and how an act runs.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// At EL1 in the identity map.
    Here,
    /// At EL1 with translation off.
    Untranslated,
    /// At EL1 with x1 pointing to the window, which shows this physical address.
    Window {
        /// Any address, also beyond what the CPU has.
        physical: u64,
        /// The memory type that the mapping claims.
        kind: Kind,
        /// The window may be executed.
        executable: bool,
    },
    /// At EL0.
    User {
        /// In AArch32 state.
        aarch32: bool,
    },
    /// At EL1, with the timer about to fire, for what waits.
    Parked,
    /// At EL1, after which FP, SVE and SME are opened again.
    Closing,
}

/// What may come of an act.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// Anything but a hang.
    Any,
    /// An undefined instruction.
    Undefined,
    /// No fault.
    Completes,
    /// No fault, and this in x0.
    Value(u64),
    /// No fault, and this in w0.
    Answer(u32),
    /// A synchronous external abort of data at this address.
    DataAbort(u64),
    /// A synchronous external abort of instructions at this address.
    FetchAbort(u64),
    /// A data or instruction abort or a fault of alignment: the access must not succeed.
    Refused,
}

impl Expect {
    /// Whether an outcome is what was expected.
    pub fn holds(&self, outcome: &Probed) -> bool {
        let external = |fault: &Fault, class: u64, address: u64| {
            fault.class() == class
                && fault.status() == EXTERNAL_ABORT
                && fault.far == address
                && fault.esr >> 25 & 1 == 1
        };
        match (self, outcome) {
            (Expect::Any, _) => true,
            (Expect::Undefined, Err(fault)) => fault.is_undefined(),
            (Expect::Completes, Ok(_)) => true,
            (Expect::Value(value), Ok(registers)) => registers[0] == *value,
            (Expect::Answer(value), Ok(registers)) => registers[0] as u32 == *value,
            (Expect::DataAbort(address), Err(fault)) => external(fault, EC_DATA_ABORT, *address),
            (Expect::FetchAbort(address), Err(fault)) => {
                external(fault, EC_INSTRUCTION_ABORT, *address) && fault.elr == *address
            }
            (Expect::Refused, Err(_)) => true,
            _ => false,
        }
    }
}

/// One act: up to two instructions, with x0 to x7 loaded.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// What runs.
    pub words: [u32; 2],
    /// With which registers.
    pub registers: [u64; 8],
    /// Where.
    pub place: Place,
    /// And what must come of it.
    pub expect: Expect,
}

impl Act {
    /// Nothing.
    pub const NONE: Act = Act::new(NOP, [0; 8]);

    /// An act of one instruction at EL1, of which nothing is expected.
    pub const fn new(word: u32, registers: [u64; 8]) -> Self {
        Self {
            words: [word, NOP],
            registers,
            place: Place::Here,
            expect: Expect::Any,
        }
    }

    /// The same act with an expectation.
    pub const fn expecting(self, expect: Expect) -> Self {
        Self { expect, ..self }
    }

    /// The same act elsewhere.
    pub const fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }
}
