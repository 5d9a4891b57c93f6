//! A node with hands: the part of a board, or of a witness, that turns what the protocol wants into calls, the same wherever it runs.
//!
//! Datagrams, time and what became of guests go in; a [`Hands`] is called. What the protocol leaves to its driver is here: where everybody lives
//! ([`book`]), images that a guest needs and that are not here ([`images`]), starts that wait for them, permits published whenever they change, and consoles.
//! It touches no clock, socket or heap, so a test drives several of them over a network of its own.
//!
//! A driver calls [`Agent::receive`] for each datagram, [`Agent::tick`] at [`Agent::deadline`] at the latest, and [`Agent::local`] when one of its guests started or is gone.

pub mod book;
mod hands;
pub mod images;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod move_tests;
#[cfg(test)]
mod restore_tests;
#[cfg(test)]
mod tests;

use heapless::Deque;

use crate::ids::{Epoch, GuestId, Micros, MoveId, Span};
use crate::ledger::Ledger;
use crate::ledger::types::Reason;
use crate::node::{Arrival, CopyState, Effect, Local, Node, Setup, Sink};
use crate::service::{CONSOLE_BYTES, Parcel};
use crate::wire::auth::Authenticator;
use crate::wire::codec::Writer;
use crate::wire::frame::{MAX_BODY, Party, Recipient};
use book::{Book, Endpoint};
pub use hands::{Awaiting, Brought, Hands};
use images::Images;

/// How long a guest waits for the tool that is to bring it.
const TOOL_PATIENCE: Span = Span::millis(5_000);

/// A copy that is to start and waits for images, or for what a tool brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    epoch: Epoch,
    frozen: bool,
    arrived: Option<MoveId>,
    /// Since when it waits, or when it was last seen to be on its way.
    since: Micros,
}

/// What came beside the protocol, until the node has done with the datagram.
struct Inbox {
    from: Option<Party>,
    bytes: [u8; MAX_BODY],
    length: usize,
}

/// A node and what it needs to live on a board: `B` boards, `G` guests, `D` volumes, `L` log entries.
pub struct Agent<A, const B: usize, const G: usize, const D: usize, const L: usize> {
    node: Node<A, B, G, D, L>,
    book: Book<B>,
    images: Images,
    pending: [Option<Pending>; G],
    permits: [(Epoch, Micros); G],
    inbox: Inbox,
    later: Deque<Local, G>,
    now: Micros,
}

/// Where effects go while the node is busy.
struct Out<'a, H, const B: usize, const G: usize, const D: usize> {
    hands: &'a mut H,
    book: &'a Book<B>,
    pending: &'a mut [Option<Pending>; G],
    inbox: &'a mut Inbox,
    later: &'a mut Deque<Local, G>,
    now: Micros,
}

impl<H: Hands<B, G, D>, const B: usize, const G: usize, const D: usize> Sink
    for Out<'_, H, B, G, D>
{
    fn emit(&mut self, effect: Effect<'_>) {
        match effect {
            Effect::Send { to, frame } => {
                if let Some(to) = self.book.find(to) {
                    self.hands.send(to, frame);
                }
            }
            Effect::Persist { place, record } => self.hands.persist(place, record),
            Effect::Start {
                guest,
                epoch,
                arrived,
            } => {
                if let Some(slot) = self.pending.get_mut(guest.at()) {
                    *slot = Some(Pending {
                        epoch,
                        frozen: false,
                        arrived,
                        since: self.now,
                    });
                }
            }
            Effect::Move {
                guest,
                epoch,
                id,
                to,
                downtime,
            } => {
                if let Some(at) = self.book.find(Recipient::One(Party::Board(to))) {
                    self.hands.send_guest(guest, epoch, id, to, at, downtime);
                }
            }
            Effect::Abandon { guest, epoch, id } => self.hands.abandon_move(guest, epoch, id),
            Effect::Renew { guest, from, to } => self.hands.renew(guest, from, to),
            Effect::Freeze { guest, epoch } => match self.waiting(guest, epoch) {
                Some(pending) => pending.frozen = true,
                None => self.hands.freeze(guest, epoch),
            },
            Effect::Resume { guest, epoch } => match self.waiting(guest, epoch) {
                Some(pending) => pending.frozen = false,
                None => self.hands.resume(guest, epoch),
            },
            Effect::Destroy { guest, epoch } => {
                if self.waiting(guest, epoch).is_none() {
                    return self.hands.destroy(guest, epoch);
                }
                self.pending[guest.at()] = None;
                let gone = Local::Gone {
                    guest,
                    epoch,
                    reason: Reason::Operator,
                };
                // A guest is destroyed once before the agent settles.
                let room = self.later.push_back(gone).is_ok();
                assert!(room, "more guests are gone than there are");
            }
            // The agent's own orders are repeated by need, not by their outcome.
            Effect::Answer { .. } => {}
            Effect::Parcel { from, bytes } => {
                self.inbox.from = Some(from);
                self.inbox.length = bytes.len();
                self.inbox.bytes[..bytes.len()].copy_from_slice(bytes);
            }
        }
    }
}

