//! Guests of the ledger that go on from a file: who may, where, and what is left when it comes to nothing.

use cluster_proto::ids::{
    BoardId, BoardSet, Epoch, GuestId, Incarnation, Index, MoveId, Tenure, Term,
};
use cluster_proto::ledger::Ledger;
use cluster_proto::ledger::types::{
    Board, Capacity, Decree, Denied, Entry, Guest, GuestSpec, Observation, Operation, Origin,
    Outcome, Phase, Reason, RequestId, Volume, VolumeKind, Wanted,
};
use cluster_proto::placement::{choose_in_class, class_of};

const GUEST: GuestId = GuestId(0);
const ID: MoveId = MoveId::of_file(5);
const CLASS: u32 = 9;
/// Boards: two of the class, the second with more memory, and one of another.
const BOARDS: [(u32, u32); 3] = [(1_000, CLASS), (2_000, CLASS), (4_000, CLASS + 2)];

struct Scene(Ledger<4, 4, 2>);

impl Scene {
    /// A guest of 400 MiB that was never started.
    fn new() -> Self {
        let mut ledger = Ledger::new();
        for (at, (memory_mib, class)) in BOARDS.into_iter().enumerate() {
            ledger.boards[at] = Some(Board {
                name: Default::default(),
                votes: true,
                witness: false,
                drained: false,
                downtime: None,
                disarmed: false,
                incarnation: Incarnation(1),
                tenure: Tenure(at as u64 + 1),
                fenced_at: Index(0),
                capacity: Capacity {
                    memory_mib,
                    cores: 4,
                    class,
                },
            });
        }
        let spec = GuestSpec {
            name: "web".try_into().expect("short"),
            memory_mib: 400,
            vcpus: 1,
            class: 0,
            priority: 1,
            apart: 0,
            allowed: BoardSet(0),
            wanted: Wanted::Stopped,
            mac: [0; 6],
            kernel: [0; 32],
            initrd: [0; 32],
            command_line: Default::default(),
        };
        assert_eq!(ledger.create_guest(&spec), Ok(0));
        Self(ledger)
    }

    fn apply(&mut self, decree: Decree) -> Option<Outcome> {
        let entry = Entry {
            term: Term(1),
            decree,
        };
        let outcome = self.0.apply(self.0.index.next(), &entry);
        outcome.map(|outcome| outcome.1)
    }

    fn order(&mut self, operation: Operation) -> Result<u16, Denied> {
        let id = RequestId {
            operator: 1,
            request: self.0.index.0,
        };
        match self.apply(Decree::Operate { id, operation }) {
            Some(Outcome::Done { number }) => Ok(number),
            Some(Outcome::Refused { why }) => Err(why),
            None => panic!("an order has an outcome"),
        }
    }

    fn restore(&mut self, class: u32, to: Option<BoardId>) -> Result<u16, Denied> {
        let (guest, id) = (GUEST, ID);
        self.order(Operation::Restore {
            guest,
            id,
            class,
            to,
        })
    }

    fn observe(&mut self, epoch: u64, seen: Observation) {
        self.apply(Decree::Observe {
            guest: GUEST,
            epoch: Epoch(epoch),
            seen,
        });
    }

    fn guest(&self) -> &Guest {
        self.0.guest(GUEST).expect("nobody deletes it")
    }
}

#[test]
fn it_goes_to_the_best_board_of_its_class_and_is_wanted_when_it_runs_there() {
    let mut scene = Scene::new();
    assert_eq!(scene.restore(CLASS, None), Ok(0));
    let guest = scene.guest();
    assert_eq!(
        (guest.phase, guest.owner, guest.tenure),
        (Phase::Starting, BoardId(1), Tenure(2))
    );
    assert_eq!(
        (&guest.origin, guest.wanted),
        (&Origin::Restored { id: ID }, Wanted::Stopped)
    );
    assert_eq!(scene.0.epoch(GUEST), Epoch(1));
    // Not twice.
    assert_eq!(scene.restore(CLASS, None), Err(Denied::Running));
    // What an older copy says concerns nobody.
    scene.observe(0, Observation::Running {});
    assert_eq!(scene.guest().wanted, Wanted::Stopped);
    scene.observe(1, Observation::Running {});
    assert_eq!(
        (scene.guest().phase, scene.guest().wanted),
        (Phase::Running, Wanted::Running)
    );
    assert_eq!(scene.0.epoch(GUEST), Epoch(1));
}

