//! A whole cluster in one process: boards, network, disks and time, moved from event to event by one seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use cluster_proto::ids::{BoardId, BoardSet, Epoch, GuestId, Incarnation, Micros};
use cluster_proto::ledger::Ledger;
use cluster_proto::ledger::types::{
    Board, Capacity, GuestSpec, Operation, Reason, RequestId, Seats, Volume, VolumeKind, Wanted,
};
use cluster_proto::limits::{HEARTBEAT, LEASE};
use cluster_proto::node::{Local, Recall, Setup};
use cluster_proto::wire::frame::{Party, Recipient};

use crate::dice::Dice;
use crate::machine::{BOARDS, Clock, GUESTS, Machine, Running, Tray, VOLUMES, Work};
use crate::oracle::{Oracle, Violation};
use crate::stats::Stats;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Cast {
    /// How many boards, the witness included.
    pub boards: u8,
    /// Whether the last one is a witness.
    pub witness: bool,
    /// Whether the last board has no seat.
    pub seatless: bool,
    /// Which boards keep a journal.
    pub disks: u64,
    /// The stated bound on drift, in parts per million; clocks use all of it.
    pub drift_ppm: u32,
    /// How many guests.
    pub guests: u8,
    /// The deliberate fault to make.
    #[cfg(feature = "mutations")]
    pub mutation: Option<cluster_proto::node::Mutation>,
}

/// How the network treats frames.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Lost frames per million.
    pub loss: u32,
    /// Frames per million that arrive twice.
    pub twice: u32,
    /// Frames per million with a flipped bit.
    pub flipped: u32,
    /// The shortest delay in microseconds.
    pub delay_min: u64,
    /// The longest delay in microseconds.
    pub delay_max: u64,
}

/// Links of one millisecond, and no losses.
pub const FAIR: Weather = Weather { loss: 0, twice: 0, flipped: 0, delay_min: 900, delay_max: 1_100 };

/// What a write takes in microseconds, and a copy to start.
const DISK_MIN: u64 = 50;
const DISK_MAX: u64 = 4_000;
const START_MIN: u64 = 2_000;
const START_MAX: u64 = 60_000;
/// Frames that an adversary keeps, to send them again.
const KEPT: usize = 256;
/// Frames that reach a paused board are kept for it for so long, in microseconds.
const PAUSE_BACKLOG: u64 = 400_000;

enum Happening {
    /// A frame arrives: to whom, from whom in which life, and whether it was touched.
    Arrive { to: usize, from: usize, life: u64, touched: bool, frame: Rc<[u8]> },
    /// A node asked to be woken.
    Wake { board: usize, life: u64 },
    /// A driver has done something to a copy.
    Local { board: usize, life: u64, event: Local },
    /// A disk has finished.
    Disk { board: usize, life: u64 },
}

struct Due {
    at: u64,
    order: u64,
    what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A frame that the adversary kept.
#[derive(Clone)]
struct Kept {
    from: usize,
    life: u64,
    to: Recipient,
    frame: Rc<[u8]>,
}

/// The simulated world.
pub struct World {
    /// Its cast.
    pub cast: Cast,
    /// True time in microseconds.
    pub now: u64,
    /// Its boards.
    pub machines: Vec<Machine>,
    /// Frames from the first to the second do not arrive.
    pub cut: [[bool; BOARDS]; BOARDS],
    /// The weather.
    pub weather: Weather,
    /// How likely a start fails, per million.
    pub start_fails: u32,
    /// Who looks.
    pub oracle: Oracle,
    /// What was counted.
    pub stats: Stats,
    dice: Dice,
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
    kept: Vec<Kept>,
    tray: Tray,
    request: u64,
    /// Around which board, in which life, the operator ordered the last reform.
    pub reforming: Option<(usize, u64)>,
    /// Outcomes of orders, with the time at which they came.
    pub answers: u64,
    /// When each guest was last told to start, and where.
    pub started: [(u64, usize, Epoch); GUESTS],
}

impl World {
    /// Boards without power.
    #[must_use]
    pub fn new(cast: Cast, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let drift = i64::from(cast.drift_ppm);
        let machines = (0..usize::from(cast.boards))
            .map(|at| {
                // The bound is used to its ends: every second clock is as fast or as slow as it may be.
                let ppm = match dice.below(4) {
                    0 => drift,
                    1 => -drift,
                    _ => dice.between(0, 2 * cast.drift_ppm as u64) as i64 - drift,
                };
                let clock = Clock { base: dice.between(1, 1 << 40), ppm };
                let witness = cast.witness && at + 1 == usize::from(cast.boards);
                Machine::new(clock, cast.disks & (1 << at) != 0, witness)
            })
            .collect();
        Self {
            cast,
            now: 0,
            machines,
            cut: [[false; BOARDS]; BOARDS],
            weather: FAIR,
            start_fails: 0,
            oracle: Oracle::default(),
            stats: Stats::default(),
            dice,
            queue: BinaryHeap::new(),
            order: 0,
            kept: Vec::new(),
            tray: Tray::default(),
            request: 0,
            reforming: None,
            answers: 0,
            started: [(0, 0, Epoch(0)); GUESTS],
        }
    }

