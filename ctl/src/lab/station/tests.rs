use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const BOARD: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 72, 69, 65), 7266);

fn at(ms: u64) -> Time {
    Time(ms * 1_000_000)
}

/// Passes all frames between two stations; what came out at each.
fn exchange(now: Time, pair: &mut [Station; 2]) -> [Vec<(SocketAddrV4, Vec<u8>)>; 2] {
    let mut came = [Vec::new(), Vec::new()];
    loop {
        let mut quiet = true;
        for from in 0..2 {
            while let Some(frame) = pair[from].take() {
                quiet = false;
                let to = 1 - from;
                if let Some(it) = pair[to].receive(now, &frame) {
                    came[to].push((it.from, it.payload.to_vec()));
                }
            }
        }
        if quiet {
            return came;
        }
    }
}

fn pair() -> [Station; 2] {
    [Station::new(MAC, None), Station::new(OTHER, Some(BOARD))]
}

#[test]
fn a_datagram_waits_for_its_receivers_address_and_is_answered() {
    let mut pair = pair();
    let to = SocketAddrV4::new(BOARD, 7266);
    pair[0].send(at(0), 50000, to, b"who are you").unwrap();
    let came = exchange(at(0), &mut pair);
    let (from, payload) = &came[1][0];
    assert_eq!(
        *from,
        SocketAddrV4::new(Ipv4Addr::new(10, 7, 0, 252), 50000)
    );
    assert_eq!(payload, b"who are you");
    // The answer needs no question: the board has learned the tool's address.
    pair[1].send(at(1), 7266, *from, b"a board").unwrap();
    let frame = pair[1].take().unwrap();
    assert!(pair[0].is_meant(&frame));
    let answer = pair[0].receive(at(1), &frame).unwrap();
    assert_eq!((answer.from, answer.payload), (to, &b"a board"[..]));
    assert!(pair[1].take().is_none());
}

#[test]
fn a_board_that_is_dead_holds_nobody_up() {
    let mut pair = pair();
    let dead = SocketAddrV4::new(Ipv4Addr::new(10, 7, 0, 9), 7266);
    for n in 0..2 * MAX_PENDING {
        pair[0].send(at(n as u64), 50000, dead, b"hello").unwrap();
    }
    assert_eq!(pair[0].dropped as usize, MAX_PENDING);
    let alive = SocketAddrV4::new(BOARD, 7266);
    pair[0].send(at(200), 50000, alive, b"and you").unwrap();
    let came = exchange(at(200), &mut pair);
    assert_eq!(came[1].len(), 1);
    // It comes back after more than a second: what waited for it is stale.
    pair[1] = Station::new(OTHER, Some(*dead.ip()));
    pair[0].send(at(5000), 50000, dead, b"again").unwrap();
    let came = exchange(at(5000), &mut pair);
    assert_eq!(came[1].len(), 1);
    assert_eq!(came[1][0].1, b"again");
}

#[test]
fn an_address_is_asked_for_once_in_a_while() {
    let mut station = Station::new(MAC, None);
    let to = SocketAddrV4::new(BOARD, 7266);
    for ms in 0..250 {
        station.send(at(ms), 50000, to, b"hello").unwrap();
    }
    let mut questions = 0;
    while let Some(frame) = station.take() {
        assert_eq!(frame[12..14], [0x08, 0x06]);
        questions += 1;
    }
    assert_eq!(questions, 3);
}

#[test]
fn a_wrong_address_does_not_last() {
    let mut pair = pair();
    let to = SocketAddrV4::new(BOARD, 7266);
    pair[0].send(at(0), 50000, to, b"hello").unwrap();
    let question = pair[0].take().unwrap();
    assert!(pair[1].receive(at(0), &question).is_none());
    let mut answer = pair[1].take().unwrap();
    // A bit of the board's address is flipped.
    answer[14 + 8 + 3] ^= 1;
    pair[0].receive(at(0), &answer);
    assert_ne!(pair[0].take().unwrap()[..6], OTHER);
    // A datagram from it, whose sender is damaged, changes nothing.
    let own = SocketAddrV4::new(Ipv4Addr::new(10, 7, 0, 252), 50000);
    pair[1].send(at(1), 7266, own, b"hello").unwrap();
    exchange(at(1), &mut pair);
    // It is asked for again before long, and then is right.
    pair[0].send(at(1001), 50000, to, b"hello").unwrap();
    exchange(at(1001), &mut pair);
    pair[0].send(at(1002), 50000, to, b"hello").unwrap();
    assert_eq!(pair[0].take().unwrap()[..6], OTHER);
}

