//! `hearth guest`: guests, one at a time.

use std::fmt;
use std::time::Duration;

use clap::{Args, Subcommand};
use cluster_proto::ids::GuestId;
use cluster_proto::ledger::types::{Operation, Phase, Wanted};
use serde::Serialize;

use super::interrupt::Interrupt;
use super::orders::{Done, Waited, order, wait_until};
use super::reach::Reach;
use super::session::Session;
use super::view::{GuestView, View};
use super::{console, create, restore, save, status, table, why};
use crate::report::{Answer, EXIT_CODES, Failure};
use crate::row;

/// List, start, stop, make, save and restore guests, and type at their consoles.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

/// What to do with guests.
#[derive(Subcommand)]
enum Verb {
    /// Show all guests.
    #[command(after_long_help = EXIT_CODES)]
    List(List),
    /// Have a guest run.
    #[command(after_long_help = EXIT_CODES)]
    Start(One),
    /// Have a guest not run: its copy is destroyed, as if its plug were pulled.
    #[command(after_long_help = EXIT_CODES)]
    Stop(One),
    /// Destroy a guest's copy and start it afresh.
    #[command(after_long_help = EXIT_CODES)]
    Restart(One),
    /// Remove a guest that does not run, and its volumes.
    #[command(after_long_help = EXIT_CODES)]
    Delete(Delete),
    Console(console::Arguments),
    Create(Box<create::Arguments>),
    Save(save::Arguments),
    Restore(restore::Arguments),
}

/// Which cluster.
#[derive(Args)]
struct List {
    #[command(flatten)]
    reach: Reach,
}

/// Which guest, and whether to wait.
#[derive(Args)]
struct One {
    /// The guest.
    guest: String,
    /// Wait until it is so.
    #[arg(long)]
    wait: bool,
    /// Wait no longer than so many seconds; then the exit code is 1.
    #[arg(long, value_name = "SECONDS", requires = "wait", default_value_t = 60)]
    patience: u64,
    #[command(flatten)]
    reach: Reach,
}

/// Which guest.
#[derive(Args)]
struct Delete {
    /// The guest.
    guest: String,
    #[command(flatten)]
    reach: Reach,
}

/// All guests.
#[derive(Debug, Serialize)]
struct Guests {
    guests: Vec<GuestView>,
}

impl fmt::Display for Guests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.guests.is_empty() {
            return writeln!(f, "no guests");
        }
        let mut rows = vec![row![
            "GUEST", "WANTED", "STATE", "BOARD", "EPOCH", "PRIORITY", "VCPUS", "MEMORY", "NOTE"
        ]];
        for guest in &self.guests {
            rows.push(row![
                guest.name,
                guest.wanted,
                guest.phase,
                guest.board.as_deref().unwrap_or("-"),
                guest.epoch,
                guest.priority,
                guest.vcpus,
                format!("{} MiB", guest.memory_mib),
                guest.note(),
            ]);
        }
        table::write(f, &rows)
    }
}

/// Does it.
///
/// # Errors
/// There is no such guest, it is refused, or nobody answers.
pub fn run(arguments: &Arguments, json: bool) -> Result<Answer, Failure> {
    match &arguments.verb {
        Verb::List(list) => {
            let view: View = status::view(&mut list.reach.open()?)?;
            let guests = view.guests;
            Ok(Guests { guests }.into())
        }
        Verb::Start(one) => want(one, Wanted::Running),
        Verb::Stop(one) => want(one, Wanted::Stopped),
        Verb::Restart(one) => restart(one),
        Verb::Delete(delete) => remove(delete),
        Verb::Console(arguments) => console::run(arguments, json),
        Verb::Create(arguments) => create::run(arguments),
        Verb::Save(arguments) => save::run(arguments),
        Verb::Restore(arguments) => restore::run(arguments),
    }
}

/// The guest called `name`, looked up in what the cluster says now.
fn find(session: &mut Session, name: &str) -> Result<GuestId, Failure> {
    why::find(&session.look()?, name)
}

fn want(one: &One, wanted: Wanted) -> Result<Answer, Failure> {
    let mut session = one.reach.open()?;
    let guest = find(&mut session, &one.guest)?;
    order(&mut session, Operation::Want { guest, wanted })?;
    let (is_to, phase) = match wanted {
        Wanted::Running => ("is to run", Phase::Running),
        Wanted::Stopped => ("is to stop", Phase::Unowned),
    };
    follow(&mut session, one, guest, is_to, phase, None)
}

fn restart(one: &One) -> Result<Answer, Failure> {
    let mut session = one.reach.open()?;
    let look = session.look()?;
    let guest = why::find(&look, &one.guest)?;
    let epoch = look.ledger.epoch(guest).0;
    order(&mut session, Operation::Restart { guest })?;
    let (is_to, phase) = ("is to start afresh", Phase::Running);
    follow(&mut session, one, guest, is_to, phase, Some(epoch))
}

/// Says what was ordered, and waits for it if that is wanted; a restart is done in a newer epoch than `after`.
fn follow(
    session: &mut Session,
    one: &One,
    guest: GuestId,
    is_to: &str,
    phase: Phase,
    after: Option<u64>,
) -> Result<Answer, Failure> {
    let name = &one.guest;
    if !one.wait {
        return Ok(Done::new(format!("{name} {is_to}")).into());
    }
    let interrupt = Interrupt::catch()?;
    let patience = Some(Duration::from_secs(one.patience));
    let waited = wait_until(session, &interrupt, patience, &mut |look| {
        let Some(now) = look.ledger.guest(guest) else {
            return vec![format!("{name} is gone")];
        };
        let newer = after.is_none_or(|epoch| look.ledger.epoch(guest).0 > epoch);
        if now.phase == phase && newer {
            return Vec::new();
        }
        let explained = why::explain(look, guest);
        explained.map_or_else(Vec::new, |why| vec![why.in_short()])
    })?;
    match waited {
        Waited::Complete => Ok(Done {
            complete: Some(true),
            ..Done::new(match phase {
                Phase::Running => format!("{name} runs"),
                _ => format!("{name} is stopped"),
            })
        }
        .into()),
        Waited::Interrupted(left) | Waited::TooLong(left) => {
            let done = Done {
                complete: Some(false),
                waits_for: left,
                ..Done::new(format!(
                    "{name} {is_to}, and that stands; it is not so yet:"
                ))
            };
            Err(Failure::Found(done.into()))
        }
    }
}

fn remove(delete: &Delete) -> Result<Answer, Failure> {
    let mut session = delete.reach.open()?;
    let guest = find(&mut session, &delete.guest)?;
    order(&mut session, Operation::DeleteGuest { guest })?;
    Ok(Done::new(format!("{} is no more, nor are its volumes", delete.guest)).into())
}
