//! A line on the terminal that says how far a long packing has come.

use std::cell::Cell;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::path::Path;

/// After how many bytes the line is drawn anew: what is smaller than this shows nothing.
const STEP_BYTES: u64 = 16 << 20;

/// How far packing has come.
#[derive(Debug, Default)]
pub struct Progress {
    shown: bool,
    /// Bytes of the present file, and how many when the line was drawn last.
    done: Cell<u64>,
    drawn: Cell<u64>,
    doing: Cell<&'static str>,
}

impl Progress {
    /// On standard error, if that is a terminal.
    pub fn on_terminal() -> Self {
        let mut progress = Self::default();
        progress.shown = stderr().is_terminal();
        progress
    }

    /// Another `bytes` of `path` are done.
    pub fn more(&self, doing: &'static str, path: &Path, bytes: usize) {
        if !self.shown {
            return;
        }
        if self.doing.replace(doing) != doing {
            self.done.set(0);
            self.drawn.set(0);
        }
        self.done.set(self.done.get() + bytes as u64);
        if self.done.get() >= self.drawn.get() + STEP_BYTES {
            self.drawn.set(self.done.get());
            let name = path.file_name().unwrap_or(path.as_os_str()).display();
            // A terminal that went away is no trouble of ours.
            let _ = write!(
                stderr(),
                "\r\x1b[K{doing} {name}: {} MiB so far",
                self.done.get() >> 20
            );
        }
    }
}

impl Drop for Progress {
    /// Leaves the line empty.
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
