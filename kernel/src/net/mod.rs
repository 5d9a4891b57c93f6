//! The board's Ethernet: one switch, with the network card behind the output gate, the guests' cards, and the board's own station.
//!
//! - here: the parts and who serves them. - [`ports`]: the switch's ports. - [`card`]: the board's card as the uplink drives it.
//! - [`station`]: the board's own address. - [`datagram`]: what it says to other boards of its cluster.
//!
//! **Who does the work.** A guest's frames are forwarded by the core on which its vCPU said that there are some. What comes in from the wire
//! is looked at by core 0, which has the card's interrupt: it takes a batch, and if there is more, it lets its guest run on for a
//! moment before the next ([`POLL_EVERY_US`]), so that a flood from outside leaves the guests on that core their time.
//!
//! **Locks.** A guest card's transmit half, or the board card's receive side, or the station; then one of: a guest card's receive half, the
//! uplink, the station's inbox.

pub mod card;
pub mod datagram;
pub mod ports;
pub mod station;

use alloc::boxed::Box;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cluster_proto::agent::book::{Destination, Endpoint};
use el2_hyp::arch::timer;
use el2_hyp::frame::{Frame, Mac};
use el2_hyp::gate::Ticks;
use el2_hyp::host::Network as _;
use el2_hyp::lock::Mutex;
use el2_hyp::switch::{
    AttachError, Loss, MAX_GUEST_CARDS, OwnFrame, PortId, Rules, Switch, Uplink,
};
use platform::nic::virtio::{Card, CardControl, CardReceive};
use platform::nic::{Control, Receive};
use spin::Once;

use crate::devices::Opened;
use crate::host::CoreHost;
use crate::moving::lanes;
use crate::{guests, info, percore, random, warn};
use card::CardWire;
use ports::{GuestCards, View};
use station::Station;

/// Frames that are taken from the wire at once.
const BATCH: usize = 64;
/// When the wire has more than a batch, how long the guest on that core runs before the next.
const POLL_EVERY_US: u64 = 100;

/// All of it.
pub struct Network {
    switch: Box<Switch>,
    wire: Option<Box<WireSide>>,
    station: Mutex<Station>,
    /// When the station has to look again, by the counter.
    station_due: AtomicU64,
    /// Something waits in the station's inbox.
    station_called: AtomicBool,
    cards: GuestCards,
    own: Option<datagram::Own>,
}

/// The board's card.
struct WireSide {
    control: CardControl,
    receive: Mutex<CardReceive>,
    uplink: Mutex<Uplink<CardWire>>,
    /// When the next batch is due, by the counter; `u64::MAX` while the card's interrupt will tell.
    poll_at: AtomicU64,
}

static NETWORK: Once<Network> = Once::new();

/// The network, once there is one.
pub fn network() -> Option<&'static Network> {
    NETWORK.get()
}

/// The addresses of a board.
pub struct Addresses {
    /// The Ethernet address, where it is not to be the card's.
    pub mac: Option<Mac>,
    /// The IPv4 address and how many of its bits are the network's.
    pub ipv4: Option<([u8; 4], u8)>,
    /// Whether the board belongs to a cluster, whose frames no guest may send.
    pub member: bool,
}

/// Puts the network together. Without a card guests still reach one another.
pub fn initialise(card: Option<Opened<Card>>, addresses: Addresses) {
    let own = card.as_ref().map(|card| Mac(card.device.control.mac().0));
    let mac = addresses.mac.or(own).unwrap_or_else(random_mac);
    let seed = u64::from_le_bytes(random::draw());
    NETWORK.call_once(|| Network {
        switch: make_switch(mac, addresses.member),
        wire: card.map(make_wire),
        station: Mutex::new(Station::new(mac.0, addresses.ipv4, seed)),
        station_due: AtomicU64::new(0),
        station_called: AtomicBool::new(true),
        cards: GuestCards::new(),
        own: addresses.ipv4.map(|(address, _)| datagram::Own {
            station: mac.0,
            address,
        }),
    });
}

// Each is so large that two of them on their way to the heap would not fit on the stack beside one another.

#[inline(never)]
fn make_switch(mac: Mac, member: bool) -> Box<Switch> {
    let hertz = NonZeroU64::new(timer::frequency()).expect("a counter that counts");
    Box::new(Switch::new(
        mac,
        hertz,
        Rules {
            cluster_udp: member.then_some(datagram::PORT..=datagram::BULK_PORT),
        },
    ))
}

