//! The virtio disk against a device in memory.

use super::virtio::{PAGES, SLOTS, VirtioDisk};
use super::*;
use crate::virtio::fake::{Fake, Piece};
use crate::virtio::tests::pages;
use crate::virtio::{Device, OpenError};

const INDIRECT: u64 = 1 << 28;
const EVENT_INDEX: u64 = 1 << 29;
const SEG_MAX: u64 = 1 << 2;
const RO: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;
const USUAL: u64 = INDIRECT | EVENT_INDEX | SEG_MAX | FLUSH;
/// 1,000 sectors; at most 4 pieces.
const CONFIGURATION: [u8; 16] = [0xe8, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];

fn open(fake: Fake) -> Result<VirtioDisk<Fake>, OpenError> {
    let device = Device::find(fake)?.expect("a device");
    super::virtio::open(device, pages(PAGES))
}

fn disk(features: u64) -> (Fake, VirtioDisk<Fake>) {
    let fake = Fake::new(2, features, &CONFIGURATION);
    (fake, open(fake).unwrap())
}

fn segment(address: u64, bytes: u32) -> Segment {
    Segment { address, bytes }
}

fn submit(
    disk: &mut VirtioDisk<Fake>,
    tag: u64,
    operation: Operation,
    first: u64,
    data: &[Segment],
) -> Result<(), NotTaken> {
    // SAFETY: the device in these tests touches no data.
    unsafe { disk.submit(Tag(tag), operation, Sector(first), data) }
}

/// A request as the device sees it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    head: u16,
    kind: u32,
    sector: u64,
    data: Vec<Piece>,
    status: Piece,
}

fn next(fake: Fake) -> Option<Seen> {
    let (head, mut pieces) = fake.pop(0)?;
    let header = pieces.remove(0).read();
    let status = pieces.pop().expect("a status");
    assert_eq!((header.len(), status.bytes), (16, 1));
    Some(Seen {
        head,
        kind: u32::from_le_bytes(header[..4].try_into().unwrap()),
        sector: u64::from_le_bytes(header[8..].try_into().unwrap()),
        data: pieces,
        status,
    })
}

fn answer(fake: Fake, seen: &Seen, status: u8) {
    seen.status.write(&[status]);
    fake.push(0, seen.head.into(), 1);
}

fn completions(disk: &mut VirtioDisk<Fake>) -> Vec<(u64, Result<(), Failure>)> {
    let mut all = Vec::new();
    disk.completions(usize::MAX, |tag, outcome| all.push((tag.0, outcome)))
        .unwrap();
    all
}

#[test]
fn what_a_disk_says_of_itself() {
    let (_, disk) = disk(USUAL);
    assert_eq!((disk.sectors(), disk.most_segments()), (Sector(1000), 4));
    assert!(!disk.is_read_only());
    let (_, small) = self::disk(INDIRECT | RO);
    assert!(small.is_read_only());
    assert_eq!(small.most_segments(), 1);
    let plain = open(Fake::new(2, 0, &CONFIGURATION)).map(|_| ());
    assert_eq!(plain, Err(OpenError::Lacks(28)));
    let huge = open(Fake::new(2, USUAL, &[0xff; 16])).map(|_| ());
    assert_eq!(huge, Err(OpenError::Configuration));
}

#[test]
fn requests_are_what_was_asked_for() {
    let (fake, mut disk) = disk(USUAL);
    let data = [segment(0x4000, 512), segment(0x1_2345_6000, 3584)];
    submit(&mut disk, 7, Operation::Read, 8, &data).unwrap();
    submit(&mut disk, 8, Operation::Write, 992, &data).unwrap();
    assert_eq!(disk.flush(Tag(9)), Ok(Flush::Underway));
    assert_eq!((fake.notified(0), next(fake)), (0, None));
    disk.kick();
    assert_eq!(fake.notified(0), 1);
    for (kind, sector, count, writable) in [(0, 8, 2, true), (1, 992, 2, false), (4, 0, 0, false)] {
        let seen = next(fake).expect("a request");
        assert_eq!((seen.kind, seen.sector), (kind, sector));
        let wanted: Vec<_> = data[..count]
            .iter()
            .map(|segment| Piece {
                address: segment.address,
                bytes: segment.bytes,
                writable,
            })
            .collect();
        assert_eq!(seen.data, wanted);
        answer(fake, &seen, 0);
    }
    assert_eq!(
        completions(&mut disk),
        [(7, Ok(())), (8, Ok(())), (9, Ok(()))]
    );
}

