//! Registers with values that make no sense, in an order that makes none.

use guest::rng::Rng;
use guest::{exception, mmio};

use super::World;
use super::device::{Device, register};

/// Bytes of a slot.
const SLOT_BYTES: u64 = 0x200;
/// The registers that do the most.
const FAVOURITES: [usize; 12] = [
    register::DRIVER_FEATURES,
    register::DRIVER_FEATURES_SEL,
    register::QUEUE_SEL,
    register::QUEUE_NUM,
    register::QUEUE_READY,
    register::QUEUE_NOTIFY,
    register::INTERRUPT_ACK,
    register::STATUS,
    register::QUEUE_DESC,
    register::QUEUE_DRIVER,
    register::QUEUE_DEVICE,
    register::CONFIG,
];
/// Accesses of an act, at most.
const MOST: u64 = 24;

/// A few accesses.
pub fn act(device: &Device, rng: &mut Rng, world: &World) {
    for _ in 0..=rng.below(MOST) {
        let offset = match rng.below(3) {
            0 => rng.below(SLOT_BYTES) as usize,
            _ => rng.pick(&FAVOURITES),
        };
        let value = value(rng, world);
        match rng.below(8) {
            // Any width and any alignment: what faults is the guest's own affair.
            0 => odd(device.base + offset, value.into(), rng),
            1 => drop(device.read(offset & !3)),
            _ => device.write(offset & !3, value),
        }
    }
    mmio::barrier();
}

fn value(rng: &mut Rng, world: &World) -> u32 {
    match rng.below(6) {
        0 => rng.draw() as u32,
        1 => 1 << rng.below(32),
        2 => (world.arena.start as u64 + (rng.below(1 << 16) & !0xf)) as u32,
        3 => u32::MAX,
        _ => rng.below(16) as u32,
    }
}

/// Loads and stores of every width, and pairs, which leave EL2 no syndrome.
fn odd(address: usize, value: u64, rng: &mut Rng) {
    const ACTS: [u32; 10] = [
        0x3900_0001, // strb w1, [x0]
        0x7900_0001, // strh w1, [x0]
        0xb900_0001, // str w1, [x0]
        0xf900_0001, // str x1, [x0]
        0xa900_0401, // stp x1, x1, [x0]
        0x3940_0002, // ldrb w2, [x0]
        0x7940_0002, // ldrh w2, [x0]
        0xf940_0002, // ldr x2, [x0]
        0xa940_0c02, // ldp x2, x3, [x0]
        0xb800_4401, // str w1, [x0], #4
    ];
    let code = place(rng.pick(&ACTS));
    // SAFETY: the access is to a device's registers, whose queues all lie in the arena or nowhere; faults are survived.
    let _ = unsafe { exception::probe(code, [address as u64, value, 0, 0, 0, 0, 0, 0], false) };
}

/// Writes the instruction and a return to where they can be run.
fn place(instruction: u32) -> *const u32 {
    #[repr(C, align(64))]
    struct Code(core::cell::UnsafeCell<[u32; 2]>);
    // SAFETY: vCPU 0 alone uses it.
    unsafe impl Sync for Code {}
    static CODE: Code = Code(core::cell::UnsafeCell::new([0; 2]));
    /// RET.
    const RET: u32 = 0xd65f_03c0;
    let code = CODE.0.get().cast::<u32>();
    // SAFETY: vCPU 0 alone writes and runs it; the caches agree before it runs.
    unsafe {
        code.write_volatile(instruction);
        code.add(1).write_volatile(RET);
        core::arch::asm!("dc cvau, {0}", "dsb ish", "ic ivau, {0}", "dsb ish", "isb", in(reg) code, options(nostack));
    }
    code
}
