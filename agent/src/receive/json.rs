//! OTLP/JSON to protobuf, by the tables of [`coral_proto::otlp::schema`].
//!
//! One pass over the text, no message tree. What the OTLP specification changes of proto3's JSON
//! mapping is followed (trace and span ids are hex, enums are numbers) and what senders do anyway is
//! taken (names of enums, numbers where strings are due, snake_case keys). Unknown keys are skipped.
//! The spool then holds protobuf only, so that whoever reads it later needs one reader.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use coral_proto::otlp::schema::{self, Schema, Shape, Type};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Refused, Signal};

/// The request as a protobuf message. Its nesting is not yet checked beyond serde_json's own bound.
pub fn to_protobuf(signal: Signal, text: &[u8]) -> Result<Vec<u8>, Refused> {
    let schema = match signal {
        Signal::Traces => &schema::TRACES,
        Signal::Logs => &schema::LOGS,
        Signal::Metrics => &schema::METRICS,
    };
    let mut out = Vec::with_capacity(text.len() / 2);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let read = Message { schema, out: &mut out }.deserialize(&mut reader);
    read.and_then(|()| reader.end())
        .map_err(|error| Refused::Invalid(format!("not valid OTLP/JSON: {error}")))?;
    Ok(out)
}

struct Message<'o> {
    schema: &'static Schema,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.schema.name)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match self.schema.by_json(&key) {
                Some(shape) => {
                    map.next_value_seed(Value { shape, out: self.out, in_list: false })?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The value of one field, or one element of a repeated one.
struct Value<'o> {
    shape: &'static Shape,
    out: &'o mut Vec<u8>,
    in_list: bool,
}

