//! Giving a board an image: the tool offers it, and the board pulls it piece by piece.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use cluster_proto::ids::BoardId;
use cluster_proto::manifest::Image;
use cluster_proto::service::{PIECE, Parcel, Unwanted, WINDOW, piece_range};

use super::progress::Bar;
use super::session::Session;
use crate::pack::Size;
use crate::report::Failure;

/// An offer of which nothing has come is made again.
const AGAIN: Duration = Duration::from_millis(250);
/// A board that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// A board that is busy with another image is waited for.
const BUSY_PATIENCE: Duration = Duration::from_secs(120);

/// An image on its way to a board.
struct Upload<'a> {
    session: &'a mut Session,
    board: BoardId,
    image: Image,
    file: File,
    path: &'a Path,
    /// How far pieces were asked for, bytes.
    asked: u64,
    bar: Bar,
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
        bar: Bar::new(path.display().to_string()),
    };
    upload.run()
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
                self.session.post(self.board, &offer)?;
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
            let piece = Parcel::Piece {
                digest: self.image.digest.0,
                number,
                bytes,
            };
            self.session.post(self.board, &piece)?;
            self.asked = self.asked.max(u64::from(from));
        }
        let percent = self.asked * 100 / u64::from(self.image.length.max(1));
        self.bar.show(percent, self.asked);
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
}
