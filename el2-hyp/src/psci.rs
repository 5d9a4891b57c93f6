//! What a guest asks of its firmware: PSCI 1.1 (Arm DEN 0022) and the discovery calls of SMCCC 1.1 (DEN 0028).
//!
//! [`Power`] holds which vCPUs are on and answers calls; it decides nothing about cores. What a call does beyond its answer is its
//! [`Outcome`].

mod record;

use crate::addr::Ipa;

/// vCPUs in a guest, at most.
pub const MAX_VCPUS: usize = crate::vgic::MAX_VCPUS;

/// Error codes of DEN 0022, section 5.2.2.
mod code {
    pub const SUCCESS: u64 = 0;
    pub const NOT_SUPPORTED: u64 = -1i64 as u64;
    pub const INVALID_PARAMETERS: u64 = -2i64 as u64;
    pub const ALREADY_ON: u64 = -4i64 as u64;
    pub const ON_PENDING: u64 = -5i64 as u64;
    pub const INVALID_ADDRESS: u64 = -9i64 as u64;
}

mod function {
    pub const SMCCC_VERSION: u32 = 0x8000_0000;
    pub const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
    pub const VERSION: u32 = 0x8400_0000;
    pub const CPU_SUSPEND_32: u32 = 0x8400_0001;
    pub const CPU_SUSPEND_64: u32 = 0xc400_0001;
    pub const CPU_OFF: u32 = 0x8400_0002;
    pub const CPU_ON_32: u32 = 0x8400_0003;
    pub const CPU_ON_64: u32 = 0xc400_0003;
    pub const AFFINITY_INFO_32: u32 = 0x8400_0004;
    pub const AFFINITY_INFO_64: u32 = 0xc400_0004;
    pub const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
    pub const SYSTEM_OFF: u32 = 0x8400_0008;
    pub const SYSTEM_RESET: u32 = 0x8400_0009;
    pub const FEATURES: u32 = 0x8400_000a;
}

/// PSCI 1.1.
const PSCI_VERSION: u64 = 1 << 16 | 1;
/// SMCCC 1.1.
const SMCCC_VERSION: u64 = 1 << 16 | 1;
/// Bits of a power state in the original format that must be zero: 31:26 and 23:17.
const POWER_STATE_RESERVED: u32 = 0xfcfe_0000;
/// MIGRATE_INFO_TYPE: no trusted OS that would have to move.
const NO_MIGRATION_REQUIRED: u64 = 2;

/// Where a vCPU begins: its program counter and x0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The address of the first instruction.
    pub pc: Ipa,
    /// The value of x0.
    pub context: u64,
}

/// The state of one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuPower {
    /// Off.
    Off,
    /// CPU_ON was accepted; it has not yet begun.
    OnPending(Entry),
    /// On.
    On,
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing but this answer in x0.
    Return(u64),
    /// vCPU `target` is to begin; the caller's x0 is zero.
    TurnedOn {
        /// Index of the vCPU.
        target: usize,
    },
    /// The caller waits for an interrupt; its x0 is zero.
    Suspend,
    /// The caller is off.
    TurnedOff,
    /// The whole guest is to stop.
    SystemOff,
    /// The whole guest is to begin anew.
    SystemReset,
}

/// Which vCPUs of a guest are on.
#[derive(Clone, Debug)]
pub struct Power {
    vcpus: heapless::Vec<VcpuPower, MAX_VCPUS>,
}

impl Power {
    /// `count` vCPUs, of which the first is about to begin at `entry`.
    ///
    /// # Panics
    /// If `count` is zero or more than [`MAX_VCPUS`].
    pub fn new(count: usize, entry: Entry) -> Self {
        let mut vcpus = heapless::Vec::new();
        vcpus
            .resize(count, VcpuPower::Off)
            .expect("count is at most MAX_VCPUS");
        vcpus[0] = VcpuPower::OnPending(entry);
        Self { vcpus }
    }

    /// vCPUs in these states, [`MAX_VCPUS`] at most.
    pub fn from_states(states: impl IntoIterator<Item = VcpuPower>) -> Self {
        Self {
            vcpus: states.into_iter().take(MAX_VCPUS).collect(),
        }
    }

    /// The state of a vCPU.
    pub fn state(&self, vcpu: usize) -> VcpuPower {
        self.vcpus[vcpu]
    }

    /// The vCPU begins: where, if it was asked to.
    pub fn begin(&mut self, vcpu: usize) -> Option<Entry> {
        let VcpuPower::OnPending(entry) = self.vcpus[vcpu] else {
            return None;
        };
        self.vcpus[vcpu] = VcpuPower::On;
        Some(entry)
    }

