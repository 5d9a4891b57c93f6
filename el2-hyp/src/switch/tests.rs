use super::counters::LOSSES;
use super::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

const HERTZ: NonZeroU64 = NonZeroU64::new(62_500_000).unwrap();
const BOARD: Mac = Mac([2, 0, 0, 0, 0, 0xb0]);

fn guest(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, n])
}

fn outside(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 2, n])
}

/// A UDP datagram.
fn udp(to: Mac, from: Mac, ports: [u16; 2]) -> Vec<u8> {
    let mut frame = [
        &to.0[..],
        &from.0,
        &[8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0],
    ]
    .concat();
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    frame.extend([0, 8, 0, 0]);
    frame
}

fn frame(to: Mac, from: Mac) -> Vec<u8> {
    udp(to, from, [1000, 2000])
}

/// Ends that note what they get, and answer as they are told.
#[derive(Default)]
struct Ends {
    got: RefCell<Vec<(PortId, Mac)>>,
    answers: RefCell<BTreeMap<PortId, Delivery>>,
}

impl Ends {
    fn take(&self, port: PortId, frame: &Frame) -> Delivery {
        let answer = self.answers.borrow().get(&port).copied();
        let answer = answer.unwrap_or(Delivery::Done);
        if answer == Delivery::Done {
            self.got.borrow_mut().push((port, frame.source()));
        }
        answer
    }

    fn got(&self) -> BTreeSet<PortId> {
        let got = self.got.take();
        let ports: BTreeSet<PortId> = got.iter().map(|&(port, _)| port).collect();
        assert_eq!(ports.len(), got.len(), "nobody gets a frame twice");
        ports
    }
}

impl Ports for Ends {
    fn guest(&self, to: PortId, frame: &Frame) -> Delivery {
        self.take(to, frame)
    }
    fn uplink(&self, from: PortId, frame: &Frame) -> Delivery {
        assert!(from.card_index().is_some(), "only guests need the gate");
        self.take(PortId::UPLINK, frame)
    }
    fn uplink_own(&self, frame: &OwnFrame) -> Delivery {
        self.take(PortId::UPLINK, &frame.frame)
    }
    fn board(&self, frame: &Frame) -> Delivery {
        self.take(PortId::BOARD, frame)
    }
}

/// A switch with three guests.
struct Scene {
    switch: Switch,
    ends: Ends,
    cards: Vec<PortId>,
    now: Ticks,
}

impl Scene {
    fn new() -> Self {
        let rules = Rules {
            cluster_udp: Some(5000..=5001),
        };
        let switch = Switch::new(BOARD, HERTZ, rules);
        let cards = (0..3).map(|n| switch.attach(guest(n)).unwrap()).collect();
        Self {
            switch,
            ends: Ends::default(),
            cards,
            now: Ticks(1 << 40),
        }
    }

    /// A frame as a guest sends it: with its headers read.
    fn forward(&self, from: PortId, bytes: &[u8]) -> Forwarded {
        let frame = if from == PortId::UPLINK {
            Frame::finished(bytes).unwrap()
        } else {
            Frame::read_finished(bytes).unwrap()
        };
        self.switch.forward(from, &frame, self.now, &self.ends)
    }

    /// Who gets it.
    fn goes(&self, from: PortId, bytes: &[u8]) -> Vec<PortId> {
        assert_eq!(self.forward(from, bytes), Forwarded::Done);
        self.ends.got().into_iter().collect()
    }

    fn lost(&self, port: PortId, reason: Loss) -> u64 {
        self.switch.counters(port).snapshot().lost(reason)
    }

    /// The frame goes nowhere, for that reason.
    fn loses(&self, from: PortId, bytes: &[u8], reason: Loss) {
        let before = self.switch.counters(from).snapshot();
        assert_eq!(self.goes(from, bytes), []);
        let after = self.switch.counters(from).snapshot();
        assert_eq!(after.lost(reason), before.lost(reason) + 1, "{reason:?}");
        assert_eq!(
            after.lost.iter().sum::<u64>(),
            before.lost.iter().sum::<u64>() + 1
        );
        assert_eq!(after.from.0, before.from.0 + 1);
    }
}

