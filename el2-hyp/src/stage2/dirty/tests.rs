//! A guest that writes while somebody copies it, on cores whose TLBs forget nothing that they are not told to.
//!
//! The model: each core caches translations, and where the tables of pages are; a store goes through what is cached, if that allows it, whatever the tree says
//! by then. Stores of that kind also happen in the middle of each invalidation, the last moment at which they can. After every operation no core may
//! have a translation that the tree no longer gives, but for one that allows less. At the end the copy is the guest's memory.

use std::boxed::Box;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::stage2::table::{Attributes, Table};

const CORES: usize = 3;
const RAM: Ipa = Ipa(0x4000_0000);

/// A translation as a core has it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cached {
    base: u64,
    size: u64,
    pa: u64,
    writable: bool,
}

#[derive(Default)]
struct Core {
    translations: Vec<Cached>,
    /// Tables of pages, by the block of 2 MiB.
    tables: BTreeMap<u64, u64>,
}

/// What all cores share: the bytes of each page, as the number of its last write, by physical address.
#[derive(Default)]
struct Cores {
    cores: Vec<Core>,
    memory: BTreeMap<u64, u64>,
    writes: u64,
    /// For every so many invalidations, stores that slip through before each.
    slip: Vec<u64>,
    broken: Broken,
}

/// What a TLB of a mutant does not do.
#[derive(Default, PartialEq, Clone, Copy)]
enum Broken {
    #[default]
    Nothing,
    Each,
    All,
    Widened,
}

impl Cores {
    fn store(&mut self, pa: u64) {
        self.writes += 1;
        self.memory.insert(pa / PAGE_SIZE, self.writes);
    }

    /// Each core that still may stores once more.
    fn slip(&mut self) {
        let Some(n) = self.slip.pop() else { return };
        for core in 0..CORES {
            let translations = &self.cores[core].translations;
            let open: Vec<_> = translations
                .iter()
                .filter(|it| it.writable)
                .copied()
                .collect();
            if let Some(it) = open.get(n as usize % open.len().max(1)) {
                self.store(it.pa + n % it.size);
            }
        }
    }

    fn forget(&mut self, ipa: Ipa, of: std::ops::Range<usize>) {
        for core in &mut self.cores[of] {
            core.translations
                .retain(|it| !(it.base..it.base + it.size).contains(&ipa.0));
            core.tables.remove(&(ipa.0 / BLOCK_2M));
        }
    }
}

/// The TLBs, as the core number `.1` has to do with them.
#[derive(Clone)]
struct Tlb(Rc<RefCell<Cores>>, usize);

impl Invalidate for Tlb {
    fn ipa(&mut self, ipa: Ipa) {
        self.each(&[ipa]);
    }
    fn each(&mut self, ipas: &[Ipa]) {
        assert!(ipas.len() <= BATCH);
        let mut cores = self.0.borrow_mut();
        cores.slip();
        if cores.broken != Broken::Each {
            ipas.iter().for_each(|ipa| cores.forget(*ipa, 0..CORES));
        }
    }
    fn widened(&mut self, fault: Fault) {
        let mut cores = self.0.borrow_mut();
        if cores.broken != Broken::Widened {
            cores.forget(fault.ipa, self.1..self.1 + 1);
        }
    }
    fn all(&mut self) {
        let mut cores = self.0.borrow_mut();
        cores.slip();
        if cores.broken != Broken::All {
            cores
                .cores
                .iter_mut()
                .for_each(|core| *core = Core::default());
        }
    }
    fn publish(&mut self) {}
}

struct Frames {
    live: BTreeMap<u64, Box<Table>>,
    limit: usize,
    cores: Rc<RefCell<Cores>>,
}

// SAFETY: `live` owns every table that `allocate` returned until `free`.
unsafe impl Tables for Frames {
    fn allocate(&mut self) -> Option<Pa> {
        if self.live.len() >= self.limit {
            return None;
        }
        let table = Box::new(Table::empty());
        let at = &raw const *table as u64;
        self.live.insert(at, table);
        Some(Pa(at))
    }
    fn free(&mut self, table: Pa) {
        assert!(self.live.remove(&table.0).is_some(), "freed twice");
        for core in &self.cores.borrow().cores {
            let walks = core.tables.values().any(|at| *at == table.0);
            assert!(!walks, "freed while a walker has it");
        }
    }
    fn table(&self, at: Pa) -> &Table {
        &self.live[&at.0]
    }
}

