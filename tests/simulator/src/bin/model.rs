//! `model [--depth N] [--states N]`: explores three boards, and two with a witness, until the depth is exhausted or so many states were generated.

use std::process::ExitCode;
use std::time::Instant;

use simulator::model::Scope;
use stateright::{Checker, Model};

fn number(name: &str, default: usize) -> usize {
    let mut given = std::env::args();
    let found = given
        .find(|argument| argument == name)
        .and_then(|_| given.next());
    found
        .and_then(|value| value.replace('_', "").parse().ok())
        .unwrap_or(default)
}

fn main() -> ExitCode {
    let depth = u8::try_from(number("--depth", 6)).unwrap_or(u8::MAX);
    let states = number("--states", 1_250_000);
    let mut safe = true;
    for witness in [false, true] {
        let started = Instant::now();
        let checker = Scope::whole(witness, depth)
            .checker()
            .target_state_count(states)
            .spawn_dfs()
            .join();
        let discovery = checker.discovery("safe");
        println!(
            "{}: {} unique states of {} generated, depth {}, {:.0} s: {}",
            if witness {
                "two boards and a witness"
            } else {
                "three boards"
            },
            checker.unique_state_count(),
            checker.state_count(),
            checker.max_depth(),
            started.elapsed().as_secs_f64(),
            if discovery.is_none() {
                "safe"
            } else {
                "NOT SAFE"
            },
        );
        if let Some(path) = discovery {
            println!("{:?}", path.into_actions());
            safe = false;
        }
    }
    if safe {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
