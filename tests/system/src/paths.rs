//! Where the things under test are. All of them are made by `scripts/build` and `scripts/setup` before the tests run.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The workspace's folder.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace's folder")
}

/// The board's image; `HEARTH_IMAGE` names another.
///
/// # Panics
/// If it is not there.
pub fn image() -> PathBuf {
    std::env::var_os("HEARTH_IMAGE").map_or_else(|| made("target/hearth.img"), PathBuf::from)
}

/// The image with its symbols, as an ELF file; `HEARTH_ELF` names another.
///
/// # Panics
/// If it is not there.
pub fn image_elf() -> PathBuf {
    std::env::var_os("HEARTH_ELF").map_or_else(|| made("target/hearth.elf"), PathBuf::from)
}

/// `hearth`, the operator's tool; `HEARTH_TOOL` names another.
///
/// # Panics
/// If it is not there.
pub fn tool() -> PathBuf {
    std::env::var_os("HEARTH_TOOL").map_or_else(|| made("target/hearth"), PathBuf::from)
}

/// A bare-metal guest by its name.
///
/// # Panics
/// If it is not there.
pub fn bare_metal(name: &str) -> PathBuf {
    made(&format!("target/guests/{name}.bin"))
}

/// A file of the Debian guests' material.
///
/// # Panics
/// If it is not there.
pub fn material(name: &str) -> PathBuf {
    let path = project().join(".guests").join(name);
    assert!(
        path.exists(),
        "{} is missing: scripts/setup makes it",
        path.display()
    );
    path
}

/// The folder of consoles' texts and tests' packages; made if need be.
pub fn results() -> PathBuf {
    let path = project().join("target/system-tests");
    std::fs::create_dir_all(&path).expect("a folder for results");
    path
}

/// Tells what a test saw, in its output and in `target/system-tests/NAME.seen`, which `scripts/test` shows in the end: runners keep
/// the output of tests that pass to themselves.
///
/// # Panics
/// If the file cannot be written.
pub fn saw(test: &str, what: &str) {
    eprintln!("{test}: {what}");
    let path = results().join(test).with_extension("seen");
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| writeln!(file, "{test}: {what}"))
        .expect("an observation written");
}

fn made(path: &str) -> PathBuf {
    let path = project().join(path);
    assert!(
        path.exists(),
        "{} is missing: scripts/build makes it",
        path.display()
    );
    path
}
