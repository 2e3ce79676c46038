//! What every Coral program means by its words.
//!
//! Service names, ids, moments and windows, the latency histogram, the filter language, the types
//! each question is answered with, paths and configuration. Everything here is plain data and pure
//! functions: no terminal, no runtime, no socket, no protobuf. Programs disagree about how to show
//! or move these things, never about what they are.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        reason = "a test that wraps fails"
    )
)]

pub mod config;
pub mod connections;
pub mod dice;
pub mod filter;
pub mod hist;
pub mod id;
pub mod kept;
pub mod num;
pub mod paths;
pub mod place;
pub mod question;
pub mod redaction;
pub mod severity;
pub mod text;
pub mod time;
pub mod view;
pub mod when;

pub use hist::Histogram;
pub use id::{AgentId, RecordId, ResourceId, SegmentId, SpanId, TraceId};
pub use question::{Dimension, Mode, Question, View};
pub use time::{Time, Window};
