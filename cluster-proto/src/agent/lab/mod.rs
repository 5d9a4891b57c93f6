//! Agents over a network of their own, for the tests beside this.

mod body;

use std::collections::BTreeSet;
use std::vec::Vec;

use sha2::Digest as _;

use super::Agent;
use super::book::{Destination, Endpoint};
use crate::client::{Client, Question, Reply};
use crate::ids::{BoardId, BoardSet, GuestId, Incarnation, Micros, Span};
use crate::ledger::types::{
    Board, Capacity, CommandLine, Digest, GuestSpec, Image, Name, Operation, Outcome, Phase, Wanted,
};
use crate::limits;
use crate::node::Setup;
use crate::service::{Parcel, Unwanted};
use crate::wire::auth::ClusterKey;
use crate::wire::codec::Writer;
use crate::wire::frame::MAX_BODY;

pub use body::Body;

pub const B: usize = 4;
pub const G: usize = 4;
pub const D: usize = 4;
pub type Small = Agent<ClusterKey, B, G, D, 32>;

pub const CLUSTER: u32 = 0x1234_5678;
pub const KEY: [u8; 32] = [9; 32];
pub const TOOL: Endpoint = Endpoint {
    address: [10, 7, 0, 254],
    port: 4_711,
    station: [0; 6],
};

pub fn home(board: usize) -> Endpoint {
    Endpoint {
        address: [10, 7, 0, board as u8 + 1],
        port: 7_266,
        station: [0; 6],
    }
}

#[derive(Default)]
pub struct World {
    /// Frames on their way: when they arrive, from where, where to.
    pub wire: Vec<(u64, Endpoint, Destination, Vec<u8>)>,
}
/// Three agents, their boards, a tool, and the network between them.
pub struct Lab {
    pub now: u64,
    pub world: World,
    pub agents: Vec<Box<Small>>,
    pub bodies: Vec<Body>,
    pub off: BTreeSet<usize>,
    pub lives: u64,
    pub tool: Client<ClusterKey>,
    pub outcome: Option<Outcome>,
    pub parcels: Vec<(BoardId, Vec<u8>)>,
    pub loses: u32,
    pub dice: u32,
}

pub fn image_of(seed: u8, length: usize) -> (Digest, Vec<u8>) {
    let bytes: Vec<u8> = (0..length)
        .map(|at| (at as u8).wrapping_mul(seed) ^ seed)
        .collect();
    (sha2::Sha256::digest(&bytes).into(), bytes)
}

pub fn spec(name: &str, kernel: Digest) -> GuestSpec {
    GuestSpec {
        name: Name::try_from(name).expect("short"),
        memory_mib: 64,
        vcpus: 1,
        class: 0,
        priority: 100,
        apart: 0,
        allowed: BoardSet(0),
        wanted: Wanted::Running,
        mac: [0; 6],
        kernel,
        initrd: [0; 32],
        command_line: CommandLine::new(),
    }
}

impl Lab {
    /// Three boards; the ledger has one guest, whose kernel is on boards `held`.
    pub fn new(held: &[usize]) -> Self {
        let everything = BoardSet(0b111);
        let mut lab = Self {
            now: 1_000,
            world: World::default(),
            agents: (0..3).map(|_| Box::new(Small::new())).collect(),
            bodies: Vec::new(),
            off: BTreeSet::new(),
            lives: 0,
            tool: Client::new(ClusterKey::new(&KEY), &KEY, CLUSTER, everything, 77),
            outcome: None,
            parcels: Vec::new(),
            loses: 0,
            dice: 1,
        };
        for board in 0..3 {
            lab.bodies.push(Body::default());
            lab.boot(board, held);
        }
        lab
    }

