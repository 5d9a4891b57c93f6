//! The board's guests: made from the boot package, started, restarted and ended.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use cluster_proto::manifest::ConsoleMode;
use cluster_proto::package::{GuestView, Package};
use el2_hyp::addr::{BLOCK_2M, Ipa, Pa};
use el2_hyp::arch::maintenance;
use el2_hyp::guest::{Guest, Hardware, Stop};
use el2_hyp::host::Host;
use el2_hyp::machine;
use el2_hyp::memory::GuestMemory;
use el2_hyp::stage2::{Attributes, Invalidate, Stage2, Table, Tables};
use spin::Once;

use crate::console::{self, Mode};
use crate::host::CoreHost;
use crate::queue::MAX_BOARD_GUESTS;
use crate::{assemble, place};
use crate::{disk, info, memory, warn};

/// A guest with what it is started from.
pub struct Slot {
    /// The guest.
    pub guest: Guest,
    view: GuestView<'static>,
    /// How often it has been started.
    pub starts: AtomicU32,
    /// Whether it runs.
    pub running: AtomicBool,
    _stage2: Stage2<Frames>,
}

static SLOTS: Once<Box<[Slot]>> = Once::new();

/// The next slot that no core has started yet.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// All guests.
pub fn all() -> impl Iterator<Item = &'static Slot> {
    SLOTS.get().into_iter().flatten()
}

/// A guest by its place.
pub fn find(id: usize) -> Option<&'static Slot> {
    SLOTS.get()?.get(id)
}

/// Tables of stage 2 in frames of the board.
pub struct Frames;

// SAFETY: a frame is the tables' alone from `allocate` to `free`, and the identity map makes its address a pointer.
unsafe impl Tables for Frames {
    fn allocate(&mut self) -> Option<Pa> {
        let frame = memory::allocate(1)?;
        // SAFETY: the frame was just given to us.
        unsafe { (frame.0 as *mut Table).write(Table::empty()) };
        Some(frame)
    }
    fn free(&mut self, table: Pa) {
        memory::free(table, 1);
    }
    fn table(&self, at: Pa) -> &Table {
        // SAFETY: `allocate` made a table there.
        unsafe { &*(at.0 as *const Table) }
    }
}

/// The TLB of a guest that has never run: nothing is cached.
struct Fresh;

impl Invalidate for Fresh {
    fn ipa(&mut self, _: Ipa) {
        unreachable!("a fresh translation only grows");
    }
    fn all(&mut self) {}
    fn publish(&mut self) {
        maintenance::publish_tables();
    }
}

