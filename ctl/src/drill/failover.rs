//! How long a failover takes: kills boards again and again, and reads the times from what was seen.
//!
//! - `decide_ms`: from the kill of the guest's board to another board's line that the guest is to start there.
//! - `boot_ms`: from that board's line that the guest starts to the first answer of the new boot: the guest's own.
//! - `answer_ms`: the longest time without an answer around the kill.
//! - `heartbeat_cpu`: what a board spends on the cluster, as a share of one core, counted on other boards before ([`super::cost`]).
//! - `leader_ms`: from the kill of the leading board until another says that it leads. Boards are asked every few tens of milliseconds, so it is seen by that much too late.

use std::cmp::Ordering;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::cost::Cost;
use super::trace::{Moment, Record, Seen, View};
use super::view::Viewer;
use crate::lab::LabWire;

/// The budgets, milliseconds: medians, and the worst decision.
const DECIDE: u64 = 500;
const DECIDE_WORST: u64 = 2000;
const LEADER: u64 = 500;
/// The budget of a board's own work for the cluster, as a share of one core.
const HEARTBEAT_CPU: f64 = 0.01;
/// An answer may take so much longer than the guest's boot.
const BEYOND_BOOT: u64 = 700;
/// A failover, or a return, that takes longer than this is none.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at the cluster.
const LOOK: Duration = Duration::from_millis(30);
/// After all is well the cluster is left alone for this long, and up to as long again by chance.
const REST: Duration = Duration::from_millis(1500);

/// What several measurements of one thing come to, milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// How many they are.
    pub count: usize,
    /// Half of them are at most this.
    pub median: u64,
    /// Nine of ten are at most this.
    pub p90: u64,
    /// The greatest.
    pub worst: u64,
}

impl Spread {
    fn of(mut micros: Vec<u64>) -> Self {
        micros.sort_unstable();
        let at = |part: usize| {
            let place = (micros.len() * part).div_ceil(100).saturating_sub(1);
            micros.get(place).map_or(0, |micros| micros / 1000)
        };
        Self {
            count: micros.len(),
            median: at(50),
            p90: at(90),
            worst: at(100),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            count,
            median,
            p90,
            worst,
        } = self;
        write!(
            f,
            "median {median} ms, nine of ten {p90} ms, worst {worst} ms ({count} times)"
        )
    }
}

/// All figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Kills of the guest's board, and of the leader among them and beside them.
    pub kills: usize,
    /// From the kill to the order to start.
    pub decide_ms: Spread,
    /// The guest's own boot.
    pub boot_ms: Spread,
    /// The client's stall.
    pub answer_ms: Spread,
    /// A new leader.
    pub leader_ms: Spread,
    /// What a board spends on the cluster, and on everything at EL2, if that was counted.
    #[serde(flatten)]
    pub cost: Option<Cost>,
    /// What is over its budget.
    pub over: Vec<String>,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} kills", self.kills)?;
        writeln!(f, "decide_ms  {}", self.decide_ms)?;
        writeln!(f, "boot_ms    {}", self.boot_ms)?;
        writeln!(f, "answer_ms  {}", self.answer_ms)?;
        writeln!(f, "leader_ms  {}", self.leader_ms)?;
        match &self.cost {
            Some(cost) => writeln!(f, "heartbeat_cpu  {cost}")?,
            None => writeln!(f, "heartbeat_cpu  not counted")?,
        }
        self.over
            .iter()
            .try_for_each(|what| writeln!(f, "OVER BUDGET: {what}"))
    }
}

/// A kill in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kill {
    at: Moment,
    board: String,
    /// Until the next one.
    end: Moment,
    owned: bool,
    led: bool,
}

/// Reads the figures from what was seen; records are in the order of their moments.
pub fn figures(records: &[Record], guest: &str) -> Figures {
    let kills = kills(records);
    let ordered = format!("guest {guest} is to start here");
    let starts = format!("guest {guest} starts");
    let (mut decide, mut boot, mut answer, mut leader) =
        <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
    for kill in &kills {
        let within = |record: &&Record| (kill.at..kill.end).contains(&record.at);
        if kill.owned {
            let line_of = |words: &str| {
                records.iter().filter(within).find(|record| {
                    matches!(&record.what, Seen::Said { board, line }
                        if *board != kill.board && line.contains(words))
                })
            };
            let started = line_of(&starts);
            let first = first_of_new_boot(records, kill);
            decide.extend(line_of(&ordered).map(|ordered| ordered.at - kill.at));
            if let (Some(started), Some(first)) = (started, first) {
                boot.push(first.saturating_sub(started.at));
            }
            if let (Some(before), Some(first)) = (last_answer(records, kill.at), first) {
                answer.push(first - before);
            }
        }
        if kill.led {
            let led = records.iter().filter(within).find(|record| {
                matches!(&record.what, Seen::View(View { leader: Some(leader), .. })
                    if *leader != kill.board)
            });
            leader.extend(led.map(|led| led.at - kill.at));
        }
    }
    let mut figures = Figures {
        kills: kills.len(),
        decide_ms: Spread::of(decide),
        boot_ms: Spread::of(boot),
        answer_ms: Spread::of(answer),
        leader_ms: Spread::of(leader),
        cost: None,
        over: Vec::new(),
    };
    figures.over = over(&figures, &kills);
    figures
}

