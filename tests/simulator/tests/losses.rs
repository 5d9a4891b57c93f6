//! Five voters lose two boards one after another, and for good: the guests go on on the other three.

use cluster_proto::ids::BoardId;
use cluster_proto::ledger::types::Phase;
use simulator::campaign::design;
use simulator::oracle::Violation;
use simulator::plan::leader;
use simulator::world::World;

/// From a loss to every guest running on the boards that are left, in microseconds: the bound of `docs/protocol.md`, section 6, with two split votes,
/// and the longest start of a guest.
const BOUND: u64 = 600_000;

/// Whether all guests run on boards that are on.
fn all_run(world: &World) -> bool {
    let Some(at) = leader(world) else {
        return false;
    };
    let ledger = world.machines[at].node.ledger();
    ledger.guests().count() == 3
        && ledger.guests().all(|(id, epoch, guest)| {
            let machine = &world.machines[guest.owner.at()];
            let copy = machine.copies[id.at()];
            guest.phase == Phase::Running
                && machine.on
                && copy.is_some_and(|copy| copy.epoch == epoch && !copy.frozen)
        })
}

fn wait(world: &mut World, seed: u64, what: &str) -> Result<(), Violation> {
    let start = world.now;
    while !all_run(world) {
        assert!(
            world.now - start <= BOUND,
            "seed {seed}: {what} after {BOUND} us"
        );
        world.run_to(world.now + 1_000)?;
    }
    Ok(())
}

fn lose_two(seed: u64) -> Result<(), Violation> {
    let (mut cast, _) = design(seed);
    (cast.boards, cast.witness, cast.seatless) = (5, false, false);
    (cast.disks, cast.drift_ppm, cast.guests) = (0, 200, 3);
    let mut world = World::new(cast, seed);
    (0..5).for_each(|board| world.boot(board));
    world.run_to(3_000_000)?;
    let leads = leader(&world);
    let first = leads
        .filter(|_| seed.is_multiple_of(2))
        .unwrap_or(seed as usize % 5);
    world.crash(first);
    wait(&mut world, seed, "not whole after the first loss")?;
    let leads = leader(&world);
    let second = leads
        .filter(|_| seed.is_multiple_of(3))
        .unwrap_or((first + 1) % 5);
    world.crash(second);
    wait(&mut world, seed, "not whole after the second loss")?;
    world.run_to(world.now + 5_000_000)?;
    assert!(all_run(&world), "seed {seed}: it did not stay whole");
    let node = &world.machines[leader(&world).unwrap_or(0)].node;
    assert_eq!(node.ledger().tenure(BoardId(first as u8)).0, 0);
    assert_eq!(node.ledger().tenure(BoardId(second as u8)).0, 0);
    Ok(())
}

#[test]
fn three_of_five_carry_on_after_two_losses() {
    for seed in 1..=100 {
        assert_eq!(lose_two(seed), Ok(()), "seed {seed}");
    }
}
