//! A conversation with a cluster: questions to its boards, and their answers.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use cluster_proto::bulk::{MAX_RING, frame as stream};
use cluster_proto::client::{Client, Question, Reply, gather};
use cluster_proto::ids::{BoardId, BoardSet, Era, GuestId, Micros};
use cluster_proto::ledger::page::Cursor;
use cluster_proto::ledger::types::{Operation, Outcome};
use cluster_proto::service::Parcel;
use cluster_proto::service::progress::Progress;
use cluster_proto::wire::auth::{Authenticator as _, ClusterKey};
use cluster_proto::wire::codec::Writer;
use cluster_proto::wire::frame::MAX_BODY;
use cluster_proto::wire::message::{Echo, PageHead, Role, Status, read_echoes};

use super::reach::Known;
use super::wire::{BULK_PORT, Wire};
use crate::pack::{FullLedger, Outline, secret};
use crate::report::Failure;

/// How long a board is waited for that may be off.
const PEERS_PATIENCE: Duration = Duration::from_millis(700);
/// How long a board is waited for that is to tell how a move goes.
const PROGRESS_PATIENCE: Duration = Duration::from_millis(300);
/// How long an order or a question to anybody is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a ledger is begun to be read that moves on while it is read.
const LEDGER_TRIES: usize = 50;
/// Frames of bulk streams that wait, at most.
const MAX_BULK: usize = 2 * MAX_RING;
/// The longest sleep between two looks at what is due.
const STEP: Duration = Duration::from_millis(50);

/// What one board said of itself and of the others.
#[derive(Clone, Debug)]
pub struct Report {
    /// Of itself.
    pub status: Status,
    /// Of the others.
    pub echoes: Vec<Echo>,
}

/// What a cluster looks like at one moment.
pub struct Look {
    /// What is agreed, as `source` knows it.
    pub ledger: Box<FullLedger>,
    /// In which history.
    pub era: Era,
    /// Whose ledger it is: the leader's, if it answers.
    pub source: BoardId,
    /// Who leads, if anybody does.
    pub leader: Option<BoardId>,
    /// What boards and witnesses said, by number; nothing of those that did not answer.
    pub reports: Vec<Option<Report>>,
    /// How the moves go that are under way, as far as their sources tell.
    pub moves: Vec<(GuestId, Progress)>,
}

/// An answer, kept.
enum Got {
    Outcome(Outcome),
    Page(PageHead, Vec<u8>),
    Peers(Report),
}

/// A conversation.
pub struct Session {
    /// The cluster's description.
    pub outline: Outline,
    addresses: Vec<Option<SocketAddrV4>>,
    client: Client<ClusterKey>,
    wire: Box<dyn Wire>,
    begun: Instant,
    parcels: VecDeque<(BoardId, Vec<u8>)>,
    /// Frames of bulk streams.
    bulk: VecDeque<Vec<u8>>,
    /// The cluster's key and tag.
    secret: ([u8; 32], u32),
}

/// Sends to boards, and keeps what the wire has to say about it.
struct Out<'a> {
    wire: &'a mut dyn Wire,
    addresses: &'a [Option<SocketAddrV4>],
    broken: Option<io::Error>,
}

impl Out<'_> {
    fn send(&mut self, board: BoardId, bytes: &[u8]) {
        if let Some(Some(to)) = self.addresses.get(board.at()) {
            self.broken = self.wire.send(*to, bytes).err().or(self.broken.take());
        }
    }
}

/// Does something with the client, which may send.
macro_rules! with_client {
    ($session:expr, |$client:ident, $now:ident, $send:ident| $body:expr) => {{
        let $now = $session.now();
        let mut out = Out {
            wire: &mut *$session.wire,
            addresses: &$session.addresses,
            broken: None,
        };
        let $client = &mut $session.client;
        let done = {
            let $send: &mut dyn FnMut(BoardId, &[u8]) = &mut |board, bytes| out.send(board, bytes);
            $body
        };
        match out.broken {
            Some(error) => Err(broken(&error)),
            None => Ok(done),
        }
    }};
}

fn broken(error: &io::Error) -> Failure {
    Failure::Trouble(format!("the way to the boards is broken: {error}"))
}

