//! `hearth guest save`: a guest that runs is written to a file, and runs on.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cluster_proto::bulk::frame::{Body, Key, MAX_FRAME, Name};
use cluster_proto::bulk::{Chunk, Incoming, MAX_RING, Refusal, Saved, Verdict};
use cluster_proto::ids::{BoardId, MoveId};
use cluster_proto::ledger::types::Phase;
use cluster_proto::placement::held_by_volume;
use cluster_proto::service::{Parcel, Unsaved};
use el2_hyp::record::MAX_SECTION;
use serde::Serialize;

use super::interrupt::Interrupt;
use super::orders::Done;
use super::progress::Bar;
use super::reach::Reach;
use super::saved::{Checker, Draft};
use super::session::Session;
use super::view::board_name;
use super::{why, words};
use crate::pack::{Size, secret};
use crate::report::{Answer, EXIT_CODES, Failure};

/// A board is asked again after this silence.
const AGAIN: Duration = Duration::from_millis(250);
/// It is told what has come at least so often.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// A board that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// One that is busy is waited for.
const BUSY_PATIENCE: Duration = Duration::from_secs(60);
/// Frames that are taken before the board is told what has come.
const BATCH: usize = 16;
/// The longest wait for a frame.
const STEP: Duration = Duration::from_millis(20);
/// The last word may be lost: it is said so often.
const FAREWELLS: usize = 3;

const ABOUT: &str = "\
The guest is copied while it runs, stands still for a moment, of which the length is told, and runs on. The file holds it as it was at that moment: memory, processors, devices, what its disks have beyond
their images, and what its console has shown. `hearth guest restore` has it go on from there.

The file is not encrypted, nor is what goes over the network, and it has whatever the guest had in memory. It is there under its name when all of it is; Ctrl-C calls the
save off, and leaves nothing behind.

It is refused if the guest does not run, or has a disk on a local volume; it ends with a reason if the guest moves, ends or is frozen meanwhile.";

/// Write a guest that runs to a file; it runs on.
#[derive(clap::Args)]
#[command(after_long_help = format!("{ABOUT}\n\n{EXIT_CODES}"))]
pub struct Arguments {
    /// The guest.
    guest: String,
    /// The file; otherwise GUEST.hearth in this folder.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Replace the file if it exists.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    reach: Reach,
}

/// What was saved.
#[derive(Debug, Serialize)]
struct Told {
    /// In words.
    done: String,
    guest: String,
    file: PathBuf,
    bytes: u64,
    /// How long the guest was still, milliseconds.
    still_ms: f64,
    /// In how many rounds it was copied while it ran.
    rounds: u32,
    seconds: f64,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.done)
    }
}

/// What comes, on its way to the file.
struct Record {
    checker: Checker,
    section: Vec<u8>,
    is_over: bool,
    draft: Draft,
    told: Option<Saved>,
}

impl Record {
    /// Takes the next chunk.
    fn take(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        let wrong = |why: String| Failure::Trouble(format!("what the board sends is wrong: {why}"));
        if self.is_over {
            let told = Saved::from_bytes(chunk).filter(|_| self.told.is_none());
            self.told = Some(told.ok_or_else(|| wrong("something follows its end".into()))?);
            return Ok(());
        }
        self.section.extend(chunk);
        if self.section.len() > MAX_SECTION {
            return Err(wrong("a section is too long".into()));
        }
        // Chunks do not reach from one section into the next.
        if let Some(is_last) = self.checker.take(&self.section).map_err(wrong)? {
            self.draft.write(&self.section)?;
            self.section.clear();
            self.is_over = is_last;
        }
        Ok(())
    }
}

/// A guest on its way to a file.
struct Saving<'a> {
    session: &'a mut Session,
    guest: &'a str,
    board: BoardId,
    name: Name,
    key: Key,
    into: Incoming<Vec<Chunk>>,
    record: Record,
    begun: Instant,
    heard: Instant,
    asked: Option<Instant>,
    /// When the board was told last what has come.
    said: Instant,
}

