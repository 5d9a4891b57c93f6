//! `hearth why`: where a guest is, why, and what keeps it from being elsewhere.

use std::fmt;

use cluster_proto::ids::{BoardId, GuestId};
use cluster_proto::ledger::types::{Guest, Phase, Wanted};
use cluster_proto::placement::{self, Choice, Verdict};
use serde::Serialize;

use super::reach::Reach;
use super::session::Look;
use super::view::{board_name, guest_name};
use super::{moves, table, words};
use crate::report::{Answer, EXIT_CODES, Failure};
use crate::row;

/// Explain where a guest is, and what keeps it from each board.
#[derive(clap::Args)]
#[command(after_long_help = EXIT_CODES)]
pub struct Arguments {
    /// The guest.
    guest: String,
    #[command(flatten)]
    reach: Reach,
}

/// The explanation.
#[derive(Debug, Serialize)]
pub struct Explained {
    guest: String,
    wanted: &'static str,
    phase: &'static str,
    board: Option<String>,
    epoch: u64,
    failures: u8,
    /// Why it last changed its place.
    reason: &'static str,
    /// Where it is, and why, in a sentence.
    summary: String,
    /// Where it would go now, if it had no owner.
    would_go: Option<String>,
    /// Whom it would displace there.
    would_displace: Option<String>,
    /// What keeps it from each board.
    boards: Vec<Judged>,
    no_spare_for: Option<String>,
    /// What else there is to know.
    notes: Vec<String>,
}

/// A board, and what keeps the guest from it.
#[derive(Debug, Serialize)]
struct Judged {
    board: String,
    fits: bool,
    why: String,
}

/// Explains.
///
/// # Errors
/// There is no such guest, or nobody answers.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let mut session = arguments.reach.open()?;
    let look = session.look()?;
    let id = find(&look, &arguments.guest)?;
    explain(&look, id)
        .map(Answer::from)
        .ok_or_else(|| no_guest(&look, &arguments.guest))
}

/// The guest called `name`.
///
/// # Errors
/// There is none.
pub fn find(look: &Look, name: &str) -> Result<GuestId, Failure> {
    let found = look.ledger.guests().find(|it| it.2.spec.name == name);
    found.map(|it| it.0).ok_or_else(|| no_guest(look, name))
}

fn no_guest(look: &Look, name: &str) -> Failure {
    let names = look.ledger.guests().map(|it| it.2.spec.name.as_str());
    let names: Vec<_> = names.collect();
    let known = match names.len() {
        0 => "the cluster has none".to_string(),
        _ => format!("the guests are: {}", names.join(", ")),
    };
    Failure::Trouble(format!("there is no guest {name}; {known}"))
}

/// What there is to say of guest `id`.
pub fn explain(look: &Look, id: GuestId) -> Option<Explained> {
    let why = placement::why(&look.ledger, id)?;
    let board = |board: BoardId| board_name(look, board);
    let guest = |guest: GuestId| guest_name(look, guest);
    let name = guest(id);
    let reason = words::reason(why.reason);
    let summary = match (why.wanted, why.phase, why.owner) {
        (Wanted::Stopped, Phase::Unowned, _) => {
            format!("{name} is stopped, as an operator wants it: `hearth guest start {name}`")
        }
        (_, Phase::Unowned, _) => format!("{name} should run and does not"),
        (_, phase, owner) => {
            let on = owner.map_or_else(|| "nowhere".into(), board);
            let phase = words::phase(phase);
            format!("{name} is {phase} on {on}: {reason}")
        }
    };
    let (would_go, would_displace) = match why.choice {
        Choice::Board(to) => (Some(board(to)), None),
        Choice::Displace(to, other) => (Some(board(to)), Some(guest(other))),
        Choice::Nowhere => (None, None),
    };
    let judged = look.ledger.boards().filter_map(|(at, _)| {
        let verdict = why.verdicts.get(at.at())?;
        let fits = matches!(verdict, Verdict::Fits { .. });
        let mut said = words::verdict(verdict, &board, &guest);
        if let (true, Phase::Running, Verdict::Class(_)) =
            (fits, why.phase, placement::verdict_live(&look.ledger, id, at))
        {
            said += ", but only afresh: it is of another class, and a guest that runs stays within its own";
        }
        Some(Judged {
            board: board(at),
            fits,
            why: said,
        })
    });
    let mut explained = Explained {
        guest: name,
        wanted: words::wanted(why.wanted),
        phase: words::phase(why.phase),
        board: why.owner.map(board),
        epoch: look.ledger.epoch(id).0,
        failures: why.failures,
        reason,
        summary,
        would_go,
        would_displace,
        boards: judged.collect(),
        no_spare_for: why.no_spare_for.map(board),
        notes: Vec::new(),
    };
    explained.notes = notes(&explained, look, id, why.owner);
    let moves = look.ledger.guest(id).map(|guest| move_notes(look, guest));
    explained.notes.extend(moves.into_iter().flatten());
    Some(explained)
}

