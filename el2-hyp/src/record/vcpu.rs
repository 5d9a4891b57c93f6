//! A vCPU as bytes: all that a guest can observe of it, and whether it is on.

use super::codec::{Decoder, Encoder, Malformed, require};
use crate::psci::VcpuPower;
use crate::vtimer::PhysicalTimer;

/// General registers besides the stack pointers.
const GENERAL: usize = 31;
/// Registers of active priorities, of both groups.
const ACTIVE_PRIORITIES: usize = 8;

macro_rules! system_registers {
    ($($field:ident: $doc:literal,)*) => {
        /// EL1's and EL0's system registers, in the order of the record.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct SystemRegisters {
            $(#[doc = $doc] pub $field: u64,)*
        }

        impl SystemRegisters {
            fn to_record(&self, to: &mut Encoder<'_>) {
                $(to.u64(self.$field);)*
            }

            fn from_record(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
                Ok(Self { $($field: from.u64()?,)* })
            }
        }
    };
}

system_registers! {
    sctlr: "SCTLR_EL1.",
    tcr: "TCR_EL1.",
    ttbr0: "TTBR0_EL1.",
    ttbr1: "TTBR1_EL1.",
    mair: "MAIR_EL1.",
    amair: "AMAIR_EL1.",
    contextidr: "CONTEXTIDR_EL1.",
    vbar: "VBAR_EL1.",
    cpacr: "CPACR_EL1.",
    sp_el0: "SP_EL0.",
    sp_el1: "SP_EL1.",
    elr: "ELR_EL1.",
    spsr: "SPSR_EL1.",
    esr: "ESR_EL1.",
    far: "FAR_EL1.",
    afsr0: "AFSR0_EL1.",
    afsr1: "AFSR1_EL1.",
    par: "PAR_EL1.",
    tpidr_el0: "TPIDR_EL0.",
    tpidrro_el0: "TPIDRRO_EL0.",
    tpidr_el1: "TPIDR_EL1.",
    cntkctl: "CNTKCTL_EL1.",
    csselr: "CSSELR_EL1.",
}

/// Whether a guest may run with 32-bit instructions at EL0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aarch32 {
    /// Its processor has them.
    AtEl0,
    /// It has none.
    No,
}

/// PSTATE in the form of SPSR_EL2, of a guest: it never names EL2 or EL3, nor a state that the processor does not have. A return to such a one would
/// leave EL2 where the guest's program counter points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pstate(u64);

impl Pstate {
    const MODE: u64 = 0b1_1111;
    const EL0T: u64 = 0b0_0000;
    const EL1T: u64 = 0b0_0100;
    const EL1H: u64 = 0b0_0101;
    const USER: u64 = 0b1_0000;

    /// That value, if a guest can have it.
    pub const fn new(value: u64, aarch32: Aarch32) -> Option<Self> {
        let exists = match value & Self::MODE {
            Self::EL0T | Self::EL1T | Self::EL1H => true,
            Self::USER => matches!(aarch32, Aarch32::AtEl0),
            _ => false,
        };
        if exists && value >> 32 == 0 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The value.
    pub const fn value(self) -> u64 {
        self.0
    }
}

/// EL1's virtual timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtualTimer {
    control: u8,
    compare: u64,
}

impl VirtualTimer {
    /// CNTV_CTL_EL0.ENABLE and IMASK.
    const CONTROL: u8 = 3;

    /// The timer with `control` (of which ENABLE and IMASK count) and a deadline on the guest's own counter.
    pub const fn new(control: u64, compare: u64) -> Self {
        Self {
            control: control as u8 & Self::CONTROL,
            compare,
        }
    }

    /// CNTV_CTL_EL0.
    pub const fn control(self) -> u64 {
        self.control as u64
    }

    /// CNTV_CVAL_EL0.
    pub const fn compare(self) -> u64 {
        self.compare
    }
}

