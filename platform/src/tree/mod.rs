//! What a board's device tree says, as plain data.
//!
//! [`Tree::read`] turns a flattened device tree into a [`Tree`]: memory and reservations, cores and how
//! to start them, the interrupt controller, the timer, UARTs and the console, the loader's words. A
//! tree comes from the board's own firmware and is believed, but a damaged one must not take the image
//! down before it can say so: reading never panics, never leaves the given bytes, always ends, and
//! what one node gets wrong costs that node only ([`Tree::left_out`]).
//!
//! Read on in this order: [`blob`] (the format), `node` (a node, its cells, addresses and interrupts), then
//! the collectors `soc` (cores, PSCI, GIC, timer), `memory` and `chosen` (the loader's words, the console).
//!
//! ```no_run
//! use platform::tree::{Gic, Tree, TreeError};
//!
//! fn distributor(firmwares_tree: &[u8], at: u64) -> Result<Option<u64>, TreeError> {
//!     Ok(match Tree::read(firmwares_tree, at)?.gic {
//!         Some(Gic::V2(gic)) => Some(gic.distributor.base()),
//!         Some(Gic::V3(gic)) => Some(gic.distributor.base()),
//!         None => None,
//!     })
//! }
//! ```

pub mod blob;
mod chosen;
mod error;
mod memory;
mod node;
mod soc;
#[cfg(test)]
mod tests;

use core::fmt;

use heapless::{String, Vec};

pub use blob::{HEADER_BYTES, MAX_TREE_BYTES, total_bytes};
pub use error::{Fault, LeftOut, TreeError};

use blob::Blob;
use error::cut;
use node::{Node, Nodes};

/// Most memory regions kept.
pub const MAX_MEMORY: usize = 32;
/// Most reserved regions kept; a tree with more is refused, since forgetting one would be unsafe.
pub const MAX_RESERVED: usize = 32;
/// Most cores kept.
pub const MAX_CORES: usize = 16;
/// Most redistributor regions kept.
pub const MAX_REDISTRIBUTORS: usize = 8;
/// Most PL011 UARTs kept.
pub const MAX_UARTS: usize = 8;
/// Most virtio-mmio slots kept; QEMU's `virt` has 32.
pub const MAX_VIRTIO: usize = 32;
/// Longest model name kept, bytes.
pub const MAX_MODEL_BYTES: usize = 64;
/// Longest command line kept, bytes.
pub const MAX_BOOTARGS_BYTES: usize = 512;
/// Longest node name kept in [`LeftOut`], bytes.
pub const MAX_NAME_BYTES: usize = 32;

/// A range of physical addresses that does not wrap. Its length may be zero for a device whose tree
/// gives no length; memory regions are never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    base: u64,
    size: u64,
}

impl Region {
    /// The region of `size` bytes from `base`, unless it wraps around.
    pub const fn new(base: u64, size: u64) -> Option<Self> {
        match base.checked_add(size) {
            Some(_) => Some(Self { base, size }),
            None => None,
        }
    }

    /// The first physical address.
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// The length in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The first physical address behind the region.
    pub const fn end(&self) -> u64 {
        self.base + self.size // Cannot wrap: `new` has checked.
    }
}

/// A GIC interrupt number: 16 to 31 are private to a core, 32 to 1019 shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IntId(u32);

impl IntId {
    /// The last shared peripheral interrupt (GICv2 and GICv3 architecture, interrupt identifiers).
    pub const LAST: u32 = 1019;

    /// The interrupt `number`, if it is a private or shared peripheral's.
    pub const fn new(number: u32) -> Option<Self> {
        if number >= 16 && number <= Self::LAST {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number as the GIC counts.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// How a device signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Asserted for as long as the device wants attention.
    Level,
    /// A pulse for each event.
    Edge,
}

/// A device's interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number.
    pub id: IntId,
    /// How it is signalled.
    pub trigger: Trigger,
}

/// A region that is not free for use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Where it is.
    pub region: Region,
    /// Why.
    pub kind: ReservedKind,
}

/// Whose a reserved region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservedKind {
    /// From the tree's reservation block.
    Firmware,
    /// A child of `/reserved-memory`.
    Static {
        /// Not even a mapping may exist, since the processor could read ahead into it.
        no_map: bool,
    },
    /// The device tree itself.
    DeviceTree,
    /// The initrd: the boot package.
    Initrd,
}

/// A core's affinity, as its MPIDR_EL1 gives it, other bits clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity(u64);

