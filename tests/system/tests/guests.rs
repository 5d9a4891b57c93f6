//! Guests that are frozen, resumed, destroyed and made anew while the board and its other guests run on.

use std::thread;
use std::time::Duration;

use system::board::ESCAPE;
use system::saw;
use system::{Board, Guest, Machine, Package};

/// From power-on to a guest's shell.
const BOOT: Duration = Duration::from_secs(180);
/// For something that happens at once on a quiet machine.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a frozen guest is watched.
const WATCH: Duration = Duration::from_secs(4);

fn order(board: &mut Board, letter: u8) {
    board.send(&[ESCAPE, letter]);
}

/// The number in a line "[web] tick N".
fn tick(line: &str) -> u64 {
    let number = line.split("tick ").nth(1).expect("a tick");
    number
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .expect("its number")
}

fn frozen_and_resumed(name: &str, cores: u8) {
    let guests = [
        Guest::debian("web", 2, "count"),
        Guest::debian("db", 1, "count"),
    ];
    let mut board = Board::boot(name, Machine::virt(cores), &Package::of(guests));
    board.expect_all(&["[web] tick 2", "[db] tick 2"], BOOT);
    order(&mut board, b'f');
    board.expect("hearth: guest web is frozen", ANSWER);
    let status = board.status();
    assert!(!status.guest("web").running, "{status:?}");
    let before = board.text().len();
    thread::sleep(WATCH);
    board.expect("[db] tick ", ANSWER);
    board.expect("[db] tick ", ANSWER);
    let said = &board.text()[before..];
    assert!(!said.contains("[web]"), "a frozen guest speaks: {said}");
    let last = board
        .text()
        .lines()
        .filter(|line| line.contains("[web] tick "))
        .map(tick)
        .next_back();
    order(&mut board, b'f');
    board.expect("hearth: guest web goes on", ANSWER);
    let next = tick(&board.expect("[web] tick ", ANSWER));
    saw!(name, "frozen at tick {last:?}, goes on with {next}");
    assert_eq!(
        Some(next),
        last.map(|last| last + 1),
        "nothing was lost or done twice"
    );
    for _ in 0..2 {
        board.expect("[web] tick ", ANSWER);
    }
    assert!(board.status().guest("web").running);
    board.power_off();
}

#[test]
fn a_frozen_guest_stands_still_and_goes_on() {
    frozen_and_resumed("a_frozen_guest_stands_still_and_goes_on", 2);
}

#[test]
fn a_frozen_guest_stands_still_and_goes_on_1_core() {
    frozen_and_resumed("a_frozen_guest_stands_still_and_goes_on_1_core", 1);
}

/// A guest with all that one can have is made anew, running, frozen and stopped; the board has as much memory as before, and the other guest does not notice.
fn made_anew(name: &str, machine: Machine) {
    let guests = [
        Guest::debian("web", 2, "count").card(),
        Guest::debian("db", 2, "count").card(),
    ];
    let mut board = Board::boot(name, machine, &Package::of(guests));
    board.expect_all(&["[web] tick 1", "[db] tick 1"], BOOT);
    let free = board.status().free_frames;
    for round in 0..4 {
        if round == 1 {
            order(&mut board, b'f');
            board.expect("hearth: guest web is frozen", ANSWER);
        }
        order(&mut board, b'r');
        board.expect("hearth: guest web is destroyed and made anew", ANSWER);
        board.expect("hearth: guest web starts: 2 vCPUs", ANSWER);
        // One is also made anew before it has come far.
        if round != 2 {
            board.expect("[web] tick 1", BOOT);
        }
        let status = board.status();
        assert_eq!(status.free_frames, free, "round {round}");
        assert!(status.guest("web").running && status.guest("web").starts == 1);
    }
    let ticks: Vec<u64> = board
        .text()
        .lines()
        .filter(|line| line.contains("[db] tick "))
        .map(tick)
        .collect();
    assert!(
        ticks.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{ticks:?}"
    );
    board.expect("[db] tick ", ANSWER);
    saw!(
        name,
        "{free} frames free each time, the other came to tick {:?}",
        ticks.last()
    );
    board.power_off();
}

#[test]
fn a_guest_is_made_anew_again_and_again() {
    made_anew("a_guest_is_made_anew_again_and_again", Machine::virt(2));
}

#[test]
fn a_guest_is_made_anew_on_gicv2_1_core() {
    made_anew(
        "a_guest_is_made_anew_on_gicv2_1_core",
        Machine::virt(1).gic(2),
    );
}
