//! `psci`: the guest's PSCI 1.1 (Arm DEN 0022) and SMCCC 1.1 (DEN 0028), by HVC and by SMC.
//!
//! With `bare=1` only what QEMU's own PSCI has is demanded: HVC alone, no SMCCC_VERSION, no check of entry points,
//! AFFINITY_INFO at any level, and a CPU_ON that takes effect some time after it returns.
//! Output: `PASS case` or `FAIL case why` for each case, at the end `PASS psci`. Wants two vCPUs or more.
#![no_std]
#![no_main]

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use guest::psci::Conduit;
use guest::{Machine, exception, gic, machine, println, psci, report, smp, timer};

global_asm!(include_str!("psci.S"));

// SAFETY: `psci.S` defines it with this signature.
unsafe extern "C" {
    fn call_with_pattern(function: u32, a: u64, b: u64, c: u64, smc: u64) -> u64;
}

/// PSCI 1.1.
const VERSION_1_1: i64 = 0x1_0001;
/// SMCCC_VERSION.
const SMCCC_VERSION: u32 = 0x8000_0000;
/// SMCCC_ARCH_FEATURES.
const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
/// Functions that PSCI 1.1 makes mandatory, and the optional ones that this guest machine offers.
const OFFERED: [u32; 11] = [
    psci::PSCI_VERSION,
    psci::PSCI_FEATURES,
    psci::PSCI_CPU_SUSPEND_32,
    psci::PSCI_CPU_SUSPEND_64,
    psci::PSCI_CPU_OFF,
    psci::PSCI_CPU_ON_32,
    psci::PSCI_CPU_ON_64,
    psci::PSCI_AFFINITY_INFO_32,
    psci::PSCI_AFFINITY_INFO_64,
    psci::PSCI_SYSTEM_OFF,
    psci::PSCI_SYSTEM_RESET,
];
/// Identifiers that nobody defines: reserved PSCI numbers, 32-bit functions with the 64-bit bit, other owners, yielding calls, extremes.
const UNKNOWN: [u32; 14] = [
    0x8400_001f,
    0xc400_001f,
    0xc400_0000,
    0xc400_0002,
    0xc400_0008,
    0xc400_000a,
    0x8500_0000,
    0xc500_1234,
    0x8600_0005,
    0x8700_0000,
    0xbf00_0000,
    0x0400_0000,
    0x4b00_0000,
    0xffff_fffe,
];
/// Bits of DAIF that are set when all is masked.
const DAIF_ALL: u64 = 0x3c0;
/// Times that a vCPU is turned on and off.
const CYCLES: u64 = 100;
/// How long a suspended vCPU sleeps, in microseconds.
const SLEEP_US: u64 = 2_000;
/// CPU_SUSPEND: power state of a power-down in the original format.
const POWER_DOWN: u64 = 1 << 16;

/// Times that the secondary came up; what it is told to do next.
static STARTS: AtomicU64 = AtomicU64::new(0);
static RELEASE: AtomicU64 = AtomicU64::new(0);
/// What CPU_SUSPEND gave the secondary, and when it was due and back.
static ANSWER: AtomicU64 = AtomicU64::new(0);
static SLEPT_UNTIL: AtomicU64 = AtomicU64::new(0);

guest::entry!(main);

fn main(machine: &'static Machine) {
    let bare = machine.is_bare();
    let by_smc = exception::smc_works();
    if by_smc {
        run(Conduit::Smc, "smc", bare);
    } else if bare {
        report::skip("smc", "undefined without a hypervisor");
    } else {
        report::fail("smc", format_args!("SMC is undefined"));
    }
    run(Conduit::Hvc, "hvc", bare);
    report::case("standby", standby);
    report::case("reserved-power-state", |name| {
        let answer = psci::call(
            psci::PSCI_CPU_SUSPEND_64,
            [0xffff_ffff, smp::entry_point(), 0],
        );
        report::expect_eq(name, "CPU_SUSPEND", answer, psci::INVALID_PARAMETERS);
    });
    if machine.cpus().len() > 1 {
        let target = machine.cpus()[1];
        report::case("cpu-on-errors", |name| errors(name, target, bare));
        report::case("cpu-cycle", |name| cycle(name, target, bare));
        report::case("cpu-power-down", power_down);
    } else {
        report::skip("cpu-on", "one vCPU");
    }
    report::conclude("psci");
}

