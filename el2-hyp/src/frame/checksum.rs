//! The Internet checksum (RFC 1071), fast where the compiler must not use unaligned loads and there is no SIMD.
//!
//! The sum of 16-bit words is the same modulo 2^16 - 1 when it is made of 64-bit words with the carry put back in, and in either byte order
//! when the result is read in that order. So [`Sum::add`] adds aligned 64-bit words, two instructions for each and one for each two
//! loads, and puts the bytes of the result right if the data began at an odd address.

/// Words of 64 bits in an unrolled step: of most of the data, and of what then is left.
const LARGE: usize = 16;
const SMALL: usize = 4;

/// A sum of data that comes in pieces, of any length and alignment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// Of folded pieces; far from its end, since a piece adds less than 2^16.
    total: u64,
    /// Whether the next byte is the second of a word.
    odd: bool,
}

impl Sum {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            total: 0,
            odd: false,
        }
    }

    /// Adds data.
    #[inline]
    pub fn add(&mut self, data: &[u8]) {
        // SAFETY: eight bytes are a word, whatever they are.
        let (head, words, tail) = unsafe { data.align_to::<u64>() };
        let mut piece = fold(add(words_sum(words), bytes_word(tail)));
        if !head.is_empty() {
            if !head.len().is_multiple_of(2) {
                piece = piece.swap_bytes();
            }
            piece = fold(u64::from(piece) + u64::from(fold(bytes_word(head))));
        }
        self.total += u64::from(if self.odd { piece.swap_bytes() } else { piece });
        self.odd ^= !data.len().is_multiple_of(2);
    }

    /// Adds a number that stands in the data in network byte order, at an even place.
    pub fn add_u16(&mut self, value: u16) {
        debug_assert!(!self.odd);
        self.total += u64::from(u16::from_ne_bytes(value.to_be_bytes()));
    }

    /// The sum's complement, as it stands in a header. Zero is sent as its other form, all ones, which every protocol takes for the same and
    /// UDP does not take for "no checksum" (RFC 768).
    pub fn complement(self) -> [u8; 2] {
        match !fold(self.total) {
            0 => [0xff; 2],
            checksum => checksum.to_ne_bytes(),
        }
    }

    /// The sum itself, as it stands in the data: all ones if the data holds its own right checksum.
    pub fn bytes(self) -> [u8; 2] {
        fold(self.total).to_ne_bytes()
    }
}

/// Up to seven bytes as a word, followed by zeros.
#[inline]
fn bytes_word(bytes: &[u8]) -> u64 {
    let lowest_first = |word: u64, &byte: &u8| word << 8 | u64::from(byte);
    bytes.iter().rev().fold(0, lowest_first).to_le()
}

/// Adds modulo 2^64 - 1.
#[inline]
fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    // Where it carries, the sum is not all ones.
    sum.wrapping_add(u64::from(carry))
}

/// Sums words modulo 2^64 - 1.
#[inline]
fn words_sum(words: &[u64]) -> u64 {
    let (large, rest) = words.as_chunks::<LARGE>();
    let (small, rest) = rest.as_chunks::<SMALL>();
    let sum = large.iter().fold(0, step);
    let sum = small.iter().fold(sum, step);
    rest.iter().fold(sum, |sum, &word| add(sum, word))
}

/// Adds so many words, in which the carry of one addition goes into the next.
#[inline]
fn step<const N: usize>(sum: u64, words: &[u64; N]) -> u64 {
    let (mut sum, mut carry) = (sum, false);
    for &word in words {
        (sum, carry) = sum.carrying_add(word, carry);
    }
    add(sum, u64::from(carry))
}

/// Reduces a sum to 16 bits, modulo 2^16 - 1.
#[inline]
fn fold(sum: u64) -> u16 {
    // At most 2^33, then 2^18, then 2^16 + 3, then 2^16 - 1.
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, section 4.1, word by word.
    fn naive(data: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in data.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn the_rfcs_example() {
        let mut sum = Sum::new();
        sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.bytes(), [0xdd, 0xf2]);
        assert_eq!(sum.complement(), [0x22, 0x0d]);
    }

    #[test]
    fn zero_is_sent_as_ones() {
        let mut sum = Sum::new();
        sum.add(&[0xff, 0xff]);
        assert_eq!(sum.complement(), [0xff, 0xff]);
    }

    #[test]
    fn carries_of_carries() {
        for length in 0..600 {
            let data = std::vec![0xffu8; length];
            let mut sum = Sum::new();
            sum.add(&data);
            assert_eq!(u16::from_be_bytes(sum.bytes()), naive(&data), "{length}");
        }
    }

    proptest! {
        #[test]
        fn as_the_naive_one(data: std::vec::Vec<u8>, skip in 0usize..9, cuts: [usize; 3], number: u16) {
            let data = &data[skip.min(data.len())..];
            let mut cuts = cuts.map(|cut| cut % (data.len() + 1));
            cuts.sort();
            let mut sum = Sum::new();
            sum.add_u16(number);
            let mut from = 0;
            for cut in cuts.into_iter().chain([data.len()]) {
                sum.add(&data[from..cut]);
                from = cut;
            }
            let whole = [&number.to_be_bytes(), data].concat();
            // Both forms of zero are the same number.
            prop_assert_eq!(u16::from_be_bytes(sum.bytes()) % 0xffff, naive(&whole) % 0xffff);
        }
    }
}
