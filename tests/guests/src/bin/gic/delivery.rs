//! What arrives at a vCPU, how often and in which order.

use core::sync::atomic::{AtomicU32, Ordering};

use guest::{exception, gic, mmio, report, timer};

use crate::{SPIS, demand, demand_silence, forget, log, logging_handler, prepare, receive, spi};

/// SGIs.
const SGIS: u32 = 16;

/// Set by handlers for what they saw and must not print.
static SEEN: AtomicU32 = AtomicU32::new(0);

/// Runs the cases.
pub fn run() {
    report::case("spurious", spurious);
    report::case("spi", deliver);
    report::case("state-in-handler", state_in_handler);
    report::case("pending-while-disabled", disabled);
    report::case("priority-order", order);
    report::case("sixteen-sgis", sgi_flood);
    report::case("mixed-flood", mixed_flood);
    report::case("preemption", preemption);
    report::case("priority-mask", mask);
    report::case("active-and-pending", active_pending);
    report::case("split-end", split_end);
    report::case("active-blocks", active_blocks);
    report::case("distributor-off", distributor_off);
    exception::set_irq_handler(logging_handler);
}

fn begin(handler: fn()) {
    exception::mask_interrupts();
    exception::set_irq_handler(handler);
    SEEN.store(0, Ordering::Relaxed);
    forget();
}

fn spurious(name: &str) {
    begin(logging_handler);
    report::expect_eq(
        name,
        "acknowledge with nothing pending",
        gic::acknowledge(),
        gic::SPURIOUS,
    );
    report::expect_eq(
        name,
        "highest pending",
        gic::highest_pending(),
        gic::SPURIOUS,
    );
    gic::end(gic::SPURIOUS);
    demand_silence(name, "nothing");
}

fn deliver(name: &str) {
    for number in 0..SPIS {
        begin(logging_handler);
        prepare(spi(number), 0x80);
        gic::set_pending(spi(number));
        report::expect_eq(name, "highest pending", gic::highest_pending(), spi(number));
        demand(name, "one, once", &[spi(number)]);
        report::expect(
            name,
            "not pending afterwards",
            !gic::is_pending(spi(number)),
        );
        report::expect(name, "not active afterwards", !gic::is_active(spi(number)));
    }
}

/// Notes pending (1) and active (2) between acknowledge and end, and again (4, 8) after the end.
fn looking_handler() {
    let id = gic::acknowledge();
    if id & 0x3ff >= gic::SPECIAL {
        return;
    }
    let state = || u32::from(gic::is_pending(id)) | u32::from(gic::is_active(id)) << 1;
    let inside = state();
    gic::end(id);
    SEEN.store(inside | state() << 2 | 0x10, Ordering::Relaxed);
    log(id);
}

fn state_in_handler(name: &str) {
    begin(looking_handler);
    prepare(spi(0), 0x80);
    gic::set_pending(spi(0));
    demand(name, "one", &[spi(0)]);
    report::expect_eq(
        name,
        "active inside, nothing after the end",
        SEEN.load(Ordering::Relaxed),
        0x12,
    );
}

fn disabled(name: &str) {
    begin(logging_handler);
    prepare(spi(1), 0x80);
    gic::disable(spi(1));
    gic::set_pending(spi(1));
    demand_silence(name, "disabled");
    report::expect(name, "stays pending", gic::is_pending(spi(1)));
    gic::enable(spi(1));
    demand(name, "enabled again", &[spi(1)]);
    gic::set_pending(spi(1));
    gic::disable(spi(1));
    demand_silence_after(name, &[spi(1)]);
    gic::clear_pending(spi(1));
    gic::enable(spi(1));
    demand_silence_after(name, &[spi(1)]);
}

/// Demands that nothing came beyond what is logged already.
fn demand_silence_after(name: &str, logged: &[u32]) {
    demand(name, "no more", logged);
}

/// Six SPIs made pending in one order arrive in that of their priorities.
fn order(name: &str) {
    begin(logging_handler);
    let priorities = [0x60, 0x20, 0xa0, 0x40, 0x80, 0x10];
    for (number, priority) in priorities.iter().enumerate() {
        prepare(spi(number as u32), *priority);
    }
    for number in 0..priorities.len() as u32 {
        gic::set_pending(spi(number));
    }
    demand(
        name,
        "most urgent first",
        &[spi(5), spi(1), spi(3), spi(0), spi(4), spi(2)],
    );
}

/// More than any list holds: all SGIs to oneself, the last the most urgent.
fn sgi_flood(name: &str) {
    for round in 0..4 {
        begin(logging_handler);
        let mut wanted = [0; SGIS as usize];
        for id in 0..SGIS {
            gic::set_priority(id, 8 * (SGIS - 1 - id) as u8);
            wanted[(SGIS - 1 - id) as usize] = id;
        }
        for id in 0..SGIS {
            gic::send_sgi((id * 7 + round) % SGIS, 0);
        }
        demand(name, "all, the most urgent first", &wanted);
    }
    for id in 0..SGIS {
        gic::set_priority(id, gic::DEFAULT_PRIORITY);
    }
}

