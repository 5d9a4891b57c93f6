//! A vCPU on a core.

use core::sync::atomic::Ordering;

use crate::arch::{config, enter, maintenance, regs, timer};
use crate::guest::{Guest, PHYSICAL_TIMER, Stop};
use crate::host::{Host, HostInterrupt};
use crate::vcpu::Context;
use crate::vgic::VcpuId;

/// Why a vCPU left its core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Another may have its turn; it wants to go on.
    Preempted,
    /// It waits for an interrupt, at the latest until then (physical counter).
    Parked(Option<u64>),
    /// It is off.
    Off,
    /// The guest stops.
    Stopped,
}

/// What a handled exit leads to.
pub(super) enum Next {
    /// Back into the guest.
    Enter,
    /// Off the core.
    Leave(Leave),
}

impl Guest {
    /// Runs a vCPU on this core until it leaves it. Nothing else is loaded on the core.
    pub fn run<H: Host>(&self, host: &H, index: usize) -> Leave {
        let vcpu = VcpuId::new(index).expect("a vCPU of this guest");
        let mut context = self.vcpus[index].context.lock();
        if self.is_stopping() {
            return Leave::Stopped;
        }
        if let Some(entry) = self.power.lock().begin(index) {
            *context = Context::reset(entry);
        }
        self.load(host, vcpu, &mut context);
        let leave = self.turn(host, vcpu, &mut context);
        self.unload(host, vcpu, &mut context);
        leave
    }

    /// Entries and exits until the vCPU leaves.
    fn turn<H: Host>(&self, host: &H, vcpu: VcpuId, context: &mut Context) -> Leave {
        let me = &self.vcpus[vcpu.index()];
        loop {
            if host.is_asked() && host.should_leave() {
                return Leave::Preempted;
            }
            if me.take_attention() {
                if self.is_stopping() {
                    return Leave::Stopped;
                }
                let more = self.serve_pending(host);
                self.flush(host, vcpu);
                // A guest that is entered may stay for ever, so what is left over is done first; the board's interrupts go before that.
                if more && !regs::interrupt_waits() {
                    continue;
                }
            }
            // SAFETY: `load` put this vCPU's state into this core, and its PSTATE never names EL2: it comes from reset, from SPSR_EL2
            // after an exit, or from `inject`.
            let vector = unsafe { enter::enter(&mut context.frame) };
            let next = match vector {
                enter::Vector::Synchronous => self.trap(host, vcpu, context),
                enter::Vector::Interrupt => self.interrupt(host, vcpu, context),
                enter::Vector::SystemError => {
                    let stop = Stop::SystemError {
                        vcpu: vcpu.index() as u8,
                        esr: regs::syndrome(),
                    };
                    self.stop_all(host, stop)
                }
            };
            if let Next::Leave(leave) = next {
                return leave;
            }
        }
    }

    /// Brings the list registers up to date.
    #[inline]
    fn flush<H: Host>(&self, host: &H, vcpu: VcpuId) {
        let told = self.vgic.lock().flush(vcpu, &mut self.lists(host));
        self.tell(host, told);
    }

    fn interrupt<H: Host>(&self, host: &H, vcpu: VcpuId, context: &mut Context) -> Next {
        match host.interrupt() {
            // A level that fell while its interrupt was on the way: it was another vCPU's, or this one's timer has been set anew.
            HostInterrupt::VirtualTimer if !timer::VirtualTimer::line() => {
                host.deactivate(self.hardware.virtual_timer);
            }
            HostInterrupt::VirtualTimer => {
                let told = self.vgic.lock().deliver_mapped(vcpu, &mut self.lists(host));
                self.tell(host, told);
            }
            HostInterrupt::Maintenance => {
                let mut vgic = self.vgic.lock();
                let lists = &mut self.lists(host);
                let told = vgic.fold(vcpu, lists) | vgic.flush(vcpu, lists);
                drop(vgic);
                self.tell(host, told);
            }
            HostInterrupt::Other => {
                if context.physical_timer.is_enabled() {
                    self.update_physical_timer(host, vcpu, context);
                }
            }
        }
        Next::Enter
    }

    /// The guest's virtual count now.
    pub(super) fn virtual_now(&self) -> u64 {
        timer::now().wrapping_sub(self.counter_offset.load(Ordering::Relaxed))
    }

    /// Brings the emulated timer's line and this core's deadline for it up to date.
    pub(super) fn update_physical_timer<H: Host>(
        &self,
        host: &H,
        vcpu: VcpuId,
        context: &mut Context,
    ) {
        self.update_physical_timer_at(host, vcpu, context, self.virtual_now());
    }

