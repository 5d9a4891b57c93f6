//! Out of the list registers: what the guest did with listed interrupts, joined with what came for them meanwhile.

use super::ids::{Intid, VcpuId, VcpuMask};
use super::list::{ListRegisters, MAX_LIST_REGISTERS, State};
use super::model::{Vgic, bank};

/// What a fold has left to do.
struct Rest {
    /// The list registers whose interrupt the guest has not ended, or whose end is to be reported.
    busy: u32,
    /// The mapped interrupt was listed: its state there, and whether it is pending and active now.
    mapped: Option<(State, bool, bool)>,
    /// The list registers that held SPIs whose route leads elsewhere.
    wanderers: u32,
}

impl Rest {
    /// A special interrupt other than an SGI was folded.
    #[inline(always)]
    fn note(
        &mut self,
        slot: usize,
        intid: Intid,
        mapped: Intid,
        state: State,
        returns: bool,
        active: bool,
    ) {
        if intid.is_spi() {
            self.wanderers |= 1 << (slot % MAX_LIST_REGISTERS);
        } else if intid == mapped {
            self.mapped = Some((state, returns, active));
        }
    }
}

impl Vgic {
    /// Folds every used list register.
    #[inline(never)]
    pub(super) fn collect<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) -> VcpuMask {
        if self.cpus[vcpu.index()].armed {
            return self.collect_watched(vcpu, lists);
        }
        self.gather::<false, L>(vcpu, lists)
    }

    /// The same where the ends of interrupts that are in no list register are counted.
    #[cold]
    #[inline(never)]
    pub(super) fn collect_watched<L: ListRegisters>(
        &mut self,
        vcpu: VcpuId,
        lists: &mut L,
    ) -> VcpuMask {
        let mut told = VcpuMask::EMPTY;
        if self.cpus[vcpu.index()].control.entry_not_present {
            told = self.end_spilled(vcpu, lists.take_eoi_count());
        }
        told | self.gather::<false, L>(vcpu, lists)
    }

    /// Folds the used list registers. With `AGAIN` one whose interrupt the guest has ended and that is signalled again keeps it.
    #[inline(always)]
    pub(super) fn gather<const AGAIN: bool, L: ListRegisters>(
        &mut self,
        vcpu: VcpuId,
        lists: &mut L,
    ) -> VcpuMask {
        let used = u32::from(self.cpus[vcpu.index()].used);
        if used == 0 {
            return VcpuMask::EMPTY;
        }
        let mut ended = used & lists.empty();
        let busy = used & !ended;
        let mut rest = Rest {
            busy,
            mapped: None,
            wanderers: 0,
        };
        let mut kept = 0;
        while ended != 0 {
            let slot = ended.trailing_zeros();
            ended &= ended.wrapping_sub(1);
            if self.absorb_ended::<AGAIN, L>(
                vcpu,
                slot as usize % MAX_LIST_REGISTERS,
                &mut rest,
                lists,
            ) {
                kept |= 1 << slot;
            }
        }
        self.cpus[vcpu.index()].used = kept;
        if busy | rest.wanderers != 0 || rest.mapped.is_some() {
            return self.gather_rest(vcpu, rest, lists);
        }
        VcpuMask::EMPTY
    }

    /// Folds a list register whose interrupt the guest has ended. Returns whether it has taken the same one again.
    #[inline(always)]
    fn absorb_ended<const AGAIN: bool, L: ListRegisters>(
        &mut self,
        vcpu: VcpuId,
        slot: usize,
        rest: &mut Rest,
        lists: &mut L,
    ) -> bool {
        let cpu = &mut self.cpus[vcpu.index()];
        let intid = cpu.slots[slot];
        let bit = intid.bit();
        let bank = &mut self.banks[bank(vcpu, intid.word())];
        bank.active &= bank.pinned | !bit;
        bank.pinned &= !bit;
        bank.listed_latch &= !bit;
        let signalled = bank.signalled(self.group_on) & bit;
        let active = bank.active & bit;
        let special = bank.special & bit != 0;
        if AGAIN && signalled != 0 && active == 0 && (!special || intid.is_sgi()) {
            let mut entry = bank.list_pending(intid);
            if special {
                entry.origin = self.pending_origin(vcpu, intid, slot, entry.origin);
            }
            lists.write(slot, entry);
            return true;
        }
        bank.listed &= !bit;
        cpu.ready[intid.word()] |= signalled | active;
        if special {
            rest.note(
                slot,
                intid,
                self.mapped.virtual_intid,
                State::Invalid,
                false,
                active != 0,
            );
        }
        false
    }

    /// Folds what is left: what the guest has not ended, the mapped interrupt, and SPIs that follow their route now.
    #[inline(never)]
    fn gather_rest<L: ListRegisters>(
        &mut self,
        vcpu: VcpuId,
        mut rest: Rest,
        lists: &mut L,
    ) -> VcpuMask {
        let mut busy = rest.busy;
        self.cpus[vcpu.index()].vacated |= busy as u16;
        while busy != 0 {
            let slot = busy.trailing_zeros() as usize % MAX_LIST_REGISTERS;
            busy &= busy.wrapping_sub(1);
            self.absorb(vcpu, slot, lists.state(slot), &mut rest);
        }
        if rest.mapped.is_some() || rest.wanderers != 0 {
            return self.absorb_rest(vcpu, rest);
        }
        VcpuMask::EMPTY
    }

    /// Joins what a list register says about its interrupt with what the model learnt meanwhile.
    #[inline(always)]
    fn absorb(&mut self, vcpu: VcpuId, slot: usize, state: State, rest: &mut Rest) {
        let cpu = &mut self.cpus[vcpu.index()];
        let intid = cpu.slots[slot];
        let bit = intid.bit();
        let bank = &mut self.banks[bank(vcpu, intid.word())];
        let returns = if state.is_pending() {
            bank.listed_latch & bit
        } else {
            0
        };
        let active = if state.is_active() { bit } else { 0 };
        bank.latch |= returns;
        bank.active = bank.active & (bank.pinned | !bit) | active & !bank.pinned;
        bank.listed &= !bit;
        bank.listed_latch &= !bit;
        bank.pinned &= !bit;
        let active = bank.active & bit;
        cpu.ready[intid.word()] |= bank.signalled(self.group_on) & bit | active;
        if bank.special & bit == 0 {
            return;
        }
        if !intid.is_sgi() {
            rest.note(
                slot,
                intid,
                self.mapped.virtual_intid,
                state,
                returns != 0,
                active != 0,
            );
        } else if returns != 0 {
            let sender = cpu.in_service[intid.place() % 16];
            cpu.sources[intid.place() % 16] |= VcpuMask::one(sender).0;
        }
    }

    /// The mapped interrupt and the SPIs among what was folded.
    #[inline(never)]
    fn absorb_rest(&mut self, vcpu: VcpuId, rest: Rest) -> VcpuMask {
        let cpu = &mut self.cpus[vcpu.index()];
        if let Some((state, returns, active)) = rest.mapped {
            cpu.mapped.absorb(state, returns, active);
        }
        let mut told = VcpuMask::EMPTY;
        let mut wanderers = rest.wanderers;
        while wanderers != 0 {
            let slot = wanderers.trailing_zeros() as usize % MAX_LIST_REGISTERS;
            wanderers &= wanderers.wrapping_sub(1);
            told |= self.settle(self.cpus[vcpu.index()].slots[slot]);
        }
        told
    }
}
