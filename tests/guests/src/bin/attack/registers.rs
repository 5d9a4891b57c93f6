//! System registers and system instructions.

use guest::rng::Rng;

use crate::act::{Act, Expect, NOP, Place};
use crate::world::World;

/// The five numbers that name a register: op0, op1, CRn, CRm, op2.
type Name = (u32, u32, u32, u32, u32);

/// The general register of every access.
const RT: u32 = 2;

/// MRS, SYSL for op0 1.
const fn read(name: Name) -> u32 {
    write(name) | 1 << 21
}

/// MSR, SYS for op0 1.
const fn write(name: Name) -> u32 {
    let (op0, op1, crn, crm, op2) = name;
    0xd500_0000 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5 | RT
}

fn below(rng: &mut Rng, bound: u64) -> u32 {
    rng.below(bound) as u32
}

fn either(rng: &mut Rng, name: Name) -> Act {
    let mut value = value(rng);
    if matches!(name, (3, 0, 12, 8 | 12, 3)) {
        // A binary point above 7 makes QEMU 10 itself fail an assertion (icc_gprio_mask), whoever's guest writes it.
        value &= 7;
    }
    if rng.one_in(2) || is_vital(name) {
        Act::new(read(name), [0; 8])
    } else {
        Act::new(write(name), [0, 0, value, 0, 0, 0, 0, 0])
    }
}

fn value(rng: &mut Rng) -> u64 {
    match rng.below(4) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << rng.below(64),
        _ => rng.draw(),
    }
}

/// Registers that this program rests on; writing garbage there hurts nobody else and ends the test: SCTLR, CPACR, TTBR, TCR, MAIR and its kin, VBAR, RMR, TPIDR_EL1,
/// SVCR, ALLINT, and CNTFRQ, which the highest level may write and without a hypervisor that is this one.
fn is_vital(name: Name) -> bool {
    match name {
        (3, 0, 1, 0, op2) => op2 != 1,
        (3, 0, 2, 0, _) | (3, 0, 10, _, _) | (3, 0, 12, 0, _) => true,
        (3, 0, 13, 0, 4) | (3, 3, 4, 2, 2) | (3, 0, 4, 3, 0) | (3, 3, 14, 0, 0) => true,
        _ => false,
    }
}

/// Identification: reads never fault, writes are undefined.
pub fn identification(rng: &mut Rng, _world: &World) -> Act {
    let name = (3, 0, 0, 1 + below(rng, 7), below(rng, 8));
    if rng.one_in(4) {
        return Act::new(write(name), [0, 0, value(rng), 0, 0, 0, 0, 0])
            .expecting(Expect::Undefined);
    }
    Act::new(read(name), [0; 8]).expecting(Expect::Completes)
}

/// Timers: those of EL1 with any value, CNTFRQ and the counters written, those of others.
pub fn timers(rng: &mut Rng, world: &World) -> Act {
    // The highest level that there is sets the frequency, which without a hypervisor is this one.
    let frequency = if world.bare {
        (3, 3, 14, 0, 1)
    } else {
        (3, 3, 14, 0, 0)
    };
    let undefined = [
        write(frequency),
        write((3, 3, 14, 0, 1)),
        write((3, 3, 14, 0, 2)),
        read((3, 4, 14, 0, 3)),
        write((3, 4, 14, 0, 3)),
        read((3, 4, 14, 1, 0)),
        write((3, 4, 14, 2, 1)),
        read((3, 5, 14, 3, 1)),
        write((3, 7, 14, 2, 1)),
    ];
    if rng.one_in(4) {
        return Act::new(rng.pick(&undefined), [0, 0, value(rng), 0, 0, 0, 0, 0])
            .expecting(Expect::Undefined);
    }
    let name = match rng.below(4) {
        0 => (3, 0, 14, 1, 0),
        1 => (3, 3, 14, 0, 1 + below(rng, 6)),
        _ => (3, 3, 14, 2 + below(rng, 2), below(rng, 3)),
    };
    either(rng, name)
}

