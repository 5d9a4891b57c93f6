//! A manifest survives its encoding, and nothing else passes for one.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::package::crc32c;

/// A board without a word on its memory.
fn board(name: &str) -> Board {
    Board {
        name: Name::new(name).unwrap(),
        memory: None,
        address: None,
        mac: None,
        witness: false,
    }
}

fn summary(board: u8) -> Summary {
    let cluster = Name::new("home").unwrap();
    let console = ConsoleMode::All;
    Summary {
        cluster,
        board: BoardNumber(board),
        console,
        key: None,
        boards: 0,
        images: 0,
        guests: 0,
    }
}

prop_compose! {
    fn any_mac()(octets: [u8; 6]) -> Mac {
        let [first, rest @ ..] = octets;
        let [b, c, d, e, f] = rest;
        Mac::new([first & !1 | 2, b, c, d, e, f]).unwrap()
    }
}

prop_compose! {
    fn any_disk()(
        image: Option<u16>, sectors in 1u32.., blocks: Option<u16>, read_only: bool,
        volume in "[a-z0-9]{1,63}", serial in "[!-~]{1,20}",
    ) -> Disk {
        let overlay = blocks.map(|blocks| MemoryMib::new(u32::from(blocks).max(1) * 2).unwrap());
        let volume = Name::new(&volume).unwrap();
        let backing = match image {
            Some(image) => Backing::Ephemeral {
                image: ImageNumber(image),
                size: DiskSize::from_sectors(sectors).unwrap(),
                overlay,
            },
            None => Backing::Local { volume },
        };
        Disk { backing, read_only, serial: Serial::new(&serial).unwrap() }
    }
}

prop_compose! {
    fn any_board()(address: u32, prefix in 1u8..=30, step: Option<u32>, mac in prop::option::of(any_mac()), witness: bool) -> Board {
        let gateway = step.map(|step| address ^ step & u32::MAX >> prefix);
        // Most draws are a host of some network; the others have no place.
        let place = Ipv4Place::new(address.into(), prefix, gateway.map(Into::into)).ok();
        Board { address: place, mac, witness, ..board("x") }
    }
}

prop_compose! {
    fn any_guest()(
        name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        vcpus in 1..=VcpuCount::MAX,
        blocks in MemoryMib::MIN / 2..=MemoryMib::MAX / 2,
        priority: u8, kernel: u16, initrd: Option<u16>,
        line in "[ -~é]{0,512}",
        disks in prop::collection::vec(any_disk(), 0..=MAX_DISKS),
        macs in prop::collection::vec(any_mac(), 0..=MAX_NICS),
        first: bool, allowed: bool, apart: u8, starts: bool, virtio_console: bool, entropy: bool,
    ) -> Guest {
        Guest {
            name: Name::new(&name).unwrap(),
            vcpus: VcpuCount::new(vcpus).unwrap(),
            memory: MemoryMib::new(blocks * 2).unwrap(),
            priority: Priority(priority),
            kernel: ImageNumber(kernel),
            initrd: initrd.map(ImageNumber),
            command_line: CommandLine::new(&line).unwrap(),
            board: first.then_some(BoardNumber(0)),
            allowed: allowed.into(),
            apart,
            starts,
            disks: disks.into_iter().collect(),
            nics: macs.into_iter().map(|mac| Nic { mac }).collect(),
            virtio_console,
            entropy,
        }
    }
}

prop_compose! {
    fn any_image()(digest: [u8; 32], length: u32, crc32c: u32) -> Image {
        Image { digest: Digest(digest), length, crc32c }
    }
}

/// Replaces the records and makes length and checksum right again.
fn seal(records: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from(*b"HEARTHPK\x03\0\0\0");
    bytes.extend(u32::try_from(records.len()).unwrap().to_le_bytes());
    bytes.extend(crc32c(records).to_le_bytes());
    bytes.extend(records);
    bytes
}