#[test]
fn who_cannot_take_it_is_not_asked() {
    let mut scene = Scene::new();
    assert_eq!(scene.restore(CLASS + 1, None), Err(Denied::NoBoard));
    assert_eq!(scene.restore(CLASS, Some(BoardId(2))), Err(Denied::NoBoard));
    assert_eq!(scene.restore(CLASS, Some(BoardId(3))), Err(Denied::Unknown));
    assert_eq!(
        choose_in_class(&scene.0, GUEST, CLASS + 2, None),
        Some(BoardId(2))
    );
    assert_eq!(scene.0.epoch(GUEST), Epoch(0), "nothing has changed");
    let id = MoveId(5);
    let (guest, class, to) = (GUEST, CLASS, None);
    let indexed = Operation::Restore {
        guest,
        id,
        class,
        to,
    };
    assert_eq!(scene.order(indexed), Err(Denied::Invalid));
    assert_eq!(scene.restore(CLASS, Some(BoardId(0))), Ok(0));
    assert_eq!(scene.guest().owner, BoardId(0));
}

#[test]
fn a_guest_that_is_to_run_or_has_a_volume_of_a_boards_is_not_restored() {
    let mut scene = Scene::new();
    let (guest, wanted) = (GUEST, Wanted::Running);
    scene
        .order(Operation::Want { guest, wanted })
        .expect("a guest");
    assert_eq!(scene.restore(CLASS, None), Err(Denied::Running));
    let wanted = Wanted::Stopped;
    scene
        .order(Operation::Want { guest, wanted })
        .expect("a guest");
    let volume = Volume {
        name: "data".try_into().expect("short"),
        guest,
        kind: VolumeKind::Local,
        board: BoardId(0),
        size_mib: 10,
        image: [0; 32],
    };
    scene
        .order(Operation::CreateVolume { volume })
        .expect("room");
    assert_eq!(scene.restore(CLASS, None), Err(Denied::LocalVolume));
}

#[test]
fn whatever_goes_wrong_leaves_it_stopped() {
    type Ends = fn(&mut Scene);
    let ends: [Ends; 3] = [
        |scene| {
            let reason = Reason::NotRestored;
            scene.observe(1, Observation::Gone { reason });
        },
        |scene| {
            scene.apply(Decree::Fence {
                board: BoardId(1),
                tenure: Tenure(2),
                reason: Reason::Silent,
            });
        },
        |scene| {
            let (guest, wanted) = (GUEST, Wanted::Stopped);
            scene
                .order(Operation::Want { guest, wanted })
                .expect("a guest");
            let reason = Reason::Operator;
            scene.observe(1, Observation::Gone { reason });
        },
    ];
    for end in ends {
        let mut scene = Scene::new();
        assert_eq!(scene.restore(CLASS, None), Ok(0));
        end(&mut scene);
        let guest = scene.guest();
        assert_eq!(
            (guest.phase, guest.wanted),
            (Phase::Unowned, Wanted::Stopped)
        );
        // Late news of it starts nothing.
        scene.observe(1, Observation::Running {});
        assert_eq!(scene.guest().wanted, Wanted::Stopped);
        assert_eq!(scene.restore(CLASS, None), Ok(0));
        assert_eq!(scene.0.epoch(GUEST), Epoch(2));
    }
}

#[test]
fn classes_are_of_core_controller_and_counter() {
    let class = class_of(0x410f_d083, 3, 62_500_000);
    for other in [
        class_of(0x414f_d0b1, 3, 62_500_000),
        class_of(0x410f_d083, 2, 62_500_000),
        class_of(0x410f_d083, 3, 54_000_000),
    ] {
        assert!(other != class && other != 0);
    }
}
