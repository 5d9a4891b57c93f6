//! Boards for the tool to speak with: the agents of real boards over UDP on this machine's loopback, with guests that only pretend.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cluster_proto::agent::book::{Destination, Endpoint};
use cluster_proto::agent::{Agent, Brought, Hands};
use cluster_proto::first::first_ledger;
use cluster_proto::ids::{BoardId, Epoch, GuestId, Incarnation, Micros, MoveId, Span};
use cluster_proto::ledger::Ledger;
use cluster_proto::ledger::types::{Capacity, Digest, Reason};
use cluster_proto::limits::{self, BOARDS, GUESTS, LOG, VOLUMES};
use cluster_proto::node::{Journal, Local, Setup};
use cluster_proto::package::Package;
use cluster_proto::service::Unsaved;
use cluster_proto::service::fetch::Store;
use cluster_proto::wire::auth::{ClusterKey, cluster_tag};
use serde_json::Value;

type Board = Agent<ClusterKey, BOARDS, GUESTS, VOLUMES, LOG>;

/// A lease that a machine full of tests does not let run out.
const LEASE: Span = Span::millis(1_500);
/// What guests say.
pub const SAID: &[u8] = b"Welcome\nlogin: ";
/// How long something may take on a machine full of tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// What boards make of an order to move a guest.
#[derive(Clone, Copy, Default)]
pub enum Moves {
    /// They cannot, and say so.
    #[default]
    Refused,
    /// It is done at once.
    Done,
    /// It goes on for ever.
    Endless,
}

/// What a test does to boards.
#[derive(Default)]
struct Weather {
    moves: Moves,
    off: BTreeSet<usize>,
    /// From whom to whom nothing arrives.
    cut: BTreeSet<(usize, usize)>,
}

