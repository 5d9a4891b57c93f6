//! A guest becomes a record: pages and blocks while it runs, in rounds, and then, when little is left, the rest while it is still.

use core::fmt;

use cluster_proto::service::progress::{Progress, Step as Told};
use el2_hyp::addr::PAGE_SIZE;
use el2_hyp::arch::timer;
use el2_hyp::memory::dirty::PAGES_PER_WORD;
use el2_hyp::record::content::write_pages;
use el2_hyp::record::images::to_record;
use el2_hyp::record::precopy::{Limits, Next, Precopy, Round, Stop, Why};
use el2_hyp::record::{Kind, NoRoom, Writer};
use el2_hyp::stage2::dirty::HARVEST_WORDS;

use super::course::Course;
use super::hold;
use super::log::{Log, NoTables};
use super::progress::shortened;
use crate::guests::{self, Slot};
use crate::net::microseconds;
use crate::{console, info, queue};

/// Bytes that a page takes of a record, with its number and form.
const PAGE_BYTES: u64 = PAGE_SIZE + 5;
/// Blocks of a disk that a step looks at.
const BLOCKS_AT_ONCE: u32 = 4096;
/// Bytes of a guest's state besides memory and disks, at most: of each vCPU and device, and of what it has once.
const STATE_BYTES: u64 = 2048;
/// Bytes of a console's backlog that are read at once.
const BACKLOG_AT_ONCE: usize = 256;
/// What a stop takes whatever is left, by estimate: to bring vCPUs off their cores, and to begin elsewhere.
const STOP_US: u64 = 1000;
/// Bytes of the first round after which it is under way.
const FIRST_BYTES: u64 = 1 << 20;
/// Percent of its speed that a guest has which nobody slows.
const FULL: u8 = 100;

/// Why a guest is not sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// What it writes cannot be logged.
    NoTables(NoTables),
    /// It writes faster than it can be sent.
    Diverges(Why),
    /// A part of it fits no section.
    NoRoom,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTables(NoTables) => {
                f.write_str("no frames are left for the log of what it writes")
            }
            Self::Diverges(Why::TooFast) => {
                f.write_str("it writes its memory faster than that can be copied")
            }
            Self::Diverges(Why::Downtime(least)) => {
                write!(f, "it would be still for {least} us at the least")
            }
            Self::Diverges(Why::Rounds) => f.write_str("it took too many rounds"),
            Self::NoRoom => f.write_str("a part of it fits no section"),
        }
    }
}

/// What a step has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do.
    More,
    /// A section of so many bytes is in the buffer.
    Section(usize),
    /// All of the guest was sent, and it is still.
    End,
}

/// How it went. Times are by the counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// When it began.
    pub begun: u64,
    /// Rounds while the guest ran.
    pub rounds: u32,
    /// Bytes of the record.
    pub sent: u64,
    /// When the guest was ordered to be still.
    pub frozen_at: u64,
    /// When it was.
    pub still_at: u64,
    /// When the last of it was sent.
    pub copied_at: u64,
}