/// Reads the boot package.
pub fn read_package(archive: &'static [u8]) -> Option<Package<'static>> {
    Package::parse(archive)
        .map_err(|error| warn!("the boot package is not usable: {error}"))
        .ok()
}

/// Makes every guest of the package that is for this board, sound and fits, and tells what is wrong with the others.
pub fn make_all(package: &Package<'static>, hardware: Hardware, gicv: Option<Pa>) {
    if let Some(damage) = package.damage() {
        warn!("the boot package is damaged: {damage}");
    }
    console::set_mode(match package.manifest().summary().console {
        ConsoleMode::All => Mode::All,
        ConsoleMode::Focus => Mode::Focus,
    });
    info!(
        "board {} of cluster {}",
        package.board().name,
        package.cluster()
    );
    let mut slots = Vec::new();
    for view in package.guests() {
        let view = match view {
            Ok(view) => view,
            Err(error) => {
                warn!("{error}");
                continue;
            }
        };
        if view.guest.first_board() != package.board_number() {
            continue;
        }
        if view.guest.first_board() != package.board_number() {
            continue;
        }
        if slots.len() == MAX_BOARD_GUESTS {
            warn!(
                "guest {} does not fit: a board runs {MAX_BOARD_GUESTS} guests at most",
                view.guest.name
            );
        } else {
            slots.extend(make(slots.len(), view, hardware, gicv));
        }
    }
    SLOTS.call_once(|| slots.into_boxed_slice());
}

fn make(id: usize, view: GuestView<'static>, hardware: Hardware, gicv: Option<Pa>) -> Option<Slot> {
    let name = &view.guest.name;
    let size = u64::from(view.guest.memory.get()) << 20;
    let Some(blocks) = memory::allocate_guest_ram(size) else {
        let (free, _) = memory::frames();
        warn!(
            "guest {name} does not fit: it wants {} MiB, and {} are free",
            size >> 20,
            free >> 8
        );
        return None;
    };
    let stage2 = translation(&blocks, gicv);
    let Some(stage2) = stage2 else {
        warn!("guest {name} does not fit: no frames are left for its translation");
        memory::free_guest_ram(&blocks);
        return None;
    };
    let devices = match assemble::devices(id, &view) {
        Ok(devices) => devices,
        Err(why) => {
            warn!("guest {name} does not start: {why}");
            stage2.destroy(&mut Fresh);
            memory::free_guest_ram(&blocks);
            return None;
        }
    };
    // SAFETY: the blocks were just taken for this guest, and the identity map covers them.
    let ram = unsafe { GuestMemory::new(Ipa(machine::RAM_BASE), blocks.into_boxed_slice()) };
    let vcpus = usize::from(view.guest.vcpus.get());
    // VMID 0 is nobody's.
    let vmid = id as u8 + 1;
    let guest = Guest::new(
        id,
        name.as_str(),
        vcpus,
        ram,
        hardware,
        (vmid, stage2.root()),
        devices,
    )
    .map_err(|error| warn!("guest {name} cannot be made: {error:?}"))
    .ok()?;
    console::add_guest(id, name.as_str());
    Some(Slot {
        guest,
        view,
        starts: AtomicU32::new(0),
        running: AtomicBool::new(false),
        _stage2: stage2,
    })
}

/// Maps a guest's RAM, and on a GICv2 the hardware's virtual CPU interface.
fn translation(blocks: &[Pa], gicv: Option<Pa>) -> Option<Stage2<Frames>> {
    let mut stage2 = Stage2::new(Frames)?;
    let mut mapped = Ok(());
    let mut first = 0;
    // Blocks that follow one another are mapped as one run, so that it can be a larger block.
    while first < blocks.len() && mapped.is_ok() {
        let follows = |n: &usize| blocks[*n].0 == blocks[first].0 + (n - first) as u64 * BLOCK_2M;
        let count = (first..blocks.len()).take_while(follows).count();
        let ipa = Ipa(machine::RAM_BASE + first as u64 * BLOCK_2M);
        mapped = stage2.map(
            ipa,
            blocks[first],
            count as u64 * BLOCK_2M,
            Attributes::Memory,
            &mut Fresh,
        );
        first += count;
    }
    if let Some(gicv) = gicv {
        let page = el2_hyp::addr::PAGE_SIZE;
        mapped = mapped.and(stage2.map(
            Ipa(machine::GICC_BASE),
            gicv,
            page,
            Attributes::Device,
            &mut Fresh,
        ));
    }
    if mapped.is_err() {
        stage2.destroy(&mut Fresh);
        return None;
    }
    Some(stage2)
}

/// Starts the next guest that nobody has started; whether there was one. Several cores start several guests side by side.
pub fn start_next(host: &CoreHost) -> bool {
    let count = SLOTS.get().map_or(0, |slots| slots.len());
    if NEXT.load(Ordering::Relaxed) >= count {
        return false;
    }
    let Some(slot) = find(NEXT.fetch_add(1, Ordering::Relaxed)) else {
        return false;
    };
    start(host, slot);
    true
}

/// Places a guest's images in its memory and turns its first vCPU on.
fn start(host: &CoreHost, slot: &'static Slot) {
    let name = &slot.guest.name;
    wait_for_disk(host, slot);
    slot.guest.reset_devices();
    match place::place(&slot.guest, &slot.view) {
        Ok(placed) => {
            let times = slot.starts.fetch_add(1, Ordering::Relaxed);
            slot.guest.reset(placed.entry, placed.argument);
            slot.running.store(true, Ordering::Release);
            let again = if times == 0 { "starts" } else { "starts again" };
            info!(
                "guest {name} {again}: {} vCPUs, {} MiB",
                slot.guest.vcpus().len(),
                slot.guest.memory.size() >> 20
            );
            host.turn_on(slot.guest.id, 0);
        }
        Err(error) => warn!("guest {name} does not start: {error}"),
    }
}

/// The board's disk may still write to the memory of a guest that has stopped: nothing else is done with it until that is over.
fn wait_for_disk(host: &CoreHost, slot: &Slot) {
    while slot.guest.in_flight() > 0 {
        if let Some(disk) = disk::disk() {
            disk.serve(host);
        }
        crate::smp::relax();
    }
}

/// The last vCPU of a stopping guest has left its core.
pub fn finish(host: &CoreHost, slot: &'static Slot) {
    slot.running.store(false, Ordering::Release);
    slot.guest.stop_cards();
    let name = &slot.guest.name;
    match slot.guest.stop_reason() {
        Some(Stop::Reset) => start(host, slot),
        Some(reason @ (Stop::PowerOff | Stop::Ended)) => {
            info!("guest {name} has stopped: {reason}")
        }
        Some(reason) => warn!("guest {name} was stopped: {reason}"),
        None => unreachable!("a guest stops for a reason"),
    }
}

static ENTERED: AtomicBool = AtomicBool::new(false);

/// Tells once how long it took from the image's first instruction to the first guest's.
pub fn note_first_entry() {
    if !ENTERED.load(Ordering::Relaxed) && !ENTERED.swap(true, Ordering::Relaxed) {
        let ticks = el2_hyp::arch::timer::now() - crate::started_at();
        let microseconds = ticks * 1_000_000 / el2_hyp::arch::timer::frequency();
        info!("first guest entered {microseconds} us after the image");
    }
}
