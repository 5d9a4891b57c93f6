//! The boards that figures are counted on.

use std::fs;
use std::thread;
use std::time::Duration;

use system::{Board, Guest, Machine, Package, paths};

use crate::bare;

/// No line takes longer than this to come; a quiet machine needs a tenth of it.
const LIMIT: Duration = Duration::from_secs(400);
/// A board's whole life.
const LIFE: Duration = Duration::from_secs(900);
/// How long a board idles for its figure, in its own microseconds, and how long it may settle before.
const IDLE_US: u64 = 20_000_000;
const SETTLE_US: u64 = 5_000_000;
/// Seconds of the board's time over which cores are shared out.
const FAIR_SECONDS: u64 = 10;

/// The command line that the harness gives Debian to say how far its counter has come.
const QUIET: &str = "console=ttyAMA0 quiet hearth.run=counter";

/// A figure by its name.
pub type Value = (&'static str, f64);

/// What was counted, and what belongs to it and is none of it: each a key and a value in JSON.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What is held to its budgets.
    pub values: Vec<Value>,
    /// The rest.
    pub extra: Vec<(&'static str, String)>,
}

impl From<Vec<Value>> for Measured {
    fn from(values: Vec<Value>) -> Self {
        let extra = Vec::new();
        Self { values, extra }
    }
}

/// Counts the figures of a board once.
///
/// # Panics
/// If a board does not do what it should; the message has its console.
pub fn all() -> Vec<Value> {
    let mut values = traps();
    values.extend(boots());
    values.push((
        "image_bytes",
        fs::metadata(paths::image()).expect("the image").len() as f64,
    ));
    values.push(("board_memory_bytes", memory()));
    values.push(("idle_instructions_per_second", idle()));
    values.push(("fairness_deviation_points", fairness()));
    values
}

fn boot(name: &str, machine: Machine, guests: impl IntoIterator<Item = Guest>) -> Board {
    Board::boot(name, machine.counted(), &Package::of(guests)).allow(LIFE)
}

/// The number behind a text, wherever it stands.
///
/// # Panics
/// If it is not there.
pub fn number(text: &str, before: &str) -> f64 {
    let found = text.split_once(before).and_then(|(_, rest)| {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        rest[..end].parse().ok()
    });
    found.unwrap_or_else(|| panic!("no '{before}' in:\n{text}"))
}

/// The bare-metal guest `bench`, with two vCPUs on two cores.
fn traps() -> Vec<Value> {
    let mut board = boot(
        "bench-traps",
        Machine::virt(2),
        [Guest::bare_metal("bench", 2)],
    );
    board.expect("[bench] PASS bench", LIMIT);
    let keys = [
        "hvc_instructions",
        "vgic_mmio_instructions",
        "uart_instructions",
        "ipi_instructions",
        "ipi_wfi_instructions",
        "timer_instructions",
        "timer_wfi_instructions",
    ];
    let values = keys.map(|key| (key, number(board.text(), &format!("BENCH {key} "))));
    board.power_off();
    values.into()
}

/// Debian's first vCPU from its first instruction to its init, on Hearth and without it. Both tell by the virtual counter, which is
/// zero at the guest's first instruction on Hearth and at reset on QEMU, six instructions before the kernel's first.
fn boots() -> Vec<Value> {
    let mut values = Vec::new();
    // Later words win: this is Linux's own level, as if it had not been told to be quiet.
    for (key, name, words) in [
        ("boot_ratio", "bench-quiet", ""),
        ("boot_console_ratio", "bench-console", "loglevel=7"),
    ] {
        let bare = number(
            &bare::boot(name, &format!("{QUIET} {words}")),
            "exerciser: counter ",
        );
        let guest = Guest::debian("web", 1, "counter")
            .memory(bare::MEMORY_MIB)
            .with(words);
        let mut board = boot(name, Machine::virt(1), [guest]);
        let on_hearth = number(
            &board.expect("exerciser: counter ", LIMIT),
            "exerciser: counter ",
        );
        board.expect("hearth: guest web has stopped: ", LIMIT);
        if key == "boot_ratio" {
            values.push((
                "entry_to_guest_ms",
                number(board.text(), "hearth: first guest entered ") / 1e3,
            ));
        }
        eprintln!("{name}: {on_hearth} us on Hearth, {bare} us without");
        values.push((key, on_hearth / bare));
        board.power_off();
    }
    values
}

/// What the board keeps for itself with four guests: the image as it lies in memory (with heap, stacks and EL2's own tables), and
/// every page frame that is taken and is no guest's memory (their translation tables).
fn memory() -> f64 {
    const MIB: u32 = 256;
    let guests = ["a", "b", "c", "d"].map(|name| Guest::debian(name, 2, "idle").memory(MIB));
    let mut board = boot("bench-memory", Machine::virt(2).memory(2048), guests);
    let idle = ["a", "b", "c", "d"].map(|name| format!("[{name}] hearth-guest: idle"));
    board.expect_all(&idle.each_ref().map(String::as_str), LIMIT);
    board.status();
    let line = last_line(&board, "hearth: status: ");
    let free = number(line, " cores, ");
    let (own, all) = (number(line, "own memory "), number(line, " of "));
    board.power_off();
    own + (all - free) * 4096.0 - 4.0 * f64::from(MIB) * f64::from(1 << 20)
}

/// The last line with all of the board's memory in it.
fn last_line<'a>(board: &'a Board, start: &str) -> &'a str {
    let mut lines = board.text().lines().rev();
    lines
        .find(|line| line.starts_with(start) && line.contains("own memory"))
        .expect("the status was answered")
}

/// EL2's instructions a second with two idle Debian guests of two vCPUs each on one core. The questions are counted with them.
fn idle() -> f64 {
    let guests = ["web", "db"].map(|name| Guest::debian(name, 2, "idle"));
    let mut board = boot("bench-idle", Machine::virt(1), guests);
    board.expect_all(
        &["[web] hearth-guest: idle", "[db] hearth-guest: idle"],
        LIMIT,
    );
    let mut ask = |from_us: u64| loop {
        let core = board.status().counts[0];
        if core.at_us >= from_us {
            break core;
        }
        // Time for the board to idle in: its own passes faster.
        thread::sleep(Duration::from_millis(200));
    };
    let now = ask(0);
    let start = ask(now.at_us + SETTLE_US);
    let end = ask(start.at_us + IDLE_US);
    board.power_off();
    (end.instructions - start.instructions) as f64 * 1e6 / (end.at_us - start.at_us) as f64
}

/// How far the worst of four spinning vCPUs is from its quarter of two cores, in points.
fn fairness() -> f64 {
    let words = format!("secs={}", FAIR_SECONDS + 1);
    let mut board = boot(
        "bench-fairness",
        Machine::virt(2),
        [Guest::bare_metal("spin", 4).with(&words)],
    );
    board.expect("[spin] PASS spin", LIMIT);
    let counts = |vcpu: usize| {
        let mut seconds = board
            .text()
            .lines()
            .filter(|line| line.contains(&format!("SPIN {vcpu} ")));
        let key = format!("SPIN {vcpu} ");
        // The first second has the start in it.
        let first = number(seconds.next().expect("a first second"), &key);
        number(seconds.next_back().expect("more seconds"), &key) - first
    };
    let done: Vec<f64> = (0..4).map(counts).collect();
    let all: f64 = done.iter().sum();
    board.power_off();
    done.iter()
        .map(|one| (one / all * 100.0 - 25.0).abs())
        .fold(0.0, f64::max)
}
