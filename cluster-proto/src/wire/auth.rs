//! Who may speak: a keyed tag over every frame.
//!
//! From the cluster's 256-bit key HChaCha20 derives one key per life of a sender, once; a frame's tag is SipHash-2-4 with 128 bits of output
//! under that key. Both are pseudo-random functions: unlike with a one-time authenticator, nothing is lost should two
//! lives ever draw the same incarnation. On a core without cryptographic instructions, and without floating point registers to
//! vectorise in, this costs a fifth of ChaCha20-Poly1305 for frames as short as these.

use core::hash::Hasher;

use chacha20::{Key, R20, hchacha};
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::ids::{GuestId, Incarnation, MoveId};

/// Bytes of a tag.
pub const TAG: usize = 16;

/// The key of one life of one sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LifeKey(pub [u8; 16]);

/// Byte 1 of what a cluster's tag is derived from; zero is for lives.
const TAG_USE: u8 = 1;
/// Byte 1 of what a move's key is derived from.
const MOVE_USE: u8 = 2;

/// The 32 bits that name a cluster in every frame's header ([`super::frame::Envelope::cluster`]), from its key and its name. Who sees them learns nothing of the key:
/// they are a part of a pseudo-random function's output under a key that serves nothing else.
#[must_use]
pub fn cluster_tag(key: &[u8; 32], name: &str) -> u32 {
    let mut input = [0; 16];
    input[1] = TAG_USE;
    let [a, b, c, d, ..] = tag(&derive(key, &input), name.as_bytes());
    u32::from_le_bytes([a, b, c, d])
}

/// The key under which a move's bulk stream is authentic, from the cluster's.
#[must_use]
pub fn move_key(key: &[u8; 32], guest: GuestId, id: MoveId) -> LifeKey {
    let mut input = [0; 16];
    input[1] = MOVE_USE;
    input[2..4].copy_from_slice(&guest.0.to_le_bytes());
    input[8..].copy_from_slice(&id.0.to_le_bytes());
    derive(key, &input)
}

fn derive(key: &[u8; 32], input: &[u8; 16]) -> LifeKey {
    let derived = hchacha::<R20>(&Key::from(*key), &(*input).into());
    let mut own = LifeKey::default();
    own.0.copy_from_slice(&derived[..16]);
    own
}

/// The tag of `bytes`.
#[must_use]
#[inline]
pub fn tag(life: &LifeKey, bytes: &[u8]) -> [u8; TAG] {
    let mut hasher = SipHasher24::new_with_key(&life.0);
    hasher.write(bytes);
    hasher.finish128().as_bytes()
}

/// Whether `its` is the tag of `bytes`; takes the same time wherever they differ.
#[must_use]
pub fn is_tag(life: &LifeKey, bytes: &[u8], its: &[u8; TAG]) -> bool {
    is_same(&tag(life, bytes), its)
}

fn is_same(right: &[u8; TAG], its: &[u8; TAG]) -> bool {
    let differences = right.iter().zip(its).map(|(a, b)| a ^ b);
    differences.fold(0, |all, one| all | one) == 0
}

/// Makes and checks tags. There is one for boards; a simulation may bring a cheaper one, since what it tests is not the cipher.
pub trait Authenticator: Clone {
    /// One without a key, which a node holds until it boots.
    const BLANK: Self;

    /// Takes the cluster's key.
    fn set_key(&mut self, key: &[u8; 32]);

    /// The key of a life of a sender.
    fn life(&self, sender: u8, incarnation: Incarnation) -> LifeKey;

    /// The tag of a frame's bytes, its header with the sequence number among them.
    fn tag(&self, life: &LifeKey, bytes: &[u8]) -> [u8; TAG];

    /// Whether `tag` is the tag of `bytes`; takes the same time wherever they differ.
    fn check(&self, life: &LifeKey, bytes: &[u8], tag: &[u8; TAG]) -> bool {
        is_same(&self.tag(life, bytes), tag)
    }
}

/// The authenticator of boards, witnesses and operators.
#[derive(Clone)]
pub struct ClusterKey {
    key: [u8; 32],
}

impl ClusterKey {
    /// From the 256-bit key of the boot package.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self { key: *key }
    }
}

impl core::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ClusterKey(..)")
    }
}

impl Authenticator for ClusterKey {
    const BLANK: Self = Self { key: [0; 32] };

    fn set_key(&mut self, key: &[u8; 32]) {
        self.key = *key;
    }

    fn life(&self, sender: u8, incarnation: Incarnation) -> LifeKey {
        let mut input = [0; 16];
        input[0] = sender;
        input[8..].copy_from_slice(&incarnation.0.to_le_bytes());
        derive(&self.key, &input)
    }

    #[inline]
    fn tag(&self, life: &LifeKey, bytes: &[u8]) -> [u8; TAG] {
        tag(life, bytes)
    }
}
