//! PostgreSQL: statements and what came of them on one connection, as one of its ends sees it.
//!
//! Comes in: bytes, with the way they went. Goes out: statements that have ended, by verb and table, with
//! the `SQLSTATE` of an error; no literal, no parameter, no row. [`frame`] cuts a direction into messages,
//! [`statement`] names what is asked, [`sqlstate`] knows the errors; this matches answers with questions,
//! which come in the same order.
//!
//! A request is a simple query, from `Query` to `ReadyForQuery`; or an `Execute`, from the first message
//! that prepares it (since a `Sync` or a `Flush`) to the one that ends it (`CommandComplete`,
//! `EmptyQueryResponse`, `PortalSuspended`, `ErrorResponse`); or a function call. What an error kept from
//! being executed, up to the next `Sync`, has failed too, with the status `skipped`. What fails while it
//! is prepared and is never executed is a request nevertheless: somebody asked, and got an error. A
//! connection that the server turns away is a failed `CONNECT`; one that it takes is no request.
//!
//! Where something is lost, all that waits is unknown, and so is all until a message comes right after a
//! `ReadyForQuery`: then nothing is outstanding.

pub mod frame;
pub mod sqlstate;
pub mod statement;
mod statements;
mod tokens;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

pub use frame::begins;
use frame::{First, Frames, Step};
use statements::Statements;

use super::exchange::{Exchange, Reader, Role, Told, Waits, Way};
use super::head::Side;
use super::stream::Piece;
use super::traceparent::TraceParent;
use crate::reduce::Answer;

/// Messages that may wait for their answers on one connection.
const PIPELINED: usize = 16_384;
/// What a connection that is turned away asked for.
const CONNECT: &str = "CONNECT";
/// What fails at the end of a batch, when all in it had been done.
const SYNC: &str = "SYNC";
/// What a function call is called.
const CALL: &str = "FUNCTION CALL";
/// How a statement failed that the server did not even look at.
pub const SKIPPED: &str = "skipped";

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// To be let in.
    Connect,
    Query,
    Call,
    Parse,
    Bind,
    Describe,
    Close,
    Execute,
    Sync,
}

impl Kind {
    /// Whether it is what a person calls a request.
    fn is_request(self) -> bool {
        matches!(self, Self::Query | Self::Call | Self::Execute)
    }
}

#[derive(Debug)]
struct Pending {
    kind: Kind,
    /// `None`: prepared before anybody looked.
    operation: Option<Arc<str>>,
    start_ns: u64,
    ordinal: u64,
    /// How a query failed whose end has not come yet.
    failed: Option<&'static str>,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    asked: Frames,
    answered: Frames,
    pending: VecDeque<Pending>,
    /// Of them those that are requests.
    requests: u64,
    statements: Statements,
    ordinal: u64,
    /// When the message that is being read began.
    began_ns: u64,
    /// When the first of those that prepare the next `Execute` did.
    prepared_ns: Option<u64>,
    /// A question was answered by what answers it.
    agreed: bool,
    /// It is not PostgreSQL.
    something_else: bool,
    /// How many answers are outstanding is not known.
    adrift: bool,
    /// What moved last was a `ReadyForQuery`.
    ready: bool,
    /// The last one said that a transaction is under way.
    in_transaction: bool,
    /// The server passes over everything until a `Sync`.
    skipping: bool,
    /// It takes in what is copied, and passes over a `Sync`.
    copying: bool,
    /// It is encrypted, or no longer one of questions and answers.
    left: bool,
}

impl Connection {
    /// One on which a message of a client goes `way`.
    #[must_use]
    pub fn new(way: Way) -> Self {
        Self {
            role: Role::of_requests(way),
            asked: Frames::new(Side::Requests),
            answered: Frames::new(Side::Responses),
            pending: VecDeque::new(),
            requests: 0,
            statements: Statements::default(),
            ordinal: 0,
            began_ns: 0,
            prepared_ns: None,
            agreed: false,
            something_else: false,
            adrift: false,
            ready: false,
            in_transaction: false,
            skipping: false,
            copying: false,
            left: false,
        }
    }

