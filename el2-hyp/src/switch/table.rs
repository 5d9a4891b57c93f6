//! Which station is where.
//!
//! Two tables, both of fixed size and read without a lock. [`Homes`] has the stations of this board, whose places are given: nothing that any frame
//! says changes them. [`Stations`] has those that were heard beyond the uplink, learned from the source of each frame that comes from there, and forgotten when
//! they have been silent for [`AGE_SECONDS`], or when others need the place.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{MAX_PORTS, PortId};
use crate::frame::Mac;

/// Places of [`Homes`]: never more than half of them are taken.
const HOMES: usize = 128;
const _: () = assert!(MAX_PORTS * 2 <= HOMES);

/// Seconds after which a station that was not heard is unknown (IEEE 802.1Q, section 8.8.3: 300 by default).
pub const AGE_SECONDS: u16 = 300;
/// Sets of [`Stations`], and places in each.
const SETS: usize = 128;
const WAYS: usize = 4;
/// The most stations that are remembered.
pub const MAX_STATIONS: usize = SETS * WAYS;

/// An odd number with well mixed bits: 2^64 divided by the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number below 2^`bits` for an address.
#[inline]
fn hash(mac: u64, bits: u32) -> usize {
    (mac.wrapping_mul(MIX) >> (64 - bits)) as usize
}

/// Nothing here, and nothing was put behind because of what was here.
const EMPTY: u64 = 0;
/// Nothing here any more.
const GONE: u64 = 1 << 48;

/// The stations of this board, and their ports.
///
/// Open addressing: an entry is an address and, above it, 2 plus its port. Changed under a lock of the switch.
pub(super) struct Homes([AtomicU64; HOMES]);

impl Homes {
    pub(super) const fn new() -> Self {
        Self([const { AtomicU64::new(EMPTY) }; HOMES])
    }

    /// The port of an address that has its home here.
    #[inline]
    pub(super) fn find(&self, mac: Mac) -> Option<PortId> {
        let mac = mac.number();
        let start = hash(mac, HOMES.ilog2());
        for n in 0..HOMES {
            let entry = self.0[(start + n) % HOMES].load(Ordering::Relaxed);
            if entry == EMPTY {
                return None;
            }
            if entry << 16 == mac << 16 && entry != GONE {
                return Some(PortId((entry >> 48) as u8 - 2));
            }
        }
        None
    }

    /// Adds an address that is not there. The caller is the only one who changes the table, and never adds more than [`MAX_PORTS`].
    pub(super) fn insert(&self, mac: Mac, port: PortId) {
        let start = hash(mac.number(), HOMES.ilog2());
        let free = (0..HOMES)
            .map(|n| &self.0[(start + n) % HOMES])
            .find(|entry| matches!(entry.load(Ordering::Relaxed), EMPTY | GONE));
        if let Some(free) = free {
            free.store(
                (u64::from(port.0) + 2) << 48 | mac.number(),
                Ordering::Relaxed,
            );
        }
    }

    /// Removes an address. The caller is the only one who changes the table.
    pub(super) fn remove(&self, mac: Mac) {
        let start = hash(mac.number(), HOMES.ilog2());
        let load = |at: usize| self.0[at % HOMES].load(Ordering::Relaxed);
        let at = (start..start + HOMES)
            .take_while(|&at| load(at) != EMPTY)
            .find(|&at| load(at) << 16 == mac.number() << 16 && load(at) != GONE);
        let Some(mut at) = at else { return };
        self.0[at % HOMES].store(GONE, Ordering::Relaxed);
        // What is gone at the end of a run of entries can be empty again: no search goes on from there.
        at += HOMES;
        while load(at) == GONE && load(at + 1) == EMPTY {
            self.0[at % HOMES].store(EMPTY, Ordering::Relaxed);
            at -= 1;
        }
    }
}

/// The stations that were heard beyond the uplink.
///
/// An entry is an address and, above it, the low 16 bits of the second in which it was last heard. Cores race without harm: a station may be
/// forgotten too early, or stand twice. The seconds come round after 18 hours; an entry that old may count as fresh once more.
pub(super) struct Stations(Box<[[AtomicU64; WAYS]]>);

impl Stations {
    pub(super) fn new() -> Self {
        let set = |_| [const { AtomicU64::new(0) }; WAYS];
        Self((0..SETS).map(set).collect())
    }

    #[inline]
    fn set(&self, mac: u64) -> &[AtomicU64; WAYS] {
        &self.0[hash(mac, SETS.ilog2())]
    }

