//! What may become of a guest, who orders it, and what is told of it.
//!
//! ```text
//!                     start            a core takes it          all in memory
//! Free ─► Made ─────► Waiting ───────► Placing ───────────────► Running
//!   ▲       │          ▲   │             │ end, failure            │ the last vCPU has left
//!   │       │          │   └─────────────┴──────► Stopped ◄────────┘
//!   │       │          └────────────────── start ──┤
//!   └── Leaving ◄────────────── destroy ───────────┘
//! ```
//! A guest that comes from elsewhere is Arriving instead of Made to Placing, and Running once all of it has come ([`super::moves`]).
//!
//! A stage changes under the place's lock alone, and each order looks at it there, so two of them are one after the other: a guest that is ended while it waits for a
//! core is stopped at once, one that is being placed when the core that places it looks next, one that runs when its last vCPU has left. That one is found once, though
//! several cores may come out of the guest at the same time: it needs a guest that runs, is to stop, and has no vCPU on.
//!
//! Freezing is beside the stages: the queue holds the vCPUs of a place, whether they are on yet or not. So a guest that is frozen while it is placed is turned on and
//! stays off the cores, and one that is ended is let go so that its vCPUs can leave.

use core::sync::atomic::{AtomicBool, Ordering};

use el2_hyp::guest::Stop;
use el2_hyp::host::Host;

use super::leave::{self, Announcing, Leaving};
use super::work;
use super::{PLACES, Slot, find, gate};
use crate::host::CoreHost;
use crate::place::PlaceError;
use crate::queue::{self, MAX_BOARD_GUESTS};
use crate::{info, percore, warn};

/// Where a guest is in its life.
pub(super) enum Stage {
    /// The place has none.
    Free,
    /// It has never been started.
    Made,
    /// It is to become a guest that comes from elsewhere.
    Arriving,
    /// Some core is to put it into memory.
    Waiting,
    /// A core does.
    Placing,
    /// Its vCPUs are in the queue.
    Running,
    /// They have all left.
    Stopped,
    /// It is being taken apart, by core 0.
    Leaving(Leaving),
}

/// A place's.
pub(super) struct Life {
    pub stage: Stage,
    /// It is frozen by order; it is stopped for its move. While either is so the queue holds its vCPUs.
    pub frozen: bool,
    pub still: bool,
    /// The core that places it is to give up.
    abandoned: bool,
    /// It is to be destroyed once it has stopped.
    pub doomed: bool,
    /// Somebody copies it, or copies another here: it is not taken apart meanwhile.
    pub copied: bool,
    /// It goes on elsewhere.
    pub departed: bool,
    pub announcing: Announcing,
    pub news: Untold,
}

/// What the agent has not heard yet. There is room for all that can happen to one guest.
pub(super) struct Untold {
    pub started: bool,
    failed: bool,
    ended: Option<Stop>,
    destroyed: bool,
}

impl Untold {
    const NOTHING: Self = Self {
        started: false,
        failed: false,
        ended: None,
        destroyed: false,
    };
}

impl Life {
    pub const fn new() -> Self {
        Self {
            stage: Stage::Free,
            frozen: false,
            still: false,
            abandoned: false,
            doomed: false,
            copied: false,
            departed: false,
            announcing: Announcing::NOT,
            news: Untold::NOTHING,
        }
    }

    /// A guest has come to the place.
    pub fn begin(&mut self, stage: Stage) {
        *self = Self::new();
        self.copied = matches!(stage, Stage::Arriving);
        self.stage = stage;
    }

    /// The guest of the place is gone.
    pub fn end(&mut self) {
        *self = Self::new();
        self.news.destroyed = true;
        tell();
    }

    fn is_held(&self) -> bool {
        self.frozen || self.still
    }

    /// Whether it runs, and is not frozen.
    pub fn is_lively(&self) -> bool {
        matches!(self.stage, Stage::Running) && !self.is_held()
    }

    fn start_failed(&mut self, slot: &Slot, why: PlaceError) {
        warn!("guest {} does not start: {why}", slot.guest.name);
        self.stage = Stage::Stopped;
        self.news.failed = true;
        tell();
    }

    fn stopped(&mut self, reason: Stop) {
        self.stage = Stage::Stopped;
        self.announcing = Announcing::NOT;
        self.news.ended = Some(reason);
        tell();
    }
}

