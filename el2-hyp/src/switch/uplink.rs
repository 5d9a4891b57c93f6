//! The way out of the board, behind the gate.
//!
//! The network card has few slots, and a frame in one of them is beyond recall, so they are shared out:
//! - A guest's port may take slots as long as it holds fewer than are free at that moment: alone it gets half of them, two a third each, and
//!   a newcomer always finds some. Who gets none waits, and is called when there is room again ([`Uplink::next_waiting`]); nothing is lost.
//! - [`BOARD_SLOTS`] are the board's own: heartbeats leave, whatever guests do.
//!
//! A frame that is to be cut goes whole or not at all, so that what waits is never half sent.

#[cfg(test)]
mod tests;

use super::{MAX_PORTS, PortId};
use crate::frame::{Frame, MAX_PARTS, Offload};
use crate::gate::{Permit, Ticks};

/// Slots that are counted, at most.
pub const MAX_SLOTS: usize = 256;
/// Slots that no guest's frame gets.
pub const BOARD_SLOTS: usize = 8;
/// The shortest frame on a wire, without its check sequence (IEEE 802.3, section 3.2.8): shorter ones are filled up with zeros.
pub const MIN_WIRE: usize = 60;

const _: () = assert!(MAX_PARTS <= MAX_SLOTS && MAX_PORTS <= u64::BITS as usize);

/// A network card's transmit side, as the uplink drives it. It belongs to the [`Uplink`], and nothing else reaches it.
pub trait Wire {
    /// How many frames it can hold; the same at all times, and more than [`BOARD_SLOTS`].
    fn slots(&self) -> usize;

    /// How many frames there is room for now; `None` if the card is broken.
    fn room(&mut self) -> Option<usize>;

    /// Takes a frame, which `write` puts at the start of at least [`MAX_WIRE`](crate::frame::MAX_WIRE) bytes, and whose length it returns; whether there was room.
    fn put(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool;

    /// The doorbell.
    fn kick(&mut self);

    /// Asks to be interrupted when there is room for so many frames; whether there is already.
    fn listen(&mut self, frames: usize) -> bool;
}

/// What became of a frame that was to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// It is in the card's ring.
    Sent,
    /// There is no room for it now. Its port is noted as waiting, the card will interrupt when there is, and nothing else has happened.
    Wait,
    /// The permit has ended.
    Shut,
    /// There never will be room for all of its parts.
    TooManyParts,
    /// The card is broken.
    Down,
}

/// The uplink.
pub struct Uplink<W> {
    wire: W,
    slots: usize,
    /// Room as last heard of; there may be more.
    free: usize,
    /// Whose frames are in the card, oldest first: a ring. Cards finish frames in order; one that did not would shift
    /// slots between accounts for a moment, no more.
    owners: [PortId; MAX_SLOTS],
    oldest: usize,
    held: [u16; MAX_PORTS],
    /// Ports that wait, a bit each, and the one that is called next if it does.
    waiting: u64,
    turn: u8,
    /// Room with which each of those that wait can go on.
    enough: usize,
    rung: bool,
}

impl<W: Wire> Uplink<W> {
    /// The uplink over a card whose ring is empty.
    ///
    /// # Panics
    /// If the card holds more than [`MAX_SLOTS`] frames, or so few that a guest never gets one.
    pub fn new(wire: W) -> Self {
        let slots = wire.slots();
        assert!(slots > BOARD_SLOTS && slots <= MAX_SLOTS);
        Self {
            wire,
            slots,
            free: slots,
            owners: [PortId::BOARD; MAX_SLOTS],
            oldest: 0,
            held: [0; MAX_PORTS],
            waiting: 0,
            turn: 0,
            enough: 0,
            rung: true,
        }
    }

    /// Hands a guest's frame to the card, cut and summed if need be, if `permit` covers `now`. It leaves with the next [`flush`](Self::flush) at the
    /// latest, which belongs to the same stretch with interrupts masked.
    #[inline]
    pub fn send(&mut self, permit: &Permit, now: Ticks, from: PortId, frame: &Frame) -> Sending {
        if !permit.covers(now) {
            return Sending::Shut;
        }
        let parts = frame.parts();
        if parts > self.slots - BOARD_SLOTS {
            return Sending::TooManyParts;
        }
        if !self.may_take(from, parts) {
            match self.wait_for_room(from, parts) {
                Some(true) => {}
                Some(false) => return Sending::Wait,
                None => return Sending::Down,
            }
        }
        let put = match frame.offload() {
            Offload::Segments { .. } => self.put_parts(from, frame),
            _ => self.put(from, |slot| frame.write_whole(slot)),
        };
        if put { Sending::Sent } else { Sending::Down }
    }

