//! Which pages a guest writes: a log that stage 2 keeps while somebody copies the guest's memory.
//!
//! A page that counts as clean may not be written: its descriptor says so, and the first write to it faults. [`Logged::fault`] sets the page's bit in the
//! guest's [`DirtyLog`] and lets the page be written. [`Logged::harvest`] takes bits and makes their pages clean again. What EL2 writes for the guest sets
//! bits of the same log (`memory::dirty`).
//!
//! **All of it happens under one lock of the guest's**, which the owner of a [`Logged`] keeps: walks, faults, harvests, and changes of the tree. A fault holds
//! it for some hundred instructions; the other calls do a bounded step. Guests' accesses and EL2's own writes do not take it.
//!
//! # Why nothing is lost
//! Call a page *open* if its descriptor allows writes, or some TLB may still have one that does. Two things always hold outside of the lock, from the
//! end of the start on:
//! 1. *An open page has its bit set.* A fault sets the bit first, then opens the page. A harvest takes the bit, closes the page, and waits until no TLB has the old
//!    descriptor, all before it lets go of the lock; a fault on the page in between waits for the lock, and then opens it anew, with its bit.
//! 2. *A page's bytes are read after the harvest that took its bit is over.* A store that went through an old descriptor in a TLB is complete by
//!    then (DSB after TLBI waits for it, Arm ARM D8.17), so what is read has it. A later store needs the page open, and finds its bit set for the next harvest.
//!
//! EL2's own writes come without opening anything: the bytes first, then the bit (Release). Whoever takes the bit (Acquire) reads the bytes; a bit
//! set after it was taken is for the next harvest.
//!
//! Two vCPUs that fault on one page: the second finds it open. Its own TLB may still have it closed, so that is forgotten there, and it tries again.
//! The permission is only ever widened by a fault and narrowed by a harvest, the output stays: neither needs the descriptor to be invalid in between
//! (D8.17.1). A narrowing needs the invalidation everywhere; a widening only where somebody faults.
//!
//! # Start and end
//! [`Logged::begin`], then [`Logged::step`] until it says so. Each step takes a few blocks of 2 MiB apart into tables whose pages are closed from the beginning: one
//! break-before-make a block, no second pass, and nothing left to allocate for a fault. All pages count as written then, so that the first harvest yields
//! the whole guest. [`Logged::end`] and steps again put the blocks together, and give the tables back. In the moment between break and make vCPUs
//! may meet a translation fault in their own RAM: they call [`Logged::fault`], which waits for the lock, and try again.

use core::sync::atomic::{AtomicU64, Ordering};

use heapless::Vec;

use super::table::{
    ADDRESS, ENTRIES, Fault, Invalidate, LEVELS, MapError, Stage2, TABLE_OR_PAGE, Tables, VALID,
    leaf,
};
use crate::addr::{BLOCK_1G, BLOCK_2M, Ipa, PAGE_SIZE, Pa};
use crate::memory::dirty::{DirtyLog, PAGES_PER_WORD};

/// Blocks of 2 MiB that one step of the start takes apart.
const START_STEP: usize = 4;
/// Blocks that one step of the end puts together.
const END_STEP: usize = 16;
/// Pages that are forgotten together.
const BATCH: usize = 64;
/// Words of the log that stand for a block.
const WORDS_PER_BLOCK: usize = (BLOCK_2M / PAGE_SIZE / PAGES_PER_WORD) as usize;
/// Words that one harvest takes, at most: 1 MiB of RAM.
pub const HARVEST_WORDS: usize = 4;

/// What a walker finds is whole.
const ORDER: Ordering = Ordering::Release;
const RELAXED: Ordering = Ordering::Relaxed;

/// S2AP bit 1: writes are allowed.
const WRITABLE: u64 = 1 << 7;

/// Where the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Blocks are whole, and nothing is logged.
    Off,
    /// Blocks below this one are taken apart.
    Starting(usize),
    /// Every page is in a table of pages, and is open only if its bit is set.
    On,
    /// Blocks below this one are whole again.
    Ending(usize),
}

/// Where a step has led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// There is more to do: another step.
    More,
    /// It has started, or ended.
    Done,
}

