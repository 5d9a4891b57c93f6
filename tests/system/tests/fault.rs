//! A fault of EL2 itself: the board tells what is needed to find it, and stops.
//!
//! The image has no way to fail on request. The test reaches in with a debugger, waits until a core is in the midst of
//! EL2's code, and sends it to an address that nothing is mapped at.

use std::process::Command;
use std::time::{Duration, Instant};

use system::gdb::{self, Debugger, Registers};
use system::saw;
use system::{Board, Guest, Machine, Package, paths};

const LIMIT: Duration = Duration::from_secs(120);
/// How long the board runs between two looks at its cores.
const LOOK: Duration = Duration::from_millis(3);
/// The largest stack of EL2: a frame pointer in a stack is no further above its stack pointer.
const STACK: u64 = 64 << 10;
/// No board has anything there.
const NOWHERE: u64 = 0x7f_dead_0000;
/// Cores of the board.
const CORES: u8 = 2;

/// Whether a core runs EL2's Rust, with frame records on its stack. At EL2's edges the frame pointer is still the guest's.
fn is_deep_in_el2(registers: &Registers) -> bool {
    registers.is_el2() && registers.x(29).wrapping_sub(registers.sp()) < STACK
}

/// Stops the board where a core is deep in EL2; gives the core. One that stands where it stood waits for an interrupt: it would
/// not notice.
fn catch_in_el2(debugger: &mut Debugger) -> u8 {
    let limit = Instant::now() + LIMIT;
    let mut former = [const { None }; CORES as usize];
    loop {
        for core in 0..CORES {
            let registers = debugger.registers(core);
            let former = former[usize::from(core)].replace(registers.clone());
            if is_deep_in_el2(&registers) && former.is_some_and(|former| former != registers) {
                return core;
            }
        }
        assert!(Instant::now() < limit, "no core was ever seen in EL2");
        debugger.run();
        std::thread::sleep(LOOK);
        debugger.stop();
    }
}

#[test]
fn a_fault_in_el2_tells_where_and_stops_the_board() {
    const NAME: &str = "a_fault_in_el2_tells_where_and_stops_the_board";
    let (arguments, socket) = gdb::arguments(NAME);
    // It traps all the time, so that EL2 is found at work for it.
    let package = Package::of([Guest::bare_metal("bench", 2).with("rounds=1000000000")]).pack(NAME);
    let mut board = Board::boot_with(NAME, Machine::virt(CORES), Some(&package), &arguments)
        .tolerate("hearth: FAULT");
    board.expect("first guest entered", LIMIT);
    let mut debugger = Debugger::connect(&socket);
    let core = catch_in_el2(&mut debugger);
    debugger.jump(core, NOWHERE);
    debugger.run();

    let line = board.expect("hearth: FAULT at EL2 on core ", LIMIT);
    assert!(line.contains(&format!("on core {core}:")), "{line}");
    assert!(line.contains(&format!("FAR {NOWHERE:#x}")), "{line}");
    board.expect("hearth: x28 ", LIMIT);
    board.expect("hearth: sp ", LIMIT);
    let guest = board.expect("loaded", LIMIT);
    board.expect("hearth: backtrace, image at 0x", LIMIT);
    board.expect("hearth:   #1 image+0x", LIMIT);
    board.expect("hearth: the board has stopped", LIMIT);

    let output = Command::new(paths::tool())
        .arg("symbolize")
        .arg(paths::image_elf())
        .arg(paths::results().join(NAME).with_extension("log"))
        .output()
        .expect("hearth symbolize started");
    let named = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{named}");
    // The core's own main is under every stack, whatever the compiler has put into one function above it.
    assert!(
        named.contains("_main at ") && named.contains("kernel/src/main.rs:"),
        "no names in {named}"
    );
    saw!(NAME, "{line}\n{NAME}: {guest}");
}
