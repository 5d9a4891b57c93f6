//! `hearth events`: what the cluster remembers of what happened.

use std::fmt;
use std::io::{Write as _, stdout};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cluster_proto::ids::Era;
use cluster_proto::ledger::types::{Event, Happening, Reason};
use serde::Serialize;

use super::interrupt::Interrupt;
use super::orders::Done;
use super::reach::Reach;
use super::session::Look;
use super::view::{board_name, guest_name};
use super::words;
use crate::report::{Answer, EXIT_CODES, Failure};

/// Between two looks of `--follow`.
const AGAIN: Duration = Duration::from_millis(500);

const ABOUT: &str = "\
The cluster knows no time of day. With --follow, each event has the time (UTC) at which this tool first saw it;
what was there before has none. In JSON, --follow prints an object a line.";

/// Show what happened: boards that came and went, guests that moved, what operators ordered.
#[derive(clap::Args)]
#[command(after_long_help = format!("{ABOUT}\n\n{EXIT_CODES}"))]
pub struct Arguments {
    /// Go on with what happens from now on, until Ctrl-C.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    reach: Reach,
}

/// The events that a cluster remembers.
#[derive(Debug, Serialize)]
pub struct Events {
    /// From the oldest to the newest.
    events: Vec<Told>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The decree that made it happen.
    index: u64,
    /// What happened.
    what: String,
    /// Why.
    reason: &'static str,
    /// To which board.
    board: String,
    /// To which guest.
    guest: Option<String>,
    /// In which ownership epoch.
    epoch: u64,
    /// All of that in words.
    text: String,
    /// When this tool first saw it, seconds since 1970; nothing for what was there before.
    seen: Option<u64>,
}

impl Told {
    fn of(look: &Look, event: &Event) -> Self {
        let board = board_name(look, event.board);
        let guest = event.guest.map(|guest| guest_name(look, guest));
        Self {
            index: event.index.0,
            what: format!("{:?}", event.what).to_lowercase(),
            reason: reason(event),
            text: text(event, &board, guest.as_deref()),
            board,
            guest,
            epoch: event.epoch.0,
            seen: None,
        }
    }
}

/// Why it happened.
fn reason(event: &Event) -> &'static str {
    match event.what {
        Happening::Stayed => words::stay(event.reason),
        _ => words::reason(event.reason),
    }
}

/// An event in words.
fn text(event: &Event, board: &str, guest: Option<&str>) -> String {
    let what = words::happening(event.what);
    let because = match event.reason {
        Reason::None => String::new(),
        Reason::Operator if event.what == Happening::Ordered => String::new(),
        _ => format!(": {}", reason(event)),
    };
    match (event.what, guest) {
        (Happening::Founded, _) => format!("{what} by {board}{because}"),
        (Happening::Ordered, Some(guest)) => format!("{guest} {what}{because}"),
        (_, Some(guest)) => format!("{guest} {what} {board} (epoch {}){because}", event.epoch),
        (_, None) => format!("{board} {what}{because}"),
    }
}

/// Seconds since 1970 as a time of day.
fn time_of_day(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3_600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}Z", seconds % 60)
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.seen.map_or_else(|| " ".repeat(9), time_of_day);
        write!(f, "{seen} {:>6}  {}", self.index, self.text)
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.events.is_empty() {
            return writeln!(f, "nothing has happened yet");
        }
        self.events
            .iter()
            .try_for_each(|event| writeln!(f, "{event}"))
    }
}

fn told(look: &Look) -> Vec<Told> {
    let events = look.ledger.events.iter();
    events.map(|event| Told::of(look, event)).collect()
}

