//! What the cluster's agent does to the board.

use alloc::boxed::Box;
use alloc::sync::Arc;

use cluster_proto::agent::book::{Destination, Endpoint};
use cluster_proto::agent::{self, Brought};
use cluster_proto::bulk::frame::{Key, Name};
use cluster_proto::ids::{BoardId, Epoch, GuestId, Micros, MoveId};
use cluster_proto::ledger::types::{Digest, Reason};
use cluster_proto::limits::{BOARDS, GUESTS, VOLUMES, WEIGHT_MAX};
use cluster_proto::node::{Journal, Local};
use cluster_proto::package::{GuestView, Package};
use cluster_proto::service::Unsaved;
use cluster_proto::service::fetch::Store;
use cluster_proto::service::progress::{Progress, Step};
use el2_hyp::gate::{Authority, Ticks};
use el2_hyp::guest::Stop;
use el2_hyp::sched::{Cap, Weight};

use super::copy::{Copy, Ordered};
use super::saves::unsaved;
use super::{BoardLedger, ticks_at, view};
use crate::guests::{self, News};
use crate::host::CoreHost;
use crate::images::Images;
use crate::moving::lanes::{self, End};
use crate::moving::{Departure, To, hold, limits, progress};
use crate::net::Network;
use crate::net::datagram::BULK_PORT;
use crate::net::ports::View;
use crate::queue::{self, MAX_BOARD_GUESTS};
use crate::{console, info, warn};

type Described = (Box<GuestView<'static>>, Option<guests::Keep>);

/// What lasts from one look to the next.
pub struct State {
    package: Option<Package<'static>>,
    images: Images,
    /// The copies, by the place that they have among the board's guests.
    pub(super) copies: [Option<Copy>; MAX_BOARD_GUESTS],
    /// What decides over their output.
    authority: Authority,
    /// The cluster's key and tag.
    pub(super) secret: Option<([u8; 32], u32)>,
}

impl State {
    /// Before the board knows its package.
    pub const fn new() -> Self {
        Self {
            package: None,
            images: Images::new(),
            copies: [None; MAX_BOARD_GUESTS],
            authority: Authority::new(),
            secret: None,
        }
    }

    /// Begins with what the package brings, in the cluster with that key and tag.
    pub fn begin(&mut self, package: &Package<'static>, key: [u8; 32], tag: u32) {
        self.secret = Some((key, tag));
        self.images.add_package(package);
        self.package = Some(package.clone());
    }

    /// A guest of the ledger as this board makes it, and what is held as long as it; none if it cannot.
    pub(super) fn describe(&self, ledger: &BoardLedger, guest: GuestId) -> Option<Described> {
        let found = view::find(self.package.as_ref()?, &self.images, ledger, guest)?;
        let keep = (!found.keeps.is_empty()).then(|| Arc::new(found.keeps) as guests::Keep);
        Some((Box::new(found.view), keep))
    }

    pub(super) fn place_of(&self, guest: GuestId, epoch: Epoch) -> Option<usize> {
        let is_it = |copy: &Option<Copy>| {
            copy.is_some_and(|copy| copy.guest == guest && copy.epoch == epoch)
        };
        self.copies.iter().position(is_it)
    }

    /// Where a guest lives, in whatever epoch.
    fn home_of(&self, guest: GuestId) -> Option<usize> {
        let is_it = |copy: &Option<Copy>| copy.is_some_and(|copy| copy.guest == guest);
        self.copies.iter().position(is_it)
    }
}

/// The board, as the agent reaches it for one look.
pub struct Hands<'a> {
    pub state: &'a mut State,
    pub host: &'a CoreHost,
    pub network: &'static Network,
    pub view: &'a View<'a>,
}

impl Hands<'_> {
    /// What became of a guest that the agent does not know yet.
    pub fn next_event(&mut self) -> Option<Local> {
        while let Some(news) = lanes::take_news() {
            match news {
                Local::Stays {
                    guest,
                    epoch,
                    id,
                    reason,
                } if id.is_of_file() => self.note_unsaved(guest, epoch, id, unsaved(reason)),
                news => return Some(news),
            }
        }
        loop {
            let (place, news) = guests::take_news()?;
            let Some(copy) = &mut self.state.copies[place] else {
                continue;
            };
            let (guest, epoch) = (copy.guest, copy.epoch);
            match news {
                News::Started => return Some(Local::Started { guest, epoch }),
                // What has stopped by itself is told of when nothing is left of it: then it can start anew, here too.
                News::Failed => {
                    copy.reason = Reason::StartFailed;
                    guests::destroy(self.host, place);
                }
                News::Ended(stop) => {
                    match stop {
                        Stop::Ended => {}
                        Stop::Watchdog => copy.reason = Reason::Hung,
                        _ => copy.reason = Reason::Crashed,
                    }
                    guests::destroy(self.host, place);
                }
                News::Destroyed => {
                    let reason = copy.reason;
                    self.state.copies[place] = None;
                    return Some(Local::Gone {
                        guest,
                        epoch,
                        reason,
                    });
                }
            }
        }
    }
}

