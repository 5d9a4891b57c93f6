//! A move as the tool sees it pass, from the order to its end, and what there is to say of it.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::going::{self, Downtime, Going};
use super::moves::{Stage, Watched};
use super::session::{Look, Session};
use super::view::{board_name, guest_name};
use super::words;
use crate::report::{Answer, Failure};

/// What became of a move.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
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
    /// How it goes while the guest is copied, if its board tells.
    progress: Option<Going>,
    /// How long the guest was still for it, if it has moved and both boards tell.
    downtime: Option<Downtime>,
    /// Whether the guest has moved; nothing while nobody knows and nobody waits.
    complete: Option<bool>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.done)
    }
}

/// A move, as this tool sees it pass.
pub struct Passage {
    watched: Watched,
    stage: Stage,
    /// When it was first seen as handed over, or as ended, counted from the order.
    after: Option<Duration>,
    told: Told,
    /// What was said last: of which stage, round and step, when, counted from the order, and in words.
    said: (Option<Said>, Duration, String),
}

/// A stage; the rounds that were over in it, and the step.
type Said = (Stage, Option<(u32, &'static str)>);

/// How often it is said how a round goes.
const SAY_AGAIN: Duration = Duration::from_secs(1);

impl Passage {
    /// Of a move that was just ordered.
    pub fn new(watched: Watched, look: &Look) -> Self {
        let stage = Stage::Ordered;
        Self {
            told: tell(look, &watched, stage, None),
            watched,
            stage,
            after: None,
            said: (None, Duration::ZERO, String::new()),
        }
    }

    /// Takes in what is seen of it.
    pub fn see(&mut self, look: &Look, since_order: Duration) {
        self.stage = self.watched.stage(look);
        if !matches!(self.stage, Stage::Ordered | Stage::Copied) {
            self.after.get_or_insert(since_order);
        }
        self.told = tell(look, &self.watched, self.stage, self.after);
    }

    pub fn ended(&self) -> bool {
        !matches!(self.stage, Stage::Ordered | Stage::Copied | Stage::Handed)
    }

    /// What is said while it lasts: how it goes is said anew with each round and step, and otherwise now and then.
    pub fn line(&mut self, since_order: Duration) -> String {
        let now = self.told.progress.as_ref().map(|it| (it.rounds, it.step));
        let is_due = since_order.saturating_sub(self.said.1) >= SAY_AGAIN;
        if is_due || self.said.0 != Some((self.stage, now)) {
            let line = going::with(self.told.done.clone(), &self.told.progress);
            self.said = (Some((self.stage, now)), since_order, line);
        }
        self.said.2.clone()
    }

    /// Asks both boards for how long the guest was still, if it has moved.
    ///
    /// # Errors
    /// The way to them is broken.
    pub fn ask_downtime(&mut self, session: &mut Session) -> Result<(), Failure> {
        if self.stage == Stage::Moved
            && let Some(downtime) = Downtime::ask(session, &self.watched)?
        {
            self.told.done = format!("{}; {downtime}", self.told.done);
            self.told.downtime = Some(downtime);
        }
        Ok(())
    }

    /// How the verb ends: well if the guest has moved, or if its end was not waited for.
    pub fn answer(self) -> Result<Answer, Failure> {
        let moved = self.stage == Stage::Moved || !self.ended();
        let answer = Answer::from(self.told);
        if moved {
            Ok(answer)
        } else {
            Err(Failure::Found(answer))
        }
    }

    /// What is told if nobody waits for the end any longer.
    pub fn unfinished(&self) -> Told {
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
        progress: Going::of(look, watched.guest).filter(|_| stage == Stage::Copied),
        downtime: None,
        complete: match outcome {
            "moving" => None,
            outcome => Some(outcome == "moved"),
        },
    }
}

#[cfg(test)]
mod tests {
    use cluster_proto::ledger::types::{Observation, Operation, Reason, Wanted};

    use super::super::scene::{ALPHA, BETA, GAMMA, Scene, WEB};
    use super::*;

    /// A cluster in which `web` was told to move to gamma, and what is seen of it.
    fn moving() -> (Scene, Passage) {
        let mut scene = Scene::new();
        let watched = Watched::before_order(&scene.0, WEB, Some(GAMMA));
        let passage = Passage::new(watched, &scene.0);
        scene.migrate(GAMMA);
        (scene, passage)
    }

    fn seen(passage: &mut Passage, scene: &Scene, millis: u64) -> String {
        passage.see(&scene.0, Duration::from_millis(millis));
        passage.told.done.clone()
    }

    #[test]
    fn a_move_is_followed_to_its_destination() {
        let (mut scene, mut passage) = moving();
        let said = seen(&mut passage, &scene, 10);
        assert_eq!(said, "web moves from alpha to gamma while it runs");
        assert_eq!(passage.unfinished().complete, Some(false));
        assert_eq!(
            passage.unfinished().done,
            format!("{said}, and goes on moving; `hearth migrate web --cancel` calls that off")
        );
        scene.hand(true, Reason::None);
        let said = seen(&mut passage, &scene, 1_320);
        assert_eq!(said, "web was handed over to gamma in epoch 2, after 1.3 s");
        assert!(!passage.ended());
        assert_eq!(
            passage.unfinished().done,
            format!("{said}, and does not run there yet")
        );
        scene.observe(WEB, Observation::Running {});
        let said = seen(&mut passage, &scene, 1_650);
        assert_eq!(
            said,
            "web has moved from alpha to gamma: handed over in epoch 2, after 1.3 s"
        );
        let told = &passage.told;
        assert_eq!((told.outcome, told.complete), ("moved", Some(true)));
        assert_eq!((told.epoch, told.seconds), (Some(2), Some(1.3)));
        assert!(passage.answer().is_ok());
    }

    #[test]
    fn a_guest_that_stays_is_an_answer_that_is_not_well() {
        let (mut scene, mut passage) = moving();
        seen(&mut passage, &scene, 10);
        scene.give_up(Reason::NotConverged);
        assert_eq!(
            seen(&mut passage, &scene, 2_000),
            "web stays on alpha, after 2.0 s: it wrote to its memory faster than that could be copied"
        );
        assert_eq!(passage.told.outcome, "stays");
        assert!(matches!(passage.answer(), Err(Failure::Found(_))));
    }

    #[test]
    fn an_end_between_order_and_first_look_is_seen_too() {
        let (mut scene, mut passage) = moving();
        scene.give_up(Reason::CannotMove);
        // The next try is not the one that was ordered.
        scene.migrate(BETA);
        scene.give_up(Reason::Operator);
        scene.migrate(GAMMA);
        scene.hand(false, Reason::DestinationLost);
        assert_eq!(
            seen(&mut passage, &scene, 100),
            "web stays on alpha, after 0.1 s: the other board left the cluster or no longer answered"
        );
    }

    #[test]
    fn a_look_that_does_not_know_of_the_order_says_nothing_of_its_end() {
        let mut scene = Scene::new();
        scene.migrate(BETA);
        scene.give_up(Reason::NotConverged);
        let mut passage = Passage::new(Watched::before_order(&scene.0, WEB, None), &scene.0);
        let said = seen(&mut passage, &scene, 10);
        assert_eq!(said, "web moves from alpha to another board while it runs");
        assert_eq!(passage.stage, Stage::Ordered);
    }

    #[test]
    fn what_else_ends_a_move_is_named() {
        let (mut scene, mut passage) = moving();
        seen(&mut passage, &scene, 10);
        scene.fence(ALPHA);
        scene.place(WEB, BETA);
        assert_eq!(
            seen(&mut passage, &scene, 700),
            "web did not move, and left alpha otherwise, after 0.7 s: too few voters heard the board (`hearth why web` says where it is)"
        );
        assert_eq!(passage.told.outcome, "lost");

        let (mut scene, mut passage) = moving();
        scene.hand(true, Reason::None);
        let reason = Reason::StartFailed;
        scene.observe(WEB, Observation::Gone { reason });
        assert_eq!(
            seen(&mut passage, &scene, 700),
            "web was handed over to gamma in epoch 2, and did not go on there: the board could not start it (`hearth why web` says where it is)"
        );

        // It went on there, and was stopped then.
        let (mut scene, mut passage) = moving();
        scene.hand(true, Reason::None);
        scene.observe(WEB, Observation::Running {});
        let wanted = Wanted::Stopped;
        scene.order(Operation::Want { guest: WEB, wanted });
        seen(&mut passage, &scene, 700);
        assert_eq!(passage.stage, Stage::Moved);

        let (mut scene, mut passage) = moving();
        scene.0.ledger.guests[WEB.at()].guest = None;
        seen(&mut passage, &scene, 700);
        assert_eq!(passage.stage, Stage::Gone);
    }
}
