//! The board as its guests need it, on one core: the kernel's side of [`el2_hyp::host::Host`].

use core::sync::atomic::Ordering;

use el2_hyp::arch::{regs, timer};
use el2_hyp::device::pl011::Sink;
use el2_hyp::host::{Host, HostInterrupt};
use el2_hyp::stage2::{Fault, dirty};
use platform::gic::{GicError, KICK};

use crate::interrupts::{self, Interrupts};
use crate::percore::{self, PerCore};
use crate::{agent, alone, console, disk, fault, guests, moving, net, queue, work};

/// QEMU's GICv2 does not look at its lines when a guest ends a physical interrupt through a list register: a timer that is due again by then is told of only when something
/// else happens at the controller, which on a board that waits may be never. So EL2's own timer comes after each interrupt of the virtual timer, in steps of this while that is
/// active, microseconds.
const TIMER_LOOK_US: u64 = 2_000;

/// The board, seen from one core.
pub struct CoreHost {
    core: u8,
    interrupts: &'static Interrupts,
    per_core: &'static PerCore,
}

impl CoreHost {
    /// Makes this core, `core`, take interrupts.
    pub fn new(core: usize) -> Result<Self, GicError> {
        Ok(Self {
            core: core as u8,
            interrupts: interrupts::initialise_core(core)?,
            per_core: percore::of(core),
        })
    }

    /// What this core keeps.
    pub fn per_core(&self) -> &'static PerCore {
        self.per_core
    }

    /// Sets this core's timer for what comes first: the queue's next event, the loaded vCPU's deadline, or what the board's devices have
    /// left to do, for which no other interrupt need come.
    pub fn rearm(&self) {
        let guest = self.per_core.guest_deadline.load(Ordering::Relaxed);
        let queue = queue::next_event(self.core).unwrap_or(u64::MAX);
        let network = match net::network() {
            Some(network) if self.core == 0 => network.next_event(),
            _ => u64::MAX,
        };
        let disk = match disk::disk() {
            Some(disk) if self.core == 0 && disk.is_due() => 0,
            _ => u64::MAX,
        };
        let guests = match self.core {
            0 => guests::next_due(),
            _ => u64::MAX,
        };
        let agent = match self.core {
            0 => agent::next_event(),
            _ => u64::MAX,
        };
        let timer_look = self.per_core.timer_look.load(Ordering::Relaxed);
        let work = self.per_core.work_at.load(Ordering::Relaxed);
        let moving = match self.core {
            // A core that has worked does not work again before a vCPU's turn is over, whatever is due.
            0 if work == u64::MAX => moving::watch::next_due().min(moving::lanes::next_due()),
            _ => u64::MAX,
        };
        let first = guest
            .min(queue)
            .min(network)
            .min(disk)
            .min(guests)
            .min(agent)
            .min(timer_look)
            .min(moving)
            .min(work);
        timer::arm_el2((first != u64::MAX).then_some(first));
    }

    /// Does what the board's own devices have for this core, which is the first.
    pub fn serve_devices(&self) {
        if self.core != 0 {
            return;
        }
        if let Some(disk) = disk::disk()
            && disk.is_due()
        {
            disk.serve(self);
        }
        if let Some(network) = net::network()
            && network.is_due()
        {
            network.serve(self);
        }
        if guests::next_due() <= timer::now() {
            guests::tend(self);
        }
        if agent::is_member() {
            if agent::is_due() {
                agent::serve(self);
            }
        } else if guests::has_news() {
            alone::serve();
        }
    }

    /// Between two steps of something long: takes the interrupts that wait, and does what is due for the board.
    pub fn look_up(&self) {
        while regs::interrupt_waits() {
            self.take_interrupt();
        }
        self.serve_devices();
    }

    /// Whether the console line has something for this core, which sees to it now. Its interrupt stays active until then: the line stays
    /// up, and would come again and again to a core that has something else in hand.
    pub fn takes_console(&self) -> bool {
        let waits = self.per_core.console.swap(false, Ordering::SeqCst);
        if waits && let Some(console) = self.interrupts.console {
            self.deactivate(console.id.get());
        }
        waits
    }

    /// Takes an interrupt while no vCPU is loaded.
    pub fn take_interrupt(&self) {
        if self.interrupt() == HostInterrupt::VirtualTimer {
            // It came too late for a vCPU that has left; active, it would keep the next one's from coming.
            self.deactivate(interrupts::virtual_timer());
        }
    }

    /// Whether a vCPU that waits should leave this core: there are too many of them, or the core has other work.
    pub fn wants_sharing(&self) -> bool {
        queue::is_shared() || self.per_core.work_at.load(Ordering::Relaxed) != u64::MAX
    }

    /// Whether this core has just worked, and it is the turn of a vCPU.
    pub fn is_resting(&self) -> bool {
        let until = self.per_core.work_at.load(Ordering::Relaxed);
        until != u64::MAX && until > timer::now()
    }

    /// This core has nothing in hand that it found among the guests, but for one that stays.
    ///
    /// # Safety
    /// That is so: the one that it keeps is a guest that it runs, or puts into memory.
    pub unsafe fn pass(&self) {
        // SAFETY: this core calls. A guest is not withdrawn while a vCPU of it runs, or while a core puts it into memory.
        unsafe { percore::LAPS.pass(self.core.into()) };
    }

    /// Has this core look again whether the virtual timer's interrupt is active.
    fn look_at_timer_soon(&self) {
        let look = timer::now() + net::ticks(TIMER_LOOK_US);
        self.per_core.timer_look.store(look, Ordering::Relaxed);
        self.rearm();
    }

    /// EL2's timer has come: as long as the virtual timer's interrupt is active it comes again.
    fn look_at_timer(&self) {
        let due = &self.per_core.timer_look;
        if due.load(Ordering::Relaxed) <= timer::now() {
            due.store(u64::MAX, Ordering::Relaxed);
            let virtual_timer = self.interrupts.virtual_timer.get();
            let gic = &self.interrupts.gic;
            if gic.is_active_private(self.core.into(), virtual_timer) {
                self.look_at_timer_soon();
            }
        }
    }

    /// An interrupt of the board's own.
    fn serve(&self, intid: u32) {
        let console = self.interrupts.console.map(|console| console.id.get());
        if intid == KICK {
            if fault::has_failed() {
                fault::halt();
            }
            percore::publish_instructions();
        } else if intid == self.interrupts.el2_timer.get() {
            timer::arm_el2(None);
            self.look_at_timer();
            self.per_core.reschedule.store(true, Ordering::SeqCst);
        } else if Some(intid) == console {
            self.per_core.console.store(true, Ordering::SeqCst);
            self.per_core.reschedule.store(true, Ordering::SeqCst);
        } else if let Some(devices) = interrupts::devices() {
            if devices.card == Some(intid)
                && let Some(network) = net::network()
            {
                network.interrupt();
            }
            if devices.disk == Some(intid)
                && let Some(disk) = disk::disk()
            {
                disk.interrupt();
            }
            self.per_core.reschedule.store(true, Ordering::SeqCst);
        }
        // Nothing else was let through.
    }
}

