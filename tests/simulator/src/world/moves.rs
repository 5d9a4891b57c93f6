//! How boards carry moves out: rounds of copying, a short stop, what is left, and the destination's word that it has all. Each step may meet a board that is
//! off, asleep or cut off.

use cluster_proto::ids::{BoardId, Epoch, GuestId, MoveId};
use cluster_proto::ledger::types::Reason;
use cluster_proto::node::{Arrival, Local};

use super::{Happening, World};
use crate::machine::Arrived;
use crate::oracle::{Violation, violation};

/// How long the rounds take that copy a running guest, in microseconds.
const ROUNDS_MIN: u64 = 5_000;
const ROUNDS_MAX: u64 = 300_000;
/// How long the copy of what is left takes, and the destination's word.
const REST_MIN: u64 = 1_000;
const REST_MAX: u64 = 10_000;
/// Between two tries to bring the destination what is left.
const RETRY: u64 = 25_000;
/// Tries after which a source gives up.
const TRIES: u32 = 40;
/// How soon a source changes its mind after it has asked, at the latest.
const REGRET_MAX: u64 = 6_000;

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The source stops the guest.
    Stop,
    /// What is left reaches the destination.
    Deliver,
    /// The destination's word reaches the source.
    Acknowledge,
    /// The source changes its mind.
    Regret,
}

/// A move that a board carries out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    from: usize,
    life: u64,
    to: usize,
    guest: GuestId,
    epoch: Epoch,
    id: MoveId,
    step: Step,
    tries: u32,
}

impl World {
    pub(super) fn begin_move(
        &mut self,
        board: usize,
        guest: GuestId,
        epoch: Epoch,
        (id, to): (MoveId, BoardId),
    ) {
        let Some(copy) = &mut self.machines[board].copies[guest.at()] else {
            // It ended by itself, and the node is about to hear of it.
            return;
        };
        copy.moved = Some(id);
        let transfer = Transfer {
            from: board,
            life: self.machines[board].life,
            to: to.at(),
            guest,
            epoch,
            id,
            step: Step::Stop,
            tries: 0,
        };
        if self.dice.chance(self.move_fails) {
            let reasons = [Reason::NotConverged, Reason::CannotMove];
            let reason = reasons[self.dice.pick(reasons.len())];
            self.give_up(&transfer, reason);
        } else {
            let rounds = self.dice.between(ROUNDS_MIN, ROUNDS_MAX);
            self.schedule(self.now + rounds, Happening::Transfer(transfer));
        }
    }

    /// The source's driver gives a move up before it has asked: the copy runs on.
    fn give_up(&mut self, transfer: &Transfer, reason: Reason) {
        self.stats.see("move_given_up");
        if let Some(copy) = &mut self.machines[transfer.from].copies[transfer.guest.at()] {
            (copy.moved, copy.stopped) = (None, false);
        }
        let event = Local::Stays {
            guest: transfer.guest,
            epoch: transfer.epoch,
            id: transfer.id,
            reason,
        };
        let (board, life) = (transfer.from, transfer.life);
        self.schedule(self.now, Happening::Local { board, life, event });
    }

