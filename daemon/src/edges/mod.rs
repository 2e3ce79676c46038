//! Who calls whom: joins the two ends of requests that different agents may have seen.
//!
//! In: half-edges and connections in the order they are committed, and the commits' stamps. Out: edge deltas, which
//! go into the same transaction. A plain state machine: the same halves with the same stamps give
//! the same edges. What it remembers can be rebuilt from the half-edges it asks the store to keep
//! ([`Kept`]) and one number, [`Joiner::floor`]; so a crash neither loses a request nor counts it
//! twice.
//!
//! The rules, and what a person sees because of them:
//!
//! * CLIENT and SERVER with the same key: an edge `caller ▸ callee` with both ends, as soon as the
//!   second one arrives. A caller's span that several servers answered (retries inside a proxy)
//!   counts once per answer.
//! * A CLIENT span that names a database, and any PRODUCER span, is an edge to that database or
//!   queue at once: nobody else will report it. (Unless the kernel saw it: then it may have seen the
//!   database's end too, which is a service like any other, and waits for that.) A CONSUMER span is an edge `queue ▸ consumer`; the
//!   queue's name comes from itself, else from the producer it has for a parent.
//! * A SERVER span without a parent is an edge from `external` at once.
//! * Whatever still waits after the window (60 s after it was committed) becomes an edge with one
//!   end, to the peer the caller named, or from `external`. A failed request waits 10 s only: where
//!   the name itself is wrong nobody will ever answer, and that is what somebody looks for. So does one that
//!   the kernel saw: it tells of an end within a second or two, where an SDK may hold a span back.
//! * Waiting would hide the errors of a callee that hangs. So what a peer's name stands for is
//!   learnt, per calling service: from every joined pair (`cart:8080` is `cart`), and from expired
//!   waits (`api.example.com` is external). A failed request to a known service, and any request to
//!   a peer known to be external, is counted at once with one end; should its callee still report, a
//!   delta without requests adds what that measured. A name that stood for two services stands for
//!   none. What was learnt is a shortcut only: it is not kept over a restart.
//! * Connections that the kernel saw carry their peer by the name that the requests on them have for
//!   it, and go to whom that name stands for. Where it was never explained they wait for the first
//!   pair that does, 10 s at most, and are told by the name itself after that. They are a delta without
//!   requests, which makes no edge more or less seen. A daemon that ends, or a commit that fails, forgets those that wait:
//!   at most 10 s of the connections to peers it had not met before.

mod alias;
mod joiner;

pub use joiner::{Fate, Joiner, Kept, Limits};

#[cfg(test)]
mod tests;
