//! A frame on its way through the switch: a view, not a copy.
//!
//! Whoever receives a frame copies it once, from the sender's memory to where it goes. So a [`Frame`] says where its bytes lie (an array of
//! EL2's, or pieces of a guest's memory) and holds a copy of the first [`HEAD`] bytes, which alone are looked at: a guest that changes a header after it was
//! checked changes nothing.
//!
//! Guests may leave work to the device (VIRTIO 1.2, section 5.1.6): a checksum that is to be filled in, or a TCP packet of up to
//! 64 KiB that is to be cut. That is [`Offload`], checked here against the headers. A receiver that takes it gets the frame as it is; for any
//! other, [`Frame::finish`] makes finished frames of at most [`MAX_WIRE`] bytes, one at a time.
//!
//! Read on in [`layers`] (headers), [`offload`] (what guests may leave to the device), [`segment`] (the cutting), [`checksum`].

pub mod announce;
pub mod checksum;
pub mod layers;
pub mod offload;
pub mod segment;
#[cfg(test)]
mod tests;

use crate::device::virtio::chain::{Reader, Segment};
use crate::memory::GuestMemory;
use crate::memory::copy::copy_slice;

pub use announce::announcement;
pub use layers::{Layers, Mac, Network, Transport};
pub use offload::{Malformed, Offload, Taken, VirtioNetHeader};
pub use segment::Finished;

/// Bytes of a frame that are copied to be looked at. All headers that the switch has to understand end within them.
pub const HEAD: usize = 128;
/// The largest network packet on the wire, and between guests.
pub const MTU: u16 = 1500;
/// The longest finished frame, without its check sequence: a packet with a tag.
pub const MAX_WIRE: usize = layers::ETHERNET + layers::TAG + MTU as usize;
/// The longest frame that is still to be cut: the largest IP packet there can be.
pub const MAX_UNCUT: usize = layers::ETHERNET + layers::TAG + 65_535;
/// The most frames that one is cut into.
pub const MAX_PARTS: usize = 256;

/// A frame.
pub struct Frame<'a> {
    /// Its first bytes; all of them if it is finished and EL2's.
    head: &'a [u8],
    /// What follows them, in a guest's memory.
    rest: Option<Reader<'a>>,
    length: usize,
    layers: Layers,
    offload: Offload,
}

impl<'a> Frame<'a> {
    /// A finished frame in EL2's memory, from the wire or from the board itself.
    ///
    /// # Errors
    /// If it is shorter than an Ethernet header, or longer than [`MAX_WIRE`].
    #[inline]
    pub fn finished(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() < layers::ETHERNET {
            return Err(Malformed::Short);
        }
        if bytes.len() > MAX_WIRE {
            return Err(Malformed::Long);
        }
        Ok(Self {
            head: bytes,
            rest: None,
            length: bytes.len(),
            layers: Layers::UNKNOWN,
            offload: Offload::None,
        })
    }

    /// As [`finished`](Self::finished), with its headers read, as if a guest had sent it.
    #[cfg(test)]
    pub(crate) fn read_finished(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut frame = Self::finished(bytes)?;
        frame.layers = Layers::read(&bytes[..bytes.len().min(HEAD)]);
        Ok(frame)
    }

    /// A guest's frame that [`Checked`] has found sound: `head` is what it looked at, and `rest` reads what follows.
    #[inline(always)]
    pub fn from_guest(head: &'a [u8], rest: Reader<'a>, checked: Checked) -> Self {
        Self {
            head,
            rest: Some(rest),
            length: checked.length,
            layers: checked.layers,
            offload: checked.offload,
        }
    }

    /// Where it goes.
    #[inline]
    pub fn destination(&self) -> Mac {
        Mac(*self.head.first_chunk().expect("an Ethernet header"))
    }

    /// Where it comes from.
    #[inline]
    pub fn source(&self) -> Mac {
        Mac(*self.head[6..].first_chunk().expect("an Ethernet header"))
    }

