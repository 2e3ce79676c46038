//! What every protocol's reader is, and what it tells: requests that have ended, and how many remained
//! unknown.

use std::borrow::Cow;
use std::fmt::Debug;
use std::net::IpAddr;

use super::stream::Piece;
use super::traceparent::TraceParent;
use crate::reduce::Answer;

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It answers.
    Server,
    /// It asks.
    Client,
}

/// Which way bytes went, as the program at this end sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In.
    Received,
    /// Out.
    Sent,
}

impl Role {
    /// The end that sees requests go this way.
    #[must_use]
    pub fn of_requests(way: Way) -> Self {
        match way {
            Way::Received => Self::Server,
            Way::Sent => Self::Client,
        }
    }

    /// The end that sees responses go this way.
    #[must_use]
    pub fn of_responses(way: Way) -> Self {
        match way {
            Way::Received => Self::Client,
            Way::Sent => Self::Server,
        }
    }
}

/// A request that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Which end saw it.
    pub role: Role,
    /// Method and route of HTTP; the method of gRPC; the command of Redis; verb and table of SQL;
    /// type and name of DNS. Of these there are few.
    pub operation: Cow<'static, str>,
    /// How it was answered.
    pub answer: Answer<'static>,
    /// When its first byte was received or sent, ns since boot.
    pub start_ns: u64,
    /// When the response's last byte was, or the connection ended.
    pub end_ns: u64,
    /// How many requests of this connection came before it, as far as seen.
    pub ordinal: u64,
    /// Which trace it belongs to, as it says itself.
    pub parent: TraceParent,
}

/// What came of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// A request has ended.
    Exchange(Exchange),
    /// So many requests or responses, at least, of which nothing can be told.
    Unknown(u64),
    /// The connection goes on encrypted: nothing more is told of it.
    Encrypted,
    /// The name of something prepared was forgotten, because there were too many.
    Forgotten,
    /// A name was asked for, and has these addresses for so many seconds.
    Addresses(String, Vec<(IpAddr, u32)>),
}

/// When a request began, ns since boot, and its trace, or zeros.
pub type Began = (u64, [u8; 16]);

/// Requests that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// How many; at least one.
    pub count: u64,
    /// The oldest that somebody waits for; one that is being answered for long may be none.
    pub oldest: Option<Began>,
}

impl Waits {
    /// So many, of which the oldest began then and has no trace.
    #[must_use]
    pub fn since(count: u64, start_ns: u64) -> Self {
        Self { count, oldest: Some((start_ns, [0; 16])) }
    }
}

/// A connection of some protocol, as one of its ends sees it.
pub trait Reader: Debug {
    /// Which end this is, once that is known.
    fn role(&self) -> Option<Role>;

    /// Requests that have not ended; `None` where there are none.
    fn waiting(&self) -> Option<Waits>;

    /// Whether nobody else may ask on it although no request waits: a transaction is under way.
    fn is_held(&self) -> bool {
        false
    }

    /// Bytes moved.
    fn piece(&mut self, way: Way, at_ns: u64, piece: Piece<'_>, out: &mut Vec<Told>);

    /// The connection is gone.
    fn ended(&mut self, at_ns: u64, out: &mut Vec<Told>);

    /// Whether it turned out not to be this protocol.
    fn is_something_else(&self) -> bool {
        false
    }

    /// What is over because nothing more came of it, ends.
    fn settle(&mut self, _now_ns: u64, _out: &mut Vec<Told>) {}

    /// Bytes moved: the first `bytes` of `total`.
    fn moved(&mut self, way: Way, at_ns: u64, bytes: &[u8], total: u64, out: &mut Vec<Told>) {
        self.piece(way, at_ns, Piece::new(bytes, total), out);
    }

    /// Bytes moved of which nothing is known.
    fn missed(&mut self, way: Way, at_ns: u64, length: u64, out: &mut Vec<Told>) {
        self.piece(way, at_ns, Piece::gap(length), out);
    }

    /// This end sends no more: a server will not answer what it has not answered.
    fn ending(&mut self, at_ns: u64, out: &mut Vec<Told>) {
        if self.role() == Some(Role::Server) {
            self.ended(at_ns, out);
        }
    }
}

#[cfg(test)]
pub mod recorded {
    //! Recorded connections, played again.