    /// Hears a station, in `second`.
    #[inline]
    pub(super) fn learn(&self, mac: Mac, second: u16) {
        let mac = mac.number();
        let fresh = u64::from(second) << 48 | mac;
        let set = self.set(mac);
        let mut oldest = &set[0];
        let mut age = 0;
        for place in set {
            let entry = place.load(Ordering::Relaxed);
            if entry << 16 == mac << 16 {
                if entry != fresh {
                    place.store(fresh, Ordering::Relaxed);
                }
                return;
            }
            let entry_age = match entry {
                0 => u32::from(u16::MAX) + 1,
                _ => u32::from(second.wrapping_sub((entry >> 48) as u16)),
            };
            if entry_age >= age {
                (oldest, age) = (place, entry_age);
            }
        }
        oldest.store(fresh, Ordering::Relaxed);
    }

    /// Whether a station was heard of late.
    #[inline]
    pub(super) fn is_known(&self, mac: Mac, second: u16) -> bool {
        let mac = mac.number();
        self.set(mac).iter().any(|place| {
            let entry = place.load(Ordering::Relaxed);
            entry << 16 == mac << 16 && second.wrapping_sub((entry >> 48) as u16) <= AGE_SECONDS
        })
    }

    /// Forgets a station: it has come to live here.
    pub(super) fn forget(&self, mac: Mac) {
        for place in self.set(mac.number()) {
            if place.load(Ordering::Relaxed) << 16 == mac.number() << 16 {
                place.store(0, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn mac(n: u64) -> Mac {
        let [a, b, c, d, ..] = n.to_le_bytes();
        Mac([2, 0, a, b, c, d])
    }

    #[test]
    fn homes_survive_any_churn() {
        let homes = Homes::new();
        for n in 0..10_000 {
            homes.insert(mac(n), PortId((n % 50) as u8));
            if n >= 40 {
                homes.remove(mac(n - 40));
                assert_eq!(homes.find(mac(n - 40)), None);
            }
            assert_eq!(homes.find(mac(n)), Some(PortId((n % 50) as u8)));
        }
        for n in 9_960..10_000 {
            assert!(homes.find(mac(n)).is_some());
            homes.remove(mac(n));
        }
        let left = homes
            .0
            .iter()
            .filter(|entry| entry.load(Ordering::Relaxed) != EMPTY);
        assert_eq!(left.count(), 0, "what is gone leaves no trace");
        for n in 0..10_000 {
            assert_eq!(homes.find(mac(n)), None);
        }
    }

    proptest! {
        #[test]
        fn homes_are_a_map(steps: Vec<(bool, u8)>) {
            let homes = Homes::new();
            let mut model = BTreeMap::new();
            for (add, n) in steps {
                let n = u64::from(n) % 60;
                if add && model.len() < MAX_PORTS {
                    model.entry(n).or_insert_with(|| homes.insert(mac(n), PortId(n as u8 % 50)));
                } else if !add {
                    homes.remove(mac(n));
                    model.remove(&n);
                }
                for n in 0..60 {
                    let port = model.get(&n).map(|()| PortId(n as u8 % 50));
                    prop_assert_eq!(homes.find(mac(n)), port);
                }
            }
        }
    }

    #[test]
    fn stations_age() {
        let stations = Stations::new();
        stations.learn(mac(1), 65_500);
        assert!(stations.is_known(mac(1), 65_500) && !stations.is_known(mac(2), 65_500));
        assert!(stations.is_known(mac(1), 65_500u16.wrapping_add(AGE_SECONDS)));
        assert!(!stations.is_known(mac(1), 65_500u16.wrapping_add(AGE_SECONDS + 1)));
        stations.learn(mac(1), 100);
        assert!(stations.is_known(mac(1), 400));
        stations.forget(mac(1));
        assert!(!stations.is_known(mac(1), 100));
    }

    #[test]
    fn a_full_table_forgets_the_longest_silent() {
        let stations = Stations::new();
        let set = |n| hash(mac(n).number(), SETS.ilog2());
        let same: Vec<u64> = (0..10_000)
            .filter(|&n| set(n) == 0)
            .take(WAYS + 1)
            .collect();
        for (second, &n) in same[..WAYS].iter().enumerate() {
            stations.learn(mac(n), second as u16);
        }
        stations.learn(mac(same[0]), 50);
        stations.learn(mac(same[WAYS]), 51);
        let known: Vec<bool> = same
            .iter()
            .map(|&n| stations.is_known(mac(n), 52))
            .collect();
        assert_eq!(known, [true, false, true, true, true]);
    }

    #[test]
    fn a_flood_of_addresses_stays_bounded() {
        let stations = Stations::new();
        for n in 0..100_000 {
            stations.learn(mac(n), 7);
        }
        let known = (0..100_000)
            .filter(|&n| stations.is_known(mac(n), 7))
            .count();
        assert_eq!(known, MAX_STATIONS);
    }
}