fn run(conduit: Conduit, way: &str, bare: bool) {
    println!("CONDUIT {way}");
    report::case("version", |name| {
        report::expect_eq(
            name,
            way,
            psci::call_by(conduit, psci::PSCI_VERSION, [0; 3]),
            VERSION_1_1,
        );
    });
    report::case("features", |name| features(name, conduit));
    report::case("unknown", |name| unknown(name, conduit));
    report::case("preserved", |name| preserved(name, conduit));
    if bare {
        report::skip("smccc", "QEMU's PSCI has no SMCCC_VERSION");
    } else {
        report::case("smccc", |name| smccc(name, conduit));
    }
}

fn features(name: &str, conduit: Conduit) {
    for function in OFFERED {
        let flags = psci::call_by(conduit, psci::PSCI_FEATURES, [function.into(), 0, 0]);
        let suspend = matches!(
            function,
            psci::PSCI_CPU_SUSPEND_32 | psci::PSCI_CPU_SUSPEND_64
        );
        let allowed = if suspend { 3 } else { 0 };
        if flags & !allowed != 0 {
            report::fail(
                name,
                format_args!("PSCI_FEATURES({function:#x}) is {flags:#x}"),
            );
        }
    }
    for function in UNKNOWN {
        let answer = psci::call_by(conduit, psci::PSCI_FEATURES, [function.into(), 0, 0]);
        if answer != psci::NOT_SUPPORTED {
            report::fail(
                name,
                format_args!("PSCI_FEATURES({function:#x}) is {answer:#x}"),
            );
        }
    }
    let migrate = psci::call_by(conduit, psci::PSCI_MIGRATE_INFO_TYPE, [0; 3]);
    report::expect(
        name,
        "MIGRATE_INFO_TYPE: a trusted OS appeared",
        matches!(migrate, 2 | psci::NOT_SUPPORTED),
    );
}

fn unknown(name: &str, conduit: Conduit) {
    for function in UNKNOWN {
        let answer = psci::call_by(conduit, function, [0, 1, 2]);
        if answer != psci::NOT_SUPPORTED {
            report::fail(name, format_args!("{function:#x} answers {answer:#x}"));
        }
    }
}

/// DEN 0028 2.6: since SMCCC 1.1, x4 to x17 keep their values; x18 up always do.
fn preserved(name: &str, conduit: Conduit) {
    let smc = u64::from(conduit == Conduit::Smc);
    for function in [
        psci::PSCI_VERSION,
        psci::PSCI_FEATURES,
        psci::PSCI_AFFINITY_INFO_64,
        0x4b00_0000,
        0xc400_001f,
        SMCCC_VERSION,
    ] {
        // SAFETY: none of these functions has an effect.
        let changed = unsafe { call_with_pattern(function, u64::MAX, u64::MAX, u64::MAX, smc) };
        if changed != 0 {
            report::fail(
                name,
                format_args!("{function:#x} changed registers {changed:#x}"),
            );
        }
    }
}

fn smccc(name: &str, conduit: Conduit) {
    let version = psci::call_by(conduit, SMCCC_VERSION, [0; 3]);
    report::expect(
        name,
        "SMCCC_VERSION is 1.1 or later",
        (0x1_0001..0x2_0000).contains(&version),
    );
    let features =
        |function: u32| psci::call_by(conduit, SMCCC_ARCH_FEATURES, [function.into(), 0, 0]);
    report::expect_eq(
        name,
        "PSCI_FEATURES of SMCCC_VERSION",
        psci::call_by(conduit, psci::PSCI_FEATURES, [SMCCC_VERSION.into(), 0, 0]),
        0,
    );
    report::expect_eq(
        name,
        "SMCCC_ARCH_FEATURES of SMCCC_VERSION",
        features(SMCCC_VERSION),
        0,
    );
    report::expect_eq(
        name,
        "SMCCC_ARCH_FEATURES of itself",
        features(SMCCC_ARCH_FEATURES),
        0,
    );
    report::expect_eq(
        name,
        "SMCCC_ARCH_FEATURES of an unknown one",
        features(0x8000_3ff0),
        psci::NOT_SUPPORTED,
    );
}