/// Guests that move between boards.
impl Hands<'_> {
    /// Begins moves that were ordered and wait for their turn.
    pub fn begin_moves(&mut self) {
        for place in 0..MAX_BOARD_GUESTS {
            let Some(copy) = &mut self.state.copies[place] else {
                continue;
            };
            let Some(ordered) = copy.ordered else {
                continue;
            };
            // It goes when it is saved.
            if lanes::saves(place).is_some() {
                continue;
            }
            let (leave, _) = lanes::count();
            if leave >= lanes::MAX_DEPARTURES {
                return;
            }
            let slot = guests::find(place);
            let held = slot.and_then(|slot| hold::waits(hold::Step::Ordered, &slot.guest.name));
            if held.is_some() {
                continue;
            }
            copy.ordered = None;
            let (guest, epoch, id) = (copy.guest, copy.epoch, ordered.id);
            if let Err(reason) = self.begin_move(place, Name { guest, epoch, id }, ordered) {
                lanes::tell(Local::Stays {
                    guest,
                    epoch,
                    id,
                    reason,
                });
            }
        }
    }

    fn begin_move(&mut self, place: usize, name: Name, order: Ordered) -> Result<(), Reason> {
        let (key, tag) = self.state.secret.as_ref().ok_or(Reason::CannotMove)?;
        let Destination::One(peer) = order.at else {
            return Err(Reason::DestinationLost);
        };
        let slot = guests::find(place).ok_or(Reason::CannotMove)?;
        if let Err(why) = guests::begin_copy(place) {
            warn!("guest {} does not move: {why}", slot.guest.name);
            return Err(Reason::CannotMove);
        }
        info!("guest {} moves to board {}", slot.guest.name, order.to);
        progress::begin(name, Step::Knocks);
        let key = Key::new(key, *tag, name);
        let port = BULK_PORT;
        let to = (To::Board(order.to), Endpoint { port, ..peer });
        let end = Departure::new(place, key.clone(), to, limits(order.downtime));
        lanes::open(place, key, End::Departure(end));
        Ok(())
    }

    /// Gives guests of the board's cores what the ledger says.
    pub fn share_out(&mut self, ledger: &BoardLedger) {
        for (place, copy) in self.state.copies.iter_mut().enumerate() {
            let Some(copy) = copy else { continue };
            let Some(share) = ledger.guest(copy.guest).map(|guest| &guest.share) else {
                continue;
            };
            if *share == copy.share {
                continue;
            }
            copy.share = *share;
            // The ledger has checked the weight, against the same range.
            const { assert!(Weight::MAX == WEIGHT_MAX) };
            queue::set_weight(place, Weight::new(share.weight).unwrap_or(Weight::DEFAULT));
            queue::set_cap(place, Cap::new(share.cap));
        }
    }
}

impl Store for Hands<'_> {
    fn write(&mut self, digest: &Digest, from: u32, bytes: &[u8]) {
        self.state.images.write(digest, from, bytes);
    }

    fn pass(&mut self, digest: &Digest, bytes: &[u8]) {
        self.state.images.pass(digest, bytes);
    }

    fn read(&self, digest: &Digest, from: u32, to: &mut [u8]) -> bool {
        self.state.images.read(digest, from, to)
    }
}