#[test]
fn what_makes_no_sense_is_not_submitted() {
    let (fake, mut disk) = disk(USUAL);
    let sector = segment(0x4000, 512);
    let mut refused =
        |first, data: &[Segment]| submit(&mut disk, 0, Operation::Read, first, data).unwrap_err();
    assert_eq!(refused(0, &[]), NotTaken::Shape);
    assert_eq!(refused(0, &[sector; 5]), NotTaken::Shape);
    assert_eq!(refused(0, &[sector, segment(0, 0)]), NotTaken::Shape);
    assert_eq!(refused(0, &[segment(0, 511)]), NotTaken::Shape);
    assert_eq!(refused(1000, &[sector]), NotTaken::Beyond);
    assert_eq!(refused(999, &[sector; 2]), NotTaken::Beyond);
    assert_eq!(refused(u64::MAX, &[sector]), NotTaken::Beyond);
    disk.kick();
    assert_eq!((fake.notified(0), disk.room()), (0, SLOTS));
    let (_, mut fixed) = self::disk(USUAL | RO);
    let refused = submit(&mut fixed, 0, Operation::Write, 0, &[sector]);
    assert_eq!(refused, Err(NotTaken::ReadOnly));
}

#[test]
fn completions_come_in_any_order_with_what_became_of_them() {
    let (fake, mut disk) = disk(USUAL);
    for tag in 0..4 {
        let data = [segment(0x4000, 512)];
        submit(&mut disk, tag, Operation::Read, tag, &data).unwrap();
    }
    disk.kick();
    let seen: Vec<_> = (0..4).map(|_| next(fake).unwrap()).collect();
    // One status is not written at all.
    answer(fake, &seen[2], 1);
    answer(fake, &seen[0], 2);
    answer(fake, &seen[3], 0);
    fake.push(0, seen[1].head.into(), 1);
    let wanted = [
        (2, Err(Failure::Medium)),
        (0, Err(Failure::Unsupported)),
        (3, Ok(())),
        (1, Err(Failure::Medium)),
    ];
    assert_eq!(completions(&mut disk), wanted);
    assert_eq!(fake.interrupts(), 1);
}

#[test]
fn a_full_disk_takes_more_after_a_completion() {
    let (fake, mut disk) = disk(USUAL);
    let data = [segment(0x4000, 512)];
    for tag in 0..SLOTS as u64 {
        submit(&mut disk, tag, Operation::Read, 0, &data).unwrap();
    }
    assert_eq!(disk.room(), 0);
    let refused = submit(&mut disk, 99, Operation::Read, 0, &data);
    assert_eq!(refused, Err(NotTaken::Full));
    disk.kick();
    for round in 0..200 {
        let seen = next(fake).unwrap();
        answer(fake, &seen, 0);
        assert_eq!(completions(&mut disk).len(), 1);
        submit(&mut disk, round, Operation::Write, 0, &data).unwrap();
        disk.kick();
    }
    assert_eq!(disk.room(), 0);
}

#[test]
fn a_disk_that_keeps_nothing_back_needs_no_flush() {
    let (fake, mut disk) = disk(INDIRECT);
    assert_eq!(disk.flush(Tag(1)), Ok(Flush::Needless));
    disk.kick();
    assert_eq!(fake.notified(0), 0);
}

#[test]
fn a_disk_that_lies_is_reset_and_left_alone() {
    let (fake, mut disk) = disk(USUAL);
    let data = [segment(0x4000, 512)];
    submit(&mut disk, 1, Operation::Read, 0, &data).unwrap();
    disk.kick();
    fake.push(0, 64, 1);
    let fault = Fault::NotGiven { head: 64 };
    let found = disk.completions(8, |_, _| panic!("nothing completed"));
    assert_eq!(found, Err(fault));
    assert!(!fake.is_running());
    assert_eq!(disk.listen(), Err(fault));
    let refused = submit(&mut disk, 2, Operation::Read, 0, &data);
    assert_eq!(refused, Err(NotTaken::Broken(fault)));
    assert_eq!(disk.flush(Tag(3)), Err(NotTaken::Broken(fault)));
}
