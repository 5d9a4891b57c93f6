//! What boards and tools tell one another beside the protocol: images, piece by piece, guests' consoles, and how moves go ([`progress`]).
//!
//! None of it decides anything about the cluster. It travels as parcels ([`crate::node::Effect::Parcel`]) in the protocol's own frames, so whoever sends
//! is authenticated, and nothing here is believed of a stranger. Nothing here is relied on to arrive: who wants something asks again.
//!
//! **Images are pulled.** Who lacks an image asks for a window of pieces and gets them in any order ([`fetch::Fetch`]); the other side keeps nothing
//! between two questions. A tool that has an image to give offers it, and is asked for it like a board. An image is there when the SHA-256 of all of it is its name.
//!
//! **Consoles are read from a position on**, counted in bytes since the guest's first, so that a lost answer loses nothing.
//!
//! **A guest is saved** by a bulk stream ([`crate::bulk`]) of which only the beginning, and what became of it, is said here.

pub mod fetch;
pub mod progress;

use crate::ids::{Epoch, GuestId, MoveId};
use crate::ledger::types::Digest;
use crate::wire::codec::{Full, Malformed, Reader, Wire, Writer, choice};
use crate::wire::frame::MAX_BODY;
use progress::Progress;

/// Bytes of an image in one piece; the last of an image may be shorter.
pub const PIECE: usize = 1_280;
/// Pieces that are asked for at once: few enough that a heartbeat that they overtake is still inside of a session's window of sequence numbers.
pub const WINDOW: u32 = 16;
/// The longest image, bytes.
pub const IMAGE_MAX: u32 = 1 << 30;
/// Bytes of a console in one parcel.
pub const CONSOLE_BYTES: usize = 1_024;

const _: () = assert!(1 + 32 + 4 + PIECE <= MAX_BODY && 1 + 2 + 8 + CONSOLE_BYTES <= MAX_BODY);
const _: () = assert!(WINDOW <= u16::BITS);

choice! {
    /// Why a board does not take an image.
    Unwanted {
        /// It has no memory for it.
        NoRoom = 0,
        /// It is empty, or longer than [`IMAGE_MAX`].
        Length = 1,
        /// What it got is not what the digest names.
        Digest = 2,
        /// It is taking another one, from somebody else; again later.
        Busy = 3,
        /// The one who offered it does not answer any more.
        Silent = 4,
    }
}

choice! {
    /// Why a board does not save a guest.
    Unsaved {
        /// It does not run there, in that epoch; or it has left.
        NotHere = 0,
        /// It is being moved or saved, or too many others are; again later.
        Busy = 1,
        /// The board has no memory for what it takes.
        NoRoom = 2,
        /// It wrote to its memory faster than that could be sent.
        TooFast = 3,
        /// The tool did not answer, or called it off.
        Silent = 4,
        /// A disk of it is the board's own.
        Pinned = 5,
        /// It is frozen: the board has no lease.
        Frozen = 6,
    }
}

/// A parcel's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parcel<'a> {
    /// Asks for pieces of an image.
    Ask {
        /// Of which.
        digest: Digest,
        /// The number of the first.
        first: u32,
        /// Which of those from the first on, a bit each.
        wanted: u16,
    },
    /// One piece.
    Piece {
        /// Of which image.
        digest: Digest,
        /// Which.
        number: u32,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// Answers [`Ask`](Self::Ask): that image is not here, or not whole.
    NotHere {
        /// Which.
        digest: Digest,
    },
    /// From a tool: it has this image to give.
    Offer {
        /// Which.
        digest: Digest,
        /// Its bytes.
        length: u32,
    },
    /// Answers [`Offer`](Self::Offer): so much is here. When that is all of it, the image is here whole and checked.
    Have {
        /// Which.
        digest: Digest,
        /// Bytes.
        bytes: u32,
    },
    /// Answers [`Offer`](Self::Offer): no.
    Refuse {
        /// Which.
        digest: Digest,
        /// Why.
        why: Unwanted,
    },
    /// From a tool: what did the guest's console say from this position on?
    Listen {
        /// Which guest's.
        guest: GuestId,
        /// From where.
        from: u64,
    },
    /// Answers [`Listen`](Self::Listen); no bytes: nothing since.
    Said {
        /// Which guest's.
        guest: GuestId,
        /// The position of the first byte: later than was asked for if what was before is no longer kept.
        from: u64,
        /// What was said.
        bytes: &'a [u8],
    },
    /// From a tool: input for a guest's console.
    Type {
        /// Which guest's.
        guest: GuestId,
        /// What.
        bytes: &'a [u8],
    },
    /// Answers [`Listen`](Self::Listen) and [`Type`](Self::Type): the guest does not run on this board.
    Elsewhere {
        /// Which.
        guest: GuestId,
    },
    /// From a tool: how does the guest's newest move go of which this board is an end?
    Follow {
        /// Which guest's.
        guest: GuestId,
    },
    /// Answers [`Follow`](Self::Follow).
    Goes {
        /// Which guest's.
        guest: GuestId,
        /// How it goes; none if the board knows of no move.
        progress: Option<Progress>,
    },
    /// From a tool: it is to be sent a running guest, by a bulk stream of this name. Repeated, it asks how that goes.
    Save {
        /// Which.
        guest: GuestId,
        /// In which ownership epoch.
        epoch: Epoch,
        /// The name that the tool chose.
        id: MoveId,
    },
    /// Answers [`Save`](Self::Save): no, or not any more.
    NotSaved {
        /// Which.
        guest: GuestId,
        /// The name that the tool chose.
        id: MoveId,
        /// Why.
        why: Unsaved,
    },
}

