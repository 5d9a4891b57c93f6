//! So many boards at once as the machine has cores for, whichever runner starts the tests and in however many processes.
//!
//! A slot is a locked file: it is given back even if a test is killed. A board takes one slot for each core that it keeps busy, at most all.
//! Who waits holds the door, so that wide boards are not overtaken for ever.
//!
//! **All at once.** Whoever has slots never waits for more: two who did could wait for each other for ever. Several boards of one test take theirs
//! together, and are booted in them ([`Board::boot_in`](crate::Board::boot_in)); a second [`take`] in the same thread panics.

use std::cell::Cell;
use std::fs::{File, OpenOptions, TryLockError};
use std::marker::PhantomData;
use std::num::NonZero;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use crate::paths;

/// More boards than this never run at once.
const MAX_SLOTS: usize = 8;
/// Between two looks at slots that others hold.
const LOOK: Duration = Duration::from_millis(50);

thread_local! {
    /// Whether this thread has slots.
    static HAS: Cell<bool> = const { Cell::new(false) };
}

/// Slots that are held, by the thread that took them; dropping gives them back.
#[derive(Debug)]
pub struct Slots {
    _held: Vec<File>,
    /// They stay with their thread.
    _thread: PhantomData<Rc<()>>,
}

impl Drop for Slots {
    fn drop(&mut self) {
        HAS.set(false);
    }
}

fn open(name: &str) -> File {
    let path = paths::results().join(name);
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .expect("a lock file")
}

/// How many there are on this machine.
fn count() -> usize {
    thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(MAX_SLOTS)
}

/// Takes so many slots, or all if there are fewer; waits for them.
///
/// # Panics
/// If this thread has some already.
#[track_caller]
pub fn take(wanted: usize) -> Slots {
    assert!(
        !HAS.replace(true),
        "slots are taken all at once: this thread has some"
    );
    let wanted = wanted.clamp(1, count());
    let door = open("door.lock");
    door.lock().expect("the door locked");
    let mut held = Vec::new();
    loop {
        held.extend((0..count()).filter_map(|slot| {
            let file = open(&format!("slot{slot}.lock"));
            match file.try_lock() {
                Ok(()) => Some(file),
                Err(TryLockError::WouldBlock) => None,
                Err(TryLockError::Error(error)) => panic!("slot {slot}: {error}"),
            }
        }));
        if held.len() >= wanted {
            held.truncate(wanted);
            return Slots {
                _held: held,
                _thread: PhantomData,
            };
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "all at once")]
    fn who_has_slots_does_not_wait_for_more() {
        let _some = take(1);
        take(1);
    }

    #[test]
    fn they_are_given_back() {
        for _ in 0..2 * MAX_SLOTS {
            drop(take(1));
        }
    }
}
