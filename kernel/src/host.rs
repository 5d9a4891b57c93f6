//! The board as its guests need it, on one core: the kernel's side of [`el2_hyp::host::Host`].

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use el2_hyp::arch::{config, timer};
use el2_hyp::guest::{Guest, Stop};
use el2_hyp::host::{Host, HostInterrupt};
use platform::gic::{Gic, KICK};
use platform::tree::{IntId, Interrupt, Tree};
use spin::Once;

use crate::console::{self, Command};
use crate::core_loop;
use crate::smp::{self, MAX_CORES};

/// The board's interrupts, and the controller that they come by.
pub struct Interrupts {
    gic: Gic,
    virtual_timer: IntId,
    el2_timer: IntId,
    maintenance: IntId,
    console: Option<Interrupt>,
}

static INTERRUPTS: Once<Interrupts> = Once::new();

/// What one core keeps for itself and others may look at.
pub struct PerCore {
    /// Somebody wants this core to look at the queue.
    reschedule: AtomicBool,
    /// When the loaded vCPU needs EL2's timer; `u64::MAX` for never.
    guest_deadline: AtomicU64,
    /// Whether waits of the loaded vCPU trap.
    shared: AtomicBool,
    /// EL2's instructions on this core when it was last asked.
    instructions: AtomicU64,
}

static CORES: [PerCore; MAX_CORES] = [const {
    PerCore {
        reschedule: AtomicBool::new(false),
        guest_deadline: AtomicU64::new(u64::MAX),
        shared: AtomicBool::new(false),
        instructions: AtomicU64::new(0),
    }
}; MAX_CORES];

/// Why the board cannot run guests.
pub enum Unfit {
    /// The device tree does not name a part.
    Missing(&'static str),
    /// The interrupt controller is not usable.
    Gic(platform::gic::GicError),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(part) => write!(f, "its device tree names no {part}"),
            Self::Gic(error) => write!(f, "{error}"),
        }
    }
}

/// Takes the interrupt controller and names the board's interrupts.
pub fn initialise(tree: &Tree) -> Result<(), Unfit> {
    let description = tree.gic.as_ref().ok_or(Unfit::Missing("GICv2 or GICv3"))?;
    let maintenance = match description {
        platform::tree::Gic::V2(gic) => gic.maintenance,
        platform::tree::Gic::V3(gic) => gic.maintenance,
    };
    let timers = tree.timer.ok_or(Unfit::Missing("generic timer"))?;
    // SAFETY: the final map holds the controller's registers; this is its only driver.
    let gic = unsafe { Gic::new(description) }.map_err(Unfit::Gic)?;
    let interrupts = Interrupts {
        gic,
        virtual_timer: timers
            .virt
            .ok_or(Unfit::Missing("virtual timer interrupt"))?,
        el2_timer: timers.hyp.ok_or(Unfit::Missing("EL2 timer interrupt"))?,
        maintenance: maintenance.ok_or(Unfit::Missing("GIC maintenance interrupt"))?,
        console: tree
            .console
            .and_then(|console| tree.uarts[console.uart].interrupt),
    };
    INTERRUPTS.call_once(|| interrupts);
    Ok(())
}

/// The physical interrupt of EL1's virtual timer.
pub fn virtual_timer() -> u32 {
    INTERRUPTS.get().expect("initialised").virtual_timer.get()
}

/// Makes this core take interrupts; core 0 also takes the board's devices'.
pub fn initialise_core(core: usize) -> Result<CoreHost, platform::gic::GicError> {
    let interrupts = INTERRUPTS.get().expect("initialised");
    let gic = &interrupts.gic;
    gic.initialise_core(core)?;
    for intid in [
        interrupts.virtual_timer,
        interrupts.el2_timer,
        interrupts.maintenance,
    ] {
        gic.enable_private(core, intid);
    }
    if core == 0
        && let Some(console) = interrupts.console
    {
        gic.enable_shared(0, console);
    }
    timer::arm_el2(None);
    Ok(CoreHost {
        core: core as u8,
        interrupts,
        per_core: &CORES[core],
    })
}

/// Makes every other core leave its guest.
pub fn kick_all() {
    let Some(interrupts) = INTERRUPTS.get() else {
        return;
    };
    let own = smp::this_core();
    (0..smp::running())
        .filter(|&core| core != own)
        .for_each(|core| interrupts.gic.kick(core));
}

/// Makes every core look at the queue.
pub fn reschedule_all() {
    let own = smp::this_core();
    for (core, state) in CORES.iter().enumerate().take(smp::running()) {
        state.reschedule.store(true, Ordering::SeqCst);
        if core != own
            && let Some(interrupts) = INTERRUPTS.get()
        {
            interrupts.gic.kick(core);
        }
    }
}

