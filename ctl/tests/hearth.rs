//! The tool as an operator's script sees it: exit codes, what goes to which stream, JSON.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs `hearth` in `folder`.
fn hearth(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    command
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("hearth starts")
}

/// A folder with a cluster of one guest.
fn cluster() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("kernel"), [1; 64]).unwrap();
    let text =
        "[cluster]\nname = 'home'\n[[guest]]\nname = 'web'\nmemory = 64\nkernel = 'kernel'\n";
    fs::write(folder.path().join("cluster.toml"), text).unwrap();
    folder
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON object on standard output")
}

#[test]
fn pack_then_show() {
    let folder = cluster();
    let packed = hearth(
        folder.path(),
        &["pack", "cluster.toml", "-o", "boot.cpio", "--json"],
    );
    assert_eq!(packed.status.code(), Some(0));
    let packed = json(&packed);
    assert_eq!(
        (&packed["ok"], &packed["guests"][0]["name"]),
        (&true.into(), &"web".into())
    );
    let shown = hearth(folder.path(), &["show", "boot.cpio", "--json"]);
    assert_eq!(shown.status.code(), Some(0));
    let shown = json(&shown);
    assert_eq!(shown["board"], "board-1");
    assert_eq!(
        shown["guests"][0]["kernel"]["crc32c"],
        packed["guests"][0]["kernel"]["crc32c"]
    );
    let text = hearth(folder.path(), &["show", "boot.cpio"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("guest web: vCPUs 1, memory 64 MiB"));
}

#[test]
fn mistakes_end_with_one() {
    let folder = cluster();
    fs::write(
        folder.path().join("cluster.toml"),
        "[cluster]\nname = 'Home'\n",
    )
    .unwrap();
    let told = hearth(folder.path(), &["pack", "cluster.toml", "-o", "boot.cpio"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(told.stdout.is_empty());
    let text = String::from_utf8_lossy(&told.stderr);
    assert!(text.contains("--> cluster.toml:2:8"), "{text}");
    assert!(
        text.ends_with("2 mistakes in cluster.toml; nothing was written\n"),
        "{text}"
    );
    let told = hearth(
        folder.path(),
        &["pack", "cluster.toml", "-o", "boot.cpio", "--json"],
    );
    assert_eq!(told.status.code(), Some(1));
    let problem = &json(&told)["problems"][1];
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&2.into(), &8.into())
    );
    assert_eq!(problem["quoted"], "name = 'Home'");
}

#[test]
fn usage_ends_with_two() {
    let folder = cluster();
    assert_eq!(hearth(folder.path(), &["pack"]).status.code(), Some(2));
    assert_eq!(hearth(folder.path(), &["dance"]).status.code(), Some(2));
}

#[test]
fn trouble_ends_with_three() {
    let folder = cluster();
    let told = hearth(folder.path(), &["show", "cluster.toml"]);
    assert_eq!(told.status.code(), Some(3));
    let text = String::from_utf8_lossy(&told.stderr);
    assert!(
        text.contains("boot package: entry 1: is not a newc cpio entry"),
        "{text}"
    );
    let told = hearth(folder.path(), &["show", "nowhere", "--json"]);
    assert_eq!(
        (told.status.code(), &json(&told)["ok"]),
        (Some(3), &false.into())
    );
}

#[test]
fn show_names_what_is_corrupted() {
    let folder = cluster();
    hearth(folder.path(), &["pack", "cluster.toml", "-o", "boot.cpio"]);
    let path = folder.path().join("boot.cpio");
    let mut archive = fs::read(&path).unwrap();
    let at = archive
        .windows(64)
        .position(|window| window == [1; 64])
        .unwrap();
    archive[at] = 2;
    fs::write(&path, archive).unwrap();
    let text = hearth(folder.path(), &["show", "boot.cpio"]).stderr;
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.contains("guest web: images/") && text.contains("is corrupted: CRC-32C"),
        "{text}"
    );
}

#[test]
fn symbolize_passes_other_text_through() {
    let folder = cluster();
    fs::write(folder.path().join("log"), "hello\n  #0 image+0x0\n").unwrap();
    let named = hearth(
        folder.path(),
        &["symbolize", env!("CARGO_BIN_EXE_hearth"), "log"],
    );
    assert_eq!(named.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&named.stdout).starts_with("hello\n  #0 image+0x0\n"));
    let refused = hearth(folder.path(), &["symbolize", "kernel", "log"]);
    assert_eq!(refused.status.code(), Some(3));
}
