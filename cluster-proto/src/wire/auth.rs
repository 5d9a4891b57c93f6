//! Who may speak: a keyed tag over every frame.
//!
//! The tag is XChaCha20-Poly1305's for an empty plaintext, with the frame as associated data. The extended nonce begins with
//! sender and incarnation, so the first half of the key schedule is one key per life of a sender, derived once and kept.

use chacha20::{R20, hchacha};
use chacha20poly1305::aead::{AeadInOut, KeyInit, inout::InOutBuf};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};

use crate::ids::Incarnation;

/// Bytes of a tag.
pub const TAG: usize = 16;

/// The key of one life of one sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LifeKey(pub [u8; 32]);

/// Makes and checks tags. There is one for boards; a simulation may bring a cheaper one, since what it tests is not the cipher.
pub trait Authenticator: Clone {
    /// One without a key, which a node holds until it boots.
    const BLANK: Self;

    /// Takes the cluster's key.
    fn set_key(&mut self, key: &[u8; 32]);

    /// The key of a life of a sender.
    fn life(&self, sender: u8, incarnation: Incarnation) -> LifeKey;

    /// The tag of a frame's bytes under its sequence number.
    fn tag(&self, life: &LifeKey, sequence: u64, bytes: &[u8]) -> [u8; TAG];

    /// Whether `tag` is the tag of `bytes`; takes the same time wherever they differ.
    fn check(&self, life: &LifeKey, sequence: u64, bytes: &[u8], tag: &[u8; TAG]) -> bool {
        let right = self.tag(life, sequence, bytes);
        right
            .iter()
            .zip(tag)
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
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

fn nonce(sequence: u64) -> Nonce {
    let mut nonce = Nonce::default();
    nonce[4..].copy_from_slice(&sequence.to_le_bytes());
    nonce
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
        LifeKey(hchacha::<R20>(&Key::from(self.key), &input.into()).into())
    }

    fn tag(&self, life: &LifeKey, sequence: u64, bytes: &[u8]) -> [u8; TAG] {
        let cipher = ChaCha20Poly1305::new(&Key::from(life.0));
        // An empty plaintext cannot be too long, the only error there is; a tag of zeros is then refused by every receiver.
        cipher
            .encrypt_inout_detached(&nonce(sequence), bytes, InOutBuf::from(&mut [][..]))
            .map_or([0; TAG], Into::into)
    }

    fn check(&self, life: &LifeKey, sequence: u64, bytes: &[u8], tag: &[u8; TAG]) -> bool {
        let cipher = ChaCha20Poly1305::new(&Key::from(life.0));
        let tag = Tag::from(*tag);
        cipher
            .decrypt_inout_detached(&nonce(sequence), bytes, InOutBuf::from(&mut [][..]), &tag)
            .is_ok()
    }
}
