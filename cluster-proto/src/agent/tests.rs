//! Agents whose boards die, sleep, refuse and forget.

use super::book::Endpoint;
use super::lab::*;
use crate::ids::{BoardId, GuestId, Micros, Span};
use crate::ledger::types::{Operation, Outcome, Phase, Wanted};
use crate::service::{Parcel, Unwanted};

#[test]
fn a_guest_starts_once_and_again_elsewhere_when_its_board_dies() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.until("a running guest", Span::millis(3_000), |lab| {
        lab.owner().is_some()
    });
    let first = lab.owner().expect("just seen");
    lab.off.insert(first);
    let died = lab.now;
    lab.until("a running guest elsewhere", Span::millis(2_000), |lab| {
        lab.owner().is_some_and(|owner| owner != first)
    });
    assert!(lab.now - died < 1_000_000, "it took {} us", lab.now - died);
    let starts: usize = lab.bodies.iter().map(|body| body.started.len()).sum();
    assert_eq!(starts, 2);
}

#[test]
fn a_board_that_wakes_late_is_silent_by_the_clock_and_gives_its_copy_up() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.until("a running guest", Span::millis(3_000), |lab| {
        lab.owner().is_some()
    });
    let paused = lab.owner().expect("just seen");
    lab.off.insert(paused);
    lab.run(Span::millis(5_000));
    // Its permit ran out while it slept, whatever it does first.
    assert!(lab.bodies[paused].copies[&GuestId(0)].until.0 < lab.now);
    lab.off.remove(&paused);
    lab.until("its copy gone", Span::millis(3_000), |lab| {
        lab.bodies[paused].copies.is_empty()
    });
    lab.run(Span::millis(1_000));
    assert!(lab.owner().is_some_and(|owner| owner != paused));
}

#[test]
fn an_image_is_fetched_where_it_is_not() {
    let mut lab = Lab::new(&[2]);
    lab.loses = 30;
    lab.until("a running guest", Span::millis(8_000), |lab| {
        lab.owner().is_some()
    });
    let owner = lab.owner().expect("just seen");
    assert_eq!(owner, 0);
    let (kernel, bytes) = image_of(3, 50_000);
    assert_eq!(lab.bodies[owner].images[&kernel], (bytes, true));
    lab.loses = 0;
    lab.run(Span::millis(500));
    let ledger = lab.agents[0].node().ledger();
    let image = ledger
        .images
        .iter()
        .find(|image| image.digest == kernel)
        .expect("known");
    assert!(
        image.held.has(BoardId(owner as u8)),
        "it is known to be there now"
    );
}

#[test]
fn a_source_that_dies_is_replaced() {
    let mut lab = Lab::new(&[1, 2]);
    lab.until("a fetch under way", Span::millis(3_000), |lab| {
        lab.bodies[0].images.values().any(|image| !image.1)
    });
    // Board 0 asks the next one first.
    lab.off.insert(1);
    lab.until("a running guest", Span::millis(6_000), |lab| {
        lab.owner() == Some(0)
    });
}

#[test]
fn a_guest_whose_image_nobody_has_fails_and_is_tried_again() {
    let mut lab = Lab::new(&[]);
    lab.run(Span::millis(9_000));
    assert_eq!(lab.owner(), None);
    let failures = lab.agents[0]
        .node()
        .ledger()
        .guest(GuestId(0))
        .expect("known")
        .failures;
    assert!(failures > 0, "its start has failed");
    assert!(lab.bodies.iter().all(|body| body.copies.is_empty()));
}

#[test]
fn a_tool_gives_an_image_and_a_guest_starts_from_it() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.until("a running guest", Span::millis(3_000), |lab| {
        lab.owner().is_some()
    });
    lab.loses = 20;
    let (digest, bytes) = image_of(11, 100_001);
    assert_eq!(lab.upload(1, digest, &bytes), Ok(()));
    assert_eq!(lab.bodies[1].images[&digest], (bytes, true));
    lab.loses = 0;
    lab.run(Span::millis(500));
    let outcome = lab.order(Operation::CreateGuest {
        spec: spec("new", digest),
    });
    assert_eq!(outcome, Outcome::Done { number: 1 });
    lab.until("the new guest", Span::millis(5_000), |lab| {
        lab.bodies
            .iter()
            .any(|body| body.copies.contains_key(&GuestId(1)))
    });
}

