//! `hearth migrate`: moves a guest to another board while it runs.

use std::fmt;
use std::time::{Duration, Instant};

use cluster_proto::ids::{BoardId, GuestId};
use cluster_proto::ledger::types::{Operation, Outcome};
use serde::Serialize;

use super::interrupt::Interrupt;
use super::moves::{Stage, Watched, refusal};
use super::orders::{Done, Waited, wait_until};
use super::reach::Reach;
use super::session::{Look, Session};
use super::view::{board_name, guest_name};
use super::{why, words};
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
    #[arg(long, conflicts_with_all = ["to", "follow"])]
    cancel: bool,
    #[command(flatten)]
    reach: Reach,
}

/// What became of a move.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Told {
    /// In words.
    done: String,
    guest: String,
    from: String,
    to: Option<String>,
    /// `moving`, `moved` or `stays`; `lost` if the guest left its board otherwise, before it was handed over or after.
    outcome: &'static str,
    /// The ownership epoch in which it was handed over, if it was.
    epoch: Option<u64>,
    /// Why it did not move.
    reason: Option<&'static str>,
    /// From the order to the hand-over, or to the end of a move that came to none, as this tool saw it.
    seconds: Option<f64>,
    /// Whether the guest has moved; nothing while nobody knows and nobody waits.
    complete: Option<bool>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.done)
    }
}

/// A move, as this tool sees it pass.
struct Progress {
    watched: Watched,
    stage: Stage,
    /// When it was first seen as handed over, or as ended, counted from the order.
    after: Option<Duration>,
    told: Told,
}

impl Progress {
    /// Of a move that was just ordered.
    fn new(watched: Watched, look: &Look) -> Self {
        let stage = Stage::Ordered;
        Self {
            told: tell(look, &watched, stage, None),
            watched,
            stage,
            after: None,
        }
    }

    /// Takes in what is seen of it.
    fn see(&mut self, look: &Look, since_order: Duration) {
        self.stage = self.watched.stage(look);
        if !matches!(self.stage, Stage::Ordered | Stage::Copied) {
            self.after.get_or_insert(since_order);
        }
        self.told = tell(look, &self.watched, self.stage, self.after);
    }

    fn ended(&self) -> bool {
        !matches!(self.stage, Stage::Ordered | Stage::Copied | Stage::Handed)
    }

    /// How the verb ends: well if the guest has moved, or if its end was not waited for.
    fn answer(self) -> Result<Answer, Failure> {
        let moved = self.stage == Stage::Moved || !self.ended();
        let answer = Answer::from(self.told);
        if moved {
            Ok(answer)
        } else {
            Err(Failure::Found(answer))
        }
    }

    /// What is told if nobody waits for the end any longer.
    fn unfinished(&self) -> Told {
        let guest = &self.told.guest;
        let done = match self.stage {
            Stage::Handed => format!("{}, and does not run there yet", self.told.done),
            _ => format!(
                "{}, and goes on moving; `hearth migrate {guest} --cancel` calls that off",
                self.told.done
            ),
        };
        Told {
            done,
            complete: Some(false),
            ..self.told.clone()
        }
    }
}

