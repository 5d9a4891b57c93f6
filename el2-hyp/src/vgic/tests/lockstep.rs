//! Random operations, everyone prompt: after each of them a guest sees exactly what the reference says.

use super::super::{Intid, Version};
use super::machine::{Machine, Op};
use super::{cases, intid};
use proptest::prelude::*;

/// Few enough to meet often, with the ends of every range.
pub(super) fn an_intid() -> impl Strategy<Value = Intid> {
    prop_oneof![
        8 => prop::sample::select(vec![0, 1, 2, 15, 16, 20, 27, 31, 32, 33, 34, 35, 63, 64, 100, 127]),
        1 => 0_u32..128,
    ]
    .prop_map(intid)
}

fn a_route() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0_u64..8,
        2 => Just(1 << 31),
        1 => (0_u64..8).prop_map(|low| 1 << 31 | low),
        1 => any::<u64>(),
    ]
}

pub(super) fn an_op() -> impl Strategy<Value = Op> {
    let cpu = 0..8_usize;
    let sgi = prop::sample::select(vec![0_u32, 1, 2, 15]);
    prop_oneof![
        8 => (cpu.clone(), an_intid(), any::<bool>()).prop_map(|(c, i, l)| Op::Line(c, i, l)),
        3 => an_intid().prop_map(Op::Pulse),
        3 => (cpu.clone(), any::<bool>()).prop_map(|(c, l)| Op::TimerLine(c, l)),
        8 => (cpu.clone(), any::<u8>(), prop::bool::weighted(0.2), sgi.clone(), prop_oneof![4 => Just(0), 1 => 0..3_u8])
            .prop_map(|(from, targets, all_but_self, sgi, kind)| Op::Send { from, targets, all_but_self, sgi, kind }),
        4 => (cpu.clone(), cpu.clone(), Just(1), an_intid(), any::<u32>())
            .prop_map(|(by, of, bits, intid, also)| Op::Bits { by, of, bits, intid, also }),
        6 => (cpu.clone(), cpu.clone(), 0..7_usize, an_intid(), prop_oneof![4 => Just(0), 1 => any::<u32>()])
            .prop_map(|(by, of, bits, intid, also)| Op::Bits { by, of, bits, intid, also }),
        5 => (cpu.clone(), an_intid(), any::<u8>()).prop_map(|(c, i, p)| Op::Priority(c, i, p)),
        2 => (an_intid(), any::<bool>()).prop_map(|(i, e)| Op::Trigger(i, e)),
        3 => (an_intid(), a_route()).prop_map(|(i, r)| Op::Route(i, r)),
        2 => (cpu.clone(), any::<bool>(), sgi, any::<u8>())
            .prop_map(|(of, set, sgi, byte)| Op::Sources { of, set, sgi, byte }),
        1 => (cpu.clone(), any::<bool>()).prop_map(|(c, a)| Op::Awake(c, a)),
        1 => prop_oneof![3 => Just((true, true)), 1 => any::<(bool, bool)>()].prop_map(|(a, b)| Op::Enable(a, b)),
        14 => cpu.clone().prop_map(Op::Acknowledge),
        9 => cpu.clone().prop_map(Op::End),
        6 => (cpu.clone(), 0..8_usize).prop_map(|(c, w)| Op::Deactivate(c, w)),
        2 => (cpu.clone(), prop::bool::weighted(0.7)).prop_map(|(c, l)| Op::Load(c, l)),
        1 => cpu.clone().prop_map(Op::Fold),
        3 => (cpu.clone(), cpu, 0..7_usize, 0..4_u32).prop_map(|(by, of, bits, word)| Op::Read { by, of, bits, word }),
    ]
}

pub(super) fn a_version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V2), Just(Version::V3)]
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn a_guest_sees_what_the_reference_says(
        version in a_version(),
        vcpus in 1..=8_usize,
        registers in 1..=6_usize,
        split in any::<bool>(),
        ops in prop::collection::vec(an_op(), 1..250),
    ) {
        let mut machine = Machine::new(version, vcpus, registers, split);
        machine.apply(&Op::Enable(true, true));
        for word in 0..4 {
            for of in 0..vcpus {
                machine.apply(&Op::Bits { by: of, of, bits: 1, intid: intid(32 * word), also: !0 });
            }
        }
        for op in &ops {
            machine.apply(op);
            machine.settle();
            machine.check();
        }
    }
}
