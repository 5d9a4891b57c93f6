//! A virtual machine put together.
//!
//! - here: what it is made of, and how it begins and ends.
//! - [`run`]: a vCPU on a core: load, the loop of entries and exits, unload.
//! - [`record`]: a guest as bytes. - [`traps`]: what each exit means. - [`mmio`]: where its devices are. - [`devices`], [`disks`]: the virtio ones. - [`signs`]: its watchdog
//!   and its notice of a panic.
//!
//! Lock order, first to last: a vCPU's context (held while it is loaded), `power`, `uart`, `watchdog` or a virtio device's, `vgic`. Calls of the
//! [`Host`](crate::host::Host) that kick or wake take locks that are the last of all; none of `power`, `uart` and `vgic` is held over them.

pub mod devices;
mod disks;
mod mmio;
pub mod record;
mod run;
mod signs;
mod traps;

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::lock::Mutex;

use crate::addr::Ipa;
use crate::arch::lists::Interface;
use crate::device::pl011::Pl011;
use crate::device::watchdog::Watchdog;
use crate::idregs::IdRegisters;
use crate::memory::GuestMemory;
use crate::psci::{Entry, Power};
use crate::vcpu::Vcpu;
use crate::vgic::{ConfigError, Intid, MappedInterrupt, Version, Vgic};

pub use devices::Device;
pub use run::Leave;
pub use signs::Watch;

/// Why a guest stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It turned itself off.
    PowerOff,
    /// It asked to begin anew.
    Reset,
    /// The board's operator, or the board itself, ended it.
    Ended,
    /// It did what EL2 has no answer to.
    Unexpected {
        /// Which vCPU.
        vcpu: u8,
        /// ESR_EL2.
        esr: u64,
        /// Where.
        pc: u64,
    },
    /// It did not refresh its watchdog.
    Watchdog,
    /// It told that it panics.
    Panic,
    /// A physical system error came while it ran.
    SystemError {
        /// Which vCPU.
        vcpu: u8,
        /// ESR_EL2.
        esr: u64,
    },
}

impl Stop {
    /// Whether a machine of its own would begin anew after this.
    pub const fn is_reset(self) -> bool {
        matches!(self, Self::Reset | Self::Watchdog | Self::Panic)
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => write!(f, "it turned itself off"),
            Self::Reset => write!(f, "it asked for a reset"),
            Self::Ended => write!(f, "it was ended"),
            Self::Watchdog => write!(f, "it did not refresh its watchdog in time"),
            Self::Panic => write!(f, "it told that it panics"),
            Self::Unexpected { vcpu, esr, pc } => {
                write!(
                    f,
                    "vCPU {vcpu} took an exception of unknown class {:#x} (ESR {esr:#x}) at {pc:#x}",
                    esr >> 26
                )
            }
            Self::SystemError { vcpu, esr } => write!(
                f,
                "a system error (ESR {esr:#x}) came while vCPU {vcpu} ran"
            ),
        }
    }
}

/// What the board brings to a guest.
#[derive(Clone, Copy, Debug)]
pub struct Hardware {
    /// The list registers, which also decide the kind of interrupt controller that the guest has.
    pub interface: Interface,
    /// How many list registers there are.
    pub list_registers: usize,
    /// The physical virtual timer interrupt.
    pub virtual_timer: u32,
}

impl Hardware {
    /// The interrupt of guests that stands for a physical one: the virtual timer's.
    pub fn mapped_interrupt(&self) -> MappedInterrupt {
        MappedInterrupt {
            virtual_intid: VIRTUAL_TIMER,
            physical_intid: self.virtual_timer,
        }
    }

    /// The interrupt controller that guests see.
    pub fn gic_version(&self) -> Version {
        match self.interface {
            Interface::V2 { .. } => Version::V2,
            Interface::V3 => Version::V3,
        }
    }
}

/// The virtual timer's interrupt in a guest: PPI 27, as on QEMU's `virt`.
const VIRTUAL_TIMER: Intid = Intid::new(27).expect("a PPI");
/// The physical timer's: PPI 30.
const PHYSICAL_TIMER: Intid = Intid::new(30).expect("a PPI");

/// Cores of a board, at most.
pub const MAX_CORES: usize = 8;

