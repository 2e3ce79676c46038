//! Header fields, as far as anything is kept of them: method, path, status, whether it is gRPC, its
//! status, what `traceparent` says. Of every other field not even the value is decoded, unless its length
//! matters to the table.

use std::sync::Arc;

use crate::observe::requests::head::{METHODS, path};
use crate::observe::requests::traceparent::TraceParent;

/// Longest value that is looked at, in bytes: a path with its query.
pub const VALUE: usize = 2_048;
/// Longest name of those that matter.
pub const NAME: usize = 12;

/// What a field is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// `:method`.
    Method,
    /// `:path`.
    Path,
    /// `:status`.
    Status,
    /// `content-type`.
    ContentType,
    /// `grpc-status`.
    GrpcStatus,
    /// `traceparent`.
    Trace,
    /// What nothing is kept of.
    Other,
    /// That is not known.
    Unknown,
}

/// What is kept of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// One of [`METHODS`].
    Method(&'static str),
    /// Without query.
    Path(Arc<str>),
    /// Three digits.
    Status(u16),
    /// Whether what is sent is of gRPC.
    Grpc(bool),
    /// How an RPC ended.
    GrpcStatus(u16),
    /// What `traceparent` says.
    Trace(TraceParent),
    /// Nothing.
    Other,
    /// It is not known what it is.
    Unknown,
}

impl Name {
    /// Which one this is.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":status" => Self::Status,
            b"content-type" => Self::ContentType,
            b"grpc-status" => Self::GrpcStatus,
            b"traceparent" => Self::Trace,
            _ => Self::Other,
        }
    }

    /// Whether values of it are looked at.
    #[must_use]
    pub fn matters(self) -> bool {
        !matches!(self, Self::Other | Self::Unknown)
    }

    /// What is kept of it, given its value.
    #[must_use]
    pub fn field(self, value: &[u8]) -> Field {
        let field = match self {
            Self::Method => METHODS.into_iter().find(|m| m.as_bytes() == value).map(Field::Method),
            Self::Path => Some(Field::Path(path("", value).into())),
            Self::Status => number(value, 3).filter(|n| *n >= 100).map(Field::Status),
            Self::ContentType => Some(Field::Grpc(is_grpc(value))),
            Self::GrpcStatus => number(value, 2).map(Field::GrpcStatus),
            Self::Trace => TraceParent::parse(value).map(Field::Trace),
            Self::Other => None,
            Self::Unknown => Some(Field::Unknown),
        };
        field.unwrap_or(Field::Other)
    }
}

/// A number of at most so many digits.
fn number(digits: &[u8], most: usize) -> Option<u16> {
    let all = (1..=most).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| all)?.parse().ok()
}

/// `application/grpc`, `application/grpc+proto`; gRPC-Web is another protocol, whose trailers are in
/// its bodies.
fn is_grpc(value: &[u8]) -> bool {
    let rest = value.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

/// The name and the value of an entry of the static table (RFC 7541, appendix A), which begins with 1.
#[must_use]
pub fn fixed(index: usize) -> Option<(&'static str, &'static str)> {
    STATIC.get(index.checked_sub(1)?).copied()
}

/// Entries of the static table.
pub const FIXED: usize = STATIC.len();

const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_little() {
        let path = |text: &str| Field::Path(text.into());
        let trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = TraceParent {
            trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes(),
            span: 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes(),
            sampled: true,
        };
        for (name, value, field) in [
            (":method", &b"PATCH"[..], Field::Method("PATCH")),
            (":method", b"PROPFIND", Field::Other),
            (":path", b"/a/b?token=hunter2", path("/a/b")),
            (":path", b"*", path("*")),
            (":status", b"204", Field::Status(204)),
            (":status", b"2040", Field::Other),
            (":status", b"+20", Field::Other),
            ("content-type", b"application/grpc", Field::Grpc(true)),
            ("content-type", b"application/grpc+proto", Field::Grpc(true)),
            ("content-type", b"application/grpc-web", Field::Grpc(false)),
            ("content-type", b"text/html", Field::Grpc(false)),
            ("grpc-status", b"13", Field::GrpcStatus(13)),
            ("grpc-status", b"", Field::Other),
            ("traceparent", trace, Field::Trace(parent)),
            ("authorization", b"secret", Field::Other),
        ] {
            assert_eq!(Name::of(name.as_bytes()).field(value), field, "{name}");
        }
        assert_eq!((fixed(0), fixed(62)), (None, None));
        assert_eq!(
            (fixed(8), fixed(61)),
            (Some((":status", "200")), Some(("www-authenticate", "")))
        );
    }
}
