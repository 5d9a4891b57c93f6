//! `hearth drill`: watches a failure from outside, judges what a client saw, and shows it.
//!
//! ```text
//! hearth drill watch ──► watch ── client ──► the guest's service, by the lab
//!                          │└──── journal of the lab, and where the guest's card is heard
//!                          ▼
//!                     trace.jsonl ──► judge ──► verdict.json ──► page
//! ```
//!
//! A drill itself is a script of this tool's verbs (`scripts/drills`). Read [`trace`], then [`judge`], which is pure logic; [`client`] and [`watch`], which
//! make the trace; [`lane`] and [`page`], the report.

mod client;
mod judge;
mod lane;
mod page;
mod trace;
mod watch;

use std::fmt;
use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::lab::duration;
use crate::report::{Answer, Failure};
use judge::{Limits, Verdict};
use page::Drill;

/// What was found, in the drill's folder.
const VERDICT: &str = "verdict.json";
/// What `scripts/drill` has to say of a drill, beside it: what it does, and why its script failed.
const ABOUT: &str = "about.txt";
const TROUBLE: &str = "trouble.txt";

/// Watch a failure from outside, judge it, and show it.
#[derive(Args)]
#[command(after_long_help = EXAMPLE)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLE: &str = "\
For example, with a lab that is up (scripts/drills has whole drills):
  export HEARTH_DRILL=/tmp/drill
  hearth drill watch web --service 10.7.0.11:7007
  hearth lab kill alpha
  sleep 5
  hearth drill judge --stall 2s";

/// What to do.
#[derive(Subcommand)]
enum Verb {
    Watch(Watch),
    Judge(Judge),
    Page(Page),
    /// The watch's process, which `watch` starts.
    #[command(hide = true)]
    Record,
}

/// Begin to ask a guest's service, a numbered question every few milliseconds, and to note what comes back and what
/// happens to the lab. Returns when the service has answered first; goes on until `judge`, or the lab's end.
#[derive(Args)]
struct Watch {
    /// The guest.
    guest: String,
    /// Its service: the address and port to which datagrams with questions go.
    #[arg(long, value_name = "ADDRESS:PORT")]
    service: SocketAddrV4,
    /// Between two questions.
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = duration)]
    every: Duration,
    /// How long to wait for the first answer.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    timeout: Duration,
    /// Which lab.
    #[arg(env = "HEARTH_LAB", long, value_name = "LAB")]
    lab: Option<String>,
    /// Where what is seen goes.
    #[arg(env = "HEARTH_DRILL", long, value_name = "FOLDER")]
    folder: PathBuf,
}

/// End the watch, and judge what was seen. The exit code is 1 if anything was as it may not be: two copies of the guest at once,
/// an answer that was lost after it had come, or what is asked for here.
#[derive(Args)]
struct Judge {
    /// The client may be without an answer for this long.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    stall: Option<Duration>,
    /// The guest was to boot so often, its first boot included.
    #[arg(long, value_name = "N")]
    boots: Option<usize>,
    /// Where what was seen is.
    #[arg(env = "HEARTH_DRILL", long, value_name = "FOLDER")]
    folder: PathBuf,
}

/// Write one HTML page with a timeline for each drill.
#[derive(Args)]
struct Page {
    /// The drills' folders; their names are the drills'.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// The page.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Does what the operator asks for.
///
/// # Errors
/// What keeps it from being done, or a violation that was found.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    match &arguments.verb {
        Verb::Watch(verb) => watch(verb).map(Answer::from).map_err(Failure::Trouble),
        Verb::Judge(verb) => judge(verb),
        Verb::Page(verb) => page(verb).map(Answer::from).map_err(Failure::Trouble),
        Verb::Record => watch::record()
            .map(|()| Answer::from(Done("the watch has ended".into())))
            .map_err(Failure::Trouble),
    }
}

/// That something was done.
#[derive(Debug, Serialize)]
struct Done(String);

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn watch(verb: &Watch) -> Result<Done, String> {
    let lab = crate::lab::choose(verb.lab.as_deref())?;
    watch::begin(&watch::Order {
        lab,
        guest: verb.guest.clone(),
        service: verb.service,
        every: verb.every,
        folder: absolute(&verb.folder)?,
        patience: verb.timeout,
    })?;
    Ok(Done(format!("{} answers, and is watched", verb.guest)))
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path)
        .map_err(|error| format!("cannot tell where {} is: {error}", path.display()))
}

fn judge(verb: &Judge) -> Result<Answer, Failure> {
    let trace = watch::end(&verb.folder).map_err(Failure::Trouble)?;
    let records = trace::read(&trace).map_err(Failure::Trouble)?;
    // 584,000 years fit.
    let micros = |time: Duration| time.as_micros() as u64;
    let limits = Limits {
        stall: verb.stall.map(micros),
        boots: verb.boots,
    };
    let verdict = judge::judge(&records, &limits);
    let path = verb.folder.join(VERDICT);
    let text = serde_json::to_string_pretty(&verdict)
        .map_err(|error| Failure::file("write", &path, error))?;
    fs::write(&path, text).map_err(|error| Failure::file("write", &path, error))?;
    match verdict.violations.is_empty() {
        true => Ok(Answer::from(verdict)),
        false => Err(Failure::Found(Answer::from(verdict))),
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.violations {
            writeln!(f, "VIOLATION: {violation}")?;
        }
        writeln!(
            f,
            "{} of {} questions answered, the longest stall {} ms, after {:.1} s",
            self.answered,
            self.asked,
            self.stall.length_us / 1000,
            self.stall.from_us as f64 / 1e6
        )?;
        for (what, list) in [
            (
                "boots",
                &self.boots.iter().map(|it| it.identity.clone()).collect(),
            ),
            ("owners", &self.owners),
            ("leaders", &self.leaders),
            ("heard on", &self.links),
        ] {
            if !list.is_empty() {
                writeln!(f, "{what}: {}", list.join(", then "))?;
            }
        }
        Ok(())
    }
}

fn page(verb: &Page) -> Result<Done, String> {
    let drills: Vec<_> = verb
        .folders
        .iter()
        .map(|folder| read(folder))
        .collect::<Result<_, _>>()?;
    fs::write(&verb.output, page::page(&drills))
        .map_err(|error| format!("cannot write {}: {error}", verb.output.display()))?;
    let passed = drills.iter().filter(|drill| drill.passed()).count();
    Ok(Done(format!(
        "{}: {passed} of {} drills passed",
        verb.output.display(),
        drills.len()
    )))
}

/// A drill from its folder. One that failed early has no trace, or no verdict.
fn read(folder: &Path) -> Result<Drill, String> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let name = folder.file_name().unwrap_or_default();
    let trace = folder.join(watch::TRACE);
    let records = match trace.exists() {
        true => trace::read(&trace)?,
        false => Vec::new(),
    };
    let verdict = match fs::read_to_string(folder.join(VERDICT)) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| format!("{}: {error}", folder.join(VERDICT).display()))?,
        Err(_) => judge::judge(&records, &Limits::default()),
    };
    let trouble = text(TROUBLE).trim().to_string();
    Ok(Drill {
        name: name.to_string_lossy().into_owned(),
        about: text(ABOUT).trim().to_string(),
        trouble: (!trouble.is_empty()).then_some(trouble),
        records,
        verdict,
    })
}
