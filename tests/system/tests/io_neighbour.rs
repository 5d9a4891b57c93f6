//! What a guest does to its own devices, its neighbour's clients do not feel.

use std::time::Instant;

use system::lab::Client;
use system::{Guest, Lab, Package, saw};

/// Questions whose answers are timed.
const QUESTIONS: usize = 300;
/// Values that are written and read back, and the length of each.
const VALUES: usize = 64;
const VALUE_BYTES: usize = 1000;

/// The middle of how long answers take, microseconds.
fn latency(client: &mut Client) -> u128 {
    let mut taken: Vec<_> = (0..QUESTIONS)
        .map(|_| {
            let start = Instant::now();
            client.ask(b"PING\r\n", b"+PONG\r\n");
            start.elapsed().as_micros()
        })
        .collect();
    taken.sort_unstable();
    taken[taken.len() / 2]
}

/// Redis keeps what it is given.
fn keeps(client: &mut Client, seed: usize) {
    for n in 0..VALUES {
        let value = vec![b'a' + ((n + seed) % 26) as u8; VALUE_BYTES];
        let mut request =
            format!("*3\r\n$3\r\nSET\r\n$4\r\n{n:04}\r\n${VALUE_BYTES}\r\n").into_bytes();
        request.extend(&value);
        request.extend(b"\r\n");
        client.ask(&request, b"+OK\r\n");
        let mut answer = format!("${VALUE_BYTES}\r\n").into_bytes();
        answer.extend(&value);
        answer.extend(b"\r\n");
        client.ask(format!("GET {n:04}\r\n").as_bytes(), &answer);
    }
}

/// How long an answer of Redis takes on a board with these other guests, after the board has said `begins`, and what it said until then. The guests go
/// on for longer than this takes.
fn beside(test: &str, others: Option<Guest>, begins: &str) -> (u128, String) {
    let web = Guest::debian_on("root.ext4", "web", "redis").with("hearth.ip=10.7.0.11/24");
    let guests = [web.card()].into_iter().chain(others);
    let lab = Lab::up(test, &Package::of(guests), 1, 2);
    lab.said("board-1", "hearth-guest: redis answers");
    let mut client = lab.client("10.7.0.11:6379");
    // The first answers are to addresses and connections.
    latency(&mut client);
    lab.said("board-1", begins);
    let taken = latency(&mut client);
    keeps(&mut client, 1);
    (taken, lab.good(&["log", "board-1"]))
}

/// A neighbour that does its worst to its devices costs clients no more than twice what they usually wait. That is measured twice, alone and beside a guest
/// that only computes, which keeps as much of this machine busy and has no devices. Neither is always the longer one: on a machine that others use, too, the same
/// wait differs by half from one minute to the next, so that the longer of the two counts.
fn holds(test: &str, neighbour: Guest, begins: &str) {
    let spin = Guest::bare_metal("spin", 1);
    let (alone, _) = beside(&format!("{test}_alone"), None, "redis answers");
    let (usual, _) = beside(&format!("{test}_usual"), Some(spin), "guest spin starts");
    let (disturbed, said) = beside(test, Some(neighbour), begins);
    let over = said.contains("] PASS ") || said.contains("] FAIL ");
    assert!(!over, "the neighbour ended before the client was done");
    saw!(
        test,
        "an answer takes {disturbed} us beside the neighbour, {usual} us beside one that computes, {alone} us alone"
    );
    let usual = usual.max(alone);
    assert!(
        disturbed <= 2 * usual,
        "{disturbed} us beside the neighbour, else {usual} us"
    );
}

#[test]
fn a_flood_of_frames_does_not_keep_the_neighbours_clients_waiting() {
    let flood = Guest::bare_metal("flood", 1).with("secs=600 mode=unknown");
    let test = "io_beside_a_flood";
    holds(test, flood.card(), "FLOOD 1 ");
}

#[test]
fn a_card_that_sends_all_it_gets_to_everybody_is_held_back() {
    let flood = Guest::bare_metal("flood", 1).with("secs=600 mode=broadcast");
    let test = "io_beside_broadcasts";
    holds(test, flood.card(), "FLOOD 1 ");
}

#[test]
fn attacks_on_devices_do_not_keep_the_neighbours_clients_waiting() {
    let attack = Guest::bare_metal("virtio_attack", 1)
        .named("attack")
        .with("count=4000000 seed=7")
        .image(&system::paths::material("root.ext4"));
    let test = "io_beside_attacks";
    holds(test, attack.card(), "ATTACK ");
}