impl Report {
    /// All of it, for the operator, of a move that is over `now`.
    pub fn told(&self, now: u64) -> impl fmt::Display {
        let it = *self;
        fmt::from_fn(move |f| {
            write!(
                f,
                "{} rounds, {} bytes, {} us in all, {} us still, of which {} us to stop and {} us for what was left",
                it.rounds,
                it.sent,
                microseconds(now - it.begun),
                microseconds(now - it.frozen_at),
                microseconds(it.still_at - it.frozen_at),
                microseconds(it.copied_at - it.still_at),
            )
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The log begins.
    Logging,
    /// The header is next.
    Header,
    /// The digests of its images are.
    Images,
    /// The disk in this slot, from this block on, counts as changed where it differs from its image.
    Marking(usize, u32),
    /// Pages from this word of the log on.
    Pages(usize),
    /// Blocks of the disk in this slot from this one on.
    Blocks(usize, u32),
    /// The guest is to come to a stop.
    Stopping,
    /// This section of its state.
    State(usize),
    /// The last section.
    Ending,
    /// All was sent.
    Ended,
    /// The log ends.
    GivingUp,
}

/// A guest that is sent.
pub struct Sender {
    log: Log,
    phase: Phase,
    writer: Writer,
    precopy: Precopy,
    /// Pages of the log that were taken and not sent yet: the first word, and those words.
    taken: (usize, [u64; HARVEST_WORDS]),
    /// Bytes that went in this round, and those of them that were disks'.
    round: (u64, u64),
    /// Bytes that the round has to send, as was known when it began, and those of its pages that were not looked at yet.
    due: (u64, u64),
    round_began: u64,
    course: Course,
    /// What the hand-over takes, by estimate, where the guest may not be still for longer than was said, microseconds.
    hand_over: u64,
    /// It is held still by us.
    is_still: bool,
    /// Percent of its speed that we leave it.
    speed: u8,
    report: Report,
}

impl Sender {
    /// A guest that is to be sent within `limits`.
    pub fn new(limits: Limits) -> Self {
        Self {
            log: Log::new(),
            phase: Phase::Logging,
            writer: Writer::new(),
            precopy: Precopy::new(limits),
            taken: (0, [0; HARVEST_WORDS]),
            round: (0, 0),
            due: (0, 0),
            round_began: 0,
            course: Course::new(timer::now()),
            hand_over: 0,
            is_still: false,
            speed: FULL,
            report: Report {
                begun: timer::now(),
                ..Report::default()
            },
        }
    }

    /// How it went so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Tells how it goes.
    pub fn tell(&self, progress: &mut Progress) {
        let took = microseconds(timer::now() - self.round_began);
        let (due, left) = self.due;
        progress.step = if self.is_still {
            Told::Stopped
        } else {
            Told::Copies
        };
        progress.rounds = self.report.rounds;
        progress.sent = self.report.sent;
        progress.left = left;
        progress.rate = self.round.0.saturating_mul(1_000_000) / took.max(1);
        progress.left_ms = match due - left {
            0 => Progress::UNKNOWN,
            done => shortened(left.saturating_mul(took / 1000) / done),
        };
        progress.speed = self.speed;
        if let Some(stop) = self.report.still_at.checked_sub(self.report.frozen_at) {
            progress.stop_us = shortened(microseconds(stop));
        }
    }

    /// The hand-over takes so long, by estimate, and counts as a part of the stop from now on, microseconds.
    pub fn hands_over_in(&mut self, took: u64) {
        self.hand_over = took;
    }

    /// Where it stands in what can be [held](super::hold).
    pub fn stands(&self) -> Option<hold::Step> {
        match (self.is_still, self.report.rounds) {
            (true, _) => (self.report.still_at != 0).then_some(hold::Step::Stopped),
            (false, 0) if self.report.sent < FIRST_BYTES => Some(hold::Step::LetIn),
            (false, 0) => Some(hold::Step::First),
            (false, _) => Some(hold::Step::Later),
        }
    }

    /// How long the guest has been at rest, microseconds.
    pub fn rests(&self) -> u64 {
        microseconds(timer::now() - self.report.still_at)
    }

    /// The receiver has begun to take the guest: how fast that goes is measured from now on.
    pub fn is_taken(&mut self) {
        self.round_began = timer::now();
    }

    /// Goes on by a step of bounded length. A section is written to `buffer`.
    ///
    /// # Errors
    /// [`Stopped`]: the caller [gives up](Self::give_up).
    pub fn step(&mut self, slot: &Slot, buffer: &mut [u8]) -> Result<Step, Stopped> {
        let step = self.take_step(slot, buffer)?;
        if let Step::Section(length) = step {
            self.round.0 += length as u64;
            self.report.sent += length as u64;
            let log = slot.guest.memory.dirty();
            self.course
                .note(self.report.sent, || log.count(0..log.words()));
        }
        Ok(step)
    }

    fn take_step(&mut self, slot: &Slot, buffer: &mut [u8]) -> Result<Step, Stopped> {
        let guest = &slot.guest;
        match self.phase {
            Phase::Logging => {
                if self.log.begin(slot).map_err(Stopped::NoTables)? {
                    let log = guest.memory.dirty();
                    let due = log.count(0..log.words()) * PAGE_BYTES;
                    self.due = (due, due);
                    self.phase = Phase::Header;
                }
            }
            Phase::Header => {
                let header = guest.header();
                let write = |to: &mut el2_hyp::record::Encoder<'_>| header.to_record(to);
                let length = self.writer.section(buffer, Kind::Header, 0, write);
                self.phase = Phase::Images;
                return section(length);
            }
            Phase::Images => {
                let images = super::images(slot.view());
                let write = |to: &mut el2_hyp::record::Encoder<'_>| to_record(&images, to);
                let length = self.writer.section(buffer, Kind::Images, 0, write);
                self.phase = Phase::Marking(0, 0);
                self.round_began = timer::now();
                return section(length);
            }
            Phase::Marking(disk, from) => self.mark(slot, disk, from),
            Phase::Pages(word) => return self.send_pages(slot, word, buffer),
            Phase::Blocks(disk, from) => return self.send_blocks(slot, (disk, from), buffer),
            Phase::Stopping => {
                if guests::is_at_rest(guest.id) && guest.in_flight() == 0 {
                    self.report.still_at = timer::now();
                    self.phase = Phase::Pages(0);
                }
            }
            Phase::State(step) if step == guest.state_sections() => {
                self.phase = Phase::Ending;
                return section(self.write_backlog(guest.id, buffer));
            }
            Phase::State(step) => {
                let length = guest.write_state(step, &mut self.writer, buffer);
                self.phase = Phase::State(step + 1);
                return length.map(Step::Section).map_err(|_| Stopped::NoRoom);
            }
            Phase::Ending => {
                self.phase = Phase::Ended;
                return section(self.writer.end(buffer));
            }
            Phase::Ended => {
                self.report.copied_at = timer::now();
                self.course.keep(self.report.sent, 0);
                self.course.publish();
                return Ok(Step::End);
            }
            Phase::GivingUp => {
                if self.log.end(slot) {
                    return Ok(Step::End);
                }
            }
        }
        Ok(Step::More)
    }

    /// What the console has shown.
    fn write_backlog(&mut self, id: usize, buffer: &mut [u8]) -> Result<usize, NoRoom> {
        self.writer.section(buffer, Kind::Backlog, 0, |to| {
            let Some((from, _)) = console::read(id, 0, &mut []) else {
                return to.u64(0);
            };
            to.u64(from);
            let mut at = from;
            let mut said = [0; BACKLOG_AT_ONCE];
            while let Some((_, length @ 1..)) = console::read(id, at, &mut said) {
                to.bytes(&said[..length]);
                at += length as u64;
            }
        })
    }

    /// The next blocks of a disk that differ from its image are to be sent.
    fn mark(&mut self, slot: &Slot, disk: usize, from: u32) {
        let guest = &slot.guest;
        self.phase = match guest.disk_blocks(disk) {
            Some(blocks) if from < blocks => {
                let end = blocks.min(from + BLOCKS_AT_ONCE);
                guest.change_blocks(disk, from..end);
                Phase::Marking(disk, end)
            }
            _ if disk + 1 < usize::from(guest.slots()) => Phase::Marking(disk + 1, 0),
            _ => Phase::Pages(0),
        };
    }

    /// A section of the pages that were taken from the log, or else the next that are to be taken.
    fn send_pages(&mut self, slot: &Slot, word: usize, buffer: &mut [u8]) -> Result<Step, Stopped> {
        let (first, words) = &mut self.taken;
        if words.iter().any(|word| *word != 0) {
            let next = || next_page(*first, words);
            let memory = &slot.guest.memory;
            let written = write_pages(&mut self.writer, buffer, memory, next, None);
            return section(written.map(|written| written.bytes));
        }
        let (stage2, log, mut tlb) = slot.log();
        let count = HARVEST_WORDS.min(log.words() - word);
        if count == 0 {
            self.phase = Phase::Blocks(0, 0);
            return Ok(Step::More);
        }
        *first = word;
        let taken = &mut words[..count];
        let pages = stage2.lock().harvest(log, word, taken, &mut tlb);
        self.due.1 = self.due.1.saturating_sub(u64::from(pages) * PAGE_BYTES);
        self.phase = Phase::Pages(word + count);
        Ok(Step::More)
    }

    /// A section of the blocks that were changed.
    fn send_blocks(
        &mut self,
        slot: &Slot,
        (disk, from): (usize, u32),
        buffer: &mut [u8],
    ) -> Result<Step, Stopped> {
        let guest = &slot.guest;
        match guest.disk_blocks(disk) {
            Some(blocks) if from < blocks => {
                let end = blocks.min(from + BLOCKS_AT_ONCE);
                let to = (&mut self.writer, buffer);
                let written = guest.write_blocks(disk, from..end, to, None);
                let (written, rest) = written.map_err(|_| Stopped::NoRoom)?;
                self.round.1 += written.bytes as u64;
                self.phase = Phase::Blocks(disk, rest.unwrap_or(end));
                return section(Ok(written.bytes));
            }
            _ if disk + 1 < usize::from(guest.slots()) => self.phase = Phase::Blocks(disk + 1, 0),
            _ if self.is_still => self.phase = Phase::State(0),
            _ => self.end_round(slot)?,
        }
        Ok(Step::More)
    }

    /// A round is over: another, or the guest is to be still.
    fn end_round(&mut self, slot: &Slot) -> Result<(), Stopped> {
        let (now, log) = (timer::now(), slot.guest.memory.dirty());
        let (sent, disks) = core::mem::take(&mut self.round);
        let round = Round {
            sent,
            took: microseconds(now - core::mem::replace(&mut self.round_began, now)).max(1),
            // What the disks had in this round they may have again.
            left: log.count(0..log.words()) * PAGE_BYTES
                + if self.report.rounds == 0 { 0 } else { disks },
        };
        self.report.rounds += 1;
        self.due = (round.left, round.left);
        self.course
            .keep(self.report.sent, log.count(0..log.words()));
        info!(
            "guest {}: round {}: {} bytes in {} us, {} left",
            slot.guest.name, self.report.rounds, round.sent, round.took, round.left
        );
        let stop = Stop {
            state: STATE_BYTES * slot.guest.state_sections() as u64,
            fixed: STOP_US + self.hand_over,
        };
        self.phase = Phase::Pages(0);
        match self.precopy.round(round, stop) {
            Next::Again(speed) => self.slow(slot, speed),
            Next::Never(why) => return Err(Stopped::Diverges(why)),
            Next::Stop(_) => {
                self.report.frozen_at = timer::now();
                self.course.stops();
                guests::stop_for_move(slot.guest.id);
                // If it goes on here after all, that is at full speed.
                self.slow(slot, FULL);
                self.is_still = true;
                self.phase = Phase::Stopping;
            }
        }
        Ok(())
    }

    /// Leaves the guest so many percent of its speed.
    fn slow(&mut self, slot: &Slot, speed: u8) {
        if core::mem::replace(&mut self.speed, speed) == speed {
            return;
        }
        let guest = &slot.guest;
        let slowed = (speed < FULL).then_some(speed);
        queue::slow(guest.id, guest.vcpus().len(), slowed);
        if slowed.is_some() {
            info!("guest {} is slowed to {speed} %", guest.name);
        }
    }

    /// The guest goes on where it is. Further steps end its log, up to [`Step::End`].
    pub fn give_up(&mut self, slot: &Slot) {
        if core::mem::take(&mut self.is_still) {
            guests::go_on_after_move(slot.guest.id);
        }
        self.slow(slot, FULL);
        self.phase = Phase::GivingUp;
    }
}

/// The lowest page that is set in `words`, which begin with word `first` of the log; it is cleared.
fn next_page(first: usize, words: &mut [u64; HARVEST_WORDS]) -> Option<u32> {
    let (at, word) = words.iter_mut().enumerate().find(|(_, word)| **word != 0)?;
    let page = (first + at) as u64 * PAGES_PER_WORD + u64::from(word.trailing_zeros());
    *word &= *word - 1;
    Some(page as u32)
}

/// What was written, if it was something.
fn section(length: Result<usize, NoRoom>) -> Result<Step, Stopped> {
    match length {
        Ok(0) => Ok(Step::More),
        Ok(length) => Ok(Step::Section(length)),
        Err(_) => Err(Stopped::NoRoom),
    }
}
