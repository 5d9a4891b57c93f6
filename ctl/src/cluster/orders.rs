//! Orders, and waiting for what follows from them.

use std::fmt;
use std::io::Write as _;
use std::time::{Duration, Instant};

use cluster_proto::ledger::types::{Operation, Outcome};
use serde::Serialize;

use super::interrupt::Interrupt;
use super::session::{Look, Session};
use super::words;
use crate::report::Failure;

/// Between two looks at what was ordered.
const AGAIN: Duration = Duration::from_millis(300);

/// What was done.
#[derive(Debug, Serialize)]
pub struct Done {
    /// In words.
    pub done: String,
    /// Whether what was waited for has come about; nothing if nobody waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// What is still to come.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
}

impl Done {
    /// Nobody waited.
    pub fn new(done: impl Into<String>) -> Self {
        Self {
            done: done.into(),
            complete: None,
            waits_for: Vec::new(),
        }
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.done)?;
        self.waits_for
            .iter()
            .try_for_each(|wait| writeln!(f, "  {wait}"))
    }
}

/// Has `operation` carried out; the number of what was made.
///
/// # Errors
/// It was refused, or nobody answers.
pub fn order(session: &mut Session, operation: Operation) -> Result<u16, Failure> {
    accepted(session.order(operation)?)
}

/// The number in an outcome that is good.
///
/// # Errors
/// It was refused.
pub fn accepted(outcome: Outcome) -> Result<u16, Failure> {
    match outcome {
        Outcome::Done { number } => Ok(number),
        Outcome::Refused { why } => Err(Failure::Trouble(format!(
            "the cluster refuses: {}",
            words::denied(why)
        ))),
    }
}

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited {
    /// Nothing is left.
    Complete,
    /// Ctrl-C, with what was left.
    Interrupted(Vec<String>),
    /// Too long, with what was left.
    TooLong(Vec<String>),
}

/// Waits until `left` says that nothing is left, saying on standard error what is, whenever that changes.
///
/// # Errors
/// The way to the boards is broken.
pub fn wait_until(
    session: &mut Session,
    interrupt: &Interrupt,
    patience: Option<Duration>,
    left: &mut dyn FnMut(&Look) -> Vec<String>,
) -> Result<Waited, Failure> {
    let begun = Instant::now();
    let mut said: Vec<String> = Vec::new();
    loop {
        let now = match session.look() {
            Ok(look) => left(&look),
            Err(Failure::Trouble(trouble)) => vec![trouble],
            Err(other) => return Err(other),
        };
        if now.is_empty() {
            return Ok(Waited::Complete);
        }
        if now != said {
            for wait in now.iter().filter(|wait| !said.contains(wait)) {
                // Nobody may be reading.
                let _ = writeln!(std::io::stderr(), "  {wait}");
            }
            said = now;
        }
        if patience.is_some_and(|patience| begun.elapsed() > patience) {
            return Ok(Waited::TooLong(said));
        }
        if interrupt.wait(AGAIN) {
            return Ok(Waited::Interrupted(said));
        }
    }
}
