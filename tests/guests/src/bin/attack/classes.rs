//! The table of what is tried.

use guest::rng::Rng;

use crate::act::Act;
use crate::world::World;
use crate::{calls, memory, registers, user};

/// One class of hostile acts.
pub struct Class {
    /// Its name in the report.
    pub name: &'static str,
    /// How often it is picked, relative to the others.
    pub weight: u64,
    /// Makes up one act.
    pub make: fn(&mut Rng, &World) -> Act,
}

const fn class(name: &'static str, weight: u64, make: fn(&mut Rng, &World) -> Act) -> Class {
    Class { name, weight, make }
}

/// All classes. Loads and stores come in every size, as pairs, exclusives, atomics, with writeback, unaligned, SIMD, prefetches and DC ZVA.
pub static CLASSES: [Class; 36] = [
    // Addresses.
    class("hole", 60, memory::hole),
    class("gic-frames", 60, memory::interrupt_controller),
    class("uart", 30, memory::uart),
    class("virtio-slots", 40, memory::virtio),
    class("anywhere", 60, memory::anywhere),
    class("above-512-gib", 40, memory::above),
    class("devices-as-memory", 30, memory::as_memory),
    class("own-memory", 30, memory::own_memory),
    class("edge-of-memory", 20, memory::edge),
    class("translation-off", 40, memory::untranslated),
    class("jump", 40, memory::jump),
    class("wild-jump", 20, memory::wild_jump),
    class("bad-stack", 20, memory::stack),
    class("read-only-registers", 10, memory::read_only),
    class("cache-by-address", 20, memory::cache_by_address),
    // Calls.
    class("hvc", 60, calls::hvc),
    class("smc", 40, calls::smc),
    class("hvc-smc-immediates", 20, calls::immediates),
    class("exceptions", 20, calls::exceptions),
    // System registers and instructions.
    class("id-registers", 40, registers::identification),
    class("timer-registers", 40, registers::timers),
    class("gic-registers", 50, registers::interrupt_controller),
    class("debug-registers", 40, registers::debug),
    class("pmu-registers", 30, registers::performance),
    // A hypervisor may answer each with a walk over all of the guest's memory.
    class("cache-by-set-way", 1, registers::cache_by_set),
    class(
        "implementation-defined",
        40,
        registers::implementation_defined,
    ),
    class("auxiliary-registers", 10, registers::auxiliary),
    class("ras-registers", 10, registers::error_records),
    class("hidden-features", 30, registers::hidden),
    class("el2-el3-registers", 40, registers::higher),
    class("address-translation", 10, registers::translation),
    class("tlb-maintenance", 4, registers::tlb),
    class("hints-and-barriers", 10, registers::hints),
    class("random-registers", 60, registers::random),
    class("wait-and-trap", 2, waiting),
    // Programs of the guest.
    class("el0", 6, lower),
];

fn waiting(rng: &mut Rng, world: &World) -> Act {
    if rng.one_in(2) {
        registers::waits(rng, world)
    } else {
        registers::floating_point(rng, world)
    }
}

fn lower(rng: &mut Rng, world: &World) -> Act {
    if rng.one_in(2) {
        user::a64(rng, world)
    } else {
        user::a32(rng, world)
    }
}

/// The sum of all weights.
const TOTAL: u64 = {
    let mut sum = 0;
    let mut at = 0;
    while at < CLASSES.len() {
        sum += CLASSES[at].weight;
        at += 1;
    }
    sum
};

/// Picks a class, by weight; gives its place in the table.
pub fn pick(rng: &mut Rng) -> usize {
    let mut left = rng.below(TOTAL);
    for (at, class) in CLASSES.iter().enumerate() {
        if left < class.weight {
            return at;
        }
        left -= class.weight;
    }
    0
}
