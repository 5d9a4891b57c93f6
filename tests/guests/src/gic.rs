//! The interrupt controller as its registers are: GICv2 (Arm IHI 0048) and GICv3 (IHI 0069), one set of functions over both.
//!
//! It stays close to the registers on purpose: these programs test somebody's registers, and a driver that corrects or caches would hide
//! what they do. GICv3 runs all interrupts in group 1, GICv2 in group 0, as Linux does without a secure world.

use spin::Once;

use crate::machine::GicFrames;
use crate::{Machine, machine, mmio, read_sysreg, smp, write_sysreg};

/// Distributor control.
pub const GICD_CTLR: usize = 0x000;
/// Distributor type.
pub const GICD_TYPER: usize = 0x004;
/// Distributor implementer.
pub const GICD_IIDR: usize = 0x008;
/// Group of 32 interrupts.
pub const IGROUPR: usize = 0x080;
/// Set enable.
pub const ISENABLER: usize = 0x100;
/// Clear enable.
pub const ICENABLER: usize = 0x180;
/// Set pending.
pub const ISPENDR: usize = 0x200;
/// Clear pending.
pub const ICPENDR: usize = 0x280;
/// Set active.
pub const ISACTIVER: usize = 0x300;
/// Clear active.
pub const ICACTIVER: usize = 0x380;
/// Priorities, a byte each.
pub const IPRIORITYR: usize = 0x400;
/// Targets, a byte each, GICv2.
pub const ITARGETSR: usize = 0x800;
/// Trigger, two bits each.
pub const ICFGR: usize = 0xc00;
/// Send an SGI, GICv2.
pub const GICD_SGIR: usize = 0xf00;
/// Clear pending SGI sources, GICv2.
pub const CPENDSGIR: usize = 0xf10;
/// Set pending SGI sources, GICv2.
pub const SPENDSGIR: usize = 0xf20;
/// Routes, eight bytes each, GICv3.
pub const IROUTER: usize = 0x6000;

/// CPU interface, GICv2: control.
const GICC_CTLR: usize = 0x00;
/// Priority mask.
const GICC_PMR: usize = 0x04;
/// Binary point.
const GICC_BPR: usize = 0x08;
/// Acknowledge.
pub const GICC_IAR: usize = 0x0c;
/// End.
pub const GICC_EOIR: usize = 0x10;
/// Highest pending.
const GICC_HPPIR: usize = 0x18;
/// Active priorities of both groups.
const GICC_APR: [usize; 8] = [0xd0, 0xd4, 0xd8, 0xdc, 0xe0, 0xe4, 0xe8, 0xec];
/// Deactivate.
const GICC_DIR: usize = 0x1000;

/// Redistributor: type.
const GICR_TYPER: usize = 0x08;
/// Redistributor: power.
const GICR_WAKER: usize = 0x14;
/// Redistributor: its frame of SGIs and PPIs.
const GICR_SGI_FRAME: usize = 0x1_0000;

/// The least number of an acknowledge that stands for no interrupt.
pub const SPECIAL: u32 = 1020;
/// No interrupt.
pub const SPURIOUS: u32 = 1023;
/// The priority that [`init_cpu`] gives SGIs and PPIs.
pub const DEFAULT_PRIORITY: u8 = 0xa0;

/// Looks at a bit that the controller changes by itself before giving up.
const PATIENCE: usize = 1_000_000;

static FRAMES: Once<GicFrames> = Once::new();

/// What the frames are; [`init`] has run.
pub fn frames() -> GicFrames {
    match FRAMES.get() {
        Some(frames) => *frames,
        None => panic!("GIC used before the device tree is read"),
    }
}

/// Whether this is a GICv3.
pub fn is_v3() -> bool {
    matches!(frames(), GicFrames::V3 { .. })
}

/// Base of the distributor.
pub fn distributor() -> usize {
    match frames() {
        GicFrames::V2 { distributor, .. } | GicFrames::V3 { distributor, .. } => distributor,
    }
}

/// Base of the GICv2 CPU interface, `None` on GICv3.
pub fn cpu_interface() -> Option<usize> {
    match frames() {
        GicFrames::V2 { cpu, .. } => Some(cpu),
        GicFrames::V3 { .. } => None,
    }
}

/// Interrupt identifiers that the distributor has, at most 1020.
pub fn lines() -> u32 {
    (32 * ((mmio::read32(distributor() + GICD_TYPER) & 0x1f) + 1)).min(SPECIAL)
}

/// Enables the distributor, and the interface of vCPU 0.
pub(crate) fn init(machine: &Machine) {
    FRAMES.call_once(|| machine.gic);
    enable_distributor();
    init_cpu();
}

fn enable_distributor() {
    if is_v3() {
        // Affinity routing and group 1, with one security state.
        mmio::write32(distributor() + GICD_CTLR, 0x12);
    } else {
        mmio::write32(distributor() + GICD_CTLR, 1);
    }
    for line in (32..lines()).step_by(32) {
        mmio::write32(distributor() + IGROUPR + line as usize / 8, group());
    }
}

