//! What makes boards a cluster: the key, witnesses, where guests may run, and that the ledger holds it all.

use cluster_proto::first::first_ledger;
use cluster_proto::ids::BoardId;
use cluster_proto::package::Package;

use super::*;
use crate::pack::ledger::FullLedger;

/// Two boards, a witness, and a guest with these lines.
fn two_boards(guest: &str) -> String {
    format!(
        "cluster.name = 'home'\n\
         [[board]]\nname = 'alpha'\naddress = '10.7.0.1/24'\n\
         [[board]]\nname = 'beta'\naddress = '10.7.0.2/24'\n\
         [[witness]]\nname = 'desk'\n\
         [[guest]]\nname = 'web'\nmemory = 64\nkernel = 'flat.bin'\n{guest}\n"
    )
}

#[test]
fn the_key_is_made_once_and_goes_into_every_package() {
    let folder = folder();
    let key = folder.path().join("cluster.key");
    fs::remove_file(&key).unwrap();
    let packed = |board| {
        let packed = pack(&folder, &two_boards(""), Some(board)).unwrap();
        let archive = fs::read(&packed.package).unwrap();
        let key = Package::parse(&archive).unwrap().key().unwrap();
        (packed, key)
    };
    let (first, in_first) = packed("alpha");
    assert!(first.key_made && first.key == key);
    let text = first.to_string();
    assert!(text.starts_with("made the cluster's key, "), "{text}");
    let (second, in_second) = packed("beta");
    assert!(!second.key_made);
    assert_eq!(in_first, in_second);
    let digits: String = in_first.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(fs::read_to_string(key).unwrap().trim(), digits);
    let told = serde_json::to_string(&second).unwrap() + &second.to_string();
    assert!(!told.contains(&digits[..16]), "{told}");
}

#[test]
fn who_reads_the_package_has_the_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder();
    let packed = pack(&folder, &two_boards(""), Some("alpha")).unwrap();
    let mode = fs::metadata(packed.package).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
    let key = folder.path().join("cluster.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let packed = pack(&folder, &two_boards(""), Some("alpha")).unwrap();
    assert!(
        packed
            .to_string()
            .starts_with("note: others than you can read")
    );
}

#[test]
fn the_description_or_the_command_line_names_the_key() {
    let folder = folder();
    fs::write(folder.path().join("other.key"), "6".repeat(64)).unwrap();
    let text = two_boards("").replace("cluster.name", "cluster.key = 'other.key'\ncluster.name");
    pack(&folder, &text, Some("alpha")).unwrap();
    let output = folder.path().join("boot.cpio");
    let key = |path: &Path| Package::parse(&fs::read(path).unwrap()).unwrap().key();
    assert_eq!(key(&output), Some([0x66; 32]));
    run(&Arguments {
        cluster: folder.path().join("cluster.toml"),
        output: output.clone(),
        board: Some("alpha".into()),
        key: Some(folder.path().join("cluster.key")),
    })
    .unwrap();
    assert_eq!(key(&output), Some([0x55; 32]));
    fs::write(folder.path().join("other.key"), "six").unwrap();
    let Err(Failure::Trouble(trouble)) = pack(&folder, &text, Some("alpha")) else {
        panic!("packed with no key")
    };
    assert!(trouble.contains("other.key holds no key"), "{trouble}");
}

#[test]
fn a_witness_is_packed_without_images() {
    let folder = folder();
    let packed = pack(&folder, &two_boards(""), Some("desk")).unwrap();
    assert!(packed.witness);
    assert!(
        packed
            .to_string()
            .contains("for witness desk of cluster home")
    );
    let archive = fs::read(folder.path().join("boot.cpio")).unwrap();
    let package = Package::parse(&archive).unwrap();
    assert!(package.board().witness && package.board_number().0 == 2);
    let mut ledger = Box::new(FullLedger::new());
    let witness = first_ledger(package.manifest(), &mut ledger).unwrap();
    assert_eq!(ledger.seats.iter().count(), 3);
    assert!(ledger.board(BoardId(2)).unwrap().witness);
    // Boards and witness begin alike.
    pack(&folder, &two_boards(""), Some("beta")).unwrap();
    let archive = fs::read(folder.path().join("boot.cpio")).unwrap();
    let package = Package::parse(&archive).unwrap();
    let board = first_ledger(package.manifest(), &mut Box::new(FullLedger::new()));
    assert_eq!(board, Ok(witness));
}

#[test]
fn a_guest_says_where_it_may_run() {
    let folder = folder();
    let text = two_boards("allowed = ['beta']\napart = 7\nwanted = 'stopped'");
    pack(&folder, &text, Some("beta")).unwrap();
    let archive = fs::read(folder.path().join("boot.cpio")).unwrap();
    let guest = Package::parse(&archive).unwrap().manifest().guests().next();
    let guest = guest.unwrap();
    assert_eq!((guest.allowed, guest.apart, guest.starts), (0b10, 7, false));
}

/// The mistakes of two boards and a witness whose guest has these lines, from line 15; the board is not chosen, which is the first.
fn with_guest(lines: &str) -> Vec<(Option<usize>, String)> {
    mistakes(&two_boards(lines)).split_off(1)
}

#[test]
fn mistakes_of_a_cluster_have_their_line() {
    let gone = "there is no board called \"desk\"".to_string();
    assert_eq!(
        with_guest("allowed = ['alpha', 'desk']"),
        [(Some(14), gone)]
    );
    let elsewhere = "the guest starts on a board that it may not run on".to_string();
    let found = with_guest("board = 'alpha'\nallowed = ['beta']");
    assert_eq!(found, [(Some(15), elsewhere)]);
    assert_eq!(with_guest("allowed = 'beta'")[0].0, Some(14));
    assert_eq!(with_guest("apart = 256")[0].0, Some(14));
    let wanted = "a guest cannot be wanted \"on\"".to_string();
    assert_eq!(with_guest("wanted = 'on'"), [(Some(14), wanted)]);

    let lone = "cluster.name = 'a'\nguest = []\n[[witness]]\nname = 'w'\n";
    let lone = mistakes(lone);
    assert_eq!(lone[0], (Some(3), "a witness beside a single board".into()));
    let text = two_boards("").replace("address = '10.7.0.2/24'\n", "");
    let found = mistakes(&text);
    let message = "this board has no `address`, and a cluster of several boards needs each one's";
    assert_eq!(found[1], (Some(5), message.to_string()));
    let twice = two_boards("").replace("'desk'", "'beta'");
    let found = mistakes(&twice);
    let message = "there is another board or witness called \"beta\"";
    assert_eq!(found[1], (Some(9), message.to_string()));
}

#[test]
fn what_the_ledger_cannot_hold_is_refused() {
    let disk = "[[guest.disk]]\nimage = 'initrd'\noverlay = 2\nname = ";
    let guests: String = (0..43)
        .map(|n| {
            let disks: String = (0..3).map(|d| format!("{disk}'d{d}'\n")).collect();
            format!("[[guest]]\nname = 'g{n}'\nmemory = 16\nkernel = 'flat.bin'\n{disks}")
        })
        .collect();
    let found = mistakes(&format!("cluster.name = 'a'\n{guests}"));
    let message =
        "the cluster's ledger cannot hold this: a disk of guest 42: there is no room for more";
    assert_eq!(found, [(Some(2 + 42 * 16), message.to_string())]);
}