/// What became of a guest.
pub enum News {
    /// Its first vCPU is on.
    Started,
    /// It could not be put into memory.
    Failed,
    /// It has stopped, and no vCPU of it runs any more.
    Ended(Stop),
    /// Nothing is left of it, and its place is free.
    Destroyed,
}

/// Somebody has something to tell.
static UNTOLD: AtomicBool = AtomicBool::new(false);

pub(super) fn tell() {
    UNTOLD.store(true, Ordering::Release);
    percore::reschedule(0);
}

/// Whether [`take_news`] has something.
pub fn has_news() -> bool {
    UNTOLD.load(Ordering::Acquire)
}

/// The next of what became of guests: the place, and what it was. What became of one guest comes in its order. Core 0 is asked to look when there is something.
pub fn take_news() -> Option<(usize, News)> {
    if !UNTOLD.swap(false, Ordering::AcqRel) {
        return None;
    }
    for (id, place) in PLACES.iter().enumerate() {
        let news = &mut place.life.lock().news;
        let next = if core::mem::take(&mut news.started) {
            News::Started
        } else if core::mem::take(&mut news.failed) {
            News::Failed
        } else if let Some(reason) = news.ended.take() {
            News::Ended(reason)
        } else if core::mem::take(&mut news.destroyed) {
            News::Destroyed
        } else {
            continue;
        };
        // There may be more.
        UNTOLD.store(true, Ordering::Release);
        return Some((id, next));
    }
    None
}

/// Starts a guest that has never run or has stopped: the next core that is free puts it into memory. If it is anything else, nothing happens.
pub fn start(id: usize) {
    let mut life = PLACES[id].life.lock();
    if matches!(life.stage, Stage::Made | Stage::Stopped) && !life.doomed {
        life.stage = Stage::Waiting;
        life.abandoned = false;
        work::call(id);
    }
}

/// A core is free to place a guest; whether it still wants that.
pub(super) fn begin_placing(id: usize) -> Option<&'static Slot> {
    let mut life = PLACES[id].life.lock();
    if !matches!(life.stage, Stage::Waiting) {
        return None;
    }
    life.stage = Stage::Placing;
    find(id)
}

/// The core that places a guest looks whether it should give up. Then it has no more to do with it.
pub(super) fn is_abandoned(slot: &'static Slot) -> bool {
    let mut life = PLACES[slot.guest.id].life.lock();
    if life.abandoned {
        settle(slot, &mut life, Stop::Ended);
    }
    life.abandoned
}

/// A guest could not be placed.
pub(super) fn placing_failed(slot: &'static Slot, why: PlaceError) {
    let mut life = PLACES[slot.guest.id].life.lock();
    life.start_failed(slot, why);
    leave_if_doomed(slot, &mut life);
}

/// A guest lies in memory: its first vCPU is turned on.
pub(super) fn placed(host: &CoreHost, slot: &'static Slot, placed: &crate::place::Placed) {
    let id = slot.guest.id;
    let mut life = PLACES[id].life.lock();
    if life.abandoned {
        return settle(slot, &mut life, Stop::Ended);
    }
    let times = slot.starts.fetch_add(1, Ordering::Relaxed);
    slot.guest.reset(placed.entry, placed.argument);
    life.stage = Stage::Running;
    let again = if times == 0 { "starts" } else { "starts again" };
    info!(
        "guest {} {again}: {} vCPUs, {} MiB",
        slot.guest.name,
        slot.guest.vcpus().len(),
        slot.guest.memory.size() >> 20
    );
    host.turn_on(id, 0);
    life.news.started = true;
    tell();
    leave::begin_announcing(id, &mut life);
}

/// Takes a guest's vCPUs off the cores within moments, and keeps them off until it is resumed. Its devices send nothing meanwhile.
pub fn freeze(id: usize) {
    hold(id, |_, life| life.frozen = true);
}

/// As [`freeze`], for a guest that moves, until [`go_on_after_move`]; and its cards take no frames.
pub fn stop_for_move(id: usize) {
    hold(id, |slot, life| {
        life.still = true;
        slot.guest.set_still(true);
    });
}

fn hold(id: usize, note: impl FnOnce(&Slot, &mut Life)) {
    let mut life = PLACES[id].life.lock();
    let Some(slot) = find(id) else { return };
    if life.doomed || slot.guest.is_stopping() && matches!(life.stage, Stage::Running) {
        return;
    }
    if !life.is_held() {
        slot.guest.set_frozen(true);
        queue::hold(id);
    }
    note(slot, &mut life);
}