/// What IGROUPR holds: every interrupt in the one group that is used.
fn group() -> u32 {
    if is_v3() { u32::MAX } else { 0 }
}

/// Brings the distributor and the calling vCPU's interface back to what [`init`] leaves, whatever was done to them: nothing enabled but
/// the SGIs, nothing pending or active, no priority held.
pub fn reset() {
    enable_distributor();
    for line in (32..lines()).step_by(32) {
        for register in [ICENABLER, ICPENDR, ICACTIVER] {
            mmio::write32(distributor() + register + line as usize / 8, u32::MAX);
        }
    }
    init_cpu();
    for register in [ICPENDR, ICACTIVER] {
        mmio::write32(bank(0) + register, u32::MAX);
    }
    match cpu_interface() {
        None => {
            write_sysreg!("S3_0_C12_C8_4", 0);
            write_sysreg!("S3_0_C12_C9_0", 0);
        }
        Some(base) => {
            for word in GICC_APR {
                mmio::write32(base + word, 0);
            }
            // QEMU 10 looks at the active priorities again only when something ends.
            mmio::write32(base + GICC_EOIR, 0);
            for word in (0..16).step_by(4) {
                mmio::write32(distributor() + CPENDSGIR + word, u32::MAX);
            }
        }
    }
    mmio::barrier();
}

/// Enables the calling vCPU's interface: no SGI or PPI enabled but the SGIs, all priorities let through.
pub fn init_cpu() {
    if is_v3() {
        init_redistributor();
        write_sysreg!("S3_0_C12_C12_5", 7);
        write_sysreg!("S3_0_C12_C12_3", 0);
    }
    mmio::write32(bank(0) + IGROUPR, group());
    mmio::write32(bank(0) + ICENABLER, 0xffff_0000);
    for register in 0..8 {
        mmio::write32(
            bank(0) + IPRIORITYR + register * 4,
            u32::from(DEFAULT_PRIORITY) * 0x0101_0101,
        );
    }
    mmio::write32(bank(0) + ISENABLER, 0xffff);
    set_mask(0xf0);
    set_split_end(false);
    if is_v3() {
        write_sysreg!("S3_0_C12_C12_7", 1);
    }
}

fn init_redistributor() {
    let Some(base) = find_redistributor() else {
        panic!("no redistributor for vCPU {}", smp::this_cpu())
    };
    smp::local()
        .redistributor
        .store(base, core::sync::atomic::Ordering::Relaxed);
    mmio::write32(base + GICR_WAKER, 0);
    for _ in 0..PATIENCE {
        if mmio::read32(base + GICR_WAKER) & 4 == 0 {
            break;
        }
    }
}

/// The redistributor whose affinity is the calling vCPU's, `None` when no region has it.
pub fn find_redistributor() -> Option<usize> {
    let GicFrames::V3 { redistributors, .. } = frames() else {
        return None;
    };
    let mpidr = read_sysreg!("mpidr_el1");
    let affinity = (mpidr >> 32 & 0xff) << 24 | mpidr & 0xff_ffff;
    for (start, bytes) in redistributors {
        let mut base = start;
        while base < start + bytes {
            let kind = mmio::read64(base + GICR_TYPER);
            if kind >> 32 == affinity {
                return Some(base);
            }
            // Last of its region, and two more frames where virtual LPIs are supported.
            if kind & 0x10 != 0 {
                break;
            }
            base += if kind & 2 != 0 { 0x4_0000 } else { 0x2_0000 };
        }
    }
    None
}

/// Base of the registers that hold interrupt `id`, for the calling vCPU.
pub fn bank(id: u32) -> usize {
    if id < 32 && is_v3() {
        smp::local()
            .redistributor
            .load(core::sync::atomic::Ordering::Relaxed)
            + GICR_SGI_FRAME
    } else {
        distributor()
    }
}

fn write_bit(register: usize, id: u32) {
    mmio::write32(bank(id) + register + id as usize / 32 * 4, 1 << (id % 32));
}

fn read_bit(register: usize, id: u32) -> bool {
    mmio::read32(bank(id) + register + id as usize / 32 * 4) >> (id % 32) & 1 != 0
}

/// Enables an interrupt.
pub fn enable(id: u32) {
    write_bit(ISENABLER, id);
}

/// Disables an interrupt; no vCPU takes it after this returns.
pub fn disable(id: u32) {
    write_bit(ICENABLER, id);
    mmio::barrier();
}

/// Whether an interrupt is enabled.
pub fn is_enabled(id: u32) -> bool {
    read_bit(ISENABLER, id)
}

/// Makes an interrupt pending.
pub fn set_pending(id: u32) {
    write_bit(ISPENDR, id);
    mmio::barrier();
}

/// Makes an interrupt not pending, unless its line holds it so.
pub fn clear_pending(id: u32) {
    write_bit(ICPENDR, id);
    mmio::barrier();
}

/// Whether an interrupt is pending.
pub fn is_pending(id: u32) -> bool {
    read_bit(ISPENDR, id)
}

/// Makes an interrupt active.
pub fn set_active(id: u32) {
    write_bit(ISACTIVER, id);
    mmio::barrier();
}

