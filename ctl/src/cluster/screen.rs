//! A [`View`] as text: the screen of `hearth status`.

use std::fmt;

use cluster_proto::ledger::types::Phase;

use super::view::{Quorum, View};
use super::{table, words};
use crate::row;

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.well { "well" } else { "NOT WELL" };
        writeln!(f, "cluster {}: {state}", self.cluster)?;
        for trouble in &self.troubles {
            writeln!(f, "  ! {trouble}")?;
        }
        for note in &self.notes {
            writeln!(f, "  - {note}")?;
        }
        let Quorum {
            voters,
            present,
            needed,
            survives_one_more_loss,
        } = self.quorum;
        let survives = if survives_one_more_loss {
            "one more loss is survived"
        } else {
            "one more loss is not survived"
        };
        match &self.leader {
            Some(leader) => write!(f, "leader {leader}, term {}", self.term)?,
            None => write!(f, "no leader, as {} knows it", self.told_by)?,
        }
        writeln!(
            f,
            "; {present} of {voters} voters, {needed} needed: {survives}"
        )?;
        writeln!(f)?;
        self.write_boards(f)?;
        self.links.write_matrix(f)?;
        writeln!(f)?;
        self.write_guests(f)
    }
}

impl View {
    fn write_boards(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![row![
            "BOARD",
            "STATE",
            "VOTE",
            "MEMORY FREE",
            "CORES",
            "LIFE",
            "GUESTS"
        ]];
        for board in &self.boards {
            let mut state = board.state.to_string();
            for (on, word) in [
                (board.leads, "leads"),
                (board.drained, "drained"),
                (board.disarmed, "disarmed"),
                (board.rebooted, "rebooted"),
                (!board.answers, "no answer"),
            ] {
                if on {
                    state = format!("{state}, {word}");
                }
            }
            let memory = match board.memory_mib {
                0 => "-".to_string(),
                all => format!("{} of {all} MiB", board.memory_free_mib),
            };
            let life = board.life.as_ref();
            let cores = match board.cores {
                0 => "-".to_string(),
                cores => cores.to_string(),
            };
            rows.push(row![
                board.name,
                if board.witness {
                    format!("witness, {state}")
                } else {
                    state
                },
                if board.votes { "yes" } else { "no" },
                memory,
                cores,
                life.map_or("-", |life| &life[..8]),
                board.guests.join(" "),
            ]);
        }
        table::write(f, &rows)
    }

    fn write_guests(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.guests.is_empty() {
            return writeln!(f, "no guests");
        }
        let mut rows = vec![row![
            "GUEST", "STATE", "BOARD", "EPOCH", "VCPUS", "MEMORY", "NOTE"
        ]];
        for guest in &self.guests {
            let state = match (guest.wanted, guest.phase) {
                ("stopped", phase) if phase == words::phase(Phase::Unowned) => "stopped",
                (_, phase) => phase,
            };
            rows.push(row![
                guest.name,
                state,
                guest.board.as_deref().unwrap_or("-"),
                guest.epoch,
                guest.vcpus,
                format!("{} MiB", guest.memory_mib),
                guest.note(),
            ]);
        }
        table::write(f, &rows)
    }
}

#[cfg(test)]
mod tests {
    use cluster_proto::ledger::types::Reason;

    use super::super::scene::{GAMMA, Scene};
    use super::*;

    /// What is shown of the guest `web`.
    fn web(scene: &Scene) -> String {
        let shown = View::of("home", &scene.0).to_string();
        let mut lines = shown.lines().map(str::to_string);
        lines.find(|line| line.starts_with("web ")).expect("a row")
    }

    #[test]
    fn a_guest_that_moves_is_shown_with_its_destination() {
        let mut scene = Scene::new();
        assert!(web(&scene).ends_with("400 MiB"), "{}", web(&scene));
        scene.migrate(GAMMA);
        let shown = web(&scene);
        assert!(shown.contains("running  alpha"), "{shown}");
        assert!(shown.ends_with("400 MiB  moves to gamma"), "{shown}");
        let view = View::of("home", &scene.0);
        assert_eq!(view.guests[0].moves_to.as_deref(), Some("gamma"));
        assert_eq!(view.guests[0].trouble, None);
        scene.give_up(Reason::NotConverged);
        let shown = web(&scene);
        assert!(
            shown.ends_with(
                "its last move was given up: it wrote to its memory faster than that could be copied"
            ),
            "{shown}"
        );
        scene.migrate(GAMMA);
        scene.hand(true, Reason::None);
        let shown = web(&scene);
        assert!(shown.ends_with("400 MiB  starting on gamma"), "{shown}");
    }
}
