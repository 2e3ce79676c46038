//! One direction of RESP, the protocol of Redis, cut into messages (RESP2 and RESP3:
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>).
//!
//! Comes in: pieces, as of HTTP ([`Piece`]). Goes out: what is needed of each message when it is over:
//! its kind, the first words of an array, the first word of an error. Strings are skipped by their
//! length, known or not; where anything else is not known, the place is lost until a call begins with
//! what begins a message.

use crate::observe::requests::head::Side;
use crate::observe::requests::stream::Piece;

/// Longest word that is told from others, in bytes; no command is longer.
const WORD: usize = 24;
/// Words of an array that are kept.
const WORDS: usize = 3;
/// Longest line that says how long something is, its end left out.
const LENGTH_LINE: usize = 20;
/// Longest line of text; a server refuses commands that are longer (`PROTO_INLINE_MAX_SIZE`).
const TEXT_LINE: u64 = 64 << 10;
/// Longest string, and longest array: Redis takes 512 MB and 2^31 elements.
const LONGEST: u64 = 1 << 33;
/// How deep arrays may lie in arrays.
const DEEP: usize = 64;
/// Kind of a message that is a line of words.
pub const INLINE: u8 = b'i';

/// The beginning of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Word {
    bytes: [u8; WORD],
    /// Beyond [`WORD`]: it is longer.
    length: usize,
}

impl Word {
    fn push(&mut self, more: &[u8]) {
        for (slot, byte) in self.bytes.iter_mut().skip(self.length).zip(more) {
            *slot = *byte;
        }
        self.length = self.length.saturating_add(more.len()).min(WORD + 1);
    }

    /// It, or nothing where it is longer than what is kept.
    #[must_use]
    pub fn get(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// What is kept of it.
    fn beginning(&self) -> &[u8] {
        self.bytes.get(..self.length.min(WORD)).unwrap_or_default()
    }
}

/// A message that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Message {
    /// What it begins with: `*`, `+`, `-` …, or [`INLINE`].
    pub kind: u8,
    /// The first strings in it, if it is an array, a push or a line of words.
    pub words: [Word; WORDS],
    /// The text of an error.
    text: Word,
    /// Elements of an array; words of a line.
    pub elements: u64,
}

impl Message {
    /// The first word of an error; `None` of what is none.
    #[must_use]
    pub fn error(&self) -> Option<&[u8]> {
        let first = self.text.beginning().split(|b| *b == b' ').next();
        matches!(self.kind, b'-' | b'!').then_some(first.unwrap_or_default())
    }
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing more in this piece.
    Idle,
    /// A message is over.
    Message(Message),
    /// From here on it is not known what is what.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before an element.
    Element,
    /// In a line, of this kind, of which so many bytes were read.
    Line(u8, u64),
    /// So many bytes of a string are left, its line end not counted.
    Text(u64),
    /// So many bytes of a line end are left.
    LineEnd(u8),
    /// Until a piece begins a message.
    Lost,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    left: u64,
    /// Attributes stand before the element they belong to, and are none.
    attribute: bool,
}

/// A direction.
#[derive(Debug)]
pub struct Frames {
    side: Side,
    state: State,
    open: Vec<Open>,
    message: Message,
    /// Elements of the outermost array that are over.
    over: u64,
    /// What is there of a line of a length.
    line: Vec<u8>,
}

/// Whether a command begins so: `*3\r\n$`, as far as it goes, four bytes at least; or `PING` and a
/// line's end.
#[must_use]
pub fn begins_command(bytes: &[u8]) -> bool {
    if bytes.len() < 4 {
        return false;
    }
    if bytes.get(..4) == Some(b"PING") {
        return bytes.get(4).is_none_or(|b| matches!(b, b'\r' | b'\n'));
    }
    let Some(rest) = bytes.strip_prefix(b"*") else { return false };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, rest) = rest.split_at(digits);
    let counts = matches!(number, [b'1'..=b'9', ..]) && digits <= 10;
    counts && (rest.starts_with(b"\r\n$") || matches!(rest, [] | b"\r" | b"\r\n"))
}

