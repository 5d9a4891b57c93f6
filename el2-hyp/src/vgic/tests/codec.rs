//! Both encodings of list registers, against the bits of the architecture.

use super::super::list::{
    ListRegister, Origin, State, decode_v2, decode_v3, encode_v2, encode_v3, state_v2, state_v3,
};
use super::super::{Group, Priority};
use super::{intid, vcpu};
use proptest::prelude::*;

fn a_state() -> impl Strategy<Value = State> {
    (any::<bool>(), any::<bool>()).prop_map(|(pending, active)| State::of(pending, active))
}

fn an_entry() -> impl Strategy<Value = ListRegister> {
    let origin = prop_oneof![
        (0..8_usize, any::<bool>()).prop_map(|(source, notify)| Origin::Software {
            source: vcpu(source),
            notify
        }),
        (0..1024_u32).prop_map(|physical| Origin::Hardware { physical }),
    ];
    (0..128_u32, a_state(), any::<u8>(), any::<bool>(), origin).prop_map(
        |(number, state, priority, group1, origin)| ListRegister {
            intid: intid(number),
            state,
            priority: Priority::from_byte(priority),
            group: if group1 { Group::One } else { Group::Zero },
            origin,
        },
    )
}

proptest! {
    #[test]
    fn v2_survives_its_encoding(entry in an_entry()) {
        prop_assert_eq!(decode_v2(encode_v2(entry)), Some(entry));
        prop_assert_eq!(state_v2(encode_v2(entry)), entry.state);
    }

    #[test]
    fn v3_survives_its_encoding_but_for_the_source(entry in an_entry()) {
        let expected = ListRegister {
            origin: match entry.origin {
                Origin::Software { notify, .. } => Origin::Software { source: vcpu(0), notify },
                hardware => hardware,
            },
            ..entry
        };
        prop_assert_eq!(decode_v3(encode_v3(entry)), Some(expected));
        prop_assert_eq!(state_v3(encode_v3(entry)), entry.state);
    }

    #[test]
    fn any_word_decodes_to_something_or_nothing(low in any::<u32>(), raw in any::<u64>()) {
        prop_assert_eq!(decode_v2(low).is_some(), low & 0x3ff < 128);
        prop_assert_eq!(decode_v3(raw).is_some(), raw & 0xffff_ffff < 128);
    }
}

#[test]
fn v2_fields_are_where_gich_lr_has_them() {
    let entry = ListRegister {
        intid: intid(5),
        state: State::Pending,
        priority: Priority::from_byte(0xa0),
        group: Group::One,
        origin: Origin::Software {
            source: vcpu(3),
            notify: true,
        },
    };
    assert_eq!(
        encode_v2(entry),
        1 << 30 | 1 << 28 | 0b10100 << 23 | 1 << 19 | 3 << 10 | 5
    );
    let hardware = ListRegister {
        state: State::Active,
        group: Group::Zero,
        origin: Origin::Hardware { physical: 27 },
        ..entry
    };
    assert_eq!(
        encode_v2(hardware),
        1 << 31 | 2 << 28 | 0b10100 << 23 | 27 << 10 | 5
    );
}

#[test]
fn v3_fields_are_where_ich_lr_has_them() {
    let entry = ListRegister {
        intid: intid(77),
        state: State::PendingActive,
        priority: Priority::from_byte(0xa7),
        group: Group::One,
        origin: Origin::Software {
            source: vcpu(0),
            notify: true,
        },
    };
    assert_eq!(
        encode_v3(entry),
        3 << 62 | 1 << 60 | 0xa0 << 48 | 1 << 41 | 77
    );
    let hardware = ListRegister {
        state: State::Pending,
        origin: Origin::Hardware { physical: 27 },
        ..entry
    };
    assert_eq!(
        encode_v3(hardware),
        1 << 62 | 1 << 61 | 1 << 60 | 0xa0 << 48 | 27 << 32 | 77
    );
}
