//! `disks`: what a guest's disk costs EL2, counted without a hypervisor.
//!
//! The board's own code runs here as plain code, over memory that stands for a guest's and for an overlay's; under `-icount shift=0` a nanosecond is an
//! instruction. Only the device's side is counted: from the notification on, and for a volume of the board's disk from the completion on; the exit,
//! the interrupt controller and the disk's own driver come on top. The board's disk is one that completes everything at once.
//! Output: `BENCH key value`, instructions for one request, and `PASS disks`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};

use el2_hyp::addr::{BLOCK_2M, Ipa, Pa};
use el2_hyp::device::virtio::Served;
use el2_hyp::device::virtio::block::disk::{
    BoardDisk, Flushed, Limits, Operation, Piece, Refused, Tag,
};
use el2_hyp::device::virtio::block::{Block, Serial};
use el2_hyp::device::virtio::signals::Signals;
use el2_hyp::device::virtio::testing::{Driver, Register, bring_up};
use el2_hyp::machine::RAM_BASE;
use el2_hyp::memory::GuestMemory;
use el2_hyp::vgic::Width;
use el2_hyp::volume::overlay::{Overlay, OverlayMemory};
use el2_hyp::volume::{Extent, Sector};
use guest::{Machine, println, report, timer};

/// Blocks of 2 MiB that stand for a guest's memory, and for an overlay's.
const GUEST_BLOCKS: usize = 2;
const OVERLAY_BLOCKS: usize = 4;
/// Requests of each kind.
const REQUESTS: u64 = 512;
/// Sectors of the disks: those of all requests together.
const SECTORS: u64 = REQUESTS * 8;
const QUEUE_SIZE: u16 = 64;
/// Where in the guest's memory headers, indirect tables and data are, a place for each request of a batch.
const HEADERS: u64 = RAM_BASE + 0x8_0000;
const TABLES: u64 = RAM_BASE + 0x9_0000;
const DATA: u64 = RAM_BASE + 0x10_0000;
/// QueueNotify and InterruptACK.
const NOTIFY: u64 = 0x50;
const ACKNOWLEDGE: u64 = 0x64;

/// Memory that is handed out and never taken back: devices, and the driver's records.
struct Bump;

const HEAP_BYTES: usize = 4 << 20;
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

/// A disk that only keeps the tags of what it was given.
struct Disk(Vec<Tag>);

impl BoardDisk for Disk {
    #[inline]
    fn room(&mut self) -> usize {
        self.0.capacity() - self.0.len()
    }
    #[inline]
    fn submit(
        &mut self,
        tag: Tag,
        _: Operation,
        _: Sector,
        pieces: &[Piece],
    ) -> Result<(), Refused> {
        black_box(pieces);
        self.0.push(tag);
        Ok(())
    }
    fn flush(&mut self, tag: Tag) -> Result<Flushed, Refused> {
        self.0.push(tag);
        Ok(Flushed::Underway)
    }
}

guest::entry!(main);

fn main(machine: &'static Machine) {
    let block = BLOCK_2M as usize;
    let Some(range) = machine.spare((GUEST_BLOCKS + OVERLAY_BLOCKS + 1) * block) else {
        return report::fail("disks", format_args!("no room for a guest's memory"));
    };
    let first = range.start.next_multiple_of(block);
    let blocks = |from: usize, count: usize| -> Box<[Pa]> {
        let range = from..from + count;
        range.map(|n| Pa((first + n * block) as u64)).collect()
    };
    // SAFETY: the range is nobody else's, and the program runs on an identity map.
    let memory = unsafe { GuestMemory::new(Ipa(RAM_BASE), blocks(0, GUEST_BLOCKS)) };
    // SAFETY: as above, and these blocks are others.
    let frames = unsafe { OverlayMemory::new(blocks(GUEST_BLOCKS, OVERLAY_BLOCKS)) };

    let extent = Extent::new(Sector(2048), SECTORS).expect("not empty");
    let limits = Limits {
        pieces: 126,
        flush: true,
    };
    let mut local = Block::local(extent, limits, false, Serial::new("local"));
    count(&memory, &mut local, "local_read_4k", IN, 4096, 1);
    count(&memory, &mut local, "local_write_4k", OUT, 4096, 1);
    count(&memory, &mut local, "local_read_4k_of_8", IN, 4096, 8);
    count(&memory, &mut local, "local_read_128k", IN, 128 << 10, 1);
    let overlay = Overlay::new(&[0xa5; 4096], SECTORS, frames).expect("room for it");
    let mut ephemeral = Block::ephemeral(overlay, false, Serial::new("ephemeral"));
    count(
        &memory,
        &mut ephemeral,
        "ephemeral_first_write_4k",
        OUT,
        4096,
        1,
    );
    count(&memory, &mut ephemeral, "ephemeral_write_4k", OUT, 4096, 1);
    count(&memory, &mut ephemeral, "ephemeral_read_4k", IN, 4096, 1);
    report::conclude("disks");
}

