//! How a decree changes the ledger. Every decree is checked against the state that it meets, since between its proposal and
//! its turn others may have come; one that no longer fits changes nothing.

use super::types::{
    Answered, Decree, Denied, Entry, Event, Guest, GuestSpec, Happening, Image, Observation,
    Operation, Origin, Outcome, Phase, Reason, RequestId, Share, Volume, VolumeKind, Wanted,
};
use super::{Ledger, Place};
use crate::ids::{BoardId, Epoch, GuestId, Incarnation, Index, Tenure, VolumeId};
use crate::limits;

/// The number of an outcome that concerns nothing with a number.
pub const NO_NUMBER: u16 = u16::MAX;
/// The largest guest, in MiB, and the most vCPUs of one.
const GUEST_MIB_MAX: u32 = 1 << 20;
const GUEST_VCPUS_MAX: u16 = 64;

impl<const B: usize, const G: usize, const D: usize> Ledger<B, G, D> {
    /// Applies the entry that stands at `index`, which must be the next. Returns the outcome if it is an operator's command.
    pub fn apply(&mut self, index: Index, entry: &Entry) -> Option<(RequestId, Outcome)> {
        debug_assert_eq!(index, self.index.next());
        self.index = index;
        self.term = entry.term;
        match &entry.decree {
            Decree::Begin {} => {}
            Decree::Configure { seats, board, .. } => {
                let seated = seats.memory(*board).is_some_and(|memory| memory.0 != 0);
                self.seats = *seats;
                self.seats_at = index;
                self.note(
                    if seated {
                        Happening::Seated
                    } else {
                        Happening::Vacated
                    },
                    Reason::Rebooted,
                    *board,
                    None,
                );
            }
            Decree::Join {
                board,
                incarnation,
                after,
                capacity,
            } => {
                if self.may_join(*board, *incarnation, *after)
                    && let Some(Some(entry)) = self.boards.get_mut(board.at())
                {
                    entry.incarnation = *incarnation;
                    entry.tenure = Tenure(index.0);
                    entry.capacity = capacity.clone();
                    self.note(Happening::Joined, Reason::None, *board, None);
                }
            }
            Decree::Fence {
                board,
                tenure,
                reason,
            } => self.fence(*board, *tenure, *reason),
            Decree::Place {
                guest,
                epoch,
                board,
                tenure,
                reason,
            } => self.own(*guest, *epoch, *board, *tenure, *reason),
            Decree::Retire {
                guest,
                epoch,
                reason,
            } => self.retire(*guest, *epoch, *reason),
            Decree::Observe { guest, epoch, seen } => self.observe(*guest, *epoch, seen),
            Decree::Send {
                guest,
                epoch,
                to,
                tenure,
                reason,
            } => self.send(*guest, *epoch, (*to, *tenure), *reason),
            Decree::Hand {
                guest,
                epoch,
                complete,
                reason,
            } => self.hand(*guest, *epoch, *complete, *reason),
            Decree::Operate { id, operation } => {
                let outcome = match self.answer(id) {
                    Some(answered) => answered.outcome.clone(),
                    None => {
                        let outcome = self.operate(operation);
                        self.answers.push(Answered {
                            id: id.clone(),
                            outcome: outcome.clone(),
                        });
                        outcome
                    }
                };
                return Some((id.clone(), outcome));
            }
        }
        None
    }

    /// Whether that life of a board may be let in: it is out, and this life either never was in, or knows that its last tenure
    /// ended (and so has destroyed what it ran).
    #[must_use]
    pub fn may_join(&self, board: BoardId, incarnation: Incarnation, after: Index) -> bool {
        self.board(board).is_some_and(|entry| {
            !entry.witness
                && entry.tenure.0 == 0
                && (entry.incarnation != incarnation || after >= entry.fenced_at)
        })
    }

    pub(super) fn note(
        &mut self,
        what: Happening,
        reason: Reason,
        board: BoardId,
        guest: Option<GuestId>,
    ) {
        let epoch = guest.map_or(Epoch(0), |guest| self.epoch(guest));
        self.events.push(Event {
            index: self.index,
            what,
            reason,
            board,
            guest,
            epoch,
        });
    }

