//! Every mistake is found at its place, and what is sound is packed as it was written.

mod cluster;
mod devices;

use std::fs;

use cluster_proto::manifest::{ConsoleMode, Priority};
use cluster_proto::package::Package;
use tempfile::TempDir;

use super::*;

/// A folder with kernels and an initrd to pack.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut image = vec![0; 4096];
    image[16..24].copy_from_slice(&(8u64 << 20).to_le_bytes());
    image[56..60].copy_from_slice(b"ARM\x64");
    let digits = "5".repeat(64);
    let files: [(&str, &[u8]); 7] = [
        ("Image", &image),
        ("flat.bin", &[1; 100]),
        ("initrd", &[2; 5000]),
        ("vmlinuz", b"\x1f\x8b\x08 and so on"),
        ("empty", b""),
        ("Root.ext4", &[3; 3 << 20]),
        ("cluster.key", digits.as_bytes()),
    ];
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// Packs `text` for `board`.
fn pack(folder: &TempDir, text: &str, board: Option<&str>) -> Result<Packed, Failure> {
    let cluster = folder.path().join("cluster.toml");
    fs::write(&cluster, text).unwrap();
    let output = folder.path().join("boot.cpio");
    run(&Arguments {
        cluster,
        output,
        board: board.map(ToString::to_string),
        key: None,
    })
}

/// The lines and messages of what is wrong with `text`, in order.
fn mistakes(text: &str) -> Vec<(Option<usize>, String)> {
    let folder = folder();
    let Err(Failure::Mistakes(source, problems)) = pack(&folder, text, None) else {
        panic!("it was packed")
    };
    assert!(!folder.path().join("boot.cpio").exists());
    let located =
        |problem: &crate::source::Problem| (source.locate(problem).line(), problem.message.clone());
    problems.iter().map(located).collect()
}

