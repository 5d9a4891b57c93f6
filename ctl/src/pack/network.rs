//! Addresses: where boards are on the network, and what network cards are called.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::ops::Range;

use cluster_proto::manifest::{Ipv4Place, MAX_NICS, Mac, Name, Nic, OutOfRange};
use sha2::{Digest as _, Sha256};
use toml::de::DeTable;

use super::keys::{Keys, Placed};
use super::plan::limit;
use crate::source::Problem;

/// A line with a board's address.
pub const EXAMPLE_ADDRESS: &str = "address = \"10.7.0.1/24\"";
const EXAMPLE_GATEWAY: &str = "gateway = \"10.7.0.254\"";
const EXAMPLE_MAC: &str = "mac = \"02:00:5e:10:20:30\"";
const EXAMPLE_NIC: &str = "[[guest.nic]]";

/// The `address` and `gateway` of a board, if it has any that are sound.
pub fn read_place(
    keys: &mut Keys<'_, '_, '_>,
    seen: &mut HashMap<Ipv4Addr, Range<usize>>,
) -> Option<Ipv4Place> {
    let address = keys.text("address", EXAMPLE_ADDRESS);
    let gateway = keys.text("gateway", EXAMPLE_GATEWAY);
    let Some(address) = address else {
        if let (Some(gateway), false) = (gateway, keys.has("address")) {
            let help = format!("give the board an address, too: {EXAMPLE_ADDRESS}");
            keys.problem(gateway.span, "a gateway without an `address`", help);
        }
        return None;
    };
    let wrong = |keys: &mut Keys<'_, '_, '_>, text: Placed<&str>, rule: OutOfRange| {
        let message = format!("\"{}\" cannot be used here", text.value);
        keys.problem(text.span, message, rule.to_string());
    };
    let parts = address.value.split_once('/');
    let parsed = parts.and_then(|(ip, prefix)| ip.parse().ok().zip(prefix.parse::<u8>().ok()));
    let place = parsed
        .ok_or(OutOfRange::Address)
        .and_then(|(ip, prefix)| Ipv4Place::new(ip, prefix, None));
    let place = match place {
        Ok(place) => place,
        Err(rule) => {
            wrong(keys, address, rule);
            return None;
        }
    };
    if seen.insert(place.address(), address.span.clone()).is_some() {
        let message = format!("another board has the address {}", place.address());
        keys.problem(
            address.span,
            message,
            "give each board an address of its own",
        );
    }
    let Some(gateway) = gateway else {
        return (!keys.has("gateway")).then_some(place);
    };
    let through = gateway
        .value
        .parse()
        .map_err(|_| OutOfRange::Gateway)
        .and_then(|ip| Ipv4Place::new(place.address(), place.prefix(), Some(ip)));
    through.map_err(|rule| wrong(keys, gateway, rule)).ok()
}

/// The `mac` of a table, if it has a sound one.
pub fn read_mac(keys: &mut Keys<'_, '_, '_>) -> Option<Placed<Mac>> {
    let text = keys.text("mac", EXAMPLE_MAC)?;
    match text.value.parse() {
        Ok(value) => Some(Placed {
            value,
            span: text.span,
        }),
        Err(rule) => {
            let message = format!("\"{}\" cannot be a network card's address", text.value);
            let rule: OutOfRange = rule;
            keys.problem(text.span, message, rule.to_string());
            None
        }
    }
}

/// The Ethernet addresses that have been given.
#[derive(Default)]
pub struct Macs(HashSet<Mac>);

impl Macs {
    /// Takes `mac`, unless someone has it; notes that.
    pub fn take(&mut self, keys: &mut Keys<'_, '_, '_>, mac: &Placed<Mac>) -> bool {
        let free = self.0.insert(mac.value);
        if !free {
            let message = format!("{} is another network card's address already", mac.value);
            let help = format!("give this one another; a line is {EXAMPLE_MAC}");
            keys.problem(mac.span.clone(), message, help);
        }
        free
    }
}

/// The address of network card `index` of a guest whose description gives none: the same whenever and wherever it is packed. 02,
/// and the first five bytes of the SHA-256 of `CLUSTER/GUEST/INDEX`.
fn derived(cluster: &Name, guest: &Name, index: usize) -> Result<Mac, OutOfRange> {
    let hash = Sha256::digest(format!("{cluster}/{guest}/{index}"));
    Mac::new([2, hash[0], hash[1], hash[2], hash[3], hash[4]])
}

/// The network cards of a guest, if all are sound. Those of a guest or a cluster without a name are only read.
pub fn read_nics(
    tables: &[Placed<&DeTable<'_>>],
    (cluster, guest): (Option<&Name>, Option<&Name>),
    macs: &mut Macs,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Nic>> {
    let mut nics = Vec::new();
    for (index, table) in tables.iter().enumerate().take(MAX_NICS) {
        let mut keys = Keys::new(table.value, table.span.clone(), "[[guest.nic]]", problems);
        let mac = match read_mac(&mut keys) {
            None if !keys.has("mac") => cluster.zip(guest).and_then(|(cluster, guest)| {
                Some(Placed {
                    value: derived(cluster, guest, index).ok()?,
                    span: table.span.clone(),
                })
            }),
            mac => mac,
        };
        let mac = mac.filter(|mac| macs.take(&mut keys, mac));
        keys.finish();
        nics.extend(mac.map(|mac| Nic { mac: mac.value }));
    }
    (nics.len() == tables.len()).then_some(nics)
}

/// The tables of a guest's network cards.
pub fn nic_tables<'a, 'i>(keys: &mut Keys<'_, 'a, 'i>) -> Vec<Placed<&'a DeTable<'i>>> {
    let tables = keys.tables("nic", EXAMPLE_NIC);
    limit(keys, &tables, MAX_NICS, ("a guest", "network cards"));
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_addresses_stay_as_they_are() {
        // Guests' leases and neighbours' tables know them: a change of the rule would be a change of every cluster.
        let name = |text| Name::new(text).unwrap();
        let mac = |guest, index| derived(&name("home"), &name(guest), index).unwrap();
        assert_eq!(mac("web", 0).to_string(), "02:45:9e:db:4a:a1");
        assert_ne!(mac("web", 0), mac("web", 1));
        assert_ne!(mac("web", 0), mac("db", 0));
    }
}
