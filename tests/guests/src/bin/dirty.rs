//! `dirty`: a guest with data in its memory, of which it rewrites a part at regular intervals.
//!
//! Parameters: `mib=` (160) of data, none of it zeros; `busy_kib=` (0) that it rewrites every `every_ms=` (20), one part after another; `touch=` (0): it writes one word of each
//! page of these instead of all words; `gap=` (0): it does not wait between them, but looks for how long it is kept from going on. Output: `DIRTY ready`, then each second
//! `DIRTY pages=N gap_us=G`: pages written since it was ready, and the longest time for which it did not go on in that second.
#![no_std]
#![no_main]

use guest::machine::Range;
use guest::{Machine, exception, gic, println, report, timer};

const PAGE: usize = 4 << 10;
const WORD: usize = 8;
/// Bytes of a part, at most; it has a multiple of that.
const PART: usize = 1 << 20;

guest::entry!(main);

fn main(machine: &'static Machine) {
    let bytes = (machine.number("mib", 160) as usize) << 20;
    let Some(data) = Data::new(machine.all_spare(), bytes) else {
        return report::fail("dirty", format_args!("no room for {bytes} bytes"));
    };
    let mut dirty = Dirty {
        at: 0,
        data,
        part: (machine.number("busy_kib", 0) as usize) << 10,
        step: if machine.number("touch", 0) == 0 {
            WORD
        } else {
            PAGE
        },
        every: timer::micros(1000 * machine.number("every_ms", 20)),
        looks: machine.number("gap", 0) != 0,
        value: 0,
        pages: 0,
        gap: 0,
    };
    dirty.fill();
    exception::set_irq_handler(handler);
    gic::enable(timer::VIRTUAL_PPI);
    exception::unmask_interrupts();
    println!("DIRTY ready");
    dirty.run();
}

fn handler() {
    let acknowledged = gic::acknowledge();
    timer::disarm_virtual();
    if acknowledged < gic::SPECIAL {
        gic::end(acknowledged);
    }
}

/// The data, in two ranges of memory.
struct Data {
    ranges: [Range; 2],
    bytes: usize,
}

impl Data {
    fn new(ranges: [Range; 2], bytes: usize) -> Option<Self> {
        let room: usize = ranges.iter().map(whole_parts).sum();
        (bytes <= room).then_some(Self { ranges, bytes })
    }

    /// Where byte `at` lies. No part lies in both ranges.
    fn address(&self, at: usize) -> usize {
        let [first, second] = &self.ranges;
        match at.checked_sub(whole_parts(first)) {
            None => first.start + at,
            Some(beyond) => second.start + beyond,
        }
    }
}

/// Bytes of the whole parts that a range has room for.
fn whole_parts(range: &Range) -> usize {
    (range.end - range.start) & !(PART - 1)
}

struct Dirty {
    data: Data,
    /// Where the next part begins, from the start of the data.
    at: usize,
    /// Bytes of a part.
    part: usize,
    /// Bytes between two words that are written.
    step: usize,
    every: u64,
    looks: bool,
    value: u64,
    pages: u64,
    gap: u64,
}

impl Dirty {
    fn fill(&self) {
        for at in (0..self.data.bytes).step_by(WORD) {
            store(self.data.address(at), at as u64 | 1 << 63);
        }
    }

    fn run(&mut self) -> ! {
        let mut due = timer::now();
        let mut told = due;
        loop {
            self.write_part();
            due += self.every;
            self.wait(due);
            if timer::now() - told >= timer::frequency() {
                told = timer::now();
                println!(
                    "DIRTY pages={} gap_us={}",
                    self.pages,
                    timer::to_micros(self.gap)
                );
                self.gap = 0;
            }
        }
    }

    fn write_part(&mut self) {
        self.value += 1;
        let end = self.at + self.part;
        for at in (self.at..end).step_by(self.step) {
            store(self.data.address(at), self.value | 1 << 62);
        }
        self.pages += (self.part / PAGE) as u64;
        self.at = if end + self.part > self.data.bytes {
            0
        } else {
            end
        };
    }

    fn wait(&mut self, due: u64) {
        if !self.looks {
            timer::arm_virtual(due);
            return exception::park_until(|| timer::now() >= due);
        }
        let mut last = timer::now();
        while last < due {
            let now = timer::now();
            self.gap = self.gap.max(now - last);
            last = now;
        }
    }
}

fn store(address: usize, value: u64) {
    // SAFETY: the address lies in the range that was spare, which nothing else uses.
    unsafe { (address as *mut u64).write_volatile(value) };
}
