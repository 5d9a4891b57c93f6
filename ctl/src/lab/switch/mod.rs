//! The lab's Ethernet as pure logic: a learning switch, and on each of its links what is wrong there.
//!
//! A link has two directions, seen from the board: `from` it to the switch and `to` it. Each is a [`Pipe`] with its own
//! [`Faults`], dice ([`Seed`]) and counters. A frame goes through the sender's `from`, is switched, and goes through `to` of each
//! receiver. What a sound pipe gets comes out at once, as the very slice that came in; the rest waits here until it is due.
//!
//! Nothing here reads a clock or a socket: [`Switch::input`] and [`Switch::poll`] are told the time, and give frames to a
//! [`Wire`]. What was due in the past is handled as at its own moment, so that a late poll changes no decision.
//!
//! Read [`faults`], then [`pipe`], then this; [`random`] has the dice, [`stations`] who is where.

pub mod faults;
pub mod pipe;
pub mod random;
pub mod stations;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use serde::{Deserialize, Serialize};

use faults::Faults;
use pipe::{Counters, Pipe, Time, Verdict};
use random::Seed;
use stations::Stations;

/// The shortest frame: two addresses and a type.
pub const MIN_FRAME: usize = 14;
/// The longest frame, a segment of 64 KiB with its headers included.
pub const MAX_FRAME: usize = 1 << 16;
/// Buffers that are kept for later frames.
const SPARE_BUFFERS: usize = 512;

/// A port's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub usize);

/// A direction of a link, seen from the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// What the board sends.
    From,
    /// What the board receives.
    To,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::From, Self::To];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To => "to",
        }
    }
}

/// A station's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Where a frame can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As a board sent it, before the link's faults.
    Sent,
    /// In the switch, once.
    Switched,
    /// As a board gets it, behind the link's faults.
    Received,
}

/// What takes the frames that come out.
pub trait Wire {
    /// A frame for who is at `port`.
    fn deliver(&mut self, port: PortId, frame: &[u8]);
    /// A frame is at this place of this port's link.
    fn look(&mut self, at: Time, place: Place, port: PortId, frame: &[u8]);
}

/// A frame under way.
#[derive(Debug)]
struct Event {
    due: Time,
    /// Tells frames of one moment apart: the first in is the first out.
    sequence: u64,
    port: PortId,
    direction: Direction,
    life: u32,
    frame: Vec<u8>,
}