    fn first_ledger(cast: &Cast, ledger: &mut Ledger<BOARDS, GUESTS, VOLUMES>) {
        let mut seats = Seats::NONE;
        for at in 0..cast.boards {
            let witness = cast.witness && at + 1 == cast.boards;
            let votes = !(cast.seatless && at + 1 == cast.boards);
            ledger.boards[usize::from(at)] = Some(Board {
                name: format!("board{at}").as_str().try_into().unwrap_or_default(),
                votes,
                witness,
                drained: false,
                disarmed: false,
                incarnation: Incarnation(0),
                tenure: cluster_proto::ids::Tenure(0),
                fenced_at: cluster_proto::ids::Index(0),
                capacity: Capacity { memory_mib: 0, cores: 0, class: 0 },
            });
            if votes {
                seats.add(BoardId(at));
            }
        }
        ledger.seats = seats;
        for at in 0..cast.guests {
            let spec = Self::spec(at);
            let made = ledger.create_guest(&spec);
            assert!(made.is_ok(), "the manifest's guests fit");
        }
        if cast.guests > 3 {
            let volume = Volume {
                name: "data".try_into().unwrap_or_default(),
                guest: GuestId(3),
                kind: VolumeKind::Local,
                board: BoardId(0),
                size_mib: 64,
                image: [0; 32],
            };
            assert!(ledger.create_volume(&volume).is_ok(), "the manifest's volume fits");
        }
    }

    /// A guest's description: later ones matter more, and the first two stay apart.
    #[must_use]
    pub fn spec(at: u8) -> GuestSpec {
        GuestSpec {
            name: format!("guest{at}").as_str().try_into().unwrap_or_default(),
            memory_mib: 300 + 100 * u32::from(at % 3),
            vcpus: 1,
            class: 0,
            priority: at,
            apart: u8::from(at < 2),
            allowed: BoardSet(0),
            wanted: Wanted::Running,
            mac: [2, 0, 0, 0, 0, at],
            kernel: [at; 32],
            initrd: [0; 32],
            command_line: "console=ttyAMA0".try_into().unwrap_or_default(),
        }
    }

    fn schedule(&mut self, at: u64, what: Happening) {
        self.order += 1;
        self.queue.push(Reverse(Due { at: at.max(self.now), order: self.order, what }));
    }

    /// Gives a board power.
    pub fn boot(&mut self, board: usize) {
        if self.machines[board].on {
            return;
        }
        let setup = self.setup(board);
        let machine = &mut self.machines[board];
        machine.on = true;
        machine.life += 1;
        machine.paused_until = 0;
        machine.wake_at = self.now;
        machine.copies = [None; GUESTS];
        machine.outbox.clear();
        if machine.life > 1 {
            // A counter starts anew at every boot.
            machine.clock.base = self.dice.between(1, 1 << 30).wrapping_sub(self.now).wrapping_add(1 << 41);
        }
        let local = machine.clock.local(self.now);
        let cast = self.cast.clone();
        let memory = machine.node.memory();
        machine.node.boot(&setup, local, |ledger| Self::first_ledger(&cast, ledger));
        if let Some(disk) = &mut machine.disk {
            let records = disk.find();
            match machine.node.recall(records.iter().map(Vec::as_slice)) {
                Ok(Recall::Remembered) => self.stats.see("recalled"),
                Ok(Recall::Nothing) => {}
                Err(error) => {
                    eprintln!("{error:?} {} of {}", machine.node.ledger().index, records.len());
                    self.stats.see("journal_refused");
                    disk.records.clear();
                    self.oracle.forgot(memory);
                    machine.node.boot(&setup, local, |ledger| Self::first_ledger(&cast, ledger));
                }
            }
        }
        let life = machine.life;
        self.oracle.booted(board, &self.machines);
        self.schedule(self.now, Happening::Wake { board, life });
    }

