//! The state of every interrupt, and the inputs that change it.
//!
//! 32 interrupts share a `Bank` of bitmaps: one bank for each virtual processor's own interrupts, three for the SPIs.
//! Beside the banks each virtual processor keeps `ready`: the interrupts that belong into its list registers and are
//! not there. Every change ends in `Vgic::touch`, which brings `ready` up to date and says whether the virtual
//! processor has to be told.

use super::ids::{
    FIRST_SPI, INTIDS, Intid, MAX_VCPUS, MappedInterrupt, Priority, VcpuId, VcpuMask, Version,
    WORDS,
};
use super::state::{Bank, Cpu, READY, STALE};

/// Banks: one for each virtual processor, three of SPIs, and the rest of a power of two.
const BANKS: usize = 16;
/// The bank of the first SPIs.
const SPI_BANK: usize = MAX_VCPUS;
/// The owner of an SPI that is routed to nobody.
pub(super) const NOBODY: u8 = 0xff;
/// The implemented bits of GICD_IROUTER: four affinity levels and the routing mode.
pub(super) const ROUTE_BITS: u64 = 0xff_80ff_ffff;
/// GICD_IROUTER.Interrupt_Routing_Mode: any participating processor.
const ROUTE_ANY: u64 = 1 << 31;

const _: () = assert!(SPI_BANK + WORDS - 1 <= BANKS);

/// Why a controller cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// Not 1 to [`MAX_VCPUS`] virtual processors.
    VcpuCount(usize),
    /// The mapped interrupt is not a PPI.
    MappedVirtual(Intid),
    /// The physical interrupt is not 16 to 1019.
    MappedPhysical(u32),
}

/// A guest's interrupt controller. See the [module](super) for how to drive it.
#[derive(Clone, Debug)]
pub struct Vgic {
    pub(super) version: Version,
    pub(super) count: u8,
    pub(super) mapped: MappedInterrupt,
    /// All ones where the distributor forwards group 0, group 1.
    pub(super) group_on: [u32; 2],
    pub(super) banks: [Bank; BANKS],
    pub(super) cpus: [Cpu; MAX_VCPUS],
    /// Whose an SPI is now: the virtual processor that holds it, or that it is routed to.
    owner: [u8; INTIDS],
    /// GICD_ITARGETSR's byte or GICD_IROUTER of an SPI, as the guest wrote it.
    route: [u64; INTIDS],
}

/// The bank of a virtual processor's word.
#[inline(always)]
pub(super) const fn bank(vcpu: VcpuId, word: usize) -> usize {
    if word == 0 {
        vcpu.index()
    } else {
        (SPI_BANK - 1 + word % WORDS) % BANKS
    }
}