/// The only mistake of a cluster whose one guest has these lines (from line 4) besides a name, which is line 3.
fn guest_mistake(lines: &str) -> (usize, String) {
    let text = format!("cluster.name = 'home'\n[[guest]]\nname = 'web'\n{lines}\n");
    let mut found = mistakes(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    let (line, message) = found.remove(0);
    (line.unwrap(), message)
}

const SOUND: &str = r#"
[cluster]
name = "home"
console = "all"
[[board]]
name = "alpha"
memory = 1024
address = "10.7.0.1/24"
[[board]]
name = "beta"
memory = 512
address = "10.7.0.2/24"
[[guest]]
name = "web"
vcpus = 2
memory = 256
kernel = "Image"
initrd = "initrd"
command_line = "quiet"
priority = 7
[[guest]]
name = "db"
memory = 16
kernel = "flat.bin"
[[guest]]
name = "web-2"
memory = 0x80
kernel = "./Image"
"#;

#[test]
fn a_sound_description_is_packed_as_written() {
    let folder = folder();
    let packed = pack(&folder, SOUND, Some("beta")).unwrap();
    let archive = fs::read(folder.path().join("boot.cpio")).unwrap();
    assert_eq!(packed.bytes, archive.len() as u64);
    let package = Package::parse(&archive).unwrap();
    assert_eq!(package.cluster().as_str(), "home");
    assert_eq!(package.board().name.as_str(), "beta");
    assert_eq!(package.manifest().summary().console, ConsoleMode::All);
    // The same file under two names is one image.
    assert_eq!(package.manifest().images().count(), 3);
    let guests: Vec<_> = package.guests().map(Result::unwrap).collect();
    assert_eq!(guests.len(), 3);
    let web = &guests[0].guest;
    assert_eq!(
        (web.vcpus.get(), web.memory.get(), web.priority),
        (2, 256, Priority(7))
    );
    assert_eq!(web.command_line.as_str(), "quiet");
    assert_eq!(guests[0].initrd.unwrap().bytes, [2; 5000]);
    let db = &guests[1].guest;
    assert_eq!((db.vcpus.get(), db.priority.0, db.initrd), (1, 100, None));
    assert_eq!(guests[1].kernel.bytes, [1; 100]);
    assert_eq!(guests[2].kernel.bytes, guests[0].kernel.bytes);

    let text = packed.to_string();
    assert!(text.contains("for board beta of cluster home:\n"), "{text}");
    assert!(text.contains("guest db: 1 vCPU, 16 MiB, kernel "), "{text}");
    assert!(text.contains("flat.bin (flat binary, 100 bytes)"), "{text}");
}

#[test]
fn packing_twice_gives_the_same_bytes() {
    let archive = || {
        let folder = folder();
        pack(&folder, SOUND, Some("alpha")).unwrap();
        fs::read(folder.path().join("boot.cpio")).unwrap()
    };
    assert_eq!(archive(), archive());
}

#[test]
fn all_mistakes_are_found_at_once() {
    let text = r#"[cluster]
nam = "home"
console = "both"
[[board]]
name = "alpha"
memory = 301
[[guest]]
name = "Web"
vcpu = 2
memory = "256"
kernel = "missing"
[[guest]]
name = "db"
vcpus = 9
memory = 64
kernel = "vmlinuz"
[[guest]]
name = "db"
priority = 256
command_line = 1
memory = 4
kernel = "Image"
[other]
"#;
    let found = mistakes(text);
    let lines: Vec<_> = found.iter().map(|(line, _)| line.unwrap()).collect();
    assert_eq!(
        lines,
        [1, 2, 3, 6, 8, 9, 10, 11, 14, 16, 18, 19, 20, 21, 23],
        "{found:#?}"
    );
    let message = |line| {
        &found
            .iter()
            .find(|(found, _)| *found == Some(line))
            .unwrap()
            .1
    };
    assert_eq!(message(1), "[cluster] has no `name`");
    assert_eq!(message(9), "[[guest]] has no key `vcpu`");
    assert_eq!(
        message(10),
        "`memory` is a whole number without quotes, not a string"
    );
    assert_eq!(
        message(16),
        "vmlinuz is compressed with gzip, not a kernel that can start"
    );
    assert_eq!(message(18), "there is another guest called \"db\"");
    assert_eq!(
        message(21),
        "the kernel does not fit: 8 MiB of memory are needed, 4 MiB are there"
    );
    assert_eq!(message(23), "the file has no key `other`");
}

#[test]
fn a_guests_mistakes_have_their_line() {
    let kernel = "kernel = 'flat.bin'";
    let mistake = |line: &str| guest_mistake(&format!("memory = 64\n{kernel}\n{line}"));
    assert_eq!(
        mistake("vcpus = 0"),
        (6, "`vcpus` is out of range".to_string())
    );
    assert_eq!(mistake("initrd = ['a']").0, 6);
    assert_eq!(
        mistake("vcpus = 2.0").1,
        "`vcpus` is a whole number without quotes, not a float"
    );
    assert!(mistake("initrd = 'nowhere'").1.starts_with("cannot read "));
    assert!(mistake("initrd = 'empty'").1.ends_with("is empty"));
    assert_eq!(
        mistake("command_line = \"a\\u0007\"").1,
        "this cannot be a command line"
    );
    assert_eq!(
        guest_mistake(kernel),
        (2, "[[guest]] has no `memory`".to_string())
    );
    let huge = guest_mistake(&format!("memory = 99999999999999999999\n{kernel}"));
    assert_eq!(huge.0, 4);
    let tight = guest_mistake(&format!("memory = 2\n{kernel}"));
    assert!(
        tight.1.starts_with("the device tree does not fit"),
        "{tight:?}"
    );
}

#[test]
fn too_much_memory_is_found() {
    let text = |first: u32, second: u32| {
        format!(
            "cluster.name = 'a'\n[[board]]\nname = 'b'\nmemory = 512\n\
             [[guest]]\nname = 'c'\nkernel = 'flat.bin'\nmemory = {first}\n\
             [[guest]]\nname = 'd'\nkernel = 'flat.bin'\nmemory = {second}\n"
        )
    };
    // 512 less 16 of its own and one for the package leaves 495.
    assert!(pack(&folder(), &text(246, 248), None).is_ok());
    let message = "the guests need 496 MiB of memory in all, and 495 MiB are there for them";
    assert_eq!(mistakes(&text(248, 248)), [(Some(4), message.to_string())]);
    let message = "496 MiB fit on no board: at most 495 MiB are free on one";
    assert_eq!(mistakes(&text(248, 496)), [(Some(12), message.to_string())]);
}

#[test]
fn the_board_must_be_clear() {
    let folder = folder();
    let why = |board| match pack(&folder, SOUND, board) {
        Err(Failure::Mistakes(_, problems)) => {
            (problems[0].message.clone(), problems[0].span.clone())
        }
        other => panic!("{other:?}"),
    };
    let message = "the cluster has several boards, and a package is for one of them";
    assert_eq!(why(None), (message.to_string(), None));
    assert_eq!(why(Some("gamma")).0, "there is no board called \"gamma\"");
}

#[test]
fn wrong_shapes_are_explained() {
    let found = mistakes("cluster = 1\nboard = [1]\n[guest]\nname = 'a'\n");
    let messages: Vec<_> = found.iter().map(|(_, message)| message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "`cluster` is a table, not an integer",
            "`board` is a list of tables, not an integer",
            "`guest` is a list of tables, not a table",
        ]
    );
    // A slip in TOML itself is one mistake a line, and nothing is said of what is missing then.
    assert_eq!(mistakes("[cluster\nname = 'a'").len(), 1);
    assert_eq!(mistakes("a = 1\na = 2\n")[0].0, Some(2));
}

#[test]
fn limits_of_lists() {
    let guests: String = (0..65)
        .map(|n| format!("[[guest]]\nname = 'g{n}'\nmemory = 64\nkernel = 'flat.bin'\n"))
        .collect();
    let found = mistakes(&format!("cluster.name = 'a'\n{guests}"));
    assert_eq!(found, [(Some(2 + 64 * 4), "65 guests".to_string())]);
}

#[test]
fn trouble_with_files_is_told() {
    let folder = folder();
    let arguments = |cluster: &str, output: &str| Arguments {
        cluster: folder.path().join(cluster),
        output: folder.path().join(output),
        board: None,
        key: None,
    };
    fs::write(
        folder.path().join("c.toml"),
        "cluster.name = 'a'\nguest = []\n",
    )
    .unwrap();
    let trouble = |arguments| match run(&arguments) {
        Err(Failure::Trouble(trouble)) => trouble,
        other => panic!("{other:?}"),
    };
    assert!(trouble(arguments("nowhere.toml", "x")).starts_with("cannot read "));
    assert!(trouble(arguments("c.toml", "no/where/x")).starts_with("cannot write "));
    assert!(
        run(&arguments("c.toml", "x"))
            .unwrap()
            .to_string()
            .contains("no guests")
    );
}