impl Figures {
    /// Adds what boards spend.
    pub fn add(&mut self, cost: Cost) {
        let is = cost.heartbeat_cpu;
        // What is no number is over, too.
        if !matches!(
            is.partial_cmp(&HEARTBEAT_CPU),
            Some(Ordering::Less | Ordering::Equal)
        ) {
            self.over.push(format!(
                "heartbeat_cpu is {is:.5}, and was to be at most {HEARTBEAT_CPU}"
            ));
        }
        self.cost = Some(cost);
    }
}

/// Kills, with who owned the guest and who led just before.
fn kills(records: &[Record]) -> Vec<Kill> {
    let mut kills: Vec<Kill> = Vec::new();
    let mut view = View::default();
    for record in records {
        match &record.what {
            // While nobody answers the last that was known stands.
            Seen::View(now) if now.owner.is_some() => view = now.clone(),
            Seen::Lab { what } => {
                let board = what
                    .strip_prefix("board ")
                    .and_then(|rest| rest.strip_suffix(" is killed"));
                let Some(board) = board else {
                    continue;
                };
                if let Some(before) = kills.last_mut() {
                    before.end = record.at;
                }
                kills.push(Kill {
                    at: record.at,
                    board: board.into(),
                    end: Moment::MAX,
                    owned: view.owner.as_deref() == Some(board),
                    led: view.leader.as_deref() == Some(board),
                });
            }
            _ => {}
        }
    }
    kills
}

fn last_answer(records: &[Record], at: Moment) -> Option<Moment> {
    let before = records.iter().rev().skip_while(|record| record.at > at);
    let mut answers = before.filter(|record| matches!(record.what, Seen::Answered { .. }));
    answers.next().map(|record| record.at)
}

/// When the first answer came of an identity that had not answered before the kill.
fn first_of_new_boot(records: &[Record], kill: &Kill) -> Option<Moment> {
    let identity = |record: &Record| match &record.what {
        Seen::Answered { boot, .. } => Some(boot.clone()),
        _ => None,
    };
    let before = records
        .iter()
        .rev()
        .skip_while(|record| record.at > kill.at);
    let old = before.filter_map(identity).next();
    let mut behind = records
        .iter()
        .filter(|record| (kill.at..kill.end).contains(&record.at));
    let first = behind.find(|record| {
        let boot = identity(record);
        boot.is_some() && boot != old
    });
    first.map(|record| record.at)
}

fn over(figures: &Figures, kills: &[Kill]) -> Vec<String> {
    let Figures {
        decide_ms,
        boot_ms,
        answer_ms,
        leader_ms,
        ..
    } = figures;
    let mut over = Vec::new();
    let mut check = |what: &str, is: u64, budget: u64| {
        if is > budget {
            over.push(format!(
                "{what} is {is} ms, and was to be at most {budget} ms"
            ));
        }
    };
    check("decide_ms, median,", decide_ms.median, DECIDE);
    check("decide_ms, worst,", decide_ms.worst, DECIDE_WORST);
    check("leader_ms, median,", leader_ms.median, LEADER);
    check(
        "answer_ms, median,",
        answer_ms.median,
        boot_ms.median + BEYOND_BOOT,
    );
    let missing = |what: &str, seen: usize, wanted: usize| {
        (seen < wanted).then(|| format!("{what}: {wanted} were to be seen, and {seen} were"))
    };
    let owned = kills.iter().filter(|kill| kill.owned).count();
    let led = kills.iter().filter(|kill| kill.led).count();
    over.extend(missing("decisions", decide_ms.count, owned));
    over.extend(missing("answers", answer_ms.count, owned));
    over.extend(missing("new leaders", leader_ms.count, led));
    over
}

