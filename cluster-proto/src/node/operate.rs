//! Operators: their commands on the way to the leader and back, and what they may see.

use super::state::Forwarding;
use super::{Node, Sink};
use crate::ids::Span;
use crate::ledger::page::Cursor;
use crate::ledger::types::{Decree, Denied, Operation, Outcome, RequestId};
use crate::limits::{BOARDS_MAX, PAYLOAD};
use crate::wire::auth::Authenticator;
use crate::wire::codec::Writer;
use crate::wire::frame::{Party, Recipient};
use crate::wire::message::{Answer, ECHO, Forward, Message, PageHead, Request, Role};

/// How long a board tries to have a command agreed before it says that it cannot.
const PATIENCE: Span = Span::millis(5_000);
/// Between two tries.
const RETRY: Span = Span::millis(100);

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Node<A, B, G, D, L>
{
    pub(super) fn on_request(&mut self, number: u8, request: Request, out: &mut dyn Sink) {
        match request {
            Request::Order { id, operation } => self.order(id, operation, Some(number), out),
            Request::Reform { id, lost } => self.order_reform(id, lost, Some(number), out),
            Request::Show { from } => self.show(number, from, out),
            Request::ShowPeers {} => {
                let mut scratch = [0; ECHO * BOARDS_MAX];
                let echoes = self.write_echoes(&mut scratch);
                let status = self.status();
                self.send(
                    Recipient::One(Party::Operator(number)),
                    &Message::Peers(status, echoes),
                    out,
                );
            }
        }
    }

    fn show(&mut self, number: u8, from: Cursor, out: &mut dyn Sink) {
        let mut scratch = [0; PAYLOAD];
        let mut to = Writer::new(&mut scratch);
        let next = self.ledger.write_page(from, &mut to);
        let head = PageHead {
            era: self.era,
            term: self.term,
            index: self.ledger.index,
            from,
            next,
            checksum: 0,
        };
        self.send(
            Recipient::One(Party::Operator(number)),
            &Message::Shown(head, to.bytes()),
            out,
        );
    }

    /// Takes an order from this board's driver (no number) or an operator.
    pub(super) fn order(
        &mut self,
        id: RequestId,
        operation: Operation,
        operator: Option<u8>,
        out: &mut dyn Sink,
    ) {
        if let Some(answered) = self.ledger.answer(&id) {
            let outcome = answered.outcome.clone();
            self.tell(&id, outcome, operator, out);
            return;
        }
        if let Some(waiting) = self.forwards.iter_mut().find(|waiting| waiting.id == id) {
            waiting.operator = operator;
            return;
        }
        let forwarding = Forwarding {
            id: id.clone(),
            operation,
            operator,
            since: self.now,
            sent_at: crate::ids::Micros(0),
        };
        if self.forwards.push(forwarding).is_err() {
            self.tell(&id, Outcome::Refused { why: Denied::Busy }, operator, out);
            return;
        }
        self.push_forwards(out);
    }

    /// As leader, has an order agreed, unless it is on its way or was agreed before.
    pub(super) fn decree_order(&mut self, id: RequestId, operation: Operation, out: &mut dyn Sink) {
        let decree = Decree::Operate { id, operation };
        // Half of the log is for what the cluster decrees by itself: operators cannot keep it from healing.
        let crowded = self.log.last().0 - self.ledger.index.0 >= L as u64 / 2;
        if !crowded && !self.is_pending(&decree) {
            self.propose(decree, out);
        } else if crowded {
            self.counters.log_full += 1;
        }
    }

    /// Sends waiting orders on their way, again after a while; gives up after a long one.
    pub(super) fn push_forwards(&mut self, out: &mut dyn Sink) {
        let mut at = 0;
        while let Some(waiting) = self.forwards.get(at).cloned() {
            if self.now.since(waiting.since) > PATIENCE {
                self.forwards.swap_remove(at);
                let why = if self.leader.is_some() {
                    Denied::Busy
                } else {
                    Denied::NoLeader
                };
                self.tell(&waiting.id, Outcome::Refused { why }, waiting.operator, out);
                continue;
            }
            at += 1;
            if self.now.since(waiting.sent_at) < RETRY && waiting.sent_at.0 != 0 {
                continue;
            }
            if let Some(waiting) = self.forwards.get_mut(at - 1) {
                waiting.sent_at = self.now;
            }
            match self.report_to() {
                Some(leader) => {
                    let forward = Forward {
                        id: waiting.id,
                        operation: waiting.operation,
                    };
                    self.send_board(leader, &Message::Forward(forward), out);
                }
                None if self.role == Role::Leader => {
                    self.decree_order(waiting.id, waiting.operation, out)
                }
                None => {}
            }
        }
    }

    /// An order was agreed: answers it, if it came by this board.
    pub(super) fn answer(&mut self, id: &RequestId, outcome: Outcome, out: &mut dyn Sink) {
        let Some(at) = self.forwards.iter().position(|waiting| waiting.id == *id) else {
            return;
        };
        let operator = self.forwards.swap_remove(at).operator;
        self.tell(id, outcome, operator, out);
    }

    pub(super) fn send_answer(
        &mut self,
        number: u8,
        id: &RequestId,
        outcome: Outcome,
        out: &mut dyn Sink,
    ) {
        let answer = Message::Answer(Answer {
            id: id.clone(),
            outcome,
        });
        self.send(Recipient::One(Party::Operator(number)), &answer, out);
    }
}