/// VIRTIO_BLK_T_IN and VIRTIO_BLK_T_OUT.
const IN: u32 = 0;
const OUT: u32 = 1;

/// A request as Linux makes it, in an indirect table; where its status will be.
fn ask(
    memory: &GuestMemory,
    driver: &mut Driver,
    place: u64,
    (kind, sector, bytes): (u32, u64, u32),
) -> Ipa {
    let header = Ipa(HEADERS + 32 * place);
    let status = (Ipa(header.0 + 16), 1);
    let data = (Ipa(DATA + 0x1_0000 * place), bytes);
    let text = u128::from(kind) | u128::from(sector) << 64;
    memory.write(header, &text.to_le_bytes()).expect("RAM");
    memory.write(status.0, &[0xff]).expect("RAM");
    let table = Ipa(TABLES + 64 * place);
    let added = if kind == IN {
        driver.add_indirect(memory, table, &[(header, 16)], &[data, status])
    } else {
        driver.add_indirect(memory, table, &[(header, 16), data], &[status])
    };
    report::expect("disks", "room for a request", added.is_some());
    status.0
}

/// Instructions for one of [`REQUESTS`] of `bytes`, as many at once as `batch` says, each with all that is done for it.
fn count(
    memory: &GuestMemory,
    block: &mut Block<'_>,
    name: &str,
    kind: u32,
    bytes: u32,
    batch: u64,
) {
    let signals = Signals::new();
    let rings = Driver::bytes(QUEUE_SIZE) as usize;
    memory
        .write(Ipa(RAM_BASE), &[0; 4096][..rings])
        .expect("RAM");
    let layout = Driver::new(Ipa(RAM_BASE), QUEUE_SIZE, 0).layout();
    let features = bring_up(u64::MAX, &[layout], |register| match register {
        Register::Read(offset) => block.read(offset, Width::Word, &signals),
        Register::Write(offset, value) => {
            block.write(offset, Width::Word, value.into(), &signals);
            0
        }
    });
    let mut driver = Driver::new(Ipa(RAM_BASE), QUEUE_SIZE, features);
    let mut disk = Disk(Vec::with_capacity(16));
    let (mut total, mut asked) = (0, 0);
    let sectors = u64::from(bytes / 512);
    while asked < REQUESTS {
        driver.enable_interrupts(memory);
        let mut last = Ipa(0);
        for place in 0..batch {
            let sector = (asked + place) * sectors % (SECTORS - sectors + 1);
            last = ask(memory, &mut driver, place, (kind, sector, bytes));
        }
        let before = timer::now();
        block.write(NOTIFY, Width::Word, 0, &signals);
        let served = block.serve(memory, &signals, &mut disk, 64);
        total += timer::now() - before;
        report::expect("disks", "all is served", served == Served::Rest);
        let tags = core::mem::take(&mut disk.0);
        let before = timer::now();
        for &tag in &tags {
            block.complete(memory, &signals, (tag, true), &mut disk);
        }
        block.finish(memory, &signals);
        total += timer::now() - before;
        disk.0 = tags;
        disk.0.clear();
        let mut status = [0xff];
        memory.read(last, &mut status).expect("RAM");
        report::expect_eq("disks", "the status", status[0], 0);
        report::expect(
            "disks",
            "an interrupt",
            signals.take_line_change() == Some(true),
        );
        block.write(ACKNOWLEDGE, Width::Word, 1, &signals);
        signals.take_line_change();
        while driver.take(memory).is_some() {}
        asked += batch;
    }
    let instructions = total * 1_000_000_000 / timer::frequency() / asked;
    println!("BENCH {name} {instructions}");
}
