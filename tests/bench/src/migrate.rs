//! What it costs a guest to move while it runs.
//!
//! A board of one core moves the bare-metal guest `dirty` from one of its places to another, with 160 MiB of data in 256 MiB, and says itself how long that took and for
//! how long the guest was still, and how that went over time, which [`plot`](crate::plot) draws. What a logged write costs is what EL2 has used while the log was on and pages were written, less what it used while none were.
//! What a client outside notices of moves between boards takes this machine's time, and is told beside the figures.

use std::fs;
use std::time::Duration;

use system::{Board, Guest, Machine, Package, moves, paths};

use crate::measure::{Measured, Value, number};
use crate::plot::{self, Course};

/// No line takes longer than this to come; a quiet machine needs a tenth of it.
const LIMIT: Duration = Duration::from_secs(400);
/// A board's whole life.
const LIFE: Duration = Duration::from_secs(900);
/// The guest of the peers' figures, MiB: its data, and its memory.
const DATA_MIB: u32 = 160;
const MEMORY_MIB: u32 = 256;
/// Values that are set, and got: for less than a watch's ten seconds.
const REQUESTS: u32 = 10_000;
/// Moves between boards that a client notices.
const MOVES: usize = 100;
/// Seconds of the guest's over which it looks for what holds it up.
const GAP_SECONDS: usize = 4;

/// Counts everything once.
///
/// # Panics
/// If a board does not do what it should; the message has its console.
pub fn all() -> Measured {
    let idle = moved("migrate-idle", "busy_kib=0 every_ms=1000");
    let busy = moved("migrate-busy", "busy_kib=1024 every_ms=20");
    let packing = packing();
    let mut extra = drawn(&[("idle", &idle.course), ("busy", &busy.course)]);
    extra.push(noticed());
    let data = f64::from(DATA_MIB) * f64::from(1 << 20);
    let mut values = vec![
        ("downtime_idle_ms", idle.still_us / 1e3),
        ("downtime_busy_ms", busy.still_us / 1e3),
        ("total_ms", idle.all_us.max(busy.all_us) / 1e3),
        ("wire_ratio", idle.bytes / data),
        ("fault_instructions", fault()),
        ("tracking_ratio", tracking()),
        ("track_start_us", start()),
    ];
    values.extend(packing);
    Measured { values, extra }
}

/// Draws the courses to a page beside the boards' consoles; where it is, and what is drawn, for the answer.
fn drawn(courses: &[(&str, &Course)]) -> Vec<(&'static str, String)> {
    let path = paths::results().join("bench-migrate.html");
    fs::write(&path, plot::page(courses)).expect("the page written");
    eprintln!(
        "migrate: the course of both moves is drawn in {}",
        path.display()
    );
    let data = courses
        .iter()
        .map(|(name, course)| format!("\"{name}\": {}", course.json()));
    let data: Vec<_> = data.collect();
    vec![
        ("plot", format!("{:?}", path.display().to_string())),
        ("course", format!("{{{}}}", data.join(", "))),
    ]
}

/// What a client outside notices of a hundred moves between boards, milliseconds.
fn noticed() -> (&'static str, String) {
    let noticed = moves::under_redis("bench-moves", MOVES);
    let millis = |stall: Duration| stall.as_secs_f64() * 1e3;
    let [median, p90, worst] = [50, 90, 100].map(|percent| millis(noticed.percentile(percent)));
    eprintln!(
        "moves: a client's longest wait in each of {MOVES} moves, ms: {median:.0} (median), {p90:.0} (p90), {worst:.0} (worst), and {:.0} before; still for at most {} us; heartbeats at most {} us late",
        millis(noticed.unmoved),
        noticed.still_us,
        noticed.late_us
    );
    let value = format!(
        "{{\"moves\": {MOVES}, \"median\": {median:.1}, \"p90\": {p90:.1}, \"worst\": {worst:.1}, \"heartbeats_late_us\": {}}}",
        noticed.late_us
    );
    ("client_stall_ms", value)
}

fn boot(name: &str, memory: u32, words: &str) -> Board {
    let guest = Guest::bare_metal("dirty", 1).memory(memory).with(words);
    let machine = Machine::virt(1).memory(2048).counted();
    let mut board =
        Board::boot(&format!("bench-{name}"), machine, &Package::of([guest])).allow(LIFE);
    board.expect("DIRTY ready", LIMIT);
    board.expect("DIRTY pages=", LIMIT);
    board
}

/// A move, as the board tells of it.
struct Moved {
    bytes: f64,
    all_us: f64,
    still_us: f64,
    course: Course,
}