const UPLINK: PortId = PortId::UPLINK;

#[test]
fn frames_go_where_they_are_for() {
    let s = Scene::new();
    let [a, b, c] = s.cards[..] else { panic!() };
    assert_eq!(s.goes(a, &frame(guest(1), guest(0))), [b]);
    assert_eq!(s.goes(a, &frame(BOARD, guest(0))), [PortId::BOARD]);
    assert_eq!(s.goes(a, &frame(outside(1), guest(0))), [UPLINK]);
    assert_eq!(s.goes(UPLINK, &frame(guest(2), outside(1))), [c]);
    assert_eq!(s.goes(UPLINK, &frame(BOARD, outside(1))), [PortId::BOARD]);
    let all = Mac::BROADCAST;
    assert_eq!(
        s.goes(a, &frame(all, guest(0))),
        [UPLINK, PortId::BOARD, b, c]
    );
    assert_eq!(
        s.goes(UPLINK, &frame(all, outside(1))),
        [PortId::BOARD, a, b, c]
    );
    let own = frame(all, BOARD);
    s.switch.send_own(&OwnFrame::new(&own).unwrap(), &s.ends);
    assert_eq!(Vec::from_iter(s.ends.got()), [UPLINK, a, b, c]);
    for (to, port) in [(guest(1), b), (outside(9), UPLINK)] {
        let own = frame(to, BOARD);
        s.switch.send_own(&OwnFrame::new(&own).unwrap(), &s.ends);
        assert_eq!(Vec::from_iter(s.ends.got()), [port]);
    }
    let counted = s.switch.counters(a).snapshot();
    assert_eq!(counted.from, (4, 4 * 42));
    assert_eq!(counted.to, (2, 2 * 42));
    assert_eq!(counted.lost, [0; LOSSES]);
}

#[test]
fn what_is_refused() {
    let s = Scene::new();
    let [a, b, _] = s.cards[..] else { panic!() };
    for source in [guest(1), BOARD, outside(1), Mac::BROADCAST, Mac([0; 6])] {
        s.loses(a, &frame(outside(1), source), Loss::Source);
        s.loses(a, &frame(Mac::BROADCAST, source), Loss::Source);
    }
    s.loses(a, &frame(guest(0), guest(0)), Loss::Back);
    s.loses(
        a,
        &frame(Mac([1, 0x80, 0xc2, 0, 0, 3]), guest(0)),
        Loss::LinkLocal,
    );
    s.loses(
        UPLINK,
        &frame(Mac([1, 0x80, 0xc2, 0, 0, 0]), outside(1)),
        Loss::LinkLocal,
    );
    for ports in [[5000, 1], [1, 5000], [5001, 5001]] {
        for to in [outside(1), BOARD, guest(1), Mac::BROADCAST] {
            s.loses(a, &udp(to, guest(0), ports), Loss::Reserved);
        }
    }
    assert_eq!(
        s.goes(a, &udp(BOARD, guest(0), [4999, 5002])),
        [PortId::BOARD]
    );
    // Truncated in its headers.
    s.loses(a, &frame(BOARD, guest(0))[..38], Loss::Hidden);
    s.loses(UPLINK, &frame(outside(2), outside(1)), Loss::Stranger);
    s.loses(UPLINK, &frame(guest(1), guest(0)), Loss::Echo);
    s.loses(UPLINK, &frame(Mac::BROADCAST, BOARD), Loss::Echo);
    s.loses(
        UPLINK,
        &frame(guest(1), Mac([3, 0, 0, 0, 0, 1])),
        Loss::Source,
    );
    s.switch.refuse(b, Malformed::Checksum);
    assert_eq!(s.lost(b, Loss::Checksum), 1);
    // The cluster's frames do come in, and the board may send them.
    assert_eq!(
        s.goes(UPLINK, &udp(BOARD, outside(1), [5000, 5000])),
        [PortId::BOARD]
    );
}

