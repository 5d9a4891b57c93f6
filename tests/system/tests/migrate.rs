//! Guests that move between the boards of a cluster while they run.

use std::process::Child;
use std::time::{Duration, Instant};

use system::cluster::{BOARDS, next};
use system::lab::longest_still;
use system::moves::{comes_to, moves, moves_on, order, under_redis};
use system::{Cluster, Guest, Package, saw};

/// Moves of a guest that watches itself.
const MOVES: usize = 100;
/// Moves under a client's load.
const LOADED_MOVES: usize = 10;

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

/// The ticks of a guest that has gone round all boards from the first on, in the order in which they were heard. A line that it had begun when it left, if only by a
/// letter, ends on the next board: what it said is joined before it is taken apart.
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
    let mut said = String::new();
    for n in 0..=MOVES {
        let at = (first.expect("a board") + n) % BOARDS.len();
        let stay = stays[at].next().expect("a stay for each move");
        let its_own = stay
            .lines()
            .filter_map(|line| line.split("[mover] ").nth(1));
        said.extend(its_own);
    }
    // Of the last the end may still have to come.
    let (whole, _) = said.rsplit_once("COUNT ").expect("ticks");
    let ticks = whole.split("COUNT ").skip(1);
    ticks
        .map(|tick| tick.parse().expect("a tick's number"))
        .collect()
}

#[test]
fn a_guest_does_not_notice_a_hundred_moves_between_boards_on_gicv3() {
    nobody_notices("migrate_gicv3", "3");
}

#[test]
fn a_guest_does_not_notice_a_hundred_moves_between_boards_on_gicv2() {
    nobody_notices("migrate_gicv2", "2");
}

/// Debian with a disk from an image and a card: one connection to its Redis lasts from the first move to the last, and what it was given is there.
#[test]
fn a_guests_clients_stay_connected_while_it_goes_from_board_to_board() {
    let test = "migrate_redis";
    let noticed = under_redis(test, moves(LOADED_MOVES));
    let millis = |stall: Duration| stall.as_millis();
    saw!(
        test,
        "{} moves under load, still for at most {} us; the client's longest wait of a move: {} ms (median), {} ms (worst); before, {} ms; heartbeats at most {} us late",
        noticed.stalls.len(),
        noticed.still_us,
        millis(noticed.percentile(50)),
        millis(noticed.percentile(100)),
        millis(noticed.unmoved),
        noticed.late_us
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

/// How long `writer` is still for the move that said this, milliseconds.
#[track_caller]
fn still_ms(said: &str) -> f64 {
    let still = said.split("still for ").nth(1);
    let millis = still.and_then(|still| still.split(' ').next()?.parse().ok());
    millis.unwrap_or_else(|| panic!("it is not told: {said}"))
}

/// A guest that rewrites all that it has faster than a board copies: it goes when it may be still for as long as that takes, and only then.
#[test]
fn a_guest_is_still_for_no_longer_than_was_allowed() {
    let test = "migrate_downtime";
    let guest = Guest::bare_metal("dirty", 1).named("writer");
    let package = Package::of([guest.with("mib=24 busy_kib=1024 every_ms=1")]);
    let cluster = Cluster::up(test, package, "writer", &["--smp=1", "--memory=512"]);
    let at = cluster.owner("writer");
    cluster.said(at, "DIRTY pages=");
    let order = |downtime| {
        let to = ["migrate", "writer", "--to", next(at), "--follow"];
        cluster.run(&[&to[..], &["--patience=240", "--downtime", downtime]].concat())
    };
    let refused = order("2");
    let said = String::from_utf8_lossy(&refused.stdout);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("writer stays on {at}")), "{said}");
    assert!(said.contains("faster than that could be copied"), "{said}");
    assert_eq!(cluster.owner("writer"), at);
    let moved = order("10000");
    let said = String::from_utf8_lossy(&moved.stdout);
    assert_eq!(moved.status.code(), Some(0), "{said}");
    saw!(test, "{}", said.trim_end());
    // Longer than it may be if nothing is said.
    assert!((300.0..=10_000.0).contains(&still_ms(&said)), "{said}");
    cluster.said(next(at), "DIRTY pages=");
}
