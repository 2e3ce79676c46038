//! OTLP attributes: `KeyValue` and `AnyValue`.

use std::fmt::Write as _;

use super::wire::{Field, Fields, Repeated, WireError};

/// How deep arrays and maps may nest before a value is refused. The specification sets no bound;
/// a hostile body would otherwise spend the reader's stack.
pub const MAX_DEPTH: usize = 16;

/// An attribute value, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// No value.
    Empty,
    /// A string.
    Text(&'a str),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// An `ArrayValue` message.
    Array(&'a [u8]),
    /// A `KeyValueList` message.
    Map(&'a [u8]),
    /// Raw bytes.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// Reads an `AnyValue` message.
    #[inline]
    pub fn parse(message: &'a [u8]) -> Result<Self, WireError> {
        let mut value = Self::Empty;
        for field in Fields::new(message) {
            value = match field? {
                (1, field) => Self::Text(field.text(1)?),
                (2, field) => Self::Bool(field.varint(2)? != 0),
                (3, field) => Self::Int(field.varint(3)?.cast_signed()),
                (4, field) => Self::Double(f64::from_bits(field.fixed64(4)?)),
                (5, field) => Self::Array(field.bytes(5)?),
                (6, field) => Self::Map(field.bytes(6)?),
                (7, field) => Self::Bytes(field.bytes(7)?),
                // A reference into a profile's table of strings: of nothing here.
                (8, field) => {
                    field.varint(8)?;
                    Self::Empty
                }
                _ => value,
            };
        }
        Ok(value)
    }

    /// Appends the value as text: strings as they are, arrays and maps as JSON, bytes as hex.
    pub fn write_text(&self, out: &mut String) -> Result<(), WireError> {
        match *self {
            Self::Text(text) => out.push_str(text),
            ref other => other.write_json(out, 0)?,
        }
        Ok(())
    }

    /// As owned text (see [`Value::write_text`]).
    pub fn to_text(&self) -> Result<String, WireError> {
        let mut out = String::new();
        self.write_text(&mut out)?;
        Ok(out)
    }

    fn write_json(&self, out: &mut String, depth: usize) -> Result<(), WireError> {
        if depth > MAX_DEPTH {
            return Err(WireError::TooDeep);
        }
        match *self {
            Self::Empty => {
                if depth > 0 {
                    out.push_str("null");
                }
            }
            Self::Text(text) => quote(text, out),
            Self::Bool(b) => out.push_str(if b { "true" } else { "false" }),
            // Writing to a String cannot fail.
            Self::Int(n) => _ = write!(out, "{n}"),
            Self::Double(x) if depth > 0 && !x.is_finite() => _ = write!(out, "\"{x}\""),
            Self::Double(x) => _ = write!(out, "{x}"),
            Self::Bytes(bytes) => {
                let quotes = if depth > 0 { "\"" } else { "" };
                out.push_str(quotes);
                for b in bytes {
                    _ = write!(out, "{b:02x}");
                }
                out.push_str(quotes);
            }
            Self::Array(body) => {
                out.push('[');
                for (i, item) in Repeated::new(body, 1).enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    Self::parse(item?)?.write_json(out, depth + 1)?;
                }
                out.push(']');
            }
            Self::Map(body) => {
                out.push('{');
                for (i, pair) in Attributes::new(body, 1).enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    let (key, value) = pair?;
                    quote(key, out);
                    out.push(':');
                    value.write_json(out, depth + 1)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Iterates over the `KeyValue`s that are field `number` of a message.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    pairs: Repeated<'a>,
}

impl<'a> Attributes<'a> {
    /// The attributes in field `number` of `message`.
    #[must_use]
    pub fn new(message: &'a [u8], number: u32) -> Self {
        Self { pairs: Repeated::new(message, number) }
    }

    fn pair(message: &'a [u8]) -> Result<(&'a str, Value<'a>), WireError> {
        let mut key = "";
        let mut value = Value::Empty;
        for field in Fields::new(message) {
            match field? {
                (1, field) => key = field.text(1)?,
                (2, Field::Bytes(body)) => value = Value::parse(body)?,
                (2, _) => return Err(WireError::WrongType(2)),
                _ => {}
            }
        }
        Ok((key, value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(&'a str, Value<'a>), WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.pairs.next()?.and_then(Self::pair))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        let mut value = vec![0x10, 1]; // bool
        for _ in 0..40 {
            let mut array = vec![0x0a];
            array.extend(varint(value.len()));
            array.extend(&value);
            value = vec![0x2a];
            value.extend(varint(array.len()));
            value.extend(&array);
        }
        assert_eq!(Value::parse(&value).unwrap().to_text(), Err(WireError::TooDeep));
    }

    fn varint(mut n: usize) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let byte = (n & 0x7f) as u8;
            n >>= 7;
            if n == 0 {
                out.push(byte);
                return out;
            }
            out.push(byte | 0x80);
        }
    }

    #[test]
    fn values_become_text() {
        assert_eq!(Value::Text("a").to_text().unwrap(), "a");
        assert_eq!(Value::Int(-3).to_text().unwrap(), "-3");
        assert_eq!(Value::Bytes(&[1, 255]).to_text().unwrap(), "01ff");
        assert_eq!(Value::Empty.to_text().unwrap(), "");
        // ["x", true]
        let array = [0x0a, 0x03, 0x0a, 0x01, b'x', 0x0a, 0x02, 0x10, 0x01];
        assert_eq!(Value::Array(&array).to_text().unwrap(), "[\"x\",true]");
    }
}