impl Session {
    /// Begins one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(known: Known, wire: Box<dyn Wire>) -> Result<Self, String> {
        let entropy = secret::random().map_err(|error| format!("no random numbers: {error}"))?;
        let mut boards = BoardSet(0);
        for (at, address) in known.addresses.iter().enumerate() {
            // A description has at most 16.
            boards.set(BoardId(at as u8), address.is_some());
        }
        let entropy = u64::from_le_bytes(entropy);
        let client = Client::new(ClusterKey::BLANK, &known.key, known.tag, boards, entropy);
        Ok(Self {
            outline: known.outline,
            addresses: known.addresses,
            client,
            wire,
            begun: Instant::now(),
            parcels: VecDeque::new(),
            bulk: VecDeque::new(),
            secret: (known.key, known.tag),
        })
    }

    /// Now, on this conversation's clock.
    pub fn now(&self) -> Micros {
        // 584,000 years fit.
        Micros(self.begun.elapsed().as_micros() as u64)
    }

    /// The name of a board.
    pub fn name(&self, board: BoardId) -> String {
        let known = self.outline.boards.get(board.at());
        known.map_or_else(|| format!("board {board}"), |board| board.name.to_string())
    }

    /// The board called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn board(&self, name: &str) -> Result<BoardId, Failure> {
        let found = self.outline.find(name);
        found.ok_or_else(|| Failure::Trouble(self.outline.no_board(name)))
    }

    /// Takes in what comes, for at most `patience`; the answer to what was asked, if it came.
    fn take(&mut self, patience: Duration) -> Result<Option<Got>, Failure> {
        let received = self
            .wire
            .receive(patience)
            .map_err(|error| broken(&error))?;
        let Some((from, datagram)) = received else {
            return Ok(None);
        };
        if from.port() == BULK_PORT {
            // What finds no room is lost, as frames are: a window of them has some.
            if self.bulk.len() < MAX_BULK {
                self.bulk.push_back(datagram);
            }
            return Ok(None);
        }
        let reply = with_client!(self, |client, now, send| client
            .receive(now, &datagram, send))?;
        Ok(match reply {
            None => None,
            Some(Reply::Outcome(_, outcome)) => Some(Got::Outcome(outcome)),
            Some(Reply::Page(head, page)) => Some(Got::Page(head, page.to_vec())),
            Some(Reply::Peers(status, echoes)) => Some(Got::Peers(Report {
                status,
                echoes: read_echoes(echoes).collect(),
            })),
            Some(Reply::Parcel(board, bytes)) => {
                self.parcels.push_back((board, bytes.to_vec()));
                None
            }
        })
    }

    /// Asks, and waits for the answer; nothing if none comes within `patience`.
    fn ask(&mut self, question: Question, patience: Duration) -> Result<Option<Got>, Failure> {
        let until = Instant::now() + patience;
        with_client!(self, |client, now, send| client.ask(now, question, send))?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            if let Some(got) = self.take(left.min(STEP))? {
                return Ok(Some(got));
            }
            let ticked = with_client!(self, |client, now, send| client.tick(now, send))?;
            if ticked.is_err() {
                return Ok(None);
            }
        }
    }

    /// What one board says of itself and of the others; nothing if it does not answer.
    ///
    /// # Errors
    /// The way there is broken.
    pub fn peers(&mut self, board: BoardId) -> Result<Option<Report>, Failure> {
        if self.addresses.get(board.at()).copied().flatten().is_none() {
            return Ok(None);
        }
        match self.ask(Question::Peers { board }, PEERS_PATIENCE)? {
            Some(Got::Peers(report)) => Ok(Some(report)),
            _ => Ok(None),
        }
    }

    /// Asks everybody, and reads the ledger of the leader, or of whoever knows most.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn look(&mut self) -> Result<Look, Failure> {
        let mut reports = Vec::new();
        for at in 0..self.outline.boards.len() {
            // A description has at most 16.
            reports.push(self.peers(BoardId(at as u8))?);
        }
        let Some((source, leader)) = best_source(&reports) else {
            return Err(self.nobody_answers());
        };
        let (era, ledger) = self.ledger_from(source)?;
        let moving = ledger.guests().filter_map(|(guest, _, it)| {
            let order = it.moving.as_ref()?;
            Some((guest, order.id, it.owner))
        });
        let moving: Vec<_> = moving.collect();
        let mut moves = Vec::new();
        for (guest, id, owner) in moving {
            let told = self.progress(owner, guest)?.filter(|told| told.id == id);
            moves.extend(told.map(|told| (guest, told)));
        }
        Ok(Look {
            moves,
            ledger,
            era,
            source,
            leader,
            reports,
        })
    }

    /// How the newest move of a guest goes of which that board is an end; nothing if it knows of none, or does not answer.
    ///
    /// # Errors
    /// The way there is broken.
    pub fn progress(
        &mut self,
        board: BoardId,
        guest: GuestId,
    ) -> Result<Option<Progress>, Failure> {
        let until = Instant::now() + PROGRESS_PATIENCE;
        while Instant::now() < until {
            self.post(board, &Parcel::Follow { guest })?;
            let again = Instant::now() + STEP;
            while Instant::now() < again {
                let Some((from, bytes)) = self.parcel(STEP)? else {
                    continue;
                };
                if let Ok(Parcel::Goes {
                    guest: of,
                    progress,
                }) = Parcel::get(&bytes)
                    && (from, of) == (board, guest)
                {
                    return Ok(progress);
                }
            }
        }
        Ok(None)
    }

    /// The ledger, as that board knows it.
    fn ledger_from(&mut self, board: BoardId) -> Result<(Era, Box<FullLedger>), Failure> {
        // Whoever was asked last is asked first.
        self.peers(board)?;
        let mut ledger = Box::new(FullLedger::new());
        let mut from = Cursor::START;
        let mut begun = 0;
        while begun < LEDGER_TRIES {
            begun += usize::from(from == Cursor::START);
            let Some(Got::Page(head, page)) = self.ask(Question::Show { from }, PATIENCE)? else {
                return Err(self.nobody_answers());
            };
            match gather(&mut ledger, &head, &page) {
                Some(next) => from = next,
                None => return Ok((head.era, ledger)),
            }
        }
        Err(Failure::Trouble(
            "the cluster's state changes faster than it can be read: try again".into(),
        ))
    }

    /// Has something ordered, and says what became of it.
    ///
    /// # Errors
    /// Nobody answers; then nobody knows whether it was carried out.
    pub fn order(&mut self, operation: Operation) -> Result<Outcome, Failure> {
        match self.ask(Question::Order(operation), PATIENCE)? {
            Some(Got::Outcome(outcome)) => Ok(outcome),
            _ => Err(self.unanswered_order()),
        }
    }

    /// Has the cluster founded anew around a board.
    ///
    /// # Errors
    /// It does not answer; then nobody knows whether it was carried out.
    pub fn reform(&mut self, board: BoardId, lost: BoardSet) -> Result<Outcome, Failure> {
        match self.ask(Question::Reform { board, lost }, PATIENCE)? {
            Some(Got::Outcome(outcome)) => Ok(outcome),
            _ => Err(self.unanswered_order()),
        }
    }

    /// Sends a parcel, as soon as the board knows this tool; whether it does.
    ///
    /// # Errors
    /// The way there is broken, or the parcel holds more than one may.
    pub fn post(&mut self, board: BoardId, parcel: &Parcel<'_>) -> Result<bool, Failure> {
        let mut room = [0; MAX_BODY];
        let mut to = Writer::new(&mut room);
        if parcel.put(&mut to).is_err() {
            return Err(Failure::Trouble("a parcel outgrew its frame".into()));
        }
        let bytes = to.bytes();
        with_client!(self, |client, _now, send| client.parcel(board, bytes, send))
    }

    /// What a board sends beside the protocol, waited for up to `patience`.
    ///
    /// # Errors
    /// The way there is broken.
    pub fn parcel(&mut self, patience: Duration) -> Result<Option<(BoardId, Vec<u8>)>, Failure> {
        if self.parcels.is_empty() {
            self.take(patience)?;
        }
        Ok(self.parcels.pop_front())
    }

    /// A parcel that has come already.
    pub fn next_parcel(&mut self) -> Option<(BoardId, Vec<u8>)> {
        self.parcels.pop_front()
    }

    /// The secret of a bulk stream of this cluster's.
    pub fn stream_key(&self, name: stream::Name) -> stream::Key {
        stream::Key::new(&self.secret.0, self.secret.1, name)
    }

    /// Sends a frame of a bulk stream to a board.
    ///
    /// # Errors
    /// The way there is broken.
    pub fn send_bulk(&mut self, board: BoardId, frame: &[u8]) -> Result<(), Failure> {
        let Some(Some(at)) = self.addresses.get(board.at()) else {
            return Ok(());
        };
        let to = SocketAddrV4::new(*at.ip(), BULK_PORT);
        self.wire.send(to, frame).map_err(|error| broken(&error))
    }

    /// The next frame of a bulk stream, waited for up to `patience`.
    ///
    /// # Errors
    /// The way to the boards is broken.
    pub fn bulk(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, Failure> {
        let until = Instant::now() + patience;
        while self.bulk.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            self.take(left)?;
            if left.is_zero() {
                break;
            }
        }
        Ok(self.bulk.pop_front())
    }

    fn asked(&self) -> String {
        let named = self.outline.boards.iter().zip(&self.addresses);
        let asked = named.filter_map(|(board, at)| Some(format!("{} at {}", board.name, (*at)?)));
        asked.collect::<Vec<_>>().join(", ")
    }

    fn nobody_answers(&self) -> Failure {
        Failure::Trouble(format!(
            "nobody of cluster {} answers; asked: {}. Are the boards on, is this machine on their network, and were they packed with this key?",
            self.outline.cluster,
            self.asked()
        ))
    }

    fn unanswered_order(&self) -> Failure {
        Failure::Trouble(format!(
            "no answer came; asked: {}. It may have been carried out or not: `hearth events` shows it if it was; look before you order it again",
            self.asked()
        ))
    }
}

/// Whose ledger is to be believed, and who leads: the leader of the newest term, or else whoever knows most.
pub fn best_source(reports: &[Option<Report>]) -> Option<(BoardId, Option<BoardId>)> {
    // A description has at most 16.
    let numbered = reports.iter().enumerate();
    let answered = numbered.filter_map(|(at, it)| Some((BoardId(at as u8), &it.as_ref()?.status)));
    let answered: Vec<_> = answered.collect();
    let newest = |(_, status): &&(BoardId, &Status)| (status.era.generation, status.term);
    let leads = |status: &Status| status.role == Role::Leader;
    let leading = answered.iter().filter(|(_, status)| leads(status));
    if let Some((leader, _)) = leading.max_by_key(newest) {
        return Some((*leader, Some(*leader)));
    }
    let (source, status) = answered
        .iter()
        .max_by_key(|(_, status)| (status.era.generation, status.commit, status.term))?;
    // One that this tool does not reach.
    Some((*source, status.leader))
}