/// The CPU interface of the GIC, SGIs to anybody among it; undefined on a GICv2.
pub fn interrupt_controller(rng: &mut Rng, world: &World) -> Act {
    let name = match rng.below(4) {
        0 => (3, 0, 4, 6, 0),
        1 => (3, 0, 12, 11, 5 + below(rng, 3)),
        _ => (3, 0, 12, 8 + below(rng, 5), below(rng, 8)),
    };
    let act = either(rng, name);
    if world.features.gic {
        act
    } else {
        act.expecting(Expect::Undefined)
    }
}

/// Self-hosted debug, the OS lock, the debug channel, trace.
pub fn debug(rng: &mut Rng, _world: &World) -> Act {
    let name = match rng.below(6) {
        0 => (2, 0, 0, below(rng, 16), 4 + below(rng, 4)),
        1 => (2, 0, 1, below(rng, 5), 4),
        2 => (2, 0, 0, below(rng, 8), below(rng, 4)),
        3 => (2, 0, 7, 8 + below(rng, 8), 6),
        4 => (2, 3, 0, 1 + below(rng, 7), 0),
        _ => (2, 1, below(rng, 8), below(rng, 16), below(rng, 8)),
    };
    either(rng, name)
}

/// Performance monitors; undefined where there are none.
pub fn performance(rng: &mut Rng, world: &World) -> Act {
    let name = match rng.below(4) {
        0 => (3, 0, 9, 14, 1 + below(rng, 2)),
        1 => (3, 3, 14, 8 + below(rng, 8), below(rng, 8)),
        2 => (3, 3, 9, 13, below(rng, 3)),
        _ => (3, 3, 9, 12, below(rng, 8)),
    };
    let act = either(rng, name);
    if world.features.pmu {
        act
    } else {
        act.expecting(Expect::Undefined)
    }
}

/// Cache maintenance by set and way.
pub fn cache_by_set(rng: &mut Rng, _world: &World) -> Act {
    let word = rng.pick(&[
        write((1, 0, 7, 6, 2)),
        write((1, 0, 7, 10, 2)),
        write((1, 0, 7, 14, 2)),
    ]);
    // A level that exists or not, any set and way.
    let operand = if rng.one_in(2) {
        rng.below(8) << 1 | rng.below(1 << 12) << 6
    } else {
        rng.draw()
    };
    Act::new(word, [0, 0, operand, 0, 0, 0, 0, 0])
}

/// What the architecture leaves to the implementation: registers and instructions.
pub fn implementation_defined(rng: &mut Rng, _world: &World) -> Act {
    let op0 = rng.pick(&[1, 3, 3, 3]);
    let crn = rng.pick(&[11, 15]);
    let name = (op0, below(rng, 8), crn, below(rng, 16), below(rng, 8));
    either(rng, name)
}

/// Auxiliary control and fault registers.
pub fn auxiliary(rng: &mut Rng, _world: &World) -> Act {
    let name = rng.pick(&[
        (3, 0, 1, 0, 1),
        (3, 0, 1, 0, 1),
        (3, 0, 5, 1, 0),
        (3, 0, 5, 1, 1),
        (3, 1, 0, 0, 7),
    ]);
    either(rng, name)
}

/// Error records, and the deferred error, which a hypervisor cannot take away once the CPU has it.
pub fn error_records(rng: &mut Rng, world: &World) -> Act {
    let name = match rng.below(3) {
        0 => (3, 0, 5, 3, below(rng, 2)),
        1 => (3, 0, 5, 4, below(rng, 4)),
        _ => return either(rng, (3, 0, 12, 1, 1)),
    };
    let act = either(rng, name);
    if world.features.ras {
        act
    } else {
        act.expecting(Expect::Undefined)
    }
}

