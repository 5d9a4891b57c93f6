//! Moves of guests between the boards of a [`Cluster`] while they run.

use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use crate::cluster::{BOARDS, Cluster, next};
use crate::lab::longest_still;
use crate::{Guest, Package};

/// How long a move may take, on a machine that has much else to do, seconds.
const MOVE: &str = "120";
/// Has the tests that move a guest again and again do it so often, whatever they do else.
const MOVES: &str = "HEARTH_MOVES";

/// Values that a client keeps in a Redis and reads back, and the length of each.
const VALUES: usize = 20;
const VALUE_BYTES: usize = 1000;
/// What a client does between two rounds of them: a guest that is not slowed down must not write faster than a board of one emulated core copies.
const THINKS: Duration = Duration::from_millis(50);

/// How often a guest is moved that is moved so often unless the environment's `HEARTH_MOVES` says otherwise.
///
/// # Panics
/// If that is no number.
pub fn moves(usual: usize) -> usize {
    std::env::var(MOVES).map_or(usual, |said| said.parse().expect("a number of moves"))
}

/// Orders a move to the board behind `from`, and follows it.
///
/// # Panics
/// If the tool does not start.
pub fn order(cluster: &Cluster, guest: &str, from: &str) -> Child {
    let to = next(from);
    let words = ["migrate", guest, "--to", to, "--follow", "--patience", MOVE];
    let mut command = cluster.command(&words);
    let order = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    order.spawn().expect("hearth started")
}

/// What an order says that is to end with this exit code.
///
/// # Panics
/// If it ends with another.
#[track_caller]
pub fn comes_to(order: Child, code: i32) -> String {
    let output = order.wait_with_output().expect("an order that ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let course = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}{course}");
    said
}

/// Moves a guest to the next board, and does something `meanwhile`; where it is then.
///
/// # Panics
/// If it does not come there.
#[track_caller]
pub fn moves_on(
    cluster: &Cluster,
    guest: &str,
    from: &str,
    meanwhile: impl FnOnce(&mut Child),
) -> &'static str {
    let mut order = order(cluster, guest, from);
    meanwhile(&mut order);
    let said = comes_to(order, 0);
    let to = next(from);
    let moved = format!("{guest} has moved from {from} to {to}");
    assert!(said.contains(&moved), "{said}");
    to
}

/// What a client outside noticed of moves.
#[derive(Debug)]
pub struct Noticed {
    /// How long it waited for an answer at the longest while the guest stayed where it was.
    pub unmoved: Duration,
    /// During each move, the shortest first.
    pub stalls: Vec<Duration>,
    /// How long the guest was still at the longest, as the boards tell, microseconds.
    pub still_us: u64,
    /// How late a board came to a heartbeat at the latest, as the boards tell, microseconds: by its own doing, and by this machine's.
    pub late_us: u64,
}

impl Noticed {
    /// The stall that so many of a hundred do not exceed.
    ///
    /// # Panics
    /// If there was no move, or there are more than a hundred of a hundred.
    pub fn percentile(&self, percent: usize) -> Duration {
        self.stalls[(self.stalls.len() - 1) * percent / 100]
    }
}

/// Moves Debian with a disk from an image, a card and a Redis from board to board, so often, while a client outside uses the Redis over one connection that lasts
/// from the first move to the last. All that it was given is there.
///
/// # Panics
/// If the client is answered otherwise, or the guest complains.
pub fn under_redis(test: &str, moves: usize) -> Noticed {
    let web = Guest::debian_on("root.ext4", "web", "redis-durable").with("hearth.ip=10.7.0.11/24");
    let package = Package::of([web.card()]);
    let cluster = Cluster::up(test, package, "web", &["--smp=1", "--memory=768"]);
    let mut at = cluster.owner("web");
    cluster.said(at, "hearth-guest: redis answers");
    let mut client = cluster.client("10.7.0.11:6379");
    client.keeps(VALUES, VALUE_BYTES, 0);
    let unmoved = client.take_longest();
    let mut stalls = Vec::new();
    for n in 1..=moves {
        at = moves_on(&cluster, "web", at, |order| {
            while order.try_wait().expect("an order").is_none() {
                client.keeps(VALUES, VALUE_BYTES, n);
                thread::sleep(THINKS);
            }
        });
        client.has(VALUES, VALUE_BYTES, n);
        stalls.push(client.take_longest());
    }
    stalls.sort_unstable();
    client.ask(b"DBSIZE\r\n", format!(":{VALUES}\r\n").as_bytes());
    let late_us = BOARDS.map(|board| heartbeats_late(&cluster, board));
    let logs = BOARDS.map(|board| cluster.log(board)).concat();
    for wrong in ["I/O error", "Kernel panic", "EXT4-fs error"] {
        assert!(!logs.contains(wrong), "{wrong} in:\n{logs}");
    }
    Noticed {
        unmoved,
        stalls,
        still_us: longest_still(&logs),
        late_us: late_us.into_iter().max().unwrap_or_default(),
    }
}

/// How late a board came to a heartbeat at the latest since it was switched on, microseconds.
#[track_caller]
fn heartbeats_late(cluster: &Cluster, board: &str) -> u64 {
    const WORDS: &str = "it has come to its heartbeats at most ";
    const STATUS: &str = "\x1ds";
    cluster.good(&["lab", "type", board, STATUS]);
    cluster.said(board, WORDS);
    // Of a line that was just seen to begin the end may still have to come.
    cluster.said(board, " us late");
    let log = cluster.log(board);
    let late = log.split(WORDS).nth(1);
    let late = late.and_then(|rest| rest.split(' ').next()?.parse().ok());
    late.expect("a number")
}
