//! Guests that move between the boards of a cluster while they run.

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use system::cluster::{BOARDS, next};
use system::lab::longest_still;
use system::{Cluster, Guest, Package, saw};

/// How long a move may take, on a machine that has much else to do, seconds.
const MOVE: &str = "120";
/// Moves of a guest that watches itself.
const MOVES: usize = 100;

/// Orders a move to the board behind `from`, and follows it.
fn order(cluster: &Cluster, guest: &str, from: &str) -> Child {
    let to = next(from);
    let words = ["migrate", guest, "--to", to, "--follow", "--patience", MOVE];
    let order = cluster
        .command(&words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    order.expect("hearth started")
}

/// What an order comes to that is to end with this exit code.
#[track_caller]
fn comes_to(order: Child, code: i32) -> String {
    let output = order.wait_with_output().expect("an order that ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let course = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}{course}");
    said
}

/// Moves a guest to the next board, and does something `meanwhile`.
#[track_caller]
fn moves_on(
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

/// A guest that checks its registers, memory, counters and timers does not notice that it goes from board to board. Each of its ticks is heard once, in their order.
fn nobody_notices(test: &str, gic: &str) {
    let guest = Guest::bare_metal("count", 2).named("mover");
    let package = Package::of([guest.with("ticks=0 mib=8 kib=32")]);
    let cluster = Cluster::up(
        test,
        package,
        "mover",
        &["--smp=2", "--memory=512", "--gic", gic],
    );
    let first = cluster.owner("mover");
    cluster.said(first, "[mover] COUNT 5");
    let mut at = first;
    let begun = Instant::now();
    for _ in 0..MOVES {
        at = moves_on(&cluster, "mover", at, |_| {});
    }
    let took = begun.elapsed();
    let logs = BOARDS.map(|board| cluster.log(board));
    assert!(!logs.concat().contains("FAIL"), "a guest noticed");
    let ticks = ticks(&logs, first);
    saw!(
        test,
        "{MOVES} moves in {} ms, still for at most {} us, {} ticks",
        took.as_millis(),
        longest_still(&logs.concat()),
        ticks.len()
    );
    let astray = ticks.iter().zip(1..).find(|(tick, n)| *tick != n);
    assert_eq!(astray, None, "a tick where another should be");
}

/// The ticks of a guest that has gone round all boards from the first on, in the order in which they were heard. A line that it had begun when it left ends on the next board.
fn ticks(logs: &[String; 3], first: &str) -> Vec<u64> {
    let mut stays: Vec<_> = logs
        .iter()
        .map(|log| log.split("hearth: guest mover comes from board"))
        .collect();
    // It was not on the others before it came there.
    for (board, stays) in BOARDS.iter().zip(&mut stays) {
        if *board != first {
            stays.next();
        }
    }
    let first = BOARDS.iter().position(|board| *board == first);
    let mut said: Vec<String> = Vec::new();
    for n in 0..=MOVES {
        let at = (first.expect("a board") + n) % BOARDS.len();
        let stay = stays[at].next().expect("a stay for each move");
        for line in stay
            .lines()
            .filter_map(|line| line.split("[mover] ").nth(1))
        {
            match said.last_mut() {
                Some(begun) if !line.starts_with("COUNT") => begun.push_str(line),
                _ => said.push(line.into()),
            }
        }
    }
    let tick = |line: &String| line.strip_prefix("COUNT ")?.parse().ok();
    said.iter().filter_map(tick).collect()
}

#[test]
fn a_guest_does_not_notice_a_hundred_moves_between_boards_on_gicv3() {
    nobody_notices("migrate_gicv3", "3");
}

#[test]
fn a_guest_does_not_notice_a_hundred_moves_between_boards_on_gicv2() {
    nobody_notices("migrate_gicv2", "2");
}

/// Values that a client keeps in a Redis and reads back, and the length of each.
const VALUES: usize = 20;
const VALUE_BYTES: usize = 1000;
/// What a client does between two rounds of them: a guest that is not slowed down must not write faster than a board of one emulated core copies.
const THINKS: Duration = Duration::from_millis(50);
/// Moves under a client's load.
const LOADED_MOVES: usize = 10;

/// Debian with a disk from an image and a card: one connection to its Redis lasts from the first move to the last, and what it was given is there.
#[test]
fn a_guests_clients_stay_connected_while_it_goes_from_board_to_board() {
    let test = "migrate_redis";
    let web = Guest::debian_on("root.ext4", "web", "redis-durable").with("hearth.ip=10.7.0.11/24");
    let package = Package::of([web.card()]);
    let cluster = Cluster::up(test, package, "web", &["--smp=1", "--memory=768"]);
    let mut at = cluster.owner("web");
    cluster.said(at, "hearth-guest: redis answers");
    let mut client = cluster.client("10.7.0.11:6379");
    client.keeps(VALUES, VALUE_BYTES, 0);
    let unmoved = client.longest();
    for n in 1..=LOADED_MOVES {
        at = moves_on(&cluster, "web", at, |order| {
            while order.try_wait().expect("an order").is_none() {
                client.keeps(VALUES, VALUE_BYTES, n);
                thread::sleep(THINKS);
            }
        });
        client.has(VALUES, VALUE_BYTES, n);
    }
    client.ask(b"DBSIZE\r\n", format!(":{VALUES}\r\n").as_bytes());
    let logs = BOARDS.map(|board| cluster.log(board)).concat();
    for wrong in ["I/O error", "Kernel panic", "EXT4-fs error"] {
        assert!(!logs.contains(wrong), "{wrong} in:\n{logs}");
    }
    saw!(
        test,
        "{LOADED_MOVES} moves under load, still for at most {} us, the client waited for at most {} ms (before, {} ms)",
        longest_still(&logs),
        client.longest().as_millis(),
        unmoved.as_millis()
    );
}

/// A guest that a client outside asks all the time, on boards that have room for one copy of it and not for two.
fn asked(test: &str) -> (Cluster, &'static str) {
    let web = Guest::bare_metal("answer", 1).named("web").memory(192);
    let package = Package::of([web.with("ip=10.7.0.11 fill=1").card()]);
    let cluster = Cluster::up(test, package, "web", &["--smp=1", "--memory=384"]);
    cluster.good(&["drill", "watch", "web", "--service", "10.7.0.11:7007"]);
    let at = cluster.owner("web");
    (cluster, at)
}

/// Begins to move it to the next board, and is back when its memory is on the way.
fn under_way(cluster: &Cluster, from: &str) -> Child {
    let order = order(cluster, "web", from);
    cluster.said(next(from), "guest web comes from board");
    order
}

/// The move came to nothing while the guest's memory was on the way.
#[track_caller]
fn was_in_the_middle(cluster: &Cluster, from: &str) {
    let said = cluster.log(from);
    assert!(!said.contains("guest web is at board"), "too late:\n{said}");
}

/// What the client saw: so many boots, never two copies, and no longer without an answer than that.
#[track_caller]
fn judge(cluster: &Cluster, test: &str, boots: &str, stall: &str) {
    let said = cluster.good(&["drill", "judge", "--boots", boots, "--stall", stall]);
    saw!(test, "{}", said.trim_end().replace('\n', "; "));
}

#[test]
fn a_guest_is_started_anew_when_its_board_is_lost_in_the_middle_of_a_move() {
    let test = "migrate_source_killed";
    let (cluster, at) = asked(test);
    let order = under_way(&cluster, at);
    cluster.good(&["lab", "kill", at]);
    let said = comes_to(order, 1);
    assert!(said.contains("web did not move, and left"), "{said}");
    was_in_the_middle(&cluster, at);
    cluster.good(&["lab", "restart", at]);
    cluster.settles("web");
    // Nothing of the copy that was not finished is in the way.
    let at = cluster.owner("web");
    moves_on(&cluster, "web", at, |_| {});
    judge(&cluster, test, "2", "6s");
}

/// A move whose destination is lost in the middle, by these verbs with its name, and comes back by others.
fn stays_when_the_destination_is_lost(test: &str, lose: &[&str], find: &[&str]) {
    let (cluster, at) = asked(test);
    let order = under_way(&cluster, at);
    cluster.good(&[lose, &[next(at)]].concat());
    let said = comes_to(order, 1);
    assert!(said.contains(&format!("web stays on {at}")), "{said}");
    let reason = "the other board left the cluster or no longer answered";
    assert!(said.contains(reason), "{said}");
    was_in_the_middle(&cluster, at);
    cluster.good(&[find, &[next(at)]].concat());
    cluster.settles("web");
    moves_on(&cluster, "web", at, |_| {});
    judge(&cluster, test, "1", "2s");
}

#[test]
fn a_guest_stays_when_its_destination_is_killed_in_the_middle_of_a_move() {
    let test = "migrate_destination_killed";
    stays_when_the_destination_is_lost(test, &["lab", "kill"], &["lab", "restart"]);
}

#[test]
fn a_guest_stays_when_its_destination_is_cut_off_in_the_middle_of_a_move() {
    let test = "migrate_destination_cut";
    stays_when_the_destination_is_lost(test, &["lab", "faults", "--cut=on"], &["lab", "heal"]);
}

#[test]
fn a_guest_stays_when_its_move_is_called_off() {
    let test = "migrate_cancelled";
    let (cluster, at) = asked(test);
    let order = under_way(&cluster, at);
    let said = cluster.good(&["migrate", "web", "--cancel"]);
    assert!(said.contains(&format!("web stays on {at}")), "{said}");
    let said = comes_to(order, 1);
    assert!(said.contains(&format!("web stays on {at}")), "{said}");
    was_in_the_middle(&cluster, at);
    moves_on(&cluster, "web", at, |_| {});
    judge(&cluster, test, "1", "2s");
}

#[test]
fn a_move_to_a_board_without_room_is_refused() {
    let test = "migrate_no_room";
    let guest = |name| Guest::bare_metal("spin", 1).named(name).memory(192);
    let package = Package::of([guest("web"), guest("neighbour")]);
    let cluster = Cluster::up(test, package, "web", &["--smp=1", "--memory=384"]);
    cluster.settles("neighbour");
    let to = cluster.owner("neighbour");
    let refused = cluster.run(&["migrate", "web", "--to", to]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains(to) && said.contains("MiB"), "{said}");
}

#[test]
fn a_move_ends_well_on_a_network_that_loses_doubles_and_reorders_frames() {
    let test = "migrate_faults";
    let (cluster, mut at) = asked(test);
    let faults = ["--loss=5%", "--duplicate=5%", "--reorder=5%"];
    cluster.good(&[&["lab", "faults"], &faults[..]].concat());
    let begun = Instant::now();
    for _ in BOARDS {
        at = moves_on(&cluster, "web", at, |_| {});
    }
    saw!(test, "three moves in {} ms", begun.elapsed().as_millis());
    cluster.good(&["lab", "heal"]);
    judge(&cluster, test, "1", "2s");
}
