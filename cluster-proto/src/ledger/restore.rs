//! A stopped guest that goes on from a file.
//!
//! Its owner is named first, as for any guest that starts, and what it goes on from comes then: so there is one owner in one epoch, which a fence or an operator ends
//! like any other's. Until the owner says that it runs the guest is wanted stopped, and whatever goes wrong leaves it so.

use super::Ledger;
use super::types::{Denied, Happening, Origin, Phase, Reason, Wanted};
use crate::ids::{BoardId, Epoch, GuestId, MoveId};
use crate::placement::{choose_in_class, held_by_volume};

impl<const B: usize, const G: usize, const D: usize> Ledger<B, G, D> {
    /// Names the owner that is to take a guest in under the name `id`.
    ///
    /// # Errors
    /// `Running` for a guest that has an owner or is to get one, `LocalVolume`, `NoBoard` if none of that class (or that one) can take it, `Invalid` for a name that is none
    /// of a file's.
    pub(super) fn restore(
        &mut self,
        guest: GuestId,
        id: MoveId,
        class: u32,
        to: Option<BoardId>,
    ) -> Result<u16, Denied> {
        let known = self.guest(guest).ok_or(Denied::Unknown)?;
        if to.is_some_and(|to| self.board(to).is_none()) {
            return Err(Denied::Unknown);
        }
        if !id.is_of_file() {
            return Err(Denied::Invalid);
        }
        if known.phase != Phase::Unowned || known.wanted != Wanted::Stopped {
            return Err(Denied::Running);
        }
        if held_by_volume(self, guest).is_some() {
            return Err(Denied::LocalVolume);
        }
        let owner = choose_in_class(self, guest, class, to).ok_or(Denied::NoBoard)?;
        let tenure = self.tenure(owner);
        let place = self.guests.get_mut(guest.at()).ok_or(Denied::Unknown)?;
        let known = place.guest.as_mut().ok_or(Denied::Unknown)?;
        place.epoch = Epoch(place.epoch.0 + 1);
        (known.phase, known.owner, known.tenure) = (Phase::Starting, owner, tenure);
        (known.reason, known.origin) = (Reason::Restored, Origin::Restored { id });
        (known.failures, known.stays, known.stay) = (0, 0, Reason::None);
        self.note(Happening::Owned, Reason::Restored, owner, Some(guest));
        Ok(guest.0)
    }
}
