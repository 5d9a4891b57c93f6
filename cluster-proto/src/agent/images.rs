//! Images that are not here: fetched for a guest that is to start, or taken from a tool that offers one; and given to others.
//!
//! One image is fetched for guests and one is taken from a tool at a time. What came is announced in the ledger, which is a hint: a board that is said to hold an
//! image and does not is passed over.

use super::{Agent, Hands, Out, node_and_out};
use crate::described::NO_IMAGE;
use crate::ids::{BoardId, BoardSet, GuestId, Micros, Span};
use crate::ledger::Ledger;
use crate::ledger::types::{Digest, Image, Operation, RequestId, VolumeKind};
use crate::service::fetch::{Fetch, PATIENCE, State};
use crate::service::{IMAGE_MAX, PIECE, Parcel, Unwanted, WINDOW, piece_range};
use crate::wire::auth::Authenticator;
use crate::wire::frame::Party;

/// How long a guest waits for an image for which no source is left, before its start has failed.
const HOPE: Span = Span::millis(3_000);

/// An image on its way here, and from whom.
struct Incoming {
    fetch: Fetch,
    source: Party,
    /// Boards that have it as the ledger says, and were not tried in vain.
    untried: BoardSet,
}

/// What is on its way.
pub(super) struct Images {
    /// For a guest.
    wanted: Option<Incoming>,
    /// From a tool.
    offered: Option<Incoming>,
    /// The image for which no source was found, and since when.
    hopeless: Option<(Digest, Micros)>,
    /// Numbers of the agent's own orders.
    orders: u64,
}

impl Images {
    pub(super) const fn new() -> Self {
        Self {
            wanted: None,
            offered: None,
            hopeless: None,
            orders: 0,
        }
    }

    pub(super) fn forget(&mut self) {
        (self.wanted, self.offered, self.hopeless) = (None, None, None);
    }

    /// Nobody waits any more for what was hoped for so long: who did has been told.
    pub(super) fn give_up_hope(&mut self, now: Micros) {
        self.hopeless = self.hopeless.filter(|(_, since)| now.since(*since) < HOPE);
    }

    pub(super) fn deadline(&self) -> Micros {
        let due = |incoming: &Option<Incoming>| incoming.as_ref().map(|one| one.fetch.deadline());
        let hope = self.hopeless.map(|(_, since)| since.after(HOPE));
        let all = [due(&self.wanted), due(&self.offered), hope];
        all.into_iter().flatten().min().unwrap_or(Micros(u64::MAX))
    }
}

/// The images that a guest starts from.
fn images_of<const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    guest: GuestId,
) -> impl Iterator<Item = &Digest> {
    let spec = ledger.guest(guest).map(|found| &found.spec);
    let own = spec
        .into_iter()
        .flat_map(|spec| [&spec.kernel, &spec.initrd]);
    let disks = ledger.volumes.iter().flatten();
    let disks = disks.filter(move |disk| disk.guest == guest && disk.kind == VolumeKind::Ephemeral);
    own.chain(disks.map(|disk| &disk.image))
        .filter(|digest| **digest != NO_IMAGE)
}