#[test]
fn an_image_that_is_not_what_it_is_called_is_refused() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.run(Span::millis(1_000));
    let (_, bytes) = image_of(11, 5_000);
    assert_eq!(lab.upload(1, [5; 32], &bytes), Err(Unwanted::Digest));
    assert!(
        !lab.bodies[1].images.contains_key(&[5; 32]),
        "nothing is left of it"
    );
    let (digest, bytes) = image_of(12, 300_000);
    assert_eq!(lab.upload(1, digest, &bytes), Err(Unwanted::NoRoom));
}

#[test]
fn images_that_no_guest_needs_make_room() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.run(Span::millis(1_000));
    let (digest, bytes) = image_of(11, 100_000);
    assert_eq!(lab.upload(1, digest, &bytes), Ok(()));
    let (digest, bytes) = image_of(12, 100_000);
    assert_eq!(lab.upload(1, digest, &bytes), Ok(()));
    let (kernel, _) = image_of(3, 50_000);
    assert!(
        lab.bodies[1].images.contains_key(&kernel),
        "a guest needs it"
    );
    assert_eq!(lab.bodies[1].images.len(), 2);
}

#[test]
fn a_start_that_is_refused_is_reported() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.bodies.iter_mut().for_each(|body| body.refuses = true);
    lab.run(Span::millis(2_000));
    let guest = lab.agents[0]
        .node()
        .ledger()
        .guest(GuestId(0))
        .expect("known")
        .clone();
    assert!(guest.failures > 0);
    lab.bodies.iter_mut().for_each(|body| body.refuses = false);
    lab.until("a running guest", Span::millis(20_000), |lab| {
        lab.owner().is_some()
    });
}

#[test]
fn a_guest_waiting_for_its_image_can_be_called_off() {
    let mut lab = Lab::new(&[2]);
    lab.loses = 0;
    lab.until("a fetch under way", Span::millis(3_000), |lab| {
        lab.bodies
            .iter()
            .any(|body| body.images.values().any(|image| !image.1))
    });
    let wanted = Wanted::Stopped;
    lab.order(Operation::Want {
        guest: GuestId(0),
        wanted,
    });
    lab.run(Span::millis(1_000));
    let guest = lab.agents[0]
        .node()
        .ledger()
        .guest(GuestId(0))
        .expect("known")
        .clone();
    assert_eq!(guest.phase, Phase::Unowned);
    assert!(lab.bodies.iter().all(|body| body.copies.is_empty()));
}

#[test]
fn a_console_is_read_and_typed_at_where_the_guest_is() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.until("a running guest", Span::millis(3_000), |lab| {
        lab.owner().is_some()
    });
    let owner = lab.owner().expect("just seen");
    let guest = GuestId(0);
    while !lab.post(owner, &Parcel::Listen { guest, from: 2 }) {
        lab.run(Span::millis(5));
    }
    lab.post(
        owner,
        &Parcel::Type {
            guest,
            bytes: b"root",
        },
    );
    lab.run(Span::millis(5));
    let said = Parcel::get(&lab.parcels[0].1);
    assert_eq!(
        said,
        Ok(Parcel::Said {
            guest,
            from: 2,
            bytes: b"gin: "
        })
    );
    assert_eq!(lab.bodies[owner].typed, b"root");
    lab.parcels.clear();
    let other = (owner + 1) % 3;
    while !lab.post(other, &Parcel::Listen { guest, from: 0 }) {
        lab.run(Span::millis(5));
    }
    lab.run(Span::millis(5));
    assert_eq!(
        Parcel::get(&lab.parcels[0].1),
        Ok(Parcel::Elsewhere { guest })
    );
}

#[test]
fn strangers_and_noise_change_nothing() {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.until("a running guest", Span::millis(3_000), |lab| {
        lab.owner().is_some()
    });
    let stranger = Endpoint {
        address: [10, 7, 0, 66],
        port: 7_266,
        station: [0; 6],
    };
    let frames: Vec<_> = lab.world.wire.iter().map(|frame| frame.3.clone()).collect();
    for mut frame in frames {
        let at = frame.len() / 2;
        frame[at] ^= 1;
        let (agent, body) = (&mut lab.agents[0], &mut lab.bodies[0]);
        assert!(!agent.receive(Micros(lab.now), stranger, &frame, body));
        assert!(!agent.receive(Micros(lab.now), stranger, &frame[..at], body));
    }
    assert!(
        lab.bodies[0].sent.is_empty(),
        "nobody who proves nothing is answered"
    );
    lab.run(Span::millis(1_000));
    assert!(lab.owner().is_some());
}
