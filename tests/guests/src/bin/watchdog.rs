//! `watchdog`: the generic watchdog (Base System Architecture, DEN0094) as a guest sees it, and what ends a guest that shows no sign of life.
//!
//! Parameters: `refreshes=` (30): so many, each a tenth of the time in which one must come; `end=watchdog` (after the checks it stops refreshing), `end=panic` (it tells that it panics), otherwise it turns itself off.
//! Output: `BOOT` in each life, `PASS watchdog`, and `END` before it stops to live.
#![no_std]
#![no_main]

use guest::{Machine, exception, gic, mmio, println, report, timer};

const REFRESH: usize = 0x0905_0000;
const CONTROL: usize = 0x0905_1000;
const PANIC: usize = 0x0906_0000;
/// Control frame: WCS, WOR; W_IIDR in both.
const WCS: usize = CONTROL;
const WOR: usize = CONTROL + 8;
const IIDR: usize = 0xfcc;
const ENABLED: u32 = 1;
const WS0: u32 = 2;
/// The interrupt of WS0.
const INTID: u32 = 34;
/// Between a refresh and a signal, microseconds.
const OFFSET_US: u64 = 100_000;

guest::entry!(main);

fn main(machine: &'static Machine) {
    println!("BOOT");
    check_registers();
    check_refreshes(machine.number("refreshes", 30));
    check_signal();
    report::conclude("watchdog");
    match machine.text("end") {
        Some("watchdog") => {
            println!("END");
            loop {
                exception::park();
            }
        }
        Some("panic") => {
            println!("END");
            mmio::write8(PANIC, 1);
            report::fail("watchdog", format_args!("it lives on after its panic"));
        }
        _ => mmio::write32(WCS, 0),
    }
}

fn check_registers() {
    for frame in [REFRESH, CONTROL] {
        let version = mmio::read32(frame + IIDR) >> 16 & 15;
        report::expect_eq("watchdog", "W_IIDR.ArchVersion", version, 1);
    }
    report::expect_eq("watchdog", "WCS at the start", mmio::read32(WCS), 0);
    report::expect_eq("watchdog", "the panics taken", mmio::read8(PANIC), 1);
    let offset = timer::micros(OFFSET_US);
    mmio::write32(WOR, offset as u32);
    mmio::write32(WOR + 4, (offset >> 32) as u32);
    report::expect_eq("watchdog", "WOR", u64::from(mmio::read32(WOR)), offset);
}

/// It refreshes, for longer than it may be silent, and nothing happens.
fn check_refreshes(count: u64) {
    mmio::write32(WCS, ENABLED);
    println!("REFRESHES");
    for _ in 0..count {
        timer::delay(OFFSET_US / 10);
        mmio::write32(REFRESH, 0);
    }
    report::expect_eq("watchdog", "WCS when refreshed", mmio::read32(WCS), ENABLED);
}

/// It refreshes after the first signal, which goes away by that.
fn check_signal() {
    gic::set_priority(INTID, 0x80);
    timer::delay(OFFSET_US * 3 / 2);
    report::expect_eq(
        "watchdog",
        "WCS in silence",
        mmio::read32(WCS),
        ENABLED | WS0,
    );
    report::expect("watchdog", "WS0 is not pending", gic::is_pending(INTID));
    mmio::write32(REFRESH, 0);
    report::expect_eq(
        "watchdog",
        "WCS after a refresh",
        mmio::read32(WCS),
        ENABLED,
    );
    report::expect("watchdog", "WS0 is still pending", !gic::is_pending(INTID));
}
