use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Tables on the heap, named by their own addresses.
#[derive(Default)]
struct Frames {
    live: BTreeMap<u64, Box<Table>>,
    limit: Option<usize>,
}

// SAFETY: `live` owns every table that `allocate` returned until `free`.
unsafe impl Tables for Frames {
    fn allocate(&mut self) -> Option<Pa> {
        if self.limit.is_some_and(|limit| self.live.len() >= limit) {
            return None;
        }
        let table = Box::new(Table::empty());
        let at = &raw const *table as u64;
        self.live.insert(at, table);
        Some(Pa(at))
    }
    fn free(&mut self, table: Pa) {
        assert!(self.live.remove(&table.0).is_some(), "freed twice");
    }
    fn table(&self, at: Pa) -> &Table {
        &self.live[&at.0]
    }
}

#[derive(Default)]
struct Tlb(Vec<Ipa>);

impl Invalidate for Tlb {
    fn ipa(&mut self, ipa: Ipa) {
        self.0.push(ipa);
    }
    fn all(&mut self) {}
    fn publish(&mut self) {}
}

const RAM: Ipa = Ipa(0x4000_0000);

fn stage2() -> Stage2<Frames> {
    Stage2::new(Frames::default()).unwrap()
}

#[test]
fn the_largest_blocks_are_used() {
    let mut s = stage2();
    s.map(
        RAM,
        Pa(0x8000_0000),
        BLOCK_1G + BLOCK_2M + PAGE_SIZE,
        Attributes::Memory,
        &mut Tlb::default(),
    )
    .unwrap();
    assert_eq!(s.translate(RAM), Some((Pa(0x8000_0000), BLOCK_1G)));
    assert_eq!(
        s.translate(Ipa(RAM.0 + BLOCK_1G + 5)),
        Some((Pa(0xc000_0005), BLOCK_2M))
    );
    let page = Ipa(RAM.0 + BLOCK_1G + BLOCK_2M);
    assert_eq!(s.translate(page), Some((Pa(0xc020_0000), PAGE_SIZE)));
    assert_eq!(s.translate(Ipa(page.0 + PAGE_SIZE)), None);
}

#[test]
fn a_mapping_is_never_replaced() {
    let mut s = stage2();
    let mut tlb = Tlb::default();
    s.map(RAM, Pa(0), BLOCK_2M, Attributes::Memory, &mut tlb)
        .unwrap();
    assert_eq!(
        s.map(RAM, Pa(0), PAGE_SIZE, Attributes::Memory, &mut tlb),
        Err(MapError::Mapped)
    );
    assert_eq!(
        s.map(RAM, Pa(0), BLOCK_2M, Attributes::Device, &mut tlb),
        Err(MapError::Mapped)
    );
}

#[test]
fn ranges_are_checked() {
    let mut s = stage2();
    let mut tlb = Tlb::default();
    for (ipa, size) in [
        (Ipa(1), PAGE_SIZE),
        (RAM, 1),
        (IPA_END, PAGE_SIZE),
        (Ipa(!0xfff), 1 << 13),
    ] {
        assert_eq!(
            s.map(ipa, Pa(0), size, Attributes::Memory, &mut tlb),
            Err(MapError::Range)
        );
    }
    assert_eq!(
        s.map(RAM, Pa(7), PAGE_SIZE, Attributes::Memory, &mut tlb),
        Err(MapError::Range)
    );
}

/// A TLB that looks at the table whenever it is asked to forget something: the entry must be broken by then.
struct Watcher {
    entry: *const AtomicU64,
    broken: usize,
}

impl Invalidate for Watcher {
    fn ipa(&mut self, _: Ipa) {
        // SAFETY: the entry outlives the watcher in the test below.
        let entry = unsafe { &*self.entry };
        assert_eq!(entry.load(Ordering::Relaxed), 0, "made before broken");
        self.broken += 1;
    }
    fn all(&mut self) {}
    fn publish(&mut self) {}
}

