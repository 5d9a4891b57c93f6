//! Who lives now: frames from bytes to messages, replay windows, challenges; and the way out.

use super::state::{OperatorSession, Peer};
use super::{Effect, Node, Sink};
use crate::ids::{BoardId, Incarnation};
use crate::limits::{HELLO_GAP, MAX_FRAME};
use crate::wire::auth::{Authenticator, LifeKey};
use crate::wire::codec::Writer;
use crate::wire::frame::{self, Envelope, HEADER, Party, Recipient, Refusal, View};
use crate::wire::message::{Hello, KIND_HELLO, Message};

/// Sequence numbers below the highest that may still come.
const WINDOW: u64 = 64;

/// The window of sequence numbers of one session: takes each number once. Returns whether this one is taken.
pub(crate) fn take_number(top: &mut u64, window: &mut u64, sequence: u64) -> bool {
    if sequence > *top {
        let shift = sequence - *top;
        *window = if shift >= WINDOW { 0 } else { *window << shift };
        *window |= 1;
        *top = sequence;
        return true;
    }
    let age = *top - sequence;
    if age >= WINDOW || *window & (1 << age) != 0 {
        return false;
    }
    *window |= 1 << age;
    true
}

impl Peer {
    /// Forgets the former life, if there was one, and begins a session with this one.
    fn meet(&mut self, incarnation: Incarnation, life: LifeKey, sequence: u64) {
        let (hello_at, join_at) = (self.hello_at, self.join_at);
        *self = Self {
            incarnation,
            life,
            top: sequence,
            window: 1,
            hello_at,
            join_at,
            ..Self::NEW
        };
    }
}

