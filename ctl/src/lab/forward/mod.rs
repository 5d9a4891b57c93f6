//! Lets programs of this machine reach guests.
//!
//! The forwarder is a station of the lab's network, with a port of the switch, a MAC address, IP addresses, and a TCP of its own (smoltcp). It
//! listens on a loopback port of this machine, and for each client that comes it opens a connection to the guest. So the guest is
//! found as anyone on that network finds it, by ARP and by what the switch has learned. When it lives on another board, the switch
//! learns that from the guest's next frame, and connections go on.
//!
//! [`wire`] is its network card, [`connection`] joins two streams.

mod connection;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{icmp, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, IpCidr, Ipv4Cidr,
};

use super::protocol::ForwardState;
use super::switch::pipe::Time;
use connection::{Connection, Left};
use wire::Card;

/// Forwards that a lab may have.
const MAX_FORWARDS: usize = 64;
/// Clients that may be connected at once.
const MAX_CONNECTIONS: usize = 512;
/// Networks that the forwarder may be in; smoltcp is built with so many addresses.
const MAX_NETWORKS: usize = 8;
/// What is under way in each direction of a connection, bytes.
const BUFFER: usize = 256 << 10;
/// The ports that clients' connections come from (RFC 6335, section 6).
const FIRST_PORT: u16 = 49152;
/// Which host of a network the forwarder is unless told, if that is not whom it is to reach.
const HOSTS: [u8; 2] = [254, 253];
/// How much faster smoltcp's clock runs than the lab's. It waits a second at the least before it sends again, and a minute at
/// the most; so that is 200 ms, as with Linux, and 12 s. Nobody else sees its clock.
const HASTE: u64 = 5;
/// An address is asked for again after this; smoltcp remembers an answer for 12 s.
const SEEK: Duration = Duration::from_secs(1);
/// Addresses of which it is remembered that they were asked for.
const MAX_SOUGHT: usize = 256;
/// Set in the token of a listener's events.
const LISTENER: u64 = 1 << 63;

/// The forwarder's address on the lab's network: a local one (IEEE 802, second bit of the first byte).
pub const MAC: [u8; 6] = [0x02, 0x68, 0x6c, 0xff, 0xff, 0x01];

/// A port that leads to a guest.
#[derive(Debug)]
struct Forward {
    listener: TcpListener,
    listen: SocketAddr,
    to: SocketAddrV4,
    from: Ipv4Addr,
    total: u64,
}

/// A question that waits for its echo.
#[derive(Debug)]
struct Question {
    handle: SocketHandle,
    sent: Time,
}

/// The forwarder.
pub struct Forwarder {
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    epoll: Epoll,
    forwards: HashMap<u64, Forward>,
    connections: HashMap<u64, Connection>,
    questions: HashMap<u64, Question>,
    next: u64,
    next_port: u16,
    /// When it was asked who has an address.
    sought: HashMap<Ipv4Addr, Time>,
}

fn instant(time: Time) -> Instant {
    // 58,000 years fit.
    Instant::from_micros((time.0 / 1000 * HASTE) as i64)
}

