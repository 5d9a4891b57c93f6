//! PSCI 1.1 (Arm DEN 0022) and SMCCC (DEN 0028) calls, by HVC unless said otherwise.

pub use smccc::psci::{
    PSCI_AFFINITY_INFO_32, PSCI_AFFINITY_INFO_64, PSCI_CPU_OFF, PSCI_CPU_ON_32, PSCI_CPU_ON_64,
    PSCI_CPU_SUSPEND_32, PSCI_CPU_SUSPEND_64, PSCI_FEATURES, PSCI_MIGRATE_INFO_TYPE,
    PSCI_SYSTEM_OFF, PSCI_SYSTEM_RESET, PSCI_VERSION,
};

/// SUCCESS, and "on" as an affinity state.
pub const SUCCESS: i64 = 0;
/// NOT_SUPPORTED.
pub const NOT_SUPPORTED: i64 = -1;
/// INVALID_PARAMETERS.
pub const INVALID_PARAMETERS: i64 = -2;
/// ALREADY_ON.
pub const ALREADY_ON: i64 = -4;
/// ON_PENDING.
pub const ON_PENDING: i64 = -5;
/// INVALID_ADDRESS.
pub const INVALID_ADDRESS: i64 = -9;
/// Affinity state OFF.
pub const STATE_OFF: i64 = 1;

/// Bit of a function identifier: the 64-bit calling convention.
const SMC64: u32 = 1 << 30;

/// The instruction that makes the call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Conduit {
    /// HVC #0
    Hvc,
    /// SMC #0
    Smc,
}

/// Makes a call and gives x0, as signed as the convention of the function has it.
pub fn call_by(conduit: Conduit, function: u32, arguments: [u64; 3]) -> i64 {
    let mut registers = [0; 17];
    registers[..3].copy_from_slice(&arguments);
    let result = match conduit {
        Conduit::Hvc => smccc::hvc64(function, registers)[0],
        Conduit::Smc => smccc::smc64(function, registers)[0],
    };
    if function & SMC64 == 0 {
        i64::from(result as u32 as i32)
    } else {
        result as i64
    }
}

/// Makes a call by HVC.
pub fn call(function: u32, arguments: [u64; 3]) -> i64 {
    call_by(Conduit::Hvc, function, arguments)
}

/// CPU_ON of the vCPU with this MPIDR.
pub fn cpu_on(mpidr: u64, entry: u64, context: u64) -> i64 {
    call(PSCI_CPU_ON_64, [mpidr, entry, context])
}

/// AFFINITY_INFO at the lowest level.
pub fn affinity_info(mpidr: u64) -> i64 {
    call(PSCI_AFFINITY_INFO_64, [mpidr, 0, 0])
}

/// CPU_OFF of the caller.
pub fn cpu_off() -> ! {
    loop {
        call(PSCI_CPU_OFF, [0; 3]);
    }
}

/// Ends the guest.
pub fn system_off() -> ! {
    loop {
        call(PSCI_SYSTEM_OFF, [0; 3]);
    }
}

/// Restarts the guest.
pub fn system_reset() -> ! {
    loop {
        call(PSCI_SYSTEM_RESET, [0; 3]);
    }
}