struct Machine {
    logged: Logged<Frames>,
    log: DirtyLog,
    cores: Rc<RefCell<Cores>>,
    tlb: Tlb,
    pages: u64,
    /// By IPA page: the number of the last write that the copy has.
    copy: BTreeMap<u64, u64>,
    /// What EL2 has written and not noted yet.
    unnoted: Vec<u64>,
}

impl Machine {
    /// RAM of `blocks`, all one run if it is `whole`, so that it has larger blocks.
    fn new(blocks: usize, whole: bool, limit: usize) -> Self {
        let shared = Rc::new(RefCell::new(Cores::default()));
        shared.borrow_mut().cores.resize_with(CORES, Core::default);
        let frames = Frames {
            live: BTreeMap::new(),
            limit,
            cores: shared.clone(),
        };
        let mut tlb = Tlb(shared.clone(), 0);
        let mut stage2 = Stage2::new(frames).unwrap();
        let size = blocks as u64 * BLOCK_2M;
        if whole {
            stage2
                .map(RAM, Pa(0x8000_0000), size, Attributes::Memory, &mut tlb)
                .unwrap();
        } else {
            for block in 0..blocks as u64 {
                // In another order than the guest has them.
                let pa = Pa(0x8000_0000 + (blocks as u64 - block) * 2 * BLOCK_2M);
                let ipa = Ipa(RAM.0 + block * BLOCK_2M);
                stage2
                    .map(ipa, pa, BLOCK_2M, Attributes::Memory, &mut tlb)
                    .unwrap();
            }
        }
        Self {
            logged: Logged::new(stage2, RAM, blocks),
            log: DirtyLog::new(size),
            cores: shared,
            tlb,
            pages: size / PAGE_SIZE,
            copy: BTreeMap::new(),
            unnoted: Vec::new(),
        }
    }

    /// What the tree says now.
    fn walk(&self, ipa: Ipa) -> Option<(Cached, Option<u64>)> {
        let (level, at, descriptor) = self.logged.stage2.find(ipa);
        let base = ipa.align_down(level.size());
        let it = Cached {
            base: base.0,
            size: level.size(),
            pa: descriptor & ADDRESS,
            writable: descriptor & WRITABLE != 0,
        };
        (descriptor & VALID != 0).then_some((it, level.is_last().then_some(at.0)))
    }

    /// An access of a vCPU on a core: cached, or walked for; faults are handled, and the access made again.
    fn access(&mut self, core: usize, page: u64, write: bool) {
        let ipa = Ipa(RAM.0 + page % self.pages * PAGE_SIZE);
        for _ in 0..4 {
            let cached = {
                let cores = self.cores.borrow();
                let all = &cores.cores[core].translations;
                all.iter()
                    .find(|it| (it.base..it.base + it.size).contains(&ipa.0))
                    .copied()
            };
            let Some(it) = cached else {
                let (it, table) = self.walk(ipa).expect("RAM is mapped outside of the lock");
                let mut cores = self.cores.borrow_mut();
                cores.cores[core].translations.push(it);
                if let Some(table) = table {
                    cores.cores[core].tables.insert(ipa.0 / BLOCK_2M, table);
                }
                continue;
            };
            if !write || it.writable {
                if write {
                    self.cores.borrow_mut().store(it.pa + (ipa.0 - it.base));
                }
                return;
            }
            let fault = Fault { ipa, va: None };
            let mut tlb = Tlb(self.cores.clone(), core);
            assert_ne!(self.logged.fault(fault, &self.log, &mut tlb), Found::NoRam);
        }
        panic!("a write that never gets through");
    }

    /// EL2 writes for the guest; that is noted a little later.
    fn el2_writes(&mut self, page: u64) {
        let page = page % self.pages;
        let (it, _) = self.walk(Ipa(RAM.0 + page * PAGE_SIZE)).unwrap();
        let at = it.pa + (RAM.0 + page * PAGE_SIZE - it.base);
        self.cores.borrow_mut().store(at);
        self.unnoted.push(page);
    }

    fn note(&mut self) {
        // Where the log is off nothing is noted, nor need be.
        let pages = std::mem::take(&mut self.unnoted);
        pages
            .iter()
            .filter(|_| self.log.is_on())
            .for_each(|page| self.log.set_page(*page));
    }

    fn harvest(&mut self, first: usize, words: usize) -> u32 {
        let first = first % self.log.words();
        let words = words.min(self.log.words() - first);
        let mut taken = vec![0; words];
        let pages = self
            .logged
            .harvest(&self.log, first, &mut taken, &mut self.tlb);
        for (word, bits) in taken.iter().enumerate() {
            for bit in (0..64).filter(|bit| bits >> bit & 1 != 0) {
                self.copy_page((first + word) as u64 * 64 + bit);
            }
        }
        pages
    }

