//! Networks, disks and the boards that guests are bound to.

use std::fs;

use cluster_proto::manifest::{Backing, BoardNumber, Mac, MemoryMib};
use cluster_proto::package::Package;

use super::{folder, guest_mistake, mistakes, pack};
use crate::pack::digest;

/// A cluster of two boards with networks and disks.
const DEVICES: &str = r#"
[cluster]
name = "home"
[[board]]
name = "alpha"
address = "10.7.0.1/24"
gateway = "10.7.0.254"
mac = "02:00:5e:10:20:30"
[[board]]
name = "beta"
address = "10.7.0.2/24"
[[guest]]
name = "web"
memory = 256
kernel = "Image"
virtio_console = true
board = "beta"
[[guest.nic]]
[[guest.nic]]
mac = "02:00:5e:10:20:31"
[[guest.disk]]
image = "initrd"
size = 5
[[guest.disk]]
volume = "web-data"
[[guest.disk]]
image = "Root.ext4"
read_only = true
[[guest]]
name = "db"
memory = 16
kernel = "flat.bin"
entropy = false
disk = [{ image = "initrd", overlay = 2, name = "swap" }]
nic = [{}]
"#;

#[test]
fn devices_are_packed_as_written() {
    let folder = folder();
    let packed = pack(&folder, DEVICES, Some("alpha")).unwrap();
    let archive = fs::read(folder.path().join("boot.cpio")).unwrap();
    let package = Package::parse(&archive).unwrap();
    let boards: Vec<_> = package.manifest().boards().collect();
    let place = boards[0].address.unwrap();
    assert_eq!(place.to_string(), "10.7.0.1/24");
    assert_eq!(place.gateway(), Some([10, 7, 0, 254].into()));
    let mac = |mac: Option<Mac>| mac.map(|mac| mac.to_string());
    assert_eq!(mac(boards[0].mac).unwrap(), "02:00:5e:10:20:30");
    assert_eq!((boards[1].mac, boards[1].memory), (None, None));

    let guests: Vec<_> = package.guests().map(Result::unwrap).collect();
    let web = &guests[0].guest;
    assert_eq!(web.first_board(), BoardNumber(1));
    assert_ne!(web.first_board(), package.board_number());
    assert!(web.virtio_console && web.entropy);
    let macs: Vec<_> = web.nics.iter().map(|nic| nic.mac.to_string()).collect();
    assert_eq!(macs, ["02:45:9e:db:4a:a1", "02:00:5e:10:20:31"]);
    let serials: Vec<_> = web.disks.iter().map(|disk| disk.serial.as_str()).collect();
    assert_eq!(serials, ["web-initrd", "web-web-data", "web-root"]);
    let mib = |mib| MemoryMib::new(mib).ok();
    let Backing::Ephemeral { size, overlay, .. } = web.disks[0].backing else {
        panic!("{:?}", web.disks[0]);
    };
    assert_eq!((size.bytes(), overlay), (5 << 20, mib(6)));
    assert!(
        matches!(&web.disks[1].backing, Backing::Local { volume } if volume.as_str() == "web-data")
    );
    let Backing::Ephemeral { size, overlay, .. } = web.disks[2].backing else {
        panic!("{:?}", web.disks[2]);
    };
    assert_eq!(
        (size.bytes(), overlay, web.disks[2].read_only),
        (3 << 20, None, true)
    );
    assert_eq!(guests[0].disks[0].unwrap().bytes, [2; 5000]);
    assert!(guests[0].disks[1].is_none());

    let db = &guests[1].guest;
    assert_eq!(
        (db.board, db.first_board(), db.entropy),
        (None, BoardNumber(0), false)
    );
    assert_eq!(db.disks[0].serial.as_str(), "db-swap");
    let Backing::Ephemeral { size, overlay, .. } = db.disks[0].backing else {
        panic!("{:?}", db.disks[0]);
    };
    // The image's 5,000 bytes in whole sectors.
    assert_eq!((size.bytes(), overlay), (5120, mib(2)));
    // Four files are five uses; the package has each once.
    assert_eq!(package.manifest().images().count(), 4);

    let text = packed.to_string();
    for line in [
        "starts on beta\n",
        "initrd (5000 bytes), up to 6 MiB written, serial web-initrd\n",
        "disk: volume web-data, serial web-web-data\n",
        "serial web-root, read-only\n",
        "network card: 02:45:9e:db:4a:a1\n",
        "also: virtio console, random numbers\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[test]
fn mistakes_of_devices_have_their_line() {
    let mistake =
        |lines: &str| guest_mistake(&format!("memory = 64\nkernel = 'flat.bin'\n{lines}"));
    let disk = |lines: &str| mistake(&format!("[[guest.disk]]\n{lines}"));
    for (lines, line, message) in [
        (
            "read_only = true",
            6,
            "[[guest.disk]] has no `image` and no `volume`",
        ),
        (
            "image = 'initrd'\nvolume = 'a'",
            6,
            "a disk has an `image` or a `volume`, not both",
        ),
        ("image = 'empty'", 7, "is empty"),
        ("volume = 'A'", 7, "\"A\" cannot be a volume's name"),
        (
            "volume = 'a'\nsize = 5",
            6,
            "`size` is for a disk over an image",
        ),
        (
            "volume = 'a'\noverlay = 4",
            6,
            "`overlay` is for a disk over an image",
        ),
        (
            "image = 'Root.ext4'\nsize = 2",
            8,
            "the image is larger, 3 MiB",
        ),
        ("image = 'Root.ext4'\nsize = 0", 8, "`size` is out of range"),
        (
            "image = 'Root.ext4'\noverlay = 3",
            8,
            "`overlay` is an odd number of MiB",
        ),
        (
            "image = 'Root.ext4'\noverlay = 4\nread_only = true",
            8,
            "an `overlay` for a disk that is `read_only`",
        ),
        (
            "image = 'initrd'\nread_only = 1",
            8,
            "`read_only` is true or false, not an integer",
        ),
        (
            "image = 'initrd'\nsize = 2000000",
            6,
            "the disk is too large to be held in memory as a whole",
        ),
        (
            "image = 'initrd'\n[[guest.disk]]\nimage = 'initrd'",
            8,
            "this guest has another disk called \"initrd\"",
        ),
        (
            "volume = 'a'\n[[guest.disk]]\nvolume = 'a'\nname = 'b'\nread_only = true",
            9,
            "another disk of the same board is the volume \"a\"",
        ),
    ] {
        let found = disk(lines);
        assert_eq!(found.0, line, "{lines}: {found:?}");
        assert!(found.1.ends_with(message), "{lines}: {found:?}");
    }
    let five = "[[guest.nic]]\n".repeat(5);
    assert_eq!(mistake(&five), (10, "5 network cards".to_string()));
    let five: String = (0..5)
        .map(|n| format!("[[guest.disk]]\nvolume = 'v{n}'\n"))
        .collect();
    assert_eq!(mistake(&five), (14, "5 disks".to_string()));
    let nic = |mac: &str| mistake(&format!("[[guest.nic]]\nmac = '{mac}'")).1;
    let wrong = "\"01:00:5e:10:20:30\" cannot be a network card's address";
    assert_eq!(nic("01:00:5e:10:20:30"), wrong);
    assert_eq!(
        mistake("[[guest.nic]]\nmtu = 1").1,
        "[[guest.nic]] has no key `mtu`"
    );
    assert_eq!(
        mistake("board = 'gamma'").1,
        "there is no board called \"gamma\""
    );
    // Read by nobody else, a volume may be shared.
    let shared = "[[guest.disk]]\nvolume = 'a'\nread_only = true\n[[guest.disk]]\nvolume = 'a'\nname = 'b'\nread_only = true\n";
    let text = format!(
        "cluster.name = 'a'\n[[guest]]\nname = 'b'\nmemory = 64\nkernel = 'flat.bin'\n{shared}"
    );
    assert!(pack(&folder(), &text, None).is_ok());
}

#[test]
fn addresses_that_clash_are_found() {
    let text = "cluster.name = 'home'\nguest = []\n[[board]]\nname = 'a'\naddress = '10.7.0.1/24'\nmac = '02:00:00:00:00:01'\n\
        [[board]]\nname = 'b'\naddress = '10.7.0.1/16'\nmac = '02:00:00:00:00:01'\n\
        [[board]]\nname = 'c'\naddress = '10.7.0.0/24'\n\
        [[board]]\nname = 'd'\naddress = '10.7.0.4/24'\ngateway = '10.8.0.1'\n\
        [[board]]\nname = 'e'\ngateway = '10.8.0.1'\n\
        [[board]]\nname = 'f'\naddress = '10.7.0.300/24'\n";
    let found = mistakes(text);
    // The board is not chosen, which has no line.
    let lines: Vec<_> = found.iter().filter_map(|(line, _)| *line).collect();
    assert_eq!(lines, [9, 10, 13, 17, 20, 23], "{found:#?}");
    assert_eq!(found[1].1, "another board has the address 10.7.0.1");
    let message = "02:00:00:00:00:01 is another network card's address already";
    assert_eq!(found[2].1, message);

    // A derived address, too, may be somebody's.
    let text = "cluster.name = 'home'\n[[board]]\nname = 'a'\nmac = '02:45:9e:db:4a:a1'\n\
        [[guest]]\nname = 'web'\nmemory = 64\nkernel = 'flat.bin'\n[[guest.nic]]\n";
    let message = "02:45:9e:db:4a:a1 is another network card's address already";
    assert_eq!(mistakes(text), [(Some(9), message.to_string())]);
}

#[test]
fn overlays_and_boards_count_as_memory() {
    let text = |board: &str, overlay: u32| {
        format!(
            "cluster.name = 'a'\n[[board]]\nname = 'b'\nmemory = 512\naddress = '10.7.0.1/24'\n[[board]]\nname = 'c'\nmemory = 256\naddress = '10.7.0.2/24'\n\
             [[guest]]\nname = 'd'\nkernel = 'flat.bin'\nmemory = 100\n{board}\n\
             [[guest.disk]]\nimage = 'initrd'\noverlay = {overlay}\n\
             [[guest]]\nname = 'e'\nkernel = 'flat.bin'\nmemory = 64\nboard = 'c'\n"
        )
    };
    // 256 less 16 of its own and one for the package leaves 239 on the second board, and 495 on the first.
    assert!(pack(&folder(), &text("board = 'c'", 74), Some("b")).is_ok());
    let message = "the guests of this board need 240 MiB of memory, and 239 MiB are there for them";
    assert_eq!(
        mistakes(&text("board = 'c'", 76))[1],
        (Some(8), message.to_string())
    );
    assert!(pack(&folder(), &text("", 394), Some("b")).is_ok());
    let message = "496 MiB fit on no board: at most 495 MiB are free on one";
    assert_eq!(mistakes(&text("", 396))[1], (Some(13), message.to_string()));
}

#[test]
fn an_image_larger_than_a_piece_is_streamed_whole() {
    let folder = folder();
    let bytes: Vec<u8> = (0..5 << 19).map(|n: u32| (n % 251) as u8).collect();
    fs::write(folder.path().join("large"), &bytes).unwrap();
    let text = "cluster.name = 'a'\n[[guest]]\nname = 'b'\nmemory = 64\nkernel = 'flat.bin'\ndisk = [{ image = 'large' }]\n";
    pack(&folder, text, None).unwrap();
    let archive = fs::read(folder.path().join("boot.cpio")).unwrap();
    let package = Package::parse(&archive).unwrap();
    let guest = package.guests().next().unwrap().unwrap();
    let image = guest.disks[0].unwrap();
    assert!(image.bytes == bytes);
    assert_eq!(image.image.digest, digest(&bytes));
    // What the board computes for want of an instruction is the same sum.
    guest.check(cluster_proto::package::crc32c).unwrap();
}
