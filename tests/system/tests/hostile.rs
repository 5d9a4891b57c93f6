//! A guest that attacks its board, beside one that notices every disturbance.

use std::time::{Duration, Instant};

use system::saw;
use system::{Board, Guest, Machine, Package};

/// A quiet machine does a million acts in about a minute.
const ATTACK: Duration = Duration::from_secs(900);
/// The neighbour's tick is 100 ms of the board's time, which is the host's as long as instructions are not counted.
const TICK: Duration = Duration::from_millis(100);
/// Wall time between two of the neighbour's ticks that fails the test: it is far more than a loaded machine's own stalls.
const GAP: Duration = Duration::from_secs(10);
/// Ticks that the neighbour must make after the attack.
const AFTER: usize = 20;
/// Ticks that may be late or on their way when the neighbour's are compared with the clock.
const SLACK: u64 = 20;

/// The number of the neighbour's last tick.
fn ticks(board: &Board) -> u64 {
    board
        .text()
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("[count] COUNT ")?.trim().parse().ok())
        .unwrap_or(0)
}

fn survives(name: &str, machine: Machine, acts: u64, seed: u64) {
    let attacker = Guest::bare_metal("attack", 3).with(&format!("count={acts} seed={seed}"));
    let neighbour = Guest::bare_metal("count", 2);
    let package = Package::of([attacker, neighbour]);
    let mut board = Board::boot(name, machine, &package).allow(ATTACK);
    board.expect("[count] COUNT 1\r", GAP);
    let (start, before) = (Instant::now(), ticks(&board));
    let mut worst = Duration::ZERO;
    let verdict = loop {
        let since = Instant::now();
        let (which, line) = board.expect_any(&["[count] COUNT ", "[attack] PASS attack "], GAP);
        worst = worst.max(since.elapsed());
        if which == 1 {
            break line;
        }
    };
    board.expect(
        "hearth: guest attack has stopped: it turned itself off",
        GAP,
    );
    let due = (start.elapsed().as_millis() / TICK.as_millis()) as u64;
    let made = ticks(&board) - before;
    assert!(made + SLACK >= due, "{made} of {due} ticks");
    for _ in 0..AFTER {
        board.expect("[count] COUNT ", GAP);
    }
    let classes = board.text().matches("[attack] CLASS ").count();
    saw!(name, "{verdict}");
    saw!(
        name,
        "{classes} classes; the neighbour ticked {made} of {due} times, at most {worst:?} apart"
    );
    board.power_off();
}

#[test]
fn a_million_attacks_disturb_nobody_on_gicv3() {
    survives(
        "a_million_attacks_disturb_nobody_on_gicv3",
        Machine::virt(2),
        1_000_000,
        1,
    );
}

#[test]
fn a_million_attacks_disturb_nobody_on_gicv2() {
    survives(
        "a_million_attacks_disturb_nobody_on_gicv2",
        Machine::virt(2).gic(2),
        1_000_000,
        2,
    );
}

#[test]
fn attacks_disturb_nobody_on_raspi4b() {
    survives(
        "attacks_disturb_nobody_on_raspi4b",
        Machine::raspi4b(),
        200_000,
        3,
    );
}

#[test]
fn attacks_with_newer_features_disturb_nobody() {
    survives(
        "attacks_with_newer_features_disturb_nobody",
        Machine::virt(2).cpu("max"),
        200_000,
        4,
    );
}

#[test]
fn attacks_on_a_single_core_disturb_nobody() {
    survives(
        "attacks_on_a_single_core_disturb_nobody",
        Machine::virt(1).cpu("cortex-a76"),
        200_000,
        5,
    );
}
