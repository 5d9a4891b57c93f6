//! Connections of the operator's tool: one request each, and what becomes of it.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::socket::{getsockopt, sockopt};
use serde_json::{Value, json};

use super::super::datagrams;
use super::super::protocol::{
    Ask, Condition, Done, Echo, Envelope, Found, MAX_REQUEST, Opened, VERSION,
};
use super::super::station::Datagram;
use super::super::switch::pipe::Time;
use super::super::value;
use super::{Seat, Supervisor, Token};

/// Connections that a lab has at once.
const MAX_CLIENTS: usize = 64;
/// What of a console is sent at once, bytes.
const CHUNK: usize = 16 << 10;
/// Datagrams for a client that does not take them wait up to so much, bytes.
const MAX_WAITING: usize = 256 << 10;
/// A client that does not take its last answer within this does not get it.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection.
pub struct Client {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    mode: Mode,
    /// What epoll watches for.
    interest: EpollFlags,
}

/// What a connection is for.
#[derive(Debug)]
enum Mode {
    /// Its request has not come yet.
    Asking,
    /// Its answer has to wait.
    Waiting(Waiting),
    /// It is the console of a board, and has seen it up to that place.
    Console(usize, u64),
    /// It exchanges datagrams, by that seat.
    Datagrams(usize),
    /// Its answer is on the way.
    Answered,
}

/// What an answer waits for.
#[derive(Debug)]
pub enum Waiting {
    /// The board's end.
    Ended(usize),
    /// The board's start.
    Running(usize),
    /// A text on the board's console, behind that place, until then.
    Text(usize, String, u64, Time),
    /// An echo, until then.
    Echo(std::net::Ipv4Addr, u64, Time),
    /// The lab's end.
    Down,
}

/// How a request is answered.
#[derive(Debug)]
pub enum Reply {
    /// At once.
    Now(Value),
    /// Later.
    Later(Waiting),
    /// With the console of a board from that place on.
    Console(usize, u64),
    /// With datagrams.
    Datagrams(Ask),
}

impl Client {
    /// When its waiting ends.
    pub fn deadline(&self) -> Option<Time> {
        match &self.mode {
            Mode::Waiting(Waiting::Text(.., deadline) | Waiting::Echo(.., deadline)) => {
                Some(*deadline)
            }
            _ => None,
        }
    }

    fn answer(&mut self, answer: Result<Value, String>) {
        let mut line = json!({ "ok": answer.is_ok() });
        if let Some(object) = line.as_object_mut() {
            match answer {
                Ok(Value::Object(fields)) => object.extend(fields),
                Ok(other) => drop(object.insert("answer".into(), other)),
                Err(trouble) => drop(object.insert("trouble".into(), trouble.into())),
            }
        }
        self.outbox.extend(line.to_string().bytes());
        self.outbox.push(b'\n');
        self.mode = Mode::Answered;
    }

