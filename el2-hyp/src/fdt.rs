//! The device tree that a guest finds: the guest machine ([`crate::machine`]) in the names of QEMU's `virt`.
//!
//! Source of the nodes' shape: Devicetree Specification 0.4, and Linux' bindings arm/cpus.yaml, arm/psci.yaml,
//! interrupt-controller/arm,gic.yaml and arm,gic-v3.yaml, timer/arm,arch_timer.yaml, serial/pl011.yaml,
//! virtio/mmio.yaml. Only what is there is described: no node for an empty virtio slot.

extern crate alloc;

use core::fmt;

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use vm_fdt::{FdtWriter, FdtWriterResult as Written};

use crate::image::{DEVICE_TREE_BYTES, Place};
use crate::machine::{
    GICC_BASE, GICC_BYTES, GICD_BASE, GICD_BYTES, GICR_BASE, GICR_BYTES, MAX_VCPUS, PANIC_BASE,
    PANIC_BYTES, RAM_BASE, TIMER_PPIS, UART_BASE, UART_BYTES, UART_CLOCK_HZ, UART_SPI,
    VIRTIO_BYTES, VIRTIO_SLOTS, VIRTIO_SPI, WATCHDOG_BYTES, WATCHDOG_CONTROL_BASE,
    WATCHDOG_REFRESH_BASE, WATCHDOG_SPI, virtio_base,
};

/// Handles of nodes that others refer to; QEMU's numbers start here, too.
const CLOCK: u32 = 0x8000;
const GIC: u32 = 0x8001;

/// Interrupt kinds and flags of the GIC's binding.
const SHARED: u32 = 0;
const PRIVATE: u32 = 1;
const EDGE_RISING: u32 = 1;
const LEVEL_HIGH: u32 = 4;

/// PSCI's function numbers (Arm DEN 0022, section 5.1), for guests that take them from the tree.
const PSCI_CPU_SUSPEND: u32 = 0xc400_0001;
const PSCI_CPU_OFF: u32 = 0x8400_0002;
const PSCI_CPU_ON: u32 = 0xc400_0003;

/// Which interrupt controller a guest has: that of its board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestGic {
    /// GICv2
    V2,
    /// GICv3
    V3,
}

/// Random numbers for a guest's kernel. The caller draws them anew for every start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seeds {
    /// Where the kernel moves itself to; 0 leaves it where it is.
    pub kaslr: u64,
    /// The start of the kernel's random numbers.
    pub rng: [u8; 32],
}

impl fmt::Debug for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seeds(..)") // A guest's secrets stay out of logs.
    }
}

/// What differs between guests.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    /// Bytes of memory.
    pub memory: u64,
    /// One to [`MAX_VCPUS`].
    pub vcpus: u8,
    /// The interrupt controller.
    pub gic: GuestGic,
    /// What the kernel is told.
    pub command_line: &'a str,
    /// Where the initrd is.
    pub initrd: Option<Place>,
    /// The occupied virtio slots, each below [`VIRTIO_SLOTS`].
    pub virtio: &'a [u8],
    /// Random numbers, where there are any to give.
    pub seeds: Option<Seeds>,
}

/// Why there is no tree.
#[derive(Debug, PartialEq, Eq)]
pub enum FdtError {
    /// No vCPU or too many, or a virtio slot that is not there or is named twice.
    Description,
    /// The tree has become larger than [`DEVICE_TREE_BYTES`].
    TooLarge {
        /// How large, bytes.
        bytes: usize,
    },
    /// A text with a NUL in it, or another thing that a tree cannot hold.
    Unwritable(vm_fdt::Error),
}

impl fmt::Display for FdtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Description => write!(f, "vCPUs or virtio slots out of range"),
            Self::TooLarge { bytes } => {
                write!(
                    f,
                    "a guest's device tree of {bytes} bytes; the most is {DEVICE_TREE_BYTES}"
                )
            }
            Self::Unwritable(error) => {
                write!(f, "a guest's device tree cannot be written: {error}")
            }
        }
    }
}

impl core::error::Error for FdtError {}

impl From<vm_fdt::Error> for FdtError {
    fn from(error: vm_fdt::Error) -> Self {
        Self::Unwritable(error)
    }
}

