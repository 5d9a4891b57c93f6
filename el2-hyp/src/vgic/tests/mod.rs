//! The interrupt controller's tests.
//!
//! - `core`: a core's list registers and virtual CPU interface, as hardware behaves.
//! - `reference`: a controller with no list registers, written plainly from the specification.
//! - `machine`, `guest`: both in lockstep, driven by operations; what a guest sees must agree after each.
//! - `lockstep`: random operations. `late`: random operations with kicks that arrive late.
//! - `moves`: random operations, with the guest going from board to board between them.
//! - `registers`, `delivery`, `sgi`, `overflow`, `mapped`, `codec`: one rule each, the scene set by `scene`.

mod codec;
mod core;
mod delivery;
mod guest;
mod late;
mod lockstep;
mod machine;
mod mapped;
mod moves;
mod overflow;
mod reference;
mod registers;
mod scene;
mod sgi;

use super::{Intid, MappedInterrupt, VcpuId, Version, Vgic};

/// `least` cases: what a test run in passing can afford. PROPTEST_CASES asks for more, or fewer.
fn cases(least: u32) -> proptest::test_runner::Config {
    let config = proptest::test_runner::Config::default();
    proptest::test_runner::Config {
        cases: config.cases.max(least),
        ..config
    }
}

/// The physical interrupt behind the virtual timer.
const PHYSICAL: u32 = 27;

fn intid(number: u32) -> Intid {
    Intid::new(number).expect("an interrupt below 128")
}

fn vcpu(number: usize) -> VcpuId {
    VcpuId::new(number).expect("a virtual processor below 8")
}

fn vgic(version: Version, vcpus: usize) -> Vgic {
    Vgic::new(
        version,
        vcpus,
        MappedInterrupt {
            virtual_intid: Intid::VIRTUAL_TIMER,
            physical_intid: PHYSICAL,
        },
    )
    .expect("a valid configuration")
}
