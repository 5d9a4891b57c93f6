//! `hearth drain`, `undrain`, `disarm`, `arm` and `reform`: what an operator does to boards.

use std::time::Duration;

use cluster_proto::ids::{BoardId, BoardSet};
use cluster_proto::ledger::types::{Guest, Operation, Phase};
use cluster_proto::placement;

use super::going::{self, Going};
use super::interrupt::Interrupt;
use super::orders::{Done, Waited, accepted, order, wait_until};
use super::reach::Reach;
use super::session::Look;
use super::view::board_name;
use super::words;
use crate::report::{Answer, EXIT_CODES, Failure};

const DRAIN: &str = "\
Guests leave one after another: while they run, where both boards can move them so; otherwise they are stopped and started elsewhere.
A guest that no other board can run stays where it is, and keeps running: --wait names it and why. Ctrl-C ends the waiting only;
the board goes on being drained until `hearth undrain` or `hearth drain --cancel`.";

/// Have guests leave a board, one after another, and keep others away.
#[derive(clap::Args)]
#[command(after_long_help = format!("{DRAIN}\n\n{EXIT_CODES}"))]
pub struct Drain {
    /// The board.
    board: String,
    /// Wait until its guests have left, and say what each waits for.
    #[arg(long)]
    wait: bool,
    /// Wait no longer than so many seconds; then the exit code is 1, and the board goes on being drained.
    #[arg(long, alias = "patience", value_name = "SECONDS", requires = "wait")]
    timeout: Option<u64>,
    /// Take it back: guests may come again.
    #[arg(long, conflicts_with_all = ["wait", "downtime"])]
    cancel: bool,
    /// How long each guest may be still at most while it moves, in milliseconds: 2 to 10,000 (see `hearth migrate --help`).
    #[arg(long, value_name = "MS", value_parser = super::migrate::downtime())]
    downtime: Option<u16>,
    #[command(flatten)]
    reach: Reach,
}

/// Let guests come back to a board that was drained.
#[derive(clap::Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Undrain {
    /// The board.
    board: String,
    #[command(flatten)]
    reach: Reach,
}

const ARMING: &str = "\
While a board is disarmed, nobody takes its guests over when it goes away: for a short reboot or a cable that is moved. Without a board, it is the
whole cluster. A board that comes back with another life is put out and let in again all the same.";

