//! DNS: queries and their answers, of who asks and of who serves.
//!
//! Comes in: datagrams ([`datagrams`]) and connections ([`stream`]). Goes out: queries that have ended, by
//! type and name, with the name of the answer's code; and which addresses names were said to have, which
//! [`addresses`] keeps for a while to call peers by.
//!
//! [`message`] reads a message, [`name`] takes ids out of names, [`queries`] matches answers with what was
//! asked, [`search`] tells names that a resolver only tried from those that somebody misses.

pub mod addresses;
pub mod datagrams;
pub mod message;
pub mod name;
pub mod queries;
pub mod search;
pub mod stream;

use std::borrow::Cow;

use super::exchange::{Exchange, Role};
use super::traceparent::TraceParent;
use message::Question;

/// Where DNS is served.
pub const PORT: u16 = 53;

/// A query that has ended.
fn exchange(
    role: Role,
    question: &Question,
    answer: crate::reduce::Answer<'static>,
    (start_ns, end_ns): (u64, u64),
    ordinal: u64,
) -> Exchange {
    Exchange {
        role,
        operation: Cow::Owned(question.operation.clone()),
        answer,
        start_ns,
        end_ns: end_ns.max(start_ns),
        ordinal,
        parent: TraceParent::default(),
    }
}

/// What an answer's code means to a request.
fn meaning(answer: &message::Answer) -> crate::reduce::Answer<'static> {
    match answer.failed {
        true => crate::reduce::Answer::Failed(answer.code),
        false => crate::reduce::Answer::Said(answer.code),
    }
}