#[test]
fn nothing_that_is_sent_moves_a_guest() {
    let s = Scene::new();
    let [a, b, _] = s.cards[..] else { panic!() };
    s.forward(UPLINK, &frame(BOARD, guest(1)));
    s.forward(a, &frame(BOARD, guest(1)));
    s.ends.got();
    assert_eq!(s.goes(a, &frame(guest(1), guest(0))), [b]);
    assert_eq!(s.switch.attach(guest(1)), Err(AttachError::Address));
    assert_eq!(s.switch.attach(BOARD), Err(AttachError::Address));
    assert_eq!(s.switch.attach(Mac::BROADCAST), Err(AttachError::Address));
}

#[test]
fn what_boards_say_to_one_another_is_not_for_guests() {
    let s = Scene::new();
    let group = Mac([1, 0, 0x5e, 72, 69, 65]);
    for (ports, guests) in [([5000, 5000], 0), ([9, 5001], 0), ([9, 10], 3)] {
        let heard = s.goes(UPLINK, &udp(group, outside(1), ports));
        assert_eq!(heard[0], PortId::BOARD);
        assert_eq!(heard.len(), 1 + guests);
        let own = udp(group, BOARD, ports);
        s.switch.send_own(&OwnFrame::new(&own).unwrap(), &s.ends);
        let heard: Vec<PortId> = s.ends.got().into_iter().collect();
        assert_eq!(heard[0], UPLINK);
        assert_eq!(heard.len(), 1 + guests);
    }
}

#[test]
fn a_guest_leaves_and_comes_back() {
    let s = Scene::new();
    let [a, b, _] = s.cards[..] else { panic!() };
    s.switch.detach(b);
    // Whoever still has the port in hand sends nothing by it.
    for source in [guest(1), Mac([0; 6]), Mac([0xfe; 6])] {
        s.loses(b, &frame(guest(0), source), Loss::Source);
    }
    assert_eq!(s.goes(a, &frame(guest(1), guest(0))), [UPLINK]);
    // From where it lives now.
    assert_eq!(s.goes(UPLINK, &frame(guest(0), guest(1))), [a]);
    assert_eq!(
        s.goes(UPLINK, &frame(Mac::BROADCAST, guest(1))),
        [PortId::BOARD, a, s.cards[2]]
    );
    s.switch.detach(b);
    s.switch.detach(UPLINK);
    // Somebody may still have the port in hand.
    let other = s.switch.attach(guest(1)).unwrap();
    assert_ne!(other, b);
    s.switch.detach(other);
    s.switch.release(b);
    s.switch.release(other);
    assert_eq!(s.switch.attach(guest(1)), Ok(b));
    assert_eq!(s.goes(a, &frame(guest(1), guest(0))), [b]);
    s.loses(UPLINK, &frame(guest(0), guest(1)), Loss::Echo);
    for n in 3..MAX_GUEST_CARDS as u8 {
        assert!(s.switch.attach(guest(n)).is_ok());
    }
    assert_eq!(s.switch.attach(guest(200)), Err(AttachError::Full));
}

#[test]
fn a_full_uplink_makes_the_guest_wait_and_repeats_nothing() {
    let s = Scene::new();
    let a = s.cards[0];
    s.ends.answers.borrow_mut().insert(UPLINK, Delivery::Wait);
    for to in [outside(1), Mac::BROADCAST] {
        let before = s.switch.counters(a).snapshot();
        // Neither does waiting use up what the storm limit allows.
        for _ in 0..2 * storm::FLOOD_BURST {
            assert_eq!(s.forward(a, &frame(to, guest(0))), Forwarded::Wait);
        }
        assert!(s.ends.got().is_empty());
        assert_eq!(s.switch.counters(a).snapshot(), before);
    }
    assert_eq!(s.goes(a, &frame(guest(1), guest(0))), [s.cards[1]]);
    s.ends.answers.borrow_mut().clear();
    assert_eq!(s.goes(a, &frame(Mac::BROADCAST, guest(0))).len(), 4);
}

