//! The mapped interrupt: a PPI whose physical interrupt is active while the virtual one is in flight.
//!
//! The physical interrupt was acknowledged by the hypervisor and stays active until the guest deactivates the virtual one
//! in a list register with the hardware bit, or until the model lets go of it: when the guest withdraws the interrupt
//! through the distributor, or ends it where no list register carried the hardware bit.

use super::ids::{VcpuId, VcpuMask};
use super::list::State;
use super::model::Vgic;
use super::state::{Cpu, Mapped, READY};

impl Vgic {
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

impl Cpu {
    /// The mapped interrupt comes back from a list register in `state`; it `returns` to the model as pending, is
    /// `active` there, or neither.
    pub(super) fn absorb_mapped(&mut self, state: State, returns: bool, active: bool) {
        let mapped = &mut self.mapped;
        let before = mapped.in_flight();
        let active = active && state.is_active();
        if mapped.listed {
            mapped.listed = false;
            mapped.pending |= returns;
            mapped.active = active;
            if state == State::Invalid {
                // The hardware has done what is to be done.
                return;
            }
        } else {
            mapped.active &= active;
        }
        if before && !mapped.in_flight() {
            mapped.release = true;
        }
    }
}

impl Mapped {
    /// It is pending and being listed. Returns whether with the hardware bit.
    pub(super) fn list_pending(&mut self) -> bool {
        self.listed = self.pending;
        self.pending = false;
        self.listed
    }

    /// It is active and being listed. Returns whether with the hardware bit. When it is `signalled` again its
    /// deactivation has to raise the maintenance interrupt, which the hardware bit excludes.
    pub(super) fn list_active(&mut self, signalled: bool) -> bool {
        self.listed = self.active && !signalled;
        self.listed
    }
}
