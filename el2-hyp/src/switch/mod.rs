//! One Ethernet switch for each board. Its ports are the uplink, the board itself, and each guest's network cards.
//!
//! **How it is put together.** The board makes one [`Switch`], and [`attach`](Switch::attach)es a port for each network card of a guest. Frames enter by
//! [`forward`](Switch::forward), or [`send_own`](Switch::send_own) for the board's, and are handed out, within that call, through [`Ports`]: a guest's
//! receive half, the board's stack, the [`Uplink`]. The switch itself holds no lock and no frame. All its state is atomics, so that cores forward at
//! once; `Ports` takes the locks that it needs, in the order: a transmit half, then one receive half or the uplink at a time.
//!
//! ```text
//! transmit.serve(memory, budget, |frame| match frame {
//!     Ok(frame) => switch.forward(port, frame, now(), &ports),
//!     Err(malformed) => switch.refuse(port, malformed),
//! })
//! ```
//!
//! **Where a frame goes.** The board knows its own stations: a guest's card has one address for life, told by `attach`, and nothing that is sent changes
//! that. So a frame to one of them goes there alone. Any other station must be beyond the uplink: a frame for it goes there alone, and if it came from
//! there it is not for us. A frame to a group goes to all ports but its own. The uplink *learns* stations from what comes in, for the sake of the
//! storm limit: what goes to a station that was never heard is delivered everywhere by the switches outside, as a broadcast is.
//!
//! **What is refused**, each with a counter ([`Loss`]). From a guest: a source that is not its own address, what could be the cluster's frame
//! ([`Rules`]), IP whose headers cannot be followed (behind them such a frame could hide), bridge control, and more floods than [`storm`] allows. From the wire: a
//! source that lives here, or that is a group.
//!
//! **When there is no room.** A guest's frame for a full uplink stays where it is ([`Forwarded::Wait`]), so that the guest waits and not its frame is
//! lost. It is asked first, before any other port has got a copy, so that trying again repeats nothing. A receiver without buffers loses the frame,
//! counted at its port: it must not be able to hold up the sender.
//!
//! Read on in [`counters`], [`table`], [`storm`], [`uplink`].

pub mod counters;
pub mod storm;
pub mod table;
#[cfg(test)]
mod tests;
pub mod uplink;

use alloc::boxed::Box;
use core::num::NonZeroU64;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::frame::{Frame, Mac, Malformed, Transport};
use crate::gate::Ticks;
use crate::lock::Mutex;

pub use counters::{Counters, Loss, Snapshot};
pub use uplink::{Sending, Uplink, Wire};

/// Guests' network cards on a board, at most: 16 guests with three each.
pub const MAX_GUEST_CARDS: usize = 48;
/// Ports, at most.
pub const MAX_PORTS: usize = 2 + MAX_GUEST_CARDS;

/// A port of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(u8);

impl PortId {
    /// The wire.
    pub const UPLINK: Self = Self(0);
    /// The board itself.
    pub const BOARD: Self = Self(1);
    /// The first of the guests' ports.
    const FIRST_GUEST: u8 = 2;

    /// The port of guests' network card `card`, counted over all guests.
    pub const fn card(card: usize) -> Option<Self> {
        if card < MAX_GUEST_CARDS {
            Some(Self(Self::FIRST_GUEST + card as u8))
        } else {
            None
        }
    }

    /// Which of the guests' network cards; `None` for the others.
    pub const fn card_index(self) -> Option<usize> {
        if self.0 < Self::FIRST_GUEST {
            None
        } else {
            Some((self.0 - Self::FIRST_GUEST) as usize)
        }
    }

    /// Its place among all ports, below [`MAX_PORTS`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    const fn bit(self) -> u64 {
        1 << self.0
    }

    const fn is_guest(self) -> bool {
        self.0 >= Self::FIRST_GUEST
    }
}

/// What guests may not send.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// UDP ports that are the cluster's: no guest sends to or from one, or gets what boards say to all.
    pub cluster_udp: Option<RangeInclusive<u16>>,
}

impl Rules {
    #[inline]
    fn check(&self, frame: &Frame) -> Result<(), Loss> {
        match frame.layers().transport {
            Transport::Hidden => Err(Loss::Hidden),
            transport if self.is_cluster(transport) => Err(Loss::Reserved),
            _ => Ok(()),
        }
    }

