//! Network cards.
//!
//! A card is opened into three values that different cores may hold: [`Control`] (what it is, its link, its interrupt),
//! [`Transmit`] and [`Receive`]. The halves know nothing of each other, so that each can have a lock of its own.
//!
//! Frames are Ethernet frames without their check sequence, written and read in place, in memory that is the card's:
//! [`Transmit::put`] has the caller write one, [`Receive::receive`] shows the caller one. Before and after those closures is where a
//! driver whose device goes past the caches cleans and invalidates; callers need not know.
//!
//! **Polling under load.** An interrupt is answered with [`Control::acknowledge_interrupt`] and [`Receive::suppress`]; then
//! [`Receive::receive`] is called, batch by batch, until it gives less than its budget; then [`Receive::listen`], which says when frames
//! have come meanwhile, so that none is forgotten. What was sent is collected by [`Transmit::put`] itself when it runs out of room, so
//! sending needs no interrupts but for one who waits for room.

#[cfg(test)]
mod tests;
pub mod virtio;

use core::fmt;

pub use crate::virtio::Interrupts;
pub use crate::virtio::queue::Fault;

/// The longest frame: 1,500 bytes behind two addresses, a VLAN tag and a type.
pub const FRAME_BYTES: usize = 1500 + 12 + 4 + 2;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Whether it is of one station, and not the address of nobody.
    pub fn is_station(&self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Whether the cable leads somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It does.
    Up,
    /// It does not; frames are lost.
    Down,
    /// The card broke the rules, was reset, and is not used any more.
    Broken,
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// The card has not yet sent what it was given.
    Full,
    /// The card is not used any more.
    Broken(Fault),
}

/// What does not belong to one direction.
pub trait Control {
    /// The card's own address.
    fn mac(&self) -> MacAddress;

    /// The most bytes in a frame behind its header.
    fn mtu(&self) -> u16;

    /// Whether the link is up.
    fn link(&self) -> Link;

    /// Ends the card's interrupt and says why it came; neither is set when it was another's, on a shared line. To be called before
    /// the halves look at their queues.
    fn acknowledge_interrupt(&self) -> Interrupts;
}

/// The way out.
pub trait Transmit {
    /// How many frames there is room for now.
    ///
    /// # Errors
    /// [`Fault`]: the card is not used any more.
    fn room(&mut self) -> Result<usize, Fault>;

    /// Takes one frame, which `write` puts at the beginning of the bytes it is given ([`FRAME_BYTES`]) and whose length it returns.
    /// With a length of zero nothing is sent. The card need not see the frame before [`kick`](Self::kick).
    ///
    /// # Errors
    /// [`NotTaken`]; `write` was not called.
    fn put(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> Result<(), NotTaken>;

    /// Sends what was put. Once for a batch.
    fn kick(&mut self);

    /// Asks for an interrupt when there is room for `frames` frames, or for as many as there can be. Says whether there is already: then
    /// the interrupt may not come.
    ///
    /// # Errors
    /// [`Fault`]: the card is not used any more.
    fn listen(&mut self, frames: usize) -> Result<bool, Fault>;

    /// Asks for no interrupts, as it is at first.
    fn suppress(&mut self);
}

/// The way in.
pub trait Receive {
    /// Shows `take` up to `budget` frames and gives their memory back to the card. Returns how many entries of the budget were used up; fewer
    /// than the budget means that there are no more.
    ///
    /// # Errors
    /// [`Fault`]: the card is not used any more.
    fn receive(&mut self, budget: usize, take: impl FnMut(&[u8])) -> Result<usize, Fault>;

    /// Asks for an interrupt for the next frame, as it is at first. Says whether one is there already: then the interrupt may not come.
    ///
    /// # Errors
    /// [`Fault`]: the card is not used any more.
    fn listen(&mut self) -> Result<bool, Fault>;

    /// Asks for no interrupts.
    fn suppress(&mut self);

    /// Frames that came damaged or longer than [`FRAME_BYTES`], since the start.
    fn dropped(&self) -> u64;
}

/// A card, opened.
pub struct Nic<C, T, R> {
    /// What does not belong to one direction.
    pub control: C,
    /// The way out.
    pub transmit: T,
    /// The way in.
    pub receive: R,
}