impl Vgic {
    /// A controller for `vcpus` virtual processors, in its reset state.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub const fn new(
        version: Version,
        vcpus: usize,
        mapped: MappedInterrupt,
    ) -> Result<Self, ConfigError> {
        if vcpus == 0 || vcpus > MAX_VCPUS {
            return Err(ConfigError::VcpuCount(vcpus));
        }
        if !mapped.virtual_intid.is_ppi() {
            return Err(ConfigError::MappedVirtual(mapped.virtual_intid));
        }
        if mapped.physical_intid < 16 || mapped.physical_intid > 1019 {
            return Err(ConfigError::MappedPhysical(mapped.physical_intid));
        }
        Ok(Self::in_reset(version, vcpus as u8, mapped))
    }

    const fn in_reset(version: Version, count: u8, mapped: MappedInterrupt) -> Self {
        let group1 = match version {
            Version::V2 => 0,
            Version::V3 => !0,
        };
        let spis = Bank {
            group1,
            ..Bank::RESET
        };
        let special = match version {
            Version::V2 => 0xffff | mapped.virtual_intid.bit(),
            Version::V3 => mapped.virtual_intid.bit(),
        };
        let mut vgic = Self {
            version,
            count,
            mapped,
            group_on: [0; 2],
            banks: [spis; BANKS],
            cpus: [Cpu::RESET; MAX_VCPUS],
            owner: [NOBODY; INTIDS],
            route: [0; INTIDS],
        };
        let mut vcpu = 0;
        while vcpu < MAX_VCPUS {
            // SGIs are edge-triggered, and enabled from the start.
            vgic.banks[vcpu].enabled = 0xffff;
            vgic.banks[vcpu].edge = 0xffff;
            vgic.banks[vcpu].special = special;
            vcpu += 1;
        }
        if matches!(version, Version::V3) {
            // A route of zero names the first virtual processor.
            vgic.owner = [0; INTIDS];
            vgic.cpus[0].owned = [!0; WORDS];
        }
        vgic
    }

    /// Returns to the reset state, as when the guest reboots, with every input low: the devices are reset with it.
    /// No virtual processor should be loaded. Of one that is, what is listed is withdrawn at its next flush, and the mapped
    /// interrupt's physical one deactivated there, even if the guest has just done that itself.
    pub fn reset(&mut self) {
        let fresh = Self::in_reset(self.version, self.count, self.mapped);
        self.banks = fresh.banks;
        for (cpu, fresh) in self.cpus.iter_mut().zip(&fresh.cpus) {
            let mut mapped = fresh.mapped;
            mapped.release = cpu.mapped.in_flight() | cpu.mapped.release;
            *cpu = Cpu {
                vacated: cpu.used | cpu.vacated,
                control: cpu.control,
                armed: cpu.armed,
                attention: READY,
                mapped,
                ..*fresh
            };
        }
        self.group_on = fresh.group_on;
        self.owner = fresh.owner;
        self.route = fresh.route;
    }

    /// The number of virtual processors, 1 to [`MAX_VCPUS`].
    pub const fn vcpus(&self) -> usize {
        self.count as usize
    }

    /// All virtual processors.
    #[inline(always)]
    pub(super) fn everyone(&self) -> VcpuMask {
        VcpuMask::first(self.vcpus())
    }

    /// Brings `ready` of one word up to date after the interrupts in `changed` did. Returns `vcpu` if it has to
    /// be told: something new is ready, or something listed is among the changed.
    #[inline]
    pub(super) fn touch(&mut self, vcpu: VcpuId, word: usize, changed: u32) -> VcpuMask {
        let bank = &self.banks[bank(vcpu, word)];
        let cpu = &mut self.cpus[vcpu.index()];
        let word = word % WORDS;
        let owned = cpu.owned[word];
        let ready = (bank.signalled(self.group_on) | bank.active) & !bank.listed & owned;
        let fresh = ready & (changed | !cpu.ready[word]);
        cpu.ready[word] = ready;
        let mut attention = cpu.attention;
        if fresh != 0 {
            attention |= READY;
        }
        if bank.listed & owned & changed != 0 {
            attention |= STALE;
        }
        let tell = fresh != 0 || attention != cpu.attention;
        cpu.attention = attention;
        if tell {
            VcpuMask::one(vcpu)
        } else {
            VcpuMask::EMPTY
        }
    }

    /// [`Self::touch`] for every virtual processor that sees the word in `vcpu`'s view.
    pub(super) fn touch_word(&mut self, vcpu: VcpuId, word: usize, changed: u32) -> VcpuMask {
        if changed == 0 {
            return VcpuMask::EMPTY;
        }
        if word == 0 {
            return self.touch(vcpu, 0, changed);
        }
        let mut told = VcpuMask::EMPTY;
        for other in self.everyone() {
            told |= self.touch(other, word, changed);
        }
        told
    }

    /// The owner of an interrupt in `vcpu`'s view.
    #[inline(always)]
    pub(super) fn owner(&self, vcpu: VcpuId, intid: Intid) -> Option<VcpuId> {
        if !intid.is_spi() {
            return Some(vcpu);
        }
        match self.owner[intid.index()] {
            NOBODY => None,
            owner => Some(VcpuId::wrap(owner as u32)),
        }
    }

    /// [`Self::touch`] for one interrupt in `vcpu`'s view.
    #[inline(always)]
    pub(super) fn touch_one(&mut self, vcpu: VcpuId, intid: Intid) -> VcpuMask {
        match self.owner(vcpu, intid) {
            Some(owner) => self.touch(owner, intid.word(), intid.bit()),
            None => VcpuMask::EMPTY,
        }
    }

    #[inline(always)]
    pub(super) fn bank_of(&mut self, vcpu: VcpuId, intid: Intid) -> &mut Bank {
        &mut self.banks[bank(vcpu, intid.word())]
    }

    /// The priority of an interrupt in `vcpu`'s view.
    #[inline(always)]
    pub(super) fn priority(&self, vcpu: VcpuId, intid: Intid) -> Priority {
        self.banks[bank(vcpu, intid.word())].priority(intid)
    }

    /// The guest's route of an SPI.
    pub(super) fn route(&self, intid: Intid) -> u64 {
        self.route[intid.index()]
    }

    /// Sets the guest's route of an SPI.
    pub(super) fn set_route(&mut self, intid: Intid, route: u64) -> VcpuMask {
        let route = match self.version {
            Version::V2 => route & u64::from(self.everyone().0),
            Version::V3 => route & ROUTE_BITS,
        };
        if self.route[intid.index()] == route {
            return VcpuMask::EMPTY;
        }
        self.route[intid.index()] = route;
        // Whoever holds it must fold before it can move.
        self.touch_one(VcpuId::wrap(0), intid) | self.settle(intid)
    }

    /// Where the route of an SPI leads now.
    fn target(&self, intid: Intid) -> Option<VcpuId> {
        let route = self.route[intid.index()];
        match self.version {
            Version::V2 => VcpuMask(route as u8).lowest(),
            Version::V3 if route & ROUTE_ANY != 0 => self.any_target(),
            Version::V3 => VcpuId::new(route as usize).filter(|vcpu| vcpu.index() < self.vcpus()),
        }
    }

    #[cold]
    fn any_target(&self) -> Option<VcpuId> {
        let mut everyone = self.everyone();
        let awake = everyone.find(|vcpu| !self.cpus[vcpu.index()].asleep);
        Some(awake.unwrap_or(VcpuId::wrap(0)))
    }

    /// Lets an SPI follow its route, unless its owner still holds it: listed or active.
    pub(super) fn settle(&mut self, intid: Intid) -> VcpuMask {
        let (target, owner) = (self.target(intid), self.owner(VcpuId::wrap(0), intid));
        let bank = self.bank_of(VcpuId::wrap(0), intid);
        bank.special &= !intid.bit();
        if target == owner {
            return VcpuMask::EMPTY;
        }
        if (bank.listed | bank.active) & intid.bit() != 0 {
            bank.special |= intid.bit();
            return VcpuMask::EMPTY;
        }
        self.move_spi(intid, owner, target)
    }

    fn move_spi(&mut self, intid: Intid, from: Option<VcpuId>, to: Option<VcpuId>) -> VcpuMask {
        let (word, bit) = (intid.word(), intid.bit());
        if let Some(from) = from {
            self.cpus[from.index()].owned[word] &= !bit;
            self.cpus[from.index()].ready[word] &= !bit;
        }
        let Some(to) = to else {
            self.owner[intid.index()] = NOBODY;
            return VcpuMask::EMPTY;
        };
        self.owner[intid.index()] = to.index() as u8;
        self.cpus[to.index()].owned[word] |= bit;
        self.touch(to, word, bit)
    }

    /// Lets every SPI follow its route, after what "any processor" means has changed.
    pub(super) fn settle_all(&mut self) -> VcpuMask {
        let mut told = VcpuMask::EMPTY;
        for number in FIRST_SPI..INTIDS as u32 {
            let intid = Intid::wrap(number);
            if self.route(intid) & ROUTE_ANY != 0 {
                told |= self.touch_one(VcpuId::wrap(0), intid) | self.settle(intid);
            }
        }
        told
    }

    /// Makes an SPI be routed and owned so, before anything is loaded.
    pub(super) fn place_spi(&mut self, intid: Intid, route: u64, owner: u8) {
        let (word, bit) = (intid.word(), intid.bit());
        self.route[intid.index()] = route;
        self.owner[intid.index()] = owner;
        for (index, cpu) in self.cpus.iter_mut().enumerate() {
            let owns = usize::from(owner) == index;
            cpu.owned[word] = cpu.owned[word] & !bit | if owns { bit } else { 0 };
        }
    }

    /// The level of an input, as it was set last.
    pub fn line(&self, intid: Intid, vcpu: VcpuId) -> bool {
        self.banks[bank(vcpu, intid.word())].line & intid.bit() != 0
    }

    /// Sets the level of an input: of an SPI, or of `vcpu`'s PPI. SGIs and the mapped interrupt have no line.
    /// An interrupt configured as edge-triggered becomes pending when its line rises.
    pub fn set_line(&mut self, intid: Intid, vcpu: VcpuId, level: bool) -> VcpuMask {
        if intid.is_sgi() || intid == self.mapped.virtual_intid {
            return VcpuMask::EMPTY;
        }
        let bit = intid.bit();
        let bank = self.bank_of(vcpu, intid);
        if (bank.line & bit != 0) == level {
            return VcpuMask::EMPTY;
        }
        bank.line ^= bit;
        if bank.edge & bit != 0 {
            return if level {
                self.latch(vcpu, intid)
            } else {
                VcpuMask::EMPTY
            };
        }
        self.touch_one(vcpu, intid)
    }

    /// A pulse on an input whose line is low: it makes an edge-triggered interrupt pending and passes a
    /// level-sensitive one by.
    pub fn pulse(&mut self, intid: Intid, vcpu: VcpuId) -> VcpuMask {
        let edge = self.bank_of(vcpu, intid).edge & intid.bit() != 0;
        if edge && !intid.is_sgi() {
            self.latch(vcpu, intid)
        } else {
            VcpuMask::EMPTY
        }
    }

    /// Latches an interrupt as pending.
    #[inline]
    pub(super) fn latch(&mut self, vcpu: VcpuId, intid: Intid) -> VcpuMask {
        let bank = self.bank_of(vcpu, intid);
        if bank.latch & intid.bit() != 0 {
            return VcpuMask::EMPTY;
        }
        bank.latch |= intid.bit();
        self.touch_one(vcpu, intid)
    }

    /// The physical interrupt behind the mapped one was acknowledged on the core where `vcpu` is loaded, and is
    /// active there now. The guest's deactivation of the virtual interrupt will deactivate it.
    /// `vcpu` itself needs a flush before it is entered.
    pub fn raise_mapped(&mut self, vcpu: VcpuId) {
        self.cpus[vcpu.index()].mapped.pending = true;
        self.cpus[vcpu.index()].mapped.release = false;
        let intid = self.mapped.virtual_intid;
        self.bank_of(vcpu, intid).latch |= intid.bit();
        self.touch(vcpu, intid.word(), intid.bit());
    }

    /// Sends SGI `sgi` (its low four bits) from `source` to `targets`; those that do not exist are left out.
    #[inline]
    pub fn send_sgi(&mut self, source: VcpuId, targets: VcpuMask, sgi: u32) -> VcpuMask {
        let intid = Intid::wrap(sgi & 0xf);
        let mut told = VcpuMask::EMPTY;
        for target in targets & self.everyone() {
            told |= if self.version == Version::V2 {
                self.add_sources(target, intid, VcpuMask::one(source).0)
            } else {
                self.latch(target, intid)
            };
        }
        told
    }

    /// GICv2: more senders, at least one, for `vcpu`'s SGI.
    #[inline]
    pub(super) fn add_sources(&mut self, vcpu: VcpuId, sgi: Intid, senders: u8) -> VcpuMask {
        let bank = &mut self.banks[vcpu.index()];
        let cpu = &mut self.cpus[vcpu.index()];
        let place = sgi.place() % 16;
        cpu.sources[place] |= senders;
        let waits = bank.latch & sgi.bit() != 0;
        bank.latch |= sgi.bit();
        // One more sender of an SGI that waits already changes nothing, unless it is the listed one: that one has to be
        // folded, so that the two become one if the first was not acknowledged yet.
        let again =
            bank.listed_latch & sgi.bit() != 0 && VcpuMask(senders).contains(cpu.in_service[place]);
        if waits && !again {
            return VcpuMask::EMPTY;
        }
        self.touch(vcpu, 0, sgi.bit())
    }

    /// Whether `vcpu` has something to be woken for: an interrupt to deliver that is not active. Exact when nothing
    /// is listed, that is after [`Self::fold`] or [`Self::unload`] and before a flush.
    #[inline]
    pub fn deliverable(&self, vcpu: VcpuId) -> bool {
        let cpu = &self.cpus[vcpu.index()];
        let mut waiting = cpu.ready[0] & !self.banks[vcpu.index()].active;
        for word in 1..WORDS {
            waiting |= cpu.ready[word] & !self.banks[bank(vcpu, word)].active;
        }
        waiting != 0
    }

    /// The most urgent priority among what [`Self::deliverable`] speaks of, to be compared with the guest's
    /// priority mask.
    #[cfg(test)]
    pub fn most_urgent(&self, vcpu: VcpuId) -> Option<Priority> {
        let cpu = &self.cpus[vcpu.index()];
        let mut best = None;
        for word in 0..WORDS {
            let mut waiting = cpu.ready[word] & !self.banks[bank(vcpu, word)].active;
            while waiting != 0 {
                let intid = Intid::of(word, waiting.trailing_zeros());
                waiting &= waiting.wrapping_sub(1);
                let priority = self.priority(vcpu, intid);
                best = Some(best.map_or(priority, |other: Priority| other.min(priority)));
            }
        }
        best
    }

    /// Whether the mapped interrupt of `vcpu` is pending or active with its physical interrupt active behind it.
    /// While it is listed, this also holds for one that the guest has ended since.
    pub fn mapped_in_flight(&self, vcpu: VcpuId) -> bool {
        self.cpus[vcpu.index()].mapped.in_flight()
    }
}