impl agent::Hands<BOARDS, GUESTS, VOLUMES> for Hands<'_> {
    fn send(&mut self, to: Destination, frame: &[u8]) {
        self.network.send_datagram(to, frame, self.view);
    }

    fn persist(&mut self, _: Journal, _: &[u8]) {
        unreachable!("a board without a journal keeps no records");
    }

    fn start(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        arrived: Option<MoveId>,
        ledger: &BoardLedger,
    ) -> Result<(), Reason> {
        if let Some(id) = arrived {
            return self.let_arrive(guest, epoch, id);
        }
        let Some((view, keep)) = self.state.describe(ledger, guest) else {
            warn!("guest {guest} cannot be started: the ledger's description makes no guest here");
            return Err(Reason::StartFailed);
        };
        let name = view.guest.name.clone();
        match guests::create(view, keep) {
            Ok(place) => {
                self.state.copies[place] = Some(Copy::new(guest, epoch));
                info!("cluster: guest {name} is to start here, epoch {epoch}");
                guests::start(place);
                Ok(())
            }
            Err(why) => {
                warn!("guest {name} cannot be started: {why}");
                Err(Reason::StartFailed)
            }
        }
    }

    fn send_guest(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        id: MoveId,
        to: BoardId,
        at: Destination,
        downtime: Option<u16>,
    ) {
        if let Some(place) = self.state.place_of(guest, epoch)
            && let Some(copy) = &mut self.state.copies[place]
        {
            let ordered = Ordered {
                id,
                to,
                at,
                downtime,
            };
            copy.ordered = Some(ordered);
        }
    }

    fn progress(&self, guest: GuestId) -> Option<Progress> {
        progress::of(guest)
    }

    fn abandon_move(&mut self, guest: GuestId, epoch: Epoch, id: MoveId) {
        if let Some(place) = self.state.place_of(guest, epoch)
            && let Some(copy) = &mut self.state.copies[place]
        {
            copy.ordered = copy.ordered.filter(|ordered| ordered.id != id);
            lanes::abandon(place, Name { guest, epoch, id });
        }
    }

    fn renew(&mut self, guest: GuestId, from: Epoch, to: Epoch) {
        if let Some(place) = self.state.place_of(guest, from)
            && let Some(copy) = &mut self.state.copies[place]
        {
            copy.epoch = to;
            guests::freeze(place);
            lanes::abandon_all(place);
        }
    }

    fn brought(&self, guest: GuestId, epoch: Epoch, id: MoveId) -> Brought {
        let epoch = Epoch(epoch.0 - 1);
        lanes::brought(Name { guest, epoch, id })
    }

    fn save(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        id: MoveId,
        at: Destination,
    ) -> Option<Unsaved> {
        self.save_guest(Name { guest, epoch, id }, at)
    }

    fn freeze(&mut self, guest: GuestId, epoch: Epoch) {
        if let Some(place) = self.state.place_of(guest, epoch) {
            self.end_save(place);
            guests::freeze(place);
        }
    }

    fn resume(&mut self, guest: GuestId, epoch: Epoch) {
        if let Some(place) = self.state.place_of(guest, epoch) {
            guests::resume(place);
        }
    }

    fn destroy(&mut self, guest: GuestId, epoch: Epoch) {
        let Some(place) = self.state.place_of(guest, epoch) else {
            return;
        };
        if lanes::departs(place) {
            // It may be another board's by now: its cards leave the network at once.
            guests::depart(self.host, place);
            progress::has_left(guest, epoch);
            lanes::abandon_all(place);
        } else {
            guests::destroy(self.host, place);
        }
    }

    fn permit(&mut self, guest: GuestId, epoch: Epoch, until: Micros) {
        if let Some(place) = self.state.place_of(guest, epoch) {
            guests::permit(
                &self.state.authority,
                place,
                Ticks(ticks_at(until)),
                epoch.0,
            );
        }
    }

    fn has_image(&self, digest: &Digest) -> bool {
        self.state.images.length(digest).is_some()
    }

    fn image_length(&self, digest: &Digest) -> Option<u32> {
        self.state.images.length(digest)
    }

    fn begin_image(&mut self, digest: &Digest, length: u32) -> bool {
        self.state.images.begin(digest, length)
    }

    fn end_image(&mut self, digest: &Digest, whole: bool) {
        self.state.images.end(digest, whole);
    }

    fn drop_images(&mut self, needs: &dyn Fn(&Digest) -> bool) {
        self.state.images.drop_unless(needs);
    }

    fn listen(&mut self, guest: GuestId, from: u64, to: &mut [u8]) -> Option<(u64, usize)> {
        console::read(self.state.home_of(guest)?, from, to)
    }

    fn type_in(&mut self, guest: GuestId, bytes: &[u8]) -> bool {
        let slot = self.state.home_of(guest).and_then(guests::find);
        let Some(slot) = slot else { return false };
        for &byte in bytes {
            // A guest that does not read loses what its FIFO cannot hold, as on a real line.
            let _ = slot.guest.receive(self.host, byte);
        }
        true
    }
}
