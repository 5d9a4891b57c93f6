//! `hearth guest restore`: a stopped guest goes on from a file.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cluster_proto::bulk::frame::{Body, Key, MAX_FRAME, Name};
use cluster_proto::bulk::{CHUNK, Chunk, MAX_RING, Outgoing, Refusal, Verdict};
use cluster_proto::ids::{BoardId, Epoch, GuestId, MoveId, Span};
use cluster_proto::ledger::types::{Operation, Origin, Outcome, Phase, Reason, Wanted};
use serde::Serialize;

use super::fitting::{class, fits, refusal};
use super::interrupt::Interrupt;
use super::orders::{Done, Waited, order, wait_until};
use super::progress::Bar;
use super::reach::Reach;
use super::saved::{Contents, Sections, inspect};
use super::session::{Look, Session};
use super::{why, words};
use crate::pack::{Size, secret};
use crate::report::{Answer, EXIT_CODES, Failure};

/// A board that says nothing for so long is given up.
const PATIENCE: Span = Span::millis(8_000);
/// How often it is asked how it stands when all has come and it has not said.
const ASK_EVERY: Span = Span::millis(20);
/// Chunks that are sent before what the board says is looked at.
const BATCH: usize = 16;
/// How long a guest that is to stop first, and one that has come, is waited for.
const RUN_PATIENCE: Duration = Duration::from_secs(60);

const ABOUT: &str = "\
The guest goes on from what `hearth guest save` wrote: with its memory, processors and devices, what its disks had beyond their images, and what its console had shown; its clock
goes on from that moment, too, and connections that it had then are over. It must be known to the cluster as it was when it was saved (vCPUs, memory, devices, images), and be
stopped: `hearth guest stop`, or --force. It goes to the board that suits it best, of the class of the one that it was saved on.

All of the file is checked before anything is sent, and again by the board. Until the board has all of it nothing runs; if that comes to nothing, also by Ctrl-C, the guest stays stopped.
A file can be restored any number of times; each time the guest is the same, down to the random numbers that its kernel will draw next.";

/// Have a stopped guest go on from a file.
#[derive(clap::Args)]
#[command(after_long_help = format!("{ABOUT}\n\n{EXIT_CODES}"))]
pub struct Arguments {
    /// The guest.
    guest: String,
    /// The file that `hearth guest save` wrote.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Where; otherwise on the board that suits it best.
    #[arg(long, value_name = "BOARD")]
    to: Option<String>,
    /// Stop the guest first if it runs: what it has in memory is lost.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    reach: Reach,
}

/// What became of it.
#[derive(Debug, Serialize)]
struct Told {
    /// In words.
    done: String,
    guest: String,
    board: String,
    epoch: u64,
    bytes: u64,
    seconds: f64,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.done)
    }
}

/// Why a guest does not go on.
enum Fails {
    /// Ctrl-C.
    CalledOff,
    /// The board does not take it.
    Refused(Refusal),
    /// The board does not answer.
    Silent,
    /// It left the board before it ran.
    Left(Reason),
    /// It does not run yet, after all that time.
    Late,
    /// Nobody can be asked, or the file cannot be read any more.
    Trouble(Failure),
}

impl From<Failure> for Fails {
    fn from(failure: Failure) -> Self {
        Self::Trouble(failure)
    }
}