    /// Whether what a frame carries is the cluster's.
    #[inline]
    fn is_cluster(&self, transport: Transport) -> bool {
        match (transport, &self.cluster_udp) {
            (
                Transport::Udp {
                    source,
                    destination,
                },
                Some(ports),
            ) => ports.contains(&source) || ports.contains(&destination),
            _ => false,
        }
    }
}

/// What a port did with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It has it.
    Done,
    /// It has no room now, and nothing has happened. Only the uplink says so; from another port it is a loss.
    Wait,
    /// It is lost.
    Lost(Loss),
}

impl From<Sending> for Delivery {
    fn from(sending: Sending) -> Self {
        match sending {
            Sending::Sent => Self::Done,
            Sending::Wait => Self::Wait,
            Sending::Shut => Self::Lost(Loss::Gate),
            Sending::TooManyParts => Self::Lost(Loss::TooManyParts),
            Sending::Down => Self::Lost(Loss::Down),
        }
    }
}

/// The ends of the ports.
pub trait Ports {
    /// Hands a frame to a guest's network card.
    fn guest(&self, to: PortId, frame: &Frame) -> Delivery;

    /// Hands a guest's frame to the uplink: [`Uplink::send`], which asks for a permit.
    fn uplink(&self, from: PortId, frame: &Frame) -> Delivery;

    /// Hands a frame of the board itself to the uplink: [`Uplink::send_own`].
    fn uplink_own(&self, frame: &OwnFrame) -> Delivery;

    /// Hands a frame to the board.
    fn board(&self, frame: &Frame) -> Delivery;
}

/// A finished frame of the board's own. A guest's frame cannot become one.
pub struct OwnFrame<'a> {
    bytes: &'a [u8],
    frame: Frame<'a>,
}

impl<'a> OwnFrame<'a> {
    /// The frame that the board's stack has put into `bytes`.
    ///
    /// # Errors
    /// As [`Frame::finished`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let frame = Frame::finished(bytes)?;
        Ok(Self { bytes, frame })
    }

    /// All of it.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// It was dealt with: delivered, or lost and counted.
    Done,
    /// The uplink has no room for it now. Nothing has happened; it is to be forwarded again when [`Uplink::next_waiting`] names its port.
    Wait,
}

/// Why a port could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// All [`MAX_GUEST_CARDS`] are taken.
    Full,
    /// Another port has that address, or it is a group's or nobody's.
    Address,
}

/// The address of a port that does not exist: none has so high a number.
const NOBODY: u64 = u64::MAX;

/// A port as the switch knows it.
struct Port {
    /// Its address, as a number.
    mac: AtomicU64,
    counters: Counters,
    floods: storm::Bucket,
}

impl Port {
    const fn new() -> Self {
        Self {
            mac: AtomicU64::new(NOBODY),
            counters: Counters::new(),
            floods: storm::Bucket::new(),
        }
    }
}

/// The switch, whose tables are on the heap: made once for all.
pub struct Switch {
    rules: Rules,
    hertz: NonZeroU64,
    homes: table::Homes,
    stations: table::Stations,
    /// The guests' ports that exist, a bit each.
    attached: AtomicU64,
    /// Ports that somebody has and that are not attached: reserved ones, and detached ones that some core may still have in hand.
    unattached: AtomicU64,
    /// Held by whoever changes `homes`, `attached` and `unattached`.
    changing: Mutex<()>,
    /// All [`MAX_PORTS`] of them.
    ports: Box<[Port]>,
}

impl Switch {
    /// A switch whose board has the address `board`, on a counter of `hertz`.
    pub fn new(board: Mac, hertz: NonZeroU64, rules: Rules) -> Self {
        let switch = Self {
            rules,
            hertz,
            homes: table::Homes::new(),
            stations: table::Stations::new(),
            attached: AtomicU64::new(0),
            unattached: AtomicU64::new(0),
            changing: Mutex::new(()),
            ports: (0..MAX_PORTS).map(|_| Port::new()).collect(),
        };
        switch.homes.insert(board, PortId::BOARD);
        switch
    }

