//! Each deliberate fault breaks one rule on which a proof rests. The simulator must see every one of them.
#![cfg(feature = "mutations")]

use cluster_proto::ledger::types::Operation;
use cluster_proto::node::Mutation;
use simulator::campaign::{design, run};
use simulator::oracle::Violation;
use simulator::plan::{Act, Plan};

/// Seeds after which a fault that was not seen counts as missed.
const SEEDS: u64 = 6_000;

/// The first violation that a fault leads to, other than a cluster that does not become whole: that alone could be slowness.
fn caught(mutation: Mutation) -> Option<(u64, Violation)> {
    (1..=SEEDS).find_map(|seed| {
        let (mut cast, plan) = design(seed);
        cast.mutation = Some(mutation);
        let violation = run(seed, &cast, &plan).1.err()?;
        (violation.property != "wholeness").then_some((seed, violation))
    })
}

fn demand(mutation: Mutation) {
    match caught(mutation) {
        Some((seed, violation)) => println!(
            "{mutation:?}: seed {seed}: {}: {}",
            violation.property, violation.detail
        ),
        None => panic!("{mutation:?} was not seen in {SEEDS} seeds"),
    }
}

#[test]
fn a_lease_without_drift_is_seen() {
    demand(Mutation::LeaseWithoutDrift);
}

#[test]
fn an_empty_promise_is_seen() {
    demand(Mutation::EmptyPromise);
}

/// Runs directed plans, by seed, with and without a fault.
fn directed(mutation: Mutation, disks: u64, plan: impl Fn(u64) -> Plan) {
    let seen = (1..=400).find_map(|seed| {
        let (mut cast, _) = design(seed);
        (cast.boards, cast.seatless, cast.disks, cast.guests) = (3, false, disks, 2);
        cast.witness = disks != 0;
        let plan = plan(seed);
        assert_eq!(
            run(seed, &cast, &plan).1,
            Ok(()),
            "without the fault nothing is wrong"
        );
        cast.mutation = Some(mutation);
        run(seed, &cast, &plan)
            .1
            .err()
            .filter(|violation| violation.property != "wholeness")
    });
    println!("{mutation:?}: {seen:?}");
    assert!(seen.is_some(), "{mutation:?} was not seen");
}

/// What two voters agree on without the third is lost when one of them forgets it, and then votes for the third.
#[test]
fn an_amnesiac_that_counts_is_seen() {
    directed(Mutation::AmnesiacCounts, 0, |_| {
        vec![
            (3_000_000, Act::Isolate(1)),
            (4_000_000, Act::Order(0, Operation::DisarmAll { on: false })),
            (4_100_000, Act::Order(2, Operation::DisarmAll { on: false })),
            (4_500_000, Act::Crash(2)),
            (4_500_000, Act::Isolate(0)),
            (4_500_000, Act::Cut(1, 2, false)),
            (4_500_000, Act::Cut(2, 1, false)),
            (4_600_000, Act::Boot(2)),
            (8_000_000, Act::Mend),
        ]
    });
}

#[test]
fn a_reform_that_asks_nobody_is_seen() {
    demand(Mutation::ReformUnasked);
}

#[test]
fn a_forgotten_vote_is_seen() {
    demand(Mutation::VoteForgotten);
}

#[test]
fn an_ignored_epoch_is_seen() {
    demand(Mutation::EpochIgnored);
}

#[test]
fn a_fence_at_once_is_seen() {
    demand(Mutation::FenceAtOnce);
}

#[test]
fn a_copy_that_runs_after_the_question_is_seen() {
    demand(Mutation::AskedRuns);
}

#[test]
fn a_source_that_goes_on_without_an_answer_is_seen() {
    demand(Mutation::RegretAtOnce);
}

#[test]
fn replay_protection_by_counters_is_seen() {
    demand(Mutation::CounterOnly);
}

/// A witness with a journal reboots at once, while it alone hears a board that still has its promise.
#[test]
fn missing_quiet_time_is_seen() {
    directed(Mutation::NoQuietTime, 4, |seed| {
        let crash = 4_000_000 + seed * 1_013 % 50_000;
        vec![
            (3_000_000, Act::Cut(1, 0, true)),
            (crash, Act::Crash(2)),
            (crash + 20_000 + seed * 7_001 % 160_000, Act::Boot(2)),
            (5_000_000, Act::Mend),
        ]
    });
}
