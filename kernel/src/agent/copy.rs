//! What the board keeps of each copy of a guest that it has.

use cluster_proto::agent::book::Destination;
use cluster_proto::ids::{BoardId, Epoch, GuestId, MoveId};
use cluster_proto::ledger::types::{Reason, Share};
use cluster_proto::service::Unsaved;

/// A copy of a guest on this board.
#[derive(Clone, Copy)]
pub struct Copy {
    pub guest: GuestId,
    pub epoch: Epoch,
    /// Why it goes, once it does.
    pub reason: Reason,
    /// A move that was ordered and has not begun.
    pub ordered: Option<Ordered>,
    /// What it has of the board's cores.
    pub share: Share,
    /// The last time that it was to be saved: the name that a tool gave it, and why it was not, if it was not.
    pub save: Option<(MoveId, Option<Unsaved>)>,
}

impl Copy {
    /// Of which nothing is ordered yet.
    pub fn new(guest: GuestId, epoch: Epoch) -> Self {
        Self {
            guest,
            epoch,
            reason: Reason::Operator,
            ordered: None,
            share: Share::DEFAULT,
            save: None,
        }
    }
}

/// An ordered move.
#[derive(Clone, Copy)]
pub struct Ordered {
    pub id: MoveId,
    pub to: BoardId,
    pub at: Destination,
    /// How long the guest may be still for it, milliseconds, if that was said.
    pub downtime: Option<u16>,
}