/// Writes the flattened device tree of a guest.
///
/// # Errors
/// An [`FdtError`] for a description that is out of range or does not fit.
pub fn build(guest: &Description<'_>) -> Result<Vec<u8>, FdtError> {
    let slots_sound = guest
        .virtio
        .iter()
        .enumerate()
        .all(|(index, slot)| *slot < VIRTIO_SLOTS && !guest.virtio[..index].contains(slot));
    if !(1..=MAX_VCPUS).contains(&guest.vcpus) || !slots_sound {
        return Err(FdtError::Description);
    }
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    texts(
        &mut fdt,
        "compatible",
        &["hearth,guest-2", "linux,dummy-virt"],
    )?;
    fdt.property_string("model", "Hearth guest machine, version 2")?;
    fdt.property_u32("interrupt-parent", GIC)?;
    fdt.property_null("dma-coherent")?;

    chosen(&mut fdt, guest)?;
    leaf(&mut fdt, "aliases", |fdt| {
        fdt.property_string("serial0", &uart_path())
    })?;
    leaf(&mut fdt, &format!("memory@{RAM_BASE:x}"), |fdt| {
        fdt.property_string("device_type", "memory")?;
        fdt.property_array_u64("reg", &[RAM_BASE, guest.memory])
    })?;
    cpus(&mut fdt, guest.vcpus)?;
    leaf(&mut fdt, "psci", |fdt| {
        texts(
            fdt,
            "compatible",
            &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"],
        )?;
        fdt.property_string("method", "hvc")?;
        fdt.property_u32("cpu_suspend", PSCI_CPU_SUSPEND)?;
        fdt.property_u32("cpu_off", PSCI_CPU_OFF)?;
        fdt.property_u32("cpu_on", PSCI_CPU_ON)
    })?;
    timer(&mut fdt, guest)?;
    gic(&mut fdt, guest)?;
    uart(&mut fdt)?;
    life_signs(&mut fdt)?;
    for &slot in guest.virtio {
        virtio(&mut fdt, slot)?;
    }

    fdt.end_node(root)?;
    let tree = fdt.finish()?;
    let fits = tree.len() as u64 <= DEVICE_TREE_BYTES;
    if fits {
        Ok(tree)
    } else {
        Err(FdtError::TooLarge { bytes: tree.len() })
    }
}

/// Writes a node without children.
fn leaf(
    fdt: &mut FdtWriter,
    name: &str,
    properties: impl FnOnce(&mut FdtWriter) -> Written<()>,
) -> Written<()> {
    let node = fdt.begin_node(name)?;
    properties(fdt)?;
    fdt.end_node(node)
}

/// Writes a list of strings.
fn texts(fdt: &mut FdtWriter, name: &str, texts: &[&str]) -> Written<()> {
    fdt.property_string_list(name, texts.iter().map(ToString::to_string).collect())
}

/// The console's path, for `/chosen` and `/aliases`.
fn uart_path() -> alloc::string::String {
    format!("/pl011@{UART_BASE:x}")
}

fn chosen(fdt: &mut FdtWriter, guest: &Description<'_>) -> Written<()> {
    leaf(fdt, "chosen", |fdt| {
        fdt.property_string("bootargs", guest.command_line)?;
        fdt.property_string("stdout-path", &uart_path())?;
        if let Some(initrd) = guest.initrd {
            fdt.property_u64("linux,initrd-start", RAM_BASE + initrd.offset)?;
            fdt.property_u64("linux,initrd-end", RAM_BASE + initrd.end())?;
        }
        if let Some(seeds) = guest.seeds {
            fdt.property_u64("kaslr-seed", seeds.kaslr)?;
            fdt.property("rng-seed", &seeds.rng)?;
        }
        Ok(())
    })
}

fn cpus(fdt: &mut FdtWriter, count: u8) -> Written<()> {
    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    for index in 0..count {
        leaf(fdt, &format!("cpu@{index:x}"), |fdt| {
            fdt.property_string("device_type", "cpu")?;
            fdt.property_string("compatible", "arm,armv8")?;
            // With one vCPU, too: QEMU leaves it out there, but no guest minds it.
            fdt.property_string("enable-method", "psci")?;
            fdt.property_u32("reg", index.into())
        })?;
    }
    fdt.end_node(cpus)
}

