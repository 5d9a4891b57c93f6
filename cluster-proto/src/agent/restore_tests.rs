//! Agents of a guest that goes to or comes from a file: what hands are told, and what whatever goes wrong leaves behind.

use super::lab::Lab;
use super::{Brought, TOOL_PATIENCE};
use crate::ids::{BoardId, Epoch, GuestId, Micros, MoveId, Span};
use crate::ledger::types::{Denied, Operation, Outcome, Phase, Reason, Wanted};

const GUEST: GuestId = GuestId(0);
const ID: MoveId = MoveId::of_file(7);
const DONE: Outcome = Outcome::Done { number: 0 };

fn runs(lab: &Lab) -> bool {
    lab.agents[0]
        .node()
        .ledger()
        .guest(GUEST)
        .is_some_and(|guest| guest.phase == Phase::Running)
}

fn is_stopped(lab: &Lab) -> bool {
    let guest = lab.agents[0].node().ledger().guest(GUEST);
    guest.is_some_and(|it| (it.phase, it.wanted) == (Phase::Unowned, Wanted::Stopped))
}

/// A lab whose guest was stopped, and is to come from a file to board 1.
fn coming() -> (Lab, Epoch) {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.until("a running guest", Span::millis(3_000), runs);
    let (guest, wanted) = (GUEST, Wanted::Stopped);
    let restore = Operation::Restore {
        guest,
        id: ID,
        class: 0,
        to: Some(BoardId(1)),
    };
    let why = Denied::Running;
    assert_eq!(lab.order(restore.clone()), Outcome::Refused { why });
    lab.order(Operation::Want { guest, wanted });
    lab.until("a stopped guest", Span::millis(2_000), is_stopped);
    let epoch = lab.agents[0].node().ledger().epoch(GUEST);
    assert_eq!(lab.order(restore), DONE);
    lab.until("an owner", Span::millis(1_000), |lab| {
        lab.agents[1]
            .node()
            .copy(GUEST)
            .is_some_and(|copy| copy.1.0 == epoch.0 + 1)
    });
    (lab, Epoch(epoch.0 + 1))
}

#[test]
fn a_guest_starts_when_all_of_it_has_come_and_is_wanted_from_then_on() {
    let (mut lab, epoch) = coming();
    let starts = lab.bodies[1].started.len();
    // While it comes it is waited for, however long that takes.
    lab.bodies[1].brought.insert(GUEST, (ID, Brought::Some));
    lab.run(Span(2 * TOOL_PATIENCE.0));
    assert_eq!(lab.bodies[1].started.len(), starts, "not before it is here");
    let guest = lab.agents[0].node().ledger().guest(GUEST).expect("a guest");
    assert_eq!(
        (guest.phase, guest.wanted),
        (Phase::Starting, Wanted::Stopped)
    );
    lab.bodies[1].brought.insert(GUEST, (ID, Brought::All));
    lab.bodies[1].arrived.insert(GUEST, ID);
    lab.until("a running guest", Span::millis(1_000), runs);
    lab.run(Span::millis(200));
    assert_eq!(lab.bodies[1].started[starts..], [(GUEST, epoch)]);
    assert!(lab.bodies[1].copies[&GUEST].until > Micros(0));
    let guest = lab.agents[0].node().ledger().guest(GUEST).expect("a guest");
    assert_eq!((guest.wanted, guest.owner), (Wanted::Running, BoardId(1)));
}

/// What a board has of it, and what becomes of the guest then.
fn comes_to_nothing(brought: Brought) {
    let (mut lab, _) = coming();
    let started: usize = lab.bodies.iter().map(|body| body.started.len()).sum();
    lab.bodies[1].brought.insert(GUEST, (ID, brought));
    let long = Span(TOOL_PATIENCE.0 + 2_000_000);
    lab.until("a stopped guest", long, is_stopped);
    lab.run(Span::millis(3_000));
    assert!(is_stopped(&lab));
    let guest = lab.agents[0].node().ledger().guest(GUEST).expect("a guest");
    assert_eq!(guest.reason, Reason::NotRestored);
    let now: usize = lab.bodies.iter().map(|body| body.started.len()).sum();
    assert_eq!(now, started, "nothing was started in its place");
    assert!(lab.bodies.iter().all(|body| body.copies.is_empty()));
    // It can be tried again, under another name.
    let again = Operation::Restore {
        guest: GUEST,
        id: MoveId::of_file(8),
        class: 0,
        to: None,
    };
    assert_eq!(lab.order(again), DONE);
}

#[test]
fn what_is_refused_leaves_the_guest_stopped() {
    comes_to_nothing(Brought::Refused);
}

#[test]
fn a_tool_that_brings_nothing_leaves_the_guest_stopped() {
    comes_to_nothing(Brought::Nothing);
}

#[test]
fn an_operator_ends_the_waiting() {
    let (mut lab, _) = coming();
    lab.bodies[1].brought.insert(GUEST, (ID, Brought::Some));
    let (guest, wanted) = (GUEST, Wanted::Stopped);
    lab.order(Operation::Want { guest, wanted });
    lab.until("a stopped guest", Span::millis(1_000), is_stopped);
    // What has come by then is nobody's.
    lab.bodies[1].brought.insert(GUEST, (ID, Brought::All));
    lab.bodies[1].arrived.insert(GUEST, ID);
    lab.run(Span::millis(1_000));
    assert!(is_stopped(&lab) && lab.bodies[1].copies.is_empty());
}

#[test]
fn a_board_that_is_lost_leaves_the_guest_stopped() {
    let (mut lab, epoch) = coming();
    lab.bodies[1].brought.insert(GUEST, (ID, Brought::Some));
    lab.turn_off(1);
    lab.until("a stopped guest", Span::millis(3_000), is_stopped);
    lab.run(Span::millis(2_000));
    assert!(is_stopped(&lab));
    assert_eq!(lab.agents[0].node().ledger().epoch(GUEST), epoch);
}