    use super::{Reader, Role, Told, Way};
    use crate::reduce::Answer;

    /// What the ends did, a call each, in turn: `>` the client sent this, `<` the server did. A number behind
    /// is how many bytes more moved that are not known; `missed`: all of it is not, `ending` and `ended`:
    /// that end sends no more, the connection is gone.
    pub type Record<'a> = [(&'a str, Vec<u8>)];

    /// Which way requests go at this end.
    pub fn requests(role: Role) -> Way {
        if role == Role::Server { Way::Received } else { Way::Sent }
    }

    /// A record of text, in which `\n` is a line end.
    pub fn text<'a>(record: &[(&'a str, &str)]) -> Vec<(&'a str, Vec<u8>)> {
        let bytes = |text: &str| text.replace('\n', "\r\n").into_bytes();
        record.iter().map(|(kind, text)| (*kind, bytes(text))).collect()
    }

    /// What an end tells of a record.
    pub fn replay(mut connection: impl Reader, role: Role, record: &Record<'_>) -> Vec<Told> {
        let mut out = Vec::new();
        for (at_ns, (kind, bytes)) in (1..).zip(record) {
            let (asked, mark) = (kind.starts_with('>'), kind.trim_start_matches(['>', '<']));
            let way = if asked == (role == Role::Server) { Way::Received } else { Way::Sent };
            let total = bytes.len() as u64;
            match mark {
                "" => connection.moved(way, at_ns, bytes, total, &mut out),
                "ending" => connection.ending(at_ns, &mut out),
                "ended" => connection.ended(at_ns, &mut out),
                "missed" => connection.missed(way, at_ns, total, &mut out),
                more => {
                    let more: u64 = more.parse().expect("a number of bytes");
                    connection.moved(way, at_ns, bytes, total + more, &mut out);
                }
            }
        }
        out
    }

    /// What both ends tell of a record, which has to be the same, as lines.
    pub fn both<R: Reader>(
        new: impl Fn(Role) -> R,
        record: &Record<'_>,
        lines: impl Fn(&[Told]) -> Vec<String>,
    ) -> Vec<String> {
        let [server, client] =
            [Role::Server, Role::Client].map(|role| replay(new(role), role, record));
        agree(&server, &client);
        assert_eq!(lines(&server), lines(&client));
        lines(&server)
    }

    /// Each thing told as a line, answers in a protocol's own words.
    pub fn summary(told: &[Told], word: impl Fn(&Answer<'_>) -> String) -> Vec<String> {
        let line = |told: &Told| match told {
            Told::Unknown(n) => format!("unknown {n}"),
            Told::Encrypted => "encrypted".to_owned(),
            Told::Forgotten => "forgotten".to_owned(),
            Told::Addresses(name, addresses) => format!("{name} is {addresses:?}"),
            Told::Exchange(e) => {
                format!("{} {} {}-{}", e.operation, word(&e.answer), e.start_ns, e.end_ns)
            }
        };
        told.iter().map(line).collect()
    }

    /// Both ends tell the same requests in the same order, each of its own role.
    pub fn agree(server: &[Told], client: &[Told]) {
        let roles = server.iter().zip(client).all(|(s, c)| match (s, c) {
            (Told::Exchange(s), Told::Exchange(c)) => {
                (s.role, c.role, s.ordinal) == (Role::Server, Role::Client, c.ordinal)
            }
            _ => true,
        });
        assert!(roles, "{server:?}\n{client:?}");
    }
}
