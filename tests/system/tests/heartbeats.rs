//! Heartbeats leave when they are due, whatever the guests of a board do. The machine is counted, so that they are late by the board's own instructions and not by this machine's.

use std::thread;
use std::time::Duration;

use system::{Board, Cluster, Guest, Machine, Package, paths, saw};

const LIMIT: Duration = Duration::from_secs(240);
/// How late a heartbeat may be, microseconds (docs/figures.md): a hundredth of what it takes for a board to count as silent.
const LATE_US: u64 = 1_500;
/// Seconds of the board's over which that is looked at, after so many in which all guests have started.
const SETTLED: usize = 3;
const LOOKED_AT: usize = 8;

/// Between two looks at what a board of a lab has said.
const LOOK: Duration = Duration::from_millis(100);

/// A card that leads to nobody.
const CARD: [&str; 6] = [
    "-global",
    "virtio-mmio.force-legacy=false",
    "-netdev",
    "user,id=wire,restrict=on",
    "-device",
    "virtio-net-device,netdev=wire",
];

/// What a board says when it is asked for its status, before the number.
const WORDS: &str = "it has come to its heartbeats at most ";
/// The status of a board, as typed.
const STATUS: &str = "\x1ds";

fn number(line: &str) -> Option<u64> {
    line.split(WORDS).nth(1)?.split(' ').next()?.parse().ok()
}

/// How late a heartbeat was at the most since this was asked last, microseconds.
fn latest(board: &mut Board) -> u64 {
    board.send(STATUS.as_bytes());
    number(&board.expect(WORDS, LIMIT)).expect("a number")
}

fn on_time(test: &str, machine: Machine) {
    let seconds = format!("secs={}", 10 * LOOKED_AT);
    let guests = [
        Guest::bare_metal("spin", 2),
        Guest::bare_metal("storm", 2).with(&seconds),
        Guest::bare_metal("flood", 1)
            .with(&format!("mode=broadcast {seconds}"))
            .card(),
    ];
    let package = Package::of(guests).on(&["alpha"]).pack(test);
    let card = CARD.map(String::from);
    let mut board = Board::boot_with(test, machine.counted(), Some(&package), &card);
    let second = |of: &str, number: usize| format!("[{of}] {} {number} ", of.to_uppercase());
    let both = |number| ["storm", "flood"].map(|guest| second(guest, number));
    for guest in both(SETTLED) {
        board.expect(&guest, LIMIT);
    }
    latest(&mut board);
    for guest in both(SETTLED + LOOKED_AT) {
        board.expect(&guest, LIMIT);
    }
    let late = latest(&mut board);
    saw!(test, "at most {late} us late, and {LATE_US} are allowed");
    assert!(late <= LATE_US, "{late} us late");
    board.power_off();
}

#[test]
fn heartbeats_are_on_time_on_one_core() {
    on_time("heartbeats_are_on_time_on_one_core", Machine::virt(1));
}

#[test]
fn heartbeats_are_on_time_on_two_cores_with_gicv2() {
    let machine = Machine::virt(2).gic(2);
    on_time("heartbeats_are_on_time_on_two_cores_with_gicv2", machine);
}

/// How late a heartbeat of a lab's board was at the most since it was asked last, which was so often, microseconds.
fn latest_in_lab(cluster: &Cluster, asked: usize) -> u64 {
    cluster.good(&["lab", "type", "alpha", STATUS]);
    loop {
        let log = cluster.log("alpha");
        let whole = log
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let mut told = whole.filter_map(number).skip(asked);
        if let Some(late) = told.next() {
            return late;
        }
        thread::sleep(LOOK);
    }
}

/// A guest goes to a file while it runs, as fast as its board can send it.
#[test]
fn heartbeats_are_on_time_beside_a_bulk_stream() {
    let test = "heartbeats_beside_bulk";
    let guest = Guest::bare_metal("dirty", 1).named("mover");
    let guest = guest.with("mib=64 busy_kib=64 every_ms=20");
    let package = Package::of([guest]);
    let cluster = Cluster::new(test, &package.on(&["alpha"]));
    let image = paths::image().display().to_string();
    let up = [
        "lab",
        "up",
        "cluster.toml",
        "--folder=lab",
        "--image",
        &image,
    ];
    let machine = [
        "--smp=1",
        "--memory=512",
        "--qemu-arg=-icount",
        "--qemu-arg=shift=0",
    ];
    cluster.good(&[&up[..], &machine].concat());
    let until = [
        "drill",
        "until",
        "mover",
        "--running",
        "--led",
        "--members=1",
    ];
    cluster.good(&[&until[..], &["--timeout", "90s"]].concat());
    cluster.said("alpha", "DIRTY pages=");
    latest_in_lab(&cluster, 0);
    let said = cluster.good(&["guest", "save", "mover", "--to", "saved.hearth"]);
    let late = latest_in_lab(&cluster, 1);
    saw!(
        test,
        "at most {late} us late, and {LATE_US} are allowed; {}",
        said.trim_end()
    );
    assert!(late <= LATE_US, "{late} us late");
}
