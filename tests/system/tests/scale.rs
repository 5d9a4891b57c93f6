//! What an operator gives guests of their boards' cores.

use std::thread;
use std::time::{Duration, Instant};

use system::{Cluster, Guest, Package, saw};

/// Seconds over which guests are compared.
const SECONDS: usize = 10;
/// Until that many have been told.
const LIMIT: Duration = Duration::from_secs(120);

/// How much a spinning guest has done at each second of its own, as a board's log has it.
fn work(log: &str, guest: &str) -> Vec<f64> {
    let begin = format!("[{guest}] SPIN 0 ");
    let told = log.lines().filter_map(|line| line.split(&begin).nth(1));
    told.filter_map(|count| count.trim().parse().ok()).collect()
}

/// How much guests do in a second from now on.
#[track_caller]
fn rates<const N: usize>(cluster: &Cluster, board: &str, guests: [&str; N]) -> [f64; N] {
    let log = cluster.log(board);
    // The second in which an order was given has both.
    let first = guests.map(|guest| work(&log, guest).len() + 1);
    let begun = Instant::now();
    loop {
        let log = cluster.log(board);
        let told = guests.map(|guest| work(&log, guest));
        let all = told.iter().zip(first);
        if all
            .clone()
            .all(|(told, first)| told.len() > first + SECONDS)
        {
            let rates = all.map(|(told, first)| told[first + SECONDS] - told[first]);
            let rates: Vec<f64> = rates.map(|work| work / SECONDS as f64).collect();
            return rates.try_into().expect("one for each");
        }
        assert!(begun.elapsed() < LIMIT, "no guest spins: {log}");
        thread::sleep(Duration::from_millis(500));
    }
}

/// Weights and caps hold on a board of one core, and a guest whose board has too little left for its cap has it on another.
#[test]
fn a_guest_has_what_it_is_given() {
    let test = "a_guest_has_what_it_is_given";
    let spin = |name| Guest::bare_metal("spin", 1).named(name).memory(32);
    let package = Package::of([spin("heavy"), spin("light")]);
    let cluster = Cluster::up(test, package, "heavy", &["--smp=1", "--memory=512"]);
    cluster.settles("light");
    let board = cluster.owner("heavy");
    if cluster.owner("light") != board {
        cluster.good(&["migrate", "light", "--to", board, "--follow"]);
    }
    let [heavy, light] = rates(&cluster, board, ["heavy", "light"]);
    let (whole, even) = (heavy + light, 100.0 * heavy / (heavy + light));

    cluster.good(&["scale", "heavy", "--weight", "300"]);
    let [heavy, light] = rates(&cluster, board, ["heavy", "light"]);
    let weighed = 100.0 * heavy / (heavy + light);

    cluster.good(&["scale", "heavy", "--weight", "100"]);
    cluster.good(&["scale", "light", "--cpu-cap", "30"]);
    let [heavy, light] = rates(&cluster, board, ["heavy", "light"]);
    let capped = 100.0 * light / (heavy + light);
    saw!(
        test,
        "of two that spin, one has {even:.1} %, with three times the weight {weighed:.1} %, and the other with a cap of 30 % has {capped:.1} % ({whole:.0} in all)"
    );
    assert!((even - 50.0).abs() <= 2.0, "{even}");
    assert!((weighed - 75.0).abs() <= 2.0, "{weighed}");
    // What a cap allows is no promise: the board's work for the guest is its own.
    assert!((26.0..=31.0).contains(&capped), "{capped}");

    // Thirty of the board's hundred are another's.
    let said = cluster.good(&["scale", "heavy", "--cpu-cap", "95"]);
    let there = cluster.owner("heavy");
    assert_ne!(there, board, "{said}");
    let moved = format!("on {there}: {board} has 70 % left, too little, so it has moved");
    assert!(said.contains(&moved), "{said}");
    let refused = cluster.run(&["scale", "light", "--cpu-cap", "101"]);
    assert_eq!(refused.status.code(), Some(3));
}
