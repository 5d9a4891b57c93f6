//! How far something long is, on a terminal.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

use crate::pack::Size;

/// Between two lines.
const GAP: Duration = Duration::from_millis(200);

/// A line that is written anew as it goes on. Nobody may be reading, so what cannot be written is not.
pub struct Bar {
    what: String,
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Bar {
    /// For something called `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            shown: None,
            is_terminal: stderr().is_terminal(),
        }
    }

    /// It is so far.
    pub fn show(&mut self, percent: u64, bytes: u64) {
        if !self.is_terminal || self.shown.is_some_and(|at| at.elapsed() < GAP) {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = percent.min(100);
        let filled = "#".repeat((percent / 4) as usize);
        let (what, size) = (&self.what, Size(bytes));
        let _ = write!(
            stderr(),
            "\r{what} [{filled:25}] {percent:3} %  {size}\x1b[K"
        );
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
