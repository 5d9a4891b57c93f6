//! Calls: every class of function identifier with garbage, by HVC and SMC, and the other instructions that leave EL1.

use guest::psci;
use guest::rng::Rng;

use crate::act::{Act, Expect};
use crate::world::World;

/// HVC #0.
const HVC: u32 = 0xd400_0002;
/// SMC #0.
const SMC: u32 = 0xd400_0003;

/// Functions that would succeed in ending or stopping the attacker: CPU_SUSPEND, CPU_OFF, SYSTEM_OFF, SYSTEM_RESET, CPU_FREEZE, CPU_DEFAULT_SUSPEND,
/// SYSTEM_SUSPEND, SYSTEM_RESET2, SYSTEM_OFF2. Another vCPU dies by them instead.
const ENDING: [u32; 9] = [0x01, 0x02, 0x08, 0x09, 0x0b, 0x0c, 0x0e, 0x12, 0x15];

/// An identifier of any class, PSCI's more often.
fn function(rng: &mut Rng) -> u32 {
    loop {
        let number = if rng.one_in(4) {
            rng.draw() as u32 & 0xffff
        } else {
            rng.below(0x24) as u32
        };
        let function = match rng.below(8) {
            0..=3 => rng.pick(&[0x8400_0000, 0xc400_0000]) | number,
            4 => rng.pick(&[0x8000_0000, 0x8000_8000, 0x8000_3f00, 0xc000_0000]) | number,
            5 => (0x80 + rng.below(0x80) as u32) << 24 | number,
            6 => rng.draw() as u32 & 0x7fff_ffff,
            _ => rng.draw() as u32,
        };
        let psci = matches!(function >> 24, 0x84 | 0xc4);
        if !(psci && ENDING.contains(&(function & 0xffff))) {
            return function;
        }
    }
}

/// Arguments: MPIDRs that exist and do not, addresses of every kind, identifiers, anything.
fn argument(rng: &mut Rng, world: &World) -> u64 {
    match rng.below(6) {
        0 => world.mpidr,
        1 => rng.below(16),
        2 => function(rng).into(),
        3 => world.any(rng).address,
        4 => u64::MAX << rng.below(64),
        _ => rng.draw(),
    }
}

fn call(rng: &mut Rng, world: &World, instruction: u32) -> Act {
    let function = function(rng);
    let mut registers = [0; 8];
    for register in &mut registers {
        *register = argument(rng, world);
    }
    registers[0] = function.into();
    if !world.bare && rng.one_in(4) {
        // Only the lower half of x0 is the identifier.
        registers[0] |= rng.draw() << 32;
    }
    if matches!(function, psci::PSCI_CPU_ON_32 | psci::PSCI_CPU_ON_64) {
        return cpu_on(rng, world, instruction, registers);
    }
    // Owners that nobody is here, and yielding calls.
    let nobody = matches!(function >> 24, 0x82 | 0x83 | 0xb2..=0xbf | 0xc2 | 0xc3 | 0xf2..=0xff | 0x02..=0x7f);
    let act = Act::new(instruction, registers);
    if nobody {
        act.expecting(Expect::Answer(psci::NOT_SUPPORTED as u32))
    } else {
        act
    }
}

/// CPU_ON that must not start anything: of itself, of one that does not exist, or, where entry points are checked, outside of memory.
///
/// An entry point is where nothing is in its low 32 bits, too: a 32-bit call has no more.
fn cpu_on(rng: &mut Rng, world: &World, instruction: u32, mut registers: [u64; 8]) -> Act {
    if world.bare || rng.one_in(2) {
        registers[1] = if rng.one_in(2) {
            world.mpidr
        } else {
            0xff00 | rng.draw() << 32
        };
    } else {
        registers[1] = world.other_mpidr;
        registers[2] = loop {
            let address = world.hole(rng).address;
            if !(world.memory.start..world.memory.end).contains(&(address as u32 as usize)) {
                break address;
            }
        };
    }
    Act::new(instruction, registers)
}

/// By HVC.
pub fn hvc(rng: &mut Rng, world: &World) -> Act {
    call(rng, world, HVC)
}

/// By SMC: the same with a hypervisor, undefined without.
pub fn smc(rng: &mut Rng, world: &World) -> Act {
    let act = call(rng, world, SMC);
    if world.bare {
        act.expecting(Expect::Undefined)
    } else {
        act
    }
}

/// Immediates that no convention uses.
pub fn immediates(rng: &mut Rng, world: &World) -> Act {
    let immediate = (1 + rng.below(0xffff) as u32) << 5;
    let instruction = rng.pick(&[HVC, SMC]) | immediate;
    call(rng, world, instruction).expecting(Expect::Any)
}

/// SVC, BRK, HLT, DCPS1 to 3, UDF, DRPS.
pub fn exceptions(rng: &mut Rng, _world: &World) -> Act {
    let immediate = (rng.below(0x1_0000) as u32) << 5;
    match rng.below(6) {
        0 => Act::new(0xd400_0001 | immediate, [0; 8]).expecting(Expect::Refused),
        1 => Act::new(0xd420_0000 | immediate, [0; 8]).expecting(Expect::Refused),
        2 => Act::new(0xd440_0000 | immediate, [0; 8]).expecting(Expect::Undefined),
        3 => Act::new(0xd4a0_0000 | immediate | rng.pick(&[1, 2, 3]), [0; 8])
            .expecting(Expect::Undefined),
        4 => Act::new(immediate >> 5, [0; 8]).expecting(Expect::Undefined),
        _ => Act::new(0xd6bf_03e0, [0; 8]).expecting(Expect::Undefined),
    }
}
