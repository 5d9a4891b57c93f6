//! What a client outside saw, and whether that may be.
//!
//! The client numbers its questions, and asks one every few milliseconds whatever becomes of those before. Each answer carries the identity that
//! the guest has drawn when it booted, and how many questions it has answered since. The lab's switch notes each time that the guest's card is heard
//! on another link than before. From these alone:
//!
//! - **One copy at a time.** Once an answer of a newer identity has come, no question that is asked after that is answered by an older one. No two
//!   answers of one identity have the same count, unless they are one answer that came twice. The card is not heard on more links, one after the other, than the
//!   guest had owners: two copies would make it jump to and fro. A frame that the card of a paused board still held, and that leaves when the board wakes, is
//!   told apart by what it is: an answer to a question that was asked before the pause.
//! - **Nothing goes back.** A question that is asked after an answer has come gets a greater count from the same identity.
//! - **The longest stall** is the longest time without an answer between the first one and the end of the watch.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::trace::{Moment, Record, Seen};
use crate::lab::PAUSED;

/// Violations of one kind that are told one by one.
const MAX_TOLD: usize = 10;
/// What a board says when its lease has ended.
const LAPSED: &str = "cluster: this board has no lease";

/// What may not happen besides, as the drill says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The longest stall may be this long, microseconds.
    pub stall: Option<u64>,
    /// The guest boots so often, its first boot included.
    pub boots: Option<usize>,
    /// Neither owner nor leader changes.
    pub steady: bool,
}

/// A guest's boot, as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Its identity.
    pub identity: String,
    /// When its first answer came, microseconds after the first record.
    pub first_us: u64,
    /// When its last answer came.
    pub last_us: u64,
    /// How many answers came.
    pub answers: u64,
}

/// A time without answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// When the answer before it came, microseconds after the first record.
    pub from_us: u64,
    /// How long.
    pub length_us: u64,
}

/// What is found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What may not be; empty if all is well.
    pub violations: Vec<String>,
    /// Questions that were asked.
    pub asked: u64,
    /// Questions that were answered.
    pub answered: u64,
    /// The longest stall.
    pub stall: Stall,
    /// The guest's boots.
    pub boots: Vec<Boot>,
    /// Boards that owned the guest, one after the other; one that owned it anew is there again.
    pub owners: Vec<String>,
    /// Boards that led, one after the other; one that led in another term is there again.
    pub leaders: Vec<String>,
    /// Links on which the guest's card was heard, one after the other.
    pub links: Vec<String>,
    /// Answers that were in the card of a board when it was paused, and left it when it woke.
    #[serde(default)]
    pub late: usize,
    /// How often boards said that their lease had ended, those that did.
    pub lapses: BTreeMap<String, usize>,
}

/// An answer with the moments of its question and of itself.
#[derive(Clone, Copy, Debug)]
struct Answer {
    number: u64,
    asked: Moment,
    came: Moment,
    boot: usize,
    counter: u64,
}

/// Judges what was seen; records are in the order of their moments.
pub fn judge(records: &[Record], limits: &Limits) -> Verdict {
    let mut verdict = Verdict::default();
    let start = records.first().map_or(0, |record| record.at);
    let (asked, answers) = answers(records, start, &mut verdict);
    one_identity_at_a_time(&answers, &mut verdict);
    counts_go_up(&answers, &mut verdict);
    verdict.stall = longest_stall(records, &answers, start);
    places(records, &asked, &mut verdict);
    keep_limits(limits, &mut verdict);
    verdict
}

/// When each question was asked, by its number.
type Questions = HashMap<u64, Moment>;

/// All questions and answers, with their boots numbered in the order in which they were first heard.
fn answers(records: &[Record], start: Moment, verdict: &mut Verdict) -> (Questions, Vec<Answer>) {
    let mut asked = Questions::new();
    let mut answered = HashMap::new();
    let mut boots: HashMap<&str, usize> = HashMap::new();
    let mut answers = Vec::new();
    for record in records {
        match &record.what {
            Seen::Asked { number } => drop(asked.insert(*number, record.at)),
            Seen::Answered {
                number,
                boot,
                counter,
            } => {
                let Some(question) = asked.get(number) else {
                    let what = format!("an answer to question {number}, which was not asked");
                    verdict.violations.push(what);
                    continue;
                };
                let next = boots.len();
                let place = *boots.entry(boot).or_insert(next);
                let at = record.at - start;
                if place == next {
                    verdict.boots.push(Boot {
                        identity: boot.clone(),
                        first_us: at,
                        last_us: at,
                        answers: 0,
                    });
                }
                verdict.boots[place].last_us = at;
                verdict.boots[place].answers += 1;
                answered.insert(*number, ());
                answers.push(Answer {
                    number: *number,
                    asked: *question,
                    came: record.at,
                    boot: place,
                    counter: *counter,
                });
            }
            _ => {}
        }
    }
    verdict.asked = asked.len() as u64;
    verdict.answered = answered.len() as u64;
    (asked, answers)
}

