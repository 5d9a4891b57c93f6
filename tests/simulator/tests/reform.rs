//! Three mistakes of an operator that long runs found, each of which once made two histories: the boards refuse them now.

use simulator::campaign::{design, run};
use simulator::plan::{Act, Plan};
use simulator::stats::Stats;

/// Runs a plan with three boards under many seeds. Returns what was counted.
fn all_hold(disks: u64, plan: impl Fn(u64) -> Plan) -> Stats {
    let mut stats = Stats::default();
    for seed in 1..=60 {
        let (mut cast, _) = design(seed);
        (cast.boards, cast.witness, cast.seatless) = (3, false, false);
        (cast.disks, cast.guests) = (disks, 2);
        let (seen, result) = run(seed, &cast, &plan(seed));
        assert_eq!(result, Ok(()), "seed {seed}");
        stats.add(&seen);
    }
    stats
}

fn seen(stats: &Stats, what: &str) -> u64 {
    stats.seen.get(what).copied().unwrap_or(0)
}

#[test]
fn a_board_that_is_cut_off_is_not_reformed_around_while_the_others_live() {
    let stats = all_hold(0, |seed| {
        let at = 4_000_000 + seed * 10_007;
        vec![
            (at, Act::Isolate(2)),
            (at + 700_000, Act::Reform(2)),
            (at + 2_500_000, Act::Mend),
        ]
    });
    assert_eq!(seen(&stats, "reform_refused"), 60);
    assert_eq!(seen(&stats, "reformed"), 0);
}

#[test]
fn nobody_is_reformed_around_while_the_first_ones_disk_may_remember() {
    let stats = all_hold(2, |seed| {
        let at = 4_000_000 + seed * 10_007;
        vec![
            (at, Act::Blackout),
            (at + 500_000, Act::Boot(1)),
            (at + 1_500_000, Act::Reform(1)),
            (at + 2_500_000, Act::Crash(1)),
            (at + 2_600_000, Act::Boot(0)),
            (at + 2_600_000, Act::Boot(2)),
            (at + 3_500_000, Act::Reform(0)),
            (at + 5_000_000, Act::BootAll),
        ]
    });
    assert_eq!(
        seen(&stats, "reformed"),
        60,
        "around the board that remembers"
    );
    assert_eq!(
        seen(&stats, "reform_refused"),
        60,
        "around the one that does not"
    );
}

#[test]
fn a_board_that_sleeps_is_not_passed_over() {
    let stats = all_hold(0, |seed| {
        let at = 4_000_000 + seed * 10_007;
        vec![
            (at, Act::Crash(0)),
            (at + 300_000, Act::Boot(0)),
            (at + 320_000, Act::Pause(1, 2_500_000)),
            (at + 320_000, Act::Isolate(1)),
            (at + 1_300_000, Act::Reform(0)),
            (at + 1_300_000, Act::Reform(2)),
            (at + 3_000_000, Act::Mend),
        ]
    });
    assert_eq!(seen(&stats, "reformed"), 0);
    assert!(seen(&stats, "reform_refused") >= 60);
}