fn errors(name: &str, target: u64, bare: bool) {
    let this = machine::get().map_or(0, |machine| machine.cpus()[0]);
    let entry = smp::entry_point();
    report::expect_eq(
        name,
        "CPU_ON of itself",
        psci::cpu_on(this, entry, 0),
        psci::ALREADY_ON,
    );
    for wild in [
        0xff,
        0xff00,
        0xff_0000,
        0xff_0000_0000,
        u64::MAX,
        1 << 24,
        1 << 31,
        1 << 40,
        target | 1 << 63,
    ] {
        let answer = psci::cpu_on(wild, entry, 0);
        if answer != psci::INVALID_PARAMETERS {
            report::fail(name, format_args!("CPU_ON of {wild:#x} answers {answer}"));
        }
        let answer = psci::affinity_info(wild);
        if answer != psci::INVALID_PARAMETERS {
            report::fail(
                name,
                format_args!("AFFINITY_INFO of {wild:#x} answers {answer}"),
            );
        }
    }
    report::expect_eq(
        name,
        "AFFINITY_INFO of itself",
        psci::affinity_info(this),
        psci::SUCCESS,
    );
    report::expect_eq(
        name,
        "AFFINITY_INFO, 32 bits",
        psci::call(psci::PSCI_AFFINITY_INFO_32, [this, 0, 0]),
        psci::SUCCESS,
    );
    report::expect_eq(
        name,
        "AFFINITY_INFO of one that is off",
        psci::affinity_info(target),
        psci::STATE_OFF,
    );
    if bare {
        return;
    }
    let level = psci::call(psci::PSCI_AFFINITY_INFO_64, [this, 4, 0]);
    report::expect(name, "AFFINITY_INFO at level 4 is refused", level < 0);
    // Not memory: a hole, the distributor, beyond any physical address.
    for wild in [0x0b00_0000, 0x0800_0000, 1 << 52, !3] {
        let answer = psci::cpu_on(target, wild, 0);
        if answer != psci::INVALID_ADDRESS {
            report::fail(name, format_args!("CPU_ON at {wild:#x} answers {answer}"));
        }
    }
    report::expect_eq(
        name,
        "AFFINITY_INFO after refusals",
        psci::affinity_info(target),
        psci::STATE_OFF,
    );
}

fn secondary(_index: usize) {
    let life = STARTS.fetch_add(1, Ordering::AcqRel) + 1;
    timer::wait_until(10_000, || RELEASE.load(Ordering::Acquire) >= life);
}

fn cycle(name: &str, target: u64, bare: bool) {
    STARTS.store(0, Ordering::Relaxed);
    RELEASE.store(0, Ordering::Relaxed);
    for life in 1..=CYCLES {
        smp::set_program(1, secondary);
        // Alternately by the 64-bit and the 32-bit function.
        let function = if life & 1 == 0 {
            psci::PSCI_CPU_ON_64
        } else {
            psci::PSCI_CPU_ON_32
        };
        let good = report::expect_eq(
            name,
            "CPU_ON",
            psci::call(function, [target, smp::entry_point(), 1]),
            psci::SUCCESS,
        );
        if !bare {
            let again = psci::cpu_on(target, smp::entry_point(), 1);
            report::expect(
                name,
                "CPU_ON twice",
                matches!(again, psci::ALREADY_ON | psci::ON_PENDING),
            );
            let state = psci::affinity_info(target);
            report::expect(
                name,
                "AFFINITY_INFO is ON or ON_PENDING",
                matches!(state, 0 | 2),
            );
        }
        let up = timer::wait_until(10_000, || STARTS.load(Ordering::Acquire) == life);
        report::expect(name, "the vCPU came up", up);
        report::expect_eq(
            name,
            "AFFINITY_INFO when up",
            psci::affinity_info(target),
            psci::SUCCESS,
        );
        report::expect_eq(
            name,
            "CPU_ON when up",
            psci::cpu_on(target, smp::entry_point(), 1),
            psci::ALREADY_ON,
        );
        RELEASE.store(life, Ordering::Release);
        let down = report::expect(name, "the vCPU went off", smp::wait_off(1));
        if !(good && up && down) {
            return;
        }
    }
    let (sctlr, daif) = smp::found_at_start(1);
    report::expect_eq(name, "SCTLR_EL1.{M,C,I} at entry", sctlr & 0x1005, 0);
    report::expect_eq(name, "DAIF at entry", daif & DAIF_ALL, DAIF_ALL);
}

