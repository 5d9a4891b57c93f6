//! Where guests go, and why not elsewhere.

use cluster_proto::ids::{BoardId, BoardSet, Epoch, GuestId, Incarnation, Index, Tenure, Term};
use cluster_proto::ledger::Ledger;
use cluster_proto::ledger::types::{
    Board, Capacity, Decree, Entry, GuestSpec, Phase, Reason, Volume, VolumeKind, Wanted,
};
use cluster_proto::placement::{
    Choice, Verdict, choose, fits_elsewhere, missing_spare, verdict, why,
};
use proptest::prelude::*;

type TestLedger = Ledger<8, 16, 8>;

/// A board that is in, with so much memory and four cores of class 1.
fn board(memory_mib: u32) -> Board {
    Board {
        name: Default::default(),
        votes: true,
        witness: false,
        drained: false,
        downtime: None,
        disarmed: false,
        incarnation: Incarnation(1),
        tenure: Tenure(1),
        fenced_at: Index(0),
        capacity: Capacity {
            memory_mib,
            cores: 4,
            class: 1,
        },
    }
}

fn boards(memories: &[u32]) -> TestLedger {
    let mut ledger = TestLedger::new();
    for (at, memory) in memories.iter().enumerate() {
        ledger.boards[at] = Some(board(*memory));
    }
    ledger
}

fn spec(memory_mib: u32, priority: u8) -> GuestSpec {
    GuestSpec {
        name: Default::default(),
        memory_mib,
        vcpus: 1,
        class: 0,
        priority,
        apart: 0,
        allowed: BoardSet(0),
        wanted: Wanted::Running,
        mac: [0; 6],
        kernel: [0; 32],
        initrd: [0; 32],
        command_line: Default::default(),
    }
}

fn add(ledger: &mut TestLedger, mut spec: GuestSpec) -> GuestId {
    let name = format!("guest{}", ledger.guests().count());
    spec.name = name.as_str().try_into().unwrap();
    GuestId(ledger.create_guest(&spec).unwrap())
}

/// Gives `guest` to `to`, by the decree that does it.
fn own(ledger: &mut TestLedger, guest: GuestId, to: u8) {
    let decree = Decree::Place {
        guest,
        epoch: ledger.epoch(guest),
        board: BoardId(to),
        tenure: Tenure(1),
        reason: Reason::Placed,
    };
    let term = Term(1);
    let index = ledger.index.next();
    ledger.apply(index, &Entry { term, decree });
    assert_eq!(ledger.guest(guest).unwrap().phase, Phase::Starting);
}

fn owned(ledger: &mut TestLedger, spec: GuestSpec, to: u8) -> GuestId {
    let guest = add(ledger, spec);
    own(ledger, guest, to);
    guest
}

#[test]
fn the_board_with_the_most_memory_left_is_best_and_the_lowest_number_among_equals() {
    let mut ledger = boards(&[512, 1_024, 1_024]);
    let guest = add(&mut ledger, spec(256, 1));
    assert_eq!(choose(&ledger, guest), Choice::Board(BoardId(1)));
    owned(&mut ledger, spec(300, 1), 1);
    assert_eq!(choose(&ledger, guest), Choice::Board(BoardId(2)));
    owned(&mut ledger, spec(800, 1), 2);
    assert_eq!(
        verdict(&ledger, guest, BoardId(0)),
        Verdict::Fits { left: 256 }
    );
    assert_eq!(
        verdict(&ledger, guest, BoardId(1)),
        Verdict::Fits { left: 468 }
    );
    let short = Verdict::Memory {
        need: 256,
        left: 224,
    };
    assert_eq!(verdict(&ledger, guest, BoardId(2)), short);
}

#[test]
fn each_obstacle_has_its_name() {
    let mut ledger = boards(&[1_024; 8]);
    ledger.boards[0] = None;
    let mut change = |at: usize, change: fn(&mut Board)| {
        ledger.boards[at].iter_mut().for_each(change);
    };
    change(1, |board| board.witness = true);
    change(2, |board| board.tenure = Tenure(0));
    change(3, |board| board.drained = true);
    change(5, |board| board.capacity.class = 2);
    change(6, |board| board.capacity.cores = 1);
    let apart = GuestSpec {
        apart: 3,
        ..spec(100, 1)
    };
    let neighbour = owned(&mut ledger, apart.clone(), 7);
    let mut wanted = GuestSpec {
        class: 1,
        vcpus: 2,
        ..apart
    };
    wanted.allowed = BoardSet(0b1110_1111);
    let guest = add(&mut ledger, wanted);
    let explanation = why(&ledger, guest).unwrap();
    let expected = [
        Verdict::Absent,
        Verdict::Witness,
        Verdict::Out,
        Verdict::Drained,
        Verdict::NotAllowed,
        Verdict::Class(2),
        Verdict::Cores { need: 2, has: 1 },
        Verdict::Apart(neighbour),
    ];
    assert_eq!(explanation.verdicts, expected);
    assert_eq!(explanation.choice, Choice::Nowhere);
    assert_eq!(
        (explanation.owner, explanation.reason),
        (None, Reason::None)
    );
    assert_eq!(why(&ledger, GuestId(9)), None);
}

