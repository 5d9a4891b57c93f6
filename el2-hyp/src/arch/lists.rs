//! The virtual CPU interface: list registers, active priorities and VMCR, over GICH's memory (IHI 0048B, chapter 5) or the ICH system
//! registers (IHI 0069, chapter 12).

use core::arch::asm;

use crate::vgic::list::{ListRegister, State, encode_v2, encode_v3, state_v2, state_v3};
use crate::vgic::{Control, ListRegisters, MAX_LIST_REGISTERS};

/// Where the hardware's list registers are. The same on every core of a board.
#[derive(Clone, Copy, Debug)]
pub enum Interface {
    /// GICv2: the physical address of the GICH block, mapped as device memory.
    V2 {
        /// The address.
        gich: usize,
    },
    /// GICv3: system registers.
    V3,
}

/// The part of a vCPU's CPU interface that the hardware keeps besides list registers.
#[derive(Clone, Debug, Default)]
pub struct CpuInterface {
    /// GICH_VMCR or ICH_VMCR_EL2: masks, enables, binary points.
    pub vmcr: u64,
    /// GICH_APR (the first), or ICH_AP0R0 to 3 and ICH_AP1R0 to 3.
    pub active_priorities: [u64; 8],
}

mod gich {
    pub const HCR: usize = 0x00;
    pub const VTR: usize = 0x04;
    pub const VMCR: usize = 0x08;
    pub const ELRSR: usize = 0x30;
    pub const APR: usize = 0xf0;
    pub const LR: usize = 0x100;
}

/// GICH_HCR and ICH_HCR_EL2: En, LRENPIE, NPIE; TDIR of GICv3; EOIcount.
const HCR_EN: u64 = 1 << 0;
const HCR_LRENPIE: u64 = 1 << 2;
const HCR_NPIE: u64 = 1 << 3;
const HCR_TDIR: u64 = 1 << 14;
const HCR_EOI_COUNT: u64 = 0x1f << 27;

macro_rules! read {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading a register of the virtual interface has no effect.
        unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }};
}

macro_rules! write {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: registers of the virtual interface belong to the loaded vCPU; EL2 itself takes nothing from them.
        unsafe { asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nomem, nostack, preserves_flags)) };
    }};
}

#[inline(always)]
fn get(gich: usize, offset: usize) -> u32 {
    // SAFETY: `Interface::V2` names a mapped GICH block.
    unsafe { ((gich + offset) as *const u32).read_volatile() }
}

#[inline(always)]
fn put(gich: usize, offset: usize, value: u32) {
    // SAFETY: `Interface::V2` names a mapped GICH block, which only concerns the loaded vCPU.
    unsafe { ((gich + offset) as *mut u32).write_volatile(value) }
}

impl Interface {
    /// Turns the virtual interface on, with nothing in it.
    pub fn initialise_core(self) {
        let count = self.count();
        match self {
            Self::V2 { gich } => {
                (0..count).for_each(|slot| put(gich, gich::LR + 4 * slot, 0));
                put(gich, gich::APR, 0);
                put(gich, gich::HCR, HCR_EN as u32);
            }
            Self::V3 => {
                (0..count).for_each(|slot| write_lr(slot, 0));
                self.load(&CpuInterface::default());
                // EL1's own ICC_SRE_EL1: system registers only. Its accesses trap (ICC_SRE_EL2.Enable is clear).
                write!("S3_0_C12_C12_5", 7);
                write!("S3_4_C12_C11_0", HCR_EN);
            }
        }
    }

    /// How many list registers there are.
    pub fn count(self) -> usize {
        let vtr = match self {
            Self::V2 { gich } => get(gich, gich::VTR),
            Self::V3 => read!("S3_4_C12_C11_1") as u32,
        };
        ((vtr as usize & 0x1f) + 1).min(MAX_LIST_REGISTERS)
    }

    /// How many registers of active priorities of each group there are.
    pub fn active_priority_registers(self) -> usize {
        match self {
            // GICH_APR: 32 levels.
            Self::V2 { .. } => 1,
            Self::V3 => Self::priority_registers(),
        }
    }

    /// By ICH_VTR_EL2.PREbits.
    fn priority_registers() -> usize {
        match (read!("S3_4_C12_C11_1") >> 26 & 7) + 1 {
            7 => 4,
            6 => 2,
            _ => 1,
        }
    }

    /// Copies the machine's state to `to`.
    pub fn save(self, to: &mut CpuInterface) {
        match self {
            Self::V2 { gich } => {
                to.vmcr = get(gich, gich::VMCR).into();
                to.active_priorities[0] = get(gich, gich::APR).into();
            }
            Self::V3 => {
                to.vmcr = read!("S3_4_C12_C11_7");
                let count = Self::priority_registers();
                let apr = &mut to.active_priorities;
                apr[0] = read!("S3_4_C12_C8_0");
                apr[4] = read!("S3_4_C12_C9_0");
                if count > 1 {
                    apr[1] = read!("S3_4_C12_C8_1");
                    apr[5] = read!("S3_4_C12_C9_1");
                }
                if count > 2 {
                    apr[2] = read!("S3_4_C12_C8_2");
                    apr[3] = read!("S3_4_C12_C8_3");
                    apr[6] = read!("S3_4_C12_C9_2");
                    apr[7] = read!("S3_4_C12_C9_3");
                }
            }
        }
    }

