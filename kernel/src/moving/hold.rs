//! A debugging order: the board's next move that comes to a named step waits there, so that whoever tests can do to boards and cables what they like at that very moment.
//!
//! The move waits as it would for a slow line: what comes for it is heard, nothing else of the board waits, and it can be called off. It goes on when it is let go, after
//! [`MOST`] at the latest, or when another step is named. An order holds one move.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use el2_hyp::arch::timer;

use crate::{info, net, warn};

/// How long a move waits at most, microseconds.
const MOST: u64 = 30_000_000;
/// How often it is looked whether it goes on, microseconds.
const LOOK_EVERY: u64 = 10_000;

/// Where a move can be held: by the key that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The source: it is ordered, and nothing was done.
    Ordered = b'o',
    /// The source: the other board is to be asked to let the guest in.
    Knock = b'k',
    /// The source: the guest was let in.
    LetIn = b'l',
    /// The source: within the first round.
    First = b'1',
    /// The source: within a later round.
    Later = b'2',
    /// The source: the guest is still, and what is left is to go.
    Stopped = b's',
    /// The source: all was sent.
    Sent = b'e',
    /// The source: the other board has said that it has all, and the cluster is to be asked.
    Complete = b'c',
    /// The destination: a place was made for the guest, and nothing of it was taken.
    Comes = b'n',
    /// The destination: all is there, and the source is to be told.
    Whole = b'w',
}

const ALL: [(Step, &str); 10] = [
    (Step::Ordered, "it begins"),
    (Step::Knock, "it asks to be let in"),
    (Step::LetIn, "it is copied"),
    (Step::First, "more of the first round"),
    (Step::Later, "more of a later round"),
    (Step::Stopped, "what is left goes"),
    (Step::Sent, "it is heard whether all has come"),
    (Step::Complete, "the cluster is asked"),
    (Step::Comes, "anything of it is taken"),
    (Step::Whole, "the other board is told that all is here"),
];

/// The key of the step that is named; zero: none.
static HELD: AtomicU8 = AtomicU8::new(0);
/// When a move that waits there goes on, by the counter; zero: none does yet.
static UNTIL: AtomicU64 = AtomicU64::new(0);

/// The operator's order, by its key. Another key lets a move go that waits.
pub fn order(key: u8) {
    UNTIL.store(0, Ordering::Relaxed);
    let found = ALL.iter().find(|(step, _)| *step as u8 == key);
    HELD.store(found.map_or(0, |_| key), Ordering::SeqCst);
    match found {
        Some((_, before)) => info!("hold: the next move waits before {before}"),
        None => info!("hold: no move waits"),
    }
}

/// Whether the move of the guest of that name, which is about to take a step, is to wait; then until when it does, by the counter, before it looks again.
pub fn waits(step: Step, name: &str) -> Option<u64> {
    if HELD.load(Ordering::Relaxed) != step as u8 {
        return None;
    }
    let now = timer::now();
    match UNTIL.load(Ordering::Relaxed) {
        0 => {
            UNTIL.store(now + net::ticks(MOST), Ordering::Relaxed);
            let (_, before) = ALL.iter().find(|(it, _)| *it == step)?;
            info!("hold: guest {name} waits before {before}");
        }
        until if until <= now => {
            warn!("hold: guest {name} has waited long enough");
            order(0);
            return None;
        }
        _ => {}
    }
    Some(now + net::ticks(LOOK_EVERY))
}
