//! Loads, stores and fetches: every form of access, to every place.

use guest::mmu::Kind;
use guest::rng::Rng;
use guest::{console, exception, gic};

use crate::act::{Act, Expect, NOP, Place};
use crate::world::{Target, VIRTIO, World};

/// BR x1.
const BR_X1: u32 = 0xd61f_0020;
/// MOV sp, x1.
const MOV_SP_X1: u32 = 0x9100_003f;
/// STR x2, [sp].
const STR_SP: u32 = 0xf900_03e2;
/// STP x2, x3, [sp, #-16]!
const PUSH: u32 = 0xa9bf_0fe2;

/// An instruction that accesses what x1 points to, with x2, x3 and x4 or v2 and v3.
struct Form {
    word: u32,
    /// Bytes, if it is a plain access of one register: then the fault's address is certain.
    plain: Option<u64>,
    /// It is an atomic of FEAT_LSE.
    atomic: bool,
}

impl Form {
    const fn of(word: u32) -> Self {
        Self {
            word: base(word),
            plain: None,
            atomic: false,
        }
    }
}

const fn base(word: u32) -> u32 {
    word | 1 << 5 | 2
}

/// Plain loads and stores of one register, all sizes, offset zero: the ones that a hypervisor gets a syndrome for.
fn plain(rng: &mut Rng) -> Form {
    let size = rng.below(4) as u32;
    let operation = match size {
        0 | 1 => rng.below(4) as u32,
        2 => rng.below(3) as u32,
        _ => rng.below(2) as u32,
    };
    Form {
        plain: Some(1 << size),
        ..Form::of(size << 30 | 0x3900_0000 | operation << 22)
    }
}

/// Writeback before and after, unscaled, unprivileged.
fn indexed(rng: &mut Rng) -> Form {
    let size = rng.below(4) as u32;
    let mode = rng.below(4) as u32;
    let offset = rng.below(32) as u32;
    Form::of(size << 30 | 0x3800_0000 | (rng.below(2) as u32) << 22 | offset << 12 | mode << 10)
}

/// Pairs, with and without writeback, 32 and 64 bits, and SIMD ones.
fn pair(rng: &mut Rng) -> Form {
    let mode = rng.below(4) as u32;
    let word = if rng.one_in(4) {
        0xac00_0000
    } else {
        rng.pick(&[0x2800_0000, 0xa800_0000])
    };
    Form::of(word | mode << 23 | (rng.below(2) as u32) << 22 | 3 << 10)
}

/// Exclusives, acquire and release, exclusive pairs.
fn exclusive(rng: &mut Rng) -> Form {
    let size = rng.below(4) as u32;
    let words = [
        0x085f_7c00,
        0x0804_7c00,
        0x085f_fc00,
        0x0804_fc00,
        0x08df_fc00,
        0x089f_fc00,
    ];
    let pairs = [0x887f_0c00, 0x8824_0c00, 0xc87f_0c00, 0xc824_0c00];
    let word = if rng.one_in(4) {
        rng.pick(&pairs)
    } else {
        size << 30 | rng.pick(&words)
    };
    Form::of(word)
}

/// Atomics: LDADD and its family, SWP, CAS, CASP.
fn atomic(rng: &mut Rng) -> Form {
    let size = rng.below(4) as u32;
    let order = (rng.below(4) as u32) << 22;
    let word = match rng.below(4) {
        0 => size << 30 | 0x3820_8000 | order | 4 << 16,
        1 => size << 30 | 0x08a0_7c00 | 4 << 16,
        2 => 0x4820_7c00 | 4 << 16,
        _ => size << 30 | 0x3820_0000 | order | 4 << 16 | (rng.below(8) as u32) << 12,
    };
    Form {
        atomic: true,
        ..Form::of(word)
    }
}

/// SIMD loads and stores, prefetches, and DC ZVA.
fn odd(rng: &mut Rng) -> Form {
    let words = [
        0x3dc0_0000,
        0x3d80_0000,
        0x4c40_7000,
        0x4c00_7000,
        0xfd40_0000,
        0xbd00_0000,
        0xf980_0000,
        0xf8a0_4800,
    ];
    if rng.one_in(6) {
        // DC ZVA, x1
        return Form {
            word: 0xd50b_7421,
            ..Form::of(0)
        };
    }
    Form::of(rng.pick(&words))
}