/// All free SPIs and all SGIs at once, with priorities that interleave.
fn mixed_flood(name: &str) {
    begin(logging_handler);
    let mut wanted = [0; (SGIS + SPIS) as usize];
    for id in 0..SGIS {
        gic::set_priority(id, (id * 0x08) as u8);
    }
    for number in 0..SPIS {
        // Less urgent than every SGI, and backwards among themselves.
        prepare(spi(number), 0x80 + ((SPIS - 1 - number) * 8) as u8);
        gic::set_pending(spi(number));
        wanted[(SGIS + SPIS - 1 - number) as usize] = spi(number);
    }
    for id in (0..SGIS).rev() {
        gic::send_sgi(id, 0);
        wanted[id as usize] = id;
    }
    demand(name, "all, the most urgent first", &wanted);
    for id in 0..SGIS {
        gic::set_priority(id, gic::DEFAULT_PRIORITY);
    }
}

/// In the handler of spi(0) (0x80), makes spi(1) (0x40) and spi(2) (0xa0) pending and lets interrupts in.
fn nesting_handler() {
    let id = gic::acknowledge();
    if id & 0x3ff >= gic::SPECIAL {
        return;
    }
    log(id);
    if id == spi(0) {
        gic::set_pending(spi(2));
        gic::set_pending(spi(1));
        exception::unmask_interrupts();
        timer::delay(100);
        exception::mask_interrupts();
        // Which of them came in between: a marker.
        log(0x100_0000 - 1);
    }
    gic::end(id);
}

fn preemption(name: &str) {
    begin(nesting_handler);
    gic::set_binary_point(0);
    prepare(spi(0), 0x80);
    prepare(spi(1), 0x40);
    prepare(spi(2), 0xa0);
    gic::set_pending(spi(0));
    demand(
        name,
        "the urgent one inside, the other after",
        &[spi(0), spi(1), 0xff_ffff, spi(2)],
    );
}

fn mask(name: &str) {
    begin(logging_handler);
    prepare(spi(3), 0x80);
    gic::set_mask(0x80);
    gic::set_pending(spi(3));
    demand_silence(name, "masked by its own priority");
    report::expect(name, "stays pending", gic::is_pending(spi(3)));
    gic::set_mask(0x90);
    demand(name, "let through", &[spi(3)]);
    gic::set_mask(0xf0);
}

/// Makes its own interrupt pending again, the first time.
fn again_handler() {
    let id = gic::acknowledge();
    if id & 0x3ff >= gic::SPECIAL {
        return;
    }
    log(id);
    if SEEN.load(Ordering::Relaxed) == 0 {
        gic::set_pending(id);
        SEEN.store(
            u32::from(gic::is_pending(id)) | u32::from(gic::is_active(id)) << 1,
            Ordering::Relaxed,
        );
    }
    gic::end(id);
}

fn active_pending(name: &str) {
    begin(again_handler);
    prepare(spi(4), 0x80);
    gic::set_pending(spi(4));
    demand(name, "twice", &[spi(4), spi(4)]);
    report::expect_eq(
        name,
        "pending and active inside",
        SEEN.load(Ordering::Relaxed),
        3,
    );
}

/// Ends without deactivating, and makes the first one pending again.
fn dropping_handler() {
    let id = gic::acknowledge();
    if id & 0x3ff >= gic::SPECIAL {
        return;
    }
    log(id);
    gic::end(id);
    if SEEN.fetch_add(1, Ordering::Relaxed) == 0 {
        gic::set_pending(id);
    }
}

fn split_end(name: &str) {
    begin(dropping_handler);
    gic::set_split_end(true);
    prepare(spi(5), 0x80);
    prepare(spi(6), 0xa0);
    gic::set_pending(spi(5));
    demand(name, "not again while active", &[spi(5)]);
    report::expect(name, "active after the end", gic::is_active(spi(5)));
    report::expect(name, "pending again", gic::is_pending(spi(5)));
    // Its priority is dropped, so a less urgent one gets in.
    gic::set_pending(spi(6));
    demand(name, "another one, less urgent", &[spi(5), spi(6)]);
    gic::deactivate(spi(6));
    gic::deactivate(spi(5));
    demand(name, "again when deactivated", &[spi(5), spi(6), spi(5)]);
    gic::deactivate(spi(5));
    report::expect(
        name,
        "not active in the end",
        !gic::is_active(spi(5)) && !gic::is_active(spi(6)),
    );
    gic::set_split_end(false);
}

/// An interrupt made active by register is not delivered until that is taken back.
fn active_blocks(name: &str) {
    begin(logging_handler);
    prepare(spi(7), 0x80);
    gic::set_active(spi(7));
    gic::set_pending(spi(7));
    demand_silence(name, "active by register");
    gic::clear_active(spi(7));
    demand(name, "taken back", &[spi(7)]);
}

fn distributor_off(name: &str) {
    begin(logging_handler);
    prepare(spi(0), 0x80);
    let at = gic::distributor() + gic::GICD_CTLR;
    let former = mmio::read32(at);
    mmio::write32(at, former & !3);
    gic::set_pending(spi(0));
    demand_silence(name, "off");
    mmio::write32(at, former);
    receive(1);
    demand(name, "on again", &[spi(0)]);
}
