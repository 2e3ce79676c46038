//! One direction of PostgreSQL's protocol, version 3, cut into messages
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>).
//!
//! A message is a byte that says what it is, four that say how long it is, themselves included, and so
//! many more; the first of a connection has no such byte. Comes in: pieces, as of HTTP ([`Piece`]). Goes
//! out: what each message is when it is over, with as much of its beginning as says what is asked or
//! answered. Bodies are skipped by their length, known or not; where a head is not known the place is
//! lost, until a call begins with what begins a message.

use crate::observe::requests::head::Side;
use crate::observe::requests::stream::Piece;

/// Bytes of a head.
const HEAD: usize = 5;
/// Bytes of a body that are kept: the beginning of a statement, two names, the code of an error.
pub const KEPT: usize = 2_048;
/// Longest body of a connection's first message, in bytes (`MAX_STARTUP_PACKET_LENGTH`).
const LONGEST_FIRST: u32 = 10_000;
/// Messages of clients.
const ASKED: &[u8] = b"BCDEFHPQSXcdfp";
/// Messages with which a client's call may begin that begins one.
const ASKING: &[u8] = b"BFPQ";
/// Messages of servers; `v` is of 3.2 too.
const ANSWERED: &[u8] = b"123ACDEGHIKNRSTVWZcdnstv";
/// What is asked for in place of a version: to cancel, TLS, encryption by GSSAPI.
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSSAPI: u32 = 80_877_104;

/// The first message of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// Somebody wants to talk.
    Start,
    /// Wants to cancel what another connection asked; there is no answer.
    Cancel,
    /// Wants to go on encrypted; the answer is one byte.
    Encrypt,
}

impl First {
    fn of(code: u32) -> Option<Self> {
        match code {
            CANCEL => Some(Self::Cancel),
            TLS | GSSAPI => Some(Self::Encrypt),
            // 3.x.
            code if code >> 16 == 3 => Some(Self::Start),
            _ => None,
        }
    }
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing more in this piece.
    Idle,
    /// The first message of a connection is over.
    First(First),
    /// What answers who wants to go on encrypted.
    Byte(u8),
    /// A message is over; [`Frames::body`] has its beginning.
    Message(u8),
    /// From here on it is not known what is what.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the head of a message.
    Head,
    /// In the length and the version of the first.
    First,
    /// Before a byte without a head.
    Byte,
    /// So many bytes of a message of this kind are left.
    Body(u8, u64),
    /// So many of the first are.
    Rest(First, u64),
    /// Until a piece begins a message.
    Lost,
}

/// A direction.
#[derive(Debug)]
pub struct Frames {
    side: Side,
    state: State,
    /// What is there of a head.
    head: Vec<u8>,
    /// What is kept of a body.
    body: Vec<u8>,
    /// Less was kept than there was.
    cut: bool,
}

fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.first_chunk()?))
}

/// What a head says: the kind, and how long the body is.
fn head(bytes: &[u8], kinds: &[u8]) -> Option<(u8, u64)> {
    let [kind, length @ ..] = bytes else { return None };
    let length = word(length)?;
    let says = kinds.contains(kind) && (4..1 << 31).contains(&length);
    says.then(|| (*kind, u64::from(length) - 4))
}

/// The first message of a connection, as far as its head says.
fn first(bytes: &[u8]) -> Option<(First, u64)> {
    let (length, code) = (word(bytes)?, word(bytes.get(4..)?)?);
    let first = First::of(code)?;
    let fits = match first {
        First::Encrypt => length == 8,
        First::Cancel => (16..=LONGEST_FIRST).contains(&length),
        First::Start => (9..=LONGEST_FIRST).contains(&length),
    };
    fits.then(|| (first, u64::from(length) - 8))
}

