//! One direction of a link: decides what becomes of each frame, and when.

use serde::{Deserialize, Serialize};

use super::faults::{Faults, HOLD};
use super::random::Seed;

/// Frames that may be under way in one direction.
pub const MAX_FRAMES: usize = 8192;
/// Bytes that may be under way in one direction.
pub const MAX_BYTES: usize = 16 << 20;
/// A frame that would wait longer than this for its turn on a slow line is dropped, nanoseconds.
pub const MAX_WAIT: u64 = 50_000_000;

/// A moment of the lab: nanoseconds since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    fn plus(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }
}

/// What went through one direction of a link, and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Frames that came in.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that came out.
    pub passed: u64,
    /// Lost in a cut, or with the board.
    pub cut: u64,
    /// Lost by `loss`.
    pub lost: u64,
    /// Frames that did not fit into a queue.
    pub overrun: u64,
    /// Frames with a flipped bit.
    pub corrupted: u64,
    /// Frames that were doubled.
    pub duplicated: u64,
    /// Frames that were held back.
    pub reordered: u64,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is gone.
    Dropped,
    /// It comes out at once and as it is.
    Straight,
    /// It comes out later, or otherwise than it came in.
    Altered(Passage),
}

/// How a frame passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// When it comes out.
    pub due: Time,
    /// When it comes out once more.
    pub again: Option<Time>,
    /// Which of its bits is flipped.
    pub flip: Option<usize>,
}

/// One direction of a link.
#[derive(Debug)]
pub struct Pipe {
    faults: Faults,
    seed: Seed,
    /// Frames since the faults were set.
    number: u64,
    /// When the line has sent all that came.
    free: Time,
    /// No frame that keeps its order comes out before this.
    last: Time,
    frames: usize,
    bytes: usize,
    /// Goes up whenever the line is interrupted: what was under way before is lost.
    life: u32,
    /// What happened.
    pub counters: Counters,
}

impl Pipe {
    /// A sound one.
    pub fn new(seed: Seed) -> Self {
        Self {
            faults: Faults::default(),
            seed,
            number: 0,
            free: Time(0),
            last: Time(0),
            frames: 0,
            bytes: 0,
            life: 0,
            counters: Counters::default(),
        }
    }

    /// What is wrong with it.
    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// Sets what is wrong with it. The dice begin anew.
    pub fn set_faults(&mut self, faults: Faults) {
        if faults.cut && !self.faults.cut {
            self.lose();
        }
        self.faults = faults;
        self.number = 0;
        self.free = Time(0);
    }

    /// Loses what is under way.
    pub fn lose(&mut self) {
        self.life = self.life.wrapping_add(1);
    }

    /// Which of its lives it is in; see [`Pipe::leave`].
    pub fn life(&self) -> u32 {
        self.life
    }

    /// Decides about a frame of so many bytes. What is [`Verdict::Altered`] must be held with [`Pipe::hold`].
    pub fn enter(&mut self, now: Time, length: usize) -> Verdict {
        self.counters.frames += 1;
        self.counters.bytes += length as u64;
        let number = self.number;
        self.number += 1;
        if self.frames == 0 && self.faults.is_none() {
            self.counters.passed += 1;
            return Verdict::Straight;
        }
        let faults = self.faults;
        // Every die is cast for every frame, so that one fault does not change another's decisions.
        let mut dice = self.seed.dice(number);
        let [lost, corrupted, doubled, held] = [
            faults.loss,
            faults.corrupt,
            faults.duplicate,
            faults.reorder,
        ]
        .map(|probability| probability.says_yes(dice.next()));
        let bit = dice.below(length as u64 * 8);
        let jitter = dice.below(faults.jitter.nanos().saturating_add(1));

        if faults.cut {
            self.counters.cut += 1;
            return Verdict::Dropped;
        }
        if lost {
            self.counters.lost += 1;
            return Verdict::Dropped;
        }
        let copies = if doubled { 2 } else { 1 };
        let ready = self.free.max(now);
        if self.frames + copies > MAX_FRAMES
            || self.bytes + copies * length > MAX_BYTES
            || ready.0 - now.0 > MAX_WAIT
        {
            self.counters.overrun += 1;
            return Verdict::Dropped;
        }
        let late = faults.delay.nanos() + jitter;
        let time = faults.rate.time_of(length);
        let due = self.slot(ready.plus(time), late, held);
        let again = doubled.then(|| self.slot(ready.plus(2 * time), late, held));
        self.counters.corrupted += u64::from(corrupted);
        self.counters.duplicated += u64::from(doubled);
        self.counters.reordered += u64::from(held);
        Verdict::Altered(Passage {
            due,
            again,
            // The frame is at most 64 KiB.
            flip: corrupted.then_some(bit as usize),
        })
    }

    /// When a frame comes out that the line has sent at `sent`.
    fn slot(&mut self, sent: Time, late: u64, held: bool) -> Time {
        if !self.faults.rate.is_unlimited() {
            self.free = sent;
        }
        let due = sent.plus(late).max(self.last);
        if held {
            return due.plus(match self.faults.hold.nanos() {
                0 => HOLD.as_nanos() as u64,
                hold => hold,
            });
        }
        self.last = due;
        due
    }

    /// Accounts for a frame that is under way.
    pub fn hold(&mut self, length: usize) {
        self.frames += 1;
        self.bytes += length;
    }

    /// Accounts for a frame that was held in that life and has arrived; whether it comes out.
    pub fn leave(&mut self, length: usize, life: u32) -> bool {
        self.frames -= 1;
        self.bytes -= length;
        if life == self.life {
            self.counters.passed += 1;
        } else {
            self.counters.cut += 1;
        }
        life == self.life
    }
}