/// How it ended, if nothing went wrong.
enum End {
    Saved(Saved),
    CalledOff,
}

/// Does it.
///
/// # Errors
/// It is refused, nobody answers, the file cannot be written, or Ctrl-C.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let mut session = arguments.reach.open()?;
    let guest = &arguments.guest;
    let (board, name) = find(&mut session, guest)?;
    let named = || PathBuf::from(format!("{guest}.hearth"));
    let path = arguments.to.clone().unwrap_or_else(named);
    let interrupt = Interrupt::catch()?;
    let record = Record {
        checker: Checker::new(),
        section: Vec::new(),
        is_over: false,
        draft: Draft::begin(&path, arguments.force)?,
        told: None,
    };
    let key = session.stream_key(name);
    let now = Instant::now();
    let mut saving = Saving {
        session: &mut session,
        guest,
        board,
        name,
        key,
        into: Incoming::new(vec![Chunk::EMPTY; MAX_RING]),
        record,
        begun: now,
        heard: now,
        asked: None,
        said: now,
    };
    let end = saving.go(&interrupt);
    let (last, end) = match end {
        Ok(End::Saved(saved)) => (Verdict::Whole, Ok(Some(saved))),
        Ok(End::CalledOff) => (Verdict::Refused(Refusal::CalledOff), Ok(None)),
        Err(failure) => (Verdict::Refused(Refusal::CalledOff), Err(failure)),
    };
    saving.bid_farewell(last);
    let Some(saved) = end? else {
        let done = format!("called off: {guest} runs on, and no file was written");
        let complete = Some(false);
        let done = Done {
            complete,
            ..Done::new(done)
        };
        return Err(Failure::Found(done.into()));
    };
    let (bytes, seconds) = (saving.record.checker.bytes(), now.elapsed().as_secs_f64());
    saving.record.draft.finish()?;
    let still_ms = f64::from(saved.still_us) / 1000.0;
    let shown = path.display();
    Ok(Told {
        done: format!(
            "{guest} is saved to {shown}: {} in {seconds:.1} s; it was still for {still_ms:.1} ms, and runs on",
            Size(bytes)
        ),
        guest: guest.clone(),
        file: path,
        bytes,
        still_ms,
        rounds: saved.rounds,
        seconds: (seconds * 10.0).round() / 10.0,
    }
    .into())
}

/// Where the guest runs, and the name of its stream.
fn find(session: &mut Session, name: &str) -> Result<(BoardId, Name), Failure> {
    let look = session.look()?;
    let id = why::find(&look, name)?;
    let guest = look.ledger.guest(id);
    let Some(guest) = guest.filter(|guest| guest.phase == Phase::Running) else {
        let phase = guest.map_or(Phase::Unowned, |guest| guest.phase);
        return Err(Failure::Trouble(format!(
            "{name} is {}, and only a guest that runs is saved: `hearth why {name}` says what it waits for",
            words::phase(phase)
        )));
    };
    if let Some(holder) = held_by_volume(&look.ledger, id) {
        return Err(Failure::Trouble(format!(
            "a local volume of {name} is on {}: what is on it is in no file, so neither is {name}",
            board_name(&look, holder)
        )));
    }
    let random = secret::random();
    let random = random.map_err(|error| Failure::Trouble(format!("no random numbers: {error}")))?;
    let stream = Name {
        guest: id,
        epoch: look.ledger.epoch(id),
        id: MoveId::of_file(u64::from_le_bytes(random)),
    };
    Ok((guest.owner, stream))
}