    fn copy_page(&mut self, page: u64) {
        let ipa = RAM.0 + page * PAGE_SIZE;
        let (it, _) = self.walk(Ipa(ipa)).unwrap();
        let pa = it.pa + (ipa - it.base);
        let written = self.cores.borrow().memory.get(&(pa / PAGE_SIZE)).copied();
        self.copy.insert(page, written.unwrap_or(0));
    }

    fn step(&mut self) -> Result<Progress, MapError> {
        self.logged.step(&self.log, &mut self.tlb)
    }

    fn steps(&mut self) {
        while self.step() == Ok(Progress::More) {
            self.check();
        }
    }

    /// No core has what the tree does not give.
    fn check(&self) {
        for core in &self.cores.borrow().cores {
            for it in &core.translations {
                let (now, _) = self.walk(Ipa(it.base)).expect("nothing unmapped is cached");
                assert_eq!(
                    (it.size, it.pa, it.base),
                    (now.size, now.pa, now.base),
                    "a stale translation"
                );
                assert!(
                    now.writable || !it.writable,
                    "a page that is closed is open in a TLB"
                );
            }
        }
    }

    /// Where the log is on, no page is open without its bit.
    fn check_pages(&self) {
        if !self.logged.is_on() {
            return;
        }
        for page in 0..self.pages {
            let (now, _) = self.walk(Ipa(RAM.0 + page * PAGE_SIZE)).unwrap();
            assert_eq!(now.size, PAGE_SIZE);
            let bit = self.log.is_set(page);
            assert!(bit || !now.writable, "page {page} is open without its bit");
        }
    }

