//! What boards spend on their cluster: each says on its console how many instructions that took so far, twice, and the difference is a share of a core.
//!
//! Only boards whose time is made of their instructions count them: QEMU with `-icount shift=0`, where a core does one in a nanosecond of the board's time.

use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::lab::{self, Happening};

/// What a core does in a microsecond of its board's time under `-icount shift=0`, instructions.
const PER_MICROSECOND: f64 = 1000.0;
/// What is typed for a board's status: Ctrl-] s.
const STATUS: &str = "\x1ds";
/// What a board says before it tells how late its heartbeats were, behind `status: `.
const LATE: &str = "cluster: since it was asked last it has come to its heartbeats at most ";
/// How long a board's answer is waited for. One that counts is slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what boards have said.
const LOOK: Duration = Duration::from_millis(100);

/// What a board spends, as a share of one core: the greatest of all boards'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// On the cluster: what its agent takes.
    pub heartbeat_cpu: f64,
    /// On everything at EL2: the network card's frames and the guests' exits, too.
    pub el2_cpu: f64,
    /// How late a heartbeat left at the most, microseconds of its board's time.
    pub late_us: u64,
    /// For how long that was counted, seconds of the boards' time.
    pub counted_s: f64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            heartbeat_cpu,
            el2_cpu,
            late_us,
            counted_s,
        } = self;
        write!(
            f,
            "{heartbeat_cpu:.5} of a core, {el2_cpu:.5} with all that EL2 does; heartbeats at most {late_us} us late (counted for {counted_s:.1} s)"
        )
    }
}

/// What a board has counted since it was switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    /// Instructions that the cluster took, and the board's time then, microseconds.
    cluster: Option<(u64, u64)>,
    /// Instructions of core 0 at EL2, and the board's time then.
    el2: Option<(u64, u64)>,
    /// How late a heartbeat left at the most since the board was asked last, microseconds.
    late: Option<u64>,
}

/// All that a board tells when it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    cluster: (u64, u64),
    el2: (u64, u64),
    late_us: u64,
}

impl Count {
    /// Takes a line of the board's.
    ///
    /// # Errors
    /// It says that nothing counts there.
    fn take(&mut self, line: &str) -> Result<(), String> {
        let Some(rest) = line.strip_prefix("status: ") else {
            return Ok(());
        };
        if let Some(rest) = rest.strip_prefix("cluster: has taken ") {
            self.cluster = numbers(rest);
        } else if let Some(rest) = rest.strip_prefix("core 0 has retired ") {
            self.el2 = numbers(rest);
        } else if let Some(rest) = rest.strip_prefix(LATE) {
            self.late = rest.split(' ').next().and_then(|word| word.parse().ok());
        } else if rest.ends_with("is not counted") {
            return Err(
                "counts no instructions: start the lab with --qemu-arg=-icount --qemu-arg=shift=0"
                    .into(),
            );
        }
        Ok(())
    }

    /// All of it, once that is there.
    fn all(&self) -> Option<Told> {
        Some(Told {
            cluster: self.cluster?,
            el2: self.el2?,
            late_us: self.late?,
        })
    }
}

/// The first number of a text and the last.
fn numbers(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split(' ').filter_map(|word| word.parse().ok());
    Some((numbers.next()?, numbers.next_back()?))
}

/// What was spent between two counts.
fn cost(before: Told, after: Told) -> Cost {
    let share = |(from, since): (u64, u64), (to, until): (u64, u64)| {
        // Counts and times are far below 2^52.
        to.saturating_sub(from) as f64 / (until.saturating_sub(since) as f64 * PER_MICROSECOND)
    };
    Cost {
        heartbeat_cpu: share(before.cluster, after.cluster),
        el2_cpu: share(before.el2, after.el2),
        late_us: after.late_us,
        counted_s: after.cluster.1.saturating_sub(before.cluster.1) as f64 / 1e6,
    }
}

/// Counts for `span` of this machine's time what the boards of a lab spend.
///
/// # Errors
/// If the lab is gone, or a board does not tell or does not count.
pub fn count(lab: &str, span: Duration) -> Result<Cost, String> {
    let boards = lab::boards(lab)?;
    let before = ask(lab, &boards)?;
    std::thread::sleep(span);
    let after = ask(lab, &boards)?;
    let each = before.into_iter().zip(after);
    let costs = each.map(|(before, after)| cost(before, after));
    let worse = |one: Cost, other: Cost| Cost {
        heartbeat_cpu: one.heartbeat_cpu.max(other.heartbeat_cpu),
        el2_cpu: one.el2_cpu.max(other.el2_cpu),
        late_us: one.late_us.max(other.late_us),
        counted_s: one.counted_s.min(other.counted_s),
    };
    costs.reduce(worse).ok_or("the lab has no boards".into())
}

/// The number behind everything that has happened: a lab tells it part by part.
fn end_of_journal(lab: &str) -> Result<u64, String> {
    let mut next = 0;
    loop {
        let journal = lab::events(lab, next)?;
        next = journal.next;
        if journal.happened.is_empty() {
            return Ok(next);
        }
    }
}

/// What each board has counted so far.
fn ask(lab: &str, boards: &[String]) -> Result<Vec<Told>, String> {
    let mut next = end_of_journal(lab)?;
    for board in boards {
        lab::type_in(lab, board, STATUS)?;
    }
    let mut counts = vec![Count::default(); boards.len()];
    let late = Instant::now() + PATIENCE;
    while Instant::now() < late {
        let journal = lab::events(lab, next)?;
        next = journal.next;
        for happened in journal.happened {
            let Happening::Said { board, line } = happened.what else {
                continue;
            };
            if let Some(at) = boards.iter().position(|it| *it == board) {
                counts[at]
                    .take(&line)
                    .map_err(|why| format!("board {board} {why}"))?;
            }
        }
        if let Some(all) = counts.iter().map(Count::all).collect() {
            return Ok(all);
        }
        std::thread::sleep(LOOK);
    }
    let silent = counts.iter().position(|count| count.all().is_none());
    let silent = silent.map_or("a board", |at| &boards[at]);
    Err(format!("{silent} does not tell what it has counted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_instructions_over_those_of_a_core() {
        let count = |cluster: &str, el2: &str| {
            let mut count = Count::default();
            count.take("guest web starts: 1 vCPUs, 64 MiB").unwrap();
            count.take(&format!("status: {LATE}240 us late")).unwrap();
            count.take(cluster).unwrap();
            assert_eq!(count.all(), None);
            count.take(el2).unwrap();
            count.all().unwrap()
        };
        let before = count(
            "status: cluster: has taken 1000000 instructions of core 0 by 3000000 us",
            "status: core 0 has retired 5000000 instructions at EL2 by 3000500 us",
        );
        let after = count(
            "status: cluster: has taken 21000000 instructions of core 0 by 13000000 us",
            "status: core 0 has retired 45000000 instructions at EL2 by 13000500 us",
        );
        let cost = cost(before, after);
        assert_eq!((cost.heartbeat_cpu, cost.el2_cpu), (0.002, 0.004));
        assert_eq!((cost.late_us, cost.counted_s), (240, 10.0));
    }

    #[test]
    fn a_board_that_does_not_count_says_so() {
        let line = "status: cluster: what it takes of core 0 is not counted";
        let why = Count::default().take(line).unwrap_err();
        assert!(why.contains("-icount"), "{why}");
    }
}
