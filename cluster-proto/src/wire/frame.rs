//! A frame: header, body, tag. Its checks are in the order of their cost, so that a stranger's frame costs little.

use crate::ids::{BoardId, Incarnation};
use crate::limits::{BOARDS_MAX, MAX_FRAME};
use crate::wire::auth::TAG;

/// The first bytes of every frame.
pub const MAGIC: [u8; 2] = *b"He";
/// The version that this code speaks.
pub const VERSION: u8 = 4;
/// Bytes before the body.
pub const HEADER: usize = 28;
/// The largest body in bytes.
pub const MAX_BODY: usize = MAX_FRAME - HEADER - TAG;
/// The destination that means every board.
pub const ALL: u8 = 64;
/// Operators have numbers from here to 255.
pub const FIRST_OPERATOR: u8 = 128;

const _: () = assert!(BOARDS_MAX <= ALL as usize && ALL < FIRST_OPERATOR);

/// Who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// A board or a witness.
    Board(BoardId),
    /// An operator's tool, with a number from [`FIRST_OPERATOR`] that it chose at random.
    Operator(u8),
}

impl Party {
    /// As a byte of the header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Board(board) => board.0,
            Self::Operator(number) => number,
        }
    }

    /// From a byte of the header.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0..ALL => Some(Self::Board(BoardId(number))),
            FIRST_OPERATOR.. => Some(Self::Operator(number)),
            _ => None,
        }
    }
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recipient {
    /// Every board: multicast.
    All,
    /// One board or operator.
    One(Party),
}

impl Recipient {
    fn number(self) -> u8 {
        match self {
            Self::All => ALL,
            Self::One(party) => party.number(),
        }
    }
}

/// Why bytes are no frame for this receiver. Each has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too short, too long, or not ours at all.
    Noise,
    /// A version that this code does not speak.
    Version(u8),
    /// Another cluster's.
    Stranger,
    /// No such sender, or not for this receiver.
    Address,
}

/// A frame's header, and where its parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// The kind of message.
    pub kind: u8,
    /// Who says that it sent it; true only after the tag was checked.
    pub sender: Party,
    /// For whom.
    pub recipient: Recipient,
    /// The sender's life.
    pub incarnation: Incarnation,
    /// The sender's number for this frame.
    pub sequence: u64,
    /// The message.
    pub body: &'a [u8],
    /// All that the tag covers.
    pub covered: &'a [u8],
    /// The tag.
    pub tag: &'a [u8; TAG],
}

/// Looks at `bytes` as a frame of the cluster `cluster`.
///
/// # Errors
/// The first [`Refusal`] that applies, cheapest first. The tag is not checked here.
#[inline]
pub fn view(bytes: &[u8], cluster: u32) -> Result<View<'_>, Refusal> {
    let (header, _) = bytes.split_first_chunk::<HEADER>().ok_or(Refusal::Noise)?;
    let (covered, tag) = bytes.split_last_chunk::<TAG>().ok_or(Refusal::Noise)?;
    if header[..2] != MAGIC {
        return Err(Refusal::Noise);
    }
    if header[2] != VERSION {
        return Err(Refusal::Version(header[2]));
    }
    if header[4..8] != cluster.to_le_bytes() {
        return Err(Refusal::Stranger);
    }
    let body = covered.get(HEADER..).ok_or(Refusal::Noise)?;
    if body.len() > MAX_BODY
        || body.len() != usize::from(u16::from_le_bytes([header[10], header[11]]))
    {
        return Err(Refusal::Noise);
    }
    let sender = Party::from_number(header[8]).ok_or(Refusal::Address)?;
    let recipient = match header[9] {
        ALL => Recipient::All,
        number => Recipient::One(Party::from_number(number).ok_or(Refusal::Address)?),
    };
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&header[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let (incarnation, sequence) = (Incarnation(word(12)), word(20));
    if incarnation.0 == 0 || sequence == 0 {
        return Err(Refusal::Noise);
    }
    Ok(View {
        kind: header[3],
        sender,
        recipient,
        incarnation,
        sequence,
        body,
        covered,
        tag,
    })
}

/// What a header says, for [`seal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Which cluster.
    pub cluster: u32,
    /// The kind of message.
    pub kind: u8,
    /// From whom.
    pub sender: Party,
    /// For whom.
    pub recipient: Recipient,
    /// The sender's life.
    pub incarnation: Incarnation,
    /// The number of this frame in that life, never used before.
    pub sequence: u64,
}

/// Completes the frame whose body of `body` bytes stands in `buffer` from [`HEADER`] on: writes the header before and the tag,
/// which `tag` makes, behind it. Returns the whole length.
pub fn seal(
    buffer: &mut [u8; MAX_FRAME],
    body: usize,
    envelope: &Envelope,
    tag: impl FnOnce(&[u8]) -> [u8; TAG],
) -> usize {
    let body = body.min(MAX_BODY);
    let covered = HEADER + body;
    buffer[..2].copy_from_slice(&MAGIC);
    buffer[2] = VERSION;
    buffer[3] = envelope.kind;
    buffer[4..8].copy_from_slice(&envelope.cluster.to_le_bytes());
    buffer[8] = envelope.sender.number();
    buffer[9] = envelope.recipient.number();
    // MAX_BODY is far below 65,536.
    buffer[10..12].copy_from_slice(&(body as u16).to_le_bytes());
    buffer[12..20].copy_from_slice(&envelope.incarnation.0.to_le_bytes());
    buffer[20..28].copy_from_slice(&envelope.sequence.to_le_bytes());
    let made = tag(&buffer[..covered]);
    buffer[covered..covered + TAG].copy_from_slice(&made);
    covered + TAG
}
