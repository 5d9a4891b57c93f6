//! What must hold in every situation of the model.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use cluster_proto::ids::{BoardId, Epoch, GuestId};
use cluster_proto::ledger::types::Phase;
use cluster_proto::wire::message::Role;

use super::{GUESTS, Situation, VOTERS};

impl Situation {
    /// Looks for a property that does not hold, now that `board` has done something.
    pub(super) fn look(&mut self, board: usize) {
        let node = self.stations[board].node.clone();
        if node.counters().contradictions > 0 {
            self.violation = Some("agreement");
        }
        if node.role() == Role::Leader {
            let leaders = Arc::make_mut(&mut self.leaders);
            if *leaders
                .entry((node.era(), node.term().0))
                .or_insert(board as u8)
                != board as u8
            {
                self.violation = Some("one leader a term");
            }
        }
        let mut index = node.commit();
        while let Some(entry) = node.entry(index) {
            let mut hasher = DefaultHasher::new();
            entry.hash(&mut hasher);
            let sum = hasher.finish();
            let place = (node.era(), index.0);
            match self.agreed.get(&place) {
                Some(agreed) if *agreed == sum => break,
                Some(_) => {
                    self.violation = Some("agreement");
                    break;
                }
                None => {
                    Arc::make_mut(&mut self.agreed).insert(place, sum);
                }
            }
            index = index.previous();
        }
        for guest in 0..GUESTS {
            self.look_at_guest(board, guest);
        }
    }

    fn effective(&self, board: usize, guest: usize) -> Option<Epoch> {
        let station = &self.stations[board];
        let (epoch, frozen) = station.copies[guest]?;
        let permit = station
            .node
            .permit(GuestId(guest as u16), self.clock(board).local(self.now))?;
        (station.on && !frozen && permit.epoch() == epoch).then_some(epoch)
    }

    fn look_at_guest(&mut self, board: usize, guest: usize) {
        let Some(epoch) = self.effective(board, guest) else {
            return;
        };
        let others = (0..VOTERS).filter(|&other| other != board);
        if others
            .clone()
            .any(|other| self.effective(other, guest).is_some())
        {
            self.violation = Some("one copy");
        }
        let id = GuestId(guest as u16);
        for other in others {
            let station = &self.stations[other];
            let ledger = station.node.ledger();
            if station.on
                && station.node.era() == self.stations[board].node.era()
                && ledger.epoch(id) >= epoch
            {
                let owner = ledger
                    .guest(id)
                    .filter(|guest| guest.phase != Phase::Unowned)
                    .map(|guest| guest.owner);
                if ledger.epoch(id) > epoch || owner != Some(BoardId(board as u8)) {
                    self.violation = Some("ownership");
                }
            }
        }
    }
}
