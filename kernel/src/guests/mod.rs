//! The board's guests: made, started, frozen, resumed, ended and destroyed while the board runs.
//!
//! - here: the places that guests have, and how all cores find them. - [`make`]: from a description to a guest. - [`life`]: what may become of one, and who orders it.
//! - [`work`]: a guest is put into memory, in steps. - [`moves`]: a guest is copied while it runs, and goes on in another place. - [`leave`]: what core 0 does over time: a guest is taken apart, or made known to the network.
//!
//! **Finding one** costs a load. A guest is taken from under the cores by [`el2_hyp::published`]: withdrawn, so that nobody finds it, and taken apart when each core has
//! passed a point at which it has none in hand but one that it runs or puts into memory, which is not withdrawn.
//!
//! **Who decides** is not here: core 0 orders what becomes of guests, and hears what became of them by [`take_news`]. Nothing is started, or started again, by itself.
//!
//! **Locks.** A place's life comes before all that belongs to a guest, but for the context of a vCPU that the core has loaded. Nothing long is done under it.

mod leave;
mod life;
mod make;
mod moves;
mod work;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cluster_proto::manifest::ConsoleMode;
use cluster_proto::package::{GuestView, Package};
use el2_hyp::addr::Pa;
use el2_hyp::arch::maintenance::GuestTlb;
use el2_hyp::gate::{Authority, Gate, Ticks};
use el2_hyp::guest::{Guest, Hardware};
use el2_hyp::lock::Mutex;
use el2_hyp::memory::dirty::DirtyLog;
use el2_hyp::published::Published;
use el2_hyp::stage2::{Fault, Logged, dirty};
use spin::Once;

use crate::assemble::Holdings;
use crate::console::{self, Mode};
use crate::queue::MAX_BOARD_GUESTS;
use crate::{info, warn};

pub use leave::{next_due, tend, watch};
pub use life::{
    News, destroy, finish, freeze, go_on_after_move, has_news, is_at_rest, is_frozen, is_running,
    resume, start, stop_for_move, take_news,
};
pub use make::{Frames, MakeError, create, create_for_arrival};
pub use moves::{Stays, arrival_failed, arrive, begin_copy, depart, end_copy, is_copied};
pub use work::{Placing, is_work_waiting, next_to_place};

use life::Life;

/// Whatever is to be held for as long as a guest.
pub type Keep = Arc<dyn Send + Sync>;

/// A guest with what it is started from.
pub struct Slot {
    /// The guest.
    pub guest: Guest,
    /// How often it has been started.
    pub starts: AtomicU32,
    view: Box<GuestView<'static>>,
    /// Dropped with it.
    keep: Option<Keep>,
    holdings: Holdings,
    stage2: Mutex<Logged<Frames>>,
}

impl Slot {
    /// Its stage 2 with the log of what it writes, the log itself, and its TLB.
    pub fn log(&self) -> (&Mutex<Logged<Frames>>, &DirtyLog, GuestTlb) {
        let tlb = GuestTlb(self.guest.vttbr());
        (&self.stage2, self.guest.memory.dirty(), tlb)
    }

    /// What is held as long as it, for another copy of it.
    pub fn keep(&self) -> Option<Keep> {
        self.keep.clone()
    }

    /// What it is started from.
    pub fn view(&self) -> &GuestView<'static> {
        &self.view
    }
}

/// Room for a guest.
struct Place {
    slot: Published<Slot>,
    gate: Gate,
    life: Mutex<Life>,
}

static PLACES: [Place; MAX_BOARD_GUESTS] = [const {
    Place {
        slot: Published::nothing(),
        gate: Gate::shut(),
        life: Mutex::new(Life::new()),
    }
}; MAX_BOARD_GUESTS];

/// All guests.
pub fn all() -> impl Iterator<Item = &'static Slot> {
    PLACES.iter().filter_map(|place| place.slot.find())
}

/// A guest by its place. It is not kept beyond the core's next [`pass`](crate::host::CoreHost::pass).
#[inline]
pub fn find(id: usize) -> Option<&'static Slot> {
    PLACES.get(id)?.slot.find()
}

/// The gate before what a guest sends.
#[inline]
pub fn gate(id: usize) -> &'static Gate {
    &PLACES[id].gate
}

/// The loaded vCPU of a guest met a fault in the guest's RAM.
pub fn memory_fault(id: usize, fault: Fault) -> dirty::Found {
    let slot = find(id).expect("a vCPU of it is loaded");
    let (stage2, log, mut tlb) = slot.log();
    stage2.lock().fault(fault, log, &mut tlb)
}

/// Lets a guest's output leave until a moment, exclusive, in an epoch of its ownership; zero: not at all.
pub fn permit(authority: &Authority, id: usize, until: Ticks, epoch: u64) {
    PLACES[id].gate.open(authority, until, epoch);
}

/// What the board has that guests are made of.
#[derive(Clone, Copy)]
struct Board {
    hardware: Hardware,
    /// What stage 2 gives GICv2 guests as their CPU interface.
    gicv: Option<Pa>,
}

static BOARD: Once<Board> = Once::new();

/// Says what the board has that guests are made of, before the first is made.
pub fn initialise(hardware: Hardware, gicv: Option<Pa>) {
    BOARD.call_once(|| Board { hardware, gicv });
}

/// Reads the boot package, tells what it is, and shows consoles as it says.
pub fn read_package(archive: &'static [u8]) -> Option<Package<'static>> {
    let package = Package::parse(archive)
        .map_err(|error| warn!("the boot package is not usable: {error}"))
        .ok()?;
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
    Some(package)
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
