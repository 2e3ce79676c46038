//! One direction of a connection, cut into messages.
//!
//! Comes in: pieces, each what one call moved, of which perhaps only the first bytes are known. Goes
//! out: heads and ends of messages, and the word that what follows is unknown. Whoever takes a head
//! says how long its body is ([`Stream::body`]), because of a response that depends on the request.
//!
//! Bodies are skipped by their length, known or not. Where the place in the stream is lost, it is found
//! again where a call begins with what begins a message.

use super::head::{Framing, Side, begins, end};

/// Longest head that is read, in bytes.
pub const HEAD: usize = 64 << 10;
/// Longest line that says how long a chunk is.
const SIZE_LINE: usize = 256;

/// What one call moved.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Its first bytes.
    pub bytes: &'a [u8],
    /// How many more there were.
    pub rest: u64,
    /// Nothing was taken of it yet, and it is whole: where it begins a message may begin.
    pub fresh: bool,
}

impl<'a> Piece<'a> {
    /// What a call moved, `total` bytes of which the first are known.
    #[must_use]
    pub fn new(bytes: &'a [u8], total: u64) -> Self {
        Self { bytes, rest: total.saturating_sub(bytes.len() as u64), fresh: true }
    }

    /// Bytes of which nothing is known.
    #[must_use]
    pub fn gap(length: u64) -> Self {
        Self { bytes: &[], rest: length, fresh: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.rest == 0
    }

    /// Takes known bytes, at most so many.
    pub(super) fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, left) = self.bytes.split_at(most.min(self.bytes.len()));
        self.bytes = left;
        self.fresh &= taken.is_empty();
        taken
    }

    /// Passes over bytes, known or not, at most so many; gives how many.
    pub(super) fn skip(&mut self, most: u64) -> u64 {
        let known = self.take(usize::try_from(most).unwrap_or(usize::MAX)).len() as u64;
        let unknown = (most - known).min(self.rest);
        self.rest -= unknown;
        self.fresh &= unknown == 0;
        known + unknown
    }
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing more in this piece.
    Idle,
    /// A head, its empty line included; [`Stream::body`] comes next.
    Head(Vec<u8>),
    /// The beginning of a head whose rest is not known, nor how its message ends.
    CutHead(Vec<u8>),
    /// The body that was begun is over.
    End,
    /// From here on it is not known what is what.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In or before a head.
    Head,
    /// So many bytes of a body are left.
    Body(u64),
    /// In the line that says how long a chunk is.
    Size,
    /// So many bytes of a chunk are left, its line end included.
    Data(u64),
    /// In the lines behind the last chunk; whether the one that is read has anything in it.
    Trailer(bool),
    /// Everything belongs to this message.
    Rest,
    /// Until a piece begins a message.
    Lost,
}

/// A direction.
#[derive(Debug)]
pub struct Stream {
    side: Side,
    state: State,
    /// What is there of a head, or of a line of sizes.
    held: Vec<u8>,
}

