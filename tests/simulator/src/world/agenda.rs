//! What is to happen, in the order of its times; of two things at one time that which was planned first is first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use cluster_proto::ids::{Epoch, GuestId};
use cluster_proto::node::Local;

use super::moves;

/// Something that happens.
pub(super) enum Happening {
    /// A frame arrives: to whom, from whom in which life, and whether it was touched.
    Arrive {
        to: usize,
        from: usize,
        life: u64,
        touched: bool,
        frame: Rc<[u8]>,
    },
    /// A node asked to be woken.
    Wake { board: usize, life: u64 },
    /// A driver has done something to a copy.
    Local {
        board: usize,
        life: u64,
        event: Local,
    },
    /// The next step of a move.
    Transfer(moves::Transfer),
    /// A tool has brought a guest from a file.
    Brought {
        board: usize,
        life: u64,
        guest: GuestId,
        epoch: Epoch,
    },
    /// A disk has finished.
    Disk { board: usize, life: u64 },
    /// The operator's tool asked to be woken.
    Tool,
}

/// All that is planned.
#[derive(Default)]
pub(super) struct Agenda {
    queue: BinaryHeap<Reverse<Due>>,
    planned: u64,
}

impl Agenda {
    /// Plans it for true time `at`, microseconds.
    pub(super) fn plan(&mut self, at: u64, what: Happening) {
        self.planned += 1;
        self.queue.push(Reverse(Due {
            at,
            order: self.planned,
            what,
        }));
    }

    /// When something happens next.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse(due)| due.at)
    }

    /// What happens next, and when.
    pub(super) fn next(&mut self) -> Option<(u64, Happening)> {
        self.queue.pop().map(|Reverse(due)| (due.at, due.what))
    }
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
