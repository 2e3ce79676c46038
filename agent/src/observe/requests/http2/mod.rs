//! HTTP/2 in clear text, and gRPC on it: requests and their responses on one connection, as one of its
//! ends sees it.
//!
//! Comes in: bytes, with the way they went. Goes out: requests that have ended, as of HTTP/1.1; of gRPC
//! with the name of the method and `grpc-status`. [`frame`] cuts a direction into frames, [`hpack`]
//! reads header blocks with [`huffman`], [`fields`] says what is kept of them; this matches responses
//! with requests, by the number of their stream.
//!
//! Where something is lost, streams that wait may have ended in it: they are unknown, and so are fields
//! that refer to what was said before. A connection older than the agent is understood from its next
//! request on, as far as that says what it means: what refers to earlier requests stays unknown.

pub mod fields;
pub mod frame;
pub mod hpack;
pub mod huffman;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use frame::begins_connection;
use frame::{Block, Frames, Step};

use self::fields::Field;
use self::hpack::Decoder;
use super::exchange::{Exchange, Reader, Role, Told, Waits, Way};
use super::route;
use super::stream::Piece;
use super::traceparent::TraceParent;
use crate::reduce::Answer;

/// Streams that may wait for their responses on one connection.
const STREAMS: usize = 4_096;
/// Longest name of a method of gRPC, in bytes.
const METHOD: usize = 200;
/// gRPC's UNKNOWN.
const UNKNOWN: u16 = 2;

/// Whether a call that moved this may be one in the middle of a connection of HTTP/2.
#[must_use]
pub fn goes_on(bytes: &[u8], total: u64) -> bool {
    frame::goes_on(&Piece::new(bytes, total))
}

/// One way of a connection.
#[derive(Debug)]
struct Direction {
    frames: Frames,
    blocks: Decoder,
}

impl Direction {
    fn new(frames: Frames) -> Self {
        Self { frames, blocks: Decoder::default() }
    }

    fn older() -> Self {
        let mut direction = Self::new(Frames::older());
        direction.blocks.forget();
        direction
    }
}

/// What a header block says.
#[derive(Debug, Default)]
struct Said {
    method: Option<&'static str>,
    path: Option<Arc<str>>,
    status: Option<u16>,
    grpc: Option<bool>,
    grpc_status: Option<u16>,
    parent: TraceParent,
    /// And something that is not known.
    unclear: bool,
}

impl Said {
    fn see(&mut self, field: Field) {
        match field {
            Field::Method(method) => self.method = Some(method),
            Field::Path(path) => self.path = Some(path),
            Field::Status(status) => self.status = Some(status),
            Field::Grpc(is) => self.grpc = Some(is),
            Field::GrpcStatus(status) => self.grpc_status = Some(status),
            Field::Trace(parent) => self.parent = parent,
            Field::Other => {}
            Field::Unknown => self.unclear = true,
        }
    }
}

#[derive(Debug)]
struct Pending {
    start_ns: u64,
    /// Of the request, as far as known.
    method: Option<&'static str>,
    path: Option<Arc<str>>,
    parent: TraceParent,
    /// Whether it is an RPC, once that is known.
    grpc: Option<bool>,
    /// Of the response, as far as it has come.
    status: Option<u16>,
    grpc_status: Option<u16>,
    /// The response says something that is not known.
    unclear: bool,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With its response.
    Whole,
    /// It was broken off, or its connection was.
    Cut,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    role: Option<Role>,
    received: Direction,
    sent: Direction,
    /// By stream: who asks numbers them upwards, so the first is the oldest.
    pending: BTreeMap<u32, Pending>,
    /// The highest stream that was heard of.
    highest: u32,
    /// It is HTTP/2: it began so, or a request was answered.
    agreed: bool,
    /// It is not.
    something_else: bool,
}

impl Connection {
    /// One that begins, with what the client sends `way`.
    #[must_use]
    pub fn new(way: Way) -> Self {
        let (client, server) = (Frames::of_client(), Frames::of_server());
        let (received, sent) = match way {
            Way::Received => (client, server),
            Way::Sent => (server, client),
        };
        Self {
            role: Some(Role::of_requests(way)),
            agreed: true,
            received: Direction::new(received),
            sent: Direction::new(sent),
            ..Self::older()
        }
    }

