//! A board around a node: its clock, its disk, its copies of guests, and its death.

use std::collections::VecDeque;
use std::rc::Rc;

use cluster_proto::ids::{BoardId, Epoch, GuestId, Incarnation, Micros, MoveId};
use cluster_proto::ledger::types::{Outcome, RequestId};
use cluster_proto::node::{Effect, Journal, Node, Sink};
use cluster_proto::wire::auth::{Authenticator, LifeKey, TAG};
use cluster_proto::wire::frame::Recipient;

/// Boards of a simulated cluster at most.
pub const BOARDS: usize = 8;
/// Guests.
pub const GUESTS: usize = 6;
/// Volumes.
pub const VOLUMES: usize = 4;
/// Log entries: few, so that logs fill up and snapshots happen.
pub const LOG: usize = 32;
/// The node that campaigns run.
pub type SimNode = Node<QuickTag, BOARDS, GUESTS, VOLUMES, LOG>;

/// A keyed checksum in the place of the cipher. It binds the same things (key, sender, life, sequence number, every byte), and costs little;
/// what a campaign tests is not the cipher.
#[derive(Clone, Debug, Hash)]
pub struct QuickTag {
    key: u64,
}

fn mix(sum: u64, word: u64) -> u64 {
    let product = u128::from(sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Authenticator for QuickTag {
    const BLANK: Self = Self { key: 0 };

    fn set_key(&mut self, key: &[u8; 32]) {
        self.key = key
            .iter()
            .fold(1, |sum, byte| mix(sum, u64::from(*byte) + 1));
    }

    fn life(&self, sender: u8, incarnation: Incarnation) -> LifeKey {
        let mut life = LifeKey::default();
        let word = mix(mix(self.key, u64::from(sender) + 1), incarnation.0);
        life.0[..8].copy_from_slice(&word.to_le_bytes());
        life
    }

    fn tag(&self, life: &LifeKey, bytes: &[u8]) -> [u8; TAG] {
        let mut key = [0; 8];
        key.copy_from_slice(&life.0[..8]);
        let mut sum = mix(u64::from_le_bytes(key), 3);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            sum = mix(sum.wrapping_add(1), u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        sum = mix(
            sum.wrapping_add(2),
            u64::from_le_bytes(last) ^ bytes.len() as u64,
        );
        let mut tag = [0; TAG];
        tag[..8].copy_from_slice(&sum.to_le_bytes());
        tag[8..].copy_from_slice(&mix(sum, 7).to_le_bytes());
        tag
    }
}

/// An effect that outlives the call that made it.
#[derive(Clone, Debug)]
pub enum Work {
    /// A frame for the network.
    Send(Recipient, Rc<[u8]>),
    /// A record for the disk.
    Persist(Journal, Vec<u8>),
    /// Start a copy, from what a move brought or from images.
    Start(GuestId, Epoch, Option<MoveId>),
    /// Move a copy to a board.
    Move(GuestId, Epoch, MoveId, BoardId),
    /// A move is off.
    Abandon(GuestId, MoveId),
    /// A copy that was stopped for its hand-over stays, in another epoch.
    Renew(GuestId, Epoch, Epoch),
    /// Freeze a copy.
    Freeze(GuestId, Epoch),
    /// Let a copy go on.
    Resume(GuestId, Epoch),
    /// Destroy a copy.
    Destroy(GuestId, Epoch),
    /// An answer to the operator.
    Answer(RequestId, Outcome),
}

/// Collects effects.
#[derive(Debug, Default)]
pub struct Tray(pub Vec<Work>);

impl Sink for Tray {
    fn emit(&mut self, effect: Effect<'_>) {
        self.0.push(match effect {
            Effect::Send { to, frame } => Work::Send(to, frame.into()),
            Effect::Persist { place, record } => Work::Persist(place, record.to_vec()),
            Effect::Start {
                guest,
                epoch,
                arrived,
            } => Work::Start(guest, epoch, arrived),
            Effect::Move {
                guest,
                epoch,
                id,
                to,
                ..
            } => Work::Move(guest, epoch, id, to),
            Effect::Abandon { guest, id, .. } => Work::Abandon(guest, id),
            Effect::Renew { guest, from, to } => Work::Renew(guest, from, to),
            Effect::Freeze { guest, epoch } => Work::Freeze(guest, epoch),
            Effect::Resume { guest, epoch } => Work::Resume(guest, epoch),
            Effect::Destroy { guest, epoch } => Work::Destroy(guest, epoch),
            Effect::Answer { id, outcome } => Work::Answer(id, outcome),
            // What goes beside the protocol decides nothing.
            Effect::Parcel { .. } => return,
        });
    }
}

/// A clock that drifts: local time as a function of true time, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Local time at true time zero.
    pub base: u64,
    /// By how much it is fast, in parts per million; negative: slow.
    pub ppm: i64,
}

impl Clock {
    /// Local time at true time `t`.
    #[must_use]
    pub fn local(&self, t: u64) -> Micros {
        let drift = i128::from(t) * i128::from(self.ppm) / 1_000_000;
        Micros(self.base.wrapping_add(t).wrapping_add_signed(drift as i64))
    }

    /// The first true time at which the local time is at least `local`.
    #[must_use]
    pub fn when(&self, local: Micros) -> u64 {
        let span = i128::from(local.0) - i128::from(self.base);
        let mut t = (span * 1_000_000 / (1_000_000 + i128::from(self.ppm))).max(0) as u64;
        while self.local(t) < local {
            t += 1;
        }
        t
    }
}

/// A disk with a journal on it.
#[derive(Clone, Debug, Default, Hash)]
pub struct Disk {
    /// The complete journal.
    pub records: Vec<Vec<u8>>,
    /// One that was begun beside it.
    pub begun: Option<Vec<Vec<u8>>>,
}

impl Disk {
    /// Makes a record durable.
    pub fn write(&mut self, place: Journal, record: Vec<u8>) {
        match place {
            Journal::Begin => self.begun = Some(vec![record]),
            Journal::Append => match &mut self.begun {
                Some(begun) => begun.push(record),
                None => self.records.push(record),
            },
            Journal::Complete => {
                if let Some(mut begun) = self.begun.take() {
                    begun.push(record);
                    self.records = begun;
                }
            }
        }
    }

    /// The power fails while `record` is being written: part of it is there.
    pub fn tear(&mut self, place: Journal, record: &[u8]) {
        if place == Journal::Append && self.begun.is_none() {
            self.records.push(record[..record.len() / 2].to_vec());
        }
    }

    /// What a boot finds.
    pub fn find(&mut self) -> Vec<Vec<u8>> {
        self.begun = None;
        self.records.clone()
    }
}

/// A copy of a guest on a board, as its driver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// In which epoch.
    pub epoch: Epoch,
    /// Whether its processors are stopped.
    pub frozen: bool,
    /// The move that is being carried out with it.
    pub moved: Option<MoveId>,
    /// Whether its processors are stopped for its hand-over.
    pub stopped: bool,
    /// The guest's state: how often it has had effects since it was started from its images.
    pub count: u64,
}

impl Running {
    /// One that begins to run.
    #[must_use]
    pub fn new(epoch: Epoch, count: u64) -> Self {
        Self {
            epoch,
            frozen: false,
            moved: None,
            stopped: false,
            count,
        }
    }
}

/// A copy that a move has brought, and that does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// In which epoch.
    pub epoch: Epoch,
    /// Which move.
    pub id: MoveId,
    /// The guest's state.
    pub count: u64,
}

