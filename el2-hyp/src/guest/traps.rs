//! What each exit of a vCPU means.

use crate::addr::{BLOCK_2M, Ipa};
use crate::arch::{config, maintenance, regs};
use crate::exit::{self, DataAbort, FaultKind, SystemAccess, Trap};
use crate::guest::devices::Access;
use crate::guest::mmio::NoDevice;
use crate::guest::run::{Leave, Next};
use crate::guest::{Guest, Stop};
use crate::host::Host;
use crate::inject::{self, Exception};
use crate::psci::Outcome;
use crate::stage2::dirty::Found;
use crate::sysreg::{self, Action, TimerRegister, TranslationControl};
use crate::vcpu::Context;
use crate::vgic::{SgiKind, VcpuId};

/// Bytes that are flushed before the vCPU must show itself again: the board's own business waits as long. A part of a block.
const FLUSH_STEP: u64 = 256 << 10;
const _: () = assert!(BLOCK_2M.is_multiple_of(FLUSH_STEP));

/// SCTLR_EL1.M and C: translation and data cache.
const SCTLR_CACHED: u64 = 1 << 0 | 1 << 2;

impl Guest {
    /// A synchronous exception.
    #[inline]
    pub(super) fn trap<H: Host>(&self, host: &H, vcpu: VcpuId, context: &mut Context) -> Next {
        match exit::decode(regs::syndrome(), regs::fault_address, regs::fault_ipa) {
            Trap::Hvc => self.call(host, vcpu, context),
            Trap::Smc => {
                context.frame.skip();
                self.call(host, vcpu, context)
            }
            Trap::DataAbort(abort) => self.data_abort(host, vcpu, context, abort),
            Trap::SystemRegister(access) => self.system_register(host, vcpu, context, access),
            Trap::WaitForInterrupt => {
                context.frame.skip();
                self.wait(host, vcpu, context)
            }
            Trap::WaitForEvent => {
                context.frame.skip();
                Next::Leave(Leave::Preempted)
            }
            Trap::InstructionAbort(fault) if self.is_seen_to(host, &fault) => Next::Enter,
            Trap::InstructionAbort(fault) => self.inject(
                context,
                Exception::InstructionAbort {
                    far: fault.far,
                    on_walk: fault.on_walk,
                },
            ),
            Trap::Undefined => self.inject(context, Exception::Undefined),
            Trap::Unexpected { esr } => {
                let stop = Stop::Unexpected {
                    vcpu: vcpu.index() as u8,
                    esr,
                    pc: context.frame.pc,
                };
                self.stop_all(host, stop)
            }
        }
    }

    /// Gives the guest an exception of its own.
    fn inject(&self, context: &mut Context, exception: Exception) -> Next {
        let frame = &mut context.frame;
        let before = regs::exception_state(frame.pc, frame.pstate, self.id_registers.has_pan());
        let taken = inject::take(exception, before);
        // SAFETY: this vCPU is loaded on this core.
        unsafe { regs::deliver(&taken) };
        frame.pc = taken.pc;
        frame.pstate = taken.pstate;
        Next::Enter
    }

    /// HVC or SMC.
    fn call<H: Host>(&self, host: &H, vcpu: VcpuId, context: &mut Context) -> Next {
        let x = &mut context.frame.x;
        let outcome = self
            .power
            .lock()
            .call(vcpu.index(), [x[0], x[1], x[2], x[3]], |ipa| {
                self.is_ram(ipa)
            });
        match outcome {
            Outcome::Return(value) => x[0] = value,
            Outcome::TurnedOn { target } => {
                x[0] = 0;
                host.turn_on(self.id, target);
            }
            Outcome::Suspend => {
                x[0] = 0;
                return self.wait(host, vcpu, context);
            }
            Outcome::TurnedOff => return Next::Leave(Leave::Off),
            Outcome::SystemOff => return self.stop_all(host, Stop::PowerOff),
            Outcome::SystemReset => return self.stop_all(host, Stop::Reset),
        }
        Next::Enter
    }

    #[inline]
    fn data_abort<H: Host>(
        &self,
        host: &H,
        vcpu: VcpuId,
        context: &mut Context,
        abort: DataAbort,
    ) -> Next {
        let fault = abort.fault;
        if self.is_seen_to(host, &fault) {
            return Next::Enter;
        }
        if abort.maintenance && !fault.on_walk {
            context.frame.skip();
            return Next::Enter;
        }
        let served = match abort.access {
            Some(access) if !fault.on_walk => {
                let register = &mut context.frame.x;
                let at = usize::from(access.register);
                if abort.write {
                    let value = if at < 31 { register[at] } else { 0 } & access.width.mask();
                    self.mmio_write(host, vcpu, fault.ipa, access.width, value)
                } else {
                    let read = self.mmio_read(host, vcpu, fault.ipa, access.width);
                    read.map(|value| {
                        if at < 31 {
                            register[at] = access.extend(value);
                        }
                        Access::Done
                    })
                }
            }
            _ => Err(NoDevice),
        };
        match served {
            Ok(Access::Done) => {
                context.frame.skip();
                return Next::Enter;
            }
            // Interrupts that come at the next entry may be what the device waits for.
            Ok(Access::Again) => return Next::Enter,
            Err(NoDevice) => {}
        }
        self.inject(
            context,
            Exception::DataAbort {
                far: fault.far,
                write: abort.write,
                on_walk: fault.on_walk,
            },
        )
    }

