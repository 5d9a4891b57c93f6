//! A stopped guest goes on from a file, and at each step of that something goes wrong. Whatever it is: in the end it runs as one copy and is wanted, or it is stopped as
//! it was, and can go on from its file again.

use cluster_proto::ids::{BoardId, GuestId, MoveId};
use cluster_proto::ledger::types::{
    Event, Guest, Happening, Operation, Origin, Phase, Reason, Wanted,
};
use simulator::campaign::heal;
use simulator::oracle::Violation;
use simulator::plan::{Act, leader, perform};
use simulator::steps::{self, three_boards};
use simulator::world::World;

/// The guest that goes on from a file.
const GUEST: GuestId = GuestId(0);
/// The longest that this takes when nothing goes wrong, in microseconds: the file's way, the longest start, and six times the way from a board to a majority and
/// back.
const RESTORE: u64 = 400_000 + 60_000 + 6 * 10_000;
/// How long something that goes wrong stays so.
const TROUBLE: u64 = 2_000_000;
/// A pause that costs no board its lease.
const SHORT: u64 = 100_000;
/// One that does.
const LONG: u64 = 1_500_000;
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
    /// The tool brings no more.
    Silence,
    /// The operator has the guest stopped.
    Stop,
    /// The operator has the owner drained.
    Drain,
}

/// A board by its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Owner,
    Leader,
}
use Who::{Leader, Owner};

/// A restore that was ordered.
struct Scene {
    world: World,
    owner: usize,
    leader: usize,
    /// How often a restore was ordered.
    orders: u64,
}

impl Scene {
    /// Three boards, of which one is to take a guest in that was stopped.
    fn new(seed: u64) -> Result<Self, Violation> {
        let (world, leader) = three_boards(
            seed,
            #[cfg(feature = "mutations")]
            None,
        )?;
        let neighbour = world.machines[leader].node.ledger().guest(GuestId(1));
        // The two guests stay apart.
        let neighbour = neighbour.expect("the manifest has it").owner.at();
        let owner = (neighbour + 1 + seed as usize % 2) % 3;
        let mut scene = Self {
            world,
            owner,
            leader,
            orders: 0,
        };
        scene.stop()?;
        scene.world.run_to(scene.world.now + 1_000_000)?;
        assert_eq!(scene.guest().phase, Phase::Unowned, "seed {seed}");
        scene.restore(Some(owner))?;
        Ok(scene)
    }

    fn restore(&mut self, to: Option<usize>) -> Result<(), Violation> {
        self.orders += 1;
        self.order(Operation::Restore {
            guest: GUEST,
            id: MoveId::of_file(self.orders),
            class: 1,
            to: to.map(|board| BoardId(board as u8)),
        })
    }

    fn stop(&mut self) -> Result<(), Violation> {
        let (guest, wanted) = (GUEST, Wanted::Stopped);
        self.order(Operation::Want { guest, wanted })
    }

    fn order(&mut self, operation: Operation) -> Result<(), Violation> {
        self.world.order(self.leader, operation)
    }

    fn at(&self, who: Who) -> usize {
        match who {
            Owner => self.owner,
            Leader => self.leader,
        }
    }

    /// What whoever leads, or led last, knows of the guest.
    fn guest(&self) -> Guest {
        let at = leader(&self.world).unwrap_or(self.leader);
        let guest = self.world.machines[at].node.ledger().guest(GUEST);
        guest.expect("nobody deletes it").clone()
    }

    /// How far it is, as all boards together show it: this changes at each step.
    fn stage(&self) -> impl PartialEq + use<> {
        let of = |board: usize| {
            let machine = &self.world.machines[board];
            let (node, ledger) = (&machine.node, machine.node.ledger());
            let guest = ledger.guest(GUEST);
            let guest = guest.map(|it| (it.owner, it.phase, it.wanted, it.origin.clone()));
            (
                (guest, ledger.epoch(GUEST), node.log_end()),
                node.copy(GUEST),
                machine.copies[GUEST.at()].map(|copy| copy.epoch),
                machine.awaited[GUEST.at()],
            )
        };
        [0, 1, 2].map(of)
    }

    /// On how many boards it has a copy, or is waited for.
    fn copies(&self) -> usize {
        let machines = self.world.machines.iter();
        let has = |at: usize, machine: &simulator::machine::Machine| {
            machine.copies[at].is_some() || machine.awaited[at].is_some()
        };
        machines.filter(|it| has(GUEST.at(), it)).count()
    }

    /// Whether it runs, is wanted, and has effects as one copy.
    fn runs(&self) -> bool {
        let guest = self.guest();
        let machine = &self.world.machines[guest.owner.at()];
        let permit = machine
            .node
            .permit(GUEST, machine.clock.local(self.world.now));
        let copy = machine.copies[GUEST.at()].filter(|copy| !copy.frozen);
        let live = copy.is_some_and(|copy| permit.is_some_and(|it| it.epoch() == copy.epoch));
        (guest.phase, guest.wanted) == (Phase::Running, Wanted::Running)
            && live
            && self.copies() == 1
    }