/// Whether a reply begins so.
#[must_use]
pub fn begins_reply(bytes: &[u8]) -> bool {
    match bytes {
        [b'+' | b'-' | b'(' | b',' | b'#' | b'_', rest @ ..] => {
            rest.first().is_none_or(|b| b.is_ascii_graphic() || *b == b'\r')
        }
        [b':', rest @ ..] => {
            rest.first().is_none_or(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+'))
        }
        [b'$' | b'*', b'-', rest @ ..] => rest.first().is_none_or(|b| *b == b'1'),
        [b'$' | b'*' | b'%' | b'~' | b'>' | b'=' | b'!' | b'|', rest @ ..] => {
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let after = rest.get(digits);
            (digits > 0 || rest.is_empty()) && after.is_none_or(|b| *b == b'\r')
        }
        _ => false,
    }
}

impl Frames {
    /// One that may be in the middle of anything.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self {
            side,
            state: State::Lost,
            open: Vec::new(),
            message: Message::default(),
            over: 0,
            line: Vec::new(),
        }
    }

    /// Whether the next message has not begun, as far as is known.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.state == State::Lost || self.state == State::Element && self.open.is_empty()
    }

    /// Whether a message begins with this piece, as far as can be told.
    #[must_use]
    pub fn begins(&self, piece: &Piece<'_>) -> bool {
        piece.fresh
            && self.is_between()
            && match self.side {
                Side::Requests => begins_command(piece.bytes),
                Side::Responses => begins_reply(piece.bytes),
            }
    }

    /// Whether the place is lost, and this piece does not find it again.
    #[must_use]
    pub fn passes_over(&self, piece: &Piece<'_>) -> bool {
        self.state == State::Lost && !piece.is_empty() && !self.begins(piece)
    }

    /// Gives up the place in the stream.
    pub fn lose(&mut self) {
        *self = Self::new(self.side);
    }

    fn lost(&mut self, piece: &mut Piece<'_>) -> Step {
        self.lose();
        piece.skip(u64::MAX);
        Step::Lost
    }

    /// The next thing in a piece, until there is nothing more.
    pub fn next(&mut self, piece: &mut Piece<'_>) -> Step {
        loop {
            let found = match self.state {
                State::Lost if self.begins(piece) => {
                    self.state = State::Element;
                    Ok(None)
                }
                State::Lost => {
                    piece.skip(u64::MAX);
                    return Step::Idle;
                }
                State::Text(0) => {
                    self.state = State::LineEnd(2);
                    Ok(None)
                }
                _ if piece.is_empty() => return Step::Idle,
                State::Text(left) => self.text(left, piece),
                State::LineEnd(left) => self.line_end(left, piece),
                State::Element | State::Line(..) if piece.bytes.is_empty() => Err(Broken),
                State::Element => self.element(piece),
                State::Line(kind, read) => self.line(kind, read, piece),
            };
            match found {
                Ok(None) => {}
                Ok(Some(message)) => return Step::Message(message),
                Err(Broken) => return self.lost(piece),
            }
        }
    }

    fn element(&mut self, piece: &mut Piece<'_>) -> Found {
        let outermost = self.open.is_empty();
        if outermost {
            (self.message, self.over) = (Message::default(), 0);
        }
        let [first, ..] = piece.bytes else { return Err(Broken) };
        let kind = match (self.side, outermost, *first) {
            (Side::Requests, true, b'*') | (Side::Requests, false, b'$') => *first,
            (Side::Requests, true, _) => {
                self.state = State::Line(INLINE, 0);
                return Ok(None);
            }
            (Side::Requests, false, _) => return Err(Broken),
            (Side::Responses, _, kind) => kind,
        };
        if !b"+-:_#,($!=*~>%|".contains(&kind) {
            return Err(Broken);
        }
        piece.take(1);
        if outermost {
            self.message.kind = kind;
        }
        self.state = State::Line(kind, 0);
        Ok(None)
    }

    fn line(&mut self, kind: u8, read: u64, piece: &mut Piece<'_>) -> Found {
        let end = piece.bytes.iter().position(|b| *b == b'\n');
        let more = piece.take(end.map_or(usize::MAX, |at| at + 1));
        let read = read + more.len() as u64;
        let outermost = self.open.is_empty();
        let said = more.strip_suffix(b"\n").unwrap_or(more);
        match kind {
            b'-' if outermost => self.message.text.push(said.strip_suffix(b"\r").unwrap_or(said)),
            INLINE => self.words(said),
            b'$' | b'!' | b'=' | b'*' | b'~' | b'>' | b'%' | b'|' => {
                self.line.extend_from_slice(said);
                if self.line.len() > LENGTH_LINE {
                    return Err(Broken);
                }
            }
            _ => {}
        }
        if read > TEXT_LINE {
            return Err(Broken);
        }
        if end.is_none() {
            self.state = State::Line(kind, read);
            return Ok(None);
        }
        if kind == INLINE {
            self.state = State::Element;
            let blank = self.message.elements == 0;
            self.message.kind = INLINE;
            return Ok((!blank).then(|| std::mem::take(&mut self.message)));
        }
        match kind {
            b'$' | b'!' | b'=' | b'*' | b'~' | b'>' | b'%' | b'|' => {
                let length = length(&self.line).ok_or(Broken)?;
                self.line.clear();
                self.sized(kind, length)
            }
            _ => Ok(self.element_over()),
        }
    }

    /// Words of a line as they come; they may be cut anywhere.
    fn words(&mut self, said: &[u8]) {
        for byte in said {
            if byte.is_ascii_whitespace() {
                self.over = 0;
                continue;
            }
            if self.over == 0 {
                self.message.elements += 1;
                self.over = 1;
            }
            let at = usize::try_from(self.message.elements - 1).unwrap_or(usize::MAX);
            if let Some(word) = self.message.words.get_mut(at) {
                word.push(&[*byte]);
            }
        }
    }

    /// A length was read: -1 is nothing.
    fn sized(&mut self, kind: u8, length: Option<u64>) -> Found {
        let Some(length) = length else { return Ok(self.element_over()) };
        if matches!(kind, b'$' | b'!' | b'=') {
            self.state = State::Text(length);
            return Ok(None);
        }
        if self.open.is_empty() {
            self.message.elements = length;
        }
        let left = if matches!(kind, b'%' | b'|') { 2 * length } else { length };
        let attribute = kind == b'|';
        self.state = State::Element;
        if left == 0 {
            return Ok(if attribute { None } else { self.element_over() });
        }
        if self.open.len() == DEEP {
            return Err(Broken);
        }
        self.open.push(Open { left, attribute });
        Ok(None)
    }

    /// Which word of the message the string is that is being read.
    fn word(&mut self) -> Option<&mut Word> {
        match self.open.as_slice() {
            [] if self.message.kind == b'!' => Some(&mut self.message.text),
            [Open { attribute: false, .. }] => {
                let at = usize::try_from(self.over).ok()?;
                self.message.words.get_mut(at)
            }
            _ => None,
        }
    }

    fn text(&mut self, left: u64, piece: &mut Piece<'_>) -> Found {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(piece.bytes.len());
        let known = piece.bytes.get(..most).unwrap_or_default();
        if let Some(word) = self.word() {
            word.push(known.get(..WORD + 1).unwrap_or(known));
        }
        let passed = piece.skip(left);
        let unknown = passed > known.len() as u64;
        if unknown && self.side == Side::Requests && self.over == 0 {
            // Nobody knows which command it is.
            return Err(Broken);
        }
        self.state = State::Text(left - passed);
        Ok(None)
    }

    fn line_end(&mut self, left: u8, piece: &mut Piece<'_>) -> Found {
        let expected = if left == 2 { b'\r' } else { b'\n' };
        match piece.take(1) {
            [] => {
                piece.skip(1);
            }
            [byte] if *byte == expected => {}
            _ => return Err(Broken),
        }
        self.state = State::LineEnd(left - 1);
        Ok(if left == 1 { self.element_over() } else { None })
    }

    fn element_over(&mut self) -> Option<Message> {
        self.state = State::Element;
        loop {
            let depth = self.open.len();
            let Some(last) = self.open.last_mut() else {
                return Some(std::mem::take(&mut self.message));
            };
            last.left -= 1;
            self.over += u64::from(depth == 1);
            if last.left > 0 {
                return None;
            }
            let attribute = last.attribute;
            self.open.pop();
            if attribute {
                return None;
            }
        }
    }
}

struct Broken;

/// A message that is over; nothing yet.
type Found = Result<Option<Message>, Broken>;

/// The number in the line; `None` of -1.
fn length(line: &[u8]) -> Option<Option<u64>> {
    let digits = line.strip_suffix(b"\r")?;
    if digits == b"-1" {
        return Some(None);
    }
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number: u64 = all.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()?;
    (number <= LONGEST).then_some(Some(number))
}

#[cfg(test)]
mod tests;
