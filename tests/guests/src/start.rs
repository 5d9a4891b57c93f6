//! From the first instruction to a program's main.
//!
//! `start.S` turns translation and caches on (atomics need them), zeroes what must be zero, relocates the image, and calls in here on
//! vCPU 0's stack. A main that returns ends the guest.

use core::arch::global_asm;

use crate::{console, exception, machine, psci, report, smp};

/// vCPUs that a guest can use; each has a stack and a local record in the image.
pub const MAX_CPUS: usize = 8;

/// Bytes of stack for each vCPU.
pub const STACK_BYTES: usize = 32 << 10;

global_asm!(
    include_str!("start.S"),
    stack_bytes = const STACK_BYTES,
    local_bytes = const smp::LOCAL_BYTES,
);

/// The stacks of all vCPUs, one after the other.
#[repr(C, align(4096))]
struct Stacks(core::cell::UnsafeCell<[u8; STACK_BYTES * MAX_CPUS]>);

// SAFETY: each vCPU uses only its own part, and only as its stack.
unsafe impl Sync for Stacks {}

#[unsafe(no_mangle)]
static CPU_STACKS: Stacks = Stacks(core::cell::UnsafeCell::new([0; STACK_BYTES * MAX_CPUS]));

unsafe extern "Rust" {
    /// The program; [`entry!`](crate::entry) defines it.
    fn guest_main(machine: &'static machine::Machine);
}

/// Called by `start.S` with the address of the device tree.
#[unsafe(no_mangle)]
extern "C" fn guest_start(tree: usize) -> ! {
    console::init();
    exception::init();
    match machine::init(tree) {
        Ok(machine) => {
            smp::init(machine);
            // SAFETY: `entry!` defines the function with this signature in every program.
            unsafe { guest_main(machine) }
        }
        Err(why) => report::fail("device-tree", format_args!("{why}")),
    }
    psci::system_off()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    console::force_unlock();
    report::fail("panic", format_args!("{info}"));
    psci::system_off()
}