/// Adds violations of a kind, the first few by their words.
fn tell(verdict: &mut Verdict, kind: &str, found: Vec<String>) {
    let more = found.len().saturating_sub(MAX_TOLD);
    verdict.violations.extend(
        found
            .into_iter()
            .take(MAX_TOLD)
            .map(|it| format!("{kind}: {it}")),
    );
    if more > 0 {
        verdict.violations.push(format!("{kind}: {more} more"));
    }
}

/// An older identity answers nothing that is asked after a newer one has answered.
fn one_identity_at_a_time(answers: &[Answer], verdict: &mut Verdict) {
    // When each identity first answered. They are numbered in that order.
    let mut first: Vec<Moment> = Vec::new();
    let mut found = Vec::new();
    for answer in answers {
        if answer.boot == first.len() {
            first.push(answer.came);
        }
        let newer = first.get(answer.boot + 1);
        if newer.is_some_and(|newer| answer.asked > *newer) {
            let [older, newer] =
                [answer.boot, answer.boot + 1].map(|at| &verdict.boots[at].identity);
            found.push(format!(
                "question {} was asked after {newer} had answered, and answered by {older}",
                answer.number
            ));
        }
    }
    tell(verdict, "two copies at once", found);
}

/// Within one identity, counts go up from an answer to a later question, and no count is given twice.
fn counts_go_up(answers: &[Answer], verdict: &mut Verdict) {
    let mut lost = Vec::new();
    let mut twice = Vec::new();
    for boot in 0..verdict.boots.len() {
        let identity = &verdict.boots[boot].identity;
        let mut own: Vec<_> = answers.iter().filter(|it| it.boot == boot).collect();
        let mut counts: HashMap<u64, u64> = HashMap::new();
        for answer in &own {
            let number = *counts.entry(answer.counter).or_insert(answer.number);
            if number != answer.number {
                twice.push(format!(
                    "{identity} gave the count {} to questions {number} and {}",
                    answer.counter, answer.number
                ));
            }
        }
        // In the order of the questions, with the greatest count that had come before each was asked.
        let mut came: Vec<_> = own.clone();
        came.sort_by_key(|answer| answer.came);
        own.sort_by_key(|answer| answer.asked);
        let mut before = came.iter().peekable();
        let mut greatest = None;
        for answer in own {
            while let Some(earlier) = before.next_if(|it| it.came < answer.asked) {
                greatest = greatest.max(Some(earlier.counter));
            }
            if greatest.is_some_and(|greatest| answer.counter <= greatest) {
                lost.push(format!(
                    "{identity} answered question {} with count {}, after {} had come",
                    answer.number,
                    answer.counter,
                    greatest.unwrap_or_default()
                ));
            }
        }
    }
    tell(verdict, "an acknowledged answer is lost", lost);
    tell(verdict, "two copies of one identity", twice);
}

fn longest_stall(records: &[Record], answers: &[Answer], start: Moment) -> Stall {
    // The watch ends with its last question: what comes after it only completes that.
    let asked = |record: &&Record| matches!(record.what, Seen::Asked { .. });
    let end = records.iter().rev().find(asked).map(|record| record.at);
    let moments = answers.iter().map(|answer| answer.came).chain(end);
    let mut longest = Stall::default();
    let mut before: Option<Moment> = None;
    for moment in moments {
        if let Some(before) = before {
            let length_us = moment.saturating_sub(before);
            if length_us > longest.length_us {
                longest = Stall {
                    from_us: before - start,
                    length_us,
                };
            }
        }
        before = Some(moment);
    }
    longest
}

