//! One direction of HTTP/2, cut into frames (RFC 9113, 4 and 6).
//!
//! Comes in: pieces, as of HTTP/1.1 ([`Piece`]). Goes out: what is needed of them: whole header blocks,
//! what ends streams, and the word that what follows is unknown. Payloads of other frames are skipped
//! by their length, known or not. Where the place is lost, it is found again where a call begins with a
//! frame that another one follows, or that is all there is.

use crate::observe::requests::stream::Piece;

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame before its payload.
const HEAD: usize = 9;
/// Longest header block that is read, in bytes.
const BLOCK: usize = 64 << 10;
/// Longest payload of what may be a frame, where the place is looked for, in bytes.
const LIKELY: u32 = 1 << 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITISED: u8 = 0x20;

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    length: u32,
    kind: u8,
    flags: u8,
    /// Its highest bit means nothing.
    stream: u32,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, d, e, f, g, ..] = *bytes else { return None };
        let length = u32::from_be_bytes([0, a, b, c]);
        Some(Self { length, kind, flags, stream: u32::from_be_bytes([d, e, f, g]) })
    }

    fn id(self) -> u32 {
        self.stream & (u32::MAX >> 1)
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether there is such a frame. Frames of kinds that nobody knows are to be passed over.
    fn is_legal(self) -> bool {
        let whole = self.id() == 0;
        match self.kind {
            DATA | HEADERS | CONTINUATION => !whole,
            PRIORITY => !whole && self.length == 5,
            RST_STREAM => !whole && self.length == 4,
            PUSH_PROMISE => !whole && self.length > 4,
            SETTINGS => whole && self.length.is_multiple_of(6),
            PING => whole && self.length == 8,
            GOAWAY => whole && self.length >= 8,
            WINDOW_UPDATE => self.length == 4,
            _ => true,
        }
    }

    /// Whether bytes that look so are likely to be one.
    fn is_likely(self) -> bool {
        let known = match self.kind {
            DATA => END_STREAM | PADDED,
            HEADERS => END_STREAM | END_HEADERS | PADDED | PRIORITISED,
            SETTINGS | PING => 1,
            PUSH_PROMISE => END_HEADERS | PADDED,
            CONTINUATION => END_HEADERS,
            PRIORITY | RST_STREAM | GOAWAY | WINDOW_UPDATE => 0,
            _ => return false,
        };
        self.is_legal()
            && (self.kind != HEADERS || self.length > 0)
            && self.flags & !known == 0
            && self.length <= LIKELY
            && self.stream == self.id()
    }

    /// What is needed of its payload: of most nothing.
    fn kept(self) -> usize {
        match self.kind {
            HEADERS | PUSH_PROMISE | CONTINUATION => BLOCK,
            GOAWAY => 4,
            _ => 0,
        }
    }
}

/// A header block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    /// Of which stream.
    pub stream: u32,
    /// Of a request that nobody made (PUSH_PROMISE).
    pub promised: bool,
    /// The stream has nothing more in this direction.
    pub ends: bool,
    /// All of it is known.
    pub whole: bool,
    /// Those bytes of it that are.
    pub bytes: Vec<u8>,
    /// When its first frame began.
    pub began_ns: u64,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing more in this piece.
    Idle,
    /// A header block is over.
    Block(Block),
    /// A stream has nothing more in this direction.
    End(u32),
    /// A stream was broken off.
    Reset(u32),
    /// Streams after this one will not be answered.
    GoAway(u32),
    /// From here on it is not known what is what.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes of the preface passed.
    Preface(usize),
    /// In or before what stands before a payload.
    Head,
    /// So many bytes of a payload are left.
    Payload(Head, u32),
    /// Until a piece begins with a frame.
    Lost,
}

/// A direction.
#[derive(Debug)]
pub struct Frames {
    state: State,
    /// What is there of a head, or what is kept of a payload.
    held: Vec<u8>,
    /// Something of the payload that was to be kept is not known.
    cut: bool,
    /// A header block that goes on in the next frame.
    open: Option<Block>,
    /// When the frame began that is being read, or the first of its block.
    began_ns: u64,
}

/// Whether a client begins so, as far as it goes, four bytes at least.
#[must_use]
pub fn begins_connection(bytes: &[u8]) -> bool {
    let n = bytes.len().min(PREFACE.len());
    n >= 4 && PREFACE.get(..n) == bytes.get(..n)
}

/// Whether a call that moved this, all of which is known or some, begins with a frame, of which the
/// next one or the end of the call tells, too.
fn begins_frame(piece: &Piece<'_>) -> bool {
    let Some(head) = Head::read(piece.bytes).filter(|head| head.is_likely()) else { return false };
    let end = HEAD as u64 + u64::from(head.length);
    if end == piece.bytes.len() as u64 + piece.rest {
        return true;
    }
    let next = usize::try_from(end).ok().and_then(|end| piece.bytes.get(end..));
    next.and_then(Head::read).is_some_and(Head::is_likely)
}

/// Whether a call that moved this may be one in the middle of a connection of HTTP/2.
#[must_use]
pub fn goes_on(piece: &Piece<'_>) -> bool {
    let headers = Head::read(piece.bytes).is_some_and(|head| {
        head.kind == HEADERS && head.has(END_HEADERS) && !head.id().is_multiple_of(2)
    });
    headers && begins_frame(piece)
}

impl Frames {
    const fn at(state: State) -> Self {
        Self { state, held: Vec::new(), cut: false, open: None, began_ns: 0 }
    }

    /// What a client sends on a new connection.
    #[must_use]
    pub const fn of_client() -> Self {
        Self::at(State::Preface(0))
    }

