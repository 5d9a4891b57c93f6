//! What Debian's own programs get of the network and of disks in a guest, beside what they get on the board itself.
//!
//! The same kernel, file system, QEMU, netdev and disk file, with Hearth and without it in turn, [`TURNS`] times; a figure is the
//! ratio of the two medians. Two boards are joined by one `-netdev dgram` pair, with nothing of ours between them:
//!
//! - `net_boards`, `ping_ratio`: iperf3 and ping between two guests on two boards; without Hearth, between the two boards.
//! - `net_client`: iperf3 from a guest to a board with Debian and nothing else; without Hearth, between the same two boards as above.
//! - `blk_*`: fio on a volume of the board's disk; without Hearth, on the disk.
//!
//! [`machine`] starts a Debian on either.

mod machine;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{array, env};

use system::paths;

use crate::measure::Value;
use machine::{Below, Plan, Running};

/// How often each is measured; odd, so that there is one in the middle.
const TURNS: usize = 3;
/// How long each measurement is, seconds.
const SECONDS: u32 = 6;
/// The board's disk and the volume on it, MiB.
const DISK_MIB: u64 = 192;
const VOLUME_MIB: u64 = 160;
const VOLUME: &str = "data";

const SERVER: &str = "10.7.0.11";
const CLIENT: &str = "10.7.0.12";

/// What is measured of one kind of machine, and its ratios' names.
const NETWORK: [&str; 3] = ["net_boards", "net_client", "ping_ratio"];
const DISK: [(&str, &str); 4] = [
    ("blk_seq_read", "read"),
    ("blk_seq_write", "write"),
    ("blk_rand_read", "randread"),
    ("blk_rand_write", "randwrite"),
];

/// Measures everything.
///
/// # Panics
/// If a machine does not do what it should; the message has its console.
pub fn all() -> Vec<Value> {
    let mut ratios: Vec<Value> = Vec::new();
    let mut network: [[Vec<f64>; 2]; 3] = Default::default();
    let mut disks: [[Vec<f64>; 2]; 4] = Default::default();
    for turn in 0..TURNS {
        for (side, below) in [Below::Nothing, Below::Hearth].into_iter().enumerate() {
            let (boards, ping) = between(below, below, true);
            // Without Hearth the two are one.
            let client = match below {
                Below::Nothing => boards,
                Below::Hearth => between(Below::Nothing, below, false).0,
            };
            eprintln!(
                "turn {turn}, {below:?}: boards {boards} kbit/s, client {client} kbit/s, ping {ping} ms"
            );
            for (kind, value) in [boards, client, ping].into_iter().enumerate() {
                network[kind][side].push(value);
            }
            let found = disk(below);
            eprintln!("turn {turn}, {below:?}: disk {found:?} KiB/s");
            for (kind, value) in found.into_iter().enumerate() {
                disks[kind][side].push(value);
            }
        }
    }
    let ratio = |[nothing, hearth]: &[Vec<f64>; 2]| median(hearth) / median(nothing);
    ratios.extend(
        NETWORK
            .iter()
            .zip(&network)
            .map(|(key, sides)| (*key, ratio(sides))),
    );
    ratios.extend(
        DISK.iter()
            .zip(&disks)
            .map(|((key, _), sides)| (*key, ratio(sides))),
    );
    ratios
}

/// The value in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// What goes between two machines over a cable: kbit/s of TCP from `sender` to `receiver`, and the milliseconds of a ping if it was asked
/// for.
fn between(receiver: Below, sender: Below, ping: bool) -> (f64, f64) {
    let end = |name: &str| env::temp_dir().join(format!("hearth-{}-{name}", process::id()));
    let (one, other) = (Scrap(end("one")), Scrap(end("other")));
    let plan = |name, run, words: String, mac, own: &Scrap, far: &Scrap| Plan {
        name,
        root: "root.ext4",
        run,
        words,
        cable: Some((mac, own.0.clone(), far.0.clone())),
        disk: None,
    };
    let words = format!("hearth.ip={SERVER}/24");
    let server = plan(
        "server",
        "iperf-server",
        words,
        "02:00:00:00:07:11",
        &one,
        &other,
    );
    let words = format!("hearth.ip={CLIENT}/24 hearth.peer={SERVER} hearth.seconds={SECONDS}");
    let run = if ping { "ping,iperf" } else { "iperf" };
    let client = plan("client", run, words, "02:00:00:00:07:12", &other, &one);
    let mut server = server.start(receiver);
    server.expect("Server listening");
    let mut client = client.start(sender);
    let milliseconds = if ping {
        let line = client.expect("round-trip min/avg/max = ");
        word(&line, |words| words.split(['=', '/']).nth(4))
    } else {
        0.0
    };
    let line = client.expect(" receiver");
    let rate = word(&line, |words| {
        words.split(" Kbits/sec").next()?.rsplit(' ').next()
    });
    (rate, milliseconds)
}

/// The KiB/s of fio's four ways.
fn disk(below: Below) -> [f64; 4] {
    let disk = Scrap(paths::results().join("bench-linux-disk.img"));
    format_disk(&disk.0);
    let plan = Plan {
        name: "fio",
        root: "fio.ext4",
        run: "fio",
        words: format!("hearth.seconds={SECONDS}"),
        cable: None,
        disk: Some((disk.0.clone(), VOLUME)),
    };
    let mut machine = plan.start(below);
    array::from_fn(|place| way(&mut machine, DISK[place].1))
}

fn way(machine: &mut Running, way: &str) -> f64 {
    let words = format!("hearth-guest: fio {way} ");
    let line = machine.expect(&words);
    assert!(line.ends_with("errors 0"), "fio failed: {line}");
    word(&line, |line| line.split_once(&words)?.1.split(' ').next())
}

/// The number that `find` finds in a line.
fn word(line: &str, find: impl Fn(&str) -> Option<&str>) -> f64 {
    let number = find(line).and_then(|word| word.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no number in {line:?}"))
}

/// A board's disk with a volume, every block of it written, so that no side is the first to touch the file.
fn format_disk(path: &Path) {
    fs::write(path, vec![0x5a; (DISK_MIB << 20) as usize]).expect("a disk written");
    File::open(path)
        .and_then(|file| file.sync_all())
        .expect("a disk written");
    for words in [
        vec!["init", "--force"],
        vec!["create", VOLUME, "--size", &format!("{VOLUME_MIB}M")],
    ] {
        let output = Command::new(paths::tool())
            .args(["volume", words[0]])
            .arg(path)
            .args(&words[1..])
            .output()
            .expect("hearth volume started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "hearth volume {words:?}: {said}");
    }
}

/// A file that goes when dropped.
struct Scrap(PathBuf);

impl Drop for Scrap {
    fn drop(&mut self) {
        // It may never have come to be.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn numbers_are_found_where_the_programs_print_them() {
        let line = "[server] [  5]   0.00-3.62   sec  9.65 MBytes  22383 Kbits/sec                  receiver";
        let rate = word(line, |words| {
            words.split(" Kbits/sec").next()?.rsplit(' ').next()
        });
        assert_eq!(rate, 22383.0);
        let line = "round-trip min/avg/max = 0.460/4.020/24.453 ms";
        assert_eq!(word(line, |words| words.split(['=', '/']).nth(4)), 4.02);
    }
}
