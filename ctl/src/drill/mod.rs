//! `hearth drill`: watches a failure from outside, judges what a client saw, and shows it.
//!
//! ```text
//! hearth drill watch ──► watch ── client ──► the guest's service, by the lab
//!                          │├──── journal of the lab, and where the guest's card is heard
//!                          │└──── view ── what the boards say of their cluster
//!                          ▼
//!                     trace.jsonl ──► judge ──► verdict.json ──► page
//! ```
//!
//! A drill itself is a script of this tool's verbs (`scripts/drills`). Read [`trace`], then [`judge`], which is pure logic; [`client`], [`view`] and [`watch`], which
//! make the trace; [`lane`], [`page`] and [`report`], the report; [`failover`] and [`cost`], the figures.

mod client;
mod cost;
mod failover;
mod judge;
mod lane;
mod page;
mod report;
mod trace;
mod view;
mod watch;

use std::fmt;
use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::lab::{LabWire, duration};
use crate::report::{Answer, Failure};
use judge::Limits;
use trace::{Boots, View};
use view::Viewer;

/// Between two looks at the cluster.
const LOOK: Duration = Duration::from_millis(50);
/// How long it may take to find out who leads, or owns a guest.
const NAME: Duration = Duration::from_secs(30);
/// What was found, in the drill's folder.
const VERDICT: &str = "verdict.json";
/// What boards spend on their cluster, beside it.
const COST: &str = "cost.json";

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
    Until(Until),
    /// Print the name of the board that owns a guest.
    Owner(Guest),
    /// Print the name of the board that leads.
    Leader(Of),
    Follow(Follow),
    Judge(Judge),
    Failover(Failover),
    Cost(CostOf),
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

/// Which lab.
#[derive(Args)]
struct Of {
    /// Which lab.
    #[arg(env = "HEARTH_LAB", long, value_name = "LAB")]
    lab: Option<String>,
}

/// A guest.
#[derive(Args)]
struct Guest {
    /// Its name.
    guest: String,
    #[command(flatten)]
    of: Of,
}

/// Wait until the cluster is as it is to be: all that is given here holds at once.
#[derive(Args)]
struct Until {
    /// The guest that is spoken of.
    guest: String,
    /// So many boards are in the cluster; a witness is never in, it only votes.
    #[arg(long, value_name = "N")]
    members: Option<usize>,
    /// The guest's owner says that it runs.
    #[arg(long)]
    running: bool,
    /// The guest's owner is this board.
    #[arg(long, value_name = "BOARD")]
    owner: Option<String>,
    /// The guest has an owner, and it is not this board.
    #[arg(long, value_name = "BOARD")]
    not_owner: Option<String>,
    /// There is a leader.
    #[arg(long)]
    led: bool,
    /// There is a leader, and it is not this board.
    #[arg(long, value_name = "BOARD")]
    not_leader: Option<String>,
    /// The guest's service has answered after so many boots, its first one included; the guest must be watched.
    #[arg(long, value_name = "N", requires = "folder")]
    boots: Option<usize>,
    /// How long to wait.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    of: Of,
    /// Where what is seen goes, for --boots.
    #[arg(env = "HEARTH_DRILL", long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl Until {
    /// Whether all that is asked for of the cluster is so.
    fn holds(&self, view: &View) -> bool {
        let other = |is: &Option<String>, not: &Option<String>| {
            not.is_none() || (is.is_some() && is != not)
        };
        self.members
            .is_none_or(|members| view.members.len() == members)
            && (!self.running || view.phase == "running")
            && (self.owner.is_none() || self.owner == view.owner)
            && other(&view.owner, &self.not_owner)
            && (!self.led || view.leader.is_some())
            && other(&view.leader, &self.not_leader)
    }
}

/// Print how a guest and its cluster are, and each change, until the lab ends.
#[derive(Args)]
struct Follow {
    #[command(flatten)]
    guest: Guest,
}

/// Kill the boards of a guest that is watched, again and again, and print how long everything took. The exit code is 1 if a
/// figure is over its budget, or `judge` would find a violation.
#[derive(Args)]
struct Failover {
    #[command(flatten)]
    guest: Guest,
    /// How often; in turn the guest's board and the one that leads.
    #[arg(long, value_name = "N", default_value_t = 50)]
    kills: usize,
    /// What the moments of the kills depend on.
    #[arg(env = "HEARTH_SEED", long, default_value_t = 1)]
    seed: u64,
    /// Where what is seen goes.
    #[arg(env = "HEARTH_DRILL", long, value_name = "FOLDER")]
    folder: PathBuf,
}