    /// Copies `from` to the machine.
    pub fn load(self, from: &CpuInterface) {
        match self {
            Self::V2 { gich } => {
                put(gich, gich::VMCR, from.vmcr as u32);
                put(gich, gich::APR, from.active_priorities[0] as u32);
            }
            Self::V3 => {
                write!("S3_4_C12_C11_7", from.vmcr);
                let count = Self::priority_registers();
                let apr = &from.active_priorities;
                write!("S3_4_C12_C8_0", apr[0]);
                write!("S3_4_C12_C9_0", apr[4]);
                if count > 1 {
                    write!("S3_4_C12_C8_1", apr[1]);
                    write!("S3_4_C12_C9_1", apr[5]);
                }
                if count > 2 {
                    write!("S3_4_C12_C8_2", apr[2]);
                    write!("S3_4_C12_C8_3", apr[3]);
                    write!("S3_4_C12_C9_2", apr[6]);
                    write!("S3_4_C12_C9_3", apr[7]);
                }
            }
        }
    }
}

macro_rules! each_slot {
    ($slot:expr, $with:ident $(, $value:expr)?) => {
        match $slot {
            0 => $with!("S3_4_C12_C12_0" $(, $value)?),
            1 => $with!("S3_4_C12_C12_1" $(, $value)?),
            2 => $with!("S3_4_C12_C12_2" $(, $value)?),
            3 => $with!("S3_4_C12_C12_3" $(, $value)?),
            4 => $with!("S3_4_C12_C12_4" $(, $value)?),
            5 => $with!("S3_4_C12_C12_5" $(, $value)?),
            6 => $with!("S3_4_C12_C12_6" $(, $value)?),
            7 => $with!("S3_4_C12_C12_7" $(, $value)?),
            8 => $with!("S3_4_C12_C13_0" $(, $value)?),
            9 => $with!("S3_4_C12_C13_1" $(, $value)?),
            10 => $with!("S3_4_C12_C13_2" $(, $value)?),
            11 => $with!("S3_4_C12_C13_3" $(, $value)?),
            12 => $with!("S3_4_C12_C13_4" $(, $value)?),
            13 => $with!("S3_4_C12_C13_5" $(, $value)?),
            14 => $with!("S3_4_C12_C13_6" $(, $value)?),
            _ => $with!("S3_4_C12_C13_7" $(, $value)?),
        }
    };
}

#[inline(always)]
fn read_lr(slot: usize) -> u64 {
    each_slot!(slot, read)
}

#[inline(always)]
fn write_lr(slot: usize, value: u64) {
    each_slot!(slot, write, value)
}

/// This core's list registers, with the way to deactivate a physical interrupt.
pub struct Lists<D> {
    interface: Interface,
    count: usize,
    deactivate: D,
}

impl<D: Fn(u32)> Lists<D> {
    /// The list registers of the core that this runs on. `count` is [`Interface::count`].
    #[inline(always)]
    pub fn new(interface: Interface, count: usize, deactivate: D) -> Self {
        Self {
            interface,
            count,
            deactivate,
        }
    }

    #[inline(always)]
    fn hcr(&self) -> u64 {
        match self.interface {
            Interface::V2 { gich } => get(gich, gich::HCR).into(),
            Interface::V3 => read!("S3_4_C12_C11_0"),
        }
    }

    #[inline(always)]
    fn set_hcr(&self, value: u64) {
        match self.interface {
            Interface::V2 { gich } => put(gich, gich::HCR, value as u32),
            Interface::V3 => write!("S3_4_C12_C11_0", value),
        }
    }
}

impl<D: Fn(u32)> ListRegisters for Lists<D> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    fn empty(&self) -> u32 {
        match self.interface {
            Interface::V2 { gich } => get(gich, gich::ELRSR),
            Interface::V3 => {
                // What was written to list registers just before must count: a stale answer would lose an interrupt.
                // SAFETY: a barrier.
                unsafe { asm!("isb", options(nomem, nostack, preserves_flags)) };
                read!("S3_4_C12_C11_5") as u32
            }
        }
    }

    #[inline(always)]
    fn state(&self, slot: usize) -> State {
        match self.interface {
            Interface::V2 { gich } => state_v2(get(gich, gich::LR + 4 * slot)),
            Interface::V3 => state_v3(read_lr(slot)),
        }
    }

    #[inline(always)]
    fn write(&mut self, slot: usize, entry: ListRegister) {
        match self.interface {
            Interface::V2 { gich } => put(gich, gich::LR + 4 * slot, encode_v2(entry)),
            Interface::V3 => write_lr(slot, encode_v3(entry)),
        }
    }

    #[inline(always)]
    fn clear(&mut self, slot: usize) {
        match self.interface {
            Interface::V2 { gich } => put(gich, gich::LR + 4 * slot, 0),
            Interface::V3 => write_lr(slot, 0),
        }
    }

    fn set_control(&mut self, control: Control) {
        let mut hcr = self.hcr() & HCR_EOI_COUNT | HCR_EN;
        if control.no_pending {
            hcr |= HCR_NPIE;
        }
        if control.entry_not_present {
            hcr |= HCR_LRENPIE;
        }
        // A GICv2 guest's deactivate register always traps: stage 2 leaves its page out.
        if control.trap_deactivate && matches!(self.interface, Interface::V3) {
            hcr |= HCR_TDIR;
        }
        self.set_hcr(hcr);
    }

    fn take_eoi_count(&mut self) -> u32 {
        let hcr = self.hcr();
        self.set_hcr(hcr & !HCR_EOI_COUNT);
        (hcr >> 27) as u32 & 0x1f
    }

    fn deactivate(&mut self, physical: u32) {
        (self.deactivate)(physical);
    }
}
