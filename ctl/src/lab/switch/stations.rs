//! What a learning switch knows: behind which port each station was last seen.

use std::collections::HashMap;

use super::pipe::Time;
use super::{Mac, PortId};

/// Stations that the switch remembers; those beyond are flooded to.
pub const MAX_STATIONS: usize = 4096;
/// A station that was silent for so long is forgotten, nanoseconds (the usual 300 s of IEEE 802.1Q).
pub const STATION_AGE: u64 = 300_000_000_000;
/// Moves of stations that are remembered until somebody looks.
const MAX_HEARD: usize = 4096;
/// What is kept of a frame that told a move, bytes.
const MAX_KEPT: usize = 256;

/// Where a station was last seen.
#[derive(Clone, Copy, Debug)]
struct Station {
    port: PortId,
    seen: Time,
}

impl Station {
    fn is_fresh(&self, now: Time) -> bool {
        now.0 < self.seen.0.saturating_add(STATION_AGE)
    }
}

/// A station was heard behind another port than before, or for the first time.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When.
    pub at: Time,
    /// Who.
    pub mac: Mac,
    /// Behind which port.
    pub port: PortId,
    /// The beginning of the frame that told so, or all of it.
    pub frame: Vec<u8>,
}

/// The stations.
#[derive(Debug, Default)]
pub struct Stations {
    known: HashMap<Mac, Station>,
    /// How often a station moved from one port to another.
    pub moves: u64,
    heard: Vec<Heard>,
}

impl Stations {
    /// Where a frame for this station goes; none if nobody knows, and it goes everywhere.
    pub fn find(&self, now: Time, mac: Mac) -> Option<PortId> {
        let known = self.known.get(&mac);
        known.filter(|it| it.is_fresh(now)).map(|it| it.port)
    }

    /// Behind which port a station was last seen, however long ago.
    pub fn last(&self, mac: Mac) -> Option<PortId> {
        self.known.get(&mac).map(|station| station.port)
    }

    /// The stations behind a port, in the order of their addresses.
    pub fn behind(&self, port: PortId) -> Vec<Mac> {
        let here = |(mac, station): (&Mac, &Station)| (station.port == port).then_some(*mac);
        let mut macs: Vec<_> = self.known.iter().filter_map(here).collect();
        macs.sort_unstable();
        macs
    }

    /// Forgets those behind a port.
    pub fn forget(&mut self, port: PortId) {
        self.known.retain(|_, station| station.port != port);
    }

    /// Learns from a frame who is behind a port.
    pub fn learn(&mut self, at: Time, mac: Mac, port: PortId, frame: &[u8]) {
        if mac.is_group() {
            return;
        }
        let station = Station { port, seen: at };
        if let Some(known) = self.known.get_mut(&mac) {
            let moved = known.port != port;
            *known = station;
            if moved {
                self.moves += 1;
                self.note(at, mac, port, frame);
            }
            return;
        }
        self.note(at, mac, port, frame);
        if self.known.len() == MAX_STATIONS {
            self.known.retain(|_, station| station.is_fresh(at));
        }
        if self.known.len() < MAX_STATIONS {
            self.known.insert(mac, station);
        }
    }

    fn note(&mut self, at: Time, mac: Mac, port: PortId, frame: &[u8]) {
        if self.heard.len() < MAX_HEARD {
            let frame = frame[..frame.len().min(MAX_KEPT)].to_vec();
            self.heard.push(Heard {
                at,
                mac,
                port,
                frame,
            });
        }
    }

    /// Stations that were new, or moved, since somebody took them, in the order in which they were.
    pub fn take_heard(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.heard)
    }
}
