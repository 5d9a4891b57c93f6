//! The move within a board, from one place to another, where a buffer is all that lies between the two.
//!
//! **Who is the guest.** Until the receiver has all of it and can become it, the copy that was there; the step in which that departs and the other arrives is one, here. On an error
//! before it, the guest goes on where it is.

use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::{AtomicU16, Ordering};

use el2_hyp::arch::{maintenance, timer};
use el2_hyp::host::Host as _;
use el2_hyp::record::MAX_SECTION;

use super::receiver::{Receiver, Refused};
use super::sender::{Sender, Step, Stopped};
use super::{LIMITS, room};
use crate::guests::{self, MakeError, Slot, Stays};
use crate::host::CoreHost;
use crate::queue::MAX_BOARD_GUESTS;
use crate::{alone, console, info, percore, warn};

/// Places whose guest is to move to another place of the board, a bit each.
static WAITING: AtomicU16 = AtomicU16::new(0);
const _: () = assert!(MAX_BOARD_GUESTS <= u16::BITS as usize);

/// Whether a move waits for a core.
pub fn is_waiting() -> bool {
    WAITING.load(Ordering::Relaxed) != 0
}

/// A guest is to move to another place of the board.
///
/// # Errors
/// Why it stays.
pub fn begin(slot: &Slot) -> Result<(), Stays> {
    let id = slot.guest.id;
    guests::begin_copy(id)?;
    WAITING.fetch_or(1 << id, Ordering::SeqCst);
    percore::reschedule_all();
    Ok(())
}

/// The next guest that is to move within the board, for this core.
pub fn next() -> Option<Box<Move>> {
    loop {
        let waiting = WAITING.load(Ordering::SeqCst);
        if waiting == 0 {
            return None;
        }
        let from = waiting.trailing_zeros() as usize;
        if WAITING.fetch_and(!(1 << from), Ordering::SeqCst) & 1 << from == 0 {
            continue;
        }
        match Move::new(from) {
            Ok(it) => return Some(it),
            Err(why) => {
                warn!("{why}");
                guests::end_copy(from);
            }
        }
    }
}

/// Why a guest does not move after all.
enum Failed {
    /// It, or its new place, has been ended.
    Ended,
    /// There is no place for it.
    NoPlace(MakeError),
    /// The sender says so.
    Stopped(Stopped),
    /// The receiver says so.
    Refused(Refused),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("it was ended meanwhile"),
            Self::NoPlace(why) => write!(f, "{why}"),
            Self::Stopped(why) => write!(f, "{why}"),
            Self::Refused(why) => write!(f, "{why}"),
        }
    }
}

/// A guest that moves to another place of the board.
pub struct Move {
    from: usize,
    to: usize,
    sender: Sender,
    receiver: Receiver,
    buffer: Box<[u8; MAX_SECTION]>,
    /// It does not move after all; its log is yet to end.
    is_given_up: bool,
}

impl Move {
    fn new(from: usize) -> Result<Box<Self>, Failed> {
        let slot = guests::is_copied(from).ok_or(Failed::Ended)?;
        let view = Box::new(slot.view().clone());
        let to = guests::create_for_arrival(view, slot.keep()).map_err(Failed::NoPlace)?;
        Ok(Box::new(Self {
            from,
            to,
            sender: Sender::new(LIMITS),
            receiver: Receiver::new(&slot.guest),
            buffer: room(),
            is_given_up: false,
        }))
    }

    /// Goes on until `end`, by the counter, or until the core is asked to look at something. None when there is no more to do.
    pub fn go_on(mut self: Box<Self>, host: &CoreHost, end: u64) -> Option<Box<Self>> {
        loop {
            let over = if self.is_given_up {
                self.end_log()
            } else {
                self.step(host).unwrap_or_else(|why| self.give_up(&why))
            };
            if over {
                return None;
            }
            host.look_up();
            if host.is_asked() || timer::now() >= end {
                return Some(self);
            }
        }
    }

    /// A step; whether it was the last.
    fn step(&mut self, host: &CoreHost) -> Result<bool, Failed> {
        let from = guests::is_copied(self.from).ok_or(Failed::Ended)?;
        let to = guests::is_copied(self.to).ok_or(Failed::Ended)?;
        if self.receiver.prepare(to) {
            return Ok(false);
        }
        let step = self.sender.step(from, &mut self.buffer[..]);
        match step.map_err(Failed::Stopped)? {
            Step::More => Ok(false),
            Step::Section(length) => {
                let taken = self.receiver.take(to, &self.buffer[..length]);
                taken.map_err(Failed::Refused)?;
                Ok(false)
            }
            Step::End => self.hand_over(host, to).map(|()| true),
        }
    }

    /// The receiver has all of it: from here on the other place's copy is the guest.
    fn hand_over(&mut self, host: &CoreHost, to: &'static Slot) -> Result<(), Failed> {
        let parts = self.receiver.finish(to).map_err(Failed::Refused)?;
        maintenance::invalidate_instructions();
        console::move_guest(self.from, self.to);
        guests::depart(host, self.from);
        guests::end_copy(self.from);
        alone::permit(self.to);
        guests::arrive(host, self.to, parts);
        info!(
            "guest {} has moved: {}",
            to.guest.name,
            self.sender.report().told(timer::now())
        );
        Ok(())
    }

    /// The guest goes on where it is; whether there is no more to do.
    fn give_up(&mut self, why: &Failed) -> bool {
        warn!("guest {} does not move: {why}", self.source().guest.name);
        guests::arrival_failed(self.to);
        self.sender.give_up(self.source());
        self.is_given_up = true;
        false
    }

    /// A step of the end of the log; whether it was the last.
    fn end_log(&mut self) -> bool {
        let slot = self.source();
        let over = !matches!(self.sender.step(slot, &mut []), Ok(Step::More));
        if over {
            guests::end_copy(self.from);
        }
        over
    }

    /// The guest that moves, which is not taken apart while it does.
    fn source(&self) -> &'static Slot {
        guests::find(self.from).expect("a guest that is copied stays")
    }
}
