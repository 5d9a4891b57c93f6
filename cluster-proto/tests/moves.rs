//! Moves in the ledger: what may be ordered, what ends one, and which copy is the guest.

use cluster_proto::ids::{
    BoardId, BoardSet, Epoch, GuestId, Incarnation, Index, MoveId, Tenure, Term,
};
use cluster_proto::ledger::Ledger;
use cluster_proto::ledger::page::Cursor;
use cluster_proto::ledger::types::{
    Board, Capacity, Decree, Denied, Entry, Guest, GuestSpec, Happening, Observation, Operation,
    Origin, Outcome, Phase, Reason, RequestId, Volume, VolumeKind, Wanted,
};
use cluster_proto::limits::{DOWNTIME_MS_MAX, DOWNTIME_MS_MIN, PAYLOAD};
use cluster_proto::placement::{Choice, Verdict, choose, choose_live, verdict, verdict_live, why};
use cluster_proto::wire::codec::Writer;

const GUEST: GuestId = GuestId(0);
const SOURCE: BoardId = BoardId(0);
const DESTINATION: BoardId = BoardId(1);

/// A ledger of boards of 1,024 MiB, each in the tenure of its number plus one.
struct Scene(Ledger<4, 4, 2>);

impl Scene {
    /// Three boards, and a guest of 400 MiB that runs on the first.
    fn new() -> Self {
        let mut ledger = Ledger::new();
        for at in 0..3 {
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
                    memory_mib: 1_024,
                    cores: 4,
                    class: 1,
                },
            });
        }
        let mut scene = Self(ledger);
        assert_eq!(scene.add("web"), GUEST);
        scene.run(GUEST, SOURCE);
        scene
    }

    fn add(&mut self, name: &str) -> GuestId {
        let spec = GuestSpec {
            name: name.try_into().expect("short"),
            memory_mib: 400,
            vcpus: 1,
            class: 0,
            priority: 1,
            apart: 0,
            allowed: BoardSet(0),
            wanted: Wanted::Running,
            mac: [0; 6],
            kernel: [0; 32],
            initrd: [0; 32],
            command_line: Default::default(),
        };
        GuestId(self.0.create_guest(&spec).expect("room"))
    }

    fn apply(&mut self, decree: Decree) -> Option<Outcome> {
        let index = self.0.index.next();
        let term = Term(1);
        let outcome = self.0.apply(index, &Entry { term, decree });
        outcome.map(|outcome| outcome.1)
    }

    fn order(&mut self, operation: Operation) -> Outcome {
        let id = RequestId {
            operator: 1,
            request: self.0.index.0,
        };
        self.apply(Decree::Operate { id, operation })
            .expect("an order has an outcome")
    }

    fn migrate(&mut self, to: Option<BoardId>) -> Outcome {
        self.order(Operation::Migrate {
            guest: GUEST,
            to,
            downtime: None,
        })
    }

    fn run(&mut self, guest: GuestId, board: BoardId) {
        let (epoch, tenure) = (self.0.epoch(guest), self.0.tenure(board));
        let reason = Reason::Placed;
        self.apply(Decree::Place {
            guest,
            epoch,
            board,
            tenure,
            reason,
        });
        self.observe(guest, Observation::Running {});
    }

    fn observe(&mut self, guest: GuestId, seen: Observation) {
        let epoch = self.0.epoch(guest);
        self.apply(Decree::Observe { guest, epoch, seen });
    }

    fn fence(&mut self, board: BoardId) {
        let tenure = self.0.tenure(board);
        let reason = Reason::Silent;
        self.apply(Decree::Fence {
            board,
            tenure,
            reason,
        });
    }

    fn send(&mut self, to: BoardId) {
        let (epoch, tenure) = (self.0.epoch(GUEST), self.0.tenure(to));
        let reason = Reason::Drained;
        self.apply(Decree::Send {
            guest: GUEST,
            epoch,
            to,
            tenure,
            reason,
        });
    }

    fn hand(&mut self, epoch: Epoch, complete: Option<MoveId>) {
        let reason = Reason::None;
        self.apply(Decree::Hand {
            guest: GUEST,
            epoch,
            complete,
            reason,
        });
    }

    fn guest(&self) -> &Guest {
        self.0.guest(GUEST).expect("nobody deletes it")
    }

    fn epoch(&self) -> Epoch {
        self.0.epoch(GUEST)
    }

    fn moving(&self) -> Option<MoveId> {
        self.guest().moving.as_ref().map(|order| order.id)
    }

    fn last(&self) -> (Happening, Reason, BoardId) {
        let event = self.0.events.iter().last().expect("something happened");
        (event.what, event.reason, event.board)
    }
}

