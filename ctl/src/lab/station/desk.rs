//! Who at a station takes which datagrams.

use std::collections::HashMap;
use std::net::SocketAddrV4;

use super::Datagram;

/// Takers that a desk has at once.
const MAX_TAKERS: usize = 64;
/// Groups that one of them listens to.
pub const MAX_GROUPS: usize = 8;
/// The ports of those who do not mind which (RFC 6335, section 6).
const FIRST_PORT: u16 = 49152;

/// What somebody takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Datagrams to this port of the station.
    pub port: u16,
    /// Datagrams to these groups and ports.
    pub groups: Vec<SocketAddrV4>,
}

/// The desk: who takes what, by numbers that its user gives.
#[derive(Debug)]
pub struct Desk {
    takers: HashMap<u64, Taken>,
    next_port: u16,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            takers: HashMap::new(),
            next_port: FIRST_PORT,
        }
    }
}

impl Desk {
    /// Lets `who` have this port, or any; gives it.
    ///
    /// # Errors
    /// Why not.
    pub fn open(
        &mut self,
        who: u64,
        port: Option<u16>,
        groups: Vec<SocketAddrV4>,
    ) -> Result<u16, String> {
        if self.takers.len() == MAX_TAKERS {
            return Err(format!("{MAX_TAKERS} others talk to boards already"));
        }
        if let Some(wrong) = groups.iter().find(|group| !group.ip().is_multicast()) {
            return Err(format!("{wrong} is no multicast group"));
        }
        if groups.len() > MAX_GROUPS {
            return Err(format!("at most {MAX_GROUPS} groups can be listened to"));
        }
        let used = |port| self.takers.values().any(|taken| taken.port == port);
        let port = match port {
            Some(0) => return Err("0 is no port".into()),
            Some(port) if used(port) => return Err(format!("port {port} is taken already")),
            Some(port) => port,
            // There are more of them than takers.
            None => {
                let own = |port: &u16| !used(*port);
                let all = (self.next_port..=u16::MAX).chain(FIRST_PORT..self.next_port);
                all.into_iter()
                    .find(own)
                    .ok_or_else(|| "no port is free".to_string())?
            }
        };
        if port >= FIRST_PORT {
            // A port that was just given back is not given again at once, so that late answers find nobody.
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        }
        self.takers.insert(who, Taken { port, groups });
        Ok(port)
    }

    /// Takes it back; what it was.
    pub fn close(&mut self, who: u64) -> Option<Taken> {
        self.takers.remove(&who)
    }

    /// The port that somebody has.
    pub fn port(&self, who: u64) -> Option<u16> {
        self.takers.get(&who).map(|taken| taken.port)
    }

    /// Who takes a datagram.
    pub fn takers(&self, datagram: &Datagram<'_>) -> impl Iterator<Item = u64> + use<'_> {
        let to = datagram.to;
        let wants = move |taken: &Taken| match to.ip().is_multicast() {
            true => taken.groups.contains(&to),
            false => taken.port == to.port(),
        };
        let takers = self.takers.iter();
        takers
            .filter(move |(_, taken)| wants(taken))
            .map(|(who, _)| *who)
    }
}
