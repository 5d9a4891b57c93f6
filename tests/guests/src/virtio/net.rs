//! A network card, driven by polling or by interrupts, as its user asks.

use core::ptr::NonNull;

use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{InterruptStatus, Transport};

use super::{CHOSEN, Queue, negotiate, pages};
use crate::machine::Slot;
use virtio_drivers::transport::DeviceStatus;

/// The longest frame.
pub const FRAME: usize = 1514;
/// Frames that a card holds in either direction.
pub const SLOTS: usize = 128;
/// The card's header before each frame: no checksum to make, no segments.
const HEADER: usize = 12;
/// VIRTIO_NET_F_MAC.
const MAC: u64 = 1 << 5;
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Bytes of a frame's memory; two in a page.
const STRIDE: usize = 2048;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Memory for the frames of one direction, and which frame belongs to each of the queue's tokens.
struct Frames {
    memory: NonNull<u8>,
    of_token: [u8; SLOTS],
}

impl Frames {
    fn new() -> Option<Self> {
        Some(Self {
            memory: pages(SLOTS * STRIDE / 4096)?,
            of_token: [0; SLOTS],
        })
    }

    fn frame(&self, index: u8) -> NonNull<u8> {
        assert!(usize::from(index) < SLOTS);
        // SAFETY: in the memory.
        unsafe { self.memory.add(usize::from(index) * STRIDE) }
    }

    /// The bytes of a frame.
    ///
    /// # Safety
    /// The device does not have it, and nobody else has its bytes.
    unsafe fn bytes(&self, index: u8, length: usize) -> &'static mut [u8] {
        assert!(length <= STRIDE);
        // SAFETY: in the memory, which is never given back; the rest is the caller's promise.
        unsafe { core::slice::from_raw_parts_mut(self.frame(index).as_ptr(), length) }
    }
}

/// An open card.
pub struct Card {
    device: MmioTransport<'static>,
    slot: Slot,
    mac: Mac,
    receive: Queue<SLOTS>,
    transmit: Queue<SLOTS>,
    received: Frames,
    sent: Frames,
    /// Frames that can be written, and how many.
    free: [u8; SLOTS],
    free_count: usize,
    /// How long each frame that was sent is, by its number.
    lengths: [u16; SLOTS],
}

impl Card {
    /// Opens the card; it receives, and does not interrupt. `None` where it is not as the standard says.
    pub fn open(slot: Slot, mut device: MmioTransport<'static>) -> Option<Self> {
        negotiate(&mut device, MAC)?;
        let mac = device.read_config_space(0).ok()?;
        let mut receive = Queue::new(&mut device, RECEIVE, false, false).ok()?;
        let mut transmit = Queue::new(&mut device, TRANSMIT, false, false).ok()?;
        receive.set_dev_notify(false);
        transmit.set_dev_notify(false);
        device.set_status(CHOSEN | DeviceStatus::DRIVER_OK);
        let mut card = Self {
            device,
            slot,
            mac,
            receive,
            transmit,
            received: Frames::new()?,
            sent: Frames::new()?,
            free: core::array::from_fn(|n| n as u8),
            free_count: SLOTS,
            lengths: [0; SLOTS],
        };
        for index in 0..SLOTS as u8 {
            card.give(index);
        }
        card.device.notify(RECEIVE);
        Some(card)
    }

    /// The card's address.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// The card's slot.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Asks for interrupts of frames that come, or for none.
    pub fn interrupt(&mut self, wanted: bool) {
        self.receive.set_dev_notify(wanted);
        // The wish is there before the queue is looked at again.
        crate::mmio::barrier();
    }

    /// Ends the card's interrupt; says whether there was one.
    pub fn acknowledge(&mut self) -> bool {
        self.device.ack_interrupt() != InterruptStatus::empty()
    }

    /// Gives a frame's memory to the card to receive into.
    fn give(&mut self, index: u8) {
        // SAFETY: the card does not have the frame, and gets it here; it is looked at when the queue gives it back.
        let token = unsafe {
            let bytes = self.received.bytes(index, STRIDE);
            self.receive.add(&[], &mut [bytes])
        };
        let token = token.expect("as many entries as frames");
        self.received.of_token[usize::from(token)] = index;
    }

    /// Shows `take` up to `budget` frames that came; returns how many.
    pub fn receive(&mut self, budget: usize, mut take: impl FnMut(&[u8])) -> usize {
        for done in 0..budget {
            let Some(token) = self.receive.peek_used() else {
                self.notify(RECEIVE, done);
                return done;
            };
            let index = self.received.of_token[usize::from(token)];
            // SAFETY: the same memory as when it was given; the card gives it back here.
            let (bytes, length) = unsafe {
                let bytes = self.received.bytes(index, STRIDE);
                let length = self.receive.pop_used(token, &[], &mut [&mut *bytes]);
                (bytes, length.expect("a frame") as usize)
            };
            assert!(
                (HEADER..=STRIDE).contains(&length),
                "{length} bytes received"
            );
            take(&bytes[HEADER..length]);
            self.give(index);
        }
        self.notify(RECEIVE, budget);
        budget
    }

    /// Tells the card of `news` entries, if it wants to know.
    fn notify(&mut self, queue: u16, news: usize) {
        let wanted = match queue {
            RECEIVE => self.receive.should_notify(),
            _ => self.transmit.should_notify(),
        };
        if news > 0 && wanted {
            self.device.notify(queue);
        }
    }

    /// Takes a frame of `length` bytes that `write` writes, and does not tell the card yet. Says whether there was room.
    pub fn put(&mut self, length: usize, write: impl FnOnce(&mut [u8])) -> bool {
        if self.free_count == 0 {
            self.reclaim();
        }
        if self.free_count == 0 {
            return false;
        }
        self.free_count -= 1;
        let index = self.free[self.free_count];
        // SAFETY: the card does not have the frame, and gets it here.
        let token = unsafe {
            let bytes = self.sent.bytes(index, HEADER + length);
            write(&mut bytes[HEADER..]);
            self.transmit.add(&[bytes], &mut [])
        };
        let token = token.expect("as many entries as frames");
        self.sent.of_token[usize::from(token)] = index;
        self.lengths[usize::from(index)] = (HEADER + length) as u16;
        true
    }

    /// Tells the card of what was put, if it wants to know.
    pub fn kick(&mut self) {
        self.notify(TRANSMIT, 1);
    }

    /// Tells the card to send, whether there is anything or not.
    pub fn knock(&mut self) {
        self.device.notify(TRANSMIT);
    }

    /// Takes back what was sent; returns how many frames the card still has.
    pub fn reclaim(&mut self) -> usize {
        while let Some(token) = self.transmit.peek_used() {
            let index = self.sent.of_token[usize::from(token)];
            let length = self.lengths[usize::from(index)];
            // SAFETY: the same memory as when it was put.
            let popped = unsafe {
                let bytes = self.sent.bytes(index, length.into());
                self.transmit.pop_used(token, &[bytes], &mut [])
            };
            popped.expect("a frame that was sent");
            self.free[self.free_count] = index;
            self.free_count += 1;
        }
        SLOTS - self.free_count
    }
}