/// Does it.
///
/// # Errors
/// The file is none, it is refused, nobody answers, or Ctrl-C.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let (guest, path) = (&arguments.guest, &arguments.from);
    let contents = inspect(path)?;
    let mut session = arguments.reach.open()?;
    let to = arguments.to.as_deref();
    let to = to.map(|name| session.board(name)).transpose()?;
    let look = session.look()?;
    let id = why::find(&look, guest)?;
    fits(&look, id, &contents, path)?;
    let interrupt = Interrupt::catch()?;
    be_stopped(&mut session, id, arguments, &interrupt)?;
    let begun = Instant::now();
    let (board, stream) = give_owner(&mut session, id, &contents, to)?;
    let key = session.stream_key(stream);
    let out = Outgoing::new(vec![Chunk::EMPTY; MAX_RING], session.now());
    let mut bringing = Bringing {
        session: &mut session,
        board,
        key,
        out,
        sections: Sections::open(path)?,
        section: Vec::new(),
        at: 0,
        is_read: false,
        sent: 0,
        total: contents.bytes,
    };
    let brought = bringing.go(guest, &interrupt);
    let runs = brought.and_then(|()| until_it_runs(&mut session, id, stream, &interrupt));
    let name = session.name(board);
    if let Err(why) = runs {
        return Err(give_up(&mut session, (guest, id), stream, &name, why));
    }
    let (epoch, seconds) = (stream.epoch.0 + 1, begun.elapsed().as_secs_f64());
    Ok(Told {
        done: format!(
            "{guest} goes on on {name} from {}: {} in {seconds:.1} s, epoch {epoch}",
            path.display(),
            Size(contents.bytes)
        ),
        guest: guest.clone(),
        board: name,
        epoch,
        bytes: contents.bytes,
        seconds: (seconds * 10.0).round() / 10.0,
    }
    .into())
}

/// Sees to it that the guest is stopped, if it may.
fn be_stopped(
    session: &mut Session,
    id: GuestId,
    arguments: &Arguments,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let name = &arguments.guest;
    let is_stopped = |look: &Look| {
        let guest = look.ledger.guest(id);
        guest.is_some_and(|it| (it.wanted, it.phase) == (Wanted::Stopped, Phase::Unowned))
    };
    let look = session.look()?;
    if is_stopped(&look) {
        return Ok(());
    }
    if !arguments.force {
        let guest = look.ledger.guest(id);
        let is = guest.map_or("not there", |guest| match guest.phase {
            Phase::Unowned => "to run",
            phase => words::phase(phase),
        });
        return Err(Failure::Trouble(format!(
            "{name} is {is}, and only a stopped guest is restored: `hearth guest stop {name} --wait` stops it, or --force; what it has in memory is lost then"
        )));
    }
    let wanted = Wanted::Stopped;
    order(session, Operation::Want { guest: id, wanted })?;
    let waited = wait_until(session, interrupt, Some(RUN_PATIENCE), &mut |look| {
        let waits = why::explain(look, id).filter(|_| !is_stopped(look));
        waits.map(|why| why.in_short()).into_iter().collect()
    })?;
    match waited {
        Waited::Complete => Ok(()),
        Waited::Interrupted(_) => Err(called_off(name)),
        Waited::TooLong(_) => Err(Failure::Trouble(format!(
            "{name} is to stop, and has not yet: `hearth why {name}`; restore it then"
        ))),
    }
}

/// Has the cluster name the guest's owner, who waits for the file: where it is, and the stream's name.
fn give_owner(
    session: &mut Session,
    guest: GuestId,
    contents: &Contents,
    to: Option<BoardId>,
) -> Result<(BoardId, Name), Failure> {
    let random = secret::random();
    let random = random.map_err(|error| Failure::Trouble(format!("no random numbers: {error}")))?;
    let id = MoveId::of_file(u64::from_le_bytes(random));
    let class = class(&contents.header);
    let outcome = session.order(Operation::Restore {
        guest,
        id,
        class,
        to,
    })?;
    if let Outcome::Refused { why } = outcome {
        let look = session.look()?;
        return Err(Failure::Trouble(refusal(&look, guest, (class, to), why)));
    }
    let begun = Instant::now();
    loop {
        let look = session.look()?;
        // Whoever answered may not know of it yet.
        if let Some(known) = look.ledger.guest(guest)
            && known.origin == (Origin::Restored { id })
        {
            let epoch = Epoch(look.ledger.epoch(guest).0 - 1);
            return Ok((known.owner, Name { guest, epoch, id }));
        }
        if begun.elapsed() > RUN_PATIENCE {
            return Err(Failure::Trouble(
                "the guest was given to a board and left it again: `hearth events` tells".into(),
            ));
        }
    }
}

