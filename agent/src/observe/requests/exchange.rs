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
    /// Method and route of HTTP; the command of Redis. Of these there are few.
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
}
