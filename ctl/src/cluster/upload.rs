//! Giving a board an image: the tool offers it, and the board pulls it piece by piece.

use std::fs::File;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use cluster_proto::ids::BoardId;
use cluster_proto::manifest::Image;
use cluster_proto::service::{PIECE, Parcel, Unwanted, WINDOW, piece_range};
use cluster_proto::wire::codec::Writer;
use cluster_proto::wire::frame::MAX_BODY;

use super::session::Session;
use crate::pack::Size;
use crate::report::Failure;

/// An offer of which nothing has come is made again.
const AGAIN: Duration = Duration::from_millis(250);
/// A board that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// A board that is busy with another image is waited for.
const BUSY_PATIENCE: Duration = Duration::from_secs(120);
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_millis(200);

/// An image on its way to a board.
struct Upload<'a> {
    session: &'a mut Session,
    board: BoardId,
    image: Image,
    file: File,
    path: &'a Path,
    /// How far pieces were asked for, bytes.
    asked: u64,
    shown: Instant,
}

/// Gives `image`, which is in the file `path`, to `board`.
///
/// # Errors
/// The board does not want it or does not answer, or the file cannot be read.
pub fn upload(
    session: &mut Session,
    board: BoardId,
    image: &Image,
    path: &Path,
) -> Result<(), Failure> {
    let file = File::open(path).map_err(|error| Failure::file("read", path, error))?;
    let mut upload = Upload {
        session,
        board,
        image: *image,
        file,
        path,
        asked: 0,
        shown: Instant::now(),
    };
    let done = upload.run();
    upload.end_line();
    done
}

impl Upload<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        let mut heard = begun;
        let mut offered: Option<Instant> = None;
        loop {
            if offered.is_none_or(|at| at.elapsed() > AGAIN) {
                let offer = Parcel::Offer {
                    digest: self.image.digest.0,
                    length: self.image.length,
                };
                self.post(&offer)?;
                offered = Some(Instant::now());
            }
            if heard.elapsed() > PATIENCE {
                return Err(self.silent());
            }
            let Some((from, bytes)) = self.session.parcel(AGAIN)? else {
                continue;
            };
            if from != self.board {
                continue;
            }
            match Parcel::get(&bytes) {
                Ok(Parcel::Ask {
                    digest,
                    first,
                    wanted,
                }) if digest == self.image.digest.0 => {
                    (heard, offered) = (Instant::now(), Some(Instant::now()));
                    self.give(first, wanted)?;
                }
                Ok(Parcel::Have { digest, bytes }) if digest == self.image.digest.0 => {
                    heard = Instant::now();
                    if bytes == self.image.length {
                        return Ok(());
                    }
                }
                Ok(Parcel::Refuse { digest, why }) if digest == self.image.digest.0 => {
                    heard = Instant::now();
                    self.refused(why, begun)?;
                }
                _ => {}
            }
        }
    }

    fn post(&mut self, parcel: &Parcel<'_>) -> Result<bool, Failure> {
        let mut room = [0; MAX_BODY];
        let mut to = Writer::new(&mut room);
        if parcel.put(&mut to).is_err() {
            return Err(Failure::Trouble("a piece outgrew its frame".into()));
        }
        self.session.post(self.board, to.bytes())
    }

    /// Sends the pieces that were asked for.
    fn give(&mut self, first: u32, wanted: u16) -> Result<(), Failure> {
        for place in 0..WINDOW {
            let number = first.saturating_add(place);
            let range = piece_range(number, self.image.length);
            let Some((from, size)) = range.filter(|_| wanted & 1 << place != 0) else {
                continue;
            };
            let mut room = [0; PIECE];
            let bytes = &mut room[..size];
            self.file
                .read_exact_at(bytes, from.into())
                .map_err(|error| Failure::file("read", self.path, error))?;
            self.post(&Parcel::Piece {
                digest: self.image.digest.0,
                number,
                bytes,
            })?;
            self.asked = self.asked.max(u64::from(from));
        }
        self.show();
        Ok(())
    }

    /// What a refusal means; one that will pass is waited for.
    fn refused(&self, why: Unwanted, begun: Instant) -> Result<(), Failure> {
        let board = self.session.name(self.board);
        let why = match why {
            Unwanted::Busy | Unwanted::Silent if begun.elapsed() < BUSY_PATIENCE => {
                std::thread::sleep(AGAIN);
                return Ok(());
            }
            Unwanted::Busy => "it is busy with another image".to_string(),
            Unwanted::Silent => "it did not hear this tool any more".to_string(),
            Unwanted::NoRoom => format!(
                "it has no memory left for {}: stop or delete a guest there, or make images smaller",
                Size(self.image.length.into())
            ),
            Unwanted::Length => "it is empty or longer than a board takes".to_string(),
            Unwanted::Digest => {
                "what arrived is not what was offered: the file changed meanwhile".to_string()
            }
        };
        Err(Failure::Trouble(format!(
            "board {board} does not take {}: {why}",
            self.path.display()
        )))
    }

    fn silent(&self) -> Failure {
        Failure::Trouble(format!(
            "board {} no longer answers while it is given {}: try again, what it has it keeps for a moment",
            self.session.name(self.board),
            self.path.display()
        ))
    }

    /// Says on a terminal how far it is.
    fn show(&mut self) {
        if !stderr().is_terminal() || self.shown.elapsed() < PROGRESS {
            return;
        }
        self.shown = Instant::now();
        let percent = self.asked * 100 / u64::from(self.image.length.max(1));
        let filled = "#".repeat(usize::try_from(percent / 4).unwrap_or(0));
        let name = self.path.display();
        // Nobody may be reading.
        let _ = write!(stderr(), "\r{name} [{filled:25}] {percent:3} %");
    }

    fn end_line(&self) {
        if stderr().is_terminal() && self.asked > 0 {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
