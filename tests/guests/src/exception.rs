//! Exceptions: the interrupt handler of a program, and probes.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::smp::{self, Local};
use crate::{console, psci, read_sysreg, report};

global_asm!(
    include_str!("vectors.S"),
    active = const offset_of!(Local, active),
    esr = const offset_of!(Local, esr),
    elr = const offset_of!(Local, elr),
    saved = const offset_of!(Local, saved),
    scratch = const offset_of!(Local, scratch),
    serrors = const offset_of!(Local, serrors),
);

/// Exception class: unknown reason, an undefined instruction.
pub const EC_UNDEFINED: u64 = 0x00;
/// Exception class: a system register access that the same level traps.
pub const EC_SYSREG: u64 = 0x18;
/// Exception class: instruction abort, same level.
pub const EC_INSTRUCTION_ABORT: u64 = 0x21;
/// Exception class: data abort, same level.
pub const EC_DATA_ABORT: u64 = 0x25;
/// Fault status: synchronous external abort, not on a table walk.
pub const EXTERNAL_ABORT: u64 = 0x10;

/// What IRQs call, with interrupts masked.
#[unsafe(no_mangle)]
static IRQ_HANDLER: AtomicUsize = AtomicUsize::new(0);

/// Set by the first exception that nobody wanted, so that a second one while reporting does not recurse.
static DYING: AtomicBool = AtomicBool::new(false);

// SAFETY: `vectors.S` defines it with this signature.
unsafe extern "C" {
    fn run_probe(code: *const u32, registers: *mut [u64; 8], translation_off: u64) -> u64;
}

/// Why a probe did not come back by itself.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1; only aborts set it.
    pub far: u64,
    /// ELR_EL1.
    pub elr: u64,
}

impl Fault {
    /// The exception class.
    pub fn class(&self) -> u64 {
        self.esr >> 26 & 0x3f
    }

    /// The fault status of an abort.
    pub fn status(&self) -> u64 {
        self.esr & 0x3f
    }

    /// Whether it is an undefined instruction.
    pub fn is_undefined(&self) -> bool {
        self.class() == EC_UNDEFINED
    }

    /// Whether it is a data or instruction abort.
    pub fn is_abort(&self) -> bool {
        matches!(self.class(), EC_DATA_ABORT | EC_INSTRUCTION_ABORT)
    }
}

/// A probe's whole result: its registers if it returned, else its fault.
pub type Probed = Result<[u64; 8], Fault>;

/// Runs the code at `code` as a call with x0 to x7 loaded, interrupts masked, and comes back whatever happens.
///
/// # Safety
/// What the code does when it does not fault must not break this program: it may change any register but SCTLR_EL1.{C,EE}, TTBR0, TCR, MAIR,
/// VBAR and TPIDR_EL1, and only memory that is free to be written.
pub unsafe fn probe(code: *const u32, registers: [u64; 8], translation_off: bool) -> Probed {
    let mut block = registers;
    let local = smp::local();
    let masked = mask_interrupts();
    // SAFETY: the caller answers for the code; everything else is put back by `run_probe`.
    let faulted = unsafe { run_probe(code, &raw mut block, u64::from(translation_off)) };
    // SAFETY: the record is this vCPU's own, and the probe is over.
    let (syndrome, elr) = unsafe { (*local.esr.get(), *local.elr.get()) };
    restore_interrupts(masked);
    if faulted == 0 {
        Ok(block)
    } else {
        Err(Fault {
            esr: syndrome[0],
            far: syndrome[1],
            elr,
        })
    }
}

global_asm!(
    ".section .text.probes, \"ax\"",
    "probe_ldr32: ldr w0, [x1]",
    "ret",
    "probe_str32: str w0, [x1]",
    "ret",
    "probe_smc: smc #0",
    "ret",
);

// SAFETY: the assembly above defines them; each is only ever run as a probe.
unsafe extern "C" {
    fn probe_ldr32();
    fn probe_str32();
    fn probe_smc();
}

