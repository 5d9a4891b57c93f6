//! Guests that are saved to files while they run, and go on from them.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use el2_hyp::record::checksum::checksum;
use el2_hyp::record::section::HEAD_BYTES;
use system::cluster::{BOARDS, next};
use system::{Cluster, Guest, Package, saw};

/// Where a saved guest is in these tests.
const FILE: &str = "saved.hearth";
/// Ticks by which a guest has gone on.
const ON: u64 = 10;
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(200);
/// How long it may take until a restore that nobody leads any more is given up.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// The ticks that a board's `mover` has told, in their order.
fn ticks(cluster: &Cluster, board: &str) -> Vec<u64> {
    let log = cluster.log(board);
    assert!(!log.contains("FAIL"), "a guest noticed:\n{log}");
    // Of the last line half may have come yet.
    let whole = log
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let ticks = whole.filter_map(|line| line.split("COUNT ").nth(1)?.trim().parse().ok());
    ticks.collect()
}

/// Waits until the guest has gone on by some ticks, of which it has told the last just now; the last.
#[track_caller]
fn goes_on(cluster: &Cluster, board: &str) -> u64 {
    let last = ticks(cluster, board).last().copied().unwrap_or(0);
    cluster.said(board, &format!("[mover] COUNT {}", last + ON));
    last
}

/// A guest that checks its registers, memory, counters and timers, on boards of that interrupt controller; and where it runs.
fn counts(test: &str, options: &[&str], (vcpus, words): (u8, &str)) -> (Cluster, &'static str) {
    let guest = Guest::bare_metal("count", vcpus).named("mover").memory(192);
    let package = Package::of([guest.with(words)]);
    let cluster = Cluster::up(test, package, "mover", options);
    let at = cluster.owner("mover");
    cluster.said(at, "[mover] COUNT 5");
    // A file of an earlier run is none of this one's.
    let _ = fs::remove_file(file(&cluster));
    (cluster, at)
}

fn file(cluster: &Cluster) -> PathBuf {
    cluster.folder().join(FILE)
}

/// Saves `mover`; which tick it tells first when it goes on from the file, at the least and at the most.
fn save(cluster: &Cluster, test: &str, at: &str) -> (u64, u64) {
    let before = ticks(cluster, at).last().copied().expect("it ticks");
    let said = cluster.good(&["guest", "save", "mover", "--to", FILE]);
    let after = ticks(cluster, at).last().copied().expect("it ticks");
    saw!(test, "{}", said.trim_end());
    assert!(said.contains("and runs on"), "{said}");
    goes_on(cluster, at);
    (before + 1, after + 1)
}

fn stop(cluster: &Cluster) {
    cluster.good(&["guest", "stop", "mover", "--wait"]);
}