/// Optional features: where the ID registers deny them, their registers and instructions are undefined.
pub fn hidden(rng: &mut Rng, world: &World) -> Act {
    let features = &world.features;
    let (offered, words): (bool, &[u32]) = match rng.below(9) {
        // ZCR_EL1; PTRUE p0.b; RDVL x2, #1
        0 => (
            features.sve,
            &[
                read((3, 0, 1, 2, 0)),
                write((3, 0, 1, 2, 0)),
                0x2518_e3e0,
                0x04bf_5022,
            ],
        ),
        // SMCR_EL1, SMPRI_EL1, TPIDR2_EL0
        1 => (
            features.sme,
            &[
                read((3, 0, 1, 2, 6)),
                read((3, 0, 1, 2, 4)),
                read((3, 3, 13, 0, 5)),
                write((3, 3, 13, 0, 5)),
            ],
        ),
        // APIAKeyLo_EL1, APGAKeyHi_EL1; PACGA x2, x2, x3. The others are hints or never trapped
        2 => (
            features.pauth,
            &[read((3, 0, 2, 1, 0)), write((3, 0, 2, 3, 1)), 0x9ac3_3042],
        ),
        // GCR_EL1, RGSR_EL1, TFSR_EL1, TFSRE0_EL1
        3 => (
            features.mte,
            &[
                read((3, 0, 1, 0, 6)),
                write((3, 0, 1, 0, 5)),
                read((3, 0, 5, 6, 0)),
                read((3, 0, 5, 6, 1)),
            ],
        ),
        // LORC_EL1, LORID_EL1, LORSA_EL1
        4 => (
            features.regions,
            &[
                read((3, 0, 10, 4, 3)),
                write((3, 0, 10, 4, 3)),
                read((3, 0, 10, 4, 7)),
                read((3, 0, 10, 4, 0)),
            ],
        ),
        // RNDR, RNDRRS
        5 => (
            features.random,
            &[read((3, 3, 2, 4, 0)), read((3, 3, 2, 4, 1))],
        ),
        // AMCR_EL0, AMUSERENR_EL0, AMEVCNTR00_EL0
        6 => (
            features.activity,
            &[
                read((3, 3, 13, 2, 0)),
                write((3, 3, 13, 2, 3)),
                read((3, 3, 13, 4, 0)),
            ],
        ),
        // MPAM0_EL1, MPAM1_EL1, MPAMIDR_EL1
        7 => (
            features.mpam,
            &[
                read((3, 0, 10, 5, 1)),
                write((3, 0, 10, 5, 0)),
                read((3, 0, 10, 4, 4)),
            ],
        ),
        // PMSCR_EL1, PMBLIMITR_EL1, PMSIDR_EL1
        _ => (
            features.profiling,
            &[
                read((3, 0, 9, 9, 0)),
                write((3, 0, 9, 10, 0)),
                read((3, 0, 9, 9, 7)),
            ],
        ),
    };
    let word = rng.pick(words);
    // Where the feature is there, only reads: a write could turn on what this program is not built for.
    let is_write = word >> 20 == 0xd51;
    if !offered {
        return Act::new(word, [0, 0, value(rng), 0, 0, 0, 0, 0]).expecting(Expect::Undefined);
    }
    Act::new(if is_write { NOP } else { word }, [0; 8])
}

/// Registers and instructions of EL2 and EL3, the aliases of VHE among them: undefined at EL1, whatever they are.
pub fn higher(rng: &mut Rng, _world: &World) -> Act {
    let known = [
        (3, 4, 1, 1, 0),
        (3, 4, 2, 1, 0),
        (3, 4, 12, 0, 0),
        (3, 6, 1, 1, 0),
        (3, 5, 1, 0, 0),
        (1, 4, 8, 3, 0),
        (1, 4, 8, 7, 4),
        (1, 4, 8, 4, 1),
        (1, 4, 7, 8, 0),
        (3, 4, 4, 1, 0),
        (3, 4, 12, 8, 0),
        (3, 4, 12, 12, 0),
    ];
    let name = if rng.one_in(2) {
        rng.pick(&known)
    } else {
        (
            3,
            rng.pick(&[4, 5, 6]),
            1 + below(rng, 14),
            below(rng, 16),
            below(rng, 8),
        )
    };
    // Rooms 11 and 15 are the implementation's at every level.
    let left_open = matches!(name.2, 11 | 15);
    let word = if name.0 == 1 || rng.one_in(2) {
        write(name)
    } else {
        read(name)
    };
    let act = Act::new(word, [0, 0, value(rng), 0, 0, 0, 0, 0]);
    if left_open {
        act
    } else {
        act.expecting(Expect::Undefined)
    }
}

