//! The flattened format: a header, a block of tokens, a block of strings, a list of reservations.
//!
//! Source: Devicetree Specification 0.4, chapter 5. Everything here is total: an offset or a length
//! that points outside ends in a [`TreeError`], and nothing recurses.

use super::TreeError;

/// The first word of every flattened tree.
const MAGIC: u32 = 0xd00d_feed;
/// Bytes of the version 17 header.
pub const HEADER_BYTES: usize = 40;
/// The version this reads; it must lie in the tree's range of compatible versions.
const VERSION: u32 = 17;
/// The longest tree accepted, bytes: what Linux' arm64 boot protocol lets a loader pass.
pub const MAX_TREE_BYTES: usize = 2 << 20;
/// How deep nodes may nest; the deepest of the supported boards' trees has 7.
pub const MAX_DEPTH: usize = 16;

const TOKEN_BYTES: usize = 4;
const TOKEN_BEGIN: u32 = 1;
const TOKEN_END_NODE: u32 = 2;
const TOKEN_PROPERTY: u32 = 3;
const TOKEN_NOP: u32 = 4;
const TOKEN_END: u32 = 9;

/// A big-endian word at `offset`, if it lies inside.
pub(super) fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let end = offset.checked_add(4)?;
    Some(u32::from_be_bytes(bytes.get(offset..end)?.try_into().ok()?))
}

/// A big-endian double word at `offset`, if it lies inside.
pub(super) fn double_word(bytes: &[u8], offset: usize) -> Option<u64> {
    let end = offset.checked_add(8)?;
    Some(u64::from_be_bytes(bytes.get(offset..end)?.try_into().ok()?))
}

/// The bytes up to the first NUL, or `None` if there is none.
pub(super) fn until_nul(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    bytes.get(..end)
}

/// How many bytes the tree that starts with `header` has, so that a loader's bare pointer can become a slice.
///
/// # Errors
/// [`TreeError::NotATree`] without the magic number, [`TreeError::TooLarge`] above [`MAX_TREE_BYTES`],
/// [`TreeError::Truncated`] for a length that does not even hold the header.
pub fn total_bytes(header: &[u8; 8]) -> Result<usize, TreeError> {
    if word(header, 0) != Some(MAGIC) {
        return Err(TreeError::NotATree);
    }
    let total = word(header, 4).ok_or(TreeError::Truncated)? as usize;
    match total {
        _ if total < HEADER_BYTES => Err(TreeError::Truncated),
        _ if total > MAX_TREE_BYTES => Err(TreeError::TooLarge { bytes: total }),
        _ => Ok(total),
    }
}

/// One step of a walk through the structure block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A node opens.
    Begin { name: &'a str },
    /// The innermost open node closes.
    End,
    /// A property of the innermost open node.
    Property { name: &'a [u8], value: &'a [u8] },
    /// Nothing follows.
    Last,
}

/// The blocks of a tree whose header has been checked.
#[derive(Clone, Copy)]
pub(super) struct Blob<'a> {
    structure: &'a [u8],
    strings: &'a [u8],
    reservations: &'a [u8],
    total: usize,
}

impl<'a> Blob<'a> {
    /// Checks the header and walks the whole structure block once: afterwards every token decodes,
    /// nodes nest and close, and none is deeper than [`MAX_DEPTH`].
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, TreeError> {
        let head = bytes.first_chunk().ok_or(TreeError::Truncated)?;
        let total = total_bytes(head)?;
        let bytes = bytes.get(..total).ok_or(TreeError::Truncated)?;
        let field = |index: usize| word(bytes, index * 4).ok_or(TreeError::Truncated);
        let (version, oldest_reader) = (field(5)?, field(6)?);
        if version < VERSION || oldest_reader > VERSION {
            return Err(TreeError::Version { version });
        }
        let part = |offset: u32, size: u32| {
            let start = offset as usize;
            let end = start
                .checked_add(size as usize)
                .ok_or(TreeError::Truncated)?;
            bytes.get(start..end).ok_or(TreeError::Truncated)
        };
        let reservations = field(4)?;
        let blob = Self {
            structure: part(field(2)?, field(9)?)?,
            strings: part(field(3)?, field(8)?)?,
            reservations: bytes
                .get(reservations as usize..)
                .ok_or(TreeError::Truncated)?,
            total,
        };
        blob.check_structure()?;
        Ok(blob)
    }