    /// Nothing is known of `n` requests, nor of those that wait.
    fn lose(&mut self, n: u64, out: &mut Vec<Told>) {
        let unknown = self.requests + n;
        self.pending.clear();
        self.requests = 0;
        (self.adrift, self.skipping, self.copying, self.ready) = (true, false, false, false);
        self.prepared_ns = None;
        self.something_else |= !self.agreed;
        if unknown > 0 {
            out.push(Told::Unknown(unknown));
        }
    }

    fn requested(&mut self, at_ns: u64, mut piece: Piece<'_>, out: &mut Vec<Told>) {
        if self.adrift && self.ready && self.asked.begins(&piece) {
            self.adrift = false;
        }
        if !piece.is_empty() {
            self.ready = false;
        }
        if self.asked.passes_over(&piece) {
            self.lose(1, out);
        }
        while !self.left && !self.something_else {
            if self.asked.is_between() {
                self.began_ns = at_ns;
            }
            match self.asked.next(&mut piece) {
                Step::Idle => return,
                Step::Lost => self.lose(1, out),
                Step::First(first) => self.first(first),
                Step::Byte(_) => {}
                Step::Message(kind) => self.began(kind, out),
            }
        }
    }

    fn first(&mut self, first: First) {
        match first {
            First::Start => self.push(Kind::Connect, Some(CONNECT.into())),
            First::Encrypt => self.answered.expect_byte(),
            First::Cancel => self.left = true,
        }
    }

    fn push(&mut self, kind: Kind, operation: Option<Arc<str>>) {
        let start_ns = match kind {
            Kind::Execute => self.prepared_ns.take().unwrap_or(self.began_ns),
            Kind::Parse | Kind::Bind | Kind::Describe => {
                *self.prepared_ns.get_or_insert(self.began_ns)
            }
            _ => self.began_ns,
        };
        if kind == Kind::Sync {
            self.prepared_ns = None;
        }
        let ordinal = self.ordinal;
        self.ordinal += 1;
        self.requests += u64::from(kind.is_request());
        self.pending.push_back(Pending { kind, operation, start_ns, ordinal, failed: None });
    }

    fn began(&mut self, message: u8, out: &mut Vec<Told>) {
        let (body, cut) = (self.asked.body(), self.asked.is_cut());
        let (kind, operation) = match message {
            b'Q' => (Kind::Query, Some(statement::operation(text(body), cut).into())),
            b'P' => {
                let Some((name, rest)) = split(body) else { return self.lose(0, out) };
                let operation: Arc<str> = statement::operation(text(rest), cut).into();
                let forgotten = self.statements.prepare(name, &operation);
                if forgotten {
                    out.push(Told::Forgotten);
                }
                (Kind::Parse, Some(operation))
            }
            b'B' => {
                let Some((portal, rest)) = split(body) else { return self.lose(0, out) };
                let Some((name, _)) = split(rest) else { return self.lose(0, out) };
                (Kind::Bind, self.statements.bind(portal, name))
            }
            b'E' => {
                let Some((portal, _)) = split(body) else { return self.lose(1, out) };
                (Kind::Execute, self.statements.bound(portal))
            }
            b'D' => (Kind::Describe, None),
            b'C' => {
                if let Some((what, name)) = body.split_first() {
                    self.statements.close(*what, text(name));
                }
                (Kind::Close, None)
            }
            b'F' => (Kind::Call, Some(CALL.into())),
            b'S' if self.copying => return,
            b'S' => (Kind::Sync, None),
            b'c' | b'f' => {
                self.copying = false;
                return;
            }
            // What was prepared is waited for: what is executed later began later.
            b'H' => {
                self.prepared_ns = None;
                return;
            }
            // What is copied, passwords, and the end.
            _ => return,
        };
        if self.skipping && kind == Kind::Sync {
            self.skipping = false;
        }
        if self.adrift {
            if kind.is_request() {
                out.push(Told::Unknown(1));
            }
            return;
        }
        if self.pending.len() >= PIPELINED {
            return self.lose(kind.is_request().into(), out);
        }
        self.push(kind, operation);
        if self.skipping {
            // The server passes over it.
            self.skip(SKIPPED, self.began_ns, out);
        }
    }

