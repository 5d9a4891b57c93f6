//! What the cluster's agent does to the board.

use alloc::boxed::Box;
use alloc::sync::Arc;

use cluster_proto::agent;
use cluster_proto::agent::book::Destination;
use cluster_proto::ids::{BoardId, Epoch, GuestId, Micros, MoveId};
use cluster_proto::ledger::types::{Digest, Reason};
use cluster_proto::limits::{BOARDS, GUESTS, VOLUMES};
use cluster_proto::node::{Journal, Local};
use cluster_proto::package::Package;
use cluster_proto::service::fetch::Store;
use el2_hyp::gate::{Authority, Ticks};
use el2_hyp::guest::Stop;

use super::{BoardLedger, ticks_at, view};
use crate::guests::{self, News};
use crate::host::CoreHost;
use crate::images::Images;
use crate::net::Network;
use crate::net::ports::View;
use crate::queue::MAX_BOARD_GUESTS;
use crate::{console, info, warn};

/// A copy of a guest on this board.
#[derive(Clone, Copy)]
struct Copy {
    guest: GuestId,
    epoch: Epoch,
    /// Why it goes, once it does.
    reason: Reason,
    /// A move that was ordered, and of which the cluster is still to be told that this board cannot carry it out.
    refused: Option<MoveId>,
}

/// What lasts from one look to the next.
pub struct State {
    package: Option<Package<'static>>,
    images: Images,
    /// The copies, by the place that they have among the board's guests.
    copies: [Option<Copy>; MAX_BOARD_GUESTS],
    /// What decides over their output.
    authority: Authority,
}

impl State {
    /// Before the board knows its package.
    pub const fn new() -> Self {
        Self {
            package: None,
            images: Images::new(),
            copies: [None; MAX_BOARD_GUESTS],
            authority: Authority::new(),
        }
    }

    /// Begins with what the package brings.
    pub fn begin(&mut self, package: &Package<'static>) {
        self.images.add_package(package);
        self.package = Some(package.clone());
    }

    fn place_of(&self, guest: GuestId, epoch: Epoch) -> Option<usize> {
        let is_it = |copy: &Option<Copy>| {
            copy.is_some_and(|copy| copy.guest == guest && copy.epoch == epoch)
        };
        self.copies.iter().position(is_it)
    }

    /// A move that this board does not carry out, to be told to the cluster.
    fn next_refusal(&mut self) -> Option<Local> {
        self.copies.iter_mut().flatten().find_map(|copy| {
            let id = copy.refused.take()?;
            Some(Local::Stays {
                guest: copy.guest,
                epoch: copy.epoch,
                id,
                reason: Reason::CannotMove,
            })
        })
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
        if let Some(refusal) = self.state.next_refusal() {
            return Some(refusal);
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
                    if stop != Stop::Ended {
                        copy.reason = Reason::Crashed;
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
        if arrived.is_some() {
            warn!("guest {guest} cannot be taken over: this board has no copy of it");
            return Err(Reason::StartFailed);
        }
        let package = self.state.package.as_ref().ok_or(Reason::StartFailed)?;
        let Some(found) = view::find(package, &self.state.images, ledger, guest) else {
            warn!("guest {guest} cannot be started: the ledger's description makes no guest here");
            return Err(Reason::StartFailed);
        };
        let name = found.view.guest.name.clone();
        let keep = (!found.keeps.is_empty()).then(|| Arc::new(found.keeps) as guests::Keep);
        match guests::create(Box::new(found.view), keep) {
            Ok(place) => {
                self.state.copies[place] = Some(Copy {
                    guest,
                    epoch,
                    reason: Reason::Operator,
                    refused: None,
                });
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

    fn send_guest(&mut self, guest: GuestId, epoch: Epoch, id: MoveId, _: BoardId) {
        if let Some(place) = self.state.place_of(guest, epoch)
            && let Some(copy) = &mut self.state.copies[place]
        {
            warn!("guest {guest} stays here: this board cannot move guests yet");
            copy.refused = Some(id);
        }
    }

    fn abandon_move(&mut self, guest: GuestId, epoch: Epoch, id: MoveId) {
        if let Some(place) = self.state.place_of(guest, epoch)
            && let Some(copy) = &mut self.state.copies[place]
        {
            copy.refused = copy.refused.filter(|refused| *refused != id);
        }
    }

    fn renew(&mut self, guest: GuestId, from: Epoch, _: Epoch) {
        unreachable!(
            "guest {guest} was not stopped for a hand-over in epoch {from}: every move is refused"
        );
    }

    fn freeze(&mut self, guest: GuestId, epoch: Epoch) {
        if let Some(place) = self.state.place_of(guest, epoch) {
            guests::freeze(place);
        }
    }

    fn resume(&mut self, guest: GuestId, epoch: Epoch) {
        if let Some(place) = self.state.place_of(guest, epoch) {
            guests::resume(place);
        }
    }

    fn destroy(&mut self, guest: GuestId, epoch: Epoch) {
        if let Some(place) = self.state.place_of(guest, epoch) {
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
