//! The whole protocol of one board as one state machine. Time, frames, local events and commands go in; effects come out.
//!
//! Read [`Setup`] and [`Effect`] first, then the inputs ([`Node::boot`], [`Node::tick`], [`Node::receive`], [`Node::local`],
//! [`Node::command`]). The parts behind them, in the order in which a cluster comes to life: `session` (who lives now), `founding`
//! (the first agreement) and `reform` (a new one by order), `vote`, `replicate` (the log), `beat` (heartbeats, promises), `agent` (this board's copies of guests), `moves` (copies that move while they run), `lead`
//! (what a leader does), `operate` (operators), `journal` (memory that survives).

mod agent;
mod beat;
mod copy;
mod founding;
mod interface;
mod journal;
mod lead;
mod moves;
mod operate;
mod reform;
mod replicate;
mod session;
mod snapshot;
mod state;
mod vote;

pub use copy::CopyState;
#[cfg(feature = "mutations")]
pub use interface::Mutation;
pub use interface::{Effect, Journal, Local, Setup, Sink};
pub use journal::{JournalError, Recall};
pub use moves::Arrival;
pub(crate) use session::take_number;
pub(crate) use state::Random;
pub use state::{Counters, PeerView};

use crate::ids::{
    BoardId, BoardSet, Epoch, Era, GuestId, Incarnation, Index, Memory, Micros, Span, Term,
};
use crate::lease::{Lease, Permit, Promises, promise_span};
use crate::ledger::Ledger;
use crate::ledger::types::{Capacity, Observation, Operation, RequestId, Seats};
use crate::log::Log;
use crate::wire::auth::Authenticator;
use crate::wire::frame::{Party, Recipient};
use crate::wire::message::{Message, Role};
use copy::{Backoff, Copy};
use state::{Forwarding, Founding, Intake, OperatorSession, Peer, Tally};

/// The state machine of one board: `B` boards, `G` guests, `D` volumes, `L` log entries.
#[derive(Clone, Hash)]
pub struct Node<A, const B: usize, const G: usize, const D: usize, const L: usize> {
    auth: A,
    board: BoardId,
    cluster: u32,
    incarnation: Incarnation,
    own_life: crate::wire::auth::LifeKey,
    sequence: u64,
    random: Random,
    capacity: Capacity,
    manifest: u64,
    journaled: bool,
    heartbeat: Span,
    lease_span: Span,
    promise: Span,
    patience: Span,
    #[cfg(feature = "mutations")]
    mutation: Option<Mutation>,

    booted: Micros,
    now: Micros,
    memory: Memory,
    era: Era,
    newest_generation: u32,
    /// Whether the ledger is still the manifest's.
    virgin: bool,
    founding: Founding,
    era_heard: Micros,
    /// Another history whose leader is heard: since when, and when last.
    foreign: (Era, Micros, Micros),

    term: Term,
    voted: Option<BoardId>,
    role: Role,
    leader: Option<BoardId>,
    leader_heard: Micros,
    tally: Tally,
    election_at: Micros,
    /// The first entry of the own term, while leading.
    begun: Index,
    led_since: Micros,
    /// Up to where the log is known to be the present leader's, while following.
    verified: Index,

    log: Log<L>,
    commit: Index,
    config: Seats,
    config_at: Index,
    /// Who is not counted in what commits the newest configuration.
    newcomer: Option<BoardId>,
    ledger: Ledger<B, G, D>,
    /// While leading, the ledger that is being sent; else the one that is being received.
    staging: Ledger<B, G, D>,
    intake: Intake,
    /// The snapshot in `staging` that is being sent; zero: none.
    sending: Index,
    journal_length: u32,
    /// Which commit the journal knows.
    journaled_commit: Index,
    /// Whether the journal was read back, and is to be begun anew.
    rewrite: bool,

    peers: [Peer; B],
    operators: [OperatorSession; crate::limits::OPERATORS],
    forwards: heapless::Vec<Forwarding, { crate::limits::FORWARDS }>,