fn timer(fdt: &mut FdtWriter, guest: &Description<'_>) -> Written<()> {
    // A GICv2's tree says in bits 8 to 15 which of its eight CPUs a private interrupt is wired to.
    let wired_to = match guest.gic {
        GuestGic::V2 => ((1 << guest.vcpus) - 1) << 8,
        GuestGic::V3 => 0,
    };
    leaf(fdt, "timer", |fdt| {
        texts(fdt, "compatible", &["arm,armv8-timer", "arm,armv7-timer"])?;
        fdt.property_null("always-on")?;
        let cells: Vec<u32> = TIMER_PPIS
            .iter()
            .flat_map(|&ppi| [PRIVATE, ppi, LEVEL_HIGH | wired_to])
            .collect();
        fdt.property_array_u32("interrupts", &cells)
    })
}

fn gic(fdt: &mut FdtWriter, guest: &Description<'_>) -> Written<()> {
    leaf(fdt, &format!("intc@{GICD_BASE:x}"), |fdt| {
        match guest.gic {
            GuestGic::V2 => {
                fdt.property_string("compatible", "arm,cortex-a15-gic")?;
                fdt.property_array_u64("reg", &[GICD_BASE, GICD_BYTES, GICC_BASE, GICC_BYTES])?;
            }
            GuestGic::V3 => {
                let redistributors = GICR_BYTES * u64::from(guest.vcpus);
                fdt.property_string("compatible", "arm,gic-v3")?;
                fdt.property_u32("#redistributor-regions", 1)?;
                fdt.property_array_u64("reg", &[GICD_BASE, GICD_BYTES, GICR_BASE, redistributors])?;
            }
        }
        fdt.property_null("interrupt-controller")?;
        fdt.property_u32("#interrupt-cells", 3)?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        fdt.property_null("ranges")?;
        fdt.property_phandle(GIC)
    })
}

fn uart(fdt: &mut FdtWriter) -> Written<()> {
    leaf(fdt, "apb-pclk", |fdt| {
        fdt.property_string("compatible", "fixed-clock")?;
        fdt.property_u32("#clock-cells", 0)?;
        fdt.property_u32("clock-frequency", UART_CLOCK_HZ)?;
        fdt.property_string("clock-output-names", "clk24mhz")?;
        fdt.property_phandle(CLOCK)
    })?;
    leaf(fdt, &uart_path()[1..], |fdt| {
        texts(fdt, "compatible", &["arm,pl011", "arm,primecell"])?;
        fdt.property_array_u64("reg", &[UART_BASE, UART_BYTES])?;
        fdt.property_array_u32("interrupts", &[SHARED, UART_SPI, LEVEL_HIGH])?;
        fdt.property_array_u32("clocks", &[CLOCK, CLOCK])?;
        texts(fdt, "clock-names", &["uartclk", "apb_pclk"])
    })
}

/// The watchdog (watchdog/arm,sbsa-gwdt.yaml) and the register that takes a notice of a panic (misc/pvpanic-mmio).
fn life_signs(fdt: &mut FdtWriter) -> Written<()> {
    leaf(fdt, &format!("watchdog@{WATCHDOG_CONTROL_BASE:x}"), |fdt| {
        fdt.property_string("compatible", "arm,sbsa-gwdt")?;
        let frames = [
            WATCHDOG_CONTROL_BASE,
            WATCHDOG_BYTES,
            WATCHDOG_REFRESH_BASE,
            WATCHDOG_BYTES,
        ];
        fdt.property_array_u64("reg", &frames)?;
        fdt.property_array_u32("interrupts", &[SHARED, WATCHDOG_SPI, LEVEL_HIGH])
    })?;
    leaf(fdt, &format!("pvpanic@{PANIC_BASE:x}"), |fdt| {
        fdt.property_string("compatible", "qemu,pvpanic-mmio")?;
        fdt.property_array_u64("reg", &[PANIC_BASE, PANIC_BYTES])
    })
}

fn virtio(fdt: &mut FdtWriter, slot: u8) -> Written<()> {
    let base = virtio_base(slot);
    leaf(fdt, &format!("virtio_mmio@{base:x}"), |fdt| {
        fdt.property_string("compatible", "virtio,mmio")?;
        fdt.property_array_u64("reg", &[base, VIRTIO_BYTES])?;
        fdt.property_array_u32(
            "interrupts",
            &[SHARED, VIRTIO_SPI + u32::from(slot), EDGE_RISING],
        )?;
        fdt.property_null("dma-coherent")
    })
}

#[cfg(test)]
mod tests;
