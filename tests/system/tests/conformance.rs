//! PSCI and the interrupt controller, as guests find them from inside: with a core for each vCPU, and with fewer.

use std::time::Duration;

use system::saw;
use system::{Board, Guest, Machine, Package};

/// A quiet machine needs six seconds.
const LIMIT: Duration = Duration::from_secs(120);

fn conforms(name: &str, machine: Machine, program: &str) {
    let guest = Guest::bare_metal(program, 4);
    let mut board = Board::boot(name, machine, &Package::of([guest]));
    // The last line; each case has its own before.
    board.expect(&format!("[{program}] PASS {program}\r\n"), LIMIT);
    board.expect("has stopped: it turned itself off", LIMIT);
    let cases = board.text().matches("] PASS ").count() - 1;
    let skipped = board.text().matches("] SKIP ").count();
    saw!(name, "{cases} cases passed, {skipped} skipped");
    assert!(cases > 10, "{cases} cases only");
    board.power_off();
}

macro_rules! conformance {
    ($($name:ident: $program:literal, $machine:expr;)+) => {$(
        #[test]
        fn $name() {
            conforms(stringify!($name), $machine, $program);
        }
    )+};
}

conformance! {
    psci_on_gicv3_4_cores: "psci", Machine::virt(4);
    psci_on_gicv3_2_cores: "psci", Machine::virt(2);
    psci_on_gicv3_1_core: "psci", Machine::virt(1);
    psci_on_gicv2_4_cores: "psci", Machine::virt(4).gic(2);
    psci_on_gicv2_2_cores: "psci", Machine::virt(2).gic(2);
    psci_on_gicv2_1_core: "psci", Machine::virt(1).gic(2);
    psci_on_raspi4b: "psci", Machine::raspi4b();
    gic_on_gicv3_4_cores: "gic", Machine::virt(4);
    gic_on_gicv3_2_cores: "gic", Machine::virt(2);
    gic_on_gicv3_1_core: "gic", Machine::virt(1);
    gic_on_gicv2_4_cores: "gic", Machine::virt(4).gic(2);
    gic_on_gicv2_2_cores: "gic", Machine::virt(2).gic(2);
    gic_on_gicv2_1_core: "gic", Machine::virt(1).gic(2);
    gic_on_raspi4b: "gic", Machine::raspi4b();
}
