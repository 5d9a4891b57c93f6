//! An operator's side of the protocol: one question at a time, to any board, until it is answered.
//!
//! Like a node it touches no clock and no socket: [`Client::ask`] begins, [`Client::tick`] and [`Client::receive`] go on, frames to send come out. A board
//! that does not answer is given up for the next one; an order keeps its number then, so that it is carried out once. The
//! tool and the board prove to each other that they live now, each by returning the other's challenge, before either believes the other.

use crate::ids::{BoardId, BoardSet, Incarnation, Micros, Span};
use crate::ledger::Ledger;
use crate::ledger::page::Cursor;
use crate::ledger::types::{Operation, Outcome, RequestId};
use crate::limits::{BOARDS_MAX, MAX_FRAME};
use crate::wire::auth::{Authenticator, LifeKey, TAG};
use crate::wire::codec::Writer;
use crate::wire::frame::{self, Envelope, FIRST_OPERATOR, HEADER, Party, Recipient, View};
use crate::wire::message::{Hello, Message, PageHead, Request, Status};

use crate::node::{Random, take_number};

/// Between two tries with one board.
const RETRY: Span = Span::millis(100);
/// How long one board is tried before the next; that both may then be at it does no harm, since an order has its number.
const TURN: Span = Span::millis(2_000);
/// How long a board that says nothing at all is tried.
const SILENCE: Span = Span::millis(500);
/// How long everybody is tried.
const PATIENCE: Span = Span::millis(30_000);

