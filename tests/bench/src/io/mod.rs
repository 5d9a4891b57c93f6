//! What a frame and a block cost EL2.
//!
//! The bare-metal guest `io` does so many of one thing when it is told to over its console; the board is asked before and after what EL2 has
//! used. Asking and telling is counted as well, so a turn in which the guest does nothing is taken off.

mod peer;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use system::{Board, Guest, Machine, Package, paths};

use crate::measure::{Value, number};
use peer::Peer;

/// No line takes longer than this to come; a quiet machine needs a tenth of it.
const LIMIT: Duration = Duration::from_secs(240);
/// A board's whole life.
const LIFE: Duration = Duration::from_secs(900);
/// Frames and blocks of each count.
const FRAMES: u32 = 4_096;
const BLOCKS: u32 = 2_048;
/// The board's disk and the guest's volume on it, MiB.
const DISK_MIB: u64 = 80;
const VOLUME_MIB: u64 = 64;

/// Counts everything once.
///
/// # Panics
/// If a board does not do what it should; the message has its console.
pub fn all() -> Vec<Value> {
    let mut values = wire();
    values.push(("frame_local_instructions", local()));
    values.push(("block_instructions", blocks()));
    values
}

/// A guest of that name.
fn guest(name: &str, words: &str) -> Guest {
    Guest::bare_metal("io", 1)
        .named(name)
        .with(&format!("frames={FRAMES} blocks={BLOCKS} {words}"))
}

/// A board and the orders that its guests take.
struct Counter {
    board: Board,
    guests: Vec<String>,
}

impl Counter {
    fn boot(name: &str, cores: u8, guests: Vec<Guest>, more: &[String]) -> Self {
        let names: Vec<_> = guests.iter().map(|guest| guest.name.clone()).collect();
        let package = Package::of(guests).pack(name);
        let machine = Machine::virt(cores).counted();
        let mut board = Board::boot_with(name, machine, Some(&package), more).allow(LIFE);
        let ready: Vec<_> = names
            .iter()
            .map(|name| format!("[{name}] IO ready"))
            .collect();
        let ready: Vec<_> = ready.iter().map(String::as_str).collect();
        board.expect_all(&ready, LIMIT);
        Self {
            board,
            guests: names,
        }
    }

    /// Tells a guest what to do; what comes of it says [`done`](Self::done).
    fn order(&mut self, guest: usize, order: char) {
        let (escape, place, key) = (0x1d, b'1' + guest as u8, order as u8);
        // Its console for the order, and all consoles for the answers.
        self.board.send(&[escape, place, key, escape, b'a']);
    }

    /// Waits for the guest to say that it is done, with how many.
    fn done(&mut self, guest: usize, order: char) -> f64 {
        let words = format!("[{}] IO done {order} ", self.guests[guest]);
        number(&self.board.expect(&words, LIMIT), &words)
    }

    /// EL2's instructions so far, of all cores. A core that is asked says what it had when it was asked before: so all are asked twice.
    fn instructions(&mut self) -> u64 {
        self.board.status();
        let status = self.board.status();
        status.counts.iter().map(|core| core.instructions).sum()
    }

    /// What the orders cost EL2, in instructions for each of what the last of them counts.
    fn count(&mut self, orders: &[(usize, char)]) -> f64 {
        let cost = |counter: &mut Self, orders: &[(usize, char)]| {
            let before = counter.instructions();
            for &(guest, order) in orders {
                counter.order(guest, order);
            }
            let done = orders
                .iter()
                .map(|&(guest, order)| counter.done(guest, order));
            let count = done.last().expect("an order");
            (counter.instructions() - before, count)
        };
        let nothing: Vec<_> = orders.iter().map(|&(guest, _)| (guest, 'n')).collect();
        let (asking, _) = cost(self, &nothing);
        let (all, count) = cost(self, orders);
        let each = (all as f64 - asking as f64) / count;
        eprintln!("{orders:?}: {each:.1} for each of {count}; asking alone: {asking}");
        each
    }
}

/// The guest and the cable.
fn wire() -> Vec<Value> {
    let peer = Peer::new("bench-wire");
    let guest = guest("io", &format!("peer={}", peer::MAC_DIGITS)).card();
    let mut counter = Counter::boot("bench-wire", 1, vec![guest], &peer.arguments());
    counter.order(0, 'x');
    counter.done(0, 'x');
    let exit = number(counter.board.text(), "BENCH virtio_exit_instructions ");
    let sent = counter.count(&[(0, 't')]);
    let received = counter.count(&[(0, 'c')]);
    counter.board.power_off();
    vec![
        ("virtio_exit_instructions", exit),
        ("frame_tx_instructions", sent),
        ("frame_rx_instructions", received),
    ]
}

/// Two guests, on one core: with two, a core that spins for a lock under icount uses up its turn with that, and is counted.
fn local() -> f64 {
    let from = guest("from", "").card_of("02:00:00:00:00:01");
    let to = guest("to", "peer=020000000001").card();
    let mut counter = Counter::boot("bench-local", 1, vec![from, to], &[]);
    let each = counter.count(&[(0, 's'), (1, 'c')]);
    counter.board.power_off();
    each
}

/// Reads and writes on a volume of the board's disk; the dearer of the two.
fn blocks() -> f64 {
    let disk = Disk::new("bench-disk");
    let guest = guest("io", "").volume("data");
    let mut counter = Counter::boot("bench-disk", 1, vec![guest], &disk.arguments());
    let written = counter.count(&[(0, 'w')]);
    let read = counter.count(&[(0, 'r')]);
    counter.board.power_off();
    written.max(read)
}

/// A board's disk with a volume, until it is dropped.
struct Disk {
    path: PathBuf,
}

impl Disk {
    fn new(name: &str) -> Self {
        let path = paths::results().join(name).with_extension("img");
        let file = File::create(&path).expect("a disk");
        file.set_len(DISK_MIB << 20).expect("a disk");
        let disk = Self { path };
        disk.volume(&["init"]);
        disk.volume(&["create", "data", "--size", &format!("{VOLUME_MIB}M")]);
        disk
    }

    fn volume(&self, words: &[&str]) {
        let output = Command::new(paths::tool())
            .arg("volume")
            .args(&words[..1])
            .arg(&self.path)
            .args(&words[1..])
            .output()
            .expect("hearth volume started");
        assert!(
            output.status.success(),
            "hearth volume {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn arguments(&self) -> Vec<String> {
        [
            "-global",
            "virtio-mmio.force-legacy=false",
            "-drive",
            &format!("if=none,id=disk,format=raw,file={}", self.path.display()),
            "-device",
            "virtio-blk-device,drive=disk",
        ]
        .map(String::from)
        .into()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