#[test]
fn a_local_volume_pins_and_an_ephemeral_one_does_not() {
    let mut ledger = boards(&[512, 1_024]);
    let guest = add(&mut ledger, spec(128, 1));
    let mut volume = Volume {
        name: "data".try_into().unwrap(),
        guest,
        kind: VolumeKind::Ephemeral,
        board: BoardId(0),
        size_mib: 1,
        image: [0; 32],
    };
    assert!(ledger.create_volume(&volume).is_ok());
    assert_eq!(choose(&ledger, guest), Choice::Board(BoardId(1)));
    (volume.kind, volume.name) = (VolumeKind::Local, "kept".try_into().unwrap());
    assert!(ledger.create_volume(&volume).is_ok());
    assert_eq!(choose(&ledger, guest), Choice::Board(BoardId(0)));
    assert_eq!(
        verdict(&ledger, guest, BoardId(1)),
        Verdict::VolumeOn(BoardId(0))
    );
    ledger.boards[0]
        .iter_mut()
        .for_each(|board| board.tenure = Tenure(0));
    assert_eq!(
        choose(&ledger, guest),
        Choice::Nowhere,
        "silent loss is not a failover"
    );
}

#[test]
fn a_higher_priority_takes_the_place_of_the_fewest_of_the_lowest() {
    let mut ledger = boards(&[1_000, 1_000]);
    owned(&mut ledger, spec(400, 2), 0);
    owned(&mut ledger, spec(400, 1), 0);
    let lowest = owned(&mut ledger, spec(400, 1), 1);
    owned(&mut ledger, spec(300, 5), 1);
    let guest = add(&mut ledger, spec(650, 3));
    assert_eq!(
        choose(&ledger, guest),
        Choice::Displace(BoardId(1), lowest),
        "one instead of two"
    );
    let equal = add(&mut ledger, spec(500, 1));
    assert_eq!(
        choose(&ledger, equal),
        Choice::Nowhere,
        "nobody displaces an equal"
    );
    let huge = add(&mut ledger, spec(1_001, 9));
    assert_eq!(
        choose(&ledger, huge),
        Choice::Nowhere,
        "nor for what would not fit at all"
    );
}

#[test]
fn who_is_kept_apart_is_displaced_too() {
    let mut ledger = boards(&[1_000]);
    let group = |priority| GuestSpec {
        apart: 1,
        ..spec(100, priority)
    };
    let lower = owned(&mut ledger, group(1), 0);
    let guest = add(&mut ledger, group(2));
    assert_eq!(verdict(&ledger, guest, BoardId(0)), Verdict::Apart(lower));
    assert_eq!(choose(&ledger, guest), Choice::Displace(BoardId(0), lower));
    let least = add(&mut ledger, group(1));
    assert_eq!(choose(&ledger, least), Choice::Nowhere);
}

#[test]
fn a_guests_own_place_is_not_counted_against_it() {
    let mut ledger = boards(&[600, 100]);
    let guest = owned(&mut ledger, spec(500, 1), 0);
    assert_eq!(
        verdict(&ledger, guest, BoardId(0)),
        Verdict::Fits { left: 100 }
    );
    assert!(!fits_elsewhere(&ledger, guest, BoardId(0)));
    ledger.boards[1] = Some(board(500));
    assert!(fits_elsewhere(&ledger, guest, BoardId(0)));
}

#[test]
fn a_spare_board_is_missed_when_the_others_cannot_take_its_guests() {
    let mut ledger = boards(&[1_000, 1_000, 1_000]);
    for at in 0..3 {
        owned(&mut ledger, spec(300, 1), at);
        owned(&mut ledger, spec(200, 1), at);
    }
    assert_eq!(missing_spare(&ledger), None);
    let heavy = owned(&mut ledger, spec(400, 1), 1);
    // Without board 0 there are 100 and 500 left for its 300 and 200; without board 1, twice 500 for 900 in pieces of 400, 300 and 200.
    assert_eq!(missing_spare(&ledger), None);
    owned(&mut ledger, spec(250, 1), 2);
    assert_eq!(missing_spare(&ledger), Some(BoardId(0)));
    assert_eq!(why(&ledger, heavy).unwrap().no_spare_for, Some(BoardId(0)));
}

proptest! {
    #[test]
    fn a_choice_is_one_that_the_verdicts_allow(
        memories in proptest::collection::vec(1u32..2_000, 1..8),
        guests in proptest::collection::vec((1u32..1_500, 0u8..4, 0u8..3, 0u8..8), 1..16),
    ) {
        let mut ledger = boards(&memories);
        let mut ids = Vec::new();
        for (memory, priority, apart, to) in guests {
            let guest = add(&mut ledger, GuestSpec { apart, ..spec(memory, priority) });
            if matches!(verdict(&ledger, guest, BoardId(to)), Verdict::Fits { .. }) {
                own(&mut ledger, guest, to);
            }
            ids.push(guest);
        }
        for guest in ids {
            let fits = |at: usize| match verdict(&ledger, guest, BoardId(at as u8)) {
                Verdict::Fits { left } => Some(left),
                _ => None,
            };
            match choose(&ledger, guest) {
                Choice::Board(board) => prop_assert_eq!(fits(board.at()), (0..8).filter_map(fits).max()),
                Choice::Displace(board, victim) => {
                    prop_assert_eq!((0..8).find_map(fits), None, "nobody goes while there is room");
                    let (own, other) = (ledger.guest(guest).unwrap(), ledger.guest(victim).unwrap());
                    prop_assert!(other.spec.priority < own.spec.priority && other.owner == board);
                }
                Choice::Nowhere => prop_assert_eq!((0..8).find_map(fits), None),
            }
            prop_assert_eq!(ledger.epoch(guest) > Epoch(0), ledger.guest(guest).unwrap().phase != Phase::Unowned);
        }
    }
}
