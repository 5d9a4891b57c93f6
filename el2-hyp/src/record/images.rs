//! The images that a guest was started from, by their digests.
//!
//! A block of a disk that is as its image has it is not in a record, and a guest that starts anew does so from its kernel: so who goes on from a record must have the same
//! images, and these say which.

use super::codec::{Encoder, Malformed, require};

/// The SHA-256 of an image; zeros where there is none.
pub type Digest = [u8; 32];
/// Digests before those of disks: the kernel's, and the initial RAM disk's.
const BEFORE_DISKS: usize = 2;

/// The images of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images<'a>(&'a [Digest]);

impl<'a> Images<'a> {
    /// Those of a section's payload, of a guest with so many disks.
    ///
    /// # Errors
    /// If there are more or fewer.
    pub(super) fn read(payload: &'a [u8], disks: usize) -> Result<Self, Malformed> {
        let (digests, rest) = payload.as_chunks();
        let whole = rest.is_empty() && digests.len() == BEFORE_DISKS + disks;
        require(whole, "the number of images")?;
        Ok(Self(digests))
    }

    /// Of the kernel, the initial RAM disk, and each disk in the order of their slots.
    pub fn digests(&self) -> &'a [Digest] {
        self.0
    }
}

/// Writes the digests of the kernel, the initial RAM disk, and each disk in the order of their slots.
pub fn to_record(digests: &[Digest], to: &mut Encoder<'_>) {
    digests.iter().for_each(|digest| to.bytes(digest));
}
