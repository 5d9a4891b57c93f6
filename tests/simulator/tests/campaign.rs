//! What every change has to pass: two million steps of faults and healing, and the figures that the cluster promises.

use simulator::campaign::run_seed;
use simulator::figures::{cost, decisions, percentile};
use simulator::stats::Stats;

/// Steps that are enough for a change; `scripts/simulate` does more.
const STEPS: u64 = 2_000_000;

#[test]
fn two_million_steps_hold_every_property() {
    let mut stats = Stats::default();
    let mut seed = 1;
    while stats.steps < STEPS {
        let (run, failure) = run_seed(seed);
        assert!(failure.is_none(), "{failure:#?}");
        stats.add(&run);
        seed += 1;
    }
    println!("{stats:#?}");
    assert_eq!(
        stats.never_seen(),
        Vec::<&str>::new(),
        "what is never seen is not tested"
    );
}

#[test]
fn a_death_is_decided_in_half_a_second_and_a_leaders_freezes_nobody() {
    let found = decisions(200, 7);
    assert!(found.is_ok(), "{found:?}");
    let found = found.unwrap_or_default();
    let all = found.all();
    println!(
        "median {} ms, p99 {} ms, worst {} ms",
        percentile(&all, 50),
        percentile(&all, 99),
        percentile(&all, 100)
    );
    assert!(
        percentile(&all, 99) <= 500.0,
        "p99 {} ms",
        percentile(&all, 99)
    );
    // The formulas of docs/protocol.md, section 6, with links of 1.1 ms at most and one split vote.
    assert!(
        percentile(&found.owners, 100) <= 280.0,
        "an owner's death took {} ms",
        percentile(&found.owners, 100)
    );
    assert!(
        percentile(&found.leaders, 100) <= 420.0,
        "a leader's death took {} ms",
        percentile(&found.leaders, 100)
    );
    assert_eq!(
        found.freezes, 0,
        "guests of others froze when a leader died"
    );
}

#[test]
fn heartbeats_of_eight_boards_stay_below_a_hundred_kilobits() {
    let cost = cost::<8>(8);
    println!("{cost:?}");
    assert!(cost.kbit_s <= 100.0, "{} kbit/s", cost.kbit_s);
}
