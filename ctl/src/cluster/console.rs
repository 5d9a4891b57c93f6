//! `hearth guest console`: what a guest says, and typing at it.

use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use cluster_proto::ids::{BoardId, Epoch, GuestId};
use cluster_proto::ledger::types::{Origin, Phase};
use cluster_proto::service::{CONSOLE_BYTES, Parcel};
use serde::Serialize;

use super::interrupt::Interrupt;
use super::orders::Done;
use super::reach::Reach;
use super::session::Session;
use super::why;
use crate::report::{Answer, EXIT_CODES, Failure};

/// Between two questions for what was said since.
const AGAIN: Duration = Duration::from_millis(100);
/// How long an answer is waited for before the cluster is asked where the guest is now.
const PATIENCE: Duration = Duration::from_secs(2);

const ABOUT: &str = "\
Lines that are typed go to the guest; Ctrl-C leaves. When the guest moves to another board, the console goes with it, and begins with what was said there.
With --json, or --once, what the board has kept of the guest's output is printed, and nothing is typed.";

/// Show what a guest says, and type at it.
#[derive(clap::Args)]
#[command(after_long_help = format!("{ABOUT}\n\n{EXIT_CODES}"))]
pub struct Arguments {
    /// The guest.
    guest: String,
    /// Print what the board has kept of the guest's output, and end.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    reach: Reach,
}

/// What was said.
#[derive(Debug, Serialize)]
struct Heard {
    guest: String,
    board: String,
    /// The position behind the last byte.
    position: u64,
    said: String,
}

impl std::fmt::Display for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.said)
    }
}

/// Where a console is listened to.
struct Listening {
    session: Session,
    guest: GuestId,
    board: BoardId,
    epoch: Epoch,
    position: u64,
}

/// What a board answered.
enum Answered {
    Said(Vec<u8>),
    Elsewhere,
    Nothing,
}

/// Shows and types.
///
/// # Errors
/// The guest does not run, or nobody answers.
pub fn run(arguments: &Arguments, json: bool) -> Result<Answer, Failure> {
    let name = &arguments.guest;
    let session = arguments.reach.open()?;
    let mut listening = Listening::begin(session, name)?;
    if json || arguments.once {
        let said = listening.all()?;
        let board = listening.session.name(listening.board);
        return Ok(Heard {
            guest: name.clone(),
            board,
            position: listening.position,
            said: String::from_utf8_lossy(&said).into_owned(),
        }
        .into());
    }
    let interrupt = Interrupt::catch()?;
    let typed = lines();
    let mut heard_at = Instant::now();
    while !interrupt.wait(Duration::ZERO) {
        while let Ok(line) = typed.try_recv() {
            listening.type_in(&line)?;
        }
        match listening.more()? {
            Answered::Said(bytes) => {
                heard_at = Instant::now();
                let mut out = stdout();
                if out.write_all(&bytes).and_then(|()| out.flush()).is_err() {
                    break;
                }
                if bytes.is_empty() && interrupt.wait(AGAIN) {
                    break;
                }
            }
            Answered::Nothing if heard_at.elapsed() < PATIENCE => {}
            Answered::Elsewhere | Answered::Nothing => {
                if interrupt.wait(AGAIN) {
                    break;
                }
                listening.find_again(name);
                heard_at = Instant::now();
            }
        }
    }
    Ok(Done::new(format!("left the console of {name}")).into())
}

/// Lines that are typed, as they come.
fn lines() -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut input = stdin().lock();
        loop {
            let mut line = Vec::new();
            match input.read_until(b'\n', &mut line) {
                Ok(length) if length > 0 => {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    });
    receiver
}

impl Listening {
    fn begin(mut session: Session, name: &str) -> Result<Self, Failure> {
        let look = session.look()?;
        let guest = why::find(&look, name)?;
        let now = look.ledger.guest(guest);
        let owner = now.filter(|guest| guest.phase != Phase::Unowned);
        let board = owner.map(|guest| guest.owner).ok_or_else(|| {
            Failure::Trouble(format!(
                "{name} does not run, so it says nothing: `hearth why {name}`"
            ))
        })?;
        Ok(Self {
            session,
            guest,
            board,
            epoch: look.ledger.epoch(guest),
            position: 0,
        })
    }

    /// Looks where the guest is now. A copy that goes on there goes on with what it said, too; another is read from the start.
    fn find_again(&mut self, name: &str) {
        let Ok(look) = self.session.look() else {
            return;
        };
        let now = why::find(&look, name).ok();
        let Some((id, guest)) = now.and_then(|id| Some((id, look.ledger.guest(id)?))) else {
            return;
        };
        let epoch = look.ledger.epoch(id);
        if guest.phase == Phase::Unowned || (guest.owner, epoch) == (self.board, self.epoch) {
            return;
        }
        let goes_on = matches!(guest.origin, Origin::Arrived { .. } | Origin::Kept {});
        if !(goes_on && epoch.0 == self.epoch.0 + 1) {
            self.position = 0;
        }
        (self.board, self.epoch) = (guest.owner, epoch);
    }

    fn type_in(&mut self, line: &[u8]) -> Result<(), Failure> {
        for bytes in line.chunks(CONSOLE_BYTES) {
            let guest = self.guest;
            self.session
                .post(self.board, &Parcel::Type { guest, bytes })?;
        }
        Ok(())
    }

    /// Asks for what was said since, and waits a moment for it.
    fn more(&mut self) -> Result<Answered, Failure> {
        let (guest, from) = (self.guest, self.position);
        self.session
            .post(self.board, &Parcel::Listen { guest, from })?;
        let until = Instant::now() + AGAIN;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Answered::Nothing);
            }
            let Some((board, bytes)) = self.session.parcel(left)? else {
                continue;
            };
            match Parcel::get(&bytes) {
                Ok(Parcel::Said { guest, from, bytes })
                    if guest == self.guest && board == self.board && from >= self.position =>
                {
                    self.position = from + bytes.len() as u64;
                    return Ok(Answered::Said(bytes.to_vec()));
                }
                Ok(Parcel::Elsewhere { guest }) if guest == self.guest && board == self.board => {
                    return Ok(Answered::Elsewhere);
                }
                _ => {}
            }
        }
    }

    /// All that is kept.
    fn all(&mut self) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        let mut heard_at = Instant::now();
        loop {
            match self.more()? {
                Answered::Said(bytes) if bytes.is_empty() => return Ok(all),
                Answered::Said(bytes) => {
                    all.extend(bytes);
                    heard_at = Instant::now();
                }
                Answered::Nothing if heard_at.elapsed() < PATIENCE => {}
                Answered::Elsewhere | Answered::Nothing => {
                    let board = self.session.name(self.board);
                    return Err(Failure::Trouble(format!(
                        "{board} does not tell what the guest says: it may just be leaving; try again"
                    )));
                }
            }
        }
    }
}
