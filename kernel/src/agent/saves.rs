//! Guests that are saved to a tool's file while they run. The ledger has nothing to do with it: a file is no copy that could have effects.

use core::net::Ipv4Addr;

use cluster_proto::agent::book::Destination;
use cluster_proto::bulk::frame::{Key, Name};
use cluster_proto::ids::{Epoch, GuestId, MoveId};
use cluster_proto::ledger::types::Reason;
use cluster_proto::service::Unsaved;

use super::hands::Hands;
use crate::guests;
use crate::info;
use crate::moving::lanes::{self, End};
use crate::moving::{Departure, SAVE_LIMITS, To};

impl Hands<'_> {
    /// A tool wants a guest saved, and repeats that to hear how it ended. What there is to say, if anything.
    pub(super) fn save_guest(&mut self, name: Name, at: Destination) -> Option<Unsaved> {
        let Some(place) = self.state.place_of(name.guest, name.epoch) else {
            return Some(Unsaved::NotHere);
        };
        let known = self.state.copies[place].and_then(|copy| copy.save);
        if let Some((_, why)) = known.filter(|known| known.0 == name.id) {
            return why;
        }
        let why = self.begin_save(place, name, at).err();
        // One that is only to be asked for again later has no end.
        if let Some(copy) = &mut self.state.copies[place]
            && why != Some(Unsaved::Busy)
        {
            copy.save = Some((name.id, why));
        }
        why
    }

    /// Begins to save a guest to the file of a tool.
    fn begin_save(&mut self, place: usize, name: Name, at: Destination) -> Result<(), Unsaved> {
        let (Some((key, tag)), Destination::One(peer)) = (&self.state.secret, at) else {
            return Err(Unsaved::NotHere);
        };
        let slot = guests::find(place).ok_or(Unsaved::NotHere)?;
        let ordered = self.state.copies[place].is_some_and(|copy| copy.ordered.is_some());
        if ordered || lanes::count().0 >= lanes::MAX_DEPARTURES {
            return Err(Unsaved::Busy);
        }
        guests::begin_copy(place).map_err(|why| match why {
            guests::Stays::NotRunning => Unsaved::NotHere,
            guests::Stays::Frozen => Unsaved::Frozen,
            guests::Stays::Copied => Unsaved::Busy,
            guests::Stays::Pinned => Unsaved::Pinned,
        })?;
        info!(
            "guest {} is saved to a file at {}",
            slot.guest.name,
            Ipv4Addr::from(peer.address)
        );
        let key = Key::new(key, *tag, name);
        let end = Departure::new(place, key.clone(), (To::File, peer), SAVE_LIMITS);
        lanes::open(place, key, End::Departure(end));
        Ok(())
    }

    /// Why a guest was not saved: its tool asks.
    pub(super) fn note_unsaved(&mut self, guest: GuestId, epoch: Epoch, id: MoveId, why: Unsaved) {
        if let Some(place) = self.state.place_of(guest, epoch)
            && let Some(copy) = &mut self.state.copies[place]
            && copy.save.is_some_and(|save| save.0 == id)
        {
            copy.save = Some((id, Some(why)));
        }
    }

    /// A guest that is frozen is not saved on.
    pub(super) fn end_save(&mut self, place: usize) {
        if let Some(Name { guest, epoch, id }) = lanes::saves(place) {
            self.note_unsaved(guest, epoch, id, Unsaved::Frozen);
            lanes::abandon_all(place);
        }
    }
}

/// Why a guest was not saved, as its tool is told.
pub(super) fn unsaved(reason: Reason) -> Unsaved {
    match reason {
        Reason::NotConverged => Unsaved::TooFast,
        Reason::CannotMove => Unsaved::NoRoom,
        Reason::Leaseless => Unsaved::Frozen,
        _ => Unsaved::Silent,
    }
}
