//! Sound packages are read, and damage costs those only whom it hits.

use std::io::Write as _;
use std::string::{String, ToString as _};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::manifest::{
    BoardNumber, CommandLine, ConsoleMode, DEFAULT_PRIORITY, Digest, Disk, DiskSize,
    MAX_MANIFEST_BYTES, MemoryMib, Serial, Summary, VcpuCount, encode,
};

/// The archive of `entries`, written by another hand than ours.
fn archive(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in entries {
        let length = u32::try_from(bytes.len()).unwrap();
        let mut writer = ::cpio::newc::Builder::new(name)
            .mode(0o100_644)
            .write(&mut out, length);
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap();
    }
    ::cpio::newc::trailer(&mut out).unwrap();
    out
}

/// The image with these bytes; its digest is made up, since nothing here hashes.
fn image(bytes: &[u8]) -> Image {
    let digest = Digest(core::array::from_fn(|index| {
        bytes.get(index).copied().unwrap_or(7)
    }));
    Image {
        digest,
        length: u32::try_from(bytes.len()).unwrap(),
        crc32c: crc32c(bytes),
    }
}

/// The name that `pack` gives to the image's entry.
fn entry_name(image: &Image) -> String {
    EntryName::Image(image.digest).to_string()
}

fn guest(name: &str, kernel: u16, initrd: Option<u16>) -> Guest {
    Guest {
        name: Name::new(name).unwrap(),
        vcpus: VcpuCount::new(2).unwrap(),
        memory: MemoryMib::new(256).unwrap(),
        priority: DEFAULT_PRIORITY,
        kernel: ImageNumber(kernel),
        initrd: initrd.map(ImageNumber),
        command_line: CommandLine::new("quiet").unwrap(),
        board: None,
        allowed: 0,
        apart: 0,
        starts: true,
        disks: heapless::Vec::new(),
        nics: heapless::Vec::new(),
        virtio_console: false,
        entropy: true,
    }
}

/// A disk over that image.
fn disk(image: u16) -> Disk {
    Disk {
        backing: Backing::Ephemeral {
            image: ImageNumber(image),
            size: DiskSize::from_sectors(8).unwrap(),
            overlay: MemoryMib::new(2).ok(),
        },
        read_only: false,
        serial: Serial::new("disk").unwrap(),
    }
}

/// The entries of a package: a manifest and images of `contents`.
fn entries(guests: &[Guest], contents: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
    let name = |text| Name::new(text).unwrap();
    let summary = Summary {
        cluster: name("home"),
        board: BoardNumber(0),
        console: ConsoleMode::Focus,
        key: Some(crc32c(&KEY)),
        boards: 0,
        images: 0,
        guests: 0,
    };
    let images: Vec<_> = contents.iter().map(|bytes| image(bytes)).collect();
    let mut buffer = vec![0; MAX_MANIFEST_BYTES];
    let boards = [Board {
        name: name("alpha"),
        memory: None,
        address: None,
        mac: None,
        witness: false,
    }];
    let manifest = encode(summary, &boards, &images, guests, &mut buffer).unwrap();
    let mut entries = vec![
        (MANIFEST_ENTRY.to_string(), manifest.to_vec()),
        (KEY_ENTRY.to_string(), KEY.to_vec()),
    ];
    for (image, bytes) in images.iter().zip(contents) {
        entries.push((entry_name(image), bytes.to_vec()));
    }
    entries
}

const KEY: [u8; KEY_BYTES] = *b"thirty-two bytes are a whole key";
const KERNEL: &[u8] = b"kernel of web";
const INITRD: &[u8] = b"initrd of web, longer";
const OTHER: &[u8] = b"db";

/// Guest `web` with a kernel and an initrd, then `db` with a kernel.
fn two_guests() -> Vec<(String, Vec<u8>)> {
    entries(
        &[guest("web", 0, Some(1)), guest("db", 2, None)],
        &[KERNEL, INITRD, OTHER],
    )
}