    fn setup(&mut self, board: usize) -> Setup {
        let witness = self.machines[board].witness;
        Setup {
            board: BoardId(board as u8),
            cluster: 7,
            key: [3; 32],
            incarnation: Incarnation(self.dice.next().max(1)),
            seed: self.dice.next(),
            capacity: Capacity { memory_mib: if witness { 0 } else { 1_024 }, cores: 4, class: 1 },
            manifest: 1,
            journal: self.machines[board].disk.is_some(),
            heartbeat: HEARTBEAT,
            lease: LEASE,
            drift_ppm: self.cast.drift_ppm,
            #[cfg(feature = "mutations")]
            mutation: self.cast.mutation,
        }
    }

    /// Takes a board's power away: its memory is gone, its disk stays, torn where it was being written.
    pub fn crash(&mut self, board: usize) {
        let machine = &mut self.machines[board];
        if !machine.on {
            return;
        }
        machine.on = false;
        machine.copies = [None; GUESTS];
        if let Some(disk) = &mut machine.disk
            && let Some((_, Work::Persist(place, record))) = machine.outbox.iter().find(|(_, work)| matches!(work, Work::Persist(..)))
        {
            disk.tear(*place, record);
            self.stats.see("torn_record");
        }
        machine.outbox.clear();
        self.oracle.died(board, &self.machines);
    }

    /// Stops a board for a while; its clock goes on.
    pub fn pause(&mut self, board: usize, span: u64) {
        let until = self.now + span;
        let machine = &mut self.machines[board];
        if machine.on {
            machine.paused_until = machine.paused_until.max(until);
        }
    }

    /// Lets a stopped board go on.
    pub fn wake(&mut self, board: usize) {
        let machine = &mut self.machines[board];
        if machine.paused_until > self.now {
            machine.paused_until = self.now;
            machine.wake_at = self.now;
            let life = machine.life;
            self.schedule(self.now, Happening::Wake { board, life });
        }
    }

    /// Sends old frames again, to whom they were sent or to somebody else.
    pub fn replay(&mut self, count: usize) {
        for _ in 0..count {
            if self.kept.is_empty() {
                return;
            }
            let at = self.dice.pick(self.kept.len());
            let kept = self.kept[at].clone();
            if kept.life < self.machines[kept.from].life {
                self.stats.see("former_life_replayed");
            }
            for to in 0..self.machines.len() {
                let meant = match kept.to {
                    Recipient::All => true,
                    Recipient::One(Party::Board(board)) => usize::from(board.0) == to,
                    Recipient::One(Party::Operator(_)) => false,
                };
                if meant && to != kept.from {
                    let delay = self.dice.between(0, 5_000);
                    let frame = kept.frame.clone();
                    let what = Happening::Arrive { to, from: kept.from, life: kept.life, touched: false, frame };
                    self.schedule(self.now + delay, what);
                }
            }
        }
    }

    /// Gives a board an operator's order.
    pub fn order(&mut self, board: usize, operation: Operation) -> Result<(), Violation> {
        self.request += 1;
        let id = RequestId { operator: 1, request: self.request };
        if self.machines[board].on && self.machines[board].paused_until <= self.now {
            self.enter(board, |node, now, tray| node.command(now, id, operation, tray))?;
        }
        Ok(())
    }

    /// Orders a reform around a board.
    pub fn reform(&mut self, board: usize) -> Result<(), Violation> {
        self.request += 1;
        let id = RequestId { operator: 1, request: self.request };
        self.stats.see("reform_ordered");
        self.oracle.expect_reform();
        self.reforming = Some((board, self.machines[board].life));
        self.enter(board, |node, now, tray| node.reform(now, id, tray))
    }