/// Begins to have `mover` go on from its file on a board, and is back when it is on its way there.
fn under_way(cluster: &Cluster, to: &str) -> Child {
    let words = ["guest", "restore", "mover", "--from", FILE, "--to", to];
    let mut command = cluster.command(&words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let order = command.spawn().expect("hearth started");
    cluster.said(to, "guest mover comes from a file at");
    order
}

/// A verb that ends with this exit code; what it says.
#[track_caller]
fn ends(cluster: &Cluster, words: &[&str], code: i32) -> String {
    let output = cluster.run(words);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[track_caller]
fn is_stopped(cluster: &Cluster) {
    let said = cluster.good(&["why", "mover"]);
    assert!(
        said.contains("mover is stopped, as an operator wants it"),
        "{said}"
    );
}

/// A guest does not notice that it was saved, nor that it goes on from that on another board, as often as one likes.
fn nobody_notices(test: &str, gic: &str) {
    let options = ["--smp=2", "--memory=512", "--gic", gic];
    let (cluster, at) = counts(test, &options, (2, "mib=8 kib=32"));
    let (least, most) = save(&cluster, test, at);
    stop(&cluster);
    let mut firsts = Vec::new();
    for to in [next(at), next(next(at))] {
        let words = [
            "guest", "restore", "mover", "--from", FILE, "--force", "--to", to,
        ];
        let said = cluster.good(&words);
        saw!(test, "{}", said.trim_end());
        assert_eq!(cluster.owner("mover"), to);
        goes_on(&cluster, to);
        let ticks = ticks(&cluster, to);
        let first = ticks[0];
        assert!(
            (least..=most).contains(&first),
            "{first} is not of {least} to {most}"
        );
        assert!(
            ticks.iter().copied().eq(first..first + ticks.len() as u64),
            "{ticks:?}"
        );
        firsts.push(first);
    }
    assert_eq!(firsts[0], firsts[1], "the same file is the same guest");
    // It is a guest like any other: it moves, and starts anew when its board is lost.
    let from = next(next(at));
    cluster.good(&[
        "migrate",
        "mover",
        "--to",
        at,
        "--follow",
        "--patience",
        "120",
    ]);
    goes_on(&cluster, at);
    cluster.good(&["lab", "kill", at]);
    cluster.good(&["lab", "restart", at]);
    cluster.settles("mover");
    assert!(cluster.log(from).contains("guest mover is at board"));
}

#[test]
fn a_guest_goes_on_from_its_file_on_another_board_on_gicv3() {
    nobody_notices("save_gicv3", "3");
}

#[test]
fn a_guest_goes_on_from_its_file_on_another_board_on_gicv2() {
    nobody_notices("save_gicv2", "2");
}

/// Values that a client keeps in a Redis, and the length of each.
const VALUES: usize = 20;
const VALUE_BYTES: usize = 1000;

/// Debian with a disk from an image and a card: what its Redis was given before it was saved is there, and what it was given later is not; and it did not boot.
#[test]
fn a_debian_guest_goes_on_from_its_file_with_its_disk() {
    let test = "save_redis";
    let web = Guest::debian_on("root.ext4", "web", "redis-durable").with("hearth.ip=10.7.0.11/24");
    let package = Package::of([web.card()]);
    let cluster = Cluster::up(test, package, "web", &["--smp=1", "--memory=768"]);
    let at = cluster.owner("web");
    cluster.said(at, "hearth-guest: redis answers");
    let mut client = cluster.client("10.7.0.11:6379");
    client.keeps(VALUES, VALUE_BYTES, 0);
    let said = cluster.good(&["guest", "save", "web", "--to", FILE, "--force"]);
    saw!(test, "{}", said.trim_end());
    // The connection lasts, and the guest goes on to write.
    client.has(VALUES, VALUE_BYTES, 0);
    client.keeps(VALUES, VALUE_BYTES, 1);
    let to = next(at);
    let words = [
        "guest", "restore", "web", "--from", FILE, "--force", "--to", to,
    ];
    let said = cluster.good(&words);
    saw!(test, "{}", said.trim_end());
    let mut client = cluster.client("10.7.0.11:6379");
    client.has(VALUES, VALUE_BYTES, 0);
    client.keeps(VALUES, VALUE_BYTES, 2);
    client.ask(b"DBSIZE\r\n", format!(":{VALUES}\r\n").as_bytes());
    let log = cluster.log(to);
    for wrong in ["init reached", "I/O error", "Kernel panic", "EXT4-fs error"] {
        assert!(!log.contains(wrong), "{wrong} in:\n{log}");
    }
    // Its console goes on where it was.
    let console = cluster.good(&["guest", "console", "web", "--once"]);
    assert!(console.contains("hearth-guest: redis answers"), "{console}");
}

/// What takes a while to send.
const LARGE: (u8, &str) = (1, "mib=64 kib=32");
const SLOW: [&str; 2] = ["--smp=1", "--memory=512"];

#[test]
fn a_save_that_is_called_off_leaves_the_guest_running_and_no_file() {
    let test = "save_cancelled";
    let (cluster, at) = counts(test, &SLOW, LARGE);
    let mut command = cluster.command(&["guest", "save", "mover", "--to", FILE]);
    let order = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("hearth started");
    cluster.said(at, "guest mover is saved to a file at");
    let pid = order.id().to_string();
    let signalled = Command::new("kill")
        .args(["-INT", &pid])
        .status()
        .expect("kill");
    assert!(signalled.success());
    let output = order.wait_with_output().expect("an order that ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("called off: mover runs on"), "{said}");
    let names = fs::read_dir(cluster.folder()).expect("a folder");
    let names: Vec<_> = names.map(|it| it.expect("an entry").file_name()).collect();
    let is_of_it = |name: &std::ffi::OsString| name.to_string_lossy().contains("saved");
    assert!(!names.iter().any(is_of_it), "{names:?}");
    cluster.said(at, "guest mover stays here");
    goes_on(&cluster, at);
    // Nothing is in the way of the next one.
    save(&cluster, test, at);
}

/// Changes a byte of the file, and makes the sum of its first section right again if `mends` it.
fn change(cluster: &Cluster, at: usize, mends: bool) {
    let path = file(cluster);
    let mut bytes = fs::read(&path).expect("a saved guest");
    bytes[at] ^= 0x10;
    if mends {
        let length = bytes[8..].first_chunk().map(|it| u32::from_le_bytes(*it));
        let end = HEAD_BYTES + length.expect("a head") as usize;
        let sum = checksum([&bytes[..HEAD_BYTES - 4], &bytes[HEAD_BYTES..end]]);
        bytes[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(&path, bytes).expect("a file");
}

#[test]
fn what_does_not_fit_is_refused_and_the_guest_stays_as_it_is() {
    let test = "save_refused";
    let guest = Guest::bare_metal("count", 2).named("mover").memory(192);
    let other = Guest::bare_metal("spin", 2).named("other");
    let package = Package::of([guest.with("mib=8 kib=32"), other]);
    let cluster = Cluster::up(test, package, "mover", &["--smp=2", "--memory=512"]);
    let at = cluster.owner("mover");
    cluster.said(at, "[mover] COUNT 5");
    let _ = fs::remove_file(file(&cluster));
    save(&cluster, test, at);
    let restore = ["guest", "restore", "mover", "--from", FILE];
    let said = ends(&cluster, &restore, 3);
    assert!(said.contains("only a stopped guest is restored"), "{said}");
    let again = ["guest", "save", "mover", "--to", FILE];
    let said = ends(&cluster, &again, 3);
    assert!(said.contains("--force replaces it"), "{said}");
    stop(&cluster);
    let before = cluster.good(&["events"]);
    let length = fs::metadata(file(&cluster)).expect("a file").len() as usize;
    change(&cluster, length / 2, false);
    let said = ends(&cluster, &restore, 3);
    assert!(said.contains("cannot be restored"), "{said}");
    change(&cluster, length / 2, false);
    let said = ends(
        &cluster,
        &["guest", "restore", "other", "--from", FILE, "--force"],
        3,
    );
    assert!(said.contains("it is not the same guest"), "{said}");
    assert_eq!(before, cluster.good(&["events"]), "nothing was ordered");
    // CTR_EL0, which no class of boards tells apart: the board itself refuses.
    let cache_type = HEAD_BYTES + 35;
    change(&cluster, cache_type, true);
    let said = ends(&cluster, &restore, 3);
    assert!(
        said.contains("its processor is another; mover is stopped"),
        "{said}"
    );
    is_stopped(&cluster);
    change(&cluster, cache_type, true);
    // The model of the processor, which makes another class: no board has it.
    change(&cluster, HEAD_BYTES + 27, true);
    let said = ends(&cluster, &restore, 3);
    assert!(said.contains("is of another class"), "{said}");
    change(&cluster, HEAD_BYTES + 27, true);
    cluster.good(&restore);
    goes_on(&cluster, cluster.owner("mover"));
}

#[test]
fn a_guest_is_stopped_when_its_board_is_lost_while_it_comes_from_a_file() {
    let test = "save_board_killed";
    let (cluster, at) = counts(test, &SLOW, LARGE);
    let (least, most) = save(&cluster, test, at);
    stop(&cluster);
    let to = next(at);
    let order = under_way(&cluster, to);
    cluster.good(&["lab", "kill", to]);
    let output = order.wait_with_output().expect("an order that ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("does not answer any more; mover is stopped"),
        "{said}"
    );
    is_stopped(&cluster);
    cluster.good(&["lab", "restart", to]);
    cluster.good(&[
        "guest",
        "restore",
        "mover",
        "--from",
        FILE,
        "--to",
        next(to),
    ]);
    goes_on(&cluster, next(to));
    let first = ticks(&cluster, next(to))[0];
    assert!(
        (least..=most).contains(&first),
        "{first} is not of {least} to {most}"
    );
    assert_eq!(ticks(&cluster, to), [], "it never ran there");
}

#[test]
fn a_guest_is_stopped_when_the_tool_is_lost_that_brings_it() {
    let test = "save_tool_killed";
    let (cluster, at) = counts(test, &SLOW, LARGE);
    save(&cluster, test, at);
    stop(&cluster);
    let to = next(at);
    let mut order = under_way(&cluster, to);
    order.kill().expect("it ran");
    order.wait().expect("it is gone");
    let begun = Instant::now();
    while !cluster.good(&["why", "mover"]).contains("mover is stopped") {
        assert!(begun.elapsed() < GIVEN_UP, "it is waited for without end");
        thread::sleep(AGAIN);
    }
    saw!(test, "given up after {} ms", begun.elapsed().as_millis());
    assert_eq!(ticks(&cluster, to), [], "it never ran there");
    cluster.good(&["guest", "restore", "mover", "--from", FILE, "--to", to]);
    goes_on(&cluster, to);
    assert!(
        BOARDS
            .iter()
            .all(|board| !cluster.log(board).contains("FAIL"))
    );
}
