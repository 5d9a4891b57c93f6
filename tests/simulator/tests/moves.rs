//! A guest moves, and at each step of its move something goes wrong: a loss, a cut, a pause, another order. At each step, not only by chance.

use cluster_proto::ids::{BoardId, GuestId};
use cluster_proto::ledger::types::{Happening, Operation, Phase, Wanted};
use simulator::campaign::heal;
use simulator::machine::BOARDS;
use simulator::oracle::Violation;
use simulator::plan::leader;
use simulator::steps::{self, three_boards};
use simulator::world::World;

/// The guest that moves.
const GUEST: GuestId = GuestId(0);
/// The longest that a move takes when nothing goes wrong, in microseconds: the longest rounds, the longest rest and word, the longest start, and six times the
/// way from a board to a majority and back.
const MOVE: u64 = 300_000 + 20_000 + 60_000 + 6 * 10_000;
/// How long something that goes wrong stays so.
const TROUBLE: u64 = 2_000_000;
/// From the end of trouble, in which a source may try for a second, to a guest that runs.
const BOUND: u64 = 3_000_000;

/// Moves that are struck.
const SEEDS: u64 = 16;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// A board loses power.
    Kill(Who),
    /// A board loses power for 20 ms.
    Reboot(Who),
    /// A board is cut off.
    Isolate(Who),
    /// A board stops for so many microseconds.
    Pause(Who, u64),
    /// Nothing arrives from the first at the second.
    Cut(Who, Who),
    /// The source's driver changes its mind.
    Regret,
    /// The operator cancels the move.
    Cancel,
    /// The operator cancels the move and orders the same again.
    CancelAndOrder,
    /// The operator has the guest stopped and started again.
    Restart,
    /// The operator has the destination drained.
    Drain,
}

/// A board by its part in the move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Source,
    Destination,
    Leader,
}
use Who::{Destination, Leader, Source};

/// A move that was ordered.
struct Scene {
    world: World,
    source: usize,
    destination: usize,
    leader: usize,
}

impl Scene {
    /// Three boards, of which one is told to move a guest.
    fn new(
        seed: u64,
        #[cfg(feature = "mutations")] mutation: Option<cluster_proto::node::Mutation>,
    ) -> Result<Self, Violation> {
        let (world, leader) = three_boards(
            seed,
            #[cfg(feature = "mutations")]
            mutation,
        )?;
        let ledger = world.machines[leader].node.ledger();
        let guest = ledger.guest(GUEST).expect("the manifest has it");
        let (source, other) = (guest.owner.at(), ledger.guest(GuestId(1)));
        // The two guests stay apart, so that only the third board can take it.
        let other = other.expect("the manifest has it").owner.at();
        let destination = 3 - source - other;
        let mut scene = Self {
            world,
            source,
            destination,
            leader,
        };
        scene.order_move()?;
        Ok(scene)
    }

    fn order_move(&mut self) -> Result<(), Violation> {
        let to = Some(BoardId(self.destination as u8));
        self.order(Operation::Migrate {
            guest: GUEST,
            to,
            downtime: None,
        })
    }

    fn order(&mut self, operation: Operation) -> Result<(), Violation> {
        self.world.order(self.leader, operation)
    }

    fn at(&self, who: Who) -> usize {
        match who {
            Source => self.source,
            Destination => self.destination,
            Leader => self.leader,
        }
    }

    /// How far the move is, as all boards together show it: this changes at each step.
    fn stage(&self) -> impl PartialEq + use<> {
        let of = |board: usize| {
            let machine = &self.world.machines[board];
            let (node, ledger) = (&machine.node, machine.node.ledger());
            let guest = ledger
                .guest(GUEST)
                .map(|guest| (guest.owner, guest.phase, guest.moving.clone()));
            let copy = machine.copies[GUEST.at()];
            (
                (guest, ledger.epoch(GUEST), node.log_end()),
                (node.copy(GUEST), node.is_handing_over(GUEST)),
                copy.map(|copy| (copy.epoch, copy.stopped, copy.moved)),
                machine.arrived[GUEST.at()].is_some(),
            )
        };
        [0, 1, 2].map(of)
    }

    /// Whether the guest runs, has effects, and is not being moved.
    fn runs(&self) -> bool {
        let Some(leader) = leader(&self.world) else {
            return false;
        };
        let ledger = self.world.machines[leader].node.ledger();
        let guest = ledger.guest(GUEST).expect("nobody deletes it");
        let machine = &self.world.machines[guest.owner.at()];
        let copy = machine.copies[GUEST.at()];
        let permit = machine
            .node
            .permit(GUEST, machine.clock.local(self.world.now));
        let live = copy.is_some_and(|copy| !copy.frozen && !copy.stopped)
            && permit.is_some_and(|permit| permit.epoch() == ledger.epoch(GUEST));
        guest.phase == Phase::Running && guest.moving.is_none() && live && machine.on
    }

