//! A virtio network card (VIRTIO 1.2, section 5.1).
//!
//! One descriptor and one buffer for each frame, with the card's header before the frame. No offloads: a frame is sent as it is, and comes as
//! it was on the cable.

use heapless::Vec;

use super::{Control, FRAME_BYTES, Interrupts, Link, MacAddress, Nic, NotTaken};
use crate::dma::{self, BUFFER_BYTES, Buffer, Memory, PAGE_BYTES, Page};
use crate::mmio::Mmio;
use crate::virtio::queue::{Access, Fault, Head, Queue, Rings};
use crate::virtio::{self, Device, Kind, OpenError, Registers, feature, register};

/// Frames that may wait to be sent: few, since a frame that waits there is beyond recall.
pub const TRANSMIT_SLOTS: usize = 128;
/// Frames that may wait to be looked at.
pub const RECEIVE_SLOTS: usize = 256;

const RECEIVE_QUEUE: u16 = 0;
const TRANSMIT_QUEUE: u16 = 1;

/// Features by bit (section 5.1.3).
const MTU: u64 = 1 << 3;
const MAC: u64 = 1 << 5;
const STATUS: u64 = 1 << 16;

/// The configuration's fields (section 5.1.4).
const CONFIG_STATUS: usize = register::CONFIG + 6;
const CONFIG_MTU: usize = register::CONFIG + 10;
const LINK_UP: u16 = 1;
/// What Ethernet has always had.
const USUAL_MTU: u16 = 1500;

/// `struct virtio_net_hdr` of a device without the legacy interface. All zero: no checksum to make, no segments.
const HEADER_BYTES: usize = 12;
/// Where a frame begins in its buffer, aligned for those who copy it.
const FRAME_AT: usize = 16;
const HEADER_AT: usize = FRAME_AT - HEADER_BYTES;
/// Two addresses and a type.
const SHORTEST: usize = 14;
const _: () = assert!(FRAME_AT + FRAME_BYTES <= BUFFER_BYTES);

/// A virtio card, opened.
pub type Card<R = Mmio> = Nic<CardControl<R>, CardTransmit<R>, CardReceive<R>>;

type Frames<const N: usize> = [Buffer; N];

/// How much memory a card needs, pages.
pub const PAGES: usize = {
    let bytes = size_of::<Frames<TRANSMIT_SLOTS>>()
        + size_of::<Frames<RECEIVE_SLOTS>>()
        + size_of::<Rings<TRANSMIT_SLOTS>>()
        + size_of::<Rings<RECEIVE_SLOTS>>();
    bytes.div_ceil(PAGE_BYTES) + 1
};

/// Opens the card with [`PAGES`] pages of memory. It begins to receive, and interrupts for the first frame.
///
/// # Errors
/// [`OpenError`]; the device lies still then, and never touches the memory.
pub fn open<R: Registers>(
    device: Device<R>,
    pages: &'static mut [Page],
) -> Result<Card<R>, OpenError> {
    let mut memory = Memory::new(pages);
    let opening = device.begin(Kind::Network, MAC, MTU | STATUS | feature::EVENT_INDEX)?;
    let mac = opening.configuration(|registers| {
        MacAddress(core::array::from_fn(|n| {
            registers.read8(register::CONFIG + n)
        }))
    })?;
    let mtu = if opening.has(MTU) {
        opening.configuration(|registers| registers.read16(CONFIG_MTU))?
    } else {
        USUAL_MTU
    };
    if !mac.is_station() || mtu < SHORTEST as u16 {
        return Err(OpenError::Configuration);
    }
    let has_status = opening.has(STATUS);
    let (receive_queue, receive_heads) = opening.queue(RECEIVE_QUEUE, memory.place()?)?;
    let (transmit_queue, transmit_heads) = opening.queue(TRANSMIT_QUEUE, memory.place()?)?;
    let (receive_frames, transmit_frames) = (memory.place()?, memory.place()?);
    let registers = opening.finish();
    Ok(Nic {
        control: CardControl {
            registers,
            mac,
            mtu: mtu.min(USUAL_MTU),
            has_status,
        },
        transmit: CardTransmit::new(registers, transmit_queue, transmit_heads, transmit_frames),
        receive: CardReceive::new(registers, receive_queue, receive_heads, receive_frames),
    })
}

/// The card's address, link and interrupt.
pub struct CardControl<R = Mmio> {
    registers: R,
    mac: MacAddress,
    mtu: u16,
    has_status: bool,
}

impl<R: Registers> Control for CardControl<R> {
    fn mac(&self) -> MacAddress {
        self.mac
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn link(&self) -> Link {
        if !virtio::is_working(&self.registers) {
            Link::Broken
        } else if !self.has_status || self.registers.read16(CONFIG_STATUS) & LINK_UP != 0 {
            Link::Up
        } else {
            Link::Down
        }
    }

    fn acknowledge_interrupt(&self) -> Interrupts {
        virtio::acknowledge(&self.registers)
    }
}

/// The card's way out.
pub struct CardTransmit<R = Mmio> {
    registers: R,
    queue: Queue<TRANSMIT_SLOTS>,
    frames: &'static Frames<TRANSMIT_SLOTS>,
    free: Vec<Head, TRANSMIT_SLOTS>,
    fault: Option<Fault>,
}

impl<R: Registers> CardTransmit<R> {
    fn new(
        registers: R,
        mut queue: Queue<TRANSMIT_SLOTS>,
        heads: [Head; TRANSMIT_SLOTS],
        frames: &'static Frames<TRANSMIT_SLOTS>,
    ) -> Self {
        queue.suppress();
        Self {
            registers,
            queue,
            frames,
            free: Vec::from_array(heads),
            fault: None,
        }
    }

