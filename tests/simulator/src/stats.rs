//! What a run counts: steps, and how often each rare thing happened.

use std::collections::BTreeMap;

/// Everything that a long run must have seen; one that stays at zero means that the simulator does not test what it says.
pub const RARE: &[&str] = &[
    "board_joined",
    "drained_live",
    "entries_replaced",
    "era_left",
    "fence_held",
    "fenced",
    "former_life_replayed",
    "forged",
    "founded",
    "frozen",
    "guest_crashed",
    "guest_displaced",
    "guest_drained",
    "guest_kept",
    "guest_moved",
    "guest_restored",
    "hand_over",
    "leader_killed",
    "leader_stepped_down",
    "log_full",
    "long_pause",
    "majority_lost",
    "move_abandoned",
    "move_given_up",
    "move_regretted",
    "one_way_cut",
    "order_done",
    "order_refused",
    "recalled",
    "reform_ordered",
    "reform_refused",
    "reformed",
    "replay_refused",
    "restore_begun",
    "restore_failed",
    "resumed",
    "seat_given",
    "seat_vacated",
    "snapshot_taken",
    "start_failed",
    "tool_turned",
    "torn_record",
    "total_loss",
    "unknown_life",
];

/// Counters of one or more runs.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Calls of a node.
    pub steps: u64,
    /// Seeds.
    pub seeds: u64,
    /// Frames sent.
    pub frames: u64,
    /// Bytes of frames sent.
    pub bytes: u64,
    /// Simulated microseconds.
    pub simulated_us: u64,
    /// How often each rare thing happened.
    pub seen: BTreeMap<&'static str, u64>,
    /// For how long healed clusters took to be whole, in milliseconds: the longest.
    pub heal_ms_max: u64,
}

impl Stats {
    /// It happened.
    pub fn see(&mut self, what: &'static str) {
        self.see_many(what, 1);
    }

    /// It happened so often.
    pub fn see_many(&mut self, what: &'static str, times: u64) {
        if times > 0 {
            *self.seen.entry(what).or_default() += times;
        }
    }

    /// What never happened.
    #[must_use]
    pub fn never_seen(&self) -> Vec<&'static str> {
        RARE.iter()
            .copied()
            .filter(|what| !self.seen.contains_key(what))
            .collect()
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.seeds += other.seeds;
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.simulated_us += other.simulated_us;
        self.heal_ms_max = self.heal_ms_max.max(other.heal_ms_max);
        for (what, times) in &other.seen {
            *self.seen.entry(what).or_default() += times;
        }
    }
}