/// Whether these are messages of a side as far as they are known, each where the one before ends. A
/// letter and a length alone begin much else: one message has to end with the call, or be followed by
/// another.
fn are_messages(side: Side, bytes: &[u8], total: u64) -> bool {
    let kinds = if side == Side::Requests { ASKED } else { ANSWERED };
    let (mut at, mut seen) = (0u64, 0);
    while at < total {
        let Some(rest) = usize::try_from(at).ok().and_then(|at| bytes.get(at..)) else { break };
        if rest.len() < HEAD {
            // Cut by the end of what is known.
            let says = rest.first().is_none_or(|kind| kinds.contains(kind));
            return seen > 0 && says;
        }
        let Some((_, body)) = head(rest, kinds) else { return false };
        at += body + HEAD as u64;
        seen += 1;
    }
    // One that goes on in the next call is less sure: its length has to be likely.
    at == total || seen > 1 || seen == 1 && at < 1 << 24
}

/// Whether a client's call begins so that begins a message, `total` bytes of which these are the first.
#[must_use]
pub fn begins(bytes: &[u8], total: u64) -> bool {
    match bytes {
        [0, ..] => first(bytes).is_some_and(|(_, rest)| rest + 8 <= total),
        [kind, ..] if ASKING.contains(kind) => are_messages(Side::Requests, bytes, total),
        _ => false,
    }
}

