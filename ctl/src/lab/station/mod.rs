//! A UDP station of the lab's network: how tools of this machine, and a witness, exchange datagrams with boards.
//!
//! A [`Station`] has a MAC address, IP addresses, and ARP (RFC 826). It sends datagrams, multicast ones too, and shows those that came for it; who they
//! are for is told by its [`Desk`]: tools take ports there. Like the switch it is pure logic: it is told the time, takes frames and leaves frames.
//!
//! smoltcp's own UDP would let a datagram to a board that is dead hold up all behind it; here only what is for the same board waits.

mod desk;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

use super::switch::pipe::Time;
pub use desk::Desk;

/// The longest datagram: 1,500 bytes of IP without its and UDP's headers.
pub const MAX_DATAGRAM: usize = 1500 - 20 - 8;
/// Datagrams that wait until it is known who has their address.
const MAX_PENDING: usize = 64;
/// They wait so long, nanoseconds.
const PENDING_AGE: u64 = 1_000_000_000;
/// Between two questions for one address, nanoseconds.
const ASK_GAP: u64 = 100_000_000;
/// An answer is asked for again after this, nanoseconds; meanwhile it is used. Nothing guards an answer against a flipped bit, so a wrong one must not last.
const NEIGHBOUR_AGE: u64 = 1_000_000_000;
/// Neighbours that are remembered; those beyond take the place of all.
const MAX_NEIGHBOURS: usize = 256;
/// Networks that a station may be in.
const MAX_NETWORKS: usize = 8;
/// Frames that wait to be taken.
const MAX_FRAMES: usize = 1024;
/// Routers of a datagram's way: none.
const HOPS: u8 = 1;
/// Which host of a network a station is unless told, if that is not whom it is to reach. The forwarder takes those above.
const HOSTS: [u8; 2] = [252, 251];

/// A datagram that came, or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub from: SocketAddrV4,
    /// For whom it is; a group, perhaps.
    pub to: SocketAddrV4,
    /// What it holds.
    pub payload: &'a [u8],
}

/// Whoever has an address.
#[derive(Clone, Copy, Debug)]
struct Neighbour {
    mac: EthernetAddress,
    heard: Time,
}

/// A packet that waits for its receiver's MAC address.
#[derive(Debug)]
struct Pending {
    to: Ipv4Addr,
    since: Time,
    /// The frame, all but its receiver.
    frame: Vec<u8>,
}

/// A station.
#[derive(Debug)]
pub struct Station {
    mac: EthernetAddress,
    own: Vec<Ipv4Addr>,
    /// It is not in other networks than that of its first address.
    fixed: bool,
    neighbours: HashMap<Ipv4Addr, Neighbour>,
    asked: HashMap<Ipv4Addr, Time>,
    pending: VecDeque<Pending>,
    frames: VecDeque<Vec<u8>>,
    /// Datagrams and frames that found no room.
    pub dropped: u64,
}

impl Station {
    /// A station with this address, or with one in each network that it is to reach.
    pub fn new(mac: [u8; 6], address: Option<Ipv4Addr>) -> Self {
        Self {
            mac: EthernetAddress(mac),
            own: address.into_iter().collect(),
            fixed: address.is_some(),
            neighbours: HashMap::new(),
            asked: HashMap::new(),
            pending: VecDeque::new(),
            frames: VecDeque::new(),
            dropped: 0,
        }
    }

