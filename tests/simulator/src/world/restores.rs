//! How a board takes a guest in from a file: it is told to start it, and waits for the tool that brings it.

use cluster_proto::ids::{Epoch, GuestId};
use cluster_proto::ledger::types::Reason;
use cluster_proto::node::Local;

use super::{Happening, World};
use crate::oracle::Violation;

/// How long a tool takes to bring a guest, in microseconds.
const BRING_MIN: u64 = 5_000;
const BRING_MAX: u64 = 400_000;

impl World {
    /// A board waits for what a tool brings.
    pub(super) fn await_tool(&mut self, board: usize, guest: GuestId, epoch: Epoch) {
        self.stats.see("restore_begun");
        self.machines[board].awaited[guest.at()] = Some(epoch);
        let life = self.machines[board].life;
        let takes = self.dice.between(BRING_MIN, BRING_MAX);
        let brought = Happening::Brought {
            board,
            life,
            guest,
            epoch,
        };
        self.schedule(self.now + takes, brought);
    }

    /// All of a guest has come from a file, or its tool is given up.
    pub(super) fn brought(
        &mut self,
        board: usize,
        life: u64,
        (guest, epoch): (GuestId, Epoch),
    ) -> Result<(), Violation> {
        if !self.lives(board, life) {
            return Ok(());
        }
        if let Some(at) = self.paused(board) {
            let later = Happening::Brought {
                board,
                life,
                guest,
                epoch,
            };
            self.schedule(at, later);
            return Ok(());
        }
        let awaited = &mut self.machines[board].awaited[guest.at()];
        if *awaited != Some(epoch) {
            return Ok(());
        }
        *awaited = None;
        if self.dice.chance(self.restore_fails) {
            self.stats.see("restore_failed");
            let event = Local::Gone {
                guest,
                epoch,
                reason: Reason::NotRestored,
            };
            return self.enter(board, |node, now, tray| node.local(now, event, tray));
        }
        self.stats.see("guest_restored");
        self.oracle.moves.begun(guest);
        self.start_copy(board, guest, epoch, 0);
        Ok(())
    }
}
