//! What is lost while a guest moves: at each step of the engine its source is killed, its destination is killed, or the cable between them is cut. The move is held at the step by a
//! debugging order at a board's console (docs/console.md); a client outside asks all the time, and judges.

use std::thread;
use std::time::{Duration, Instant};

use system::cluster::next;
use system::{Cluster, Guest, Package, saw};

/// A step of a move that a board can hold.
struct Step {
    name: &'static str,
    /// The key that names it.
    key: char,
    /// Whether the destination holds it.
    at_destination: bool,
}

const fn source(name: &'static str, key: char) -> Step {
    Step {
        name,
        key,
        at_destination: false,
    }
}

const fn destination(name: &'static str, key: char) -> Step {
    Step {
        name,
        key,
        at_destination: true,
    }
}

/// The engine's steps, in their order.
const STEPS: [Step; 10] = [
    source("ordered", 'o'),
    source("knock", 'k'),
    destination("comes", 'n'),
    source("let in", 'l'),
    source("first round", '1'),
    source("later round", '2'),
    source("stopped", 's'),
    source("rest sent", 'e'),
    destination("whole", 'w'),
    source("complete", 'c'),
];

/// What happens at a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Source,
    Destination,
    Cable,
}

/// Later steps cannot be held, only be noticed: the source has asked for the hand-over, the guest goes on at the destination.
const ASKED: &str = "guest web is at board";
const GOES_ON: &str = "guest 0 has come and goes on here";

/// How long a cable is cut: longer than a source waits for a destination that is silent, 3 s, so that no move goes on behind it.
const CUT: Duration = Duration::from_millis(3_500);
/// How long a copy that may not go on is given to show that it does.
const SETTLE: Duration = Duration::from_secs(1);

/// A small guest whose memory is full, and which writes as fast as it is asked; a client outside asks.
fn asked(test: &str, gic: &str) -> Cluster {
    let web = Guest::bare_metal("answer", 1).named("web").memory(32);
    let package = Package::of([web.with("ip=10.7.0.11 fill=1 busy_kib=64").card()]);
    let options = ["--smp=1", "--memory=256", "--gic", gic];
    let cluster = Cluster::up(test, package, "web", &options);
    cluster.good(&["drill", "watch", "web", "--service", "10.7.0.11:7007"]);
    cluster
}

/// Where a board's console ends now, in bytes.
fn end(cluster: &Cluster, board: &str) -> usize {
    cluster.log(board).len()
}

