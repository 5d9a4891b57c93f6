//! `hearth volume` as an operator's script sees it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::{Command, Output};

use el2_hyp::volume::Label;
use el2_hyp::volume::table::{Copies, Table};
use serde_json::Value;

const MIB: u64 = 1 << 20;

fn hearth(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth"));
    command
        .arg("volume")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("hearth starts")
}

/// Runs a verb that must succeed; its answer.
fn done(folder: &Path, arguments: &[&str]) -> Value {
    let output = hearth(folder, &[arguments, &["--json"]].concat());
    let answer: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(output.status.code(), Some(0), "{answer}");
    assert_eq!(answer["ok"], true);
    answer
}

/// Runs a verb that must be refused with this exit code; what it says.
fn refused(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = hearth(folder, arguments);
    assert!(output.stdout.is_empty());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

/// A folder with a disk of 16 MiB that is ready for volumes.
fn ready() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = done(folder.path(), &["init", "disk.img", "--size", "16M"]);
    assert_eq!(made["bytes"], 16 * MIB);
    assert_eq!(made["free_bytes"], 15 * MIB);
    folder
}

fn pattern(length: u64) -> Vec<u8> {
    (1..=251_u8).cycle().take(length as usize).collect()
}

#[test]
fn a_volume_is_made_listed_and_removed() {
    let folder = ready();
    let made = done(
        folder.path(),
        &["create", "disk.img", "web-data", "--size", "3000K"],
    );
    assert_eq!(made["volume"]["bytes"], 3 * MIB);
    assert_eq!(made["volume"]["first_sector"], 2048);
    done(
        folder.path(),
        &["create", "disk.img", "seed", "--size", "1M", "--read-only"],
    );
    let list = done(folder.path(), &["list", "disk.img"]);
    assert_eq!(list["whole_copies"], 2);
    assert_eq!(list["free_bytes"], 11 * MIB);
    let names: Vec<_> = list["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["name"])
        .collect();
    assert_eq!(names, ["web-data", "seed"]);
    let text = hearth(folder.path(), &["list", "disk.img"]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(
        text.starts_with("disk.img: 16.0 MiB, 11 MiB free\n"),
        "{text}"
    );
    assert!(
        text.contains("  seed           1 MiB  from sector 8192, read-only\n"),
        "{text}"
    );
    done(folder.path(), &["remove", "disk.img", "web-data"]);
    let list = done(folder.path(), &["list", "disk.img"]);
    assert_eq!(list["volumes"].as_array().unwrap().len(), 1);
    assert_eq!(list["free_bytes"], 14 * MIB);
}

/// What the tool writes is what a board reads, with the same code.
#[test]
fn a_board_finds_the_volume() {
    let folder = ready();
    fs::write(folder.path().join("image"), pattern(5000)).unwrap();
    done(
        folder.path(),
        &["create", "disk.img", "data", "--from", "image"],
    );
    let disk = File::open(folder.path().join("disk.img")).unwrap();
    let mut copies = Copies::default();
    for (start, bytes) in copies.each_mut() {
        disk.read_exact_at(bytes, start.0 * 512).unwrap();
    }
    let table = Table::read(&copies, disk.metadata().unwrap().len() / 512).unwrap();
    let volume = table.find(&Label::new("data").unwrap()).unwrap();
    let mut bytes = vec![0; MIB as usize];
    disk.read_exact_at(&mut bytes, volume.extent().first().0 * 512)
        .unwrap();
    assert_eq!(bytes[..5000], pattern(5000));
    assert!(bytes[5000..].iter().all(|&byte| byte == 0));
}

#[test]
fn images_go_in_and_out() {
    let folder = ready();
    fs::write(folder.path().join("one"), pattern(2 * MIB + 700)).unwrap();
    fs::write(folder.path().join("two"), [9; 300]).unwrap();
    let made = done(
        folder.path(),
        &["create", "disk.img", "data", "--from", "one"],
    );
    assert_eq!(made["volume"]["bytes"], 3 * MIB);
    done(folder.path(), &["export", "disk.img", "data", "out"]);
    let mut expected = pattern(2 * MIB + 700);
    expected.resize(3 * MIB as usize, 0);
    assert!(fs::read(folder.path().join("out")).unwrap() == expected);
    let text = refused(folder.path(), &["export", "disk.img", "data", "out"], 3);
    assert!(text.contains("out exists; --force replaces it"), "{text}");
    // Nothing of the former content shines through.
    done(folder.path(), &["import", "disk.img", "data", "two"]);
    done(
        folder.path(),
        &["export", "disk.img", "data", "out", "--force"],
    );
    let mut expected = vec![9; 300];
    expected.resize(3 * MIB as usize, 0);
    assert!(fs::read(folder.path().join("out")).unwrap() == expected);
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 4, "nothing is left beside: {names:?}");
}

/// A new volume does not show what another had in its place.
#[test]
fn a_new_volume_is_zeros() {
    let folder = ready();
    fs::write(folder.path().join("secret"), pattern(4 * MIB)).unwrap();
    done(
        folder.path(),
        &["create", "disk.img", "old", "--from", "secret"],
    );
    done(folder.path(), &["remove", "disk.img", "old"]);
    done(
        folder.path(),
        &["create", "disk.img", "new", "--size", "5M"],
    );
    done(folder.path(), &["export", "disk.img", "new", "out"]);
    let bytes = fs::read(folder.path().join("out")).unwrap();
    assert!(bytes.len() as u64 == 5 * MIB && bytes.iter().all(|&byte| byte == 0));
}

#[test]
fn a_large_disk_takes_no_space() {
    let folder = tempfile::tempdir().unwrap();
    done(folder.path(), &["init", "disk.img", "--size", "1T"]);
    done(
        folder.path(),
        &["create", "disk.img", "data", "--size", "512G"],
    );
    let blocks = fs::metadata(folder.path().join("disk.img"))
        .unwrap()
        .blocks();
    assert!(blocks * 512 < MIB, "{blocks} blocks");
}

#[test]
fn what_is_there_is_not_overwritten() {
    let folder = ready();
    done(
        folder.path(),
        &["create", "disk.img", "data", "--size", "1M"],
    );
    let text = refused(folder.path(), &["init", "disk.img"], 3);
    assert!(text.contains("--force forgets them all"), "{text}");
    let text = refused(folder.path(), &["init", "disk.img", "--size", "1G"], 3);
    assert!(text.contains("leave --size out"), "{text}");
    assert_eq!(
        done(folder.path(), &["list", "disk.img"])["volumes"][0]["name"],
        "data"
    );
    let made = done(folder.path(), &["init", "disk.img", "--force"]);
    assert!(made["volumes"].as_array().unwrap().is_empty());
    fs::write(folder.path().join("other"), pattern(4 * MIB)).unwrap();
    let text = refused(folder.path(), &["init", "other"], 3);
    assert!(text.contains("is not empty"), "{text}");
    assert!(fs::read(folder.path().join("other")).unwrap() == pattern(4 * MIB));
    fs::write(folder.path().join("zeros"), vec![0; 4 * MIB as usize]).unwrap();
    done(folder.path(), &["init", "zeros"]);
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let folder = ready();
    done(
        folder.path(),
        &["create", "disk.img", "data", "--size", "4M"],
    );
    fs::write(folder.path().join("image"), pattern(5 * MIB)).unwrap();
    fs::write(folder.path().join("empty"), []).unwrap();
    fs::write(folder.path().join("plain"), vec![0; 4 * MIB as usize]).unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["init", "nowhere.img"], 3, "give --size"),
        (
            &["init", "small.img", "--size", "1M"],
            3,
            "at least 2048.0 KiB",
        ),
        (
            &["init", "x.img", "--size", "8g"],
            2,
            "give a size like 512M or 8G",
        ),
        (&["list", "plain"], 3, "`hearth volume init plain`"),
        (&["list", "nowhere.img"], 3, "cannot open nowhere.img"),
        (
            &["create", "disk.img", "data", "--size", "1M"],
            3,
            "choose another name",
        ),
        (
            &["create", "disk.img", "Data", "--size", "1M"],
            2,
            "lower-case letters",
        ),
        (&["create", "disk.img", "more"], 2, "--size"),
        (
            &["create", "disk.img", "more", "--size", "12M"],
            3,
            "the longest free run is 11 MiB",
        ),
        (
            &[
                "create", "disk.img", "more", "--from", "image", "--size", "4M",
            ],
            3,
            "give a greater --size",
        ),
        (
            &["create", "disk.img", "more", "--from", "empty"],
            3,
            "empty is empty",
        ),
        (
            &["remove", "disk.img", "web"],
            3,
            "has no volume web; it has: data",
        ),
        (
            &["import", "disk.img", "data", "image"],
            3,
            "make a greater volume",
        ),
        (&["export", "disk.img", "web", "out"], 3, "it has: data"),
    ];
    let before = fs::read(folder.path().join("disk.img")).unwrap();
    for (arguments, code, advice) in cases {
        let text = refused(folder.path(), arguments, *code);
        assert!(text.contains(advice), "{arguments:?}: {text}");
    }
    assert!(fs::read(folder.path().join("disk.img")).unwrap() == before);
    assert!(!folder.path().join("small.img").exists());
}