/// A guest on its way from a file to a board.
struct Bringing<'a> {
    session: &'a mut Session,
    board: BoardId,
    key: Key,
    out: Outgoing<Vec<Chunk>>,
    sections: Sections,
    /// The section that is being sent, and how much of it has been.
    section: Vec<u8>,
    at: usize,
    /// There are no more.
    is_read: bool,
    sent: u64,
    total: u64,
}

impl Bringing<'_> {
    /// Until the board has all of it.
    fn go(&mut self, guest: &str, interrupt: &Interrupt) -> Result<(), Fails> {
        let mut bar = Bar::new(guest);
        let mut asked = self.session.now();
        loop {
            if interrupt.wait(Duration::ZERO) {
                return Err(Fails::CalledOff);
            }
            let sent = self.send_again()? + self.send()?;
            let now = self.session.now();
            if self.is_read && self.out.is_all_seen() && now.since(asked) >= ASK_EVERY {
                asked = now;
                if let Some(last) = self.out.last() {
                    self.send_chunk(last)?;
                }
            }
            let due = self.out.deadline().min(now.after(ASK_EVERY)).since(now);
            self.hear(if sent > 0 { Span(0) } else { due })?;
            match self.out.verdict() {
                Verdict::Whole => return Ok(()),
                Verdict::Refused(why) => return Err(Fails::Refused(why)),
                Verdict::Going => {}
            }
            if self.session.now().since(self.out.heard()) > PATIENCE {
                return Err(Fails::Silent);
            }
            bar.show(self.sent * 100 / self.total.max(1), self.sent);
        }
    }

    /// Sends what is taken for lost; how much.
    fn send_again(&mut self) -> Result<usize, Failure> {
        for count in 0..BATCH {
            let now = self.session.now();
            let Some(number) = self.out.next_lost(now) else {
                return Ok(count);
            };
            self.send_chunk(number)?;
        }
        Ok(BATCH)
    }

    /// Sends what there is room for; how much.
    fn send(&mut self) -> Result<usize, Failure> {
        let mut count = 0;
        while count < BATCH && self.out.has_room() && self.has_more()? {
            let end = self.section.len().min(self.at + CHUNK);
            let now = self.session.now();
            let number = self.out.push(now, &self.section[self.at..end]);
            self.sent += (end - self.at) as u64;
            self.at = end;
            self.send_chunk(number)?;
            count += 1;
        }
        Ok(count)
    }

    /// Whether there is something to be sent; reads the next section if there is one.
    fn has_more(&mut self) -> Result<bool, Failure> {
        if self.at == self.section.len() && !self.is_read {
            let read = self.sections.next(&mut self.section);
            let changed =
                |why| Failure::Trouble(format!("the file has changed while it was sent: {why}"));
            self.is_read = !read.map_err(changed)?;
            self.at = if self.is_read { self.section.len() } else { 0 };
        }
        Ok(self.at < self.section.len())
    }

    fn send_chunk(&mut self, number: u32) -> Result<(), Failure> {
        let mut frame = [0; MAX_FRAME];
        let bytes = self.out.bytes(number);
        let length = self.key.write(&Body::Chunk { number, bytes }, &mut frame);
        self.session.send_bulk(self.board, &frame[..length])
    }

    /// Hears what the board says; waits for it up to `patience`.
    fn hear(&mut self, patience: Span) -> Result<(), Failure> {
        let mut patience = Duration::from_micros(patience.0);
        while let Some(frame) = self.session.bulk(patience)? {
            patience = Duration::ZERO;
            if let Some(Body::Seen(seen)) = self.key.read(&frame) {
                let now = self.session.now();
                self.out.hear(now, &seen);
            }
        }
        Ok(())
    }
}

