use std::collections::HashMap;

use proptest::prelude::*;

use super::stations::{MAX_STATIONS, STATION_AGE};
use super::*;

/// Collects what comes out, in order.
#[derive(Default)]
struct Out(Vec<(PortId, Vec<u8>)>);

impl Wire for Out {
    fn deliver(&mut self, port: PortId, frame: &[u8]) {
        self.0.push((port, frame.to_vec()));
    }

    fn look(&mut self, _: Time, _: Place, _: PortId, _: &[u8]) {}
}

const MS: u64 = 1_000_000;
const ALL: Mac = Mac([0xff; 6]);

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, number])
}

/// A frame with a number in it.
fn frame(to: Mac, from: Mac, number: u32) -> Vec<u8> {
    let mut frame = [to.0, from.0].concat();
    frame.extend([0x88, 0xb5]);
    frame.extend(number.to_be_bytes());
    frame.resize(60, 0);
    frame
}

fn number(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[14..18].try_into().unwrap())
}

fn faults(json: &str) -> Faults {
    serde_json::from_str(json).unwrap()
}

/// Three links; b has spoken, so that it is known.
fn three() -> (Switch, [PortId; 3]) {
    let mut switch = Switch::new(Seed(7));
    let ports = ["a", "b", "c"].map(|name| switch.add(name));
    switch.input(
        Time(0),
        ports[1],
        &frame(ALL, mac(2), 0),
        &mut Out::default(),
    );
    (switch, ports)
}

/// What comes out of b when a sends so many frames, one each 100 us, with these faults on a's way in; with when it came.
fn through(seed: u64, json: &str, count: u32) -> (Vec<(u64, Vec<u8>)>, Counters) {
    let mut switch = Switch::new(Seed(seed));
    let [a, b] = ["a", "b"].map(|name| switch.add(name));
    switch.set_faults(a, Direction::From, faults(json));
    let mut came = Vec::new();
    let mut sent = 0;
    loop {
        let next = (sent < count).then_some(Time(u64::from(sent) * 100_000));
        let Some(now) = next.into_iter().chain(switch.next_due()).min() else {
            break;
        };
        let mut out = Out::default();
        switch.poll(now, &mut out);
        if next == Some(now) {
            switch.input(now, a, &frame(ALL, mac(1), sent), &mut out);
            sent += 1;
        }
        came.extend(out.0.into_iter().map(|(port, frame)| {
            assert_eq!(port, b);
            (now.0, frame)
        }));
    }
    (came, switch.counters(a, Direction::From))
}

fn numbers(came: &[(u64, Vec<u8>)]) -> Vec<u32> {
    came.iter().map(|(_, frame)| number(frame)).collect()
}

#[test]
fn it_learns() {
    let (mut switch, [a, b, c]) = three();
    let mut out = Out::default();
    switch.input(Time(1), a, &frame(mac(2), mac(1), 1), &mut out);
    assert_eq!(out.0.len(), 1);
    assert_eq!(out.0[0].0, b);
    out.0.clear();
    switch.input(Time(2), b, &frame(mac(9), mac(2), 2), &mut out);
    assert_eq!(
        out.0.iter().map(|(port, _)| *port).collect::<Vec<_>>(),
        [a, c]
    );
    assert_eq!(switch.stations.behind(a), [mac(1)]);
}

#[test]
fn a_station_moves_and_is_forgotten() {
    let (mut switch, [a, b, c]) = three();
    switch.input(Time(1), c, &frame(ALL, mac(2), 1), &mut Out::default());
    assert_eq!(
        (
            switch.stations.moves,
            switch.stations.behind(b),
            switch.stations.behind(c)
        ),
        (1, vec![], vec![mac(2)])
    );
    let mut out = Out::default();
    switch.input(Time(2), a, &frame(mac(2), mac(1), 1), &mut out);
    assert_eq!(out.0[0].0, c);
    out.0.clear();
    switch.input(
        Time(STATION_AGE + 1),
        a,
        &frame(mac(2), mac(1), 1),
        &mut out,
    );
    assert_eq!(out.0.len(), 2, "the silent station is flooded to");
    switch.unplug(a);
    assert_eq!(switch.stations.behind(a), []);
}

