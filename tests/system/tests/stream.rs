//! A TCP connection of a guest that moves, of which both ends look at every byte: each line has its number and what follows from that, in both directions at once.
//! Beside it the guest writes to its disk and reads it back, takes random numbers, and says on its virtio console how often that went well.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use system::cluster::BOARDS;
use system::lab::longest_still;
use system::moves::{moves, moves_on};
use system::{Cluster, Guest, Package, saw};

/// Moves of the guest under the stream.
const MOVES: usize = 4;
/// Lines that go out at once, and what the writer does between two such batches: a guest must not write faster than a board of the lab copies.
const LINES: u64 = 25;
const REST: Duration = Duration::from_millis(10);
/// How long the guest may take for what was sent to it, once it stands still.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of so many lines that it has read the guest tells.
const TOLD_EVERY: u64 = 500;

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";

/// The line of that number, as `scripts/lib/root-init` has it, too.
fn line(number: u64) -> String {
    let from = (number % 26) as usize;
    format!("{number:010} {}\n", &LETTERS[from..from + 26])
}

/// Writes lines until told to stop; how many.
fn write(mut to: TcpStream, stops: &AtomicBool) -> u64 {
    let mut number = 0;
    // The guest tells of whole five hundreds.
    while !stops.load(Ordering::Relaxed) || number % TOLD_EVERY != 0 {
        for _ in 0..LINES {
            to.write_all(line(number).as_bytes()).expect("a line sent");
            number += 1;
        }
        thread::sleep(REST);
    }
    number
}

/// Reads lines until told to stop, no faster than they are written. Each must be the next.
fn read(from: TcpStream, stops: &AtomicBool, so_far: &AtomicU64) {
    let mut from = BufReader::new(from);
    let mut got = String::new();
    let mut number = 0;
    while !stops.load(Ordering::Relaxed) {
        for _ in 0..LINES {
            got.clear();
            from.read_line(&mut got).expect("a line read");
            assert_eq!(got, line(number));
            number += 1;
        }
        so_far.store(number, Ordering::Relaxed);
        thread::sleep(REST);
    }
}

fn streams(test: &str, gic: &str) {
    let web = Guest::debian_on("root.ext4", "web", "stream").vcpus(2);
    let web = web.with("hearth.ip=10.7.0.11/24").card().virtio_console();
    let package = Package::of([web]);
    let options = ["--smp=2", "--memory=768", "--gic", gic];
    let cluster = Cluster::up(test, package, "web", &options);
    let mut at = cluster.owner("web");
    let moves = moves(MOVES);
    cluster.said(at, "hearth-guest: stream listens");
    let stream = cluster.client("10.7.0.11:7008").into_stream();
    let (stops_reading, stops_writing) = (AtomicBool::new(false), AtomicBool::new(false));
    let read_so_far = AtomicU64::new(0);
    let written = thread::scope(|scope| {
        let to = stream.try_clone().expect("the other half");
        let writer = scope.spawn(|| write(to, &stops_writing));
        let reader = scope.spawn(|| read(stream, &stops_reading, &read_so_far));
        for _ in 0..moves {
            let before = read_so_far.load(Ordering::Relaxed);
            at = moves_on(&cluster, "web", at, |_| {});
            // It goes on, both ways: neither end has failed, and more has come.
            let until = Instant::now() + PATIENCE;
            while read_so_far.load(Ordering::Relaxed) <= before + LINES {
                assert!(Instant::now() < until, "the stream stands still");
                assert!(
                    !writer.is_finished() && !reader.is_finished(),
                    "an end of the stream failed"
                );
                thread::sleep(REST);
            }
        }
        stops_writing.store(true, Ordering::Relaxed);
        let written = writer.join().expect("a writer that does not fail");
        // What was sent last has been looked at, too, before the connection ends.
        cluster.said(at, &format!("hearth-guest: stream has {written} lines"));
        stops_reading.store(true, Ordering::Relaxed);
        reader.join().expect("a reader that does not fail");
        written
    });
    let logs = BOARDS.map(|board| cluster.log(board)).concat();
    let longest = longest_still(&logs);
    for wrong in ["FAILED", "I/O error", "Kernel panic"] {
        assert!(!logs.contains(wrong), "{wrong} in:\n{logs}");
    }
    let rounds = logs.lines().filter_map(|line| {
        let round = line.split("devices are well in round ").nth(1)?;
        round.trim().parse::<usize>().ok()
    });
    let rounds = rounds.max().unwrap_or_default();
    assert!(rounds >= moves, "{rounds} rounds of its other devices");
    saw!(
        test,
        "{moves} moves, {rounds} rounds of disk, random numbers and virtio console, {written} lines to the guest and {} from it, each the right one; still for at most {longest} us",
        read_so_far.load(Ordering::Relaxed)
    );
}

#[test]
fn both_ends_of_a_stream_see_every_byte_while_the_guest_moves_on_gicv3() {
    streams("stream_gicv3", "3");
}

#[test]
fn both_ends_of_a_stream_see_every_byte_while_the_guest_moves_on_gicv2() {
    streams("stream_gicv2", "2");
}