/// Lets a frozen guest go on, unless it is stopped for its move.
pub fn resume(id: usize) {
    release(id, |_, life| life.frozen = false);
}

/// Lets a guest go on that was stopped for its move, unless it is frozen.
pub fn go_on_after_move(id: usize) {
    release(id, |slot, life| {
        life.still = false;
        slot.guest.set_still(false);
    });
}

fn release(id: usize, note: impl FnOnce(&Slot, &mut Life)) {
    let mut life = PLACES[id].life.lock();
    let Some(slot) = find(id) else { return };
    let was_held = life.is_held();
    note(slot, &mut life);
    if life.is_held() {
        return;
    }
    if was_held {
        slot.guest.forgive_watchdog();
        slot.guest.set_frozen(false);
        queue::release(id);
    }
    if matches!(life.stage, Stage::Running) {
        leave::begin_announcing(id, &mut life);
    }
}

fn let_go(slot: &Slot, life: &mut Life) {
    if life.is_held() {
        (life.frozen, life.still) = (false, false);
        slot.guest.set_frozen(false);
        slot.guest.set_still(false);
        queue::release(slot.guest.id);
    }
}

/// Whether a guest was frozen and not resumed.
pub fn is_frozen(id: usize) -> bool {
    PLACES[id].life.lock().frozen
}

/// Whether a guest is frozen, or stopped for its move, and no core runs a vCPU of it any more.
pub fn is_at_rest(id: usize) -> bool {
    PLACES[id].life.lock().is_held() && queue::is_at_rest(id)
}

/// Whether a guest has begun, and has not stopped.
pub fn is_running(id: usize) -> bool {
    matches!(PLACES[id].life.lock().stage, Stage::Running)
}

/// Destroys a guest, whatever it does: it has no effects from now on, and soon its place, memory and devices are free.
pub fn destroy(host: &CoreHost, id: usize) {
    gate(id).close();
    let mut life = PLACES[id].life.lock();
    if matches!(life.stage, Stage::Free | Stage::Leaving(_)) {
        return;
    }
    life.doomed = true;
    if let Some(slot) = find(id) {
        stop(host, slot, &mut life);
        leave_if_doomed(slot, &mut life);
    }
}

/// Makes a guest stop, if it has begun to start.
fn stop(host: &CoreHost, slot: &'static Slot, life: &mut Life) {
    match life.stage {
        Stage::Waiting => life.stopped(Stop::Ended),
        Stage::Placing => life.abandoned = true,
        Stage::Running => end_running(host, slot, life, Stop::Ended),
        Stage::Free | Stage::Made | Stage::Arriving | Stage::Stopped | Stage::Leaving(_) => {}
    }
}

/// Makes a guest stop that runs.
pub(super) fn end_running(host: &CoreHost, slot: &'static Slot, life: &mut Life, reason: Stop) {
    slot.guest.end(host, reason);
    // None of its vCPUs enters the guest again; each must come to a core to leave.
    let_go(slot, life);
    // They may all be off already, and then none comes.
    settle_if_off(slot, life);
}

/// A vCPU of a guest that is to stop has left its core; perhaps it was the last.
pub fn finish(slot: &'static Slot) {
    settle_if_off(slot, &mut PLACES[slot.guest.id].life.lock());
}

fn settle_if_off(slot: &'static Slot, life: &mut Life) {
    let id = slot.guest.id;
    if !matches!(life.stage, Stage::Running) || !slot.guest.is_stopping() || !queue::are_all_off(id)
    {
        return;
    }
    slot.guest.stop_cards();
    let name = &slot.guest.name;
    let reason = slot.guest.stop_reason().unwrap_or(Stop::Ended);
    match reason {
        Stop::Ended if life.departed => {}
        Stop::PowerOff | Stop::Reset | Stop::Ended => info!("guest {name} has stopped: {reason}"),
        _ => warn!("guest {name} was stopped: {reason}"),
    }
    settle(slot, life, reason);
}

/// A guest has stopped.
fn settle(slot: &'static Slot, life: &mut Life, reason: Stop) {
    life.stopped(reason);
    let_go(slot, life);
    leave_if_doomed(slot, life);
}

pub(super) fn leave_if_doomed(slot: &'static Slot, life: &mut Life) {
    if life.doomed && matches!(life.stage, Stage::Made | Stage::Arriving | Stage::Stopped) {
        leave::begin(slot, life);
    }
}

const _: () = assert!(MAX_BOARD_GUESTS <= u16::BITS as usize);
