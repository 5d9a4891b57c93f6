//! The lab's one process: it has the switch, the boards as children, and the control socket.
//!
//! Everything happens in one thread, which waits for sockets, signals and the next moment that something is due. That thread is also the
//! boards' parent: when it ends, however it ends, the kernel kills them (see [`super::spawn`]). [`boards`] are watched, [`clients`] talks with the operator's
//! tool, [`commands`] does what it asks for, [`journal`] remembers what happened.

mod boards;
mod clients;
mod commands;
mod journal;

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use smoltcp::wire::Ipv4Cidr;

use super::board::Board;
use super::forward::Forwarder;
use super::plan::{LAB_LINK, Plan};
use super::ports::{Batch, Ports};
use super::protocol::{LabState, address_prefix};
use super::station::{Desk, Station};
use super::switch::pipe::Time;
use super::switch::random::Seed;
use super::switch::{PortId, Switch};
use clients::Client;
use journal::Entries;

/// All boards must run within this.
const START: Duration = Duration::from_secs(120);
/// Boards that are told to end and have not by then are killed.
const END: Duration = Duration::from_secs(3);
/// Batches that are read from one board before others have their turn.
const BATCHES: usize = 4;
/// The address of the station for clients' datagrams, beside the forwarder's.
const STATION_MAC: [u8; 6] = [0x02, 0x68, 0x6c, 0xff, 0xff, 0x02];
/// Events taken at once.
const EVENTS: usize = 64;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Signals,
    Timer,
    Listener,
    Forwarder,
    Network(usize),
    Console(usize),
    Control(usize),
    Client(u64),
}

impl Token {
    /// Where the kind stands in a token's number.
    const KIND: u32 = 56;

    fn number(self) -> u64 {
        let (kind, index) = match self {
            Self::Signals => (0, 0),
            Self::Timer => (1, 0),
            Self::Listener => (2, 0),
            Self::Forwarder => (3, 0),
            Self::Network(board) => (4, board as u64),
            Self::Console(board) => (5, board as u64),
            Self::Control(board) => (6, board as u64),
            Self::Client(number) => (7, number),
        };
        kind << Self::KIND | index
    }

    fn of(number: u64) -> Self {
        let index = number & ((1 << Self::KIND) - 1);
        // Only numbers that were made above come back.
        let board = index as usize;
        match number >> Self::KIND {
            0 => Self::Signals,
            1 => Self::Timer,
            2 => Self::Listener,
            3 => Self::Forwarder,
            4 => Self::Network(board),
            5 => Self::Console(board),
            6 => Self::Control(board),
            _ => Self::Client(index),
        }
    }
}

/// A place for clients on the lab's network.
struct Seat {
    port: PortId,
    station: Station,
    desk: Desk,
}

impl Seat {
    fn new(port: PortId, mac: [u8; 6], address: Option<Ipv4Addr>) -> Self {
        Self {
            port,
            station: Station::new(mac, address),
            desk: Desk::default(),
        }
    }
}

/// Tells whoever began the lab how that went; false if nobody is there to hear it.
type Report<'r> = Box<dyn FnOnce(Result<LabState, String>) -> bool + 'r>;

/// A running lab.
struct Supervisor<'r> {
    plan: Plan,
    began: Instant,
    /// When that was, after the Unix epoch.
    epoch: Duration,
    journal: Entries,
    epoll: Rc<Epoll>,
    signals: SignalFd,
    timer: TimerFd,
    armed: Option<Time>,
    listener: UnixListener,
    switch: Switch,
    ports: Ports,
    batch: Batch,
    boards: Vec<Board>,
    /// Boards that are started again when they have ended.
    revive: Vec<bool>,
    forwarder: Forwarder,
    forwarder_port: PortId,
    /// The forwarder is to have a turn.
    forward: bool,
    forward_due: Option<Time>,
    /// The stations by which clients exchange datagrams with boards: the first shares the forwarder's link, each witness has one.
    seats: Vec<Seat>,
    clients: HashMap<u64, Client>,
    next_client: u64,
    /// Something has happened that clients may wait for.
    news: bool,
    report: Option<Report<'r>>,
    /// The lab ends; by then.
    ending: Option<Time>,
    /// Why, if not because it was told to.
    trouble: Option<String>,
}