fn probe_fixed(code: unsafe extern "C" fn(), registers: [u64; 8]) -> Probed {
    // SAFETY: the fixed probes above do one access or call each, of which their users below answer for the effect.
    unsafe { probe(code as *const u32, registers, false) }
}

/// Loads 32 bits from a device address that may fault.
pub fn probe_read(address: usize) -> Result<u32, Fault> {
    probe_fixed(probe_ldr32, [0, address as u64, 0, 0, 0, 0, 0, 0])
        .map(|registers| registers[0] as u32)
}

/// Stores 32 bits to a device address that may fault.
pub fn probe_write(address: usize, value: u32) -> Result<(), Fault> {
    probe_fixed(
        probe_str32,
        [value.into(), address as u64, 0, 0, 0, 0, 0, 0],
    )
    .map(|_| ())
}

/// Whether SMC is a defined instruction here: PSCI_VERSION by SMC comes back.
pub fn smc_works() -> bool {
    probe_fixed(probe_smc, [psci::PSCI_VERSION.into(), 0, 0, 0, 0, 0, 0, 0]).is_ok()
}

/// Called once by `start`: no interrupt is wanted yet.
pub(crate) fn init() {
    set_irq_handler(unexpected_interrupt);
}

fn unexpected_interrupt() {
    console::force_unlock();
    report::fail(
        "interrupt",
        format_args!("unexpected on vCPU {}", smp::this_cpu()),
    );
    psci::system_off()
}

/// What interrupts call, on every vCPU, with interrupts masked; it acknowledges and ends them itself, and must not print.
pub fn set_irq_handler(handler: extern "Rust" fn()) {
    IRQ_HANDLER.store(handler as usize, Ordering::Release);
}

/// Masks everything; gives the former DAIF for [`restore_interrupts`].
pub fn mask_interrupts() -> u64 {
    let former = read_sysreg!("daif");
    // SAFETY: masking is always sound.
    unsafe { core::arch::asm!("msr daifset, #0xf", options(nostack)) };
    former
}

/// Puts DAIF back.
pub fn restore_interrupts(former: u64) {
    // SAFETY: the vectors and a handler are installed from the start.
    unsafe { core::arch::asm!("msr daif, {}", in(reg) former, options(nostack)) };
}

/// Unmasks IRQ.
pub fn unmask_interrupts() {
    // SAFETY: the vectors and a handler are installed from the start.
    unsafe { core::arch::asm!("msr daifclr, #2", options(nostack)) };
}

/// Lets a pending SError be taken, and only that.
pub fn take_serror() {
    // SAFETY: the vectors count SErrors.
    unsafe {
        core::arch::asm!(
            "dsb sy",
            "msr daifclr, #4",
            "isb",
            "msr daifset, #4",
            options(nostack)
        )
    };
}

/// WFI: parks until an interrupt is pending, masked or not.
pub fn park() {
    // SAFETY: waiting changes no state.
    unsafe { core::arch::asm!("dsb sy", "wfi", "isb", options(nostack)) };
}

/// Parks until `done`, without losing the interrupt that makes it true.
pub fn park_until(mut done: impl FnMut() -> bool) {
    loop {
        let former = mask_interrupts();
        let finished = done();
        if !finished {
            park();
        }
        restore_interrupts(former);
        if finished {
            return;
        }
    }
}

/// An exception outside of any probe: told, and the end of the guest.
#[unsafe(no_mangle)]
extern "C" fn unexpected_exception(esr: u64, far: u64, elr: u64, odd: u64) -> ! {
    if !DYING.swap(true, Ordering::Relaxed) {
        console::force_unlock();
        let cpu = smp::this_cpu();
        report::fail(
            "exception",
            format_args!("vCPU {cpu} esr={esr:#x} far={far:#x} elr={elr:#x} odd={odd}"),
        );
    }
    psci::system_off()
}