impl Affinity {
    /// Aff3, Aff2, Aff1 and Aff0 (Arm ARM, MPIDR_EL1).
    pub const MASK: u64 = 0xff_00ff_ffff;

    /// The affinity fields of an MPIDR value.
    pub const fn from_mpidr(mpidr: u64) -> Self {
        Self(mpidr & Self::MASK)
    }

    /// The value to compare with a masked MPIDR, and to give to PSCI.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A core and how to start it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    /// Which core it is.
    pub affinity: Affinity,
    /// How to start it.
    pub start: StartMethod,
}

/// How a core is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartMethod {
    /// By PSCI's CPU_ON; see [`Tree::psci`].
    Psci,
    /// It waits for an event and then looks for an entry address at `release_address`.
    SpinTable {
        /// Physical address of the 64-bit word that releases it.
        release_address: u64,
    },
    /// The tree does not say, as QEMU's for a board with one core.
    Unsaid,
}

/// The instruction that reaches the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// `smc #0`
    Smc,
    /// `hvc #0`
    Hvc,
}

/// What the tree says of the firmware's PSCI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Psci {
    /// How to call it.
    pub conduit: Conduit,
    /// The newest version that its `compatible` names.
    pub version: PsciVersion,
}

/// A version of PSCI that a device tree can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PsciVersion {
    /// `arm,psci`: function numbers are the firmware's own choice.
    V0_1,
    /// `arm,psci-0.2`: standard function numbers.
    V0_2,
    /// `arm,psci-1.0`: and PSCI_FEATURES.
    V1_0,
}

/// The interrupt controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gic {
    /// A GICv2, such as the GIC-400.
    V2(GicV2),
    /// A GICv3 or later with system register interfaces.
    V3(GicV3),
}

/// Where a GICv2 is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GicV2 {
    /// GICD
    pub distributor: Region,
    /// GICC
    pub cpu_interface: Region,
    /// GICH; absent without virtualisation.
    pub hypervisor_interface: Option<Region>,
    /// GICV; absent without virtualisation.
    pub virtual_cpu_interface: Option<Region>,
    /// The maintenance interrupt.
    pub maintenance: Option<IntId>,
}

/// Where a GICv3 is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GicV3 {
    /// GICD
    pub distributor: Region,
    /// GICR frames, each region a row of them ended by GICR_TYPER.Last.
    pub redistributors: Vec<Region, MAX_REDISTRIBUTORS>,
    /// Bytes from one redistributor to the next where that is not the architecture's own distance.
    pub redistributor_stride: Option<u64>,
    /// The maintenance interrupt.
    pub maintenance: Option<IntId>,
}

/// The generic timer's interrupts, all private to a core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    /// EL3's, or secure EL1's.
    pub secure: Option<IntId>,
    /// Non-secure EL1's physical timer.
    pub physical: Option<IntId>,
    /// The virtual timer.
    pub virt: Option<IntId>,
    /// EL2's physical timer.
    pub hyp: Option<IntId>,
    /// EL2's virtual timer (with VHE).
    pub hyp_virtual: Option<IntId>,
    /// A frequency in Hz that overrides CNTFRQ_EL0 where firmware left that wrong.
    pub frequency: Option<u32>,
}

/// A PL011 UART.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uart {
    /// Its registers.
    pub region: Region,
    /// Its interrupt.
    pub interrupt: Option<Interrupt>,
    /// The clock that its divisors divide, Hz, where the tree names a fixed one.
    pub clock: Option<u32>,
}

/// Which UART is the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Console {
    /// Index in [`Tree::uarts`].
    pub uart: usize,
    /// The speed that `stdout-path` asks for, bits per second.
    pub baud: Option<u32>,
}

/// A virtio-mmio slot, occupied or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioSlot {
    /// Its registers.
    pub region: Region,
    /// Its interrupt.
    pub interrupt: Option<Interrupt>,
    /// Whether what it reads and writes in memory goes through the cores' caches (`dma-coherent`).
    pub coherent: bool,
}

/// Random bytes that the loader gave, drawn for this boot.
#[derive(Clone, PartialEq, Eq)]
pub struct RngSeed(pub [u8; Self::BYTES]);

impl RngSeed {
    /// How many are kept; fewer are not taken for a seed.
    pub const BYTES: usize = 32;

    fn new(property: &[u8]) -> Option<Self> {
        property.first_chunk().copied().map(Self)
    }
}

