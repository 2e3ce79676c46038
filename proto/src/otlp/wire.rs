//! Protobuf fields, read in place.

/// Why bytes are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A varint, fixed-width value or length runs past the end.
    #[error("the message ends in the middle of a field")]
    Truncated,
    /// A varint of more than ten bytes, or one that overflows 64 bits.
    #[error("a varint is longer than 64 bits")]
    Varint,
    /// Field number 0, or a wire type protobuf does not have (groups are not accepted).
    #[error("field tag {0} is not valid")]
    Tag(u64),
    /// A known field came with the wrong wire type.
    #[error("field {0} has the wrong wire type")]
    WrongType(u32),
    /// A string that is not UTF-8.
    #[error("a string is not valid UTF-8")]
    Utf8,
    /// Values nested deeper than [`super::value::MAX_DEPTH`].
    #[error("values are nested more than {} deep", super::value::MAX_DEPTH)]
    TooDeep,
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Field<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

impl<'a> Field<'a> {
    /// The bytes of a length-delimited field.
    #[inline]
    pub fn bytes(self, number: u32) -> Result<&'a [u8], WireError> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(WireError::WrongType(number)) }
    }

    /// The text of a string field.
    #[inline]
    pub fn text(self, number: u32) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes(number)?).map_err(|_| WireError::Utf8)
    }

    /// The value of an integer, bool or enum field.
    #[inline]
    pub fn varint(self, number: u32) -> Result<u64, WireError> {
        if let Self::Varint(n) = self { Ok(n) } else { Err(WireError::WrongType(number)) }
    }

    /// The value of a `fixed64` or `double` field.
    #[inline]
    pub fn fixed64(self, number: u32) -> Result<u64, WireError> {
        if let Self::Fixed64(n) = self { Ok(n) } else { Err(WireError::WrongType(number)) }
    }
}

/// Iterates over `(number, value)` of a message's fields, in wire order.
///
/// ```
/// use coral_proto::otlp::wire::{Field, Fields};
/// let message = [0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i'];
/// let fields: Result<Vec<_>, _> = Fields::new(&message).collect();
/// assert_eq!(fields.unwrap(), [(1, Field::Varint(150)), (2, Field::Bytes(b"hi"))]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Over the fields of one message.
    #[inline]
    #[must_use]
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// What has not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        let (&first, rest) = self.rest.split_first().ok_or(WireError::Truncated)?;
        if first < 0x80 {
            self.rest = rest;
            return Ok(u64::from(first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for (i, &byte) in self.rest.iter().enumerate().take(10) {
            let part = u64::from(byte & 0x7f);
            if i == 9 && byte > 1 {
                return Err(WireError::Varint);
            }
            value |= part << (7 * i);
            if byte < 0x80 {
                self.rest = self.rest.get(i + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(if self.rest.len() >= 10 { WireError::Varint } else { WireError::Truncated })
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn read(&mut self) -> Result<(u32, Field<'a>), WireError> {
        let tag = self.varint()?;
        // A key is a 32-bit varint: the official decoders refuse longer ones.
        let number = u32::try_from(tag).map_err(|_| WireError::Tag(tag))? >> 3;
        if number == 0 {
            return Err(WireError::Tag(tag));
        }
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                let (bytes, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
                self.rest = rest;
                Field::Fixed64(u64::from_le_bytes(*bytes))
            }
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| WireError::Truncated)?;
                Field::Bytes(self.take(length)?)
            }
            5 => {
                let (bytes, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
                self.rest = rest;
                Field::Fixed32(u32::from_le_bytes(*bytes))
            }
            _ => return Err(WireError::Tag(tag)),
        };
        Ok((number, field))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

/// Iterates over the bodies of every occurrence of one length-delimited field.
#[derive(Debug, Clone, Copy)]
pub struct Repeated<'a> {
    fields: Fields<'a>,
    number: u32,
}

impl<'a> Repeated<'a> {
    /// Occurrences of field `number` in `message`.
    #[must_use]
    pub fn new(message: &'a [u8], number: u32) -> Self {
        Self { fields: Fields::new(message), number }
    }
}

impl<'a> Iterator for Repeated<'a> {
    type Item = Result<&'a [u8], WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.fields.next()? {
                Ok((number, field)) if number == self.number => {
                    return Some(field.bytes(number));
                }
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// The numbers of a packed varint field.
pub fn varints(packed: &[u8]) -> impl Iterator<Item = Result<u64, WireError>> + '_ {
    let mut rest = Fields::new(packed);
    std::iter::from_fn(move || {
        if rest.rest.is_empty() {
            return None;
        }
        let read = rest.varint();
        if read.is_err() {
            rest.rest = &[];
        }
        Some(read)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn damage_is_named() {
        let all = |bytes: &'static [u8]| Fields::new(bytes).collect::<Result<Vec<_>, _>>();
        assert_eq!(all(&[0x08]), Err(WireError::Truncated));
        assert_eq!(all(&[0x12, 0x05, 1]), Err(WireError::Truncated));
        assert_eq!(all(&[0x00, 0x00]), Err(WireError::Tag(0)));
        assert_eq!(all(&[0x0b]), Err(WireError::Tag(11)));
        const LONG: &[u8] = &[0x80, 0x80, 0x80, 0x80, 0x2d, 0x00];
        assert!(matches!(all(LONG), Err(WireError::Tag(_))));
        assert_eq!(
            all(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]),
            Err(WireError::Varint)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(Fields::new(&bytes).count() <= bytes.len());
        }
    }
}
