//! How the board's moves go, for whoever asks: of each the newest that is known, also when it is over.
//!
//! **Locks.** The table's is the last of all, and held for a copy.

use cluster_proto::bulk::frame::Name;
use cluster_proto::ids::{Epoch, GuestId};
use cluster_proto::service::progress::{Progress, Step};
use el2_hyp::arch::timer;
use el2_hyp::lock::Mutex;
use heapless::Deque;

use crate::net::microseconds;

/// Moves that are remembered; of more the oldest is forgotten.
const KEPT: usize = 8;

struct Entry {
    guest: GuestId,
    progress: Progress,
    /// When all of the guest was here, by the counter, if it came.
    whole_at: u64,
}

static TABLE: Mutex<Deque<Entry, KEPT>> = Mutex::new(Deque::new());

/// This board has become an end of a move.
pub fn begin(name: Name, step: Step) {
    let entry = Entry {
        guest: name.guest,
        progress: Progress::new(name.id, name.epoch, step),
        whole_at: 0,
    };
    let mut table = TABLE.lock();
    if table.is_full() {
        table.pop_front();
    }
    // There is room now.
    let _ = table.push_back(entry);
}

/// Changes the newest entry of that name, if it is still remembered.
fn change(name: Name, change: impl FnOnce(&mut Entry)) {
    if let Some(entry) = TABLE.lock().iter_mut().rev().find(|entry| entry.is(name)) {
        change(entry);
    }
}

/// Changes what is told of a move.
pub fn update(name: Name, told: impl FnOnce(&mut Progress)) {
    change(name, |entry| told(&mut entry.progress));
}

/// All of a guest is here.
pub fn is_whole(name: Name) {
    change(name, |entry| {
        entry.progress.step = Step::Whole;
        entry.whole_at = timer::now();
    });
}

/// The guest goes on here.
pub fn goes_on(name: Name) {
    change(name, |entry| {
        entry.progress.step = Step::GoesOn;
        entry.progress.hand_over_us = shortened(microseconds(timer::now() - entry.whole_at));
    });
}

/// The newest move of a guest.
pub fn of(guest: GuestId) -> Option<Progress> {
    let table = TABLE.lock();
    let newest = table.iter().rev().find(|entry| entry.guest == guest);
    newest.map(|entry| entry.progress)
}

/// How the departure of a guest from its epoch has ended, if it had not.
pub fn has_left(guest: GuestId, epoch: Epoch) {
    let mut table = TABLE.lock();
    let entry = table.iter_mut().rev().find(|entry| entry.guest == guest);
    if let Some(Entry { progress, .. }) = entry
        && progress.epoch == epoch
        && progress.step == Step::Asks
    {
        progress.step = Step::Left;
    }
}

/// As the record has it: what does not fit is the largest.
pub fn shortened(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Entry {
    fn is(&self, name: Name) -> bool {
        self.guest == name.guest && self.progress.id == name.id && self.progress.epoch == name.epoch
    }
}