/// What becomes of each guest: its name, or the message why not.
fn outcomes(bytes: &[u8]) -> Vec<Result<String, String>> {
    let package = Package::parse(bytes).expect("a sound manifest");
    let run = |guest: Result<GuestView<'_>, GuestError>| {
        let guest = guest.map_err(|error| error.to_string())?;
        guest.check(crc32c).map_err(|error| error.to_string())?;
        Ok(guest.guest.name.as_str().to_string())
    };
    package.guests().map(run).collect()
}

fn fine(name: &str) -> Result<String, String> {
    Ok(name.to_string())
}

/// The message for `guest` about the image of `contents`.
fn refused(guest: &str, contents: &[u8], what: &str) -> Result<String, String> {
    Err(std::format!(
        "guest {guest}: {}: {what}",
        entry_name(&image(contents))
    ))
}

#[test]
fn a_sound_package_gives_its_guests() {
    let bytes = archive(&two_guests());
    let package = Package::parse(&bytes).unwrap();
    assert_eq!(package.cluster().as_str(), "home");
    assert_eq!(package.board().name.as_str(), "alpha");
    assert_eq!(package.damage(), None);
    let guests: Vec<_> = package.guests().map(Result::unwrap).collect();
    assert_eq!(guests[0].guest, guest("web", 0, Some(1)));
    assert_eq!(guests[0].kernel.bytes, KERNEL);
    assert_eq!(guests[0].initrd.unwrap().bytes, INITRD);
    assert_eq!(guests[1].kernel.bytes, OTHER);
    assert!(guests[1].initrd.is_none());
    assert_eq!(outcomes(&bytes), [fine("web"), fine("db")]);
}

#[test]
fn disks_have_their_images() {
    let mut web = guest("web", 0, None);
    let volume = Name::new("data").unwrap();
    let local = Disk {
        backing: Backing::Local { volume },
        ..disk(0)
    };
    web.disks = [disk(2), local, disk(1)].into_iter().collect();
    let mut db = guest("db", 2, None);
    db.disks = [disk(1)].into_iter().collect();
    let entries = entries(&[web, db], &[KERNEL, INITRD, OTHER]);
    let bytes = archive(&entries);
    let package = Package::parse(&bytes).unwrap();
    let web = package.guests().next().unwrap().unwrap();
    let found: Vec<_> = web
        .disks
        .iter()
        .map(|image| image.map(|image| image.bytes))
        .collect();
    assert_eq!(found, [Some(OTHER), None, Some(INITRD)]);
    assert_eq!(web.images().count(), 3);
    assert_eq!(outcomes(&bytes), [fine("web"), fine("db")]);

    // The last image's damage costs both, each by its own use of it.
    let mut damaged = entries.clone();
    damaged[4].1[0] ^= 1;
    let found = outcomes(&archive(&damaged));
    assert!(found.iter().all(|outcome| {
        let error = outcome.as_ref().unwrap_err();
        error.contains("is corrupted: CRC-32C")
    }));
    let mut missing = entries;
    missing.remove(3);
    let outcome = [
        refused("web", INITRD, "is missing"),
        refused("db", INITRD, "is missing"),
    ];
    assert_eq!(outcomes(&archive(&missing)), outcome);
}