impl Host for CoreHost {
    type Console<'a> = GuestConsole;
    type Network<'a> = net::ports::View<'a>;
    type Disk<'a> = disk::Requests;

    #[inline(always)]
    fn core(&self) -> u8 {
        self.core
    }

    #[inline]
    fn interrupt(&self) -> HostInterrupt {
        let gic = &self.interrupts.gic;
        let interrupt = gic.acknowledge();
        if interrupt.is_spurious() {
            return HostInterrupt::Other;
        }
        gic.drop_priority(interrupt);
        if interrupt.intid() == self.interrupts.virtual_timer.get() {
            if self.interrupts.forgets_lines {
                self.look_at_timer_soon();
            }
            return HostInterrupt::VirtualTimer;
        }
        let maintenance = interrupt.intid() == self.interrupts.maintenance.get();
        if !maintenance {
            self.serve(interrupt.intid());
        }
        if Some(interrupt.intid()) != self.interrupts.console.map(|console| console.id.get()) {
            gic.deactivate(interrupt);
        }
        if maintenance {
            HostInterrupt::Maintenance
        } else {
            HostInterrupt::Other
        }
    }

    #[inline(always)]
    fn is_asked(&self) -> bool {
        self.per_core.reschedule.load(Ordering::SeqCst)
    }

    fn should_leave(&self) -> bool {
        self.per_core.reschedule.store(false, Ordering::SeqCst);
        self.serve_devices();
        // SAFETY: a vCPU on its core asks, with nothing in hand but its guest.
        unsafe { self.pass() };
        let leave = self.per_core.console.load(Ordering::SeqCst)
            || queue::should_yield(self.core)
            || work::is_waiting() && !self.is_resting()
            || self.per_core.work_at.load(Ordering::Relaxed) <= timer::now()
            || self.is_shared() != self.wants_sharing();
        if !leave {
            self.rearm();
        }
        leave
    }

    fn is_shared(&self) -> bool {
        self.per_core.shared.load(Ordering::Relaxed)
    }

    fn activate(&self, intid: u32) {
        self.interrupts
            .gic
            .activate_private(self.core.into(), intid);
    }

    fn deactivate(&self, intid: u32) {
        self.interrupts.gic.deactivate_intid(intid);
    }

    #[inline]
    fn kick(&self, core: u8) {
        self.interrupts.gic.kick(core.into());
    }

    fn wake(&self, guest: usize, vcpu: usize) {
        queue::wake(queue::entity(guest, vcpu));
    }

    fn turn_on(&self, guest: usize, vcpu: usize) {
        queue::turn_on(queue::entity(guest, vcpu));
    }

    fn set_deadline(&self, deadline: Option<u64>) {
        let deadline = deadline.unwrap_or(u64::MAX);
        if self.per_core.guest_deadline.load(Ordering::Relaxed) != deadline {
            self.per_core
                .guest_deadline
                .store(deadline, Ordering::Relaxed);
            self.rearm();
        }
    }

    fn watch(&self, guest: usize) {
        guests::watch(guest);
    }

    fn memory_fault(&self, guest: usize, fault: Fault) -> dirty::Found {
        guests::memory_fault(guest, fault)
    }

    #[inline]
    fn console(&self, guest: usize) -> GuestConsole {
        GuestConsole(guest)
    }

    #[inline]
    fn network(&self) -> net::ports::View<'_> {
        net::network()
            .expect("a card is a port of a switch")
            .view(self)
    }

    #[inline]
    fn disk(&self, guest: usize, slot: usize) -> disk::Requests {
        disk::Requests::new(guest, slot)
    }
}

/// A guest's place on the board's line.
pub struct GuestConsole(usize);

impl Sink for GuestConsole {
    #[inline]
    fn put(&mut self, byte: u8) {
        console::put(self.0, byte);
    }

    #[inline]
    fn is_full(&self) -> bool {
        console::is_full(self.0)
    }
}
