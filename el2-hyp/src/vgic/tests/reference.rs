//! A controller without list registers, written plainly from the specification: a record for each interrupt, and a
//! search for the most urgent one whenever a processor asks.

use super::super::register::Bits;
use super::super::{Intid, MAX_VCPUS, SgiKind, VcpuId, VcpuMask, Version};
use super::{intid, vcpu};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Interrupt {
    pub enabled: bool,
    pub latch: bool,
    pub line: bool,
    pub edge: bool,
    pub active: bool,
    pub group1: bool,
    pub priority: u8,
    /// GICv2 SGIs: the senders that are pending.
    pub sources: u8,
}

#[derive(Clone, Debug)]
pub(super) struct Reference {
    version: Version,
    vcpus: usize,
    private: Vec<Vec<Interrupt>>,
    shared: Vec<Interrupt>,
    pub route: Vec<u64>,
    pub awake: Vec<bool>,
    pub group_on: [bool; 2],
}

impl Reference {
    pub(super) fn new(version: Version, vcpus: usize) -> Self {
        let reset = Interrupt {
            group1: version == Version::V3,
            ..Interrupt::default()
        };
        let sgi = Interrupt {
            enabled: true,
            edge: true,
            ..reset
        };
        let mut private = vec![sgi; 16];
        private.extend(vec![reset; 16]);
        Self {
            version,
            vcpus,
            private: vec![private; MAX_VCPUS],
            shared: vec![reset; 96],
            route: vec![0; 128],
            awake: vec![false; MAX_VCPUS],
            group_on: [false; 2],
        }
    }

    pub(super) fn get(&self, of: VcpuId, intid: Intid) -> &Interrupt {
        let number = intid.number() as usize;
        match number.checked_sub(32) {
            None => &self.private[of.index()][number],
            Some(spi) => &self.shared[spi],
        }
    }

    pub(super) fn get_mut(&mut self, of: VcpuId, intid: Intid) -> &mut Interrupt {
        let number = intid.number() as usize;
        match number.checked_sub(32) {
            None => &mut self.private[of.index()][number],
            Some(spi) => &mut self.shared[spi],
        }
    }

    fn sourced(&self, intid: Intid) -> bool {
        self.version == Version::V2 && intid.is_sgi()
    }

    pub(super) fn pending(&self, of: VcpuId, intid: Intid) -> bool {
        let it = self.get(of, intid);
        if self.sourced(intid) {
            it.sources != 0
        } else {
            it.latch || it.line && !it.edge
        }
    }

    fn target(&self, intid: Intid) -> Option<usize> {
        let route = self.route[intid.number() as usize];
        match self.version {
            Version::V2 => (0..self.vcpus).find(|index| route >> index & 1 != 0),
            Version::V3 if route >> 31 & 1 != 0 => Some(
                (0..self.vcpus)
                    .find(|index| self.awake[*index])
                    .unwrap_or(0),
            ),
            Version::V3 => {
                let affinity = route & 0xff_00ff_ffff;
                (0..self.vcpus).find(|index| *index as u64 == affinity)
            }
        }
    }

    /// Whether `of` may take this interrupt now, priorities aside.
    pub(super) fn eligible(&self, of: VcpuId, intid: Intid) -> bool {
        let it = self.get(of, intid);
        let here = !intid.is_spi() || self.target(intid) == Some(of.index());
        here && it.enabled
            && !it.active
            && self.group_on[usize::from(it.group1)]
            && self.pending(of, intid)
    }

    /// The most urgent interrupts for `of`; all of one priority.
    pub(super) fn best(&self, of: VcpuId) -> Vec<Intid> {
        let eligible: Vec<Intid> = (0..128)
            .map(intid)
            .filter(|intid| self.eligible(of, *intid))
            .collect();
        let urgent = eligible
            .iter()
            .map(|intid| self.get(of, *intid).priority)
            .min();
        eligible
            .into_iter()
            .filter(|intid| Some(self.get(of, *intid).priority) == urgent)
            .collect()
    }

    pub(super) fn acknowledge(&mut self, of: VcpuId, intid: Intid, source: VcpuId) {
        let sourced = self.sourced(intid);
        let it = self.get_mut(of, intid);
        if sourced {
            assert!(
                it.sources >> source.index() & 1 != 0,
                "a sender that sent nothing"
            );
            it.sources &= !(1 << source.index());
        }
        it.latch = false;
        it.active = true;
    }

    pub(super) fn set_line(&mut self, of: VcpuId, intid: Intid, level: bool) {
        if intid.is_sgi() || intid == Intid::VIRTUAL_TIMER {
            return;
        }
        let it = self.get_mut(of, intid);
        if level && !it.line && it.edge {
            it.latch = true;
        }
        it.line = level;
    }

    pub(super) fn pulse(&mut self, of: VcpuId, intid: Intid) {
        let it = self.get_mut(of, intid);
        it.latch |= it.edge && !intid.is_sgi();
    }

    pub(super) fn send(&mut self, from: VcpuId, targets: u8, sgi: Intid, kind: SgiKind) {
        for index in 0..self.vcpus {
            let sourced = self.sourced(sgi);
            let it = self.get_mut(vcpu(index), sgi);
            if targets >> index & 1 == 0 || kind != SgiKind::Group1 && it.group1 {
                continue;
            }
            if sourced {
                it.sources |= VcpuMask::one(from).0;
            } else {
                it.latch = true;
            }
        }
    }

    /// A write of one to an interrupt's bit, or for groups of either value.
    pub(super) fn write_bit(&mut self, of: VcpuId, intid: Intid, bits: Bits, value: bool) {
        let sourced = self.sourced(intid);
        let it = self.get_mut(of, intid);
        match bits {
            Bits::Group => it.group1 = value,
            _ if !value => {}
            Bits::SetEnable => it.enabled = true,
            Bits::ClearEnable => it.enabled = false,
            Bits::SetPending if !sourced => it.latch = true,
            Bits::ClearPending if !sourced => it.latch = false,
            Bits::SetPending | Bits::ClearPending => {}
            Bits::SetActive => it.active = true,
            Bits::ClearActive => it.active = false,
        }
    }

    pub(super) fn read_bit(&self, of: VcpuId, intid: Intid, bits: Bits) -> bool {
        let it = self.get(of, intid);
        match bits {
            Bits::Group => it.group1,
            Bits::SetEnable | Bits::ClearEnable => it.enabled,
            Bits::SetPending | Bits::ClearPending => self.pending(of, intid),
            Bits::SetActive | Bits::ClearActive => it.active,
        }
    }
}
