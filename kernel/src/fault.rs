//! When EL2 itself fails: say what is known, and stop the board.
//!
//! A fault of EL2 is a bug of ours, whatever a guest did. Nothing is trusted any more: no lock is taken, nothing is allocated, and the
//! report goes straight to the UART. `scripts/symbolize` turns its addresses to functions and lines.

use core::arch::asm;
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::boot::image;
use crate::console::emergency;
use crate::smp::this_core;
use crate::{interrupts, percore, queue};

/// Frames of a backtrace, at most.
const DEPTH: usize = 32;

static FAILED: AtomicBool = AtomicBool::new(false);

/// Whether some core has failed: then the others stop too.
pub fn has_failed() -> bool {
    FAILED.load(Ordering::Acquire)
}

/// The registers as `start.S` stores them.
#[repr(C)]
pub struct Registers {
    x: [u64; 31],
    sp: u64,
    vector: u64,
}

macro_rules! read {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading this register has no effect.
        unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }};
}

/// An exception that EL2 took from itself.
#[unsafe(no_mangle)]
extern "C" fn fault(registers: &Registers) -> ! {
    begin();
    let mut out = emergency();
    let esr = read!("esr_el2");
    let what = match registers.vector {
        0 => "synchronous exception",
        1 => "interrupt",
        2 => "fast interrupt",
        _ => "system error",
    };
    let elr = read!("elr_el2");
    let _ = writeln!(
        out,
        "\nhearth: FAULT at EL2 on core {}: {what}, class {:#x}, ESR {esr:#x}, FAR {:#x}, ELR {elr:#x}, SPSR {:#x}",
        this_core(),
        esr >> 26,
        read!("far_el2"),
        read!("spsr_el2"),
    );
    for (n, pair) in registers.x.chunks(4).enumerate() {
        let _ = write!(out, "hearth: ");
        for (m, value) in pair.iter().enumerate() {
            let _ = write!(out, "x{:<2} {value:016x} ", n * 4 + m);
        }
        let _ = writeln!(out);
    }
    let _ = writeln!(out, "hearth: sp  {:016x}", registers.sp);
    backtrace(&mut out, elr, registers.x[29]);
    stop()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    begin();
    let mut out = emergency();
    let _ = writeln!(
        out,
        "\nhearth: PANIC on core {}: {}",
        this_core(),
        info.message()
    );
    if let Some(location) = info.location() {
        let _ = writeln!(out, "hearth: at {location}");
    }
    let frame: u64;
    let here: u64;
    // SAFETY: reading the frame pointer and the program counter.
    unsafe {
        asm!("mov {}, x29", "adr {}, .", out(reg) frame, out(reg) here, options(nomem, nostack, preserves_flags))
    };
    backtrace(&mut out, here, frame);
    stop()
}

/// The first core that fails speaks; one that fails while another does is silent.
fn begin() {
    if FAILED.swap(true, Ordering::AcqRel) {
        halt();
    }
}

fn backtrace(out: &mut impl Write, pc: u64, mut frame: u64) {
    match percore::of(this_core())
        .current()
        .map(queue::guest_and_vcpu)
    {
        Some((guest, vcpu)) => {
            let _ = writeln!(out, "hearth: guest {guest}, vCPU {vcpu} was loaded");
        }
        None => {
            let _ = writeln!(out, "hearth: no guest was loaded");
        }
    }
    let _ = writeln!(out, "hearth: backtrace, image at {:#x}:", image::start());
    let offset = |address: u64| address.wrapping_sub(image::start() as u64);
    let _ = writeln!(out, "hearth:   #0 image+{:#x}", offset(pc));
    for depth in 1..DEPTH {
        // A frame record lies in the image's own memory (stacks are part of it) and is aligned; records go up.
        let within = image::rodata_end() as u64..image::end() as u64 - 16;
        if !within.contains(&frame)
            || !frame.is_multiple_of(8)
            || image::guards().any(|g| frame & !0xfff == g as u64)
        {
            return;
        }
        // SAFETY: mapped memory of the image, checked just now.
        let (next, link) = unsafe { (*(frame as *const u64), *((frame + 8) as *const u64)) };
        if link == 0 {
            return;
        }
        // The call is the instruction before the return address.
        let _ = writeln!(out, "hearth:   #{depth} image+{:#x}", offset(link) - 4);
        if next <= frame {
            return;
        }
        frame = next;
    }
}

fn stop() -> ! {
    let _ = writeln!(emergency(), "hearth: the board has stopped");
    interrupts::kick_others();
    halt()
}

/// Nothing more on this core.
pub fn halt() -> ! {
    loop {
        // SAFETY: waits.
        unsafe { asm!("wfi", options(nomem, nostack)) };
    }
}