impl<'a> Parcel<'a> {
    /// Writes it.
    ///
    /// # Errors
    /// [`Full`] when it does not fit.
    pub fn put(&self, to: &mut Writer<'_>) -> Result<(), Full> {
        match *self {
            Self::Ask {
                digest,
                first,
                wanted,
            } => {
                0u8.put(to)?;
                digest.put(to)?;
                first.put(to)?;
                wanted.put(to)
            }
            Self::Piece {
                digest,
                number,
                bytes,
            } => {
                1u8.put(to)?;
                digest.put(to)?;
                number.put(to)?;
                to.put(bytes)
            }
            Self::NotHere { digest } => {
                2u8.put(to)?;
                digest.put(to)
            }
            Self::Offer { digest, length } => {
                3u8.put(to)?;
                digest.put(to)?;
                length.put(to)
            }
            Self::Have { digest, bytes } => {
                4u8.put(to)?;
                digest.put(to)?;
                bytes.put(to)
            }
            Self::Refuse { digest, why } => {
                5u8.put(to)?;
                digest.put(to)?;
                why.put(to)
            }
            Self::Listen { guest, from } => {
                6u8.put(to)?;
                guest.put(to)?;
                from.put(to)
            }
            Self::Said { guest, from, bytes } => {
                7u8.put(to)?;
                guest.put(to)?;
                from.put(to)?;
                to.put(bytes)
            }
            Self::Type { guest, bytes } => {
                8u8.put(to)?;
                guest.put(to)?;
                to.put(bytes)
            }
            Self::Elsewhere { guest } => {
                9u8.put(to)?;
                guest.put(to)
            }
            Self::Save { guest, epoch, id } => {
                10u8.put(to)?;
                guest.put(to)?;
                epoch.put(to)?;
                id.put(to)
            }
            Self::NotSaved { guest, id, why } => {
                11u8.put(to)?;
                guest.put(to)?;
                id.put(to)?;
                why.put(to)
            }
            Self::Follow { guest } => {
                12u8.put(to)?;
                guest.put(to)
            }
            Self::Goes { guest, progress } => {
                13u8.put(to)?;
                guest.put(to)?;
                progress.put(to)
            }
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are none.
    pub fn get(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let from = &mut from;
        let parcel = match u8::get(from)? {
            0 => Self::Ask {
                digest: Wire::get(from)?,
                first: Wire::get(from)?,
                wanted: Wire::get(from)?,
            },
            1 => Self::Piece {
                digest: Wire::get(from)?,
                number: Wire::get(from)?,
                bytes: limited(from, PIECE)?,
            },
            2 => Self::NotHere {
                digest: Wire::get(from)?,
            },
            3 => Self::Offer {
                digest: Wire::get(from)?,
                length: Wire::get(from)?,
            },
            4 => Self::Have {
                digest: Wire::get(from)?,
                bytes: Wire::get(from)?,
            },
            5 => Self::Refuse {
                digest: Wire::get(from)?,
                why: Wire::get(from)?,
            },
            6 => Self::Listen {
                guest: Wire::get(from)?,
                from: Wire::get(from)?,
            },
            7 => Self::Said {
                guest: Wire::get(from)?,
                from: Wire::get(from)?,
                bytes: limited(from, CONSOLE_BYTES)?,
            },
            8 => Self::Type {
                guest: Wire::get(from)?,
                bytes: limited(from, CONSOLE_BYTES)?,
            },
            9 => Self::Elsewhere {
                guest: Wire::get(from)?,
            },
            10 => Self::Save {
                guest: Wire::get(from)?,
                epoch: Wire::get(from)?,
                id: Wire::get(from)?,
            },
            11 => Self::NotSaved {
                guest: Wire::get(from)?,
                id: Wire::get(from)?,
                why: Wire::get(from)?,
            },
            12 => Self::Follow {
                guest: Wire::get(from)?,
            },
            13 => Self::Goes {
                guest: Wire::get(from)?,
                progress: Wire::get(from)?,
            },
            _ => return Err(Malformed::Range),
        };
        from.end()?;
        Ok(parcel)
    }
}

fn limited<'a>(from: &mut Reader<'a>, most: usize) -> Result<&'a [u8], Malformed> {
    if from.left() > most {
        return Err(Malformed::Long);
    }
    Ok(from.rest())
}