proptest! {
    // Whole clusters are slow to make; a few dozen cover the lists' lengths.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_written_is_read(
        guests in prop::collection::vec(any_guest(), 0..MAX_GUESTS),
        images in prop::collection::vec(any_image(), 0..MAX_IMAGES),
        mut boards in prop::collection::vec(any_board(), 1..=MAX_BOARDS),
        console: bool,
    ) {
        boards[0].witness = false; // Guests start there.
        let count = boards.len();
        let mut summary = summary(u8::try_from(count - 1).unwrap());
        summary.console = if console { ConsoleMode::All } else { ConsoleMode::Focus };
        let mut buffer = vec![0; MAX_MANIFEST_BYTES];
        let bytes = encode(summary.clone(), &boards, &images, &guests, &mut buffer).unwrap();
        let view = ManifestView::parse(bytes).unwrap();
        prop_assert_eq!(view.summary().board, summary.board);
        prop_assert_eq!(view.summary().console, summary.console);
        prop_assert_eq!(&view.summary().cluster, &summary.cluster);
        prop_assert_eq!(view.boards().collect::<Vec<_>>(), boards);
        prop_assert_eq!(view.images().collect::<Vec<_>>(), images);
        prop_assert_eq!(view.guests().collect::<Vec<_>>(), guests);
    }

    #[test]
    fn a_changed_bit_is_noticed(guests in prop::collection::vec(any_guest(), 1..4), place: prop::sample::Index) {
        let mut buffer = vec![0; MAX_MANIFEST_BYTES];
        let mut bytes = encode(summary(0), &[board("a")], &[], &guests, &mut buffer).unwrap().to_vec();
        let bit = place.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(ManifestView::parse(&bytes).is_err());
    }

    /// Records under a right checksum may still be anything.
    #[test]
    fn forged_records_never_panic(records in prop::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(view) = ManifestView::parse(&seal(&records)) {
            prop_assert_eq!(view.guests().count(), usize::from(view.summary().guests));
        }
    }
}

#[test]
fn the_largest_cluster_fits() {
    let longest = Name::new(&"n".repeat(Name::MAX_BYTES)).unwrap();
    let mac = Mac::new([0xfe; 6]).unwrap();
    let (volume, serial) = (longest.clone(), Serial::new(&"s".repeat(20)).unwrap());
    let disk = Disk {
        backing: Backing::Local { volume },
        read_only: true,
        serial,
    };
    let guest = Guest {
        name: longest.clone(),
        vcpus: VcpuCount::new(8).unwrap(),
        memory: MemoryMib::new(MemoryMib::MAX).unwrap(),
        priority: Priority(255),
        kernel: ImageNumber(u16::MAX),
        initrd: Some(ImageNumber(u16::MAX)),
        command_line: CommandLine::new(&"x".repeat(CommandLine::MAX_BYTES)).unwrap(),
        board: Some(BoardNumber(15)),
        allowed: u16::MAX,
        apart: 255,
        starts: true,
        disks: core::iter::repeat_n(disk, MAX_DISKS).collect(),
        nics: core::iter::repeat_n(Nic { mac }, MAX_NICS).collect(),
        virtio_console: true,
        entropy: true,
    };
    let image = Image {
        digest: Digest([255; 32]),
        length: u32::MAX,
        crc32c: u32::MAX,
    };
    let boards = vec![
        Board {
            name: longest,
            memory: Some(guest.memory),
            address: Ipv4Place::new([223; 4].into(), 30, Some([223, 223, 223, 222].into())).ok(),
            mac: Some(mac),
            witness: false,
        };
        MAX_BOARDS
    ];
    let (images, guests) = (vec![image; MAX_IMAGES], vec![guest; MAX_GUESTS]);
    let mut buffer = vec![0; MAX_MANIFEST_BYTES];
    let bytes = encode(summary(15), &boards, &images, &guests, &mut buffer).unwrap();
    assert_eq!(
        ManifestView::parse(bytes).unwrap().guests().count(),
        MAX_GUESTS
    );

    let mut small = vec![0; 1000];
    let full = encode(summary(0), &boards, &images, &guests, &mut small);
    assert_eq!(full, Err(EncodeError::Buffer));
    let images = vec![image; MAX_IMAGES + 1];
    let many = encode(summary(0), &boards, &images, &[], &mut buffer);
    assert_eq!(many, Err(EncodeError::Count));
    assert_eq!(
        encode(summary(0), &[], &[], &[], &mut buffer),
        Err(EncodeError::Count)
    );
}

