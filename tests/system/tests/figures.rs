//! The figures that Hearth is held to, counted in instructions, so that they are the same on every machine.

use std::time::Duration;

use system::saw;
use system::{Board, Guest, Machine, Package, paths};

const LIMIT: Duration = Duration::from_secs(240);
/// What the image may have, bytes.
const IMAGE_BYTES: u64 = 1 << 20;
/// From the image's first instruction to the first guest's, microseconds.
const ENTRY_TO_GUEST_US: u64 = 50_000;
/// Figures of `bench` with what each may have at most, instructions.
const BUDGETS: [(&str, f64); 7] = [
    ("hvc_instructions", 200.0),
    ("vgic_mmio_instructions", 350.0),
    ("uart_instructions", 300.0),
    ("ipi_instructions", 1200.0),
    ("ipi_wfi_instructions", 2000.0),
    ("timer_instructions", 600.0),
    ("timer_wfi_instructions", 900.0),
];

#[test]
fn traps_calls_and_timers_stay_within_their_budgets() {
    const NAME: &str = "traps_calls_and_timers_stay_within_their_budgets";
    let guest = Guest::bare_metal("bench", 2);
    let mut board = Board::boot(NAME, Machine::virt(2).counted(), &Package::of([guest]));
    board.expect("[bench] PASS bench", LIMIT);
    let mut over = Vec::new();
    for (key, budget) in BUDGETS {
        let figure: f64 = board
            .text()
            .lines()
            .find_map(|line| line.trim().strip_prefix(&format!("[bench] BENCH {key} ")))
            .unwrap_or_else(|| board.fail(&format!("no figure {key}")))
            .parse()
            .expect("a number");
        saw!(NAME, "{key}: {figure}, at most {budget}");
        if figure > budget {
            over.push(key);
        }
    }
    assert!(over.is_empty(), "over budget: {over:?}");
    board.power_off();
}

#[test]
fn the_image_is_small() {
    const NAME: &str = "the_image_is_small";
    let size = std::fs::metadata(paths::image()).expect("the image").len();
    saw!(NAME, "image_bytes: {size}, at most {IMAGE_BYTES}");
    assert!(size <= IMAGE_BYTES, "{size} bytes");
}

#[test]
fn the_first_guest_starts_at_once() {
    const NAME: &str = "the_first_guest_starts_at_once";
    let guest = Guest::debian("web", 1, "poweroff");
    let mut board = Board::boot(NAME, Machine::virt(2).counted(), &Package::of([guest]));
    let line = board.expect("hearth: first guest entered ", LIMIT);
    let us: u64 = line
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .expect("microseconds");
    saw!(NAME, "entry to guest: {us} us, at most {ENTRY_TO_GUEST_US}");
    assert!(us <= ENTRY_TO_GUEST_US, "{us} us");
}
