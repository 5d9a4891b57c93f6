//! A guest's interrupt controller.
//!
//! # Layers
//! Read in this order:
//! - [`ids`]: the quantities, each a type.
//! - `state`: the state of every interrupt as bitmaps; [`model`]: what changes it: lines, pulses, SGIs, routes.
//! - [`list`]: list registers, decoded, in both encodings, and the trait that the hardware side implements.
//! - `resident`: moving interrupts from the model into list registers ([`Vgic::flush`]), and `fold` back ([`Vgic::fold`]);
//!   `overflow` chooses when not all fit, `mapped` keeps the virtual timer's physical interrupt in step.
//! - `register`, `write`: what each guest-visible register does, whatever its address.
//! - `record`: the controller as bytes.
//! - `v2`, `v3`: where GICv2 and GICv3 keep those registers, and how each sends SGIs.
//!
//! It is pure logic: it allocates nothing, touches no hardware, holds no lock and never panics, whatever the guest
//! does. The caller keeps one [`Vgic`] for a guest behind one lock.
//!
//! # Words
//! An interrupt is *listed* (resident) while it occupies a list register of the core on which its virtual processor
//! is loaded; its true state is then in that hardware. A virtual processor is *loaded* from [`Vgic::load`] to
//! [`Vgic::unload`].
//!
//! # How to drive it
//! - Every call that may concern another virtual processor returns a [`VcpuMask`]. Each of its members must come to
//!   a [`Vgic::flush`] soon: one that is running is kicked, one that waits in WFI is woken. The mask may name
//!   the caller's own. A call that finds a virtual processor already asked for does not name it again.
//! - `flush` before each entry. With nothing to do it is a load and a branch. It brings back what the list
//!   registers hold only when something that they hold has to change, so most exits never read them.
//! - On the maintenance interrupt: `fold`, then `flush`. On WFI: `fold`, then ask [`Vgic::deliverable`].
//! - The virtual timer's interrupt comes by [`Vgic::deliver_mapped`], and goes by [`Vgic::lower_mapped`] when the guest has
//!   turned its timer off before it looked.
//! - `load` and `unload` around a stay on a core. They tell whether the mapped interrupt (the virtual timer's) is
//!   in flight: its physical interrupt must then be set active after `load`, and inactive after `unload`.
//!
//! # What is eventually consistent
//! While an interrupt is listed on a virtual processor that is running now, the model does not know whether it was
//! acknowledged or ended since the last `flush`. So:
//! - a read of pending or active state by another virtual processor shows the state of that `flush`, changed by what
//!   was written since, and asks for the holder, so that a guest that polls sees the truth soon. A read by the holder
//!   itself is exact;
//! - withdrawing an interrupt (disabling it or its group, clearing its pending state, lowering its line, routing it
//!   elsewhere) takes effect when the holder has exited and flushed; until then it may still acknowledge it, as it
//!   could on hardware in the time that the change takes to arrive;
//! - a changed priority reaches a listed interrupt in the same way;
//! - when more interrupts wait than there are list registers, the most urgent are listed. The next ones follow when
//!   all listed ones were acknowledged, or at the next flush with something to do.
//!
//! # What is not exact
//! - An active interrupt that no list register holds is ended by counting: the most urgent first. A guest that changes
//!   the priority of an active interrupt, or ends one that it never acknowledged while others are nested deeper than there are list
//!   registers, may see another one end. Only that guest is concerned.
//! - A guest that separates priority drop from deactivation has to deactivate an SPI on the processor that acknowledged it,
//!   unless its deactivations are always trapped and brought to [`Vgic::deactivate`].
//! - Interrupts of a group that the guest's CPU interface does not take count as pending like any others, and may fill the
//!   list registers.
//!
//! # Choices where the architecture leaves one
//! - An SPI with several targets (GICv2), or for any processor (GICv3, IRM), goes to the target with the lowest
//!   number; for IRM to the lowest that is awake by its GICR_WAKER, or else the first. It stays with the virtual
//!   processor that acknowledged it until it is deactivated.
//! - GICR_WAKER's handshake is answered, but a sleeping redistributor still delivers, as images that never wake it expect.
//! - SGIs are enabled at reset and can be disabled. PPIs are level-sensitive. GICv2 interrupts reset to group 0,
//!   GICv3's to group 1.
//! - The guest's own masks (PMR, the CPU interface's group enables) are the hardware's business; the model does not see them.

mod fold;
pub mod ids;
pub mod list;
mod mapped;
pub mod model;
mod overflow;
mod record;
mod register;
mod resident;
mod state;
mod v2;
mod v3;
mod write;

pub use ids::{
    FIRST_SPI, Frame, Group, INTIDS, Intid, MAX_VCPUS, MappedInterrupt, Priority, SgiKind, VcpuId,
    VcpuMask, Version, Width,
};
pub use list::{Control, ListRegister, ListRegisters, MAX_LIST_REGISTERS, Origin, State};
pub use model::{ConfigError, Vgic};
pub use register::Reading;
pub use resident::Unloaded;

#[cfg(test)]
mod tests;
