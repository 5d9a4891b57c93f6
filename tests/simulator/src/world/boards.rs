//! What happens to boards from outside: power, sleep, orders.

use cluster_proto::ids::{BoardId, BoardSet, GuestId, Incarnation};
use cluster_proto::ledger::Ledger;
use cluster_proto::ledger::types::{
    Board, Capacity, GuestSpec, Operation, Reason, RequestId, Seats, Volume, VolumeKind, Wanted,
};
use cluster_proto::limits::{HEARTBEAT, LEASE};
use cluster_proto::node::{Local, Recall, Setup};

use super::{Cast, Happening, World};
use crate::machine::{BOARDS, GUESTS, VOLUMES, Work};
use crate::oracle::Violation;

/// The cluster's tag and key.
pub(super) const CLUSTER: u32 = 7;
pub(super) const KEY: [u8; 32] = [3; 32];
/// The operator's number in orders to reform, so that their answers are known apart.
pub(super) const REFORMER: u64 = 2;

impl World {
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
            assert!(
                ledger.create_volume(&volume).is_ok(),
                "the manifest's volume fits"
            );
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
        machine.arrived = [None; GUESTS];
        machine.awaited = [None; GUESTS];
        machine.outbox.clear();
        if machine.life > 1 {
            // A counter starts anew at every boot.
            machine.clock.base = self
                .dice
                .between(1, 1 << 30)
                .wrapping_sub(self.now)
                .wrapping_add(1 << 41);
        }
        let local = machine.clock.local(self.now);
        let cast = self.cast.clone();
        let memory = machine.node.memory();
        machine
            .node
            .boot(&setup, local, |ledger| Self::first_ledger(&cast, ledger));
        if let Some(disk) = &mut machine.disk {
            let records = disk.find();
            match machine.node.recall(records.iter().map(Vec::as_slice)) {
                Ok(Recall::Remembered) => self.stats.see("recalled"),
                // It may have been let in, and died before its disk had anything of it.
                Ok(Recall::Nothing) => self.oracle.forgot(memory),
                Err(_) => {
                    self.stats.see("journal_refused");
                    disk.records.clear();
                    self.oracle.forgot(memory);
                    machine
                        .node
                        .boot(&setup, local, |ledger| Self::first_ledger(&cast, ledger));
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
            cluster: CLUSTER,
            key: KEY,
            incarnation: Incarnation(self.dice.roll().max(1)),
            seed: self.dice.roll(),
            capacity: Capacity {
                memory_mib: if witness { 0 } else { 1_024 },
                cores: 4,
                class: if self.cast.mixed {
                    1 + board as u32 % 2
                } else {
                    1
                },
            },
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
        machine.arrived = [None; GUESTS];
        machine.awaited = [None; GUESTS];
        if let Some(disk) = &mut machine.disk
            && let Some((_, Work::Persist(place, record))) = machine
                .outbox
                .iter()
                .find(|(_, work)| matches!(work, Work::Persist(..)))
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

    /// Gives a board an operator's order.
    pub fn order(&mut self, board: usize, operation: Operation) -> Result<(), Violation> {
        self.request += 1;
        let id = RequestId {
            operator: 1,
            request: self.request,
        };
        if self.machines[board].on && self.machines[board].paused_until <= self.now {
            self.enter(board, |node, now, tray| {
                node.command(now, id, operation, tray)
            })?;
        }
        Ok(())
    }

    /// Orders a reform around a board. What the operator vouches for is true: it names who is off and has no memory on a disk.
    pub fn reform(&mut self, board: usize) -> Result<(), Violation> {
        if !self.machines[board].on || self.machines[board].paused_until > self.now {
            return Ok(());
        }
        self.request += 1;
        let id = RequestId {
            operator: REFORMER,
            request: self.request,
        };
        self.stats.see("reform_ordered");
        let mut lost = BoardSet(0);
        for (at, machine) in self.machines.iter().enumerate() {
            let kept = machine
                .disk
                .as_ref()
                .is_some_and(|disk| !disk.records.is_empty());
            lost.set(BoardId(at as u8), !machine.on && !kept);
        }
        self.enter(board, |node, now, tray| node.reform(now, id, lost, tray))
    }

    /// Takes a board out of service for good, as an operator does before he names it lost: power off, disk wiped.
    pub fn retire(&mut self, board: usize) {
        self.crash(board);
        let machine = &mut self.machines[board];
        if let Some(disk) = &mut machine.disk {
            disk.records.clear();
            disk.begun = None;
            self.oracle.forgot(machine.node.memory());
        }
    }

    /// Ends a running copy from inside.
    pub fn crash_guest(&mut self, guest: usize) -> Result<(), Violation> {
        let place = (0..self.machines.len())
            .find(|&board| self.machines[board].on && self.machines[board].copies[guest].is_some());
        let Some(board) = place else { return Ok(()) };
        let Some(copy) = self.machines[board].copies[guest].take() else {
            return Ok(());
        };
        self.stats.see("guest_crashed");
        let event = Local::Gone {
            guest: GuestId(guest as u16),
            epoch: copy.epoch,
            reason: Reason::Crashed,
        };
        let life = self.machines[board].life;
        self.schedule(self.now, Happening::Local { board, life, event });
        Ok(())
    }
}
