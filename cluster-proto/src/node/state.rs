//! The parts of a node's state that are no modules of their own, and the windows through which others see a node.

use super::{CopyState, Node};
use crate::detector::Detector;
use crate::ids::{
    BoardId, BoardSet, Epoch, Era, GuestId, Incarnation, Index, Memory, Micros, Span, Term,
};
use crate::lease::Lease;
use crate::ledger::Ledger;
use crate::ledger::page::Cursor;
use crate::ledger::types::{Operation, RequestId, Seats};
use crate::wire::auth::{Authenticator, LifeKey};
use crate::wire::message::{Role, Status};

/// SplitMix64: spreads 64 bits of entropy over as many numbers as are needed. Nothing here has to be secret, only different.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// A number other than zero.
    pub fn name(&mut self) -> u64 {
        self.next().max(1)
    }
}

/// How far a follower's log is known to be the leader's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Progress {
    pub next: Index,
    pub matched: Index,
    /// Whose memory acknowledged `matched`.
    pub memory: Memory,
    /// The newest entry that was sent; no more is sent before an answer or a timeout.
    pub sent: Index,
    pub sent_at: Micros,
    /// Not before this: the follower holds the next entry back.
    pub hold_until: Micros,
    /// Which commit it was told.
    pub told: Index,
    /// The page of the snapshot that it needs next.
    pub page: Option<Cursor>,
}

impl Progress {
    pub const NEW: Self = Self {
        next: Index(1),
        matched: Index(0),
        memory: Memory(0),
        sent: Index(0),
        sent_at: Micros(0),
        hold_until: Micros(0),
        told: Index(0),
        page: None,
    };
}

/// All that is known of another board.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub incarnation: Incarnation,
    pub life: LifeKey,
    pub top: u64,
    pub window: u64,
    pub challenge: u64,
    pub hello_at: Micros,
    pub detector: Detector,
    pub status: Option<Status>,
    /// The newest stamp that is backed by a promise.
    pub promised: bool,
    /// Whom it hears.
    pub hears: BoardSet,
    /// The newest own stamp that it has returned.
    pub echoed: Micros,
    pub progress: Progress,
    pub join_at: Micros,
}

impl Peer {
    pub const NEW: Self = Self {
        incarnation: Incarnation(0),
        life: LifeKey([0; 16]),
        top: 0,
        window: 0,
        challenge: 0,
        hello_at: Micros(0),
        detector: Detector::NEW,
        status: None,
        promised: false,
        hears: BoardSet(0),
        echoed: Micros(0),
        progress: Progress::NEW,
        join_at: Micros(0),
    };
}

/// The session of an operator's tool.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct OperatorSession {
    pub number: u8,
    pub incarnation: Incarnation,
    /// It has returned this board's challenge.
    pub met: bool,
    pub life: LifeKey,
    pub top: u64,
    pub window: u64,
    pub challenge: u64,
    pub used_at: Micros,
    pub hello_at: Micros,
}

impl OperatorSession {
    pub const NEW: Self = Self {
        number: 0,
        incarnation: Incarnation(0),
        met: false,
        life: LifeKey([0; 16]),
        top: 0,
        window: 0,
        challenge: 0,
        used_at: Micros(0),
        hello_at: Micros(0),
    };

    /// Whether it is that tool's, whether the tool has proved that it lives or not.
    pub fn is_of(&self, number: u8, incarnation: Incarnation) -> bool {
        (self.number, self.incarnation) == (number, incarnation)
    }
}

/// A command that this board was given and that is not answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Forwarding {
    pub id: RequestId,
    pub operation: Operation,
    /// The operator who asked, or nobody: this board's own driver.
    pub operator: Option<u8>,
    pub since: Micros,
    pub sent_at: Micros,
}

/// A founding that this voter noted or proposes, or a reform that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Founding {
    pub noted: Option<(Era, Seats)>,
    /// Who has noted it too, if it is this board's own.
    pub answers: BoardSet,
    pub reform: Option<Reform>,
}

/// A reform that an operator ordered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reform {
    pub id: RequestId,
    /// The operator who asked, or nobody: this board's own driver.
    pub operator: Option<u8>,
    /// Who is off and remembers nothing, as the operator vouches.
    pub lost: BoardSet,
    pub ordered_at: Micros,
    /// Not before this.
    pub due: Micros,
}

impl Founding {
    pub const NONE: Self = Self {
        noted: None,
        answers: BoardSet(0),
        reform: None,
    };
}

/// The snapshot that is being received.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Intake {
    pub index: Index,
    pub checksum: u64,
    pub next: Cursor,
}

impl Intake {
    pub const NONE: Self = Self {
        index: Index(0),
        checksum: 0,
        next: Cursor::START,
    };
}

/// Votes, by seat.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tally {
    pub granted: [Memory; crate::limits::SEATS],
}

impl Tally {
    pub const NONE: Self = Self {
        granted: [Memory(0); crate::limits::SEATS],
    };

    /// Whether the votes are a majority of `seats`.
    pub fn wins(&self, seats: &Seats) -> bool {
        let given = seats
            .members()
            .filter(|&(seat, _, memory)| self.granted[seat] == memory);
        given.count() >= seats.majority()
    }
}