/// What a fault was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Found {
    /// The first write to a clean page: it is logged. The access is to be made again.
    Logged,
    /// Somebody has seen to it meanwhile. The access is to be made again.
    Passed,
    /// There is no RAM: the fault is about something else.
    NoRam,
}

/// The log cannot start now: it has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// A guest's stage 2, with the log of what the guest writes.
pub struct Logged<T: Tables> {
    stage2: Stage2<T>,
    base: Ipa,
    blocks: usize,
    phase: Phase,
}

impl<T: Tables> Logged<T> {
    /// The log, off, of a guest whose RAM `stage2` maps: `blocks` blocks of 2 MiB from `base`.
    pub fn new(stage2: Stage2<T>, base: Ipa, blocks: usize) -> Self {
        Self {
            stage2,
            base,
            blocks,
            phase: Phase::Off,
        }
    }

    /// The translation.
    pub fn stage2(&self) -> &Stage2<T> {
        &self.stage2
    }

    /// Gives the translation back.
    pub fn into_stage2(self) -> Stage2<T> {
        self.stage2
    }

    /// Whether bits are complete, and [`harvest`](Self::harvest) may be called.
    pub fn is_on(&self) -> bool {
        self.phase == Phase::On
    }

    /// Begins to start. `log` is the guest's, and logs EL2's writes from now on; the first harvest waits until [`step`](Self::step) says that all is
    /// done and every core of the board has come round once (see [`DirtyLog::set_on`]).
    ///
    /// # Errors
    /// If the log has not ended.
    ///
    /// # Panics
    /// If the log is of another size.
    pub fn begin(&mut self, log: &DirtyLog) -> Result<(), Busy> {
        if self.phase != Phase::Off {
            return Err(Busy);
        }
        assert_eq!(self.blocks * WORDS_PER_BLOCK, log.words(), "another log");
        log.set_on(true);
        self.phase = Phase::Starting(0);
        Ok(())
    }

    /// Begins to end, whatever the log was doing. Bits that are set stay, and mean nothing any more.
    pub fn end(&mut self, log: &DirtyLog) {
        log.set_on(false);
        if self.phase != Phase::Off {
            self.phase = Phase::Ending(0);
        }
    }

    /// Goes on with starting or ending, by a bounded step.
    ///
    /// # Errors
    /// If there are no frames for the tables. The log then ends: further steps put together what was taken apart.
    pub fn step(
        &mut self,
        log: &DirtyLog,
        tlb: &mut impl Invalidate,
    ) -> Result<Progress, MapError> {
        match self.phase {
            Phase::Off | Phase::On => Ok(Progress::Done),
            Phase::Starting(first) => {
                let end = (first + START_STEP).min(self.blocks);
                if let Err(error) = self.take_apart(first, end, tlb) {
                    self.end(log);
                    return Err(error);
                }
                log.set_all(first * WORDS_PER_BLOCK..end * WORDS_PER_BLOCK);
                Ok(self.advance(end, Phase::Starting(end), Phase::On))
            }
            Phase::Ending(first) => {
                let end = (first + END_STEP).min(self.blocks);
                self.put_together(first, end, tlb);
                Ok(self.advance(end, Phase::Ending(end), Phase::Off))
            }
        }
    }

    fn advance(&mut self, end: usize, next: Phase, last: Phase) -> Progress {
        let done = end == self.blocks;
        self.phase = if done { last } else { next };
        if done { Progress::Done } else { Progress::More }
    }

    /// A vCPU met a fault at `fault.ipa`: a permission fault of whatever access, or a translation fault of its RAM. The core on which it is loaded calls.
    #[inline]
    pub fn fault(&mut self, fault: Fault, log: &DirtyLog, tlb: &mut impl Invalidate) -> Found {
        let Some(page) = self.page(fault.ipa) else {
            return Found::NoRam;
        };
        let (level, at, descriptor) = self.stage2.find(fault.ipa);
        if descriptor & VALID == 0 {
            return Found::NoRam;
        }
        if descriptor & WRITABLE != 0 {
            tlb.widened(fault);
            return Found::Passed;
        }
        // First the bit, then the page is opened.
        log.set_page(page);
        let entry = &self.stage2.tables.table(at).0[level.index(fault.ipa)];
        entry.store(descriptor | WRITABLE, ORDER);
        tlb.widened(fault);
        Found::Logged
    }

