//! What must hold for long: restarts, storms of calls, timers under load, fair shares.

use std::time::Duration;

use system::saw;
use system::{Board, Guest, Machine, Package};

const LIMIT: Duration = Duration::from_secs(240);

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
    saw!(
        NAME,
        "{} and {} frames free",
        before.free_frames,
        after.free_frames
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
    saw!(name, "{verdict}");
    board.power_off();
}

#[test]
fn a_minute_of_storm_has_no_stall() {
    storm("a_minute_of_storm_has_no_stall", Machine::virt(2), 60);
}

#[test]
fn a_storm_on_gicv2_has_no_stall() {
    storm("a_storm_on_gicv2_has_no_stall", Machine::virt(2).gic(2), 10);
}

#[test]
fn a_storm_on_raspi4b_has_no_stall() {
    storm("a_storm_on_raspi4b_has_no_stall", Machine::raspi4b(), 5);
}

#[test]
fn a_storm_of_debian_s_own_calls_has_no_stall() {
    const NAME: &str = "a_storm_of_debian_s_own_calls_has_no_stall";
    let guest = Guest::debian("web", 8, "crosscall").with("hearth.seconds=5");
    let mut board = Board::boot(NAME, Machine::virt(2), &Package::of([guest]));
    board.expect("init reached, 8 CPUs online", LIMIT);
    board.expect("hearth-guest: crosscall ended", LIMIT);
    board.expect("hearth: guest web has stopped: it turned itself off", LIMIT);
    board.power_off();
}

/// Timers of parked vCPUs beside a guest that keeps every core busy. The machine is counted, so the lateness is the board's alone.
fn timers(name: &str, machine: Machine) {
    /// The lead of one vCPU over another is 2.5 ms: so late may be who has run as much as the others. Twice that, for two timers at once.
    const LATE_US: u64 = 10_000;
    let timers = Guest::bare_metal("timers", 4).with(&format!("rounds=100 max_us={LATE_US}"));
    let busy = Guest::bare_metal("spin", 4);
    let mut board = Board::boot(name, machine.counted(), &Package::of([timers, busy]));
    let verdict = board.expect("[timers] PASS timers", LIMIT);
    for line in board.text().lines().filter(|line| line.contains("TIMERS")) {
        saw!(name, "{}", line.trim());
    }
    saw!(name, "{verdict}");
    board.power_off();
}

#[test]
fn parked_timers_fire_while_every_core_is_busy() {
    timers(
        "parked_timers_fire_while_every_core_is_busy",
        Machine::virt(2),
    );
}

#[test]
fn parked_timers_fire_while_every_core_is_busy_on_gicv2() {
    timers(
        "parked_timers_fire_while_every_core_is_busy_on_gicv2",
        Machine::virt(2).gic(2),
    );
}

/// Each vCPU's count at a second of the board's time.
fn counts(board: &mut Board, vcpus: usize) -> Vec<u64> {
    (0..vcpus)
        .map(|vcpu| {
            let line = board.expect(&format!("[spin] SPIN {vcpu} "), LIMIT);
            line.rsplit(' ')
                .next()
                .and_then(|count| count.parse().ok())
                .expect("a count")
        })
        .collect()
}

#[test]
fn four_spinning_vcpus_share_two_cores_fairly() {
    const NAME: &str = "four_spinning_vcpus_share_two_cores_fairly";
    const SECONDS: usize = 10;
    const VCPUS: usize = 4;
    let guest = Guest::bare_metal("spin", VCPUS as u8).with(&format!("secs={}", SECONDS + 1));
    let mut board = Board::boot(NAME, Machine::virt(2).counted(), &Package::of([guest]));
    // The first second has the start in it.
    let start = counts(&mut board, VCPUS);
    for _ in 1..SECONDS {
        counts(&mut board, VCPUS);
    }
    let end = counts(&mut board, VCPUS);
    let work: Vec<u64> = end
        .iter()
        .zip(&start)
        .map(|(end, start)| end - start)
        .collect();
    let all: u64 = work.iter().sum();
    let shares: Vec<f64> = work
        .iter()
        .map(|work| 100.0 * *work as f64 / all as f64)
        .collect();
    saw!(NAME, "{shares:.2?} %");
    assert!(
        shares.iter().all(|share| (share - 25.0).abs() <= 2.0),
        "{shares:?}"
    );
    board.expect("[spin] PASS spin", LIMIT);
    board.power_off();
}