/// How many pieces an image of so many bytes has.
#[must_use]
pub fn pieces(length: u32) -> u32 {
    length.div_ceil(PIECE as u32)
}

/// The bytes of piece `number` of an image of `length` bytes: from where, and how many. None behind the last.
#[must_use]
pub fn piece_range(number: u32, length: u32) -> Option<(u32, usize)> {
    let from = number.checked_mul(PIECE as u32)?;
    let left = length.checked_sub(from).filter(|&left| left > 0)?;
    Some((from, (left as usize).min(PIECE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, MoveId};

    const DIGEST: Digest = [7; 32];

    fn all() -> std::vec::Vec<Parcel<'static>> {
        let guest = GuestId(3);
        std::vec![
            Parcel::Ask {
                digest: DIGEST,
                first: 16,
                wanted: 0x8001
            },
            Parcel::Piece {
                digest: DIGEST,
                number: 9,
                bytes: &[1, 2, 3]
            },
            Parcel::NotHere { digest: DIGEST },
            Parcel::Offer {
                digest: DIGEST,
                length: 70_000
            },
            Parcel::Have {
                digest: DIGEST,
                bytes: 1_280
            },
            Parcel::Refuse {
                digest: DIGEST,
                why: Unwanted::Busy
            },
            Parcel::Listen { guest, from: 99 },
            Parcel::Said {
                guest,
                from: 98,
                bytes: b"login: "
            },
            Parcel::Type {
                guest,
                bytes: b"root\n"
            },
            Parcel::Elsewhere { guest },
            Parcel::Follow { guest },
            Parcel::Goes {
                guest,
                progress: None,
            },
            Parcel::Goes {
                guest,
                progress: Some(Progress::new(MoveId(44), Epoch(2), progress::Step::Asks)),
            },
            Parcel::Save {
                guest,
                epoch: Epoch(7),
                id: MoveId::of_file(9)
            },
            Parcel::NotSaved {
                guest,
                id: MoveId::of_file(9),
                why: Unsaved::Busy
            },
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        for parcel in all() {
            let mut room = [0; MAX_BODY];
            let mut to = Writer::new(&mut room);
            parcel.put(&mut to).expect("room for a parcel");
            assert_eq!(Parcel::get(to.bytes()), Ok(parcel));
        }
    }

    #[test]
    fn the_largest_fit_a_frame() {
        let mut room = [0; MAX_BODY];
        let piece = Parcel::Piece {
            digest: DIGEST,
            number: u32::MAX,
            bytes: &[0; PIECE],
        };
        assert!(piece.put(&mut Writer::new(&mut room)).is_ok());
        let said = Parcel::Said {
            guest: GuestId(1),
            from: u64::MAX,
            bytes: &[0; CONSOLE_BYTES],
        };
        assert!(said.put(&mut Writer::new(&mut room)).is_ok());
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused() {
        for parcel in all() {
            let mut room = [0; MAX_BODY];
            let mut to = Writer::new(&mut room);
            parcel.put(&mut to).expect("room for a parcel");
            let used = to.used();
            let open_ended = matches!(
                parcel,
                Parcel::Piece { .. } | Parcel::Said { .. } | Parcel::Type { .. }
            );
            assert!(open_ended || Parcel::get(&room[..used - 1]).is_err());
            assert!(open_ended || Parcel::get(&room[..used + 1]).is_err());
        }
        let mut long = [1; 1 + 32 + 4 + PIECE + 1];
        long[0] = 1;
        assert_eq!(Parcel::get(&long), Err(Malformed::Long));
        assert_eq!(Parcel::get(&[200]), Err(Malformed::Range));
    }

    #[test]
    fn pieces_cover_an_image() {
        assert_eq!(pieces(0), 0);
        assert_eq!(pieces(1_281), 2);
        assert_eq!(piece_range(0, 1_281), Some((0, PIECE)));
        assert_eq!(piece_range(1, 1_281), Some((1_280, 1)));
        assert_eq!(piece_range(2, 1_281), None);
        assert_eq!(piece_range(u32::MAX, u32::MAX), None);
    }
}
