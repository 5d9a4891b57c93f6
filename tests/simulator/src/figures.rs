//! What is measured in the simulated world: how soon a death is decided about, what a cluster costs as it grows, how fast the simulation is.

use std::time::Instant;

use cluster_proto::ids::{BoardId, Incarnation, Micros};
use cluster_proto::ledger::types::{Board, Capacity, Seats};
use cluster_proto::limits::{GUESTS, HEARTBEAT, LEASE, LOG, SEATS, VOLUMES};
use cluster_proto::node::{Effect, Node, Setup, Sink};
use cluster_proto::wire::auth::ClusterKey;
use cluster_proto::wire::frame::Recipient;

use crate::dice::Dice;
use crate::oracle::Violation;
use crate::plan::leader;
use crate::world::{Cast, World};

/// A fault-free cluster of five boards with three guests.
fn five() -> Cast {
    Cast {
        boards: 5,
        witness: false,
        seatless: false,
        disks: 0,
        drift_ppm: 200,
        guests: 3,
        mixed: false,
        #[cfg(feature = "mutations")]
        mutation: None,
    }
}

/// From the death of a board to the order to start the last of its guests elsewhere, in milliseconds, in rising order.
#[derive(Debug, Default)]
pub struct Decisions {
    /// Deaths of boards that did not lead.
    pub owners: Vec<f64>,
    /// Deaths of leaders.
    pub leaders: Vec<f64>,
    /// From the death of a leader to a leader whose term has begun, in milliseconds.
    pub elections: Vec<f64>,
    /// Guests of other boards that froze because a leader died.
    pub freezes: u64,
}

/// The value that `percent` of a rising list do not exceed; zero for an empty one.
#[must_use]
pub fn percentile(rising: &[f64], percent: usize) -> f64 {
    let at = (rising.len() * percent).div_ceil(100).saturating_sub(1);
    rising.get(at).copied().unwrap_or(0.0)
}

impl Decisions {
    /// All deaths together, in rising order.
    #[must_use]
    pub fn all(&self) -> Vec<f64> {
        let mut all = [self.owners.as_slice(), self.leaders.as_slice()].concat();
        all.sort_by(f64::total_cmp);
        all
    }
}

/// Kills `runs` boards that own a guest, every second time one that leads.
///
/// # Errors
/// A property that does not hold, or a guest that was not started elsewhere within five seconds.
pub fn decisions(runs: u64, seed: u64) -> Result<Decisions, Violation> {
    let mut found = Decisions::default();
    for run in 0..runs {
        let mut dice = Dice::new(seed ^ (run << 20));
        decide_once(&mut found, run % 2 == 0, &mut dice)?;
    }
    for list in [&mut found.owners, &mut found.leaders, &mut found.elections] {
        list.sort_by(f64::total_cmp);
    }
    Ok(found)
}

fn decide_once(found: &mut Decisions, kill_leader: bool, dice: &mut Dice) -> Result<(), Violation> {
    loop {
        let mut world = World::new(five(), dice.roll());
        (0..5).for_each(|board| world.boot(board));
        world.run_to(3_000_000 + dice.below(200_000))?;
        let Some(leads) = leader(&world) else {
            continue;
        };
        let owns = |board: &usize| world.machines[*board].copies.iter().any(Option::is_some);
        let victims: Vec<usize> = (0..5)
            .filter(|board| (*board == leads) == kill_leader)
            .filter(owns)
            .collect();
        if victims.is_empty() {
            continue;
        }
        let victim = victims[dice.pick(victims.len())];
        let frozen = world.stats.seen.get("frozen").copied().unwrap_or(0);
        let died = world.now;
        let orphans: Vec<usize> = (0..3)
            .filter(|guest| world.machines[victim].copies[*guest].is_some())
            .collect();
        world.crash(victim);
        let mut elected = None;
        while !orphans.iter().all(|guest| world.started[*guest].0 > died) {
            world.run_to(world.now + 1_000)?;
            if elected.is_none() && leader(&world).is_some() {
                elected = Some(world.now);
            }
            if world.now > died + 5_000_000 {
                return Err(Violation {
                    property: "decision",
                    detail: "no start within five seconds".into(),
                });
            }
        }
        let last = orphans
            .iter()
            .map(|guest| world.started[*guest].0)
            .max()
            .unwrap_or(died);
        let list = if kill_leader {
            &mut found.leaders
        } else {
            &mut found.owners
        };
        list.push((last - died) as f64 / 1_000.0);
        if kill_leader {
            found
                .elections
                .push((elected.unwrap_or(died) - died) as f64 / 1_000.0);
        }
        found.freezes += world.stats.seen.get("frozen").copied().unwrap_or(0) - frozen;
        return Ok(());
    }
}

/// Over how many parts the speed is measured; the fastest counts, since nothing but other programs can make one slower.
const PARTS: u64 = 6;

