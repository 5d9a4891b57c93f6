//! Finished frames out of what a guest left unfinished: checksums filled in, large TCP packets cut to size.
//!
//! A frame is written in place, into the buffer that it leaves in: first copied there, once, and then summed where it lies, so that what is
//! summed is what is sent.

use super::checksum::Sum;
use super::offload::TCP_CHECKSUM;
use super::{Frame, Network, Offload, Source};
use crate::memory::copy::copy_slice;

/// TCP flags: no more data follows; push; the congestion window was reduced.
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;
/// TCP's number in an IP header.
const TCP: u16 = 6;

/// Writes a frame's finished parts, one after another.
pub struct Finished<'f, 'a> {
    frame: &'f Frame<'a>,
    /// What is not written yet of what is written once.
    source: Source<'f>,
    part: usize,
    parts: usize,
    sums: Sums,
}

/// Sums of what all parts have in common.
#[derive(Default)]
struct Sums {
    /// Of the IPv4 header but for its length, identification and checksum.
    network: Sum,
    /// Of the pseudo header but for the length.
    pseudo: Sum,
}

impl Sums {
    fn new(head: &[u8], network: Network, network_at: usize, transport_at: usize) -> Self {
        let mut sums = Self::default();
        let packet = &head[network_at..transport_at];
        if network == Network::V4 {
            sums.network.add(&packet[..2]);
            sums.network.add(&packet[6..10]);
            sums.network.add(&packet[12..]);
            sums.pseudo.add(&packet[12..20]);
        } else {
            sums.pseudo.add(&packet[8..40]);
        }
        sums.pseudo.add_u16(TCP);
        sums
    }
}

impl<'f, 'a> Finished<'f, 'a> {
    #[inline]
    pub(super) fn new(frame: &'f Frame<'a>) -> Self {
        let mut finished = Self {
            frame,
            source: frame.bytes(),
            part: 0,
            parts: frame.parts(),
            sums: Sums::default(),
        };
        if let Offload::Segments {
            network, headers, ..
        } = frame.offload
        {
            finished.source.skip(usize::from(headers));
            let (network_at, transport_at) = frame.layers.places();
            finished.sums = Sums::new(frame.head, network, network_at, transport_at);
        }
        finished
    }

    /// How many are still to be written.
    pub fn left(&self) -> usize {
        self.parts - self.part
    }

    /// Writes the next one to the start of `to`, and says how long it is; `None` when all are written.
    ///
    /// # Panics
    /// If `to` is shorter than [`MAX_WIRE`](super::MAX_WIRE), and the frame longer than `to`.
    #[inline]
    pub fn write_next(&mut self, to: &mut [u8]) -> Option<usize> {
        if self.part == self.parts {
            return None;
        }
        let length = match self.frame.offload {
            Offload::Segments {
                network,
                size,
                headers,
            } => self.write_segment(to, network, usize::from(size), usize::from(headers)),
            _ => self.frame.write_whole(to),
        };
        self.part += 1;
        Some(length)
    }

    fn write_segment(
        &mut self,
        to: &mut [u8],
        network: Network,
        size: usize,
        headers: usize,
    ) -> usize {
        let before = self.part * size;
        let payload = size.min(self.frame.length - headers - before);
        let to = &mut to[..headers + payload];
        let (head, data) = to.split_at_mut(headers);
        copy_slice(head, &self.frame.head[..headers]);
        self.source.read(data);

        let (network_at, tcp_at) = self.frame.layers.places();
        let length = (to.len() - network_at) as u16;
        match network {
            Network::V4 => self.change_v4(&mut to[network_at..], length),
            _ => put(to, network_at + 4, (length - 40).to_be_bytes()),
        }
        self.change_tcp(&mut to[tcp_at..], before as u32);

        let mut sum = self.sums.pseudo;
        sum.add_u16((to.len() - tcp_at) as u16);
        sum.add(&to[tcp_at..]);
        put(to, tcp_at + usize::from(TCP_CHECKSUM), sum.complement());
        to.len()
    }

    /// Length, identification and checksum of a part's IPv4 header.
    fn change_v4(&self, packet: &mut [u8], length: u16) {
        let first = u16::from_be_bytes([packet[4], packet[5]]);
        let id = first.wrapping_add(self.part as u16);
        let mut sum = self.sums.network;
        sum.add_u16(length);
        sum.add_u16(id);
        put(packet, 2, length.to_be_bytes());
        put(packet, 4, id.to_be_bytes());
        put(packet, 10, sum.complement());
    }

    /// Sequence number and flags of a part's TCP header. Its checksum is zero then.
    fn change_tcp(&self, tcp: &mut [u8], before: u32) {
        let first = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        tcp[4..8].copy_from_slice(&first.wrapping_add(before).to_be_bytes());
        if self.part > 0 {
            tcp[13] &= !CWR;
        }
        if self.part + 1 < self.parts {
            tcp[13] &= !(FIN | PSH);
        }
        put(tcp, usize::from(TCP_CHECKSUM), [0; 2]);
    }
}

impl Frame<'_> {
    /// Writes a frame that is not to be cut to the start of `to`, with its checksum filled in if need be, and says how long it is.
    ///
    /// # Panics
    /// If `to` is shorter than the frame.
    #[inline]
    pub fn write_whole(&self, to: &mut [u8]) -> usize {
        let to = &mut to[..self.length];
        self.bytes().read(to);
        if let Offload::Checksum { start, offset } = self.offload {
            let mut sum = Sum::new();
            sum.add(&to[usize::from(start)..]);
            put(to, usize::from(start + offset), sum.complement());
        }
        self.length
    }
}

#[inline]
fn put(to: &mut [u8], at: usize, bytes: [u8; 2]) {
    [to[at], to[at + 1]] = bytes;
}
