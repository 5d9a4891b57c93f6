//! The model checker finds nothing where there is nothing, and every deliberate fault where there is one.

use simulator::model::Scope;
use stateright::{Checker, Model};

#[test]
fn three_boards_and_two_with_a_witness_are_safe() {
    for witness in [false, true] {
        let checker = Scope::whole(witness, 4).checker().spawn_dfs().join();
        checker.assert_no_discovery("safe");
        checker.assert_any_discovery("a guest runs");
        assert!(
            checker.unique_state_count() > 10_000,
            "{} states",
            checker.unique_state_count()
        );
    }
}

#[cfg(feature = "mutations")]
mod mutations {
    use super::*;
    use cluster_proto::node::Mutation;
    use simulator::model::Fault::{self, *};

    /// Explores some faults to a depth: not safe with the deliberate fault, and the same steps safe without it.
    fn demand(mutation: Mutation, mut scope: Scope) {
        scope.mutation = Some(mutation);
        let checker = scope.clone().checker().spawn_dfs().join();
        let discovery = checker.discovery("safe");
        assert!(
            discovery.is_some(),
            "{mutation:?} was not seen in {} states",
            checker.unique_state_count()
        );
        let actions = discovery.map(stateright::Path::into_actions);
        println!(
            "{mutation:?}: {actions:?} after {} states",
            checker.unique_state_count()
        );
        scope.mutation = Option::None;
        let mut state = scope.init_states().remove(0);
        for action in actions.into_iter().flatten() {
            if let Some(next) = scope.next_state(&state, action) {
                state = next;
            }
        }
        let safe = scope
            .properties()
            .iter()
            .all(|property| property.name != "safe" || (property.condition)(&scope, &state));
        assert!(safe, "unsafe without {mutation:?}: {state:?}");
    }

    fn scope(witness: bool, step_ms: u64, depth: u8, faults: &[Fault]) -> Scope {
        Scope {
            step_ms,
            faults: faults.to_vec(),
            ..Scope::whole(witness, depth)
        }
    }

    const APART: &[Fault] = &[None, Isolate(0), Isolate(1), Isolate(2)];

    #[test]
    fn a_lease_without_drift_is_seen() {
        demand(Mutation::LeaseWithoutDrift, scope(false, 100, 7, APART));
    }

    #[test]
    fn an_empty_promise_is_seen() {
        demand(Mutation::EmptyPromise, scope(false, 100, 7, APART));
    }

    #[test]
    fn a_fence_at_once_is_seen() {
        demand(Mutation::FenceAtOnce, scope(false, 100, 7, APART));
    }

    #[test]
    fn an_ignored_epoch_is_seen() {
        demand(Mutation::EpochIgnored, scope(false, 300, 7, APART));
    }

    #[test]
    fn an_amnesiac_that_counts_is_seen() {
        let faults = [
            Isolate(1),
            Order(0, 1),
            Order(2, 1),
            Crash(2),
            BootWithout(2, 0),
            Isolate(0),
        ];
        demand(Mutation::AmnesiacCounts, scope(false, 300, 7, &faults));
    }

    #[test]
    fn a_forgotten_vote_is_seen() {
        // The leader dies, and the others stand at the same time; from there on message by message.
        let crossing = scope(false, 100, 11, &[Only(1), Only(2), Deliver]);
        demand(
            Mutation::VoteForgotten,
            Scope {
                before: vec![Crash(0), Only(1), Only(2)],
                ..crossing
            },
        );
    }

    #[test]
    fn replay_protection_by_counters_is_seen() {
        demand(
            Mutation::CounterOnly,
            scope(false, 100, 6, &[None, Crash(2), Boot(2), Again(2)]),
        );
    }

    #[test]
    fn a_reform_that_asks_nobody_is_seen() {
        let faults = [Isolate(2), Reform(2, 2)];
        demand(Mutation::ReformUnasked, scope(false, 300, 6, &faults));
    }

    #[test]
    fn missing_quiet_time_is_seen() {
        let faults = [
            None,
            Cut(1, 0),
            Reboot(2, 20),
            Reboot(2, 60),
            Reboot(2, 120),
            Reboot(2, 160),
        ];
        demand(Mutation::NoQuietTime, scope(true, 200, 6, &faults));
    }
}