/// A vCPU that is loaded nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcpuState {
    /// Whether it is on.
    pub power: VcpuPower,
    /// x0 to x30.
    pub x: [u64; GENERAL],
    /// Where it goes on.
    pub pc: u64,
    /// Its PSTATE.
    pub pstate: Pstate,
    /// EL1's and EL0's system registers.
    pub system: SystemRegisters,
    /// q0 to q31.
    pub q: [u128; 32],
    /// FPSR.
    pub fpsr: u64,
    /// FPCR.
    pub fpcr: u64,
    /// The virtual timer.
    pub virtual_timer: VirtualTimer,
    /// The physical timer.
    pub physical_timer: PhysicalTimer,
    /// GICH_VMCR or ICH_VMCR_EL2.
    pub vmcr: u32,
    /// GICH_APR, or ICH_AP0R0 to 3 and ICH_AP1R0 to 3.
    pub active_priorities: [u32; ACTIVE_PRIORITIES],
    /// Its translation controls are watched, after cache maintenance by set and way.
    pub watching: bool,
}

impl VcpuState {
    /// Writes the vCPU.
    pub fn to_record(&self, to: &mut Encoder<'_>) {
        self.power.to_record(to);
        self.x.iter().for_each(|x| to.u64(*x));
        to.u64(self.pc);
        to.u64(self.pstate.value());
        self.system.to_record(to);
        self.q.iter().for_each(|q| to.u128(*q));
        to.u64(self.fpsr);
        to.u64(self.fpcr);
        to.u8(self.virtual_timer.control);
        to.u64(self.virtual_timer.compare);
        self.physical_timer.to_record(to);
        to.u32(self.vmcr);
        self.active_priorities.iter().for_each(|word| to.u32(*word));
        to.bool(self.watching);
    }

    /// The vCPU that [`to_record`](Self::to_record) wrote.
    ///
    /// # Errors
    /// If no vCPU can be so.
    pub fn from_record(from: &mut Decoder<'_>, aarch32: Aarch32) -> Result<Self, Malformed> {
        let power = VcpuPower::from_record(from)?;
        let x = words(from, Decoder::u64)?;
        let pc = from.u64()?;
        let pstate = Pstate::new(from.u64()?, aarch32).ok_or(Malformed::Value("PSTATE"))?;
        let system = SystemRegisters::from_record(from)?;
        let q = words(from, Decoder::u128)?;
        let (fpsr, fpcr) = (from.u64()?, from.u64()?);
        let control = from.u8()?;
        require(control & !VirtualTimer::CONTROL == 0, "CNTV_CTL_EL0")?;
        let virtual_timer = VirtualTimer {
            control,
            compare: from.u64()?,
        };
        let physical_timer = PhysicalTimer::from_record(from)?;
        Ok(Self {
            power,
            x,
            pc,
            pstate,
            system,
            q,
            fpsr,
            fpcr,
            virtual_timer,
            physical_timer,
            vmcr: from.u32()?,
            active_priorities: words(from, Decoder::u32)?,
            watching: from.bool("whether caches are watched")?,
        })
    }
}

