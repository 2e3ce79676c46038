//! DNS over one TCP connection, as one of its ends sees it: each message has two bytes in front that say
//! how long it is (RFC 1035, 4.2.2), and answers come in any order (RFC 7766, 6.2.1.1).
//!
//! Of a message the beginning is kept until it is over. Where the place in the stream is lost, it is found
//! again where a call begins with a message, with or without those two bytes, which some servers read by
//! themselves.

use super::message::{self, Message};
use super::queries::{Found, Over, PATIENCE_NS, Place, Queries};
use super::{exchange, meaning};
use crate::observe::requests::exchange::{Reader, Role, Told, Waits, Way};
use crate::observe::requests::stream::Piece;
use crate::reduce::Answer;

/// Of a message so many bytes are read, more than an answer over UDP has.
const KEPT: usize = 8 << 10;
/// Queries that may wait on one connection.
const PIPELINED: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Until a call begins a message.
    Lost,
    /// Before the length.
    Length,
    /// After its first byte.
    Half(u8),
    /// So many bytes of a message are left.
    Body(usize),
}

/// A direction, cut into messages.
#[derive(Debug)]
struct Frames {
    state: State,
    held: Vec<u8>,
    /// Some of the message was not known.
    cut: bool,
    began_ns: u64,
}

enum Step {
    Idle,
    /// A message is over; the last of its bytes may not be known.
    Message(Vec<u8>),
    Lost,
}

impl Frames {
    const fn new() -> Self {
        Self { state: State::Lost, held: Vec::new(), cut: false, began_ns: 0 }
    }

    /// Finds the place again where a call begins a message.
    fn find(&mut self, piece: &Piece<'_>, at_ns: u64) {
        if self.state != State::Lost || !piece.fresh {
            return;
        }
        let total = u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX).saturating_add(piece.rest);
        let rest = piece.bytes.get(2..).unwrap_or_default();
        let length = piece.bytes.first_chunk().map_or(0, |length| u16::from_be_bytes(*length));
        // One byte alone, or both, are what some servers read first.
        if total <= 2 || message::begins(rest) && usize::from(length) > message::HEADER {
            self.state = State::Length;
        } else if message::begins(piece.bytes) && total <= u64::from(u16::MAX) {
            self.state = State::Body(usize::try_from(total).unwrap_or_default());
            self.began_ns = at_ns;
        }
    }

    fn lose(&mut self) {
        self.state = State::Lost;
        self.held.clear();
        self.cut = false;
    }

    fn next(&mut self, piece: &mut Piece<'_>, at_ns: u64) -> Step {
        while !piece.is_empty() {
            match self.state {
                State::Lost => {
                    piece.skip(u64::MAX);
                    return Step::Idle;
                }
                State::Length | State::Half(_) => {
                    let &[byte] = piece.take(1) else {
                        self.lose();
                        return Step::Lost;
                    };
                    let State::Half(high) = self.state else {
                        self.began_ns = at_ns;
                        self.state = State::Half(byte);
                        continue;
                    };
                    let length = usize::from(u16::from_be_bytes([high, byte]));
                    if length < message::HEADER {
                        self.lose();
                        return Step::Lost;
                    }
                    self.state = State::Body(length);
                }
                State::Body(left) => {
                    let known = piece.take(left);
                    let room = KEPT.saturating_sub(self.held.len());
                    let kept = known.get(..room.min(known.len())).unwrap_or_default();
                    // What comes behind a gap is not what comes next.
                    if !self.cut {
                        self.held.extend_from_slice(kept);
                    }
                    let left = left - known.len();
                    let passed = piece.skip(u64::try_from(left).unwrap_or(u64::MAX));
                    self.cut |= passed > 0;
                    let left = left.saturating_sub(usize::try_from(passed).unwrap_or(left));
                    if left > 0 {
                        self.state = State::Body(left);
                        continue;
                    }
                    self.cut = false;
                    self.state = State::Length;
                    return Step::Message(std::mem::take(&mut self.held));
                }
            }
        }
        Step::Idle
    }
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    received: Frames,
    sent: Frames,
    queries: Queries<()>,
    /// A message was understood.
    agreed: bool,
    something_else: bool,
    now_ns: u64,
}

