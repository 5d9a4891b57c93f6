//! Boards with bad boot packages: they say which entry is wrong, and run what is sound.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use system::{Board, Guest, Machine, Package, paths};

const LIMIT: Duration = Duration::from_secs(120);
/// What a newc header begins with.
const MAGIC: &[u8] = b"070701";

/// Two guests of their own images each: `count` counts to 3, `spin` spins for a second; in the package in this order.
fn two_guests() -> Package {
    Package::of([
        Guest::bare_metal("count", 1).with("ticks=3"),
        Guest::bare_metal("spin", 1).with("secs=1"),
    ])
}

fn changed(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let path = two_guests().pack(name);
    let mut bytes = fs::read(&path).expect("the package");
    change(&mut bytes);
    fs::write(&path, bytes).expect("the changed package");
    path
}

fn boot(name: &str, package: Option<&Path>) -> Board {
    Board::boot_with(name, Machine::virt(2), package, &[]).tolerate("hearth: warning:")
}

/// Where an entry's bytes begin: behind its header and name, to the next multiple of 4.
fn contents(package: &[u8], name: &str) -> usize {
    let name = format!("{name}\0");
    let at = package
        .windows(name.len())
        .position(|window| window == name.as_bytes())
        .expect("the entry");
    (at + name.len()).next_multiple_of(4)
}

/// The name of the n-th image's entry.
fn image(package: &[u8], n: usize) -> String {
    let text = String::from_utf8_lossy(package);
    let (_, rest) = text
        .match_indices("images/")
        .nth(n)
        .map(|(at, _)| text.split_at(at))
        .expect("an image's entry");
    rest[.."images/".len() + 64].to_owned()
}

#[test]
fn without_a_package_a_board_says_so_and_answers() {
    let mut board = boot("without_a_package_a_board_says_so_and_answers", None);
    board.expect(
        "hearth: warning: there is no boot package: give one as the initrd",
        LIMIT,
    );
    assert_eq!(board.status().guests, []);
    board.power_off();
}

#[test]
fn a_flipped_bit_stops_its_guest_alone() {
    const NAME: &str = "a_flipped_bit_stops_its_guest_alone";
    let mut damaged = String::new();
    let package = changed(NAME, |bytes| {
        damaged = image(bytes, 1);
        let at = contents(bytes, &damaged);
        bytes[at + 20_000] ^= 4;
    });
    let mut board = boot(NAME, Some(&package));
    let line = format!(
        "hearth: warning: guest spin does not start: entry {damaged} of the boot package: "
    );
    board.expect_all(&[&line, "[count] PASS count"], LIMIT);
    assert!(!board.text().contains("[spin]"), "a damaged guest runs");
    board.power_off();
}

#[test]
fn a_damaged_manifest_is_named() {
    const NAME: &str = "a_damaged_manifest_is_named";
    let package = changed(NAME, |bytes| {
        let at = contents(bytes, "manifest");
        bytes[at + 30] ^= 1;
    });
    let mut board = boot(NAME, Some(&package));
    let line = board.expect("hearth: warning: the boot package is not usable: ", LIMIT);
    assert!(line.contains("manifest"), "{line}");
    assert_eq!(board.status().guests, []);
    board.power_off();
}

#[test]
fn a_damaged_header_is_named_and_costs_no_guest() {
    const NAME: &str = "a_damaged_header_is_named_and_costs_no_guest";
    let package = changed(NAME, |bytes| {
        let second = image(bytes, 1);
        let at = contents(bytes, &second);
        let header = bytes[..at]
            .windows(MAGIC.len())
            .rposition(|window| window == MAGIC)
            .expect("its header");
        bytes[header] = b'X';
    });
    let mut board = boot(NAME, Some(&package));
    board.expect("hearth: warning: the boot package is damaged: ", LIMIT);
    board.expect_all(&["[count] PASS count", "[spin] PASS spin"], LIMIT);
    board.power_off();
}