#[test]
fn a_guest_is_small_enough_for_a_boards_stack() {
    assert!(size_of::<GuestView<'_>>() <= 2048 + 512);
    assert!(size_of::<Guest>() <= 2048);
}

#[test]
fn order_strangers_and_padding_do_not_matter() {
    let mut entries = two_guests();
    entries.reverse();
    entries.insert(1, ("README".to_string(), b"hello".to_vec()));
    let mut bytes = archive(&entries);
    bytes.extend([0; 999]);
    assert_eq!(outcomes(&bytes), [fine("web"), fine("db")]);
}

#[test]
fn a_missing_image_costs_its_guest() {
    let mut entries = two_guests();
    entries.remove(3);
    let bytes = archive(&entries);
    assert_eq!(
        outcomes(&bytes),
        [refused("web", INITRD, "is missing"), fine("db")]
    );
}

#[test]
fn a_corrupted_image_costs_its_guest() {
    let mut entries = two_guests();
    entries[2].1[0] ^= 1;
    let [web, db] = &outcomes(&archive(&entries))[..] else {
        panic!("two guests")
    };
    let message = web.as_ref().unwrap_err();
    assert!(
        message.contains(entry_name(&image(KERNEL)).as_str()),
        "{message}"
    );
    assert!(message.contains("is corrupted: CRC-32C"), "{message}");
    assert_eq!(*db, fine("db"));
}

#[test]
fn an_image_of_another_length_costs_its_guest() {
    let mut entries = two_guests();
    entries[2].1.truncate(5);
    let what = "is corrupted"; // What stands where it was put is not it.
    let outcome = &outcomes(&archive(&entries))[0];
    assert!(outcome.as_ref().unwrap_err().contains(what), "{outcome:?}");
    entries.remove(4);
    entries.remove(3);
    let outcome = &outcomes(&archive(&entries))[0];
    assert!(outcome.as_ref().is_err(), "{outcome:?}");
}

#[test]
fn truncation_costs_what_is_cut() {
    let entries = two_guests();
    let all = archive(&entries);
    let without_last = archive(&entries[..4]).len() - archive(&[]).len();
    // Within the last image's bytes.
    let cut = all.len() - archive(&[]).len() - 3;
    let cut = &all[..cut];
    assert_eq!(
        outcomes(cut),
        [
            fine("web"),
            refused("db", OTHER, "is truncated: 1 of 2 bytes are there")
        ]
    );
    let damage = Package::parse(cut).unwrap().damage().unwrap();
    assert_eq!(damage.entry.to_string(), entry_name(&image(OTHER)));
    // Before the last image.
    let cut = &all[..without_last];
    let gone = "is missing: the archive ends before it";
    assert_eq!(outcomes(cut), [fine("web"), refused("db", OTHER, gone)]);
    let damage = Package::parse(cut).unwrap().damage().unwrap().to_string();
    assert_eq!(
        damage,
        "boot package: entry 5: is missing: the archive ends before it"
    );
}

#[test]
fn a_broken_header_costs_nobody_else() {
    let mut bytes = archive(&two_guests());
    let name = entry_name(&image(INITRD));
    let at = bytes
        .windows(name.len())
        .position(|window| window == name.as_bytes())
        .unwrap();
    // The entry's magic, and then its length: its bytes and those behind are sound, and so are all guests.
    bytes[at - 110] = b'x';
    assert_eq!(outcomes(&bytes), [fine("web"), fine("db")]);
    assert_eq!(
        Package::parse(&bytes).unwrap().damage().unwrap().what,
        Fault::NotAnEntry
    );
    bytes[at - 110] = b'0';
    bytes[at - 110 + 6 + 48] = b'f';
    assert_eq!(outcomes(&bytes), [fine("web"), fine("db")]);
    let damage = Package::parse(&bytes).unwrap().damage().unwrap();
    assert_eq!(damage.entry.to_string(), name);
}

#[test]
fn the_key_is_the_one_that_was_packed_or_none() {
    let sound = two_guests();
    let found = |entries: &[(String, Vec<u8>)]| {
        let bytes = archive(entries);
        let package = Package::parse(&bytes).unwrap();
        (
            package.key(),
            package.damage().map(|damage| damage.to_string()),
        )
    };
    assert_eq!(found(&sound), (Some(KEY), None));

    let mut entries = sound.clone();
    entries[1].1[31] ^= 1;
    let (key, damage) = found(&entries);
    let damage = damage.unwrap();
    assert_eq!(key, None);
    assert!(
        damage.starts_with("boot package: key: is corrupted"),
        "{damage}"
    );
    entries[1].1.push(0);
    let damage = found(&entries).1.unwrap();
    let message = "boot package: key: has 33 bytes, but was packed with 32";
    assert_eq!(damage, message);
    // Without it, the first image stands in its place.
    entries.remove(1);
    let (key, damage) = found(&entries);
    assert!(key.is_none() && damage.is_some());

    // A package may do without one; an entry of that name is a stranger then.
    let name = Name::new("home").unwrap();
    let mut view = ManifestView::parse(&sound[0].1).unwrap().summary().clone();
    assert_eq!(view.cluster, name);
    view.key = None;
    let boards: Vec<_> = ManifestView::parse(&sound[0].1).unwrap().boards().collect();
    let mut buffer = vec![0; MAX_MANIFEST_BYTES];
    let manifest = encode(view, &boards, &[], &[], &mut buffer).unwrap();
    let mut keyless = sound.clone();
    keyless[0].1 = manifest.to_vec();
    assert_eq!(found(&keyless), (None, None));
}

#[test]
fn a_broken_header_does_not_cost_the_key() {
    let mut bytes = archive(&two_guests());
    let at = bytes
        .windows(KEY_BYTES)
        .position(|window| window == KEY)
        .unwrap();
    // The magic of the key's own entry.
    bytes[at - (110 + 4 + 2)..][..6].copy_from_slice(b"070x01");
    let package = Package::parse(&bytes).unwrap();
    assert_eq!(package.key(), Some(KEY));
    assert_eq!(package.damage().unwrap().what, Fault::NotAnEntry);
    assert_eq!(outcomes(&bytes), [fine("web"), fine("db")]);
}

#[test]
fn without_a_manifest_there_is_nothing() {
    let why = |bytes: &[u8]| Package::parse(bytes).unwrap_err().to_string();
    assert_eq!(
        why(b""),
        "boot package: entry 1: is missing: the archive ends before it"
    );
    assert_eq!(
        why(&[0x1f; 512]),
        "boot package: entry 1: is not a newc cpio entry"
    );
    assert_eq!(
        why(&archive(&two_guests()[1..])),
        "boot package: manifest: is missing"
    );
    let mut corrupted = two_guests();
    *corrupted[0].1.last_mut().unwrap() ^= 1;
    let message = "boot package: manifest: is corrupted: its checksum is wrong";
    assert_eq!(why(&archive(&corrupted)), message);
    let huge = [(MANIFEST_ENTRY.to_string(), vec![0; MAX_MANIFEST_BYTES + 1])];
    assert!(why(&archive(&huge)).starts_with("boot package: manifest: is 196609 bytes long"));
    let crowd = vec![("x".to_string(), vec![]); 600];
    assert!(why(&archive(&crowd)).ends_with("is one entry too many"));
}

#[test]
fn a_guest_without_a_listed_image_is_refused() {
    let bytes = archive(&entries(
        &[guest("web", 9, None), guest("db", 0, None)],
        &[OTHER],
    ));
    let message = "guest web: manifest: refers to an entry that it does not list";
    assert_eq!(outcomes(&bytes), [Err(message.to_string()), fine("db")]);
}

#[test]
fn the_software_crc_is_crc32c() {
    // RFC 3720, appendix B.4: 32 bytes of zeros, 32 of ones, and the check value of the usual nine digits.
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

proptest! {
    /// A guest that is delivered is the guest that was packed, whatever was done to the archive.
    #[test]
    fn damage_never_passes(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..6),
        end: Option<prop::sample::Index>,
    ) {
        let mut bytes = archive(&two_guests());
        for (place, mask) in flips {
            let at = place.index(bytes.len());
            bytes[at] ^= mask;
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(package) = Package::parse(&bytes) {
            let _ = package.damage();
            prop_assert!(package.key().is_none_or(|key| key == KEY));
            for view in package.guests().flatten().filter(|view| view.check(crc32c).is_ok()) {
                let (kernel, initrd) = match view.guest.name.as_str() {
                    "web" => (KERNEL, Some(INITRD)),
                    _ => (OTHER, None),
                };
                prop_assert_eq!(view.kernel.bytes, kernel);
                prop_assert_eq!(view.initrd.map(|image| image.bytes), initrd);
            }
        }
    }

    #[test]
    fn anything_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Package::parse(&bytes);
    }
}
