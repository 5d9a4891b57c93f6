//! Each deliberate fault breaks one rule on which a proof rests. The simulator must see every one of them.
#![cfg(feature = "mutations")]

use cluster_proto::node::Mutation;
use simulator::campaign::{design, run};
use simulator::oracle::Violation;

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
        Some((seed, violation)) => println!("{mutation:?}: seed {seed}: {}: {}", violation.property, violation.detail),
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

#[test]
fn an_amnesiac_that_counts_is_seen() {
    demand(Mutation::AmnesiacCounts);
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
fn replay_protection_by_counters_is_seen() {
    demand(Mutation::CounterOnly);
}

#[test]
fn a_boot_without_wait_is_seen() {
    demand(Mutation::BootWithoutWait);
}
