//! What has happened to a lab, for whoever asks later: faults, starts and ends of boards, and on which link guests were heard.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::protocol::{Happened, Happening, Journal};
use super::Supervisor;

/// Entries that are kept; the oldest go first.
const MAX_ENTRIES: usize = 16_384;
/// Entries that one answer holds.
const MAX_ANSWER: usize = 4096;

/// The entries, numbered from the lab's beginning.
#[derive(Debug, Default)]
pub struct Entries {
    entries: VecDeque<Happened>,
    /// The number of the first that is kept.
    first: u64,
}

impl Entries {
    /// Adds one.
    pub fn add(&mut self, at: Duration, what: Happening) {
        if self.entries.len() == MAX_ENTRIES {
            self.entries.pop_front();
            self.first += 1;
        }
        // 584,000 years fit.
        let at_us = at.as_micros() as u64;
        self.entries.push_back(Happened { at_us, what });
    }

    /// Those from this number on, as many as an answer holds.
    pub fn from(&self, number: u64) -> Journal {
        let skipped = number.saturating_sub(self.first);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let entries = self.entries.iter().skip(skipped).take(MAX_ANSWER);
        let happened: Vec<_> = entries.cloned().collect();
        let first = number
            .max(self.first)
            .min(self.first + self.entries.len() as u64);
        Journal {
            next: first + happened.len() as u64,
            lost: self.first.saturating_sub(number),
            happened,
        }
    }
}

impl Supervisor<'_> {
    /// A line for the lab's own log and its journal.
    pub fn note(&mut self, what: &str) {
        let now = self.began.elapsed();
        eprintln!("{:.6} {what}", now.as_secs_f64());
        self.journal
            .add(self.epoch + now, Happening::Lab(what.into()));
    }

    /// Notes what a board has said of itself.
    pub fn note_lines(&mut self, board: usize) {
        let now = self.epoch + self.began.elapsed();
        let entry = &mut self.boards[board];
        for line in entry.take_lines() {
            let board = entry.plan.name.clone();
            self.journal.add(now, Happening::Said { board, line });
        }
    }

    /// Notes which guests were heard on another link than before.
    pub fn note_guests(&mut self) {
        for (at, mac, port) in self.switch.take_heard() {
            let guests = &self.plan.guests;
            let Some(guest) = guests.iter().find(|guest| guest.macs.contains(&mac.0)) else {
                continue;
            };
            let what = Happening::Heard {
                guest: guest.name.clone(),
                link: self.switch.name(port).into(),
            };
            self.journal
                .add(self.epoch + Duration::from_nanos(at.0), what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_every_entry_once_or_is_told_what_is_lost() {
        let mut entries = Entries::default();
        assert_eq!(entries.from(7).next, 0);
        for n in 0..MAX_ENTRIES + 10 {
            let at = Duration::from_micros(n as u64);
            entries.add(at, Happening::Lab(String::new()));
        }
        let journal = entries.from(0);
        assert_eq!((journal.lost, journal.happened[0].at_us), (10, 10));
        let (mut next, mut seen) = (journal.next, journal.happened.len());
        loop {
            let journal = entries.from(next);
            assert_eq!(journal.lost, 0);
            if journal.happened.is_empty() {
                break;
            }
            assert_eq!(journal.happened[0].at_us, next);
            seen += journal.happened.len();
            next = journal.next;
        }
        assert_eq!(seen, MAX_ENTRIES);
        assert_eq!(next, MAX_ENTRIES as u64 + 10);
    }
}