#[test]
fn each_damage_has_its_name() {
    let mut buffer = vec![0; MAX_MANIFEST_BYTES];
    let sound = encode(summary(0), &[board("a")], &[], &[], &mut buffer)
        .unwrap()
        .to_vec();
    let records = &sound[HEAD_BYTES..];
    let with = |index: usize, value: u8| {
        let mut bytes = sound.clone();
        bytes[index] = value;
        ManifestView::parse(&bytes).unwrap_err()
    };
    let parse = |bytes: &[u8]| ManifestView::parse(bytes).unwrap_err();
    assert_eq!(with(0, b'h'), ManifestError::NotAManifest);
    assert_eq!(parse(b"HEARTHPK"), ManifestError::NotAManifest);
    assert_eq!(with(8, 1), ManifestError::Version { found: 1 });
    assert_eq!(with(16, sound[16] ^ 1), ManifestError::Checksum);
    let (said, found) = (records.len() as u32, records.len() as u32 - 1);
    assert_eq!(
        parse(&sound[..sound.len() - 1]),
        ManifestError::Length { said, found }
    );
    let huge = vec![0; MAX_MANIFEST_BYTES + 1];
    assert_eq!(
        parse(&huge),
        ManifestError::TooLarge {
            bytes: huge.len() as u32
        }
    );
    assert_eq!(
        parse(&seal(&[records, b"x"].concat())),
        ManifestError::Trailing
    );
    assert_eq!(
        parse(&seal(&records[..records.len() - 1])),
        ManifestError::Record { index: 0 }
    );
    // home, board 1 of 1: a board that is not in the list.
    assert_eq!(
        parse(&seal(b"\x04home\x01\x00\x00\x01\x00\x00")),
        ManifestError::Summary
    );
    // A name that is no label, under a right checksum.
    assert_eq!(
        parse(&seal(b"\x04ho e\x00\x00\x00\x01\x00\x00")),
        ManifestError::Summary
    );
}

#[test]
fn values_keep_their_rules() {
    for good in ["a", "0", "web-1", &"a".repeat(63)] {
        assert_eq!(Name::new(good).unwrap().as_str(), good);
    }
    for bad in [
        "",
        "-a",
        "a-",
        "A",
        "a.b",
        "a_b",
        "a b",
        "é",
        "a\n",
        &"a".repeat(64),
    ] {
        assert_eq!(Name::new(bad), Err(OutOfRange::Name), "{bad:?}");
    }
    assert!(VcpuCount::new(1).is_ok() && VcpuCount::new(8).is_ok());
    assert_eq!(VcpuCount::new(0), Err(OutOfRange::Vcpus));
    assert_eq!(VcpuCount::new(9), Err(OutOfRange::Vcpus));
    assert_eq!(MemoryMib::new(256).unwrap().bytes(), 256 << 20);
    for bad in [0, 1, 3, MemoryMib::MAX + 2] {
        assert_eq!(MemoryMib::new(bad), Err(OutOfRange::Memory));
    }
    assert!(CommandLine::new("console=ttyAMA0 quiet").is_ok());
    assert_eq!(CommandLine::new("a\0b"), Err(OutOfRange::CommandLine));
}

#[test]
fn a_guest_of_no_board_is_noticed() {
    let mut buffer = vec![0; MAX_MANIFEST_BYTES];
    let mut guest = Guest {
        name: Name::new("web").unwrap(),
        vcpus: VcpuCount::new(1).unwrap(),
        memory: MemoryMib::new(16).unwrap(),
        priority: DEFAULT_PRIORITY,
        kernel: ImageNumber(0),
        initrd: None,
        command_line: CommandLine::default(),
        board: Some(BoardNumber(1)),
        allowed: 0,
        apart: 0,
        starts: true,
        disks: heapless::Vec::new(),
        nics: heapless::Vec::new(),
        virtio_console: false,
        entropy: true,
    };
    let boards = [board("a"), board("b")];
    let bytes = encode(
        summary(0),
        &boards,
        &[],
        &[guest.clone(), guest.clone()],
        &mut buffer,
    )
    .unwrap();
    let first = ManifestView::parse(bytes).unwrap().guests().next().unwrap();
    assert_eq!(first.first_board(), BoardNumber(1));
    let mut refused = |boards: &[Board], guest: &Guest| {
        let guests = [first.clone(), guest.clone()];
        let bytes = encode(summary(0), boards, &[], &guests, &mut buffer).unwrap();
        ManifestView::parse(bytes).map(|_| ()).unwrap_err()
    };
    guest.board = Some(BoardNumber(2));
    assert_eq!(refused(&boards, &guest), ManifestError::Record { index: 3 });
    // Allowed on a board that is not there.
    (guest.board, guest.allowed) = (None, 0b100);
    assert_eq!(refused(&boards, &guest), ManifestError::Record { index: 3 });
    // A witness runs nothing.
    let mut with_witness = [board("a"), board("b"), board("w")];
    with_witness[2].witness = true;
    assert_eq!(
        refused(&with_witness, &guest),
        ManifestError::Record { index: 4 }
    );
    (guest.board, guest.allowed) = (Some(BoardNumber(2)), 0);
    assert_eq!(
        refused(&with_witness, &guest),
        ManifestError::Record { index: 4 }
    );
}

