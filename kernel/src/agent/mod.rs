//! The board's part in its cluster: the protocol's agent, with the board's hands.
//!
//! - here: its life on core 0, which alone runs it. - [`hands`]: what it does to the board, with its [`copy`] of each guest. - [`view`]: a guest of the ledger as a board starts it.
//! - [`arrivals`]: guests that come from elsewhere. - [`saves`]: guests that are saved to files.
//!
//! **Time.** Core 0 serves it whenever a datagram has come or its deadline has passed: EL2's timer is armed for that, also while a guest runs there. Nothing else
//! that the core does at EL2 takes longer than [`crate::host`] says, so that a heartbeat is never late by more.
//!
//! **Locks.** The agent's is the first of all; only core 0 takes it, and never waits for it.

mod arrivals;
mod copy;
mod hands;
mod saves;
mod view;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cluster_proto::agent::Agent;
use cluster_proto::first::first_ledger;
use cluster_proto::ids::{BoardId, Incarnation, Micros};
use cluster_proto::ledger::Ledger;
use cluster_proto::ledger::types::Capacity;
use cluster_proto::limits;
use cluster_proto::node::Setup;
use cluster_proto::package::Package;
use cluster_proto::placement::class_of;
use cluster_proto::wire::auth::{ClusterKey, cluster_tag};
use cluster_proto::wire::message::Role;
use el2_hyp::arch::{config, timer};
use el2_hyp::guest::Hardware;
use el2_hyp::host::Network as _;
use el2_hyp::lock::Mutex;
use el2_hyp::vgic::Version;

use crate::host::CoreHost;
use crate::moving::lanes;
use crate::net::station::FRAME_BYTES;
use crate::net::{self, microseconds};
use crate::{guests, info, memory, random, smp, warn};
use hands::{Hands, State};

/// The ledger of a board.
pub type BoardLedger = Ledger<{ limits::BOARDS }, { limits::GUESTS }, { limits::VOLUMES }>;
type BoardAgent =
    Agent<ClusterKey, { limits::BOARDS }, { limits::GUESTS }, { limits::VOLUMES }, { limits::LOG }>;

/// Datagrams that are taken at once, before the core looks at its guests again.
const BATCH: usize = 32;
/// Of so many parts of the memory that is free at boot, one is kept for images that are fetched, tables and devices.
const RESERVE: usize = 8;

struct Member {
    agent: BoardAgent,
    state: State,
    /// What the console was told last.
    told: Told,
}

/// What the operator at the console is told of when it changes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Told {
    leader: Option<BoardId>,
    term: u64,
    leads: bool,
    leased: bool,
    /// How often guests were frozen for want of a lease.
    freezes: u64,
}

/// Large, and zero but for a few words: the image holds no more than those (`image.ld`).
#[unsafe(link_section = ".sparse")]
static MEMBER: Mutex<Member> = Mutex::new(Member {
    agent: Agent::new(),
    state: State::new(),
    told: Told {
        leader: None,
        term: 0,
        leads: false,
        leased: false,
        freezes: 0,
    },
});

/// Whether this board belongs to a cluster of several.
static IS_MEMBER: AtomicBool = AtomicBool::new(false);
/// When the agent is due, by the counter.
static DUE: AtomicU64 = AtomicU64::new(u64::MAX);
/// What core 0 has spent here, in instructions, where they are counted.
static SPENT: AtomicU64 = AtomicU64::new(0);

/// The latest that core 0 came to a deadline of the agent's since the operator was told last, microseconds: a heartbeat is late by as much.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// Whether this board belongs to a cluster of several boards, which decides where guests run.
pub fn is_member() -> bool {
    IS_MEMBER.load(Ordering::Relaxed)
}

/// Whether a package is for a board of a cluster of several.
pub fn is_for_member(package: &Package<'_>) -> bool {
    package.manifest().summary().boards > 1
}

fn now() -> Micros {
    Micros(microseconds(timer::now()))
}

