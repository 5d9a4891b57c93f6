//! `hearth witness`: a voter on any machine, so that two boards know which of them is left.
//!
//! It is the boards' own protocol ([`cluster_proto::agent`]) with hands that only send and remember ([`host`]), and a memory on disk ([`journal`]) that survives
//! the machine's reboot: so its vote counts again at once.

mod host;
mod journal;

use std::fs::{self, File};
use std::io::{self, Write as _, stdout};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster_proto::agent::Agent;
use cluster_proto::agent::book::Endpoint;
use cluster_proto::first::first_ledger;
use cluster_proto::ids::{BoardId, Incarnation, Micros};
use cluster_proto::ledger::types::Capacity;
use cluster_proto::limits::{self, BOARDS, GUESTS, LOG, VOLUMES};
use cluster_proto::manifest::ManifestView;
use cluster_proto::node::{Recall, Setup};
use cluster_proto::package::Package;
use cluster_proto::wire::auth::{ClusterKey, cluster_tag};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::cluster::interrupt::Interrupt;
use crate::cluster::orders::Done;
use crate::cluster::reach::Reach;
use crate::cluster::wire::{GROUP, PORT, UdpWire, Wire};
use crate::lab;
use crate::pack::{self, secret};
use crate::report::{Answer, EXIT_CODES, Failure};
use host::Host;
use journal::{Found, Journal};

type Voter = Agent<ClusterKey, BOARDS, GUESTS, VOLUMES, LOG>;

/// The longest sleep, so that Ctrl-C is not waited for.
const STEP: Duration = Duration::from_millis(50);
/// The file that one witness holds, so that a second one does not begin with the same memory.
const LOCK: &str = "lock";

const ABOUT: &str = "\
A witness runs no guests. It needs no privileges: it hears boards by UDP port 7266 and multicast group 239.72.69.65. What it promised is kept in a folder, written before it
answers; keep that folder, and give it to one witness only. A memory that is damaged is put aside, and the witness begins as a newcomer, which the cluster lets in by itself.
It needs the package that `hearth pack --board WITNESS` made (it carries no images), or the description with all that belongs to it.";

/// Vote in a cluster from this machine, until Ctrl-C.
#[derive(clap::Args)]
#[command(after_long_help = format!("{ABOUT}\n\n{EXIT_CODES}"))]
pub struct Arguments {
    /// Which of the cluster's witnesses; needed where there are several.
    witness: Option<String>,
    /// The package that was packed for it; otherwise it is made from the description.
    #[arg(long, value_name = "FILE")]
    package: Option<PathBuf>,
    /// Where its memory is; otherwise ~/.local/state/hearth/witness/CLUSTER/WITNESS.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Where it listens.
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT))]
    listen: SocketAddrV4,
    /// This machine's address on the boards' network, if it is on several.
    #[arg(long, value_name = "ADDRESS", default_value_t = Ipv4Addr::UNSPECIFIED)]
    interface: Ipv4Addr,
    /// A board's address, for networks without multicast; may be given several times, and replaces the group then.
    #[arg(long = "peer", value_name = "ADDRESS:PORT")]
    peers: Vec<SocketAddrV4>,
    #[command(flatten)]
    reach: Reach,
}

/// Who the witness is.
struct Identity {
    key: [u8; 32],
    cluster: String,
    name: String,
    board: BoardId,
    /// The names of all, by number.
    names: Vec<String>,
    /// The package's manifest.
    manifest: Vec<u8>,
}

/// Votes until Ctrl-C.
///
/// # Errors
/// What is wrong with its files, or with the way to the boards.
pub fn run(arguments: &Arguments, json: bool) -> Result<Answer, Failure> {
    let identity = match &arguments.package {
        Some(package) => from_package(package)?,
        None => from_description(arguments)?,
    };
    let folder = match &arguments.folder {
        Some(folder) => folder.clone(),
        None => default_folder(&identity)?,
    };
    let _lock = lock(&folder)?;
    let interrupt = Interrupt::catch()?;
    let trouble = |error: io::Error| Failure::file("use the memory in", &folder, error);
    let mut teller = Teller::new(&identity, json);
    let mut agent = begin(&identity, &folder, &mut teller).map_err(trouble)?;
    let (wire, everyone) = wire(arguments, &identity.name).map_err(Failure::Trouble)?;
    let mut host = Host {
        wire,
        everyone,
        journal: Journal::open(&folder).map_err(trouble)?,
        broken: None,
    };
    teller.say(format!(
        "witness {} of cluster {} listens; its memory is in {}",
        identity.name,
        identity.cluster,
        folder.display()
    ));
    while !interrupt.wait(Duration::ZERO) {
        turn(&mut agent, &mut host);
        if let Some(error) = host.broken.take() {
            // What it did not write down it has not said.
            return Err(Failure::Trouble(format!(
                "witness {} ends: {error}; its memory in {} is as it was before",
                identity.name,
                folder.display()
            )));
        }
        teller.watch(&agent);
    }
    Ok(Done::new(format!("witness {} has ended; it remembers", identity.name)).into())
}

