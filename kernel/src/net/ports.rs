//! The switch's ports, as one core reaches them for a batch of frames.
//!
//! Interrupts for guests that got frames, and the card's doorbell, come once, at the end of the batch.

use core::cell::Cell;
use core::sync::atomic::{AtomicU16, Ordering};

use el2_hyp::frame::{Frame, MAX_WIRE, Malformed};
use el2_hyp::host;
use el2_hyp::switch::{Delivery, Forwarded, Loss, MAX_GUEST_CARDS, OwnFrame, PortId, Ports};

use super::{Network, datagram, now, station};
use crate::guests;
use crate::host::CoreHost;

/// Whose card each guest's port is.
pub struct GuestCards([AtomicU16; MAX_GUEST_CARDS]);

/// No card.
const NOBODY: u16 = u16::MAX;

impl GuestCards {
    /// None yet.
    pub const fn new() -> Self {
        Self([const { AtomicU16::new(NOBODY) }; MAX_GUEST_CARDS])
    }

    /// Says whose a port is.
    pub fn set(&self, port: PortId, guest: usize, slot: usize) {
        let card = port.card_index().expect("a guest's port");
        self.0[card].store((guest << 8 | slot) as u16, Ordering::Release);
    }

    /// Says that a port is nobody's.
    pub fn clear(&self, port: PortId) {
        let card = port.card_index().expect("a guest's port");
        self.0[card].store(NOBODY, Ordering::Release);
    }

    /// The guest and its slot.
    #[inline]
    pub fn find(&self, port: PortId) -> Option<(usize, usize)> {
        let card = self.0[port.card_index()?].load(Ordering::Acquire);
        (card != NOBODY).then_some((usize::from(card >> 8), usize::from(card & 0xff)))
    }
}

/// The ports.
pub struct View<'a> {
    network: &'static Network,
    host: &'a CoreHost,
    /// Guests' cards that got something, a bit each.
    touched: Cell<u64>,
    sent: Cell<bool>,
    called: Cell<bool>,
}

const _: () = assert!(MAX_GUEST_CARDS <= u64::BITS as usize);

impl<'a> View<'a> {
    pub(super) fn new(network: &'static Network, host: &'a CoreHost) -> Self {
        Self {
            network,
            host,
            touched: Cell::new(0),
            sent: Cell::new(false),
            called: Cell::new(false),
        }
    }

    /// The batch is over: doorbell, interrupts, and the board's station.
    fn end(&self) {
        if self.sent.get()
            && let Some(wire) = &self.network.wire
        {
            wire.uplink.lock().flush();
        }
        let mut left = self.touched.get();
        while left != 0 {
            let card = left.trailing_zeros() as usize;
            left &= left - 1;
            let port = PortId::card(card).expect("a card");
            if let Some((guest, slot)) = self.network.cards.find(port)
                && let Some(found) = guests::find(guest)
            {
                found.guest.finish_receive(self.host, slot);
            }
        }
        if self.called.get() {
            self.network.call_station();
        }
    }
}

impl host::Network for View<'_> {
    #[inline]
    fn forward(&self, from: PortId, frame: Result<&Frame<'_>, Malformed>) -> Forwarded {
        match frame {
            Ok(frame) => self.network.switch.forward(from, frame, now(), self),
            Err(malformed) => self.network.switch.refuse(from, malformed),
        }
    }

    fn forget(&self, port: PortId) {
        if let Some(wire) = &self.network.wire {
            wire.uplink.lock().forget(port);
        }
    }

    fn finish(self) {
        self.end();
    }
}

impl Ports for View<'_> {
    #[inline]
    fn guest(&self, to: PortId, frame: &Frame) -> Delivery {
        let card = to.card_index().unwrap_or_default();
        let found = self.network.cards.find(to);
        let found = found.and_then(|(guest, slot)| Some((guests::find(guest)?, slot)));
        let Some((found, slot)) = found else {
            return Delivery::Lost(Loss::Down);
        };
        self.touched.set(self.touched.get() | 1 << card);
        found.guest.receive_frame(slot, frame)
    }

    #[inline]
    fn uplink(&self, from: PortId, frame: &Frame) -> Delivery {
        let Some(wire) = &self.network.wire else {
            return Delivery::Lost(Loss::Down);
        };
        let Some((guest, _)) = self.network.cards.find(from) else {
            return Delivery::Lost(Loss::Down);
        };
        self.sent.set(true);
        let mut uplink = wire.uplink.lock();
        // From here to the doorbell, at the end of the batch, nothing comes in between: interrupts are masked.
        let permit = guests::gate(guest).permit();
        uplink.send(&permit, now(), from, frame).into()
    }

    fn uplink_own(&self, frame: &OwnFrame) -> Delivery {
        let Some(wire) = &self.network.wire else {
            return Delivery::Lost(Loss::Down);
        };
        self.sent.set(true);
        let bytes = frame.bytes();
        let sent = wire.uplink.lock().send_own(|slot| {
            slot[..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        });
        if sent { Delivery::Done } else { Delivery::Wait }
    }

    fn board(&self, frame: &Frame) -> Delivery {
        // The core that takes frames from the wire looks after the cluster's right away; for the others the station is called.
        let member = self.network.is_member();
        let mut room = [0; MAX_WIRE];
        let mut finished = frame.finish();
        let mut delivery = Delivery::Done;
        while finished.left() > 0 {
            let Some(length) = finished.write_next(&mut room) else {
                break;
            };
            let inbox = match datagram::port_of(&room[..length]) {
                Some(datagram::PORT) if member => &station::CLUSTER_INBOX,
                Some(datagram::BULK_PORT) if member => {
                    self.network.take_bulk(&room[..length]);
                    continue;
                }
                _ => {
                    self.called.set(true);
                    &station::INBOX
                }
            };
            let put = length <= station::FRAME_BYTES
                && inbox.lock().put(|bytes| {
                    bytes[..length].copy_from_slice(&room[..length]);
                    length
                });
            if !put {
                delivery = Delivery::Lost(Loss::NoBuffers);
            }
        }
        delivery
    }
}