    fn fence(&mut self, board: BoardId, tenure: Tenure, reason: Reason) {
        let index = self.index;
        let Some(Some(entry)) = self.boards.get_mut(board.at()) else {
            return;
        };
        if tenure.0 == 0 || entry.tenure != tenure {
            return;
        }
        entry.tenure = Tenure(0);
        entry.fenced_at = index;
        self.note(Happening::Fenced, reason, board, None);
        for at in 0..G {
            let Some(Place {
                guest: Some(guest), ..
            }) = self.guests.get_mut(at)
            else {
                continue;
            };
            // at is below G, a small capacity.
            let id = GuestId(at as u16);
            if guest.phase != Phase::Unowned && guest.owner == board && guest.tenure == tenure {
                guest.phase = Phase::Unowned;
                guest.reason = reason;
                guest.moving = None;
                self.note(Happening::Left, reason, board, Some(id));
            } else if guest.moving.as_ref().is_some_and(|order| order.to == board) {
                self.stay(id, Reason::DestinationLost);
            }
        }
    }

    /// Names the owner of a guest that has none, under the next epoch.
    fn own(&mut self, id: GuestId, epoch: Epoch, board: BoardId, tenure: Tenure, reason: Reason) {
        if tenure.0 == 0 || self.tenure(board) != tenure {
            return;
        }
        let Some(place) = self.guests.get_mut(id.at()) else {
            return;
        };
        let Some(guest) = place.guest.as_mut() else {
            return;
        };
        if guest.phase != Phase::Unowned || guest.wanted != Wanted::Running || place.epoch != epoch
        {
            return;
        }
        place.epoch = Epoch(epoch.0 + 1);
        (guest.phase, guest.owner, guest.tenure, guest.reason) =
            (Phase::Starting, board, tenure, reason);
        (guest.origin, guest.stays, guest.stay) = (Origin::Fresh {}, 0, Reason::None);
        self.note(Happening::Owned, reason, board, Some(id));
    }

    fn retire(&mut self, id: GuestId, epoch: Epoch, reason: Reason) {
        let Some(place) = self.guests.get_mut(id.at()) else {
            return;
        };
        let Some(guest) = place.guest.as_mut() else {
            return;
        };
        if place.epoch == epoch && matches!(guest.phase, Phase::Starting | Phase::Running) {
            guest.phase = Phase::Leaving;
            guest.reason = reason;
            guest.moving = None;
            let owner = guest.owner;
            self.note(Happening::Leaving, reason, owner, Some(id));
        }
    }

    fn observe(&mut self, id: GuestId, epoch: Epoch, seen: &Observation) {
        let Some(place) = self.guests.get_mut(id.at()) else {
            return;
        };
        let Some(guest) = place.guest.as_mut() else {
            return;
        };
        if place.epoch != epoch || guest.phase == Phase::Unowned {
            return;
        }
        let owner = guest.owner;
        match seen {
            Observation::Running {} => {
                if guest.phase == Phase::Starting {
                    guest.phase = Phase::Running;
                    // What was restored is wanted from here on: it fails over like any other.
                    if matches!(guest.origin, Origin::Restored { .. }) {
                        guest.wanted = Wanted::Running;
                    }
                    self.note(Happening::Ran, Reason::None, owner, Some(id));
                }
            }
            Observation::Gone { reason } => {
                let asked = guest.phase == Phase::Leaving;
                guest.phase = Phase::Unowned;
                guest.moving = None;
                if !asked {
                    guest.failures = guest.failures.saturating_add(1);
                    guest.reason = *reason;
                }
                let reason = guest.reason;
                self.note(Happening::Left, reason, owner, Some(id));
            }
            Observation::Stays {
                id: given_up,
                reason,
            } => {
                if guest
                    .moving
                    .as_ref()
                    .is_some_and(|order| order.id == *given_up)
                {
                    self.stay(id, *reason);
                }
            }
        }
    }

