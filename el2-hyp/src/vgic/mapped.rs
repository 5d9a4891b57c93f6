//! The mapped interrupt: a PPI whose physical interrupt is active while the virtual one is in flight.
//!
//! The physical interrupt was acknowledged by the hypervisor and stays active until the guest deactivates the virtual one
//! in a list register with the hardware bit, or until the model lets go of it: when the guest withdraws the interrupt
//! through the distributor, or ends it where no list register carried the hardware bit.

use super::ids::{VcpuId, VcpuMask};
use super::list::{ListRegisters, MAX_LIST_REGISTERS, Origin, State};
use super::model::Vgic;
use super::state::{Mapped, READY};

impl Vgic {
    /// [`Self::raise_mapped`] and [`Self::flush`] in one, for the core on which `vcpu` is loaded. Returns who else has to
    /// flush.
    #[inline]
    pub fn deliver_mapped<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) -> VcpuMask {
        let intid = self.mapped.virtual_intid;
        let bit = intid.bit();
        let group_on = self.group_on;
        let bank = &mut self.banks[vcpu.index()];
        let cpu = &self.cpus[vcpu.index()];
        let slot = cpu.mapped.slot as usize % MAX_LIST_REGISTERS;
        // What a timer that ticks finds: its last interrupt still has its list register, and the guest has ended it.
        // Then the same list register takes the next one, and nothing else changes. Had anything been written about it
        // since, there would be something to attend to; and while others wait in the model one of them may be more urgent.
        let untouched = cpu.attention == 0 && !cpu.armed && cpu.mapped.listed;
        if untouched && lists.empty() >> slot & 1 != 0 {
            bank.latch |= bit;
            if bank.signalled(group_on) & bit != 0 {
                bank.active &= !bit;
                let mut entry = bank.list_pending(intid);
                entry.origin = Origin::Hardware {
                    physical: self.mapped.physical_intid,
                };
                lists.write(slot, entry);
                return VcpuMask::EMPTY;
            }
            bank.latch &= !bit;
        }
        self.raise_mapped(vcpu);
        self.flush(vcpu, lists)
    }

    /// The line behind `vcpu`'s mapped interrupt is low: what of it was not acknowledged is withdrawn, as a level-sensitive
    /// interrupt's is. To be called where the guest may look, on the core where `vcpu` is loaded. Returns who has to flush,
    /// `vcpu` perhaps among them.
    pub fn lower_mapped<L: ListRegisters>(&mut self, vcpu: VcpuId, lists: &mut L) -> VcpuMask {
        let mapped = &self.cpus[vcpu.index()].mapped;
        let listed = mapped.listed && {
            let slot = mapped.slot as usize % MAX_LIST_REGISTERS;
            lists.state(slot).is_pending()
        };
        if !listed && !mapped.pending {
            return VcpuMask::EMPTY;
        }
        let mut told = self.fold(vcpu, lists) | VcpuMask::one(vcpu);
        if self.cpus[vcpu.index()].mapped.pending {
            let bit = self.mapped.virtual_intid.bit();
            self.banks[vcpu.index()].latch &= !bit;
            told |= self.touch(vcpu, 0, bit) | self.withdraw_mapped(vcpu, true, false);
        }
        told
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

impl Mapped {
    /// It comes back from a list register in `state`; it `returns` to the model as pending, is `active` there, or neither.
    pub(super) fn absorb(&mut self, state: State, returns: bool, active: bool) {
        let before = self.in_flight();
        let active = active && state.is_active();
        if self.listed {
            self.listed = false;
            self.pending |= returns;
            self.active = active;
            if state == State::Invalid {
                // The hardware has done what is to be done.
                return;
            }
        } else {
            self.active &= active;
        }
        if before && !self.in_flight() {
            self.release = true;
        }
    }

    /// It is pending and being listed. Returns whether with the hardware bit.
    pub(super) fn list_pending(&mut self, slot: usize) -> bool {
        self.slot = slot as u8;
        self.listed = self.pending;
        self.pending = false;
        self.listed
    }

    /// It is active and being listed. Returns whether with the hardware bit. When it is `signalled` again its
    /// deactivation has to raise the maintenance interrupt, which the hardware bit excludes.
    pub(super) fn list_active(&mut self, slot: usize, signalled: bool) -> bool {
        self.slot = slot as u8;
        self.listed = self.active && !signalled;
        self.listed
    }
}