    promises: Promises<B>,
    pending_fences: BoardSet,
    unwanted: BoardSet,
    lease: Lease,
    leaseless_since: Micros,
    froze_at: Micros,
    confirmed: Micros,
    copies: [Copy; G],
    backoff: [Backoff; G],
    move_backoff: [Backoff; G],

    beat_at: Micros,
    lead_at: Micros,
    /// Whether something changed that the agent or the leader should look at.
    stirred: bool,
    counters: Counters,
}

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Node<A, B, G, D, L>
{
    const FITS: () = assert!(B <= crate::limits::BOARDS_MAX && G < 0xFFFF && D < 0xFFFF && L >= 8);

    /// A node that has not booted. It is a constant, so that it can be a static and is never built on a stack.
    #[must_use]
    pub const fn new() -> Self {
        let () = Self::FITS;
        Self {
            auth: A::BLANK,
            board: BoardId(0),
            cluster: 0,
            incarnation: Incarnation(0),
            own_life: crate::wire::auth::LifeKey([0; 16]),
            sequence: 0,
            random: Random(0),
            capacity: Capacity {
                memory_mib: 0,
                cores: 0,
                class: 0,
            },
            manifest: 0,
            journaled: false,
            heartbeat: Span(0),
            lease_span: Span(0),
            promise: Span(0),
            patience: Span(0),
            #[cfg(feature = "mutations")]
            mutation: None,
            booted: Micros(0),
            now: Micros(0),
            memory: Memory(0),
            era: Era::BLANK,
            newest_generation: 0,
            virgin: true,
            founding: Founding::NONE,
            era_heard: Micros(0),
            foreign: (Era::BLANK, Micros(0), Micros(0)),
            term: Term(0),
            voted: None,
            role: Role::Follower,
            leader: None,
            leader_heard: Micros(0),
            tally: Tally::NONE,
            election_at: Micros(0),
            begun: Index(0),
            led_since: Micros(0),
            verified: Index(0),
            log: Log::NEW,
            commit: Index(0),
            config: Seats::NONE,
            config_at: Index(0),
            newcomer: None,
            ledger: Ledger::new(),
            staging: Ledger::new(),
            intake: Intake::NONE,
            sending: Index(0),
            journal_length: 0,
            journaled_commit: Index(0),
            rewrite: false,
            peers: [const { Peer::NEW }; B],
            operators: [const { OperatorSession::NEW }; crate::limits::OPERATORS],
            forwards: heapless::Vec::new(),
            promises: Promises::NEW,
            pending_fences: BoardSet(0),
            unwanted: BoardSet(0),
            lease: Lease::NEW,
            leaseless_since: Micros(0),
            froze_at: Micros(0),
            confirmed: Micros(0),
            copies: [const { Copy::NONE }; G],
            backoff: [const { Backoff::NONE }; G],
            move_backoff: [const { Backoff::NONE }; G],
            beat_at: Micros(0),
            lead_at: Micros(0),
            stirred: false,
            counters: Counters::NEW,
        }
    }

    /// Begins a life. `first` makes the first ledger, with its seats vacant, from the package's manifest; it is called on an empty one. By that ledger's checksum
    /// boards see that they were packed alike.
    /// A voter with a journal calls [`Node::recall`] next, for every record.
    pub fn boot(&mut self, setup: &Setup, now: Micros, first: impl FnOnce(&mut Ledger<B, G, D>)) {
        self.auth.set_key(&setup.key);
        self.board = setup.board;
        self.cluster = setup.cluster;
        self.incarnation = setup.incarnation;
        self.own_life = self.auth.life(setup.board.0, setup.incarnation);
        self.sequence = 0;
        self.random = Random(setup.seed);
        self.capacity = setup.capacity.clone();
        self.journaled = setup.journal;
        (self.heartbeat, self.lease_span) = (setup.heartbeat, setup.lease);
        self.promise = promise_span(setup.lease, setup.drift_ppm);
        self.patience = crate::limits::QUORUM_PATIENCE;
        #[cfg(feature = "mutations")]
        {
            self.mutation = setup.mutation;
            if self.mutated(Mutation::LeaseWithoutDrift) {
                self.promise = setup.lease;
            }
        }
        self.booted = now;
        self.now = now;
        for peer in &mut self.peers {
            *peer = Peer::NEW;
        }
        for operator in &mut self.operators {
            *operator = OperatorSession::NEW;
        }
        self.forwards.clear();
        self.counters = Counters::NEW;
        self.newest_generation = 0;
        self.forget(Memory(setup.incarnation.0));
        first(&mut self.ledger);
        self.manifest = self.ledger.checksum();
        self.config = self.ledger.seats;
        self.virgin = true;
        for copy in &mut self.copies {
            *copy = Copy::NONE;
        }
        self.promises = Promises::NEW;
        self.keep_quiet();
        // Boards that boot together do not all speak at once.
        self.beat_at = now.after(Span(self.random.below(self.heartbeat.0 / 2)));
    }

    /// Drops everything that is replicated, and goes on as a newcomer with the memory `memory`.
    fn forget(&mut self, memory: Memory) {
        self.memory = memory;
        self.era = Era::BLANK;
        self.era_heard = self.now;
        self.foreign = (Era::BLANK, Micros(0), Micros(0));
        self.virgin = false;
        self.founding = Founding::NONE;
        self.term = Term(0);
        self.voted = None;
        self.role = Role::Follower;
        self.leader = None;
        self.leader_heard = self.now;
        self.begun = Index(0);
        self.verified = Index(0);
        self.log.restart(Index(0), Term(0));
        self.commit = Index(0);
        self.ledger.clear();
        self.config = Seats::NONE;
        self.config_at = Index(0);
        self.newcomer = None;
        self.staging_free();
        self.journal_length = 0;
        self.journaled_commit = Index(0);
        self.rewrite = false;
        self.pending_fences = BoardSet(0);
        self.unwanted = BoardSet(0);
        self.lease = Lease::NEW;
        self.leaseless_since = self.now;
        self.froze_at = self.now;
        self.confirmed = Micros(0);
        self.election_at = self.now.after(self.patience);
        self.backoff.fill(Backoff::NONE);
        self.move_backoff.fill(Backoff::NONE);
        self.stirred = true;
        for peer in &mut self.peers {
            peer.progress = state::Progress::NEW;
        }
    }

    #[cfg(feature = "mutations")]
    fn mutated(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Accepts no fence for as long as a promise may last that this voter does not know of, or that was given under another configuration.
    fn keep_quiet(&mut self) {
        #[cfg(feature = "mutations")]
        if self.mutated(Mutation::NoQuietTime) {
            return;
        }
        self.promises.hold_all(self.now.after(self.promise));
    }

    /// Takes the time in. A clock never goes back; if it does, it stands.
    fn advance(&mut self, now: Micros, out: &mut dyn Sink) {
        self.now = self.now.max(now);
        if self.rewrite {
            // The old journal may end in a torn record, behind which nothing may be written.
            self.rewrite = false;
            self.persist_snapshot(out);
        }
        self.freeze_if_leaseless(out);
    }

    /// Time has passed. To be called at [`Node::deadline`], or more often.
    pub fn tick(&mut self, now: Micros, out: &mut dyn Sink) {
        self.advance(now, out);
        self.keep_founding(out);
        self.keep_term(out);
        if self.now >= self.beat_at {
            self.beat(out);
        }
        self.settle(out);
    }

    /// A datagram came. What it is not allowed to do, it does not do; [`Node::counters`] says why. Returns whether it was authentic and fresh.
    pub fn receive(&mut self, now: Micros, datagram: &[u8], out: &mut dyn Sink) -> bool {
        self.advance(now, out);
        let accepted = self.take_in(datagram, out);
        if accepted {
            self.settle(out);
        }
        accepted
    }

    /// Something happened to one of this board's copies.
    pub fn local(&mut self, now: Micros, event: Local, out: &mut dyn Sink) {
        self.advance(now, out);
        match event {
            Local::Started { guest, epoch } => self.copy_started(guest, epoch),
            Local::Gone {
                guest,
                epoch,
                reason,
            } => self.copy_gone(guest, epoch, reason),
            Local::Ready { guest, epoch, id } => self.copy_ready(guest, epoch, id),
            Local::Stays {
                guest,
                epoch,
                id,
                reason,
            } => {
                #[cfg(feature = "mutations")]
                self.regret_at_once(guest, id, out);
                self.copy_stays(guest, epoch, id, reason);
            }
        }
        self.settle(out);
    }

    /// An operator's command from this board itself. Its outcome comes as [`Effect::Answer`].
    pub fn command(
        &mut self,
        now: Micros,
        id: RequestId,
        operation: Operation,
        out: &mut dyn Sink,
    ) {
        self.advance(now, out);
        self.order(id, operation, None, out);
        self.settle(out);
    }

    /// Sends bytes beside the protocol to a board, or to an operator who has a session. One who has none challenges, and the bytes are lost.
    ///
    /// # Panics
    /// If they are more than [`MAX_BODY`](crate::wire::frame::MAX_BODY).
    pub fn send_parcel(&mut self, to: Party, bytes: &[u8], out: &mut dyn Sink) {
        assert!(bytes.len() <= crate::wire::frame::MAX_BODY);
        self.send(Recipient::One(to), &Message::Parcel(bytes), out);
    }

    /// Orders a new founding around this board, from this board itself. `lost` are voters that are off and of whose memory nothing is left:
    /// the operator vouches for it, and every other voter has to be heard. The outcome comes as [`Effect::Answer`].
    pub fn reform(&mut self, now: Micros, id: RequestId, lost: BoardSet, out: &mut dyn Sink) {
        self.advance(now, out);
        self.order_reform(id, lost, None, out);
        self.settle(out);
    }

    /// Does what follows from the input that was just taken in.
    fn settle(&mut self, out: &mut dyn Sink) {
        if self.role == Role::Leader {
            self.lead(out);
        }
        if self.stirred {
            self.stirred = false;
            self.tend_copies(out);
        }
    }

    /// Leave for the copy of `guest` to have effects, if this board may give it now.
    #[must_use]
    pub fn permit(&self, guest: GuestId, now: Micros) -> Option<Permit> {
        let copy = self.copies.get(guest.at())?;
        let live = copy.runs();
        #[cfg(feature = "mutations")]
        let live = live || (self.mutated(Mutation::AskedRuns) && copy.asked.is_some());
        let permit = Permit::new(self.lease.until(), copy.epoch);
        (live && copy.tenure == self.lease.tenure() && permit.valid(now)).then_some(permit)
    }

    /// When [`Node::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Micros {
        let mut due = self.beat_at;
        if self.may_vote() && self.role != Role::Leader {
            due = due.min(self.election_at);
        }
        if self.role == Role::Leader {
            due = due.min(self.lead_at);
        }
        if let Some(reform) = &self.founding.reform {
            due = due.min(reform.due);
        }
        if self.copies_run() {
            due = due.min(self.lease.until().max(self.now));
        }
        due.max(Micros(self.now.0 + 1))
    }

    fn may_vote(&self) -> bool {
        !self.era.is_blank() && self.config.votes(self.board, self.memory)
    }

    fn report_to(&self) -> Option<BoardId> {
        if self.role == Role::Leader {
            None
        } else {
            self.leader
        }
    }

    fn observe(&mut self, guest: GuestId, epoch: Epoch, seen: Observation) {
        if let Some(copy) = self.copies.get_mut(guest.at())
            && copy.epoch == epoch
        {
            copy.seen = Some(seen);
            copy.report_at = self.now;
            self.stirred = true;
        }
    }
}

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize> Default
    for Node<A, B, G, D, L>
{
    fn default() -> Self {
        Self::new()
    }
}