/// Owners, leaders and links, leases that ended, and whether the card was heard in more places than it had owners.
fn places(records: &[Record], asked: &Questions, verdict: &mut Verdict) {
    // The first and the last epoch of each history.
    let mut epochs: HashMap<u64, (u64, u64)> = HashMap::new();
    let (mut led, mut owned) = (None, None);
    // When boards were paused last.
    let mut paused = HashMap::new();
    for record in records {
        match &record.what {
            Seen::View(view) => {
                note(&mut verdict.leaders, &mut led, &view.leader, view.term);
                note(&mut verdict.owners, &mut owned, &view.owner, view.epoch);
                if view.owner.is_some() {
                    let epoch = view.epoch;
                    let (first, last) = epochs.entry(view.era).or_insert((epoch, epoch));
                    *first = (*first).min(epoch);
                    *last = (*last).max(epoch);
                }
            }
            Seen::Lab { what } => {
                if let Some(board) = paused_board(what) {
                    paused.insert(board, record.at);
                }
            }
            Seen::Frame { link, answers } if verdict.links.last() != Some(link) => {
                let question = answers.and_then(|number| asked.get(&number));
                let moments = question.zip(paused.get(link.as_str()));
                match moments.is_some_and(|(asked, paused)| asked < paused) {
                    true => verdict.late += 1,
                    false => verdict.links.push(link.clone()),
                }
            }
            Seen::Said { board, line } if line == LAPSED => {
                *verdict.lapses.entry(board.clone()).or_default() += 1;
            }
            _ => {}
        }
    }
    let owners: u64 = epochs.values().map(|(first, last)| last - first + 1).sum();
    if owners > 0 && verdict.links.len() as u64 > owners {
        verdict.violations.push(format!(
            "two copies at once: the guest had {owners} owners, and was heard on {}",
            verdict.links.join(", then ")
        ));
    }
}

/// The board that the lab says is paused.
fn paused_board(what: &str) -> Option<&str> {
    let board = what.strip_prefix("board ")?.strip_suffix(PAUSED)?;
    Some(board.trim_end())
}

/// Adds a name if it, or the number of its time, is another than before; who is not known changes nothing.
fn note(names: &mut Vec<String>, before: &mut Option<u64>, name: &Option<String>, number: u64) {
    let Some(name) = name else {
        return;
    };
    if names.last() != Some(name) || *before != Some(number) {
        names.push(name.clone());
    }
    *before = Some(number);
}

fn keep_limits(limits: &Limits, verdict: &mut Verdict) {
    if verdict.answered == 0 {
        verdict.violations.push("the service never answered".into());
    }
    let stall = verdict.stall.length_us;
    if let Some(limit) = limits.stall.filter(|limit| stall > *limit) {
        verdict.violations.push(format!(
            "the client had no answer for {} ms, which is more than {} ms",
            stall / 1000,
            limit / 1000
        ));
    }
    for (what, names) in [
        ("owned the guest", &verdict.owners),
        ("led", &verdict.leaders),
    ] {
        if limits.steady && names.len() != 1 {
            let names = match names.is_empty() {
                true => "nobody".into(),
                false => names.join(", then "),
            };
            let said = format!("one board was to be it all the time, but {names} {what}");
            verdict.violations.push(said);
        }
    }
    if let Some(wanted) = limits.boots.filter(|it| *it != verdict.boots.len()) {
        verdict.violations.push(format!(
            "the guest booted {} times, and was to boot {wanted} times",
            verdict.boots.len()
        ));
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.violations {
            writeln!(f, "VIOLATION: {violation}")?;
        }
        writeln!(
            f,
            "{} of {} questions answered, the longest stall {} ms, after {:.1} s",
            self.answered,
            self.asked,
            self.stall.length_us / 1000,
            self.stall.from_us as f64 / 1e6
        )?;
        for (what, list) in [
            (
                "boots",
                &self.boots.iter().map(|it| it.identity.clone()).collect(),
            ),
            ("owners", &self.owners),
            ("leaders", &self.leaders),
            ("heard on", &self.links),
        ] {
            if !list.is_empty() {
                writeln!(f, "{what}: {}", list.join(", then "))?;
            }
        }
        if self.late > 0 {
            writeln!(
                f,
                "answers that left a card late, when its board woke: {}",
                self.late
            )?;
        }
        let times = self
            .lapses
            .iter()
            .map(|(board, times)| format!("{board} {times}"));
        let times: Vec<_> = times.collect();
        match times.is_empty() {
            true => writeln!(f, "leases that lapsed: none"),
            false => writeln!(f, "leases that lapsed: {}", times.join(", ")),
        }
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
