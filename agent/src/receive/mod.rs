//! OTLP in: gRPC and HTTP, protobuf and JSON, on either port.
//!
//! One hyper server path for both: OTLP's gRPC is a POST with five bytes before the message and a
//! status in the trailers, which is little enough to speak directly, and speaking it directly means
//! that every limit is ours: bodies are counted into a [`ByteBudget`] as they arrive, compressed
//! bodies are inflated up to a bound on worker threads, and what a sender is told says which limit it
//! met. (tonic's decoder inflates on the IO thread and has no shared budget.)
//!
//! [`listen`] accepts and bounds connections, [`http`] reads requests and routes them, [`work`] runs
//! decoding on its own threads, [`body`] inflates, [`json`] turns OTLP/JSON into protobuf, [`answer`]
//! says yes and no in the sender's own encoding. What was accepted goes to [`crate::pipeline`].

pub mod answer;
pub mod body;
mod http;
pub mod json;
pub mod listen;
pub mod work;

use std::time::Duration;

use crate::budget::ByteBudget;
pub use work::Workers;

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Metrics.
    Metrics,
}

/// How a request's message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// gRPC: protobuf behind a five-byte prefix.
    Grpc,
    /// Protobuf.
    Protobuf,
    /// OTLP/JSON.
    Json,
}

/// How a request's body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Encoding {
    /// From a `content-encoding` or `grpc-encoding` header.
    #[must_use]
    pub fn from_header(name: &[u8]) -> Option<Self> {
        match name.trim_ascii() {
            b"" | b"identity" => Some(Self::Identity),
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Bounds of the receiver.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest body as it arrives, in bytes.
    pub body: usize,
    /// Largest body when inflated. Below the largest record by more than any envelope around one.
    pub inflated: usize,
    /// Most connections open at once.
    pub connections: usize,
    /// A new connection must begin a request within this time.
    pub hello: Duration,
    /// A request's body must arrive within this time.
    pub request: Duration,
    /// Requests that wait for a worker.
    pub queue: usize,
    /// Bytes of bodies in memory.
    pub budget: ByteBudget,
}

impl Limits {
    /// The defaults, with so many bytes of bodies in memory.
    #[must_use]
    pub fn with_budget(bytes: u64) -> Self {
        Self {
            body: 16 << 20,
            inflated: (64 << 20) - (64 << 10),
            connections: 4_096,
            hello: Duration::from_secs(10),
            request: Duration::from_secs(30),
            queue: 1_024,
            budget: ByteBudget::new(bytes),
        }
    }
}

/// A request that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accepted {
    /// Spans, records or points in it that were not.
    pub rejected: u64,
    /// Which and why; empty when there were none.
    pub message: String,
}

/// A request that was not taken, in words for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not what it says it is. Sending it again is pointless.
    #[error("{0}")]
    Invalid(String),
    /// It is larger than a limit.
    #[error("{0}")]
    TooLarge(String),
    /// It is compressed in a way that is not spoken here.
    #[error("{0}")]
    Encoding(String),
    /// Its media type is not spoken here.
    #[error("{0}")]
    Media(String),
    /// It took too long to arrive.
    #[error("{0}")]
    TooSlow(String),
    /// There is no room now. Send it again later.
    #[error("{0}")]
    Busy(String),
}

#[cfg(test)]
mod tests;
