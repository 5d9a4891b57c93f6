//! `hearth migrate`: moves a guest to another board while it runs.

use std::time::{Duration, Instant};

use cluster_proto::ids::{BoardId, GuestId};
use cluster_proto::ledger::types::{Operation, Outcome};
use cluster_proto::limits::{DOWNTIME_MS_MAX, DOWNTIME_MS_MIN};

use super::interrupt::Interrupt;
use super::moves::{Watched, refusal};
use super::orders::{Done, Waited, wait_until};
use super::passage::Passage;
use super::reach::Reach;
use super::session::{Look, Session};
use super::view::{board_name, guest_name};
use super::why;
use crate::report::{Answer, EXIT_CODES, Failure};

const ABOUT: &str = "\
The guest runs on while its memory and its disks' changes are copied, stands still for a moment, and goes on on the other board, with its connections. If
that cannot be done, it stays where it is and runs on, and the reason is told. Without --to it goes to the board with the most memory left.

It is refused if
  - the guest does not run;
  - a local volume holds it where it is;
  - the board is of another class (another processor or interrupt controller), is drained or out of the cluster, has too little memory left, or is one
    that the guest is not allowed on; without --to: if that is so of every other board. No other guest is displaced for it;
  - it is on that board already, or on its way to another.

With --follow, Ctrl-C ends the waiting only: the move goes on until it is done, given up, or called off with --cancel.";

/// Move a guest to another board while it runs.
#[derive(clap::Args)]
#[command(after_long_help = format!("{ABOUT}\n\n{EXIT_CODES}"))]
pub struct Arguments {
    /// The guest.
    guest: String,
    /// Where to; otherwise to the board that suits it best.
    #[arg(long, value_name = "BOARD")]
    to: Option<String>,
    /// Show how the move goes until it has ended; the exit code is 1 if the guest did not move.
    #[arg(long)]
    follow: bool,
    /// Follow no longer than so many seconds; then the exit code is 1, and the move goes on.
    #[arg(
        long,
        visible_alias = "timeout",
        value_name = "SECONDS",
        requires = "follow"
    )]
    patience: Option<u64>,
    /// Call off the move that is under way: the guest stays where it is.
    #[arg(long, conflicts_with_all = ["to", "follow", "downtime"])]
    cancel: bool,
    /// How long the guest may be still at most, by the estimate, in milliseconds: 2 to 10,000. It stops as soon as that can be kept, is slowed down if need
    /// be, and stays where it is if that does not do. Otherwise 10 ms are aimed for, and up to 300 taken.
    #[arg(long, value_name = "MS", value_parser = downtime())]
    downtime: Option<u16>,
    #[command(flatten)]
    reach: Reach,
}

/// What `--downtime` takes.
pub(super) fn downtime() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(i64::from(DOWNTIME_MS_MIN)..=i64::from(DOWNTIME_MS_MAX))
}

/// Orders a move, or calls one off.
///
/// # Errors
/// It is refused, nobody answers, or the guest is known not to have moved.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let mut session = arguments.reach.open()?;
    let to = arguments.to.as_deref();
    let to = to.map(|name| session.board(name)).transpose()?;
    let look = session.look()?;
    let guest = why::find(&look, &arguments.guest)?;
    if arguments.cancel {
        return cancel(&mut session, &look, guest);
    }
    let interrupt = arguments.follow.then(Interrupt::catch).transpose()?;
    if let Some(interrupt) = interrupt {
        let patience = arguments.patience.map(Duration::from_secs);
        let order = Order {
            guest,
            to,
            downtime: arguments.downtime,
        };
        return follow(&mut session, &look, order, (&interrupt, patience));
    }
    let watched = Watched::before_order(&look, guest, to);
    let mut passage = Passage::new(watched, &look);
    let begun = Instant::now();
    let operation = Operation::Migrate {
        guest,
        to,
        downtime: arguments.downtime,
    };
    order(&mut session, guest, to, operation)?;
    // The order stands, even if nobody tells now what came of it.
    if let Ok(look) = session.look() {
        passage.see(&look, begun.elapsed());
    }
    passage.answer()
}