    /// Takes back what was sent.
    fn reclaim(&mut self) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let outcome = self.reclaim_ready();
        give_up_on_fault(&self.registers, &mut self.fault, outcome)
    }

    fn reclaim_ready(&mut self) -> Result<(), Fault> {
        for _ in 0..self.queue.ready()? {
            let (head, _) = self.queue.take()?;
            // There are as many places as heads.
            let _ = self.free.push(head);
        }
        Ok(())
    }
}

impl<R: Registers> super::Transmit for CardTransmit<R> {
    fn room(&mut self) -> Result<usize, Fault> {
        self.reclaim()?;
        Ok(self.free.len())
    }

    #[inline]
    fn put(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> Result<(), NotTaken> {
        if self.free.is_empty() || self.fault.is_some() {
            self.reclaim().map_err(NotTaken::Broken)?;
        }
        let head = self.free.pop().ok_or(NotTaken::Full)?;
        let buffer = &self.frames[head.index() & (TRANSMIT_SLOTS - 1)];
        // SAFETY: the head says that the device does not have the buffer, and there is one head of each.
        let bytes = unsafe { buffer.bytes() };
        let length = write(&mut bytes[FRAME_AT..FRAME_AT + FRAME_BYTES]).min(FRAME_BYTES);
        if length == 0 {
            let _ = self.free.push(head);
            return Ok(());
        }
        self.queue.descriptor(&head).set(
            dma::address(buffer) + HEADER_AT as u64,
            (HEADER_BYTES + length) as u32,
            Access::DeviceReads,
            None,
        );
        self.queue.offer(head);
        Ok(())
    }

    #[inline]
    fn kick(&mut self) {
        if self.queue.publish() {
            virtio::notify(&self.registers, TRANSMIT_QUEUE);
        }
    }

    fn listen(&mut self, frames: usize) -> Result<bool, Fault> {
        self.reclaim()?;
        let missing = frames.min(TRANSMIT_SLOTS).saturating_sub(self.free.len());
        if missing == 0 {
            return Ok(true);
        }
        let outcome = self.queue.listen(missing as u16);
        let ready = give_up_on_fault(&self.registers, &mut self.fault, outcome)?;
        if ready {
            self.reclaim()?;
        }
        Ok(ready)
    }

    fn suppress(&mut self) {
        self.queue.suppress();
    }
}

/// The card's way in.
pub struct CardReceive<R = Mmio> {
    registers: R,
    queue: Queue<RECEIVE_SLOTS>,
    frames: &'static Frames<RECEIVE_SLOTS>,
    dropped: u64,
    fault: Option<Fault>,
}

impl<R: Registers> CardReceive<R> {
    fn new(
        registers: R,
        mut queue: Queue<RECEIVE_SLOTS>,
        heads: [Head; RECEIVE_SLOTS],
        frames: &'static Frames<RECEIVE_SLOTS>,
    ) -> Self {
        for (head, buffer) in heads.into_iter().zip(frames) {
            // Never written again: each descriptor keeps its buffer.
            queue.descriptor(&head).set(
                dma::address(buffer) + HEADER_AT as u64,
                (HEADER_BYTES + FRAME_BYTES) as u32,
                Access::DeviceWrites,
                None,
            );
            queue.offer(head);
        }
        let mut new = Self {
            registers,
            queue,
            frames,
            dropped: 0,
            fault: None,
        };
        new.publish();
        new
    }

    #[inline]
    fn publish(&mut self) {
        if self.queue.publish() {
            virtio::notify(&self.registers, RECEIVE_QUEUE);
        }
    }

    fn receive_ready(
        &mut self,
        budget: usize,
        take: &mut impl FnMut(&[u8]),
    ) -> Result<usize, Fault> {
        const ROOM: u32 = (HEADER_BYTES + FRAME_BYTES) as u32;
        let count = usize::from(self.queue.ready()?).min(budget);
        for _ in 0..count {
            let (head, bytes) = self.queue.take()?;
            if bytes > ROOM {
                return Err(Fault::TooLong {
                    claimed: bytes,
                    room: ROOM,
                });
            }
            let end = HEADER_AT + bytes as usize;
            if end >= FRAME_AT + SHORTEST {
                // SAFETY: the head says that the device does not have the buffer, and there is one head of each.
                let buffer = unsafe { self.frames[head.index() & (RECEIVE_SLOTS - 1)].bytes() };
                take(&buffer[FRAME_AT..end]);
            } else {
                self.dropped += 1;
            }
            self.queue.offer(head);
        }
        Ok(count)
    }
}

impl<R: Registers> super::Receive for CardReceive<R> {
    fn receive(&mut self, budget: usize, mut take: impl FnMut(&[u8])) -> Result<usize, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let outcome = self.receive_ready(budget, &mut take);
        let count = give_up_on_fault(&self.registers, &mut self.fault, outcome)?;
        self.publish();
        Ok(count)
    }

    fn listen(&mut self) -> Result<bool, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let outcome = self.queue.listen(1);
        give_up_on_fault(&self.registers, &mut self.fault, outcome)
    }

    fn suppress(&mut self) {
        self.queue.suppress();
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// A device that breaks the rules is reset, so that it leaves memory alone, and remembered.
#[inline(always)]
fn give_up_on_fault<R: Registers, T>(
    registers: &R,
    remembered: &mut Option<Fault>,
    outcome: Result<T, Fault>,
) -> Result<T, Fault> {
    if let Err(fault) = outcome {
        virtio::reset(registers);
        *remembered = Some(fault);
    }
    outcome
}