/// Runs a lab until it is told to end. `report` hears once whether its boards have begun to run.
///
/// # Errors
/// Why it could not begin or go on; then `report` has heard the same, unless it had been called before.
pub fn run<'r>(
    plan: Plan,
    report: impl FnOnce(Result<LabState, String>) -> bool + 'r,
) -> Result<(), String> {
    let mut report: Option<Report<'r>> = Some(Box::new(report));
    let result = Supervisor::new(plan).and_then(|mut supervisor| {
        supervisor.report = report.take();
        let result = supervisor.run();
        report = supervisor.report.take();
        result
    });
    // By now its sockets are closed.
    if let (Err(trouble), Some(report)) = (&result, report.take()) {
        report(Err(trouble.clone()));
    }
    result
}

impl<'r> Supervisor<'r> {
    fn new(plan: Plan) -> Result<Self, String> {
        let name = &plan.name;
        let address = format!("{}{name}", address_prefix());
        let listener = SocketAddr::from_abstract_name(address)
            .and_then(|address| UnixListener::bind_addr(&address))
            .map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => {
                    format!("lab {name} is up already: `hearth lab down --name {name}` ends it, `--name` gives another name")
                }
                _ => format!("cannot listen for commands: {error}"),
            })?;
        Self::with(plan, listener).map_err(|error: Errors| error.0)
    }

    /// The rest of the making, with the name taken.
    fn with(plan: Plan, listener: UnixListener) -> Result<Self, Errors> {
        listener.set_nonblocking(true)?;
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGCHLD,
        ] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )?;
        let epoll = Rc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        let began = Instant::now();
        let epoch = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();

        let mut switch = Switch::new(Seed(plan.seed));
        let mut boards = Vec::new();
        for board in &plan.boards {
            let port = switch.add(&board.name);
            boards.push(Board::new(board.clone(), port, &plan.folder)?);
        }
        let forwarder_port = switch.add(LAB_LINK);
        let mut ports = Ports::new(boards.len() + 1, Rc::clone(&epoll), epoch);
        ports.plug_inside(forwarder_port);
        let mut seats = vec![Seat::new(forwarder_port, STATION_MAC, None)];
        for board in &boards {
            let witness = board.plan.witness();
            seats.extend(witness.map(|it| Seat::new(board.port, board.plan.mac, Some(it.address))));
        }
        let address = plan
            .address
            .map(|(address, prefix)| Ipv4Cidr::new(address, prefix));
        let forwarder = Forwarder::new(address, plan.seed, Time(0))?;

        let input = |token: Token| EpollEvent::new(EpollFlags::EPOLLIN, token.number());
        epoll.add(&signals, input(Token::Signals))?;
        epoll.add(&timer, input(Token::Timer))?;
        epoll.add(&listener, input(Token::Listener))?;
        epoll.add(forwarder.events(), input(Token::Forwarder))?;
        Ok(Self {
            revive: vec![false; boards.len()],
            plan,
            began,
            epoch,
            journal: Entries::default(),
            epoll,
            signals,
            timer,
            armed: None,
            listener,
            switch,
            ports,
            batch: Batch::new(),
            boards,
            forwarder,
            forwarder_port,
            forward: false,
            forward_due: None,
            seats,
            clients: HashMap::new(),
            next_client: 0,
            news: true,
            report: None,
            ending: None,
            trouble: None,
        })
    }

    fn now(&self) -> Time {
        // 584 years fit.
        Time(self.began.elapsed().as_nanos() as u64)
    }

    fn after(&self, duration: Duration) -> Time {
        Time(self.now().0.saturating_add(duration.as_nanos() as u64))
    }

    fn run(&mut self) -> Result<(), String> {
        for board in 0..self.boards.len() {
            if let Err(trouble) = self.start(board) {
                self.fail(trouble);
                break;
            }
        }
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            self.turn();
            if self.ending.is_some() && self.boards.iter().all(|board| board.process.is_none()) {
                break;
            }
            self.arm();
            self.ports.flush();
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(format!("cannot wait for events: {error}")),
            };
            for event in &events[..count] {
                self.event(Token::of(event.data()), event.events());
            }
        }
        self.say_farewell();
        self.trouble.take().map_or(Ok(()), Err)
    }

    fn event(&mut self, token: Token, flags: EpollFlags) {
        match token {
            Token::Network(board) => {
                if flags.contains(EpollFlags::EPOLLOUT) {
                    self.ports.drain(self.boards[board].port);
                }
                self.read_network(board);
            }
            Token::Forwarder => self.forward = true,
            Token::Timer => {
                // It is armed anew for whatever is due next.
                let _ = self.timer.wait();
                self.armed = None;
                self.news = true;
            }
            Token::Console(board) => self.hear_console(board),
            Token::Control(board) => self.hear_control(board, flags),
            Token::Signals => self.take_signals(),
            Token::Listener => self.accept(),
            Token::Client(number) => self.hear_client(number, flags),
        }
    }

    /// What is to be done after events, and when something is due.
    fn turn(&mut self) {
        let now = self.now();
        self.switch.poll(now, &mut self.ports);
        self.turn_forwarder(now);
        self.send_frames(now);
        self.note_guests();
        if self.news {
            self.news = false;
            self.announce(now);
            self.settle(now);
            self.serve_clients();
        }
        if self.ending.is_some_and(|limit| now >= limit) {
            for board in &mut self.boards {
                // A board that has ended needs no signal.
                let _ = board.signal(Signal::SIGKILL);
            }
            self.ending = Some(self.after(END));
        }
    }

    /// Lets the forwarder work until it has nothing more to say.
    fn turn_forwarder(&mut self, now: Time) {
        let due = self.forward_due.is_some_and(|due| due <= now);
        if !due && !self.forward && !self.ports.has_inside() {
            return;
        }
        self.forward = false;
        for seat in 0..self.seats.len() {
            self.turn_seat(now, seat);
        }
        if let Err(error) = self.forwarder.turn(now) {
            eprintln!("forwarder: {error}");
        }
        while let Some(frame) = self.forwarder.take() {
            self.switch
                .input(now, self.forwarder_port, &frame, &mut self.ports);
            self.forwarder.recycle(frame);
        }
        // Whoever waits for an echo looks now.
        self.news = true;
        self.forward |= self.forwarder.has_received();
        self.forward_due = self.forwarder.next_due(now);
    }

    /// Takes the frames that came for a station of this process.
    fn turn_seat(&mut self, now: Time, number: usize) {
        let port = self.seats[number].port;
        while let Some(frame) = self.ports.take(port) {
            let seat = &mut self.seats[number];
            let meant = seat.station.is_meant(&frame);
            if let Some(datagram) = seat.station.receive(now, &frame) {
                let takers: Vec<_> = seat.desk.takers(&datagram).collect();
                self.hand_out(takers, &datagram);
            }
            if port == self.forwarder_port && !meant {
                self.forwarder.receive(&frame);
            }
            self.ports.recycle(frame);
        }
    }

    /// Sends what stations of this process have for the switch.
    fn send_frames(&mut self, now: Time) {
        for seat in &mut self.seats {
            while let Some(frame) = seat.station.take() {
                self.switch.input(now, seat.port, &frame, &mut self.ports);
            }
        }
    }

    fn arm(&mut self) {
        let waiting = self.clients.values().filter_map(Client::deadline);
        let starting = self.report.as_ref().map(|_| Time(START.as_nanos() as u64));
        let answers = self.forward || self.ports.has_inside();
        let due = [
            self.switch.next_due(),
            self.forward_due,
            self.ending,
            starting,
            (answers || self.news).then_some(Time(0)),
        ];
        let due = due.into_iter().flatten().chain(waiting).min();
        if due == self.armed {
            return;
        }
        let left = |due: Time| Duration::from_nanos(due.0.saturating_sub(self.now().0).max(1));
        let set = match due {
            Some(due) => self.timer.set(
                Expiration::OneShot(TimeSpec::from_duration(left(due))),
                TimerSetTimeFlags::empty(),
            ),
            None => self.timer.unset(),
        };
        if let Err(error) = set {
            eprintln!("timer: {error}");
        }
        self.armed = due;
    }

    /// Takes what a board has sent, up to some batches; what is left comes up again.
    fn read_network(&mut self, board: usize) {
        let port = self.boards[board].port;
        for _ in 0..BATCHES {
            self.ports.read(port, &mut self.batch);
            let now = self.now();
            for frame in self.batch.frames() {
                self.switch.input(now, port, frame, &mut self.ports);
            }
            if !self.batch.is_full() {
                return;
            }
        }
    }

    /// How the lab is.
    fn state(&self) -> LabState {
        LabState {
            lab: self.plan.name.clone(),
            pid: std::process::id(),
            folder: self.plan.folder.clone(),
            seed: self.plan.seed,
            boards: self.boards.iter().map(Board::state).collect(),
            forwards: self.forwarder.list(),
            captures: self.ports.captures(),
        }
    }
}

/// Any of the errors of making a lab, as what is said of it.
struct Errors(String);

impl From<String> for Errors {
    fn from(error: String) -> Self {
        Self(error)
    }
}

impl From<io::Error> for Errors {
    fn from(error: io::Error) -> Self {
        Self(format!("cannot set the lab up: {error}"))
    }
}

impl From<Errno> for Errors {
    fn from(error: Errno) -> Self {
        Self::from(io::Error::from(error))
    }
}
