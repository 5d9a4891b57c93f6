//! Looks at a lab's cluster as an operator's tool does, for a trace and for scripts: who leads, who owns a guest.
//!
//! All boards are asked at once what they say of themselves. The leader is whoever says so in the newest term; the ledger is read from the board that
//! knows most of it, and only when it has grown.

use std::fs;
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::{Duration, Instant};

use cluster_proto::client::{Client, Question, Reply, gather};
use cluster_proto::ids::{BoardId, BoardSet, Era, Micros, Term};
use cluster_proto::ledger::Ledger;
use cluster_proto::ledger::page::Cursor;
use cluster_proto::ledger::types::Phase;
use cluster_proto::limits::{BOARDS, GUESTS, VOLUMES};
use cluster_proto::package::Package;
use cluster_proto::wire::auth::{ClusterKey, cluster_tag};
use cluster_proto::wire::message::{Role, Status};

use super::trace::View;
use crate::cluster::wire::{PORT, Wire};
use crate::lab::LabWire;

/// How long boards are waited for that may be off. On a machine that has much else to do an answer takes some milliseconds.
const PATIENCE: Duration = Duration::from_millis(60);
/// How long a page of the ledger is waited for, from a board that has just answered.
const PAGE: Duration = Duration::from_millis(500);
/// Pages of a ledger that are asked for before it is given up: it changes faster than it can be read.
const MAX_PAGES: usize = 200;
/// The shortest wait.
const LEAST: Duration = Duration::from_millis(1);

type Whole = Ledger<BOARDS, GUESTS, VOLUMES>;

/// A board as the package describes it, and the conversation with it.
struct Place {
    id: BoardId,
    name: String,
    address: SocketAddrV4,
    client: Client<ClusterKey>,
}

/// Whoever looks at a cluster.
pub struct Viewer<W> {
    wire: W,
    began: Instant,
    boards: Vec<Place>,
    ledger: Box<Whole>,
    /// The history that the ledger belongs to.
    era: Era,
    /// Whether the last look found a leader, and the ledger was as new as any board's.
    is_current: bool,
}

impl Viewer<LabWire> {
    /// Looks at the cluster of a lab, which it knows from a package in the lab's folder. `None` if its boards are in no cluster.
    ///
    /// # Errors
    /// If the lab does not tell, or its packages cannot be read.
    pub fn of_lab(lab: &str) -> Result<Option<Self>, String> {
        let (folder, boards) = crate::lab::packages(lab)?;
        let Some(board) = boards.first() else {
            return Ok(None);
        };
        let wire = LabWire::connect(lab, crate::lab::Ask::default())?;
        Self::of_package(wire, &folder.join(format!("{board}.cpio")))
    }
}

