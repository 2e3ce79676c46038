//! A connection, whatever it speaks: which protocol that is shows in its bytes.
//!
//! Until a call begins with what begins a message of one, nothing is understood. What begins like Redis
//! and then is no command anybody knows, or like PostgreSQL and is not answered so, was something else:
//! it is counted as unknown, and looked at anew.

use super::connection;
use super::dns;
use super::exchange::{Reader, Role, Told, Waits, Way};
use super::head;
use super::http2;
use super::postgres;
use super::redis;

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2.
    Http,
    /// gRPC, which requests of HTTP/2 may be.
    Grpc,
    /// RESP2 and RESP3.
    Redis,
    /// Version 3.
    Postgres,
    /// Over TCP or UDP.
    Dns,
}

impl Protocol {
    /// As it is called in `protocol`, and in OpenTelemetry's `db.system.name` or `rpc.system.name`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Redis => "redis",
            Self::Postgres => "postgresql",
            Self::Dns => "dns",
        }
    }

    /// Whether who serves is a database to who does not see it.
    #[must_use]
    pub const fn is_database(self) -> bool {
        match self {
            Self::Http | Self::Grpc | Self::Dns => false,
            Self::Redis | Self::Postgres => true,
        }
    }
}

/// A connection as one of its ends sees it; nothing is understood of it until it is known what it speaks.
#[derive(Debug, Default)]
pub struct Conversation {
    known: Option<(Protocol, Box<dyn Reader + Send>)>,
    /// At the port of DNS, whose messages begin like nothing: which end this is.
    dns: Option<Role>,
}

/// What is spoken where a call begins so.
fn spoken(way: Way, bytes: &[u8], total: u64) -> Option<(Protocol, Box<dyn Reader + Send>)> {
    Some(if head::begins(bytes).is_some() {
        (Protocol::Http, Box::<connection::Connection>::default())
    } else if redis::begins_command(bytes) {
        (Protocol::Redis, Box::new(redis::Connection::new(way)))
    } else if postgres::begins(bytes, total) {
        (Protocol::Postgres, Box::new(postgres::Connection::new(way)))
    } else if http2::begins_connection(bytes) {
        (Protocol::Http, Box::new(http2::Connection::new(way)))
    } else if http2::goes_on(bytes, total) {
        (Protocol::Http, Box::new(http2::Connection::older()))
    } else {
        return None;
    })
}

impl Conversation {
    /// One between these ports, this end's first.
    #[must_use]
    pub fn between(local: u16, remote: u16) -> Self {
        let dns = match (local, remote) {
            (dns::PORT, _) => Some(Role::Server),
            (_, dns::PORT) => Some(Role::Client),
            _ => None,
        };
        Self { dns, ..Self::default() }
    }

    /// What it speaks, once that is known.
    #[must_use]
    pub fn protocol(&self) -> Option<Protocol> {
        self.known.as_ref().map(|(protocol, _)| *protocol)
    }

    fn reader(&self) -> Option<&(dyn Reader + Send)> {
        self.known.as_ref().map(|(_, reader)| reader.as_ref())
    }

    fn reader_mut(&mut self) -> Option<&mut (dyn Reader + Send + 'static)> {
        self.known.as_mut().map(|(_, reader)| reader.as_mut())
    }

