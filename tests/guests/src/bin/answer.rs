//! `answer`: the service that drills ask, on UDP port 7007. A question is a number; the answer is `BOOT COUNTER NUMBER` and a line's end: an identity
//! that is drawn when the guest boots, how many questions it has answered since then, and the number.
//!
//! So whoever asks can tell one boot from another, and whether two copies of the guest answer at once. It answers ARP and ping, too. It ends with a `q`
//! on its console.
//!
//! Parameters: `ip=` (10.0.2.15), its IPv4 address; `fill=` (0): every page of its memory holds something, so that all of them have to go with it when it moves; `busy_kib=` (0): so much of that it writes anew with each answer, one part after another. Output: `ANSWER ready BOOT`, and `PASS answer answered=N`.
#![no_std]
#![no_main]

use core::fmt::{self, Write};

use guest::host::{Host, Service};
use guest::machine::Range;
use guest::{Machine, println, report};

/// The port.
const PORT: u16 = 7007;
/// The longest question, digits.
const MAX_QUESTION: usize = 20;
const PAGE: usize = 4 << 10;

guest::entry!(main);

fn main(machine: &'static Machine) {
    let Some(boot) = machine.seed() else {
        return report::fail("answer", format_args!("no rng-seed in the device tree"));
    };
    if machine.number("fill", 0) != 0 {
        machine.all_spare().iter().for_each(fill);
    }
    let mut counter = Counter {
        boot,
        answered: 0,
        busy: (machine.number("busy_kib", 0) as usize) << 10,
        spare: largest(&machine.all_spare()),
        at: 0,
    };
    let Some(mut host) = Host::open(machine, Some(&mut counter)) else {
        return report::fail("answer", format_args!("no card"));
    };
    println!("ANSWER ready {boot:016x}");
    host.announce();
    host.serve(u64::MAX);
    match report::failures() {
        0 => println!("PASS answer answered={}", counter.answered),
        failures => println!("FAIL answer failures={failures}"),
    }
}

/// The larger range, if it holds something.
fn largest(spare: &[Range]) -> Option<Range> {
    let size = |range: &Range| range.end - range.start;
    let largest = spare.iter().copied().max_by_key(size);
    largest.filter(|range| size(range) >= PAGE)
}

/// Writes to every page of a range that is spare.
fn fill(range: &Range) {
    for page in (range.start..range.end).step_by(PAGE) {
        // SAFETY: the address lies in a range that is spare, which nothing else uses.
        unsafe { (page as *mut u64).write_volatile(page as u64 | 1) };
    }
}

/// Who answers, and how often that was.
struct Counter {
    boot: u64,
    answered: u64,
    /// Bytes that are written anew with each answer, in this range, from this offset on.
    busy: usize,
    spare: Option<Range>,
    at: usize,
}

impl Counter {
    /// Writes to each page of the next part.
    fn write(&mut self) {
        let Some(spare) = self.spare.filter(|_| self.busy > 0) else {
            return;
        };
        for _ in 0..self.busy / PAGE {
            if spare.start + self.at + PAGE > spare.end {
                self.at = 0;
            }
            fill(&Range {
                start: spare.start + self.at,
                end: spare.start + self.at + PAGE,
            });
            self.at += PAGE;
        }
    }
}

impl Service for Counter {
    fn answer(&mut self, port: u16, question: &[u8], answer: &mut [u8]) -> Option<usize> {
        let number = core::str::from_utf8(question).ok()?.trim_ascii();
        let is_number = (1..=MAX_QUESTION).contains(&number.len())
            && number.bytes().all(|byte| byte.is_ascii_digit());
        if port != PORT || !is_number {
            return None;
        }
        let mut line = Line { answer, length: 0 };
        self.write();
        let Self { boot, answered, .. } = self;
        *answered += 1;
        writeln!(line, "{boot:016x} {answered} {number}").ok()?;
        Some(line.length)
    }
}

/// A text in the memory of an answer.
struct Line<'a> {
    answer: &'a mut [u8],
    length: usize,
}

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.answer.get_mut(self.length..self.length + text.len());
        room.ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}