impl Connection {
    /// One of which this is that end.
    #[must_use]
    pub fn new(role: Role) -> Self {
        let (received, sent) = (Frames::new(), Frames::new());
        let queries = Queries::new(PIPELINED);
        Self { role, received, sent, queries, agreed: false, something_else: false, now_ns: 0 }
    }

    fn message(&mut self, way: Way, at_ns: u64, began_ns: u64, bytes: &[u8], out: &mut Vec<Told>) {
        let Some(Message { id, question, answer }) = Message::parse(bytes) else {
            self.something_else |= !self.agreed;
            out.push(Told::Unknown(1));
            return;
        };
        self.agreed = true;
        let role = if answer.is_some() { Role::of_responses(way) } else { Role::of_requests(way) };
        if role != self.role {
            // Who serves asks too, on a connection that was turned around: nothing that is common.
            out.push(Told::Unknown(1));
            return;
        }
        let place = Place { process: 0, port: 0, role, id };
        match (answer, question) {
            (None, Some(question)) => {
                if !self.queries.asked(place, None, question, (), began_ns) {
                    out.push(Told::Unknown(1));
                }
            }
            (None, None) => {}
            (Some(answer), question) => {
                let hash = question.map(|question| question.hash);
                match self.queries.answered(place, None, hash, at_ns) {
                    Found::Query(over) => {
                        finish(&over, meaning(&answer), at_ns, out);
                        if role == Role::Client && !answer.addresses.is_empty() {
                            out.push(Told::Addresses(over.question.name, answer.addresses));
                        }
                    }
                    Found::Again => {}
                    Found::Nobody => out.push(Told::Unknown(1)),
                }
            }
        }
    }
}

fn finish(over: &Over<()>, answer: Answer<'static>, end_ns: u64, out: &mut Vec<Told>) {
    let times = (over.start_ns, end_ns);
    out.push(Told::Exchange(exchange(
        over.place.role,
        &over.question,
        answer,
        times,
        over.ordinal,
    )));
}

impl Reader for Connection {
    fn role(&self) -> Option<Role> {
        Some(self.role)
    }

    fn waiting(&self) -> Option<Waits> {
        let waiting = self.queries.waiting(self.now_ns).map(|(_, (), start_ns)| start_ns);
        let (count, oldest) =
            waiting.fold((0, u64::MAX), |(n, oldest), start_ns| (n + 1, oldest.min(start_ns)));
        (count > 0).then(|| Waits::since(count, oldest))
    }

    fn is_something_else(&self) -> bool {
        self.something_else
    }

    fn piece(&mut self, way: Way, at_ns: u64, mut piece: Piece<'_>, out: &mut Vec<Told>) {
        self.now_ns = self.now_ns.max(at_ns);
        let frames = match way {
            Way::Received => &mut self.received,
            Way::Sent => &mut self.sent,
        };
        frames.find(&piece, at_ns);
        if frames.state == State::Lost && !piece.is_empty() {
            self.something_else = !self.agreed;
            return out.push(Told::Unknown(1));
        }
        loop {
            let frames = match way {
                Way::Received => &mut self.received,
                Way::Sent => &mut self.sent,
            };
            let step = frames.next(&mut piece, at_ns);
            let began_ns = frames.began_ns;
            match step {
                Step::Idle => return,
                Step::Lost => {
                    self.something_else |= !self.agreed;
                    out.push(Told::Unknown(1));
                }
                Step::Message(bytes) => self.message(way, at_ns, began_ns, &bytes, out),
            }
            if self.something_else {
                return;
            }
        }
    }

    fn settle(&mut self, now_ns: u64, out: &mut Vec<Told>) {
        self.now_ns = self.now_ns.max(now_ns);
        self.queries.settle(now_ns, |over| {
            finish(&over, Answer::None, over.start_ns.saturating_add(PATIENCE_NS), out);
        });
    }

    fn ended(&mut self, at_ns: u64, out: &mut Vec<Told>) {
        self.queries.ended(at_ns, |over| {
            let end_ns = at_ns.min(over.start_ns.saturating_add(PATIENCE_NS));
            finish(&over, Answer::None, end_ns, out);
        });
        (self.received, self.sent) = (Frames::new(), Frames::new());
    }
}

#[cfg(test)]
mod tests;
