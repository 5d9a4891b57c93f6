//! What a machine's guests do at their CPU interfaces.

use super::super::{VcpuId, VcpuMask};
use super::core::Acknowledged;
use super::machine::{Machine, Op};

impl Machine {
    pub(super) fn apply_guest(&mut self, op: &Op) {
        match *op {
            Op::Acknowledge(of) => {
                let of = self.vcpu(of);
                if self.loaded[of.index()] {
                    self.acknowledge(of);
                }
            }
            Op::End(of) => {
                let of = self.vcpu(of);
                if self.loaded[of.index()] {
                    self.end(of);
                }
            }
            Op::Deactivate(of, which) => {
                let of = self.vcpu(of);
                let undone = &mut self.undone[of.index()];
                if self.loaded[of.index()] && !undone.is_empty() {
                    let it = undone.remove(which % undone.len());
                    self.deactivate(of, it);
                }
            }
            _ => unreachable!(),
        }
    }

    pub(super) fn acknowledge(&mut self, of: VcpuId) -> Option<Acknowledged> {
        let taken = self.cores[of.index()].acknowledge()?;
        self.reference.acknowledge(of, taken.intid, taken.source);
        Some(taken)
    }

    pub(super) fn end(&mut self, of: VcpuId) -> Option<Acknowledged> {
        let core = &mut self.cores[of.index()];
        let ended = core.end()?;
        if core.split {
            self.undone[of.index()].push(ended);
        } else {
            self.reference.get_mut(of, ended.intid).active = false;
        }
        Some(ended)
    }

    fn deactivate(&mut self, of: VcpuId, it: Acknowledged) {
        let core = &mut self.cores[of.index()];
        if core.control.trap_deactivate {
            self.due |= self.vgic.deactivate(of, it.intid, core);
            self.due |= VcpuMask::one(of);
        } else {
            core.deactivate(it.intid, it.source);
        }
        self.reference.get_mut(of, it.intid).active = false;
    }
}