    /// Ends a running copy from inside.
    pub fn crash_guest(&mut self, guest: usize) -> Result<(), Violation> {
        let place = (0..self.machines.len()).find(|&board| self.machines[board].on && self.machines[board].copies[guest].is_some());
        let Some(board) = place else { return Ok(()) };
        let Some(copy) = self.machines[board].copies[guest].take() else { return Ok(()) };
        self.stats.see("guest_crashed");
        let event = Local::Gone { guest: GuestId(guest as u16), epoch: copy.epoch, reason: Reason::Crashed };
        let life = self.machines[board].life;
        self.schedule(self.now, Happening::Local { board, life, event });
        Ok(())
    }

    /// Goes on to true time `until`.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn run_to(&mut self, until: u64) -> Result<(), Violation> {
        while let Some(Reverse(due)) = self.queue.peek() {
            if due.at > until {
                break;
            }
            let Some(Reverse(due)) = self.queue.pop() else { break };
            self.now = due.at;
            self.step(due.what)?;
        }
        self.now = until;
        Ok(())
    }

    fn lives(&self, board: usize, life: u64) -> bool {
        self.machines[board].on && self.machines[board].life == life
    }

    fn step(&mut self, what: Happening) -> Result<(), Violation> {
        match what {
            Happening::Arrive { to, from, life, touched, frame } => self.arrive(to, from, life, touched, frame),
            Happening::Wake { board, life } => {
                if !self.lives(board, life) || (self.machines[board].wake_at > self.now) {
                    return Ok(());
                }
                if let Some(at) = self.paused(board) {
                    self.machines[board].wake_at = at;
                    self.schedule(at, Happening::Wake { board, life });
                    return Ok(());
                }
                self.enter(board, |node, now, tray| node.tick(now, tray))
            }
            Happening::Local { board, life, event } => {
                if !self.lives(board, life) {
                    return Ok(());
                }
                if let Some(at) = self.paused(board) {
                    self.schedule(at, Happening::Local { board, life, event });
                    return Ok(());
                }
                self.enter(board, |node, now, tray| node.local(now, event, tray))
            }
            Happening::Disk { board, life } => {
                if self.lives(board, life) {
                    self.drain_outbox(board)?;
                }
                Ok(())
            }
        }
    }

    fn paused(&self, board: usize) -> Option<u64> {
        let until = self.machines[board].paused_until;
        (until > self.now).then_some(until)
    }

    fn arrive(&mut self, to: usize, from: usize, life: u64, touched: bool, frame: Rc<[u8]>) -> Result<(), Violation> {
        if !self.machines[to].on {
            return Ok(());
        }
        if let Some(at) = self.paused(to) {
            if at - self.now < PAUSE_BACKLOG {
                self.schedule(at, Happening::Arrive { to, from, life, touched, frame });
            }
            return Ok(());
        }
        let mut accepted = false;
        self.enter(to, |node, now, tray| accepted = node.receive(now, &frame, tray))?;
        if accepted {
            self.oracle.accepted(to, from, life, touched, &self.machines)?;
        }
        Ok(())
    }

    /// Calls a node, checks every property, and carries out what it wants.
    fn enter(
        &mut self,
        board: usize,
        call: impl FnOnce(&mut crate::machine::SimNode, Micros, &mut Tray),
    ) -> Result<(), Violation> {
        self.stats.steps += 1;
        let mut tray = std::mem::take(&mut self.tray);
        let machine = &mut self.machines[board];
        let local = machine.clock.local(self.now);
        call(&mut machine.node, local, &mut tray);
        for work in tray.0.drain(..) {
            if self.machines[board].disk.is_some() {
                self.queue_work(board, work);
            } else {
                self.carry_out(board, work)?;
            }
        }
        self.tray = tray;
        self.drain_outbox(board)?;
        self.oracle.look(board, self.now, &self.machines, &mut self.stats)?;
        self.plan_wake(board);
        Ok(())
    }

    fn plan_wake(&mut self, board: usize) {
        let machine = &mut self.machines[board];
        let due = machine.clock.when(machine.node.deadline()).max(self.now + 1);
        if machine.wake_at <= self.now || due < machine.wake_at {
            machine.wake_at = due;
            let life = machine.life;
            self.schedule(due, Happening::Wake { board, life });
        }
    }