    pub fn boot(&mut self, board: usize, held: &[usize]) {
        let (kernel, bytes) = image_of(3, 50_000);
        self.lives += 1;
        self.off.remove(&board);
        self.bodies[board] = Body {
            room: 200_000,
            ..Body::default()
        };
        if held.contains(&board) {
            self.bodies[board].images.insert(kernel, (bytes, true));
        }
        let setup = Setup {
            board: BoardId(board as u8),
            cluster: CLUSTER,
            key: KEY,
            incarnation: Incarnation(self.lives * 1_000_003),
            seed: self.lives * 77,
            capacity: Capacity {
                memory_mib: 512,
                cores: 2,
                class: 0,
            },
            journal: false,
            heartbeat: limits::HEARTBEAT,
            lease: limits::LEASE,
            drift_ppm: limits::DRIFT_PPM,
            #[cfg(feature = "mutations")]
            mutation: None,
        };
        let held = BoardSet(held.iter().fold(0, |set, board| set | 1 << board));
        self.agents[board].boot(&setup, Micros(self.now), |ledger| {
            for at in 0..3 {
                ledger.boards[at] = Some(Board {
                    name: Name::try_from(["one", "two", "three"][at]).expect("short"),
                    votes: true,
                    witness: false,
                    drained: false,
                    downtime: None,
                    disarmed: false,
                    incarnation: Incarnation(0),
                    tenure: crate::ids::Tenure(0),
                    fenced_at: crate::ids::Index(0),
                    capacity: setup.capacity.clone(),
                });
                assert!(ledger.seats.add(BoardId(at as u8)));
            }
            let image = Image {
                digest: kernel,
                size: 50_000,
                held,
            };
            ledger.images.push(image).expect("room");
            let mut web = spec("web", kernel);
            if !held.has(BoardId(0)) {
                // It is to run where its image is not.
                web.allowed = BoardSet(1);
            }
            ledger.create_guest(&web).expect("room");
        });
    }

    /// One more of the network's losses.
    pub fn lost(&mut self) -> bool {
        self.dice = self
            .dice
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        (self.dice >> 16) % 1_000 < self.loses
    }

    pub fn carry(&mut self, board: usize) {
        for (to, frame) in std::mem::take(&mut self.bodies[board].sent) {
            if !self.lost() {
                self.world
                    .wire
                    .push((self.now + 300, home(board), to, frame));
            }
        }
    }

    pub fn run(&mut self, span: Span) {
        let end = self.now + span.0;
        while self.now < end {
            self.now += 250;
            for board in (0..3)
                .filter(|board| !self.off.contains(board))
                .collect::<Vec<_>>()
            {
                let (agent, body) = (&mut self.agents[board], &mut self.bodies[board]);
                while let Some(event) = body.events.pop_front() {
                    agent.local(Micros(self.now), event, body);
                }
                if agent.deadline().0 <= self.now {
                    agent.tick(Micros(self.now), body);
                }
                self.carry(board);
            }
            let due: Vec<_> = self
                .world
                .wire
                .extract_if(.., |frame| frame.0 <= self.now)
                .collect();
            for (_, from, to, frame) in due {
                for board in (0..3)
                    .filter(|board| !self.off.contains(board))
                    .collect::<Vec<_>>()
                {
                    let meant = match to {
                        Destination::Everyone => from != home(board),
                        Destination::One(endpoint) => endpoint == home(board),
                    };
                    if meant {
                        let body = &mut self.bodies[board];
                        self.agents[board].receive(Micros(self.now), from, &frame, body);
                        self.carry(board);
                    }
                }
                if to == Destination::One(TOOL) {
                    self.hear(&frame);
                }
            }
            let mut out = Vec::new();
            let asked = self.tool.tick(Micros(self.now), &mut |board, frame| {
                out.push((board, frame.to_vec()));
            });
            assert!(asked.is_ok(), "somebody answers the tool");
            self.tool_sends(out);
            self.check();
        }
    }

    pub fn tool_sends(&mut self, frames: Vec<(BoardId, Vec<u8>)>) {
        for (board, frame) in frames {
            let to = Destination::One(home(board.at()));
            self.world.wire.push((self.now + 300, TOOL, to, frame));
        }
    }

