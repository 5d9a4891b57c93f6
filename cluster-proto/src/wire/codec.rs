//! Bytes to values and back: fixed little-endian integers, one-byte discriminants, counted strings. Nothing here allocates or panics.

use crate::ids::{
    BoardId, BoardSet, Epoch, Era, GuestId, Incarnation, Index, Memory, Micros, MoveId, Span,
    Tenure, Term, VolumeId,
};

/// Why bytes are not a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They end too early.
    Short,
    /// They go on after the value.
    Long,
    /// A discriminant, a count or a number is outside its range.
    Range,
    /// Text is not UTF-8.
    Text,
}

/// The writer's buffer is too small for the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Reads values from the front of a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`Malformed::Short`] when fewer are left.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`Malformed::Short`] when fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// How many bytes are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// Says that the value ends here.
    ///
    /// # Errors
    /// [`Malformed::Long`] when bytes are left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Long)
        }
    }
}

/// Writes values one after another into a slice.
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    used: usize,
}

impl<'a> Writer<'a> {
    /// A writer into `buffer`, from its start.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, used: 0 }
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// [`Full`] when they do not fit; nothing is written then.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.used.checked_add(bytes.len()).ok_or(Full)?;
        self.buffer
            .get_mut(self.used..end)
            .ok_or(Full)?
            .copy_from_slice(bytes);
        self.used = end;
        Ok(())
    }

    /// How many bytes were written.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// What was written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.used).unwrap_or_default()
    }

    /// Goes back to an earlier length, to undo a value that did not fit whole.
    pub fn truncate(&mut self, used: usize) {
        self.used = self.used.min(used);
    }

    /// Overwrites one byte that was written before.
    pub fn patch(&mut self, at: usize, byte: u8) {
        if at < self.used
            && let Some(slot) = self.buffer.get_mut(at)
        {
            *slot = byte;
        }
    }
}

/// A value with one encoding.
pub trait Wire: Sized {
    /// Appends the value.
    ///
    /// # Errors
    /// [`Full`] when it does not fit.
    fn put(&self, to: &mut Writer<'_>) -> Result<(), Full>;

    /// Reads a value.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are none.
    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed>;
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Wire for $int {
            #[inline]
            fn put(&self, to: &mut Writer<'_>) -> Result<(), Full> {
                to.put(&self.to_le_bytes())
            }

            #[inline]
            fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                Ok(Self::from_le_bytes(from.array()?))
            }
        }
    )*};
}
integers!(u8, u16, u32, u64);

macro_rules! wrappers {
    ($($name:ident),*) => {$(
        impl Wire for $name {
            #[inline]
            fn put(&self, to: &mut Writer<'_>) -> Result<(), Full> {
                self.0.put(to)
            }

            #[inline]
            fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                Ok(Self(Wire::get(from)?))
            }
        }
    )*};
}
wrappers!(
    GuestId,
    VolumeId,
    Incarnation,
    Memory,
    Term,
    Index,
    Epoch,
    Tenure,
    MoveId,
    Micros,
    Span,
    BoardSet
);

impl Wire for BoardId {
    #[inline]
    fn put(&self, to: &mut Writer<'_>) -> Result<(), Full> {
        self.0.put(to)
    }

    #[inline]
    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let number = u8::get(from)?;
        if usize::from(number) < crate::limits::BOARDS_MAX {
            Ok(Self(number))
        } else {
            Err(Malformed::Range)
        }
    }
}

impl Wire for Era {
    fn put(&self, to: &mut Writer<'_>) -> Result<(), Full> {
        self.generation.put(to)?;
        self.nonce.put(to)
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            generation: Wire::get(from)?,
            nonce: Wire::get(from)?,
        })
    }
}

impl Wire for bool {
    fn put(&self, to: &mut Writer<'_>) -> Result<(), Full> {
        u8::from(*self).put(to)
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::get(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Range),
        }
    }
}

impl<const N: usize> Wire for [u8; N] {
    fn put(&self, to: &mut Writer<'_>) -> Result<(), Full> {
        to.put(self)
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.array()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, to: &mut Writer<'_>) -> Result<(), Full> {
        match self {
            None => false.put(to),
            Some(value) => {
                true.put(to)?;
                value.put(to)
            }
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(if bool::get(from)? {
            Some(T::get(from)?)
        } else {
            None
        })
    }
}

impl<T: Wire, const N: usize> Wire for heapless::Vec<T, N> {
    fn put(&self, to: &mut Writer<'_>) -> Result<(), Full> {
        u16::try_from(self.len()).map_err(|_| Full)?.put(to)?;
        self.iter().try_for_each(|item| item.put(to))
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut all = Self::new();
        for _ in 0..u16::get(from)? {
            all.push(T::get(from)?).map_err(|_| Malformed::Range)?;
        }
        Ok(all)
    }
}

impl<const N: usize> Wire for heapless::String<N> {
    fn put(&self, to: &mut Writer<'_>) -> Result<(), Full> {
        u16::try_from(self.len()).map_err(|_| Full)?.put(to)?;
        to.put(self.as_bytes())
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let length = u16::get(from)?;
        let text =
            core::str::from_utf8(from.take(usize::from(length))?).map_err(|_| Malformed::Text)?;
        Self::try_from(text).map_err(|_| Malformed::Range)
    }
}

/// A struct whose encoding is its fields in order.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $crate::wire::codec::Wire for $name {
            fn put(&self, to: &mut $crate::wire::codec::Writer<'_>) -> Result<(), $crate::wire::codec::Full> {
                $($crate::wire::codec::Wire::put(&self.$field, to)?;)*
                Ok(())
            }

            fn get(from: &mut $crate::wire::codec::Reader<'_>) -> Result<Self, $crate::wire::codec::Malformed> {
                Ok(Self { $($field: $crate::wire::codec::Wire::get(from)?,)* })
            }
        }
    };
}

/// An enum without fields whose encoding is one byte.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$item_doc])* $item = $code,)* }

        impl $crate::wire::codec::Wire for $name {
            fn put(&self, to: &mut $crate::wire::codec::Writer<'_>) -> Result<(), $crate::wire::codec::Full> {
                (*self as u8).put(to)
            }

            fn get(from: &mut $crate::wire::codec::Reader<'_>) -> Result<Self, $crate::wire::codec::Malformed> {
                match u8::get(from)? {
                    $($code => Ok(Self::$item),)*
                    _ => Err($crate::wire::codec::Malformed::Range),
                }
            }
        }
    };
}

/// An enum whose encoding is one byte and the fields of its variant in order.
macro_rules! tagged {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$item_doc:meta])* $code:literal => $item:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* },)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[allow(clippy::large_enum_variant, reason = "there is no heap to box the large one in")]
        pub enum $name { $($(#[$item_doc])* $item { $($(#[$field_doc])* $field: $type,)* },)* }

        impl $crate::wire::codec::Wire for $name {
            fn put(&self, to: &mut $crate::wire::codec::Writer<'_>) -> Result<(), $crate::wire::codec::Full> {
                match self {
                    $(Self::$item { $($field,)* } => {
                        u8::put(&$code, to)?;
                        $($crate::wire::codec::Wire::put($field, to)?;)*
                    })*
                }
                Ok(())
            }

            fn get(from: &mut $crate::wire::codec::Reader<'_>) -> Result<Self, $crate::wire::codec::Malformed> {
                match u8::get(from)? {
                    $($code => Ok(Self::$item { $($field: $crate::wire::codec::Wire::get(from)?,)* }),)*
                    _ => Err($crate::wire::codec::Malformed::Range),
                }
            }
        }
    };
}
pub(crate) use {choice, record, tagged};
