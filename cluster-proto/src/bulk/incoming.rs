//! The receiving end.

use super::{Chunk, MAX_RING, Seen, Verdict};

/// What comes in. `R` keeps chunks that came before their turn.
pub struct Incoming<R> {
    ring: R,
    /// The first chunk that has not come.
    next: u32,
    /// Those that have come behind it: bit 0 is chunk `next + 1`.
    beyond: u128,
}

impl<R: AsMut<[Chunk]>> Incoming<R> {
    /// Nothing has come.
    ///
    /// # Panics
    /// If `ring` has no chunk, or more than [`MAX_RING`].
    pub fn new(mut ring: R) -> Self {
        assert!((1..=MAX_RING).contains(&ring.as_mut().len()));
        Self {
            ring,
            next: 0,
            beyond: 0,
        }
    }

    /// A chunk has come. Gives `deliver` what its turn has come for, in order.
    ///
    /// # Errors
    /// What `deliver` says; the stream is of no use any more.
    pub fn take<E>(
        &mut self,
        number: u32,
        bytes: &[u8],
        mut deliver: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let ring = self.ring.as_mut();
        let Some(ahead) = number.checked_sub(self.next) else {
            return Ok(());
        };
        if ahead as usize >= ring.len() {
            return Ok(());
        }
        if ahead > 0 {
            ring[number as usize % ring.len()].put(bytes);
            self.beyond |= 1 << (ahead - 1);
            return Ok(());
        }
        deliver(bytes)?;
        loop {
            self.next += 1;
            let is_here = self.beyond & 1 != 0;
            self.beyond >>= 1;
            if !is_here {
                return Ok(());
            }
            deliver(ring[self.next as usize % ring.len()].bytes())?;
        }
    }

    /// What the other end is told.
    pub fn seen(&self, verdict: Verdict) -> Seen {
        Seen {
            next: self.next,
            beyond: self.beyond,
            verdict,
        }
    }
}