impl Event {
    fn key(&self) -> Reverse<(Time, u64)> {
        Reverse((self.due, self.sequence))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// A link with its two directions.
#[derive(Debug)]
struct Link {
    name: String,
    from: Pipe,
    to: Pipe,
    /// Frames that were no Ethernet frames.
    malformed: u64,
}

/// The switch and its links.
#[derive(Debug)]
pub struct Switch {
    seed: Seed,
    links: Vec<Link>,
    /// Who is behind which port.
    pub stations: Stations,
    events: BinaryHeap<Event>,
    sequence: u64,
    spare: Vec<Vec<u8>>,
}

impl Switch {
    /// A switch without links.
    pub fn new(seed: Seed) -> Self {
        Self {
            seed,
            links: Vec::new(),
            stations: Stations::default(),
            events: BinaryHeap::new(),
            sequence: 0,
            spare: Vec::new(),
        }
    }

    /// Adds a link, whose dice depend on the switch's seed and this name.
    pub fn add(&mut self, name: &str) -> PortId {
        let seed = self.seed.of(name);
        self.links.push(Link {
            name: name.into(),
            from: Pipe::new(seed.of(Direction::From.name())),
            to: Pipe::new(seed.of(Direction::To.name())),
            malformed: 0,
        });
        PortId(self.links.len() - 1)
    }

    /// The link of that name.
    pub fn find(&self, name: &str) -> Option<PortId> {
        self.links
            .iter()
            .position(|link| link.name == name)
            .map(PortId)
    }

    /// All links.
    pub fn ports(&self) -> impl Iterator<Item = PortId> + use<> {
        (0..self.links.len()).map(PortId)
    }

    /// A link's name.
    pub fn name(&self, port: PortId) -> &str {
        &self.links[port.0].name
    }

    /// What is wrong with a direction of a link.
    pub fn faults(&self, port: PortId, direction: Direction) -> Faults {
        self.pipe(port, direction).faults()
    }

    /// Sets what is wrong with a direction of a link; its dice begin anew.
    pub fn set_faults(&mut self, port: PortId, direction: Direction, faults: Faults) {
        self.pipe_mut(port, direction).set_faults(faults);
    }

    /// What happened on a direction of a link.
    pub fn counters(&self, port: PortId, direction: Direction) -> Counters {
        self.pipe(port, direction).counters
    }

    /// Frames of a link that were no Ethernet frames.
    pub fn malformed(&self, port: PortId) -> u64 {
        self.links[port.0].malformed
    }

    /// The link has lost its board: what was under way is lost, and its stations are forgotten.
    pub fn unplug(&mut self, port: PortId) {
        for direction in Direction::BOTH {
            self.pipe_mut(port, direction).lose();
        }
        self.stations.forget(port);
    }

    /// When [`Switch::poll`] is to be called next.
    pub fn next_due(&self) -> Option<Time> {
        self.events.peek().map(|event| event.due)
    }

    /// A frame that who is at `port` has sent.
    pub fn input(&mut self, now: Time, port: PortId, frame: &[u8], wire: &mut impl Wire) {
        self.poll(now, wire);
        if !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
            self.links[port.0].malformed += 1;
            return;
        }
        wire.look(now, Place::Sent, port, frame);
        if self.pass(now, port, Direction::From, frame) {
            self.switch(now, port, frame, wire);
        }
        self.poll(now, wire);
    }

    /// Lets come out what is due.
    pub fn poll(&mut self, now: Time, wire: &mut impl Wire) {
        while self.next_due().is_some_and(|due| due <= now) {
            let Some(event) = self.events.pop() else {
                return;
            };
            let (port, direction) = (event.port, event.direction);
            if self
                .pipe_mut(port, direction)
                .leave(event.frame.len(), event.life)
            {
                match direction {
                    Direction::From => self.switch(event.due, port, &event.frame, wire),
                    Direction::To => Self::deliver(event.due, port, &event.frame, wire),
                }
            }
            if self.spare.len() < SPARE_BUFFERS {
                self.spare.push(event.frame);
            }
        }
    }

    /// Learns who sent the frame, and sends it on.
    fn switch(&mut self, at: Time, port: PortId, frame: &[u8], wire: &mut impl Wire) {
        wire.look(at, Place::Switched, port, frame);
        let (to, from) = addresses(frame);
        self.stations.learn(at, from, port, frame);
        match self.stations.find(at, to) {
            Some(here) if here == port => {}
            Some(there) => self.send(at, there, frame, wire),
            None => {
                for other in self.ports().filter(|other| *other != port) {
                    self.send(at, other, frame, wire);
                }
            }
        }
    }

    fn send(&mut self, at: Time, port: PortId, frame: &[u8], wire: &mut impl Wire) {
        if self.pass(at, port, Direction::To, frame) {
            Self::deliver(at, port, frame, wire);
        }
    }

    fn deliver(at: Time, port: PortId, frame: &[u8], wire: &mut impl Wire) {
        wire.look(at, Place::Received, port, frame);
        wire.deliver(port, frame);
    }

    /// Puts a frame into a direction of a link; whether it comes out at once. Otherwise it waits, or is gone.
    fn pass(&mut self, at: Time, port: PortId, direction: Direction, frame: &[u8]) -> bool {
        match self.pipe_mut(port, direction).enter(at, frame.len()) {
            Verdict::Straight => return true,
            Verdict::Dropped => {}
            Verdict::Altered(passage) => {
                for due in [Some(passage.due), passage.again].into_iter().flatten() {
                    self.hold(due, port, direction, frame, passage.flip);
                }
            }
        }
        false
    }

    fn hold(
        &mut self,
        due: Time,
        port: PortId,
        direction: Direction,
        frame: &[u8],
        flip: Option<usize>,
    ) {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        if let Some(bit) = flip {
            copy[bit / 8] ^= 1 << (bit % 8);
        }
        let pipe = self.pipe_mut(port, direction);
        pipe.hold(frame.len());
        let life = pipe.life();
        self.sequence += 1;
        self.events.push(Event {
            due,
            sequence: self.sequence,
            port,
            direction,
            life,
            frame: copy,
        });
    }

    fn pipe(&self, port: PortId, direction: Direction) -> &Pipe {
        let link = &self.links[port.0];
        match direction {
            Direction::From => &link.from,
            Direction::To => &link.to,
        }
    }

    fn pipe_mut(&mut self, port: PortId, direction: Direction) -> &mut Pipe {
        let link = &mut self.links[port.0];
        match direction {
            Direction::From => &mut link.from,
            Direction::To => &mut link.to,
        }
    }
}

/// Who a frame is for, and who sent it; it has at least [`MIN_FRAME`] bytes.
fn addresses(frame: &[u8]) -> (Mac, Mac) {
    let mac = |at: usize| Mac(std::array::from_fn(|byte| frame[at + byte]));
    (mac(0), mac(6))
}