    /// Cuts a frame, for whose parts there is room; whether the card took all of them.
    #[inline(never)]
    fn put_parts(&mut self, from: PortId, frame: &Frame) -> bool {
        let mut finished = frame.finish();
        while finished.left() > 0 {
            if !self.put(from, |slot| finished.write_next(slot).unwrap_or(0)) {
                return false;
            }
        }
        true
    }

    /// Hands a frame of the board itself to the card, which `write` writes (at most [`MAX_WIRE`](crate::frame::MAX_WIRE) bytes) and measures; whether there was room.
    /// The gate is for guests: a board without a lease still has to ask for one.
    pub fn send_own(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        if self.free == 0 {
            self.look();
        }
        self.free > 0 && self.put(PortId::BOARD, write)
    }

    /// Rings the doorbell, if there is something to send.
    #[inline]
    pub fn flush(&mut self) {
        if !self.rung {
            self.rung = true;
            self.wire.kick();
        }
    }

    /// Looks for room for a frame that found none; whether there is some. Otherwise its port is noted, and the card will interrupt. `None` if
    /// the card is broken.
    #[cold]
    fn wait_for_room(&mut self, from: PortId, parts: usize) -> Option<bool> {
        self.look()?;
        if self.may_take(from, parts) {
            return Some(true);
        }
        // A sender alone holds half of the slots. Called when half of those are free again, it sends a batch, and does not come back
        // for every frame.
        let enough = (self.slots / 4 * 3).max(parts + BOARD_SLOTS);
        self.enough = self.enough.max(enough);
        if self.wire.listen(self.enough) {
            self.look()?;
            if self.may_take(from, parts) {
                return Some(true);
            }
        }
        self.waiting |= from.bit();
        Some(false)
    }

    /// The next port that waits and now finds room: its transmit queue is to be served again. `None` if nobody waits, or there is too little
    /// room yet for one of them; then the card interrupts when there is more, which is when to ask again. So who asks until there is `None`
    /// serves each that is called, and comes to an end.
    pub fn next_waiting(&mut self) -> Option<PortId> {
        if self.waiting == 0 {
            self.enough = 0;
            return None;
        }
        self.look()?;
        if self.free < self.enough {
            if !self.wire.listen(self.enough) {
                return None;
            }
            self.look()?;
        }
        let behind = self.waiting >> self.turn << self.turn;
        let among = if behind != 0 { behind } else { self.waiting };
        let port = PortId(among.trailing_zeros() as u8);
        self.waiting &= !port.bit();
        self.turn = (port.0 + 1) % MAX_PORTS as u8;
        Some(port)
    }

    /// A port is gone, or its queue was reset: it does not wait any more.
    pub fn forget(&mut self, port: PortId) {
        self.waiting &= !port.bit();
    }

    /// Whether any port waits.
    pub fn is_awaited(&self) -> bool {
        self.waiting != 0
    }

    #[inline]
    fn may_take(&self, from: PortId, parts: usize) -> bool {
        self.free >= parts + BOARD_SLOTS && usize::from(self.held[from.index()]) < self.free
    }

    #[inline]
    fn put(&mut self, owner: PortId, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let put = self.wire.put(|slot| {
            let length = write(slot);
            if length < MIN_WIRE {
                slot[length..MIN_WIRE].fill(0);
            }
            length.max(MIN_WIRE)
        });
        if put {
            let at = (self.oldest + self.slots - self.free) % MAX_SLOTS;
            self.owners[at] = owner;
            self.held[owner.index()] += 1;
            self.free -= 1;
            self.rung = false;
        }
        put
    }

    /// Looks what the card has sent meanwhile.
    fn look(&mut self) -> Option<()> {
        let room = self.wire.room()?.min(self.slots);
        while self.free < room {
            let owner = self.owners[self.oldest];
            self.held[owner.index()] -= 1;
            self.oldest = (self.oldest + 1) % MAX_SLOTS;
            self.free += 1;
        }
        Some(())
    }
}