    /// Takes the bits of the log from word `first` on, as many words as `taken` has, up to [`HARVEST_WORDS`], and makes their pages clean. How many pages. What they
    /// hold is to be read when this has returned, not before. Where the log is not on, nothing is taken.
    ///
    /// # Panics
    /// If the log has no such words.
    pub fn harvest(
        &mut self,
        log: &DirtyLog,
        first: usize,
        taken: &mut [u64],
        tlb: &mut impl Invalidate,
    ) -> u32 {
        taken.fill(0);
        if self.phase != Phase::On {
            return 0;
        }
        let mut pages = 0;
        for (word, bits) in (first..).zip(taken.iter_mut().take(HARVEST_WORDS)) {
            *bits = log.take_word(word);
            pages += bits.count_ones();
            self.close(word as u64 * PAGES_PER_WORD, *bits, tlb);
        }
        pages
    }

    /// Closes the pages of a word that are open.
    fn close(&mut self, first: u64, bits: u64, tlb: &mut impl Invalidate) {
        let mut closed = Vec::<Ipa, BATCH>::new();
        let mut left = bits;
        while left != 0 {
            let ipa = Ipa(self.base.0 + (first + u64::from(left.trailing_zeros())) * PAGE_SIZE);
            left &= left - 1;
            let (level, at, descriptor) = self.stage2.find(ipa);
            // What only EL2 wrote is closed already.
            if descriptor & WRITABLE == 0 {
                continue;
            }
            let entry = &self.stage2.tables.table(at).0[level.index(ipa)];
            entry.store(descriptor & !WRITABLE, ORDER);
            // As many as a word has bits.
            let _ = closed.push(ipa);
        }
        if !closed.is_empty() {
            tlb.each(&closed);
        }
    }

    /// Which page of RAM an address lies in.
    fn page(&self, ipa: Ipa) -> Option<u64> {
        let offset = ipa.offset_from(self.base)?;
        (offset < self.blocks as u64 * BLOCK_2M).then_some(offset / PAGE_SIZE)
    }

    fn block(&self, block: usize) -> Ipa {
        Ipa(self.base.0 + block as u64 * BLOCK_2M)
    }