/// Cuts the package after so many bytes, counted from the contents of an entry.
fn cut(name: &str, entry: impl FnOnce(&[u8]) -> String, after: usize) -> Board {
    let package = changed(name, |bytes| {
        let entry = entry(bytes);
        bytes.truncate(contents(bytes, &entry) + after);
    });
    boot(name, Some(&package))
}

#[test]
fn cut_within_an_image_its_guest_alone_is_lost() {
    let mut lost = String::new();
    let entry = |bytes: &[u8]| {
        lost = image(bytes, 1);
        lost.clone()
    };
    let mut board = cut("cut_within_an_image_its_guest_alone_is_lost", entry, 10_000);
    let line = board.expect("spin", LIMIT);
    assert!(
        line.contains("hearth: warning:") && line.contains(&lost),
        "{line}"
    );
    board.expect("[count] PASS count", LIMIT);
    board.power_off();
}

#[test]
fn cut_before_an_image_its_guest_alone_is_lost() {
    let name = "cut_before_an_image_its_guest_alone_is_lost";
    let mut lost = String::new();
    let package = changed(name, |bytes| {
        lost = image(bytes, 1);
        // Within the header of the second image.
        let at = contents(bytes, &lost);
        let header = bytes[..at]
            .windows(MAGIC.len())
            .rposition(|window| window == MAGIC)
            .expect("its header");
        bytes.truncate(header + 50);
    });
    let mut board = boot(name, Some(&package));
    let line = board.expect("guest spin", LIMIT);
    assert!(
        line.contains("hearth: warning:") && line.contains(&lost),
        "{line}"
    );
    board.expect("[count] PASS count", LIMIT);
    board.power_off();
}

#[test]
fn cut_within_the_manifest_the_board_says_so() {
    let mut board = cut(
        "cut_within_the_manifest_the_board_says_so",
        |_| "manifest".into(),
        40,
    );
    let line = board.expect("hearth: warning: the boot package is not usable: ", LIMIT);
    assert!(line.contains("manifest"), "{line}");
    assert_eq!(board.status().guests, []);
    board.power_off();
}

#[test]
fn cut_within_the_first_header_the_board_says_so() {
    const NAME: &str = "cut_within_the_first_header_the_board_says_so";
    let package = changed(NAME, |bytes| bytes.truncate(60));
    let mut board = boot(NAME, Some(&package));
    board.expect("hearth: warning: the boot package is not usable: ", LIMIT);
    assert_eq!(board.status().guests, []);
    board.power_off();
}

#[test]
fn an_end_mark_that_is_cut_off_costs_no_guest() {
    const NAME: &str = "an_end_mark_that_is_cut_off_costs_no_guest";
    let package = changed(NAME, |bytes| {
        let at = bytes
            .windows(10)
            .position(|window| window == b"TRAILER!!!")
            .expect("the end mark");
        bytes.truncate(at - 110);
    });
    let mut board = boot(NAME, Some(&package));
    board.expect("hearth: warning: the boot package is damaged: ", LIMIT);
    board.expect_all(&["[count] PASS count", "[spin] PASS spin"], LIMIT);
    board.power_off();
}

#[test]
fn a_guest_that_does_not_fit_is_told_and_costs_no_other() {
    const NAME: &str = "a_guest_that_does_not_fit_is_told_and_costs_no_other";
    let guests = [
        Guest::bare_metal("spin", 1).memory(4096),
        Guest::bare_metal("count", 1).with("ticks=3"),
    ];
    let package = Package::of(guests).pack(NAME);
    let mut board = boot(NAME, Some(&package));
    board.expect(
        "hearth: warning: guest spin does not fit: it wants 4096 MiB",
        LIMIT,
    );
    board.expect("[count] PASS count", LIMIT);
    board.power_off();
}

#[test]
fn a_package_of_noise_is_refused() {
    const NAME: &str = "a_package_of_noise_is_refused";
    let path = paths::results().join(NAME).with_extension("cpio");
    let noise: Vec<u8> = (0u32..100_000)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    fs::write(&path, noise).expect("the noise");
    let mut board = boot(NAME, Some(&path));
    board.expect("hearth: warning: the boot package is not usable: ", LIMIT);
    assert_eq!(board.status().guests, []);
    board.power_off();
}
