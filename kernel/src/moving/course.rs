//! The course of the newest move: how much had gone and how much was written, over time. It is for whoever draws it.

use el2_hyp::arch::timer;
use el2_hyp::lock::Mutex;
use heapless::Vec;

use crate::info;
use crate::net::microseconds;

/// Samples of a course; when there are so many, every second is dropped, and half as many are taken from then on.
const SAMPLES: usize = 64;

/// How a move stood at a moment.
#[derive(Clone, Copy)]
struct Sample {
    /// By the counter.
    at: u64,
    /// Bytes that had gone.
    sent: u64,
    /// Pages that were written and had not gone.
    pages: u32,
}

/// A move's course.
#[derive(Clone)]
pub struct Course {
    samples: Vec<Sample, SAMPLES>,
    /// Of so many moments one is kept, and how many have passed since one was.
    every: u32,
    passed: u32,
    began: u64,
    frozen_at: u64,
}

static NEWEST: Mutex<Course> = Mutex::new(Course::new(0));

impl Course {
    /// That of a move that began then, by the counter.
    pub const fn new(began: u64) -> Self {
        Self {
            samples: Vec::new(),
            every: 1,
            passed: 0,
            began,
            frozen_at: 0,
        }
    }

    /// Notes how it stands now, if that is to be kept; `pages` counts those that were written and have not gone.
    pub fn note(&mut self, sent: u64, pages: impl FnOnce() -> u64) {
        self.passed += 1;
        if self.passed >= self.every {
            self.keep(sent, pages());
        }
    }

    /// As [`note`](Self::note), and it is kept.
    pub fn keep(&mut self, sent: u64, pages: u64) {
        self.passed = 0;
        if self.samples.is_full() {
            let mut at = 0;
            self.samples.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.every = self.every.saturating_mul(2);
        }
        // There is room now. A guest has fewer pages than 2^32.
        let _ = self.samples.push(Sample {
            at: timer::now(),
            sent,
            pages: pages as u32,
        });
    }

    /// The guest is ordered to stop.
    pub fn stops(&mut self) {
        self.frozen_at = timer::now();
    }

    /// It is the newest.
    pub fn publish(&self) {
        let mut newest = NEWEST.lock();
        newest.clone_from(self);
    }
}

/// Tells the operator the newest course.
pub fn tell() {
    let course = &*NEWEST.lock();
    let since = |at: u64| microseconds(at.saturating_sub(course.began));
    for sample in &course.samples {
        let Sample { at, sent, pages } = *sample;
        info!("course: at {} us: {sent} bytes, {pages} pages", since(at));
    }
    match course.samples.is_empty() {
        true => info!("course: no guest has moved"),
        false => info!(
            "course: that is all; still from {} us on",
            since(course.frozen_at)
        ),
    }
}
