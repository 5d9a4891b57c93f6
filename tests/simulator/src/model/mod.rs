//! The same nodes under a model checker: three voters, and every combination of what may go wrong in each stretch of time, up to a depth.
//!
//! A step is a stretch of time in which nodes tick by their own drifting clocks and frames take a millisecond, under one fault: a link cut one way,
//! a board cut off, stopped, or its frames held back to the next step; or a crash, a boot, or an order. The state is all of three nodes, what is
//! on its way, and what was ever agreed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use cluster_proto::ids::{BoardId, Epoch, Era, Incarnation};
use cluster_proto::ledger::types::{Board, Capacity, Seats};
use cluster_proto::limits::{HEARTBEAT, LEASE};
use cluster_proto::node::{Node, Setup};

use crate::machine::{Clock, Disk, QuickTag};
use crate::world::World;

mod look;
mod scope;
mod step;
pub use scope::{Fault, Scope};

/// Boards of the model.
pub const VOTERS: usize = 3;
const GUESTS: usize = 2;
/// Drift of the first board's clock, and against that of the others: a tenth, so that it shows within few steps.
const DRIFT_PPM: u32 = 100_000;
/// When a cluster has settled, in microseconds.
const SETTLED: u64 = 3_000_000;
/// For so many steps an adversary remembers what was sent.
const MEMORY: u64 = 3;
/// Events of a step; a protocol that needs more talks to itself for ever.
const EVENTS: usize = 5_000;

type ModelNode = Node<QuickTag, VOTERS, GUESTS, 1, 16>;

#[derive(Clone, Hash)]
struct Station {
    node: Arc<ModelNode>,
    on: bool,
    life: u64,
    base: u64,
    copies: [Option<(Epoch, bool)>; GUESTS],
    disk: Option<Disk>,
    /// The newest life of each other board that this life has accepted.
    lives: [u64; VOTERS],
}

#[derive(Clone, Hash)]
struct Mail {
    due: u64,
    from: u8,
    life: u64,
    to: u8,
    frame: Arc<[u8]>,
}

/// The state of the model.
#[derive(Clone, Hash)]
#[allow(
    clippy::derived_hash_with_manual_eq,
    reason = "equal is what has the same hash"
)]
pub struct Situation {
    depth: u8,
    crashes: u8,
    now: u64,
    stations: [Station; VOTERS],
    mail: Vec<Mail>,
    /// What was sent in the last steps.
    sent: Vec<Mail>,
    /// Hash of what was agreed, by history and index.
    agreed: Arc<BTreeMap<(Era, u64), u64>>,
    /// Who led, by history and term.
    leaders: Arc<BTreeMap<(Era, u64), u8>>,
    request: u64,
    violation: Option<&'static str>,
}

impl PartialEq for Situation {
    /// By hash, as the checker itself tells states apart.
    fn eq(&self, other: &Self) -> bool {
        let sum = |situation: &Self| {
            let mut hasher = DefaultHasher::new();
            situation.hash(&mut hasher);
            hasher.finish()
        };
        sum(self) == sum(other)
    }
}

impl std::fmt::Debug for Situation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} ms after {} steps: {:?}",
            self.now / 1_000,
            self.depth,
            self.violation
        )
    }
}

impl Situation {
    /// A cluster that was founded and runs its guests, without faults so far.
    #[must_use]
    pub fn settled(scope: &Scope) -> Self {
        let station = |board: usize| Station {
            node: Arc::new(ModelNode::new()),
            on: false,
            life: 0,
            base: 1_000_000 * (board as u64 + 1),
            copies: [None; GUESTS],
            disk: (scope.witness && board == VOTERS - 1).then(Disk::default),
            lives: [0; VOTERS],
        };
        let mut first = Self {
            depth: 0,
            crashes: 0,
            now: 0,
            stations: [station(0), station(1), station(2)],
            mail: Vec::new(),
            sent: Vec::new(),
            agreed: Arc::default(),
            leaders: Arc::default(),
            request: 0,
            violation: None,
        };
        (0..VOTERS).for_each(|board| first.boot(board, scope));
        while first.now < SETTLED {
            first.pass(Fault::None, scope);
        }
        for fault in &scope.before {
            first.pass(*fault, scope);
        }
        first.depth = 0;
        first
    }

    fn clock(&self, board: usize) -> Clock {
        let ppm = [
            -i64::from(DRIFT_PPM),
            i64::from(DRIFT_PPM),
            i64::from(DRIFT_PPM),
        ][board];
        Clock {
            base: self.stations[board].base,
            ppm,
        }
    }

    fn boot(&mut self, board: usize, scope: &Scope) {
        let local = self.clock(board).local(self.now);
        let station = &mut self.stations[board];
        station.on = true;
        station.life += 1;
        station.lives = [0; VOTERS];
        let setup = Setup {
            board: BoardId(board as u8),
            cluster: 7,
            key: [3; 32],
            incarnation: Incarnation(station.life * 16 + board as u64 + 1),
            seed: station.life * 16 + board as u64,
            capacity: Capacity {
                memory_mib: 1_024,
                cores: 4,
                class: 1,
            },
            journal: station.disk.is_some(),
            heartbeat: HEARTBEAT,
            lease: LEASE,
            drift_ppm: DRIFT_PPM,
            #[cfg(feature = "mutations")]
            mutation: scope.mutation,
        };
        let node = Arc::make_mut(&mut station.node);
        node.boot(&setup, local, |ledger| {
            let mut seats = Seats::NONE;
            for at in 0..VOTERS {
                ledger.boards[at] = Some(Board {
                    name: heapless::String::new(),
                    votes: true,
                    witness: scope.witness && at == VOTERS - 1,
                    drained: false,
                    downtime: None,
                    disarmed: false,
                    incarnation: Incarnation(0),
                    tenure: cluster_proto::ids::Tenure(0),
                    fenced_at: cluster_proto::ids::Index(0),
                    capacity: Capacity {
                        memory_mib: 0,
                        cores: 0,
                        class: 0,
                    },
                });
                seats.add(BoardId(at as u8));
            }
            ledger.seats = seats;
            for guest in 0..GUESTS as u8 {
                let made = ledger.create_guest(&World::spec(guest));
                assert!(made.is_ok(), "the model's guests fit");
            }
        });
        if let Some(disk) = &mut station.disk {
            let records = disk.find();
            let read = node.recall(records.iter().map(Vec::as_slice));
            assert!(read.is_ok(), "a whole journal can be read");
        }
    }

    fn crash(&mut self, board: usize) {
        let station = &mut self.stations[board];
        station.on = false;
        station.copies = [None; GUESTS];
    }
}
