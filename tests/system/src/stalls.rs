//! Whether the machine that runs the boards stood still itself: a lease of a board lasts for less than a second, so a test in which the machine gave nobody a core for as long has lost it by no fault of a board.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two looks at the clock.
const LOOK: Duration = Duration::from_millis(10);

/// What the watch has seen.
#[derive(Debug, Default)]
struct Seen {
    /// The latest look of all: how late, and when, both in microseconds.
    late: AtomicU64,
    at: AtomicU64,
    ends: AtomicBool,
}

/// A watch of the machine; dropping it ends it.
#[derive(Debug)]
pub struct Stalls {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

impl Stalls {
    /// Begins to watch.
    pub fn watch() -> Self {
        let seen = Arc::new(Seen::default());
        let thread = thread::spawn({
            let seen = Arc::clone(&seen);
            move || seen.look()
        });
        Self {
            seen,
            thread: Some(thread),
        }
    }

    /// The longest time that this thread was ready to run and did not, and when that was.
    pub fn longest(&self) -> String {
        let late = Duration::from_micros(self.seen.late.load(Ordering::Relaxed));
        let at = Duration::from_micros(self.seen.at.load(Ordering::Relaxed));
        format!(
            "the machine let a thread that was ready wait for at most {} ms, after {:.1} s",
            late.as_millis(),
            at.as_secs_f64()
        )
    }
}

impl Seen {
    fn look(&self) {
        let begun = Instant::now();
        let mut last = begun;
        while !self.ends.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
            let late = last.elapsed().saturating_sub(LOOK).as_micros() as u64;
            if late > self.late.load(Ordering::Relaxed) {
                self.late.store(late, Ordering::Relaxed);
                let at = (last - begun).as_micros() as u64;
                self.at.store(at, Ordering::Relaxed);
            }
            last = Instant::now();
        }
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.seen.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