    /// Lets so many things happen.
    fn pass(&mut self, events: usize) -> Result<(), Violation> {
        (0..events).try_for_each(|_| self.world.next_event())
    }

    fn strike(&mut self, trouble: Trouble) -> Result<(), Violation> {
        match trouble {
            Trouble::Kill(who) => self.world.crash(self.at(who)),
            Trouble::Reboot(who) => {
                let board = self.at(who);
                self.world.crash(board);
                self.world.run_to(self.world.now + 20_000)?;
                self.world.boot(board);
            }
            Trouble::Isolate(who) => {
                let board = self.at(who);
                for other in (0..BOARDS).filter(|other| *other != board) {
                    self.world.cut[board][other] = true;
                    self.world.cut[other][board] = true;
                }
            }
            Trouble::Pause(who, span) => self.world.pause(self.at(who), span),
            Trouble::Cut(from, to) => {
                let (from, to) = (self.at(from), self.at(to));
                self.world.cut[from][to] = from != to;
            }
            Trouble::Regret => return self.world.regret(self.source, GUEST),
            Trouble::Cancel => return self.order(Operation::CancelMove { guest: GUEST }),
            Trouble::CancelAndOrder => {
                self.order(Operation::CancelMove { guest: GUEST })?;
                return self.order_move();
            }
            Trouble::Restart => return self.order(Operation::Restart { guest: GUEST }),
            Trouble::Drain => {
                let board = BoardId(self.destination as u8);
                return self.order(Operation::Drain {
                    board,
                    on: true,
                    downtime: None,
                });
            }
        }
        Ok(())
    }

    /// Whether the board may be put out by it, and what it ran be lost.
    fn may_lose(&self, trouble: Trouble, board: usize) -> bool {
        match trouble {
            Trouble::Kill(who) | Trouble::Reboot(who) | Trouble::Isolate(who) => {
                self.at(who) == board
            }
            Trouble::Pause(who, span) => self.at(who) == board && span > 200_000,
            // One that does not hear the others, or is not heard, may lose its lease for long.
            Trouble::Cut(from, to) => self.at(from) == board || self.at(to) == board,
            Trouble::Restart => true,
            Trouble::Regret | Trouble::Cancel | Trouble::CancelAndOrder | Trouble::Drain => false,
        }
    }

    /// Strikes, waits, ends the trouble, and says what became of the guest.
    fn outcome(&mut self, trouble: Trouble) -> Result<(), Violation> {
        let before = self.world.oracle.moves.count(GUEST);
        self.strike(trouble)?;
        self.world.run_to(self.world.now + TROUBLE)?;
        let quorum = !matches!(trouble, Trouble::Cut(..));
        let end = self.world.now + BOUND;
        while !self.runs() && quorum {
            assert!(self.world.now < end, "{trouble:?}: the guest does not run");
            self.world.run_to(self.world.now + 10_000)?;
        }
        heal(&mut self.world)?;
        assert!(self.runs(), "{trouble:?}: it does not run in the end");
        let leader = leader(&self.world).expect("a whole cluster has one");
        let ledger = self.world.machines[leader].node.ledger();
        let left = |what: Happening| what == Happening::Left;
        let mut lost = ledger
            .events
            .iter()
            .filter(|event| left(event.what) && event.guest == Some(GUEST))
            .peekable();
        if lost.peek().is_none() {
            let count = self.world.oracle.moves.count(GUEST);
            assert!(count > before, "{trouble:?}: {count} after {before}");
        }
        for event in lost {
            assert!(
                self.may_lose(trouble, event.board.at()),
                "{trouble:?}: the guest was lost on board {}: {:?}",
                event.board,
                event.reason
            );
        }
        Ok(())
    }
}

/// A scene without a deliberate fault.
fn scene(seed: u64) -> Scene {
    #[cfg(feature = "mutations")]
    let scene = Scene::new(seed, None);
    #[cfg(not(feature = "mutations"))]
    let scene = Scene::new(seed);
    scene.unwrap_or_else(|violation| panic!("seed {seed}: {violation:?}"))
}

/// After how many events the move is one step further, each time, until the guest runs where it was sent.
fn steps(seed: u64) -> Vec<usize> {
    let mut scene = scene(seed);
    let (mut stage, mut steps) = (scene.stage(), vec![0]);
    let begun = scene.world.now;
    for event in 1.. {
        assert_eq!(scene.pass(1), Ok(()), "seed {seed}");
        let next = scene.stage();
        if next != stage {
            (stage, _) = (next, steps.push(event));
        }
        let machine = &scene.world.machines[scene.destination];
        if scene.runs() && machine.copies[GUEST.at()].is_some() {
            break;
        }
        let took = scene.world.now - begun;
        assert!(took <= MOVE, "seed {seed}: not moved after {took} us");
    }
    steps
}