/// A scene in which the guest is on its way to [`DESTINATION`].
fn moving() -> (Scene, MoveId) {
    let mut scene = Scene::new();
    assert_eq!(
        scene.migrate(Some(DESTINATION)),
        Outcome::Done { number: 0 }
    );
    let id = scene.moving().expect("just ordered");
    assert_eq!(id, MoveId(scene.0.index.0), "a move has its decree's index");
    (scene, id)
}

fn refused(why: Denied) -> Outcome {
    Outcome::Refused { why }
}

#[test]
fn an_order_that_cannot_be_says_why() {
    let mut scene = Scene::new();
    let unknown = Operation::Migrate {
        guest: GuestId(3),
        to: None,
        downtime: None,
    };
    assert_eq!(scene.order(unknown), refused(Denied::Unknown));
    assert_eq!(scene.migrate(Some(BoardId(3))), refused(Denied::Unknown));
    assert_eq!(scene.migrate(Some(SOURCE)), refused(Denied::AlreadyThere));
    for downtime in [0, DOWNTIME_MS_MIN - 1, DOWNTIME_MS_MAX + 1] {
        let order = Operation::Migrate {
            guest: GUEST,
            to: None,
            downtime: Some(downtime),
        };
        assert_eq!(scene.order(order), refused(Denied::Invalid));
        let drain = Operation::Drain {
            board: SOURCE,
            on: true,
            downtime: Some(downtime),
        };
        assert_eq!(scene.order(drain), refused(Denied::Invalid));
    }
    let cancel = Operation::CancelMove { guest: GUEST };
    assert_eq!(scene.order(cancel), refused(Denied::NotMoving));
    scene.fence(DESTINATION);
    assert_eq!(scene.migrate(Some(DESTINATION)), refused(Denied::NoBoard));
    scene.fence(BoardId(2));
    assert_eq!(scene.migrate(None), refused(Denied::NoBoard));
    scene.fence(SOURCE);
    assert_eq!(scene.migrate(None), refused(Denied::NotRunning));
    let volume = Volume {
        name: "data".try_into().expect("short"),
        guest: GUEST,
        kind: VolumeKind::Local,
        board: SOURCE,
        size_mib: 1,
        image: [0; 32],
    };
    scene.0.create_volume(&volume).expect("room");
    scene.0.boards[0]
        .iter_mut()
        .for_each(|board| board.tenure = Tenure(99));
    scene.run(GUEST, SOURCE);
    assert_eq!(scene.migrate(None), refused(Denied::LocalVolume));
    assert_eq!(scene.moving(), None);
}

#[test]
fn a_guest_that_moves_is_not_sent_elsewhere() {
    let (mut scene, id) = moving();
    assert_eq!(scene.migrate(Some(BoardId(2))), refused(Denied::Moving));
    assert_eq!(scene.migrate(None), Outcome::Done { number: 0 });
    scene.send(BoardId(2));
    assert_eq!(scene.moving(), Some(id));
}

#[test]
fn the_destination_that_has_all_has_the_guest() {
    let (mut scene, id) = moving();
    let before = scene.epoch();
    scene.hand(before, Some(id));
    assert_eq!(scene.epoch().0, before.0 + 1);
    let guest = scene.guest();
    assert_eq!((guest.owner, guest.phase), (DESTINATION, Phase::Starting));
    assert_eq!(guest.tenure, scene.0.tenure(DESTINATION));
    assert_eq!(guest.origin, Origin::Arrived { id });
    assert_eq!((scene.moving(), guest.stays), (None, 0));
    assert_eq!(
        scene.last(),
        (Happening::Handed, Reason::Operator, DESTINATION)
    );
    // Whoever asks again, or asks to keep it, is too late.
    let after = scene.0.guests.clone();
    scene.hand(before, Some(id));
    scene.hand(before, None);
    assert_eq!(scene.0.guests, after);
    // It fails there, and starts anew from its images.
    scene.observe(
        GUEST,
        Observation::Gone {
            reason: Reason::StartFailed,
        },
    );
    scene.run(GUEST, BoardId(2));
    assert_eq!(scene.guest().origin, Origin::Fresh {});
}

