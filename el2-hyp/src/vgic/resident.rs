//! Between the model and the list registers.
//!
//! [`Vgic::flush`] lists what is ready. [`Vgic::fold`] takes everything listed back. While an interrupt is listed,
//! the model keeps what arrives for it beside it (`latch`, `pinned`), and `absorb` puts the two together.
//!
//! What is listed how:
//! - A level-sensitive interrupt is never listed pending and active together: while it is active its line may fall, and
//!   the list register would deliver it all the same. While its line is high its deactivation raises the maintenance
//!   interrupt, so that the level is sampled again.
//! - One sender of a GICv2 guest's SGI at a time; while more wait, its deactivation raises the maintenance interrupt.
//! - When not everything fits: the most urgent pending interrupt, then the active ones by priority, then
//!   the other pending ones by priority. The first keeps an urgent one from starving behind active ones; the second lets the guest's
//!   deactivations hit a list register. An active interrupt that has no list register is found by
//!   counting the ends of interrupts that are in none: the most urgent one ends first, since priority drops nest. A guest that
//!   separates priority drop from deactivation may end them in any order: `Control::trap_deactivate` asks to see that.

use super::ids::{FIRST_SPI, Group, INTIDS, Intid, Priority, VcpuId, VcpuMask, Version, WORDS};
use super::list::{Control, ListRegister, ListRegisters, MAX_LIST_REGISTERS, Origin, State};
use super::model::{READY, STALE, Vgic, bank};

/// What [`Vgic::unload`] leaves to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unloaded {
    /// Other virtual processors that have to flush.
    pub told: VcpuMask,
    /// The physical interrupt behind the mapped one is active on this core: it must be set inactive, so that the
    /// core's next virtual processor gets its own.
    pub mapped_active: bool,
}

impl Vgic {
    /// `vcpu` comes to a core whose list registers are empty. Returns whether the mapped interrupt is in flight: then its
    /// physical interrupt must be set active on this core before the guest runs.
    pub fn load(&mut self, vcpu: VcpuId) -> bool {
        let cpu = &mut self.cpus[vcpu.index()];
        cpu.mapped.release = false;
        cpu.attention = READY;
        cpu.mapped.in_flight()
    }

