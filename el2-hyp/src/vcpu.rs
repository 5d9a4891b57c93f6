//! A virtual CPU: what it is made of, and the signals that other cores send to it.

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use crate::lock::Mutex;

use crate::arch::enter::Frame;
use crate::arch::lists::CpuInterface;
use crate::arch::regs::{El1Registers, FpRegisters, TranslationRegisters};
use crate::arch::timer::VirtualTimer;
use crate::psci::{Entry, VcpuPower};
use crate::record::vcpu::{self as record, Aarch32, Pstate, SystemRegisters, VcpuState};
use crate::vtimer::PhysicalTimer;

/// PSTATE in which a vCPU begins: EL1h, all interrupts masked (Linux's boot protocol, PSCI's CPU_ON).
const PSTATE_AT_ENTRY: u64 = 0x3c5;

/// All that a guest can observe of one of its vCPUs, while it is not loaded. While it is, the machine holds the truth of all but
/// `frame`, `physical_timer` and `caches`.
pub struct Context {
    /// The general registers.
    pub frame: Frame,
    /// EL1's and EL0's system registers.
    pub registers: El1Registers,
    /// SCTLR_EL1 and TCR_EL1.
    pub translation: TranslationRegisters,
    /// FP and SIMD.
    pub fp: FpRegisters,
    /// The virtual timer.
    pub virtual_timer: VirtualTimer,
    /// The physical timer, which is emulated.
    pub physical_timer: PhysicalTimer,
    /// The state of its line as the interrupt controller knows it.
    pub physical_timer_line: bool,
    /// The CPU interface of the interrupt controller.
    pub cpu_interface: CpuInterface,
    /// What cache maintenance by set and way has come to.
    pub caches: SetWay,
}

/// Cache maintenance by set and way reaches one core's caches, and a vCPU does not know which those are. The first one of a series
/// flushes all of the guest's memory; further ones need nothing until the guest turns its caches on or off, which is watched for and flushes
/// once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetWay {
    /// The guest's translation controls are watched.
    pub watching: bool,
    /// How much of the guest's memory a flush under way has done, bytes.
    pub flushed: u64,
}

impl Context {
    /// A vCPU at reset that begins at `entry`.
    pub fn reset(entry: Entry) -> Self {
        let mut x = [0; 31];
        x[0] = entry.context;
        Self {
            frame: Frame {
                x,
                pc: entry.pc.0,
                pstate: PSTATE_AT_ENTRY,
            },
            registers: El1Registers::reset(),
            translation: TranslationRegisters::reset(),
            fp: FpRegisters::reset(),
            virtual_timer: VirtualTimer::reset(),
            physical_timer: PhysicalTimer::reset(),
            physical_timer_line: false,
            cpu_interface: CpuInterface::default(),
            caches: SetWay::default(),
        }
    }
}

/// Calls a macro with the names that the record's system registers and the machine's have in common.
macro_rules! with_system_registers {
    ($then:ident) => {
        $then!(
            sp_el0 sp_el1 elr spsr cpacr ttbr0 ttbr1 esr afsr0 afsr1 far mair amair vbar contextidr tpidr_el0 tpidrro_el0 tpidr_el1 cntkctl par csselr
        )
    };
}

impl Context {
    /// All of it, for a record. `aarch32` says what EL0 may run.
    ///
    /// # Panics
    /// If its PSTATE is none of a guest's, which no exit leaves.
    pub fn state(&self, power: VcpuPower, aarch32: Aarch32) -> VcpuState {
        macro_rules! system {
            ($($name:ident)*) => {
                SystemRegisters {
                    sctlr: self.translation.sctlr,
                    tcr: self.translation.tcr,
                    $($name: self.registers.$name,)*
                }
            };
        }
        let interface = &self.cpu_interface;
        // What the architecture may add above bit 31 is a feature's that guests do not have.
        let pstate = self.frame.pstate & u64::from(u32::MAX);
        VcpuState {
            power,
            x: self.frame.x,
            pc: self.frame.pc,
            pstate: Pstate::new(pstate, aarch32).expect("a guest's PSTATE"),
            system: with_system_registers!(system),
            q: self.fp.q,
            fpsr: self.fp.status[0],
            fpcr: self.fp.status[1],
            virtual_timer: record::VirtualTimer::new(
                self.virtual_timer.control,
                self.virtual_timer.compare,
            ),
            physical_timer: self.physical_timer,
            vmcr: interface.vmcr as u32,
            active_priorities: interface.active_priorities.map(|word| word as u32),
            watching: self.caches.watching,
        }
    }

    /// A vCPU that has come. `line` is the level of its physical timer as its interrupt controller knows it.
    pub fn from_state(state: &VcpuState, line: bool) -> Self {
        let nowhere = Entry {
            pc: crate::addr::Ipa(state.pc),
            context: 0,
        };
        let mut it = Self::reset(nowhere);
        it.frame.x = state.x;
        it.frame.pstate = state.pstate.value();
        macro_rules! system {
            ($($name:ident)*) => {
                $(it.registers.$name = state.system.$name;)*
            };
        }
        with_system_registers!(system);
        it.translation.sctlr = state.system.sctlr;
        it.translation.tcr = state.system.tcr;
        it.fp.q = state.q;
        it.fp.status = [state.fpsr, state.fpcr];
        it.virtual_timer.control = state.virtual_timer.control();
        it.virtual_timer.compare = state.virtual_timer.compare();
        it.physical_timer = state.physical_timer;
        it.physical_timer_line = line;
        it.cpu_interface.vmcr = state.vmcr.into();
        it.cpu_interface.active_priorities = state.active_priorities.map(u64::from);
        it.caches.watching = state.watching;
        it
    }
}

/// A virtual CPU.
pub struct Vcpu {
    /// Held by the core on which the vCPU is loaded, for as long as it is.
    pub(crate) context: Mutex<Context>,
    /// Somebody has changed something that this vCPU must look at before it goes on.
    attention: AtomicBool,
    /// The core on which it is loaded, plus one; zero while it is not.
    place: AtomicU8,
}

impl Vcpu {
    pub(crate) fn new() -> Self {
        let nowhere = Entry {
            pc: crate::addr::Ipa(0),
            context: 0,
        };
        Self {
            context: Mutex::new(Context::reset(nowhere)),
            attention: AtomicBool::new(false),
            place: AtomicU8::new(0),
        }
    }

    /// Asks the vCPU to look; gives the core to kick, if it is loaded on one.
    ///
    /// The order matters, here and in [`take_attention`](Self::take_attention)'s callers: who asks first sets the flag and then looks for
    /// the place, who loads or parks first sets the place and then looks for the flag. So one of them sees the other.
    #[inline]
    pub fn ask(&self) -> Option<u8> {
        self.attention.store(true, Ordering::SeqCst);
        self.place.load(Ordering::SeqCst).checked_sub(1)
    }

    /// Whether somebody has asked since this was last called.
    #[inline]
    pub fn take_attention(&self) -> bool {
        // The swap costs an exclusive pair; the load in front of it makes the common case cheap.
        self.attention.load(Ordering::SeqCst) && self.attention.swap(false, Ordering::SeqCst)
    }

    /// Whether somebody has asked.
    pub fn has_attention(&self) -> bool {
        self.attention.load(Ordering::SeqCst)
    }

    pub(crate) fn set_place(&self, core: Option<u8>) {
        self.place
            .store(core.map_or(0, |core| core + 1), Ordering::SeqCst);
    }
}
