//! The forwarder's network card: two bounded queues between smoltcp and the lab's switch.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Frames that may wait in a direction.
const MAX_QUEUE: usize = 1024;
/// Buffers that are kept for later frames.
const MAX_SPARE: usize = 256;
/// The longest frame: 1,500 bytes behind an Ethernet header.
const MAX_FRAME: usize = 1514;

/// The card.
#[derive(Debug, Default)]
pub struct Card {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    /// Frames that found the queue full.
    pub dropped: u64,
}

impl Card {
    /// A frame from the switch.
    pub fn push(&mut self, frame: &[u8]) {
        if self.received.len() == MAX_QUEUE {
            self.dropped += 1;
            return;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(frame);
        self.received.push_back(buffer);
    }

    /// The next frame for the switch; [`Card::recycle`] takes it back.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.sent.pop_front()
    }

    /// A frame for the switch that smoltcp does not make.
    pub fn send(&mut self, frame: Vec<u8>) {
        if self.sent.len() < MAX_QUEUE {
            self.sent.push_back(frame);
        }
    }

    /// Whether frames wait to be received.
    pub fn has_received(&self) -> bool {
        !self.received.is_empty()
    }

    /// Takes a buffer back.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push(buffer);
        }
    }
}

/// A received frame.
pub struct Received<'a> {
    frame: Vec<u8>,
    spare: &'a mut Vec<Vec<u8>>,
}

/// A place for a frame to send.
pub struct Sender<'a> {
    sent: &'a mut VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let result = f(&self.frame);
        if self.spare.len() < MAX_SPARE {
            self.spare.push(self.frame);
        }
        result
    }
}

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, length: usize, f: F) -> R {
        self.buffer.clear();
        self.buffer.resize(length, 0);
        let result = f(&mut self.buffer);
        self.sent.push_back(self.buffer);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sender<'_>)> {
        if self.sent.len() >= MAX_QUEUE {
            return None;
        }
        let frame = self.received.pop_front()?;
        let buffer = self.spare.pop().unwrap_or_default();
        let received = Received {
            frame,
            spare: &mut self.spare,
        };
        let sender = Sender {
            sent: &mut self.sent,
            buffer,
        };
        Some((received, sender))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        if self.sent.len() >= MAX_QUEUE {
            return None;
        }
        Some(Sender {
            buffer: self.spare.pop().unwrap_or_default(),
            sent: &mut self.sent,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MAX_FRAME;
        capabilities
    }
}
