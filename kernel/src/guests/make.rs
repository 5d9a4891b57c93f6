//! From a description to a guest: memory, translation, devices, a place.

use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::AtomicU32;

use cluster_proto::package::GuestView;
use el2_hyp::addr::{BLOCK_2M, Ipa, PAGE_SIZE, Pa};
use el2_hyp::arch::maintenance;
use el2_hyp::guest::Guest;
use el2_hyp::lock::Mutex;
use el2_hyp::machine;
use el2_hyp::memory::GuestMemory;
use el2_hyp::stage2::{Attributes, Invalidate, Logged, Stage2, Table, Tables};

use super::life::Stage;
use super::{BOARD, Keep, PLACES, Slot};
use crate::assemble::{self, Holdings, Ports, Unmade};
use crate::console;
use crate::memory;
use crate::queue::MAX_BOARD_GUESTS;

/// Why a guest cannot be made.
pub enum MakeError {
    /// All places are taken.
    NoPlace,
    /// It wants so much memory, MiB.
    Memory(u64),
    /// No frames are left for its translation.
    Translation,
    /// Its devices.
    Devices(Unmade),
    /// Its interrupt controller.
    Controller(el2_hyp::vgic::ConfigError),
}

impl fmt::Display for MakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPlace => write!(f, "a board runs {MAX_BOARD_GUESTS} guests at most"),
            Self::Memory(mib) => {
                let (free, _) = memory::frames();
                write!(f, "it wants {mib} MiB, and {} are free", free >> 8)
            }
            Self::Translation => write!(f, "no frames are left for its translation"),
            Self::Devices(why) => write!(f, "{why}"),
            Self::Controller(why) => write!(f, "{why:?}"),
        }
    }
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

/// The TLB of a guest that will not run again, by its VTTBR_EL2.
pub(super) struct Last(pub u64);

impl Invalidate for Last {
    fn ipa(&mut self, ipa: Ipa) {
        maintenance::invalidate_ipa(self.0, ipa);
    }
    fn all(&mut self) {
        maintenance::invalidate_guest(self.0);
    }
    fn publish(&mut self) {
        maintenance::publish_tables();
    }
}

/// Makes a guest in a free place, by whose number it is known from then on. Its gate is shut, and it does not run yet. `keep` is dropped when it is gone.
///
/// # Errors
/// [`MakeError`]: then nothing is left of it.
pub fn create(view: Box<GuestView<'static>>, keep: Option<Keep>) -> Result<usize, MakeError> {
    create_as(view, keep, Ports::Attached)
}

/// Makes a place for a guest that comes from elsewhere: as [`create`], but what it becomes is not its images' to say, and its cards are not on the network before it has
/// [arrived](super::arrive).
///
/// # Errors
/// [`MakeError`]: then nothing is left of it.
pub fn create_for_arrival(
    view: Box<GuestView<'static>>,
    keep: Option<Keep>,
) -> Result<usize, MakeError> {
    create_as(view, keep, Ports::Reserved)
}

fn create_as(
    view: Box<GuestView<'static>>,
    keep: Option<Keep>,
    ports: Ports,
) -> Result<usize, MakeError> {
    for (id, place) in PLACES.iter().enumerate() {
        let mut life = place.life.lock();
        if !matches!(life.stage, Stage::Free) {
            continue;
        }
        let slot = make_slot(id, view, keep, ports)?;
        console::add_guest(id, &slot.guest.name);
        place.gate.close();
        life.begin(match ports {
            Ports::Attached => Stage::Made,
            Ports::Reserved => Stage::Arriving,
        });
        place.slot.publish(slot);
        return Ok(id);
    }
    Err(MakeError::NoPlace)
}

fn make_slot(
    id: usize,
    view: Box<GuestView<'static>>,
    keep: Option<Keep>,
    ports: Ports,
) -> Result<Box<Slot>, MakeError> {
    let mut holdings = Holdings::default();
    match make_guest(id, &view, ports, &mut holdings) {
        Ok((guest, stage2)) => {
            let (base, blocks) = (guest.memory.base(), guest.memory.blocks().len());
            Ok(Box::new(Slot {
                guest,
                starts: AtomicU32::new(0),
                view,
                keep,
                stage2: Mutex::new(Logged::new(stage2, base, blocks)),
                holdings,
            }))
        }
        Err(why) => {
            holdings.give_all_back();
            Err(why)
        }
    }
}

/// A guest and its translation. What it takes of the board is added to `holdings`, also if that fails.
fn make_guest(
    id: usize,
    view: &GuestView<'static>,
    ports: Ports,
    holdings: &mut Holdings,
) -> Result<(Guest, Stage2<Frames>), MakeError> {
    let board = BOARD.get().expect("guests are made after `initialise`");
    let size = u64::from(view.guest.memory.get()) << 20;
    let blocks = memory::allocate_guest_ram(size).ok_or(MakeError::Memory(size >> 20))?;
    holdings.memory.extend(&blocks);
    let devices = assemble::devices(id, view, ports, holdings).map_err(MakeError::Devices)?;
    let stage2 = translation(&blocks, board.gicv).ok_or(MakeError::Translation)?;
    // SAFETY: the blocks were just taken for this guest, and are given back when it is gone; the identity map covers them.
    let ram = unsafe { GuestMemory::new(Ipa(machine::RAM_BASE), blocks.into_boxed_slice()) };
    // VMID 0 is nobody's.
    let vmid = id as u8 + 1;
    let guest = Guest::new(
        id,
        view.guest.name.as_str(),
        usize::from(view.guest.vcpus.get()),
        ram,
        board.hardware,
        (vmid, stage2.root()),
        devices,
    );
    match guest {
        Ok(guest) => Ok((guest, stage2)),
        Err(why) => {
            stage2.destroy(&mut Fresh);
            Err(MakeError::Controller(why))
        }
    }
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
        mapped = mapped.and(stage2.map(
            Ipa(machine::GICC_BASE),
            gicv,
            PAGE_SIZE,
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