    fn responded(&mut self, at_ns: u64, mut piece: Piece<'_>, out: &mut Vec<Told>) {
        if self.answered.passes_over(&piece) {
            self.lose(0, out);
        }
        while !self.left && !self.something_else {
            match self.answered.next(&mut piece) {
                Step::Idle => return,
                Step::Lost => self.lose(0, out),
                Step::First(_) => {}
                Step::Byte(b'S' | b'G') => {
                    self.left = true;
                    out.push(Told::Encrypted);
                }
                Step::Byte(b'N') => self.agreed = true,
                // An old server answers with an error; whatever it is, it is not understood.
                Step::Byte(_) => self.left = true,
                Step::Message(message) => self.answer(message, at_ns, out),
            }
        }
    }

    fn answer(&mut self, message: u8, at_ns: u64, out: &mut Vec<Told>) {
        self.ready = message == b'Z';
        if self.ready {
            self.in_transaction = matches!(self.answered.body(), [b'T' | b'E', ..]);
        }
        if self.adrift {
            return;
        }
        let front = self.pending.front().map(|pending| pending.kind);
        match (message, front) {
            // What nobody asked for: notices, notifications, settings; what a client may need later.
            (b'N' | b'A' | b'S' | b'K' | b'v', _) => {}
            // Rows, what they look like, and what is copied.
            (b'D' | b'd' | b'c' | b't' | b'H', _) => {}
            (b'R', Some(Kind::Connect)) => self.agreed = true,
            (b'T' | b'n', Some(Kind::Query | Kind::Execute)) => {}
            (b'C' | b'I', Some(Kind::Query)) | (b'V', Some(Kind::Call)) => {}
            (b'E', _) => self.error(at_ns, out),
            (b'1', Some(Kind::Parse))
            | (b'2', Some(Kind::Bind))
            | (b'3', Some(Kind::Close))
            | (b'T' | b'n', Some(Kind::Describe))
            | (b'Z', Some(Kind::Sync | Kind::Connect)) => {
                self.agreed = true;
                self.pending.pop_front();
            }
            (b'C', Some(Kind::Execute)) => {
                // The name of what was prepared before anybody looked.
                let tag = statement::operation(text(self.answered.body()), false);
                let verb = tag.split(' ').next().unwrap_or(statement::OTHER).to_owned();
                self.finish(Some(verb), Answer::Done, at_ns, out);
            }
            (b'I' | b's', Some(Kind::Execute)) => self.finish(None, Answer::Done, at_ns, out),
            (b'Z', Some(Kind::Query | Kind::Call)) => {
                let failed = self.pending.front().and_then(|pending| pending.failed);
                self.finish(None, failed.map_or(Answer::Done, Answer::Failed), at_ns, out);
            }
            (b'G', Some(Kind::Query | Kind::Execute)) => {
                self.copying = true;
                // What was sent with it before its end is passed over.
                while self.pending.back().is_some_and(|pending| pending.kind == Kind::Sync) {
                    self.pending.pop_back();
                }
            }
            (b'W', Some(Kind::Query)) => {
                // From now on both sides send as they like: replication.
                self.finish(None, Answer::Done, at_ns, out);
                self.left = true;
            }
            // Its question came before the agent; from the next one on all is known.
            _ => {
                self.lose(u64::from(front.is_none()), out);
                self.ready = message == b'Z';
            }
        }
    }

    fn error(&mut self, at_ns: u64, out: &mut Vec<Told>) {
        let state = sqlstate::of(code(self.answered.body()));
        self.copying = false;
        let Some(front) = self.pending.front_mut() else {
            // The server says why it goes.
            return;
        };
        self.agreed = true;
        match front.kind {
            Kind::Query | Kind::Call => {
                front.failed.get_or_insert(state);
            }
            Kind::Connect => self.finish(None, Answer::Failed(state), at_ns, out),
            Kind::Sync => {
                // It stands until the `ReadyForQuery` that follows.
                let (start_ns, ordinal) = (front.start_ns, front.ordinal);
                if front.failed.replace(state).is_none() {
                    let operation = Some(SYNC.into());
                    let sync =
                        Pending { kind: Kind::Sync, operation, start_ns, ordinal, failed: None };
                    self.tell(sync, None, Answer::Failed(state), at_ns, out);
                }
            }
            _ => {
                self.skip(state, at_ns, out);
                let synced = self.pending.front().is_some_and(|p| p.kind == Kind::Sync);
                self.skipping = !synced;
            }
        }
    }