    /// Whether it has gone on from the file that was ordered last.
    fn has_run(&self) -> bool {
        let at = leader(&self.world).unwrap_or(self.leader);
        let events = || self.world.machines[at].node.ledger().events.iter();
        let restored = events().filter(|event| event.reason == Reason::Restored);
        restored.last().is_some_and(|restored| {
            let ran = |event: &Event| event.what == Happening::Ran;
            let same = |event: &Event| (event.guest, event.epoch) == (Some(GUEST), restored.epoch);
            events().any(|event| ran(event) && same(event))
        })
    }

    fn is_stopped(&self) -> bool {
        let guest = self.guest();
        (guest.phase, guest.wanted) == (Phase::Unowned, Wanted::Stopped) && self.copies() == 0
    }

    /// Lets so many things happen.
    fn pass(&mut self, events: usize) -> Result<(), Violation> {
        (0..events).try_for_each(|_| self.world.next_event())
    }

    fn strike(&mut self, trouble: Trouble) -> Result<(), Violation> {
        let act = match trouble {
            Trouble::Kill(who) => Act::Crash(self.at(who)),
            Trouble::Reboot(who) => {
                let board = self.at(who);
                self.world.crash(board);
                self.world.run_to(self.world.now + 20_000)?;
                Act::Boot(board)
            }
            Trouble::Isolate(who) => Act::Isolate(self.at(who)),
            Trouble::Pause(who, span) => Act::Pause(self.at(who), span),
            Trouble::Silence => {
                self.world.restore_fails = 1_000_000;
                return Ok(());
            }
            Trouble::Stop => return self.stop(),
            Trouble::Drain => {
                let (board, on) = (BoardId(self.owner as u8), true);
                let downtime = None;
                return self.order(Operation::Drain {
                    board,
                    on,
                    downtime,
                });
            }
        };
        perform(&mut self.world, &act)
    }

    /// Whether the restore may come to nothing by it.
    fn may_end(&self, trouble: Trouble) -> bool {
        match trouble {
            Trouble::Kill(who) | Trouble::Reboot(who) | Trouble::Isolate(who) => {
                self.at(who) == self.owner
            }
            Trouble::Pause(who, span) => self.at(who) == self.owner && span > SHORT,
            Trouble::Silence | Trouble::Stop | Trouble::Drain => true,
        }
    }

    /// Strikes, waits, ends the trouble, and says what became of the guest.
    fn outcome(&mut self, trouble: Trouble) -> Result<(), Violation> {
        self.strike(trouble)?;
        self.world.run_to(self.world.now + TROUBLE)?;
        heal(&mut self.world)?;
        assert!(
            self.runs() || self.is_stopped(),
            "{trouble:?}: {:?}",
            self.guest()
        );
        if trouble == Trouble::Stop {
            assert!(self.is_stopped(), "it was to be stopped");
        }
        if self.runs() {
            // Only one that went on from its file is wanted, and may be started anew.
            assert!(self.has_run(), "{trouble:?}: nobody wanted it to boot");
            return Ok(());
        }
        // An order that nobody had agreed to yet may be lost with its leader.
        let was_agreed = self.guest().origin != Origin::Fresh {};
        assert!(
            self.may_end(trouble) || !was_agreed,
            "{trouble:?}: it was lost for {:?}",
            self.guest().reason
        );
        let leads = leader(&self.world).expect("a whole cluster has one");
        self.leader = leads;
        self.restore(None)?;
        self.world.run_to(self.world.now + TROUBLE)?;
        assert!(self.runs(), "{trouble:?}: it does not go on the next time");
        Ok(())
    }
}

fn scene(seed: u64) -> Scene {
    Scene::new(seed).unwrap_or_else(|violation| panic!("seed {seed}: {violation:?}"))
}

/// After how many events it is one step further, each time, until the guest runs.
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
        if scene.runs() {
            break;
        }
        let took = scene.world.now - begun;
        assert!(
            took <= RESTORE,
            "seed {seed}: {took} us, and it does not run"
        );
    }
    assert_eq!(scene.guest().owner.at(), scene.owner, "seed {seed}");
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
fn a_guest_goes_on_from_its_file_soon() {
    for seed in 1..=100 {
        assert!(steps(seed).len() > 5, "seed {seed}");
    }
}

#[test]
fn a_loss_at_any_step_leaves_one_copy_or_none() {
    let lost = [Owner, Leader];
    everywhere(&[lost.map(Trouble::Kill), lost.map(Trouble::Reboot)].concat());
}

#[test]
fn a_board_cut_off_or_asleep_at_any_step_leaves_one_copy_or_none() {
    let pauses = [SHORT, LONG].map(|span| [Owner, Leader].map(|who| Trouble::Pause(who, span)));
    everywhere(
        &[
            pauses.concat(),
            [Owner, Leader].map(Trouble::Isolate).into(),
        ]
        .concat(),
    );
}

#[test]
fn another_word_at_any_step_leaves_one_copy_or_none() {
    everywhere(&[Trouble::Silence, Trouble::Stop, Trouble::Drain]);
}