/// What there is to say of a move in that stage.
fn tell(look: &Look, watched: &Watched, stage: Stage, after: Option<Duration>) -> Told {
    let guest = guest_name(look, watched.guest);
    let from = board_name(look, watched.from);
    let to = watched.to.map(|to| board_name(look, to));
    let epoch = watched.next().0;
    let there = to.as_deref().unwrap_or("another board");
    let seconds = after.map(|after| (after.as_secs_f64() * 10.0).round() / 10.0);
    let took = seconds.map_or_else(String::new, |seconds| format!(", after {seconds:.1} s"));
    let where_is = format!("`hearth why {guest}` says where it is");
    let (outcome, reason, done) = match stage {
        Stage::Ordered | Stage::Copied => (
            "moving",
            None,
            format!("{guest} moves from {from} to {there} while it runs"),
        ),
        Stage::Handed => (
            "moving",
            None,
            format!("{guest} was handed over to {there} in epoch {epoch}{took}"),
        ),
        Stage::Moved => (
            "moved",
            None,
            format!("{guest} has moved from {from} to {there}: handed over in epoch {epoch}{took}"),
        ),
        Stage::Stays(why) => {
            let why = words::stay(why);
            let done = format!("{guest} stays on {from}{took}: {why}");
            ("stays", Some(why), done)
        }
        Stage::Ended { handed, reason } => {
            let why = words::reason(reason);
            let what = if handed {
                format!("was handed over to {there} in epoch {epoch}, and did not go on there")
            } else {
                format!("did not move, and left {from} otherwise{took}")
            };
            let done = format!("{guest} {what}: {why} ({where_is})");
            ("lost", Some(why), done)
        }
        Stage::Gone => ("lost", None, format!("{guest} is no more")),
    };
    let handed = matches!(
        stage,
        Stage::Handed | Stage::Moved | Stage::Ended { handed: true, .. }
    );
    Told {
        done,
        guest,
        from,
        to,
        outcome,
        epoch: handed.then_some(epoch),
        reason,
        seconds,
        complete: match outcome {
            "moving" => None,
            outcome => Some(outcome == "moved"),
        },
    }
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
        return follow(&mut session, &look, (guest, to), (&interrupt, patience));
    }
    let watched = Watched::before_order(&look, guest, to);
    let mut progress = Progress::new(watched, &look);
    let begun = Instant::now();
    order(&mut session, guest, to, Operation::Migrate { guest, to })?;
    // The order stands, even if nobody tells now what came of it.
    if let Ok(look) = session.look() {
        progress.see(&look, begun.elapsed());
    }
    progress.answer()
}

