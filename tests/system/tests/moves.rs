//! Guests that move between places of one board while they run.

use std::time::Duration;

use system::board::ESCAPE;
use system::saw;
use system::{Board, Guest, Machine, Package};

/// From power-on to a guest's first words.
const BOOT: Duration = Duration::from_secs(120);
/// A move, on a machine that has much else to do.
const MOVE: Duration = Duration::from_secs(60);

/// Lets the guest in focus move so often, and says how long it was still at the longest, microseconds.
fn move_often(board: &mut Board, times: usize) -> u64 {
    (0..times)
        .map(|_| {
            board.send(&[ESCAPE, b'm']);
            let line = board.expect("has moved: ", MOVE);
            let still = line
                .split(" us still")
                .next()
                .and_then(|it| it.split(' ').next_back());
            still
                .and_then(|it| it.parse().ok())
                .expect("how long it was still")
        })
        .max()
        .unwrap_or_default()
}

/// A guest that checks its registers, memory, counters and timers does not notice a move.
fn a_guest_does_not_notice(name: &str, machine: Machine) {
    let guest = Guest::bare_metal("count", 2).with("ticks=0 mib=16");
    let mut board = Board::boot(name, machine, &Package::of([guest]));
    board.expect("COUNT 5", BOOT);
    let longest = move_often(&mut board, 100);
    for _ in 0..5 {
        board.expect("COUNT ", MOVE);
    }
    assert!(!board.text().contains("FAIL"), "the guest noticed");
    saw!(name, "100 moves, still for at most {longest} us");
    board.power_off();
}

#[test]
fn a_guest_does_not_notice_a_hundred_moves() {
    a_guest_does_not_notice("a_guest_does_not_notice_a_hundred_moves", Machine::virt(2));
}