/// A move that is ordered.
#[derive(Clone, Copy)]
pub(super) struct Order {
    /// Whose.
    pub guest: GuestId,
    /// To which board, if one is named.
    pub to: Option<BoardId>,
    /// How long the guest may be still for it, milliseconds, if that is said.
    pub downtime: Option<u16>,
}

/// Orders a move of a guest, to a board if one is named, and shows how it goes until it has ended or nobody waits any longer.
///
/// # Errors
/// It is refused, nobody answers, the guest did not move, or that took too long.
pub(super) fn follow(
    session: &mut Session,
    look: &Look,
    Order {
        guest,
        to,
        downtime,
    }: Order,
    (interrupt, patience): (&Interrupt, Option<Duration>),
) -> Result<Answer, Failure> {
    let mut passage = Passage::new(Watched::before_order(look, guest, to), look);
    let begun = Instant::now();
    let operation = Operation::Migrate {
        guest,
        to,
        downtime,
    };
    order(session, guest, to, operation)?;
    let waited = wait_until(session, interrupt, patience, &mut |look| {
        passage.see(look, begun.elapsed());
        let line = (!passage.ended()).then(|| passage.line(begun.elapsed()));
        line.into_iter().collect()
    })?;
    match waited {
        Waited::Complete => {
            passage.ask_downtime(session)?;
            passage.answer()
        }
        Waited::Interrupted(_) => Ok(passage.unfinished().into()),
        Waited::TooLong(_) => Err(Failure::Found(passage.unfinished().into())),
    }
}

/// Has `operation`, which concerns a move of `guest`, carried out.
fn order(
    session: &mut Session,
    guest: GuestId,
    to: Option<BoardId>,
    operation: Operation,
) -> Result<(), Failure> {
    match session.order(operation)? {
        Outcome::Done { .. } => Ok(()),
        Outcome::Refused { why } => Err(Failure::Trouble(format!(
            "the cluster refuses: {}",
            refusal(&session.look()?, guest, to, why)
        ))),
    }
}

/// Calls off the move of `guest`, as `look` showed it before.
fn cancel(session: &mut Session, look: &Look, guest: GuestId) -> Result<Answer, Failure> {
    order(session, guest, None, Operation::CancelMove { guest })?;
    Ok(Done::new(called_off(look, guest)).into())
}

/// What there is to say of a move that was called off.
fn called_off(look: &Look, id: GuestId) -> String {
    let name = guest_name(look, id);
    let Some(guest) = look.ledger.guest(id) else {
        return format!("{name} is no more");
    };
    let on = board_name(look, guest.owner);
    let to = guest
        .moving
        .as_ref()
        .map(|order| board_name(look, order.to));
    let to = to.map_or_else(String::new, |to| format!(" to {to}"));
    let board = look.ledger.board(guest.owner);
    let again = if board.is_some_and(|board| board.drained) {
        format!("; {on} is drained, so it is moved again after a pause: `hearth undrain {on}`")
    } else {
        String::new()
    };
    format!("{name} stays on {on}: its move{to} is called off{again}")
}

#[cfg(test)]
mod tests {
    use super::super::scene::{ALPHA, GAMMA, Scene, WEB};
    use super::*;

    #[test]
    fn a_move_that_is_called_off_is_told() {
        let mut scene = Scene::new();
        scene.migrate(GAMMA);
        assert_eq!(
            called_off(&scene.0, WEB),
            "web stays on alpha: its move to gamma is called off"
        );
        scene.board(ALPHA).drained = true;
        let said = called_off(&scene.0, WEB);
        assert!(
            said.ends_with("after a pause: `hearth undrain alpha`"),
            "{said}"
        );
    }
}
