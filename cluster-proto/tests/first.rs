//! What a manifest says is in the cluster's first ledger.

use cluster_proto::first::{FirstError, first_ledger};
use cluster_proto::ids::{BoardId, BoardSet, GuestId};
use cluster_proto::ledger::Ledger;
use cluster_proto::ledger::types::{Denied, VolumeKind, Wanted};
use cluster_proto::limits::{BOARDS, GUESTS, VOLUMES};
use cluster_proto::manifest::*;

type FullLedger = Ledger<BOARDS, GUESTS, VOLUMES>;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn board(at: usize) -> Board {
    Board {
        name: name(&format!("board{at}")),
        memory: None,
        address: None,
        mac: None,
        witness: false,
    }
}

fn image(number: u16) -> Image {
    let [low, high] = number.to_le_bytes();
    let mut digest = [7; 32];
    (digest[0], digest[1]) = (low, high);
    Image {
        digest: Digest(digest),
        length: 1_000,
        crc32c: 0,
    }
}

fn guest(text: &str, disks: &[Disk]) -> Guest {
    Guest {
        name: name(text),
        vcpus: VcpuCount::new(2).unwrap(),
        memory: MemoryMib::new(256).unwrap(),
        priority: Priority(9),
        kernel: ImageNumber(0),
        initrd: Some(ImageNumber(1)),
        command_line: CommandLine::new(&"c".repeat(CommandLine::MAX_BYTES)).unwrap(),
        board: Some(BoardNumber(2)),
        allowed: 0b110,
        apart: 3,
        starts: false,
        disks: disks.iter().cloned().collect(),
        nics: [Nic {
            mac: Mac::new([2, 0, 0, 0, 0, 9]).unwrap(),
        }]
        .into_iter()
        .collect(),
        virtio_console: false,
        entropy: true,
    }
}

fn ephemeral(serial: &str) -> Disk {
    Disk {
        backing: Backing::Ephemeral {
            image: ImageNumber(1),
            size: DiskSize::holding(3 << 20).unwrap(),
            overlay: MemoryMib::new(64).ok(),
        },
        read_only: false,
        serial: Serial::new(serial).unwrap(),
    }
}

fn local(serial: &str, volume: &str) -> Disk {
    Disk {
        backing: Backing::Local {
            volume: name(volume),
        },
        read_only: true,
        serial: Serial::new(serial).unwrap(),
    }
}

/// The manifest's bytes in the package for board `own`.
fn packed(own: u8, boards: usize, images: u16, guests: &[Guest]) -> Vec<u8> {
    let boards: Vec<Board> = (0..boards).map(board).collect();
    packed_boards(own, &boards, images, guests)
}

fn packed_boards(own: u8, boards: &[Board], images: u16, guests: &[Guest]) -> Vec<u8> {
    let summary = Summary {
        cluster: name("home"),
        board: BoardNumber(own),
        console: ConsoleMode::Focus,
        key: None,
        boards: 0,
        images: 0,
        guests: 0,
    };
    let images: Vec<Image> = (0..images).map(image).collect();
    let mut buffer = vec![0; MAX_MANIFEST_BYTES];
    let bytes = encode(summary, boards, &images, guests, &mut buffer);
    bytes.unwrap().to_vec()
}

fn made(bytes: &[u8]) -> Result<(u64, Box<FullLedger>), FirstError> {
    let mut ledger = Box::new(FullLedger::new());
    let view = ManifestView::parse(bytes).unwrap();
    let digest = first_ledger(&view, &mut ledger)?;
    Ok((digest, ledger))
}

#[test]
fn a_guest_comes_with_all_that_places_it() {
    let disks = [
        ephemeral("web-root"),
        local("web-data", "data"),
        local("web-again", "data"),
    ];
    let bytes = packed(0, 4, 2, &[guest("web", &disks)]);
    let (_, ledger) = made(&bytes).unwrap();
    let spec = &ledger.guest(GuestId(0)).unwrap().spec;
    assert_eq!(spec.name, "web");
    assert_eq!(
        (spec.memory_mib, spec.vcpus, spec.priority),
        (256 + 64, 2, 9)
    );
    assert_eq!(spec.command_line.len(), CommandLine::MAX_BYTES);
    assert_eq!(
        (spec.kernel, spec.initrd),
        (image(0).digest.0, image(1).digest.0)
    );
    assert_eq!(spec.mac, [2, 0, 0, 0, 0, 9]);
    assert_eq!((spec.apart, spec.allowed), (3, BoardSet(0b110)));
    assert_eq!(spec.wanted, Wanted::Stopped);
    let volumes: Vec<_> = ledger.volumes.iter().flatten().collect();
    assert_eq!(volumes.len(), 2, "two disks over one volume are one volume");
    assert_eq!(
        (volumes[0].kind, volumes[0].size_mib),
        (VolumeKind::Ephemeral, 3)
    );
    assert_eq!(
        (volumes[1].kind, volumes[1].board),
        (VolumeKind::Local, BoardId(2))
    );
    assert_eq!(volumes[1].name, "data");
    assert_eq!(ledger.images.len(), 2);
    assert!(
        ledger.images.iter().all(|image| image.held.len() == 4),
        "every package has every image"
    );
}

