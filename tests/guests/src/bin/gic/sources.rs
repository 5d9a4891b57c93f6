//! The lines of devices: the UART's level, the timers' levels.

use core::sync::atomic::{AtomicU32, Ordering};

use guest::{console, exception, gic, mmio, report, timer};

use crate::{demand, demand_silence, entry, forget, log, logged, logging_handler, receive};

/// The UART's SPI (guest machine contract).
const UART_SPI: u32 = 33;
/// Times that a handler leaves a level as it is before it lowers it.
const REPEATS: u32 = 3;

/// Interrupts of the present case.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// Runs the cases.
pub fn run(bare: bool) {
    report::case("uart-level", uart);
    report::case("virtual-timer-level", |name| {
        timer_level(name, timer::VIRTUAL_PPI, bare)
    });
    report::case("physical-timer-level", |name| {
        timer_level(name, timer::PHYSICAL_PPI, bare)
    });
    exception::set_irq_handler(logging_handler);
}

fn begin(handler: fn()) {
    exception::mask_interrupts();
    exception::set_irq_handler(handler);
    TAKEN.store(0, Ordering::Relaxed);
    forget();
}

/// Lowers the line only at the last of its turns: a level comes again as long as it is up.
fn level_handler() {
    let id = gic::acknowledge();
    if id & 0x3ff >= gic::SPECIAL {
        return;
    }
    log(id);
    if TAKEN.fetch_add(1, Ordering::Relaxed) + 1 == REPEATS {
        match id {
            UART_SPI => mmio::write32(console::UART + console::IMSC, 0),
            timer::VIRTUAL_PPI => timer::disarm_virtual(),
            _ => timer::disarm_physical(),
        }
    }
    gic::end(id);
}

/// Writing a byte raises the transmit interrupt, which masking lowers.
fn uart(name: &str) {
    begin(level_handler);
    gic::disable(UART_SPI);
    gic::set_edge(UART_SPI, false);
    gic::set_priority(UART_SPI, 0x80);
    gic::set_target(UART_SPI, 0);
    console::put(b'\n');
    let raised = timer::wait_until(1_000, || {
        mmio::read32(console::UART + console::RIS) & console::TX_INTERRUPT != 0
    });
    report::expect(name, "raw transmit interrupt", raised);
    report::expect(name, "masked, so not pending", !gic::is_pending(UART_SPI));
    mmio::write32(console::UART + console::IMSC, console::TX_INTERRUPT);
    report::expect(name, "unmasked, so pending", gic::is_pending(UART_SPI));
    gic::clear_pending(UART_SPI);
    report::expect(
        name,
        "pending as long as the line is up",
        gic::is_pending(UART_SPI),
    );
    gic::enable(UART_SPI);
    demand(
        name,
        "as often as the line was up",
        &[UART_SPI; REPEATS as usize],
    );
    report::expect(name, "lowered, so not pending", !gic::is_pending(UART_SPI));
    gic::disable(UART_SPI);
    mmio::write32(console::UART + console::ICR, console::TX_INTERRUPT);
    report::expect_eq(
        name,
        "cleared",
        mmio::read32(console::UART + console::RIS) & console::TX_INTERRUPT,
        0,
    );
}

/// Demands the timer's interrupt as often as its line was up. QEMU 10's GICv2 looks at a physical line again only at its next event, not when a
/// guest's end deactivates the interrupt (`gic_complete_irq`), so behind a hypervisor on such a board once is all that is certain.
fn demand_level(name: &str, id: u32, bare: bool) {
    if bare || gic::is_v3() || id != timer::VIRTUAL_PPI {
        demand(name, "as often as the line was up", &[id; REPEATS as usize]);
        return;
    }
    receive(1);
    report::expect(name, "at least once", logged() >= 1 && entry(0) == id);
    timer::disarm_virtual();
}

fn timer_level(name: &str, id: u32, bare: bool) {
    begin(level_handler);
    let arm = |micros: u64| match id {
        timer::VIRTUAL_PPI => timer::arm_virtual(timer::now() + timer::micros(micros)),
        _ => timer::arm_physical(timer::now_physical() + timer::micros(micros)),
    };
    gic::disable(id);
    arm(0);
    let up = timer::wait_until(1_000, || gic::is_pending(id));
    report::expect(name, "due, so pending though disabled", up);
    gic::clear_pending(id);
    report::expect(
        name,
        "pending as long as the line is up",
        gic::is_pending(id),
    );
    arm(1_000_000);
    report::expect(name, "not due, so not pending", !gic::is_pending(id));
    gic::enable(id);
    demand_silence(name, "not due");
    arm(100);
    demand_level(name, id, bare);
    report::expect(name, "disarmed, so not pending", !gic::is_pending(id));

    // Due and lowered before anybody looks. Where the timer is mapped through a list register, nobody sees it lowered, so one
    // interrupt too many is all that a hypervisor may make of it.
    begin(level_handler);
    arm(0);
    timer::delay(100);
    arm(1_000_000);
    receive(0);
    let allowed = if bare { 0 } else { 1 };
    report::expect(
        name,
        "raised and lowered unseen, yet taken more than once",
        logged() <= allowed,
    );
    begin(level_handler);
    arm(0);
    demand_level(name, id, bare);
    gic::disable(id);
}