    /// Puts an effect behind whatever its disk still has to do.
    fn queue_work(&mut self, board: usize, work: Work) {
        let lag = if matches!(work, Work::Persist(..)) { self.dice.between(DISK_MIN, DISK_MAX) } else { 0 };
        let machine = &mut self.machines[board];
        let at = machine.outbox.back().map_or(self.now, |last| last.0.max(self.now)) + lag;
        machine.outbox.push_back((at, work));
        if at > self.now {
            let life = machine.life;
            self.schedule(at, Happening::Disk { board, life });
        }
    }

    fn drain_outbox(&mut self, board: usize) -> Result<(), Violation> {
        while let Some((at, _)) = self.machines[board].outbox.front() {
            if *at > self.now {
                break;
            }
            if let Some((_, work)) = self.machines[board].outbox.pop_front() {
                self.carry_out(board, work)?;
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, board: usize, work: Work) -> Result<(), Violation> {
        let life = self.machines[board].life;
        match work {
            Work::Send(to, frame) => self.send(board, to, frame),
            Work::Persist(place, record) => {
                if let Some(disk) = &mut self.machines[board].disk {
                    disk.write(place, record);
                }
            }
            Work::Start(guest, epoch) => {
                self.oracle.start(board, guest, epoch, &self.machines)?;
                self.started[guest.at()] = (self.now, board, epoch);
                let delay = self.dice.between(START_MIN, START_MAX);
                let fails = self.dice.chance(self.start_fails);
                let event = if fails {
                    self.stats.see("start_failed");
                    Local::Gone { guest, epoch, reason: Reason::StartFailed }
                } else {
                    self.machines[board].copies[guest.at()] = Some(Running { epoch, frozen: false });
                    Local::Started { guest, epoch }
                };
                self.schedule(self.now + delay, Happening::Local { board, life, event });
            }
            Work::Freeze(guest, _) => {
                if let Some(copy) = &mut self.machines[board].copies[guest.at()] {
                    copy.frozen = true;
                }
                self.stats.see("frozen");
            }
            Work::Resume(guest, epoch) => {
                self.stats.see("resumed");
                if let Some(copy) = &mut self.machines[board].copies[guest.at()]
                    && copy.epoch == epoch
                {
                    copy.frozen = false;
                }
            }
            Work::Destroy(guest, epoch) => {
                self.machines[board].copies[guest.at()] = None;
                let event = Local::Gone { guest, epoch, reason: Reason::Operator };
                let delay = self.dice.between(100, 5_000);
                self.schedule(self.now + delay, Happening::Local { board, life, event });
            }
            Work::Answer(..) => self.answers += 1,
        }
        Ok(())
    }

    fn send(&mut self, from: usize, to: Recipient, frame: Rc<[u8]>) {
        self.stats.frames += 1;
        self.stats.bytes += frame.len() as u64;
        let life = self.machines[from].life;
        if self.dice.chance(30_000) {
            let kept = Kept { from, life, to, frame: frame.clone() };
            if self.kept.len() < KEPT {
                self.kept.push(kept);
            } else {
                let at = self.dice.pick(KEPT);
                self.kept[at] = kept;
            }
        }
        match to {
            Recipient::All => {
                for board in 0..self.machines.len() {
                    if board != from {
                        self.transmit(from, board, life, &frame);
                    }
                }
            }
            Recipient::One(Party::Board(board)) => self.transmit(from, usize::from(board.0), life, &frame),
            Recipient::One(Party::Operator(_)) => {}
        }
    }

    fn transmit(&mut self, from: usize, to: usize, life: u64, frame: &Rc<[u8]>) {
        if to >= self.machines.len() || self.cut[from][to] || self.dice.chance(self.weather.loss) {
            return;
        }
        let copies = if self.dice.chance(self.weather.twice) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.dice.between(self.weather.delay_min, self.weather.delay_max);
            let touched = self.dice.chance(self.weather.flipped);
            let frame = if touched { self.flip(frame) } else { frame.clone() };
            self.schedule(self.now + delay, Happening::Arrive { to, from, life, touched, frame });
        }
    }

    fn flip(&mut self, frame: &Rc<[u8]>) -> Rc<[u8]> {
        let mut bytes = frame.to_vec();
        let at = self.dice.pick(bytes.len());
        bytes[at] ^= 1 << self.dice.below(8);
        bytes.into()
    }
}