    /// The next frame that it sends.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.frames.pop_front()
    }

    /// As whom it talks to `to`; it gets an address in that network if it may.
    ///
    /// # Errors
    /// If it cannot be there.
    pub fn address_for(&mut self, to: Ipv4Addr) -> Result<Ipv4Addr, String> {
        if let (true, Some(own)) = (self.fixed || to.is_multicast(), self.own.first()) {
            return Ok(*own);
        }
        let [a, b, c, host] = to.octets();
        let near = |own: &&Ipv4Addr| own.octets()[..3] == [a, b, c];
        if let Some(own) = self.own.iter().find(near) {
            return match *own == to {
                true => Err(format!("{to} is the lab's own address")),
                false => Ok(*own),
            };
        }
        if to.is_multicast() || to.is_unspecified() || to.is_loopback() || to.is_broadcast() {
            return Err(format!("{to} is no station's address"));
        }
        if self.own.len() == MAX_NETWORKS {
            return Err(format!(
                "the lab is a station of {MAX_NETWORKS} networks already"
            ));
        }
        let host = HOSTS.into_iter().find(|own| *own != host);
        let own = Ipv4Addr::new(a, b, c, host.unwrap_or(HOSTS[0]));
        self.own.push(own);
        Ok(own)
    }

    /// Sends a datagram from this port. One whose receiver is not known yet waits, for a second at the most.
    ///
    /// # Errors
    /// If it can never be sent.
    pub fn send(
        &mut self,
        now: Time,
        port: u16,
        to: SocketAddrV4,
        payload: &[u8],
    ) -> Result<(), String> {
        if payload.len() > MAX_DATAGRAM {
            return Err(format!(
                "a datagram holds up to {MAX_DATAGRAM} bytes, not {}",
                payload.len()
            ));
        }
        let from = SocketAddrV4::new(self.address_for(*to.ip())?, port);
        let datagram = Datagram { from, to, payload };
        let frame = self.frame(&datagram);
        if to.ip().is_multicast() {
            self.finish(frame, group_mac(*to.ip()));
            return Ok(());
        }
        let known = self.neighbours.get(to.ip()).copied();
        let fresh = |it: Neighbour| now.0 < it.heard.0.saturating_add(NEIGHBOUR_AGE);
        if !known.is_some_and(fresh) {
            self.ask(now, *from.ip(), *to.ip());
        }
        match known {
            Some(neighbour) => self.finish(frame, neighbour.mac),
            None => self.wait(now, *to.ip(), frame),
        }
        Ok(())
    }

    /// Lets a frame wait for its receiver's address.
    fn wait(&mut self, now: Time, to: Ipv4Addr, frame: Vec<u8>) {
        let young = |it: &Pending| now.0 < it.since.0.saturating_add(PENDING_AGE);
        self.pending.retain(young);
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
            self.dropped += 1;
        }
        self.pending.push_back(Pending {
            to,
            since: now,
            frame,
        });
    }

    /// Asks by ARP who has an address, unless that was asked just now.
    fn ask(&mut self, now: Time, own: Ipv4Addr, to: Ipv4Addr) {
        let lately = |asked: &Time| now.0 < asked.0.saturating_add(ASK_GAP);
        if self.asked.get(&to).is_some_and(lately) {
            return;
        }
        if self.asked.len() == MAX_NEIGHBOURS {
            self.asked.clear();
        }
        self.asked.insert(to, now);
        self.say_arp(
            ArpOperation::Request,
            own,
            EthernetAddress::BROADCAST,
            to,
            EthernetAddress::BROADCAST,
        );
    }

    fn say_arp(
        &mut self,
        operation: ArpOperation,
        own: Ipv4Addr,
        target: EthernetAddress,
        target_address: Ipv4Addr,
        to: EthernetAddress,
    ) {
        let packet = ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: self.mac,
            source_protocol_addr: own,
            target_hardware_addr: target,
            target_protocol_addr: target_address,
        };
        let mut frame = self.headed(EthernetProtocol::Arp, packet.buffer_len());
        packet.emit(&mut ArpPacket::new_unchecked(
            EthernetFrame::new_unchecked(&mut frame).payload_mut(),
        ));
        self.finish(frame, to);
    }

    /// A frame with room for its payload, all but its receiver written.
    fn headed(&self, ethertype: EthernetProtocol, payload: usize) -> Vec<u8> {
        let head = EthernetRepr {
            src_addr: self.mac,
            dst_addr: EthernetAddress::BROADCAST,
            ethertype,
        };
        let mut frame = vec![0; head.buffer_len() + payload];
        head.emit(&mut EthernetFrame::new_unchecked(&mut frame));
        frame
    }

    /// A datagram's frame.
    fn frame(&self, datagram: &Datagram<'_>) -> Vec<u8> {
        let checksums = ChecksumCapabilities::default();
        let udp = UdpRepr {
            src_port: datagram.from.port(),
            dst_port: datagram.to.port(),
        };
        let ip = Ipv4Repr {
            src_addr: *datagram.from.ip(),
            dst_addr: *datagram.to.ip(),
            next_header: IpProtocol::Udp,
            payload_len: udp.header_len() + datagram.payload.len(),
            hop_limit: HOPS,
        };
        let mut frame = self.headed(EthernetProtocol::Ipv4, ip.buffer_len() + ip.payload_len);
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
        let mut packet = Ipv4Packet::new_unchecked(ethernet.payload_mut());
        ip.emit(&mut packet, &checksums);
        udp.emit(
            &mut UdpPacket::new_unchecked(packet.payload_mut()),
            &IpAddress::Ipv4(ip.src_addr),
            &IpAddress::Ipv4(ip.dst_addr),
            datagram.payload.len(),
            |room| room.copy_from_slice(datagram.payload),
            &checksums,
        );
        frame
    }

    fn finish(&mut self, mut frame: Vec<u8>, to: EthernetAddress) {
        if self.frames.len() == MAX_FRAMES {
            self.dropped += 1;
            return;
        }
        EthernetFrame::new_unchecked(&mut frame).set_dst_addr(to);
        self.frames.push_back(frame);
    }

    /// Whether nobody but this station is meant by a frame.
    pub fn is_meant(&self, frame: &[u8]) -> bool {
        frame.starts_with(self.mac.as_bytes())
    }

    /// Takes a frame: gives the datagram that came, if one did.
    pub fn receive<'f>(&mut self, now: Time, frame: &'f [u8]) -> Option<Datagram<'f>> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let to = ethernet.dst_addr();
        if to != self.mac && !to.is_broadcast() && !to.is_multicast() {
            return None;
        }
        match ethernet.ethertype() {
            EthernetProtocol::Arp => {
                self.receive_arp(now, ethernet.payload());
                None
            }
            EthernetProtocol::Ipv4 => {
                let datagram = read(ethernet.payload())?;
                let own = self.own.contains(datagram.to.ip());
                let known = self.neighbours.contains_key(datagram.from.ip());
                // Its sums do not cover who sent it: enough for somebody new, and not to forget what is known.
                if own && !known && ethernet.src_addr().is_unicast() {
                    self.learn(now, *datagram.from.ip(), ethernet.src_addr());
                }
                (own || datagram.to.ip().is_multicast()).then_some(datagram)
            }
            _ => None,
        }
    }

    fn receive_arp(&mut self, now: Time, packet: &[u8]) -> Option<()> {
        let packet = ArpPacket::new_checked(packet).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: mac,
            source_protocol_addr: address,
            target_protocol_addr: target,
            ..
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        let asked = self.own.contains(&target);
        let wanted = self.neighbours.contains_key(&address)
            || self.pending.iter().any(|it| it.to == address);
        if (asked || wanted) && !address.is_unspecified() && mac.is_unicast() {
            self.learn(now, address, mac);
        }
        if asked && operation == ArpOperation::Request {
            self.say_arp(ArpOperation::Reply, target, mac, address, mac);
        }
        Some(())
    }

    /// Remembers who has an address, and sends what waited for that.
    fn learn(&mut self, now: Time, address: Ipv4Addr, mac: EthernetAddress) {
        if self.neighbours.len() == MAX_NEIGHBOURS && !self.neighbours.contains_key(&address) {
            self.neighbours.clear();
        }
        self.neighbours
            .insert(address, Neighbour { mac, heard: now });
        for _ in 0..self.pending.len() {
            let Some(waiting) = self.pending.pop_front() else {
                return;
            };
            let young = now.0 < waiting.since.0.saturating_add(PENDING_AGE);
            match waiting.to == address {
                true if young => self.finish(waiting.frame, mac),
                true => self.dropped += 1,
                false => self.pending.push_back(waiting),
            }
        }
    }
}

/// The datagram in a packet; none in what is broken, a fragment, or something else.
fn read(packet: &[u8]) -> Option<Datagram<'_>> {
    let checksums = ChecksumCapabilities::default();
    let packet = Ipv4Packet::new_checked(packet).ok()?;
    let ip = Ipv4Repr::parse(&packet, &checksums).ok()?;
    if ip.next_header != IpProtocol::Udp || packet.more_frags() || packet.frag_offset() != 0 {
        return None;
    }
    let udp = UdpPacket::new_checked(packet.payload()).ok()?;
    let (from, to) = (IpAddress::Ipv4(ip.src_addr), IpAddress::Ipv4(ip.dst_addr));
    let ports = UdpRepr::parse(&udp, &from, &to, &checksums).ok()?;
    Some(Datagram {
        from: SocketAddrV4::new(ip.src_addr, ports.src_port),
        to: SocketAddrV4::new(ip.dst_addr, ports.dst_port),
        payload: udp.payload(),
    })
}

/// The MAC address of a multicast group (RFC 1112, section 6.4).
fn group_mac(group: Ipv4Addr) -> EthernetAddress {
    let [_, b, c, d] = group.octets();
    EthernetAddress([0x01, 0x00, 0x5e, b & 0x7f, c, d])
}
