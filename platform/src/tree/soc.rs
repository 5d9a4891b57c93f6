//! Cores, firmware, the interrupt controller, the timer, and the devices that the image drives.
//!
//! Sources: Linux' bindings arm/cpus.yaml, arm/psci.yaml, interrupt-controller/arm,gic.yaml and arm,gic-v3.yaml,
//! timer/arm,arch_timer.yaml, serial/pl011.yaml, virtio/mmio.yaml, watchdog/brcm,bcm2835-pm-wdog.yaml.

use heapless::Vec;

use super::node::{Node, Nodes, strings};
use super::{
    Affinity, Conduit, Console, Core, Fault, Gic, GicV2, GicV3, IntId, Landmarks, Psci,
    PsciVersion, Region, StartMethod, Timer, Tree, Uart, VirtioSlot,
};

const GIC_V2: &[&str] = &[
    "arm,gic-400",
    "arm,cortex-a15-gic",
    "arm,cortex-a9-gic",
    "arm,cortex-a7-gic",
];
const GIC_V3: &[&str] = &["arm,gic-v3"];
const PSCI_0_1: &[&str] = &["arm,psci"];
const PSCI_0_2: &[&str] = &["arm,psci-0.2"];
const PSCI_1_0: &[&str] = &["arm,psci-1.0"];
const TIMER: &[&str] = &["arm,armv8-timer", "arm,armv7-timer"];
const PL011: &[&str] = &["arm,pl011"];
const VIRTIO: &[&str] = &["virtio,mmio"];
const WATCHDOG: &[&str] = &["brcm,bcm2835-pm-wdt"];
/// The timer's interrupts in the order that a tree without names lists them.
const TIMER_ORDER: [&str; 5] = ["sec-phys", "phys", "virt", "hyp-phys", "hyp-virt"];

/// Whether `node` is an interrupt controller that is known here.
pub(super) fn is_gic(node: &Node<'_>) -> bool {
    node.is_compatible(GIC_V2) || node.is_compatible(GIC_V3)
}

/// Reads a node of a kind known here into its place; all others pass by.
pub(super) fn take(
    tree: &mut Tree,
    node: &Node<'_>,
    landmarks: &Landmarks<'_>,
) -> Result<(), Fault> {
    if landmarks
        .cpus
        .is_some_and(|cpus| node.is_below(&cpus) && node.level() == 2)
    {
        return take_core(tree, node);
    }
    let Some(kind) = kind(node).filter(|_| node.is_usable()) else {
        return Ok(());
    };
    match kind {
        Kind::Psci => tree.psci = read_psci(node),
        Kind::Gic if tree.gic.is_none() => tree.gic = Some(read_gic(node, landmarks.gic)?),
        Kind::Timer if tree.timer.is_none() => tree.timer = Some(read_timer(node, landmarks.gic)),
        Kind::Gic | Kind::Timer => {}
        Kind::Pl011 => take_uart(tree, node, landmarks)?,
        Kind::Virtio => {
            let slot = VirtioSlot {
                region: node.region()?,
                interrupt: node.interrupt(landmarks.gic, 0),
                coherent: node.is_coherent(),
            };
            tree.virtio.push(slot).map_err(|_| Fault::Full)?;
        }
        Kind::Watchdog => tree.watchdog = Some(node.region()?),
    }
    Ok(())
}

/// The kinds of devices that are read.
#[derive(Clone, Copy)]
enum Kind {
    Psci,
    Gic,
    Timer,
    Pl011,
    Virtio,
    Watchdog,
}

/// What `node` is, by its `compatible`.
fn kind(node: &Node<'_>) -> Option<Kind> {
    let list = node.property("compatible")?;
    let known = [
        (Kind::Virtio, VIRTIO),
        (Kind::Pl011, PL011),
        (Kind::Timer, TIMER),
        (Kind::Gic, GIC_V2),
        (Kind::Gic, GIC_V3),
        (Kind::Psci, PSCI_0_1),
        (Kind::Psci, PSCI_0_2),
        (Kind::Psci, PSCI_1_0),
        (Kind::Watchdog, WATCHDOG),
    ];
    let is = |wanted: &[&str]| strings(list).any(|name| wanted.contains(&name));
    known
        .into_iter()
        .find(|(_, names)| is(names))
        .map(|(kind, _)| kind)
}