    pub fn hear(&mut self, frame: &[u8]) {
        let mut out = Vec::new();
        let reply = self
            .tool
            .receive(Micros(self.now), frame, &mut |board, frame| {
                out.push((board, frame.to_vec()));
            });
        match reply {
            Some(Reply::Outcome(_, outcome)) => self.outcome = Some(outcome),
            Some(Reply::Parcel(board, bytes)) => self.parcels.push((board, bytes.to_vec())),
            _ => {}
        }
        self.tool_sends(out);
    }

    /// At most one copy of a guest may have effects.
    pub fn check(&self) {
        for guest in 0..G as u16 {
            let live = (0..3)
                .filter(|board| !self.off.contains(board))
                .filter(|&board| {
                    let copy = self.bodies[board].copies.get(&GuestId(guest));
                    copy.is_some_and(|copy| self.now < copy.until.0)
                });
            assert!(
                live.count() <= 1,
                "two copies of guest {guest} may have effects"
            );
        }
    }

    pub fn post(&mut self, board: usize, parcel: &Parcel<'_>) -> bool {
        let mut room = [0; MAX_BODY];
        let mut to = Writer::new(&mut room);
        parcel.put(&mut to).expect("room");
        let mut out = Vec::new();
        let sent = self
            .tool
            .parcel(BoardId(board as u8), to.bytes(), &mut |board, frame| {
                out.push((board, frame.to_vec()));
            });
        self.tool_sends(out);
        sent
    }

    /// Who owns the guest and runs it.
    /// Pulls a board's plug.
    pub fn turn_off(&mut self, board: usize) {
        self.off.insert(board);
    }

    pub fn owner(&self) -> Option<usize> {
        let guest = GuestId(0);
        let ledger =
            (0..3).find(|board| !self.off.contains(board) && self.agents[*board].node().leads());
        let guest = self.agents[ledger?].node().ledger().guest(guest)?;
        (guest.phase == Phase::Running).then_some(usize::from(guest.owner.0))
    }

    pub fn until(&mut self, what: &str, span: Span, mut seen: impl FnMut(&Self) -> bool) {
        let end = self.now + span.0;
        while !seen(self) {
            assert!(self.now < end, "{what} did not come");
            self.run(Span(250));
        }
    }

    pub fn order(&mut self, operation: Operation) -> Outcome {
        self.outcome = None;
        let mut out = Vec::new();
        self.tool.ask(
            Micros(self.now),
            Question::Order(operation),
            &mut |board, frame| {
                out.push((board, frame.to_vec()));
            },
        );
        self.tool_sends(out);
        self.until("an outcome", Span::millis(10_000), |lab| {
            lab.outcome.is_some()
        });
        self.outcome.clone().expect("just seen")
    }

    /// Offers an image and gives what is asked for, until the board has it or refuses.
    pub fn upload(&mut self, board: usize, digest: Digest, bytes: &[u8]) -> Result<(), Unwanted> {
        let length = bytes.len() as u32;
        for _ in 0..4_000 {
            self.run(Span::millis(2));
            for (_, parcel) in std::mem::take(&mut self.parcels) {
                match Parcel::get(&parcel).expect("a parcel") {
                    Parcel::Ask {
                        digest: asked,
                        first,
                        wanted,
                    } => {
                        assert_eq!(asked, digest);
                        for number in (0..16)
                            .filter(|bit| wanted >> bit & 1 != 0)
                            .map(|bit| first + bit)
                        {
                            let (from, size) =
                                crate::service::piece_range(number, length).expect("within");
                            let bytes = &bytes[from as usize..][..size];
                            assert!(self.post(
                                board,
                                &Parcel::Piece {
                                    digest,
                                    number,
                                    bytes
                                }
                            ));
                        }
                    }
                    Parcel::Have { bytes, .. } if bytes == length => return Ok(()),
                    Parcel::Have { .. } => {}
                    Parcel::Refuse { why, .. } => return Err(why),
                    other => panic!("unasked for: {other:?}"),
                }
            }
            if self.now % 100_000 < 2_000 {
                self.post(board, &Parcel::Offer { digest, length });
            }
        }
        panic!("the upload does not end");
    }
}
