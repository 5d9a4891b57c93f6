//! Runs: first a phase of faults that looks for what is unsafe, then a healed world that must become whole.

use cluster_proto::ids::{BoardId, GuestId};
use cluster_proto::ledger::types::{Phase, Wanted};
use cluster_proto::placement::{Choice, choose, fits_elsewhere};

use crate::dice::Dice;
use crate::machine::{BOARDS, Machine, Running};
use crate::oracle::Violation;
use crate::plan::{Act, Plan, cast, leader, perform, plan, reform_well, restores};
use crate::stats::Stats;
use crate::world::{Cast, FAIR, World};

/// A healed cluster has this long, in microseconds of simulated time.
pub const HEAL: u64 = 40_000_000;
/// How long the operator waits, once a majority's memory is gone, before reforming.
const OPERATOR: u64 = 3_000_000;
/// How often wholeness is looked for.
const LOOK: u64 = 100_000;

/// A run that failed, shrunk.
#[derive(Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What does not hold.
    pub violation: Violation,
    /// The acts that are needed for it.
    pub plan: Plan,
    /// Its cast.
    pub cast: Cast,
}

/// Everything about a seed.
#[must_use]
pub fn design(seed: u64) -> (Cast, Plan) {
    let mut dice = Dice::new(seed ^ 0x5eed);
    let cast = cast(&mut dice);
    let span = dice.between(4_000_000, 20_000_000);
    let mut plan = plan(&mut dice, &cast, span);
    // Of their own dice: all else of a seed is as it would be without them.
    restores(&mut Dice::new(seed ^ 0xf11e), &cast, &mut plan);
    (cast, plan)
}

/// Runs a plan with a cast. The statistics are those up to its end or its failure.
pub fn run(seed: u64, cast: &Cast, plan: &Plan) -> (Stats, Result<(), Violation>) {
    let mut world = World::new(cast.clone(), seed);
    let result = both_phases(&mut world, plan);
    world.stats.seeds = 1;
    world.stats.simulated_us = world.now;
    (world.stats, result)
}

fn both_phases(world: &mut World, plan: &Plan) -> Result<(), Violation> {
    for board in 0..world.machines.len() {
        world.boot(board);
    }
    for (at, act) in plan {
        world.run_to((*at).max(world.now))?;
        perform(world, act)?;
    }
    heal(world)
}

/// Ends all faults, and waits for the cluster to be whole.
///
/// # Errors
/// The first property that does not hold; wholeness is one.
pub fn heal(world: &mut World) -> Result<(), Violation> {
    world.cut = [[false; BOARDS]; BOARDS];
    world.weather = FAIR;
    (world.start_fails, world.move_fails, world.restore_fails) = (0, 0, 0);
    for board in 0..world.machines.len() {
        world.boot(board);
        world.wake(board);
    }
    let start = world.now;
    let mut orphaned_since = None;
    let mut missing = String::new();
    while world.now - start < HEAL {
        world.run_to(world.now + LOOK)?;
        match whole(world)? {
            None => {
                world.stats.heal_ms_max = world.stats.heal_ms_max.max((world.now - start) / 1_000);
                // It must also stay whole.
                return world.run_to(world.now + 1_000_000);
            }
            Some(what) => missing = what,
        }
        if world.oracle.cannot_agree() && leader(world).is_none() {
            let since = *orphaned_since.get_or_insert(world.now);
            if world.now - since > OPERATOR {
                reform_well(world)?;
                orphaned_since = None;
            }
        } else {
            orphaned_since = None;
        }
    }
    Err(Violation {
        property: "wholeness",
        detail: format!("{} s after the last fault: {missing}", HEAL / 1_000_000),
    })
}

/// What keeps the cluster from being whole, if anything does.
fn whole(world: &mut World) -> Result<Option<String>, Violation> {
    let Some(at) = leader(world) else {
        return Ok(Some("no leader".into()));
    };
    let node = &world.machines[at].node;
    let ledger = node.ledger();
    if ledger.disarmed || ledger.boards().any(|(_, board)| board.disarmed) {
        for board in 0..world.machines.len() {
            let off = cluster_proto::ledger::types::Operation::Disarm {
                board: BoardId(board as u8),
                on: false,
            };
            world.order(at, off)?;
        }
        return Ok(Some("disarmed".into()));
    }
    if !node.is_settled_leader() {
        return Ok(Some("leader is busy".into()));
    }
    for (board, machine) in world.machines.iter().enumerate() {
        let id = BoardId(board as u8);
        if machine.node.era() != node.era() || machine.node.ledger().index != ledger.index {
            return Ok(Some(format!("board {board} is behind")));
        }
        if ledger
            .seats
            .memory(id)
            .is_some_and(|memory| memory != machine.node.memory())
        {
            return Ok(Some(format!("board {board} has no seat")));
        }
        let Some(entry) = ledger.board(id) else {
            continue;
        };
        if !machine.witness
            && (entry.tenure.0 == 0 || entry.incarnation != machine.node.incarnation())
        {
            return Ok(Some(format!("board {board} is out")));
        }
    }
    Ok(guests_whole(world, at))
}

