//! Signs of life: a guest that has hung, or tells that it panics, begins anew; one that is kept from running does not.

use std::thread;
use std::time::Duration;

use system::saw;
use system::{Board, Guest, Machine, Package};

/// A quiet machine needs a second for a bare-metal guest, and some for Debian.
const LIMIT: Duration = Duration::from_secs(120);

fn watched(name: &str, machine: Machine, words: &str) -> Board {
    let guest = Guest::bare_metal("watchdog", 1).with(words);
    Board::boot(name, machine, &Package::of([guest]))
}

/// The device is as the architecture has it.
fn conforms(name: &str, machine: Machine) {
    let mut board = watched(name, machine, "");
    board.expect("[watchdog] PASS watchdog\r\n", LIMIT);
    board.expect("has stopped: it turned itself off", LIMIT);
    board.power_off();
}

#[test]
fn a_watchdog_conforms_on_gicv3() {
    conforms("a_watchdog_conforms_on_gicv3", Machine::virt(1));
}

#[test]
fn a_watchdog_conforms_on_gicv2() {
    conforms("a_watchdog_conforms_on_gicv2", Machine::virt(2).gic(2));
}

#[test]
fn a_watchdog_conforms_on_raspi4b() {
    conforms("a_watchdog_conforms_on_raspi4b", Machine::raspi4b());
}

/// Its end, and its next life, twice.
fn lives_again(name: &str, words: &str, why: &str) {
    let mut board = watched(name, Machine::virt(2), words).tolerate(why);
    for _ in 0..2 {
        board.expect("[watchdog] END", LIMIT);
        board.expect(&format!("guest watchdog was stopped: {why}"), LIMIT);
        board.expect("hearth: guest watchdog starts again", LIMIT);
        board.expect("[watchdog] BOOT", LIMIT);
    }
    assert!(!board.text().contains("] FAIL "));
    board.power_off();
}

#[test]
fn a_guest_that_does_not_refresh_begins_anew() {
    lives_again(
        "a_guest_that_does_not_refresh_begins_anew",
        "end=watchdog",
        "it did not refresh its watchdog in time",
    );
}

#[test]
fn a_guest_that_tells_of_its_panic_begins_anew() {
    lives_again(
        "a_guest_that_tells_of_its_panic_begins_anew",
        "end=panic",
        "it told that it panics",
    );
}

/// Frozen for many times as long as it may be silent, it has all of its time when it goes on.
#[test]
fn a_frozen_guest_is_not_taken_for_dead() {
    const NAME: &str = "a_frozen_guest_is_not_taken_for_dead";
    let mut board = watched(NAME, Machine::virt(1), "refreshes=300");
    board.expect("[watchdog] REFRESHES", LIMIT);
    for _ in 0..2 {
        board.send(&[system::board::ESCAPE, b'f']);
        board.expect("guest watchdog is frozen", LIMIT);
        thread::sleep(Duration::from_secs(1));
        board.send(&[system::board::ESCAPE, b'f']);
        board.expect("guest watchdog goes on", LIMIT);
        thread::sleep(Duration::from_millis(300));
    }
    board.expect("[watchdog] PASS watchdog\r\n", LIMIT);
    board.expect("has stopped: it turned itself off", LIMIT);
    assert!(!board.text().contains("was stopped"));
    board.power_off();
}

/// Debian's own driver and daemon: its kernel panics, does nothing for ever, and is restarted.
#[test]
fn a_debian_that_hangs_begins_anew() {
    const NAME: &str = "a_debian_that_hangs_begins_anew";
    let guest = Guest::debian_web("web").with("hearth.watchdog=4");
    let board = Board::boot(NAME, Machine::virt(1), &Package::of([guest]));
    let mut board = board.tolerate("watchdog").tolerate("Kernel panic");
    board.expect("[web] hearth-guest: web serves", LIMIT);
    board.send(&[system::board::ESCAPE, b'1']);
    board.send(b"echo c >/proc/sysrq-trigger\n");
    board.expect("Kernel panic - not syncing", LIMIT);
    let line = board.expect("guest web was stopped: ", LIMIT);
    assert!(line.contains("watchdog"), "{line}");
    board.expect("hearth-guest: web serves", LIMIT);
    saw!(NAME, "{line}");
    board.power_off();
}
