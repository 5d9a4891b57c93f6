//! Guests that move between the boards of a cluster while they run.

use std::time::Instant;

use system::cluster::{BOARDS, next};
use system::lab::longest_still;
use system::{Cluster, Guest, Package, saw};

/// How long a move may take, on a machine that has much else to do, seconds.
const MOVE: &str = "120";
/// Moves of a guest that watches itself.
const MOVES: usize = 100;

/// Moves a guest to the next board.
#[track_caller]
fn moves_on(cluster: &Cluster, guest: &str, from: &'static str) -> &'static str {
    let to = next(from);
    let said = cluster.good(&["migrate", guest, "--to", to, "--follow", "--patience", MOVE]);
    let moved = format!("{guest} has moved from {from} to {to}");
    assert!(said.contains(&moved), "{said}");
    to
}

/// A guest that checks its registers, memory, counters and timers does not notice that it goes from board to board. Each of its ticks is heard once, on one of them.
fn nobody_notices(test: &str, gic: &str) {
    let guest = Guest::bare_metal("count", 2).named("mover");
    let package = Package::of([guest.with("ticks=0 mib=8 kib=32")]);
    let cluster = Cluster::up(
        test,
        package,
        "mover",
        &["--smp=2", "--memory=512", "--gic", gic],
    );
    let mut at = cluster.owner("mover");
    cluster.said(at, "[mover] COUNT 5");
    let begun = Instant::now();
    for _ in 0..MOVES {
        at = moves_on(&cluster, "mover", at);
    }
    let took = begun.elapsed();
    let logs = BOARDS.map(|board| cluster.log(board)).concat();
    assert!(!logs.contains("FAIL"), "a guest noticed");
    let ticks = logs
        .lines()
        .filter_map(|line| line.split("COUNT ").nth(1)?.trim().parse().ok());
    let mut ticks: Vec<u64> = ticks.collect();
    ticks.sort_unstable();
    saw!(
        test,
        "{MOVES} moves in {} ms, still for at most {} us, {} ticks",
        took.as_millis(),
        longest_still(&logs),
        ticks.len()
    );
    assert!(
        ticks.iter().copied().eq(1..=ticks.len() as u64),
        "{ticks:?}"
    );
}

#[test]
fn a_guest_does_not_notice_a_hundred_moves_between_boards_on_gicv3() {
    nobody_notices("migrate_gicv3", "3");
}

#[test]
fn a_guest_does_not_notice_a_hundred_moves_between_boards_on_gicv2() {
    nobody_notices("migrate_gicv2", "2");
}
