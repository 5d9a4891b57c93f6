//! Debian's own kernel on every kind of board, from one image file.

use std::time::Duration;

use system::saw;
use system::{Board, Guest, Machine, Package};

/// A quiet machine needs two to ten seconds for a Debian guest from its first instruction to its init, the more vCPUs the longer.
const BOOT: Duration = Duration::from_secs(240);
/// An answer to a line that was typed, or to an order.
const ANSWER: Duration = Duration::from_secs(60);

/// Boots one Debian guest, has it take its vCPUs off and on again, and waits for it to turn itself off.
fn boots(name: &str, machine: Machine, guest: Guest) {
    let online = format!("init reached, {} CPUs online", guest.vcpus);
    let cpus = guest.vcpus;
    let mut board = Board::boot(name, machine, &Package::of([guest.named("web")]));
    board.expect(&format!("hearth: {} cores", machine.cores()), ANSWER);
    let init = board.expect(&online, BOOT);
    for cpu in 1..cpus {
        board.expect(&format!("cpu{cpu} went offline and came back"), ANSWER);
    }
    board.expect("hearth-guest: cpus ok", ANSWER);
    board.expect(
        "hearth: guest web has stopped: it turned itself off",
        ANSWER,
    );
    saw!(name, "{init}");
    board.power_off();
}

/// One test for each kind of `virt`: the GIC, the core, how many, memory in MiB. As many vCPUs as cores, two on a single one.
macro_rules! every_kind_boots {
    ($($name:ident: $gic:literal, $cpu:literal, $cores:literal, $memory:literal;)+) => {$(
        #[test]
        fn $name() {
            let machine = Machine::virt($cores).gic($gic).cpu($cpu).memory($memory);
            boots(stringify!($name), machine, Guest::debian("web", u8::max($cores, 2), "cpus"));
        }
    )+};
}

// Every core with every number of cores and every memory, and the GICs with each of these.
every_kind_boots! {
    debian_boots_on_gicv3_a72_1_core_512_mib: 3, "cortex-a72", 1, 512;
    debian_boots_on_gicv2_a72_2_cores_1_gib: 2, "cortex-a72", 2, 1024;
    debian_boots_on_gicv3_a72_4_cores_2_gib: 3, "cortex-a72", 4, 2048;
    debian_boots_on_gicv2_a72_8_cores_4_gib: 2, "cortex-a72", 8, 4096;
    debian_boots_on_gicv2_a76_1_core_1_gib: 2, "cortex-a76", 1, 1024;
    debian_boots_on_gicv3_a76_2_cores_2_gib: 3, "cortex-a76", 2, 2048;
    debian_boots_on_gicv2_a76_4_cores_4_gib: 2, "cortex-a76", 4, 4096;
    debian_boots_on_gicv3_a76_8_cores_512_mib: 3, "cortex-a76", 8, 512;
    debian_boots_on_gicv2_max_1_core_2_gib: 2, "max", 1, 2048;
    debian_boots_on_gicv3_max_2_cores_4_gib: 3, "max", 2, 4096;
    debian_boots_on_gicv2_max_4_cores_512_mib: 2, "max", 4, 512;
    debian_boots_on_gicv3_max_8_cores_1_gib: 3, "max", 8, 1024;
}

#[test]
fn debian_boots_on_raspi4b() {
    boots(
        "debian_boots_on_raspi4b",
        Machine::raspi4b(),
        Guest::debian("web", 4, "cpus"),
    );
}

#[test]
fn debian_has_the_memory_it_was_given() {
    const NAME: &str = "debian_has_the_memory_it_was_given";
    let guest = Guest::debian("web", 2, "shell").memory(3072);
    let mut board = Board::boot(NAME, Machine::virt(2).memory(4096), &Package::of([guest]));
    let line = board.expect(" CPUs, ", BOOT);
    // "  2 CPUs, 3049188 kB of memory, …": the kernel keeps some for itself.
    let kib: u64 = line
        .split_whitespace()
        .find_map(|word| word.parse().ok().filter(|kib| *kib > 100))
        .expect("the memory's size");
    assert!((2900 << 10..=3072 << 10).contains(&kib), "{line}");
    saw!(NAME, "{line}");
    board.power_off();
}

#[test]
fn debian_restarts_again_and_again() {
    const NAME: &str = "debian_restarts_again_and_again";
    let mut board = Board::boot(
        NAME,
        Machine::virt(2),
        &Package::of([Guest::debian("web", 2, "reboot")]),
    );
    for _ in 0..3 {
        board.expect("init reached, 2 CPUs online", BOOT);
        board.expect("hearth: guest web starts again", ANSWER);
    }
    let status = board.status();
    assert!(status.guest("web").starts >= 4, "{status:?}");
    board.power_off();
}

/// Two guests run, one ends, and the other does not notice.
fn side_by_side(name: &str, machine: Machine) {
    let guests = [
        Guest::debian("web", 2, "count"),
        Guest::debian("db", 2, "cpus"),
    ];
    let mut board = Board::boot(name, machine, &Package::of(guests));
    board.expect_all(
        &[
            "[web] hearth-guest: init reached, 2 CPUs online",
            "[db] hearth-guest: init reached, 2 CPUs online",
            "hearth: guest db has stopped: it turned itself off",
        ],
        BOOT,
    );
    for _ in 0..3 {
        board.expect("[web] tick ", ANSWER);
    }
    let status = board.status();
    assert!(
        status.guest("web").running && !status.guest("db").running,
        "{status:?}"
    );
    board.power_off();
}

#[test]
fn two_debians_run_side_by_side() {
    side_by_side("two_debians_run_side_by_side", Machine::virt(2));
}

#[test]
fn two_debians_run_side_by_side_on_gicv2() {
    side_by_side(
        "two_debians_run_side_by_side_on_gicv2",
        Machine::virt(2).gic(2),
    );
}

#[test]
fn two_debians_run_side_by_side_on_raspi4b() {
    side_by_side(
        "two_debians_run_side_by_side_on_raspi4b",
        Machine::raspi4b(),
    );
}

#[test]
fn keys_reach_the_guest_in_focus_and_answers_come_back() {
    const NAME: &str = "keys_reach_the_guest_in_focus_and_answers_come_back";
    const WHO: &[u8] = b"sed 's/.*hearth.name=/I am /' /proc/cmdline\n";
    let shell = |name| Guest::debian(name, 2, "shell").with(&format!("hearth.name={name}"));
    let mut board = Board::boot(
        NAME,
        Machine::virt(2),
        &Package::of([shell("web"), shell("db")]),
    );
    board.expect_all(
        &["[web]   'poweroff -f' stops", "[db]   'poweroff -f' stops"],
        BOOT,
    );
    // With all guests shown, keys go to the first.
    board.send(b"echo $((6 * 7)) is the answer\n");
    board.expect("[web] 42 is the answer", ANSWER);
    board.send(&[system::board::ESCAPE, b'2']);
    board.expect("[db]", ANSWER);
    board.send(WHO);
    board.expect("I am db", ANSWER);
    board.send(&[system::board::ESCAPE, b'1']);
    board.expect("[web]", ANSWER);
    board.send(WHO);
    board.expect("I am web", ANSWER);
    board.send(&[system::board::ESCAPE, b'a']);
    board.expect("[all guests]", ANSWER);
    board.send(b"poweroff -f\n");
    board.expect(
        "hearth: guest web has stopped: it turned itself off",
        ANSWER,
    );
    board.power_off();
}