    /// What waits before the next `Sync` is over: the first request of it failed so, the others were not
    /// looked at.
    fn skip(&mut self, state: &'static str, at_ns: u64, out: &mut Vec<Told>) {
        let of_batch = self.pending.iter().take_while(|pending| pending.kind != Kind::Sync);
        let requests = of_batch.filter(|pending| pending.kind.is_request()).count();
        // Prepared alone.
        let mut alone = requests == 0 && state != SKIPPED;
        let mut state = state;
        while let Some(front) = self.pending.front().filter(|front| front.kind != Kind::Sync) {
            if front.kind.is_request() || std::mem::take(&mut alone) {
                self.finish(None, Answer::Failed(state), at_ns, out);
                state = SKIPPED;
            } else {
                self.pending.pop_front();
            }
        }
    }

    fn finish(
        &mut self,
        verb: Option<String>,
        answer: Answer<'static>,
        end_ns: u64,
        out: &mut Vec<Told>,
    ) {
        self.agreed |= answer != Answer::None;
        let Some(done) = self.pending.pop_front() else { return };
        self.requests -= u64::from(done.kind.is_request());
        self.tell(done, verb, answer, end_ns, out);
    }

    fn tell(
        &self,
        done: Pending,
        verb: Option<String>,
        answer: Answer<'static>,
        end_ns: u64,
        out: &mut Vec<Told>,
    ) {
        let known = done.operation.map(|operation| Cow::Owned(operation.as_ref().to_owned()));
        let operation = known.or_else(|| verb.map(Cow::Owned));
        out.push(Told::Exchange(Exchange {
            role: self.role,
            operation: operation.unwrap_or(Cow::Borrowed(statement::OTHER)),
            answer,
            start_ns: done.start_ns,
            end_ns: end_ns.max(done.start_ns),
            ordinal: done.ordinal,
            parent: TraceParent::default(),
        }));
    }
}

impl Reader for Connection {
    fn role(&self) -> Option<Role> {
        Some(self.role)
    }

    fn waiting(&self) -> Option<Waits> {
        let oldest = self.pending.iter().find(|pending| pending.kind.is_request())?;
        Some(Waits::since(self.requests, oldest.start_ns))
    }

    fn is_held(&self) -> bool {
        self.in_transaction
    }

    fn is_something_else(&self) -> bool {
        self.something_else
    }

    fn piece(&mut self, way: Way, at_ns: u64, piece: Piece<'_>, out: &mut Vec<Told>) {
        if self.left || self.something_else {
            return;
        }
        if self.role == Role::of_requests(way) {
            self.requested(at_ns, piece, out);
        } else {
            self.responded(at_ns, piece, out);
        }
    }

    fn ended(&mut self, at_ns: u64, out: &mut Vec<Told>) {
        while let Some(front) = self.pending.front() {
            let failed = front.failed;
            if front.kind.is_request() {
                self.finish(None, failed.map_or(Answer::None, Answer::Failed), at_ns, out);
            } else {
                self.pending.pop_front();
            }
        }
        self.answered.lose();
    }
}

/// A text up to the zero at its end, and what comes after that. `None` where the end is not known.
fn split(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = body.iter().position(|byte| *byte == 0)?;
    Some((body.get(..end)?, body.get(end + 1..)?))
}

/// A text up to the zero at its end, or as far as it is known.
fn text(body: &[u8]) -> &[u8] {
    body.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The `SQLSTATE` among the fields of an error.
fn code(fields: &[u8]) -> &[u8] {
    let mut fields = fields.split(|byte| *byte == 0);
    let code = fields.find_map(|field| field.strip_prefix(b"C"));
    code.unwrap_or_default()
}

#[cfg(test)]
mod tests;
