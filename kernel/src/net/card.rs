//! The board's card as the uplink drives it.

use el2_hyp::switch::Wire;
use platform::nic::Transmit;
use platform::nic::virtio::{CardTransmit, TRANSMIT_SLOTS};

/// The card's way out.
pub struct CardWire(CardTransmit);

impl CardWire {
    /// Over a card that has sent nothing.
    pub fn new(transmit: CardTransmit) -> Self {
        Self(transmit)
    }
}

impl Wire for CardWire {
    fn slots(&self) -> usize {
        TRANSMIT_SLOTS
    }

    #[inline]
    fn room(&mut self) -> Option<usize> {
        self.0.room().ok()
    }

    #[inline]
    fn put(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        self.0.put(write).is_ok()
    }

    #[inline]
    fn kick(&mut self) {
        self.0.kick();
    }

    fn listen(&mut self, frames: usize) -> bool {
        // A card that broke has no room, ever: `room` says so.
        self.0.listen(frames).unwrap_or(false)
    }
}
