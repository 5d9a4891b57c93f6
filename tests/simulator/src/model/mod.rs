//! The same nodes under a model checker: three voters, and every combination of what may go wrong in each stretch of time, up to a depth.
//!
//! A step is a stretch of time in which nodes tick by their own drifting clocks and frames take a millisecond, under one fault: a link cut one way,
//! a board cut off, stopped, or its frames held back to the next step; or a crash, a boot, or an order. The state is all of three nodes, what is
//! on its way, and what was ever agreed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use cluster_proto::ids::{BoardId, Epoch, GuestId, Incarnation, Micros};
use cluster_proto::ledger::types::{Board, Capacity, Operation, Phase, Reason, RequestId, Seats};
use cluster_proto::limits::{HEARTBEAT, LEASE};
use cluster_proto::node::{Effect, Local, Node, Setup};
use cluster_proto::wire::frame::{Party, Recipient};
use cluster_proto::wire::message::Role;

use crate::machine::{Clock, Disk, QuickTag};
use crate::world::World;

mod scope;
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
    /// Hash of what was agreed, by index.
    agreed: Arc<BTreeMap<u64, u64>>,
    leaders: Arc<BTreeMap<u64, u8>>,
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

/// What is on this step.
struct Weather<'a> {
    fault: Fault,
    end: u64,
    scope: &'a Scope,
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
            manifest: 1,
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

    /// Lets one step pass.
    fn pass(&mut self, fault: Fault, scope: &Scope) {
        self.depth += 1;
        let weather = Weather {
            fault,
            end: self.now + scope.step_ms * 1_000,
            scope,
        };
        let oldest = self.now.saturating_sub(MEMORY * scope.step_ms * 1_000);
        self.sent.retain(|mail| mail.due >= oldest);
        let before = self.sent.clone();
        let mut reboot_at = None;
        match fault {
            Fault::Crash(board) => self.crash(usize::from(board)),
            Fault::Boot(board) | Fault::BootWithout(board, _) => {
                self.boot(usize::from(board), scope)
            }
            Fault::Reboot(board, ms) => {
                self.crash(usize::from(board));
                reboot_at = Some((self.now + u64::from(ms) * 1_000, usize::from(board)));
            }
            Fault::Only(board) => {
                self.now = weather.end;
                return self.call(usize::from(board), &weather, &mut |node, now, out| {
                    node.tick(now, out)
                });
            }
            Fault::Deliver => {
                if !self.mail.is_empty() {
                    let mail = self.mail.remove(0);
                    self.now = self.now.max(mail.due);
                    self.arrive(mail, &weather);
                }
                return;
            }
            Fault::Again(board) => {
                let again = before
                    .iter()
                    .filter(|mail| mail.from == board)
                    .map(|mail| Mail {
                        due: self.now,
                        ..mail.clone()
                    });
                self.mail.extend(again);
            }
            Fault::Order(board, _) => {
                self.request += 1;
                let id = RequestId {
                    operator: 1,
                    request: self.request,
                };
                let order = Operation::DisarmAll { on: false };
                self.call(usize::from(board), &weather, &mut |node, now, out| {
                    node.command(now, id.clone(), order.clone(), out)
                });
            }
            _ => {}
        }
        for _ in 0..EVENTS {
            if self.violation.is_some() {
                return;
            }
            if let Some((at, board)) = reboot_at.filter(|(at, _)| self.next_due(&weather) >= *at) {
                self.now = self.now.max(at);
                self.boot(board, scope);
                reboot_at = None;
                continue;
            }
            if !self.next_event(&weather) {
                self.now = weather.end;
                return;
            }
        }
        self.violation = Some("the nodes never rest");
    }

    fn stopped(weather: &Weather<'_>, board: usize) -> bool {
        weather.fault == Fault::Stop(board as u8)
    }

    fn wakes(&self, weather: &Weather<'_>) -> Option<(u64, usize)> {
        let due = |board: usize| {
            self.clock(board)
                .when(self.stations[board].node.deadline())
                .max(self.now)
        };
        (0..VOTERS)
            .filter(|&board| self.stations[board].on && !Self::stopped(weather, board))
            .map(|board| (due(board), board))
            .min()
    }

    fn next_mail(&self) -> Option<(u64, usize)> {
        self.mail
            .iter()
            .enumerate()
            .map(|(at, mail)| (mail.due, at))
            .min()
    }

    fn next_due(&self, weather: &Weather<'_>) -> u64 {
        let wake = self.wakes(weather).map_or(u64::MAX, |wake| wake.0);
        wake.min(self.next_mail().map_or(u64::MAX, |mail| mail.0))
    }

    /// Does what is due next in this step. Returns whether there was anything.
    fn next_event(&mut self, weather: &Weather<'_>) -> bool {
        let due = self.next_due(weather);
        if due >= weather.end {
            return false;
        }
        self.now = self.now.max(due);
        // A board that has slept looks at its clock before it looks at its mail.
        if let Some((_, board)) = self.wakes(weather).filter(|(at, _)| *at <= self.now) {
            self.call(board, weather, &mut |node, now, out| node.tick(now, out));
        } else if let Some((_, at)) = self.next_mail() {
            let mail = self.mail.remove(at);
            self.arrive(mail, weather);
        }
        true
    }

    fn arrive(&mut self, mut mail: Mail, weather: &Weather<'_>) {
        let to = usize::from(mail.to);
        if Self::stopped(weather, to) {
            mail.due = weather.end;
            self.mail.push(mail);
            return;
        }
        if !self.stations[to].on {
            return;
        }
        let mut accepted = false;
        self.call(to, weather, &mut |node, now, out| {
            accepted = node.receive(now, &mail.frame, out)
        });
        let newest = &mut self.stations[to].lives[usize::from(mail.from)];
        if accepted && mail.life < *newest {
            self.violation = Some("freshness");
        } else if accepted {
            *newest = mail.life;
        }
    }

    fn call(
        &mut self,
        board: usize,
        weather: &Weather<'_>,
        act: &mut dyn FnMut(&mut ModelNode, Micros, &mut dyn cluster_proto::node::Sink),
    ) {
        let clock = self.clock(board);
        let local = clock.local(self.now);
        let station = &mut self.stations[board];
        if !station.on {
            return;
        }
        let mut sent: Vec<(Recipient, Arc<[u8]>)> = Vec::new();
        let mut events = Vec::new();
        let (copies, disk) = (&mut station.copies, &mut station.disk);
        let mut sink = |effect: Effect<'_>| match effect {
            Effect::Send { to, frame } => sent.push((to, frame.into())),
            Effect::Persist { place, record } => {
                if let Some(disk) = disk {
                    disk.write(place, record.to_vec());
                }
            }
            Effect::Start { guest, epoch } => {
                copies[guest.at()] = Some((epoch, false));
                events.push(Local::Started { guest, epoch });
            }
            Effect::Freeze { guest, .. } => {
                copies[guest.at()] = copies[guest.at()].map(|copy| (copy.0, true))
            }
            Effect::Resume { guest, .. } => {
                copies[guest.at()] = copies[guest.at()].map(|copy| (copy.0, false))
            }
            Effect::Destroy { guest, epoch } => {
                copies[guest.at()] = None;
                events.push(Local::Gone {
                    guest,
                    epoch,
                    reason: Reason::Operator,
                });
            }
            Effect::Answer { .. } => {}
        };
        act(Arc::make_mut(&mut station.node), local, &mut sink);
        for (to, frame) in sent {
            self.post(board as u8, to, frame, weather);
        }
        for event in events {
            self.call(board, weather, &mut |node, now, out| {
                node.local(now, event, out)
            });
        }
        self.look(board);
    }

    fn post(&mut self, from: u8, to: Recipient, frame: Arc<[u8]>, weather: &Weather<'_>) {
        for board in (0..VOTERS as u8).filter(|board| *board != from) {
            let meant = match to {
                Recipient::All => true,
                Recipient::One(party) => party == Party::Board(BoardId(board)),
            };
            let lost = match weather.fault {
                Fault::Cut(a, b) => (a, b) == (from, board),
                Fault::Isolate(cut) | Fault::BootWithout(_, cut) | Fault::Order(_, cut) => {
                    cut == from || cut == board
                }
                Fault::Reboot(..) => (from, board) == (1, 0),
                _ => false,
            };
            if !meant || lost || !self.stations[usize::from(board)].on {
                continue;
            }
            let late = weather.fault == Fault::Hold(from);
            let due = if late { weather.end } else { self.now } + weather.scope.delay_ms * 1_000;
            let mail = Mail {
                due,
                from,
                life: self.stations[usize::from(from)].life,
                to: board,
                frame: frame.clone(),
            };
            if weather.scope.faults.contains(&Fault::Again(from)) {
                self.sent.push(mail.clone());
            }
            self.mail.push(mail);
        }
    }

    /// Looks for a property that does not hold, now that `board` has done something.
    fn look(&mut self, board: usize) {
        let node = self.stations[board].node.clone();
        if node.counters().contradictions > 0 {
            self.violation = Some("agreement");
        }
        if node.role() == Role::Leader {
            let leaders = Arc::make_mut(&mut self.leaders);
            if *leaders.entry(node.term().0).or_insert(board as u8) != board as u8 {
                self.violation = Some("one leader a term");
            }
        }
        let mut index = node.commit();
        while let Some(entry) = node.entry(index) {
            let mut hasher = DefaultHasher::new();
            entry.hash(&mut hasher);
            let sum = hasher.finish();
            match self.agreed.get(&index.0) {
                Some(agreed) if *agreed == sum => break,
                Some(_) => {
                    self.violation = Some("agreement");
                    break;
                }
                None => {
                    Arc::make_mut(&mut self.agreed).insert(index.0, sum);
                }
            }
            index = index.previous();
        }
        for guest in 0..GUESTS {
            self.look_at_guest(board, guest);
        }
    }

    fn effective(&self, board: usize, guest: usize) -> Option<Epoch> {
        let station = &self.stations[board];
        let (epoch, frozen) = station.copies[guest]?;
        let permit = station
            .node
            .permit(GuestId(guest as u16), self.clock(board).local(self.now))?;
        (station.on && !frozen && permit.epoch() == epoch).then_some(epoch)
    }

    fn look_at_guest(&mut self, board: usize, guest: usize) {
        let Some(epoch) = self.effective(board, guest) else {
            return;
        };
        let others = (0..VOTERS).filter(|&other| other != board);
        if others
            .clone()
            .any(|other| self.effective(other, guest).is_some())
        {
            self.violation = Some("one copy");
        }
        let id = GuestId(guest as u16);
        for other in others {
            let station = &self.stations[other];
            let ledger = station.node.ledger();
            if station.on
                && station.node.era() == self.stations[board].node.era()
                && ledger.epoch(id) >= epoch
            {
                let owner = ledger
                    .guest(id)
                    .filter(|guest| guest.phase != Phase::Unowned)
                    .map(|guest| guest.owner);
                if ledger.epoch(id) > epoch || owner != Some(BoardId(board as u8)) {
                    self.violation = Some("ownership");
                }
            }
        }
    }
}