fn moved(name: &str, words: &str) -> Moved {
    let mut board = boot(name, MEMORY_MIB, &format!("mib={DATA_MIB} {words}"));
    board.send(b"\x1dm");
    let line = board.expect("guest dirty has moved: ", LIMIT);
    eprintln!("{name}: {line}");
    board.expect("DIRTY pages=", LIMIT);
    board.send(b"\x1dt");
    board.expect("course: that is all", LIMIT);
    let course = Course::read(board.text());
    board.power_off();
    Moved {
        course,
        bytes: number(&line, " rounds, "),
        all_us: number(&line, " bytes, "),
        still_us: number(&line, " in all, "),
    }
}

/// EL2's instructions for a write to a page that is logged: the fault, and the page's part in taking the log and closing pages.
fn fault() -> f64 {
    let (idle, _) = watched("watch-idle", "busy_kib=0");
    let (busy, pages) = watched("watch-busy", "busy_kib=1024 touch=1");
    (busy - idle) / pages
}

/// EL2's instructions in a watch of a guest, and the pages that it found written.
fn watched(name: &str, words: &str) -> (f64, f64) {
    let words = format!("mib=32 every_ms=100 {words}");
    let mut board = boot(name, 64, &words);
    let before = board.status().counts[0].instructions;
    board.send(b"\x1dw");
    let line = board.expect("guest dirty wrote ", LIMIT);
    let after = board.status().counts[0].instructions;
    eprintln!("{name}: {line}");
    board.power_off();
    ((after - before) as f64, number(&line, " wrote "))
}

/// What redis-benchmark of a neighbour gets of a guest's Redis while the guest is watched, to what it gets otherwise: the worse of setting and getting.
fn tracking() -> f64 {
    let without = rates("tracking-off", false);
    let with = rates("tracking-on", true);
    eprintln!("tracking: {with:?} a second with the log, {without:?} without");
    (with[0] / without[0]).min(with[1] / without[1])
}

/// How many values a second are set, and got.
fn rates(name: &str, is_watched: bool) -> [f64; 2] {
    let name = format!("bench-{name}");
    let web = Guest::debian_on("root.ext4", "web", "redis").with("hearth.ip=10.7.0.11/24");
    let client = Guest::debian_on("root.ext4", "client", "redis-client").with(&format!(
        "hearth.ip=10.7.0.12/24 hearth.peer=10.7.0.11 hearth.requests={REQUESTS}"
    ));
    let machine = Machine::virt(1).memory(2048).counted();
    let package = Package::of([web.card(), client.card()]);
    let mut board = Board::boot(&name, machine, &package).allow(LIFE);
    board.expect("hearth-guest: client begins", LIMIT);
    if is_watched {
        board.send(b"\x1dw");
    }
    let rate = |board: &mut Board, way: &str| {
        let words = format!("hearth-guest: redis-benchmark {way} ");
        number(&board.expect(&words, LIMIT), &words)
    };
    let rates = [rate(&mut board, "SET"), rate(&mut board, "GET")];
    if is_watched {
        // Else some of it was not.
        assert!(
            !board.text().contains("guest web wrote "),
            "the watch ended first"
        );
        board.expect("guest web wrote ", LIMIT);
    }
    board.power_off();
    rates
}

/// For how long a guest of 1 GiB does not go on when its log starts, at the longest, microseconds.
fn start() -> f64 {
    let mut board = boot("migrate-start", 1024, "mib=512 busy_kib=0 gap=1");
    board.send(b"\x1dw");
    let gaps = (0..GAP_SECONDS).map(|_| number(&board.expect("gap_us=", LIMIT), "gap_us="));
    let longest = gaps.fold(0.0, f64::max);
    board.power_off();
    longest
}

/// What it takes EL2 to pack a page of a Debian guest at its prompt that is not zeros, and to send one with tags through the card, and how many of its bytes packing leaves.
fn packing() -> [Value; 3] {
    let guest = Guest::debian("web", 1, "idle");
    let package = Package::of([guest]).on(&["alpha"]).pack("bench-packing");
    let card = [
        "-global",
        "virtio-mmio.force-legacy=false",
        "-netdev",
        "user,id=wire,restrict=on",
        "-device",
        "virtio-net-device,netdev=wire",
    ];
    let card = card.map(String::from);
    let machine = Machine::virt(1).counted();
    let mut board = Board::boot_with("bench-packing", machine, Some(&package), &card).allow(LIFE);
    board.expect("hearth-guest: idle", LIMIT);
    board.send(b"\x1dp");
    let line = board.expect("packing: ", LIMIT);
    eprintln!("packing: {line}");
    board.power_off();
    let (plain, packed) = (number(&line, " packed: "), number(&line, " bytes, "));
    [
        ("pack_instructions", number(&line, "a page takes ")),
        ("send_instructions", number(&line, " to pack, ")),
        ("pack_ratio", packed / plain),
    ]
}
