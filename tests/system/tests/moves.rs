//! Guests that move between places of one board while they run.

use std::time::Duration;

use system::board::ESCAPE;
use system::lab::longest_still;
use system::saw;
use system::{Board, Guest, Lab, Machine, Package};

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
            longest_still(&line)
        })
        .max()
        .unwrap_or_default()
}

/// Moves of one test.
const MOVES: usize = 100;

/// A guest that checks its registers, memory, counters and timers does not notice a move, nor does its neighbour.
fn nobody_notices(name: &str, machine: Machine) {
    let guests = [
        Guest::bare_metal("count", 2)
            .named("mover")
            .memory(64)
            .with("ticks=0 mib=24"),
        Guest::bare_metal("count", 1)
            .named("neighbour")
            .memory(32)
            .with("ticks=0 mib=8"),
    ];
    let mut board = Board::boot(name, machine, &Package::of(guests));
    board.expect_all(&["[mover] COUNT 5", "[neighbour] COUNT 5"], BOOT);
    let free = board.status().free_frames;
    let longest = move_often(&mut board, MOVES);
    for _ in 0..5 {
        board.expect("[mover] COUNT ", MOVE);
        board.expect("[neighbour] COUNT ", MOVE);
    }
    assert!(!board.text().contains("FAIL"), "a guest noticed");
    assert_eq!(board.status().free_frames, free, "memory stays behind");
    saw!(name, "{MOVES} moves, still for at most {longest} us");
    board.power_off();
}

#[test]
fn a_guest_does_not_notice_a_hundred_moves_on_gicv3() {
    let test = "a_guest_does_not_notice_a_hundred_moves_on_gicv3";
    nobody_notices(test, Machine::virt(2));
}

#[test]
fn a_guest_does_not_notice_a_hundred_moves_on_gicv2() {
    let test = "a_guest_does_not_notice_a_hundred_moves_on_gicv2";
    nobody_notices(test, Machine::virt(2).gic(2));
}

#[test]
fn a_guest_does_not_notice_a_hundred_moves_on_one_core() {
    let test = "a_guest_does_not_notice_a_hundred_moves_on_one_core";
    nobody_notices(test, Machine::virt(1));
}

/// Pages that `dirty` has written in a second of its own, the next that it tells of.
fn pages_in_a_second(board: &mut Board) -> u64 {
    let mut pages = || {
        let line = board.expect("DIRTY pages=", MOVE);
        let number = line.split("pages=").nth(1)?;
        number.split(' ').next()?.parse::<u64>().ok()
    };
    let (before, after) = (pages(), pages());
    after.expect("a number") - before.expect("a number")
}

/// A guest that writes faster than it can be copied is slowed down until that is otherwise, and is as fast as before when it has moved.
#[test]
fn a_guest_that_writes_too_fast_is_slowed_and_moves() {
    let test = "a_guest_that_writes_too_fast_is_slowed_and_moves";
    let guest = Guest::bare_metal("dirty", 1)
        .memory(320)
        .with("mib=256 busy_kib=1024 every_ms=1");
    let machine = Machine::virt(2).memory(2048).counted();
    let mut board = Board::boot(test, machine, &Package::of([guest]));
    board.expect("DIRTY ready", BOOT);
    let before = pages_in_a_second(&mut board);
    let longest = move_often(&mut board, 1);
    // The second in which it moved ends before.
    board.expect("DIRTY pages=", MOVE);
    let after = pages_in_a_second(&mut board);
    let said = board.text();
    let slowed: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split("is slowed to ").nth(1))
        .collect();
    saw!(
        test,
        "slowed to {slowed:?}, still for {longest} us; {before} pages in a second before, {after} after"
    );
    assert!(!slowed.is_empty());
    assert!(after * 100 >= before * 97, "it is slower than before");
    board.power_off();
}

/// Values that are written and read back between two moves, and the length of each.
const VALUES: usize = 40;
const VALUE_BYTES: usize = 1000;
/// Moves under a client's load.
const LOADED_MOVES: usize = 20;

/// Debian with a disk and a card: the client's connection is the same from the first move to the last, and the disk is where it was.
#[test]
fn a_guests_clients_stay_connected_while_it_moves() {
    let test = "a_guests_clients_stay_connected_while_it_moves";
    let web = Guest::debian_on("root.ext4", "web", "redis-durable").with("hearth.ip=10.7.0.11/24");
    let lab = Lab::up(test, &Package::of([web.card()]), 1, 2);
    lab.said("board-1", "hearth-guest: redis answers");
    let mut client = lab.client("10.7.0.11:6379");
    for n in 1..=LOADED_MOVES {
        lab.good(&["type", "board-1", r"\x1dm"]);
        loop {
            client.keeps(VALUES, VALUE_BYTES, n);
            let said = lab.good(&["log", "board-1"]);
            assert!(!said.contains("does not move"), "{said}");
            if said.matches("has moved: ").count() == n {
                break;
            }
        }
    }
    client.keeps(VALUES, VALUE_BYTES, 0);
    client.ask(b"DBSIZE\r\n", format!(":{VALUES}\r\n").as_bytes());
    let said = lab.good(&["log", "board-1"]);
    for wrong in ["I/O error", "Kernel panic", "EXT4-fs error"] {
        assert!(!said.contains(wrong), "{wrong} in:\n{said}");
    }
    saw!(
        test,
        "{LOADED_MOVES} moves under load, still for at most {} us",
        longest_still(&said)
    );
}