/// The first image that a guest needs and that is not here.
pub(super) fn first_missing<H: Hands<B, G, D>, const B: usize, const G: usize, const D: usize>(
    ledger: &Ledger<B, G, D>,
    guest: GuestId,
    hands: &H,
) -> Option<Digest> {
    let missing = images_of(ledger, guest).find(|digest| !hands.has_image(digest));
    missing.copied()
}

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Agent<A, B, G, D, L>
{
    /// An image of the ledger.
    fn known(&self, digest: &Digest) -> Option<&Image> {
        let mut all = self.node.ledger().images.iter();
        all.find(|image| image.digest == *digest)
    }

    /// Whether an image is on its way here.
    fn is_coming(&self, digest: &Digest) -> bool {
        let coming =
            |one: &Option<Incoming>| one.as_ref().is_some_and(|one| one.fetch.digest() == digest);
        coming(&self.images.wanted) || coming(&self.images.offered)
    }

    /// Sees to it that an image comes, if it can.
    ///
    /// # Errors
    /// Why it will not.
    pub(super) fn want_image<H: Hands<B, G, D>>(
        &mut self,
        digest: &Digest,
        hands: &mut H,
    ) -> Result<(), Unwanted> {
        if self.is_coming(digest) || self.images.wanted.is_some() {
            return Ok(());
        }
        let now = self.now;
        let since = match self.images.hopeless {
            Some((hopeless, since)) if hopeless == *digest => since,
            _ => now,
        };
        let known = self.known(digest).map(|image| (image.size, image.held));
        let Some((size, held)) = known else {
            return Err(Unwanted::Silent);
        };
        let length = u32::try_from(size).map_err(|_| Unwanted::Length)?;
        let mut untried = held;
        untried.set(self.node.board(), false);
        let Some(source) = self.next_source(&mut untried) else {
            self.images.hopeless = Some((*digest, since));
            return if now.since(since) < HOPE {
                Ok(())
            } else {
                self.images.hopeless = None;
                Err(Unwanted::Silent)
            };
        };
        self.make_room(digest, length, hands)?;
        self.images.wanted = Some(Incoming {
            fetch: Fetch::new(*digest, length, now),
            source: Party::Board(source),
            untried,
        });
        self.tend_images(hands);
        Ok(())
    }

    /// Takes the next board that lives out of those that were not tried.
    fn next_source(&self, untried: &mut BoardSet) -> Option<BoardId> {
        // B is at most 64.
        let own = self.node.board().at();
        let mut after = (1..B).map(|step| BoardId(((own + step) % B) as u8));
        let lives = |board: &BoardId| {
            let peer = self.node.peer(*board);
            untried.has(*board) && peer.is_some_and(|peer| peer.heard)
        };
        let found = after.find(lives)?;
        untried.set(found, false);
        Some(found)
    }

    /// Has room made for an image, at the cost of those that no guest needs any more.
    fn make_room<H: Hands<B, G, D>>(
        &mut self,
        digest: &Digest,
        length: u32,
        hands: &mut H,
    ) -> Result<(), Unwanted> {
        if !(1..=IMAGE_MAX).contains(&length) {
            return Err(Unwanted::Length);
        }
        if hands.begin_image(digest, length) {
            return Ok(());
        }
        let ledger = self.node.ledger();
        let needs = |digest: &Digest| {
            let mut guests = ledger.guests();
            guests.any(|(id, _, _)| images_of(ledger, id).any(|needed| needed == digest))
        };
        hands.drop_images(&needs);
        if hands.begin_image(digest, length) {
            Ok(())
        } else {
            Err(Unwanted::NoRoom)
        }
    }

    /// Asks for what is due, and gives up who is silent.
    pub(super) fn tend_images<H: Hands<B, G, D>>(&mut self, hands: &mut H) {
        if let Some(mut incoming) = self.images.wanted.take() {
            if incoming.fetch.is_stuck(self.now) {
                match self.next_source(&mut incoming.untried) {
                    Some(source) => {
                        incoming.source = Party::Board(source);
                        incoming.fetch.turn(self.now);
                        self.images.wanted = Some(incoming);
                    }
                    None => {
                        hands.end_image(incoming.fetch.digest(), false);
                        let since = Micros(self.now.0.saturating_sub(PATIENCE.0));
                        self.images.hopeless = Some((*incoming.fetch.digest(), since));
                    }
                }
            } else {
                self.images.wanted = Some(incoming);
            }
        }
        if let Some(incoming) = self.images.offered.take() {
            if incoming.fetch.is_stuck(self.now) {
                let digest = *incoming.fetch.digest();
                hands.end_image(&digest, false);
                let why = Unwanted::Silent;
                self.post(incoming.source, &Parcel::Refuse { digest, why }, hands);
            } else {
                self.images.offered = Some(incoming);
            }
        }
        for of_tool in [false, true] {
            let now = self.now;
            let asked = self.incoming(of_tool).as_mut().and_then(|one| {
                let ask = one.fetch.ask(now)?;
                Some((one.source, ask))
            });
            if let Some((source, ask)) = asked {
                self.post(source, &ask, hands);
            }
        }
    }

    fn incoming(&mut self, of_tool: bool) -> &mut Option<Incoming> {
        if of_tool {
            &mut self.images.offered
        } else {
            &mut self.images.wanted
        }
    }

    /// What concerns images.
    pub(super) fn on_image_parcel<H: Hands<B, G, D>>(
        &mut self,
        from: Party,
        parcel: &Parcel<'_>,
        hands: &mut H,
    ) {
        match *parcel {
            Parcel::Ask {
                digest,
                first,
                wanted,
            } => self.give(from, &digest, first, wanted, hands),
            Parcel::Piece {
                digest,
                number,
                bytes,
            } => self.take_piece(from, &digest, number, bytes, hands),
            Parcel::NotHere { digest } => {
                // As if it had been silent for too long.
                let long_ago = Micros(self.now.0.saturating_sub(PATIENCE.0));
                if let Some(one) = &mut self.images.wanted
                    && one.source == from
                    && *one.fetch.digest() == digest
                {
                    one.fetch.turn(long_ago);
                }
                self.tend_images(hands);
            }
            Parcel::Offer { digest, length } => self.on_offer(from, digest, length, hands),
            _ => {}
        }
    }

    /// Gives pieces of an image that is here.
    fn give<H: Hands<B, G, D>>(
        &mut self,
        to: Party,
        digest: &Digest,
        first: u32,
        wanted: u16,
        hands: &mut H,
    ) {
        let Some(length) = hands.image_length(digest) else {
            return self.post(to, &Parcel::NotHere { digest: *digest }, hands);
        };
        let numbers = (0..WINDOW).filter(|bit| wanted >> bit & 1 != 0);
        for number in numbers.filter_map(|bit| first.checked_add(bit)) {
            let mut bytes = [0; PIECE];
            let Some((from, size)) = piece_range(number, length) else {
                return;
            };
            if !hands.read(digest, from, &mut bytes[..size]) {
                return;
            }
            let piece = Parcel::Piece {
                digest: *digest,
                number,
                bytes: &bytes[..size],
            };
            self.post(to, &piece, hands);
        }
    }

    fn take_piece<H: Hands<B, G, D>>(
        &mut self,
        from: Party,
        digest: &Digest,
        number: u32,
        bytes: &[u8],
        hands: &mut H,
    ) {
        let now = self.now;
        for of_tool in [false, true] {
            let slot = self.incoming(of_tool);
            let Some(one) = slot else { continue };
            if one.source != from || one.fetch.digest() != digest {
                continue;
            }
            let state = one.fetch.take(number, bytes, now, hands);
            if state != State::Going {
                *slot = None;
                self.finish(from, digest, state, hands);
            }
        }
        self.tend_images(hands);
    }

    /// An image came to its end.
    fn finish<H: Hands<B, G, D>>(
        &mut self,
        from: Party,
        digest: &Digest,
        state: State,
        hands: &mut H,
    ) {
        let whole = state == State::Whole;
        hands.end_image(digest, whole);
        if whole {
            self.images.hopeless = None;
            self.announce(digest, hands);
        }
        if let Party::Operator(_) = from {
            let length = hands.image_length(digest).filter(|_| whole);
            let answer = match length {
                Some(bytes) => Parcel::Have {
                    digest: *digest,
                    bytes,
                },
                None => Parcel::Refuse {
                    digest: *digest,
                    why: Unwanted::Digest,
                },
            };
            self.post(from, &answer, hands);
        }
    }

    /// Has it agreed that this board holds an image.
    fn announce<H: Hands<B, G, D>>(&mut self, digest: &Digest, hands: &mut H) {
        let Some(length) = hands.image_length(digest) else {
            return;
        };
        let mut held = self.known(digest).map_or(BoardSet(0), |image| image.held);
        if held.has(self.node.board()) {
            return;
        }
        held.set(self.node.board(), true);
        let operation = Operation::HoldImage {
            image: Image {
                digest: *digest,
                size: u64::from(length),
                held,
            },
        };
        self.images.orders += 1;
        let id = RequestId {
            operator: self.node.incarnation().0,
            request: self.images.orders,
        };
        let now = self.now;
        let (node, out) = node_and_out!(self, hands);
        node.command(now, id, operation, out);
    }

    /// A tool has an image to give.
    fn on_offer<H: Hands<B, G, D>>(
        &mut self,
        from: Party,
        digest: Digest,
        length: u32,
        hands: &mut H,
    ) {
        if !matches!(from, Party::Operator(_)) {
            return;
        }
        if let Some(bytes) = hands.image_length(&digest) {
            // The first announcement may have been lost with a leader.
            self.announce(&digest, hands);
            return self.post(from, &Parcel::Have { digest, bytes }, hands);
        }
        if let Some(one) = &mut self.images.offered
            && *one.fetch.digest() == digest
        {
            let bytes = one.fetch.have();
            one.source = from;
            return self.post(from, &Parcel::Have { digest, bytes }, hands);
        }
        let outcome = if self.images.offered.is_some() || self.is_coming(&digest) {
            Err(Unwanted::Busy)
        } else {
            self.make_room(&digest, length, hands)
        };
        match outcome {
            Ok(()) => {
                self.images.offered = Some(Incoming {
                    fetch: Fetch::new(digest, length, self.now),
                    source: from,
                    untried: BoardSet(0),
                });
                self.post(from, &Parcel::Have { digest, bytes: 0 }, hands);
                self.tend_images(hands);
            }
            Err(why) => self.post(from, &Parcel::Refuse { digest, why }, hands),
        }
    }
}