#[test]
fn of_two_questions_the_first_decides() {
    let (mut scene, id) = moving();
    let before = scene.epoch();
    scene.hand(before, None);
    let kept = |scene: &Scene| {
        let guest = scene.guest();
        assert_eq!((guest.owner, guest.phase), (SOURCE, Phase::Running));
        assert_eq!(guest.origin, Origin::Kept {});
        assert_eq!(scene.epoch().0, before.0 + 1);
        assert_eq!((scene.moving(), guest.stays), (None, 1));
    };
    kept(&scene);
    assert_eq!(scene.last().0, Happening::Stayed);
    scene.hand(before, Some(id));
    kept(&scene);
}

#[test]
fn a_question_about_another_move_keeps_the_guest() {
    let (mut scene, first) = moving();
    assert_eq!(
        scene.order(Operation::CancelMove { guest: GUEST }),
        Outcome::Done { number: 0 }
    );
    assert_eq!(scene.last(), (Happening::Stayed, Reason::Operator, SOURCE));
    assert_eq!(
        scene.migrate(Some(DESTINATION)),
        Outcome::Done { number: 0 }
    );
    assert!(scene.moving().is_some_and(|second| second != first));
    scene.hand(scene.epoch(), Some(first));
    assert_eq!(scene.guest().owner, SOURCE);
    assert_eq!(scene.guest().origin, Origin::Kept {});
    assert_eq!(scene.moving(), None);
}

#[test]
fn a_question_after_the_order_was_cancelled_keeps_the_guest() {
    let (mut scene, id) = moving();
    scene.order(Operation::CancelMove { guest: GUEST });
    let before = scene.epoch();
    scene.hand(before, Some(id));
    assert_eq!(scene.epoch().0, before.0 + 1);
    assert_eq!(scene.guest().owner, SOURCE);
    assert_eq!(scene.guest().stays, 1, "it counts once");
    assert_eq!(scene.guest().stay, Reason::Operator);
}

#[test]
fn whatever_changes_the_owner_or_the_phase_ends_the_move() {
    let (mut scene, _) = moving();
    scene.fence(SOURCE);
    assert_eq!(
        (scene.guest().phase, scene.moving()),
        (Phase::Unowned, None)
    );
    let (mut scene, _) = moving();
    scene.observe(
        GUEST,
        Observation::Gone {
            reason: Reason::Crashed,
        },
    );
    assert_eq!(
        (scene.guest().phase, scene.moving()),
        (Phase::Unowned, None)
    );
    let (mut scene, id) = moving();
    let before = scene.epoch();
    scene.order(Operation::Restart { guest: GUEST });
    assert_eq!(
        (scene.guest().phase, scene.moving()),
        (Phase::Leaving, None)
    );
    scene.hand(before, Some(id));
    assert_eq!((scene.guest().owner, scene.epoch()), (SOURCE, before));
}

#[test]
fn a_destination_that_is_put_out_ends_the_move_and_nothing_else() {
    let (mut scene, id) = moving();
    let before = scene.epoch();
    scene.fence(BoardId(2));
    assert_eq!(scene.moving(), Some(id));
    scene.fence(DESTINATION);
    assert_eq!((scene.moving(), scene.epoch()), (None, before));
    let guest = scene.guest();
    assert_eq!((guest.owner, guest.phase), (SOURCE, Phase::Running));
    assert_eq!((guest.stays, guest.stay), (1, Reason::DestinationLost));
}

#[test]
fn an_owner_gives_up_the_move_that_it_names_and_no_other() {
    let (mut scene, id) = moving();
    let reason = Reason::NotConverged;
    let stays = |id| Observation::Stays { id, reason };
    scene.observe(GUEST, stays(MoveId(id.0 + 1)));
    assert_eq!(scene.moving(), Some(id));
    scene.observe(GUEST, stays(id));
    assert_eq!(scene.last(), (Happening::Stayed, reason, SOURCE));
    let explained = why(&scene.0, GUEST).expect("known");
    assert_eq!((explained.moving, explained.stays), (None, 1));
    assert_eq!(explained.stay, reason);
}