#[test]
fn a_split_breaks_before_it_makes() {
    let mut s = stage2();
    s.map(
        RAM,
        Pa(0x8000_0000),
        BLOCK_2M,
        Attributes::Memory,
        &mut Tlb::default(),
    )
    .unwrap();
    let (level, at, _) = s.find(RAM);
    let entry = &raw const s.tables.table(at).0[level.index(RAM)];
    let mut watcher = Watcher { entry, broken: 0 };
    s.split(Ipa(RAM.0 + 0x5000), &mut watcher).unwrap();
    assert_eq!(watcher.broken, 1);
    for page in 0..ENTRIES as u64 {
        let expected = Pa(0x8000_0000 + page * PAGE_SIZE);
        assert_eq!(
            s.translate(Ipa(RAM.0 + page * PAGE_SIZE)),
            Some((expected, PAGE_SIZE))
        );
    }
}

#[test]
fn no_table_is_lost() {
    let mut s = stage2();
    let mut tlb = Tlb::default();
    s.map(RAM, Pa(0), 2 * BLOCK_1G, Attributes::Memory, &mut tlb)
        .unwrap();
    s.split(RAM, &mut tlb).unwrap();
    s.split(RAM, &mut tlb).unwrap();
    assert_eq!(s.tables.live.len(), 3);
    let root = s.root();
    let frames = core::mem::take(&mut s.tables);
    let rebuilt = Stage2 {
        tables: frames,
        root,
    };
    rebuilt.destroy(&mut tlb);
}

#[test]
fn running_out_of_frames_is_an_error() {
    let mut s = Stage2::new(Frames {
        limit: Some(2),
        ..Frames::default()
    })
    .unwrap();
    let result = s.map(
        RAM,
        Pa(0),
        PAGE_SIZE,
        Attributes::Memory,
        &mut Tlb::default(),
    );
    assert_eq!(result, Err(MapError::NoFrames));
}

#[derive(Clone, Debug)]
enum Op {
    Map { page: u64, pages: u64, to: u64 },
    Unmap { page: u64, pages: u64 },
    Split { page: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let page = prop_oneof![0..2048u64, (0..4u64).prop_map(|block| block * 512)];
    let pages = prop_oneof![1..64u64, Just(512u64), Just(1024u64)];
    prop_oneof![
        (page.clone(), pages.clone(), 0..8u64).prop_map(|(page, pages, to)| Op::Map {
            page,
            pages,
            to: to * 512
        }),
        (page.clone(), pages).prop_map(|(page, pages)| Op::Unmap { page, pages }),
        page.prop_map(|page| Op::Split { page }),
    ]
}

proptest! {
    /// Whatever is mapped, unmapped and split, each page leads where a plain map says.
    #[test]
    fn it_is_a_map(ops in prop::collection::vec(op(), 1..40)) {
        let mut s = stage2();
        let mut tlb = Tlb::default();
        let mut model = BTreeMap::new();
        let ipa = |page: u64| Ipa(RAM.0 + page * PAGE_SIZE);
        for op in ops {
            match op {
                Op::Map { page, pages, to } => {
                    if (page..page + pages).any(|p| model.contains_key(&p)) {
                        continue;
                    }
                    // An address aligned as its target is, so that blocks come up.
                    let to = to + page % 512;
                    match s.map(ipa(page), Pa(to * PAGE_SIZE), pages * PAGE_SIZE, Attributes::Memory, &mut tlb) {
                        Ok(()) => model.extend((0..pages).map(|n| (page + n, to + n))),
                        // An empty table stands where a block would go: what was mapped before it stays.
                        Err(MapError::Mapped) => s.unmap(ipa(page), pages * PAGE_SIZE, &mut tlb).unwrap(),
                        Err(error) => panic!("{error:?}"),
                    }
                }
                Op::Unmap { page, pages } => {
                    s.unmap(ipa(page), pages * PAGE_SIZE, &mut tlb).unwrap();
                    model.retain(|p, _| !(page..page + pages).contains(p));
                }
                Op::Split { page } => s.split(ipa(page), &mut tlb).unwrap(),
            }
            for page in 0..2048 + 1024 {
                let found = s.translate(ipa(page)).map(|(pa, _)| pa.0 / PAGE_SIZE);
                prop_assert_eq!(found, model.get(&page).copied());
            }
        }
    }
}