    /// The vCPU that an MPIDR names: affinity 0 is the index, the rest is zero.
    fn target(&self, mpidr: u64) -> Option<usize> {
        usize::try_from(mpidr)
            .ok()
            .filter(|&index| index < self.vcpus.len())
    }

    /// Answers `x[0]`, the function, with `x[1..4]`, its arguments. `in_ram` tells whether an address is the guest's RAM.
    pub fn call(&mut self, caller: usize, x: [u64; 4], in_ram: impl Fn(Ipa) -> bool) -> Outcome {
        let function = x[0] as u32;
        // The arguments of a 32-bit call are the low halves of the registers (DEN 0028, section 3.1).
        let wide = function & 1 << 30 != 0;
        let argument = |n: usize| if wide { x[n] } else { x[n] & 0xffff_ffff };
        match function {
            function::VERSION => Outcome::Return(PSCI_VERSION),
            function::SMCCC_VERSION => Outcome::Return(SMCCC_VERSION),
            function::SMCCC_ARCH_FEATURES => Outcome::Return(arch_feature(x[1] as u32)),
            function::FEATURES => Outcome::Return(feature(x[1] as u32)),
            // A power-down may be answered as a standby (DEN 0022, section 5.4.4): nothing is powered here.
            function::CPU_SUSPEND_32 | function::CPU_SUSPEND_64
                if x[1] as u32 & POWER_STATE_RESERVED != 0 =>
            {
                Outcome::Return(code::INVALID_PARAMETERS)
            }
            function::CPU_SUSPEND_32 | function::CPU_SUSPEND_64 => Outcome::Suspend,
            function::CPU_OFF => {
                self.vcpus[caller] = VcpuPower::Off;
                Outcome::TurnedOff
            }
            function::CPU_ON_32 | function::CPU_ON_64 => {
                let entry = Entry {
                    pc: Ipa(argument(2)),
                    context: argument(3),
                };
                self.turn_on(argument(1), entry, in_ram)
            }
            function::AFFINITY_INFO_32 | function::AFFINITY_INFO_64 => {
                Outcome::Return(self.affinity_info(argument(1), argument(2)))
            }
            function::MIGRATE_INFO_TYPE => Outcome::Return(NO_MIGRATION_REQUIRED),
            function::SYSTEM_OFF => Outcome::SystemOff,
            function::SYSTEM_RESET => Outcome::SystemReset,
            _ => Outcome::Return(code::NOT_SUPPORTED),
        }
    }

    fn turn_on(&mut self, mpidr: u64, entry: Entry, in_ram: impl Fn(Ipa) -> bool) -> Outcome {
        let Some(target) = self.target(mpidr) else {
            return Outcome::Return(code::INVALID_PARAMETERS);
        };
        match self.vcpus[target] {
            VcpuPower::On => Outcome::Return(code::ALREADY_ON),
            VcpuPower::OnPending(_) => Outcome::Return(code::ON_PENDING),
            VcpuPower::Off if !in_ram(entry.pc) || !entry.pc.is_aligned(4) => {
                Outcome::Return(code::INVALID_ADDRESS)
            }
            VcpuPower::Off => {
                self.vcpus[target] = VcpuPower::OnPending(entry);
                Outcome::TurnedOn { target }
            }
        }
    }

    fn affinity_info(&self, mpidr: u64, lowest_level: u64) -> u64 {
        if lowest_level != 0 {
            // Since PSCI 1.0 levels above 0 need not be supported.
            return code::INVALID_PARAMETERS;
        }
        match self.target(mpidr).map(|target| self.vcpus[target]) {
            Some(VcpuPower::On) => 0,
            Some(VcpuPower::Off) => 1,
            Some(VcpuPower::OnPending(_)) => 2,
            None => code::INVALID_PARAMETERS,
        }
    }
}

/// PSCI_FEATURES: for CPU_SUSPEND the original state format, no OS-initiated mode.
fn feature(function: u32) -> u64 {
    match function {
        function::SMCCC_VERSION
        | function::VERSION
        | function::CPU_SUSPEND_32
        | function::CPU_SUSPEND_64
        | function::CPU_OFF
        | function::CPU_ON_32
        | function::CPU_ON_64
        | function::AFFINITY_INFO_32
        | function::AFFINITY_INFO_64
        | function::MIGRATE_INFO_TYPE
        | function::SYSTEM_OFF
        | function::SYSTEM_RESET
        | function::FEATURES => code::SUCCESS,
        _ => code::NOT_SUPPORTED,
    }
}

