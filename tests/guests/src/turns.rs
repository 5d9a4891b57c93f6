//! A guest that does its worst by turns, so that others can be watched with and without that, close to one another.

use crate::{Machine, println, timer};

/// Turns of one length: in every other one the guest only computes.
pub struct Turns {
    /// Zero: there are none, and the guest does its worst all the time.
    ticks: u64,
    end: u64,
    count: u64,
}

impl Turns {
    /// As the parameter `turns=` says: milliseconds.
    pub fn new(machine: &Machine) -> Self {
        let ticks = timer::micros(1000 * machine.number("turns", 0));
        Self {
            ticks,
            end: timer::now(),
            count: 0,
        }
    }

    /// Called now and then by whoever does its worst. When its turn is over this says `CALM n`, computes for a turn, and says `WORST n`.
    pub fn look(&mut self) {
        if self.ticks == 0 || timer::now() < self.end {
            return;
        }
        self.count += 1;
        println!("CALM {}", self.count);
        let calm = timer::now() + self.ticks;
        while timer::now() < calm {}
        println!("WORST {}", self.count);
        self.end = timer::now() + self.ticks;
    }
}