    fn operate(&mut self, operation: &Operation) -> Outcome {
        let result = match operation {
            Operation::CreateGuest { spec } => self.create_guest(spec),
            Operation::DeleteGuest { guest } => self.delete_guest(*guest),
            Operation::Want { guest, wanted } => self.want(*guest, *wanted),
            Operation::Restart { guest } => self.restart(*guest),
            Operation::Drain {
                board,
                on,
                downtime,
            } => self.drain(*board, *on, *downtime),
            Operation::Disarm { board, on } => {
                self.with_board(*board, |entry| entry.disarmed = *on)
            }
            Operation::DisarmAll { on } => {
                self.disarmed = *on;
                Ok(NO_NUMBER)
            }
            Operation::CreateVolume { volume } => self.create_volume(volume),
            Operation::DeleteVolume { volume } => self.delete_volume(*volume),
            Operation::HoldImage { image } => self.hold_image(image),
            Operation::Migrate {
                guest,
                to,
                downtime,
            } => self.migrate(*guest, *to, *downtime),
            Operation::CancelMove { guest } => self.cancel_move(*guest),
            Operation::Scale { guest, weight, cap } => self.scale(*guest, *weight, *cap),
            Operation::Restore {
                guest,
                id,
                class,
                to,
            } => self.restore(*guest, *id, *class, *to),
        };
        match result {
            Ok(number) => Outcome::Done { number },
            Err(why) => Outcome::Refused { why },
        }
    }

    pub(super) fn with_board(
        &mut self,
        board: BoardId,
        change: impl FnOnce(&mut super::Board),
    ) -> Result<u16, Denied> {
        let entry = self
            .boards
            .get_mut(board.at())
            .and_then(Option::as_mut)
            .ok_or(Denied::Unknown)?;
        change(entry);
        self.note(Happening::Ordered, Reason::Operator, board, None);
        Ok(NO_NUMBER)
    }

    /// Adds a guest; also how a manifest's guests come into the first ledger.
    ///
    /// # Errors
    /// `Invalid` for a size out of range, `Taken` for a known name, `Capacity` when every place is taken.
    pub fn create_guest(&mut self, spec: &GuestSpec) -> Result<u16, Denied> {
        if spec.name.is_empty()
            || !(1..=GUEST_MIB_MAX).contains(&spec.memory_mib)
            || !(1..=GUEST_VCPUS_MAX).contains(&spec.vcpus)
        {
            return Err(Denied::Invalid);
        }
        if self
            .guests()
            .any(|(_, _, guest)| guest.spec.name == spec.name)
        {
            return Err(Denied::Taken);
        }
        let at = self
            .guests
            .iter()
            .position(|place| place.guest.is_none())
            .ok_or(Denied::Capacity)?;
        self.guests[at].guest = Some(Guest {
            wanted: spec.wanted,
            spec: spec.clone(),
            share: Share::DEFAULT,
            phase: Phase::Unowned,
            owner: BoardId(0),
            tenure: Tenure(0),
            failures: 0,
            reason: Reason::None,
            origin: Origin::Fresh {},
            moving: None,
            stays: 0,
            stay: Reason::None,
        });
        // G is a small capacity, far below 65,536.
        Ok(at as u16)
    }

    fn scale(&mut self, id: GuestId, weight: Option<u16>, cap: Option<u16>) -> Result<u16, Denied> {
        let place = self.guests.get_mut(id.at()).ok_or(Denied::Unknown)?;
        let guest = place.guest.as_mut().ok_or(Denied::Unknown)?;
        let share = Share {
            weight: weight.unwrap_or(guest.share.weight),
            cap: cap.unwrap_or(guest.share.cap),
        };
        let most = u32::from(guest.spec.vcpus) * 100;
        if !(1..=limits::WEIGHT_MAX).contains(&share.weight) || u32::from(share.cap) > most {
            return Err(Denied::Invalid);
        }
        guest.share = share;
        let owner = guest.owner;
        self.note(Happening::Ordered, Reason::Operator, owner, Some(id));
        Ok(id.0)
    }

