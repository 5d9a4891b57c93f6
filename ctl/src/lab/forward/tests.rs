use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use smoltcp::socket::tcp::{Socket, State};

use super::super::switch::random::Seed;
use super::super::switch::{Place, PortId, Switch, Wire};
use super::*;

const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];
const PORT: u16 = 6379;
/// What a step of the test's clock is, nanoseconds.
const STEP: u64 = 1_000_000;
/// No test takes so many.
const STEPS: usize = 400_000;

/// Frames that came out of the switch.
#[derive(Default)]
struct Out(Vec<(PortId, Vec<u8>)>);

impl Wire for Out {
    fn deliver(&mut self, port: PortId, frame: &[u8]) {
        self.0.push((port, frame.to_vec()));
    }

    fn look(&mut self, _: Time, _: Place, _: PortId, _: &[u8]) {}
}

/// A guest that listens, on one of two boards, and the forwarder; all in one thread and on the test's clock.
struct World {
    switch: Switch,
    lab: PortId,
    boards: [PortId; 2],
    /// On which board the guest is.
    home: usize,
    forwarder: Forwarder,
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    guest: SocketHandle,
    now: Time,
}

impl World {
    fn new() -> Self {
        let mut switch = Switch::new(Seed(1));
        let [lab, a, b] = ["lab", "a", "b"].map(|name| switch.add(name));
        let mut card = Card::default();
        let config = Config::new(EthernetAddress(GUEST_MAC).into());
        let mut interface = Interface::new(config, &mut card, Instant::ZERO);
        interface.update_ip_addrs(|own| own.push(IpCidr::new(GUEST.into(), 24)).unwrap());
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = || tcp::SocketBuffer::new(vec![0; 4096]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.listen(PORT).unwrap();
        let guest = sockets.add(socket);
        Self {
            switch,
            lab,
            boards: [a, b],
            home: 0,
            forwarder: Forwarder::new(None, 1, Time(0)).unwrap(),
            card,
            interface,
            sockets,
            guest,
            now: Time(0),
        }
    }

    fn client(&mut self) -> TcpStream {
        let to = SocketAddrV4::new(GUEST, PORT);
        let listen = self
            .forwarder
            .add("127.0.0.1:0".parse().unwrap(), to)
            .unwrap();
        let client = TcpStream::connect(listen).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    fn guest(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.guest)
    }

    /// One millisecond of the lab.
    fn step(&mut self) {
        self.now.0 += STEP;
        self.forwarder.turn(self.now).unwrap();
        self.interface
            .poll(instant(self.now), &mut self.card, &mut self.sockets);
        let mut out = Out::default();
        self.switch.poll(self.now, &mut out);
        while let Some(frame) = self.forwarder.take() {
            self.switch.input(self.now, self.lab, &frame, &mut out);
        }
        let home = self.boards[self.home];
        while let Some(frame) = self.card.pop() {
            self.switch.input(self.now, home, &frame, &mut out);
        }
        for (port, frame) in out.0 {
            if port == self.lab {
                self.forwarder.receive(&frame);
            } else if port == home {
                self.card.push(&frame);
            }
        }
    }

    /// Steps until it is done. The sockets of this machine need no time of the test's clock, only turns.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..STEPS {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("no {what} after {STEPS} steps");
    }

    /// The client says this, and the guest hears it.
    fn says(&mut self, client: &mut TcpStream, text: &[u8]) {
        client.write_all(text).unwrap();
        let mut heard = Vec::new();
        self.until("word from the client", |world| {
            let mut chunk = [0; 1024];
            if let Ok(length) = world.guest().recv_slice(&mut chunk) {
                heard.extend_from_slice(&chunk[..length]);
            }
            heard.len() >= text.len()
        });
        assert_eq!(heard, text);
    }

    /// The guest says this, and the client hears it.
    fn answers(&mut self, client: &mut TcpStream, text: &[u8]) {
        let mut heard = Vec::new();
        let mut said = 0;
        self.until("word from the guest", |world| {
            said += world.guest().send_slice(&text[said..]).unwrap();
            let mut chunk = [0; 65536];
            if let Ok(length) = client.read(&mut chunk) {
                heard.extend_from_slice(&chunk[..length]);
            }
            heard.len() >= text.len()
        });
        assert_eq!(heard, text);
    }
}

#[test]
fn a_client_talks_with_a_guest() {
    let mut world = World::new();
    let mut client = world.client();
    world.says(&mut client, b"PING\r\n");
    let long: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    world.answers(&mut client, &long);
    let state = &world.forwarder.list()[0];
    assert_eq!((state.connections, state.total), (1, 1));
    assert_eq!(state.from, Ipv4Addr::new(10, 0, 0, 254));
}

