//! What Debian's own programs get of the network and of disks in a guest, beside what they get on the board itself.
//!
//! The same kernel, file system, QEMU, board, netdev and disk file, with Hearth and without it. The machines are up from the start and wait for
//! orders; one pair, or one alone, is told to work at a time, for some seconds. A turn measures each thing on both sides, one right after the other,
//! since what else this machine does changes from one minute to the next. A turn's ratio is of its own two values, and a figure is the median of the
//! turns' ratios; the sides begin by turns. Two boards are joined by one `-netdev dgram` pair, with nothing of ours between them:
//!
//! - `net_boards`, `ping_ratio`: iperf3 and ping between two guests on two boards; without Hearth, between the two boards.
//! - `ping_ratio_no_kpti`: the same ping with Debian's kernel told `kpti=off` on both sides. With it the kernel changes its address space at each
//!   system call, and QEMU forgets its address translations each time and finds them again, in a guest through two stages: the emulator's part.
//! - `net_client`: iperf3 from a guest to a board with Debian and nothing else; without Hearth, between the same two boards as above.
//! - `blk_*`: fio on a volume of the board's disk; without Hearth, on the disk.
//!
//! Two boards have no clock in common but this machine's, so the network is timed by that. What a disk does is told by its board's own ([`Clock`]).
//!
//! [`machine`] starts a Debian on either.

mod machine;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::{env, io};

use system::paths;
use system::slots::{self, Slots};

use crate::measure::Value;
pub use machine::Clock;
use machine::{Below, Plan, Running};

/// How often the network and the disks are measured; odd, so that there is one in the middle.
const NETWORK_TURNS: usize = 9;
const DISK_TURNS: usize = 3;
/// How long each measurement is, seconds.
const NETWORK_SECONDS: u32 = 2;
const DISK_SECONDS: u32 = 1;
/// The board's disk and the volume on it, MiB.
const DISK_MIB: u64 = 192;
const VOLUME_MIB: u64 = 160;
const VOLUME: &str = "data";

const SERVER: &str = "10.7.0.11";
const CLIENT: &str = "10.7.0.12";

/// Tells Debian's kernel to have one address space for itself and its programs.
const NO_KPTI: &str = "kpti=off";

/// The figures: the network's, of which the last two are times and not rates, and the disk's with fio's names for them.
const NETWORK: [&str; 4] = [
    "net_boards",
    "net_client",
    "ping_ratio",
    "ping_ratio_no_kpti",
];
const DISK: [(&str, &str); 4] = [
    ("blk_seq_read", "read"),
    ("blk_seq_write", "write"),
    ("blk_rand_read", "randread"),
    ("blk_rand_write", "randwrite"),
];

/// Measures everything, the disks by this clock.
///
/// # Panics
/// If a machine does not do what it should; the message has its console.
pub fn all(disks: Clock) -> Vec<Value> {
    // All that there are: this is not to be disturbed by other boards.
    let slots = slots::take(usize::MAX);
    let mut ratios = network(&slots);
    ratios.extend(disk(&slots, disks));
    ratios
}

fn network(slots: &Slots) -> Vec<Value> {
    let start = |name, words, receiver, sender| Link::start(slots, name, words, receiver, sender);
    let mut plain = start("plain", "", Below::Nothing, Below::Nothing);
    let mut boards = start("boards", "", Below::Hearth, Below::Hearth);
    let mut client = start("client", "", Below::Nothing, Below::Hearth);
    let mut plain_flat = start("plain-flat", NO_KPTI, Below::Nothing, Below::Nothing);
    let mut boards_flat = start("boards-flat", NO_KPTI, Below::Hearth, Below::Hearth);
    let mut ratios: [Vec<f64>; NETWORK.len()] = Default::default();
    for turn in 0..NETWORK_TURNS {
        // Without Hearth the first two are one, which is measured anew beside each.
        ratios[0].push(pair(NETWORK[0], turn, || plain.rate(), || boards.rate()));
        ratios[1].push(pair(NETWORK[1], turn, || plain.rate(), || client.rate()));
        ratios[2].push(pair(NETWORK[2], turn, || plain.ping(), || boards.ping()));
        let pings = (|| plain_flat.ping(), || boards_flat.ping());
        ratios[3].push(pair(NETWORK[3], turn, pings.0, pings.1));
    }
    NETWORK
        .into_iter()
        .zip(ratios.iter().map(|ratios| median(ratios)))
        .collect()
}

fn disk(slots: &Slots, clock: Clock) -> Vec<Value> {
    let mut plain = OnDisk::start(slots, clock, Below::Nothing);
    let mut hearth = OnDisk::start(slots, clock, Below::Hearth);
    let mut ratios: [Vec<f64>; DISK.len()] = Default::default();
    for turn in 0..DISK_TURNS {
        for ((key, way), ratios) in DISK.into_iter().zip(&mut ratios) {
            ratios.push(pair(key, turn, || plain.rate(way), || hearth.rate(way)));
        }
    }
    DISK.into_iter()
        .map(|(key, _)| key)
        .zip(ratios.iter().map(|ratios| median(ratios)))
        .collect()
}