    /// The guest stops, and what is left is copied: is the copy the guest?
    fn finish(mut self) {
        assert!(self.logged.is_on());
        self.note();
        for first in (0..self.log.words()).step_by(HARVEST_WORDS) {
            self.harvest(first, HARVEST_WORDS);
        }
        for page in 0..self.pages {
            let had = self.copy.get(&page).copied();
            self.copy_page(page);
            assert_eq!(
                had,
                self.copy.get(&page).copied(),
                "page {page} is not as it was last"
            );
        }
        // And all is as it was before.
        (0..CORES).for_each(|core| self.access(core, 0, false));
        self.logged.end(&self.log);
        self.steps();
        self.check();
        assert!(!self.log.is_on());
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write(usize, u64),
    Read(usize, u64),
    El2(u64),
    Note,
    Harvest(usize, usize),
    Round,
    Step,
    Restart,
    Slip(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let page = || prop_oneof![4 => 0..6_u64, 2 => 500..520_u64, 1 => any::<u64>()];
    prop_oneof![
        20 => (0..CORES, page()).prop_map(|(core, page)| Op::Write(core, page)),
        6 => (0..CORES, page()).prop_map(|(core, page)| Op::Read(core, page)),
        4 => page().prop_map(Op::El2),
        3 => Just(Op::Note),
        8 => (prop_oneof![Just(0_usize), 7..9_usize, any::<usize>()], 1..=HARVEST_WORDS).prop_map(|(first, words)| Op::Harvest(first, words)),
        1 => Just(Op::Round),
        6 => Just(Op::Step),
        1 => Just(Op::Restart),
        6 => any::<u64>().prop_map(Op::Slip),
    ]
}

fn apply(m: &mut Machine, op: &Op) {
    match *op {
        Op::Write(core, page) => m.access(core, page, true),
        Op::Read(core, page) => m.access(core, page, false),
        Op::El2(page) => m.el2_writes(page),
        Op::Note => m.note(),
        Op::Harvest(first, words) => {
            m.harvest(first, words);
        }
        Op::Round => (0..m.log.words()).step_by(4).for_each(|first| {
            m.harvest(first, 4);
        }),
        Op::Step => assert!(m.step().is_ok()),
        Op::Restart => {
            // What EL2 has begun to write before the log is on is over before it counts.
            m.note();
            m.logged.end(&m.log);
            m.steps();
            m.logged.begin(&m.log).unwrap();
        }
        Op::Slip(n) => m.cores.borrow_mut().slip.push(n),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_write_is_lost(blocks in 1..6_usize, whole: bool, ops in prop::collection::vec(op(), 1..250)) {
        let mut m = Machine::new(blocks, whole, usize::MAX);
        m.logged.begin(&m.log).unwrap();
        for (n, op) in ops.iter().enumerate() {
            apply(&mut m, op);
            m.check();
            if n % 16 == 0 {
                m.check_pages();
            }
        }
        m.steps();
        m.check_pages();
        m.finish();
    }
}

#[test]
fn the_first_harvest_yields_the_whole_guest() {
    let mut m = Machine::new(3, false, usize::MAX);
    let mut taken = [0; 4];
    assert_eq!(m.logged.harvest(&m.log, 0, &mut taken, &mut m.tlb), 0);
    m.logged.begin(&m.log).unwrap();
    assert_eq!(m.logged.begin(&m.log), Err(Busy));
    m.steps();
    let all: u32 = (0..24).step_by(4).map(|first| m.harvest(first, 4)).sum();
    assert_eq!(all, 3 * 512);
    // Nothing was open: the next yields what was written since.
    m.access(1, 700, true);
    m.access(2, 700, true);
    m.el2_writes(701);
    m.note();
    assert_eq!(m.harvest(8, 4), 2);
    assert_eq!(m.harvest(8, 4), 0);
    m.finish();
}

#[test]
fn a_gigabyte_comes_apart_and_together() {
    let mut m = Machine::new(512, true, usize::MAX);
    assert_eq!(m.walk(RAM).unwrap().0.size, BLOCK_1G);
    let before = m.logged.stage2.tables.live.len();
    m.logged.begin(&m.log).unwrap();
    m.steps();
    assert_eq!(m.logged.stage2.tables.live.len(), before + 513);
    m.access(0, 5000, true);
    m.logged.end(&m.log);
    m.steps();
    assert_eq!(m.walk(RAM).unwrap().0.size, BLOCK_1G);
    assert_eq!(m.logged.stage2.tables.live.len(), before);
    m.check();
}

#[test]
fn without_frames_all_is_as_before() {
    let mut m = Machine::new(10, false, 2 + 7);
    m.logged.begin(&m.log).unwrap();
    assert_eq!(m.step(), Ok(Progress::More));
    m.access(0, 1, true);
    assert_eq!(m.step(), Err(MapError::NoFrames));
    assert!(!m.log.is_on());
    m.access(1, 2000, true);
    m.steps();
    m.check();
    assert_eq!(m.logged.stage2.tables.live.len(), 2);
    assert!((0..10).all(|block| m.walk(m.logged.block(block)).unwrap().0.size == BLOCK_2M));
}

#[test]
fn a_fault_elsewhere_is_not_ours() {
    let mut m = Machine::new(1, false, usize::MAX);
    for ipa in [0, RAM.0 - 1, RAM.0 + BLOCK_2M, u64::MAX] {
        let fault = Fault {
            ipa: Ipa(ipa),
            va: None,
        };
        assert_eq!(m.logged.fault(fault, &m.log, &mut m.tlb), Found::NoRam);
    }
    let fault = Fault { ipa: RAM, va: None };
    assert_eq!(m.logged.fault(fault, &m.log, &mut m.tlb), Found::Passed);
}

/// A guest that writes before, during and after a start, a harvest and an end.
fn rehearse(broken: Broken) {
    let mut m = Machine::new(2, false, usize::MAX);
    m.cores.borrow_mut().broken = broken;
    m.access(0, 0, true);
    m.logged.begin(&m.log).unwrap();
    m.steps();
    m.check();
    m.access(1, 0, false);
    m.access(1, 0, true);
    m.access(0, 0, true);
    m.harvest(0, 4);
    m.check();
    m.access(0, 0, true);
    m.finish();
}

#[test]
fn a_rehearsal_goes_well() {
    rehearse(Broken::Nothing);
}

#[test]
#[should_panic(expected = "stale translation")]
fn a_start_that_forgets_to_invalidate_is_found() {
    rehearse(Broken::Each);
}

#[test]
#[should_panic(expected = "freed while a walker has it")]
fn an_end_that_forgets_to_invalidate_is_found() {
    rehearse(Broken::All);
}

#[test]
#[should_panic(expected = "never gets through")]
fn a_fault_that_forgets_to_invalidate_is_found() {
    rehearse(Broken::Widened);
}

#[test]
#[should_panic(expected = "open in a TLB")]
fn a_harvest_that_forgets_to_invalidate_is_found() {
    let mut m = Machine::new(1, false, usize::MAX);
    m.logged.begin(&m.log).unwrap();
    m.steps();
    m.access(0, 3, true);
    m.cores.borrow_mut().broken = Broken::Each;
    m.harvest(0, 1);
    m.check();
}
