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
    }
}

fn summary(board: u8) -> Summary {
    let cluster = Name::new("home").unwrap();
    let console = ConsoleMode::All;
    Summary {
        cluster,
        board: BoardNumber(board),
        console,
        boards: 0,
        images: 0,
        guests: 0,
    }
}

prop_compose! {
    fn any_guest()(
        name in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        vcpus in 1..=VcpuCount::MAX,
        blocks in MemoryMib::MIN / 2..=MemoryMib::MAX / 2,
        priority: u8, kernel: u8, initrd: Option<u8>,
        line in "[ -~é]{0,512}",
    ) -> Guest {
        Guest {
            name: Name::new(&name).unwrap(),
            vcpus: VcpuCount::new(vcpus).unwrap(),
            memory: MemoryMib::new(blocks * 2).unwrap(),
            priority: Priority(priority),
            kernel: ImageNumber(kernel),
            initrd: initrd.map(ImageNumber),
            command_line: CommandLine::new(&line).unwrap(),
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
    let mut bytes = Vec::from(*b"HEARTHPK\x01\0\0\0");
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
        count in 1..=MAX_BOARDS,
        console: bool,
    ) {
        let boards: Vec<_> = (0..count).map(|number| board(&std::format!("board-{number}"))).collect();
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
    let guest = Guest {
        name: longest.clone(),
        vcpus: VcpuCount::new(8).unwrap(),
        memory: MemoryMib::new(MemoryMib::MAX).unwrap(),
        priority: Priority(255),
        kernel: ImageNumber(255),
        initrd: Some(ImageNumber(255)),
        command_line: CommandLine::new(&"x".repeat(CommandLine::MAX_BYTES)).unwrap(),
    };
    let image = Image {
        digest: Digest([255; 32]),
        length: u32::MAX,
        crc32c: u32::MAX,
    };
    let boards = vec![
        Board {
            name: longest,
            memory: Some(guest.memory)
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
    assert_eq!(with(8, 2), ManifestError::Version { found: 2 });
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
        parse(&seal(b"\x04home\x01\x00\x01\x00\x00")),
        ManifestError::Summary
    );
    // A name that is no label, under a right checksum.
    assert_eq!(
        parse(&seal(b"\x04ho e\x00\x00\x01\x00\x00")),
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