/// What is measured with Hearth, divided by what is measured without it; in odd turns Hearth is first.
fn pair(
    key: &str,
    turn: usize,
    mut nothing: impl FnMut() -> f64,
    mut hearth: impl FnMut() -> f64,
) -> f64 {
    let (without, with) = if turn.is_multiple_of(2) {
        let without = nothing();
        (without, hearth())
    } else {
        let with = hearth();
        (nothing(), with)
    };
    let ratio = with / without;
    eprintln!("turn {turn}: {key} {with} / {without} = {ratio:.3}");
    ratio
}

/// The value in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Two machines on one cable.
struct Link {
    sender: Running,
    /// It only answers.
    _receiver: Running,
    /// Where the cable ends.
    _ends: [Scrap; 2],
}

impl Link {
    /// With more words for both command lines.
    fn start(slots: &Slots, name: &str, more: &str, receiver: Below, sender: Below) -> Self {
        let end = |which: &str| {
            let path = env::temp_dir().join(format!("hearth-{}-{name}-{which}", process::id()));
            Scrap(path)
        };
        let ends = [end("one"), end("other")];
        let plan = |name, run, words: String, mac, [own, far]: [&Scrap; 2]| Plan {
            name,
            root: "root.ext4",
            run,
            words,
            cable: Some((mac, own.0.clone(), far.0.clone())),
            disk: None,
            clock: Clock::Wall,
        };
        let [one, other] = &ends;
        let words = format!("{more} hearth.ip={SERVER}/24");
        let mac = "02:00:00:00:07:11";
        let mut server = plan(
            format!("{name}-server"),
            "iperf-server",
            words,
            mac,
            [one, other],
        )
        .start(slots, receiver);
        server.expect("Server listening");
        let words = format!(
            "{more} hearth.ip={CLIENT}/24 hearth.peer={SERVER} hearth.seconds={NETWORK_SECONDS}"
        );
        let mac = "02:00:00:00:07:12";
        let mut client =
            plan(format!("{name}-client"), "orders", words, mac, [other, one]).start(slots, sender);
        client.expect("takes orders");
        let mut link = Self {
            sender: client,
            _receiver: server,
            _ends: ends,
        };
        // Addresses are learnt, and code that runs for the first time is translated.
        link.rate();
        link
    }

    /// kbit/s of TCP.
    fn rate(&mut self) -> f64 {
        self.sender.order("iperf");
        let line = self.sender.expect(" receiver");
        word(&line, |words| {
            words.split(" Kbits/sec").next()?.rsplit(' ').next()
        })
    }

    /// Milliseconds of a round trip.
    fn ping(&mut self) -> f64 {
        self.sender.order("ping");
        let line = self.sender.expect("round-trip min/avg/max = ");
        word(&line, |words| words.split(['=', '/']).nth(4))
    }
}

/// A machine with a disk.
struct OnDisk {
    machine: Running,
    _disk: Scrap,
}

impl OnDisk {
    fn start(slots: &Slots, clock: Clock, below: Below) -> Self {
        let name = match below {
            Below::Nothing => "bench-disk-plain.img",
            Below::Hearth => "bench-disk-hearth.img",
        };
        let disk = Scrap(paths::results().join(name));
        format_disk(&disk.0).expect("a disk written");
        let plan = Plan {
            name: "fio".into(),
            root: "fio.ext4",
            run: "orders",
            words: format!("hearth.seconds={DISK_SECONDS}"),
            cable: None,
            disk: Some((disk.0.clone(), VOLUME)),
            clock,
        };
        let mut machine = plan.start(slots, below);
        machine.expect("takes orders");
        Self {
            machine,
            _disk: disk,
        }
    }

    /// KiB/s in one of fio's ways.
    fn rate(&mut self, way: &str) -> f64 {
        let words = format!("hearth-guest: fio {way} ");
        self.machine.order(&format!("fio-{way}"));
        let line = self.machine.expect(&words);
        assert!(line.ends_with("errors 0"), "fio failed: {line}");
        word(&line, |line| line.split_once(&words)?.1.split(' ').next())
    }
}

/// The number that `find` finds in a line.
fn word(line: &str, find: impl Fn(&str) -> Option<&str>) -> f64 {
    let number = find(line).and_then(|word| word.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no number in {line:?}"))
}

/// A board's disk with a volume, every block of it written, so that no side is the first to touch the file.
fn format_disk(path: &Path) -> io::Result<()> {
    fs::write(path, vec![0x5a; (DISK_MIB << 20) as usize])?;
    File::open(path)?.sync_all()?;
    for words in [
        vec!["init", "--force"],
        vec!["create", VOLUME, "--size", &format!("{VOLUME_MIB}M")],
    ] {
        let output = Command::new(paths::tool())
            .args(["volume", words[0]])
            .arg(path)
            .args(&words[1..])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "hearth volume {words:?}: {said}");
    }
    Ok(())
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