    /// Makes tables of closed pages of these blocks.
    fn take_apart(
        &mut self,
        first: usize,
        end: usize,
        tlb: &mut impl Invalidate,
    ) -> Result<(), MapError> {
        let mut made = Vec::<(Ipa, Pa), START_STEP>::new();
        let mut result = Ok(());
        for block in first..end {
            match self.prepare(self.block(block), tlb) {
                Ok(Some(table)) => made.push((self.block(block), table)).unwrap_or_default(),
                Ok(None) => {}
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.exchange(&made, tlb);
        result
    }

    /// A table of closed pages for the block at `ipa`, to be put in its place; nothing if there is one, whose pages are closed then.
    fn prepare(&mut self, ipa: Ipa, tlb: &mut impl Invalidate) -> Result<Option<Pa>, MapError> {
        if self.stage2.find(ipa).0.size() == BLOCK_1G {
            self.stage2.split(ipa, tlb)?;
        }
        let (level, _, descriptor) = self.stage2.find(ipa);
        if level.is_last() {
            for word in 0..WORDS_PER_BLOCK as u64 {
                let first = (ipa.0 - self.base.0) / PAGE_SIZE + word * PAGES_PER_WORD;
                self.close(first, u64::MAX, tlb);
            }
            return Ok(None);
        }
        let table = self.stage2.tables.allocate().ok_or(MapError::NoFrames)?;
        let attributes = descriptor & !(ADDRESS | TABLE_OR_PAGE | VALID | WRITABLE);
        for (entry, n) in self.stage2.tables.table(table).0.iter().zip(0..) {
            let pa = Pa((descriptor & ADDRESS) + n * PAGE_SIZE);
            entry.store(leaf(LEVELS[2], pa, attributes), RELAXED);
        }
        Ok(Some(table))
    }

    /// Puts tables in the place of blocks: breaks all, waits, makes all.
    fn exchange(&mut self, made: &[(Ipa, Pa)], tlb: &mut impl Invalidate) {
        if made.is_empty() {
            return;
        }
        let mut broken = Vec::<Ipa, START_STEP>::new();
        for (ipa, _) in made {
            self.set(*ipa, 0);
            let _ = broken.push(*ipa);
        }
        tlb.each(&broken);
        for (ipa, table) in made {
            self.set(*ipa, table.0 | VALID | TABLE_OR_PAGE);
        }
        tlb.publish();
    }

    /// Stores the level 2 descriptor of a block.
    fn set(&mut self, ipa: Ipa, descriptor: u64) {
        let Some(at) = self.second_level(ipa) else {
            return;
        };
        self.stage2.tables.table(at).0[LEVELS[1].index(ipa)].store(descriptor, ORDER);
    }

    /// The level 2 table for an address.
    fn second_level(&self, ipa: Ipa) -> Option<Pa> {
        let root = self.stage2.tables.table(self.stage2.root);
        let descriptor = root.0[LEVELS[0].index(ipa)].load(RELAXED);
        let is_table = descriptor & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE;
        is_table.then_some(Pa(descriptor & ADDRESS))
    }

    /// Makes blocks of tables whose pages lie behind one another, and opens the pages of others.
    fn put_together(&mut self, first: usize, end: usize, tlb: &mut impl Invalidate) {
        let mut broken = Vec::<(Ipa, Pa, u64), END_STEP>::new();
        for block in first..end {
            let ipa = self.block(block);
            let (level, table, descriptor) = self.stage2.find(ipa);
            if !level.is_last() {
                continue;
            }
            if self.open_all(table) && descriptor & ADDRESS & (BLOCK_2M - 1) == 0 {
                let whole = (descriptor | WRITABLE) & !TABLE_OR_PAGE;
                self.set(ipa, 0);
                let _ = broken.push((ipa, table, whole));
            }
        }
        if !broken.is_empty() {
            // 512 pages of each may be cached: one invalidation of the guest costs less than all of those.
            tlb.all();
            for (ipa, table, whole) in &broken {
                self.set(*ipa, *whole);
                self.stage2.tables.free(*table);
            }
        }
        tlb.publish();
        for block in first..end {
            // The last of a gigabyte.
            if self.block(block + 1).is_aligned(BLOCK_1G) {
                self.put_gigabyte_together(self.block(block), tlb);
            }
        }
    }

    /// Opens the pages of a table; whether they lie behind one another. Who has one closed in its TLB meets a fault that passes.
    fn open_all(&mut self, table: Pa) -> bool {
        let entries = &self.stage2.tables.table(table).0;
        let first = entries[0].load(RELAXED);
        let mut follow = true;
        for (entry, n) in entries.iter().zip(0..) {
            let descriptor = entry.load(RELAXED);
            follow &= (descriptor ^ (first + n * PAGE_SIZE)) & !WRITABLE == 0;
            if descriptor & (VALID | WRITABLE) == VALID {
                entry.store(descriptor | WRITABLE, ORDER);
            }
        }
        follow
    }

    /// Makes a block of the 512 in the gigabyte of `ipa`, if they are ones of RAM that lie behind one another.
    fn put_gigabyte_together(&mut self, ipa: Ipa, tlb: &mut impl Invalidate) {
        let start = ipa.align_down(BLOCK_1G);
        let Some(table) = self.second_level(ipa).filter(|_| start >= self.base) else {
            return;
        };
        let entries = &self.stage2.tables.table(table).0;
        let first = entries[0].load(RELAXED);
        let follow = |(entry, n): (&AtomicU64, u64)| entry.load(RELAXED) == first + n * BLOCK_2M;
        let is_block = first & (VALID | TABLE_OR_PAGE) == VALID;
        let aligned = Pa(first & ADDRESS).is_aligned(BLOCK_1G);
        if !is_block || !aligned || !entries.iter().zip(0..).all(follow) {
            return;
        }
        let root = &self.stage2.tables.table(self.stage2.root).0[LEVELS[0].index(ipa)];
        root.store(0, ORDER);
        tlb.all();
        let root = &self.stage2.tables.table(self.stage2.root).0[LEVELS[0].index(ipa)];
        root.store(first, ORDER);
        tlb.publish();
        self.stage2.tables.free(table);
    }
}

const _: () = assert!(ENTRIES as u64 * PAGE_SIZE == BLOCK_2M && BATCH as u64 >= PAGES_PER_WORD);

#[cfg(test)]
mod tests;