/// Turn failover on or off, for a board or everywhere.
#[derive(clap::Args)]
#[command(after_long_help = format!("{ARMING}\n\n{EXIT_CODES}"))]
pub struct Arming {
    /// The board; otherwise the whole cluster.
    board: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

const REFORM: &str = "\
For when a majority of the voters lost its memory for good, so that no leader can be elected any more: boards that burned, or several that rebooted
at once while the rest was off. The cluster goes on around BOARD with what that board remembers. It is refused
  - while a leader speaks or enough voters remember to elect one: no reform is needed;
  - if another board that is heard remembers more: order it for that one;
  - if a voter is neither heard nor named with --lost: nobody knows what it remembers.
With --lost you vouch that the board is off, and that nothing of its memory is left when it comes back. If that is not true, there can be two clusters.";

/// Found the cluster anew around one board, after the memory of a majority of the voters is gone.
#[derive(clap::Args)]
#[command(after_long_help = format!("{REFORM}\n\n{EXIT_CODES}"))]
pub struct Reform {
    /// The board that remembers most.
    board: String,
    /// A voter that is off and of whose memory nothing is left; may be given several times.
    #[arg(long, value_name = "BOARD", num_args = 1..)]
    lost: Vec<String>,
    #[command(flatten)]
    reach: Reach,
}

/// Drains a board.
///
/// # Errors
/// It is refused, or nobody answers.
pub fn drain(arguments: &Drain) -> Result<Answer, Failure> {
    if arguments.cancel {
        return set_drained(&arguments.reach, &arguments.board, (false, None));
    }
    let downtime = arguments.downtime;
    if !arguments.wait {
        return set_drained(&arguments.reach, &arguments.board, (true, downtime));
    }
    let mut session = arguments.reach.open()?;
    let board = session.board(&arguments.board)?;
    let interrupt = Interrupt::catch()?;
    let drain = Operation::Drain {
        board,
        on: true,
        downtime,
    };
    order(&mut session, drain)?;
    let name = &arguments.board;
    let patience = arguments.timeout.map(Duration::from_secs);
    let waited = wait_until(&mut session, &interrupt, patience, &mut |look| {
        staying(look, board)
    })?;
    Ok(match waited {
        Waited::Complete => Done {
            complete: Some(true),
            ..Done::new(format!("{name} is drained: no guest is on it"))
        }
        .into(),
        Waited::Interrupted(left) => Done {
            complete: Some(false),
            waits_for: left,
            ..Done::new(format!(
                "{name} goes on being drained; `hearth undrain {name}` takes it back. Still there:"
            ))
        }
        .into(),
        Waited::TooLong(left) => {
            let done = Done {
                complete: Some(false),
                waits_for: left,
                ..Done::new(format!(
                    "{name} is not empty yet, and goes on being drained:"
                ))
            };
            return Err(Failure::Found(done.into()));
        }
    })
}

/// Which guests are still on `board`, and what each waits for.
fn staying(look: &Look, board: BoardId) -> Vec<String> {
    let leaving = |phase: Phase| phase == Phase::Leaving;
    let goes = |guest: &Guest| leaving(guest.phase) || guest.moving.is_some();
    let one_leaves = look.ledger.guests().any(|it| goes(it.2));
    let why = |(id, _, guest): (_, _, &Guest)| {
        let name = &guest.spec.name;
        if leaving(guest.phase) {
            return format!("{name} is leaving");
        }
        if let Some(order) = &guest.moving {
            let to = board_name(look, order.to);
            let moves = format!("{name} moves to {to} while it runs");
            return going::with(moves, &Going::of(look, id));
        }
        if guest.phase == Phase::Starting {
            return format!("{name} is starting, and leaves then");
        }
        if let Some(holder) = placement::held_by_volume(&look.ledger, id) {
            let holder = board_name(look, holder);
            return format!(
                "{name} stays: its local volume is on {holder} (`hearth guest stop {name}` stops it)"
            );
        }
        if !placement::fits_elsewhere(&look.ledger, id, board) {
            return format!("{name} stays: no other board can run it (`hearth why {name}`)");
        }
        if one_leaves {
            format!("{name} waits for its turn")
        } else if guest.stays > 0 {
            let why = words::stay(guest.stay);
            format!("{name} waits to be moved again: the last move was given up, because {why}")
        } else {
            format!("{name} is about to leave")
        }
    };
    look.ledger.owned_by(board).map(why).collect()
}

/// Lets guests come back.
///
/// # Errors
/// It is refused, or nobody answers.
pub fn undrain(arguments: &Undrain) -> Result<Answer, Failure> {
    set_drained(&arguments.reach, &arguments.board, (false, None))
}

fn set_drained(
    reach: &Reach,
    name: &str,
    (on, downtime): (bool, Option<u16>),
) -> Result<Answer, Failure> {
    let mut session = reach.open()?;
    let board = session.board(name)?;
    let drain = Operation::Drain {
        board,
        on,
        downtime,
    };
    order(&mut session, drain)?;
    let done = if on {
        format!("guests leave {name}; `hearth drain {name} --wait` waits for them")
    } else {
        format!("guests may run on {name} again")
    };
    Ok(Done::new(done).into())
}

/// Turns failover on or off.
///
/// # Errors
/// It is refused, or nobody answers.
pub fn arming(arguments: &Arming, disarm: bool) -> Result<Answer, Failure> {
    let mut session = arguments.reach.open()?;
    let board = arguments.board.as_deref();
    let board = board.map(|name| session.board(name)).transpose()?;
    let operation = match board {
        Some(board) => Operation::Disarm { board, on: disarm },
        None => Operation::DisarmAll { on: disarm },
    };
    order(&mut session, operation)?;
    let of = match &arguments.board {
        Some(name) => format!("from {name}"),
        None => "everywhere".into(),
    };
    let state = if disarm { "off" } else { "on" };
    Ok(Done::new(format!("failover {of} is {state}")).into())
}

/// Founds the cluster anew.
///
/// # Errors
/// It is refused, or the board does not answer.
pub fn reform(arguments: &Reform) -> Result<Answer, Failure> {
    let mut session = arguments.reach.open()?;
    let board = session.board(&arguments.board)?;
    let mut lost = BoardSet(0);
    for name in &arguments.lost {
        lost.set(session.board(name)?, true);
    }
    if lost.has(board) {
        return Err(Failure::Trouble(format!(
            "{} cannot be both lost and what the cluster goes on around",
            arguments.board
        )));
    }
    accepted(session.reform(board, lost)?)?;
    Ok(Done::new(format!(
        "the cluster goes on around {}; the others are let in as newcomers",
        arguments.board
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use cluster_proto::ledger::types::Reason;

    use super::super::scene::{ALPHA, GAMMA, Scene};
    use super::*;

    #[test]
    fn each_guest_on_a_drained_board_says_what_it_waits_for() {
        let mut scene = Scene::new();
        scene.board(ALPHA).drained = true;
        let db = scene.create("db", 500);
        scene.place(db, ALPHA);
        scene.migrate(GAMMA);
        assert_eq!(
            staying(&scene.0, ALPHA),
            ["web moves to gamma while it runs", "db waits for its turn"]
        );
        scene.give_up(Reason::NotConverged);
        assert_eq!(
            staying(&scene.0, ALPHA),
            [
                "web waits to be moved again: the last move was given up, because it wrote to its memory faster than that could be copied",
                "db is about to leave"
            ]
        );
        scene.migrate(GAMMA);
        scene.hand(true, Reason::None);
        assert_eq!(staying(&scene.0, ALPHA), ["db is about to leave"]);
    }
}