    /// [`Reader::role`].
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.reader()?.role()
    }

    /// [`Reader::waiting`].
    #[must_use]
    pub fn waiting(&self) -> Option<Waits> {
        self.reader()?.waiting()
    }

    /// Whether somebody uses it: requests wait, or [`Reader::is_held`].
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.reader().is_some_and(|reader| reader.waiting().is_some() || reader.is_held())
    }

    /// [`Reader::moved`].
    pub fn moved(&mut self, way: Way, at_ns: u64, bytes: &[u8], total: u64, out: &mut Vec<Told>) {
        if self.known.is_none() {
            let dns = |role| -> (_, Box<dyn Reader + Send>) {
                (Protocol::Dns, Box::new(dns::stream::Connection::new(role)))
            };
            self.known = spoken(way, bytes, total).or_else(|| self.dns.map(dns));
        }
        let Some(reader) = self.reader_mut() else { return };
        reader.moved(way, at_ns, bytes, total, out);
        if reader.is_something_else() {
            self.known = None;
        }
    }

    /// [`Reader::missed`].
    pub fn missed(&mut self, way: Way, at_ns: u64, length: u64, out: &mut Vec<Told>) {
        if let Some(reader) = self.reader_mut() {
            reader.missed(way, at_ns, length, out);
        }
    }

    /// [`Reader::settle`].
    pub fn settle(&mut self, now_ns: u64, out: &mut Vec<Told>) {
        if let Some(reader) = self.reader_mut() {
            reader.settle(now_ns, out);
        }
    }

    /// [`Reader::ending`].
    pub fn ending(&mut self, at_ns: u64, out: &mut Vec<Told>) {
        if let Some(reader) = self.reader_mut() {
            reader.ending(at_ns, out);
        }
    }

    /// [`Reader::ended`].
    pub fn ended(&mut self, at_ns: u64, out: &mut Vec<Told>) {
        if let Some(reader) = self.reader_mut() {
            reader.ended(at_ns, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pieces: &[(Way, &str)]) -> (Option<Protocol>, Vec<Told>) {
        let mut conversation = Conversation::default();
        let mut out = Vec::new();
        for (way, text) in pieces {
            conversation.moved(*way, 1, text.as_bytes(), text.len() as u64, &mut out);
        }
        (conversation.protocol(), out)
    }

    #[test]
    fn a_protocol_shows_in_its_first_bytes() {
        use Way::{Received, Sent};
        assert_eq!(after(&[(Sent, "GET / HTTP/1.1\r\n")]), (Some(Protocol::Http), vec![]));
        let get = "*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
        assert_eq!(after(&[(Sent, get)]), (Some(Protocol::Redis), vec![]));
        assert_eq!(after(&[(Received, "PING\r\n")]), (Some(Protocol::Redis), vec![]));
        let query = "Q\0\0\0\u{d}SELECT 1\0";
        assert_eq!(after(&[(Received, query)]), (Some(Protocol::Postgres), vec![]));
        assert_eq!(after(&[(Sent, "PRI * HTTP/2.0\r\n\r\nSM")]), (Some(Protocol::Http), vec![]));
        for other in
            ["\x16\x03\x01", "SSH-2.0-x", "*", "*x\r\n", "* OK IMAP4 ready\r\n", "PRI", "PRIVMSG"]
        {
            assert_eq!(after(&[(Received, other)]).0, None, "{other}");
        }
    }

    #[test]
    fn what_only_looks_like_redis_is_counted_and_left() {
        use Way::{Received, Sent};
        // No command of Redis.
        let odd = "*2\r\n$5\r\ngruss\r\n$1\r\na\r\n";
        assert_eq!(after(&[(Sent, odd)]), (None, vec![Told::Unknown(1)]));
        // No array of strings, which shows at once, or later.
        assert_eq!(after(&[(Sent, "*2\r\n:1\r\n")]), (None, vec![]));
        assert_eq!(after(&[(Sent, "*2\r\n"), (Sent, ":1\r\n")]), (None, vec![Told::Unknown(1)]));
        // NATS says PING too, and is answered PONG without a plus.
        let nats = [(Received, "PING\r\n"), (Sent, "PONG\r\n")];
        assert_eq!(after(&nats), (None, vec![Told::Unknown(1)]));
        // No answer of PostgreSQL's comes back.
        let odd_answer = [(Received, "Q\0\0\0\u{5}\0"), (Sent, "Q\0\0\0\u{5}\0")];
        assert_eq!(after(&odd_answer), (None, vec![Told::Unknown(1)]));
        // Then it may still be HTTP.
        let http = [(Sent, odd), (Sent, "GET / HTTP/1.1\r\n")];
        assert_eq!(after(&http).0, Some(Protocol::Http));
    }
}