#[test]
fn a_receiver_without_buffers_holds_up_nobody() {
    let s = Scene::new();
    let [a, b, c] = s.cards[..] else { panic!() };
    s.ends
        .answers
        .borrow_mut()
        .insert(b, Delivery::Lost(Loss::NoBuffers));
    s.ends
        .answers
        .borrow_mut()
        .insert(UPLINK, Delivery::Lost(Loss::Gate));
    assert_eq!(
        s.goes(a, &frame(Mac::BROADCAST, guest(0))),
        [PortId::BOARD, c]
    );
    assert_eq!(s.lost(b, Loss::NoBuffers), 1);
    assert_eq!(s.lost(UPLINK, Loss::Gate), 1);
}

#[test]
fn a_storm_is_its_own_guests() {
    let mut s = Scene::new();
    let [a, b, _] = s.cards[..] else { panic!() };
    let flood = |s: &Scene, from, source, to| {
        (0..3 * storm::FLOOD_BURST)
            .filter(|_| !s.goes(from, &frame(to, source)).is_empty())
            .count() as u64
    };
    assert_eq!(flood(&s, a, guest(0), Mac::BROADCAST), storm::FLOOD_BURST);
    assert_eq!(s.lost(a, Loss::Storm), 2 * storm::FLOOD_BURST);
    // The limit is one for all floods, and no other traffic of the guest, and no other guest's.
    assert_eq!(flood(&s, a, guest(0), outside(9)), 0);
    assert_eq!(s.goes(a, &frame(guest(1), guest(0))), [b]);
    assert_eq!(flood(&s, b, guest(1), Mac::BROADCAST), storm::FLOOD_BURST);
    // A station that was heard is no flood, as long as it is remembered.
    s.goes(UPLINK, &frame(guest(0), outside(9)));
    assert_eq!(flood(&s, a, guest(0), outside(9)), 3 * storm::FLOOD_BURST);
    s.now = s
        .now
        .after(Ticks((u64::from(table::AGE_SECONDS) + 2) * HERTZ.get()));
    assert_eq!(flood(&s, a, guest(0), outside(9)), storm::FLOOD_BURST);
}

proptest! {
    /// Against the plainest statement of where a frame goes.
    #[test]
    fn as_a_small_model(steps in prop::collection::vec((0u8..8, 0u8..14, 0u8..14), 1..200)) {
        let s = Scene::new();
        let mut homes = BTreeMap::from([(BOARD, PortId::BOARD)]);
        homes.extend((0..3).map(|n| (guest(n), s.cards[usize::from(n)])));
        let address = |n: u8| match n {
            0..4 => guest(n),
            4..8 => outside(n),
            8..10 => BOARD,
            10 | 11 => Mac::BROADCAST,
            12 => Mac([1, 0, 0x5e, 0, 0, 1]),
            _ => Mac([1, 0x80, 0xc2, 0, 0, 0xe]),
        };
        for (from, to, source) in steps {
            let (to, source) = (address(to), address(source));
            let from = match from {
                0..3 => s.cards[usize::from(from)],
                3 if homes.contains_key(&guest(2)) => {
                    s.switch.detach(s.cards[2]);
                    s.switch.release(s.cards[2]);
                    homes.remove(&guest(2));
                    continue;
                }
                3 => {
                    prop_assert_eq!(s.switch.attach(guest(2)), Ok(s.cards[2]));
                    homes.insert(guest(2), s.cards[2]);
                    continue;
                }
                _ => UPLINK,
            };
            let allowed = match from {
                UPLINK => !source.is_group() && !homes.contains_key(&source),
                from => homes.get(&source) == Some(&from),
            } && !to.is_link_local();
            let mut wanted = BTreeSet::new();
            match homes.get(&to) {
                _ if !allowed => {}
                Some(&port) => { wanted.insert(port); }
                None if to.is_group() => {
                    wanted.extend(homes.values());
                    wanted.insert(UPLINK);
                }
                None => { wanted.insert(UPLINK); }
            }
            wanted.remove(&from);
            prop_assert_eq!(s.forward(from, &frame(to, source)), Forwarded::Done);
            prop_assert_eq!(s.ends.got(), wanted);
        }
    }
}
