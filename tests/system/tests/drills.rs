//! Some of the drills, run and judged as an operator has them; `scripts/drill all` has the others, which take longer.

use std::process::Command;

use system::{paths, saw, slots};

/// Losses that are over within half a minute: of the owner, of the leader, of a link, of one of two boards with a witness; and what an operator does while a guest runs on: moves
/// it, drains its board, gives each board in turn another image, gives it a larger share. And a guest that hangs.
const DRILLS: [&str; 9] = [
    "kill-owner",
    "kill-leader",
    "cut-board",
    "two-and-witness",
    "migrate",
    "drain",
    "rolling-upgrade",
    "scale",
    "hang",
];

#[test]
fn boards_that_are_lost_cost_a_pause_and_nothing_else() {
    const NAME: &str = "drills";
    // Every core: what else runs here would be taken for a stall.
    let _slots = slots::take(usize::MAX);
    let output = paths::results().join(NAME);
    let run = Command::new(paths::project().join("scripts/drill"))
        .args(DRILLS)
        .args(["--seed", "7", "--output"])
        .arg(&output)
        .output()
        .expect("scripts/drill started");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let passed = said
        .lines()
        .filter(|line| line.starts_with("passed"))
        .count();
    assert_eq!(passed, DRILLS.len(), "{said}");
    saw!(NAME, "{}", said.trim_end());
}