/// What there is to know of its moves.
fn move_notes(look: &Look, guest: &Guest) -> Vec<String> {
    let mut notes = Vec::new();
    let name = &guest.spec.name;
    if let Some(order) = &guest.moving {
        notes.push(format!(
            "it moves to {} while it runs: {} (`hearth migrate {name} --cancel` calls that off)",
            board_name(look, order.to),
            words::reason(order.reason)
        ));
    }
    if let Some(why) = moves::given_up(guest) {
        let which = match guest.stays {
            1 => "its last move was given up".to_string(),
            times => format!("its last {times} moves were given up, the newest one"),
        };
        notes.push(format!("{which}: {}", words::stay(why)));
    }
    notes
}

/// What else there is to know.
fn notes(explained: &Explained, look: &Look, id: GuestId, owner: Option<BoardId>) -> Vec<String> {
    let mut notes = Vec::new();
    let name = &explained.guest;
    if let Some(holder) = placement::held_by_volume(&look.ledger, id) {
        notes.push(format!(
            "a local volume of {name} is on {}: it runs there or nowhere, and does not fail over",
            board_name(look, holder)
        ));
    }
    if explained.failures > 0 {
        notes.push(format!(
            "it failed {} times of late; it is tried again after a pause that grows with each failure, up to 20 s",
            explained.failures
        ));
    }
    if explained.wanted == "running" && owner.is_none() {
        notes.push(match (&explained.would_go, &explained.would_displace) {
            _ if look.leader.is_none() => {
                "there is no leader, and only a leader places guests: `hearth status`".into()
            }
            (Some(to), None) => format!("it is about to go to {to}"),
            (Some(to), Some(other)) => format!("it waits for {other} to leave {to}"),
            (None, _) => "no board can run it: each one's reason is below".into(),
        });
    }
    if let (Some(owner), true) = (owner, explained.phase == "running") {
        let elsewhere = placement::fits_elsewhere(&look.ledger, id, owner);
        let name = board_name(look, owner);
        notes.push(if elsewhere {
            format!("if {name} is lost, it is started elsewhere")
        } else {
            format!("if {name} is lost, no other board can run it as things are")
        });
        let board = look.ledger.board(owner);
        if look.ledger.disarmed || board.is_some_and(|board| board.disarmed) {
            notes.push(format!(
                "failover from {name} is off: `hearth arm` turns it on"
            ));
        }
    }
    if let Some(board) = &explained.no_spare_for {
        notes.push(format!(
            "if {board} is lost, no other board can run all of its guests"
        ));
    }
    notes
}

impl Explained {
    /// Where it is, and the first thing that there is to know beyond.
    pub fn in_short(&self) -> String {
        match self.notes.first() {
            Some(note) => format!("{}; {note}", self.summary),
            None => self.summary.clone(),
        }
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (epoch {})", self.summary, self.epoch)?;
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        let rows: Vec<_> = self
            .boards
            .iter()
            .map(|judged| row![format!("  {}", judged.board), judged.why])
            .collect();
        table::write(f, &rows)
    }
}

#[cfg(test)]
mod tests {
    use cluster_proto::ledger::types::Reason;

    use super::super::scene::{GAMMA, Scene, WEB};
    use super::*;

    fn told(scene: &Scene) -> String {
        explain(&scene.0, WEB).expect("a guest").to_string()
    }

    #[test]
    fn a_move_is_explained_and_so_is_why_there_was_none() {
        let mut scene = Scene::new();
        scene.migrate(GAMMA);
        let said = told(&scene);
        assert!(
            said.contains("it moves to gamma while it runs: an operator ordered it"),
            "{said}"
        );
        scene.give_up(Reason::NotConverged);
        let said = told(&scene);
        assert!(
            said.contains("its last move was given up: it wrote to its memory faster"),
            "{said}"
        );
        // What the operator orders counts anew.
        scene.migrate(GAMMA);
        scene.give_up(Reason::CannotMove);
        let said = told(&scene);
        assert!(
            said.contains("its last move was given up: its board cannot"),
            "{said}"
        );
    }

    #[test]
    fn a_board_of_another_class_takes_a_guest_that_runs_only_afresh() {
        let mut scene = Scene::new();
        scene.board(GAMMA).capacity.class = 2;
        let said = told(&scene);
        assert!(
            said.contains("gamma  fits, with 1600 MiB to spare, but only afresh"),
            "{said}"
        );
    }
}