/// A cluster of boards in a thread, and its folder.
pub struct Boards {
    pub folder: tempfile::TempDir,
    names: Vec<String>,
    addresses: Vec<SocketAddrV4>,
    weather: Arc<Mutex<Weather>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What a board has and does.
struct Body {
    at: usize,
    socket: UdpSocket,
    everyone: Vec<SocketAddrV4>,
    images: BTreeMap<Digest, (Vec<u8>, bool)>,
    copies: BTreeMap<GuestId, Epoch>,
    events: VecDeque<Local>,
    weather: Arc<Mutex<Weather>>,
}

impl Body {
    fn put(&self, to: SocketAddrV4, frame: &[u8]) {
        let weather = self.weather.lock().unwrap();
        let to_board = self.everyone.iter().position(|it| *it == to);
        let cut = to_board.is_some_and(|to| weather.cut.contains(&(self.at, to)));
        if !cut && !weather.off.contains(&self.at) {
            // A full buffer loses it, as a network may.
            let _ = self.socket.send_to(frame, to);
        }
    }
}

impl Store for Body {
    fn write(&mut self, digest: &Digest, from: u32, bytes: &[u8]) {
        let image = self.images.get_mut(digest).expect("begun before");
        image.0[from as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn read(&self, digest: &Digest, from: u32, to: &mut [u8]) -> bool {
        let image = self.images.get(digest);
        let here = image.and_then(|it| it.0.get(from as usize..from as usize + to.len()));
        here.map(|bytes| to.copy_from_slice(bytes)).is_some()
    }
}

impl Hands<BOARDS, GUESTS, VOLUMES> for Body {
    fn send(&mut self, to: Destination, frame: &[u8]) {
        match to {
            Destination::Everyone => {
                let others = self.everyone.iter().enumerate();
                for (_, to) in others.filter(|(at, _)| *at != self.at) {
                    self.put(*to, frame);
                }
            }
            Destination::One(to) => self.put(SocketAddrV4::new(to.address.into(), to.port), frame),
        }
    }

    fn persist(&mut self, _: Journal, _: &[u8]) {
        panic!("these boards have no journal");
    }

    fn start(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        _: Option<MoveId>,
        _: &Ledger<BOARDS, GUESTS, VOLUMES>,
    ) -> Result<(), Reason> {
        assert!(self.copies.insert(guest, epoch).is_none());
        self.events.push_back(Local::Started { guest, epoch });
        Ok(())
    }

    fn send_guest(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        id: MoveId,
        _: BoardId,
        _: Destination,
        _: Option<u16>,
    ) {
        let end = match self.weather.lock().unwrap().moves {
            Moves::Refused => Local::Stays {
                guest,
                epoch,
                id,
                reason: Reason::CannotMove,
            },
            Moves::Done => Local::Ready { guest, epoch, id },
            Moves::Endless => return,
        };
        self.events.push_back(end);
    }

    fn abandon_move(&mut self, _: GuestId, _: Epoch, _: MoveId) {}

    fn brought(&self, _: GuestId, _: Epoch, _: MoveId) -> Brought {
        Brought::Nothing
    }

    fn save(&mut self, _: GuestId, _: Epoch, _: MoveId, _: Destination) -> Option<Unsaved> {
        Some(Unsaved::NotHere)
    }

    fn renew(&mut self, _: GuestId, _: Epoch, _: Epoch) {
        panic!("these boards keep no guest for which they asked for a hand-over");
    }

    fn freeze(&mut self, _: GuestId, _: Epoch) {}

    fn resume(&mut self, _: GuestId, _: Epoch) {}

    fn destroy(&mut self, guest: GuestId, epoch: Epoch) {
        self.copies.remove(&guest);
        let reason = Reason::Operator;
        self.events.push_back(Local::Gone {
            guest,
            epoch,
            reason,
        });
    }

    fn permit(&mut self, _: GuestId, _: Epoch, _: Micros) {}

    fn has_image(&self, digest: &Digest) -> bool {
        self.image_length(digest).is_some()
    }

    fn image_length(&self, digest: &Digest) -> Option<u32> {
        let image = self.images.get(digest).filter(|image| image.1)?;
        Some(image.0.len() as u32)
    }

    fn begin_image(&mut self, digest: &Digest, length: u32) -> bool {
        let room = vec![0; length as usize];
        self.images.insert(*digest, (room, false)).is_none()
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
        let rest = SAID.get(from as usize..).unwrap_or_default();
        to[..rest.len()].copy_from_slice(rest);
        Some((from, rest.len()))
    }

    fn type_in(&mut self, guest: GuestId, _: &[u8]) -> bool {
        self.copies.contains_key(&guest)
    }
}

/// Runs `hearth` in `folder`.
pub fn hearth(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hearth"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("HEARTH_LAB")
        .env_remove("HEARTH_CLUSTER")
        .output()
        .expect("hearth starts")
}

impl Boards {
    /// Packs and boots the boards of `text`, a cluster's description; its first guest's kernel is `kernel`. `peers` are witnesses that run elsewhere.
    pub fn start(text: &str, boards: &[&str], peers: &[SocketAddrV4]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("kernel"), vec![1; 5_000]).unwrap();
        fs::write(folder.path().join("cluster.toml"), text).unwrap();
        let sockets: Vec<_> = boards
            .iter()
            .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
            .collect();
        let address = |socket: &UdpSocket| match socket.local_addr().unwrap() {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(_) => panic!("bound to IPv4"),
        };
        let addresses: Vec<_> = sockets.iter().map(address).collect();
        let everyone: Vec<_> = addresses.iter().chain(peers).copied().collect();
        let weather = Arc::new(Mutex::new(Weather::default()));
        let mut bodies = Vec::new();
        let mut packages = Vec::new();
        for (at, (name, socket)) in boards.iter().zip(sockets).enumerate() {
            let file = format!("{name}.cpio");
            let arguments = ["pack", "cluster.toml", "--board", name, "-o", &file];
            let packed = hearth(folder.path(), &arguments);
            assert!(packed.status.success(), "{packed:?}");
            packages.push(fs::read(folder.path().join(&file)).unwrap());
            socket.set_nonblocking(true).unwrap();
            bodies.push(Body {
                at,
                socket,
                everyone: everyone.clone(),
                images: BTreeMap::new(),
                copies: BTreeMap::new(),
                events: VecDeque::new(),
                weather: Arc::clone(&weather),
            });
        }
        let end = Arc::new(AtomicBool::new(false));
        let (ending, seen) = (Arc::clone(&end), Arc::clone(&weather));
        let thread = std::thread::Builder::new()
            .stack_size(16 << 20)
            .spawn(move || run(bodies, &packages, &seen, &ending))
            .unwrap();
        Self {
            folder,
            names: boards.iter().map(ToString::to_string).collect(),
            addresses,
            weather,
            end,
            thread: Some(thread),
        }
    }

    fn number(&self, name: &str) -> usize {
        let place = self.names.iter().position(|it| it == name);
        place.expect("one of the boards")
    }

    /// Pulls a board's plug; it comes back by `on` as another life.
    pub fn off(&self, name: &str) {
        self.weather.lock().unwrap().off.insert(self.number(name));
    }

    /// Starts a board anew.
    pub fn on(&self, name: &str) {
        self.weather.lock().unwrap().off.remove(&self.number(name));
    }

    /// Nothing from `from` arrives at `to`, or everything again.
    pub fn cut(&self, from: &str, to: &str, on: bool) {
        let way = (self.number(from), self.number(to));
        let cut = &mut self.weather.lock().unwrap().cut;
        if on {
            cut.insert(way);
        } else {
            cut.remove(&way);
        }
    }

    /// What becomes of moves from now on.
    pub fn moves(&self, moves: Moves) {
        self.weather.lock().unwrap().moves = moves;
    }

    /// Where the boards are.
    pub fn addresses(&self) -> &[SocketAddrV4] {
        &self.addresses
    }

    /// The folder's path of `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `hearth` against these boards.
    pub fn hearth(&self, arguments: &[&str]) -> Output {
        let places = self.names.iter().zip(&self.addresses);
        let places: Vec<_> = places
            .map(|(name, at)| format!("--at={name}={at}"))
            .collect();
        let mut all: Vec<_> = arguments.to_vec();
        all.extend(places.iter().map(String::as_str));
        hearth(self.folder.path(), &all)
    }

    /// The JSON of a verb that succeeds, tried again until `good` is content with it.
    pub fn eventually(&self, arguments: &[&str], good: impl Fn(&Value) -> bool) -> Value {
        let mut all = arguments.to_vec();
        all.push("--json");
        let begun = Instant::now();
        loop {
            let output = self.hearth(&all);
            let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            if good(&json) {
                return json;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{arguments:?} does not come to what is expected: {json:#}\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until nothing is wrong.
    pub fn well(&self) -> Value {
        self.eventually(&["status"], |status| status["well"] == true)
    }

    /// What a verb prints that ends with `code`.
    pub fn says(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.hearth(arguments);
        let text = [&output.stdout[..], &output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        text
    }
}

impl Drop for Boards {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the boards' thread panicked"
            );
        }
    }
}

/// The boards' thread.
fn run(mut bodies: Vec<Body>, packages: &[Vec<u8>], weather: &Mutex<Weather>, end: &AtomicBool) {
    let begun = Instant::now();
    let now = || Micros(1 + begun.elapsed().as_micros() as u64);
    let mut lives = 0;
    let mut agents: Vec<Option<Box<Board>>> = bodies.iter().map(|_| None).collect();
    while !end.load(Ordering::Relaxed) {
        let mut idle = true;
        for (at, body) in bodies.iter_mut().enumerate() {
            if weather.lock().unwrap().off.contains(&at) {
                agents[at] = None;
                while body.socket.recv_from(&mut [0; 2_048]).is_ok() {}
                continue;
            }
            let agent = agents[at].get_or_insert_with(|| {
                lives += 1;
                boot(&packages[at], body, lives, now())
            });
            idle &= !turn(agent, body, &now);
        }
        if idle {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Takes in what has come, and lets time pass; whether there was anything to do.
fn turn(agent: &mut Board, body: &mut Body, now: &dyn Fn() -> Micros) -> bool {
    let mut busy = false;
    let mut buffer = [0; 2_048];
    while let Ok((length, SocketAddr::V4(from))) = body.socket.recv_from(&mut buffer) {
        busy = true;
        let from = Endpoint {
            address: from.ip().octets(),
            port: from.port(),
            station: [0; 6],
        };
        agent.receive(now(), from, &buffer[..length], body);
    }
    if agent.deadline() <= now() {
        busy = true;
        agent.tick(now(), body);
    }
    while let Some(event) = body.events.pop_front() {
        busy = true;
        agent.local(now(), event, body);
    }
    busy
}

/// A new life of a board, with the images of its package.
fn boot(archive: &[u8], body: &mut Body, life: u64, now: Micros) -> Box<Board> {
    let package = Package::parse(archive).unwrap();
    body.images.clear();
    body.copies.clear();
    body.events.clear();
    for guest in package.guests() {
        for image in guest.unwrap().images() {
            let bytes = (image.bytes.to_vec(), true);
            body.images.insert(image.image.digest.0, bytes);
        }
    }
    let key = package.key().expect("every package has the key");
    let entropy = u64::from(std::process::id()) << 32 | life;
    let setup = Setup {
        board: BoardId(package.board_number().0),
        cluster: cluster_tag(&key, package.cluster().as_str()),
        key,
        incarnation: Incarnation(entropy.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        seed: entropy,
        capacity: Capacity {
            memory_mib: 512,
            cores: 4,
            class: 0,
        },
        journal: false,
        heartbeat: limits::HEARTBEAT,
        lease: LEASE,
        drift_ppm: limits::DRIFT_PPM,
    };
    let mut agent = Box::new(Board::new());
    agent.boot(&setup, now, |ledger| {
        first_ledger(package.manifest(), ledger).unwrap();
    });
    agent
}
