//! The board's memory as EL2 has it: an identity map in which nothing is both written and executed, a heap for EL2's own small
//! things, and the frames from which guests get theirs.

use alloc::vec::Vec;
use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::ops::Range;

use aarch64_paging::descriptor::El23Attributes as Attributes;
use aarch64_paging::idmap::IdMap;
use aarch64_paging::paging::{El2, MemoryRegion};
use buddy_system_allocator::{FrameAllocator, LockedHeap};
use el2_hyp::addr::{BLOCK_2M, PAGE_SIZE, Pa};
use el2_hyp::lock::Mutex;
use platform::tree::{Gic, ReservedKind, Tree};
use spin::Once;

use crate::boot::{self, image};

/// EL2's heap: page tables of its own, guests' descriptions, the frame allocator's lists.
const HEAP_SIZE: usize = 4 << 20;

#[repr(C, align(4096))]
struct HeapMemory(UnsafeCell<[u8; HEAP_SIZE]>);

// SAFETY: the allocator alone hands out the bytes.
unsafe impl Sync for HeapMemory {}

#[unsafe(link_section = ".noinit.heap")]
static HEAP_MEMORY: HeapMemory = HeapMemory(UnsafeCell::new([0; HEAP_SIZE]));

#[global_allocator]
static HEAP: LockedHeap<24> = LockedHeap::empty();

/// Largest run of frames that is handed out as one: 2^18 pages, a block of 1 GiB.
const FRAME_ORDERS: usize = 19;
static FRAMES: Mutex<FrameAllocator<FRAME_ORDERS>> = Mutex::new(FrameAllocator::new());
static STATE: Mutex<Accounts> = Mutex::new(Accounts {
    free_frames: 0,
    all_frames: 0,
});

struct Accounts {
    free_frames: usize,
    all_frames: usize,
}

/// The root of the final tables, read by `secondary_start` on cores whose caches are off.
#[unsafe(no_mangle)]
static boot_translation: BootWord = BootWord(UnsafeCell::new(0));

/// One word, written by the boot core before any other core runs.
#[repr(C, align(64))]
struct BootWord(UnsafeCell<usize>);

// SAFETY: see the type.
unsafe impl Sync for BootWord {}

static MAP: Once<Mutex<IdMap<El2>>> = Once::new();

/// Makes the heap usable. Called once, first of all.
pub fn initialise_heap() {
    // SAFETY: the memory is this allocator's alone, and nothing was allocated before.
    unsafe { HEAP.lock().init(HEAP_MEMORY.0.get() as usize, HEAP_SIZE) };
}

/// What of the heap is in use, in bytes.
pub fn heap_used() -> usize {
    HEAP.lock().stats_alloc_actual()
}

const NORMAL: Attributes = Attributes::VALID
    .union(Attributes::ATTRIBUTE_INDEX_1)
    .union(Attributes::USER_RES1)
    .union(Attributes::INNER_SHAREABLE)
    .union(Attributes::ACCESSED);
const DEVICE: Attributes = Attributes::VALID
    .union(Attributes::ATTRIBUTE_INDEX_0)
    .union(Attributes::USER_RES1)
    .union(Attributes::ACCESSED)
    .union(Attributes::XN);
const TEXT: Attributes = NORMAL.union(Attributes::READ_ONLY);
const READ_ONLY: Attributes = TEXT.union(Attributes::XN);
const DATA: Attributes = NORMAL.union(Attributes::XN);

fn pages(range: Range<u64>) -> Range<u64> {
    range.start & !(PAGE_SIZE - 1)..range.end.next_multiple_of(PAGE_SIZE)
}

/// What of `ranges` lies outside every one of `holes`, in whole pages.
fn subtract(ranges: Vec<Range<u64>>, holes: &[Range<u64>]) -> Vec<Range<u64>> {
    holes.iter().fold(ranges, |ranges, hole| {
        let hole = pages(hole.clone());
        ranges
            .into_iter()
            .flat_map(|r| {
                let below = r.start..r.end.min(hole.start);
                let above = r.start.max(hole.end)..r.end;
                if hole.start >= r.end || hole.end <= r.start {
                    [r, 0..0]
                } else {
                    [below, above]
                }
            })
            .filter(|r| r.start < r.end)
            .collect()
    })
}

