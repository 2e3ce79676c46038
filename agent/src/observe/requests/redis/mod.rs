//! Redis: commands and their replies on one connection, as one of its ends sees it.
//!
//! Comes in: bytes, with the way they went. Goes out: commands that have ended, with the name of the
//! command and the first word of an error; no key, no value. [`frame`] cuts a direction into messages,
//! [`commands`] knows the names; this matches replies with commands, which is done by counting, for
//! replies come in the order of their commands. What is pushed (RESP3's pushes, what a subscriber is
//! sent) is no reply.
//!
//! Where something is lost, counting has no ground any more: commands that wait are unknown, and so is
//! all until a command comes right after replies, when nothing is likely to be outstanding.

pub mod commands;
pub mod frame;

use std::collections::VecDeque;

pub use frame::begins_command;
use frame::{Frames, Message, Step, Word};

use super::exchange::{Exchange, Reader, Role, Told, Waits, Way};
use super::head::Side;
use super::stream::Piece;
use super::traceparent::TraceParent;
use crate::reduce::Answer;

/// Commands that may wait for their replies on one connection.
const PIPELINED: usize = 8_192;

/// Commands that are answered by what is else pushed to a subscriber.
const SUBSCRIBING: [&str; 6] =
    ["PSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "SUBSCRIBE", "SUNSUBSCRIBE", "UNSUBSCRIBE"];
/// What a subscriber may say besides.
const BESIDES: [&str; 3] = ["PING", "QUIT", "RESET"];
/// First words of what RESP2 pushes to a subscriber.
const PUSHED: [&[u8]; 3] = [b"message", b"pmessage", b"smessage"];
/// Commands that wait for something to come, as long as their caller says.
const WAITING: [&str; 12] = [
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "WAIT",
    "WAITAOF",
    "XREAD",
    "XREADGROUP",
];
/// How clients' libraries introduce themselves; they go on where it is not understood.
const INTRODUCTION: &str = "CLIENT SETINFO";
/// Commands whose connection is no longer one of commands and replies.
const LEAVING: [&str; 3] = ["MONITOR", "PSYNC", "SYNC"];

#[derive(Debug)]
struct Pending {
    operation: &'static str,
    start_ns: u64,
    ordinal: u64,
}

impl Pending {
    /// How long a caller chose to wait says nothing of Redis: such a command is not in flight, and takes
    /// what it took after its waiting, as Redis itself reckons (`INFO commandstats`).
    fn waits(&self) -> bool {
        WAITING.contains(&self.operation)
    }
}

/// Which commands the client wants no reply to (`CLIENT REPLY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Muted {
    None,
    Next,
    All,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    asked: Frames,
    answered: Frames,
    pending: VecDeque<Pending>,
    ordinal: u64,
    /// When the command that is being read began.
    began_ns: u64,
    /// A command that exists was answered by what may be a reply.
    agreed: bool,
    /// It is not Redis.
    something_else: bool,
    /// How many replies are outstanding is not known.
    adrift: bool,
    /// What moved last was a reply.
    turned: bool,
    subscribed: bool,
    muted: Muted,
    /// It is no longer one of commands and replies.
    left: bool,
}

impl Connection {
    /// One on which a command goes `way`.
    #[must_use]
    pub fn new(way: Way) -> Self {
        Self {
            role: Role::of_requests(way),
            asked: Frames::new(Side::Requests),
            answered: Frames::new(Side::Responses),
            pending: VecDeque::new(),
            ordinal: 0,
            began_ns: 0,
            agreed: false,
            something_else: false,
            adrift: false,
            turned: false,
            subscribed: false,
            muted: Muted::None,
            left: false,
        }
    }

    fn requested(&mut self, at_ns: u64, mut piece: Piece<'_>, out: &mut Vec<Told>) {
        if self.adrift && self.turned && self.asked.begins(&piece) {
            self.adrift = false;
        }
        self.turned = false;
        if self.asked.passes_over(&piece) {
            self.lose(1, out);
        }
        loop {
            if self.asked.is_between() {
                self.began_ns = at_ns;
            }
            match self.asked.next(&mut piece) {
                Step::Idle => return,
                Step::Lost => self.lose(1, out),
                Step::Message(message) => self.began(&message, out),
            }
            if self.something_else {
                return;
            }
        }
    }

    /// Nothing is known of `n` commands, nor of those that wait.
    fn lose(&mut self, n: u64, out: &mut Vec<Told>) {
        let unknown = self.pending.len() as u64 + n;
        self.pending.clear();
        self.adrift = true;
        self.something_else |= !self.agreed;
        if unknown > 0 {
            out.push(Told::Unknown(unknown));
        }
    }

