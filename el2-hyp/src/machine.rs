//! The guest machine's contract: what is where, and which interrupt it has. Version 2.
//!
//! It is as close to QEMU's `virt` as what is there allows, so that images made for that run. Interrupt
//! numbers are given as the device tree counts them, from 0 within their kind; [`intid`] makes them the GIC's.

/// The contract's version.
pub const VERSION: u16 = 2;

/// Start of memory. Aligned to 1 GiB.
pub const RAM_BASE: u64 = 0x4000_0000;

/// The distributor.
pub const GICD_BASE: u64 = 0x0800_0000;
/// Bytes of the distributor.
pub const GICD_BYTES: u64 = 0x1_0000;
/// The CPU interface of a GICv2.
pub const GICC_BASE: u64 = 0x0801_0000;
/// Bytes of the CPU interface.
pub const GICC_BYTES: u64 = 0x1_0000;
/// The first redistributor of a GICv3; one follows the other.
pub const GICR_BASE: u64 = 0x080a_0000;
/// Bytes of each vCPU's redistributor.
pub const GICR_BYTES: u64 = 0x2_0000;

/// The console, a PL011.
pub const UART_BASE: u64 = 0x0900_0000;
/// Bytes of the console's registers.
pub const UART_BYTES: u64 = 0x1000;
/// The console's shared interrupt.
pub const UART_SPI: u32 = 1;
/// The console's clock, Hz; nothing depends on it but the divisors that a guest computes.
pub const UART_CLOCK_HZ: u32 = 24_000_000;

/// The watchdog's refresh frame.
pub const WATCHDOG_REFRESH_BASE: u64 = 0x0905_0000;
/// The watchdog's control frame.
pub const WATCHDOG_CONTROL_BASE: u64 = 0x0905_1000;
/// Bytes of each of the watchdog's frames.
pub const WATCHDOG_BYTES: u64 = 0x1000;
/// The shared interrupt of the watchdog's first signal.
pub const WATCHDOG_SPI: u32 = 2;

/// Where a guest tells that it panics.
pub const PANIC_BASE: u64 = 0x0906_0000;
/// Bytes of that register.
pub const PANIC_BYTES: u64 = 2;

/// The first virtio-mmio slot.
pub const VIRTIO_BASE: u64 = 0x0a00_0000;
/// Bytes of a slot, and the distance to the next.
pub const VIRTIO_BYTES: u64 = 0x200;
/// How many slots there are.
pub const VIRTIO_SLOTS: u8 = 32;
/// The first slot's shared interrupt; slot n has this plus n.
pub const VIRTIO_SPI: u32 = 16;

/// The generic timer's private interrupts: secure, physical, virtual, EL2's.
pub const TIMER_PPIS: [u32; 4] = [13, 14, 11, 10];

/// Most vCPUs.
pub const MAX_VCPUS: u8 = 8;

/// The kinds of interrupts that a device tree tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptKind {
    /// Shared by all vCPUs.
    Shared,
    /// Each vCPU has its own.
    Private,
}

/// The GIC's number for interrupt `number` of a kind.
pub const fn intid(kind: InterruptKind, number: u32) -> u32 {
    match kind {
        InterruptKind::Shared => 32 + number,
        InterruptKind::Private => 16 + number,
    }
}

/// The base address of virtio slot `slot`.
pub const fn virtio_base(slot: u8) -> u64 {
    VIRTIO_BASE + VIRTIO_BYTES * slot as u64
}

// Nothing overlaps: each device ends before the next begins, and all of them before memory.
const _: () = assert!(
    GICD_BASE + GICD_BYTES <= GICC_BASE
        && GICC_BASE + GICC_BYTES <= GICR_BASE
        && GICR_BASE + GICR_BYTES * MAX_VCPUS as u64 <= UART_BASE
        && UART_BASE + UART_BYTES <= WATCHDOG_REFRESH_BASE
        && WATCHDOG_REFRESH_BASE + WATCHDOG_BYTES <= WATCHDOG_CONTROL_BASE
        && WATCHDOG_CONTROL_BASE + WATCHDOG_BYTES <= PANIC_BASE
        && PANIC_BASE + PANIC_BYTES <= VIRTIO_BASE
        && virtio_base(VIRTIO_SLOTS) <= RAM_BASE
);
