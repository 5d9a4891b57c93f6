//! The cluster's datagrams in Ethernet frames, both ways.
//!
//! They do not go through the board's IP station: whom to answer is known with the Ethernet address from which he was heard, so a frame waits for no address resolution, and
//! one to a board that has died keeps none back that go to others.

use cluster_proto::agent::book::{Destination, Endpoint};
use smoltcp::phy::{Checksum, ChecksumCapabilities};
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Address,
    Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

/// The port on which boards and witnesses listen.
pub const PORT: u16 = 7_266;
/// The port on which boards send one another guests.
pub const BULK_PORT: u16 = PORT + 1;
/// The group to which they speak (RFC 2365: administratively scoped).
pub const GROUP: Ipv4Address = Ipv4Address::new(239, 72, 69, 65);
/// The group's Ethernet address (RFC 1112, section 6.4).
pub const GROUP_STATION: [u8; 6] = [0x01, 0x00, 0x5e, 72, 69, 65];
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes of headers before a datagram's.
const HEADERS: usize = ETHERNET + 20 + 8;
/// Hops that a datagram to one board may take; one to the group stays on its network.
const HOPS: u8 = 64;

/// The board's own side.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// Its Ethernet address.
    pub station: [u8; 6],
    /// Its IPv4 address.
    pub address: [u8; 4],
}

/// To which UDP port a frame looks to be; [`read`] looks closely.
pub fn port_of(frame: &[u8]) -> Option<u16> {
    let (ethernet, packet) = frame.split_at_checked(ETHERNET)?;
    // RFC 791, section 3.1: version and header length; protocol. RFC 768: the destination is the second word.
    let [first, ..] = packet else { return None };
    let words = usize::from(first & 15);
    let port = packet.get(words * 4 + 2..words * 4 + 4)?;
    let is_udp = ethernet.ends_with(&[0x08, 0x00]) && first >> 4 == 4 && packet.get(9) == Some(&17);
    is_udp.then(|| u16::from_be_bytes([port[0], port[1]]))
}

/// The sums of a datagram to that port. A bulk stream's frames have tags of their own, and are many.
fn sums(port: u16) -> ChecksumCapabilities {
    let mut sums = ChecksumCapabilities::default();
    if port == BULK_PORT {
        sums.udp = Checksum::None;
    }
    sums
}

/// Reads a frame as a datagram for this board's `port`: from where it came, and its bytes.
pub fn read(frame: &[u8], own: Own, port: u16) -> Option<(Endpoint, &[u8])> {
    let sums = sums(port);
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let station = ethernet.src_addr().0;
    let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    if packet.more_frags() || packet.frag_offset() != 0 {
        return None;
    }
    let ip = Ipv4Repr::parse(&packet, &sums).ok()?;
    let meant = ip.dst_addr == GROUP || ip.dst_addr.octets() == own.address;
    if !meant
        || ip.next_header != IpProtocol::Udp
        || ip.src_addr.is_multicast()
        || ip.src_addr.is_unspecified()
    {
        return None;
    }
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    let udp = UdpRepr::parse(&datagram, &ip.src_addr.into(), &ip.dst_addr.into(), &sums).ok()?;
    if udp.dst_port != port {
        return None;
    }
    let from = Endpoint {
        address: ip.src_addr.octets(),
        port: udp.src_port,
        station,
    };
    let start = HEADERS + usize::from(packet.header_len()) - 20;
    let length = datagram.payload().len();
    Some((from, frame.get(start..start.checked_add(length)?)?))
}

/// Writes a datagram's frame from this board's `port` to `to`, and gives its length.
///
/// # Panics
/// If there is no room for it.
pub fn write(to: Destination, port: u16, own: Own, bytes: &[u8], frame: &mut [u8]) -> usize {
    let sums = sums(port);
    let (address, its_port, station, hop_limit) = match to {
        Destination::Everyone => (GROUP, PORT, GROUP_STATION, 1),
        Destination::One(one) => (one.address.into(), one.port, one.station, HOPS),
    };
    let source = Ipv4Address::from(own.address);
    let udp = UdpRepr {
        src_port: port,
        dst_port: its_port,
    };
    let ip = Ipv4Repr {
        src_addr: source,
        dst_addr: address,
        next_header: IpProtocol::Udp,
        payload_len: 8 + bytes.len(),
        hop_limit,
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(own.station),
        dst_addr: EthernetAddress(station),
        ethertype: EthernetProtocol::Ipv4,
    };
    let length = HEADERS + bytes.len();
    let frame = &mut frame[..length];
    ethernet.emit(&mut EthernetFrame::new_unchecked(&mut *frame));
    ip.emit(
        &mut Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]),
        &sums,
    );
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut frame[ETHERNET + 20..]),
        &source.into(),
        &address.into(),
        bytes.len(),
        |room| room.copy_from_slice(bytes),
        &sums,
    );
    length
}