    fn update_physical_timer_at<H: Host>(
        &self,
        host: &H,
        vcpu: VcpuId,
        context: &mut Context,
        now: u64,
    ) {
        let line = context.physical_timer.line(now);
        if line != context.physical_timer_line {
            context.physical_timer_line = line;
            let told = self.vgic.lock().set_line(PHYSICAL_TIMER, vcpu, line);
            self.tell(host, told);
        }
        let offset = self.counter_offset.load(Ordering::Relaxed);
        let due = context.physical_timer.due(now);
        host.set_deadline(due.map(|due| due.saturating_add(offset)));
    }

    /// Puts the vCPU's state into the machine.
    fn load<H: Host>(&self, host: &H, vcpu: VcpuId, context: &mut Context) {
        let me = &self.vcpus[vcpu.index()];
        me.set_place(Some(host.core()));
        // Look at everything once.
        me.ask();
        let in_flight = self.vgic.lock().load(vcpu);
        if in_flight {
            host.activate(self.hardware.virtual_timer);
        }
        self.hardware.interface.load(&context.cpu_interface);
        // SAFETY: nothing else is loaded on this core; the registers are this guest's, and so is `vttbr`.
        unsafe {
            config::set_hcr(config::hcr(host.is_shared(), context.caches.watching));
            config::set_mpidr(vcpu.index() as u8);
            regs::switch_in(self.vttbr, &context.registers, &context.translation);
            context.fp.restore();
        }
        // Two vCPUs of a guest may mean different things by one ASID, as two cores may; on one core they share a TLB.
        let last = &self.last_loaded[usize::from(host.core())];
        if last.swap(vcpu.index() as u8, Ordering::Relaxed) != vcpu.index() as u8 {
            maintenance::invalidate_loaded();
        }
        context
            .virtual_timer
            .load(self.counter_offset.load(Ordering::Relaxed));
        self.update_physical_timer(host, vcpu, context);
    }

    /// Takes the vCPU's state out of the machine.
    fn unload<H: Host>(&self, host: &H, vcpu: VcpuId, context: &mut Context) {
        // The timer first: with it off its interrupt is no longer pending here for whoever comes next.
        context.virtual_timer = timer::VirtualTimer::unload();
        let unloaded = self.vgic.lock().unload(vcpu, &mut self.lists(host));
        if unloaded.mapped_active {
            host.deactivate(self.hardware.virtual_timer);
        }
        self.hardware.interface.save(&mut context.cpu_interface);
        context.registers.save();
        context.translation.save();
        context.fp.save();
        host.set_deadline(None);
        self.vcpus[vcpu.index()].set_place(None);
        self.tell(host, unloaded.told);
    }

    /// WFI: whether the vCPU leaves its core, and until when.
    pub(super) fn wait<H: Host>(&self, host: &H, vcpu: VcpuId, context: &mut Context) -> Next {
        // One reading of the clock for line and deadline: a timer that runs out between two would have neither.
        let now = self.virtual_now();
        self.update_physical_timer_at(host, vcpu, context, now);
        let mut vgic = self.vgic.lock();
        let lists = &mut self.lists(host);
        let told = super::mmio::sample_timer(&mut vgic, vcpu, lists) | vgic.fold(vcpu, lists);
        let wanted = vgic.deliverable(vcpu);
        let timer_listed = vgic.mapped_in_flight(vcpu);
        drop(vgic);
        self.tell(host, told);
        if wanted || self.vcpus[vcpu.index()].has_attention() {
            // A wait may end at any time; what ended it is listed before the next entry.
            self.vcpus[vcpu.index()].ask();
            return Next::Enter;
        }
        let offset = self.counter_offset.load(Ordering::Relaxed);
        let virtual_due = timer::VirtualTimer::current()
            .due()
            .filter(|_| !timer_listed);
        let physical_due = context.physical_timer.due(now);
        let due = [virtual_due, physical_due].into_iter().flatten().min();
        Next::Leave(Leave::Parked(due.map(|due| due.saturating_add(offset))))
    }

    /// Ends the whole guest.
    pub(super) fn stop_all<H: Host>(&self, host: &H, stop: Stop) -> Next {
        self.end(host, stop);
        Next::Leave(Leave::Stopped)
    }

    /// Ends the guest from outside, or from one of its vCPUs: all of them leave their cores soon.
    pub fn end<H: Host>(&self, host: &H, stop: Stop) {
        self.request_stop(stop);
        self.tell(host, crate::vgic::VcpuMask::first(self.vcpus.len()));
    }
}
