//! What an agent of a [`Lab`](super::Lab) does to its board: it has images, and guests of which it notes what is done to them.

use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec;

use super::{B, D, G};
use crate::agent::book::Destination;
use crate::agent::{Brought, Hands};
use crate::ids::{BoardId, Epoch, GuestId, Micros, MoveId};
use crate::ledger::Ledger;
use crate::ledger::types::{Digest, Reason};
use crate::node::{Journal, Local};
use crate::service::Unsaved;
use crate::service::fetch::Store;

/// What a board's guests do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    pub epoch: Epoch,
    pub frozen: bool,
    pub until: Micros,
}
/// A board's images, whole or growing, its guests, and what it sends.
#[derive(Default)]
pub struct Body {
    pub images: BTreeMap<Digest, (Vec<u8>, bool)>,
    pub room: usize,
    pub copies: BTreeMap<GuestId, Copy>,
    pub sent: Vec<(Destination, Vec<u8>)>,
    pub events: VecDeque<Local>,
    pub started: Vec<(GuestId, Epoch)>,
    pub refuses: bool,
    pub typed: Vec<u8>,
    /// Moves that are under way from here, and what moves have brought.
    pub moves: BTreeMap<GuestId, (Epoch, MoveId, BoardId)>,
    pub arrived: BTreeMap<GuestId, MoveId>,
    /// What a tool has brought.
    pub brought: BTreeMap<GuestId, (MoveId, Brought)>,
    /// What a tool wants saved.
    pub saves: Vec<(GuestId, Epoch, MoveId, Destination)>,
}

impl Store for Body {
    fn write(&mut self, digest: &Digest, from: u32, bytes: &[u8]) {
        let image = self.images.get_mut(digest).expect("begun before");
        image.0[from as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    fn read(&self, digest: &Digest, from: u32, to: &mut [u8]) -> bool {
        let image = self.images.get(digest);
        let here = image.and_then(|image| image.0.get(from as usize..from as usize + to.len()));
        here.map(|bytes| to.copy_from_slice(bytes)).is_some()
    }
}

impl Hands<B, G, D> for Body {
    fn send(&mut self, to: Destination, frame: &[u8]) {
        self.sent.push((to, frame.to_vec()));
    }
    fn persist(&mut self, _: Journal, _: &[u8]) {
        panic!("these boards have no journal");
    }
    fn start(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        arrived: Option<MoveId>,
        ledger: &Ledger<B, G, D>,
    ) -> Result<(), Reason> {
        let spec = &ledger.guest(guest).expect("it is in the ledger").spec;
        assert!(
            arrived.is_some() || self.has_image(&spec.kernel),
            "a guest starts from images that are here"
        );
        if self.refuses || self.arrived.remove(&guest) != arrived {
            return Err(Reason::StartFailed);
        }
        let copy = Copy {
            epoch,
            frozen: false,
            until: Micros(0),
        };
        assert!(
            self.copies.insert(guest, copy).is_none(),
            "one copy of a guest"
        );
        self.started.push((guest, epoch));
        self.events.push_back(Local::Started { guest, epoch });
        Ok(())
    }
    fn send_guest(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        id: MoveId,
        to: BoardId,
        at: Destination,
        _: Option<u16>,
    ) {
        assert!(matches!(at, Destination::One(_)), "boards know one another");
        assert_eq!(self.copies.get(&guest).expect("a copy").epoch, epoch);
        let before = self.moves.insert(guest, (epoch, id, to));
        assert!(before.is_none(), "one move of a guest");
    }
    fn abandon_move(&mut self, guest: GuestId, epoch: Epoch, id: MoveId) {
        let order = self.moves.remove(&guest).expect("a move");
        assert_eq!((order.0, order.1), (epoch, id));
    }
    fn brought(&self, guest: GuestId, _: Epoch, id: MoveId) -> Brought {
        let here = self.brought.get(&guest).filter(|brought| brought.0 == id);
        here.map_or(Brought::Nothing, |brought| brought.1)
    }
    fn save(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        id: MoveId,
        at: Destination,
    ) -> Option<Unsaved> {
        let copy = self.copies.get(&guest).filter(|copy| copy.epoch == epoch);
        if copy.is_none() {
            return Some(Unsaved::NotHere);
        }
        self.saves.push((guest, epoch, id, at));
        None
    }
    fn renew(&mut self, guest: GuestId, from: Epoch, to: Epoch) {
        assert!(self.moves.remove(&guest).is_some_and(|it| it.0 == from));
        let copy = self.copies.get_mut(&guest).expect("a copy");
        assert_eq!(copy.epoch, from);
        (copy.epoch, copy.frozen) = (to, true);
    }
    fn freeze(&mut self, guest: GuestId, epoch: Epoch) {
        let copy = self.copies.get_mut(&guest).expect("a copy");
        assert_eq!(copy.epoch, epoch);
        copy.frozen = true;
    }
    fn resume(&mut self, guest: GuestId, epoch: Epoch) {
        let copy = self.copies.get_mut(&guest).expect("a copy");
        assert_eq!(copy.epoch, epoch);
        copy.frozen = false;
    }
    fn destroy(&mut self, guest: GuestId, epoch: Epoch) {
        assert_eq!(self.copies.remove(&guest).expect("a copy").epoch, epoch);
        self.moves.remove(&guest);
        let reason = Reason::Operator;
        self.events.push_back(Local::Gone {
            guest,
            epoch,
            reason,
        });
    }
    fn permit(&mut self, guest: GuestId, epoch: Epoch, until: Micros) {
        if let Some(copy) = self
            .copies
            .get_mut(&guest)
            .filter(|copy| copy.epoch == epoch)
        {
            copy.until = until;
        }
    }
    fn has_image(&self, digest: &Digest) -> bool {
        self.image_length(digest).is_some()
    }
    fn image_length(&self, digest: &Digest) -> Option<u32> {
        let image = self.images.get(digest).filter(|image| image.1)?;
        Some(image.0.len() as u32)
    }
    fn begin_image(&mut self, digest: &Digest, length: u32) -> bool {
        let used: usize = self.images.values().map(|image| image.0.len()).sum();
        if used + length as usize > self.room {
            return false;
        }
        let before = self
            .images
            .insert(*digest, (std::vec![0; length as usize], false));
        assert!(before.is_none(), "an image is begun once");
        true
    }
    fn end_image(&mut self, digest: &Digest, whole: bool) {
        if whole {
            self.images.get_mut(digest).expect("begun before").1 = true;
        } else {
            self.images.remove(digest);
        }
    }
    fn drop_images(&mut self, needs: &dyn Fn(&Digest) -> bool) {
        self.images
            .retain(|digest, image| !image.1 || needs(digest));
    }
    fn listen(&mut self, guest: GuestId, from: u64, to: &mut [u8]) -> Option<(u64, usize)> {
        self.copies.get(&guest)?;
        let said = b"login: ";
        let rest = said.get(from as usize..).unwrap_or_default();
        to[..rest.len()].copy_from_slice(rest);
        Some((from, rest.len()))
    }
    fn type_in(&mut self, guest: GuestId, bytes: &[u8]) -> bool {
        self.typed.extend_from_slice(bytes);
        self.copies.contains_key(&guest)
    }
}
