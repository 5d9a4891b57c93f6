//! A frame of the stream.
//!
//! ```text
//!  0      1      2        4         8       16       24        28              length - 16
//! ┌──────┬──────┬────────┬─────────┬───────┬────────┬─────────┬───────────────┬──────┐
//! │ 2    │ kind │ guest  │ cluster │ epoch │ move   │ number  │ body          │ tag  │
//! └──────┴──────┴────────┴─────────┴───────┴────────┴─────────┴───────────────┴──────┘
//! ```
//! Little-endian. Kind 0 is a chunk: `number` is its own, the body its bytes. Kind 1 is what the receiver says: `number` is the first chunk that has not come, the body has the bits of those behind
//! it (16 bytes) and the verdict (one: 0 going, 1 whole, from 2 on a [refusal](super::Refusal)). The tag is over all that stands before it, under a key that is derived from the cluster's for this move ([`move_key`]): a frame of another move, or of
//! another life, is nobody's.

use super::{CHUNK, Seen, Verdict};
use crate::ids::{Epoch, GuestId, MoveId};
use crate::wire::auth::{LifeKey, TAG, is_tag, move_key, tag};

/// The format's number.
const VERSION: u8 = 2;
/// Bytes before the body.
const HEADER: usize = 28;
/// Bytes of what the receiver says.
const SEEN: usize = 17;
/// Bytes of a frame, at most.
pub const MAX_FRAME: usize = HEADER + CHUNK + TAG;

/// Which move a stream is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Whose.
    pub guest: GuestId,
    /// The ownership epoch in which the guest moves.
    pub epoch: Epoch,
    /// The move.
    pub id: MoveId,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A chunk.
    Chunk {
        /// Which.
        number: u32,
        /// What it holds.
        bytes: &'a [u8],
    },
    /// What the receiver says.
    Seen(Seen),
}

/// The secret of one stream.
#[derive(Clone)]
pub struct Key {
    name: Name,
    cluster: u32,
    life: LifeKey,
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Key({:?})", self.name)
    }
}

/// Which move a frame claims to be of, and whether it is a stream's first chunk: to find who may look closely. None if it is no frame.
#[must_use]
pub fn claim(frame: &[u8]) -> Option<(Name, bool)> {
    let (header, _) = frame.split_first_chunk::<HEADER>()?;
    let [VERSION, kind @ 0..=1, a, b, ..] = *header else {
        return None;
    };
    let name = Name {
        guest: GuestId(u16::from_le_bytes([a, b])),
        epoch: Epoch(number(header, 8)),
        id: MoveId(number(header, 16)),
    };
    Some((name, kind == 0 && header[24..28] == [0; 4]))
}

fn number(header: &[u8; HEADER], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(bytes)
}

impl Key {
    /// That of a move, in the cluster with this key and [tag](crate::wire::auth::cluster_tag).
    #[must_use]
    pub fn new(key: &[u8; 32], cluster: u32, name: Name) -> Self {
        Self {
            name,
            cluster,
            life: move_key(key, name.guest, name.id),
        }
    }

    /// Which move it is for.
    #[must_use]
    pub fn name(&self) -> Name {
        self.name
    }

    /// Writes a frame to the beginning of `to`; its length.
    ///
    /// # Panics
    /// If a chunk is longer than [`CHUNK`].
    pub fn write(&self, body: &Body<'_>, to: &mut [u8; MAX_FRAME]) -> usize {
        let (kind, number) = match body {
            Body::Chunk { number, .. } => (0, *number),
            Body::Seen(seen) => (1, seen.next),
        };
        to[0] = VERSION;
        to[1] = kind;
        to[2..4].copy_from_slice(&self.name.guest.0.to_le_bytes());
        to[4..8].copy_from_slice(&self.cluster.to_le_bytes());
        to[8..16].copy_from_slice(&self.name.epoch.0.to_le_bytes());
        to[16..24].copy_from_slice(&self.name.id.0.to_le_bytes());
        to[24..28].copy_from_slice(&number.to_le_bytes());
        let end = HEADER
            + match body {
                Body::Chunk { bytes, .. } => {
                    assert!(bytes.len() <= CHUNK, "a chunk is no longer than that");
                    to[HEADER..HEADER + bytes.len()].copy_from_slice(bytes);
                    bytes.len()
                }
                Body::Seen(seen) => {
                    to[HEADER..HEADER + 16].copy_from_slice(&seen.beyond.to_le_bytes());
                    to[HEADER + 16] = seen.verdict.to_byte();
                    SEEN
                }
            };
        let tag = tag(&self.life, &to[..end]);
        to[end..end + TAG].copy_from_slice(&tag);
        end + TAG
    }

    /// Reads a frame of this stream. None if it is another's, forged or damaged.
    #[must_use]
    pub fn read<'a>(&self, frame: &'a [u8]) -> Option<Body<'a>> {
        let (signed, its) = frame.split_last_chunk::<TAG>()?;
        let (header, body) = signed.split_first_chunk::<HEADER>()?;
        let (name, _) = claim(frame)?;
        let cluster = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        if name != self.name || cluster != self.cluster || !is_tag(&self.life, signed, its) {
            return None;
        }
        let number = u32::from_le_bytes([header[24], header[25], header[26], header[27]]);
        match (header[1], body) {
            (0, bytes) => (bytes.len() <= CHUNK).then_some(Body::Chunk { number, bytes }),
            (1, [beyond @ .., verdict]) => {
                let beyond = <[u8; 16]>::try_from(beyond).ok()?;
                Some(Body::Seen(Seen {
                    next: number,
                    beyond: u128::from_le_bytes(beyond),
                    verdict: Verdict::from_byte(*verdict)?,
                }))
            }
            _ => None,
        }
    }
}