/// Shows what happened.
///
/// # Errors
/// Nobody answers.
pub fn run(arguments: &Arguments, json: bool) -> Result<Answer, Failure> {
    let mut session = arguments.reach.open()?;
    let interrupt = arguments.follow.then(Interrupt::catch).transpose()?;
    let look = session.look()?;
    let events = told(&look);
    let Some(interrupt) = interrupt else {
        return Ok(Events { events }.into());
    };
    let mut follower = Follower::default();
    let mut show = |look: &Look, now| {
        let mut shown = Ok(());
        for event in follower.take(look.era, told(look), now) {
            let line = if json {
                Answer::from(event).json()
            } else {
                event.to_string()
            };
            shown = shown.and_then(|()| writeln!(stdout(), "{line}"));
        }
        shown.is_ok()
    };
    let mut going = show(&look, None);
    while going && !interrupt.wait(AGAIN) {
        // A moment without a leader, or without an answer, is no end.
        if let Ok(look) = session.look() {
            going = show(&look, Some(now()));
        }
    }
    Ok(Done::new("no longer following").into())
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Tells new events from those that were shown.
#[derive(Default)]
struct Follower {
    era: Era,
    newest: Option<Told>,
}

impl Follower {
    /// Those of `events` that are new. A new history begins anew.
    fn take(&mut self, era: Era, events: Vec<Told>, now: Option<u64>) -> Vec<Told> {
        if self.era != era {
            (self.era, self.newest) = (era, None);
        }
        let newest = self.newest.clone();
        self.newest = events.last().cloned().or(newest.clone());
        let Some(newest) = newest else {
            return stamped(events, now);
        };
        // Several events may be of one decree, so the last that was shown is looked for itself.
        let new = match events.iter().rposition(|event| *event == newest) {
            Some(at) => events.into_iter().skip(at + 1).collect(),
            None => {
                let later = |event: &Told| event.index > newest.index;
                events.into_iter().filter(later).collect()
            }
        };
        stamped(new, now)
    }
}

fn stamped(mut events: Vec<Told>, now: Option<u64>) -> Vec<Told> {
    for event in &mut events {
        event.seen = now;
    }
    events
}

#[cfg(test)]
mod tests {
    use cluster_proto::ledger::types::Operation;

    use super::super::scene::{BETA, GAMMA, Scene, WEB};
    use super::*;

    fn event(index: u64, text: &str) -> Told {
        Told {
            index,
            what: "ran".into(),
            reason: "",
            board: "alpha".into(),
            guest: None,
            epoch: 0,
            text: text.into(),
            seen: None,
        }
    }

    #[test]
    fn only_what_is_new_is_shown_and_has_a_time() {
        let mut follower = Follower::default();
        let era = |generation| Era {
            generation,
            nonce: 1,
        };
        let (a, b, c) = (event(1, "a"), event(1, "b"), event(2, "c"));
        let first = follower.take(era(1), vec![a.clone()], None);
        assert_eq!((first.len(), &first[0]), (1, &a));
        // Another one of the same decree.
        let next = follower.take(era(1), vec![a.clone(), b.clone()], Some(7));
        assert_eq!(
            (next.len(), next[0].seen, &next[0].text),
            (1, Some(7), &b.text)
        );
        assert!(follower.take(era(1), vec![a, b], Some(8)).is_empty());
        // The one that was shown last has fallen out of the ring.
        let next = follower.take(era(1), vec![c.clone()], Some(9));
        assert_eq!(next.len(), 1);
        // A new history counts anew.
        let next = follower.take(era(2), vec![event(1, "d")], Some(9));
        assert_eq!(next.len(), 1);
        assert!(c.to_string().ends_with("     2  c"));
    }

    #[test]
    fn a_move_and_its_end_have_a_line_each() {
        let mut scene = Scene::new();
        let before = told(&scene.0).len();
        scene.migrate(BETA);
        scene.give_up(Reason::DestinationRefused);
        scene.migrate(BETA);
        scene.order(Operation::CancelMove { guest: WEB });
        scene.migrate(GAMMA);
        scene.hand(true, Reason::None);
        let events = told(&scene.0);
        let lines: Vec<_> = events[before..].iter().map(|it| it.text.as_str()).collect();
        assert_eq!(
            lines,
            [
                "web is to move, while it runs, to beta (epoch 1): an operator ordered it",
                "web was not moved and stays on alpha (epoch 1): the other board would not take it",
                "web is to move, while it runs, to beta (epoch 1): an operator ordered it",
                "web was not moved and stays on alpha (epoch 1): an operator called it off",
                "web is to move, while it runs, to gamma (epoch 1): an operator ordered it",
                "web was handed over, while it ran, to gamma (epoch 2): an operator ordered it",
            ]
        );
        assert_eq!(events[before + 3].reason, "an operator called it off");
    }

    #[test]
    fn times_of_day_are_read_off() {
        assert_eq!(time_of_day(86_400 + 3_600 + 62), "01:01:02Z");
    }
}
