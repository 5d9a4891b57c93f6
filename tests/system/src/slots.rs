//! So many boards at once as the machine has cores for, whichever runner starts the tests and in however many processes.
//!
//! A slot is a locked file: it is given back even if a test is killed. A board takes one slot for each core that it keeps busy, at most all.
//! Who waits holds the door, so that wide boards are not overtaken for ever.

use std::fs::{File, OpenOptions, TryLockError};
use std::num::NonZero;
use std::thread;
use std::time::Duration;

use crate::paths;

/// More boards than this never run at once.
const MAX_SLOTS: usize = 8;
/// Between two looks at slots that others hold.
const LOOK: Duration = Duration::from_millis(50);

/// Slots that are held; dropping gives them back.
#[derive(Debug)]
pub struct Slots {
    _held: Vec<File>,
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
pub fn take(wanted: usize) -> Slots {
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
            return Slots { _held: held };
        }
        thread::sleep(LOOK);
    }
}