    /// Bytes, as it is now.
    #[inline]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Its headers, as far as they were read: those of a guest's frame were.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// What it carries, whoever sent it: reads the headers of a frame from the wire or from the board.
    pub fn transport(&self) -> Transport {
        match self.rest {
            Some(_) => self.layers.transport,
            None => Layers::read(&self.head[..self.head.len().min(HEAD)]).transport,
        }
    }

    /// What is left to the device.
    #[inline]
    pub fn offload(&self) -> Offload {
        self.offload
    }

    /// How many finished frames it makes.
    #[inline]
    pub fn parts(&self) -> usize {
        match self.offload {
            Offload::Segments { size, headers, .. } => {
                (self.length - usize::from(headers)).div_ceil(usize::from(size))
            }
            _ => 1,
        }
    }

    /// The finished frames that it makes, for a receiver that takes no [`Offload`].
    #[inline]
    pub fn finish(&self) -> Finished<'_, 'a> {
        Finished::new(self)
    }

    /// Its bytes, as they are.
    #[inline]
    pub fn bytes(&self) -> Source<'_> {
        Source {
            head: self.head,
            rest: self.rest.clone(),
        }
    }
}

/// What is known of a guest's frame once its headers were read.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    length: usize,
    layers: Layers,
    offload: Offload,
}

impl Checked {
    /// Looks at a guest's frame of `length` bytes, by `head`, a copy of the first [`HEAD`] of them, or of all. `header` says what the
    /// guest leaves to the device, which has offered `taken`.
    ///
    /// # Errors
    /// If its length cannot be, or if what it leaves to the device makes no sense for what it is.
    #[inline]
    pub fn new(
        head: &[u8],
        length: usize,
        header: &VirtioNetHeader,
        taken: Taken,
    ) -> Result<Self, Malformed> {
        debug_assert!(head.len() == length.min(HEAD));
        if length < layers::ETHERNET {
            return Err(Malformed::Short);
        }
        let layers = Layers::read(head);
        let offload = Offload::check(header, taken, &layers, head.len(), length)?;
        let longest = match offload {
            Offload::Segments { .. } => MAX_UNCUT,
            _ => MAX_WIRE,
        };
        if length > longest {
            return Err(Malformed::Long);
        }
        Ok(Self {
            length,
            layers,
            offload,
        })
    }

    /// What is left to the device.
    pub fn offload(&self) -> Offload {
        self.offload
    }
}

/// A piece of a frame, where it lies.
pub enum Piece<'a> {
    /// In EL2's memory.
    Bytes(&'a [u8]),
    /// In a guest's.
    Guest(&'a GuestMemory, Segment),
}

/// A frame's bytes in order. Those of a guest are read once if this is used once.
#[derive(Clone)]
pub struct Source<'a> {
    head: &'a [u8],
    rest: Option<Reader<'a>>,
}

impl<'a> From<&'a [u8]> for Source<'a> {
    fn from(head: &'a [u8]) -> Self {
        Self { head, rest: None }
    }
}

impl<'a> Source<'a> {
    /// The next contiguous piece, `limit` bytes at most; `None` at the end.
    #[inline]
    pub fn piece(&mut self, limit: usize) -> Option<Piece<'a>> {
        if !self.head.is_empty() {
            let (piece, left) = self.head.split_at(self.head.len().min(limit));
            self.head = left;
            return Some(Piece::Bytes(piece));
        }
        let rest = self.rest.as_mut()?;
        let segment = rest.piece(limit)?;
        Some(Piece::Guest(rest.memory(), segment))
    }

    /// Fills `to` with the next bytes, of which there are as many.
    #[inline]
    pub fn read(&mut self, to: &mut [u8]) {
        let (first, left) = self.head.split_at(self.head.len().min(to.len()));
        self.head = left;
        let (start, to) = to.split_at_mut(first.len());
        copy_slice(start, first);
        if to.is_empty() {
            return;
        }
        let done = match &mut self.rest {
            Some(rest) => rest.read(to).unwrap_or(0),
            None => 0,
        };
        debug_assert!(done == to.len(), "a chain is checked when it is taken");
        // Whatever happens, no bytes of another guest that were there before.
        to[done..].fill(0);
    }

    /// Passes over bytes that lie in the head.
    fn skip(&mut self, length: usize) {
        self.head = &self.head[length..];
    }
}