impl Saving<'_> {
    fn go(&mut self, interrupt: &Interrupt) -> Result<End, Failure> {
        let mut bar = Bar::new(self.guest);
        loop {
            if interrupt.wait(Duration::ZERO) {
                return Ok(End::CalledOff);
            }
            self.ask()?;
            let heard = self.hear()?;
            self.hear_parcels()?;
            if heard || self.said.elapsed() > TELL_EVERY {
                self.say(Verdict::Going)?;
            }
            if let Some(saved) = self.record.told {
                return Ok(End::Saved(saved));
            }
            if self.heard.elapsed() > PATIENCE {
                let board = self.session.name(self.board);
                return Err(Failure::Trouble(format!(
                    "board {board} does not answer any more; no file was written"
                )));
            }
            let checker = &self.record.checker;
            bar.show(checker.percent(), checker.bytes());
        }
    }

    /// Asks the board to begin, or how it goes, if nothing was heard for a while.
    fn ask(&mut self) -> Result<(), Failure> {
        let due = |at: Instant| at.elapsed() > AGAIN;
        if self.asked.is_some_and(|at| !due(at) || !due(self.heard)) {
            return Ok(());
        }
        let Name { guest, epoch, id } = self.name;
        let question = Parcel::Save { guest, epoch, id };
        // Not before the board knows this tool: then it is asked again.
        if self.session.post(self.board, &question)? {
            self.asked = Some(Instant::now());
        }
        Ok(())
    }

    /// Takes what comes; whether something did.
    fn hear(&mut self) -> Result<bool, Failure> {
        let mut patience = STEP;
        for count in 0..BATCH {
            let Some(frame) = self.session.bulk(patience)? else {
                return Ok(count > 0);
            };
            patience = Duration::ZERO;
            if let Some(Body::Chunk { number, bytes }) = self.key.read(&frame) {
                self.heard = Instant::now();
                let record = &mut self.record;
                self.into.take(number, bytes, |chunk| record.take(chunk))?;
            }
        }
        Ok(true)
    }

    /// Hears whether the board will not.
    fn hear_parcels(&mut self) -> Result<(), Failure> {
        while let Some((from, bytes)) = self.session.next_parcel() {
            let Ok(Parcel::NotSaved { guest, id, why }) = Parcel::get(&bytes) else {
                continue;
            };
            if from != self.board || (guest, id) != (self.name.guest, self.name.id) {
                continue;
            }
            if why == Unsaved::Busy && self.begun.elapsed() < BUSY_PATIENCE {
                self.heard = Instant::now();
                continue;
            }
            let (guest, board) = (self.guest, self.session.name(self.board));
            let why = match why {
                Unsaved::NotHere => {
                    format!(
                        "it does not run on {board} any more: `hearth why {guest}` says where it is; try again"
                    )
                }
                Unsaved::Busy => format!("{board} moves or saves others, or it: try again later"),
                Unsaved::NoRoom => {
                    format!("{board} has no memory left for the log of what it writes")
                }
                Unsaved::TooFast => "it writes to its memory faster than that can be sent".into(),
                Unsaved::Silent => format!("{board} did not hear this tool any more"),
                Unsaved::Pinned => "it has a disk on its board's own, which is in no file".into(),
                Unsaved::Frozen => format!("it is frozen: {board} has no lease just now"),
            };
            return Err(Failure::Trouble(format!("{guest} is not saved: {why}")));
        }
        Ok(())
    }

    fn say(&mut self, verdict: Verdict) -> Result<(), Failure> {
        self.said = Instant::now();
        let mut frame = [0; MAX_FRAME];
        let seen = self.into.seen(verdict);
        let length = self.key.write(&Body::Seen(seen), &mut frame);
        self.session.send_bulk(self.board, &frame[..length])
    }

    /// Tells the board the end, as surely as can be without waiting for an answer: one that does not hear it finds out by itself.
    fn bid_farewell(&mut self, last: Verdict) {
        for _ in 0..FAREWELLS {
            if self.say(last).is_err() {
                return;
            }
            std::thread::sleep(STEP);
        }
    }
}