#[test]
fn a_witness_is_no_host() {
    let mut boards = [board("a"), board("w"), board("b")];
    boards[1].witness = true;
    let mut buffer = vec![0; MAX_MANIFEST_BYTES];
    let bytes = encode(summary(0), &boards, &[], &[], &mut buffer).unwrap();
    assert_eq!(ManifestView::parse(bytes).unwrap().hosts(), 0b101);
}

#[test]
fn addresses_keep_their_rules() {
    let mac: Mac = "0A:00:5e:10:20:fF".parse().unwrap();
    assert_eq!(mac.octets(), [10, 0, 0x5e, 16, 32, 255]);
    assert_eq!(std::format!("{mac}"), "0a:00:5e:10:20:ff");
    for bad in [
        "00:00:5e:10:20:30",    // a manufacturer's
        "03:00:5e:10:20:30",    // a group's
        "ff:ff:ff:ff:ff:ff",    // everybody's
        "02:00:5e:10:20",       // too short
        "02:00:5e:10:20:30:40", // too long
        "02:0:5e:10:20:30",
        "02:+1:5e:10:20:30",
        "02-00-5e-10-20-30",
        "",
    ] {
        assert_eq!(bad.parse::<Mac>(), Err(OutOfRange::Mac), "{bad}");
    }

    let place = |address: [u8; 4], prefix, gateway: Option<[u8; 4]>| {
        Ipv4Place::new(address.into(), prefix, gateway.map(Into::into))
    };
    let sound = place([10, 7, 0, 1], 24, Some([10, 7, 0, 254])).unwrap();
    assert_eq!(std::format!("{sound}"), "10.7.0.1/24");
    assert!(place([192, 168, 0, 2], 30, Some([192, 168, 0, 1])).is_ok());
    for (address, prefix) in [
        ([10, 7, 0, 0], 24),
        ([10, 7, 0, 255], 24),
        ([10, 7, 0, 1], 0),
        ([10, 7, 0, 1], 31),
        ([127, 0, 0, 1], 8),
        ([0, 0, 0, 1], 8),
        ([224, 0, 0, 1], 4),
        ([255, 255, 255, 254], 24),
    ] {
        assert_eq!(place(address, prefix, None), Err(OutOfRange::Address));
    }
    for gateway in [[10, 7, 0, 1], [10, 7, 1, 2], [10, 7, 0, 255], [10, 7, 0, 0]] {
        let found = place([10, 7, 0, 1], 24, Some(gateway));
        assert_eq!(found, Err(OutOfRange::Gateway));
    }
}

#[test]
fn disks_keep_their_rules() {
    assert_eq!(DiskSize::holding(0), Err(OutOfRange::DiskSize));
    assert_eq!(DiskSize::holding(513).unwrap().bytes(), 1024);
    assert_eq!(DiskSize::holding(1 << 41), Err(OutOfRange::DiskSize));
    assert_eq!(
        DiskSize::holding((1 << 41) - 512).unwrap().sectors(),
        u32::MAX
    );
    assert!(Serial::new("web-root").is_ok() && Serial::new(&"s".repeat(20)).is_ok());
    for bad in ["", "a b", "é", "a\n", &"s".repeat(21)] {
        assert_eq!(Serial::new(bad), Err(OutOfRange::Serial), "{bad:?}");
    }
}