/// A board.
pub struct Machine {
    /// The protocol.
    pub node: Box<SimNode>,
    /// Whether it has power.
    pub on: bool,
    /// How often it has booted.
    pub life: u64,
    /// It does nothing before this true time.
    pub paused_until: u64,
    /// Its clock.
    pub clock: Clock,
    /// The true time of the wake-up that counts.
    pub wake_at: u64,
    /// Its disk, if it has one.
    pub disk: Option<Disk>,
    /// Effects that wait for the disk, with the true time at which each is done.
    pub outbox: VecDeque<(u64, Work)>,
    /// Its copies of guests.
    pub copies: [Option<Running>; GUESTS],
    /// Copies that moves have brought.
    pub arrived: [Option<Arrived>; GUESTS],
    /// Guests that a tool is to bring from a file, and in which epoch.
    pub awaited: [Option<Epoch>; GUESTS],
    /// Whether it is a witness.
    pub witness: bool,
}

impl Machine {
    /// A board without power.
    #[must_use]
    pub fn new(clock: Clock, disk: bool, witness: bool) -> Self {
        Self {
            node: Box::new(SimNode::new()),
            on: false,
            life: 0,
            paused_until: 0,
            clock,
            wake_at: 0,
            disk: disk.then(Disk::default),
            outbox: VecDeque::new(),
            copies: [None; GUESTS],
            arrived: [None; GUESTS],
            awaited: [None; GUESTS],
            witness,
        }
    }
}