#[test]
fn a_torn_copy_is_told_and_mended() {
    let folder = ready();
    done(
        folder.path(),
        &["create", "disk.img", "data", "--size", "1M"],
    );
    let disk = OpenOptions::new()
        .write(true)
        .open(folder.path().join("disk.img"))
        .unwrap();
    // The older copy; the third write went to the second place.
    disk.write_all_at(&[0xff; 100], 200).unwrap();
    let list = done(folder.path(), &["list", "disk.img"]);
    assert_eq!(
        (&list["whole_copies"], &list["volumes"][0]["name"]),
        (&1.into(), &"data".into())
    );
    let text = hearth(folder.path(), &["list", "disk.img"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("is torn"));
    done(
        folder.path(),
        &["create", "disk.img", "more", "--size", "1M"],
    );
    assert_eq!(
        done(folder.path(), &["list", "disk.img"])["whole_copies"],
        2
    );
    for offset in [200, 512 * 1024 + 200] {
        disk.write_all_at(&[0xff; 100], offset).unwrap();
    }
    let text = refused(folder.path(), &["list", "disk.img"], 3);
    assert!(
        text.contains("both copies") && text.contains("init --force"),
        "{text}"
    );
}

#[test]
fn a_disk_in_use_is_left_alone() {
    let folder = ready();
    let disk = OpenOptions::new()
        .read(true)
        .write(true)
        .open(folder.path().join("disk.img"))
        .unwrap();
    rustix::fs::fcntl_lock(&disk, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let text = refused(
        folder.path(),
        &["create", "disk.img", "data", "--size", "1M"],
        3,
    );
    assert!(text.contains("is in use; stop the board"), "{text}");
    // Looking does no harm.
    done(folder.path(), &["list", "disk.img"]);
    drop(disk);
    done(
        folder.path(),
        &["create", "disk.img", "data", "--size", "1M"],
    );
}
