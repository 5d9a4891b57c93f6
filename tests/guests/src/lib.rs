//! What the test guests share: a small kit to run bare-metal programs on the guest machine.
//!
//! Each program in `src/bin` is one flat binary that runs at EL1, on Hearth's guest machine as well as directly on QEMU's `virt`
//! without a hypervisor. So a test can be validated against the architecture as QEMU has it before it judges Hearth.
//!
//! The programs: `bench` counts instructions, `attack` tries everything that is not allowed, `count` is the neighbour who notices a
//! disturbance, `reboot` looks for leftovers of its former life, `storm` makes cross-calls, `timers` parks and wants to be woken in time, `spin` shows how
//! cores are divided, `psci` and `gic` check their subject against the specification, `drivers` runs the board's own drivers,
//! `io` loads a card and a disk to be measured, `echo` answers what comes, `answer` numbers its answers, `flood` sends what nobody wants, `virtio_attack` breaks the rules of
//! every virtio device, `dirty` rewrites its memory, `rings` counts what the device's side of a queue costs, `disks` that of a disk, `frames` what the
//! network does, `watchdog` shows no sign of life. `build` makes the binaries; `baseline` runs them all
//! without a hypervisor. Each program's own front page has its parameters and its output.
//!
//! How a guest tells what it found: lines on its console, the first word being the kind.
//! `PASS name …`, `FAIL name why`, `SKIP name why`, `BENCH key value`, and each program's own progress lines.
//! It ends with PSCI `SYSTEM_OFF`. Parameters are `key=value` words of the device tree's `bootargs`; every program knows `bare=1`: it
//! runs without a hypervisor, so what QEMU itself does not promise is not demanded.
//!
//! Read in this order: [`start`] (entry, and what a program's main is given), [`machine`] (the device tree), [`console`] and [`report`],
//! [`exception`] (interrupts, and [`exception::probe`], which survives any fault), [`gic`], [`timer`], [`smp`], [`psci`],
//! [`mmu`] and [`mmio`], [`virtio`] and [`traffic`], [`host`], [`rng`], [`turns`].
//!
//! Registers are named by the instruction that the test means to execute, so the macros [`read_sysreg!`] and [`write_sysreg!`] take any name,
//! also those that must fault.
#![no_std]

pub mod console;
pub mod exception;
pub mod gic;
pub mod host;
pub mod machine;
pub mod mmio;
pub mod mmu;
pub mod psci;
pub mod report;
pub mod rng;
pub mod smp;
pub mod start;
pub mod timer;
pub mod traffic;
pub mod turns;
pub mod virtio;

pub use machine::Machine;

/// Reads a system register by its assembler name.
#[macro_export]
macro_rules! read_sysreg {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading a system register touches no memory; a fault is caught by the vectors.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack)) };
        value
    }};
}

/// Writes a system register by its assembler name and synchronises the context.
#[macro_export]
macro_rules! write_sysreg {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the program owns its whole machine; registers that memory safety rests on are only written in `mmu` and `start`.
        unsafe { core::arch::asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value, options(nostack)) };
    }};
}

/// Makes `$main`, a `fn(&'static Machine)`, the guest's program.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn guest_main(machine: &'static $crate::Machine) {
            $main(machine)
        }
    };
}