fn guests_whole(world: &World, at: usize) -> Option<String> {
    let ledger = world.machines[at].node.ledger();
    for (id, epoch, guest) in ledger.guests() {
        let place = usize::from(guest.owner.0);
        match (guest.wanted, guest.phase) {
            (Wanted::Stopped, Phase::Unowned) => {}
            (Wanted::Running, Phase::Unowned) => {
                if choose(ledger, id) != Choice::Nowhere {
                    return Some(format!("guest {id} does not run, but could"));
                }
            }
            (Wanted::Running, Phase::Running) => {
                let drained = ledger.board(guest.owner).is_some_and(|board| board.drained);
                if drained && fits_elsewhere(ledger, id, guest.owner) {
                    return Some(format!("guest {id} has not left"));
                }
                if guest.moving.is_some() {
                    return Some(format!("guest {id} is still on its way"));
                }
                let machine = &world.machines[place];
                let copy = machine.copies[id.at()];
                let permit = machine.node.permit(id, machine.clock.local(world.now));
                let live = |copy: Running| !copy.frozen && !copy.stopped && copy.epoch == epoch;
                if !copy.is_some_and(live) || permit.is_none() {
                    return Some(format!("guest {id} runs only on paper"));
                }
            }
            _ => return Some(format!("guest {id} is between places")),
        }
    }
    let stray = |machine: &Machine, guest: usize| {
        let owned = ledger.guest(GuestId(guest as u16)).is_some();
        machine.arrived[guest].is_some()
            || machine.awaited[guest].is_some()
            || (machine.copies[guest].is_some() && !owned)
    };
    let strays = world
        .machines
        .iter()
        .any(|machine| (0..machine.copies.len()).any(|guest| stray(machine, guest)));
    strays.then(|| "a copy of no guest, or one that arrived and is nobody's".into())
}

/// Runs a seed; a failure is shrunk.
///
/// # Errors
/// The failure.
pub fn run_seed(seed: u64) -> (Stats, Option<Failure>) {
    let (cast, plan) = design(seed);
    let (stats, result) = run(seed, &cast, &plan);
    let failure = result
        .err()
        .map(|violation| shrink(seed, cast, plan, violation));
    (stats, failure)
}

/// Leaves acts out as long as the same property fails.
#[must_use]
pub fn shrink(seed: u64, cast: Cast, mut plan: Plan, mut violation: Violation) -> Failure {
    let mut chunk = plan.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < plan.len() {
            let mut shorter = plan.clone();
            shorter.drain(at..(at + chunk).min(plan.len()));
            match run(seed, &cast, &shorter).1 {
                Err(again) if again.property == violation.property => {
                    violation = again;
                    plan = shorter;
                }
                _ => at += chunk,
            }
        }
        chunk /= 2;
    }
    Failure {
        seed,
        violation,
        plan,
        cast,
    }
}

/// The last acts that matter, one a line.
#[must_use]
pub fn trace(plan: &[(u64, Act)]) -> String {
    plan.iter()
        .map(|(at, act)| format!("  {:>9} ms  {act:?}\n", at / 1_000))
        .collect()
}

/// What every board thinks at the end of a run, and what the last leader's ledger says happened.
#[must_use]
pub fn post_mortem(seed: u64, cast: &Cast, plan: &Plan) -> String {
    use std::fmt::Write;
    let mut world = World::new(cast.clone(), seed);
    let result = both_phases(&mut world, plan);
    let mut text = format!("at {} ms: {result:?}\n", world.now / 1_000);
    let _ = writeln!(
        text,
        "  majority lost: {}, cannot agree: {}",
        world.oracle.majority_lost(),
        world.oracle.cannot_agree()
    );
    for (board, machine) in world.machines.iter().enumerate() {
        let node = &machine.node;
        let _ = writeln!(
            text,
            "  board {board} life {} on {} era {}:{:x} term {} {:?} leader {:?} commit {} applied {} tenure {} lease {} seats {:?} copies {:?} node {:?}",
            machine.life,
            machine.on,
            node.era().generation,
            node.era().nonce >> 48,
            node.term(),
            node.role(),
            node.leader().map(|leader| leader.0),
            node.commit(),
            node.ledger().index,
            node.ledger().tenure(BoardId(board as u8)),
            node.lease().holds(machine.clock.local(world.now)),
            node.config()
                .iter()
                .map(|(_, board, memory)| (board.0, memory.0 >> 48))
                .collect::<Vec<_>>(),
            machine
                .copies
                .iter()
                .map(|copy| copy.map(|copy| (copy.epoch.0, copy.frozen)))
                .collect::<Vec<_>>(),
            (0..machine.copies.len())
                .filter_map(|guest| node.copy(GuestId(guest as u16)))
                .collect::<Vec<_>>(),
        );
    }
    if let Some(leader) = world
        .machines
        .iter()
        .find(|machine| machine.node.role() == cluster_proto::wire::message::Role::Leader)
    {
        let mut index = leader.node.commit().next();
        while let Some(entry) = leader.node.entry(index) {
            let _ = writeln!(text, "  waiting {index}: {entry:?}");
            index = index.next();
        }
    }
    if let Some(newest) = world
        .machines
        .iter()
        .max_by_key(|machine| (machine.node.era().generation, machine.node.ledger().index))
    {
        for event in newest.node.ledger().events.iter() {
            let _ = writeln!(
                text,
                "  {:>6} {:8} {:?} board {} guest {:?} epoch {}",
                event.index,
                crate::oracle::name(event.what),
                event.reason,
                event.board,
                event.guest.map(|guest| guest.0),
                event.epoch
            );
        }
    }
    text
}
