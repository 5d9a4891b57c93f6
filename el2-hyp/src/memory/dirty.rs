//! Which pages of a guest EL2 has written on the guest's behalf.
//!
//! A bit for each page of 4 KiB. What the guest itself writes is stage 2's to log; a page is dirty when either says so.

use alloc::boxed::Box;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::addr::PAGE_SIZE;

/// Pages that one word of the log stands for.
pub const PAGES_PER_WORD: u64 = 64;

/// The log of one guest's pages.
pub struct DirtyLog {
    on: AtomicBool,
    words: Box<[AtomicU64]>,
}

impl DirtyLog {
    /// A log, off and empty, for `bytes` of RAM.
    pub(crate) fn new(bytes: u64) -> Self {
        let words = bytes.div_ceil(PAGE_SIZE * PAGES_PER_WORD);
        Self {
            on: AtomicBool::new(false),
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Starts or ends logging. What was logged stays.
    ///
    /// A write that another core has begun before may still be missed. Whoever starts logging lets every core of the board come round
    /// once before the first page is read in reliance on it.
    pub fn set_on(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
    }

    /// Whether writes are logged.
    #[inline(always)]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// How many words the log has; page `n` of RAM is bit `n % 64` of word `n / 64`.
    pub fn words(&self) -> usize {
        self.words.len()
    }

    /// Takes and clears what is set in a range of words, as (word, bits), leaving out words without any. Each is cleared when it is
    /// yielded: a page that is written later is set again.
    ///
    /// # Panics
    /// If the range goes beyond [`words`](Self::words).
    pub fn take(&self, words: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
        let first = words.start;
        self.words[words]
            .iter()
            .enumerate()
            .filter(|(_, word)| word.load(Ordering::Relaxed) != 0)
            // Acquire: the page is read after its bit was taken, so that it holds what the bit was set for.
            .map(move |(n, word)| (first + n, word.swap(0, Ordering::AcqRel)))
    }

    /// Takes and clears one word.
    ///
    /// # Panics
    /// If there is no such word.
    pub fn take_word(&self, word: usize) -> u64 {
        let word = &self.words[word];
        if word.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        word.swap(0, Ordering::AcqRel)
    }

    /// Sets all of a range of words: each of their pages counts as written.
    ///
    /// # Panics
    /// If the range goes beyond [`words`](Self::words).
    pub fn set_all(&self, words: Range<usize>) {
        for word in &self.words[words] {
            word.store(u64::MAX, Ordering::Release);
        }
    }

    /// Notes that page `page` of RAM is about to be written, or was.
    ///
    /// # Panics
    /// If RAM has no such page.
    #[inline]
    pub fn set_page(&self, page: u64) {
        self.words[(page / PAGES_PER_WORD) as usize]
            .fetch_or(1 << (page % PAGES_PER_WORD), Ordering::Release);
    }

    /// How many pages are logged, of those of a range of words.
    ///
    /// # Panics
    /// If the range goes beyond [`words`](Self::words).
    pub fn count(&self, words: Range<usize>) -> u64 {
        let ones = |word: &AtomicU64| u64::from(word.load(Ordering::Relaxed).count_ones());
        self.words[words].iter().map(ones).sum()
    }

    /// Whether page `page` of RAM is logged.
    ///
    /// # Panics
    /// If RAM has no such page.
    pub fn is_set(&self, page: u64) -> bool {
        let word = self.words[(page / PAGES_PER_WORD) as usize].load(Ordering::Acquire);
        word >> (page % PAGES_PER_WORD) & 1 != 0
    }

    /// Clears all.
    pub fn clear(&self) {
        for word in &self.words {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that `length` bytes from offset `at` of RAM were written, which lies within RAM. Called after the write: a reader that takes
    /// the bit sees the bytes.
    #[cold]
    #[inline(never)]
    pub(super) fn note(&self, at: u64, length: u64) {
        if length == 0 {
            return;
        }
        for page in at / PAGE_SIZE..=(at + length - 1) / PAGE_SIZE {
            self.words[(page / PAGES_PER_WORD) as usize]
                .fetch_or(1 << (page % PAGES_PER_WORD), Ordering::Release);
        }
    }
}
