//! Agents that move a guest: what hands are told, in which order.

use super::Awaiting;
use super::lab::Lab;
use crate::ids::{BoardId, Epoch, GuestId, Micros, MoveId, Span};
use crate::ledger::types::{Happening, Operation, Outcome, Reason};
use crate::node::Local;

const GUEST: GuestId = GuestId(0);

/// A lab in which a guest is being moved: from where, where to, in which epoch, and which move it is.
fn moving() -> (Lab, usize, usize, Epoch, MoveId) {
    let mut lab = Lab::new(&[0, 1, 2]);
    lab.until("a running guest", Span::millis(3_000), |lab| {
        lab.owner().is_some()
    });
    let source = lab.owner().expect("just seen");
    let destination = (source + 1) % 3;
    let to = Some(BoardId(destination as u8));
    let ordered = lab.order(Operation::Migrate {
        guest: GUEST,
        to,
        downtime: None,
    });
    assert_eq!(ordered, Outcome::Done { number: 0 });
    lab.until("a move", Span::millis(1_000), |lab| {
        lab.bodies[source].moves.contains_key(&GUEST)
    });
    let (epoch, id, there) = lab.bodies[source].moves[&GUEST];
    assert_eq!(there.at(), destination);
    (lab, source, destination, epoch, id)
}

fn ready(lab: &mut Lab, source: usize, epoch: Epoch, id: MoveId) {
    let guest = GUEST;
    let event = Local::Ready { guest, epoch, id };
    lab.bodies[source].events.push_back(event);
}

fn stays(lab: &mut Lab, source: usize, epoch: Epoch, id: MoveId, reason: Reason) {
    let guest = GUEST;
    let event = Local::Stays {
        guest,
        epoch,
        id,
        reason,
    };
    lab.bodies[source].events.push_back(event);
}

fn seen(lab: &Lab, what: Happening) -> bool {
    let mut events = lab.agents[0].node().ledger().events.iter();
    events.any(|event| event.what == what && event.guest == Some(GUEST))
}

#[test]
fn a_guest_is_handed_over_and_goes_on_from_what_arrived() {
    let (mut lab, source, destination, epoch, id) = moving();
    lab.bodies[destination].arrived.insert(GUEST, id);
    let starts = lab.bodies[destination].started.len();
    ready(&mut lab, source, epoch, id);
    lab.until("the guest at its destination", Span::millis(1_000), |lab| {
        lab.owner() == Some(destination)
    });
    let next = Epoch(epoch.0 + 1);
    assert_eq!(
        lab.bodies[destination].started[starts..],
        [(GUEST, next)],
        "it starts once, under the next epoch"
    );
    lab.until("no copy at the source", Span::millis(1_000), |lab| {
        lab.bodies[source].copies.is_empty()
    });
    assert!(lab.bodies[source].moves.is_empty());
    assert!(lab.bodies[destination].copies[&GUEST].until > Micros(0));
}

#[test]
fn what_did_not_arrive_is_not_started_and_the_guest_fails_over() {
    let (mut lab, source, destination, epoch, id) = moving();
    ready(&mut lab, source, epoch, id);
    lab.until("the guest anywhere", Span::millis(3_000), |lab| {
        lab.owner().is_some() && lab.agents[0].node().ledger().epoch(GUEST).0 > epoch.0 + 1
    });
    assert!(
        !lab.bodies[destination]
            .started
            .contains(&(GUEST, Epoch(epoch.0 + 1)))
    );
}

#[test]
fn a_source_that_changes_its_mind_waits_for_the_ledger() {
    let (mut lab, source, destination, epoch, id) = moving();
    lab.bodies[destination].arrived.insert(GUEST, id);
    ready(&mut lab, source, epoch, id);
    stays(&mut lab, source, epoch, id, Reason::DestinationLost);
    lab.until("an answer", Span::millis(1_000), |lab| {
        lab.agents[source].node().ledger().epoch(GUEST).0 == epoch.0 + 1
    });
    lab.run(Span::millis(300));
    // The question that came first decided; either way there is one copy, and it runs.
    let owner = lab.owner().expect("it runs");
    let copy = lab.bodies[owner].copies[&GUEST];
    assert!(!copy.frozen && copy.until > Micros(0));
    assert!(copy.epoch.0 > epoch.0);
    assert!(owner == source || owner == destination);
    assert_eq!(owner == source, seen(&lab, Happening::Stayed));
}

#[test]
fn a_move_that_is_called_off_is_abandoned_and_the_copy_runs_on() {
    let (mut lab, source, _, epoch, _) = moving();
    let cancelled = lab.order(Operation::CancelMove { guest: GUEST });
    assert_eq!(cancelled, Outcome::Done { number: 0 });
    lab.until("the end of the move", Span::millis(1_000), |lab| {
        lab.bodies[source].moves.is_empty()
    });
    let copy = lab.bodies[source].copies[&GUEST];
    assert_eq!((copy.epoch, copy.frozen), (epoch, false));
}

#[test]
fn a_board_that_cannot_move_guests_is_drained_all_the_same() {
    let (mut lab, source, _, epoch, id) = moving();
    lab.bodies[source].moves.clear();
    stays(&mut lab, source, epoch, id, Reason::CannotMove);
    lab.until("the refusal", Span::millis(1_000), |lab| {
        seen(lab, Happening::Stayed)
    });
    let board = BoardId(source as u8);
    lab.order(Operation::Drain {
        board,
        on: true,
        downtime: None,
    });
    lab.until("the guest elsewhere", Span::millis(3_000), |lab| {
        lab.owner().is_some_and(|owner| owner != source)
    });
    assert!(lab.bodies[source].copies.is_empty());
}

#[test]
fn the_destination_waits_for_this_guest_and_no_other() {
    let (mut lab, source, destination, epoch, id) = moving();
    let asks = |lab: &mut Lab, guest, epoch, id| {
        let now = Micros(0);
        let (agent, body) = (&mut lab.agents[destination], &mut lab.bodies[destination]);
        agent.await_guest(now, (guest, epoch, id), body)
    };
    lab.run(Span::millis(300));
    assert_eq!(asks(&mut lab, GUEST, epoch, id), Awaiting::Here);
    let other = MoveId(id.0 - 1);
    assert_eq!(asks(&mut lab, GUEST, epoch, other), Awaiting::Over);
    let later = MoveId(id.0 + 1_000);
    assert_eq!(asks(&mut lab, GUEST, epoch, later), Awaiting::NotYet);
    assert_eq!(asks(&mut lab, GuestId(1), epoch, id), Awaiting::Over);
    lab.order(Operation::CancelMove { guest: GUEST });
    lab.until("the move's end", Span::millis(1_000), |lab| {
        lab.bodies[source].moves.is_empty()
    });
    lab.run(Span::millis(300));
    assert_eq!(asks(&mut lab, GUEST, epoch, id), Awaiting::Over);
}
