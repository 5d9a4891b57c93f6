//! `rings`: what the device's side of virtio costs EL2, counted without a hypervisor.
//!
//! The board's own code runs here as plain code, over memory that stands for a guest's; under `-icount shift=0` a nanosecond is an instruction.
//! Only the device's side is counted. Output: `BENCH key value`, instructions for one of each, and `PASS rings`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use core::alloc::{GlobalAlloc, Layout};
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};

use el2_hyp::addr::{BLOCK_2M, Ipa, Pa};
use el2_hyp::device::virtio::chain::Chain;
use el2_hyp::device::virtio::feature;
use el2_hyp::device::virtio::queue::{MAX_QUEUE_SIZE, Queue};
use el2_hyp::device::virtio::testing::Driver;
use el2_hyp::machine::RAM_BASE;
use el2_hyp::memory::GuestMemory;
use guest::{Machine, println, report, timer};

/// Blocks of 2 MiB that stand for a guest's memory.
const BLOCKS: usize = 4;
/// How often each thing is done.
const ROUNDS: u64 = 64;
/// Where in that memory buffers and indirect tables are.
const DATA: u64 = RAM_BASE + 0x10_0000;
const TABLES: u64 = RAM_BASE + 0x8_0000;
/// A frame of Ethernet's usual length.
const FRAME: usize = 1500;

/// Memory that is handed out and never taken back: the driver's records.
struct Bump;

const HEAP_BYTES: usize = 1 << 20;
#[repr(align(4096))]
struct Heap(core::cell::UnsafeCell<[u8; HEAP_BYTES]>);
// SAFETY: `Bump` gives each byte away once.
unsafe impl Sync for Heap {}
static HEAP: Heap = Heap(core::cell::UnsafeCell::new([0; HEAP_BYTES]));
static TAKEN: AtomicUsize = AtomicUsize::new(0);

// SAFETY: no two allocations overlap, as only what was not taken yet is given, and each is aligned.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size() + layout.align();
        let at = TAKEN.fetch_add(size, Ordering::Relaxed);
        if at + size > HEAP_BYTES {
            return core::ptr::null_mut();
        }
        let start = HEAP.0.get().cast::<u8>().wrapping_add(at);
        start.wrapping_add(start.align_offset(layout.align()))
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Bump = Bump;

/// The board's vectors are linked in with its code; nothing here uses them.
#[unsafe(no_mangle)]
extern "C" fn hearth_fault() -> ! {
    guest::psci::system_off()
}

guest::entry!(main);

fn main(machine: &'static Machine) {
    let block = BLOCK_2M as usize;
    let Some(range) = machine.spare((BLOCKS + 1) * block) else {
        return report::fail("rings", format_args!("no room for a guest's memory"));
    };
    let first = range.start.next_multiple_of(block);
    let blocks: Box<[Pa]> = (0..BLOCKS)
        .map(|n| Pa((first + n * block) as u64))
        .collect();
    // SAFETY: the range is nobody else's, and the program runs on an identity map.
    let memory = unsafe { GuestMemory::new(Ipa(RAM_BASE), blocks) };
    copies(&memory);
    for (name, shape) in [
        ("direct_1", Shape::Direct(1)),
        ("direct_2", Shape::Direct(2)),
        ("direct_4", Shape::Direct(4)),
        ("indirect_3", Shape::Indirect(3)),
        ("indirect_19", Shape::Indirect(19)),
    ] {
        chains(&memory, name, shape, 64);
    }
    chains(&memory, "alone_1", Shape::Direct(1), 1);
    report::conclude("rings");
}

/// Instructions for one of `count` things that took `ticks`.
fn tell(name: &str, ticks: u64, count: u64) {
    println!(
        "BENCH {name} {}",
        ticks * 1_000_000_000 / timer::frequency() / count
    );
}

/// The ticks that `body` takes.
fn ticks(mut body: impl FnMut()) -> u64 {
    let before = timer::now();
    body();
    timer::now() - before
}

fn copies(memory: &GuestMemory) {
    let mut bytes = [0_u8; FRAME];
    let (from, to) = (Ipa(DATA + 18), Ipa(DATA + 0x1_0002));
    let repeat = |body: &mut dyn FnMut()| {
        ticks(|| {
            for _ in 0..ROUNDS {
                body();
            }
        })
    };
    let read = repeat(&mut || memory.read(from, black_box(&mut bytes)).expect("RAM"));
    tell("read_1500", read, ROUNDS);
    let write = repeat(&mut || memory.write(to, black_box(&bytes)).expect("RAM"));
    tell("write_1500", write, ROUNDS);
    let copy = repeat(&mut || {
        memory
            .copy_to(from, memory, black_box(to), FRAME)
            .expect("RAM")
    });
    tell("copy_1500", copy, ROUNDS);
    let head = repeat(&mut || memory.read(from, black_box(&mut bytes[..66])).expect("RAM"));
    tell("read_66", head, ROUNDS);
}

/// What a chain is made of.
#[derive(Clone, Copy)]
enum Shape {
    Direct(usize),
    Indirect(usize),
}

/// Pops and pushes chains, as many at once as `batch` says, and considers an interrupt for each batch.
fn chains(memory: &GuestMemory, name: &str, shape: Shape, batch: u64) {
    let features = feature::INDIRECT_DESC | feature::EVENT_IDX;
    let mut driver = Driver::new(Ipa(RAM_BASE), MAX_QUEUE_SIZE, features);
    let bytes = Driver::bytes(MAX_QUEUE_SIZE) as usize;
    memory
        .write(Ipa(RAM_BASE), &[0; 8192][..bytes])
        .expect("RAM");
    let (mut queue, mut chain) = (Queue::new(), Chain::new());
    queue.start(driver.layout(), features);
    let buffers = [(Ipa(DATA), FRAME as u32); 32];
    let (mut total, mut served) = (0, 0);
    for _ in 0..ROUNDS {
        for n in 0..batch {
            let added = match shape {
                Shape::Direct(count) => driver.add(memory, &buffers[..count], &[]),
                Shape::Indirect(count) => {
                    driver.add_indirect(memory, Ipa(TABLES + n * 0x400), &buffers[..count], &[])
                }
            };
            report::expect("rings", "room for a chain", added.is_some());
        }
        driver.should_notify(memory);
        total += ticks(|| {
            served += serve(memory, black_box(&mut queue), black_box(&mut chain));
        });
        while driver.take(memory).is_some() {}
        driver.enable_interrupts(memory);
    }
    report::expect_eq("rings", "chains served", served, ROUNDS * batch);
    tell(name, total, served);
}

/// The loop of a device that does nothing with what it gets.
#[inline(never)]
fn serve(memory: &GuestMemory, queue: &mut Queue, chain: &mut Chain) -> u64 {
    let mut served = 0;
    queue.disable_notifications(memory).expect("sound");
    loop {
        while queue.pop(memory, chain).expect("sound") {
            black_box(chain.readable());
            queue.push(memory, chain.head(), 0).expect("sound");
            served += 1;
        }
        if !queue.enable_notifications(memory).expect("sound") {
            break;
        }
    }
    black_box(queue.should_interrupt(memory).expect("sound"));
    served
}
