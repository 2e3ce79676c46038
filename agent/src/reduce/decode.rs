//! One export request, walked once: every field checked, every span boiled down to a [`Fact`].
//!
//! Nothing is counted here, so a request that turns out broken at its last byte leaves no trace. A
//! batch keeps its memory from one request to the next; a span allocates nothing.
//!
//! Spans that an agent made itself ([`SCOPE`]) are checked and passed over: what they tell of was counted
//! when it was seen. Nor is their resource one that reports. Whoever calls a scope so is passed over likewise,
//! which is said ([`Batch::passed_over`]).

use std::ops::Range;

use coral_model::num::u32_sat;
use coral_model::view::{SpanKind, SpanStatus};
use coral_proto::otlp::meaning::{Code, Meaning};
use coral_proto::otlp::schema;
use coral_proto::otlp::value::Value;
use coral_proto::otlp::wire::{Field, Fields, WireError};
use coral_proto::v1::PeerKind;
use xxhash_rust::xxh3::xxh3_64;

use super::sampling;
use crate::spans::SCOPE;

/// Most spans in one request: bounds what a batch may take of memory.
pub const MAX_SPANS: usize = 100_000;

/// Key of a callee's half-edge when no caller is known: a root.
pub const NOBODY: u64 = 0;

/// A piece of [`Batch::text`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Text {
    start: u32,
    len: u32,
}

/// A status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeKey {
    /// Not given.
    Unknown,
    /// HTTP's or gRPC's.
    Number(u16),
    /// Another protocol's.
    Word(Text),
}

/// What the reducer needs of one valid span.
#[derive(Debug, Clone)]
pub struct Fact {
    /// Its trace.
    pub trace: [u8; 16],
    /// Hash of trace and span id.
    pub key: u64,
    /// Hash of trace and parent id; 0 for a root.
    pub parent_key: u64,
    /// Hash of the trace id.
    pub trace_key: u64,
    /// Start, Unix ns.
    pub start_ns: u64,
    /// End, Unix ns.
    pub end_ns: u64,
    /// Index into [`Batch::resources`].
    pub resource: u32,
    /// Its kind.
    pub kind: SpanKind,
    /// Whether it failed.
    pub error: bool,
    /// Whether it failed by getting no answer.
    pub no_answer: bool,
    /// Whether the flags say that its parent is in the same process.
    local_parent: Option<bool>,
    /// Requests it stands for; `None` when that is not known.
    pub weight: Option<f64>,
    /// What joins it to the other end of its edge ([`NOBODY`] for a root); `None` for INTERNAL.
    pub half_key: Option<u64>,
    /// What the peer is.
    pub peer_kind: PeerKind,
    /// Who the peer is; empty for callees that do not take from a queue.
    pub peer: Text,
    /// Operation; empty for INTERNAL spans.
    pub operation: Text,
    /// Protocol.
    pub protocol: Text,
    /// Protocol's status code.
    pub code: CodeKey,
}

impl Fact {
    /// Nanoseconds from start to end; 0 when the clock ran backwards in between.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// Whether its parent, if it has not arrived, is a request of the same service in flight.
    #[must_use]
    pub fn waits_for_parent(&self) -> bool {
        let local =
            || matches!(self.kind, SpanKind::Internal | SpanKind::Client | SpanKind::Producer);
        self.parent_key != 0 && self.local_parent.unwrap_or_else(local)
    }
}

/// A `Resource` message inside the request.
#[derive(Debug, Clone)]
pub struct ResourceRef {
    /// Where its bytes are.
    pub range: Range<usize>,
    /// Their hash.
    pub hash: u64,
}

/// Why a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is not an OTLP message.
    #[error("not a valid OTLP message: {0}")]
    Wire(#[from] WireError),
    /// It has too many spans.
    #[error("more than {MAX_SPANS} spans in one request; send smaller batches")]
    TooMany,
}

/// The first span that was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its place in the request, from 0.
    pub place: u64,
    /// Bytes in its trace id.
    pub trace_len: usize,
    /// Bytes in its span id.
    pub span_len: usize,
    /// Its name.
    pub name: String,
}

/// Who made spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// An application.
    Theirs,
    /// An agent.
    Own,
}