#[test]
fn nothing_returns_to_its_sender() {
    let (mut switch, [_, b, _]) = three();
    let mut out = Out::default();
    switch.input(Time(1), b, &frame(mac(2), mac(8), 1), &mut out);
    assert!(out.0.is_empty());
}

#[test]
fn malformed_frames_are_counted() {
    let (mut switch, [a, ..]) = three();
    let mut out = Out::default();
    switch.input(Time(1), a, &[0; MIN_FRAME - 1], &mut out);
    switch.input(Time(1), a, &vec![0; MAX_FRAME + 1], &mut out);
    assert_eq!((out.0.len(), switch.malformed(a)), (0, 2));
    switch.input(Time(1), a, &vec![0xff; MAX_FRAME], &mut out);
    assert_eq!(out.0.len(), 2);
}

#[test]
fn the_table_is_bounded() {
    let (mut switch, [a, b, _]) = three();
    for number in 0..MAX_STATIONS as u32 + 10 {
        let [_, high, mid, low] = number.to_be_bytes();
        let from = Mac([2, 1, 0, high, mid, low]);
        switch.input(Time(1), a, &frame(ALL, from, 0), &mut Out::default());
    }
    assert_eq!(
        switch.stations.behind(a).len() + switch.stations.behind(b).len(),
        MAX_STATIONS
    );
    // Once they are old they give room.
    let late = Time(STATION_AGE + 2);
    switch.input(late, a, &frame(ALL, mac(7), 0), &mut Out::default());
    assert_eq!(switch.stations.behind(a), [mac(7)]);
}

#[test]
fn sound_links_pass_all_at_once() {
    let (came, counters) = through(1, "{}", 1000);
    assert!(
        came.iter()
            .zip(0..)
            .all(|((at, frame), n)| (*at, number(frame)) == (u64::from(n) * 100_000, n))
    );
    assert_eq!(
        (counters.frames, counters.passed, counters.bytes),
        (1000, 1000, 60_000)
    );
}

