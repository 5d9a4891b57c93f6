//! Guests that come from other boards, or from files: who is let in, who is dropped, and which becomes the guest.

use core::net::Ipv4Addr;

use cluster_proto::agent::Awaiting;
use cluster_proto::agent::book::Endpoint;
use cluster_proto::bulk::frame::{Body, Key, MAX_FRAME, Name, claim};
use cluster_proto::bulk::{Refusal, Seen, Verdict};
use cluster_proto::ids::{Epoch, GuestId, Micros, MoveId};
use cluster_proto::ledger::types::Reason;
use cluster_proto::node;
use cluster_proto::service::progress::Step;

use super::copy::Copy;
use super::hands::Hands;
use super::{BoardAgent, BoardLedger};
use crate::guests;
use crate::moving::lanes::{self, End};
use crate::moving::{Arrival, progress};
use crate::{info, warn};

impl Hands<'_> {
    /// Looks at what asks to be let in, and answers.
    pub fn answer_knocks(&mut self, agent: &mut BoardAgent, now: Micros) {
        let mut room = [0; MAX_FRAME];
        while let Some((from, length)) = lanes::next_knock(&mut room) {
            let Some((name, _)) = claim(&room[..length]) else {
                continue;
            };
            let Some((key, tag)) = &self.state.secret else {
                continue;
            };
            let key = Key::new(key, *tag, name);
            if key.read(&room[..length]).is_none() || lanes::find(name).is_some() {
                continue;
            }
            let Name { guest, epoch, id } = name;
            let verdict = match agent.await_guest(now, (guest, epoch, id), self) {
                Awaiting::Over => Verdict::Refused(Refusal::Unawaited),
                Awaiting::Here if lanes::count().1 < lanes::MAX_ARRIVALS => {
                    let ledger = agent.node().ledger();
                    match self.begin_arrival(ledger, key.clone(), from) {
                        Ok(()) => continue,
                        Err(refusal) => Verdict::Refused(refusal),
                    }
                }
                // It asks again.
                Awaiting::Here | Awaiting::NotYet => Verdict::Going,
            };
            let seen = Seen {
                next: 0,
                beyond: 0,
                verdict,
            };
            let length = key.write(&Body::Seen(seen), &mut room);
            self.network.send_bulk(from, &room[..length], self.view);
        }
    }

    fn begin_arrival(
        &mut self,
        ledger: &BoardLedger,
        key: Key,
        from: Endpoint,
    ) -> Result<(), Refusal> {
        let guest = key.name().guest;
        let Some((view, keep)) = self.state.describe(ledger, guest) else {
            warn!("guest {guest} is not let in: the ledger's description makes no guest here");
            return Err(Refusal::NoRoom);
        };
        let name = view.guest.name.clone();
        match guests::create_for_arrival(view, keep) {
            Ok(place) => {
                let slot = guests::find(place).expect("it was just made");
                let whence = match key.name().id.is_of_file() {
                    true => "a file at",
                    false => "board",
                };
                let address = Ipv4Addr::from(from.address);
                info!("guest {name} comes from {whence} {address}");
                progress::begin(key.name(), Step::Comes);
                let end = Arrival::new(slot, key.clone(), from);
                lanes::open(place, key, End::Arrival(end));
                Ok(())
            }
            Err(why) => {
                warn!("guest {name} is not let in: {why}");
                Err(Refusal::NoRoom)
            }
        }
    }

    /// Drops what has come and no move will give this board any more.
    pub fn drop_arrivals(&mut self, agent: &BoardAgent) {
        for (place, name) in lanes::arrivals() {
            let arrival = agent.node().arrival(name.guest, name.epoch, name.id);
            if arrival == node::Arrival::Over {
                lanes::close(place, name);
                guests::arrival_failed(place);
                progress::update(name, |told| told.step = Step::Stays);
            }
        }
    }

    /// What has come is the guest from here on.
    pub(super) fn let_arrive(
        &mut self,
        guest: GuestId,
        epoch: Epoch,
        id: MoveId,
    ) -> Result<(), Reason> {
        let name = Name {
            guest,
            epoch: Epoch(epoch.0 - 1),
            id,
        };
        let whole = lanes::find(name).and_then(|place| {
            let parts = lanes::take_whole(place, name)?;
            Some((place, parts))
        });
        let Some((place, parts)) = whole else {
            warn!("guest {guest} cannot go on here: not all of it has come");
            return Err(Reason::StartFailed);
        };
        self.state.copies[place] = Some(Copy::new(guest, epoch));
        info!("cluster: guest {guest} has come and goes on here, epoch {epoch}");
        guests::arrive(self.host, place, *parts);
        progress::goes_on(name);
        Ok(())
    }
}