/// Waits until the ledger says that the guest runs.
fn until_it_runs(
    session: &mut Session,
    id: GuestId,
    stream: Name,
    interrupt: &Interrupt,
) -> Result<(), Fails> {
    let begun = Instant::now();
    loop {
        if let Ok(look) = session.look() {
            let epoch = look.ledger.epoch(id);
            let guest = look.ledger.guest(id);
            let guest = guest.filter(|_| epoch.0 == stream.epoch.0 + 1);
            match guest.map(|guest| (guest.phase, guest.reason)) {
                Some((Phase::Running, _)) => return Ok(()),
                Some((Phase::Starting, _)) => {}
                Some((_, reason)) => return Err(Fails::Left(reason)),
                // Whoever answered may not know of it yet.
                None if epoch <= stream.epoch => {}
                None => return Err(Fails::Left(Reason::None)),
            }
        }
        if begun.elapsed() > RUN_PATIENCE {
            return Err(Fails::Late);
        }
        if interrupt.wait(Duration::from_millis(50)) {
            return Err(Fails::CalledOff);
        }
    }
}

fn called_off(guest: &str) -> Failure {
    let done = format!("called off: {guest} is stopped");
    let complete = Some(false);
    let done = Done {
        complete,
        ..Done::new(done)
    };
    Failure::Found(done.into())
}

/// A guest does not go on: what waits for it is told to stop, unless it has by itself. What is told.
fn give_up(
    session: &mut Session,
    (name, guest): (&str, GuestId),
    stream: Name,
    board: &str,
    why: Fails,
) -> Failure {
    let mut is_stopped = false;
    if let Ok(look) = session.look() {
        let known = look.ledger.guest(guest);
        let is_ours = look.ledger.epoch(guest).0 == stream.epoch.0 + 1;
        let phase = known.map_or(Phase::Unowned, |known| known.phase);
        let wanted = Wanted::Stopped;
        is_stopped = match (is_ours, phase) {
            (true, Phase::Starting | Phase::Running) => {
                order(session, Operation::Want { guest, wanted }).is_ok()
            }
            (true, Phase::Unowned | Phase::Leaving) => true,
            (false, _) => false,
        };
    }
    let stands = match is_stopped {
        true => format!("{name} is stopped"),
        false => format!("`hearth why {name}` says how it stands"),
    };
    Failure::Trouble(match why {
        Fails::CalledOff if is_stopped => return called_off(name),
        Fails::CalledOff => format!("called off; {stands}"),
        Fails::Refused(why) => format!("{board} does not take {name}: {why}; {stands}"),
        Fails::Silent => format!("{board} does not answer any more; {stands}"),
        Fails::Left(why) => format!(
            "{name} does not go on on {board}: {}; {stands}",
            words::reason(why)
        ),
        Fails::Late => format!("{name} does not run on {board} yet; {stands}"),
        Fails::Trouble(Failure::Trouble(trouble)) => format!("{trouble}; {stands}"),
        Fails::Trouble(other) => return other,
    })
}

#[cfg(test)]
mod tests {
    use cluster_proto::ledger::types::Observation;

    use super::super::scene::{Scene, WEB};
    use super::super::view::board_name;
    use super::*;

    #[test]
    fn a_guest_that_is_restored_is_told_of_as_that() {
        let mut scene = Scene::new();
        let wanted = Wanted::Stopped;
        scene.order(Operation::Want { guest: WEB, wanted });
        let reason = Reason::Operator;
        scene.observe(WEB, Observation::Gone { reason });
        scene.order(Operation::Restore {
            guest: WEB,
            id: MoveId::of_file(7),
            class: 1,
            to: None,
        });
        let explained = why::explain(&scene.0, WEB).expect("a guest");
        assert_eq!(
            explained.in_short().split(';').next(),
            Some("web is starting on gamma: an operator had it go on from a file")
        );
        assert_eq!(
            board_name(&scene.0, scene.0.ledger.guest(WEB).unwrap().owner),
            "gamma"
        );
    }
}