/// Strikes right after each step, and in the middle of each.
fn everywhere(troubles: &[Trouble]) {
    steps::everywhere(SEEDS, troubles, steps, |seed, place, trouble| {
        let mut scene = scene(seed);
        scene.pass(place).and_then(|()| scene.outcome(trouble))
    });
}

#[test]
fn a_move_ends_soon_and_the_guest_goes_on_where_it_was_sent() {
    let mut parts = std::collections::BTreeSet::new();
    for seed in 1..=100 {
        assert!(steps(seed).len() > 10, "seed {seed}");
        let scene = scene(seed);
        let leads = |who: Who| scene.at(who) == scene.leader;
        if seed <= SEEDS {
            parts.insert((leads(Source), leads(Destination)));
        }
    }
    assert_eq!(
        parts.len(),
        3,
        "the source leads, the destination, and neither"
    );
}

#[test]
fn a_loss_at_any_step_loses_no_guest_but_its_owners() {
    let kill = [Source, Destination, Leader].map(Trouble::Kill);
    everywhere(&kill);
}

#[test]
fn a_reboot_at_any_step_loses_no_guest_but_its_owners() {
    let reboot = [Source, Destination, Leader].map(Trouble::Reboot);
    everywhere(&reboot);
}

#[test]
fn a_board_cut_off_at_any_step_loses_no_guest_but_its_own() {
    let isolate = [Source, Destination, Leader].map(Trouble::Isolate);
    everywhere(&isolate);
}

#[test]
fn a_cut_at_any_step_and_in_any_direction_ends_the_move_or_delays_it() {
    let ways = [
        (Source, Destination),
        (Destination, Source),
        (Source, Leader),
        (Leader, Source),
        (Destination, Leader),
        (Leader, Destination),
    ];
    everywhere(&ways.map(|(from, to)| Trouble::Cut(from, to)));
}

#[test]
fn a_pause_at_any_step_ends_the_move_or_delays_it() {
    let short = [Source, Destination, Leader].map(|who| Trouble::Pause(who, 100_000));
    let long = [Source, Destination, Leader].map(|who| Trouble::Pause(who, 400_000));
    everywhere(&[short, long].concat());
}

#[test]
fn another_word_at_any_step_ends_the_move_one_way_or_the_other() {
    let words = [
        Trouble::Regret,
        Trouble::Cancel,
        Trouble::CancelAndOrder,
        Trouble::Restart,
        Trouble::Drain,
    ];
    everywhere(&words);
}

#[test]
fn a_guest_that_is_stopped_while_it_moves_is_stopped() {
    for place in steps(3) {
        let mut scene = scene(3);
        let wanted = Wanted::Stopped;
        let stop = Operation::Want {
            guest: GUEST,
            wanted,
        };
        let stopped = scene.pass(place).and_then(|()| scene.order(stop));
        assert_eq!(stopped, Ok(()));
        assert_eq!(heal(&mut scene.world), Ok(()), "event {place}");
        let machines = &scene.world.machines;
        let left = |machine: &simulator::machine::Machine| {
            machine.copies[GUEST.at()].is_some() || machine.arrived[GUEST.at()].is_some()
        };
        assert!(!machines.iter().any(left), "event {place}");
    }
}

#[cfg(feature = "mutations")]
mod mutations {
    use super::{Scene, Trouble, steps};
    use cluster_proto::node::Mutation;

    /// The first step of a move at which a trouble shows a deliberate fault, other than by a cluster that does not become whole.
    fn demand(mutation: Mutation, trouble: Trouble) {
        let seen = (1..=20).find_map(|seed| {
            steps(seed).into_iter().find_map(|place| {
                let mut scene = Scene::new(seed, Some(mutation)).ok()?;
                let violation = scene
                    .pass(place)
                    .and_then(|()| scene.strike(trouble))
                    .and_then(|()| scene.world.run_to(scene.world.now + 500_000))
                    .err()?;
                Some((seed, place, violation))
            })
        });
        println!("{mutation:?}: {seen:?}");
        assert!(seen.is_some(), "{mutation:?} was not seen");
    }

    #[test]
    fn a_copy_that_runs_after_the_question_is_seen() {
        demand(Mutation::AskedRuns, Trouble::Regret);
    }

    #[test]
    fn a_source_that_goes_on_without_an_answer_is_seen() {
        demand(Mutation::RegretAtOnce, Trouble::Regret);
    }

    #[test]
    fn a_hand_over_of_any_move_is_seen() {
        demand(Mutation::HandUnnamed, Trouble::CancelAndOrder);
    }
}