impl Forwarder {
    /// A forwarder with an address of its own, if one is wanted. The seed makes its sequence numbers repeatable.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(address: Option<Ipv4Cidr>, seed: u64, now: Time) -> io::Result<Self> {
        let mut card = Card::default();
        let mut config = Config::new(EthernetAddress(MAC).into());
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut card, instant(now));
        interface.update_ip_addrs(|own| own.extend(address.map(IpCidr::Ipv4)));
        Ok(Self {
            card,
            interface,
            sockets: SocketSet::new(Vec::new()),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            forwards: HashMap::new(),
            connections: HashMap::new(),
            questions: HashMap::new(),
            next: 1,
            next_port: FIRST_PORT,
            sought: HashMap::new(),
        })
    }

    /// Readable when [`Forwarder::turn`] has something to do for a client.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// A frame from the switch.
    pub fn receive(&mut self, frame: &[u8]) {
        self.card.push(frame);
    }

    /// Whether frames wait for [`Forwarder::turn`].
    pub fn has_received(&self) -> bool {
        self.card.has_received()
    }

    /// The next frame for the switch, to be given back to [`Forwarder::recycle`].
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.card.pop()
    }

    /// Takes a frame's buffer back.
    pub fn recycle(&mut self, frame: Vec<u8>) {
        self.card.recycle(frame);
    }

    /// Listens on a loopback port of this machine for clients of `to`; gives the port's address.
    ///
    /// # Errors
    /// What is wrong with the request, or what the system says.
    pub fn add(&mut self, listen: SocketAddr, to: SocketAddrV4) -> Result<SocketAddr, String> {
        if !listen.ip().is_loopback() {
            return Err(format!(
                "a lab listens on this machine alone: give 127.0.0.1:{}",
                listen.port()
            ));
        }
        if to.port() == 0 {
            return Err(format!("the guest's port is missing: {}:PORT", to.ip()));
        }
        if self.forwards.len() == MAX_FORWARDS {
            return Err(format!(
                "a lab has at most {MAX_FORWARDS} forwards: end one with `--end`"
            ));
        }
        let from = self.neighbour(*to.ip())?;
        let trouble = |error: io::Error| format!("cannot listen on {listen}: {error}");
        let listener = TcpListener::bind(listen).map_err(trouble)?;
        listener.set_nonblocking(true).map_err(trouble)?;
        let listen = listener.local_addr().map_err(trouble)?;
        let number = self.number();
        self.epoll
            .add(
                &listener,
                EpollEvent::new(EpollFlags::EPOLLIN, LISTENER | number),
            )
            .map_err(|error| trouble(error.into()))?;
        let forward = Forward {
            listener,
            listen,
            to,
            from,
            total: 0,
        };
        self.forwards.insert(number, forward);
        Ok(listen)
    }

    /// Ends a forward and its connections; whether there was one.
    pub fn remove(&mut self, listen: SocketAddr) -> bool {
        let found = self.forwards.iter().find(|(_, it)| it.listen == listen);
        let Some(number) = found.map(|(number, _)| *number) else {
            return false;
        };
        self.forwards.remove(&number);
        let gone: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.forward == number)
            .map(|(number, _)| *number)
            .collect();
        for number in gone {
            self.end(number, Left::Broken);
        }
        true
    }

    /// All forwards, in the order of their ports.
    pub fn list(&self) -> Vec<ForwardState> {
        let state = |(number, forward): (&u64, &Forward)| ForwardState {
            listen: forward.listen,
            to: forward.to,
            from: forward.from,
            connections: self
                .connections
                .values()
                .filter(|connection| connection.forward == *number)
                .count(),
            total: forward.total,
        };
        let mut list: Vec<_> = self.forwards.iter().map(state).collect();
        list.sort_by_key(|state| state.listen);
        list
    }

    /// Asks an address for an echo; gives the question's number for [`Forwarder::answer`].
    ///
    /// # Errors
    /// If the forwarder cannot be in the address' network, or smoltcp refuses.
    pub fn ask(&mut self, address: Ipv4Addr, now: Time) -> Result<u64, String> {
        let own = self.neighbour(address)?;
        self.seek(own, address, now);
        let number = self.number();
        // Any identifier does, if only few questions are open.
        let identifier = number as u16;
        let buffer =
            || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 1024]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        let checksums = smoltcp::phy::ChecksumCapabilities::default();
        let echo = smoltcp::wire::Icmpv4Repr::EchoRequest {
            ident: identifier,
            seq_no: 1,
            data: &[0x68; 56],
        };
        let refused = |error: &dyn std::fmt::Debug| format!("cannot ask {address}: {error:?}");
        socket
            .bind(icmp::Endpoint::Ident(identifier))
            .map_err(|error| refused(&error))?;
        let payload = socket
            .send(echo.buffer_len(), address.into())
            .map_err(|error| refused(&error))?;
        echo.emit(
            &mut smoltcp::wire::Icmpv4Packet::new_unchecked(payload),
            &checksums,
        );
        let handle = self.sockets.add(socket);
        self.questions
            .insert(number, Question { handle, sent: now });
        Ok(number)
    }

    /// How long the echo took, nanoseconds, if it has come. The question is done then.
    pub fn answer(&mut self, number: u64, now: Time) -> Option<u64> {
        let question = self.questions.get(&number)?;
        let socket = self.sockets.get_mut::<icmp::Socket<'_>>(question.handle);
        if socket.recv().is_err() {
            return None;
        }
        let took = now.0.saturating_sub(question.sent.0);
        self.forget(number);
        Some(took)
    }

    /// Gives a question up.
    pub fn forget(&mut self, number: u64) {
        if let Some(question) = self.questions.remove(&number) {
            self.sockets.remove(question.handle);
        }
    }

    /// When [`Forwarder::turn`] is due without an event.
    pub fn next_due(&mut self, now: Time) -> Option<Time> {
        let delay = self.interface.poll_delay(instant(now), &self.sockets);
        let smoltcp = delay.map(|delay| {
            Time(
                now.0
                    .saturating_add(delay.total_micros().saturating_mul(1000) / HASTE),
            )
        });
        let connecting = self
            .connections
            .values()
            .filter_map(Connection::deadline)
            .min();
        smoltcp.into_iter().chain(connecting).min()
    }

    /// Does what there is to do. Afterwards frames are to be taken.
    ///
    /// # Errors
    /// What the system says of the forwarder's own descriptors.
    pub fn turn(&mut self, now: Time) -> io::Result<()> {
        self.take_events(now)?;
        self.interface
            .poll(instant(now), &mut self.card, &mut self.sockets);
        let mut ended = Vec::new();
        for (number, connection) in &mut self.connections {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(connection.handle);
            match connection.turn(now, socket) {
                Left::Open => {}
                left => ended.push((*number, left)),
            }
        }
        // What was written above goes out, and so do the resets of what is ended below.
        self.interface
            .poll(instant(now), &mut self.card, &mut self.sockets);
        for (number, left) in ended {
            self.end(number, left);
        }
        Ok(())
    }

    fn take_events(&mut self, now: Time) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let count = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..count] {
            let token = event.data();
            if token & LISTENER != 0 {
                self.accept(token & !LISTENER, now);
            } else if let Some(connection) = self.connections.get_mut(&token) {
                let either = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
                connection.readable |= event
                    .events()
                    .intersects(either | EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP);
                connection.writable |= event.events().intersects(either | EpollFlags::EPOLLOUT);
            }
        }
        Ok(())
    }

    /// Takes the clients that wait, and lets go those that are too many.
    fn accept(&mut self, number: u64, now: Time) {
        while let Some(forward) = self.forwards.get_mut(&number) {
            let Ok((stream, _)) = forward.listener.accept() else {
                return;
            };
            if self.connections.len() == MAX_CONNECTIONS || stream.set_nonblocking(true).is_err() {
                continue;
            }
            // Only latency suffers without it.
            let _ = stream.set_nodelay(true);
            forward.total += 1;
            let (from, to) = (forward.from, forward.to);
            self.seek(from, *to.ip(), now);
            let Some(handle) = self.connect(from, to) else {
                continue;
            };
            let connection = Connection::new(stream, handle, number, now);
            let token = self.number();
            let interest = EpollFlags::EPOLLIN
                | EpollFlags::EPOLLOUT
                | EpollFlags::EPOLLRDHUP
                | EpollFlags::EPOLLET;
            if self
                .epoll
                .add(connection.stream(), EpollEvent::new(interest, token))
                .is_ok()
            {
                self.connections.insert(token, connection);
            } else {
                self.sockets.remove(handle);
            }
        }
    }

    /// Asks by ARP who has `address`, unless that was asked lately. smoltcp asks, too, but for one address a second in all.
    fn seek(&mut self, own: Ipv4Addr, address: Ipv4Addr, now: Time) {
        let lately = |asked: &Time| now.0 < asked.0.saturating_add(SEEK.as_nanos() as u64);
        if self.sought.get(&address).is_some_and(lately) {
            return;
        }
        if self.sought.len() == MAX_SOUGHT {
            self.sought.clear();
        }
        self.sought.insert(address, now);
        let own_mac = EthernetAddress(MAC);
        let question = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: own_mac,
            source_protocol_addr: own,
            target_hardware_addr: EthernetAddress::BROADCAST,
            target_protocol_addr: address,
        };
        let head = EthernetRepr {
            src_addr: own_mac,
            dst_addr: EthernetAddress::BROADCAST,
            ethertype: EthernetProtocol::Arp,
        };
        let mut frame = vec![0; head.buffer_len() + question.buffer_len()];
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
        head.emit(&mut ethernet);
        question.emit(&mut ArpPacket::new_unchecked(ethernet.payload_mut()));
        self.card.send(frame);
    }

    /// Begins a connection to a guest.
    fn connect(&mut self, from: Ipv4Addr, to: SocketAddrV4) -> Option<SocketHandle> {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(tcp::CongestionControl::Cubic);
        // Its 16,384 ports in turn: more than there are connections, so that the oldest is long gone.
        let port = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        let remote = (*to.ip(), to.port());
        socket
            .connect(self.interface.context(), remote, (from, port))
            .ok()?;
        Some(self.sockets.add(socket))
    }

    fn end(&mut self, number: u64, left: Left) {
        let Some(connection) = self.connections.remove(&number) else {
            return;
        };
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(connection.handle);
        if left == Left::Broken {
            socket.abort();
        }
        self.sockets.remove(connection.handle);
        if left == Left::Broken {
            connection.break_off();
        }
    }

    /// As whom the forwarder talks to `address`; it gets an address in that network if it has none.
    fn neighbour(&mut self, address: Ipv4Addr) -> Result<Ipv4Addr, String> {
        let own = self.interface.ip_addrs().iter();
        let mut near = own.filter_map(|cidr| match cidr {
            IpCidr::Ipv4(cidr) if cidr.contains_addr(&address) => Some(cidr.address()),
            _ => None,
        });
        if let Some(own) = near.next() {
            if own == address {
                return Err(format!(
                    "{address} is the lab's own address: give `lab up --address` another"
                ));
            }
            return Ok(own);
        }
        if address.is_unspecified()
            || address.is_loopback()
            || address.is_multicast()
            || address.is_broadcast()
        {
            return Err(format!("{address} is no guest's address"));
        }
        let [a, b, c, host] = address.octets();
        let host = HOSTS
            .into_iter()
            .find(|own| *own != host)
            .unwrap_or(HOSTS[0]);
        let own = Ipv4Addr::new(a, b, c, host);
        let mut added = false;
        self.interface.update_ip_addrs(|all| {
            added =
                all.len() < MAX_NETWORKS && all.push(IpCidr::Ipv4(Ipv4Cidr::new(own, 24))).is_ok();
        });
        if !added {
            return Err(format!(
                "the lab is a station of {MAX_NETWORKS} networks already"
            ));
        }
        Ok(own)
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }
}