    /// One that is older than the reading.
    #[must_use]
    pub fn older() -> Self {
        Self {
            role: None,
            received: Direction::older(),
            sent: Direction::older(),
            pending: BTreeMap::new(),
            highest: 0,
            agreed: false,
            something_else: false,
        }
    }

    fn direction(&mut self, way: Way) -> &mut Direction {
        match way {
            Way::Received => &mut self.received,
            Way::Sent => &mut self.sent,
        }
    }

    fn asks(&self, way: Way) -> bool {
        self.role == Some(Role::of_requests(way))
    }

    /// Nothing is known of what went there, nor of the streams that wait, which may have ended in it.
    fn lose(&mut self, way: Way, out: &mut Vec<Told>) {
        self.direction(way).blocks.forget();
        if !self.agreed {
            // Of the way that was not heard from nothing was expected.
            self.something_else = self.pending.is_empty() || self.asks(way);
            return;
        }
        let unknown = self.pending.len() as u64 + u64::from(self.asks(way));
        self.pending.clear();
        if unknown > 0 {
            out.push(Told::Unknown(unknown));
        }
    }

    fn block(&mut self, way: Way, at_ns: u64, block: &Block, out: &mut Vec<Told>) {
        let direction = self.direction(way);
        let mut said = Said::default();
        let read = direction.blocks.read(&block.bytes, |field| said.see(field));
        if read.is_err() || !block.whole {
            direction.blocks.forget();
            said.unclear = true;
            self.something_else |= !self.agreed;
        }
        // Streams that a server opens carry what nobody asked for.
        if block.promised || block.stream.is_multiple_of(2) {
            return;
        }
        if self.role.is_none() {
            self.role = match (said.method.is_some() || said.path.is_some(), said.status) {
                (true, None) => Some(Role::of_requests(way)),
                (false, Some(_)) => Some(Role::of_responses(way)),
                _ => {
                    self.something_else = true;
                    return;
                }
            };
        }
        if self.asks(way) {
            self.asked(block.stream, said, block.began_ns, out);
        } else {
            self.answered(block, &said, at_ns, out);
        }
    }

    fn asked(&mut self, stream: u32, said: Said, start_ns: u64, out: &mut Vec<Told>) {
        if stream <= self.highest {
            // Trailers; or it was given up.
            return;
        }
        self.highest = stream;
        if self.pending.len() >= STREAMS {
            out.push(Told::Unknown(1));
            return;
        }
        let Said { method, path, parent, unclear, .. } = said;
        // Without a type it is none, unless that is what is not known.
        let grpc = said.grpc.or((!unclear).then_some(false));
        let (status, grpc_status, unclear) = (None, None, false);
        let request =
            Pending { start_ns, method, path, parent, grpc, status, grpc_status, unclear };
        self.pending.insert(stream, request);
    }

    fn answered(&mut self, block: &Block, said: &Said, at_ns: u64, out: &mut Vec<Told>) {
        let stream = block.stream;
        let Some(pending) = self.pending.get_mut(&stream) else {
            // Its request came before the agent, or was lost.
            if self.agreed && said.status.is_some_and(|s| s >= 200) && stream > self.highest {
                self.highest = stream;
                out.push(Told::Unknown(1));
            }
            return;
        };
        if said.status.is_some() {
            self.agreed = true;
        }
        if said.status.is_some_and(|status| status < 200) {
            // There is more to come.
            return;
        }
        if pending.grpc.is_none() && said.status == Some(200) {
            pending.grpc = said.grpc.or((!said.unclear).then_some(false));
        }
        pending.status = pending.status.or(said.status);
        pending.grpc_status = pending.grpc_status.or(said.grpc_status);
        if said.grpc == Some(true) || said.grpc_status.is_some() {
            pending.grpc = Some(true);
        }
        pending.unclear |= said.unclear;
        let tunnel = pending.method == Some("CONNECT")
            && pending.status.is_some_and(|status| (200..300).contains(&status));
        if block.ends || tunnel {
            self.finish(stream, End::Whole, at_ns, out);
        }
    }

