//! Acts at EL0, in both states: what a guest's own programs can do to the board.

use core::arch::global_asm;

use guest::exception::{self, Probed};
use guest::mmu;
use guest::rng::Rng;
use guest::write_sysreg;

use crate::act::{Act, Expect, NOP, Place};
use crate::world::World;

/// SVC #0 in A64, and in A32.
const SVC: [u32; 2] = [0xd400_0001, 0xef00_0000];
/// NOP in A32.
const NOP_A32: u32 = 0xe320_f000;
/// Exception classes of SVC from AArch64 and from AArch32: the way back.
const RETURNED: [u64; 2] = [0x15, 0x11];
/// SPSR: EL0, everything masked; and A32 user mode, everything masked.
const STATES: [u64; 2] = [0x3c0, 0x1d0];

global_asm!(
    ".section .text.user, \"ax\"",
    ".global enter_user",
    // x6: where, x7: state. x0 to x5 are the act's.
    "enter_user:",
    "msr elr_el1, x6",
    "msr spsr_el1, x7",
    "isb",
    "eret",
);

// SAFETY: the assembly above defines it; it takes and returns nothing.
unsafe extern "C" {
    fn enter_user();
}

/// A page that EL0 runs.
#[repr(C, align(4096))]
struct Page(core::cell::UnsafeCell<[u32; 1024]>);

// SAFETY: only vCPU 0 uses it.
unsafe impl Sync for Page {}

static PAGE: Page = Page(core::cell::UnsafeCell::new([0; 1024]));

/// Runs two instructions at EL0; coming back by SVC counts as having completed.
pub fn run(words: [u32; 2], registers: [u64; 8], aarch32: bool) -> Probed {
    let which = usize::from(aarch32);
    let second = if aarch32 && words[1] == NOP {
        NOP_A32
    } else {
        words[1]
    };
    let start = PAGE.0.get() as usize;
    for (at, word) in [words[0], second, SVC[which]].into_iter().enumerate() {
        // SAFETY: in bounds, and EL0 does not run now.
        unsafe { PAGE.0.get().cast::<u32>().add(at).write_volatile(word) };
    }
    mmu::sync_instructions(start, start + 16);
    let mut block = registers;
    block[6] = mmu::map_window_user(start as u64) as u64;
    block[7] = STATES[which];
    // An act before may have turned single steps on, which EL0 would take.
    write_sysreg!("mdscr_el1", 0);
    // SAFETY: EL0 has one page, which holds what is to run and nothing else.
    let outcome = unsafe { exception::probe(enter_user as *const () as *const u32, block, false) };
    match outcome {
        Err(fault) if fault.class() == RETURNED[which] => Ok(block),
        other => other,
    }
}

fn below(rng: &mut Rng, bound: u64) -> u32 {
    rng.below(bound) as u32
}

/// A64 at EL0: calls that EL0 may not make, registers of every level, cache and TLB maintenance.
pub fn a64(rng: &mut Rng, world: &World) -> Act {
    let register =
        below(rng, 32) << 5 | below(rng, 8) << 16 | below(rng, 16) << 12 | below(rng, 16) << 8;
    let value = world.hole(rng).address;
    let registers = [0x8400_0008, value, value, value, 0, 0, 0, 0];
    let (word, expect) = match rng.below(4) {
        // HVC and SMC, of SYSTEM_OFF even: undefined at EL0.
        0 => (rng.pick(&[0xd400_0002, 0xd400_0003]), Expect::Undefined),
        // MRS and MSR of the timers, the counters, the PMU and anything else.
        1 => (
            0xd538_0002
                | below(rng, 2) << 16
                | (register & !(7 << 16 | 0x1f << 5))
                | below(rng, 8) << 5,
            Expect::Any,
        ),
        2 => (
            0xd51b_0002
                | below(rng, 2) << 21
                | (register & !(7 << 16 | 0x1f << 5))
                | below(rng, 8) << 5,
            Expect::Any,
        ),
        _ => (
            0xd50b_7002 | below(rng, 16) << 8 | below(rng, 8) << 5,
            Expect::Any,
        ),
    };
    Act::new(word, registers)
        .at(Place::User { aarch32: false })
        .expecting(expect)
}

/// A32 at EL0: coprocessor accesses of every kind (p10, p11, p14, p15, one register and two), HVC, SMC, LDC and STC.
pub fn a32(rng: &mut Rng, world: &World) -> Act {
    let value = world.hole(rng).address;
    let coprocessor = rng.pick(&[14, 15, 15, 15, 10, 11]) << 8;
    let word = match rng.below(6) {
        0..=2 => {
            0xee00_2010
                | below(rng, 8) << 21
                | below(rng, 2) << 20
                | below(rng, 16) << 16
                | coprocessor
                | below(rng, 8) << 5
                | below(rng, 16)
        }
        3 => {
            0xec40_2000
                | below(rng, 2) << 20
                | 3 << 16
                | coprocessor
                | below(rng, 16) << 4
                | below(rng, 16)
        }
        // LDC and STC of the debug channel, at r1.
        4 => 0xed81_5e00 | below(rng, 2) << 20,
        _ => rng.pick(&[0xe140_0070, 0xe160_0070]),
    };
    Act::new(word, [0x8400_0008, value, value, value, 0, 0, 0, 0]).at(Place::User { aarch32: true })
}