/// Builds the final map from what the device tree says, turns to it, and collects the free frames.
pub fn initialise(tree: &Tree) {
    let image = image::start() as u64..image::end() as u64;
    let ram: Vec<_> = tree
        .memory
        .iter()
        // Whole pages only: a part of one at either end is nobody's.
        .map(|r| r.base().next_multiple_of(PAGE_SIZE)..r.end() & !(PAGE_SIZE - 1))
        .filter(|r| r.start < r.end)
        .collect();
    let unmapped = tree.reserved.iter().filter_map(|r| {
        let no_map = matches!(r.kind, ReservedKind::Static { no_map: true });
        no_map.then(|| r.region.base()..r.region.end())
    });
    let mut holes: Vec<_> = unmapped.collect();
    holes.push(image.clone());

    let mut map = IdMap::new(0, El2);
    for range in subtract(ram.clone(), &holes) {
        map_range(&mut map, range, DATA);
    }
    map_image(&mut map);
    for range in devices(tree) {
        map_range(&mut map, pages(range), DEVICE);
    }
    let root = map.root_address().0;
    map.mark_active();
    MAP.call_once(|| Mutex::new(map));
    // SAFETY: the boot core alone runs. The new tables map all that the early ones do, with the same addresses.
    unsafe {
        *boot_translation.0.get() = root;
        boot::replace_translation(root);
    }
    publish_to_uncached(&boot_translation);

    let mut taken: Vec<_> = tree
        .reserved
        .iter()
        .map(|r| r.region.base()..r.region.end())
        .collect();
    taken.push(image);
    // The first page holds some boards' spin table, and no address of it is ever a good one.
    taken.push(0..PAGE_SIZE);
    let mut frames = FRAMES.lock();
    let mut accounts = STATE.lock();
    for range in subtract(ram, &taken) {
        let (first, end) = (
            (range.start / PAGE_SIZE) as usize,
            (range.end / PAGE_SIZE) as usize,
        );
        frames.add_frame(first, end);
        accounts.free_frames += end - first;
    }
    accounts.all_frames = accounts.free_frames;
}

fn map_image(map: &mut IdMap<El2>) {
    let (start, text, rodata, end) = (
        image::start(),
        image::text_end(),
        image::rodata_end(),
        image::end(),
    );
    map_range(map, start as u64..text as u64, TEXT);
    map_range(map, text as u64..rodata as u64, READ_ONLY);
    let guards: Vec<_> = image::guards()
        .map(|at| at as u64..at as u64 + PAGE_SIZE)
        .collect();
    for range in subtract(alloc::vec![rodata as u64..end as u64], &guards) {
        map_range(map, range, DATA);
    }
}

/// The registers that EL2 itself uses.
fn devices(tree: &Tree) -> Vec<Range<u64>> {
    let mut regions = Vec::new();
    match &tree.gic {
        Some(Gic::V2(gic)) => {
            regions.extend([gic.distributor, gic.cpu_interface]);
            regions.extend(gic.hypervisor_interface);
        }
        Some(Gic::V3(gic)) => {
            regions.push(gic.distributor);
            regions.extend(gic.redistributors.iter().copied());
        }
        None => {}
    }
    regions.extend(tree.console.map(|console| tree.uarts[console.uart].region));
    regions.extend(tree.virtio.iter().map(|slot| slot.region));
    regions.iter().map(|r| r.base()..r.end()).collect()
}

fn map_range(map: &mut IdMap<El2>, range: Range<u64>, attributes: Attributes) {
    let region = MemoryRegion::new(range.start as usize, range.end as usize);
    // The heap holds every table that a board of the supported size can need.
    map.map_range(&region, attributes).expect("EL2's own map");
}

/// Writes a value back to memory, for a core whose caches are still off.
pub fn publish_to_uncached<T>(value: &T) {
    el2_hyp::arch::maintenance::clean_to_coherency((&raw const *value).cast(), size_of::<T>());
}

/// Frames that nobody has, and all that there are to have.
pub fn frames() -> (usize, usize) {
    let accounts = STATE.lock();
    (accounts.free_frames, accounts.all_frames)
}

/// A run of `pages` frames (a power of two) aligned to its own size.
pub fn allocate(pages: usize) -> Option<Pa> {
    assert!(pages.is_power_of_two());
    let size = pages * PAGE_SIZE as usize;
    let layout = Layout::from_size_align(pages, pages).ok()?;
    let frame = FRAMES.lock().alloc_aligned(layout)?;
    STATE.lock().free_frames -= pages;
    let at = Pa(frame as u64 * PAGE_SIZE);
    debug_assert!(at.is_aligned(size as u64));
    Some(at)
}

/// Takes back what [`allocate`] gave.
pub fn free(at: Pa, pages: usize) {
    FRAMES.lock().dealloc((at.0 / PAGE_SIZE) as usize, pages);
    STATE.lock().free_frames += pages;
}

/// Frames for `size` bytes of a guest's RAM, a multiple of 2 MiB, as blocks of 2 MiB in the order of the guest's addresses, taken from
/// runs as long as there are. `None`, and nothing is taken, where the board has not that much.
pub fn allocate_guest_ram(size: u64) -> Option<Vec<Pa>> {
    const BLOCK_PAGES: usize = (BLOCK_2M / PAGE_SIZE) as usize;
    let mut blocks = Vec::with_capacity((size / BLOCK_2M) as usize);
    let mut run = 1usize << (FRAME_ORDERS - 1);
    while (blocks.len() as u64) * BLOCK_2M < size {
        let left = (size / BLOCK_2M) as usize * BLOCK_PAGES - blocks.len() * BLOCK_PAGES;
        while run > left {
            run /= 2;
        }
        match allocate(run) {
            Some(at) => {
                blocks.extend((0..run / BLOCK_PAGES).map(|n| Pa(at.0 + n as u64 * BLOCK_2M)))
            }
            None if run > BLOCK_PAGES => run /= 2,
            None => {
                free_guest_ram(&blocks);
                return None;
            }
        }
    }
    Some(blocks)
}

/// Takes back what [`allocate_guest_ram`] gave.
pub fn free_guest_ram(blocks: &[Pa]) {
    for &block in blocks {
        free(block, (BLOCK_2M / PAGE_SIZE) as usize);
    }
}
