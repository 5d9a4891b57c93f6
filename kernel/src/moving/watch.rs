//! How much a guest writes, measured on request: whether it could move, and how fast, is told by that.
//!
//! The log is on for a while, and all pages are taken from it and closed at regular intervals. Between two of them a watch is parked here.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use el2_hyp::arch::timer;
use el2_hyp::host::Host as _;
use el2_hyp::lock::Mutex;
use el2_hyp::stage2::dirty::HARVEST_WORDS;
use heapless::Vec;

use super::log::Log;
use crate::guests::{self, Slot, Stays};
use crate::host::CoreHost;
use crate::queue::MAX_BOARD_GUESTS;
use crate::{info, percore, warn};

/// How often pages are taken, milliseconds.
const INTERVAL_MS: u64 = 100;
/// How often in all.
const INTERVALS: u32 = 100;

/// Watches that wait for their next interval, and when the first is due, by the counter.
static PARKED: Mutex<Vec<Box<Watch>, MAX_BOARD_GUESTS>> = Mutex::new(Vec::new());
static DUE: AtomicU64 = AtomicU64::new(u64::MAX);

/// When some core is to go on with a watch, by the counter.
pub fn next_due() -> u64 {
    DUE.load(Ordering::Relaxed)
}

/// A watch that is due, for this core.
pub fn next() -> Option<Box<Watch>> {
    let now = timer::now();
    if next_due() > now {
        return None;
    }
    let mut parked = PARKED.lock();
    let at = parked.iter().position(|watch| watch.due <= now);
    let found = at.map(|at| parked.swap_remove(at));
    note_due(&parked);
    found
}

fn park(watch: Box<Watch>) {
    let mut parked = PARKED.lock();
    if parked.push(watch).is_err() {
        unreachable!("each guest has one watch at most");
    }
    note_due(&parked);
    drop(parked);
    // Core 0 keeps the timer.
    percore::reschedule(0);
}

fn note_due(parked: &[Box<Watch>]) {
    let first = parked.iter().map(|watch| watch.due).min();
    DUE.store(first.unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// A guest is to be watched.
///
/// # Errors
/// Why it is not.
pub fn begin(slot: &Slot) -> Result<(), Stays> {
    guests::begin_copy(slot.guest.id)?;
    park(Box::new(Watch {
        id: slot.guest.id,
        log: Log::new(),
        word: 0,
        due: 0,
        taken: 0,
        pages: 0,
    }));
    Ok(())
}

/// A guest that is watched.
pub struct Watch {
    id: usize,
    log: Log,
    /// The next word of the log that is to be taken.
    word: usize,
    /// When it goes on, by the counter.
    due: u64,
    /// How often all pages were taken. The first time is not counted: all are open then.
    taken: u32,
    pages: u64,
}

impl Watch {
    /// Goes on until `end`, by the counter, or until the core is asked to look at something. None when there is no more to do, or nothing before the next interval.
    pub fn go_on(mut self: Box<Self>, host: &CoreHost, end: u64) -> Option<Box<Self>> {
        loop {
            if self.step() {
                return None;
            }
            if self.due > timer::now() {
                park(self);
                return None;
            }
            host.look_up();
            if host.is_asked() || timer::now() >= end {
                return Some(self);
            }
        }
    }

    /// A step; whether it was the last.
    fn step(&mut self) -> bool {
        let slot = guests::find(self.id).expect("a guest that is copied stays");
        if self.taken > INTERVALS || guests::is_copied(self.id).is_none() {
            return self.end(slot);
        }
        match self.log.begin(slot) {
            Ok(true) => self.take(slot),
            Ok(false) => {}
            Err(_) => {
                warn!(
                    "no frames are left for the log of what guest {} writes",
                    slot.guest.name
                );
                self.taken = INTERVALS + 1;
            }
        }
        false
    }

    fn take(&mut self, slot: &Slot) {
        let (stage2, log, mut tlb) = slot.log();
        let count = HARVEST_WORDS.min(log.words() - self.word);
        let mut words = [0; HARVEST_WORDS];
        let pages = stage2
            .lock()
            .harvest(log, self.word, &mut words[..count], &mut tlb);
        if self.taken > 0 {
            self.pages += u64::from(pages);
        }
        self.word += count;
        if self.word == log.words() {
            self.word = 0;
            self.taken += 1;
            let interval = timer::frequency() * INTERVAL_MS / 1000;
            self.due = timer::now() + interval;
        }
    }

    fn end(&mut self, slot: &Slot) -> bool {
        let over = self.log.end(slot);
        if over {
            let milliseconds = u64::from(self.taken.saturating_sub(1)) * INTERVAL_MS;
            info!(
                "guest {} wrote {} pages in {milliseconds} ms",
                slot.guest.name, self.pages
            );
            guests::end_copy(self.id);
        }
        over
    }
}
