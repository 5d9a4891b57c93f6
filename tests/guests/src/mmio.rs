//! Device accesses by exactly one plain load or store.
//!
//! A compiler may turn a volatile access into a form with writeback, for which the hardware gives a hypervisor no syndrome.

/// Reads a 32-bit register.
pub fn read32(address: usize) -> u32 {
    let value: u32;
    // SAFETY: addresses are of devices, which hold no Rust object; a fault is caught by the vectors.
    unsafe {
        core::arch::asm!("ldr {0:w}, [{1}]", out(reg) value, in(reg) address, options(nostack))
    };
    value
}

/// Writes a 32-bit register.
pub fn write32(address: usize, value: u32) {
    // SAFETY: addresses are of devices, which hold no Rust object; a fault is caught by the vectors.
    unsafe {
        core::arch::asm!("str {0:w}, [{1}]", in(reg) value, in(reg) address, options(nostack))
    };
}

/// Reads an 8-bit register.
pub fn read8(address: usize) -> u8 {
    let value: u32;
    // SAFETY: addresses are of devices, which hold no Rust object; a fault is caught by the vectors.
    unsafe {
        core::arch::asm!("ldrb {0:w}, [{1}]", out(reg) value, in(reg) address, options(nostack))
    };
    value as u8
}

/// Writes an 8-bit register.
pub fn write8(address: usize, value: u8) {
    // SAFETY: addresses are of devices, which hold no Rust object; a fault is caught by the vectors.
    unsafe {
        core::arch::asm!("strb {0:w}, [{1}]", in(reg) u32::from(value), in(reg) address, options(nostack))
    };
}

/// Reads a 64-bit register.
pub fn read64(address: usize) -> u64 {
    let value: u64;
    // SAFETY: addresses are of devices, which hold no Rust object; a fault is caught by the vectors.
    unsafe {
        core::arch::asm!("ldr {0}, [{1}]", out(reg) value, in(reg) address, options(nostack))
    };
    value
}

/// Writes a 64-bit register.
pub fn write64(address: usize, value: u64) {
    // SAFETY: addresses are of devices, which hold no Rust object; a fault is caught by the vectors.
    unsafe { core::arch::asm!("str {0}, [{1}]", in(reg) value, in(reg) address, options(nostack)) };
}

/// All memory and device accesses before this are complete before anything after it.
pub fn barrier() {
    // SAFETY: barriers change no state.
    unsafe { core::arch::asm!("dsb sy", "isb", options(nostack)) };
}