/// Address translation instructions on any address.
pub fn translation(rng: &mut Rng, world: &World) -> Act {
    let target = if rng.one_in(2) {
        world.any(rng).address
    } else {
        rng.draw()
    };
    let mut act = Act::new(
        write((1, 0, 7, 8 + below(rng, 2), below(rng, 4))),
        [0, 0, target, 0, 0, 0, 0, 0],
    );
    act.words[1] = read((3, 0, 7, 4, 0));
    act
}

/// TLB maintenance, local and broadcast, twice each.
pub fn tlb(rng: &mut Rng, _world: &World) -> Act {
    let mut word = || write((1, 0, 8, rng.pick(&[3, 7]), rng.pick(&[0, 1, 2, 3, 5, 7])));
    let words = [word(), word()];
    Act {
        words,
        ..Act::new(NOP, [0, 0, rng.draw(), 0, 0, 0, 0, 0])
    }
}

/// Hints and barriers of every number, but the two that wait.
pub fn hints(rng: &mut Rng, _world: &World) -> Act {
    if rng.one_in(4) {
        let word = 0xd503_309f | below(rng, 16) << 8 | rng.pick(&[0, 0x20, 0x40, 0x60]);
        return Act::new(word, [0; 8]);
    }
    let number = loop {
        let number = below(rng, 128);
        if number != 2 && number != 3 {
            break number;
        }
    };
    Act::new(0xd503_201f | number << 5, [0; 8])
}

/// WFI, with a timer to wake it; WFE after an event; WFIT and WFET are hints of another shape and left out.
pub fn waits(rng: &mut Rng, _world: &World) -> Act {
    if rng.one_in(2) {
        return Act::new(0xd503_207f, [0; 8])
            .at(Place::Parked)
            .expecting(Expect::Completes);
    }
    let mut act = Act::new(0xd503_20bf, [0; 8]).expecting(Expect::Completes);
    act.words[1] = 0xd503_205f;
    act
}

/// FP/SIMD with its trap at EL1 closed, then used: a trap of EL1, not of EL2.
pub fn floating_point(rng: &mut Rng, _world: &World) -> Act {
    let closed = rng.below(4) << 20 | rng.below(4) << 16;
    let mut act = Act::new(write((3, 0, 1, 0, 2)), [0, 0, closed, 0, 0, 0, 0, 0]);
    // FMOV d0, x2; ADD v0.16b; FSQRT d1, d0; MRS x2, FPCR; MSR FPSR, x2
    act.words[1] = rng.pick(&[
        0x9e67_0040,
        0x4e20_8400,
        0x1e61_c001,
        0xd53b_4402,
        0xd51b_4422,
    ]);
    act.at(Place::Closing)
}

/// Any register at all, most of which do not exist; SYS instructions with addresses that are not this program's.
pub fn random(rng: &mut Rng, world: &World) -> Act {
    let op0 = 1 + below(rng, 3);
    let name = (
        op0,
        below(rng, 8),
        below(rng, 16),
        below(rng, 16),
        below(rng, 8),
    );
    let act = either(rng, name);
    if op0 != 1 {
        return act;
    }
    let mut act = act;
    act.registers[2] = world.hole(rng).address | rng.draw() << 56;
    act
}