    /// Whether a fault was one of the guest's RAM, whose pages are closed while what it writes is logged: then that is seen to, and the access is to be made
    /// again.
    ///
    /// Of a permission fault that the access itself met HPFAR_EL2 says nothing (Arm ARM DDI 0487, HPFAR_EL2), so the address is looked up anew. If that fails, the guest
    /// has changed its own translation since, and the access may end otherwise.
    #[inline]
    fn is_seen_to<H: Host>(&self, host: &H, fault: &exit::Fault) -> bool {
        let ipa = match fault.kind {
            FaultKind::Permission if !fault.on_walk => match regs::translate(fault.far) {
                Some(ipa) => ipa,
                None => return true,
            },
            FaultKind::Permission | FaultKind::Translation => fault.ipa,
            FaultKind::Other => return false,
        };
        if !self.is_ram(ipa) {
            return false;
        }
        let fault = crate::stage2::Fault {
            ipa,
            va: (!fault.on_walk).then_some(fault.far),
        };
        host.memory_fault(self.id, fault) != Found::NoRam
    }

    fn system_register<H: Host>(
        &self,
        host: &H,
        vcpu: VcpuId,
        context: &mut Context,
        access: SystemAccess,
    ) -> Next {
        let at = usize::from(access.target);
        let value = if at < 31 { context.frame.x[at] } else { 0 };
        let result = match sysreg::action(access) {
            Action::Id(index) => self.id_registers.read(index),
            Action::ReadZero => 0,
            Action::ReadOnly(constant) | Action::Constant(constant) => constant,
            Action::Counter => self.virtual_now(),
            Action::PhysicalTimer(register) => {
                self.physical_timer(host, vcpu, context, register, access.read, value)
            }
            Action::Sgi(kind) => self.send_sgi(host, vcpu, value, kind),
            Action::Deactivate => {
                self.deactivate(host, vcpu, value);
                0
            }
            Action::SetWay => return self.set_way(context, host),
            Action::Translation(register) => {
                return self.translation(context, register, value, host);
            }
            Action::Undefined => return self.inject(context, Exception::Undefined),
        };
        if access.read && at < 31 {
            context.frame.x[at] = result;
        }
        context.frame.skip();
        Next::Enter
    }

    #[inline]
    fn send_sgi<H: Host>(&self, host: &H, vcpu: VcpuId, value: u64, kind: SgiKind) -> u64 {
        let told = self.vgic.lock().sgi1r(vcpu, value, kind);
        self.tell(host, told);
        0
    }

    fn physical_timer<H: Host>(
        &self,
        host: &H,
        vcpu: VcpuId,
        context: &mut Context,
        register: TimerRegister,
        read: bool,
        value: u64,
    ) -> u64 {
        let now = self.virtual_now();
        if read {
            return context.physical_timer.read(register, now);
        }
        context.physical_timer.write(register, value, now);
        self.update_physical_timer(host, vcpu, context);
        0
    }

    /// Cache maintenance by set and way: see [`crate::vcpu::SetWay`]. The instruction is repeated until the flush is complete.
    fn set_way<H: Host>(&self, context: &mut Context, host: &H) -> Next {
        if context.caches.watching {
            context.frame.skip();
        } else if self.flush_step(context) {
            context.caches.watching = true;
            self.apply_watching(context, host);
            context.frame.skip();
        }
        Next::Enter
    }

    /// A write to EL1's translation controls while they are watched. When it turns the caches on or off, memory is flushed first.
    fn translation<H: Host>(
        &self,
        context: &mut Context,
        register: TranslationControl,
        value: u64,
        host: &H,
    ) -> Next {
        if register == TranslationControl::Sctlr {
            let cached = |sctlr: u64| sctlr & SCTLR_CACHED == SCTLR_CACHED;
            if cached(value) != cached(regs::sctlr_el1()) && !self.flush_step(context) {
                return Next::Enter;
            }
            context.caches.watching = !cached(value);
            self.apply_watching(context, host);
        }
        // SAFETY: this vCPU is loaded on this core.
        unsafe { regs::write_translation(register, value) };
        context.frame.skip();
        Next::Enter
    }

    fn apply_watching<H: Host>(&self, context: &Context, host: &H) {
        // SAFETY: the value comes from `config::hcr`.
        unsafe { config::set_hcr(config::hcr(host.is_shared(), context.caches.watching)) };
    }

    /// Flushes a part of the guest's memory; whether that was the last.
    fn flush_step(&self, context: &mut Context) -> bool {
        let at = context.caches.flushed;
        if let Some(block) = self.memory.blocks().get((at / BLOCK_2M) as usize) {
            let from = block.0 + at % BLOCK_2M;
            maintenance::clean_to_coherency(from as *const u8, FLUSH_STEP as usize);
        }
        let end = at + FLUSH_STEP;
        let done = end >= self.memory.size();
        context.caches.flushed = if done { 0 } else { end };
        done
    }

    /// Whether an address is RAM of this guest.
    pub fn is_ram(&self, ipa: Ipa) -> bool {
        ipa.offset_from(self.memory.base())
            .is_some_and(|offset| offset < self.memory.size())
    }
}
