//! Agents over a network of their own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::vec::Vec;

use sha2::Digest as _;

use super::book::{Destination, Endpoint};
use super::{Agent, Brought, Hands};
use crate::client::{Client, Question, Reply};
use crate::ids::{BoardId, BoardSet, Epoch, GuestId, Incarnation, Micros, MoveId, Span};
use crate::ledger::Ledger;
use crate::ledger::types::{
    Board, Capacity, CommandLine, Digest, GuestSpec, Image, Name, Operation, Outcome, Phase,
    Reason, Wanted,
};
use crate::limits;
use crate::node::{Journal, Local, Setup};
use crate::service::fetch::Store;
use crate::service::{Parcel, Unsaved, Unwanted};
use crate::wire::auth::ClusterKey;
use crate::wire::codec::Writer;
use crate::wire::frame::MAX_BODY;

const B: usize = 4;
const G: usize = 4;
const D: usize = 4;
pub(super) type Small = Agent<ClusterKey, B, G, D, 32>;

const CLUSTER: u32 = 0x1234_5678;
const KEY: [u8; 32] = [9; 32];
const TOOL: Endpoint = Endpoint {
    address: [10, 7, 0, 254],
    port: 4_711,
    station: [0; 6],
};

fn home(board: usize) -> Endpoint {
    Endpoint {
        address: [10, 7, 0, board as u8 + 1],
        port: 7_266,
        station: [0; 6],
    }
}

/// What a board's guests do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub epoch: Epoch,
    pub frozen: bool,
    pub until: Micros,
}

#[derive(Default)]
struct World {
    /// Frames on their way: when they arrive, from where, where to.
    wire: Vec<(u64, Endpoint, Destination, Vec<u8>)>,
}

/// A board's images, whole or growing, its guests, and what it sends.
#[derive(Default)]
pub(super) struct Body {
    images: BTreeMap<Digest, (Vec<u8>, bool)>,
    room: usize,
    pub copies: BTreeMap<GuestId, Copy>,
    sent: Vec<(Destination, Vec<u8>)>,
    pub events: VecDeque<Local>,
    pub started: Vec<(GuestId, Epoch)>,
    refuses: bool,
    typed: Vec<u8>,
    /// Moves that are under way from here, and what moves have brought.
    pub moves: BTreeMap<GuestId, (Epoch, MoveId, BoardId)>,
    pub arrived: BTreeMap<GuestId, MoveId>,
    /// What a tool has brought.
    pub brought: BTreeMap<GuestId, (MoveId, Brought)>,
    /// What a tool wants saved.
    pub saves: Vec<(GuestId, Epoch, MoveId, Destination)>,
}

