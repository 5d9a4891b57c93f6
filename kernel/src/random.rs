//! The board's random numbers, from which guests' seeds and their entropy devices' keys are drawn.
//!
//! One ChaCha20 generator, seeded once at boot from all that the board has: the seed that its loader drew for this boot (`rng-seed`), the
//! core's own generator (RNDRRS) where there is one, and the counter. The counter alone is no secret: a board that has nothing else says so.

use core::arch::asm;

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use el2_hyp::arch::timer;
use el2_hyp::lock::Mutex;
use platform::tree::{RngSeed, Tree};

use crate::info;

static GENERATOR: Mutex<Option<ChaCha20Rng>> = Mutex::new(None);

/// Seeds the generator.
pub fn initialise(tree: &Tree) {
    let mut seed = [0; RngSeed::BYTES];
    let mut mix = |bytes: &[u8]| seed.iter_mut().zip(bytes).for_each(|(s, b)| *s ^= b);
    if let Some(RngSeed(bytes)) = &tree.rng_seed {
        mix(bytes);
    }
    let hardware = has_rndr().then(hardware_seed).flatten();
    if let Some(bytes) = hardware {
        mix(&bytes);
    }
    mix(&timer::now().to_le_bytes());
    if tree.rng_seed.is_none() && hardware.is_none() {
        info!("this board gives no random seed: guests' random numbers start from its clock alone");
    }
    *GENERATOR.lock() = Some(ChaCha20Rng::from_seed(seed));
}

/// Fills `bytes` with random ones.
pub fn fill(bytes: &mut [u8]) {
    let mut generator = GENERATOR.lock();
    generator.as_mut().expect("seeded").fill_bytes(bytes);
}

/// A random value.
pub fn draw<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// ID_AA64ISAR0_EL1.RNDR.
fn has_rndr() -> bool {
    let isar0: u64;
    // SAFETY: reading an ID register has no effect.
    unsafe {
        asm!("mrs {}, id_aa64isar0_el1", out(reg) isar0, options(nomem, nostack, preserves_flags))
    };
    isar0 >> 60 != 0
}

/// Words of the core's generator, reseeded for each; none if it fails (Arm ARM, D1.2 "RNDRRS": Z is set when there is none in time).
fn hardware_seed() -> Option<[u8; RngSeed::BYTES]> {
    let mut seed = [0; RngSeed::BYTES];
    for word in seed.chunks_exact_mut(size_of::<u64>()) {
        let (value, failed): (u64, u64);
        // SAFETY: the register is there, and reading it changes nothing but the flags.
        unsafe {
            asm!("mrs {value}, s3_3_c2_c4_1", "cset {failed}, eq",
                 value = out(reg) value, failed = out(reg) failed, options(nomem, nostack))
        };
        if failed != 0 {
            return None;
        }
        word.copy_from_slice(&value.to_le_bytes());
    }
    Some(seed)
}
