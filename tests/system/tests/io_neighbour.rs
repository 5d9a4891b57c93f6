//! What a guest does to its own devices, its neighbour's clients do not feel.

use std::time::Instant;

use system::lab::Client;
use system::{Guest, Lab, Package, saw};

/// Turns of the neighbour that are watched, of each kind, and how long each is, milliseconds.
const ROUNDS: usize = 6;
const TURN_MS: u64 = 3000;
/// Questions in a turn whose answers are timed.
const QUESTIONS: usize = 100;
/// Values that are written and read back, and the length of each.
const VALUES: usize = 64;
const VALUE_BYTES: usize = 1000;

/// How long answers take, microseconds, one after another.
fn latencies(client: &mut Client) -> Vec<u128> {
    (0..QUESTIONS)
        .map(|_| {
            let start = Instant::now();
            client.ask(b"PING\r\n", b"+PONG\r\n");
            start.elapsed().as_micros()
        })
        .collect()
}

fn middle(mut of: Vec<u128>) -> u128 {
    of.sort_unstable();
    of[of.len() / 2]
}

/// A neighbour that does its worst to its devices costs clients no more than twice what they usually wait. It does so by turns, and computes in between, which keeps as
/// much of this machine busy and has no devices: the two are compared over the same minute, since on a machine that others use, too, the same wait
/// differs by half from one minute to the next.
fn holds(test: &str, neighbour: Guest) {
    let web = Guest::debian_on("root.ext4", "web", "redis").with("hearth.ip=10.7.0.11/24");
    let lab = Lab::up(test, &Package::of([web.card(), neighbour]), 1, 2);
    lab.said("board-1", "hearth-guest: redis answers");
    let mut client = lab.client("10.7.0.11:6379");
    // The first answers are to addresses and connections.
    latencies(&mut client);
    let (mut usual, mut disturbed) = (Vec::new(), Vec::new());
    let begun = turn(&lab.good(&["log", "board-1"]));
    for n in begun + 1..=begun + ROUNDS {
        lab.said("board-1", &format!("CALM {n}\r"));
        usual.extend(latencies(&mut client));
        lab.said("board-1", &format!("WORST {n}\r"));
        disturbed.extend(latencies(&mut client));
        client.keeps(VALUES, VALUE_BYTES, n);
    }
    let said = lab.good(&["log", "board-1"]);
    let over = said.contains("] PASS ") || said.contains("] FAIL ");
    assert!(!over, "the neighbour ended before the client was done");
    let (usual, disturbed) = (middle(usual), middle(disturbed));
    saw!(
        test,
        "an answer takes {disturbed} us while the neighbour does its worst, {usual} us while it computes"
    );
    assert!(
        disturbed <= 2 * usual,
        "{disturbed} us beside the neighbour, else {usual} us"
    );
}

/// The last turn that a log tells of.
fn turn(log: &str) -> usize {
    log.matches("] CALM ").count()
}

#[test]
fn a_flood_of_frames_does_not_keep_the_neighbours_clients_waiting() {
    let flood =
        Guest::bare_metal("flood", 1).with(&format!("secs=600 mode=unknown turns={TURN_MS}"));
    let test = "io_beside_a_flood";
    holds(test, flood.card());
}

#[test]
fn a_card_that_sends_all_it_gets_to_everybody_is_held_back() {
    let flood =
        Guest::bare_metal("flood", 1).with(&format!("secs=600 mode=broadcast turns={TURN_MS}"));
    let test = "io_beside_broadcasts";
    holds(test, flood.card());
}

#[test]
fn attacks_on_devices_do_not_keep_the_neighbours_clients_waiting() {
    let attack = Guest::bare_metal("virtio_attack", 1)
        .named("attack")
        .with(&format!("count=4000000 seed=7 turns={TURN_MS}"))
        .image(&system::paths::material("root.ext4"));
    let test = "io_beside_attacks";
    holds(test, attack.card());
}
