//! The virtio card against a device in memory.

use super::virtio::{PAGES, RECEIVE_SLOTS, TRANSMIT_SLOTS};
use super::*;
use crate::virtio::fake::{Fake, Piece};
use crate::virtio::tests::pages;
use crate::virtio::{Device, OpenError};

const MAC: u64 = 1 << 5;
const STATUS: u64 = 1 << 16;
const MTU: u64 = 1 << 3;
const EVENT_INDEX: u64 = 1 << 29;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// MAC address, status, pairs, MTU.
const CONFIGURATION: [u8; 12] = [0x52, 0x54, 0, 1, 2, 3, 1, 0, 0, 0, 0xdc, 5];

type Card = super::virtio::Card<Fake>;

fn open(fake: Fake) -> Result<Card, OpenError> {
    let device = Device::find(fake)?.expect("a device");
    super::virtio::open(device, pages(PAGES))
}

fn card() -> (Fake, Card) {
    let fake = Fake::new(1, MAC | STATUS | MTU | EVENT_INDEX, &CONFIGURATION);
    (fake, open(fake).unwrap())
}

/// Delivers a frame, whole, with the card's header.
fn deliver(fake: Fake, frame: &[u8]) {
    let (head, pieces) = fake.pop(RECEIVE).expect("a buffer");
    let [piece] = pieces[..] else {
        panic!("one piece")
    };
    let mut bytes = vec![0; 12];
    bytes.extend(frame);
    piece.write(&bytes);
    fake.push(RECEIVE, head.into(), bytes.len() as u32);
}

fn frame(seed: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n * 7 + seed) as u8).collect()
}

fn put(card: &mut Card, frame: &[u8]) -> Result<(), NotTaken> {
    card.transmit.put(|room| {
        room[..frame.len()].copy_from_slice(frame);
        frame.len()
    })
}

fn sent(fake: Fake) -> Option<(u16, Vec<u8>)> {
    let (head, pieces) = fake.pop(TRANSMIT)?;
    let bytes: Vec<u8> = pieces.iter().flat_map(Piece::read).collect();
    assert_eq!(bytes[..12], [0; 12], "no offloads");
    Some((head, bytes[12..].to_vec()))
}

#[test]
fn what_a_card_says_of_itself() {
    let (fake, card) = card();
    assert_eq!(card.control.mac().to_string(), "52:54:00:01:02:03");
    assert_eq!((card.control.mtu(), card.control.link()), (1500, Link::Up));
    fake.configure(6, 0);
    assert!(card.control.acknowledge_interrupt().configuration);
    assert_eq!(card.control.link(), Link::Down);
}

#[test]
fn a_card_without_a_sound_address_is_refused() {
    let with = |first| {
        let mut configuration = CONFIGURATION;
        configuration[0] = first;
        open(Fake::new(1, MAC, &configuration)).map(|_| ())
    };
    assert_eq!(with(0x52), Ok(()));
    assert_eq!(with(0x01), Err(OpenError::Configuration));
    let nameless = open(Fake::new(1, 0, &CONFIGURATION)).map(|_| ());
    assert_eq!(nameless, Err(OpenError::Lacks(5)));
    let device = Device::find(Fake::new(1, MAC, &CONFIGURATION)).unwrap();
    let little = super::virtio::open(device.unwrap(), pages(PAGES / 2)).map(|_| ());
    assert_eq!(little, Err(OpenError::Memory));
}

#[test]
fn frames_go_out_in_batches_with_one_notification() {
    let (fake, mut card) = card();
    for n in 0..5 {
        put(&mut card, &frame(n, 60 + n)).unwrap();
    }
    assert_eq!((fake.notified(TRANSMIT), sent(fake)), (0, None));
    card.transmit.kick();
    card.transmit.kick();
    assert_eq!(fake.notified(TRANSMIT), 1);
    for n in 0..5 {
        let (head, bytes) = sent(fake).expect("a frame");
        assert_eq!(bytes, frame(n, 60 + n));
        fake.push(TRANSMIT, head.into(), 0);
    }
    assert_eq!(fake.interrupts(), 0, "nobody waits for room");
    assert_eq!(card.transmit.room(), Ok(TRANSMIT_SLOTS));
}

#[test]
fn nothing_written_is_nothing_sent() {
    let (fake, mut card) = card();
    for _ in 0..2 * TRANSMIT_SLOTS {
        card.transmit.put(|_| 0).unwrap();
    }
    card.transmit.kick();
    assert_eq!(fake.notified(TRANSMIT), 0);
    card.transmit.put(|room| room.len() + 1).unwrap();
    card.transmit.kick();
    assert_eq!(sent(fake).unwrap().1.len(), FRAME_BYTES);
}