impl Whose {
    /// As an `InstrumentationScope` says, which stands before its spans where an agent wrote it.
    fn of(scope: &[u8]) -> Result<Self, WireError> {
        let mut whose = Self::Theirs;
        for field in Fields::new(scope) {
            if let (1, field) = field? {
                let own = field.bytes(1)? == SCOPE.as_bytes();
                whose = if own { Self::Own } else { Self::Theirs };
            }
        }
        Ok(whose)
    }
}

/// Facts of one request.
#[derive(Debug, Default)]
pub struct Batch {
    resources: Vec<ResourceRef>,
    facts: Vec<Fact>,
    text: String,
    scratch: String,
    /// Spans in the request, the rejected ones included.
    pub spans: u64,
    /// Spans whose ids are invalid.
    pub rejected: u64,
    /// The first of them.
    pub first_rejected: Option<Rejected>,
    /// Valid spans of which there is no fact, because an agent made them.
    pub passed_over: u64,
}

impl Batch {
    /// The request's resources.
    #[must_use]
    pub fn resources(&self) -> &[ResourceRef] {
        &self.resources
    }

    /// The request's valid spans.
    #[must_use]
    pub fn facts(&self) -> &[Fact] {
        &self.facts
    }

    /// A fact's text.
    #[must_use]
    pub fn text(&self, text: Text) -> &str {
        let start = text.start as usize;
        self.text.get(start..start + text.len as usize).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.resources.clear();
        self.facts.clear();
        self.text.clear();
        // One huge request should not be paid for forever.
        self.facts.shrink_to(8_192);
        self.text.shrink_to(1 << 20);
        self.spans = 0;
        self.rejected = 0;
        self.first_rejected = None;
        self.passed_over = 0;
    }

    /// Reads an `ExportTraceServiceRequest` into this batch, replacing what was in it.
    pub fn decode(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        self.clear();
        for field in Fields::new(body) {
            if let (1, field) = field? {
                self.resource_spans(body, field.bytes(1)?)?;
            }
        }
        Ok(())
    }

    fn resource_spans(&mut self, body: &[u8], message: &[u8]) -> Result<(), DecodeError> {
        let at = u32_sat(self.resources.len());
        let mut resource: &[u8] = &[];
        let (before, mut own) = (self.facts.len(), false);
        for field in Fields::new(message) {
            match field? {
                (1, field) => {
                    resource = field.bytes(1)?;
                    schema::check(&schema::RESOURCE, resource)?;
                }
                (2, field) => own |= self.scope_spans(field.bytes(2)?, at)? == Whose::Own,
                (3, field) => schema::check_text(field.bytes(3)?)?,
                _ => {}
            }
        }
        if own && self.facts.len() == before {
            // Nothing refers to it.
            return Ok(());
        }
        let start = resource.as_ptr().addr().saturating_sub(body.as_ptr().addr());
        let range = if resource.is_empty() { 0..0 } else { start..start + resource.len() };
        self.resources.push(ResourceRef { range, hash: xxh3_64(resource) });
        Ok(())
    }

    fn scope_spans(&mut self, message: &[u8], resource: u32) -> Result<Whose, DecodeError> {
        let mut whose = Whose::Theirs;
        for field in Fields::new(message) {
            match field? {
                (2, field) => self.span(field.bytes(2)?, resource, whose)?,
                (1, field) => {
                    let scope = field.bytes(1)?;
                    schema::check(&schema::SCOPE, scope)?;
                    whose = Whose::of(scope)?;
                }
                (3, field) => schema::check_text(field.bytes(3)?)?,
                _ => {}
            }
        }
        Ok(whose)
    }

    fn span(&mut self, message: &[u8], resource: u32, whose: Whose) -> Result<(), DecodeError> {
        let mut walk = Walk::new();
        for field in Fields::new(message) {
            let (number, field) = field?;
            walk.field(number, field)?;
        }
        let place = self.spans;
        self.spans += 1;
        if self.facts.len() >= MAX_SPANS {
            return Err(DecodeError::TooMany);
        }
        let (Some(trace), Some(span)) = (id::<16>(walk.trace), id::<8>(walk.span)) else {
            self.rejected += 1;
            self.first_rejected.get_or_insert_with(|| Rejected {
                place,
                trace_len: walk.trace.len(),
                span_len: walk.span.len(),
                name: walk.name.chars().take(80).collect(),
            });
            return Ok(());
        };
        match whose {
            Whose::Theirs => {
                let fact = self.fact(&walk, trace, span, resource);
                self.facts.push(fact);
            }
            Whose::Own => self.passed_over += 1,
        }
        Ok(())
    }