    fn finish(&mut self, stream: u32, end: End, at_ns: u64, out: &mut Vec<Told>) {
        let Some(done) = self.pending.remove(&stream) else { return };
        let Some(role) = self.role() else { return };
        let Some((operation, answer)) = done.told(end) else {
            out.push(Told::Unknown(1));
            return;
        };
        out.push(Told::Exchange(Exchange {
            role,
            operation: operation.into(),
            answer,
            start_ns: done.start_ns,
            end_ns: at_ns.max(done.start_ns),
            // The same at both ends, whatever either saw.
            ordinal: u64::from(stream / 2),
            parent: done.parent,
        }));
    }
}

impl Reader for Connection {
    fn role(&self) -> Option<Role> {
        self.role.filter(|_| self.agreed)
    }

    /// An RPC that is being answered is none that anybody waits for: it may be a stream that lasts.
    fn waiting(&self) -> Option<Waits> {
        if self.pending.is_empty() || !self.agreed {
            return None;
        }
        let waits = |p: &&Pending| p.grpc != Some(true) || p.status.is_none();
        let oldest = self.pending.values().find(waits).map(|p| (p.start_ns, p.parent.trace));
        Some(Waits { count: self.pending.len() as u64, oldest })
    }

    fn is_something_else(&self) -> bool {
        self.something_else
    }

    fn piece(&mut self, way: Way, at_ns: u64, mut piece: Piece<'_>, out: &mut Vec<Told>) {
        if self.something_else {
            return;
        }
        if self.direction(way).frames.passes_over(&piece) {
            self.lose(way, out);
        }
        loop {
            match self.direction(way).frames.next(&mut piece, at_ns) {
                Step::Idle => return,
                Step::Lost => self.lose(way, out),
                Step::Block(block) => self.block(way, at_ns, &block, out),
                Step::End(stream) if !self.asks(way) => self.finish(stream, End::Whole, at_ns, out),
                Step::End(_) => {}
                Step::Reset(stream) => self.finish(stream, End::Cut, at_ns, out),
                Step::GoAway(last) if !self.asks(way) => {
                    let after: Vec<u32> =
                        self.pending.range(last.saturating_add(1)..).map(|(id, _)| *id).collect();
                    for stream in after {
                        self.finish(stream, End::Cut, at_ns, out);
                    }
                }
                Step::GoAway(_) => {}
            }
            if self.something_else {
                return;
            }
        }
    }

    fn ended(&mut self, at_ns: u64, out: &mut Vec<Told>) {
        while let Some((stream, _)) = self.pending.first_key_value() {
            self.finish(*stream, End::Cut, at_ns, out);
        }
    }
}

impl Pending {
    /// The operation, and how it was answered; `None` where one of them is not known.
    fn told(&self, end: End) -> Option<(String, Answer<'static>)> {
        let method = self.method?;
        // Who asks for a tunnel names a host.
        let path = self.path.as_deref().or((method == "CONNECT").then_some(""))?;
        // Every RPC is a POST.
        if self.grpc.or((method != "POST").then_some(false))? {
            let status = match (end, self.grpc_status) {
                (_, Some(status)) => Some(status),
                (End::Cut, None) => None,
                (End::Whole, None) if self.unclear => return None,
                (End::Whole, None) => Some(self.status.map_or(UNKNOWN, of_http)),
            };
            return Some((rpc(path), Answer::Grpc(status)));
        }
        let answer = match (self.status, end) {
            (Some(status), _) => Answer::Status(status),
            (None, End::Cut) if !self.unclear => Answer::None,
            (None, _) => return None,
        };
        Some((format!("{method} {}", route::of(path, self.status)), answer))
    }
}

/// The name of an RPC, as spans have it: `package.Service/Method`. What is none is told as a route.
fn rpc(path: &str) -> String {
    let name = path.strip_prefix('/').unwrap_or(path);
    let word = |text: &str| {
        let more = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.bytes().all(more)
    };
    let is = |(service, method): (&str, &str)| word(service) && word(method);
    if name.len() <= METHOD && name.split_once('/').is_some_and(is) {
        return name.to_owned();
    }
    route::of(path, None)
}

/// The status of gRPC that clients make of one of HTTP, where a proxy answered in a server's place
/// (grpc/http-grpc-status-mapping.md).
fn of_http(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