/// What each core has spent at EL2, in instructions, as it last said; asks for newer figures.
pub fn instructions() -> impl Iterator<Item = u64> {
    publish_instructions();
    kick_all();
    CORES[..smp::running()]
        .iter()
        .map(|core| core.instructions.load(Ordering::Relaxed))
}

fn publish_instructions() {
    if let Some(count) = config::el2_instructions() {
        let total = &CORES[smp::this_core()].instructions;
        let former = total.load(Ordering::Relaxed);
        total.store(
            former + u64::from(count.wrapping_sub(former as u32)),
            Ordering::Relaxed,
        );
    }
}

/// The board, seen from one core.
pub struct CoreHost {
    core: u8,
    interrupts: &'static Interrupts,
    per_core: &'static PerCore,
}

impl CoreHost {
    /// Makes another core, or this one, look at the queue.
    pub fn reschedule(&self, core: u8) {
        CORES[usize::from(core)]
            .reschedule
            .store(true, Ordering::SeqCst);
        if core != self.core {
            self.interrupts.gic.kick(core.into());
        }
    }

    /// Sets this core's timer for what comes first: the queue's next event or the loaded vCPU's deadline.
    pub fn rearm(&self) {
        let guest = self.per_core.guest_deadline.load(Ordering::Relaxed);
        let queue = core_loop::next_event(self.core).unwrap_or(u64::MAX);
        let first = guest.min(queue);
        timer::arm_el2((first != u64::MAX).then_some(first));
    }

    /// Says whether the vCPU that is about to be loaded shares its core.
    pub fn note_shared(&self, shared: bool) {
        self.per_core.shared.store(shared, Ordering::Relaxed);
    }

    /// The wish to look at the queue has been granted.
    pub fn clear_reschedule(&self) {
        self.per_core.reschedule.store(false, Ordering::SeqCst);
    }

    /// A device of the board's own.
    fn console(&self) {
        console::interrupt(|command| match command {
            Command::Input { guest, byte } => {
                if let Some(slot) = crate::guests::find(guest) {
                    // A guest that does not read loses what its FIFO cannot hold, as on a real line.
                    let _ = slot.guest.receive(self, byte);
                }
            }
            Command::Status => crate::guests::tell_status(),
            Command::PowerOff => {
                crate::guests::all().for_each(|slot| slot.guest.end(self, Stop::Ended));
                crate::power_off();
            }
        });
    }
}

impl Host for CoreHost {
    type Console<'a> = GuestConsole;

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
            return HostInterrupt::VirtualTimer;
        }
        let mut what = HostInterrupt::Other;
        match interrupt.intid() {
            KICK => {
                if crate::fault::has_failed() {
                    crate::fault::halt();
                }
                publish_instructions();
            }
            intid if intid == self.interrupts.maintenance.get() => {
                what = HostInterrupt::Maintenance
            }
            intid if intid == self.interrupts.el2_timer.get() => {
                timer::arm_el2(None);
                self.per_core.reschedule.store(true, Ordering::SeqCst);
            }
            intid
                if self
                    .interrupts
                    .console
                    .is_some_and(|console| console.id.get() == intid) =>
            {
                self.console()
            }
            // Nothing else was let through.
            _ => {}
        }
        gic.deactivate(interrupt);
        what
    }

    #[inline(always)]
    fn is_asked(&self) -> bool {
        self.per_core.reschedule.load(Ordering::SeqCst)
    }

    fn should_leave(&self) -> bool {
        self.clear_reschedule();
        let leave = core_loop::should_yield(self)
            || self.per_core.shared.load(Ordering::Relaxed) != core_loop::is_shared();
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
        self.interrupts.gic.deactivate_private(intid);
    }

    #[inline]
    fn kick(&self, core: u8) {
        self.interrupts.gic.kick(core.into());
    }

    fn wake(&self, guest: &Guest, vcpu: usize) {
        core_loop::wake(self, guest, vcpu);
    }

    fn turn_on(&self, guest: &Guest, vcpu: usize) {
        core_loop::turn_on(self, guest, vcpu);
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

    #[inline]
    fn console(&self, guest: &Guest) -> GuestConsole {
        GuestConsole(guest.id)
    }
}

/// A guest's place on the board's line.
pub struct GuestConsole(usize);

impl el2_hyp::device::pl011::Sink for GuestConsole {
    #[inline]
    fn put(&mut self, byte: u8) {
        console::put(self.0, byte);
    }

    #[inline]
    fn is_full(&self) -> bool {
        console::is_full(self.0)
    }
}
