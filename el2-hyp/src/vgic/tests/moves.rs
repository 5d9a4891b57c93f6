//! A guest that goes from board to board: its controller becomes bytes, and another one is made of them. What the guest sees stays as the
//! reference, which does not move, says.

use proptest::prelude::*;

use super::super::{Intid, MappedInterrupt, Version, Vgic};
use super::lockstep::{a_version, an_op};
use super::machine::{Machine, Op};
use super::{intid, vgic};
use crate::record::codec::{Decoder, Encoder};

/// The physical interrupt of the board to which the guest goes: another one than where it comes from.
const ELSEWHERE: u32 = 28;

fn mapped(physical_intid: u32) -> MappedInterrupt {
    MappedInterrupt {
        virtual_intid: Intid::VIRTUAL_TIMER,
        physical_intid,
    }
}

fn encode(vgic: &Vgic) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut encoder = Encoder::new(&mut bytes);
    vgic.to_record(&mut encoder);
    let length = encoder.finish().expect("room");
    bytes.truncate(length);
    bytes
}

fn decode(bytes: &[u8], version: Version, vcpus: usize, physical: u32) -> Vgic {
    let mut decoder = Decoder::new(bytes);
    let vgic =
        Vgic::from_record(&mut decoder, version, vcpus, mapped(physical)).expect("a controller");
    decoder.end().expect("nothing more");
    vgic
}

/// Everyone off their cores, to another board, and back onto cores.
fn travel(machine: &mut Machine) {
    let loaded = machine.loaded.clone();
    (0..loaded.len()).for_each(|index| machine.apply(&Op::Load(index, false)));
    let bytes = encode(&machine.vgic);
    let vcpus = loaded.len();
    let arrived = decode(&bytes, machine.version, vcpus, super::PHYSICAL);
    assert_eq!(encode(&arrived), bytes);
    // The state is the guest's alone: a board with another interrupt behind the timer gets the same.
    assert_eq!(
        encode(&decode(&bytes, machine.version, vcpus, ELSEWHERE)),
        bytes
    );
    machine.vgic = arrived;
    for (index, loaded) in loaded.into_iter().enumerate() {
        machine.apply(&Op::Load(index, loaded));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_guest_that_moves_sees_what_one_that_stays_does(
        version in a_version(),
        vcpus in 1..=8_usize,
        registers in 1..=6_usize,
        split in any::<bool>(),
        ops in prop::collection::vec((an_op(), prop::bool::weighted(0.1)), 1..200),
    ) {
        let mut machine = Machine::new(version, vcpus, registers, split);
        machine.apply(&Op::Enable(true, true));
        for word in 0..4 {
            for of in 0..vcpus {
                machine.apply(&Op::Bits { by: of, of, bits: 1, intid: intid(32 * word), also: !0 });
            }
        }
        for (op, travels) in &ops {
            machine.apply(op);
            if *travels {
                travel(&mut machine);
            }
            machine.settle();
            machine.check();
        }
    }

    #[test]
    fn damage_is_refused_or_a_controller(
        version in a_version(),
        vcpus in 1..=8_usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ops in prop::collection::vec(an_op(), 1..60),
    ) {
        let mut bytes = encode(&vgic(version, vcpus));
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
        }
        let arrived = Vgic::from_record(&mut Decoder::new(&bytes), version, vcpus, mapped(27));
        if let Ok(arrived) = arrived {
            prop_assert_eq!(encode(&arrived).len(), bytes.len());
            // Whatever it is, it works on, and can move again.
            let mut machine = Machine::new(version, vcpus, 4, false);
            (0..vcpus).for_each(|index| machine.apply(&Op::Load(index, false)));
            machine.vgic = arrived;
            for op in &ops {
                if !matches!(op, Op::Acknowledge(_) | Op::End(_) | Op::Deactivate(..) | Op::Read { .. } | Op::Load(..)) {
                    machine.apply(op);
                }
            }
            encode(&machine.vgic);
        }
    }
}

#[test]
fn a_fresh_controller_looks_like_this() {
    for (version, vcpus, own) in [(Version::V2, 2, 52 + 2 + 32), (Version::V3, 8, 52 + 2 + 1)] {
        let bytes = encode(&vgic(version, vcpus));
        // Two groups, the vCPUs, the SPIs in words, and their routes.
        assert_eq!(bytes.len(), 2 + own * vcpus + 3 * 56 + 96 * 9);
        // Both groups off; the first vCPU's SGIs enabled, nothing else.
        assert_eq!(bytes[..10], [0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
        // A route of zero is the first vCPU's on a GICv3, and nobody's on a GICv2.
        let owner = if version == Version::V2 { 0xff } else { 0 };
        assert_eq!(bytes[bytes.len() - 9..], [0, 0, 0, 0, 0, 0, 0, 0, owner]);
    }
}

#[test]
fn too_few_bytes_are_refused() {
    let bytes = encode(&vgic(Version::V2, 3));
    for length in 0..bytes.len() {
        let mut decoder = Decoder::new(&bytes[..length]);
        assert!(Vgic::from_record(&mut decoder, Version::V2, 3, mapped(27)).is_err());
    }
}
