//! The board's own station on its Ethernet: an IP address that answers.
//!
//! Frames for the board are left in an inbox by whatever core forwards them; core 0 lets `smoltcp` look at them, and what that wants
//! to say is left in an outbox, to be forwarded with no lock of the station's held.

use super::datagram;
use el2_hyp::lock::Mutex;
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, Ipv4Address, Ipv4Cidr};

/// The longest frame of the board's own, bytes: an MTU of 1,500 behind an Ethernet header.
pub const FRAME_BYTES: usize = 1514;
/// Frames that wait for the station, and from it.
const WAITING: usize = 32;

/// A ring of frames.
pub struct Frames {
    bytes: [[u8; FRAME_BYTES]; WAITING],
    lengths: [u16; WAITING],
    first: usize,
    count: usize,
}

impl Frames {
    const fn new() -> Self {
        Self {
            bytes: [[0; FRAME_BYTES]; WAITING],
            lengths: [0; WAITING],
            first: 0,
            count: 0,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Has `write` put a frame behind the others, and return its length; false where there is no room.
    pub fn put(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        if self.count == WAITING {
            return false;
        }
        let place = (self.first + self.count) % WAITING;
        let length = write(&mut self.bytes[place]);
        assert!(length <= FRAME_BYTES);
        self.lengths[place] = length as u16;
        self.count += 1;
        true
    }

    /// Gives the first frame to `take`, if there is one.
    pub fn take<R>(&mut self, take: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let taken = self.first().map(take);
        if taken.is_some() {
            self.drop_first();
        }
        taken
    }

    /// The first frame.
    fn first(&self) -> Option<&[u8]> {
        let length = usize::from(self.lengths[self.first]);
        (self.count != 0).then(|| &self.bytes[self.first][..length])
    }

    fn drop_first(&mut self) {
        self.first = (self.first + 1) % WAITING;
        self.count -= 1;
    }
}

/// What has come for the board.
pub static INBOX: Mutex<Frames> = Mutex::new(Frames::new());
/// What has come for the board's part in its cluster: apart, so that nothing else takes its room.
pub static CLUSTER_INBOX: Mutex<Frames> = Mutex::new(Frames::new());
/// What the board wants to send. The station's alone; it is far too large for a stack.
static OUTBOX: Mutex<Frames> = Mutex::new(Frames::new());

/// The board's IP.
pub struct Station {
    interface: Interface,
}

impl Station {
    /// A station with these addresses.
    pub fn new(mac: [u8; 6], address: Option<([u8; 4], u8)>, seed: u64) -> Self {
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        config.random_seed = seed;
        let wire = &mut Wire(&mut OUTBOX.lock());
        let mut interface = Interface::new(config, wire, Instant::ZERO);
        if let Some((address, prefix)) = address {
            interface.update_ip_addrs(|addresses| {
                let own = Ipv4Cidr::new(Ipv4Address::from(address), prefix);
                addresses.push(own.into()).expect("room for one address");
            });
            // So that switches which look at memberships let the cluster's frames through.
            let joined = interface.join_multicast_group(datagram::GROUP);
            joined.expect("room for one group");
        }
        Self { interface }
    }

    /// Looks at what has come, and hands `send` each frame that is to leave. When it has to look again, if nothing comes: microseconds
    /// of the board's time.
    pub fn poll(&mut self, now_us: u64, mut send: impl FnMut(&[u8])) -> Option<u64> {
        let now = Instant::from_micros(i64::try_from(now_us).unwrap_or(i64::MAX));
        let mut sockets = SocketSet::new(&mut [][..]);
        let mut outbox = OUTBOX.lock();
        // An inbox that is filled as fast as it is emptied must not keep the core.
        for _ in 0..WAITING {
            let wire = &mut Wire(&mut outbox);
            let looked = self.interface.poll_ingress_single(now, wire, &mut sockets);
            if looked == PollIngressSingleResult::None {
                break;
            }
        }
        let wire = &mut Wire(&mut outbox);
        self.interface.poll_maintenance(now);
        self.interface.poll_egress(now, wire, &mut sockets);
        while let Some(frame) = outbox.first() {
            send(frame);
            outbox.drop_first();
        }
        let next = self.interface.poll_at(now, &sockets)?;
        u64::try_from(next.total_micros()).ok()
    }
}

/// Both boxes as `smoltcp` wants them.
struct Wire<'a>(&'a mut Frames);

/// A frame that is there.
struct Received {
    bytes: [u8; FRAME_BYTES],
    length: usize,
}

/// Room for a frame.
struct Room<'a>(&'a mut Frames);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.bytes[..self.length])
    }
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut result = None;
        let put = self.0.put(|bytes| {
            result = Some(write(&mut bytes[..length]));
            length
        });
        assert!(put, "a token is room");
        result.expect("written")
    }
}

impl Device for Wire<'_> {
    type RxToken<'b>
        = Received
    where
        Self: 'b;
    type TxToken<'b>
        = Room<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Received, Room<'_>)> {
        if self.0.count == WAITING {
            return None;
        }
        let mut inbox = INBOX.lock();
        let frame = inbox.first()?;
        let mut received = Received {
            bytes: [0; FRAME_BYTES],
            length: frame.len(),
        };
        received.bytes[..frame.len()].copy_from_slice(frame);
        inbox.drop_first();
        Some((received, Room(self.0)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_>> {
        (self.0.count < WAITING).then_some(Room(self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_BYTES;
        capabilities.checksum.ipv4 = Checksum::Both;
        capabilities
    }
}
