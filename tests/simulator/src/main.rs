//! `simulator`: runs seeds one after another, then measures; see [`USAGE`].

use std::process::ExitCode;
use std::time::Instant;

use cluster_proto::limits::BOARDS_MAX;
use simulator::campaign::{Failure, post_mortem, run_seed, trace};
use simulator::figures::{self, Decisions, percentile};
use simulator::stats::Stats;

const USAGE: &str = "simulator [--steps N | --hours N] [--seed S] [--once] [--growth] [--json]
  --steps N   run seeds until N steps are done (default 2,000,000)
  --hours N   run seeds for so long
  --seed S    begin with this seed (default 1)
  --once      run that seed alone: what a failure tells you to do
  --growth    also measure what a board pays in clusters of 3 to 64 boards
  --json      print one object at the end, and nothing else";

/// Violations after which a run ends.
const ENOUGH: usize = 5;
/// Deaths that are measured.
const DEATHS: u64 = 1_000;
/// Simulated seconds over which the speed is measured.
const SPEED_SECONDS: u64 = 600;

struct Options {
    steps: u64,
    hours: Option<f64>,
    seed: u64,
    once: bool,
    growth: bool,
    json: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        steps: 2_000_000,
        hours: None,
        seed: 1,
        once: false,
        growth: false,
        json: false,
    };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || {
            given
                .next()
                .map(|value| value.replace('_', ""))
                .ok_or(format!("{name} needs a value"))
        };
        match name.as_str() {
            "--steps" => {
                options.steps = value()?
                    .parse()
                    .map_err(|error| format!("--steps: {error}"))?
            }
            "--hours" => {
                options.hours = Some(
                    value()?
                        .parse()
                        .map_err(|error| format!("--hours: {error}"))?,
                )
            }
            "--seed" => {
                options.seed = value()?
                    .parse()
                    .map_err(|error| format!("--seed: {error}"))?
            }
            "--help" | "-h" => {
                println!("{USAGE}");
                std::process::exit(0);
            }
            "--once" => options.once = true,
            "--growth" => options.growth = true,
            "--json" => options.json = true,
            other => return Err(format!("there is no option {other}\n{USAGE}")),
        }
    }
    Ok(options)
}

/// Which commit this is, as far as git can tell: a seed replays only on the commit that it failed on.
fn commit() -> String {
    let told = std::process::Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output();
    let name = told
        .ok()
        .filter(|told| told.status.success())
        .map(|told| String::from_utf8_lossy(&told.stdout).trim().to_owned());
    name.unwrap_or_else(|| "unknown".to_owned())
}

fn report(failure: &Failure) {
    eprintln!(
        "commit {}, seed {}: {} does not hold: {}",
        commit(),
        failure.seed,
        failure.violation.property,
        failure.violation.detail
    );
    eprintln!(
        "replay it with --seed {} --once; with {:?}, these acts are enough:",
        failure.seed, failure.cast
    );
    eprint!("{}", trace(&failure.plan));
    eprint!(
        "{}",
        post_mortem(failure.seed, &failure.cast, &failure.plan)
    );
}