    /// `vcpu` leaves its core: everything listed returns to the model and the list registers are emptied.
    pub fn unload<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) -> Unloaded {
        let told = self.fold(vcpu, lists);
        self.clear_vacated(vcpu, lists);
        self.set_control(vcpu, lists, Control::NONE);
        let mapped = &mut self.cpus[vcpu.index()].mapped;
        let mapped_active = mapped.in_flight() | mapped.release;
        mapped.release = false;
        Unloaded {
            told,
            mapped_active,
        }
    }

    /// Takes everything listed back into the model. The list registers keep their contents until
    /// the flush or unload that must follow before the guest runs again. Returns who else has to flush: those to whom an
    /// SPI returns whose route has changed.
    #[inline]
    pub fn fold<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) -> VcpuMask {
        let told = self.collect(vcpu, lists);
        let cpu = &mut self.cpus[vcpu.index()];
        cpu.attention = READY;
        told
    }

    /// Lists what is ready for `vcpu`, most urgent first when it is more than fits, after folding if something listed
    /// has to change. To be called on the core where `vcpu` is loaded, before it is entered.
    /// Returns who else has to flush.
    #[inline(always)]
    pub fn flush<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) -> VcpuMask {
        if self.cpus[vcpu.index()].attention == 0 {
            return VcpuMask::EMPTY;
        }
        self.refill(vcpu, lists)
    }

    /// The guest's write of a deactivate register, trapped because [`Control::trap_deactivate`] asked for it: `intid` of
    /// `vcpu`'s view is no longer active, wherever it is. `vcpu` needs a flush afterwards. Returns who else has to flush.
    pub fn deactivate<L: ListRegisters>(
        &mut self,
        vcpu: VcpuId,
        intid: Intid,
        lists: &mut L,
    ) -> VcpuMask {
        let told = self.fold(vcpu, lists);
        told | self.end(vcpu, intid)
    }

    fn refill<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) -> VcpuMask {
        let cpu = &mut self.cpus[vcpu.index()];
        let mut told = VcpuMask::EMPTY;
        // An uncounted end of an active interrupt must not find it listed again.
        if cpu.attention & STALE != 0 || cpu.control != Control::NONE {
            told = self.collect(vcpu, lists);
        }
        let mut control = Control::NONE;
        if !self.fill(vcpu, lists) {
            told |= self.collect(vcpu, lists);
            if !self.fill(vcpu, lists) {
                told |= self.collect(vcpu, lists);
                control = self.select(vcpu, lists);
            }
        }
        let cpu = &mut self.cpus[vcpu.index()];
        cpu.attention = 0;
        if cpu.vacated != 0 {
            self.clear_vacated(vcpu, lists);
        }
        self.set_control(vcpu, lists, control);
        let mapped = &mut self.cpus[vcpu.index()].mapped;
        if mapped.release {
            mapped.release = false;
            lists.deactivate(self.mapped.physical_intid);
        }
        told
    }

    #[inline]
    fn set_control<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L, control: Control) {
        let cpu = &mut self.cpus[vcpu.index()];
        if cpu.control != control {
            cpu.control = control;
            lists.set_control(control);
        }
    }

    fn clear_vacated<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) {
        let cpu = &mut self.cpus[vcpu.index()];
        let mut vacated = cpu.vacated;
        cpu.vacated = 0;
        while vacated != 0 {
            lists.clear(vacated.trailing_zeros() as usize % MAX_LIST_REGISTERS);
            vacated &= vacated.wrapping_sub(1);
        }
    }

    /// Folds every used list register.
    #[inline]
    fn collect<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) -> VcpuMask {
        let mut told = VcpuMask::EMPTY;
        if self.cpus[vcpu.index()].control.entry_not_present {
            told = self.end_spilled(vcpu, lists.take_eoi_count());
        }
        let mut used = self.cpus[vcpu.index()].used;
        if used == 0 {
            return told;
        }
        let empty = lists.empty() as u16;
        let cpu = &mut self.cpus[vcpu.index()];
        cpu.used = 0;
        cpu.vacated |= used & !empty;
        while used != 0 {
            let slot = used.trailing_zeros() as usize % MAX_LIST_REGISTERS;
            let state = if used & !empty & used.wrapping_neg() == 0 {
                State::Invalid
            } else {
                lists.state(slot)
            };
            used &= used.wrapping_sub(1);
            let intid = self.cpus[vcpu.index()].slots[slot];
            told |= self.absorb(vcpu, intid, state);
        }
        told
    }

    /// Joins what a list register says about an interrupt with what the model learnt meanwhile.
    #[inline]
    fn absorb(&mut self, vcpu: VcpuId, intid: Intid, state: State) -> VcpuMask {
        let bit = intid.bit();
        let bank = &mut self.banks[bank(vcpu, intid.word())];
        let returns = state.is_pending() && bank.listed_latch & bit != 0;
        if returns {
            bank.latch |= bit;
        }
        if bank.pinned & bit == 0 {
            bank.active &= !bit;
            if state.is_active() {
                bank.active |= bit;
            }
        }
        bank.listed &= !bit;
        bank.listed_latch &= !bit;
        bank.pinned &= !bit;
        let active = bank.active & bit != 0;
        let ready = (bank.signalled(self.group_on) | bank.active) & bit;
        let cpu = &mut self.cpus[vcpu.index()];
        if intid.is_sgi() {
            if returns {
                let sender = cpu.in_service[intid.place() % 16];
                cpu.sources[intid.place() % 16] |= VcpuMask::one(sender).0;
            }
        } else if intid == self.mapped.virtual_intid {
            cpu.absorb_mapped(state, returns, active);
        } else if intid.is_spi() && !active {
            let told = self.settle(intid);
            if self.owner(vcpu, intid) != Some(vcpu) {
                return told;
            }
        }
        self.cpus[vcpu.index()].ready[intid.word()] |= ready;
        VcpuMask::EMPTY
    }

    /// Lists ready interrupts until none is left (true) or no list register is free (false).
    #[inline]
    fn fill<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) -> bool {
        let all = ((1_u32 << (lists.count().min(MAX_LIST_REGISTERS) as u32)) - 1) as u16;
        for word in 0..WORDS {
            loop {
                let cpu = &self.cpus[vcpu.index()];
                let ready = cpu.ready[word];
                if ready == 0 {
                    break;
                }
                let free = all & !cpu.used;
                if free == 0 {
                    return false;
                }
                self.list(vcpu, Intid::of(word, ready.trailing_zeros()), free, lists);
            }
        }
        true
    }

    /// Lists one ready interrupt in the lowest of the `free` list registers.
    #[inline]
    fn list<L: ListRegisters>(&mut self, vcpu: VcpuId, intid: Intid, free: u16, lists: &mut L) {
        let slot = free.trailing_zeros() as usize % MAX_LIST_REGISTERS;
        let entry = self.admit(vcpu, intid);
        let cpu = &mut self.cpus[vcpu.index()];
        let bit = free & free.wrapping_neg();
        cpu.slots[slot] = intid;
        cpu.used |= bit;
        cpu.vacated &= !bit;
        lists.write(slot, entry);
    }

    /// Takes a ready interrupt out of the model, as the list register that is to hold it.
    #[inline]
    fn admit(&mut self, vcpu: VcpuId, intid: Intid) -> ListRegister {
        let bit = intid.bit();
        let priority = self.priority(vcpu, intid);
        let bank = &mut self.banks[bank(vcpu, intid.word())];
        let cpu = &mut self.cpus[vcpu.index()];
        cpu.ready[intid.word()] &= !bit;
        let signalled = bank.signalled(self.group_on) & bit != 0;
        let active = bank.active & bit != 0;
        bank.listed |= bit;
        let (mut pending, mut notify, mut source) = (signalled, false, VcpuId::wrap(0));
        let mut hardware = false;
        if intid.is_sgi() && self.version == Version::V2 {
            let place = intid.place() % 16;
            if active {
                (pending, notify) = (false, signalled);
            } else {
                let mut sources = VcpuMask(cpu.sources[place]);
                cpu.in_service[place] = sources.next().unwrap_or(VcpuId::wrap(0));
                cpu.sources[place] = sources.0;
                notify = !sources.is_empty();
            }
            source = cpu.in_service[place];
            if pending {
                bank.listed_latch |= bit;
                if !notify {
                    bank.latch &= !bit;
                }
            }
        } else {
            if bank.edge & bit == 0 {
                if active {
                    (pending, notify) = (false, signalled);
                } else {
                    notify = bank.line & bit != 0;
                }
            }
            if pending {
                bank.listed_latch |= bank.latch & bit;
                bank.latch &= !bit;
            }
            if intid == self.mapped.virtual_intid {
                hardware = cpu.mapped.list(active, signalled);
            }
        }
        let origin = if hardware {
            Origin::Hardware {
                physical: self.mapped.physical_intid,
            }
        } else {
            Origin::Software { source, notify }
        };
        ListRegister {
            intid,
            state: State::of(pending, active),
            priority,
            group: if bank.group1 & bit != 0 {
                Group::One
            } else {
                Group::Zero
            },
            origin,
        }
    }

    /// Nothing is listed and not everything fits: lists the best and says what has to be watched for the rest.
    #[cold]
    #[inline(never)]
    fn select<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) -> Control {
        let count = lists.count().min(MAX_LIST_REGISTERS);
        let (ranking, length) = self.rank(vcpu, count);
        for key in ranking.into_iter().take(length) {
            let free = !self.cpus[vcpu.index()].used;
            self.list(vcpu, key.intid(), free, lists);
        }
        let mut control = Control::NONE;
        for word in 0..WORDS {
            let active = self.banks[bank(vcpu, word)].active;
            let cpu = &mut self.cpus[vcpu.index()];
            cpu.spilled[word] = cpu.ready[word] & active;
            control.no_pending |= cpu.ready[word] & !active != 0;
            control.entry_not_present |= cpu.spilled[word] != 0;
        }
        control.trap_deactivate = control.entry_not_present;
        control
    }

    /// The ready interrupts in the order in which they are to be listed, at most `limit` of them, and their number.
    fn rank(&self, vcpu: VcpuId, limit: usize) -> ([Key; MAX_LIST_REGISTERS], usize) {
        let mut ranking = [Key::LAST; MAX_LIST_REGISTERS];
        let mut first = Key::LAST;
        self.for_each_ready(vcpu, |key| {
            if !key.is_active() {
                first = first.min(key);
            }
        });
        let mut length = 0_usize;
        self.for_each_ready(vcpu, |key| {
            insert(&mut ranking, if key == first { key.leading() } else { key });
            length = usize::min(length.saturating_add(1), limit);
        });
        (ranking, length)
    }

    fn for_each_ready(&self, vcpu: VcpuId, mut visit: impl FnMut(Key)) {
        for word in 0..WORDS {
            let active = self.banks[bank(vcpu, word)].active;
            let mut ready = self.cpus[vcpu.index()].ready[word];
            while ready != 0 {
                let intid = Intid::of(word, ready.trailing_zeros());
                ready &= ready.wrapping_sub(1);
                visit(Key::new(
                    active & intid.bit() != 0,
                    self.priority(vcpu, intid),
                    intid,
                ));
            }
        }
    }

    /// The guest ended `count` interrupts that were active and in no list register.
    #[cold]
    fn end_spilled(&mut self, vcpu: VcpuId, count: u32) -> VcpuMask {
        let mut told = VcpuMask::EMPTY;
        for _ in 0..count.min(INTIDS as u32) {
            let mut best = Key::LAST;
            for word in 0..WORDS {
                let active = self.banks[bank(vcpu, word)].active;
                let mut spilled = self.cpus[vcpu.index()].spilled[word] & active;
                while spilled != 0 {
                    let intid = Intid::of(word, spilled.trailing_zeros());
                    spilled &= spilled.wrapping_sub(1);
                    best = best.min(Key::new(true, self.priority(vcpu, intid), intid));
                }
            }
            if best == Key::LAST {
                break;
            }
            told |= self.end(vcpu, best.intid());
        }
        self.cpus[vcpu.index()].spilled = [0; WORDS];
        told
    }

    /// An interrupt that is not listed is no longer active.
    fn end(&mut self, vcpu: VcpuId, intid: Intid) -> VcpuMask {
        let bit = intid.bit();
        let bank = self.bank_of(vcpu, intid);
        if bank.active & bit == 0 {
            return VcpuMask::EMPTY;
        }
        if bank.listed & bit != 0 {
            bank.pinned |= bit;
        }
        bank.active &= !bit;
        let owner = self.owner(vcpu, intid).unwrap_or(vcpu);
        self.cpus[owner.index()].spilled[intid.word()] &= !bit;
        if intid == self.mapped.virtual_intid {
            self.withdraw_mapped(vcpu, false, true);
        }
        let told = self.touch_one(vcpu, intid);
        if intid.number() >= FIRST_SPI {
            told | self.settle(intid)
        } else {
            told
        }
    }

    /// The guest withdrew the pending state, the active state, or both of `vcpu`'s mapped interrupt by writing to the
    /// distributor. Unless it is listed, the physical interrupt has to be let go of if nothing else holds it.
    pub(super) fn withdraw_mapped(
        &mut self,
        vcpu: VcpuId,
        pending: bool,
        active: bool,
    ) -> VcpuMask {
        let cpu = &mut self.cpus[vcpu.index()];
        let mapped = &mut cpu.mapped;
        let before = mapped.in_flight();
        mapped.pending &= !pending;
        let listed = self.banks[vcpu.index()].listed & self.mapped.virtual_intid.bit() != 0;
        if active && !listed {
            mapped.active = false;
        }
        if before && !mapped.in_flight() {
            mapped.release = true;
            cpu.attention |= READY;
            return VcpuMask::one(vcpu);
        }
        VcpuMask::EMPTY
    }
}

