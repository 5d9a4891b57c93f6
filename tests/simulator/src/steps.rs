//! For tests in which something goes wrong at each step of a course, and not only by chance.

use std::collections::BTreeSet;
use std::fmt::Debug;

use crate::campaign::design;
use crate::oracle::Violation;
use crate::plan::leader;
use crate::world::World;

/// When three boards have a leader, in microseconds.
const FOUNDED: u64 = 3_000_000;

/// Three boards with two guests that stay apart, and which of them leads.
///
/// # Errors
/// A property that does not hold even so.
///
/// # Panics
/// If they find no leader.
pub fn three_boards(
    seed: u64,
    #[cfg(feature = "mutations")] mutation: Option<cluster_proto::node::Mutation>,
) -> Result<(World, usize), Violation> {
    let (mut cast, _) = design(seed);
    (cast.boards, cast.witness, cast.seatless) = (3, false, false);
    // Every fourth time with journals, behind which all that a board does waits.
    cast.disks = if seed.is_multiple_of(4) { 0b111 } else { 0 };
    (cast.drift_ppm, cast.guests, cast.mixed) = (200, 2, false);
    #[cfg(feature = "mutations")]
    {
        cast.mutation = mutation;
    }
    let mut world = World::new(cast, seed);
    (0..3).for_each(|board| world.boot(board));
    world.run_to(FOUNDED)?;
    let leader = leader(&world).expect("three boards have a leader after three seconds");
    Ok((world, leader))
}

/// Where to strike in a course that is one step further after so many events each time: right after each step, and in the middle of each.
fn places(steps: &[usize]) -> BTreeSet<usize> {
    let middles = steps.windows(2).map(|pair| pair[0].midpoint(pair[1]));
    steps.iter().copied().chain(middles).collect()
}

/// Has `run` strike with each trouble at each place of the course of each seed up to `seeds`; `steps` says after how many events that course is one step further.
///
/// # Panics
/// If a property does not hold in a run, or there are too few of them.
pub fn everywhere<T: Copy + Debug>(
    seeds: u64,
    troubles: &[T],
    steps: impl Fn(u64) -> Vec<usize>,
    run: impl Fn(u64, usize, T) -> Result<(), Violation>,
) {
    let mut runs = 0;
    for seed in 1..=seeds {
        for place in places(&steps(seed)) {
            for trouble in troubles {
                let result = run(seed, place, *trouble);
                assert_eq!(result, Ok(()), "seed {seed}, event {place}: {trouble:?}");
                runs += 1;
            }
        }
    }
    println!("{runs} runs");
    assert!(runs > 100, "{runs} runs");
}