impl Stream {
    /// One that may be in the middle of anything.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self { side, state: State::Lost, held: Vec::new() }
    }

    /// Whether the next message has not begun, as far as is known.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.state == State::Lost || self.state == State::Head && self.held.is_empty()
    }

    /// Whether the place is lost, and this piece does not find it again.
    #[must_use]
    pub fn passes_over(&self, piece: &Piece<'_>) -> bool {
        let found = piece.fresh && begins(piece.bytes) == Some(self.side);
        self.state == State::Lost && !piece.is_empty() && !found
    }

    /// How the message goes on whose head was handed out.
    pub fn body(&mut self, framing: Framing) {
        self.state = match framing {
            Framing::Length(n) => State::Body(n),
            Framing::Chunked => State::Size,
            Framing::Close => State::Rest,
        };
    }

    /// Gives up the place in the stream.
    pub fn lose(&mut self) {
        self.held = Vec::new();
        self.state = State::Lost;
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
                State::Lost if piece.fresh && begins(piece.bytes) == Some(self.side) => {
                    self.state = State::Head;
                }
                State::Lost | State::Rest => {
                    piece.skip(u64::MAX);
                    return Step::Idle;
                }
                State::Body(0) => {
                    self.state = State::Head;
                    return Step::End;
                }
                State::Body(left) => {
                    let left = left - piece.skip(left);
                    self.state = State::Body(left);
                    if left > 0 {
                        return Step::Idle;
                    }
                }
                State::Data(0) => self.state = State::Size,
                State::Data(left) => {
                    let left = left - piece.skip(left);
                    self.state = State::Data(left);
                    if left > 0 {
                        return Step::Idle;
                    }
                }
                _ if piece.is_empty() => return Step::Idle,
                State::Head => {
                    if let Some(step) = self.head(piece) {
                        return step;
                    }
                }
                State::Size | State::Trailer(_) if piece.bytes.is_empty() => {
                    return self.lost(piece);
                }
                State::Size => {
                    if let Some(step) = self.size(piece) {
                        return step;
                    }
                }
                State::Trailer(filled) => match piece.take(1) {
                    [b'\n'] if !filled => {
                        self.state = State::Head;
                        return Step::End;
                    }
                    [b'\n'] => self.state = State::Trailer(false),
                    [b'\r'] => {}
                    _ => self.state = State::Trailer(true),
                },
            }
        }
    }

    fn head(&mut self, piece: &mut Piece<'_>) -> Option<Step> {
        if self.held.is_empty() {
            // A server should ignore an empty line before a request (RFC 9112, 2.2).
            let blank = piece.bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            piece.take(blank);
            if piece.is_empty() {
                return None;
            }
            if begins(piece.bytes) != Some(self.side) {
                return Some(self.lost(piece));
            }
        }
        let before = self.held.len();
        let room = HEAD.saturating_sub(before).min(piece.bytes.len());
        let more = piece.bytes.get(..room).unwrap_or_default();
        self.held.extend_from_slice(more);
        if let Some(end) = end(&self.held, before) {
            piece.take(end.saturating_sub(before));
            self.held.truncate(end);
            self.state = State::Body(0);
            return Some(Step::Head(std::mem::take(&mut self.held)));
        }
        piece.take(room);
        if piece.is_empty() {
            return None;
        }
        // Longer than is read, or its rest is not known.
        let cut = std::mem::take(&mut self.held);
        _ = self.lost(piece);
        Some(Step::CutHead(cut))
    }

    fn size(&mut self, piece: &mut Piece<'_>) -> Option<Step> {
        let line = piece.bytes.iter().position(|b| *b == b'\n');
        let more = piece.take(line.map_or(usize::MAX, |at| at + 1));
        self.held.extend_from_slice(more);
        if self.held.len() > SIZE_LINE {
            return Some(self.lost(piece));
        }
        line?;
        let text = self.held.split(|b| matches!(b, b';' | b'\r' | b'\n')).next();
        let text = std::str::from_utf8(text.unwrap_or_default()).unwrap_or_default().trim();
        let digits = !text.starts_with('+');
        match u64::from_str_radix(text, 16).ok().filter(|_| digits) {
            None => return Some(self.lost(piece)),
            Some(0) => self.state = State::Trailer(false),
            // The line end behind it is two bytes.
            Some(n) => self.state = State::Data(n.saturating_add(2)),
        }
        self.held.clear();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is found in pieces, given how bodies end.
    fn found(pieces: &[Piece<'_>], framing: Framing) -> Vec<String> {
        let mut stream = Stream::new(Side::Requests);
        let mut out = Vec::new();
        for piece in pieces {
            let mut piece = *piece;
            loop {
                match stream.next(&mut piece) {
                    Step::Idle => break,
                    Step::Head(head) => {
                        out.push(format!("head {}", head.len()));
                        stream.body(framing);
                    }
                    Step::CutHead(head) => out.push(format!("cut {}", head.len())),
                    Step::End => out.push("end".to_owned()),
                    Step::Lost => out.push("lost".to_owned()),
                }
            }
            assert!(piece.is_empty());
        }
        out
    }

    fn whole(bytes: &[u8]) -> Piece<'_> {
        Piece::new(bytes, bytes.len() as u64)
    }

    const HEAD_27: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    #[test]
    fn pipelined_messages_are_told_apart() {
        let two = [HEAD_27, HEAD_27].concat();
        let expected = ["head 27", "end", "head 27", "end"];
        assert_eq!(found(&[whole(&two)], Framing::Length(0)), expected);
    }

    #[test]
    fn a_body_is_skipped_whether_its_bytes_are_known_or_not() {
        let piece = Piece::new(HEAD_27, 27 + 1_000);
        let more = Piece::gap(500);
        let last = [&[b'x'; 500][..], HEAD_27].concat();
        let framing = Framing::Length(2_000);
        assert_eq!(found(&[piece, more, whole(&last)], framing), ["head 27", "end", "head 27"]);
    }

    #[test]
    fn what_begins_behind_unknown_bytes_is_lost_until_a_call_begins_a_message() {
        // The next message's beginning lies in what is not known.
        let cut = Piece::new(HEAD_27, 27 + 30);
        let tail = whole(b"of something\r\n\r\n");
        let found = found(&[cut, tail, whole(HEAD_27)], Framing::Length(10));
        assert_eq!(found, ["head 27", "end", "lost", "head 27"]);
    }

    #[test]
    fn a_head_whose_rest_is_unknown_is_told_as_far_as_it_goes() {
        let cut = Piece::new(b"GET /a HTTP/1.1\r\nCookie: ", 9_000);
        assert_eq!(found(&[cut, whole(HEAD_27)], Framing::Length(0)), ["cut 25", "head 27", "end"]);
    }

    #[test]
    fn chunks_end_with_their_trailer() {
        let body = b"5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nExpires: never\r\n\r\n";
        let message = [HEAD_27, body, HEAD_27].concat();
        let pieces: Vec<Piece<'_>> = message.chunks(1).map(whole).collect();
        for pieces in [&pieces[..], &[whole(&message)]] {
            let found = found(pieces, Framing::Chunked);
            assert_eq!(found, ["head 27", "end", "head 27"]);
        }
        let bad = [HEAD_27, b"zz\r\n"].concat();
        assert_eq!(found(&[whole(&bad)], Framing::Chunked), ["head 27", "lost"]);
    }

    proptest! {
        #[test]
        fn how_calls_cut_a_stream_does_not_matter(
            lengths in prop::collection::vec(0usize..300, 1..6),
            cuts in prop::collection::vec(1usize..80, 1..60),
        ) {
            // Every body has the same length, so that the model is the sum.
            let length = lengths[0];
            let message = [HEAD_27, &vec![b'G'; length]].concat();
            let text = message.repeat(lengths.len());
            let mut pieces = Vec::new();
            let (mut rest, mut n) = (text.as_slice(), 0);
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(cuts[n % cuts.len()].min(rest.len()));
                pieces.push(whole(piece));
                (rest, n) = (more, n + 1);
            }
            let found = found(&pieces, Framing::Length(length as u64));
            let heads = found.iter().filter(|s| *s == "head 27").count();
            let ends = found.iter().filter(|s| *s == "end").count();
            prop_assert_eq!((heads, ends, found.len()), (lengths.len(), lengths.len(), lengths.len() * 2));
        }
    }
}
