//! What a guest may leave to the device, and the header in which it says so (VIRTIO 1.2, sections 5.1.6.2 and 5.1.6.4).
//!
//! The header is hostile. It is believed only where the frame's own headers, as the switch has read them, say the same: otherwise a guest could let the
//! device write a "checksum" over an address or port after that was looked at. `hdr_len` is a hint, and never used.

use super::{HEAD, Layers, MAX_PARTS, MAX_WIRE, MTU, Network, Transport};

/// Flags: the checksum from `csum_start` is to be filled in; and, to the guest only, it was found right.
const NEEDS_CSUM: u8 = 1;
/// Kinds of segmentation.
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;

/// Where TCP has its checksum.
pub(super) const TCP_CHECKSUM: u16 = 16;
/// Where UDP has its checksum.
const UDP_CHECKSUM: u16 = 6;
/// Bytes of UDP's header.
const UDP_HEADER: u16 = 8;

/// `struct virtio_net_hdr`, with `num_buffers`, which version 1 devices always have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtioNetHeader {
    /// `VIRTIO_NET_HDR_F_…`
    pub flags: u8,
    /// `VIRTIO_NET_HDR_GSO_…`
    pub gso_type: u8,
    /// Bytes of all headers.
    pub hdr_len: u16,
    /// Bytes of payload in each segment.
    pub gso_size: u16,
    /// Where what is summed begins.
    pub csum_start: u16,
    /// Where the sum goes, from there.
    pub csum_offset: u16,
    /// Buffers that hold the frame, when the device writes it.
    pub num_buffers: u16,
}

impl VirtioNetHeader {
    /// Bytes.
    pub const BYTES: usize = 12;

    /// Reads it.
    #[inline]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
            num_buffers: word(10),
        }
    }

    /// Writes it.
    #[inline]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let [a, b] = self.hdr_len.to_le_bytes();
        let [c, d] = self.gso_size.to_le_bytes();
        let [e, f] = self.csum_start.to_le_bytes();
        let [g, h] = self.csum_offset.to_le_bytes();
        let [i, j] = self.num_buffers.to_le_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h, i, j]
    }
}

/// What one side takes from the other unfinished: a device from its guest, or a guest from its device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Checksums that are to be filled in.
    pub checksum: bool,
    /// TCP over IPv4 that is to be cut.
    pub tcp4: bool,
    /// TCP over IPv6 that is to be cut.
    pub tcp6: bool,
}

/// Why a frame is not one, or not what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than its headers.
    Short,
    /// Longer than what the network carries.
    Long,
    /// A checksum that was not offered, or goes where that frame has none.
    Checksum,
    /// A segmentation that was not offered, is not of that kind of packet, or of a size that cannot be.
    Segmentation,
}

/// What a frame leaves to whoever takes it from the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// Nothing.
    None,
    /// A checksum.
    Checksum {
        /// From here to the end.
        start: u16,
        /// It goes so far behind the start. That place holds the sum of what else is to be summed.
        offset: u16,
    },
    /// It is TCP that is to be cut.
    Segments {
        /// V4 or V6.
        network: Network,
        /// Payload of each segment but the last.
        size: u16,
        /// Bytes of all headers.
        headers: u8,
    },
}

impl Offload {
    /// Checks what a guest's header says against what its frame is.
    #[inline]
    pub(super) fn check(
        header: &VirtioNetHeader,
        taken: Taken,
        layers: &Layers,
        head: usize,
        length: usize,
    ) -> Result<Self, Malformed> {
        match (header.gso_type, header.flags & NEEDS_CSUM) {
            (GSO_NONE, 0) => Ok(Self::None),
            (GSO_NONE, _) if taken.checksum => Self::check_checksum(header, layers, head),
            (GSO_NONE, _) => Err(Malformed::Checksum),
            _ => Self::check_segments(header, taken, layers, length),
        }
    }

    /// The field must be that of the frame's TCP or UDP header, or lie behind all headers that the switch understands.
    fn check_checksum(
        header: &VirtioNetHeader,
        layers: &Layers,
        head: usize,
    ) -> Result<Self, Malformed> {
        let (start, offset) = (header.csum_start, header.csum_offset);
        let field = start.checked_add(offset).ok_or(Malformed::Checksum)?;
        if usize::from(field) + 2 > head.min(HEAD) {
            return Err(Malformed::Checksum);
        }
        let transport = u16::from(layers.transport_at);
        let fits = match layers.transport {
            Transport::Tcp { header } => {
                (start == transport && offset == TCP_CHECKSUM)
                    || field >= transport + u16::from(header)
            }
            Transport::Udp { .. } => {
                (start == transport && offset == UDP_CHECKSUM) || field >= transport + UDP_HEADER
            }
            Transport::Other => field >= transport,
            Transport::Hidden => false,
        };
        if fits {
            Ok(Self::Checksum { start, offset })
        } else {
            Err(Malformed::Checksum)
        }
    }

    fn check_segments(
        header: &VirtioNetHeader,
        taken: Taken,
        layers: &Layers,
        length: usize,
    ) -> Result<Self, Malformed> {
        let network = match header.gso_type {
            GSO_TCPV4 if taken.tcp4 => Network::V4,
            GSO_TCPV6 if taken.tcp6 => Network::V6,
            _ => return Err(Malformed::Segmentation),
        };
        let Transport::Tcp { header: tcp } = layers.transport else {
            return Err(Malformed::Segmentation);
        };
        let headers = layers.transport_at + tcp;
        let packet_headers = u16::from(headers - layers.network_at);
        let payload = length.saturating_sub(usize::from(headers));
        let fits = layers.network == network
            && !layers.fragment
            && !layers.routed
            && header.flags & NEEDS_CSUM != 0
            && header.csum_start == u16::from(layers.transport_at)
            && header.csum_offset == TCP_CHECKSUM
            && header.gso_size > 0
            && header.gso_size <= MTU - packet_headers
            && usize::from(headers) + usize::from(header.gso_size) <= MAX_WIRE
            && payload > 0
            && payload <= usize::from(header.gso_size) * MAX_PARTS;
        if !fits {
            return Err(Malformed::Segmentation);
        }
        Ok(Self::Segments {
            network,
            size: header.gso_size,
            headers,
        })
    }

    /// Whether a receiver that takes this can have the frame as it is.
    #[inline]
    pub fn is_taken(self, taken: Taken) -> bool {
        match self {
            Self::None => true,
            Self::Checksum { .. } => taken.checksum,
            Self::Segments { network, .. } => match network {
                Network::V4 => taken.checksum && taken.tcp4,
                _ => taken.checksum && taken.tcp6,
            },
        }
    }

    /// The header for a receiver that takes it.
    #[inline]
    pub fn header(self, layers: &Layers) -> VirtioNetHeader {
        match self {
            Self::None => VirtioNetHeader::default(),
            Self::Checksum { start, offset } => VirtioNetHeader {
                flags: NEEDS_CSUM,
                csum_start: start,
                csum_offset: offset,
                ..Default::default()
            },
            Self::Segments {
                network,
                size,
                headers,
            } => VirtioNetHeader {
                flags: NEEDS_CSUM,
                gso_type: match network {
                    Network::V4 => GSO_TCPV4,
                    _ => GSO_TCPV6,
                },
                hdr_len: u16::from(headers),
                gso_size: size,
                csum_start: u16::from(layers.transport_at),
                csum_offset: TCP_CHECKSUM,
                ..Default::default()
            },
        }
    }
}
