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

use super::ids::{Intid, VcpuId, VcpuMask, Version};
use super::list::{Control, ListRegister, ListRegisters, MAX_LIST_REGISTERS, Origin, State};
use super::model::{Vgic, bank};
use super::state::{Bank, Cpu, READY, STALE};

/// Whether everything ready fits into the list registers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Enough,
    Short,
}

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

    #[inline(never)]
    fn refill<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) -> VcpuMask {
        let cpu = &mut self.cpus[vcpu.index()];
        let mut told = VcpuMask::EMPTY;
        if cpu.armed {
            // Without the fold, an end that was counted but not yet seen would find its interrupt listed again.
            told = self.collect_watched(vcpu, lists);
        } else if cpu.attention & STALE != 0 {
            told = self.gather::<true, L>(vcpu, lists);
        }
        if !self.fill(vcpu, lists) {
            return told | self.refill_overflowing(vcpu, lists);
        }
        self.finish(vcpu, lists, Control::NONE);
        told
    }

    /// The free list registers did not do: folds, and if that does not help either, selects.
    #[cold]
    #[inline(never)]
    fn refill_overflowing<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) -> VcpuMask {
        let mut told = self.collect(vcpu, lists);
        let mut control = Control::NONE;
        if !self.fill(vcpu, lists) {
            told |= self.collect(vcpu, lists);
            control = self.select(vcpu, lists);
        }
        self.finish(vcpu, lists, control);
        told
    }

    /// Brings the rest of the hardware in line with the model.
    #[inline(always)]
    fn finish<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L, control: Control) {
        let cpu = &mut self.cpus[vcpu.index()];
        cpu.attention = 0;
        if cpu.vacated != 0 || cpu.mapped.release || cpu.armed || control != Control::NONE {
            self.finish_rest(vcpu, lists, control);
        }
    }

    #[inline(never)]
    fn finish_rest<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L, control: Control) {
        self.clear_vacated(vcpu, lists);
        self.set_control(vcpu, lists, control);
        let mapped = &mut self.cpus[vcpu.index()].mapped;
        if mapped.release {
            mapped.release = false;
            lists.deactivate(self.mapped.physical_intid);
        }
    }

    fn set_control<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L, control: Control) {
        let cpu = &mut self.cpus[vcpu.index()];
        if cpu.control != control {
            cpu.control = control;
            cpu.armed = control != Control::NONE;
            lists.set_control(control);
        }
    }

    fn clear_vacated<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) {
        let cpu = &mut self.cpus[vcpu.index()];
        let mut vacated = cpu.vacated & !cpu.used;
        cpu.vacated = 0;
        while vacated != 0 {
            lists.clear(vacated.trailing_zeros() as usize % MAX_LIST_REGISTERS);
            vacated &= vacated.wrapping_sub(1);
        }
    }

    /// Lists ready interrupts until none is left (true) or no list register is free (false).
    #[inline(always)]
    fn fill<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) -> bool {
        let all = Self::slots(lists);
        loop {
            let cpu = &self.cpus[vcpu.index()];
            let Some(intid) = cpu.first_ready() else {
                return true;
            };
            let free = all & !u32::from(cpu.used);
            if free == 0 {
                return false;
            }
            self.list(vcpu, intid, free, Room::Enough, lists);
        }
    }

    /// All list registers, one bit each.
    #[inline(always)]
    fn slots<L: ListRegisters>(lists: &L) -> u32 {
        (1 << lists.count().min(MAX_LIST_REGISTERS)) - 1
    }

    /// Takes a ready interrupt out of the model, into the lowest of the `free` list registers.
    #[inline(always)]
    pub(super) fn list<L: ListRegisters>(
        &mut self,
        vcpu: VcpuId,
        intid: Intid,
        free: u32,
        room: Room,
        lists: &mut L,
    ) {
        let slot = free.trailing_zeros() as usize % MAX_LIST_REGISTERS;
        let bit = intid.bit();
        let bank = &mut self.banks[bank(vcpu, intid.word())];
        let cpu = &mut self.cpus[vcpu.index()];
        cpu.slots[slot] = intid;
        cpu.used |= 1 << slot;
        cpu.ready[intid.word()] &= !bit;
        bank.listed |= bit;
        if bank.active & bit != 0 {
            return self.list_active(vcpu, intid, slot, room, lists);
        }
        // Ready and not active means that it is pending.
        let mut entry = bank.list_pending(intid);
        if bank.special & bit != 0 {
            entry.origin = self.pending_origin(vcpu, intid, slot, entry.origin);
        }
        lists.write(slot, entry);
    }

    /// The origin of a pending interrupt of which more than the bitmaps has to be known.
    #[inline(never)]
    pub(super) fn pending_origin(
        &mut self,
        vcpu: VcpuId,
        intid: Intid,
        slot: usize,
        plain: Origin,
    ) -> Origin {
        let cpu = &mut self.cpus[vcpu.index()];
        if intid == self.mapped.virtual_intid {
            if cpu.mapped.list_pending(slot) {
                return Origin::Hardware {
                    physical: self.mapped.physical_intid,
                };
            }
        } else if intid.is_sgi() {
            let place = intid.place() % 16;
            let mut sources = VcpuMask(cpu.sources[place]);
            let source = sources.next().unwrap_or(VcpuId::wrap(0));
            cpu.in_service[place] = source;
            cpu.sources[place] = sources.0;
            // The latch stays while senders wait.
            if !sources.is_empty() {
                self.banks[bank(vcpu, 0)].latch |= intid.bit();
            }
            return Origin::Software {
                source,
                notify: !sources.is_empty(),
            };
        }
        plain
    }

    /// Lists an interrupt that is active, and perhaps to be signalled again: together with it if it is an edge, or else
    /// after it. When others wait in the model it must not become pending behind the model's back, before a more urgent one.
    #[cold]
    #[inline(never)]
    fn list_active<L: ListRegisters>(
        &mut self,
        vcpu: VcpuId,
        intid: Intid,
        slot: usize,
        room: Room,
        lists: &mut L,
    ) {
        let bit = intid.bit();
        let group_on = self.group_on;
        let bank = &mut self.banks[bank(vcpu, intid.word())];
        let cpu = &mut self.cpus[vcpu.index()];
        let signalled = bank.signalled(group_on) & bit != 0;
        // A special one has to come back first: for its next sender, or to follow its route.
        let plain = bank.edge & !bank.special & bit != 0;
        let together = signalled && plain && room == Room::Enough;
        if together {
            bank.listed_latch |= bit;
            bank.latch &= !bit;
        }
        let source = if self.version == Version::V2 && intid.is_sgi() {
            cpu.in_service[intid.place() % 16]
        } else {
            VcpuId::wrap(0)
        };
        let notify = signalled && !together;
        let mapped = intid == self.mapped.virtual_intid && cpu.mapped.list_active(slot, signalled);
        let origin = if mapped {
            Origin::Hardware {
                physical: self.mapped.physical_intid,
            }
        } else {
            Origin::Software { source, notify }
        };
        let entry = ListRegister {
            intid,
            state: State::of(together, true),
            priority: bank.priority(intid),
            group: bank.group(bit),
            origin,
        };
        lists.write(slot, entry);
    }
}

impl Bank {
    /// An interrupt that is pending and not active, with its latch.
    #[inline(always)]
    pub(super) fn list_pending(&mut self, intid: Intid) -> ListRegister {
        let bit = intid.bit();
        self.listed_latch |= self.latch & bit;
        self.latch &= !bit;
        ListRegister {
            intid,
            state: State::Pending,
            priority: self.priority(intid),
            group: self.group(bit),
            origin: Origin::Software {
                source: VcpuId::wrap(0),
                // A level that stays high has to be sampled again when this instance is over.
                notify: self.line & !self.edge & bit != 0,
            },
        }
    }
}

impl Cpu {
    /// The ready interrupt with the lowest number.
    #[inline(always)]
    fn first_ready(&self) -> Option<Intid> {
        let low = u64::from(self.ready[1]) << 32 | u64::from(self.ready[0]);
        if low != 0 {
            return Some(Intid::wrap(low.trailing_zeros()));
        }
        let high = u64::from(self.ready[3]) << 32 | u64::from(self.ready[2]);
        if high != 0 {
            return Some(Intid::wrap(64 + high.trailing_zeros()));
        }
        None
    }
}