/// What an operator asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is no heap to box the large one in"
)]
pub enum Question {
    /// To have something agreed.
    Order(Operation),
    /// To found anew around one board; only that board is asked.
    Reform {
        /// Around which.
        board: BoardId,
        /// Voters that are off and of whose memory nothing is left: the operator vouches for it.
        lost: BoardSet,
    },
    /// A page of the ledger; see [`gather`].
    Show {
        /// From here.
        from: Cursor,
    },
    /// What one board says of itself and its peers; only that board is asked.
    Peers {
        /// Which.
        board: BoardId,
    },
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// What became of an order.
    Outcome(RequestId, Outcome),
    /// A page of the ledger: head and bytes.
    Page(PageHead, &'a [u8]),
    /// A board's status, and the echoes' bytes ([`crate::wire::message::read_echoes`]).
    Peers(Status, &'a [u8]),
    /// What a board sent beside the protocol ([`crate::service`]); no question waits for it.
    Parcel(BoardId, &'a [u8]),
}

/// There is no answer, and nobody is asked any more. An order may still have been carried out, or be: look before it is given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered;

/// The session with one board.
#[derive(Clone, Debug, Hash)]
struct Session {
    /// The life that returned this tool's challenge; zero: none yet.
    incarnation: Incarnation,
    life: LifeKey,
    top: u64,
    window: u64,
    /// This tool's challenge; zero: none is out.
    challenge: u64,
}

impl Session {
    const NEW: Self = Self {
        incarnation: Incarnation(0),
        life: LifeKey([0; 16]),
        top: 0,
        window: 0,
        challenge: 0,
    };
}

/// A question that waits for its answer.
#[derive(Clone, Debug, Hash)]
struct Waiting {
    question: Question,
    id: RequestId,
    since: Micros,
    turn_since: Micros,
    sent_at: Option<Micros>,
    /// Whether the board whose turn it is has said anything in it.
    heard: bool,
}

/// An operator's tool.
#[derive(Clone, Hash)]
pub struct Client<A> {
    auth: A,
    cluster: u32,
    number: u8,
    incarnation: Incarnation,
    own_life: LifeKey,
    sequence: u64,
    random: Random,
    operator: u64,
    requests: u64,
    boards: BoardSet,
    turn: BoardId,
    sessions: [Session; BOARDS_MAX],
    waiting: Option<Waiting>,
}

impl<A: Authenticator> Client<A> {
    /// A tool for the cluster with this tag and key, whose boards are `boards`. `entropy` is random and different at every start of a tool.
    #[must_use]
    pub fn new(mut auth: A, key: &[u8; 32], cluster: u32, boards: BoardSet, entropy: u64) -> Self {
        auth.set_key(key);
        let mut random = Random(entropy);
        let number = FIRST_OPERATOR + random.below(u64::from(u8::MAX - FIRST_OPERATOR)) as u8;
        let incarnation = Incarnation(random.name());
        let own_life = auth.life(number, incarnation);
        let operator = random.name();
        let mut client = Self {
            auth,
            cluster,
            number,
            incarnation,
            own_life,
            sequence: 0,
            random,
            operator,
            requests: 0,
            boards,
            turn: BoardId(BOARDS_MAX as u8 - 1),
            sessions: [const { Session::NEW }; BOARDS_MAX],
            waiting: None,
        };
        client.turn = client.next_board();
        client
    }

    /// Whether a question waits for its answer.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Which board is asked now.
    #[must_use]
    pub fn asked(&self) -> BoardId {
        self.turn
    }

    /// Asks. A question that still waits is dropped. Returns its number, under which an order is remembered.
    pub fn ask(
        &mut self,
        now: Micros,
        question: Question,
        send: &mut dyn FnMut(BoardId, &[u8]),
    ) -> RequestId {
        self.requests += 1;
        let id = RequestId {
            operator: self.operator,
            request: self.requests,
        };
        match question {
            Question::Reform { board, .. } | Question::Peers { board } => self.turn = board,
            Question::Order(_) | Question::Show { .. } => {}
        }
        self.waiting = Some(Waiting {
            question,
            id: id.clone(),
            since: now,
            turn_since: now,
            sent_at: None,
            heard: false,
        });
        self.push(now, send);
        id
    }

    /// Sends bytes beside the protocol to a board. Whether they were sent: where there is no session with it yet, one is asked for instead, and the caller
    /// tries again. A board that no longer knows this tool drops them, and asks for a new session.
    pub fn parcel(
        &mut self,
        board: BoardId,
        bytes: &[u8],
        send: &mut dyn FnMut(BoardId, &[u8]),
    ) -> bool {
        let met = self.sessions.get(board.at());
        if met.is_none_or(|session| session.incarnation.0 == 0) {
            self.greet(board, 0, send);
            return false;
        }
        self.send(board, &Message::Parcel(bytes), send);
        true
    }

    /// When [`Client::tick`] is due, if a question waits.
    #[must_use]
    pub fn deadline(&self) -> Option<Micros> {
        let sent_at = self.waiting.as_ref()?.sent_at;
        Some(sent_at.map_or(Micros(0), |sent_at| sent_at.after(RETRY)))
    }

    /// Time has passed: asks again, or the next board.
    ///
    /// # Errors
    /// [`Unanswered`] when it is given up.
    pub fn tick(
        &mut self,
        now: Micros,
        send: &mut dyn FnMut(BoardId, &[u8]),
    ) -> Result<(), Unanswered> {
        let Some(waiting) = &mut self.waiting else {
            return Ok(());
        };
        if now.since(waiting.since) > PATIENCE {
            self.waiting = None;
            return Err(Unanswered);
        }
        let patience = if waiting.heard { TURN } else { SILENCE };
        let anybody = matches!(waiting.question, Question::Order(_) | Question::Show { .. });
        if anybody && now.since(waiting.turn_since) > patience {
            (waiting.turn_since, waiting.heard, waiting.sent_at) = (now, false, None);
            self.turn = self.next_board();
        }
        let sent_at = self.waiting.as_ref().and_then(|waiting| waiting.sent_at);
        if sent_at.is_none_or(|sent_at| now.since(sent_at) >= RETRY) {
            self.push(now, send);
        }
        Ok(())
    }

    /// A datagram came. What is not an authentic, fresh answer to the question is dropped.
    pub fn receive<'a>(
        &mut self,
        now: Micros,
        datagram: &'a [u8],
        send: &mut dyn FnMut(BoardId, &[u8]),
    ) -> Option<Reply<'a>> {
        let view = frame::view(datagram, self.cluster).ok()?;
        let Party::Board(board) = view.sender else {
            return None;
        };
        if view.recipient != Recipient::One(Party::Operator(self.number)) {
            return None;
        }
        let known = self.sessions.get(board.at())?;
        let life = if known.incarnation == view.incarnation {
            known.life
        } else {
            self.auth.life(board.0, view.incarnation)
        };
        if !self.auth.check(&life, view.covered, view.tag) {
            return None;
        }
        let message = Message::get(view.kind, view.body).ok()?;
        if let Message::Hello(hello) = message {
            self.on_hello(now, board, life, &view, &hello, send);
            return None;
        }
        let session = self.sessions.get_mut(board.at())?;
        let fresh = session.incarnation == view.incarnation
            && take_number(&mut session.top, &mut session.window, view.sequence);
        if !fresh {
            return None;
        }
        if let Message::Parcel(bytes) = message {
            return Some(Reply::Parcel(board, bytes));
        }
        let waiting = self.waiting.as_mut()?;
        waiting.heard |= board == self.turn;
        let reply = match (message, &waiting.question) {
            (Message::Answer(answer), Question::Order(_) | Question::Reform { .. })
                if answer.id == waiting.id =>
            {
                Reply::Outcome(answer.id, answer.outcome)
            }
            (Message::Shown(head, page), Question::Show { from }) if head.from == *from => {
                Reply::Page(head, page)
            }
            (Message::Peers(status, echoes), Question::Peers { board: asked })
                if *asked == board =>
            {
                Reply::Peers(status, echoes)
            }
            _ => return None,
        };
        self.waiting = None;
        Some(reply)
    }

    fn on_hello(
        &mut self,
        now: Micros,
        board: BoardId,
        life: LifeKey,
        view: &View<'_>,
        hello: &Hello,
        send: &mut dyn FnMut(BoardId, &[u8]),
    ) {
        let Some(session) = self.sessions.get_mut(board.at()) else {
            return;
        };
        if hello.answer != 0 && hello.answer == session.challenge {
            *session = Session {
                incarnation: view.incarnation,
                life,
                top: view.sequence,
                window: 1,
                challenge: 0,
            };
        }
        if let Some(waiting) = self.waiting.as_mut().filter(|_| board == self.turn) {
            waiting.heard = true;
        }
        if hello.challenge != 0 {
            // The board does not know this tool, or not any more.
            self.greet(board, hello.challenge, send);
        } else if board == self.turn {
            self.push(now, send);
        }
    }

    /// Sends the question to the board whose turn it is, or what has to come before.
    fn push(&mut self, now: Micros, send: &mut dyn FnMut(BoardId, &[u8])) {
        let Some(waiting) = &mut self.waiting else {
            return;
        };
        waiting.sent_at = Some(now);
        let board = self.turn;
        let met = self.sessions.get(board.at());
        if met.is_none_or(|session| session.incarnation.0 == 0) {
            return self.greet(board, 0, send);
        }
        let id = waiting.id.clone();
        let request = match &waiting.question {
            Question::Order(operation) => Request::Order {
                id,
                operation: operation.clone(),
            },
            Question::Reform { lost, .. } => Request::Reform { id, lost: *lost },
            Question::Show { from } => Request::Show { from: *from },
            Question::Peers { .. } => Request::ShowPeers {},
        };
        self.send(board, &Message::Request(request), send);
    }

    /// Returns a board's challenge, if there is one, and asks it to return this tool's.
    fn greet(&mut self, board: BoardId, answer: u64, send: &mut dyn FnMut(BoardId, &[u8])) {
        let fresh = self.random.name();
        let Some(session) = self.sessions.get_mut(board.at()) else {
            return;
        };
        if session.challenge == 0 {
            session.challenge = fresh;
        }
        let hello = Hello {
            challenge: session.challenge,
            answer,
        };
        self.send(board, &Message::Hello(hello), send);
    }

    fn send(
        &mut self,
        board: BoardId,
        message: &Message<'_>,
        send: &mut dyn FnMut(BoardId, &[u8]),
    ) {
        let mut buffer = [0; MAX_FRAME];
        let mut body = Writer::new(&mut buffer[HEADER..MAX_FRAME - TAG]);
        if message.put(&mut body).is_err() {
            debug_assert!(false, "a message outgrew its frame");
            return;
        }
        let used = body.used();
        self.sequence += 1;
        let envelope = Envelope {
            cluster: self.cluster,
            kind: message.kind(),
            sender: Party::Operator(self.number),
            recipient: Recipient::One(Party::Board(board)),
            incarnation: self.incarnation,
            sequence: self.sequence,
        };
        let (auth, life) = (&self.auth, &self.own_life);
        let length = frame::seal(&mut buffer, used, &envelope, |covered| {
            auth.tag(life, covered)
        });
        send(board, &buffer[..length]);
    }

    /// The board after the one whose turn it is.
    fn next_board(&self) -> BoardId {
        let after = (1..=BOARDS_MAX).map(|step| (self.turn.at() + step) % BOARDS_MAX);
        // BOARDS_MAX is 64.
        let mut boards = after.map(|at| BoardId(at as u8));
        boards
            .find(|board| self.boards.has(*board))
            .unwrap_or(self.turn)
    }
}

/// Puts a page that was shown into `ledger`. Returns what to ask for next, or nothing when the ledger is whole. It begins
/// anew when the board's ledger has moved on between two pages, or the board has changed.
pub fn gather<const B: usize, const G: usize, const D: usize>(
    ledger: &mut Ledger<B, G, D>,
    head: &PageHead,
    page: &[u8],
) -> Option<Cursor> {
    let begins = head.from == Cursor::START;
    if begins {
        ledger.clear();
    }
    // The first item says at which index the pages were written.
    let read = ledger.read_page(page).is_ok() && ledger.index == head.index;
    if !read || head.next <= head.from {
        return Some(Cursor::START);
    }
    (head.next != Cursor::END).then_some(head.next)
}