#[test]
fn an_odd_number_votes_and_no_seat_is_taken() {
    for (boards, voters) in [(1, 1), (2, 1), (3, 3), (4, 3), (7, 7), (8, 7), (16, 7)] {
        let (_, ledger) = made(&packed(0, boards, 0, &[])).unwrap();
        assert_eq!(ledger.seats.iter().count(), voters);
        assert_eq!(ledger.seats.taken(), 0);
        assert_eq!(ledger.boards().count(), boards);
        assert_eq!(
            ledger.boards().filter(|(_, board)| board.votes).count(),
            voters
        );
    }
}

#[test]
fn a_witness_votes_and_holds_nothing() {
    // Boards, witnesses; how many of each vote.
    for (boards, witnesses, voting) in [
        (2, 1, (2, 1)),
        (3, 1, (2, 1)),
        (4, 1, (4, 1)),
        (3, 2, (3, 2)),
        (15, 1, (6, 1)),
        (1, 1, (1, 0)),
        (0, 1, (0, 1)),
    ] {
        let witness = |at| Board {
            witness: true,
            ..board(at)
        };
        // Witnesses stand behind the boards, as `pack` puts them, or before them.
        let mut list: Vec<Board> = (0..boards).map(board).collect();
        list.extend((boards..boards + witnesses).map(witness));
        for backwards in [false, true] {
            if backwards {
                list.reverse();
            }
            let (_, ledger) = made(&packed_boards(0, &list, 2, &[])).unwrap();
            let voting_as = |witness| {
                let those = ledger.boards().filter(|(_, board)| board.votes);
                those.filter(|(_, board)| board.witness == witness).count()
            };
            assert_eq!((voting_as(false), voting_as(true)), voting);
            assert_eq!(ledger.seats.iter().count(), voting.0 + voting.1);
            let hosts = ledger.boards().filter(|(_, board)| !board.witness);
            let holding: u64 = hosts.map(|(id, _)| id.bit()).sum();
            assert!(ledger.images.iter().all(|image| image.held.0 == holding));
        }
    }
}

#[test]
fn it_is_the_same_on_every_board_and_no_other_clusters() {
    let guests = [guest("web", &[ephemeral("web-root")])];
    let digests: Vec<u64> = (0..3)
        .map(|own| made(&packed(own, 3, 2, &guests)).unwrap().0)
        .collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    let other = [guest("wed", &[ephemeral("web-root")])];
    assert_ne!(made(&packed(0, 3, 2, &other)).unwrap().0, digests[0]);
    assert_ne!(made(&packed(0, 3, 3, &guests)).unwrap().0, digests[0]);
}

#[test]
fn the_largest_cluster_fits_but_for_its_volumes() {
    let guests: Vec<Guest> = (0..MAX_GUESTS)
        .map(|at| guest(&format!("guest{at}"), &[ephemeral("a"), ephemeral("b")]))
        .collect();
    let images = MAX_IMAGES as u16;
    let (_, ledger) = made(&packed(0, MAX_BOARDS, images, &guests)).unwrap();
    assert_eq!(ledger.guests().count(), GUESTS);
    assert_eq!(ledger.images.len(), MAX_IMAGES);
    assert_eq!(ledger.volumes.iter().flatten().count(), VOLUMES);

    let mut many = guests.clone();
    many[63] = guest("guest63", &[ephemeral("a"), ephemeral("b"), ephemeral("c")]);
    let refused = made(&packed(0, MAX_BOARDS, images, &many)).map(|_| ());
    assert_eq!(refused, Err(FirstError::Disk(63, Denied::Capacity)));
}

#[test]
fn an_image_that_is_not_there_is_noticed() {
    let refused = made(&packed(0, 3, 1, &[guest("web", &[])])).map(|_| ());
    assert_eq!(refused, Err(FirstError::NoImage(0)));
    let small = Ledger::<2, 8, 8>::new();
    let mut small = Box::new(small);
    let bytes = packed(0, 3, 0, &[]);
    let view = ManifestView::parse(&bytes).unwrap();
    assert_eq!(first_ledger(&view, &mut small), Err(FirstError::Boards));
}