fn form(rng: &mut Rng) -> Form {
    match rng.below(10) {
        0..=3 => plain(rng),
        4 => indexed(rng),
        5 => pair(rng),
        6 => exclusive(rng),
        7 => atomic(rng),
        _ => odd(rng),
    }
}

/// An access of any form to `target`. Where there is nothing, a plain and aligned one must abort there; an
/// atomic that the CPU lacks is undefined anywhere.
fn access(rng: &mut Rng, world: &World, target: Target) -> Act {
    let form = form(rng);
    let mut address = target.address;
    if let Some(bytes) = form.plain
        && !rng.one_in(8)
    {
        address &= !(bytes - 1);
    }
    let data = world.data(rng, address);
    let act = Act::new(form.word, [0, address, data, data, data, 0, 0, 0]);
    if form.atomic && !world.features.atomics {
        return act.expecting(Expect::Undefined);
    }
    match form.plain {
        Some(bytes) if target.hole && address.is_multiple_of(bytes) => {
            act.expecting(Expect::DataAbort(address))
        }
        _ => act,
    }
}

/// Where nothing is.
pub fn hole(rng: &mut Rng, world: &World) -> Act {
    let target = world.hole(rng);
    access(rng, world, target)
}

/// Distributor, redistributors, CPU interface.
pub fn interrupt_controller(rng: &mut Rng, world: &World) -> Act {
    let target = world.gic(rng);
    access(rng, world, target)
}

/// The UART.
pub fn uart(rng: &mut Rng, world: &World) -> Act {
    let target = world.uart(rng);
    access(rng, world, target)
}

/// Virtio slots.
pub fn virtio(rng: &mut Rng, world: &World) -> Act {
    let target = world.virtio(rng);
    access(rng, world, target)
}

/// All of the address space below 512 GiB but the guest's own memory.
pub fn anywhere(rng: &mut Rng, world: &World) -> Act {
    let target = world.anywhere(rng);
    access(rng, world, target)
}

/// From 512 GiB to 256 TiB, beyond what the CPU can address as well, with every memory type.
pub fn above(rng: &mut Rng, world: &World) -> Act {
    let act = access(
        rng,
        world,
        Target {
            address: 0,
            hole: false,
        },
    );
    let kind = rng.pick(&[
        Kind::Device,
        Kind::Normal,
        Kind::Uncached,
        Kind::DeviceEarly,
    ]);
    act.at(Place::Window {
        physical: world.high(rng),
        kind,
        executable: false,
    })
}

/// Devices and holes mapped as normal memory: unaligned accesses and exclusives get through to stage 2.
pub fn as_memory(rng: &mut Rng, world: &World) -> Act {
    let target = if rng.one_in(2) {
        world.hole(rng)
    } else {
        world.gic(rng)
    };
    let mut act = access(
        rng,
        world,
        Target {
            hole: false,
            ..target
        },
    );
    act.registers[2] = world.data(rng, target.address);
    let kind = rng.pick(&[Kind::Normal, Kind::Uncached]);
    act.at(Place::Window {
        physical: target.address,
        kind,
        executable: false,
    })
}

/// The guest's own memory: unaligned, across pages, exclusives, atomics.
pub fn own_memory(rng: &mut Rng, world: &World) -> Act {
    let target = world.scratch(rng);
    access(rng, world, target)
}

/// The last bytes of memory, and the first beyond.
pub fn edge(rng: &mut Rng, world: &World) -> Act {
    let address = world.memory.end as u64 - 16 + rng.below(32);
    access(
        rng,
        world,
        Target {
            address,
            hole: false,
        },
    )
}

/// Any place with translation off.
pub fn untranslated(rng: &mut Rng, world: &World) -> Act {
    let target = world.any(rng);
    access(rng, world, target).at(Place::Untranslated)
}