/// Simulated time over real time, for five boards without faults.
///
/// # Errors
/// A property that does not hold.
pub fn speedup(seconds: u64) -> Result<f64, Violation> {
    let mut world = World::new(five(), 42);
    (0..5).for_each(|board| world.boot(board));
    let part = (seconds / PARTS).max(1);
    let mut fastest: f64 = 0.0;
    for _ in 0..PARTS {
        let started = Instant::now();
        world.run_to(world.now + part * 1_000_000)?;
        fastest = fastest.max(part as f64 / started.elapsed().as_secs_f64());
    }
    Ok(fastest)
}

/// What a cluster of some size costs each board.
#[derive(Debug)]
pub struct Cost {
    /// How many boards.
    pub boards: u8,
    /// Sent per board in kbit/s, with 42 bytes of Ethernet, IP and UDP headers for each frame.
    pub kbit_s: f64,
    /// The size of a heartbeat frame in bytes.
    pub heartbeat: usize,
    /// The time for which a received frame keeps this machine's core, in nanoseconds, with the real cipher: the mean without the slowest hundredth, in which
    /// other programs had the core.
    pub receive_ns: f64,
}

/// A node with the real cipher and the default capacities, apart from the number of boards.
pub type RealNode<const B: usize> = Node<ClusterKey, B, GUESTS, VOLUMES, LOG>;

/// Lets a cluster of `boards` run for a while over a perfect network, with the real cipher.
#[must_use]
pub fn cost<const B: usize>(boards: u8) -> Cost {
    let mut times = Vec::new();
    let (bytes, heartbeat, seconds) = exchange::<B>(boards, &mut |node, now, frame, out| {
        let started = Instant::now();
        node.receive(now, frame, out);
        times.push(started.elapsed().as_nanos() as f64);
    });
    times.sort_by(f64::total_cmp);
    times.truncate((times.len() * 99).div_ceil(100));
    Cost {
        boards,
        kbit_s: bytes as f64 * 8.0 / 1_000.0 / seconds / f64::from(boards),
        heartbeat,
        receive_ns: times.iter().sum::<f64>() / times.len().max(1) as f64,
    }
}

/// How a frame is given to a node.
pub type Receive<'a, const B: usize> =
    dyn FnMut(&mut RealNode<B>, Micros, &[u8], &mut dyn Sink) + 'a;

/// Founds a cluster, lets it settle, and then gives every frame of two seconds to its receivers by `receive`. Returns the bytes sent, the
/// largest frame, and the seconds.
pub fn exchange<const B: usize>(boards: u8, receive: &mut Receive<'_, B>) -> (usize, usize, f64) {
    let mut nodes: Vec<Box<RealNode<B>>> = (0..boards).map(|board| booted(board, boards)).collect();
    let mut now = 1_000;
    let (mut bytes, mut largest) = (0, 0);
    let (measured_from, end) = (4_000_000, 6_000_000);
    while now < end {
        let measuring = now >= measured_from;
        let mut mail: Vec<(u8, Recipient, Vec<u8>)> = Vec::new();
        for (at, node) in nodes.iter_mut().enumerate() {
            if node.deadline() <= Micros(now) {
                node.tick(Micros(now), &mut collect(at as u8, &mut mail));
            }
        }
        while let Some((from, to, frame)) = mail.pop() {
            if measuring {
                bytes += frame.len() + 42;
                largest = largest.max(frame.len());
            }
            for (at, node) in nodes
                .iter_mut()
                .enumerate()
                .filter(|(at, _)| *at != usize::from(from))
            {
                let meant = match to {
                    Recipient::All => true,
                    Recipient::One(party) => usize::from(party.number()) == at,
                };
                let mut out = collect(at as u8, &mut mail);
                if meant && measuring {
                    receive(node, Micros(now), &frame, &mut out);
                } else if meant {
                    node.receive(Micros(now), &frame, &mut out);
                }
            }
        }
        now += 1_000;
    }
    (bytes, largest, (end - measured_from) as f64 / 1e6)
}

fn collect(from: u8, mail: &mut Vec<(u8, Recipient, Vec<u8>)>) -> impl FnMut(Effect<'_>) {
    move |effect| {
        if let Effect::Send { to, frame } = effect {
            mail.push((from, to, frame.to_vec()));
        }
    }
}

fn booted<const B: usize>(board: u8, boards: u8) -> Box<RealNode<B>> {
    let mut node = Box::new(RealNode::new());
    let setup = Setup {
        board: BoardId(board),
        cluster: 7,
        key: [3; 32],
        incarnation: Incarnation(u64::from(board) + 1_000),
        seed: u64::from(board) + 77,
        capacity: Capacity {
            memory_mib: 1_024,
            cores: 4,
            class: 1,
        },
        journal: false,
        heartbeat: HEARTBEAT,
        lease: LEASE,
        drift_ppm: 200,
        #[cfg(feature = "mutations")]
        mutation: None,
    };
    node.boot(&setup, Micros(1), |ledger| {
        let mut seats = Seats::NONE;
        for at in 0..boards {
            ledger.boards[usize::from(at)] = Some(Board {
                name: format!("board{at}").as_str().try_into().unwrap_or_default(),
                votes: usize::from(at) < SEATS,
                witness: false,
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
            if usize::from(at) < SEATS {
                seats.add(BoardId(at));
            }
        }
        ledger.seats = seats;
    });
    node
}