#[test]
fn a_full_card_says_when_there_is_room() {
    let (fake, mut card) = card();
    for n in 0..TRANSMIT_SLOTS {
        put(&mut card, &frame(n, 60)).unwrap();
    }
    assert_eq!(put(&mut card, &[0; 60]), Err(NotTaken::Full));
    card.transmit.kick();
    assert_eq!(card.transmit.listen(4), Ok(false));
    for done in 1..=4 {
        let (head, _) = sent(fake).unwrap();
        fake.push(TRANSMIT, head.into(), 0);
        assert_eq!(fake.interrupts(), usize::from(done == 4));
    }
    assert!(card.control.acknowledge_interrupt().queues);
    card.transmit.suppress();
    assert_eq!(card.transmit.room(), Ok(4));
    assert_eq!(card.transmit.listen(4), Ok(true));
    assert_eq!(card.transmit.listen(usize::MAX), Ok(false));
    assert_eq!(put(&mut card, &[1; 60]), Ok(()));
}

#[test]
fn frames_come_in_place_and_their_buffers_go_back() {
    let (fake, mut card) = card();
    // Many times around the ring, in batches that do not divide it.
    for round in 0..3 * RECEIVE_SLOTS / 10 {
        for n in 0..10 {
            deliver(fake, &frame(round + n, 60 + 100 * n));
        }
        let mut seen = 0;
        let mut take = |bytes: &[u8]| {
            assert_eq!(bytes, frame(round + seen, 60 + 100 * seen));
            seen += 1;
        };
        assert_eq!(card.receive.receive(8, &mut take), Ok(8));
        assert_eq!(card.receive.receive(8, &mut take), Ok(2));
        assert_eq!(card.receive.receive(8, &mut take), Ok(0));
        assert_eq!(seen, 10);
    }
    assert_eq!(card.receive.dropped(), 0);
}

#[test]
fn polling_is_quiet_and_its_end_forgets_nothing() {
    let (fake, mut card) = card();
    deliver(fake, &frame(0, 60));
    assert_eq!(fake.interrupts(), 1, "the first frame interrupts");
    assert!(card.control.acknowledge_interrupt().queues);
    card.receive.suppress();
    deliver(fake, &frame(1, 60));
    assert_eq!(card.receive.receive(64, |_| {}), Ok(2));
    deliver(fake, &frame(2, 60));
    assert_eq!(fake.interrupts(), 1);
    assert_eq!(card.receive.listen(), Ok(true));
    assert_eq!(card.receive.receive(64, |_| {}), Ok(1));
    assert_eq!(card.receive.listen(), Ok(false));
    deliver(fake, &frame(3, 60));
    assert_eq!(fake.interrupts(), 2);
}

#[test]
fn runts_are_counted_and_their_buffers_go_back() {
    let (fake, mut card) = card();
    for bytes in [0u32, 11, 12, 25] {
        let (head, _) = fake.pop(RECEIVE).unwrap();
        fake.push(RECEIVE, head.into(), bytes);
    }
    deliver(fake, &frame(0, 14));
    let mut seen = 0;
    assert_eq!(card.receive.receive(64, |_| seen += 1), Ok(5));
    assert_eq!((seen, card.receive.dropped()), (1, 4));
    for _ in 0..RECEIVE_SLOTS {
        assert!(fake.pop(RECEIVE).is_some());
    }
}

#[test]
fn a_card_that_lies_is_reset_and_left_alone() {
    let lies: [(fn(Fake), Fault); 3] = [
        (
            |fake| {
                let (head, pieces) = fake.pop(RECEIVE).unwrap();
                fake.push(RECEIVE, head.into(), pieces[0].bytes + 1);
            },
            Fault::TooLong {
                claimed: 1531,
                room: 1530,
            },
        ),
        (
            |fake| fake.push(RECEIVE, 256, 60),
            Fault::NotGiven { head: 256 },
        ),
        (
            |fake| fake.set_used(RECEIVE, 258),
            Fault::TooMany {
                claimed: 257,
                given: 256,
            },
        ),
    ];
    for (lie, fault) in lies {
        let (fake, mut card) = card();
        deliver(fake, &frame(0, 60));
        assert_eq!(card.receive.receive(64, |_| {}), Ok(1));
        lie(fake);
        assert_eq!(card.receive.receive(64, |_| panic!("a frame")), Err(fault));
        assert!(!fake.is_running(), "it was reset");
        assert_eq!(card.control.link(), Link::Broken);
        assert_eq!(card.receive.receive(64, |_| {}), Err(fault));
        assert_eq!(card.receive.listen(), Err(fault));
    }
}

#[test]
fn a_lie_about_what_was_sent_is_found_as_well() {
    let (fake, mut card) = card();
    put(&mut card, &[0; 60]).unwrap();
    card.transmit.kick();
    fake.push(TRANSMIT, 3, 0);
    let fault = Fault::NotGiven { head: 3 };
    assert_eq!(card.transmit.room(), Err(fault));
    assert!(!fake.is_running());
    let refused = card.transmit.put(|_| panic!("it is broken"));
    assert_eq!(refused, Err(NotTaken::Broken(fault)));
    assert_eq!(card.transmit.listen(1), Err(fault));
}