#[test]
fn a_connection_goes_on_when_the_guest_moves() {
    let mut world = World::new();
    let mut client = world.client();
    world.says(&mut client, b"before");
    world.home = 1;
    // The guest is silent on its new board: what the client says reaches nobody until it announces itself.
    client.write_all(b"lost at first").unwrap();
    for _ in 0..100 {
        world.step();
    }
    assert_eq!(world.guest().recv_queue(), 0);
    world.answers(&mut client, b"here I am");
    assert_eq!(
        (
            world.switch.stations.moves,
            world.switch.stations.behind(world.boards[1]).len()
        ),
        (1, 1)
    );
    let mut heard = [0; 13];
    world.until("what was lost", |world| world.guest().recv_queue() == 13);
    assert_eq!(world.guest().recv_slice(&mut heard), Ok(13));
    assert_eq!(&heard, b"lost at first");
    world.says(&mut client, b"after");
}

#[test]
fn ends_are_passed_on_both_ways() {
    let mut world = World::new();
    let mut client = world.client();
    world.says(&mut client, b"all I have");
    client.shutdown(Shutdown::Write).unwrap();
    world.until("end at the guest", |world| {
        world.guest().state() == State::CloseWait
    });
    world.answers(&mut client, b"the rest");
    world.guest().close();
    world.until("end at the client", |_| {
        matches!(client.read(&mut [0]), Ok(0))
    });
    world.until("end of the connection", |world| {
        world.forwarder.list()[0].connections == 0
    });
}

#[test]
fn a_reset_is_passed_on_both_ways() {
    let mut world = World::new();
    let mut client = world.client();
    world.says(&mut client, b"hello");
    world.guest().abort();
    world.until("reset at the client", |_| {
        client
            .read(&mut [0])
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    });
    assert_eq!(world.forwarder.list()[0].connections, 0);

    let mut world = World::new();
    let mut client = world.client();
    world.says(&mut client, b"hello");
    // A client that closes with data unread resets.
    world.guest().send_slice(b"unread").unwrap();
    world.until("data at the client", |_| client.peek(&mut [0]).is_ok());
    drop(client);
    world.until("reset at the guest", |world| {
        world.guest().state() == State::Closed
    });
}

#[test]
fn nobody_home_ends_with_a_reset() {
    let mut world = World::new();
    world.guest().abort();
    let mut client = world.client();
    world.until("refusal", |_| {
        client
            .read(&mut [0])
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    });
    assert!(world.now.0 < STEP * 1000, "a refusal is immediate");
    // Nobody answers at all.
    let to = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 77), PORT);
    let listen = world
        .forwarder
        .add("127.0.0.1:0".parse().unwrap(), to)
        .unwrap();
    let mut client = TcpStream::connect(listen).unwrap();
    client.set_nonblocking(true).unwrap();
    let start = world.now;
    world.until("giving up", |_| {
        client
            .read(&mut [0])
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    });
    let took = Duration::from_nanos(world.now.0 - start.0);
    assert!(
        (connection::CONNECT..connection::CONNECT * 2).contains(&took),
        "{took:?}"
    );
}

#[test]
fn a_forward_that_ends_takes_its_connections_along() {
    let mut world = World::new();
    let mut client = world.client();
    world.says(&mut client, b"hello");
    let listen = world.forwarder.list()[0].listen;
    assert!(world.forwarder.remove(listen));
    assert!(!world.forwarder.remove(listen));
    world.until("end at the client", |_| {
        client
            .read(&mut [0])
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    });
    assert!(TcpStream::connect(listen).is_err());
}

#[test]
fn wrong_requests_are_refused() {
    let mut world = World::new();
    let guest = SocketAddrV4::new(GUEST, PORT);
    let mut refused = |listen: &str, to: SocketAddrV4| {
        world
            .forwarder
            .add(listen.parse().unwrap(), to)
            .unwrap_err()
    };
    assert!(refused("0.0.0.0:0", guest).contains("this machine alone"));
    assert!(refused("127.0.0.1:0", SocketAddrV4::new(GUEST, 0)).contains("port is missing"));
    assert!(
        refused("127.0.0.1:0", SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1)).contains("no guest's")
    );
    for network in 1..=8 {
        let to = SocketAddrV4::new(Ipv4Addr::new(10, 0, network, 254), PORT);
        world
            .forwarder
            .add("127.0.0.1:0".parse().unwrap(), to)
            .unwrap();
    }
    let error = world
        .forwarder
        .add("127.0.0.1:0".parse().unwrap(), guest)
        .unwrap_err();
    assert!(error.contains("8 networks"), "{error}");
}

#[test]
fn a_guest_answers_an_echo_at_once() {
    let mut world = World::new();
    // smoltcp alone would ask for nobody else within a second.
    let stranger = Ipv4Addr::new(10, 0, 0, 6);
    let unanswered = world.forwarder.ask(stranger, world.now).unwrap();
    world.step();
    let number = world.forwarder.ask(GUEST, world.now).unwrap();
    let mut took = None;
    world.until("echo", |world| {
        took = world.forwarder.answer(number, world.now);
        took.is_some()
    });
    assert!(took.unwrap() < 20 * STEP);
    assert_eq!(world.forwarder.answer(unanswered, world.now), None);
    world.forwarder.forget(unanswered);
    assert_eq!(world.forwarder.answer(number, world.now), None);
}