/// Jumps to where nothing is, or, with a hypervisor, into any device; at an odd address as well.
pub fn jump(rng: &mut Rng, world: &World) -> Act {
    let target = if world.bare {
        world.hole(rng)
    } else {
        rng_device(rng, world)
    };
    let aligned = target.address & !3;
    let kind = rng.pick(&[Kind::Normal, Kind::Uncached]);
    let act = Act::new(BR_X1, [0; 8]);
    let seen = guest::mmu::WINDOW as u64 + (aligned & 0xfff);
    act.at(Place::Window {
        physical: aligned,
        kind,
        executable: true,
    })
    .expecting(Expect::FetchAbort(seen))
}

fn rng_device(rng: &mut Rng, world: &World) -> Target {
    match rng.below(5) {
        0 => world.gic(rng),
        1 => world.uart(rng),
        2 => world.virtio(rng),
        _ => world.hole(rng),
    }
}

/// Jumps without translation, to odd addresses, and to addresses that are none.
pub fn wild_jump(rng: &mut Rng, world: &World) -> Act {
    let act =
        |address: u64| Act::new(BR_X1, [0, address, 0, 0, 0, 0, 0, 0]).expecting(Expect::Refused);
    match rng.below(4) {
        0 => {
            let address = world.hole(rng).address & !3;
            act(address)
                .at(Place::Untranslated)
                .expecting(Expect::FetchAbort(address))
        }
        1 => act(world.hole(rng).address | 1),
        2 => act(rng.draw() | 1 << 55),
        _ => {
            let place = Place::Window {
                physical: world.high(rng) & !3,
                kind: Kind::Normal,
                executable: true,
            };
            act(0).at(place)
        }
    }
}

/// The stack pointer where nothing is, and a push.
pub fn stack(rng: &mut Rng, world: &World) -> Act {
    let target = world.hole(rng);
    let mut act = Act::new(
        MOV_SP_X1,
        [0, target.address & !15, rng.draw(), rng.draw(), 0, 0, 0, 0],
    )
    .expecting(Expect::Refused);
    act.words[1] = rng.pick(&[STR_SP, PUSH]);
    if rng.one_in(4) {
        act.at(Place::Untranslated)
    } else {
        act
    }
}

/// A store to a register that only tells, then a load: nothing may have changed.
pub fn read_only(rng: &mut Rng, world: &World) -> Act {
    let distributor = gic::distributor();
    let identity = if gic::is_v3() { 0xffe8 } else { 0xfe8 };
    let addresses = [
        distributor + gic::GICD_TYPER,
        distributor + gic::GICD_IIDR,
        distributor + identity,
        console::UART + 0xfe0,
        console::UART + 0xff0,
        VIRTIO,
    ];
    let address = rng.pick(&addresses);
    // A slot may be no device at all.
    let Ok(value) = exception::probe_read(address) else {
        return Act::NONE;
    };
    let mut act = Act::new(0xb900_0022, [0, address as u64, rng.draw(), 0, 0, 0, 0, 0])
        .expecting(Expect::Value(value.into()));
    act.words[1] = 0xb940_0020;
    if world.bare || !rng.one_in(8) {
        act
    } else {
        act.at(Place::Untranslated)
    }
}

/// Cache maintenance by address, where nothing is and in the devices, and of all instructions.
pub fn cache_by_address(rng: &mut Rng, world: &World) -> Act {
    // DC IVAC, CVAC, CIVAC, CVAU, CVAP, IC IVAU, all on x1; IC IALLUIS, IC IALLU.
    let words = [
        0xd508_7621,
        0xd50b_7a21,
        0xd50b_7e21,
        0xd50b_7b21,
        0xd50b_7c21,
        0xd50b_7521,
        0xd508_711f,
        0xd508_751f,
    ];
    let target = if rng.one_in(2) {
        world.hole(rng)
    } else {
        world.anywhere(rng)
    };
    let act = Act {
        words: [rng.pick(&words), NOP],
        ..Act::new(NOP, [0, target.address, 0, 0, 0, 0, 0, 0])
    };
    if rng.one_in(2) {
        act
    } else {
        act.at(Place::Window {
            physical: target.address,
            kind: Kind::Normal,
            executable: false,
        })
    }
}