impl Store for Body {
    fn write(&mut self, digest: &Digest, from: u32, bytes: &[u8]) {
        let image = self.images.get_mut(digest).expect("begun before");
        image.0[from as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    fn read(&self, digest: &Digest, from: u32, to: &mut [u8]) -> bool {
        let image = self.images.get(digest);
        let here = image.and_then(|image| image.0.get(from as usize..from as usize + to.len()));
        here.map(|bytes| to.copy_from_slice(bytes)).is_some()
    }
}

impl Hands<B, G, D> for Body {
    fn send(&mut self, to: Destination, frame: &[u8]) {
        self.sent.push((to, frame.to_vec()));
    }
    fn persist(&mut self, _: Journal, _: &[u8]) {
        panic!("these boards have no journal");
    }
    fn start(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        arrived: Option<MoveId>,
        ledger: &Ledger<B, G, D>,
    ) -> Result<(), Reason> {
        let spec = &ledger.guest(guest).expect("it is in the ledger").spec;
        assert!(
            arrived.is_some() || self.has_image(&spec.kernel),
            "a guest starts from images that are here"
        );
        if self.refuses || self.arrived.remove(&guest) != arrived {
            return Err(Reason::StartFailed);
        }
        let copy = Copy {
            epoch,
            frozen: false,
            until: Micros(0),
        };
        assert!(
            self.copies.insert(guest, copy).is_none(),
            "one copy of a guest"
        );
        self.started.push((guest, epoch));
        self.events.push_back(Local::Started { guest, epoch });
        Ok(())
    }
    fn send_guest(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        id: MoveId,
        to: BoardId,
        at: Destination,
        _: Option<u16>,
    ) {
        assert!(matches!(at, Destination::One(_)), "boards know one another");
        assert_eq!(self.copies.get(&guest).expect("a copy").epoch, epoch);
        let before = self.moves.insert(guest, (epoch, id, to));
        assert!(before.is_none(), "one move of a guest");
    }
    fn abandon_move(&mut self, guest: GuestId, epoch: Epoch, id: MoveId) {
        let order = self.moves.remove(&guest).expect("a move");
        assert_eq!((order.0, order.1), (epoch, id));
    }
    fn brought(&self, guest: GuestId, _: Epoch, id: MoveId) -> Brought {
        let here = self.brought.get(&guest).filter(|brought| brought.0 == id);
        here.map_or(Brought::Nothing, |brought| brought.1)
    }
    fn save(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        id: MoveId,
        at: Destination,
    ) -> Option<Unsaved> {
        let copy = self.copies.get(&guest).filter(|copy| copy.epoch == epoch);
        if copy.is_none() {
            return Some(Unsaved::NotHere);
        }
        self.saves.push((guest, epoch, id, at));
        None
    }
    fn renew(&mut self, guest: GuestId, from: Epoch, to: Epoch) {
        assert!(self.moves.remove(&guest).is_some_and(|it| it.0 == from));
        let copy = self.copies.get_mut(&guest).expect("a copy");
        assert_eq!(copy.epoch, from);
        (copy.epoch, copy.frozen) = (to, true);
    }
    fn freeze(&mut self, guest: GuestId, epoch: Epoch) {
        let copy = self.copies.get_mut(&guest).expect("a copy");
        assert_eq!(copy.epoch, epoch);
        copy.frozen = true;
    }
    fn resume(&mut self, guest: GuestId, epoch: Epoch) {
        let copy = self.copies.get_mut(&guest).expect("a copy");
        assert_eq!(copy.epoch, epoch);
        copy.frozen = false;
    }
    fn destroy(&mut self, guest: GuestId, epoch: Epoch) {
        assert_eq!(self.copies.remove(&guest).expect("a copy").epoch, epoch);
        self.moves.remove(&guest);
        let reason = Reason::Operator;
        self.events.push_back(Local::Gone {
            guest,
            epoch,
            reason,
        });
    }
    fn permit(&mut self, guest: GuestId, epoch: Epoch, until: Micros) {
        if let Some(copy) = self
            .copies
            .get_mut(&guest)
            .filter(|copy| copy.epoch == epoch)
        {
            copy.until = until;
        }
    }
    fn has_image(&self, digest: &Digest) -> bool {
        self.image_length(digest).is_some()
    }
    fn image_length(&self, digest: &Digest) -> Option<u32> {
        let image = self.images.get(digest).filter(|image| image.1)?;
        Some(image.0.len() as u32)
    }
    fn begin_image(&mut self, digest: &Digest, length: u32) -> bool {
        let used: usize = self.images.values().map(|image| image.0.len()).sum();
        if used + length as usize > self.room {
            return false;
        }
        let before = self
            .images
            .insert(*digest, (std::vec![0; length as usize], false));
        assert!(before.is_none(), "an image is begun once");
        true
    }
    fn end_image(&mut self, digest: &Digest, whole: bool) {
        if whole {
            self.images.get_mut(digest).expect("begun before").1 = true;
        } else {
            self.images.remove(digest);
        }
    }
    fn drop_images(&mut self, needs: &dyn Fn(&Digest) -> bool) {
        self.images
            .retain(|digest, image| !image.1 || needs(digest));
    }
    fn listen(&mut self, guest: GuestId, from: u64, to: &mut [u8]) -> Option<(u64, usize)> {
        self.copies.get(&guest)?;
        let said = b"login: ";
        let rest = said.get(from as usize..).unwrap_or_default();
        to[..rest.len()].copy_from_slice(rest);
        Some((from, rest.len()))
    }
    fn type_in(&mut self, guest: GuestId, bytes: &[u8]) -> bool {
        self.typed.extend_from_slice(bytes);
        self.copies.contains_key(&guest)
    }
}

pub(super) struct Lab {
    now: u64,
    world: World,
    pub agents: Vec<Box<Small>>,
    pub bodies: Vec<Body>,
    off: BTreeSet<usize>,
    lives: u64,
    tool: Client<ClusterKey>,
    outcome: Option<Outcome>,
    parcels: Vec<(BoardId, Vec<u8>)>,
    loses: u32,
    dice: u32,
}

fn image_of(seed: u8, length: usize) -> (Digest, Vec<u8>) {
    let bytes: Vec<u8> = (0..length)
        .map(|at| (at as u8).wrapping_mul(seed) ^ seed)
        .collect();
    (sha2::Sha256::digest(&bytes).into(), bytes)
}

fn spec(name: &str, kernel: Digest) -> GuestSpec {
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

    fn boot(&mut self, board: usize, held: &[usize]) {
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
    fn lost(&mut self) -> bool {
        self.dice = self
            .dice
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        (self.dice >> 16) % 1_000 < self.loses
    }

    fn carry(&mut self, board: usize) {
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

    fn tool_sends(&mut self, frames: Vec<(BoardId, Vec<u8>)>) {
        for (board, frame) in frames {
            let to = Destination::One(home(board.at()));
            self.world.wire.push((self.now + 300, TOOL, to, frame));
        }
    }

    fn hear(&mut self, frame: &[u8]) {
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
    fn check(&self) {
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

    fn post(&mut self, board: usize, parcel: &Parcel<'_>) -> bool {
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
    fn upload(&mut self, board: usize, digest: Digest, bytes: &[u8]) -> Result<(), Unwanted> {
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

#[test]
fn a_guest_starts_once_and_again_elsewhere_when_its_board_dies() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.until("a running guest", Span::millis(3_000), |lab| {
        lab.owner().is_some()
    });
    let first = lab.owner().expect("just seen");
    lab.off.insert(first);
    let died = lab.now;
    lab.until("a running guest elsewhere", Span::millis(2_000), |lab| {
        lab.owner().is_some_and(|owner| owner != first)
    });
    assert!(lab.now - died < 1_000_000, "it took {} us", lab.now - died);
    let starts: usize = lab.bodies.iter().map(|body| body.started.len()).sum();
    assert_eq!(starts, 2);
}

#[test]
fn a_board_that_wakes_late_is_silent_by_the_clock_and_gives_its_copy_up() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.until("a running guest", Span::millis(3_000), |lab| {
        lab.owner().is_some()
    });
    let paused = lab.owner().expect("just seen");
    lab.off.insert(paused);
    lab.run(Span::millis(5_000));
    // Its permit ran out while it slept, whatever it does first.
    assert!(lab.bodies[paused].copies[&GuestId(0)].until.0 < lab.now);
    lab.off.remove(&paused);
    lab.until("its copy gone", Span::millis(3_000), |lab| {
        lab.bodies[paused].copies.is_empty()
    });
    lab.run(Span::millis(1_000));
    assert!(lab.owner().is_some_and(|owner| owner != paused));
}

#[test]
fn an_image_is_fetched_where_it_is_not() {
    let mut lab = Lab::new(&[2]);
    lab.loses = 30;
    lab.until("a running guest", Span::millis(8_000), |lab| {
        lab.owner().is_some()
    });
    let owner = lab.owner().expect("just seen");
    assert_eq!(owner, 0);
    let (kernel, bytes) = image_of(3, 50_000);
    assert_eq!(lab.bodies[owner].images[&kernel], (bytes, true));
    lab.loses = 0;
    lab.run(Span::millis(500));
    let ledger = lab.agents[0].node().ledger();
    let image = ledger
        .images
        .iter()
        .find(|image| image.digest == kernel)
        .expect("known");
    assert!(
        image.held.has(BoardId(owner as u8)),
        "it is known to be there now"
    );
}

#[test]
fn a_source_that_dies_is_replaced() {
    let mut lab = Lab::new(&[1, 2]);
    lab.until("a fetch under way", Span::millis(3_000), |lab| {
        lab.bodies[0].images.values().any(|image| !image.1)
    });
    // Board 0 asks the next one first.
    lab.off.insert(1);
    lab.until("a running guest", Span::millis(6_000), |lab| {
        lab.owner() == Some(0)
    });
}

#[test]
fn a_guest_whose_image_nobody_has_fails_and_is_tried_again() {
    let mut lab = Lab::new(&[]);
    lab.run(Span::millis(9_000));
    assert_eq!(lab.owner(), None);
    let failures = lab.agents[0]
        .node()
        .ledger()
        .guest(GuestId(0))
        .expect("known")
        .failures;
    assert!(failures > 0, "its start has failed");
    assert!(lab.bodies.iter().all(|body| body.copies.is_empty()));
}

#[test]
fn a_tool_gives_an_image_and_a_guest_starts_from_it() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.until("a running guest", Span::millis(3_000), |lab| {
        lab.owner().is_some()
    });
    lab.loses = 20;
    let (digest, bytes) = image_of(11, 100_001);
    assert_eq!(lab.upload(1, digest, &bytes), Ok(()));
    assert_eq!(lab.bodies[1].images[&digest], (bytes, true));
    lab.loses = 0;
    lab.run(Span::millis(500));
    let outcome = lab.order(Operation::CreateGuest {
        spec: spec("new", digest),
    });
    assert_eq!(outcome, Outcome::Done { number: 1 });
    lab.until("the new guest", Span::millis(5_000), |lab| {
        lab.bodies
            .iter()
            .any(|body| body.copies.contains_key(&GuestId(1)))
    });
}

#[test]
fn an_image_that_is_not_what_it_is_called_is_refused() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.run(Span::millis(1_000));
    let (_, bytes) = image_of(11, 5_000);
    assert_eq!(lab.upload(1, [5; 32], &bytes), Err(Unwanted::Digest));
    assert!(
        !lab.bodies[1].images.contains_key(&[5; 32]),
        "nothing is left of it"
    );
    let (digest, bytes) = image_of(12, 300_000);
    assert_eq!(lab.upload(1, digest, &bytes), Err(Unwanted::NoRoom));
}

#[test]
fn images_that_no_guest_needs_make_room() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.run(Span::millis(1_000));
    let (digest, bytes) = image_of(11, 100_000);
    assert_eq!(lab.upload(1, digest, &bytes), Ok(()));
    let (digest, bytes) = image_of(12, 100_000);
    assert_eq!(lab.upload(1, digest, &bytes), Ok(()));
    let (kernel, _) = image_of(3, 50_000);
    assert!(
        lab.bodies[1].images.contains_key(&kernel),
        "a guest needs it"
    );
    assert_eq!(lab.bodies[1].images.len(), 2);
}

#[test]
fn a_start_that_is_refused_is_reported() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.bodies.iter_mut().for_each(|body| body.refuses = true);
    lab.run(Span::millis(2_000));
    let guest = lab.agents[0]
        .node()
        .ledger()
        .guest(GuestId(0))
        .expect("known")
        .clone();
    assert!(guest.failures > 0);
    lab.bodies.iter_mut().for_each(|body| body.refuses = false);
    lab.until("a running guest", Span::millis(20_000), |lab| {
        lab.owner().is_some()
    });
}

#[test]
fn a_guest_waiting_for_its_image_can_be_called_off() {
    let mut lab = Lab::new(&[2]);
    lab.loses = 0;
    lab.until("a fetch under way", Span::millis(3_000), |lab| {
        lab.bodies
            .iter()
            .any(|body| body.images.values().any(|image| !image.1))
    });
    let wanted = Wanted::Stopped;
    lab.order(Operation::Want {
        guest: GuestId(0),
        wanted,
    });
    lab.run(Span::millis(1_000));
    let guest = lab.agents[0]
        .node()
        .ledger()
        .guest(GuestId(0))
        .expect("known")
        .clone();
    assert_eq!(guest.phase, Phase::Unowned);
    assert!(lab.bodies.iter().all(|body| body.copies.is_empty()));
}

#[test]
fn a_console_is_read_and_typed_at_where_the_guest_is() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.until("a running guest", Span::millis(3_000), |lab| {
        lab.owner().is_some()
    });
    let owner = lab.owner().expect("just seen");
    let guest = GuestId(0);
    while !lab.post(owner, &Parcel::Listen { guest, from: 2 }) {
        lab.run(Span::millis(5));
    }
    lab.post(
        owner,
        &Parcel::Type {
            guest,
            bytes: b"root",
        },
    );
    lab.run(Span::millis(5));
    let said = Parcel::get(&lab.parcels[0].1);
    assert_eq!(
        said,
        Ok(Parcel::Said {
            guest,
            from: 2,
            bytes: b"gin: "
        })
    );
    assert_eq!(lab.bodies[owner].typed, b"root");
    lab.parcels.clear();
    let other = (owner + 1) % 3;
    while !lab.post(other, &Parcel::Listen { guest, from: 0 }) {
        lab.run(Span::millis(5));
    }
    lab.run(Span::millis(5));
    assert_eq!(
        Parcel::get(&lab.parcels[0].1),
        Ok(Parcel::Elsewhere { guest })
    );
}

#[test]
fn strangers_and_noise_change_nothing() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.until("a running guest", Span::millis(3_000), |lab| {
        lab.owner().is_some()
    });
    let stranger = Endpoint {
        address: [10, 7, 0, 66],
        port: 7_266,
        station: [0; 6],
    };
    let frames: Vec<_> = lab.world.wire.iter().map(|frame| frame.3.clone()).collect();
    for mut frame in frames {
        let at = frame.len() / 2;
        frame[at] ^= 1;
        let (agent, body) = (&mut lab.agents[0], &mut lab.bodies[0]);
        assert!(!agent.receive(Micros(lab.now), stranger, &frame, body));
        assert!(!agent.receive(Micros(lab.now), stranger, &frame[..at], body));
    }
    assert!(
        lab.bodies[0].sent.is_empty(),
        "nobody who proves nothing is answered"
    );
    lab.run(Span::millis(1_000));
    assert!(lab.owner().is_some());
}
