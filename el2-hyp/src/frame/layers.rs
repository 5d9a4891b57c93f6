//! What a frame's first bytes say: Ethernet, up to two VLAN tags, IPv4 or IPv6, TCP or UDP.
//!
//! Read from the one copy that was made of them, never again from a guest's memory. Whatever does not fit is not an error here but a value: the
//! switch decides what may pass that it does not understand.

/// Bytes of an Ethernet header without tags.
pub const ETHERNET: usize = 14;
/// Bytes of a VLAN tag (IEEE 802.1Q).
pub const TAG: usize = 4;
/// Tags that are looked through.
pub const MAX_TAGS: usize = 2;
/// IPv6 extension headers that are looked through.
const MAX_EXTENSIONS: usize = 4;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
const TYPE_TAGS: [u16; 2] = [0x8100, 0x88a8];

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
/// IPv6 extension headers (RFC 8200, section 4): hop-by-hop options, routing, fragment, destination options.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All stations.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it names a group of stations: multicast, or broadcast.
    #[inline]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether a bridge must keep it to one link: pause frames, spanning tree and the like (IEEE 802.1Q, table 8-1).
    #[inline]
    pub const fn is_link_local(self) -> bool {
        matches!(self.0, [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00..=0x0f])
    }

    /// The address as a number below 2^48; the first byte is the lowest.
    #[inline]
    pub const fn number(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
}

/// What carries the frame's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Neither of these.
    Other,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What the network carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Neither of these; or a fragment after the first, which has no header.
    Other,
    /// TCP, whose header has so many bytes.
    Tcp {
        /// With options: 20 to 60.
        header: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// The headers are damaged, or do not end within what was read of them. What this carries cannot be told.
    Hidden,
}

/// Where a frame's headers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// What kind of packet.
    pub network: Network,
    /// Its offset.
    pub network_at: u8,
    /// What it carries.
    pub transport: Transport,
    /// Its offset: where the headers of the network end, as far as they were found.
    pub transport_at: u8,
    /// Whether the packet is part of a larger one.
    pub fragment: bool,
    /// Whether a routing header means that the destination is another than the IPv6 header says.
    pub routed: bool,
}

/// Two bytes in network order.
#[inline]
fn u16_at(head: &[u8], at: usize) -> Option<u16> {
    let bytes = head.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*bytes))
}

impl Layers {
    /// Nothing is known beyond Ethernet.
    pub const UNKNOWN: Self = Self {
        network: Network::Other,
        network_at: ETHERNET as u8,
        transport: Transport::Other,
        transport_at: ETHERNET as u8,
        fragment: false,
        routed: false,
    };

    /// The offsets of the network's header and the transport's.
    #[inline]
    pub(super) fn places(&self) -> (usize, usize) {
        (self.network_at.into(), self.transport_at.into())
    }

    /// Reads the headers in a frame's first bytes, at most 255 of them.
    #[inline]
    pub fn read(head: &[u8]) -> Self {
        debug_assert!(head.len() <= usize::from(u8::MAX));
        let mut layers = Self::UNKNOWN;
        let mut at = ETHERNET;
        for tags in 0..=MAX_TAGS {
            let Some(kind) = u16_at(head, at - 2) else {
                layers.transport = Transport::Hidden;
                return layers;
            };
            layers.network_at = at as u8;
            layers.transport_at = at as u8;
            match kind {
                TYPE_IPV4 => {
                    layers.network = Network::V4;
                    layers.read_v4(head, at);
                }
                TYPE_IPV6 => {
                    layers.network = Network::V6;
                    layers.read_v6(head, at);
                }
                kind if TYPE_TAGS.contains(&kind) => {
                    if tags == MAX_TAGS {
                        layers.transport = Transport::Hidden;
                    }
                    at += TAG;
                    continue;
                }
                _ => (),
            }
            return layers;
        }
        layers
    }

    /// RFC 791, section 3.1.
    #[inline]
    fn read_v4(&mut self, head: &[u8], at: usize) {
        self.transport = Transport::Hidden;
        let Some(header) = head.get(at..).and_then(|rest| rest.first_chunk::<20>()) else {
            return;
        };
        let length = usize::from(header[0] & 0xf) * 4;
        if header[0] >> 4 != 4 || length < 20 {
            return;
        }
        let fragment = u16::from_be_bytes([header[6], header[7]]);
        self.fragment = fragment & 0x3fff != 0;
        self.transport_at = (at + length) as u8;
        if fragment & 0x1fff != 0 {
            self.transport = Transport::Other;
            return;
        }
        self.read_transport(head, at + length, header[9]);
    }

    /// RFC 8200, sections 3 and 4.
    fn read_v6(&mut self, head: &[u8], at: usize) {
        self.transport = Transport::Hidden;
        let Some(header) = head.get(at..).and_then(|rest| rest.first_chunk::<40>()) else {
            return;
        };
        if header[0] >> 4 != 6 {
            return;
        }
        let mut next = header[6];
        let mut at = at + 40;
        for _ in 0..=MAX_EXTENSIONS {
            if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
                return self.read_transport(head, at, next);
            }
            let Some(extension) = head.get(at..).and_then(|rest| rest.first_chunk::<8>()) else {
                return;
            };
            let length = match next {
                FRAGMENT => {
                    self.fragment = true;
                    if u16::from_be_bytes([extension[2], extension[3]]) & 0xfff8 != 0 {
                        self.transport_at = (at + 8) as u8;
                        self.transport = Transport::Other;
                        return;
                    }
                    8
                }
                _ => 8 + 8 * usize::from(extension[1]),
            };
            self.routed |= next == ROUTING;
            next = extension[0];
            at += length;
        }
    }

    #[inline]
    fn read_transport(&mut self, head: &[u8], at: usize, protocol: u8) {
        let header = head.get(at..).unwrap_or(&[]);
        self.transport_at = at.min(head.len()) as u8;
        self.transport = match protocol {
            PROTOCOL_TCP => match header.first_chunk::<20>() {
                Some(tcp) if tcp[12] >> 4 >= 5 && usize::from(tcp[12] >> 4) * 4 <= header.len() => {
                    Transport::Tcp {
                        header: (tcp[12] >> 4) * 4,
                    }
                }
                _ => Transport::Hidden,
            },
            PROTOCOL_UDP => match header.first_chunk::<8>() {
                Some(udp) => Transport::Udp {
                    source: u16::from_be_bytes([udp[0], udp[1]]),
                    destination: u16::from_be_bytes([udp[2], udp[3]]),
                },
                None => Transport::Hidden,
            },
            _ => Transport::Other,
        };
    }
}
