//! The board's interrupts, and the controller that they come by.

use core::fmt;

use el2_hyp::arch::timer;
use platform::gic::{Gic, GicError};
use platform::tree::{IntId, Interrupt, Tree};
use spin::Once;

use crate::smp;

/// What the board's interrupts are.
pub struct Interrupts {
    /// The controller.
    pub gic: Gic,
    /// EL1's virtual timer.
    pub virtual_timer: IntId,
    /// EL2's own timer.
    pub el2_timer: IntId,
    /// The virtual CPU interface's maintenance.
    pub maintenance: IntId,
    /// The console line's.
    pub console: Option<Interrupt>,
    /// The controller is of the kind that QEMU has forget lines: see [`crate::host`].
    pub forgets_lines: bool,
}

static INTERRUPTS: Once<Interrupts> = Once::new();

/// The interrupts of the board's card and disk.
#[derive(Default)]
pub struct DeviceInterrupts {
    /// The network card's.
    pub card: Option<u32>,
    /// The disk's.
    pub disk: Option<u32>,
}

static DEVICES: Once<DeviceInterrupts> = Once::new();

/// Those of the board's devices, as soon as they are known.
pub fn devices() -> Option<&'static DeviceInterrupts> {
    DEVICES.get()
}

/// Lets core 0 take the interrupts of card and disk.
pub fn take_devices(card: Option<Interrupt>, disk: Option<Interrupt>) {
    DEVICES.call_once(|| DeviceInterrupts {
        card: card.map(|interrupt| interrupt.id.get()),
        disk: disk.map(|interrupt| interrupt.id.get()),
    });
    let gic = &INTERRUPTS.get().expect("initialised").gic;
    for interrupt in [card, disk].into_iter().flatten() {
        gic.enable_shared(0, interrupt);
    }
}

/// Why the board cannot run guests.
pub enum Unfit {
    /// The device tree does not name a part.
    Missing(&'static str),
    /// The interrupt controller is not usable.
    Gic(GicError),
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
        forgets_lines: matches!(description, platform::tree::Gic::V2(_)),
    };
    INTERRUPTS.call_once(|| interrupts);
    Ok(())
}

/// The physical interrupt of EL1's virtual timer.
pub fn virtual_timer() -> u32 {
    INTERRUPTS.get().expect("initialised").virtual_timer.get()
}

/// Makes this core take interrupts; core 0 also takes the board's devices'.
pub fn initialise_core(core: usize) -> Result<&'static Interrupts, GicError> {
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
    Ok(interrupts)
}

/// Makes another core leave its guest. Nothing before there is a controller.
pub fn kick(core: usize) {
    if let Some(interrupts) = INTERRUPTS.get() {
        interrupts.gic.kick(core);
    }
}

/// Makes every other core leave its guest.
pub fn kick_others() {
    let own = smp::this_core();
    (0..smp::running())
        .filter(|&core| core != own)
        .for_each(kick);
}