/// Standby: comes back with SUCCESS once the timer's interrupt is pending, masked though it is.
fn standby(name: &str) {
    exception::mask_interrupts();
    gic::enable(timer::VIRTUAL_PPI);
    for function in [psci::PSCI_CPU_SUSPEND_32, psci::PSCI_CPU_SUSPEND_64] {
        let due = timer::now() + timer::micros(SLEEP_US);
        timer::arm_virtual(due);
        // A wake without a reason is allowed, so go back to sleep while nothing is pending.
        while !gic::is_pending(timer::VIRTUAL_PPI) {
            report::expect_eq(
                name,
                "CPU_SUSPEND",
                psci::call(function, [0, 0, 0]),
                psci::SUCCESS,
            );
            if timer::now() > due + timer::frequency() {
                report::fail(name, format_args!("the timer is not pending"));
                break;
            }
        }
        report::expect(name, "woke no earlier than the timer", timer::now() >= due);
        timer::disarm_virtual();
    }
    gic::disable(timer::VIRTUAL_PPI);
}

/// Comes up twice: the second time from the entry point that it gave to CPU_SUSPEND, unless that turned the request into standby.
fn suspender(index: usize) {
    if STARTS.fetch_add(1, Ordering::AcqRel) == 0 {
        gic::enable(timer::VIRTUAL_PPI);
        let due = timer::now() + timer::micros(SLEEP_US);
        SLEPT_UNTIL.store(due, Ordering::Relaxed);
        timer::arm_virtual(due);
        let answer = psci::call(
            psci::PSCI_CPU_SUSPEND_64,
            [POWER_DOWN, smp::entry_point(), index as u64],
        );
        ANSWER.store(answer as u64, Ordering::Relaxed);
        STARTS.fetch_add(1, Ordering::AcqRel);
    }
    let early = timer::now() < SLEPT_UNTIL.load(Ordering::Relaxed);
    timer::disarm_virtual();
    RELEASE.store(2 + u64::from(early), Ordering::Release);
}

/// A power-down may be granted, turned into standby, or refused; in none of these may the vCPU be lost or early.
fn power_down(name: &str) {
    STARTS.store(0, Ordering::Relaxed);
    RELEASE.store(0, Ordering::Relaxed);
    ANSWER.store(u64::MAX - 100, Ordering::Relaxed);
    if !report::expect(name, "CPU_ON", smp::start(1, suspender).is_ok()) {
        return;
    }
    let back = timer::wait_until(10_000, || RELEASE.load(Ordering::Acquire) != 0);
    report::expect(
        name,
        "the vCPU came back",
        back && STARTS.load(Ordering::Acquire) == 2,
    );
    let answer = ANSWER.load(Ordering::Relaxed) as i64;
    println!(
        "POWERDOWN {}",
        if answer == -101 {
            "resumed at its entry point"
        } else {
            "returned"
        }
    );
    report::expect(
        name,
        "CPU_SUSPEND",
        matches!(answer, -101 | psci::SUCCESS | psci::INVALID_PARAMETERS),
    );
    if answer != psci::INVALID_PARAMETERS {
        report::expect_eq(name, "woke early", RELEASE.load(Ordering::Relaxed), 2);
    }
    report::expect(name, "the vCPU went off", smp::wait_off(1));
}