impl fmt::Debug for RngSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RngSeed(..)") // Secrets stay out of logs.
    }
}

/// What a board's device tree says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The board's name in its maker's words.
    pub model: String<MAX_MODEL_BYTES>,
    /// The loader's command line.
    pub bootargs: String<MAX_BOOTARGS_BYTES>,
    /// The boot package.
    pub initrd: Option<Region>,
    /// Random bytes of the loader's, to seed a generator.
    pub rng_seed: Option<RngSeed>,
    /// All memory, in the tree's order, reservations included.
    pub memory: Vec<Region, MAX_MEMORY>,
    /// What of it, or beside it, is not free.
    pub reserved: Vec<Reserved, MAX_RESERVED>,
    /// The cores, in the tree's order.
    pub cores: Vec<Core, MAX_CORES>,
    /// The firmware's power interface.
    pub psci: Option<Psci>,
    /// The interrupt controller.
    pub gic: Option<Gic>,
    /// The generic timer.
    pub timer: Option<Timer>,
    /// The usable PL011 UARTs.
    pub uarts: Vec<Uart, MAX_UARTS>,
    /// The console: the UART that `stdout-path` names if it is a PL011, else the first PL011.
    pub console: Option<Console>,
    /// The virtio-mmio slots, by address.
    pub virtio: Vec<VirtioSlot, MAX_VIRTIO>,
    /// The power manager of a BCM2835 and its successors, which holds a watchdog.
    pub watchdog: Option<Region>,
    /// Nodes that are of a kind read here but could not be used.
    pub left_out: LeftOut,
}

impl Tree {
    /// Reads the flattened tree in `bytes`, which stands at the physical address `at`.
    ///
    /// # Errors
    /// A [`TreeError`] where the whole is damaged. A board whose tree lacks a part gets a `Tree`
    /// without that part, so that there is a console to complain on.
    pub fn read(bytes: &[u8], at: u64) -> Result<Self, TreeError> {
        let blob = Blob::new(bytes)?;
        let mut tree = Self::default();
        let landmarks = Landmarks::find(blob);
        memory::reserve_blocks(&blob, at, &mut tree)?;
        for node in Nodes::new(blob) {
            tree.take(&node, &landmarks)?;
        }
        if let Some(initrd) = tree.initrd {
            memory::reserve(&mut tree, initrd, ReservedKind::Initrd)?;
        }
        memory::reserve_spin_tables(&mut tree)?;
        tree.virtio.sort_unstable_by_key(|slot| slot.region.base());
        Ok(tree)
    }

    /// Reads one node into its place.
    fn take(&mut self, node: &Node<'_>, landmarks: &Landmarks<'_>) -> Result<(), TreeError> {
        memory::take(self, node, landmarks)?;
        let outcome = match node.level() {
            0 => {
                let (model, whole) = cut(node.text("model").unwrap_or_default());
                self.model = model;
                if whole { Ok(()) } else { Err(Fault::Cut) }
            }
            1 if node.name() == "chosen" => chosen::take(self, node),
            _ => soc::take(self, node, landmarks),
        };
        if let Err(fault) = outcome {
            self.left_out.note(node.name(), fault);
        }
        Ok(())
    }
}

/// Nodes that others refer to, found before the rest is read.
struct Landmarks<'a> {
    /// The handle of the interrupt controller.
    gic: Option<u32>,
    /// `/cpus`
    cpus: Option<Node<'a>>,
    /// `/reserved-memory`
    reserved_memory: Option<Node<'a>>,
    /// The node that `stdout-path` names, and the speed behind it.
    stdout: Option<(Node<'a>, Option<u32>)>,
    /// The tree, for looking up clocks by handle.
    blob: Blob<'a>,
}

impl<'a> Landmarks<'a> {
    fn find(blob: Blob<'a>) -> Self {
        let mut found = Self {
            gic: None,
            cpus: None,
            reserved_memory: None,
            stdout: None,
            blob,
        };
        for node in Nodes::new(blob) {
            match (node.level(), node.name()) {
                (1, "cpus") => found.cpus = Some(node),
                (1, "reserved-memory") => found.reserved_memory = Some(node),
                (1, "chosen") => found.stdout = chosen::stdout(blob, &node),
                _ if found.gic.is_none() && soc::is_gic(&node) && node.is_usable() => {
                    found.gic = node.cell("phandle");
                }
                _ => {}
            }
        }
        found
    }
}
