//! Counts what Hearth costs: `bench boot|io|migrate|wall [--json] [--runs N]`, which `scripts/bench` runs.
//!
//! Everything is counted under QEMU's `-icount shift=0,sleep=off`, where a nanosecond of the board's time is one instruction. So
//! figures are the same on every machine, and say nothing about caches, memory or the host. [`figures`] has what is counted, with
//! budgets and peers; [`measure`] boots the boards of `boot`, [`io`] those of `io`, [`migrate`] those of `migrate`; [`bare`] boots Debian without a hypervisor, for the ratios.
//!
//! What Debian's programs get of network and disks ([`io_linux`]) is timed, with Hearth and without it in turn, and only the ratio is a figure:
//! the network by this machine's clock, which whatever else it does disturbs, and the disks by their board's, which passes with instructions.

mod bare;
mod figures;
mod io;
mod io_linux;
mod measure;
mod migrate;
mod plot;

use std::process::ExitCode;

use figures::{BOOT, Figure, IO, MIGRATE, RATIOS};
use io_linux::Clock;
use measure::{Measured, Value};

const USAGE: &str = "usage: scripts/bench boot|io|migrate|wall [--json] [--runs N]
  boot      the figures of one board: traps, interrupts, Debian's boot, memory, fairness
  io        the figures of its network and disks
  migrate   the figures of a guest that moves while it runs
  wall      the ratios among those, the disks' too by this machine's clock: for one that does nothing else
  --json    one object on standard output instead of a table
  --runs N  count everything N times (1 to 9); the worst counts, and the table shows how far the runs lie apart
It exits with 1 when a figure misses its budget, and with 2 when it could not be counted.";

/// What can be counted.
struct Subject {
    verb: &'static str,
    figures: &'static [Figure],
    measure: fn() -> Measured,
}

const SUBJECTS: [Subject; 4] = [
    Subject {
        verb: "boot",
        figures: &BOOT,
        measure: || measure::all().into(),
    },
    Subject {
        verb: "io",
        figures: &IO,
        measure: || [io::all(), io_linux::all(Clock::Board)].concat().into(),
    },
    Subject {
        verb: "migrate",
        figures: &MIGRATE,
        measure: migrate::all,
    },
    Subject {
        verb: "wall",
        figures: RATIOS,
        measure: || io_linux::all(Clock::Wall).into(),
    },
];

struct Options {
    subject: &'static Subject,
    json: bool,
    runs: u32,
}

/// What the command line asks for.
fn options(mut words: impl Iterator<Item = String>) -> Option<Options> {
    let verb = words.next()?;
    let mut options = Options {
        subject: SUBJECTS.iter().find(|subject| subject.verb == verb)?,
        json: false,
        runs: 1,
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => options.json = true,
            "--runs" => {
                options.runs = words.next()?.parse().ok().filter(|n| (1..=9).contains(n))?
            }
            _ => return None,
        }
    }
    Some(options)
}

/// A figure's worst run and how far the runs lie apart.
struct Counted {
    figure: &'static Figure,
    worst: f64,
    spread: f64,
}

fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    // A board that fails ends in a panic that shows its console.
    let subject = options.subject;
    let measured =
        std::panic::catch_unwind(|| (0..options.runs).map(|_| (subject.measure)()).collect());
    let Ok(mut runs): Result<Vec<Measured>, _> = measured else {
        return ExitCode::from(2);
    };
    // Of what is not counted the last run's.
    let extra = runs.last_mut().map(|run| std::mem::take(&mut run.extra));
    let runs: Vec<_> = runs.into_iter().map(|run| run.values).collect();
    let counted: Vec<_> = subject
        .figures
        .iter()
        .map(|figure| count(figure, &runs))
        .collect();
    print!(
        "{}",
        if options.json {
            json(&counted, &extra.unwrap_or_default())
        } else {
            table(&counted)
        }
    );
    let missed = counted
        .iter()
        .any(|counted| !counted.figure.is_met(counted.worst));
    ExitCode::from(u8::from(missed))
}

fn count(figure: &'static Figure, runs: &[Vec<Value>]) -> Counted {
    let values = runs.iter().map(|run| {
        let found = run.iter().find(|(key, _)| *key == figure.key);
        found
            .unwrap_or_else(|| panic!("{} was not counted", figure.key))
            .1
    });
    let values: Vec<f64> = values.collect();
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    Counted {
        figure,
        worst: figure.worse(least, most),
        spread: most - least,
    }
}

fn json(counted: &[Counted], extra: &[(&str, String)]) -> String {
    let figures = counted.iter();
    let figures = figures.map(|c| (c.figure.key, c.figure.show(c.worst)));
    let fields: Vec<_> = figures
        .chain(extra.iter().cloned())
        .map(|(key, value)| format!("  \"{key}\": {value}"))
        .collect();
    format!("{{\n{}\n}}\n", fields.join(",\n"))
}

fn table(counted: &[Counted]) -> String {
    let mut text = format!(
        "{:<30} {:>12} {:>10} {:>12} {:>9} {:>9}\n",
        "counted, not timed", "Hearth", "spread", "at most", "KVM", "Xen"
    );
    for Counted {
        figure,
        worst,
        spread,
    } in counted
    {
        let peer = |value: Option<f64>| value.map_or("-".into(), |value| figure.show(value));
        let verdict = if figure.is_met(*worst) {
            ""
        } else {
            "  MISSED"
        };
        text += &format!(
            "{:<30} {:>12} {:>10} {:>12} {:>9} {:>9}{verdict}\n",
            figure.key,
            figure.show(*worst),
            figure.show(*spread),
            figure.show_bound(),
            peer(figure.kvm),
            peer(figure.xen),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Option<(&str, bool, u32)> {
        options(words.split_whitespace().map(String::from))
            .map(|o| (o.subject.verb, o.json, o.runs))
    }

    #[test]
    fn the_command_line_is_read() {
        assert_eq!(parse("boot"), Some(("boot", false, 1)));
        assert_eq!(parse("boot --runs 2 --json"), Some(("boot", true, 2)));
        assert_eq!(parse("io --json"), Some(("io", true, 1)));
        assert_eq!(parse("wall"), Some(("wall", false, 1)));
        for wrong in [
            "",
            "cluster",
            "boot --runs",
            "boot --runs 0",
            "boot --runs x",
            "boot --xml",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_worst_run_counts() {
        let of = |scale| {
            BOOT.iter()
                .map(|f| (f.key, 200.0 * scale))
                .collect::<Vec<_>>()
        };
        // At most 200.
        let counted = count(&BOOT[0], &[of(0.5), of(1.5), of(1.0)]);
        assert_eq!((counted.worst, counted.spread), (300.0, 200.0));
        assert!(!counted.figure.is_met(counted.worst));
        assert!(table(&[counted]).contains("MISSED"));
    }
}