    /// The tree's length in bytes, as its header gives it.
    pub(super) fn total_bytes(&self) -> usize {
        self.total
    }

    fn check_structure(&self) -> Result<(), TreeError> {
        let mut offset = 0;
        let mut depth = 0usize;
        loop {
            let (token, next) = self.token(offset)?;
            match token {
                Token::Begin { .. } if depth == MAX_DEPTH => return Err(TreeError::TooDeep),
                Token::Begin { .. } => depth += 1,
                Token::End => {
                    depth = depth
                        .checked_sub(1)
                        .ok_or(TreeError::Structure { offset })?;
                }
                Token::Property { .. } if depth == 0 => {
                    return Err(TreeError::Structure { offset });
                }
                Token::Property { .. } => {}
                Token::Last if depth == 0 => return Ok(()),
                Token::Last => return Err(TreeError::Structure { offset }),
            }
            offset = next;
        }
    }

    /// Decodes the token at `offset` and gives the offset of the next. No-operations, which editors of
    /// finished trees leave behind (QEMU does, over removed nodes), are skipped wherever they stand.
    pub(super) fn token(&self, mut offset: usize) -> Result<(Token<'a>, usize), TreeError> {
        let mut tag = self.word(offset)?;
        while tag == TOKEN_NOP {
            offset += TOKEN_BYTES;
            tag = self.word(offset)?;
        }
        let malformed = TreeError::Structure { offset };
        let body = offset + TOKEN_BYTES;
        match tag {
            TOKEN_BEGIN => {
                let rest = self.structure.get(body..).ok_or(malformed)?;
                let name = until_nul(rest).ok_or(malformed)?;
                let text = core::str::from_utf8(name).map_err(|_| malformed)?;
                Ok((Token::Begin { name: text }, align(body + name.len() + 1)))
            }
            TOKEN_END_NODE => Ok((Token::End, body)),
            TOKEN_PROPERTY => {
                let length = self.word(body)? as usize;
                let name_at = self.word(body + 4)? as usize;
                let start = body + 8;
                let end = start.checked_add(length).ok_or(malformed)?;
                let value = self.structure.get(start..end).ok_or(malformed)?;
                let name = self
                    .strings
                    .get(name_at..)
                    .and_then(until_nul)
                    .ok_or(malformed)?;
                Ok((Token::Property { name, value }, align(end)))
            }
            TOKEN_END => Ok((Token::Last, body)),
            _ => Err(malformed),
        }
    }

    fn word(&self, offset: usize) -> Result<u32, TreeError> {
        word(self.structure, offset).ok_or(TreeError::Structure { offset })
    }

    /// The reservation block's entries as (base, size), up to its end mark.
    ///
    /// # Errors
    /// An item is an error when the block ends without its mark.
    pub(super) fn reservations(&self) -> impl Iterator<Item = Result<(u64, u64), TreeError>> {
        let block = self.reservations;
        let mut offset = 0;
        let mut done = false;
        core::iter::from_fn(move || {
            if done {
                return None;
            }
            let pair = double_word(block, offset).zip(double_word(block, offset + 8));
            offset += 16;
            done = matches!(pair, None | Some((0, 0)));
            match pair {
                Some((0, 0)) => None,
                Some(entry) => Some(Ok(entry)),
                None => Some(Err(TreeError::Truncated)),
            }
        })
    }
}

/// Tokens start on multiples of four bytes.
fn align(offset: usize) -> usize {
    offset.next_multiple_of(TOKEN_BYTES)
}
