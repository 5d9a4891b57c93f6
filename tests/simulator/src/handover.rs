//! What must hold of guests that move: who has asked for a hand-over stands still until the ledger has answered, and a guest goes on as it was when it
//! was stopped.

use std::collections::HashMap;

use cluster_proto::ids::{Epoch, GuestId};

use crate::machine::{GUESTS, Machine};
use crate::oracle::{Violation, effective, violation};

/// What the oracle knows of moves.
#[derive(Debug, Default)]
pub struct HandOvers {
    /// Each guest's state, as its effects have shown it.
    counts: [u64; GUESTS],
    /// For which epoch of a guest a life of a board has asked for a hand-over.
    asked: HashMap<(usize, u64, usize), Epoch>,
}

impl HandOvers {
    /// A guest's state, as its effects have shown it.
    #[must_use]
    pub fn count(&self, guest: GuestId) -> u64 {
        self.counts[guest.at()]
    }

    /// A guest starts from its images.
    pub fn begun(&mut self, guest: GuestId) {
        self.counts[guest.at()] = 0;
    }

    /// Whatever has effects on a board has them now.
    pub fn live(&mut self, machine: &mut Machine, now: u64) {
        for guest in 0..GUESTS {
            if effective(machine, guest, now).is_some()
                && let Some(copy) = &mut machine.copies[guest]
            {
                copy.count += 1;
                self.counts[guest] = copy.count;
            }
        }
    }

    /// A board has asked for a hand-over.
    pub fn asked(&mut self, board: usize, life: u64, guest: GuestId, epoch: Epoch) {
        self.asked.insert((board, life, guest.at()), epoch);
    }

    /// A board goes on with a copy that arrived.
    pub fn taken_over(&self, board: usize, guest: GuestId, count: u64) -> Result<(), Violation> {
        let shown = self.counts[guest.at()];
        if count == shown {
            return Ok(());
        }
        violation(
            "state",
            format!("guest {guest} goes on at {count} on board {board}; it had come to {shown}"),
        )
    }

    /// No copy for which a hand-over was asked may have effects in that epoch any more.
    pub fn look(&self, board: usize, machine: &Machine, now: u64) -> Result<(), Violation> {
        for guest in 0..GUESTS {
            let Some(asked) = self.asked.get(&(board, machine.life, guest)) else {
                continue;
            };
            let permit = machine
                .node
                .permit(GuestId(guest as u16), machine.clock.local(now));
            let runs = effective(machine, guest, now) == Some(*asked);
            if runs || permit.is_some_and(|permit| permit.epoch() == *asked) {
                return violation(
                    "hand-over",
                    format!(
                        "board {board} asked for a hand-over of guest {guest} in epoch {asked}, and goes on in it"
                    ),
                );
            }
        }
        Ok(())
    }
}