    fn began(&mut self, command: &Message, out: &mut Vec<Told>) {
        if command.elements == 0 {
            // It is passed over in silence.
            return;
        }
        let [name, subcommand, argument] = command.words.each_ref().map(Word::get);
        let operation = commands::operation(name, subcommand);
        if !self.agreed && operation == commands::OTHER {
            return self.lose(1, out);
        }
        let (start_ns, ordinal) = (self.began_ns, self.ordinal);
        self.ordinal += 1;
        let silent = self.muted != Muted::None;
        if self.muted == Muted::Next {
            self.muted = Muted::None;
        }
        if operation == "CLIENT REPLY" {
            self.muted = match argument.to_ascii_uppercase().as_slice() {
                b"OFF" => Muted::All,
                b"SKIP" => Muted::Next,
                _ => Muted::None,
            };
        }
        let answered_on = operation == "CLIENT REPLY" && self.muted == Muted::None;
        if self.adrift || (silent || self.muted != Muted::None) && !answered_on {
            out.push(Told::Unknown(1));
            return;
        }
        if self.pending.len() >= PIPELINED {
            return self.lose(1, out);
        }
        let subscribing = SUBSCRIBING.contains(&operation);
        if subscribing {
            self.subscribed = true;
        } else if !BESIDES.contains(&operation) {
            // Who subscribed may not say this: it did not, or has left.
            self.subscribed = false;
        }
        self.pending.push_back(Pending { operation, start_ns, ordinal });
    }

    fn responded(&mut self, at_ns: u64, mut piece: Piece<'_>, out: &mut Vec<Told>) {
        self.turned = true;
        if self.answered.passes_over(&piece) {
            self.lose(0, out);
        }
        loop {
            match self.answered.next(&mut piece) {
                Step::Idle => return,
                Step::Lost => self.lose(0, out),
                Step::Message(reply) => self.answer(&reply, at_ns, out),
            }
            if self.left || self.something_else {
                return;
            }
        }
    }

    fn answer(&mut self, reply: &Message, at_ns: u64, out: &mut Vec<Told>) {
        self.agreed = true;
        let [first, ..] = reply.words.each_ref().map(Word::get);
        let front = self.pending.front().map(|pending| pending.operation);
        let list = reply.kind == b'*' && self.subscribed;
        if list && PUSHED.contains(&first) {
            return;
        }
        let of_subscriber = |name: &&str| name.as_bytes().eq_ignore_ascii_case(first);
        if reply.kind == b'>' || list && SUBSCRIBING.iter().any(of_subscriber) {
            // One for each channel; the first answers.
            let answers = front.is_some_and(|f| SUBSCRIBING.contains(&f) && of_subscriber(&f));
            if answers {
                self.finish(Answer::Done, at_ns, out);
            }
            return;
        }
        if self.adrift {
            return;
        }
        let Some(operation) = front else {
            // Its command came before the agent, or nobody asked.
            out.push(Told::Unknown(1));
            return;
        };
        let failed = reply.error().map(commands::error);
        // Libraries tell servers their names without knowing whether these want to hear them (before 7.2).
        let failure = if operation == INTRODUCTION { Answer::Said } else { Answer::Failed };
        self.finish(failed.map_or(Answer::Done, failure), at_ns, out);
        if failed.is_none() && LEAVING.contains(&operation) {
            self.left = true;
        }
    }

    fn finish(&mut self, answer: Answer<'static>, end_ns: u64, out: &mut Vec<Told>) {
        let Some(done) = self.pending.pop_front() else { return };
        let start_ns = if done.waits() { end_ns.max(done.start_ns) } else { done.start_ns };
        if answer == Answer::None && done.waits() {
            // Its caller gave up waiting.
            return;
        }
        out.push(Told::Exchange(Exchange {
            role: self.role,
            operation: done.operation.into(),
            answer,
            start_ns,
            end_ns: end_ns.max(start_ns),
            ordinal: done.ordinal,
            parent: TraceParent::default(),
        }));
    }
}

impl Reader for Connection {
    fn role(&self) -> Option<Role> {
        Some(self.role)
    }

    /// Those that are there to wait are not among them.
    fn waiting(&self) -> Option<Waits> {
        let mut hang = self.pending.iter().filter(|pending| !pending.waits());
        let oldest = hang.next()?;
        Some(Waits::since(hang.count() as u64 + 1, oldest.start_ns))
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
        while !self.pending.is_empty() {
            self.finish(Answer::None, at_ns, out);
        }
        self.answered.lose();
    }
}

#[cfg(test)]
mod tests;