impl<A: Authenticator, const B: usize, const G: usize, const D: usize, const L: usize>
    Node<A, B, G, D, L>
{
    /// Takes a datagram in. Returns whether it was authentic and fresh.
    pub(super) fn take_in(&mut self, datagram: &[u8], out: &mut dyn Sink) -> bool {
        let view = match frame::view(datagram, self.cluster) {
            Ok(view) => view,
            Err(refusal) => {
                match refusal {
                    Refusal::Noise => self.counters.noise += 1,
                    Refusal::Version(version) => {
                        self.counters.version += 1;
                        self.counters.other_version = version;
                    }
                    Refusal::Stranger => self.counters.stranger += 1,
                    Refusal::Address => self.counters.address += 1,
                }
                return false;
            }
        };
        let for_us = match view.recipient {
            Recipient::All => true,
            Recipient::One(party) => party == Party::Board(self.board),
        };
        if !for_us || view.sender == Party::Board(self.board) {
            self.counters.address += 1;
            return false;
        }
        match view.sender {
            Party::Board(board) => self.take_from_board(board, &view, out),
            Party::Operator(number) => self.take_from_operator(number, &view, out),
        }
    }

    fn take_from_board(&mut self, board: BoardId, view: &View<'_>, out: &mut dyn Sink) -> bool {
        let Some(peer) = self.peers.get_mut(board.at()) else {
            self.counters.address += 1;
            return false;
        };
        let known = peer.incarnation == view.incarnation;
        let life = if known {
            peer.life
        } else {
            self.auth.life(board.0, view.incarnation)
        };
        if !self.auth.check(&life, view.covered, view.tag) {
            self.counters.forged += 1;
            return false;
        }
        #[cfg(feature = "mutations")]
        let known = known
            || (self.mutation == Some(super::Mutation::CounterOnly)
                && peer.incarnation.0 != 0
                && view.sequence > peer.top);
        if known {
            if !take_number(&mut peer.top, &mut peer.window, view.sequence) {
                self.counters.replayed += 1;
                return false;
            }
        } else if view.kind != KIND_HELLO {
            self.counters.unknown_life += 1;
            self.challenge(board, out);
            return false;
        }
        let Ok(message) = Message::get(view.kind, view.body) else {
            self.counters.malformed += 1;
            return false;
        };
        if let Message::Hello(hello) = message {
            return self.on_hello(board, view, life, &hello, out);
        }
        self.counters.accepted += 1;
        self.on_message(board, message, out);
        true
    }

    fn on_hello(
        &mut self,
        board: BoardId,
        view: &View<'_>,
        life: LifeKey,
        hello: &Hello,
        out: &mut dyn Sink,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(board.at()) else {
            return false;
        };
        let answered = hello.answer != 0 && hello.answer == peer.challenge;
        if answered && peer.incarnation != view.incarnation {
            peer.meet(view.incarnation, life, view.sequence);
            self.counters.accepted += 1;
            self.stirred = true;
        } else if answered {
            peer.challenge = 0;
        }
        let fresh = self
            .peers
            .get(board.at())
            .is_some_and(|peer| peer.incarnation == view.incarnation);
        if hello.challenge != 0 {
            let challenge = if fresh { 0 } else { self.challenge_for(board) };
            self.send_board(
                board,
                &Message::Hello(Hello {
                    challenge,
                    answer: hello.challenge,
                }),
                out,
            );
        }
        answered && fresh
    }

    /// The challenge that `board` has to answer. It stays until it is answered, and is never used again.
    fn challenge_for(&mut self, board: BoardId) -> u64 {
        let fresh = self.random.name();
        match self.peers.get_mut(board.at()) {
            Some(peer) if peer.challenge == 0 => {
                peer.challenge = fresh;
                fresh
            }
            Some(peer) => peer.challenge,
            None => 0,
        }
    }

    /// Asks `board` to prove that it lives, not too often.
    fn challenge(&mut self, board: BoardId, out: &mut dyn Sink) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(board.at()) else {
            return;
        };
        if now < peer.hello_at {
            return;
        }
        peer.hello_at = now.after(HELLO_GAP);
        let challenge = self.challenge_for(board);
        self.send_board(
            board,
            &Message::Hello(Hello {
                challenge,
                answer: 0,
            }),
            out,
        );
    }

    fn take_from_operator(&mut self, number: u8, view: &View<'_>, out: &mut dyn Sink) -> bool {
        let life = self.auth.life(number, view.incarnation);
        if !self.auth.check(&life, view.covered, view.tag) {
            self.counters.forged += 1;
            return false;
        }
        let now = self.now;
        let at = self.operator_slot(number, view.incarnation);
        let fresh = self.random.name();
        let session = &mut self.operators[at];
        let known = session.met && session.is_of(number, view.incarnation);
        if known && !take_number(&mut session.top, &mut session.window, view.sequence) {
            self.counters.replayed += 1;
            return false;
        }
        if !known && view.kind != KIND_HELLO {
            self.counters.unknown_life += 1;
            return self.challenge_operator(at, number, view.incarnation, fresh, out);
        }
        let Ok(message) = Message::get(view.kind, view.body) else {
            self.counters.malformed += 1;
            return false;
        };
        match message {
            Message::Hello(hello)
                if !known
                    && session.is_of(number, view.incarnation)
                    && hello.answer != 0
                    && session.challenge == hello.answer =>
            {
                *session = OperatorSession {
                    number,
                    incarnation: view.incarnation,
                    met: true,
                    life,
                    top: view.sequence,
                    window: 1,
                    used_at: now,
                    ..OperatorSession::NEW
                };
                self.send(
                    Recipient::One(Party::Operator(number)),
                    &Message::Hello(Hello {
                        challenge: 0,
                        answer: hello.challenge,
                    }),
                    out,
                );
            }
            Message::Hello(_) if !known => {
                return self.challenge_operator(at, number, view.incarnation, fresh, out);
            }
            Message::Request(request) if known => {
                session.used_at = now;
                self.on_request(number, request, out);
            }
            Message::Parcel(bytes) if known => {
                session.used_at = now;
                out.emit(Effect::Parcel {
                    from: Party::Operator(number),
                    bytes,
                });
            }
            _ => return false,
        }
        self.counters.accepted += 1;
        true
    }

    fn challenge_operator(
        &mut self,
        at: usize,
        number: u8,
        incarnation: Incarnation,
        fresh: u64,
        out: &mut dyn Sink,
    ) -> bool {
        let now = self.now;
        let session = &mut self.operators[at];
        if now < session.hello_at {
            return false;
        }
        if !session.is_of(number, incarnation) {
            *session = OperatorSession {
                number,
                incarnation,
                ..OperatorSession::NEW
            };
        }
        if session.challenge == 0 {
            session.challenge = fresh;
        }
        session.hello_at = now.after(HELLO_GAP);
        let hello = Hello {
            challenge: session.challenge,
            answer: 0,
        };
        self.send(
            Recipient::One(Party::Operator(number)),
            &Message::Hello(hello),
            out,
        );
        false
    }

    /// The place of a tool's session: its own, or else one of a tool that has not proved yet that it lives, or the one unused for longest. Tools choose their
    /// numbers at random, so two may have the same.
    fn operator_slot(&self, number: u8, incarnation: Incarnation) -> usize {
        let sessions = self.operators.iter().enumerate();
        let own = self
            .operators
            .iter()
            .position(|session| session.is_of(number, incarnation));
        own.unwrap_or_else(|| {
            let last = sessions.min_by_key(|(_, it)| (it.met, it.used_at, it.hello_at));
            last.map_or(0, |(at, _)| at)
        })
    }

    /// Whether there is a session with `board`.
    pub(super) fn met(&self, board: BoardId) -> bool {
        self.peers
            .get(board.at())
            .is_some_and(|peer| peer.incarnation.0 != 0)
    }

    /// Sends to one board.
    pub(super) fn send_board(&mut self, board: BoardId, message: &Message<'_>, out: &mut dyn Sink) {
        self.send(Recipient::One(Party::Board(board)), message, out);
    }

    /// Seals a message and sends it. One that does not fit a frame is not sent; none does not, by the limits.
    pub(super) fn send(&mut self, to: Recipient, message: &Message<'_>, out: &mut dyn Sink) {
        let mut buffer = [0; MAX_FRAME];
        let mut body = Writer::new(&mut buffer[HEADER..MAX_FRAME - crate::wire::auth::TAG]);
        if message.put(&mut body).is_err() {
            debug_assert!(false, "a message outgrew its frame");
            return;
        }
        let used = body.used();
        self.sequence += 1;
        let envelope = Envelope {
            cluster: self.cluster,
            kind: message.kind(),
            sender: Party::Board(self.board),
            recipient: to,
            incarnation: self.incarnation,
            sequence: self.sequence,
        };
        let (auth, life) = (&self.auth, &self.own_life);
        let length = frame::seal(&mut buffer, used, &envelope, |covered| {
            auth.tag(life, covered)
        });
        out.emit(Effect::Send {
            to,
            frame: &buffer[..length],
        });
    }

    fn on_message(&mut self, board: BoardId, message: Message<'_>, out: &mut dyn Sink) {
        match message {
            Message::Heartbeat(status, echoes) => self.on_heartbeat(board, status, echoes, out),
            Message::Ask(ask) => self.on_ask(board, &ask, out),
            Message::Vote(vote) => self.on_vote(board, &vote, out),
            Message::Append(head, entries) => self.on_append(board, &head, entries, out),
            Message::Appended(reply) => self.on_appended(board, &reply, out),
            Message::Page(head, page) => self.on_page(board, &head, page, out),
            Message::PageAck(ack) => self.on_page_ack(board, &ack, out),
            Message::Found(found) => self.on_found(board, &found, out),
            Message::Noted(noted) => self.on_noted(board, &noted, out),
            Message::JoinMe(join) => self.on_join(board, &join, out),
            Message::Report(report) => self.on_report(&report, out),
            Message::HandOver(question) => self.on_hand_over(&question, out),
            Message::Forward(forward) => {
                if self.role == super::Role::Leader {
                    self.decree_order(forward.id, forward.operation, out);
                }
            }
            Message::Parcel(bytes) => out.emit(Effect::Parcel {
                from: Party::Board(board),
                bytes,
            }),
            // Boards ask no questions, and a Hello was looked at before.
            Message::Hello(_)
            | Message::Answer(_)
            | Message::Request(_)
            | Message::Shown(..)
            | Message::Peers(..) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::take_number;

    #[test]
    fn a_number_is_taken_once_and_old_ones_never() {
        let (mut top, mut window) = (0, 0);
        assert!(take_number(&mut top, &mut window, 5));
        assert!(!take_number(&mut top, &mut window, 5));
        assert!(take_number(&mut top, &mut window, 3));
        assert!(!take_number(&mut top, &mut window, 3));
        assert!(take_number(&mut top, &mut window, 200));
        assert!(!take_number(&mut top, &mut window, 136), "below the window");
        assert!(take_number(&mut top, &mut window, 137), "the window's last");
        assert!(!take_number(&mut top, &mut window, 137));
    }
}
