//! A core's list registers and virtual CPU interface, as hardware behaves
//! (IHI 0048B chapter 5, IHI 0069 chapter 6). Entries pass through the architecture's encoding.

use super::super::list::{decode_v2, decode_v3, encode_v2, encode_v3, state_v2, state_v3};
use super::super::{Control, Intid, ListRegister, ListRegisters, Origin, State, VcpuId, Version};
use super::{PHYSICAL, vcpu};

/// What an acknowledgement returns: the interrupt and, for a GICv2 guest's SGI, its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledged {
    pub intid: Intid,
    pub source: VcpuId,
    pub priority: u8,
}

#[derive(Clone, Debug)]
pub(super) struct Core {
    version: Version,
    registers: Vec<u64>,
    pub control: Control,
    eoi_count: u32,
    /// Whether the guest separates priority drop from deactivation (EOImode 1).
    pub split: bool,
    /// Acknowledged and not dropped, the most urgent last.
    pub running: Vec<Acknowledged>,
    /// The physical interrupt behind the mapped one.
    pub physical_active: bool,
    /// Operations on list registers.
    pub writes: usize,
}

impl Core {
    pub(super) fn new(version: Version, registers: usize, split: bool) -> Self {
        Self {
            version,
            registers: vec![0; registers],
            control: Control::NONE,
            eoi_count: 0,
            split,
            running: Vec::new(),
            physical_active: false,
            writes: 0,
        }
    }

    fn entry(&self, slot: usize) -> Option<ListRegister> {
        let raw = self.registers[slot];
        if raw == 0 {
            return None;
        }
        match self.version {
            Version::V2 => decode_v2(raw as u32),
            Version::V3 => decode_v3(raw),
        }
    }

    fn set(&mut self, slot: usize, entry: ListRegister) {
        self.registers[slot] = match self.version {
            Version::V2 => u64::from(encode_v2(entry)),
            Version::V3 => encode_v3(entry),
        };
    }

    /// Every list register that is not invalid.
    pub(super) fn entries(&self) -> Vec<ListRegister> {
        (0..self.registers.len())
            .filter_map(|slot| self.entry(slot))
            .filter(|entry| entry.state != State::Invalid)
            .collect()
    }

    /// Whether the list registers are as another virtual processor may find them.
    pub(super) fn idle(&self) -> bool {
        self.empty().count_ones() as usize == self.registers.len()
    }

    fn source(entry: &ListRegister) -> VcpuId {
        match entry.origin {
            Origin::Software { source, .. } => source,
            Origin::Hardware { .. } => vcpu(0),
        }
    }

    /// What an acknowledgement would return now.
    pub(super) fn offered(&self) -> Option<Acknowledged> {
        let best = self
            .entries()
            .into_iter()
            .filter(|entry| entry.state == State::Pending)
            .min_by_key(|entry| entry.priority)?;
        let limit = self
            .running
            .last()
            .map_or(0xf8 + 8, |top| u32::from(top.priority));
        (u32::from(best.priority.byte()) < limit).then(|| Acknowledged {
            intid: best.intid,
            source: Self::source(&best),
            priority: best.priority.byte(),
        })
    }

    pub(super) fn acknowledge(&mut self) -> Option<Acknowledged> {
        let offered = self.offered()?;
        for slot in 0..self.registers.len() {
            if let Some(mut entry) = self.entry(slot)
                && entry.state == State::Pending
                && entry.intid == offered.intid
            {
                entry.state = State::Active;
                self.set(slot, entry);
                break;
            }
        }
        self.running.push(offered);
        Some(offered)
    }

    /// Ends the interrupt that runs: drops its priority and, unless they are separate, deactivates it.
    pub(super) fn end(&mut self) -> Option<Acknowledged> {
        let top = self.running.pop()?;
        if !self.split {
            self.deactivate(top.intid, top.source);
        }
        Some(top)
    }

    /// The guest's deactivation of an interrupt.
    pub(super) fn deactivate(&mut self, intid: Intid, source: VcpuId) {
        for slot in 0..self.registers.len() {
            let Some(mut entry) = self.entry(slot) else {
                continue;
            };
            let same = entry.intid == intid && Self::source(&entry) == source;
            if !same || !entry.state.is_active() {
                continue;
            }
            entry.state = State::of(entry.state.is_pending(), false);
            self.set(slot, entry);
            if let Origin::Hardware { physical } = entry.origin {
                assert_eq!(physical, PHYSICAL);
                assert!(self.physical_active, "deactivates what is not active");
                self.physical_active = false;
            }
            return;
        }
        self.eoi_count += 1;
    }

    /// Whether the maintenance interrupt is asserted.
    pub(super) fn maintenance(&self) -> bool {
        let ended = (0..self.registers.len()).any(|slot| self.reports_end(slot));
        let pending = self
            .entries()
            .iter()
            .any(|entry| entry.state == State::Pending);
        ended
            || self.control.no_pending && !pending
            || self.control.entry_not_present && self.eoi_count != 0
    }

    fn reports_end(&self, slot: usize) -> bool {
        self.entry(slot).is_some_and(|entry| {
            entry.state == State::Invalid
                && matches!(entry.origin, Origin::Software { notify: true, .. })
        })
    }

    /// What must hold of list registers at any time.
    pub(super) fn check(&self) {
        let entries = self.entries();
        for (place, entry) in entries.iter().enumerate() {
            assert!(
                entries[..place]
                    .iter()
                    .all(|other| other.intid != entry.intid),
                "twice in list registers: {entries:?}"
            );
            if matches!(entry.origin, Origin::Hardware { .. }) {
                assert_ne!(entry.state, State::PendingActive);
                assert_eq!(entry.intid, Intid::VIRTUAL_TIMER);
            }
        }
    }
}

impl ListRegisters for Core {
    fn count(&self) -> usize {
        self.registers.len()
    }

    fn empty(&self) -> u32 {
        let mut empty = 0;
        for slot in 0..self.registers.len() {
            let invalid = self
                .entry(slot)
                .is_none_or(|entry| entry.state == State::Invalid);
            if invalid && !self.reports_end(slot) {
                empty |= 1 << slot;
            }
        }
        empty
    }

    fn state(&self, slot: usize) -> State {
        match self.version {
            Version::V2 => state_v2(self.registers[slot] as u32),
            Version::V3 => state_v3(self.registers[slot]),
        }
    }

    fn write(&mut self, slot: usize, entry: ListRegister) {
        assert_ne!(entry.state, State::Invalid);
        self.writes += 1;
        self.set(slot, entry);
        assert_eq!(self.entry(slot), Some(entry), "survives its encoding");
    }

    fn clear(&mut self, slot: usize) {
        self.writes += 1;
        self.registers[slot] = 0;
    }

    fn set_control(&mut self, control: Control) {
        assert_ne!(control, self.control, "armed for nothing");
        self.control = control;
    }

    fn take_eoi_count(&mut self) -> u32 {
        std::mem::take(&mut self.eoi_count)
    }

    fn deactivate(&mut self, physical: u32) {
        assert_eq!(physical, PHYSICAL);
        assert!(self.physical_active, "releases what is not active");
        self.physical_active = false;
    }
}