impl<W: Wire> Viewer<W> {
    /// Looks at the cluster that a package is for.
    fn of_package(wire: W, path: &Path) -> Result<Option<Self>, String> {
        let trouble = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let archive = match fs::read(path) {
            Ok(archive) => archive,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(trouble(&error)),
        };
        let package = Package::parse(&archive).map_err(|error| trouble(&error))?;
        let Some(key) = package.key() else {
            return Ok(None);
        };
        let manifest = package.manifest();
        let tag = cluster_tag(&key, manifest.summary().cluster.as_str());
        let mut boards = Vec::new();
        for (at, board) in manifest.boards().enumerate() {
            let Some(address) = board.address else {
                continue;
            };
            // A manifest has at most 16 boards.
            let id = BoardId(at as u8);
            let mut only = BoardSet(0);
            only.set(id, true);
            let mut entropy = [0; 8];
            rustix::rand::getrandom(&mut entropy, rustix::rand::GetRandomFlags::empty())
                .map_err(|error| format!("no random numbers: {error}"))?;
            let entropy = u64::from_le_bytes(entropy);
            boards.push(Place {
                id,
                name: board.name.as_str().to_string(),
                address: SocketAddrV4::new(address.address(), PORT),
                client: Client::new(ClusterKey::new(&key), &key, tag, only, entropy),
            });
        }
        if boards.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            wire,
            began: Instant::now(),
            boards,
            ledger: Box::new(Whole::new()),
            era: Era::BLANK,
            is_current: false,
        }))
    }

    /// What is so now; nothing if no board answers.
    ///
    /// # Errors
    /// If the wire is broken.
    pub fn look(&mut self, guest: &str) -> Result<Option<View>, String> {
        let heard = self.hear_all()?;
        self.is_current = false;
        let Some((knows, commit)) = heard
            .iter()
            .max_by_key(|(_, status)| (status.era, status.commit))
            .map(|(board, status)| (*board, (status.era, status.commit)))
        else {
            return Ok(None);
        };
        let (era, commit) = commit;
        // A cluster that was founded anew begins to count anew.
        if (self.era != era || self.ledger.index < commit) && self.read_ledger(knows)? {
            self.era = era;
        }
        let view = self.view(&heard, guest);
        self.is_current = view.leader.is_some() && self.era == era && self.ledger.index >= commit;
        Ok(Some(view))
    }

    /// Whether the last look found a leader, and knew of all that is agreed.
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    fn view(&self, heard: &[(BoardId, Status)], guest: &str) -> View {
        let newest = heard.iter().map(|(_, status)| (status.era, status.term));
        let newest = newest.max();
        let leads = |(_, status): &&(BoardId, Status)| {
            status.role == Role::Leader && Some((status.era, status.term)) == newest
        };
        let places = self.ledger.guests.iter();
        let place = places.into_iter().find(|place| {
            let found = place.guest.as_ref();
            found.is_some_and(|found| found.spec.name.as_str() == guest)
        });
        let mut view = View {
            leader: heard
                .iter()
                .find(leads)
                .and_then(|(board, _)| self.name(*board)),
            term: newest.map_or(0, |(_, Term(term))| term),
            ..View::default()
        };
        if let Some((place, guest)) = place.and_then(|place| Some((place, place.guest.as_ref()?))) {
            view.era = self.era.nonce;
            view.epoch = place.epoch.0;
            (view.phase, view.owner) = match guest.phase {
                Phase::Unowned => ("unowned".into(), None),
                Phase::Starting => ("starting".into(), self.name(guest.owner)),
                Phase::Running => ("running".into(), self.name(guest.owner)),
                Phase::Leaving => ("leaving".into(), self.name(guest.owner)),
            };
        }
        for (at, board) in self.ledger.boards.iter().enumerate() {
            if board.as_ref().is_some_and(|board| board.tenure.0 != 0) {
                // There are BOARDS of them.
                view.members.extend(self.name(BoardId(at as u8)));
            }
        }
        view
    }

    fn name(&self, board: BoardId) -> Option<String> {
        let found = self.boards.iter().find(|it| it.id == board);
        found.map(|it| it.name.clone())
    }

    /// What every board says of itself; those that are off say nothing.
    fn hear_all(&mut self) -> Result<Vec<(BoardId, Status)>, String> {
        let mut heard: Vec<(BoardId, Status)> = Vec::new();
        for at in 0..self.boards.len() {
            let board = self.boards[at].id;
            self.begin(at, Question::Peers { board })?;
        }
        let until = Instant::now() + PATIENCE;
        while heard.len() < self.boards.len() && Instant::now() < until {
            self.turn(until, |board, reply| {
                if let Reply::Peers(status, _) = reply {
                    heard.push((board, status));
                }
            })?;
        }
        Ok(heard)
    }

    /// Reads the ledger, page by page; says whether it is read. If that is not to be had now, it stays as it was, or becomes whole with the next look.
    fn read_ledger(&mut self, from: BoardId) -> Result<bool, String> {
        let Some(at) = self.boards.iter().position(|it| it.id == from) else {
            return Ok(false);
        };
        let mut ledger = Box::new(Whole::new());
        let mut next = Cursor::START;
        for _ in 0..MAX_PAGES {
            self.begin(at, Question::Show { from: next })?;
            let until = Instant::now() + PAGE;
            let mut read = None;
            while read.is_none() && Instant::now() < until {
                self.turn(until, |_, reply| {
                    if let Reply::Page(head, page) = reply {
                        read = Some(gather(&mut ledger, &head, page));
                    }
                })?;
            }
            match read {
                Some(Some(cursor)) => next = cursor,
                Some(None) => {
                    self.ledger = ledger;
                    return Ok(true);
                }
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Asks a board.
    fn begin(&mut self, at: usize, question: Question) -> Result<(), String> {
        let mut out = Out::default();
        let now = self.now();
        self.boards[at].client.ask(now, question, &mut out.sink());
        self.send(at, out)
    }

    /// Takes what comes next, or asks again what is due to be.
    fn turn(
        &mut self,
        until: Instant,
        mut take: impl FnMut(BoardId, Reply<'_>),
    ) -> Result<(), String> {
        let now = self.now();
        let due = self.boards.iter().filter_map(|it| it.client.deadline());
        let due = due.map(|due| due.0).min().unwrap_or(u64::MAX);
        let left = until.saturating_duration_since(Instant::now());
        let wait = Duration::from_micros(due.saturating_sub(now.0)).min(left);
        let came = self.wire.receive(wait.max(LEAST));
        let now = self.now();
        if let Some((from, datagram)) = came.map_err(|error| gone(&error))?
            && let Some(at) = self.boards.iter().position(|it| it.address == from)
        {
            let mut out = Out::default();
            let Place { id, client, .. } = &mut self.boards[at];
            if let Some(reply) = client.receive(now, &datagram, &mut out.sink()) {
                take(*id, reply);
            }
            return self.send(at, out);
        }
        for at in 0..self.boards.len() {
            let mut out = Out::default();
            // What is given up is asked again with the next look.
            let _ = self.boards[at].client.tick(now, &mut out.sink());
            self.send(at, out)?;
        }
        Ok(())
    }

    fn now(&self) -> Micros {
        // 584,000 years fit.
        Micros(self.began.elapsed().as_micros() as u64)
    }

    /// Sends what the conversation with a board wants sent.
    fn send(&mut self, at: usize, out: Out) -> Result<(), String> {
        let to = self.boards[at].address;
        for frame in out.0 {
            self.wire.send(to, &frame).map_err(|error| gone(&error))?;
        }
        Ok(())
    }
}

fn gone(error: &std::io::Error) -> String {
    format!("the lab is gone: {error}")
}

/// Frames that a conversation wants sent.
#[derive(Default)]
struct Out(Vec<Vec<u8>>);

impl Out {
    fn sink(&mut self) -> impl FnMut(BoardId, &[u8]) {
        move |_, frame| self.0.push(frame.to_vec())
    }
}
