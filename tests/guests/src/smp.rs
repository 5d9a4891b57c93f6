//! The vCPUs: each one's local record, and starting and ending the others.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::start::MAX_CPUS;
use crate::{Machine, gic, machine, psci, read_sysreg, timer};

/// Bytes of one [`Local`]; `start.S` strides by it.
pub const LOCAL_BYTES: usize = size_of::<Local>();

/// How long a vCPU may take to start or end, in seconds.
const PATIENCE_SECONDS: u64 = 10;

/// What a vCPU keeps for itself, found through TPIDR_EL1. The assembly knows its offsets.
#[repr(C, align(256))]
pub struct Local {
    /// Not zero while a probe runs.
    pub(crate) active: UnsafeCell<u64>,
    /// ESR and FAR of the probe's fault.
    pub(crate) esr: UnsafeCell<[u64; 2]>,
    /// ELR of the probe's fault.
    pub(crate) elr: UnsafeCell<u64>,
    /// x19 to x30, sp and the register block of the probe.
    pub(crate) saved: UnsafeCell<[u64; 14]>,
    pub(crate) scratch: UnsafeCell<u64>,
    /// SErrors taken.
    pub(crate) serrors: AtomicU64,
    /// Base of this vCPU's redistributor, GICv3 only.
    pub(crate) redistributor: AtomicUsize,
    /// What the vCPU was started to do.
    program: AtomicUsize,
    /// SCTLR_EL1 and DAIF as the vCPU found them when it was started.
    found: [AtomicU64; 2],
}

// SAFETY: the cells are used by their own vCPU only, between `run_probe` and its return; the rest is atomic.
unsafe impl Sync for Local {}

#[unsafe(no_mangle)]
static CPU_LOCALS: [Local; MAX_CPUS] = [const {
    Local {
        active: UnsafeCell::new(0),
        esr: UnsafeCell::new([0; 2]),
        elr: UnsafeCell::new(0),
        saved: UnsafeCell::new([0; 14]),
        scratch: UnsafeCell::new(0),
        serrors: AtomicU64::new(0),
        redistributor: AtomicUsize::new(0),
        program: AtomicUsize::new(0),
        found: [const { AtomicU64::new(0) }; 2],
    }
}; MAX_CPUS];

// SAFETY: `start.S` defines it; its address alone is taken.
unsafe extern "C" {
    fn secondary_start();
}

/// The calling vCPU's record.
pub fn local() -> &'static Local {
    &CPU_LOCALS[this_cpu()]
}

/// Where TPIDR_EL1 of vCPU `index` points, always.
pub fn local_address(index: usize) -> u64 {
    &raw const CPU_LOCALS[index] as u64
}

/// Index of the calling vCPU.
pub fn this_cpu() -> usize {
    (read_sysreg!("tpidr_el1") - local_address(0)) as usize / LOCAL_BYTES
}

/// SErrors that the calling vCPU took so far.
pub fn serrors() -> u64 {
    local().serrors.load(Ordering::Relaxed)
}

/// SCTLR_EL1 and DAIF as vCPU `index` found them when it was last started.
pub fn found_at_start(index: usize) -> (u64, u64) {
    let found = &CPU_LOCALS[index].found;
    (
        found[0].load(Ordering::Relaxed),
        found[1].load(Ordering::Relaxed),
    )
}

/// Where PSCI lets a vCPU start; the context is its index.
pub fn entry_point() -> u64 {
    secondary_start as *const () as u64
}

/// Called once, on vCPU 0.
pub(crate) fn init(machine: &Machine) {
    gic::init(machine);
}

/// Tells vCPU `index` what to do when it comes on, without starting it.
pub fn set_program(index: usize, program: fn(usize)) {
    CPU_LOCALS[index]
        .program
        .store(program as usize, Ordering::Release);
}

/// Starts vCPU `index` on `program`, which is given the index; when it returns the vCPU turns itself off.
///
/// # Errors
/// What CPU_ON answered.
pub fn start(index: usize, program: fn(usize)) -> Result<(), i64> {
    set_program(index, program);
    let mpidr = machine::get()
        .and_then(|machine| machine.cpus().get(index).copied())
        .ok_or(psci::INVALID_PARAMETERS)?;
    match psci::cpu_on(mpidr, entry_point(), index as u64) {
        psci::SUCCESS => Ok(()),
        error => Err(error),
    }
}

/// Waits until vCPU `index` is off; false when that takes too long.
pub fn wait_off(index: usize) -> bool {
    let Some(mpidr) = machine::get().and_then(|machine| machine.cpus().get(index)) else {
        return false;
    };
    timer::wait_until(PATIENCE_SECONDS * 1_000, || {
        psci::affinity_info(*mpidr) == psci::STATE_OFF
    })
}

/// Called by `start.S` on a vCPU that was started.
#[unsafe(no_mangle)]
extern "C" fn guest_secondary(index: usize, sctlr: u64, daif: u64) -> ! {
    CPU_LOCALS[index].found[0].store(sctlr, Ordering::Relaxed);
    CPU_LOCALS[index].found[1].store(daif, Ordering::Relaxed);
    gic::init_cpu();
    let program = CPU_LOCALS[index].program.load(Ordering::Acquire);
    // SAFETY: only `set_program` stores here, and always a `fn(usize)`.
    let program: fn(usize) = unsafe { core::mem::transmute::<usize, fn(usize)>(program) };
    program(index);
    crate::exception::mask_interrupts();
    psci::cpu_off()
}
