//! What a witness does to the world: it sends and remembers, and runs nothing.

use std::io;
use std::net::SocketAddrV4;

use cluster_proto::agent::book::Destination;
use cluster_proto::agent::{Brought, Hands};
use cluster_proto::ids::{BoardId, Epoch, GuestId, Micros, MoveId};
use cluster_proto::ledger::Ledger;
use cluster_proto::ledger::types::{Digest, Reason};
use cluster_proto::limits::{BOARDS, GUESTS, VOLUMES};
use cluster_proto::node::Journal as Place;
use cluster_proto::service::Unsaved;
use cluster_proto::service::fetch::Store;

use super::journal::Journal;
use crate::cluster::wire::Wire;

/// The hands of a witness.
pub struct Host {
    /// Its way to boards.
    pub wire: Box<dyn Wire>,
    /// Where everybody is reached.
    pub everyone: Vec<SocketAddrV4>,
    /// Its memory.
    pub journal: Journal,
    /// What went wrong. From then on nothing is sent: it might follow from what is not remembered.
    pub broken: Option<io::Error>,
}

impl Host {
    fn keep(&mut self, result: io::Result<()>) {
        if let (Err(error), None) = (result, &self.broken) {
            self.broken = Some(error);
        }
    }
}

impl Store for Host {
    fn write(&mut self, _: &Digest, _: u32, _: &[u8]) {}

    fn read(&self, _: &Digest, _: u32, _: &mut [u8]) -> bool {
        false
    }
}

impl Hands<BOARDS, GUESTS, VOLUMES> for Host {
    fn send(&mut self, to: Destination, frame: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        match to {
            Destination::Everyone => {
                for at in 0..self.everyone.len() {
                    let sent = self.wire.send(self.everyone[at], frame);
                    self.keep(sent);
                }
            }
            Destination::One(there) => {
                let there = SocketAddrV4::new(there.address.into(), there.port);
                let sent = self.wire.send(there, frame);
                self.keep(sent);
            }
        }
    }

    fn persist(&mut self, place: Place, record: &[u8]) {
        if self.broken.is_none() {
            let written = self.journal.write(place, record);
            self.keep(written);
        }
    }

    // No guest is ever placed on a witness, and no image is anybody's to fetch from one.

    fn start(
        &mut self,
        _: GuestId,
        _: Epoch,
        _: Option<MoveId>,
        _: &Ledger<BOARDS, GUESTS, VOLUMES>,
    ) -> Result<(), Reason> {
        Err(Reason::StartFailed)
    }

    fn send_guest(
        &mut self,
        _: GuestId,
        _: Epoch,
        _: MoveId,
        _: BoardId,
        _: Destination,
        _: Option<u16>,
    ) {
    }

    fn abandon_move(&mut self, _: GuestId, _: Epoch, _: MoveId) {}

    fn brought(&self, _: GuestId, _: Epoch, _: MoveId) -> Brought {
        Brought::Nothing
    }

    fn save(&mut self, _: GuestId, _: Epoch, _: MoveId, _: Destination) -> Option<Unsaved> {
        Some(Unsaved::NotHere)
    }

    fn renew(&mut self, _: GuestId, _: Epoch, _: Epoch) {}

    fn freeze(&mut self, _: GuestId, _: Epoch) {}

    fn resume(&mut self, _: GuestId, _: Epoch) {}

    fn destroy(&mut self, _: GuestId, _: Epoch) {}

    fn permit(&mut self, _: GuestId, _: Epoch, _: Micros) {}

    fn has_image(&self, _: &Digest) -> bool {
        false
    }

    fn image_length(&self, _: &Digest) -> Option<u32> {
        None
    }

    fn begin_image(&mut self, _: &Digest, _: u32) -> bool {
        false
    }

    fn end_image(&mut self, _: &Digest, _: bool) {}

    fn drop_images(&mut self, _: &dyn Fn(&Digest) -> bool) {}

    fn listen(&mut self, _: GuestId, _: u64, _: &mut [u8]) -> Option<(u64, usize)> {
        None
    }

    fn type_in(&mut self, _: GuestId, _: &[u8]) -> bool {
        false
    }
}
