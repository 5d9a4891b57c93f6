//! A cable that loses some of what a board sends, to everybody at once: nobody takes the board for dead, and no guest is started anew.

use simulator::dice::Dice;
use simulator::oracle::Violation;
use simulator::plan::leader;
use simulator::steps::three_boards;
use simulator::world::World;

/// Between two heartbeats, microseconds.
const HEARTBEAT: u64 = cluster_proto::limits::HEARTBEAT.0;
/// When all guests run, microseconds.
const SETTLED: u64 = 5_000_000;
/// For how long frames are lost, microseconds: an hour.
const LOSES: u64 = 3_600_000_000;

/// The term, and the epoch of each guest.
fn history(world: &World) -> (u64, Vec<u64>) {
    let node = &world.machines[leader(world).expect("a leader")].node;
    let epochs = node.ledger().guests().map(|(_, epoch, _)| epoch.0);
    (node.term().0, epochs.collect())
}

/// Each board's cable is dead for one heartbeat in so many, by chance.
fn loses(one_in: u64, seed: u64) -> Result<(), Violation> {
    let (mut world, _) = three_boards(
        seed,
        #[cfg(feature = "mutations")]
        None,
    )?;
    world.run_to(SETTLED)?;
    let before = history(&world);
    let mut dice = Dice::new(seed);
    while world.now < SETTLED + LOSES {
        for board in 0..3 {
            let lost = dice.below(one_in) == 0;
            world.cut[board].fill(lost);
        }
        world.run_to(world.now + HEARTBEAT)?;
    }
    assert_eq!(history(&world), before, "one in {one_in}, seed {seed}");
    Ok(())
}

#[test]
fn one_lost_heartbeat_in_twenty_costs_nobody_anything_in_an_hour() {
    for seed in 1..=3 {
        let lost = loses(20, seed);
        assert!(lost.is_ok(), "{lost:?}");
    }
}