impl Frames {
    /// One that may be in the middle of anything.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self { side, state: State::Lost, head: Vec::new(), body: Vec::new(), cut: false }
    }

    /// The beginning of the body of the message that is over.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether there was more of it.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Whether the next message has not begun, as far as is known.
    #[must_use]
    pub fn is_between(&self) -> bool {
        match self.state {
            State::Lost => true,
            State::Head | State::First | State::Byte => self.head.is_empty(),
            State::Body(..) | State::Rest(..) => false,
        }
    }

    /// Whether a message begins with this piece, as far as can be told.
    #[must_use]
    pub fn begins(&self, piece: &Piece<'_>) -> bool {
        let total = piece.bytes.len() as u64 + piece.rest;
        piece.fresh
            && self.is_between()
            && match self.side {
                Side::Requests => begins(piece.bytes, total),
                Side::Responses => {
                    !piece.bytes.is_empty() && are_messages(self.side, piece.bytes, total)
                }
            }
    }

    /// Whether the place is lost, and this piece does not find it again.
    #[must_use]
    pub fn passes_over(&self, piece: &Piece<'_>) -> bool {
        self.state == State::Lost && !piece.is_empty() && !self.begins(piece)
    }

    /// A byte without a head comes next.
    pub fn expect_byte(&mut self) {
        self.state = State::Byte;
        self.head.clear();
    }

    /// The first message of a connection comes next.
    pub fn expect_first(&mut self) {
        self.state = State::First;
        self.head.clear();
    }

    /// Gives up the place in the stream.
    pub fn lose(&mut self) {
        self.state = State::Lost;
        self.head.clear();
        self.body.clear();
    }

    fn lost(&mut self, piece: &mut Piece<'_>) -> Step {
        self.lose();
        piece.skip(u64::MAX);
        Step::Lost
    }

    /// The next thing in a piece, until there is nothing more.
    pub fn next(&mut self, piece: &mut Piece<'_>) -> Step {
        loop {
            match self.state {
                State::Lost if self.begins(piece) => {
                    let is_first = piece.bytes.first() == Some(&0);
                    self.state = if is_first { State::First } else { State::Head };
                }
                State::Lost => {
                    piece.skip(u64::MAX);
                    return Step::Idle;
                }
                State::Body(kind, 0) => {
                    self.state = State::Head;
                    return Step::Message(kind);
                }
                State::Rest(first, 0) => {
                    self.state = if first == First::Encrypt { State::First } else { State::Head };
                    return Step::First(first);
                }
                _ if piece.is_empty() => return Step::Idle,
                State::Body(kind, left) => {
                    self.state = State::Body(kind, left - self.pass(left, piece));
                }
                State::Rest(first, left) => {
                    self.state = State::Rest(first, left - piece.skip(left));
                }
                State::Byte => match piece.take(1) {
                    [byte] => {
                        self.state = State::Head;
                        return Step::Byte(*byte);
                    }
                    _ => return self.lost(piece),
                },
                State::Head | State::First => {
                    let size = if self.state == State::Head { HEAD } else { 8 };
                    let more = piece.take(size - self.head.len());
                    self.head.extend_from_slice(more);
                    if self.head.len() < size {
                        if piece.is_empty() {
                            return Step::Idle;
                        }
                        return self.lost(piece);
                    }
                    let Some(state) = self.headed() else { return self.lost(piece) };
                    self.state = state;
                    self.head.clear();
                    self.body.clear();
                    self.cut = false;
                }
            }
        }
    }

    fn headed(&self) -> Option<State> {
        if self.state == State::First {
            return first(&self.head).map(|(first, rest)| State::Rest(first, rest));
        }
        let kinds = if self.side == Side::Requests { ASKED } else { ANSWERED };
        head(&self.head, kinds).map(|(kind, body)| State::Body(kind, body))
    }

    /// Passes over bytes of a body; gives how many.
    fn pass(&mut self, left: u64, piece: &mut Piece<'_>) -> u64 {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let known = piece.bytes.get(..most.min(piece.bytes.len())).unwrap_or_default();
        // Behind what is not known nothing is of use.
        let room = if self.cut { 0 } else { KEPT - self.body.len().min(KEPT) };
        self.body.extend_from_slice(known.get(..room).unwrap_or(known));
        let passed = piece.skip(left);
        self.cut |= known.len() > room || passed > known.len() as u64;
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn a_call_that_begins_a_message_is_told_from_others() {
        let is = |bytes: &[u8]| begins(bytes, bytes.len() as u64);
        assert!(is(&message(b'Q', b"SELECT 1\0")));
        let batch =
            [message(b'P', b"\0SELECT 1\0\0\0"), message(b'B', b"\0\0\0\0\0\0\0\0")].concat();
        assert!(is(&batch) && is(&[&batch[..], b"E\0\0"].concat()));
        let start = [&13u32.to_be_bytes()[..], &[0, 3, 0, 0], b"user\0"].concat();
        assert!(is(&start) && is(&[0, 0, 0, 8, 4, 210, 22, 47]));
        // Longer than what was read of it.
        assert!(begins(&message(b'Q', &[b'x'; 100])[..50], 50));
        for other in [
            &b"QUIT\r\n"[..],
            b"POST / HTTP/1.1\r\n",
            b"Q\0\0\0\x03",
            b"Q\x7f\0\0\x08aaaa",
            b"P\0\0\0\x08aaaa\xff\0\0\0\x04",
            b"\0\0\0\x09\0\x09\0\0x",
            b"\0\0\0\x64\0\x03\0\0user",
            b"Z\0\0\0\x05I",
        ] {
            assert!(!is(other), "{other:?}");
        }
    }

    #[test]
    fn a_body_may_come_in_any_pieces_and_its_beginning_is_kept() {
        let long = message(b'Q', &[b'x'; 5_000]);
        let all = [message(b'S', b""), long.clone(), message(b'X', b"")].concat();
        for size in [1, 7, 4_096, all.len()] {
            let mut frames = Frames::new(Side::Requests);
            frames.state = State::Head;
            let mut kinds = Vec::new();
            for bytes in all.chunks(size) {
                let mut piece = Piece::new(bytes, bytes.len() as u64);
                while let Step::Message(kind) = frames.next(&mut piece) {
                    kinds.push((kind, frames.body().len(), frames.is_cut()));
                }
            }
            assert_eq!(kinds, [(b'S', 0, false), (b'Q', KEPT, true), (b'X', 0, false)]);
        }
        // Of a head that is not known nothing follows, and of a body everything does.
        let mut frames = Frames::new(Side::Requests);
        let known = &long[..100];
        assert_eq!(frames.next(&mut Piece::new(known, long.len() as u64)), Step::Message(b'Q'));
        assert_eq!((frames.body().len(), frames.is_cut()), (95, true));
        assert_eq!(frames.next(&mut Piece::gap(3)), Step::Lost);
    }
}