/// The counter at the first tick at which the board's clock shows `at`, or later.
fn ticks_at(at: Micros) -> u64 {
    let frequency = u128::from(timer::frequency());
    let ticks = (u128::from(at.0) * frequency).div_ceil(1_000_000);
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Lets the board take its place in the cluster that its package describes. It speaks from now on.
pub fn initialise(package: &Package<'static>, hardware: Hardware) {
    let Some(key) = package.key() else {
        warn!("the boot package has no key of its cluster: this board runs no guests");
        return;
    };
    let draw = || u64::from_le_bytes(random::draw());
    let tag = cluster_tag(&key, package.cluster().as_str());
    let setup = Setup {
        board: BoardId(package.board_number().0),
        cluster: tag,
        key,
        // Zero is no life.
        incarnation: Incarnation(draw() | 1),
        seed: draw(),
        capacity: capacity(hardware),
        journal: false,
        heartbeat: limits::HEARTBEAT,
        lease: limits::LEASE,
        drift_ppm: limits::DRIFT_PPM,
    };
    let member = &mut *MEMBER.lock();
    let mut first = Ok(0);
    member.agent.boot(&setup, now(), |ledger| {
        first = first_ledger(package.manifest(), ledger);
    });
    if let Err(error) = first {
        warn!("the boot package makes no cluster: {error}");
        return;
    }
    member.state.begin(package, key, tag);
    IS_MEMBER.store(true, Ordering::Relaxed);
    DUE.store(0, Ordering::Release);
}

/// What this board has for guests.
fn capacity(hardware: Hardware) -> Capacity {
    let (free, _) = memory::frames();
    let free = free - free / RESERVE;
    // Guests move between boards of one kind of core, interrupt controller and counter.
    let kind = match hardware.gic_version() {
        Version::V2 => 2,
        Version::V3 => 3,
    };
    Capacity {
        // Frames of 4 KiB.
        memory_mib: (free >> 8) as u32,
        cores: smp::running() as u16,
        class: class_of(config::midr(), kind, timer::frequency()),
    }
}

/// When core 0 has something to do here, by the counter.
pub fn next_event() -> u64 {
    DUE.load(Ordering::Relaxed)
}

/// Whether core 0 has something to do here now.
pub fn is_due() -> bool {
    if !is_member() {
        return false;
    }
    let datagram = || net::network().is_some_and(net::Network::has_datagram);
    guests::has_news() || lanes::has_news() || next_event() <= timer::now() || datagram()
}

/// Core 0 does what is due, and counts what that costs. No lock is held.
pub fn serve(host: &CoreHost) {
    let Some(network) = net::network() else {
        return;
    };
    let before = config::el2_instructions();
    take_turn(host, network);
    if let Some((before, after)) = before.zip(config::el2_instructions()) {
        // The hardware counts modulo 2^32.
        SPENT.fetch_add(after.wrapping_sub(before).into(), Ordering::Relaxed);
    }
}

fn take_turn(host: &CoreHost, network: &'static net::Network) {
    let member = &mut *MEMBER.lock();
    let view = network.view(host);
    let mut hands = Hands {
        state: &mut member.state,
        host,
        network,
        view: &view,
    };
    let agent = &mut member.agent;
    let mut room = [0; FRAME_BYTES];
    for _ in 0..BATCH {
        let Some((from, length)) = network.next_datagram(&mut room) else {
            break;
        };
        agent.receive(now(), from, &room[..length], &mut hands);
    }
    hands.answer_knocks(agent, now());
    while let Some(event) = hands.next_event() {
        agent.local(now(), event, &mut hands);
    }
    let late = now().since(agent.deadline());
    if agent.deadline() <= now() {
        LATEST.fetch_max(late.0, Ordering::Relaxed);
        agent.tick(now(), &mut hands);
    }
    hands.begin_moves();
    hands.drop_arrivals(agent);
    hands.share_out(agent.node().ledger());
    DUE.store(ticks_at(agent.deadline()), Ordering::Relaxed);
    view.finish();
    tell(agent, &mut member.told);
}

/// Tells the console what has changed.
fn tell(agent: &BoardAgent, told: &mut Told) {
    let node = agent.node();
    let leads = node.role() == Role::Leader && node.leads();
    let seen = Told {
        leader: node.leader(),
        term: node.term().0,
        leads,
        leased: node.lease().holds(now()),
        freezes: node.counters().freezes,
    };
    if seen == *told {
        return;
    }
    let before = core::mem::replace(told, seen);
    if (seen.leader, seen.leads) != (before.leader, before.leads) {
        match seen.leader {
            Some(_) if seen.leads => info!("cluster: this board leads, term {}", seen.term),
            Some(leader) if leader != node.board() => {
                info!("cluster: board {leader} leads, term {}", seen.term);
            }
            _ => info!("cluster: nobody leads"),
        }
    }
    // A lease may have ended and begun again within one turn.
    let lapsed = before.leased && (!seen.leased || seen.freezes != before.freezes);
    if lapsed {
        info!("cluster: this board has no lease");
    }
    if seen.leased && (lapsed || !before.leased) {
        info!("cluster: this board has a lease");
    }
}

/// Tells the operator at the console how the cluster looks from here.
pub fn tell_status() {
    if !is_member() {
        return;
    }
    let member = MEMBER.lock();
    let node = member.agent.node();
    let counters = node.counters();
    info!(
        "status: cluster: term {}, leader {:?}, {} frames accepted, {} forged, {} of strangers, lease lost {} times",
        node.term(),
        node.leader().map(|board| board.0),
        counters.accepted,
        counters.forged,
        counters.stranger + counters.noise,
        counters.freezes,
    );
    info!(
        "status: cluster: since it was asked last it has come to its heartbeats at most {} us late",
        LATEST.swap(0, Ordering::Relaxed)
    );
    match SPENT.load(Ordering::Relaxed) {
        0 => info!("status: cluster: what it takes of core 0 is not counted"),
        spent => info!(
            "status: cluster: has taken {spent} instructions of core 0 by {} us",
            now().0
        ),
    }
}