    fn fact(&mut self, walk: &Walk<'_>, trace: [u8; 16], span: [u8; 8], resource: u32) -> Fact {
        let parent = id::<8>(walk.parent);
        let parent_key = parent.map_or(0, |parent| key(trace, parent));
        let mut fact = Fact {
            trace,
            key: key(trace, span),
            parent_key,
            trace_key: xxh3_64(&trace),
            start_ns: walk.start_ns,
            end_ns: walk.end_ns,
            resource,
            kind: walk.kind,
            error: false,
            no_answer: false,
            local_parent: local_parent(walk.flags),
            weight: Some(1.0),
            half_key: None,
            peer_kind: PeerKind::Service,
            peer: Text::default(),
            operation: Text::default(),
            protocol: Text::default(),
            code: CodeKey::Unknown,
        };
        if walk.kind == SpanKind::Internal {
            return fact;
        }
        let meaning = &walk.meaning;
        fact.weight = sampling::weight(walk.trace_state.as_bytes());
        fact.no_answer = meaning.no_answer();
        fact.error = meaning.is_error(walk.status);
        fact.protocol = push(&mut self.text, meaning.protocol());
        fact.code = match meaning.code() {
            Code::Unknown => CodeKey::Unknown,
            Code::Number(n) => CodeKey::Number(n),
            Code::Word(word) => CodeKey::Word(push(&mut self.text, word)),
        };
        if matches!(walk.kind, SpanKind::Client | SpanKind::Producer) {
            fact.half_key = Some(fact.key);
            if let Some(peer) = meaning.peer(walk.kind, &mut self.scratch) {
                fact.peer_kind = peer.kind;
                fact.peer = push(&mut self.text, peer.name);
            } else {
                fact.peer_kind = PeerKind::External;
            }
        } else {
            fact.operation = push(&mut self.text, meaning.operation(walk.name, &mut self.scratch));
            let linked = || {
                let (trace, span) = walk.link?;
                Some(key(id::<16>(trace)?, id::<8>(span)?))
            };
            fact.half_key = match parent {
                Some(_) => Some(parent_key),
                // A consumer that starts its own trace links to who produced the message.
                None if walk.kind == SpanKind::Consumer => linked().or(Some(NOBODY)),
                None => Some(NOBODY),
            };
            if let Some(peer) = meaning.peer(walk.kind, &mut self.scratch) {
                fact.peer_kind = peer.kind;
                fact.peer = push(&mut self.text, peer.name);
            }
        }
        fact
    }
}

/// Longest name that is told apart from others.
const NAME_BYTES: usize = 1_024;

fn push(text: &mut String, piece: &str) -> Text {
    let piece = if piece.len() <= NAME_BYTES {
        piece
    } else {
        piece.get(..piece.floor_char_boundary(NAME_BYTES)).unwrap_or_default()
    };
    let start = u32_sat(text.len());
    text.push_str(piece);
    Text { start, len: u32_sat(piece.len()) }
}

/// Hash of trace and span id: the two ends of an edge find each other by it.
#[must_use]
pub fn key(trace: [u8; 16], span: [u8; 8]) -> u64 {
    let mut bytes = [0u8; 24];
    for (slot, &byte) in bytes.iter_mut().zip(trace.iter().chain(&span)) {
        *slot = byte;
    }
    // 0 stands for "no parent".
    xxh3_64(&bytes).max(1)
}

fn id<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let id: [u8; N] = bytes.try_into().ok()?;
    (id != [0; N]).then_some(id)
}

/// Bits 8 and 9 of a span's flags: whether it is known where its parent is, and whether that is
/// another process (`SpanFlags` in trace.proto).
fn local_parent(flags: u32) -> Option<bool> {
    (flags & 0x100 != 0).then_some(flags & 0x200 == 0)
}

struct Walk<'a> {
    trace: &'a [u8],
    span: &'a [u8],
    parent: &'a [u8],
    trace_state: &'a str,
    name: &'a str,
    kind: SpanKind,
    kind_seen: bool,
    start_ns: u64,
    end_ns: u64,
    flags: u32,
    status: SpanStatus,
    link: Option<(&'a [u8], &'a [u8])>,
    meaning: Meaning<'a>,
}