/// Takes in one datagram, or lets time pass, and does what follows.
fn turn(agent: &mut Voter, host: &mut Host) {
    let due = agent.deadline().since(now());
    let patience = Duration::from_micros(due.0).min(STEP);
    match host.wire.receive(patience) {
        Ok(Some((from, datagram))) => {
            let from = Endpoint {
                address: from.ip().octets(),
                port: from.port(),
                station: [0; 6],
            };
            agent.receive(now(), from, &datagram, host);
        }
        Ok(None) => {}
        Err(error) => host.broken = Some(error),
    }
    if agent.deadline() <= now() {
        agent.tick(now(), host);
    }
}

/// The moment, on a clock that goes on while this machine sleeps.
fn now() -> Micros {
    // Linux has this clock since 2.6.39, and a call for it cannot fail.
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME);
    let time = time.map_or(Duration::ZERO, Duration::from);
    Micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

/// A node with the memory that is in `folder`, or, if that cannot be read, with a new one.
fn begin(identity: &Identity, folder: &Path, teller: &mut Teller) -> io::Result<Box<Voter>> {
    let unreadable = match journal::read(folder)? {
        Found::Nothing => return boot(identity),
        Found::Records(records) => {
            let mut agent = boot(identity)?;
            let recalled = agent.node_mut().recall(records.iter().map(Vec::as_slice));
            match recalled {
                Ok(Recall::Remembered) => {
                    teller.say("it remembers what it promised".to_string());
                    return Ok(agent);
                }
                Ok(Recall::Nothing) => return boot(identity),
                Err(error) => format!("{error:?}"),
            }
        }
        Found::Unreadable(why) => why,
    };
    let aside = journal::put_aside(folder)?;
    teller.say(format!(
        "its memory cannot be read ({unreadable}) and is now {}; it begins as a newcomer",
        aside.display()
    ));
    boot(identity)
}

/// A node that remembers nothing.
fn boot(identity: &Identity) -> io::Result<Box<Voter>> {
    let [a, b]: [u64; 2] = [secret::random()?, secret::random()?].map(u64::from_le_bytes);
    let setup = Setup {
        board: identity.board,
        cluster: cluster_tag(&identity.key, &identity.cluster),
        key: identity.key,
        incarnation: Incarnation(a.max(1)),
        seed: b,
        capacity: Capacity {
            memory_mib: 0,
            cores: 0,
            class: 0,
        },
        journal: true,
        heartbeat: limits::HEARTBEAT,
        lease: limits::LEASE,
        drift_ppm: limits::DRIFT_PPM,
    };
    let view = ManifestView::parse(&identity.manifest).map_err(io::Error::other)?;
    let mut agent = Box::new(Voter::new());
    let mut made = Ok(0);
    agent.boot(&setup, now(), |ledger| made = first_ledger(&view, ledger));
    made.map_err(io::Error::other)?;
    Ok(agent)
}

/// From the package that was packed for a witness.
fn from_package(path: &Path) -> Result<Identity, Failure> {
    let archive = fs::read(path).map_err(|error| Failure::file("read", path, error))?;
    let package = Package::parse(&archive).map_err(|error| Failure::file("use", path, error))?;
    let board = package.board();
    if !board.witness {
        return Err(Failure::Trouble(format!(
            "{} is for board {}, not for a witness: `hearth pack --board WITNESS` makes that one",
            path.display(),
            board.name
        )));
    }
    let key = package.key().ok_or_else(|| {
        Failure::Trouble(format!(
            "{} has no sound key: pack it again",
            path.display()
        ))
    })?;
    let manifest = package.manifest();
    let identity = Identity {
        key,
        cluster: package.cluster().to_string(),
        name: board.name.to_string(),
        board: BoardId(package.board_number().0),
        names: manifest
            .boards()
            .map(|board| board.name.to_string())
            .collect(),
        manifest: manifest.bytes().to_vec(),
    };
    Ok(identity)
}