/// Makes an interrupt not active.
pub fn clear_active(id: u32) {
    write_bit(ICACTIVER, id);
    mmio::barrier();
}

/// Whether an interrupt is active.
pub fn is_active(id: u32) -> bool {
    read_bit(ISACTIVER, id)
}

/// Sets an interrupt's priority; smaller is more urgent.
pub fn set_priority(id: u32, priority: u8) {
    mmio::write8(bank(id) + IPRIORITYR + id as usize, priority);
}

/// An interrupt's priority as the register gives it back.
pub fn priority(id: u32) -> u8 {
    (mmio::read32(bank(id) + IPRIORITYR + (id as usize & !3)) >> (id % 4 * 8)) as u8
}

/// Sets an interrupt's trigger.
pub fn set_edge(id: u32, edge: bool) {
    let register = bank(id) + ICFGR + id as usize / 16 * 4;
    let bit = 2 << (id % 16 * 2);
    let former = mmio::read32(register);
    mmio::write32(register, if edge { former | bit } else { former & !bit });
}

/// Whether an interrupt is edge triggered.
pub fn is_edge(id: u32) -> bool {
    mmio::read32(bank(id) + ICFGR + id as usize / 16 * 4) & 2 << (id % 16 * 2) != 0
}

/// Sends an SPI to vCPU `index` of the tree.
pub fn set_target(id: u32, index: usize) {
    if is_v3() {
        mmio::write64(distributor() + IROUTER + id as usize * 8, mpidr_of(index));
    } else {
        mmio::write8(distributor() + ITARGETSR + id as usize, 1 << index);
    }
}

fn mpidr_of(index: usize) -> u64 {
    machine::get()
        .and_then(|machine| machine.cpus().get(index).copied())
        .unwrap_or(0)
}

/// The value for ICC_SGI1R that sends SGI `id` to vCPU `index`, GICv3.
pub fn sgi_value(id: u32, index: usize) -> u64 {
    let mpidr = mpidr_of(index);
    let level = |shift: u32| mpidr >> shift & 0xff;
    let rest = level(32) << 48 | level(16) << 32 | level(8) << 16;
    rest | u64::from(id) << 24 | (level(0) >> 4) << 44 | 1 << (level(0) & 0xf)
}

/// Sends SGI `id` to vCPU `index`.
pub fn send_sgi(id: u32, index: usize) {
    // SAFETY: a barrier changes no state; what the receiver is to see is written before the SGI.
    unsafe { core::arch::asm!("dsb ishst", options(nostack)) };
    if is_v3() {
        write_sysreg!("S3_0_C12_C11_5", sgi_value(id, index));
    } else {
        mmio::write32(distributor() + GICD_SGIR, 1 << (16 + index) | id);
    }
}

/// Acknowledges: the interrupt (on GICv2 with an SGI's source above bit 10), or a number from [`SPECIAL`] up.
pub fn acknowledge() -> u32 {
    match cpu_interface() {
        None => {
            let id = read_sysreg!("S3_0_C12_C12_0") as u32;
            mmio::barrier();
            id
        }
        Some(base) => mmio::read32(base + GICC_IAR),
    }
}

/// Ends an interrupt, given what [`acknowledge`] gave.
pub fn end(acknowledged: u32) {
    match cpu_interface() {
        None => write_sysreg!("S3_0_C12_C12_1", acknowledged.into()),
        Some(base) => mmio::write32(base + GICC_EOIR, acknowledged),
    }
}

/// Deactivates an interrupt whose priority was dropped by [`end`] while ends are split.
pub fn deactivate(acknowledged: u32) {
    match cpu_interface() {
        None => write_sysreg!("S3_0_C12_C11_1", acknowledged.into()),
        Some(base) => mmio::write32(base + GICC_DIR, acknowledged),
    }
}

/// Sets EOImode: whether [`end`] only drops the priority.
pub fn set_split_end(split: bool) {
    match cpu_interface() {
        None => write_sysreg!("S3_0_C12_C12_4", u64::from(split) << 1),
        Some(base) => mmio::write32(base + GICC_CTLR, u32::from(split) << 9 | 1),
    }
}

/// Lets only interrupts more urgent than `priority` through.
pub fn set_mask(priority: u8) {
    match cpu_interface() {
        None => write_sysreg!("S3_0_C4_C6_0", priority.into()),
        Some(base) => mmio::write32(base + GICC_PMR, priority.into()),
    }
}

/// Sets the binary point; 0 lets every difference in priority preempt.
pub fn set_binary_point(point: u8) {
    match cpu_interface() {
        None => write_sysreg!("S3_0_C12_C12_3", point.into()),
        Some(base) => mmio::write32(base + GICC_BPR, point.into()),
    }
}

/// The interrupt that an acknowledge would give.
pub fn highest_pending() -> u32 {
    match cpu_interface() {
        None => read_sysreg!("S3_0_C12_C12_2") as u32,
        Some(base) => mmio::read32(base + GICC_HPPIR) & 0x3ff,
    }
}