impl super::model::Cpu {
    /// The mapped interrupt comes back from a list register in `state`; it `returns` to the model as pending, is
    /// `active` there, or neither.
    fn absorb_mapped(&mut self, state: State, returns: bool, active: bool) {
        let mapped = &mut self.mapped;
        let before = mapped.in_flight();
        let mut ended_by_guest = false;
        if mapped.listed {
            mapped.listed = false;
            ended_by_guest = state == State::Invalid;
            mapped.pending |= returns;
            mapped.active = active && state.is_active();
        } else {
            mapped.active &= active && state.is_active();
        }
        if before && !ended_by_guest && !mapped.in_flight() {
            mapped.release = true;
        }
    }
}

impl super::model::Mapped {
    /// Whether the mapped interrupt is to be listed with the hardware bit. While it is active and `signalled` again its
    /// deactivation has to raise the maintenance interrupt, which the hardware bit excludes.
    fn list(&mut self, active: bool, signalled: bool) -> bool {
        if active {
            self.listed = self.active && !signalled;
        } else {
            self.listed = self.pending;
            self.pending = false;
        }
        self.listed
    }
}

/// An interrupt's place in the order of listing, the smaller the earlier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key(u32);

impl Key {
    /// After every interrupt.
    const LAST: Self = Self(u32::MAX);
    const PENDING: u32 = 1 << 16;

    fn new(active: bool, priority: Priority, intid: Intid) -> Self {
        let class = if active { 0 } else { Self::PENDING };
        Self(1 << 17 | class | u32::from(priority.byte()) << 8 | intid.number())
    }

    /// The same interrupt before all others.
    fn leading(self) -> Self {
        Self(self.0 & 0xffff)
    }

    fn is_active(self) -> bool {
        self.0 & Self::PENDING == 0
    }

    fn intid(self) -> Intid {
        Intid::wrap(self.0)
    }
}

/// Puts a key into its place, and pushes the last one out.
fn insert(ranking: &mut [Key; MAX_LIST_REGISTERS], key: Key) {
    let mut carried = key;
    for place in ranking {
        if carried < *place {
            core::mem::swap(place, &mut carried);
        }
    }
}