/// A virtual machine.
pub struct Guest {
    /// Its place among the board's guests.
    pub id: usize,
    /// Its name.
    pub name: String,
    /// Its RAM.
    pub memory: GuestMemory,
    vcpus: Box<[Vcpu]>,
    hardware: Hardware,
    id_registers: IdRegisters,
    /// VTTBR_EL2: the VMID and the root of its stage 2.
    vttbr: u64,
    /// What its virtual counter lags behind the physical one.
    counter_offset: AtomicU64,
    power: Mutex<Power>,
    vgic: Mutex<Vgic>,
    uart: Mutex<Pl011>,
    watchdog: Mutex<Watchdog>,
    /// What stands in the virtio slots, from the first on.
    devices: Box<[Device]>,
    /// Slots in which a step of work is left over, a bit each.
    pending: AtomicU32,
    /// Slots in which work waits for room at the board's disk, a bit each.
    stalled: AtomicU32,
    /// Slots in which output waits for room on the board's line, a bit each.
    unheard: AtomicU32,
    /// The vCPU that each core loaded last, for [`run`]'s care of the TLB.
    last_loaded: [AtomicU8; MAX_CORES],
    /// It is to do nothing until it may go on; the board keeps its vCPUs off the cores.
    frozen: AtomicBool,
    stopping: AtomicBool,
    stop: Mutex<Option<Stop>>,
}

impl Guest {
    /// A guest of `vcpus` vCPUs, all off. `vmid` is its own among the board's guests, and `root` the root of its stage 2 translation.
    /// `devices` fill the virtio slots from the first on.
    ///
    /// # Errors
    /// Where no interrupt controller can be made for so many vCPUs.
    ///
    /// # Panics
    /// If there are more devices than slots.
    pub fn new(
        id: usize,
        name: &str,
        vcpus: usize,
        memory: GuestMemory,
        hardware: Hardware,
        (vmid, root): (u8, crate::addr::Pa),
        devices: Box<[Device]>,
    ) -> Result<Self, ConfigError> {
        assert!(devices.len() <= usize::from(crate::machine::VIRTIO_SLOTS));
        let version = hardware.gic_version();
        let mapped = hardware.mapped_interrupt();
        let own = crate::arch::regs::id_registers();
        Ok(Self {
            id,
            name: name.into(),
            vcpus: (0..vcpus).map(|_| Vcpu::new()).collect(),
            id_registers: IdRegisters::new(|index| own[index], version),
            vttbr: u64::from(vmid) << 48 | root.0,
            counter_offset: AtomicU64::new(0),
            power: Mutex::new(Power::new(
                vcpus,
                Entry {
                    pc: memory.base(),
                    context: 0,
                },
            )),
            vgic: Mutex::new(Vgic::new(version, vcpus, mapped)?),
            uart: Mutex::new(Pl011::new()),
            watchdog: Mutex::new(Watchdog::new()),
            devices,
            pending: AtomicU32::new(0),
            stalled: AtomicU32::new(0),
            unheard: AtomicU32::new(0),
            last_loaded: [const { AtomicU8::new(0) }; MAX_CORES],
            frozen: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            stop: Mutex::new(None),
            memory,
            hardware,
        })
    }

    /// Returns everything but the virtio devices ([`reset_devices`](Self::reset_devices)) to its reset state and lets vCPU 0 begin at `entry` with x0 = `argument`, at virtual time zero. No vCPU is
    /// loaded, and the memory holds what the guest is to find.
    pub fn reset(&self, entry: Ipa, argument: u64) {
        *self.power.lock() = Power::new(
            self.vcpus.len(),
            Entry {
                pc: entry,
                context: argument,
            },
        );
        *self.uart.lock() = Pl011::new();
        *self.watchdog.lock() = Watchdog::new();
        self.vgic.lock().reset();
        self.counter_offset
            .store(crate::arch::timer::now(), Ordering::Relaxed);
        *self.stop.lock() = None;
        self.stopping.store(false, Ordering::Release);
        crate::arch::maintenance::invalidate_guest(self.vttbr);
    }

    /// The interrupt controller that it sees.
    pub fn gic_version(&self) -> Version {
        self.hardware.gic_version()
    }

    /// The interrupt of its virtual timer, and the board's behind it.
    pub fn mapped_interrupt(&self) -> MappedInterrupt {
        self.hardware.mapped_interrupt()
    }

    /// Its vCPUs.
    pub fn vcpus(&self) -> &[Vcpu] {
        &self.vcpus
    }

    /// Ends the guest: each vCPU leaves its core as soon as it looks, and none is entered again. The first reason stands. The caller asks
    /// the vCPUs to look.
    pub fn request_stop(&self, reason: Stop) {
        self.stop.lock().get_or_insert(reason);
        self.stopping.store(true, Ordering::Release);
    }

    /// Says whether its devices are to put off what the board's events would have them do. The caller sees to the vCPUs.
    pub fn set_frozen(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::SeqCst);
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }

    /// VTTBR_EL2 as its vCPUs have it.
    pub fn vttbr(&self) -> u64 {
        self.vttbr
    }

    /// Whether no vCPU may be entered any more.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Why it stops or stopped.
    pub fn stop_reason(&self) -> Option<Stop> {
        *self.stop.lock()
    }

    /// Whether a vCPU was asked to begin and has not yet.
    pub fn is_on_pending(&self, vcpu: usize) -> bool {
        matches!(
            self.power.lock().state(vcpu),
            crate::psci::VcpuPower::OnPending(_)
        )
    }
}