    /// What a server sends on one.
    #[must_use]
    pub const fn of_server() -> Self {
        Self::at(State::Head)
    }

    /// One that may be in the middle of anything.
    #[must_use]
    pub const fn older() -> Self {
        Self::at(State::Lost)
    }

    /// Whether the place is lost, and this piece does not find it again.
    #[must_use]
    pub fn passes_over(&self, piece: &Piece<'_>) -> bool {
        let found = piece.fresh && begins_frame(piece);
        self.state == State::Lost && !piece.is_empty() && !found
    }

    fn lost(&mut self, piece: &mut Piece<'_>) -> Step {
        *self = Self::older();
        piece.skip(u64::MAX);
        Step::Lost
    }

    /// The next thing in a piece that moved at this time, until there is nothing more.
    pub fn next(&mut self, piece: &mut Piece<'_>, at_ns: u64) -> Step {
        loop {
            match self.state {
                State::Lost if piece.fresh && begins_frame(piece) => self.state = State::Head,
                State::Lost => {
                    piece.skip(u64::MAX);
                    return Step::Idle;
                }
                State::Payload(head, 0) => {
                    self.state = State::Head;
                    if let Some(step) = self.frame(head, piece) {
                        return step;
                    }
                }
                _ if piece.is_empty() => return Step::Idle,
                State::Payload(head, left) => self.payload(head, left, piece),
                State::Preface(_) | State::Head if piece.bytes.is_empty() => {
                    return self.lost(piece);
                }
                State::Preface(passed) => {
                    let rest = PREFACE.get(passed..).unwrap_or_default();
                    let taken = piece.take(rest.len());
                    if !rest.starts_with(taken) {
                        return self.lost(piece);
                    }
                    self.state = match passed + taken.len() {
                        n if n == PREFACE.len() => State::Head,
                        n => State::Preface(n),
                    };
                }
                State::Head => {
                    if self.held.is_empty() && self.open.is_none() {
                        self.began_ns = at_ns;
                    }
                    let more = piece.take(HEAD - self.held.len().min(HEAD));
                    self.held.extend_from_slice(more);
                    let Some(head) = Head::read(&self.held) else { continue };
                    self.held.clear();
                    // A block goes on in the next frame, or it is none (RFC 9113, 6.10).
                    let goes_on = self.open.as_ref().map(|block| block.stream);
                    let in_order = match (goes_on, head.kind) {
                        (Some(stream), CONTINUATION) => stream == head.id(),
                        (Some(_), _) | (None, CONTINUATION) => false,
                        (None, _) => true,
                    };
                    if !in_order || !head.is_legal() {
                        return self.lost(piece);
                    }
                    self.cut = false;
                    self.state = State::Payload(head, head.length);
                }
            }
        }
    }

    fn payload(&mut self, head: Head, left: u32, piece: &mut Piece<'_>) {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let room = head.kept().saturating_sub(self.held.len()).min(most);
        let kept = piece.take(room);
        self.held.extend_from_slice(kept);
        let kept = u32::try_from(kept.len()).unwrap_or(left);
        let mut left = left - kept.min(left);
        // What is more than is kept, and what is not known.
        if left > 0 && !piece.is_empty() {
            self.cut |= head.kept() > 0;
            let skipped = piece.skip(left.into());
            left -= u32::try_from(skipped).unwrap_or(left).min(left);
        }
        self.state = State::Payload(head, left);
    }

    /// What a frame is good for that is over.
    fn frame(&mut self, head: Head, piece: &mut Piece<'_>) -> Option<Step> {
        let held = std::mem::take(&mut self.held);
        let stream = head.id();
        match head.kind {
            DATA => head.has(END_STREAM).then_some(Step::End(stream)),
            RST_STREAM => Some(Step::Reset(stream)),
            GOAWAY => held
                .first_chunk()
                .map(|last| Step::GoAway(u32::from_be_bytes(*last) & (u32::MAX >> 1))),
            HEADERS | PUSH_PROMISE => {
                let promised = head.kind == PUSH_PROMISE;
                let Some(bytes) = fragment(head, &held, self.cut) else {
                    return Some(self.lost(piece));
                };
                let ends = !promised && head.has(END_STREAM);
                let (whole, bytes, began_ns) = (!self.cut, bytes.to_vec(), self.began_ns);
                self.block(head, Block { stream, promised, ends, whole, bytes, began_ns })
            }
            CONTINUATION => {
                let mut block = self.open.take()?;
                let room = BLOCK.saturating_sub(block.bytes.len());
                if block.whole {
                    block.bytes.extend_from_slice(held.get(..room).unwrap_or(&held));
                }
                block.whole &= !self.cut && held.len() <= room;
                self.block(head, block)
            }
            _ => None,
        }
    }

    fn block(&mut self, head: Head, block: Block) -> Option<Step> {
        if head.has(END_HEADERS) {
            return Some(Step::Block(block));
        }
        self.open = Some(block);
        None
    }
}

/// The part of a header block in the payload of HEADERS or PUSH_PROMISE, between the length of the
/// padding, priority or promised stream, and the padding. `None` when it cannot be.
fn fragment(head: Head, payload: &[u8], cut: bool) -> Option<&[u8]> {
    let (padding, rest) = match payload.split_first() {
        Some((padding, rest)) if head.has(PADDED) => (usize::from(*padding), rest),
        _ => (0, payload),
    };
    let before = match head.kind {
        PUSH_PROMISE => 4,
        _ if head.has(PRIORITISED) => 5,
        _ => 0,
    };
    if cut {
        // Where the padding begins is beyond what is known.
        return Some(rest.get(before..).unwrap_or_default());
    }
    rest.get(before..rest.len().checked_sub(padding)?)
}

#[cfg(test)]
mod tests;
