//! What it would cost and save to pack a guest's pages for a move, measured on request, beside what it costs to send their bytes.
//!
//! All pages are written as sections of a record twice, as they are and packed, while the guest runs; both sections' bytes go in chunks, each with its tag, through the board's card to a
//! station that nobody has. What EL2 uses for each is told for a page that is not zeros.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, Ordering};

use cluster_proto::agent::book::Endpoint;
use cluster_proto::bulk::CHUNK;
use cluster_proto::bulk::frame::{Body, Key, MAX_FRAME, Name};
use cluster_proto::ids::{Epoch, GuestId, MoveId};
use el2_hyp::addr::PAGE_SIZE;
use el2_hyp::arch::{config, timer};
use el2_hyp::host::{Host as _, Network as _};
use el2_hyp::lock::Mutex;
use el2_hyp::record::content::write_pages;
use el2_hyp::record::units::{Packer, Tally};
use el2_hyp::record::{MAX_SECTION, Writer};

use super::room;
use crate::guests::{self, Slot, Stays};
use crate::host::CoreHost;
use crate::{info, net, percore};

/// Pages that a step looks at: those of a section of a move.
const PAGES_AT_ONCE: u32 = 15;
/// Chunks that go to the card before its doorbell, as in a move.
const BATCH: usize = 16;
/// A locally administered address that nobody has, and one of the network for benchmarks (RFC 2544).
const NOBODY: Endpoint = Endpoint {
    address: [198, 18, 0, 1],
    port: 0,
    station: [2, 0, 0, 0, 0, 1],
};

/// One that waits for a core.
static WAITING: Mutex<Option<Box<Packing>>> = Mutex::new(None);
static IS_WAITING: AtomicBool = AtomicBool::new(false);

/// Whether one waits for a core.
pub fn is_waiting() -> bool {
    IS_WAITING.load(Ordering::Relaxed)
}

/// The one that waits, for this core.
pub fn next() -> Option<Box<Packing>> {
    if !is_waiting() {
        return None;
    }
    let mut waiting = WAITING.lock();
    IS_WAITING.store(false, Ordering::Relaxed);
    waiting.take()
}

/// A guest's pages are to be measured; those of another that waits are not any more.
///
/// # Errors
/// Why they are not.
pub fn begin(slot: &Slot) -> Result<(), Stays> {
    guests::begin_copy(slot.guest.id)?;
    let name = Name {
        guest: GuestId(0),
        epoch: Epoch(0),
        id: MoveId(0),
    };
    let it = Box::new(Packing {
        id: slot.guest.id,
        page: 0,
        key: Key::new(&[0; 32], 0, name),
        buffer: room(),
        packer: Box::new(Packer::new()),
        plain: Way::default(),
        packed: Way::default(),
    });
    let mut waiting = WAITING.lock();
    let before = waiting.replace(it);
    IS_WAITING.store(true, Ordering::Relaxed);
    drop(waiting);
    if let Some(before) = before {
        guests::end_copy(before.id);
    }
    percore::reschedule_all();
    Ok(())
}

/// What one way to send pages has taken.
#[derive(Clone, Copy, Default)]
struct Way {
    tally: Tally,
    bytes: u64,
    /// Instructions of EL2 for the sections, and for their way to the card.
    written: u64,
    sent: u64,
}

/// A guest whose pages are measured.
pub struct Packing {
    id: usize,
    page: u32,
    key: Key,
    buffer: Box<[u8; MAX_SECTION]>,
    packer: Box<Packer>,
    plain: Way,
    packed: Way,
}

impl Packing {
    /// Goes on until `end`, by the counter, or until the core is asked to look at something. None when there is no more to do.
    pub fn go_on(mut self: Box<Self>, host: &CoreHost, end: u64) -> Option<Box<Self>> {
        loop {
            let slot = guests::is_copied(self.id);
            let pages = slot.map(|slot| (slot.guest.memory.size() / PAGE_SIZE) as u32);
            let Some((slot, pages)) = slot.zip(pages).filter(|(_, pages)| self.page < *pages)
            else {
                self.tell();
                guests::end_copy(self.id);
                return None;
            };
            let from = self.page;
            self.page = pages.min(from + PAGES_AT_ONCE);
            self.measure(host, slot, (from, self.page), false);
            self.measure(host, slot, (from, self.page), true);
            host.look_up();
            if host.is_asked() || timer::now() >= end {
                return Some(self);
            }
        }
    }

    /// Writes and sends these pages.
    fn measure(&mut self, host: &CoreHost, slot: &Slot, (from, to): (u32, u32), is_packed: bool) {
        let mut pages = from..to;
        let packer = is_packed.then_some(&mut *self.packer);
        let begun = instructions();
        let mut writer = Writer::new();
        let memory = &slot.guest.memory;
        let written = write_pages(
            &mut writer,
            &mut self.buffer[..],
            memory,
            || pages.next(),
            packer,
        );
        // A section has room for more pages.
        let Ok(written) = written else { return };
        let between = instructions();
        self.send(host, written.bytes);
        let way = match is_packed {
            true => &mut self.packed,
            false => &mut self.plain,
        };
        // The hardware counts modulo 2^32.
        way.written += u64::from(between.wrapping_sub(begun));
        way.sent += u64::from(instructions().wrapping_sub(between));
        way.bytes += written.bytes as u64;
        way.tally.zeros += written.tally.zeros;
        way.tally.plain += written.tally.plain;
        way.tally.packed += written.tally.packed;
    }

    fn send(&self, host: &CoreHost, bytes: usize) {
        let Some(network) = net::network() else {
            return;
        };
        let mut frame = [0; MAX_FRAME];
        let mut number = 0;
        for batch in self.buffer[..bytes].chunks(BATCH * CHUNK) {
            let view = network.view(host);
            for bytes in batch.chunks(CHUNK) {
                let length = self.key.write(&Body::Chunk { number, bytes }, &mut frame);
                network.send_bulk(NOBODY, &frame[..length], &view);
                number += 1;
            }
            view.finish();
        }
    }

    fn tell(&self) {
        let (plain, packed) = (&self.plain, &self.packed);
        let pages = u64::from(plain.tally.plain).max(1);
        info!(
            "packing: {} pages of zeros, {} others, {} packed: {} bytes, {} packed; a page takes {} instructions to pack, {} to send, {} to send packed",
            plain.tally.zeros,
            plain.tally.plain,
            packed.tally.packed,
            plain.bytes,
            packed.bytes,
            packed.written.saturating_sub(plain.written) / pages,
            plain.sent / pages,
            packed.sent / pages,
        );
    }
}

/// Those of this core at EL2, modulo 2^32; zero where nothing counts them.
fn instructions() -> u32 {
    config::el2_instructions().unwrap_or(0)
}