/// Orders a move of a guest, to a board if one is named, and shows how it goes until it has ended or nobody waits any longer.
///
/// # Errors
/// It is refused, nobody answers, the guest did not move, or that took too long.
pub(super) fn follow(
    session: &mut Session,
    look: &Look,
    (guest, to): (GuestId, Option<BoardId>),
    (interrupt, patience): (&Interrupt, Option<Duration>),
) -> Result<Answer, Failure> {
    let mut progress = Progress::new(Watched::before_order(look, guest, to), look);
    let begun = Instant::now();
    order(session, guest, to, Operation::Migrate { guest, to })?;
    let waited = wait_until(session, interrupt, patience, &mut |look| {
        progress.see(look, begun.elapsed());
        let line = (!progress.ended()).then(|| progress.told.done.clone());
        line.into_iter().collect()
    })?;
    match waited {
        Waited::Complete => progress.answer(),
        Waited::Interrupted(_) => Ok(progress.unfinished().into()),
        Waited::TooLong(_) => Err(Failure::Found(progress.unfinished().into())),
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
    use cluster_proto::ledger::types::{Observation, Reason, Wanted};

    use super::super::scene::{ALPHA, BETA, GAMMA, Scene, WEB};
    use super::*;

    /// A cluster in which `web` was told to move to gamma, and what is seen of it.
    fn moving() -> (Scene, Progress) {
        let mut scene = Scene::new();
        let watched = Watched::before_order(&scene.0, WEB, Some(GAMMA));
        let progress = Progress::new(watched, &scene.0);
        scene.migrate(GAMMA);
        (scene, progress)
    }

    fn seen(progress: &mut Progress, scene: &Scene, millis: u64) -> String {
        progress.see(&scene.0, Duration::from_millis(millis));
        progress.told.done.clone()
    }

    #[test]
    fn a_move_is_followed_to_its_destination() {
        let (mut scene, mut progress) = moving();
        let said = seen(&mut progress, &scene, 10);
        assert_eq!(said, "web moves from alpha to gamma while it runs");
        assert_eq!(progress.unfinished().complete, Some(false));
        assert_eq!(
            progress.unfinished().done,
            format!("{said}, and goes on moving; `hearth migrate web --cancel` calls that off")
        );
        scene.hand(true, Reason::None);
        let said = seen(&mut progress, &scene, 1_320);
        assert_eq!(said, "web was handed over to gamma in epoch 2, after 1.3 s");
        assert!(!progress.ended());
        assert_eq!(
            progress.unfinished().done,
            format!("{said}, and does not run there yet")
        );
        scene.observe(WEB, Observation::Running {});
        let said = seen(&mut progress, &scene, 1_650);
        assert_eq!(
            said,
            "web has moved from alpha to gamma: handed over in epoch 2, after 1.3 s"
        );
        let told = &progress.told;
        assert_eq!((told.outcome, told.complete), ("moved", Some(true)));
        assert_eq!((told.epoch, told.seconds), (Some(2), Some(1.3)));
        assert!(progress.answer().is_ok());
    }

    #[test]
    fn a_guest_that_stays_is_an_answer_that_is_not_well() {
        let (mut scene, mut progress) = moving();
        seen(&mut progress, &scene, 10);
        scene.give_up(Reason::NotConverged);
        assert_eq!(
            seen(&mut progress, &scene, 2_000),
            "web stays on alpha, after 2.0 s: it wrote to its memory faster than that could be copied"
        );
        assert_eq!(progress.told.outcome, "stays");
        assert!(matches!(progress.answer(), Err(Failure::Found(_))));
    }

    #[test]
    fn an_end_between_order_and_first_look_is_seen_too() {
        let (mut scene, mut progress) = moving();
        scene.give_up(Reason::CannotMove);
        // The next try is not the one that was ordered.
        scene.migrate(BETA);
        scene.give_up(Reason::Operator);
        scene.migrate(GAMMA);
        scene.hand(false, Reason::DestinationLost);
        assert_eq!(
            seen(&mut progress, &scene, 100),
            "web stays on alpha, after 0.1 s: the other board left the cluster or no longer answered"
        );
    }

    #[test]
    fn a_look_that_does_not_know_of_the_order_says_nothing_of_its_end() {
        let mut scene = Scene::new();
        scene.migrate(BETA);
        scene.give_up(Reason::NotConverged);
        let mut progress = Progress::new(Watched::before_order(&scene.0, WEB, None), &scene.0);
        let said = seen(&mut progress, &scene, 10);
        assert_eq!(said, "web moves from alpha to another board while it runs");
        assert_eq!(progress.stage, Stage::Ordered);
    }

    #[test]
    fn what_else_ends_a_move_is_named() {
        let (mut scene, mut progress) = moving();
        seen(&mut progress, &scene, 10);
        scene.fence(ALPHA);
        scene.place(WEB, BETA);
        assert_eq!(
            seen(&mut progress, &scene, 700),
            "web did not move, and left alpha otherwise, after 0.7 s: too few voters heard the board (`hearth why web` says where it is)"
        );
        assert_eq!(progress.told.outcome, "lost");

        let (mut scene, mut progress) = moving();
        scene.hand(true, Reason::None);
        let reason = Reason::StartFailed;
        scene.observe(WEB, Observation::Gone { reason });
        assert_eq!(
            seen(&mut progress, &scene, 700),
            "web was handed over to gamma in epoch 2, and did not go on there: the board could not start it (`hearth why web` says where it is)"
        );

        // It went on there, and was stopped then.
        let (mut scene, mut progress) = moving();
        scene.hand(true, Reason::None);
        scene.observe(WEB, Observation::Running {});
        let wanted = Wanted::Stopped;
        scene.order(Operation::Want { guest: WEB, wanted });
        seen(&mut progress, &scene, 700);
        assert_eq!(progress.stage, Stage::Moved);

        let (mut scene, mut progress) = moving();
        scene.0.ledger.guests[WEB.at()].guest = None;
        seen(&mut progress, &scene, 700);
        assert_eq!(progress.stage, Stage::Gone);
    }

    #[test]
    fn a_move_that_is_called_off_is_told() {
        let (mut scene, _) = moving();
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