/// What was refused, dropped or noticed, since the boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that were accepted.
    pub accepted: u64,
    /// Bytes that are no frame.
    pub noise: u64,
    /// Frames of another version.
    pub version: u64,
    /// The version of the newest of them. Nobody vouches for it: it is a hint that a board of another version is about.
    pub other_version: u8,
    /// Frames of another cluster.
    pub stranger: u64,
    /// Frames for somebody else, or from nobody.
    pub address: u64,
    /// Frames with a wrong tag.
    pub forged: u64,
    /// Frames of a life with which there is no session.
    pub unknown_life: u64,
    /// Frames that were accepted before, or are too old to tell.
    pub replayed: u64,
    /// Authentic frames whose body is no message.
    pub malformed: u64,
    /// Elections that this board won.
    pub elected: u64,
    /// Times that it stepped down for want of echoes.
    pub stepped_down: u64,
    /// Snapshots that it took in.
    pub snapshots: u64,
    /// Times that its guests froze.
    pub freezes: u64,
    /// Times that a fence had to wait for a promise.
    pub fence_held: u64,
    /// Commands refused because the log was full.
    pub log_full: u64,
    /// Eras that it left for a newer one.
    pub eras_left: u64,
    /// Entries that a newer leader's replaced.
    pub truncated: u64,
    /// Times that a leader said what cannot be: another entry where one was agreed, or that it leads a term that this board leads. Zero
    /// unless an assumption of the protocol is broken.
    pub contradictions: u64,
}

impl core::hash::Hash for Counters {
    /// Nothing: what was counted changes nothing that follows, and two nodes that differ in it only are the same to a model checker.
    fn hash<H: core::hash::Hasher>(&self, _: &mut H) {}
}

impl Counters {
    /// All zero.
    pub const NEW: Self = Self {
        accepted: 0,
        noise: 0,
        version: 0,
        other_version: 0,
        stranger: 0,
        address: 0,
        forged: 0,
        unknown_life: 0,
        replayed: 0,
        malformed: 0,
        elected: 0,
        stepped_down: 0,
        snapshots: 0,
        freezes: 0,
        fence_held: 0,
        log_full: 0,
        eras_left: 0,
        truncated: 0,
        contradictions: 0,
    };
}

/// A peer as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Its life, zero when there is no session.
    pub incarnation: Incarnation,
    /// Whether its heartbeats arrive.
    pub heard: bool,
    /// Whether it hears this board.
    pub hears_us: bool,
    /// The newest version of the protocol that it says it could speak; zero when it has said nothing yet.
    pub speaks: u8,
    /// How long its silence would be tolerated.
    pub patience: Span,
}

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Node<A, B, G, D, L>
{
    /// The ledger as far as this board has applied it.
    #[must_use]
    pub fn ledger(&self) -> &Ledger<B, G, D> {
        &self.ledger
    }

    /// This board's number.
    #[must_use]
    pub fn board(&self) -> BoardId {
        self.board
    }

    /// This life.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// This memory.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// The era; blank before a founding.
    #[must_use]
    pub fn era(&self) -> Era {
        self.era
    }

    /// The term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// The part in it.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whom this board follows; itself when it leads.
    #[must_use]
    pub fn leader(&self) -> Option<BoardId> {
        self.leader
    }

    /// How far decrees are known to be agreed.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// The newest configuration in its log.
    #[must_use]
    pub fn config(&self) -> &Seats {
        &self.config
    }

    /// The board's lease.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// This board's copy of `guest`: what it does, in which epoch, and whether it is frozen.
    #[must_use]
    pub fn copy(&self, guest: GuestId) -> Option<(CopyState, Epoch, bool)> {
        self.copies
            .get(guest.at())
            .map(|copy| (copy.state, copy.epoch, copy.frozen))
    }

    /// Another board as seen from here.
    #[must_use]
    pub fn peer(&self, board: BoardId) -> Option<PeerView> {
        let peer = self.peers.get(board.at())?;
        Some(PeerView {
            incarnation: peer.incarnation,
            heard: peer.detector.hears(self.now),
            hears_us: peer.hears.has(self.board),
            speaks: peer.status.as_ref().map_or(0, |status| status.speaks),
            patience: peer.detector.patience(),
        })
    }

    /// Whether this board is a leader that a majority still follows, and what it decreed in its term is agreed.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.role == Role::Leader && self.commit >= self.begun
    }

    /// Term and place of the last entry of its log: what votes compare.
    #[must_use]
    pub fn log_end(&self) -> (Term, Index) {
        (self.log.last_term(), self.log.last())
    }

    /// Whether this board has a seat, by the newest configuration in its log.
    #[must_use]
    pub fn votes(&self) -> bool {
        self.may_vote()
    }

    /// Whether a reform that was ordered here is still to come.
    #[must_use]
    pub fn is_reforming(&self) -> bool {
        self.founding.reform.is_some()
    }

    /// The entry at `index`, if the log still has it.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<&crate::ledger::types::Entry> {
        self.log.get(index)
    }
}
