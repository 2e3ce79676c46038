//! Header blocks of one direction (HPACK, RFC 7541), read from wherever their connection is come upon.
//!
//! A library's decoder must have seen a connection from its first byte. This one need not: entries of
//! the dynamic table are numbered from the newest on, so what was put into it since the reading began
//! is known, and what an older entry is, is not: then the field is [`Field::Unknown`], never an error
//! and never a guess. For the same reason an entry that the sender may have thrown out already is
//! kept until its place is needed: nobody refers to it any more.
//!
//! The table's size follows from the blocks alone: who changes it says so in the next block (4.2), so
//! `SETTINGS_HEADER_TABLE_SIZE`, which only allows it, need not be read.

use std::collections::VecDeque;

use super::fields::{FIXED, Field, NAME, Name, VALUE, fixed};
use super::huffman;

/// The dynamic table's size until a block says another (RFC 9113, 6.5.2), in bytes as RFC 7541, 4.1
/// counts them.
const DEFAULT: usize = 4_096;
/// Most that is kept of a table; older entries of a larger one are unknown.
const LARGEST: usize = 64 << 10;
/// What each entry counts besides its name and value.
const ENTRY: usize = 32;

/// It is no header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a header block of HTTP/2")]
pub struct Broken;

#[derive(Debug)]
struct Entry {
    name: Name,
    /// Of the name, in bytes.
    length: usize,
    field: Field,
    size: usize,
}

/// A direction's dynamic table.
#[derive(Debug)]
pub struct Decoder {
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
    /// A string that is being looked at.
    text: Vec<u8>,
}

impl Default for Decoder {
    /// Of a connection that begins now.
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, limit: DEFAULT, text: Vec::new() }
    }
}

/// What is left of a block.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn byte(&mut self) -> Result<u8, Broken> {
        let (first, rest) = self.0.split_first().ok_or(Broken)?;
        self.0 = rest;
        Ok(*first)
    }

    /// An integer whose first bits are the low `bits` of `first` (RFC 7541, 5.1).
    fn integer(&mut self, first: u8, bits: u32) -> Result<usize, Broken> {
        let most = (1usize << bits) - 1;
        let mut number = usize::from(first) & most;
        if number < most {
            return Ok(number);
        }
        for shift in [0u32, 7, 14, 21] {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Broken)
    }

    /// A string as it stands there, and whether it is in Huffman's code.
    fn string(&mut self) -> Result<(&'b [u8], bool), Broken> {
        let first = self.byte()?;
        let length = self.integer(first, 7)?;
        let (string, rest) = self.0.split_at_checked(length).ok_or(Broken)?;
        self.0 = rest;
        Ok((string, first & 0x80 != 0))
    }
}

impl Decoder {
    /// Forgets what is in the table: something of it may have been missed.
    pub fn forget(&mut self) {
        self.entries.clear();
        self.size = 0;
        // It may be as large as anybody said meanwhile.
        self.limit = LARGEST;
    }

    /// Reads a block, and hands `each` what is kept of its fields.
    ///
    /// # Errors
    /// When it is none, or cut off; what was handed out before stands. The table is to be forgotten
    /// then.
    pub fn read(&mut self, block: &[u8], mut each: impl FnMut(Field)) -> Result<(), Broken> {
        let mut rest = Rest(block);
        while !rest.0.is_empty() {
            let first = rest.byte()?;
            if first & 0x80 != 0 {
                let index = rest.integer(first, 7)?;
                each(self.indexed(index)?);
            } else if first & 0xe0 == 0x20 {
                self.limit = rest.integer(first, 5)?.min(LARGEST);
                self.make_room(0);
            } else {
                // 01 adds it to the table; 0000 and 0001 do not.
                let adds = first & 0x40 != 0;
                let index = rest.integer(first, if adds { 6 } else { 4 })?;
                each(self.literal(&mut rest, index, adds)?);
            }
        }
        Ok(())
    }

    fn indexed(&self, index: usize) -> Result<Field, Broken> {
        if let Some((name, value)) = fixed(index) {
            return Ok(Name::of(name.as_bytes()).field(value.as_bytes()));
        }
        let at = index.checked_sub(FIXED + 1).ok_or(Broken)?;
        Ok(self.entries.get(at).map_or(Field::Unknown, |entry| entry.field.clone()))
    }

    fn literal(&mut self, rest: &mut Rest<'_>, index: usize, adds: bool) -> Result<Field, Broken> {
        let (name, length) = match (index, fixed(index)) {
            (0, _) => {
                let (string, coded) = rest.string()?;
                let length = self.decode(string, coded, NAME)?;
                let whole = if length > NAME { &[] } else { self.text.as_slice() };
                (Name::of(whole), length)
            }
            (_, Some((name, _))) => (Name::of(name.as_bytes()), name.len()),
            (_, None) => match self.entries.get(index.saturating_sub(FIXED + 1)) {
                Some(entry) => (entry.name, entry.length),
                None => (Name::Unknown, 0),
            },
        };
        let (string, coded) = rest.string()?;
        if !adds && !name.matters() {
            return Ok(name.field(&[]));
        }
        let size = ENTRY + length + self.decode(string, coded, VALUE)?;
        let field = name.field(&self.text);
        if adds {
            self.make_room(size);
            // One that is larger than the table empties it, and is not in it.
            if size <= self.limit {
                self.size += size;
                self.entries.push_front(Entry { name, length, field: field.clone(), size });
            }
        }
        Ok(field)
    }

    /// Gives the length of a string, and leaves its first `most` bytes in [`Self::text`].
    fn decode(&mut self, string: &[u8], coded: bool, most: usize) -> Result<usize, Broken> {
        self.text.clear();
        if coded {
            return huffman::decode(string, most, &mut self.text).ok_or(Broken);
        }
        self.text.extend_from_slice(string.get(..most).unwrap_or(string));
        Ok(string.len())
    }

    fn make_room(&mut self, size: usize) {
        while self.size + size > self.limit {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size;
        }
    }
}

#[cfg(test)]
mod tests;
