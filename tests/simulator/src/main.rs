//! `simulator [--steps N | --hours N] [--seed S] [--json]`: runs seeds one after another until so many steps or hours are done.

use std::process::ExitCode;
use std::time::Instant;

use simulator::campaign::{Failure, post_mortem, run_seed, trace};
use simulator::stats::Stats;

struct Options {
    steps: Option<u64>,
    hours: Option<f64>,
    seed: u64,
    once: bool,
    json: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options { steps: None, hours: None, seed: 1, once: false, json: false };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--steps" => options.steps = Some(value()?.replace('_', "").parse().map_err(|error| format!("--steps: {error}"))?),
            "--hours" => options.hours = Some(value()?.parse().map_err(|error| format!("--hours: {error}"))?),
            "--seed" => options.seed = value()?.parse().map_err(|error| format!("--seed: {error}"))?,
            "--once" => options.once = true,
            "--json" => options.json = true,
            other => return Err(format!("unknown option {other}; there are --steps N, --hours N, --seed S, --once, --json")),
        }
    }
    Ok(options)
}

fn report(failure: &Failure) {
    println!("seed {}: {} does not hold: {}", failure.seed, failure.violation.property, failure.violation.detail);
    println!("with {:?}, after", failure.cast);
    print!("{}", trace(&failure.plan));
    print!("{}", post_mortem(failure.seed, &failure.cast, &failure.plan));
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let mut stats = Stats::default();
    let mut violations = 0;
    let mut seed = options.seed;
    loop {
        let (run, failure) = run_seed(seed);
        stats.add(&run);
        if let Some(failure) = failure {
            violations += 1;
            report(&failure);
        }
        seed += 1;
        let enough = match (options.steps, options.hours) {
            _ if options.once => true,
            (Some(steps), _) => stats.steps >= steps,
            (None, Some(hours)) => started.elapsed().as_secs_f64() >= hours * 3_600.0,
            (None, None) => stats.steps >= 2_000_000,
        };
        if enough || violations >= 5 {
            break;
        }
    }
    let real = started.elapsed().as_secs_f64();
    println!("steps {} seeds {} violations {violations} real {real:.1} s simulated {} s heal max {} ms", stats.steps, stats.seeds, stats.simulated_us / 1_000_000, stats.heal_ms_max);
    for (what, times) in &stats.seen {
        println!("  {what:24} {times}");
    }
    println!("never seen: {:?}", stats.never_seen());
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