/// Runs seeds until it is enough. Returns the sums, the violations, and the real seconds.
fn campaign(options: &Options) -> (Stats, Vec<Failure>, f64) {
    let started = Instant::now();
    let mut stats = Stats::default();
    let mut failures = Vec::new();
    let mut seed = options.seed;
    loop {
        let (run, failure) = run_seed(seed);
        stats.add(&run);
        if let Some(failure) = failure {
            report(&failure);
            failures.push(failure);
        }
        seed += 1;
        let enough = match options.hours {
            _ if options.once => true,
            Some(hours) => started.elapsed().as_secs_f64() >= hours * 3_600.0,
            None => stats.steps >= options.steps,
        };
        if enough || failures.len() >= ENOUGH {
            return (stats, failures, started.elapsed().as_secs_f64());
        }
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let (stats, failures, seconds) = campaign(&options);
    if options.once {
        println!(
            "seed {}: {} steps, {} violations",
            options.seed,
            stats.steps,
            failures.len()
        );
        return if failures.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    let measured = figures::decisions(DEATHS, options.seed)
        .and_then(|found| Ok((found, figures::speedup(SPEED_SECONDS)?)));
    let (decisions, speedup) = match measured {
        Ok(measured) => measured,
        Err(violation) => {
            eprintln!(
                "while measuring: {} does not hold: {}",
                violation.property, violation.detail
            );
            return ExitCode::FAILURE;
        }
    };
    let never = stats.never_seen();
    if options.json {
        print_json(&stats, failures.len(), &decisions, speedup, &never);
    } else {
        print_text(&stats, failures.len(), seconds, &decisions, speedup, &never);
    }
    if options.growth {
        print_growth();
    }
    if failures.is_empty() && never.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print_json(
    stats: &Stats,
    violations: usize,
    decisions: &Decisions,
    speedup: f64,
    never: &[&str],
) {
    let all = decisions.all();
    let seen: Vec<String> = stats
        .seen
        .iter()
        .map(|(what, times)| format!("\"{what}\": {times}"))
        .collect();
    let never: Vec<String> = never.iter().map(|what| format!("\"{what}\"")).collect();
    println!(
        "{{\"commit\": \"{}\", \"steps\": {}, \"seeds\": {}, \"violations\": {violations}, \"simulated_s\": {}, \"heal_max_ms\": {}, \
         \"decide_p50_ms\": {:.1}, \"decide_p99_ms\": {:.1}, \"decide_max_ms\": {:.1}, \"decide_leader_p99_ms\": {:.1}, \
         \"elect_p50_ms\": {:.1}, \"elect_p99_ms\": {:.1}, \"leader_loss_freezes\": {}, \"speedup\": {speedup:.0}, \
         \"events\": {{{}}}, \"events_never_seen\": [{}]}}",
        commit(),
        stats.steps,
        stats.seeds,
        stats.simulated_us / 1_000_000,
        stats.heal_ms_max,
        percentile(&all, 50),
        percentile(&all, 99),
        percentile(&all, 100),
        percentile(&decisions.leaders, 99),
        percentile(&decisions.elections, 50),
        percentile(&decisions.elections, 99),
        decisions.freezes,
        seen.join(", "),
        never.join(", "),
    );
}

fn print_text(
    stats: &Stats,
    violations: usize,
    seconds: f64,
    decisions: &Decisions,
    speedup: f64,
    never: &[&str],
) {
    println!(
        "{} steps in {} seeds, {violations} violations, {seconds:.1} s",
        stats.steps, stats.seeds
    );
    println!(
        "{} s simulated; a healed cluster was whole after {} ms at most",
        stats.simulated_us / 1_000_000,
        stats.heal_ms_max
    );
    for (what, times) in &stats.seen {
        println!("  {what:24} {times}");
    }
    if !never.is_empty() {
        println!("never seen: {}", never.join(", "));
    }
    for (name, list) in [
        ("owner", &decisions.owners),
        ("leader", &decisions.leaders),
        ("all", &decisions.all()),
    ] {
        let [median, most, worst] = [50, 99, 100].map(|percent| percentile(list, percent));
        println!(
            "death of {name:6} to start: median {median:.0} ms, p99 {most:.0} ms, worst {worst:.0} ms"
        );
    }
    let [median, most] = [50, 99].map(|percent| percentile(&decisions.elections, percent));
    println!(
        "death of a leader to the next: median {median:.0} ms, p99 {most:.0} ms; guests frozen by it: {}",
        decisions.freezes
    );
    println!("five boards run {speedup:.0} times faster than life");
}

fn print_growth() {
    println!("boards  heartbeat  sent per board  one frame received, here");
    for boards in [3, 5, 8, 16, 32, 64] {
        let cost = figures::cost::<BOARDS_MAX>(boards);
        println!(
            "{:6}  {:7} B  {:8.1} kbit/s  {:8.0} ns",
            cost.boards, cost.heartbeat, cost.kbit_s, cost.receive_ns
        );
    }
}