#[test]
fn a_guest_on_its_way_has_its_room_at_both_ends() {
    let (mut scene, _) = moving();
    let left = |scene: &Scene, guest, board| match verdict(&scene.0, guest, board) {
        Verdict::Fits { left } | Verdict::Memory { left, .. } => left,
        other => panic!("{other:?}"),
    };
    let other = scene.add("other");
    assert_eq!(left(&scene, other, SOURCE), 1_024 - 800);
    assert_eq!(left(&scene, other, DESTINATION), 1_024 - 800);
    assert_eq!(left(&scene, GUEST, DESTINATION), 1_024 - 400, "its own");
    assert_eq!(choose(&scene.0, other), Choice::Board(BoardId(2)));
    for place in [0, 1] {
        if let Some(guest) = &mut scene.0.guests[place].guest {
            guest.spec.apart = 7;
        }
    }
    assert_eq!(verdict(&scene.0, other, DESTINATION), Verdict::Apart(GUEST));
}

#[test]
fn a_guest_goes_on_within_its_class_only() {
    let mut scene = Scene::new();
    assert_eq!(choose_live(&scene.0, GUEST), Some(DESTINATION));
    if let Some(board) = &mut scene.0.boards[1] {
        board.capacity.class = 2;
    }
    assert_eq!(choose_live(&scene.0, GUEST), Some(BoardId(2)));
    assert_eq!(
        verdict_live(&scene.0, GUEST, DESTINATION),
        Verdict::Class(2)
    );
    assert_eq!(scene.migrate(Some(DESTINATION)), refused(Denied::NoBoard));
    assert!(matches!(
        verdict(&scene.0, GUEST, DESTINATION),
        Verdict::Fits { .. }
    ));
}

#[test]
fn the_largest_guest_on_its_way_fits_a_page() {
    let (mut scene, id) = moving();
    if let Some(guest) = &mut scene.0.guests[0].guest {
        let name = "n".repeat(guest.spec.name.capacity());
        let line = "x".repeat(guest.spec.command_line.capacity());
        guest.spec.name = name.as_str().try_into().expect("full");
        guest.spec.command_line = line.as_str().try_into().expect("full");
        guest.origin = Origin::Arrived { id };
    }
    let mut copy = Ledger::<4, 4, 2>::new();
    let mut at = Cursor::START;
    while at != Cursor::END {
        let mut room = [0; PAYLOAD];
        let mut page = Writer::new(&mut room);
        let next = scene.0.write_page(at, &mut page);
        assert!(next > at, "a page takes at least one item");
        assert_eq!(copy.read_page(page.bytes()), Ok(()));
        at = next;
    }
    assert_eq!(copy.guests, scene.0.guests);
}

#[test]
fn how_long_a_guest_may_be_still_is_in_the_order_of_its_move() {
    let mut scene = Scene::new();
    let of_order = |scene: &Scene| scene.guest().moving.as_ref().and_then(|it| it.downtime);
    let order = |downtime| Operation::Migrate {
        guest: GUEST,
        to: Some(DESTINATION),
        downtime,
    };
    let done = Outcome::Done { number: 0 };
    assert_eq!(scene.order(order(Some(DOWNTIME_MS_MIN))), done);
    assert_eq!(of_order(&scene), Some(DOWNTIME_MS_MIN));
    // The same again is no other order; another is.
    assert_eq!(scene.order(order(None)), done);
    assert_eq!(
        scene.order(order(Some(DOWNTIME_MS_MAX))),
        refused(Denied::Moving)
    );
    scene.order(Operation::CancelMove { guest: GUEST });
    assert_eq!(scene.order(order(None)), done);
    assert_eq!(of_order(&scene), None);
    scene.order(Operation::CancelMove { guest: GUEST });
    let drain = |on, downtime| Operation::Drain {
        board: SOURCE,
        on,
        downtime,
    };
    scene.order(drain(true, Some(DOWNTIME_MS_MAX)));
    scene.send(DESTINATION);
    assert_eq!(of_order(&scene), Some(DOWNTIME_MS_MAX));
    scene.order(Operation::CancelMove { guest: GUEST });
    // What a drain allowed ends with it.
    scene.order(drain(false, None));
    scene.send(DESTINATION);
    assert_eq!(of_order(&scene), None);
}