    /// A port for a guest's network card with the address `mac`.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(&self, mac: Mac) -> Result<PortId, AttachError> {
        let port = self.reserve()?;
        if let Err(error) = self.join(port, mac) {
            self.release(port);
            return Err(error);
        }
        Ok(port)
    }

    /// A port for the card of a guest that is yet to come: nothing comes or goes by it before it has [`join`](Self::join)ed.
    ///
    /// # Errors
    /// [`AttachError::Full`].
    pub fn reserve(&self) -> Result<PortId, AttachError> {
        let _changing = self.changing.lock();
        let taken = self.attached.load(Ordering::Relaxed) | self.unattached.load(Ordering::Relaxed);
        let free = PortId::card((taken >> PortId::FIRST_GUEST).trailing_ones() as usize);
        let port = free.ok_or(AttachError::Full)?;
        let state = &self.ports[port.index()];
        state.counters.reset();
        state.floods.reset();
        self.unattached.fetch_or(port.bit(), Ordering::Relaxed);
        Ok(port)
    }

    /// A reserved port begins, with the address `mac`.
    ///
    /// # Errors
    /// [`AttachError::Address`].
    pub fn join(&self, port: PortId, mac: Mac) -> Result<(), AttachError> {
        let _changing = self.changing.lock();
        if mac.is_group() || mac.number() == 0 || self.homes.find(mac).is_some() {
            return Err(AttachError::Address);
        }
        self.ports[port.index()]
            .mac
            .store(mac.number(), Ordering::Relaxed);
        self.stations.forget(mac);
        self.homes.insert(mac, port);
        self.unattached.fetch_and(!port.bit(), Ordering::Relaxed);
        self.attached.fetch_or(port.bit(), Ordering::Release);
        Ok(())
    }

    /// Ends a guest's port. A core that is forwarding may still hand it a frame that it has in hand, so nobody else gets the port before it is
    /// [`release`](Self::release)d; [`Uplink::forget`] is the caller's.
    pub fn detach(&self, port: PortId) {
        let _changing = self.changing.lock();
        let attached = self.attached.load(Ordering::Relaxed);
        if !port.is_guest() || attached & port.bit() == 0 {
            return;
        }
        self.attached
            .store(attached & !port.bit(), Ordering::Relaxed);
        let [a, b, c, d, e, f, ..] = self.ports[port.index()]
            .mac
            .swap(NOBODY, Ordering::Relaxed)
            .to_le_bytes();
        self.homes.remove(Mac([a, b, c, d, e, f]));
        self.unattached.fetch_or(port.bit(), Ordering::Relaxed);
    }

    /// A port that is reserved is not needed, or no core has one that was detached in hand any more: another card may get it.
    pub fn release(&self, port: PortId) {
        let _changing = self.changing.lock();
        self.unattached.fetch_and(!port.bit(), Ordering::Relaxed);
    }

    /// A port's counters.
    pub fn counters(&self, port: PortId) -> &Counters {
        &self.ports[port.index()].counters
    }

    /// Counts what a guest's card could not make a frame of.
    pub fn refuse(&self, from: PortId, malformed: Malformed) -> Forwarded {
        self.finish(from, 0, Err(Stay::Lost(malformed.into())))
    }

    /// Forwards a frame that came in by a guest's port, or from the wire, at `now`.
    #[inline]
    pub fn forward(
        &self,
        from: PortId,
        frame: &Frame,
        now: Ticks,
        ports: &impl Ports,
    ) -> Forwarded {
        let routed = self.route(from, frame, now, ports);
        self.finish(from, frame.length(), routed)
    }

    /// Forwards a frame of the board itself.
    pub fn send_own(&self, own: &OwnFrame, ports: &impl Ports) -> Forwarded {
        let routed = self.route_own(own, ports);
        self.finish(PortId::BOARD, own.bytes.len(), routed)
    }

    #[inline]
    fn route(
        &self,
        from: PortId,
        frame: &Frame,
        now: Ticks,
        ports: &impl Ports,
    ) -> Result<(), Stay> {
        let second = (now.0 / self.hertz) as u16;
        if from == PortId::UPLINK {
            self.check_uplink(frame, second)?;
        } else {
            self.check_guest(from, frame)?;
        }
        let to = frame.destination();
        if to.is_group() {
            if to.is_link_local() {
                return Err(Stay::Lost(Loss::LinkLocal));
            }
            if from != PortId::UPLINK {
                self.leave(from, frame, Some(now), ports)?;
            }
            self.deliver(PortId::BOARD, frame, ports.board(frame));
            self.to_guests(from, frame, ports);
            return Ok(());
        }
        match self.homes.find(to) {
            Some(port) if port == from => return Err(Stay::Lost(Loss::Back)),
            Some(PortId::BOARD) => self.deliver(PortId::BOARD, frame, ports.board(frame)),
            Some(port) => self.deliver(port, frame, ports.guest(port, frame)),
            None if from == PortId::UPLINK => return Err(Stay::Lost(Loss::Stranger)),
            None => {
                let flood = !self.stations.is_known(to, second);
                self.leave(from, frame, flood.then_some(now), ports)?;
            }
        }
        Ok(())
    }

    fn route_own(&self, own: &OwnFrame, ports: &impl Ports) -> Result<(), Stay> {
        let frame = &own.frame;
        let to = frame.destination();
        match self.homes.find(to) {
            Some(PortId::BOARD) => return Err(Stay::Lost(Loss::Back)),
            Some(port) => self.deliver(port, frame, ports.guest(port, frame)),
            None => {
                let delivery = ports.uplink_own(own);
                if delivery == Delivery::Wait {
                    return Err(Stay::Wait);
                }
                self.deliver(PortId::UPLINK, frame, delivery);
                if to.is_group() {
                    self.to_guests(PortId::BOARD, frame, ports);
                }
            }
        }
        Ok(())
    }

    /// A guest's frame to the uplink; at which time, if it counts as a flood.
    #[inline]
    fn leave(
        &self,
        from: PortId,
        frame: &Frame,
        flood: Option<Ticks>,
        ports: &impl Ports,
    ) -> Result<(), Stay> {
        let floods = &self.ports[from.index()].floods;
        if flood.is_some_and(|now| !floods.take(now, self.hertz.get())) {
            return Err(Stay::Lost(Loss::Storm));
        }
        let delivery = ports.uplink(from, frame);
        if delivery == Delivery::Wait {
            if flood.is_some() {
                floods.give_back(self.hertz.get());
            }
            return Err(Stay::Wait);
        }
        self.deliver(PortId::UPLINK, frame, delivery);
        Ok(())
    }

    /// A frame to all guests' ports, but for the one that it came from. What boards say to one another is none of the guests' business.
    fn to_guests(&self, from: PortId, frame: &Frame, ports: &impl Ports) {
        if self.rules.cluster_udp.is_some() && self.rules.is_cluster(frame.transport()) {
            return;
        }
        let mut left = self.attached.load(Ordering::Acquire) & !from.bit();
        while left != 0 {
            let port = PortId(left.trailing_zeros() as u8);
            left &= left - 1;
            self.deliver(port, frame, ports.guest(port, frame));
        }
    }

    /// What came from the wire.
    #[inline]
    fn check_uplink(&self, frame: &Frame, second: u16) -> Result<(), Stay> {
        let source = frame.source();
        if source.is_group() {
            return Err(Stay::Lost(Loss::Source));
        }
        if self.homes.find(source).is_some() {
            return Err(Stay::Lost(Loss::Echo));
        }
        self.stations.learn(source, second);
        Ok(())
    }

    /// What came from a guest.
    #[inline]
    fn check_guest(&self, from: PortId, frame: &Frame) -> Result<(), Stay> {
        let own = self.ports[from.index()].mac.load(Ordering::Relaxed);
        if frame.source().number() != own {
            return Err(Stay::Lost(Loss::Source));
        }
        self.rules.check(frame).map_err(Stay::Lost)
    }

    /// Counts what a port did with a frame.
    #[inline]
    fn deliver(&self, to: PortId, frame: &Frame, delivery: Delivery) {
        let counters = &self.ports[to.index()].counters;
        match delivery {
            Delivery::Done => counters.count_to(frame.length()),
            Delivery::Wait => counters.count_loss(Loss::NoBuffers),
            Delivery::Lost(reason) => counters.count_loss(reason),
        }
    }

    /// Counts what came from a port, once it is dealt with.
    #[inline]
    fn finish(&self, from: PortId, bytes: usize, routed: Result<(), Stay>) -> Forwarded {
        let counters = &self.ports[from.index()].counters;
        match routed {
            Err(Stay::Wait) => return Forwarded::Wait,
            Err(Stay::Lost(reason)) => counters.count_loss(reason),
            Ok(()) => {}
        }
        counters.count_from(bytes);
        Forwarded::Done
    }
}

/// Why a frame did not leave the port that it came from.
enum Stay {
    /// For now.
    Wait,
    /// For ever.
    Lost(Loss),
}
