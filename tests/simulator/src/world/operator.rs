//! The operator's tool: the protocol's own client, on the same network as the boards, with the same losses.

use std::rc::Rc;

use cluster_proto::client::{Client, Question, Reply};
use cluster_proto::ids::{BoardId, BoardSet, Micros};
use cluster_proto::ledger::types::{Operation, Outcome};
use cluster_proto::wire::frame::{Party, Recipient};

use super::{Happening, World};
use crate::machine::QuickTag;

/// The tool's place among those who send, behind all boards.
pub(super) const OPERATOR: usize = crate::machine::BOARDS;

/// The tool, and the orders that it has still to give.
pub(super) struct Operator {
    client: Client<QuickTag>,
    orders: Vec<Operation>,
    wakes: bool,
}

impl Operator {
    pub(super) fn new(boards: u8, entropy: u64) -> Self {
        let auth = <QuickTag as cluster_proto::wire::auth::Authenticator>::BLANK;
        let boards = BoardSet((1 << boards) - 1);
        Self {
            client: Client::new(
                auth,
                &super::boards::KEY,
                super::boards::CLUSTER,
                boards,
                entropy,
            ),
            orders: Vec::new(),
            wakes: false,
        }
    }
}

impl World {
    /// The operator gives an order by his tool, when the one before it is answered.
    pub fn ask(&mut self, operation: Operation) {
        self.operator.orders.push(operation);
        self.ask_next();
    }

    fn ask_next(&mut self) {
        if self.operator.client.is_waiting() {
            return;
        }
        let Some(order) = self.operator.orders.pop() else {
            return;
        };
        let mut sent = Vec::new();
        self.operator.client.ask(
            Micros(self.now),
            Question::Order(order),
            &mut |board, frame| {
                sent.push((board, Rc::from(frame)));
            },
        );
        self.post(sent);
        self.plan_tool();
    }

    fn post(&mut self, sent: Vec<(BoardId, Rc<[u8]>)>) {
        for (board, frame) in sent {
            self.send(OPERATOR, Recipient::One(Party::Board(board)), frame);
        }
    }

    fn plan_tool(&mut self) {
        let due = self.operator.client.deadline();
        if let Some(due) = due.filter(|_| !self.operator.wakes) {
            self.operator.wakes = true;
            self.schedule(due.0.max(self.now + 1), Happening::Tool);
        }
    }

    /// The tool looks at its clock.
    pub(super) fn wake_tool(&mut self) {
        self.operator.wakes = false;
        let asked = self.operator.client.asked();
        let mut sent = Vec::new();
        let ticked = self
            .operator
            .client
            .tick(Micros(self.now), &mut |board, frame| {
                sent.push((board, Rc::from(frame)));
            });
        if ticked.is_err() {
            self.stats.see("order_unanswered");
        }
        if asked != self.operator.client.asked() {
            self.stats.see("tool_turned");
        }
        self.post(sent);
        self.ask_next();
        self.plan_tool();
    }

    /// A frame reaches the tool.
    pub(super) fn arrive_at_tool(&mut self, frame: &[u8]) {
        let mut sent = Vec::new();
        let reply = self
            .operator
            .client
            .receive(Micros(self.now), frame, &mut |board, frame| {
                sent.push((board, Rc::from(frame)));
            });
        match reply {
            Some(Reply::Outcome(_, Outcome::Done { .. })) => self.stats.see("order_done"),
            Some(Reply::Outcome(_, Outcome::Refused { .. })) => self.stats.see("order_refused"),
            Some(Reply::Page(..) | Reply::Peers(..) | Reply::Parcel(..)) | None => {}
        }
        self.post(sent);
        self.ask_next();
        self.plan_tool();
    }
}
