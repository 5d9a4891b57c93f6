//! What must hold for long: restarts, storms of calls, timers under load, fair shares.

use std::time::Duration;

use system::{Board, Guest, Machine, Package};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn fifty_restarts_lose_no_page() {
    const NAME: &str = "fifty_restarts_lose_no_page";
    const RESTARTS: u32 = 50;
    let guest = Guest::bare_metal("reboot", 4);
    let mut board = Board::boot(NAME, Machine::virt(2), &Package::of([guest]));
    board.expect("[reboot] BOOT", LIMIT);
    let before = board.status();
    while board.status().guest("reboot").starts < before.guest("reboot").starts + RESTARTS {
        board.expect("[reboot] BOOT", LIMIT);
    }
    // Right after a start nothing is under way: the heap holds what lasts.
    board.expect("[reboot] BOOT", LIMIT);
    let after = board.status();
    eprintln!(
        "{NAME}: {} and {} frames free",
        before.free_frames, after.free_frames
    );
    assert_eq!(before.free_frames, after.free_frames);
    board.power_off();
}

/// Cross-calls between eight vCPUs, for so many seconds of the board's time.
fn storm(name: &str, machine: Machine, seconds: u64) {
    let guest = Guest::bare_metal("storm", 8).with(&format!("secs={seconds}"));
    let limit = LIMIT + Duration::from_secs(10 * seconds);
    let mut board = Board::boot(name, machine, &Package::of([guest])).allow(limit);
    let verdict = board.expect("[storm] PASS storm", limit);
    eprintln!("{name}: {verdict}");
    board.power_off();
}

#[test]
fn a_minute_of_storm_has_no_stall() {
    storm("a_minute_of_storm_has_no_stall", Machine::virt(2), 60);
}

#[test]
fn a_storm_on_gicv2_has_no_stall() {
    storm("a_storm_on_gicv2_has_no_stall", Machine::virt(2).gic(2), 20);
}

#[test]
fn a_storm_on_raspi4b_has_no_stall() {
    storm("a_storm_on_raspi4b_has_no_stall", Machine::raspi4b(), 10);
}

#[test]
fn a_storm_of_debian_s_own_calls_has_no_stall() {
    const NAME: &str = "a_storm_of_debian_s_own_calls_has_no_stall";
    let guest = Guest::debian("web", 8, "crosscall").with("hearth.seconds=10");
    let mut board = Board::boot(NAME, Machine::virt(2), &Package::of([guest]));
    board.expect("init reached, 8 CPUs online", LIMIT);
    board.expect("hearth-guest: crosscall ended", LIMIT);
    board.expect("hearth: guest web has stopped: it turned itself off", LIMIT);
    board.power_off();
}