/// A child of `/cpus`, where it is a core in use.
fn take_core(tree: &mut Tree, node: &Node<'_>) -> Result<(), Fault> {
    let is_core = node.text("device_type") == Some("cpu") || node.base_name() == "cpu";
    if !is_core || !node.is_usable() {
        return Ok(());
    }
    let start = match node.text("enable-method") {
        Some("psci") => StartMethod::Psci,
        Some("spin-table") => StartMethod::SpinTable {
            release_address: node
                .number("cpu-release-addr")
                .ok_or(Fault::NoReleaseAddress)?,
        },
        _ => StartMethod::Unsaid,
    };
    let core = Core {
        affinity: Affinity::from_mpidr(node.unit()?),
        start,
    };
    tree.cores.push(core).map_err(|_| Fault::Full)
}

fn read_psci(node: &Node<'_>) -> Option<Psci> {
    let conduit = match node.text("method")? {
        "smc" => Conduit::Smc,
        "hvc" => Conduit::Hvc,
        _ => return None,
    };
    let version = if node.is_compatible(PSCI_1_0) {
        PsciVersion::V1_0
    } else if node.is_compatible(PSCI_0_2) {
        PsciVersion::V0_2
    } else {
        PsciVersion::V0_1
    };
    Some(Psci { conduit, version })
}

fn read_gic(node: &Node<'_>, handle: Option<u32>) -> Result<Gic, Fault> {
    let maintenance = node.interrupt(handle, 0).map(|interrupt| interrupt.id);
    let mut regions = node.regions();
    let distributor = regions.next().unwrap_or(Err(Fault::NoReg))?;
    if node.is_compatible(GIC_V2) {
        return Ok(Gic::V2(GicV2 {
            distributor,
            cpu_interface: regions.next().unwrap_or(Err(Fault::NoReg))?,
            hypervisor_interface: regions.next().transpose()?,
            virtual_cpu_interface: regions.next().transpose()?,
            maintenance,
        }));
    }
    // Behind the redistributors stand GICC, GICH and GICV of a controller that can play a GICv2; not used.
    let count = node.cell("#redistributor-regions").unwrap_or(1);
    let mut redistributors = Vec::new();
    for _ in 0..count {
        let region: Region = regions.next().unwrap_or(Err(Fault::NoReg))?;
        redistributors.push(region).map_err(|_| Fault::Full)?;
    }
    let redistributor_stride = node
        .number("redistributor-stride")
        .filter(|&stride| stride != 0);
    Ok(Gic::V3(GicV3 {
        distributor,
        redistributors,
        redistributor_stride,
        maintenance,
    }))
}

/// The timer's interrupts, by name where the tree names them, else in the order of old.
fn read_timer(node: &Node<'_>, handle: Option<u32>) -> Timer {
    let names = node.property("interrupt-names");
    let find = |role: usize| -> Option<IntId> {
        let index = match names {
            Some(names) => strings(names).position(|name| name == TIMER_ORDER[role])?,
            None => role,
        };
        node.interrupt(handle, index).map(|interrupt| interrupt.id)
    };
    Timer {
        secure: find(0),
        physical: find(1),
        virt: find(2),
        hyp: find(3),
        hyp_virtual: find(4),
        frequency: node.cell("clock-frequency"),
    }
}

/// Keeps a UART, and makes it the console if it is the wished one, or the first.
fn take_uart(tree: &mut Tree, node: &Node<'_>, landmarks: &Landmarks<'_>) -> Result<(), Fault> {
    if tree.uarts.is_full() {
        return Err(Fault::Full);
    }
    let uart = Uart {
        region: node.region()?,
        interrupt: node.interrupt(landmarks.gic, 0),
        clock: fixed_clock(node, landmarks),
    };
    let index = tree.uarts.len();
    tree.uarts.push(uart).map_err(|_| Fault::Full)?;
    match &landmarks.stdout {
        Some((wished, baud)) if wished.is_same(node) => {
            tree.console = Some(Console {
                uart: index,
                baud: *baud,
            });
        }
        _ if tree.console.is_none() => {
            tree.console = Some(Console {
                uart: index,
                baud: None,
            })
        }
        _ => {}
    }
    Ok(())
}

/// The frequency of a device's first clock, where that clock is a fixed one.
fn fixed_clock(node: &Node<'_>, landmarks: &Landmarks<'_>) -> Option<u32> {
    let handle = node.cell("clocks")?;
    let clock = Nodes::new(landmarks.blob).find(|other| other.cell("phandle") == Some(handle))?;
    clock
        .is_compatible(&["fixed-clock"])
        .then(|| clock.cell("clock-frequency"))?
}