/// From the cluster's description, as `hearth pack` reads it.
fn from_description(arguments: &Arguments) -> Result<Identity, Failure> {
    let known = arguments.reach.known()?;
    let outline = &known.outline;
    let witnesses = outline.boards.iter().filter(|board| board.witness);
    let names: Vec<_> = witnesses.map(|board| board.name.as_str()).collect();
    let name = match (&arguments.witness, &names[..]) {
        (Some(name), names) if names.contains(&name.as_str()) => name.clone(),
        (None, [only]) => (*only).to_string(),
        (_, []) => {
            return Err(Failure::Trouble(format!(
                "{} has no witness: add [[witness]] with a name, and pack the boards anew",
                arguments.reach.cluster.display()
            )));
        }
        (given, names) => {
            let given = given.as_deref().unwrap_or("it is not said which");
            return Err(Failure::Trouble(format!(
                "{given}: the witnesses are {}",
                names.join(", ")
            )));
        }
    };
    let board = outline
        .find(&name)
        .ok_or_else(|| Failure::Trouble(outline.no_board(&name)))?;
    Ok(Identity {
        key: known.key,
        cluster: outline.cluster.to_string(),
        board,
        names: outline
            .boards
            .iter()
            .map(|it| it.name.to_string())
            .collect(),
        manifest: pack::manifest(&arguments.reach.cluster, &name)?,
        name,
    })
}

/// The way to the boards, and where all of them are reached.
fn wire(arguments: &Arguments, name: &str) -> Result<(Box<dyn Wire>, Vec<SocketAddrV4>), String> {
    let group = SocketAddrV4::new(GROUP, PORT);
    if let Some(lab) = &arguments.reach.lab {
        let ask = lab::Ask {
            witness: Some(name.to_string()),
            port: Some(PORT),
            groups: vec![group],
        };
        return Ok((Box::new(lab::LabWire::connect(lab, ask)?), vec![group]));
    }
    let listen = arguments.listen;
    let taken = |error: io::Error| format!("cannot listen at {listen}: {error}");
    let wire = UdpWire::bound(listen).map_err(taken)?;
    if !arguments.peers.is_empty() {
        return Ok((Box::new(wire), arguments.peers.clone()));
    }
    wire.join(GROUP, arguments.interface).map_err(|error| {
        format!(
            "cannot join multicast group {GROUP}: {error}; --interface names this machine's address on the boards' network, --peer names boards one by one"
        )
    })?;
    Ok((Box::new(wire), vec![group]))
}

fn default_folder(identity: &Identity) -> Result<PathBuf, Failure> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state = state.or_else(home).ok_or_else(|| {
        Failure::Trouble("there is no HOME for the witness' memory: give --folder".into())
    })?;
    let own = state.join("hearth/witness").join(&identity.cluster);
    Ok(own.join(&identity.name))
}

/// Makes the folder, and holds it for this process alone.
fn lock(folder: &Path) -> Result<File, Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::file("make", folder, error))?;
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(|error| Failure::file("write", &path, error))?;
    file.try_lock().map_err(|_| {
        Failure::Trouble(format!(
            "another witness uses the memory in {}: one voter must not be there twice",
            folder.display()
        ))
    })?;
    Ok(file)
}

/// Says what changes.
struct Teller {
    json: bool,
    names: Vec<String>,
    own: BoardId,
    said: Vec<(String, String)>,
}

/// Something that a witness says.
#[derive(Serialize)]
struct Said {
    says: String,
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.says)
    }
}

impl Teller {
    fn new(identity: &Identity, json: bool) -> Self {
        Self {
            json,
            names: identity.names.clone(),
            own: identity.board,
            said: Vec::new(),
        }
    }

    fn say(&self, says: String) {
        let line = if self.json {
            Answer::from(Said { says }).json()
        } else {
            says
        };
        // A reader that went away is no reason to stop voting.
        let mut out = stdout();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }

    /// Says `now` of `what`, unless that was said last.
    fn say_of(&mut self, what: &str, now: String) {
        let place = self.said.iter().position(|(of, _)| of == what);
        match place {
            Some(at) if self.said[at].1 == now => return,
            Some(at) => self.said[at].1.clone_from(&now),
            None => self.said.push((what.to_string(), now.clone())),
        }
        self.say(now);
    }

    fn name(&self, board: BoardId) -> String {
        let known = self.names.get(board.at());
        known.map_or_else(|| format!("board {board}"), Clone::clone)
    }

    fn watch(&mut self, agent: &Voter) {
        let node = agent.node();
        let leader = node.leader().map(|leader| self.name(leader));
        self.say_of(
            "leader",
            match leader {
                _ if node.era().is_blank() => "the cluster is not founded yet".into(),
                Some(leader) => format!("{leader} leads"),
                None => "no leader is heard".into(),
            },
        );
        let votes = if node.votes() {
            "it votes"
        } else {
            "it has no vote"
        };
        self.say_of("votes", votes.into());
        for at in 0..self.names.len() {
            // A description has at most 16.
            let board = BoardId(at as u8);
            if let Some(peer) = node.peer(board).filter(|_| board != self.own) {
                let name = self.name(board);
                let heard = if peer.heard { "hears" } else { "does not hear" };
                self.say_of(&name, format!("it {heard} {name}"));
            }
        }
    }
}