/// `N` numbers.
fn words<'a, T: Default + Copy, const N: usize>(
    from: &mut Decoder<'a>,
    next: impl Fn(&mut Decoder<'a>) -> Result<T, Malformed>,
) -> Result<[T; N], Malformed> {
    let mut words = [T::default(); N];
    for word in &mut words {
        *word = next(from)?;
    }
    Ok(words)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::addr::Ipa;
    use crate::psci::Entry;
    use crate::sysreg::TimerRegister;
    use proptest::prelude::*;
    use std::vec::Vec;

    pub fn encode(vcpu: &VcpuState) -> Vec<u8> {
        let mut bytes = vec![0; 2048];
        let mut encoder = Encoder::new(&mut bytes);
        vcpu.to_record(&mut encoder);
        let length = encoder.finish().unwrap();
        bytes.truncate(length);
        bytes
    }

    fn decode(bytes: &[u8], aarch32: Aarch32) -> Result<VcpuState, Malformed> {
        let mut decoder = Decoder::new(bytes);
        let vcpu = VcpuState::from_record(&mut decoder, aarch32)?;
        decoder.end()?;
        Ok(vcpu)
    }

    /// A vCPU each of whose fields has a value of its own.
    pub fn a_vcpu(seed: u64) -> VcpuState {
        let mut next = seed;
        let mut number = || {
            next = next.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            next
        };
        let mut physical_timer = PhysicalTimer::reset();
        physical_timer.write(TimerRegister::Control, number() >> 20, 0);
        physical_timer.write(TimerRegister::Compare, number(), 0);
        let entry = Entry {
            pc: Ipa(number()),
            context: number(),
        };
        let mut system = [0; 23 * 8];
        system.fill_with(|| number() as u8);
        VcpuState {
            power: [VcpuPower::Off, VcpuPower::On, VcpuPower::OnPending(entry)][seed as usize % 3],
            x: core::array::from_fn(|_| number()),
            pc: number(),
            pstate: Pstate::new((number() & 0xffff_ffe0) | 5, Aarch32::No).unwrap(),
            system: SystemRegisters::from_record(&mut Decoder::new(&system)).unwrap(),
            q: core::array::from_fn(|_| u128::from(number()) << 64 | u128::from(number())),
            fpsr: number(),
            fpcr: number(),
            virtual_timer: VirtualTimer::new(number() >> 30, number()),
            physical_timer,
            vmcr: number() as u32,
            active_priorities: core::array::from_fn(|_| number() as u32),
            watching: number() & 4 != 0,
        }
    }

    proptest! {
        #[test]
        fn a_vcpu_comes_back(seed: u64) {
            let vcpu = a_vcpu(seed);
            prop_assert_eq!(decode(&encode(&vcpu), Aarch32::No), Ok(vcpu));
        }

        #[test]
        fn damage_is_refused_or_a_vcpu(seed: u64, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9)) {
            let mut bytes = encode(&a_vcpu(seed));
            for (at, byte) in flips {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(vcpu) = decode(&bytes, Aarch32::AtEl0) {
                prop_assert_eq!(encode(&vcpu), bytes);
            }
        }

        #[test]
        fn too_few_bytes_are_refused(seed: u64, length: prop::sample::Index) {
            let bytes = encode(&a_vcpu(seed));
            let length = length.index(bytes.len());
            prop_assert_eq!(decode(&bytes[..length], Aarch32::No), Err(Malformed::Short));
        }
    }

    #[test]
    fn a_guest_never_comes_back_at_el2() {
        for mode in 0..32 {
            let guest = matches!(mode, 0 | 4 | 5);
            assert_eq!(Pstate::new(mode, Aarch32::No).is_some(), guest);
            assert_eq!(
                Pstate::new(mode, Aarch32::AtEl0).is_some(),
                guest || mode == 16
            );
            assert_eq!(Pstate::new(mode | 1 << 32, Aarch32::AtEl0), None);
        }
    }

    #[test]
    fn it_looks_like_this() {
        let bytes = encode(&a_vcpu(7));
        // Power, general registers, PC and PSTATE, system registers, FP, timers, CPU interface, caches.
        let lengths = [1, 31 * 8, 16, 23 * 8, 32 * 16 + 16, 9 + 9, 4 + 8 * 4, 1];
        assert_eq!(bytes.len(), lengths.iter().sum::<usize>());
        assert_eq!(bytes[0], 2);
        assert_eq!(bytes[1..9], a_vcpu(7).x[0].to_le_bytes());
        let sctlr = 1 + 31 * 8 + 16;
        assert_eq!(
            bytes[sctlr..sctlr + 8],
            a_vcpu(7).system.sctlr.to_le_bytes()
        );
    }
}
