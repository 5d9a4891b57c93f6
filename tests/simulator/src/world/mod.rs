//! A whole cluster in one process: boards, network, disks and time, moved from event to event by one seed.

use std::rc::Rc;

use cluster_proto::ids::{Epoch, GuestId, Micros, MoveId};
use cluster_proto::ledger::types::{Outcome, Reason};
use cluster_proto::node::Local;

use crate::dice::Dice;
use crate::machine::{BOARDS, Clock, GUESTS, Machine, Running, Tray, Work};
use crate::oracle::{Oracle, Violation};
use crate::stats::Stats;

mod agenda;
mod boards;
mod moves;
mod network;
mod operator;
mod restores;

use agenda::{Agenda, Happening};

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
    /// Whether every second board is of another class.
    pub mixed: bool,
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
pub const FAIR: Weather = Weather {
    loss: 0,
    twice: 0,
    flipped: 0,
    delay_min: 900,
    delay_max: 1_100,
};

/// What a write takes in microseconds, and a copy to start.
const DISK_MIN: u64 = 50;
const DISK_MAX: u64 = 4_000;
const START_MIN: u64 = 2_000;
const START_MAX: u64 = 60_000;
/// Frames that reach a paused board are kept for it for so long, in microseconds.
const PAUSE_BACKLOG: u64 = 400_000;

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
    /// How likely a move is given up, per million.
    pub move_fails: u32,
    /// How likely a tool does not bring all of a guest, per million.
    pub restore_fails: u32,
    /// Who looks.
    pub oracle: Oracle,
    /// What was counted.
    pub stats: Stats,
    dice: Dice,
    agenda: Agenda,
    kept: Vec<network::Kept>,
    tray: Tray,
    request: u64,
    operator: operator::Operator,
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
                let clock = Clock {
                    base: dice.between(1, 1 << 40),
                    ppm,
                };
                let witness = cast.witness && at + 1 == usize::from(cast.boards);
                Machine::new(clock, cast.disks & (1 << at) != 0, witness)
            })
            .collect();
        let operator = operator::Operator::new(cast.boards, dice.roll());
        Self {
            cast,
            now: 0,
            machines,
            cut: [[false; BOARDS]; BOARDS],
            weather: FAIR,
            start_fails: 0,
            move_fails: 0,
            restore_fails: 0,
            oracle: Oracle::default(),
            stats: Stats::default(),
            dice,
            agenda: Agenda::default(),
            kept: Vec::new(),
            tray: Tray::default(),
            request: 0,
            operator,
            answers: 0,
            started: [(0, 0, Epoch(0)); GUESTS],
        }
    }

    fn schedule(&mut self, at: u64, what: Happening) {
        self.agenda.plan(at.max(self.now), what);
    }

    /// Goes on to true time `until`.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn run_to(&mut self, until: u64) -> Result<(), Violation> {
        while self.next_at().is_some_and(|at| at <= until) {
            self.next_event()?;
        }
        self.now = until;
        Ok(())
    }

    /// When something happens next.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        self.agenda.next_at()
    }

    /// Lets what is next happen.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn next_event(&mut self) -> Result<(), Violation> {
        let Some((at, what)) = self.agenda.next() else {
            return Ok(());
        };
        self.now = at;
        self.step(what)
    }

    fn lives(&self, board: usize, life: u64) -> bool {
        self.machines[board].on && self.machines[board].life == life
    }

    fn step(&mut self, what: Happening) -> Result<(), Violation> {
        match what {
            Happening::Arrive {
                to,
                from,
                life,
                touched,
                frame,
            } => self.arrive(to, from, life, touched, frame),
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
            Happening::Transfer(transfer) => self.transfer(transfer),
            Happening::Brought {
                board,
                life,
                guest,
                epoch,
            } => self.brought(board, life, (guest, epoch)),
            Happening::Tool => {
                self.wake_tool();
                Ok(())
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

    fn arrive(
        &mut self,
        to: usize,
        from: usize,
        life: u64,
        touched: bool,
        frame: Rc<[u8]>,
    ) -> Result<(), Violation> {
        if to == operator::OPERATOR {
            self.arrive_at_tool(&frame);
            return Ok(());
        }
        if !self.machines[to].on {
            return Ok(());
        }
        if let Some(at) = self.paused(to) {
            if at - self.now < PAUSE_BACKLOG {
                self.schedule(
                    at,
                    Happening::Arrive {
                        to,
                        from,
                        life,
                        touched,
                        frame,
                    },
                );
            }
            return Ok(());
        }
        let mut accepted = false;
        self.enter(to, |node, now, tray| {
            accepted = node.receive(now, &frame, tray)
        })?;
        if accepted && from != operator::OPERATOR {
            self.oracle
                .accepted(to, from, life, touched, &self.machines)?;
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
        self.oracle.moves.live(machine, self.now);
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
        self.drop_arrived(board);
        self.oracle
            .look(board, self.now, &self.machines, &mut self.stats)?;
        self.plan_wake(board);
        Ok(())
    }

    fn plan_wake(&mut self, board: usize) {
        let machine = &mut self.machines[board];
        let due = machine
            .clock
            .when(machine.node.deadline())
            .max(self.now + 1);
        if machine.wake_at <= self.now || due < machine.wake_at {
            machine.wake_at = due;
            let life = machine.life;
            self.schedule(due, Happening::Wake { board, life });
        }
    }

    /// Puts an effect behind whatever its disk still has to do.
    fn queue_work(&mut self, board: usize, work: Work) {
        let lag = if matches!(work, Work::Persist(..)) {
            self.dice.between(DISK_MIN, DISK_MAX)
        } else {
            0
        };
        let machine = &mut self.machines[board];
        let at = machine
            .outbox
            .back()
            .map_or(self.now, |last| last.0.max(self.now))
            + lag;
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
            Work::Start(guest, epoch, arrived) => self.start(board, guest, epoch, arrived)?,
            Work::Move(guest, epoch, id, to) => self.begin_move(board, guest, epoch, (id, to)),
            Work::Abandon(guest, id) => self.abandon(board, guest, id),
            Work::Renew(guest, from, to) => self.renew(board, guest, from, to),
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
                self.machines[board].awaited[guest.at()] = None;
                let event = Local::Gone {
                    guest,
                    epoch,
                    reason: Reason::Operator,
                };
                let delay = self.dice.between(100, 5_000);
                self.schedule(self.now + delay, Happening::Local { board, life, event });
            }
            Work::Answer(id, outcome) => {
                self.answers += 1;
                if id.operator == boards::REFORMER {
                    let done = matches!(outcome, Outcome::Done { .. });
                    self.stats
                        .see(if done { "reformed" } else { "reform_refused" });
                }
            }
        }
        Ok(())
    }

    fn start(
        &mut self,
        board: usize,
        guest: GuestId,
        epoch: Epoch,
        arrived: Option<MoveId>,
    ) -> Result<(), Violation> {
        self.oracle.start(board, guest, epoch, &self.machines)?;
        self.started[guest.at()] = (self.now, board, epoch);
        let count = match arrived {
            Some(id) if id.is_of_file() => {
                self.await_tool(board, guest, epoch);
                return Ok(());
            }
            Some(id) => self.take_over(board, guest, (epoch, id))?,
            None => {
                self.oracle.moves.begun(guest);
                0
            }
        };
        self.start_copy(board, guest, epoch, count);
        Ok(())
    }

    /// A board has all that a copy is made of, and starts it.
    fn start_copy(&mut self, board: usize, guest: GuestId, epoch: Epoch, count: u64) {
        let delay = self.dice.between(START_MIN, START_MAX);
        let event = if self.dice.chance(self.start_fails) {
            self.stats.see("start_failed");
            Local::Gone {
                guest,
                epoch,
                reason: Reason::StartFailed,
            }
        } else {
            self.machines[board].copies[guest.at()] = Some(Running::new(epoch, count));
            Local::Started { guest, epoch }
        };
        let life = self.machines[board].life;
        self.schedule(self.now + delay, Happening::Local { board, life, event });
    }
}
