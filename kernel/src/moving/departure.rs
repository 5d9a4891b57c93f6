//! The end of a guest that goes to another board, or to a file of a tool.
//!
//! It is sent while it runs, and stopped for the rest. When the other board says that it has all of it, the cluster is told, and decides which of the two copies is the guest: from then on this one
//! waits for that, still. Before, on any error, on silence, and when the move is called off, it goes on here as if nothing had been.
//!
//! One that is saved goes on as soon as the last of it was read. It leaves only while the board may let the guest's own output leave.

use alloc::boxed::Box;
use core::fmt;
use core::ops::Range;

use cluster_proto::agent::book::Endpoint;
use cluster_proto::bulk::frame::{Body, Key, MAX_FRAME, Name};
use cluster_proto::bulk::{CHUNK, Chunk, MAX_RING, Outgoing, Refusal, Saved, Verdict};
use cluster_proto::ids::{BoardId, Micros, Span};
use cluster_proto::ledger::types::Reason;
use cluster_proto::node::Local;
use cluster_proto::service::progress::Step as Told;
use el2_hyp::arch::timer;
use el2_hyp::host::Network as _;
use el2_hyp::record::MAX_SECTION;
use el2_hyp::record::precopy::Limits;

use super::hold::{self, Step};
use super::lanes::{self, Pause};
use super::sender::{self, Sender, Stopped};
use super::{progress, room};
use crate::guests::{self, Slot};
use crate::host::CoreHost;
use crate::net::ports::View;
use crate::net::{self, microseconds};
use crate::{info, warn};

/// How long the other board may be silent.
const PATIENCE: Span = Span::millis(3_000);
/// How often it is asked how it stands, when all has come and it has not said.
const ASK_EVERY: Span = Span::millis(20);
/// Round trips of a hand-over, at the least: the cluster is asked, agrees, and says so to the other board.
const HAND_OVER_TRIPS: u64 = 3;
/// Chunks that go to the card before its doorbell.
const BATCH: usize = 16;

/// Why a guest stays.
enum Failed {
    /// The sender says so.
    Stopped(Stopped),
    /// The other end does not take it.
    Refused(Refusal),
    /// It is silent.
    Silent,
    /// The board has no lease for it.
    Leaseless,
}

