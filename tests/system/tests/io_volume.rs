//! What a guest writes to a volume is there after the board was killed in the middle of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use system::{Board, Guest, Machine, Package, paths, saw};

/// A quiet machine needs some seconds for Debian on its disk, and as many for a hundred files.
const LIMIT: Duration = Duration::from_secs(240);
/// The board dies when the guest has said so often that all is on its disk.
const FLUSHES: u32 = 12;

/// The board's disk, until it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn new(name: &str) -> Self {
        let path = paths::results().join(name).with_extension("img");
        let disk = Self(path);
        // An earlier run that was killed may have left one.
        let _ = fs::remove_file(&disk.0);
        tool(&["volume", "init", disk.path(), "--size", "96M"]);
        tool(&["volume", "create", disk.path(), "data", "--size", "64M"]);
        disk
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path of plain text")
    }

    /// QEMU's arguments for it.
    fn arguments(&self) -> Vec<String> {
        let drive = format!("if=none,id=disk,format=raw,file={}", self.path());
        [
            "-global",
            "virtio-mmio.force-legacy=false",
            "-drive",
            &drive,
            "-device",
            "virtio-blk-device,drive=disk",
        ]
        .map(String::from)
        .into()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[track_caller]
fn tool(words: &[&str]) {
    let output = Command::new(paths::tool())
        .args(words)
        .output()
        .expect("hearth started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "hearth {words:?}: {said}");
}

/// `e2fsck` on the copy of a volume; gives its exit code and words.
fn fsck(options: &[&str], volume: &Path) -> (i32, String) {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("e2fsck")
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .args(options)
        .arg(volume)
        .output()
        .expect("e2fsck started");
    let text = [output.stdout, output.stderr].concat();
    let code = output.status.code().expect("e2fsck ended by itself");
    (code, String::from_utf8_lossy(&text).into_owned())
}

/// A board whose guest does `run` with the volume.
fn board(name: &str, run: &str, disk: &Disk) -> Board {
    let guest = Guest::debian_on("root.ext4", "writer", run).volume("data");
    let package = Package::of([guest]).pack(name);
    Board::boot_with(name, Machine::virt(1), Some(&package), &disk.arguments())
}

#[test]
fn a_file_system_on_a_volume_outlives_its_killed_board() {
    let name = "io_volume_killed";
    let disk = Disk::new(name);
    let mut killed = board(name, "write", &disk);
    let mut last = String::new();
    for _ in 0..FLUSHES {
        last = killed.expect("hearth-guest: flushed ", LIMIT);
    }
    // SIGKILL, with the guest at its next files.
    drop(killed);
    let flushed: u32 = last
        .rsplit(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");

    // What the journal holds is put in its place, as a mount does; then nothing at all may be wrong.
    let copy = disk.0.with_extension("volume");
    let _ = fs::remove_file(&copy);
    let text = copy.to_str().expect("a path of plain text");
    tool(&["volume", "export", disk.path(), "data", text]);
    let (code, said) = fsck(&["-y", "-E", "journal_only"], &copy);
    assert!(code <= 1, "{code}: {said}");
    let (code, said) = fsck(&["-f", "-n"], &copy);
    let _ = fs::remove_file(&copy);
    assert_eq!(code, 0, "{said}");

    // And what was said to be on the disk is there.
    let mut again = board(name, "check", &disk);
    let line = again.expect("hearth-guest: check ended with ", LIMIT);
    let count: u32 = line
        .rsplit(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert!(count >= flushed, "{flushed} were flushed: {line}");
    again.expect(
        "hearth: guest writer has stopped: it turned itself off",
        LIMIT,
    );
    again.power_off();
    saw!(
        name,
        "killed after {flushed} files were flushed; {count} are there, e2fsck finds nothing"
    );
}
