//! What every protocol's reader tells: requests that have ended, and how many remained unknown.

use std::borrow::Cow;

use crate::reduce::Answer;

/// Which end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Method and route of HTTP; the method of gRPC; the command of Redis; verb and table of SQL. Of these
    /// there are few.
    pub operation: Cow<'static, str>,
    /// How it was answered.
    pub answer: Answer<'static>,
    /// When its first byte was received or sent, ns since boot.
    pub start_ns: u64,
    /// When the response's last byte was, or the connection ended.
    pub end_ns: u64,
    /// How many requests of this connection came before it, as far as seen.
    pub ordinal: u64,
    /// Its trace, or zeros.
    pub trace: [u8; 16],
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
}

#[cfg(test)]
pub mod recorded {
    //! Recorded connections, played again.

    use super::{Role, Told, Way};
    use crate::reduce::Answer;

    /// What happens to a connection.
    pub enum Event<'a> {
        /// So many bytes moved, the first of which are known.
        Moved(Way, &'a [u8], u64),
        /// So many bytes moved, of which nothing is known.
        Missed(Way, u64),
        /// One end sends no more.
        Ending,
        /// It is gone.
        Ended,
    }

    /// Which way requests go at this end.
    pub fn requests(role: Role) -> Way {
        if role == Role::Server { Way::Received } else { Way::Sent }
    }

    /// Plays a record of text, in which `\n` is a line end; see [`play_bytes`].
    pub fn play(role: Role, record: &[(&str, &str)], each: impl FnMut(u64, Event<'_>)) {
        let bytes = |text: &str| text.replace('\n', "\r\n").into_bytes();
        let record: Vec<_> = record.iter().map(|(kind, text)| (*kind, bytes(text))).collect();
        play_bytes(role, &record, each);
    }

    /// Plays a record: `>` what the client sent, `<` what the server did, a call each. A number behind
    /// is how many bytes more moved that are not known.
    pub fn play_bytes(
        role: Role,
        record: &[(&str, Vec<u8>)],
        mut each: impl FnMut(u64, Event<'_>),
    ) {
        for (at_ns, (kind, bytes)) in (1..).zip(record) {
            let (asked, mark) = (kind.starts_with('>'), kind.trim_start_matches(['>', '<']));
            let way = if asked == (role == Role::Server) { Way::Received } else { Way::Sent };
            let total = bytes.len() as u64;
            let event = match mark {
                "" => Event::Moved(way, bytes, total),
                "ending" => Event::Ending,
                "ended" => Event::Ended,
                "missed" => Event::Missed(way, total),
                more => Event::Moved(way, bytes, total + more.parse::<u64>().unwrap()),
            };
            each(at_ns, event);
        }
    }

    /// Each thing told as a line, answers in a protocol's own words.
    pub fn summary(told: &[Told], word: impl Fn(&Answer<'_>) -> String) -> Vec<String> {
        let line = |told: &Told| match told {
            Told::Unknown(n) => format!("unknown {n}"),
            Told::Encrypted => "encrypted".to_owned(),
            Told::Forgotten => "forgotten".to_owned(),
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