impl Value<'_> {
    /// Numbers in a list are packed: their tag and length stand before the list.
    fn bare(&self) -> bool {
        self.in_list && is_packable(self.shape.ty)
    }

    fn varint_field(self, n: u64) {
        if !self.bare() {
            varint(self.out, u64::from(self.shape.number) << 3);
        }
        varint(self.out, n);
    }

    fn fixed_field(self, bits: u64) {
        if !self.bare() {
            varint(self.out, u64::from(self.shape.number) << 3 | 1);
        }
        self.out.extend_from_slice(&bits.to_le_bytes());
    }

    fn bytes_field(self, bytes: &[u8]) {
        length_delimited(self.out, self.shape.number, bytes);
    }

    fn integer<E: Error>(self, n: i128) -> Result<(), E> {
        let wrong = |what: &str| E::custom(format!("{}: {n} is not {what}", self.shape.json));
        match self.shape.ty {
            Type::Int | Type::Enum(_) => {
                let n = u64::try_from(n).or_else(|_| i64::try_from(n).map(i64::cast_unsigned));
                let n = n.map_err(|_| wrong("a 64-bit integer"))?;
                self.varint_field(n);
            }
            Type::ZigZag => {
                let n = i32::try_from(n).map_err(|_| wrong("a 32-bit integer"))?;
                self.varint_field(u64::from((n << 1 ^ n >> 31).cast_unsigned()));
            }
            Type::Fixed64 => {
                let n = u64::try_from(n).map_err(|_| wrong("an unsigned 64-bit integer"))?;
                self.fixed_field(n);
            }
            Type::SFixed64 => {
                let n = i64::try_from(n).map_err(|_| wrong("a 64-bit integer"))?;
                self.fixed_field(n.cast_unsigned());
            }
            Type::Fixed32 => {
                let n = u32::try_from(n).map_err(|_| wrong("an unsigned 32-bit integer"))?;
                varint(self.out, u64::from(self.shape.number) << 3 | 5);
                self.out.extend_from_slice(&n.to_le_bytes());
            }
            #[expect(clippy::cast_precision_loss, reason = "JSON numbers are doubles")]
            Type::Double => self.fixed_field((n as f64).to_bits()),
            _ => return Err(wrong(expected(self.shape.ty))),
        }
        Ok(())
    }

    fn text<E: Error>(self, text: &str) -> Result<(), E> {
        let wrong = || E::custom(format!("{}: not {}", self.shape.json, expected(self.shape.ty)));
        match self.shape.ty {
            Type::Text => self.bytes_field(text.as_bytes()),
            Type::Hex => {
                let bytes = hex(text).ok_or_else(wrong)?;
                self.bytes_field(&bytes);
            }
            Type::Bytes => {
                // Both alphabets, with or without padding: proto3's JSON mapping asks for that.
                let standard: String = text
                    .chars()
                    .map(|c| match c {
                        '-' => '+',
                        '_' => '/',
                        c => c,
                    })
                    .collect();
                let bytes = BASE64.decode(standard).map_err(|_| wrong())?;
                self.bytes_field(&bytes);
            }
            Type::Enum(names) => {
                let known = names.iter().position(|&name| name == text);
                let n = known.map(|n| n as u64).or_else(|| text.parse().ok()).ok_or_else(wrong)?;
                self.varint_field(n);
            }
            Type::Double => {
                let x = match text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    number => number.parse().map_err(|_| wrong())?,
                };
                self.fixed_field(x.to_bits());
            }
            Type::Bool => {
                let b = text.parse::<bool>().map_err(|_| wrong())?;
                self.varint_field(u64::from(b));
            }
            Type::Int | Type::ZigZag | Type::Fixed64 | Type::SFixed64 | Type::Fixed32 => {
                let n = text.parse::<i128>().map_err(|_| wrong())?;
                self.integer(n)?;
            }
            Type::Message(_) => return Err(wrong()),
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", expected(self.shape.ty), self.shape.json)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        // null is the same as absent; in a list it is an element all the same.
        match self.shape.ty {
            Type::Message(_) if self.in_list => self.bytes_field(&[]),
            _ => {}
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, b: bool) -> Result<(), E> {
        if matches!(self.shape.ty, Type::Bool) {
            self.varint_field(u64::from(b));
            return Ok(());
        }
        Err(E::custom(format!("{}: not {}", self.shape.json, expected(self.shape.ty))))
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<(), E> {
        self.integer(n.into())
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<(), E> {
        self.integer(n.into())
    }

    fn visit_f64<E: Error>(self, x: f64) -> Result<(), E> {
        if matches!(self.shape.ty, Type::Double) {
            self.fixed_field(x.to_bits());
            return Ok(());
        }
        // 1e3 is an integer too.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked to be a whole number in range"
        )]
        if x.fract() == 0.0 && x.abs() < 1e19 {
            return self.integer(x as i128);
        }
        Err(E::custom(format!("{}: {x} is not {}", self.shape.json, expected(self.shape.ty))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.text(text)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        let shape = self.shape;
        if !shape.repeated || self.in_list {
            let what = expected(shape.ty);
            return Err(S::Error::custom(format!("{}: a list, not {what}", shape.json)));
        }
        if is_packable(shape.ty) {
            let mut packed = Vec::new();
            while seq.next_element_seed(Value { shape, out: &mut packed, in_list: true })?.is_some()
            {
            }
            length_delimited(self.out, shape.number, &packed);
        } else {
            while seq.next_element_seed(Value { shape, out: self.out, in_list: true })?.is_some() {}
        }
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<(), M::Error> {
        let Type::Message(schema) = self.shape.ty else {
            let what = expected(self.shape.ty);
            return Err(M::Error::custom(format!("{}: an object, not {what}", self.shape.json)));
        };
        let mut inner = Vec::new();
        Message { schema, out: &mut inner }.visit_map(map)?;
        self.bytes_field(&inner);
        Ok(())
    }
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn expected(ty: Type) -> &'static str {
    match ty {
        Type::Int | Type::ZigZag | Type::Fixed64 | Type::SFixed64 | Type::Fixed32 => "an integer",
        Type::Bool => "true or false",
        Type::Enum(_) => "a number or name of its enum",
        Type::Double => "a number",
        Type::Text => "a string",
        Type::Bytes => "base64",
        Type::Hex => "hex digits",
        Type::Message(_) => "an object",
    }
}

fn is_packable(ty: Type) -> bool {
    !matches!(ty, Type::Text | Type::Bytes | Type::Hex | Type::Message(_))
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push((n & 0x7f) as u8);
}

fn length_delimited(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}