    /// The driver of a move of `guest` on `board` changes its mind, whatever it has said before.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn regret(&mut self, board: usize, guest: GuestId) -> Result<(), Violation> {
        let copy = self.machines[board].copies[guest.at()];
        let Some((id, epoch)) = copy.and_then(|copy| Some((copy.moved?, copy.epoch))) else {
            return Ok(());
        };
        let transfer = Transfer {
            from: board,
            life: self.machines[board].life,
            to: board,
            guest,
            epoch,
            id,
            step: Step::Regret,
            tries: 0,
        };
        self.transfer(transfer)
    }

    pub(super) fn abandon(&mut self, board: usize, guest: GuestId, id: MoveId) {
        if let Some(copy) = &mut self.machines[board].copies[guest.at()]
            && copy.moved == Some(id)
        {
            self.stats.see("move_abandoned");
            (copy.moved, copy.stopped) = (None, false);
        }
    }

    pub(super) fn renew(&mut self, board: usize, guest: GuestId, from: Epoch, to: Epoch) {
        self.stats.see("guest_kept");
        if let Some(copy) = &mut self.machines[board].copies[guest.at()]
            && copy.epoch == from
        {
            (copy.epoch, copy.frozen) = (to, true);
            (copy.moved, copy.stopped) = (None, false);
            return;
        }
        let event = Local::Gone {
            guest,
            epoch: to,
            reason: Reason::Crashed,
        };
        let life = self.machines[board].life;
        self.schedule(self.now, Happening::Local { board, life, event });
    }

    /// Takes over what a move has brought. Returns the guest's state.
    pub(super) fn take_over(
        &mut self,
        board: usize,
        guest: GuestId,
        (epoch, id): (Epoch, MoveId),
    ) -> Result<u64, Violation> {
        let arrived = self.machines[board].arrived[guest.at()].take();
        let is_it = |arrived: &Arrived| arrived.id == id && arrived.epoch.0 + 1 == epoch.0;
        let Some(arrived) = arrived.filter(is_it) else {
            return violation(
                "state",
                format!(
                    "board {board} was given guest {guest}, and does not have what move {id} brought"
                ),
            );
        };
        self.stats.see("guest_moved");
        self.oracle.moves.taken_over(board, guest, arrived.count)?;
        Ok(arrived.count)
    }

    /// A board drops what no move will give it any more.
    pub(super) fn drop_arrived(&mut self, board: usize) {
        let machine = &mut self.machines[board];
        for (guest, slot) in machine.arrived.iter_mut().enumerate() {
            let over = |arrived: &Arrived| {
                machine
                    .node
                    .arrival(GuestId(guest as u16), arrived.epoch, arrived.id)
                    == Arrival::Over
            };
            if slot.as_ref().is_some_and(over) {
                *slot = None;
            }
        }
    }

    /// The next step of a move.
    pub(super) fn transfer(&mut self, transfer: Transfer) -> Result<(), Violation> {
        if !self.lives(transfer.from, transfer.life) {
            return Ok(());
        }
        if let Some(at) = self.paused(transfer.from) {
            self.schedule(at, Happening::Transfer(transfer));
            return Ok(());
        }
        let copy = &mut self.machines[transfer.from].copies[transfer.guest.at()];
        let Some(copy) = copy.as_mut().filter(|copy| copy.moved == Some(transfer.id)) else {
            return Ok(());
        };
        match transfer.step {
            Step::Stop => {
                copy.stopped = true;
                self.go_on(transfer, Step::Deliver);
            }
            Step::Deliver => self.deliver(transfer),
            Step::Acknowledge => return self.acknowledge(transfer),
            Step::Regret => return self.change_mind(transfer),
        }
        Ok(())
    }

    /// Before it has asked, the source gives up by itself; after that, the ledger decides.
    fn change_mind(&mut self, transfer: Transfer) -> Result<(), Violation> {
        let node = &self.machines[transfer.from].node;
        if !node.is_handing_over(transfer.guest) {
            self.give_up(&transfer, Reason::DestinationLost);
            return Ok(());
        }
        self.stats.see("move_regretted");
        self.report(&transfer, Some(Reason::DestinationLost))
    }

    fn go_on(&mut self, transfer: Transfer, step: Step) {
        let rest = self.dice.between(REST_MIN, REST_MAX);
        let next = Transfer { step, ..transfer };
        self.schedule(self.now + rest, Happening::Transfer(next));
    }

    fn try_again(&mut self, transfer: Transfer) {
        if transfer.tries >= TRIES {
            self.give_up(&transfer, Reason::DestinationLost);
            return;
        }
        let next = Transfer {
            step: Step::Deliver,
            tries: transfer.tries + 1,
            ..transfer
        };
        self.schedule(self.now + RETRY, Happening::Transfer(next));
    }

    fn deliver(&mut self, transfer: Transfer) {
        let Transfer {
            from,
            to,
            guest,
            epoch,
            id,
            ..
        } = transfer;
        let deaf = !self.machines[to].on || self.paused(to).is_some() || self.cut[from][to];
        if deaf || self.dice.chance(self.weather.loss) {
            return self.try_again(transfer);
        }
        if self.machines[to].node.arrival(guest, epoch, id) == Arrival::Over {
            return self.give_up(&transfer, Reason::DestinationRefused);
        }
        let count = self.machines[from].copies[guest.at()].map_or(0, |copy| copy.count);
        self.machines[to].arrived[guest.at()] = Some(Arrived { epoch, id, count });
        self.go_on(transfer, Step::Acknowledge);
    }

    fn acknowledge(&mut self, transfer: Transfer) -> Result<(), Violation> {
        if self.cut[transfer.to][transfer.from] || self.dice.chance(self.weather.loss) {
            self.try_again(transfer);
            return Ok(());
        }
        if self.dice.chance(self.move_fails) {
            let step = Step::Regret;
            let later = self.now + self.dice.between(0, REGRET_MAX);
            self.schedule(later, Happening::Transfer(Transfer { step, ..transfer }));
        }
        self.report(&transfer, None)
    }

    /// Tells the source's node that the destination has all, or that the source would rather keep the guest, and why.
    fn report(&mut self, transfer: &Transfer, regrets: Option<Reason>) -> Result<(), Violation> {
        let (board, life) = (transfer.from, transfer.life);
        let (guest, epoch, id) = (transfer.guest, transfer.epoch, transfer.id);
        let event = match regrets {
            Some(reason) => Local::Stays {
                guest,
                epoch,
                id,
                reason,
            },
            None => Local::Ready { guest, epoch, id },
        };
        let mut asked = false;
        self.enter(board, |node, now, tray| {
            let before = node.is_handing_over(guest);
            node.local(now, event, tray);
            asked = !before && regrets.is_none() && node.is_handing_over(guest);
        })?;
        if asked {
            self.oracle.moves.asked(board, life, guest, epoch);
        }
        Ok(())
    }
}