impl Failed {
    fn reason(&self) -> Reason {
        match self {
            Self::Stopped(Stopped::Diverges(_)) => Reason::NotConverged,
            Self::Stopped(Stopped::NoTables(_) | Stopped::NoRoom) => Reason::CannotMove,
            Self::Refused(_) => Reason::DestinationRefused,
            Self::Silent => Reason::DestinationLost,
            Self::Leaseless => Reason::Leaseless,
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(why) => write!(f, "{why}"),
            Self::Refused(why) => write!(f, "the other end does not take it: {why}"),
            Self::Silent => f.write_str("the other end does not answer"),
            Self::Leaseless => f.write_str("this board has no lease"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The guest is being sent.
    Sending,
    /// All was sent; the other board is to say that it has it.
    Sent,
    /// The cluster decides.
    Asking,
    /// The guest goes on, or goes; the log of what it writes ends.
    Ending,
}

/// Where a guest goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// To a board, and goes on there.
    Board(BoardId),
    /// To a file, and goes on here.
    File,
}

/// A guest that leaves.
pub struct Departure {
    place: usize,
    to: To,
    peer: Endpoint,
    key: Key,
    sender: Sender,
    out: Outgoing<Box<[Chunk]>>,
    buffer: Box<[u8; MAX_SECTION]>,
    /// What of the buffer is still to be sent.
    section: Range<usize>,
    phase: Phase,
    /// It was saved, and goes on here.
    has_gone_on: bool,
    /// The other board has taken the first chunk: it has a place for the guest, with clear memory.
    is_let_in: bool,
    /// The guest may not be still for longer than the operator has said, hand-over and all.
    is_bound: bool,
    asked: Micros,
}

fn now() -> Micros {
    Micros(microseconds(timer::now()))
}

impl Departure {
    /// The guest of a place is to go there, within `limits`; the other end is at `peer`.
    pub fn new(place: usize, key: Key, (to, peer): (To, Endpoint), limits: Limits) -> Box<Self> {
        let ring = alloc::vec![Chunk::EMPTY; MAX_RING].into_boxed_slice();
        Box::new(Self {
            place,
            to,
            peer,
            key,
            sender: Sender::new(limits),
            out: Outgoing::new(ring, now()),
            buffer: room(),
            section: 0..0,
            phase: Phase::Sending,
            has_gone_on: false,
            is_let_in: false,
            is_bound: limits.at_worst == limits.downtime,
            asked: now(),
        })
    }

    pub fn place(&self) -> usize {
        self.place
    }

    pub fn name(&self) -> Name {
        self.key.name()
    }

    /// Hears what has come, and goes on by a step.
    pub fn turn(&mut self, host: &CoreHost) -> Pause {
        let over = lanes::is_abandoned(self.place) || guests::is_copied(self.place).is_none();
        if over && self.phase != Phase::Ending {
            self.end();
        }
        // What is heard may take it on to the next step.
        if self.phase == Phase::Sent
            && let Some(due) = self.held()
        {
            return Pause::Until(due);
        }
        self.hear();
        if let Some(due) = self.held() {
            return Pause::Until(due);
        }
        let result = match self.phase {
            Phase::Ending => return self.end_log(),
            Phase::Asking => return Pause::Until(u64::MAX),
            Phase::Sending => self.send(host),
            Phase::Sent => self.ask(host),
        };
        result.unwrap_or_else(|why| {
            warn!("guest {} stays here: {why}", self.slot().guest.name);
            let Name { guest, epoch, id } = self.name();
            let reason = why.reason();
            lanes::tell(Local::Stays {
                guest,
                epoch,
                id,
                reason,
            });
            self.end();
            Pause::Busy
        })
    }

    /// Whether it is to wait before what it does next; until when.
    fn held(&self) -> Option<u64> {
        let step = match self.phase {
            Phase::Asking | Phase::Ending => return None,
            Phase::Sent if self.out.verdict() == Verdict::Whole => Step::Complete,
            Phase::Sent => Step::Sent,
            Phase::Sending if !self.is_let_in => match self.sender.report().sent {
                0 => Step::Knock,
                _ => return None,
            },
            Phase::Sending => self.sender.stands()?,
        };
        hold::waits(step, &self.slot().guest.name)
    }

    fn hear(&mut self) {
        let mut frame = [0; MAX_FRAME];
        while let Some(length) = lanes::next_frame(self.place, &mut frame) {
            if let Some(Body::Seen(seen)) = self.key.read(&frame[..length]) {
                let is_let_in = !self.is_let_in && seen.next > 0;
                self.out.hear(now(), &seen);
                if is_let_in {
                    self.is_let_in = true;
                    self.sender.is_taken();
                }
            }
        }
    }

    /// Sends what there is room for.
    fn send(&mut self, host: &CoreHost) -> Result<Pause, Failed> {
        self.look_at_peer()?;
        if self.section.is_empty() && self.has_gone_on {
            self.phase = Phase::Sent;
            return Ok(Pause::Busy);
        }
        if self.section.is_empty() {
            let slot = self.slot();
            if let Some(trip) = self.out.shortest().filter(|_| self.is_bound) {
                self.sender.hands_over_in(HAND_OVER_TRIPS * trip.0);
            }
            let step = self.sender.step(slot, &mut self.buffer[..]);
            match step.map_err(Failed::Stopped)? {
                sender::Step::More => return Ok(Pause::Busy),
                sender::Step::Section(length) => {
                    self.section = 0..length;
                    self.tell();
                }
                sender::Step::End => {
                    self.all_read();
                    return Ok(Pause::Busy);
                }
            }
        }
        let network = net::network().ok_or(Failed::Silent)?;
        let view = network.view(host);
        self.send_again(&view);
        let mut sent = 0;
        while sent < BATCH && !self.section.is_empty() && self.out.has_room() {
            let end = self.section.end.min(self.section.start + CHUNK);
            let chunk = self.section.start..end;
            let number = self.out.push(now(), &self.buffer[chunk]);
            self.section.start = end;
            self.send_chunk(number, &view);
            sent += 1;
        }
        view.finish();
        if sent > 0 || self.out.has_room() {
            return Ok(Pause::Busy);
        }
        Ok(self.wait())
    }

    /// All of the guest was read. One that is saved goes on; how that went is told behind it.
    fn all_read(&mut self) {
        if let To::Board(_) = self.to {
            self.phase = Phase::Sent;
            return;
        }
        let report = *self.sender.report();
        self.sender.give_up(self.slot());
        let still = microseconds(timer::now() - report.frozen_at);
        let told = Saved {
            // A limit of a second is kept.
            still_us: still as u32,
            rounds: report.rounds,
        };
        self.buffer[..Saved::BYTES].copy_from_slice(&told.to_bytes());
        (self.section, self.has_gone_on) = (0..Saved::BYTES, true);
        info!(
            "guest {} is saved: {} rounds, {} bytes, {still} us still",
            self.slot().guest.name,
            report.rounds,
            report.sent,
        );
    }

    /// All was sent: has it come?
    fn ask(&mut self, host: &CoreHost) -> Result<Pause, Failed> {
        self.look_at_peer()?;
        if self.out.verdict() == Verdict::Whole
            && let To::Board(to) = self.to
        {
            let Name { guest, epoch, id } = self.name();
            lanes::tell(Local::Ready { guest, epoch, id });
            self.phase = Phase::Asking;
            progress::update(self.name(), |told| {
                self.sender.tell(told);
                told.rest_us = progress::shortened(self.sender.rests());
                told.step = Told::Asks;
            });
            let (round_trip, repeats) = self.out.report();
            info!(
                "guest {} is at board {}: {}; a round trip takes {} us, {repeats} datagrams went twice",
                self.slot().guest.name,
                to,
                self.sender.report().told(timer::now()),
                round_trip.0,
            );
            return Ok(Pause::Busy);
        }
        if self.out.verdict() == Verdict::Whole {
            self.end();
            return Ok(Pause::Busy);
        }
        let network = net::network().ok_or(Failed::Silent)?;
        let view = network.view(host);
        self.send_again(&view);
        if self.out.is_all_seen()
            && now().since(self.asked) >= ASK_EVERY
            && let Some(last) = self.out.last()
        {
            self.asked = now();
            self.send_chunk(last, &view);
        }
        view.finish();
        Ok(self.wait())
    }

    /// Tells how it goes.
    fn tell(&self) {
        if self.is_let_in {
            progress::update(self.name(), |told| self.sender.tell(told));
        }
    }

    fn look_at_peer(&self) -> Result<(), Failed> {
        if let Verdict::Refused(why) = self.out.verdict() {
            return Err(Failed::Refused(why));
        }
        let may_leave = || guests::gate(self.place).permit().covers(net::now());
        if self.to == To::File && !may_leave() {
            return Err(Failed::Leaseless);
        }
        if now().since(self.out.heard()) >= PATIENCE {
            return Err(Failed::Silent);
        }
        Ok(())
    }

    fn send_again(&mut self, view: &View<'_>) {
        for _ in 0..BATCH {
            let Some(number) = self.out.next_lost(now()) else {
                return;
            };
            self.send_chunk(number, view);
        }
    }

    fn send_chunk(&self, number: u32, view: &View<'_>) {
        let mut frame = [0; MAX_FRAME];
        let bytes = self.out.bytes(number);
        let length = self.key.write(&Body::Chunk { number, bytes }, &mut frame);
        if let Some(network) = net::network() {
            network.send_bulk(self.peer, &frame[..length], view);
        }
    }

    /// Until something comes, a chunk is taken for lost, or the other board is to be asked.
    fn wait(&self) -> Pause {
        let due = self.out.deadline().min(now().after(ASK_EVERY));
        Pause::Until(timer::now() + net::ticks(due.since(now()).0))
    }

    /// The move is over here. The guest goes on unless it is frozen, or gone.
    fn end(&mut self) {
        progress::update(self.name(), |told| {
            if told.step != Told::Left {
                told.step = Told::Stays;
            }
        });
        self.sender.give_up(self.slot());
        self.phase = Phase::Ending;
    }

    fn end_log(&mut self) -> Pause {
        if matches!(
            self.sender.step(self.slot(), &mut []),
            Ok(sender::Step::More)
        ) {
            return Pause::Busy;
        }
        guests::end_copy(self.place);
        Pause::Over
    }

    fn slot(&self) -> &'static Slot {
        guests::find(self.place).expect("a guest that is copied stays")
    }
}