/// Kills the guest's board so often, half of the time when it leads, too; each comes back before the next one goes.
///
/// # Errors
/// If the cluster does not become whole again.
pub fn kill_often(
    lab: &str,
    viewer: &mut Viewer<LabWire>,
    guest: &str,
    boards: usize,
    kills: usize,
    seed: u64,
) -> Result<(), String> {
    let mut dice = seed;
    let whole = |viewer: &mut Viewer<LabWire>| {
        await_view(viewer, guest, |view| {
            view.members.len() == boards && view.phase == "running" && view.leader.is_some()
        })
    };
    for kill in 0..kills {
        let view = whole(viewer)?;
        std::thread::sleep(REST + REST.mul_f64(chance(&mut dice)));
        let (Some(owner), Some(leader)) = (view.owner, view.leader) else {
            continue;
        };
        // In turn the guest's board, and the leader's; often they are one.
        let victim = match kill % 2 {
            0 => owner,
            _ => leader,
        };
        crate::lab::kill(lab, &victim)?;
        await_view(viewer, guest, |view| {
            let other = |name: &Option<String>| name.as_ref().is_some_and(|name| *name != victim);
            other(&view.owner) && view.phase == "running" && other(&view.leader)
        })?;
        std::thread::sleep(REST);
        crate::lab::restart(lab, &victim)?;
    }
    whole(viewer).map(drop)
}

fn await_view(
    viewer: &mut Viewer<LabWire>,
    guest: &str,
    holds: impl Fn(&View) -> bool,
) -> Result<View, String> {
    let late = Instant::now() + LIMIT;
    let mut last = View::default();
    while Instant::now() < late {
        if let Some(view) = viewer.look(guest)? {
            if holds(&view) {
                return Ok(view);
            }
            last = view;
        }
        std::thread::sleep(LOOK);
    }
    Err(format!("the cluster does not become whole: {last}"))
}

/// A number from 0 to 1 (xorshift64*, S. Vigna 2016).
fn chance(dice: &mut u64) -> f64 {
    *dice = dice.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    *dice ^= *dice >> 12;
    *dice ^= *dice << 25;
    *dice ^= *dice >> 27;
    (dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(leader: &str, owner: &str) -> Seen {
        Seen::View(View {
            leader: Some(leader.into()),
            owner: Some(owner.into()),
            ..View::default()
        })
    }

    fn answer(boot: &str) -> Seen {
        Seen::Answered {
            number: 1,
            boot: boot.into(),
            counter: 1,
        }
    }

    fn lab(what: &str) -> Seen {
        Seen::Lab { what: what.into() }
    }

    fn said(board: &str, line: &str) -> Seen {
        Seen::Said {
            board: board.into(),
            line: line.into(),
        }
    }

    #[test]
    fn the_times_of_a_failover_are_told_apart() {
        let seen = [
            (0, view("alpha", "alpha")),
            (10, answer("one")),
            (20, lab("board alpha is killed")),
            (25, lab("board alpha ended: killed")),
            (200, view("beta", "alpha")),
            (
                290,
                said("beta", "cluster: guest web is to start here, epoch 2"),
            ),
            (300, said("beta", "guest web starts: 1 vCPUs, 64 MiB")),
            (310, view("beta", "beta")),
            (360, answer("two")),
            (400, lab("board alpha starts")),
            (900, lab("board gamma is killed")),
            (1500, answer("two")),
        ];
        let at = |(ms, what): (u64, Seen)| Record {
            at: ms * 1000,
            what,
        };
        let records: Vec<_> = seen.into_iter().map(at).collect();
        let figures = figures(&records, "web");
        assert_eq!(figures.kills, 2);
        // Gamma owned nothing, and did not lead.
        assert_eq!(figures.decide_ms.count, 1);
        assert_eq!(figures.decide_ms.median, 270);
        assert_eq!(figures.boot_ms.median, 60);
        assert_eq!(figures.answer_ms.worst, 350);
        assert_eq!((figures.leader_ms.count, figures.leader_ms.p90), (1, 180));
        assert_eq!(figures.over, [""; 0]);
    }

    #[test]
    fn what_is_late_or_missing_is_over_budget() {
        let seen = [
            (0, view("alpha", "alpha")),
            (10, answer("one")),
            (20, lab("board alpha is killed")),
            (
                2600,
                said("beta", "cluster: guest web is to start here, epoch 2"),
            ),
        ];
        let at = |(ms, what): (u64, Seen)| Record {
            at: ms * 1000,
            what,
        };
        let records: Vec<_> = seen.into_iter().map(at).collect();
        // Median and worst decision; no answer, no leader.
        assert_eq!(figures(&records, "web").over.len(), 4);
    }

    #[test]
    fn what_boards_spend_has_a_budget() {
        let of = |heartbeat_cpu| {
            let mut figures = Figures::default();
            figures.add(Cost {
                heartbeat_cpu,
                ..Cost::default()
            });
            figures.over.len()
        };
        assert_eq!([of(0.01), of(0.0101), of(f64::NAN)], [0, 1, 1]);
    }

    #[test]
    fn a_spread_is_of_those_that_there_are() {
        assert_eq!(Spread::of(Vec::new()), Spread::default());
        let spread = Spread::of((1..=50).rev().map(|ms| ms * 1000).collect());
        assert_eq!((spread.median, spread.p90, spread.worst), (25, 45, 50));
        let mut dice = 7;
        assert!((0..1000).all(|_| (0.0..1.0).contains(&chance(&mut dice))));
    }
}