#[test]
fn groups_are_reached_and_heard() {
    let mut pair = pair();
    assert!(pair[0].send(at(0), 50000, GROUP, b"all").is_err());
    pair[0].address_for(BOARD).unwrap();
    pair[0].send(at(0), 50000, GROUP, b"all").unwrap();
    let frame = pair[0].take().unwrap();
    assert_eq!(frame[..6], [0x01, 0x00, 0x5e, 72, 69, 65]);
    let datagram = pair[1].receive(at(0), &frame).unwrap();
    assert_eq!((datagram.to, datagram.payload), (GROUP, &b"all"[..]));
}

#[test]
fn what_is_damaged_or_for_others_is_not_shown() {
    let mut pair = pair();
    let to = SocketAddrV4::new(BOARD, 7266);
    pair[0].send(at(0), 50000, to, b"payload!").unwrap();
    exchange(at(0), &mut pair);
    pair[0].send(at(1), 50000, to, b"payload!").unwrap();
    let frame = pair[0].take().unwrap();
    assert!(pair[1].receive(at(1), &frame).is_some());
    // All behind the addresses is covered by a check: that of IP, or that of UDP.
    for bit in 14 * 8..frame.len() * 8 {
        let mut wrong = frame.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        let came = pair[1].receive(at(1), &wrong);
        assert!(came.is_none(), "bit {bit}: {came:?}");
    }
    for length in 0..frame.len() {
        assert!(
            pair[1].receive(at(1), &frame[..length]).is_none(),
            "{length}"
        );
    }
    let mut other = Station::new([2, 0, 0, 0, 0, 3], Some(Ipv4Addr::new(10, 7, 0, 3)));
    assert!(other.receive(at(1), &frame).is_none());
    assert!(other.take().is_none());
}

#[test]
fn a_station_is_in_few_networks_and_not_its_own_peer() {
    let mut station = Station::new(MAC, None);
    for network in 0..MAX_NETWORKS as u8 {
        station
            .address_for(Ipv4Addr::new(10, 0, network, 1))
            .unwrap();
    }
    assert!(station.address_for(Ipv4Addr::new(10, 1, 0, 1)).is_err());
    assert!(station.address_for(Ipv4Addr::new(10, 0, 0, 252)).is_err());
    assert!(station.address_for(Ipv4Addr::LOCALHOST).is_err());
    let long = [0; MAX_DATAGRAM + 1];
    let to = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 1);
    assert!(station.send(at(0), 1, to, &long).is_err());
    station.send(at(0), 1, to, &long[1..]).unwrap();
}

#[test]
fn ports_belong_to_one_taker_and_groups_to_all() {
    let mut desk = Desk::default();
    let first = desk.open(1, None, vec![GROUP]).unwrap();
    let second = desk.open(2, None, vec![]).unwrap();
    assert_ne!(first, second);
    assert!(desk.open(3, Some(first), vec![]).is_err());
    assert!(desk.open(3, Some(0), vec![]).is_err());
    let no_group = SocketAddrV4::new(BOARD, 7266);
    assert!(desk.open(3, None, vec![no_group]).is_err());
    assert_eq!(desk.open(3, Some(7266), vec![GROUP]), Ok(7266));
    let takers = |to: SocketAddrV4, desk: &Desk| {
        let payload = &b""[..];
        let from = no_group;
        let mut takers: Vec<_> = desk.takers(&Datagram { from, to, payload }).collect();
        takers.sort_unstable();
        takers
    };
    assert_eq!(takers(GROUP, &desk), [1, 3]);
    assert!(takers(SocketAddrV4::new(*GROUP.ip(), 1), &desk).is_empty());
    assert_eq!(takers(SocketAddrV4::new(BOARD, second), &desk), [2]);
    assert_eq!(desk.close(1).map(|taken| taken.port), Some(first));
    assert!(takers(SocketAddrV4::new(BOARD, first), &desk).is_empty());
    // It is not given again at once.
    assert_ne!(desk.open(4, None, vec![]), Ok(first));
}
