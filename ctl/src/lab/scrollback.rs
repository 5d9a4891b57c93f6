//! The last of what a console said.

use std::collections::VecDeque;

/// Bytes that are kept.
pub const MAX_SCROLLBACK: usize = 1 << 20;

/// A console's last bytes, each known by its place among all that ever came.
#[derive(Debug, Default)]
pub struct Scrollback {
    bytes: VecDeque<u8>,
    end: u64,
}

impl Scrollback {
    /// Keeps more bytes; the oldest go.
    pub fn push(&mut self, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        let kept = &bytes[bytes.len().saturating_sub(MAX_SCROLLBACK)..];
        let over = (self.bytes.len() + kept.len()).saturating_sub(MAX_SCROLLBACK);
        self.bytes.drain(..over);
        self.bytes.extend(kept);
    }

    /// The place behind the last byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The place of the oldest byte that is kept.
    pub fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    /// Where the last so many lines begin. A line that is not complete counts.
    pub fn last_lines(&self, lines: usize) -> u64 {
        let mut left = lines;
        let mut at = self.bytes.len();
        for (place, byte) in self.bytes.iter().enumerate().rev() {
            if *byte == b'\n' && place + 1 != self.bytes.len() {
                left = left.saturating_sub(1);
            }
            if left == 0 {
                break;
            }
            at = place;
        }
        self.start() + at as u64
    }

    /// At most `most` bytes from `place` on, or from the oldest that is kept.
    pub fn read(&self, place: u64, most: usize) -> Vec<u8> {
        // What is kept fits into memory, and so does its distance.
        let skip = place
            .saturating_sub(self.start())
            .min(self.bytes.len() as u64) as usize;
        self.bytes.iter().skip(skip).take(most).copied().collect()
    }

    /// Looks for `text` from `place` on: the place behind it, and the line that holds it as far as it has come.
    pub fn find(&self, place: u64, text: &str) -> Option<(u64, String)> {
        let begin = place.max(self.start());
        let bytes = self.read(begin, usize::MAX);
        let at = bytes
            .windows(text.len().max(1))
            .position(|window| window == text.as_bytes())?;
        let end = begin + (at + text.len()) as u64;
        let all = self.read(self.start(), usize::MAX);
        let at = (end - self.start()) as usize - text.len();
        let line = all[..at].iter().rposition(|byte| *byte == b'\n');
        let line = line.map_or(0, |newline| newline + 1);
        let stop = all[at..].iter().position(|byte| *byte == b'\n');
        let stop = stop.map_or(all.len(), |newline| at + newline);
        let line = String::from_utf8_lossy(&all[line..stop]);
        Some((end, line.trim_end().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let mut back = Scrollback::default();
        back.push(&vec![b'a'; MAX_SCROLLBACK]);
        back.push(b"bc");
        assert_eq!((back.start(), back.end()), (2, MAX_SCROLLBACK as u64 + 2));
        assert_eq!(back.read(back.end() - 3, 10), b"abc");
        assert_eq!(back.read(0, 1), b"a");
        assert_eq!(back.read(back.end() + 5, 1), b"");
        back.push(&vec![b'd'; MAX_SCROLLBACK + 1]);
        assert_eq!(back.read(0, 1), b"d");
        assert_eq!(back.end(), 2 * MAX_SCROLLBACK as u64 + 3);
    }

    #[test]
    fn lines_are_counted_from_the_end() {
        let mut back = Scrollback::default();
        back.push(b"one\ntwo\nthree");
        let last = |lines| back.read(back.last_lines(lines), 100);
        assert_eq!(last(1), b"three");
        assert_eq!(last(2), b"two\nthree");
        assert_eq!(last(9), b"one\ntwo\nthree");
        assert_eq!(last(0), b"");
        let mut whole = Scrollback::default();
        whole.push(b"one\ntwo\n");
        assert_eq!(whole.read(whole.last_lines(1), 100), b"two\n");
    }

    #[test]
    fn text_is_found_with_its_line() {
        let mut back = Scrollback::default();
        back.push(b"first\r\nhearth: guest web starts: 1 vCPU\r\nlast");
        let (end, line) = back.find(0, "guest web").unwrap();
        assert_eq!(line, "hearth: guest web starts: 1 vCPU");
        assert!(back.find(end, "guest web").is_none());
        assert_eq!(back.find(end, "last").unwrap().0, back.end());
        assert!(back.find(back.end() + 5, "last").is_none());
    }
}
