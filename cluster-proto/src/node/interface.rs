//! What goes into a node and what comes out of it.

use crate::ids::{BoardId, Epoch, GuestId, Incarnation, MoveId, Span};
#[cfg(doc)]
use crate::lease::Permit;
use crate::ledger::types::{Capacity, Outcome, Reason, RequestId};
#[cfg(doc)]
use crate::node::Node;
use crate::wire::frame::{Party, Recipient};

/// What a node needs to know of itself.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its number.
    pub board: BoardId,
    /// The cluster's tag, the same in every board's package.
    pub cluster: u32,
    /// The cluster's key.
    pub key: [u8; 32],
    /// Which life this is: 64 bits of entropy from this boot, never zero.
    pub incarnation: Incarnation,
    /// 64 more bits of entropy, for everything that is to be random later.
    pub seed: u64,
    /// What it has for guests.
    pub capacity: Capacity,
    /// Whether its driver keeps a journal.
    pub journal: bool,
    /// Between two heartbeats.
    pub heartbeat: Span,
    /// How long a lease runs.
    pub lease: Span,
    /// The bound on clock drift in parts per million.
    pub drift_ppm: u32,
    /// Which deliberate fault to make.
    #[cfg(feature = "mutations")]
    pub mutation: Option<Mutation>,
}

/// Deliberate faults, each of which breaks one rule on which a proof rests.
#[cfg(feature = "mutations")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// A promise lasts as long as a lease, whatever the clocks do.
    LeaseWithoutDrift,
    /// An acknowledgement says that it is backed by a promise, and is not.
    EmptyPromise,
    /// Whoever sits on a board with a seat is counted, whatever it remembers.
    AmnesiacCounts,
    /// A voter forgets for whom it voted.
    VoteForgotten,
    /// A board goes on with the copy that it has, whatever its epoch and tenure.
    EpochIgnored,
    /// A fence is accepted while promises run.
    FenceAtOnce,
    /// Replay protection compares sequence numbers, and not lives.
    CounterOnly,
    /// A voter accepts fences as soon as it has booted or its configuration has changed.
    NoQuietTime,
    /// A reform is carried out whatever others may remember.
    ReformUnasked,
    /// A copy for which a hand-over was asked may have effects until the ledger answers.
    AskedRuns,
    /// Who asked for a hand-over and changes its mind goes on at once, and not when the ledger says so.
    RegretAtOnce,
    /// A hand-over is agreed whichever move it was asked for.
    HandUnnamed,
}

/// What a driver is to do. Effects are carried out in order; whatever follows a `Persist` waits until that is durable.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    /// Send a frame.
    Send {
        /// To whom.
        to: Recipient,
        /// Its bytes.
        frame: &'a [u8],
    },
    /// Make a journal record durable.
    Persist {
        /// Where it belongs.
        place: Journal,
        /// Its bytes.
        record: &'a [u8],
    },
    /// Start a guest. Its output needs a [`Permit`] of this epoch.
    Start {
        /// Which.
        guest: GuestId,
        /// In which ownership epoch.
        epoch: Epoch,
        /// The move, in the epoch before, that brought the copy from which it goes on; none: it starts from its images. Without that copy it is
        /// not started, and reported by [`Local::Gone`]. What a [file](MoveId::of_file) is to bring has yet to come, and is waited for.
        arrived: Option<MoveId>,
    },
    /// Copy a running guest to another board, and report by [`Local::Ready`] or [`Local::Stays`] how that ends.
    Move {
        /// Which.
        guest: GuestId,
        /// In which ownership epoch.
        epoch: Epoch,
        /// Which move.
        id: MoveId,
        /// The destination.
        to: BoardId,
        /// How long the copy may be still for it, milliseconds; none: as the driver sees fit.
        downtime: Option<u16>,
    },
    /// A move is off: drop what was done for it, and let the copy go on if it was stopped for it. If it was given up before, nothing is to be done.
    Abandon {
        /// Which.
        guest: GuestId,
        /// In which ownership epoch.
        epoch: Epoch,
        /// Which move.
        id: MoveId,
    },
    /// A copy that was stopped for its hand-over stays the guest, in another epoch. It stays stopped until [`Effect::Resume`]. If it
    /// has ended meanwhile, [`Local::Gone`] says so in the new epoch.
    Renew {
        /// Which.
        guest: GuestId,
        /// In which ownership epoch it was.
        from: Epoch,
        /// In which it is from here on.
        to: Epoch,
    },
    /// Stop a copy's processors; it may go on later.
    Freeze {
        /// Which.
        guest: GuestId,
        /// In which ownership epoch.
        epoch: Epoch,
    },
    /// Let a frozen copy go on; one that is stopped for its hand-over goes on when its move is over.
    Resume {
        /// Which.
        guest: GuestId,
        /// In which ownership epoch.
        epoch: Epoch,
    },
    /// Destroy a copy, and report it by [`Local::Gone`].
    Destroy {
        /// Which.
        guest: GuestId,
        /// In which ownership epoch.
        epoch: Epoch,
    },
    /// Somebody who was authenticated sent this beside the protocol ([`crate::service`]).
    Parcel {
        /// Who.
        from: Party,
        /// What.
        bytes: &'a [u8],
    },
    /// A command that came through [`Node::command`] has its outcome.
    Answer {
        /// Which.
        id: RequestId,
        /// What became of it.
        outcome: Outcome,
    },
}

/// Where a journal record belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Journal {
    /// Behind the last.
    Append,
    /// At the start of a new journal, beside the old one.
    Begin,
    /// Behind the last of the new journal, which replaces the old one when this record is durable.
    Complete,
}

/// Takes effects.
pub trait Sink {
    /// One more effect.
    fn emit(&mut self, effect: Effect<'_>);
}

impl<F: FnMut(Effect<'_>)> Sink for F {
    fn emit(&mut self, effect: Effect<'_>) {
        self(effect);
    }
}

/// What happened to this board's copies of guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// A copy runs.
    Started {
        /// Which.
        guest: GuestId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// There is no copy any more: destroyed, never started, or ended by itself.
    Gone {
        /// Which.
        guest: GuestId,
        /// In which epoch.
        epoch: Epoch,
        /// Why.
        reason: Reason,
    },
    /// A copy is stopped, and the destination of its move has all of it: the ledger is to say which of the two is the guest. Until it has, this
    /// one must not go on, whatever its driver learns.
    Ready {
        /// Which.
        guest: GuestId,
        /// In which epoch.
        epoch: Epoch,
        /// Which move.
        id: MoveId,
    },
    /// A move is given up. Before [`Local::Ready`], the copy runs on; after it, the ledger is asked to leave the guest here, and decides.
    Stays {
        /// Which.
        guest: GuestId,
        /// In which epoch.
        epoch: Epoch,
        /// Which move.
        id: MoveId,
        /// Why.
        reason: Reason,
    },
}