/// Waits until a board has said this behind `from`.
#[track_caller]
fn says(cluster: &Cluster, board: &str, from: usize, text: &str) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let log = cluster.log(board);
        if log.get(from..).is_some_and(|new| new.contains(text)) {
            return;
        }
        assert!(
            Instant::now() < until,
            "{board} did not say {text}:\n{}",
            log.get(from..).unwrap_or_default()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// Orders the guest's move to the next board.
fn order(cluster: &Cluster, from: &str) {
    cluster.good(&["migrate", "web", "--to", next(from)]);
}

/// Something is lost, and all comes back.
fn lose(cluster: &Cluster, at: &str, loss: Loss, held_by: Option<&str>) {
    let to = next(at);
    match loss {
        Loss::Source => drop(cluster.good(&["lab", "kill", at])),
        Loss::Destination => drop(cluster.good(&["lab", "kill", to])),
        Loss::Cable => drop(cluster.good(&["lab", "faults", to, "--cut=on"])),
    }
    let is_there = held_by.is_some_and(|board| match loss {
        Loss::Source => board != at,
        Loss::Destination => board != to,
        Loss::Cable => true,
    });
    if let Some(board) = held_by.filter(|_| is_there) {
        cluster.good(&["lab", "type", board, r"\x1dh."]);
    }
    thread::sleep(match loss {
        Loss::Cable => CUT,
        _ => SETTLE,
    });
    match loss {
        Loss::Source => drop(cluster.good(&["lab", "restart", at])),
        Loss::Destination => drop(cluster.good(&["lab", "restart", to])),
        Loss::Cable => drop(cluster.good(&["lab", "heal", to])),
    }
    cluster.settles("web");
}

/// At each held step this is lost. How often the guest boots anew is what step and loss say: when its board dies before the cluster has answered.
fn at_each_step(test: &str, gic: &str, loss: Loss) {
    let cluster = asked(test, gic);
    let begun = Instant::now();
    let (mut least, mut most) = (1, 1);
    for step in &STEPS {
        let at = cluster.owner("web");
        let holder = if step.at_destination { next(at) } else { at };
        let from = end(&cluster, holder);
        cluster.good(&["lab", "type", holder, &format!(r"\x1dh{}", step.key)]);
        says(&cluster, holder, from, "hold: the next move waits before");
        order(&cluster, at);
        says(&cluster, holder, from, "hold: guest web waits before");
        lose(&cluster, at, loss, Some(holder));
        let owner = cluster.owner("web");
        let name = step.name;
        match loss {
            // It is lost with its board, and another starts it.
            Loss::Source => {
                assert_ne!(owner, at, "the source lost at step {name}");
                (least, most) = (least + 1, most + 1);
            }
            // All is there, and the source may know: it may be handed over to a board that dies before anybody notices, and start anew.
            _ if matches!(step.key, 'e' | 'c') => most += 1,
            _ => assert_eq!(owner, at, "the destination lost at step {name}"),
        }
    }
    let (took, losses) = (begun.elapsed().as_secs(), STEPS.len());
    saw!(test, "{losses} losses, one at each step, in {took} s");
    judge(&cluster, test, (least, most));
}

/// What the client saw: never two copies, and so many boots at the least and at the most.
#[track_caller]
fn judge(cluster: &Cluster, test: &str, (least, most): (usize, usize)) {
    // The last boot is to be heard.
    thread::sleep(SETTLE);
    let said = cluster.run(&["drill", "judge", "--stall", "8s", "--json"]);
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{text}");
    // Each boot says when it was heard first; the longest stall, how long it was.
    let boots = text.matches("\"first_us\"").count();
    let stall = text.split("\"length_us\":").nth(1);
    let stall = stall.and_then(|rest| rest.split([',', '}']).next());
    saw!(
        test,
        "{boots} boots, the longest stall {} us",
        stall.unwrap_or("?")
    );
    assert!((least..=most).contains(&boots), "{boots} boots: {text}");
}

#[test]
fn a_guest_boots_once_more_when_its_board_is_killed_at_any_step_of_its_move() {
    at_each_step("losses_source", "2", Loss::Source);
}

#[test]
fn a_guest_goes_on_when_the_destination_is_killed_at_any_step_of_its_move() {
    at_each_step("losses_destination", "2", Loss::Destination);
}

#[test]
fn a_guest_goes_on_when_the_destination_is_cut_off_at_any_step_of_its_move() {
    at_each_step("losses_cable", "3", Loss::Cable);
}

/// At the last steps, which nobody can hold.
fn at_the_end(test: &str, is_destination_first: bool, text: &str, losses: &[(Loss, usize)]) {
    let cluster = asked(test, "3");
    let mut boots = 1;
    for &(loss, more) in losses {
        let at = cluster.owner("web");
        let teller = if is_destination_first { next(at) } else { at };
        let from = end(&cluster, teller);
        order(&cluster, at);
        says(&cluster, teller, from, text);
        lose(&cluster, at, loss, None);
        boots += more;
    }
    judge(&cluster, test, (1, boots));
}

#[test]
fn a_guest_is_never_twice_when_a_board_is_lost_as_the_cluster_decides() {
    // Whoever owns it when the board dies: one boot more at the most.
    let losses = [(Loss::Source, 1), (Loss::Destination, 1), (Loss::Cable, 1)];
    at_the_end("losses_asked", false, ASKED, &losses);
}

#[test]
fn a_guest_that_has_arrived_needs_its_source_no_more() {
    at_the_end("losses_arrived", true, GOES_ON, &[(Loss::Source, 0)]);
}