impl<'a> Walk<'a> {
    fn new() -> Self {
        Self {
            trace: &[],
            span: &[],
            parent: &[],
            trace_state: "",
            name: "",
            kind: SpanKind::Internal,
            kind_seen: false,
            start_ns: 0,
            end_ns: 0,
            flags: 0,
            status: SpanStatus::Unset,
            link: None,
            meaning: Meaning::default(),
        }
    }

    #[inline]
    fn field(&mut self, number: u32, field: Field<'a>) -> Result<(), WireError> {
        match number {
            9 => self.attribute(field.bytes(9)?)?,
            1 => self.trace = field.bytes(1)?,
            2 => self.span = field.bytes(2)?,
            3 => self.trace_state = field.text(3)?,
            4 => self.parent = field.bytes(4)?,
            5 => self.name = field.text(5)?,
            6 => {
                self.kind = SpanKind::from_otlp(field.varint(6)?);
                self.kind_seen = true;
            }
            7 => self.start_ns = field.fixed64(7)?,
            8 => self.end_ns = field.fixed64(8)?,
            11 => schema::check(&schema::SPAN_EVENT, field.bytes(11)?)?,
            13 => self.link(field.bytes(13)?)?,
            15 => self.status(field.bytes(15)?)?,
            16 => match field {
                Field::Fixed32(flags) => self.flags = flags,
                _ => return Err(WireError::WrongType(16)),
            },
            10 | 12 | 14 => _ = field.varint(number)?,
            _ => {}
        }
        Ok(())
    }

    fn status(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        for part in Fields::new(message) {
            match part? {
                (2, field) => schema::check_text(field.bytes(2)?)?,
                (3, field) => self.status = SpanStatus::from_otlp(field.varint(3)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn link(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        schema::check(&schema::SPAN_LINK, message)?;
        if self.link.is_none() {
            let (mut trace, mut span): (&[u8], &[u8]) = (&[], &[]);
            for part in Fields::new(message) {
                match part? {
                    (1, field) => trace = field.bytes(1)?,
                    (2, field) => span = field.bytes(2)?,
                    _ => {}
                }
            }
            self.link = Some((trace, span));
        }
        Ok(())
    }

    #[inline]
    fn attribute(&mut self, message: &'a [u8]) -> Result<(), WireError> {
        let (key, value) = match short_pair(message) {
            Some(pair) => pair,
            None => pair(message)?,
        };
        schema::check_text(key)?;
        // An INTERNAL span's attributes mean nothing to the reducer.
        let means = !(self.kind_seen && self.kind == SpanKind::Internal) && Meaning::concerns(key);
        if let Some(text) = short_text(value) {
            if means {
                let text = std::str::from_utf8(text).map_err(|_| WireError::Utf8)?;
                self.meaning.see(key, Value::Text(text));
                return Ok(());
            }
            return schema::check_text(text);
        }
        schema::check(&schema::ANY_VALUE, value)?;
        if means {
            self.meaning.see(key, Value::parse(value)?);
        }
        Ok(())
    }
}

/// Key and value of a `KeyValue`, as any encoder may write it.
fn pair(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    for part in Fields::new(message) {
        match part? {
            // Of repeated fields the last counts, but all of them must be readable.
            (1, field) => {
                key = field.bytes(1)?;
                schema::check_text(key)?;
            }
            (2, field) => {
                value = field.bytes(2)?;
                schema::check(&schema::ANY_VALUE, value)?;
            }
            // Means something in profiles only.
            (3, field) => _ = field.varint(3)?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// The same, when it is written as all encoders do: key, value, each shorter than 128 bytes.
#[inline]
fn short_pair(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x0a, length @ ..0x80, rest @ ..] = message else { return None };
    let (key, rest) = rest.split_at_checked(usize::from(*length))?;
    let [0x12, length @ ..0x80, value @ ..] = rest else { return None };
    (value.len() == usize::from(*length)).then_some((key, value))
}

/// The string of an `AnyValue` that is nothing else, and short.
#[inline]
fn short_text(value: &[u8]) -> Option<&[u8]> {
    let [0x0a, length @ ..0x80, text @ ..] = value else { return None };
    (text.len() == usize::from(*length)).then_some(text)
}

#[cfg(test)]
mod tests;
