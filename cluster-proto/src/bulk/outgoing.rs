//! The sending end.

use super::{CHUNK, Chunk, DELAY, LEAST_WINDOW, MAX_RING, Seen, Verdict};
use crate::ids::{Micros, Span};

/// So often something that was sent later has come before a chunk that is taken for lost.
const LATE: u8 = 3;
/// How long the other end may take to answer, beyond two round trips, before a chunk is taken for lost.
const GRACE: Span = Span::millis(10);
/// A round trip until one was measured.
const GUESS: Span = Span::millis(20);
/// How often the wait doubles while nothing is heard.
const MAX_BACKOFF: u32 = 4;

/// What goes out. `R` keeps what may have to be sent again.
pub struct Outgoing<R> {
    ring: R,
    /// The first chunk that has not come, as far as is known.
    first: u32,
    /// The next to be sent.
    next: u32,
    /// Chunks that may be on their way.
    window: u32,
    /// The shortest round trip so far, and what they take lately.
    shortest: Option<Span>,
    round_trip: Span,
    backoff: u32,
    /// When the window was made smaller.
    shrunk: Micros,
    /// When the other end was heard last.
    heard: Micros,
    verdict: Verdict,
    /// Chunks that were sent again.
    repeats: u64,
}

impl<R: AsRef<[Chunk]> + AsMut<[Chunk]>> Outgoing<R> {
    /// A stream that begins now.
    ///
    /// # Panics
    /// If `ring` has no chunk, or more than [`MAX_RING`].
    pub fn new(ring: R, now: Micros) -> Self {
        assert!((1..=MAX_RING).contains(&ring.as_ref().len()));
        Self {
            ring,
            first: 0,
            next: 0,
            // The first chunk asks whether anybody is there.
            window: 1,
            shortest: None,
            round_trip: GUESS,
            backoff: 0,
            shrunk: now,
            heard: now,
            verdict: Verdict::Going,
            repeats: 0,
        }
    }

    fn chunk(&mut self, number: u32) -> &mut Chunk {
        let ring = self.ring.as_mut();
        let length = ring.len();
        &mut ring[number as usize % length]
    }

    /// Whether another chunk may be sent now.
    pub fn has_room(&self) -> bool {
        let capacity = self.ring.as_ref().len() as u32;
        self.next - self.first < self.window.min(capacity)
    }

    /// Whether all that was sent has come.
    pub fn is_all_seen(&self) -> bool {
        self.first == self.next
    }

    /// When the other end was heard last.
    pub fn heard(&self) -> Micros {
        self.heard
    }

    /// How it stands to what it was sent, as last heard.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// What a round trip takes lately, and how many chunks were sent again.
    pub fn report(&self) -> (Span, u64) {
        (self.round_trip, self.repeats)
    }

    /// The shortest that a round trip has taken, once one has ended.
    pub fn shortest(&self) -> Option<Span> {
        self.shortest
    }

    /// The next chunk: its number. It is to be sent now.
    ///
    /// # Panics
    /// If there is [no room](Self::has_room), or it is longer than [`CHUNK`].
    pub fn push(&mut self, now: Micros, bytes: &[u8]) -> u32 {
        assert!(self.has_room() && bytes.len() <= CHUNK);
        let number = self.next;
        self.next = number.checked_add(1).expect("a stream ends before numbers");
        let chunk = self.chunk(number);
        chunk.put(bytes);
        chunk.sent = now;
        (chunk.again, chunk.seen, chunk.late) = (false, false, 0);
        number
    }

    /// What a chunk that is on its way holds.
    pub fn bytes(&self, number: u32) -> &[u8] {
        let ring = self.ring.as_ref();
        ring[number as usize % ring.len()].bytes()
    }

    /// The other end was heard. What cannot be is passed over: it has not come from this stream.
    pub fn hear(&mut self, now: Micros, seen: &Seen) {
        if seen.next > self.next {
            return;
        }
        self.heard = now;
        self.backoff = 0;
        if self.verdict == Verdict::Going {
            self.verdict = seen.verdict;
        }
        // Old news: it tells nothing of chunks.
        if seen.next < self.first {
            return;
        }
        let mut newly = 0;
        let mut latest = None;
        for number in self.first..self.next {
            let here = number < seen.next
                || number > seen.next && {
                    let behind = number - seen.next - 1;
                    behind < u128::BITS && seen.beyond >> behind & 1 != 0
                };
            let chunk = self.chunk(number);
            if here && !chunk.seen {
                chunk.seen = true;
                newly += 1;
                latest = latest.max(Some((chunk.sent, !chunk.again)));
            }
        }
        self.first = seen.next;
        let Some((sent, once)) = latest else { return };
        for number in self.first..self.next {
            let chunk = self.chunk(number);
            if !chunk.seen && chunk.sent < sent {
                chunk.late = chunk.late.saturating_add(1);
            }
        }
        // Of a chunk that was sent twice it is not known which one came.
        if once {
            self.measure(now, now.since(sent));
        }
        if self.window < LEAST_WINDOW {
            self.window = LEAST_WINDOW;
        } else if self.delay() <= DELAY {
            self.window = (self.window + newly).min(MAX_RING as u32);
        }
    }

    /// What the stream adds to a round trip.
    fn delay(&self) -> Span {
        let shortest = self.shortest.unwrap_or(self.round_trip);
        Span(self.round_trip.0.saturating_sub(shortest.0))
    }

    fn measure(&mut self, now: Micros, took: Span) {
        let first = self.shortest.is_none();
        self.shortest = Some(Span(
            self.shortest.map_or(took.0, |least| least.0.min(took.0)),
        ));
        self.round_trip = if first {
            took
        } else {
            Span((self.round_trip.0 * 7 + took.0) / 8)
        };
        if self.delay() > DELAY && now.since(self.shrunk) >= self.round_trip {
            self.shrunk = now;
            self.window = (self.window - self.window / 4).max(LEAST_WINDOW);
        }
    }

    fn patience(&self) -> Span {
        Span((2 * self.round_trip.0 + GRACE.0) << self.backoff)
    }

    /// A chunk that is taken for lost, and to be sent again now.
    pub fn next_lost(&mut self, now: Micros) -> Option<u32> {
        let patience = self.patience();
        for number in self.first..self.next {
            let chunk = self.chunk(number);
            let silent = now.since(chunk.sent) >= patience;
            if chunk.seen || !silent && chunk.late < LATE {
                continue;
            }
            chunk.sent = now;
            (chunk.again, chunk.late) = (true, 0);
            self.repeats += 1;
            if silent && now.since(self.shrunk) >= patience {
                self.shrunk = now;
                self.backoff = (self.backoff + 1).min(MAX_BACKOFF);
                self.window = (self.window / 2).max(LEAST_WINDOW.min(self.window));
            }
            return Some(number);
        }
        None
    }

    /// The last chunk, to be sent again so that the other end says how it stands.
    pub fn last(&self) -> Option<u32> {
        self.next.checked_sub(1)
    }

    /// When [`next_lost`](Self::next_lost) may have one.
    pub fn deadline(&self) -> Micros {
        let ring = self.ring.as_ref();
        let unseen = (self.first..self.next).map(|number| &ring[number as usize % ring.len()]);
        let oldest = unseen
            .filter(|chunk| !chunk.seen)
            .map(|chunk| chunk.sent)
            .min();
        oldest.map_or(Micros(u64::MAX), |sent| sent.after(self.patience()))
    }
}
