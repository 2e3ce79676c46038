//! Identities: of traces and spans (OpenTelemetry's), of resources, agents, segments and colonies.
//!
//! Each is its own type, prints as the field writes it (lower-case hex, UUID), and parses back.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::Time;

/// Why a text is not an id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not a {what}: {want}")]
pub struct IdError {
    text: String,
    what: &'static str,
    want: &'static str,
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// Bytes from exactly `2 * N` hex digits.
fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut out = [0; N];
    for (slot, &[high, low]) in out.iter_mut().zip(pairs) {
        *slot = hex_digit(high)? << 4 | hex_digit(low)?;
    }
    Some(out)
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal, $want:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// From raw bytes of exactly this id's length; anything else is `None`.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// All zero: OpenTelemetry's "no id".
            #[must_use]
            pub fn is_zero(&self) -> bool {
                self.0.iter().all(|&b| b == 0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                from_hex(text).map(Self).ok_or_else(|| IdError {
                    text: text.to_owned(),
                    what: $what,
                    want: $want,
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// A trace: 16 bytes, 32 hex digits.
    TraceId, 16, "trace id", "32 hex digits"
);
hex_id!(
    /// A span within a trace: 8 bytes, 16 hex digits.
    SpanId, 8, "span id", "16 hex digits"
);
hex_id!(
    /// An agent's own id, made once and kept in its data directory.
    AgentId, 16, "agent id", "32 hex digits"
);
hex_id!(
    /// A spool segment: random, so that segments of any agent and any life never meet.
    SegmentId, 16, "segment id", "32 hex digits"
);

/// The content hash of a resource: xxh3-64 over its attributes in canonical order (see
/// [`resource_id`]). Rows carry it; the store's `resources` table explains it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct ResourceId(pub u64);

/// Hashes a resource's attributes; the order they come in does not matter.
#[must_use]
pub fn resource_id<'a>(attributes: impl IntoIterator<Item = (&'a str, &'a str)>) -> ResourceId {
    let mut pairs: Vec<_> = attributes.into_iter().collect();
    pairs.sort_unstable();
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for (key, value) in pairs {
        // Lengths first: "a"+"bc" must not equal "ab"+"c".
        hash.update(&(key.len() as u64).to_le_bytes());
        hash.update(key.as_bytes());
        hash.update(&(value.len() as u64).to_le_bytes());
        hash.update(value.as_bytes());
    }
    ResourceId(hash.digest())
}

/// A log record's: when it was written, and a hash of who said what. Two records that agree in all of
/// it have the same id, and nothing tells them apart anyway.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct RecordId {
    /// When it was written.
    pub at: Time,
    /// Hash of service and body.
    pub mark: u32,
}

impl RecordId {
    /// The id of a record.
    #[must_use]
    pub fn of(at: Time, service: &str, body: &str) -> Self {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(service.as_bytes());
        hash.update(&[0]);
        hash.update(body.as_bytes());
        Self { at, mark: crate::num::u32_sat(hash.digest() >> 32) }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.at.0, self.mark)
    }
}

impl FromStr for RecordId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let parsed = text.split_once('-').and_then(|(at, mark)| {
            let digits = at.len() >= 10 && at.bytes().all(|b| b.is_ascii_digit());
            let hex = mark.len() == 8 && mark.bytes().all(|b| b.is_ascii_hexdigit());
            let at = at.parse().ok().filter(|_| digits && hex)?;
            Some(Self { at: Time(at), mark: u32::from_str_radix(mark, 16).ok()? })
        });
        parsed.ok_or_else(|| IdError {
            text: crate::text::fit(text, 60),
            what: "log record's id",
            want: "nanoseconds and eight hex digits, like 1795356151123000000-1f2e3d4c",
        })
    }
}

impl Serialize for RecordId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RecordId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_parse() {
        let text = "4bf92f3577b34da6a3ce929d0e0e4736";
        let id: TraceId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert!("4bf9".parse::<TraceId>().unwrap_err().to_string().contains("32 hex digits"));
        assert!("zz".repeat(16).parse::<TraceId>().is_err());
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{text}\""));
    }

    #[test]
    fn a_resource_is_its_content_not_its_order() {
        let a = resource_id([("service.name", "cart"), ("host.name", "web-1")]);
        let b = resource_id([("host.name", "web-1"), ("service.name", "cart")]);
        assert_eq!(a, b);
        assert_ne!(resource_id([("a", "bc")]), resource_id([("ab", "c")]));
    }
}