#[test]
fn a_cut_passes_nothing() {
    let (came, counters) = through(1, r#"{"cut":true}"#, 1000);
    assert_eq!((came.len(), counters.cut, counters.passed), (0, 1000, 0));
}

#[test]
fn a_cut_is_one_way() {
    let (mut switch, [a, b, _]) = three();
    switch.set_faults(b, Direction::To, faults(r#"{"cut":true}"#));
    let mut out = Out::default();
    switch.input(Time(1), a, &frame(mac(2), mac(1), 1), &mut out);
    assert!(out.0.is_empty());
    switch.input(Time(2), b, &frame(mac(1), mac(2), 2), &mut out);
    assert_eq!(out.0.len(), 1);
}

#[test]
fn a_cut_and_an_unplugged_board_lose_what_is_under_way() {
    for unplug in [false, true] {
        let (mut switch, [a, b, _]) = three();
        switch.set_faults(a, Direction::From, faults(r#"{"delay":5000000}"#));
        let mut out = Out::default();
        switch.input(Time(0), a, &frame(mac(2), mac(1), 1), &mut out);
        if unplug {
            switch.unplug(a);
        } else {
            switch.set_faults(a, Direction::From, faults(r#"{"cut":true}"#));
        }
        switch.set_faults(a, Direction::From, Faults::default());
        switch.input(Time(MS), a, &frame(mac(2), mac(1), 2), &mut out);
        switch.poll(Time(10 * MS), &mut out);
        let came: Vec<_> = out
            .0
            .iter()
            .map(|(port, frame)| (*port, number(frame)))
            .collect();
        assert_eq!(came, [(b, 2)]);
        assert_eq!(switch.counters(a, Direction::From).cut, 1);
    }
}

#[test]
fn loss_is_as_likely_as_told_and_repeatable() {
    let (came, counters) = through(1, r#"{"loss":200000}"#, 10_000);
    // Five standard deviations (40 each) around 8,000.
    assert!((7800..=8200).contains(&came.len()), "{}", came.len());
    assert_eq!(counters.lost + counters.passed, 10_000);
    assert_eq!(came, through(1, r#"{"loss":200000}"#, 10_000).0);
    assert_ne!(
        numbers(&came),
        numbers(&through(2, r#"{"loss":200000}"#, 10_000).0)
    );
}

#[test]
fn every_frame_twice() {
    let (came, counters) = through(1, r#"{"duplicate":1000000}"#, 500);
    assert_eq!(
        numbers(&came),
        (0..500).flat_map(|n| [n, n]).collect::<Vec<_>>()
    );
    assert_eq!(counters.duplicated, 500);
}

#[test]
fn corruption_flips_one_bit() {
    let (came, counters) = through(3, r#"{"corrupt":1000000}"#, 2000);
    let mut places = HashMap::new();
    for ((_, frame), n) in came.iter().zip(0..) {
        let sound = super::tests::frame(ALL, mac(1), n);
        let flipped: Vec<_> = (0..frame.len() * 8)
            .filter(|bit| (frame[bit / 8] ^ sound[bit / 8]) & (1 << (bit % 8)) != 0)
            .collect();
        assert_eq!(flipped.len(), 1);
        *places.entry(flipped[0]).or_insert(0) += 1;
    }
    assert_eq!((came.len(), counters.corrupted), (2000, 2000));
    // 480 places, 2,000 throws: few places stay empty.
    assert!(places.len() > 440, "{}", places.len());
}

#[test]
fn delay_is_exact_and_jitter_keeps_order() {
    let (came, _) = through(1, r#"{"delay":5000000}"#, 100);
    assert!(
        came.iter()
            .zip(0..)
            .all(|((at, _), n)| *at == n * 100_000 + 5 * MS)
    );
    let (came, _) = through(1, r#"{"delay":5000000,"jitter":50000}"#, 1000);
    let late: Vec<_> = came
        .iter()
        .zip(0..)
        .map(|((at, _), n)| at - n * 100_000 - 5 * MS)
        .collect();
    assert!(late.iter().all(|late| *late <= 50_000));
    let mean = late.iter().sum::<u64>() / 1000;
    assert!((23_000..27_000).contains(&mean), "{mean}");
    let (came, _) = through(1, r#"{"jitter":3000000}"#, 1000);
    assert_eq!(numbers(&came), (0..1000).collect::<Vec<_>>());
}

#[test]
fn held_frames_are_passed_by_later_ones() {
    let (came, counters) = through(1, r#"{"reorder":100000,"hold":250000}"#, 1000);
    let order = numbers(&came);
    assert_eq!(order.len(), 1000);
    let held: Vec<_> = (0..1000)
        .filter(|n| {
            let at = order.iter().position(|it| it == n).unwrap();
            order[..at].iter().any(|earlier| earlier > n)
        })
        .collect();
    // The last two have nobody left to be passed by.
    assert!(counters.reordered - held.len() as u64 <= 2);
    assert!((50..150).contains(&held.len()), "{}", held.len());
}

#[test]
fn a_rate_spaces_frames_and_drops_what_would_wait_too_long() {
    // 60 bytes take 480 us at a megabit; they come every 100 us.
    let (came, counters) = through(1, r#"{"rate":1000000}"#, 1000);
    assert!(came.windows(2).all(|pair| pair[1].0 - pair[0].0 == 480_000));
    assert_eq!(counters.overrun + counters.passed, 1000);
    // All of 100 ms, and what had queued up by then.
    assert!((300..=315).contains(&came.len()), "{}", came.len());
}

#[test]
fn what_is_under_way_is_bounded() {
    let (mut switch, [a, ..]) = three();
    switch.set_faults(a, Direction::From, faults(r#"{"delay":60000000000}"#));
    for _ in 0..pipe::MAX_FRAMES + 5 {
        switch.input(Time(0), a, &frame(ALL, mac(1), 1), &mut Out::default());
    }
    assert_eq!(switch.counters(a, Direction::From).overrun, 5);
    switch.unplug(a);
    switch.set_faults(a, Direction::To, faults(r#"{"delay":60000000000}"#));
    let long = [frame(mac(1), mac(2), 1), vec![0; MAX_FRAME - 60]].concat();
    for _ in 0..pipe::MAX_BYTES / MAX_FRAME + 5 {
        switch.input(Time(0), PortId(1), &long, &mut Out::default());
    }
    assert_eq!(switch.counters(a, Direction::To).overrun, 5);
}

#[test]
fn healing_does_not_let_frames_overtake() {
    let (mut switch, [a, ..]) = three();
    let mut out = Out::default();
    switch.set_faults(a, Direction::From, faults(r#"{"delay":5000000}"#));
    switch.input(Time(0), a, &frame(mac(2), mac(1), 1), &mut out);
    switch.set_faults(a, Direction::From, Faults::default());
    switch.input(Time(MS), a, &frame(mac(2), mac(1), 2), &mut out);
    assert!(out.0.is_empty());
    switch.poll(Time(5 * MS), &mut out);
    assert_eq!(
        out.0
            .iter()
            .map(|(_, frame)| number(frame))
            .collect::<Vec<_>>(),
        [1, 2]
    );
}

proptest! {
    /// One link's traffic and faults do not change what another decides.
    #[test]
    fn links_are_independent(noise in proptest::collection::vec(0_u8..4, 0..200)) {
        let run = |noise: &[u8]| {
            let (mut switch, [a, b, c]) = three();
            switch.set_faults(a, Direction::From, faults(r#"{"loss":300000,"duplicate":100000}"#));
            switch.set_faults(c, Direction::From, faults(r#"{"loss":500000,"corrupt":500000}"#));
            let mut out = Out::default();
            for n in 0..100 {
                let now = Time(u64::from(n) * MS);
                switch.input(now, a, &frame(mac(2), mac(1), n), &mut out);
                for _ in 0..noise.get(n as usize).copied().unwrap_or(0) {
                    switch.input(now, c, &frame(mac(1), mac(3), 9), &mut out);
                }
            }
            out.0.retain(|(port, _)| *port == b);
            out.0
        };
        // A corrupted destination floods; those frames carry c's address or its type and number.
        let own = |came: Vec<(PortId, Vec<u8>)>| came.into_iter().filter(|(_, f)| f[..12] == frame(mac(2), mac(1), 0)[..12]).collect::<Vec<_>>();
        prop_assert_eq!(own(run(&noise)), own(run(&[])));
    }

    /// Every frame that comes in comes out or is counted, whatever the faults.
    #[test]
    fn frames_are_accounted_for(
        seed: u64,
        loss in 0_u32..1_000_000, duplicate in 0_u32..1_000_000, reorder in 0_u32..1_000_000,
        delay in 0_u64..10_000_000, jitter in 0_u64..10_000_000, rate in 0_u64..100_000_000,
    ) {
        let json = format!(r#"{{"loss":{loss},"duplicate":{duplicate},"reorder":{reorder},"delay":{delay},"jitter":{jitter},"rate":{rate}}}"#);
        let (came, c) = through(seed, &json, 200);
        prop_assert_eq!(c.frames + c.duplicated, c.passed + c.lost + c.overrun);
        prop_assert_eq!(came.len() as u64, c.passed);
    }
}