    /// Writes what waits; false when the client is gone.
    fn write(&mut self) -> bool {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(length) => drop(self.outbox.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        !matches!(self.mode, Mode::Answered)
    }
}

/// That it was done.
pub fn done(what: impl Into<String>) -> Value {
    value(Done { done: what.into() })
}

impl Supervisor<'_> {
    /// Takes connections that wait.
    pub fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            // An abstract socket has no permissions: whoever is on this machine may connect.
            let own = nix::unistd::geteuid().as_raw();
            let theirs = getsockopt(&stream.as_fd(), sockopt::PeerCredentials);
            let welcome = theirs.is_ok_and(|it| it.uid() == own || it.uid() == 0);
            if !welcome
                || self.clients.len() == MAX_CLIENTS
                || stream.set_nonblocking(true).is_err()
            {
                continue;
            }
            let number = self.next_client;
            self.next_client += 1;
            let interest = EpollFlags::EPOLLIN;
            let event = EpollEvent::new(interest, Token::Client(number).number());
            if self.epoll.add(&stream, event).is_ok() {
                let client = Client {
                    stream,
                    inbox: Vec::new(),
                    outbox: Vec::new(),
                    mode: Mode::Asking,
                    interest,
                };
                self.clients.insert(number, client);
            }
        }
    }

    /// A client has sent something, takes something, or is gone.
    pub fn hear_client(&mut self, number: u64, flags: EpollFlags) {
        self.news = true;
        if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
            && !self.read_client(number)
        {
            self.drop_client(number);
        }
    }

    /// Reads what a client sends; false when it is gone.
    fn read_client(&mut self, number: u64) -> bool {
        let Some(client) = self.clients.get_mut(&number) else {
            return true;
        };
        let mut chunk = [0; CHUNK];
        // What a board cannot take yet stays where it is.
        let room = match client.mode {
            Mode::Console(board, _) if self.boards[board].is_typing() => return true,
            _ => chunk.len(),
        };
        let length = match client.stream.read(&mut chunk[..room]) {
            Ok(0) => return false,
            Ok(length) => length,
            Err(error) => {
                let again = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
                return again.contains(&error.kind());
            }
        };
        match client.mode {
            Mode::Console(board, _) => {
                self.boards[board].type_in(&chunk[..length]);
                self.watch_console(board);
            }
            Mode::Asking => {
                client.inbox.extend(&chunk[..length]);
                self.take_request(number);
            }
            Mode::Datagrams(seat) => {
                client.inbox.extend(&chunk[..length]);
                return self.send_datagrams(number, seat);
            }
            // It has asked; there is nothing more to say.
            Mode::Waiting(_) | Mode::Answered => {}
        }
        true
    }

    fn take_request(&mut self, number: u64) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        let Some(end) = client.inbox.iter().position(|byte| *byte == b'\n') else {
            if client.inbox.len() > MAX_REQUEST {
                client.answer(Err(format!("a request has at most {MAX_REQUEST} bytes")));
            }
            return;
        };
        let request = parse(&client.inbox[..end]);
        let typed = client.inbox.split_off(end + 1);
        client.inbox.clear();
        let reply = request.and_then(|request| self.command(request));
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        match reply {
            Ok(Reply::Now(answer)) => client.answer(Ok(answer)),
            Ok(Reply::Later(waiting)) => client.mode = Mode::Waiting(waiting),
            Ok(Reply::Console(board, place)) => {
                let name = &self.boards[board].plan.name;
                client.answer(Ok(json!({ "console": name })));
                client.mode = Mode::Console(board, place);
                self.boards[board].type_in(&typed);
                self.watch_console(board);
            }
            Ok(Reply::Datagrams(ask)) => self.open_datagrams(number, ask),
            Err(trouble) => client.answer(Err(trouble)),
        }
    }

    /// Joins a client to a station.
    fn open_datagrams(&mut self, number: u64, ask: Ask) {
        let seat = self.seat(ask.witness.as_deref());
        let opened = seat.and_then(|seat| {
            let desk = &mut self.seats[seat].desk;
            let port = desk.open(number, ask.port, ask.groups)?;
            Ok((seat, port))
        });
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        match opened {
            Ok((seat, port)) => {
                client.answer(Ok(value(Opened { port })));
                client.mode = Mode::Datagrams(seat);
            }
            Err(trouble) => client.answer(Err(trouble)),
        }
    }

    /// The seat of a witness, or of everybody else.
    fn seat(&self, witness: Option<&str>) -> Result<usize, String> {
        let Some(name) = witness else {
            return Ok(0);
        };
        let port = self.switch.find(name);
        let seat = self
            .seats
            .iter()
            .position(|seat| Some(seat.port) == port && seat.port != self.forwarder_port);
        seat.ok_or_else(|| format!("lab {} has no witness {name}", self.plan.name))
    }

    /// Sends the datagrams that a client has given whole; whether they were any.
    fn send_datagrams(&mut self, number: u64, seat: usize) -> bool {
        let now = self.now();
        let Seat { station, desk, .. } = &mut self.seats[seat];
        let (Some(client), Some(port)) = (self.clients.get_mut(&number), desk.port(number)) else {
            return false;
        };
        loop {
            match datagrams::take(&mut client.inbox) {
                Ok(Some((to, payload))) => {
                    // As on any network, the sender is not told what can never arrive.
                    if let Err(trouble) = station.send(now, port, to, &payload) {
                        eprintln!("datagram to {to}: {trouble}");
                    }
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Gives a datagram that came to those who take it, as far as they have room.
    pub fn hand_out(&mut self, takers: Vec<u64>, datagram: &Datagram<'_>) {
        for number in takers {
            if let Some(client) = self.clients.get_mut(&number)
                && client.outbox.len() < MAX_WAITING
            {
                datagrams::put(&mut client.outbox, datagram.from, datagram.payload);
            }
        }
    }

    fn drop_client(&mut self, number: u64) {
        for seat in &mut self.seats {
            seat.desk.close(number);
        }
        if let Some(client) = self.clients.remove(&number)
            && let Mode::Waiting(Waiting::Echo(_, question, _)) = client.mode
        {
            self.forwarder.forget(question);
        }
    }

    /// Answers those whose waiting is over.
    pub fn settle(&mut self, now: Time) {
        let mut clients = std::mem::take(&mut self.clients);
        for client in clients.values_mut() {
            if let Mode::Waiting(waiting) = &mut client.mode
                && let Some(answer) = self.outcome(waiting, now)
            {
                client.answer(answer);
            }
        }
        self.clients = clients;
    }

    /// What has become of what a client waits for.
    fn outcome(&mut self, waiting: &mut Waiting, now: Time) -> Option<Result<Value, String>> {
        match waiting {
            Waiting::Ended(board) => {
                let board = &self.boards[*board];
                let ended = matches!(board.condition, Condition::Ended(_));
                ended.then(|| Ok(done(format!("board {} is killed", board.plan.name))))
            }
            Waiting::Running(board) if !self.revive[*board] => {
                let board = &self.boards[*board];
                let name = &board.plan.name;
                match &board.condition {
                    Condition::Starting => None,
                    Condition::Ended(how) => Some(Err(format!(
                        "board {name} has ended at once: {how}\n{}",
                        board.complaint()
                    ))),
                    _ => Some(Ok(done(format!("board {name} runs")))),
                }
            }
            Waiting::Running(_) => None,
            Waiting::Text(board, text, from, deadline) => {
                let board = &self.boards[*board];
                let name = &board.plan.name;
                if let Some((at, line)) = board.said.find(*from, text) {
                    return Some(Ok(value(Found { line, at })));
                }
                // The text may have begun to come.
                *from = (*from).max(board.said.end().saturating_sub(text.len() as u64));
                if let Condition::Ended(how) = &board.condition {
                    return Some(Err(format!(
                        "board {name} has ended ({how}) before it said `{text}`"
                    )));
                }
                let late = format!(
                    "board {name} has not said `{text}` in time: `hearth lab log {name}` shows what it said"
                );
                (now >= *deadline).then_some(Err(late))
            }
            Waiting::Echo(address, question, deadline) => {
                let address = *address;
                if let Some(took) = self.forwarder.answer(*question, now) {
                    let micros = took / 1000;
                    return Some(Ok(value(Echo { address, micros })));
                }
                if now < *deadline {
                    return None;
                }
                self.forwarder.forget(*question);
                Some(Err(format!(
                    "{address} does not answer: `hearth lab links` shows who was heard on which link"
                )))
            }
            Waiting::Down => None,
        }
    }

    /// Gives all clients what they can take, and lets those go that have all.
    pub fn serve_clients(&mut self) {
        let numbers: Vec<_> = self.clients.keys().copied().collect();
        for number in numbers {
            if !self.serve(number) {
                self.drop_client(number);
            }
        }
    }

    fn serve(&mut self, number: u64) -> bool {
        let Some(client) = self.clients.get_mut(&number) else {
            return true;
        };
        let mut typing = false;
        loop {
            if !client.write() {
                return false;
            }
            let Mode::Console(board, place) = &mut client.mode else {
                break;
            };
            let board = &self.boards[*board];
            typing = board.is_typing();
            if !client.outbox.is_empty() || *place >= board.said.end() {
                break;
            }
            let lost = board.said.start().saturating_sub(*place);
            if lost > 0 {
                let note = format!("\r\n[{lost} bytes were too fast for this terminal]\r\n");
                client.outbox.extend(note.bytes());
                *place = board.said.start();
            }
            let chunk = board.said.read(*place, CHUNK);
            *place += chunk.len() as u64;
            client.outbox.extend(chunk);
        }
        let mut interest = EpollFlags::empty();
        interest.set(EpollFlags::EPOLLIN, !typing);
        interest.set(EpollFlags::EPOLLOUT, !client.outbox.is_empty());
        if interest != client.interest {
            client.interest = interest;
            let event = &mut EpollEvent::new(interest, Token::Client(number).number());
            return self.epoll.modify(&client.stream, event).is_ok();
        }
        true
    }

    /// The lab has ended: tells those who wait for that, and the others that nothing comes any more.
    pub fn say_farewell(&mut self) {
        let name = self.plan.name.clone();
        for client in self.clients.values_mut() {
            match client.mode {
                Mode::Waiting(Waiting::Down) => {
                    client.answer(Ok(done(format!("lab {name} is down"))))
                }
                Mode::Waiting(_) => client.answer(Err(format!("lab {name} has ended"))),
                _ => {}
            }
            let blocking = client.stream.set_nonblocking(false);
            let _ = blocking.and_then(|()| client.stream.set_write_timeout(Some(FAREWELL)));
            // Who does not listen misses it.
            let _ = client.stream.write_all(&client.outbox);
        }
    }
}

/// Reads a request.
fn parse(line: &[u8]) -> Result<super::super::protocol::Request, String> {
    let version = serde_json::from_slice::<Value>(line)
        .map_err(|error| format!("the request is no JSON: {error}"))?["hearth_lab"]
        .as_u64();
    if version != Some(VERSION.into()) {
        return Err(format!(
            "the lab speaks version {VERSION}, the request's is {}: use the `hearth` that the lab was started with",
            version.map_or("missing".into(), |version| version.to_string())
        ));
    }
    serde_json::from_slice::<Envelope>(line)
        .map(|envelope| envelope.request)
        .map_err(|error| format!("the request is not understood: {error}"))
}