#[inline(never)]
fn make_wire(card: Opened<Card>) -> Box<WireSide> {
    Box::new(WireSide {
        control: card.device.control,
        receive: Mutex::new(card.device.receive),
        uplink: Mutex::new(Uplink::new(CardWire::new(card.device.transmit))),
        poll_at: AtomicU64::new(u64::MAX),
    })
}

/// A locally administered address that nobody else draws.
fn random_mac() -> Mac {
    let mut mac: [u8; 6] = random::draw();
    mac[0] = mac[0] & !1 | 2;
    Mac(mac)
}

/// Now, by the counter.
pub fn now() -> Ticks {
    Ticks(timer::now())
}

/// So many microseconds in ticks of the counter.
pub fn ticks(us: u64) -> u64 {
    us * timer::frequency() / 1_000_000
}

/// So many ticks of the counter in microseconds.
pub fn microseconds(ticks: u64) -> u64 {
    let frequency = timer::frequency();
    ticks / frequency * 1_000_000 + ticks % frequency * 1_000_000 / frequency
}

impl Network {
    /// A port for a card of a guest, by its slot.
    pub fn attach(&self, guest: usize, slot: usize, mac: Mac) -> Result<PortId, AttachError> {
        let port = self.switch.attach(mac)?;
        self.cards.set(port, guest, slot);
        Ok(port)
    }

    /// A port for a card of a guest that is yet to come, by its slot: it is on the network once it has [`join`](Self::join)ed.
    pub fn reserve(&self, guest: usize, slot: usize) -> Result<PortId, AttachError> {
        let port = self.switch.reserve()?;
        self.cards.set(port, guest, slot);
        Ok(port)
    }

    /// A reserved port begins.
    pub fn join(&self, port: PortId, mac: Mac) -> Result<(), AttachError> {
        self.switch.join(port, mac)
    }

    /// A guest's port is gone: nothing comes in or goes out by it. Some core may still have it in hand.
    pub fn detach(&self, port: PortId) {
        self.cards.clear(port);
        self.switch.detach(port);
        if let Some(wire) = &self.wire {
            wire.uplink.lock().forget(port);
        }
    }

    /// No core has a port that is gone in hand any more.
    pub fn release(&self, port: PortId) {
        self.switch.release(port);
    }

    /// Whether the board can speak to its cluster.
    pub fn is_member(&self) -> bool {
        crate::agent::is_member() && self.own.is_some()
    }

    /// Gives the next datagram for the board's part in its cluster to `take`: from where, and its bytes. None if there is none; frames that are none are
    /// dropped.
    pub fn next_datagram(
        &self,
        room: &mut [u8; station::FRAME_BYTES],
    ) -> Option<(Endpoint, usize)> {
        let own = self.own?;
        loop {
            let read = station::CLUSTER_INBOX.lock().take(|frame| {
                let (from, bytes) = datagram::read(frame, own, datagram::PORT)?;
                room[..bytes.len()].copy_from_slice(bytes);
                Some((from, bytes.len()))
            })?;
            if read.is_some() {
                return read;
            }
        }
    }

    /// Whether a datagram waits.
    pub fn has_datagram(&self) -> bool {
        !station::CLUSTER_INBOX.lock().is_empty()
    }

    /// A frame for the bulk port has come: whoever it is for gets it.
    fn take_bulk(&self, frame: &[u8]) {
        let read = self
            .own
            .and_then(|own| datagram::read(frame, own, datagram::BULK_PORT));
        if let Some((from, bytes)) = read {
            lanes::receive(from, bytes);
        }
    }

    /// Sends a datagram to the cluster. One that finds no room is lost, as frames are. `view` is finished by the caller.
    pub fn send_datagram(&self, to: Destination, bytes: &[u8], view: &View<'_>) {
        self.send_from(datagram::PORT, to, bytes, view);
    }

    /// Sends a frame of a bulk stream to its other end, as [`send_datagram`](Self::send_datagram) does.
    pub fn send_bulk(&self, to: Endpoint, bytes: &[u8], view: &View<'_>) {
        self.send_from(datagram::BULK_PORT, Destination::One(to), bytes, view);
    }

    fn send_from(&self, port: u16, to: Destination, bytes: &[u8], view: &View<'_>) {
        let Some(own) = self.own else { return };
        let mut frame = [0; station::FRAME_BYTES];
        let length = datagram::write(to, port, own, bytes, &mut frame);
        if let Ok(frame) = OwnFrame::new(&frame[..length]) {
            self.switch.send_own(&frame, view);
        }
    }