    fn delete_guest(&mut self, id: GuestId) -> Result<u16, Denied> {
        let guest = self.guest(id).ok_or(Denied::Unknown)?;
        if guest.phase != Phase::Unowned {
            return Err(Denied::Running);
        }
        self.guests[id.at()].guest = None;
        for volume in &mut self.volumes {
            if volume.as_ref().is_some_and(|volume| volume.guest == id) {
                *volume = None;
            }
        }
        Ok(id.0)
    }

    fn want(&mut self, id: GuestId, wanted: Wanted) -> Result<u16, Denied> {
        let Some(guest) = self
            .guests
            .get_mut(id.at())
            .and_then(|place| place.guest.as_mut())
        else {
            return Err(Denied::Unknown);
        };
        guest.wanted = wanted;
        (guest.failures, guest.stays) = (0, 0);
        if wanted == Wanted::Stopped {
            let epoch = self.epoch(id);
            self.retire(id, epoch, Reason::Operator);
        }
        Ok(id.0)
    }

    fn restart(&mut self, id: GuestId) -> Result<u16, Denied> {
        self.guest(id).ok_or(Denied::Unknown)?;
        self.want(id, Wanted::Running)?;
        let epoch = self.epoch(id);
        self.retire(id, epoch, Reason::Operator);
        Ok(id.0)
    }

    /// Adds a volume; also how a manifest's volumes come into the first ledger.
    ///
    /// # Errors
    /// `Unknown` for a guest or board that is not there, `Running` for a guest with an owner, `Taken`, `Capacity`.
    pub fn create_volume(&mut self, volume: &Volume) -> Result<u16, Denied> {
        let guest = self.guest(volume.guest).ok_or(Denied::Unknown)?;
        if guest.phase != Phase::Unowned {
            return Err(Denied::Running);
        }
        if volume.kind == VolumeKind::Local && self.board(volume.board).is_none() {
            return Err(Denied::Unknown);
        }
        if self
            .volumes
            .iter()
            .flatten()
            .any(|other| other.name == volume.name && other.guest == volume.guest)
        {
            return Err(Denied::Taken);
        }
        let at = self
            .volumes
            .iter()
            .position(Option::is_none)
            .ok_or(Denied::Capacity)?;
        self.volumes[at] = Some(volume.clone());
        // D is a small capacity, far below 65,536.
        Ok(at as u16)
    }

    fn delete_volume(&mut self, id: VolumeId) -> Result<u16, Denied> {
        let slot = self
            .volumes
            .get(usize::from(id.0))
            .and_then(Option::as_ref)
            .ok_or(Denied::Unknown)?;
        if self
            .guest(slot.guest)
            .is_some_and(|guest| guest.phase != Phase::Unowned)
        {
            return Err(Denied::Running);
        }
        self.volumes[usize::from(id.0)] = None;
        Ok(id.0)
    }

    /// Notes which boards hold an image; one that nobody holds any more is forgotten.
    ///
    /// # Errors
    /// `Capacity` when there is no room for another image.
    pub fn hold_image(&mut self, image: &Image) -> Result<u16, Denied> {
        let place = self
            .images
            .iter()
            .position(|known| known.digest == image.digest);
        match place {
            Some(at) if image.held.is_empty() => self.images.swap_remove(at),
            Some(at) => {
                if let Some(known) = self.images.get_mut(at) {
                    known.held = image.held;
                }
            }
            None if image.held.is_empty() => {}
            None => self
                .images
                .push(image.clone())
                .map_err(|_| Denied::Capacity)?,
        }
        Ok(NO_NUMBER)
    }

    /// Makes this the first ledger of a reformed cluster around `keeper`: every other board is out, and what it owned has no owner.
    pub fn reform(&mut self, keeper: BoardId) {
        for at in 0..B {
            // B is at most 64.
            let board = BoardId(at as u8);
            let tenure = self.tenure(board);
            if board != keeper && tenure.0 != 0 {
                self.fence(board, tenure, Reason::Reformed);
            }
        }
    }
}