impl<H, const B: usize, const G: usize, const D: usize> Out<'_, H, B, G, D> {
    fn waiting(&mut self, guest: GuestId, epoch: Epoch) -> Option<&mut Pending> {
        let pending = self.pending.get_mut(guest.at())?.as_mut()?;
        (pending.epoch == epoch).then_some(pending)
    }
}

/// Splits an agent into its node and the sink for what the node wants.
macro_rules! node_and_out {
    ($agent:expr, $hands:expr) => {
        (
            &mut $agent.node,
            &mut Out {
                hands: $hands,
                book: &$agent.book,
                pending: &mut $agent.pending,
                inbox: &mut $agent.inbox,
                later: &mut $agent.later,
                now: $agent.now,
            },
        )
    };
}
use node_and_out;

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Agent<A, B, G, D, L>
{
    /// One that has not booted. It is a constant, so that it can be a static and is never built on a stack.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            node: Node::new(),
            book: Book::new(),
            images: Images::new(),
            pending: [const { None }; G],
            permits: [(Epoch(0), Micros(0)); G],
            inbox: Inbox {
                from: None,
                bytes: [0; MAX_BODY],
                length: 0,
            },
            later: Deque::new(),
            now: Micros(0),
        }
    }

    /// Begins a life, as [`Node::boot`] does.
    pub fn boot(&mut self, setup: &Setup, now: Micros, first: impl FnOnce(&mut Ledger<B, G, D>)) {
        self.book.forget();
        self.images.forget();
        self.pending.fill(None);
        self.permits.fill((Epoch(0), Micros(0)));
        self.later.clear();
        self.now = now;
        self.node.boot(setup, now, first);
    }

    /// The node, to be asked and, by a driver that has a journal, to be given it back.
    #[must_use]
    pub fn node(&self) -> &Node<A, B, G, D, L> {
        &self.node
    }

    /// The node, for its journal's records.
    pub fn node_mut(&mut self) -> &mut Node<A, B, G, D, L> {
        &mut self.node
    }

    /// A datagram came from `from`. Returns whether it was authentic and fresh.
    pub fn receive<H: Hands<B, G, D>>(
        &mut self,
        now: Micros,
        from: Endpoint,
        datagram: &[u8],
        hands: &mut H,
    ) -> bool {
        self.now = self.now.max(now);
        self.book.begin(datagram, from);
        let (node, out) = node_and_out!(self, hands);
        let accepted = node.receive(now, datagram, out);
        self.book.end(accepted);
        if let Some(from) = self.inbox.from.take() {
            self.open(from, hands);
        }
        if accepted {
            self.settle(hands);
        }
        accepted
    }

    /// Time has passed.
    pub fn tick<H: Hands<B, G, D>>(&mut self, now: Micros, hands: &mut H) {
        self.now = self.now.max(now);
        let (node, out) = node_and_out!(self, hands);
        if node.deadline() <= now {
            node.tick(now, out);
        }
        self.settle(hands);
    }

    /// Something became of one of this board's copies.
    pub fn local<H: Hands<B, G, D>>(&mut self, now: Micros, event: Local, hands: &mut H) {
        self.now = self.now.max(now);
        let (node, out) = node_and_out!(self, hands);
        node.local(now, event, out);
        self.settle(hands);
    }

    /// When [`Agent::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Micros {
        self.node.deadline().min(self.images.deadline())
    }

    /// Does what follows from the input that was just taken in.
    fn settle<H: Hands<B, G, D>>(&mut self, hands: &mut H) {
        self.tend_images(hands);
        for at in 0..G {
            if let Some(pending) = self.pending[at].filter(|pending| !pending.frozen) {
                // G is a small capacity, far below 65,536.
                self.try_start(GuestId(at as u16), pending, hands);
            }
        }
        self.images.give_up_hope(self.now);
        while let Some(event) = self.later.pop_front() {
            let (node, out) = node_and_out!(self, hands);
            node.local(self.now, event, out);
        }
        self.publish_permits(hands);
    }

    /// Starts a guest whose images are here, or sees to it that the next one comes. What arrived waits for none: the board took it with all that it needs.
    fn try_start<H: Hands<B, G, D>>(&mut self, guest: GuestId, pending: Pending, hands: &mut H) {
        let (epoch, arrived) = (pending.epoch, pending.arrived);
        let file = arrived.filter(|id| id.is_of_file());
        let brought = file.map_or(Brought::All, |id| hands.brought(guest, epoch, id));
        let ledger = self.node.ledger();
        let stands = ledger.guest(guest).is_some() && ledger.epoch(guest) == epoch;
        let missing = || images::first_missing(ledger, guest, hands);
        let missing = if arrived.is_none() { missing() } else { None };
        let outcome = match missing {
            // The ledger has gone on; what it says now comes as an effect.
            _ if !stands => Err(Reason::StartFailed),
            _ if brought == Brought::Refused => Err(Reason::NotRestored),
            _ if brought != Brought::All => match self.wait_for_tool(guest, brought) {
                true => return,
                false => Err(Reason::NotRestored),
            },
            None => hands.start(guest, epoch, arrived, ledger),
            Some(digest) => match self.want_image(&digest, hands) {
                Ok(()) => return,
                Err(_) => Err(Reason::StartFailed),
            },
        };
        self.pending[guest.at()] = None;
        if let Err(reason) = outcome {
            let gone = Local::Gone {
                guest,
                epoch,
                reason,
            };
            let room = self.later.push_back(gone).is_ok();
            assert!(room, "more guests are gone than there are");
        }
    }

    /// Whether a guest that a tool is to bring is waited for any longer.
    fn wait_for_tool(&mut self, guest: GuestId, brought: Brought) -> bool {
        let now = self.now;
        let Some(pending) = &mut self.pending[guest.at()] else {
            return false;
        };
        if brought == Brought::Some {
            pending.since = now;
        }
        now.since(pending.since) < TOOL_PATIENCE
    }

    /// Somebody asks whether the copy of a guest that move `id` of epoch `epoch` brings is wanted here. Images that a guest needs beside it are sent for.
    pub fn await_guest<H: Hands<B, G, D>>(
        &mut self,
        now: Micros,
        (guest, epoch, id): (GuestId, Epoch, MoveId),
        hands: &mut H,
    ) -> Awaiting {
        self.now = self.now.max(now);
        match self.node.arrival(guest, epoch, id) {
            Arrival::NotYet => Awaiting::NotYet,
            Arrival::Over => Awaiting::Over,
            Arrival::Awaited => match images::first_missing(self.node.ledger(), guest, hands) {
                None => Awaiting::Here,
                Some(digest) => match self.want_image(&digest, hands) {
                    Ok(()) => Awaiting::NotYet,
                    Err(_) => Awaiting::Over,
                },
            },
        }
    }

    /// Tells the hands which copies may have effects, and until when, wherever that has changed.
    fn publish_permits<H: Hands<B, G, D>>(&mut self, hands: &mut H) {
        for at in 0..G {
            // G is a small capacity, far below 65,536.
            let guest = GuestId(at as u16);
            let held = &mut self.permits[at];
            let Some((state, epoch, _)) = self.node.copy(guest) else {
                continue;
            };
            if state == CopyState::None && held.1 == Micros(0) {
                continue;
            }
            let permit = self.node.permit(guest, self.now);
            let until = permit.map_or(Micros(0), |permit| permit.until());
            if *held != (epoch, until) {
                *held = (epoch, until);
                hands.permit(guest, epoch, until);
            }
        }
    }

    /// Opens the parcel in the inbox.
    fn open<H: Hands<B, G, D>>(&mut self, from: Party, hands: &mut H) {
        let bytes = self.inbox.bytes;
        match Parcel::get(&bytes[..self.inbox.length]) {
            Ok(Parcel::Listen { guest, from: since }) => {
                let mut said = [0; CONSOLE_BYTES];
                match hands.listen(guest, since, &mut said) {
                    Some((from_byte, length)) => {
                        let bytes = &said[..length];
                        let said = Parcel::Said {
                            guest,
                            from: from_byte,
                            bytes,
                        };
                        self.post(from, &said, hands);
                    }
                    None => self.post(from, &Parcel::Elsewhere { guest }, hands),
                }
            }
            Ok(Parcel::Type { guest, bytes }) => {
                if !hands.type_in(guest, bytes) {
                    self.post(from, &Parcel::Elsewhere { guest }, hands);
                }
            }
            Ok(Parcel::Follow { guest }) => {
                let progress = hands.progress(guest);
                self.post(from, &Parcel::Goes { guest, progress }, hands);
            }
            Ok(Parcel::Save { guest, epoch, id }) => {
                let at = self.book.find(Recipient::One(from));
                if let (Party::Operator(_), Some(at), true) = (from, at, id.is_of_file())
                    && let Some(why) = hands.save(guest, epoch, id, at)
                {
                    self.post(from, &Parcel::NotSaved { guest, id, why }, hands);
                }
            }
            // A board has no use for an answer to what only tools ask.
            Ok(
                Parcel::Said { .. }
                | Parcel::Elsewhere { .. }
                | Parcel::Goes { .. }
                | Parcel::NotSaved { .. },
            )
            | Err(_) => {}
            Ok(parcel) => self.on_image_parcel(from, &parcel, hands),
        }
    }

    /// Sends a parcel.
    fn post<H: Hands<B, G, D>>(&mut self, to: Party, parcel: &Parcel<'_>, hands: &mut H) {
        let mut room = [0; MAX_BODY];
        let mut writer = Writer::new(&mut room);
        let fits = parcel.put(&mut writer).is_ok();
        assert!(fits, "every parcel fits a frame");
        let (node, out) = node_and_out!(self, hands);
        node.send_parcel(to, writer.bytes(), out);
    }
}

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize> Default
    for Agent<A, B, G, D, L>
{
    fn default() -> Self {
        Self::new()
    }
}

impl Recipient {
    /// The one party that it names, if it is not everybody.
    #[must_use]
    pub fn party(self) -> Option<Party> {
        match self {
            Self::All => None,
            Self::One(party) => Some(party),
        }
    }
}