    /// Tells the operator what passed each port.
    pub fn tell_status(&self) {
        self.tell_port("uplink", PortId::UPLINK);
        self.tell_port("board", PortId::BOARD);
        for port in (0..MAX_GUEST_CARDS).filter_map(PortId::card) {
            if let Some((guest, _)) = self.cards.find(port)
                && let Some(slot) = guests::find(guest)
            {
                self.tell_port(&slot.guest.name, port);
            }
        }
    }

    fn tell_port(&self, name: &str, port: PortId) {
        let counters = self.switch.counters(port).snapshot();
        let ((from, from_bytes), (to, to_bytes)) = (counters.from, counters.to);
        info!(
            "status: port {name} sent {from} frames of {from_bytes} bytes, got {to} of {to_bytes}"
        );
        for (reason, lost) in Loss::ALL.iter().zip(counters.lost) {
            if lost != 0 {
                info!("status: port {name} lost {lost} frames: {reason}");
            }
        }
    }

    /// One core's way to the ports, for a batch.
    pub fn view<'a>(&'static self, host: &'a CoreHost) -> View<'a> {
        View::new(self, host)
    }

    /// The card's interrupt: core 0 will look.
    pub fn interrupt(&self) {
        if let Some(wire) = &self.wire {
            wire.control.acknowledge_interrupt();
            wire.poll_at.store(0, Ordering::Relaxed);
        }
    }

    /// When core 0 has something to do here, by the counter.
    pub fn next_event(&self) -> u64 {
        let wire = self.wire.as_ref();
        let wire = wire.map_or(u64::MAX, |wire| wire.poll_at.load(Ordering::Relaxed));
        wire.min(self.station_due.load(Ordering::Relaxed))
    }

    /// Whether core 0 has something to do here now.
    pub fn is_due(&self) -> bool {
        self.station_called.load(Ordering::Acquire) || self.next_event() <= timer::now()
    }

    /// Core 0 does what is due. No lock is held.
    pub fn serve(&'static self, host: &CoreHost) {
        if let Some(wire) = &self.wire
            && wire.poll_at.load(Ordering::Relaxed) <= timer::now()
        {
            self.serve_wire(host, wire);
        }
        let due = self.station_due.load(Ordering::Relaxed) <= timer::now();
        if self.station_called.swap(false, Ordering::AcqRel) || due {
            self.serve_station(host);
        }
    }

    fn serve_wire(&'static self, host: &CoreHost, wire: &WireSide) {
        let view = self.view(host);
        let mut receive = wire.receive.lock();
        receive.suppress();
        let taken = receive.receive(BATCH, |bytes| match Frame::finished(bytes) {
            Ok(frame) => drop(self.switch.forward(PortId::UPLINK, &frame, now(), &view)),
            Err(malformed) => drop(self.switch.refuse(PortId::UPLINK, malformed)),
        });
        let next = match taken {
            Ok(BATCH) => timer::now() + ticks(POLL_EVERY_US),
            Ok(_) => match receive.listen() {
                Ok(true) => 0,
                _ => u64::MAX,
            },
            Err(_) => u64::MAX,
        };
        drop(receive);
        wire.poll_at.store(next, Ordering::Relaxed);
        if let Err(fault) = taken {
            warn!("the network card is not used any more: {fault}");
        }
        view.finish();
        self.call_waiting(host, wire);
    }

    /// Guests that waited for room in the card go on.
    fn call_waiting(&self, host: &CoreHost, wire: &WireSide) {
        loop {
            let Some(port) = wire.uplink.lock().next_waiting() else {
                return;
            };
            if let Some((guest, slot)) = self.cards.find(port)
                && let Some(found) = guests::find(guest)
            {
                found.guest.resume_transmit(host, slot);
            }
        }
    }

    fn serve_station(&'static self, host: &CoreHost) {
        let view = self.view(host);
        let mut station = self.station.lock();
        let now_us = microseconds(timer::now());
        let next = station.poll(now_us, |bytes| {
            if let Ok(own) = OwnFrame::new(bytes) {
                // What finds no room is lost, as frames are.
                self.switch.send_own(&own, &view);
            }
        });
        drop(station);
        let due = next.map_or(u64::MAX, |us| {
            timer::now() + ticks(us.saturating_sub(now_us))
        });
        self.station_due.store(due, Ordering::Relaxed);
        view.finish();
    }

    /// Something waits in the inbox: core 0 is to look.
    fn call_station(&self) {
        if !self.station_called.swap(true, Ordering::AcqRel) {
            percore::reschedule(0);
        }
    }
}