/// Count what boards spend on their cluster, and leave it for `failover` to print. Their lab must count instructions: `hearth lab up`
/// with --qemu-arg=-icount --qemu-arg=shift=0.
#[derive(Args)]
struct CostOf {
    /// For how long.
    #[arg(long = "for", value_name = "TIME", default_value = "20s", value_parser = duration)]
    span: Duration,
    #[command(flatten)]
    of: Of,
    /// Where it goes.
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
    /// One board was to own the guest, and one to lead, all the time and without a break.
    #[arg(long)]
    steady: bool,
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
        Verb::Until(verb) => until(verb).map(Answer::from).map_err(Failure::Trouble),
        Verb::Owner(Guest { guest, of }) => name(of, guest, |view| view.owner),
        Verb::Leader(of) => name(of, "", |view| view.leader),
        Verb::Follow(verb) => follow(&verb.guest)
            .map(Answer::from)
            .map_err(Failure::Trouble),
        Verb::Judge(verb) => judge(verb),
        Verb::Failover(verb) => measure(verb),
        Verb::Cost(verb) => cost(verb).map(Answer::from).map_err(Failure::Trouble),
        Verb::Page(verb) => report::write(&verb.folders, &verb.output)
            .map(Answer::from)
            .map_err(Failure::Trouble),
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

fn viewer(of: &Of) -> Result<Viewer<LabWire>, String> {
    let lab = crate::lab::choose(of.lab.as_deref())?;
    let viewer = Viewer::of_lab(&lab)?;
    viewer.ok_or_else(|| format!("the boards of lab {lab} are in no cluster"))
}

/// Looks until it finds what it looks for, or for too long.
fn look_for<T>(
    of: &Of,
    guest: &str,
    patience: Duration,
    mut found: impl FnMut(View) -> Result<Option<T>, String>,
) -> Result<T, String> {
    let mut viewer = viewer(of)?;
    let late = Instant::now() + patience;
    let mut last = View::default();
    while Instant::now() < late {
        if let Some(view) = viewer.look(guest)? {
            last = view.clone();
            if let Some(found) = found(view)? {
                return Ok(found);
            }
        }
        std::thread::sleep(LOOK);
    }
    Err(format!("it has not come to that in time; {last}"))
}

fn until(verb: &Until) -> Result<Now, String> {
    let mut boots = match (verb.boots, &verb.folder) {
        (Some(wanted), Some(folder)) => Some((wanted, Boots::open(&folder.join(watch::TRACE))?)),
        _ => None,
    };
    let now = look_for(&verb.of, &verb.guest, verb.timeout, |view| {
        let booted = match &mut boots {
            Some((wanted, boots)) => boots.count()? >= *wanted,
            None => true,
        };
        Ok((booted && verb.holds(&view)).then_some(Now(view)))
    });
    now.map_err(|trouble| match &boots {
        Some((wanted, boots)) => format!(
            "{trouble}; its service has answered after {} boots, of {wanted}",
            boots.seen()
        ),
        None => trouble,
    })
}

/// The name of a board that has a part.
fn name(of: &Of, guest: &str, part: fn(View) -> Option<String>) -> Result<Answer, Failure> {
    look_for(of, guest, NAME, |view| Ok(part(view)))
        .map(|name| Answer::from(Done(name)))
        .map_err(Failure::Trouble)
}

/// Prints each change.
fn follow(guest: &Guest) -> Result<Done, String> {
    let mut viewer = viewer(&guest.of)?;
    let mut before = None;
    loop {
        let Ok(view) = viewer.look(&guest.guest) else {
            return Ok(Done("the lab has ended".into()));
        };
        if before != view {
            match &view {
                Some(view) => println!("{view}"),
                None => println!("no board answers"),
            }
            before = view;
        }
        std::thread::sleep(LOOK);
    }
}

fn measure(verb: &Failover) -> Result<Answer, Failure> {
    let Guest { guest, of } = &verb.guest;
    let kill = || {
        let lab = crate::lab::choose(of.lab.as_deref())?;
        let (_, boards) = crate::lab::packages(&lab)?;
        let mut viewer = viewer(of)?;
        failover::kill_often(
            &lab,
            &mut viewer,
            guest,
            boards.len(),
            verb.kills,
            verb.seed,
        )?;
        trace::read(&watch::end(&verb.folder)?)
    };
    let records = kill().map_err(Failure::Trouble)?;
    let mut figures = failover::figures(&records, guest);
    if let Ok(text) = fs::read_to_string(verb.folder.join(COST)) {
        let cost = serde_json::from_str(&text);
        figures.add(cost.map_err(|error| Failure::Trouble(format!("{COST}: {error}")))?);
    }
    let verdict = judge::judge(&records, &Limits::default());
    figures.over.extend(verdict.violations);
    match figures.over.is_empty() {
        true => Ok(Answer::from(figures)),
        false => Err(Failure::Found(Answer::from(figures))),
    }
}

fn cost(verb: &CostOf) -> Result<cost::Cost, String> {
    let lab = crate::lab::choose(verb.of.lab.as_deref())?;
    let cost = cost::count(&lab, verb.span)?;
    let path = verb.folder.join(COST);
    let text = serde_json::to_string(&cost).map_err(|error| error.to_string())?;
    fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(cost)
}

/// How the cluster is.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Now(View);

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "nobody".into());
        write!(
            f,
            "{} leads in term {}, {} owns the guest ({}, epoch {}), {} are in",
            name(&self.leader),
            self.term,
            name(&self.owner),
            self.phase,
            self.epoch,
            match self.members.is_empty() {
                true => "no boards".into(),
                false => self.members.join(", "),
            }
        )
    }
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
        steady: verb.steady,
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