fn arch_feature(function: u32) -> u64 {
    match function {
        function::SMCCC_VERSION | function::SMCCC_ARCH_FEATURES => code::SUCCESS,
        _ => code::NOT_SUPPORTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENTRY: Entry = Entry {
        pc: Ipa(0x4000_0000),
        context: 7,
    };

    fn power(count: usize) -> Power {
        let mut power = Power::new(count, ENTRY);
        assert_eq!(power.begin(0), Some(ENTRY));
        power
    }

    fn call(power: &mut Power, x: [u64; 4]) -> Outcome {
        power.call(0, x, |ipa| (0x4000_0000..0x5000_0000).contains(&ipa.0))
    }

    #[test]
    fn a_vcpu_goes_on_and_off() {
        let mut p = power(2);
        let on = [function::CPU_ON_64.into(), 1, 0x4000_1000, 5];
        let info = [function::AFFINITY_INFO_64.into(), 1, 0, 0];
        assert_eq!(call(&mut p, info), Outcome::Return(1));
        assert_eq!(call(&mut p, on), Outcome::TurnedOn { target: 1 });
        assert_eq!(call(&mut p, info), Outcome::Return(2));
        assert_eq!(call(&mut p, on), Outcome::Return(code::ON_PENDING));
        assert_eq!(
            p.begin(1),
            Some(Entry {
                pc: Ipa(0x4000_1000),
                context: 5
            })
        );
        assert_eq!(p.begin(1), None);
        assert_eq!(call(&mut p, on), Outcome::Return(code::ALREADY_ON));
        assert_eq!(call(&mut p, info), Outcome::Return(0));
        assert_eq!(
            p.call(1, [function::CPU_OFF.into(), 0, 0, 0], |_| true),
            Outcome::TurnedOff
        );
        assert_eq!(call(&mut p, info), Outcome::Return(1));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let mut p = power(2);
        let on = |mpidr, pc| [function::CPU_ON_64.into(), mpidr, pc, 0];
        assert_eq!(
            call(&mut p, on(2, 0x4000_0000)),
            Outcome::Return(code::INVALID_PARAMETERS)
        );
        assert_eq!(
            call(&mut p, on(1 << 32 | 1, 0x4000_0000)),
            Outcome::Return(code::INVALID_PARAMETERS)
        );
        assert_eq!(
            call(&mut p, on(1, 0x900_0000)),
            Outcome::Return(code::INVALID_ADDRESS)
        );
        assert_eq!(
            call(&mut p, on(1, 0x4000_0002)),
            Outcome::Return(code::INVALID_ADDRESS)
        );
        let info = [function::AFFINITY_INFO_64.into(), 1, 1, 0];
        assert_eq!(
            call(&mut p, info),
            Outcome::Return(code::INVALID_PARAMETERS)
        );
    }

    #[test]
    fn a_32_bit_call_has_32_bit_arguments() {
        let mut p = power(2);
        let on = [
            function::CPU_ON_32.into(),
            0xffff_ffff_0000_0001,
            0xdead_beef_4000_0000,
            0,
        ];
        assert_eq!(call(&mut p, on), Outcome::TurnedOn { target: 1 });
        assert_eq!(p.begin(1).unwrap().pc, Ipa(0x4000_0000));
    }

    #[test]
    fn features_are_those_that_calls_answer() {
        for function in [0x8400_0000u32, 0xc400_0003, 0x8400_0009] {
            assert_eq!(feature(function), 0);
        }
        // SYSTEM_SUSPEND, MEM_PROTECT, the 64-bit form of a 32-bit call.
        for function in [0xc400_000eu32, 0x8400_0013, 0xc400_0000] {
            assert_eq!(feature(function), code::NOT_SUPPORTED);
        }
        assert_eq!(arch_feature(0x8000_8000), code::NOT_SUPPORTED);
    }

    proptest! {
        /// Whatever is called, a function that is not offered changes nothing.
        #[test]
        fn unknown_calls_change_nothing(function: u32, a: u64, b: u64, c: u64) {
            prop_assume!(feature(function) != 0 && arch_feature(function) != 0);
            let mut p = power(4);
            prop_assert_eq!(call(&mut p, [function.into(), a, b, c]), Outcome::Return(code::NOT_SUPPORTED));
            prop_assert_eq!(p.state(1), VcpuPower::Off);
        }
    }
}
