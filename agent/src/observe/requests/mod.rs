//! Requests that programs serve and make, without their help: HTTP/1.1, HTTP/2, gRPC, Redis, PostgreSQL
//! and DNS as the kernel sees them pass.
//!
//! Comes in: chunks from the programs in `bpf/` ([`coral_bpf_types::Chunk`]): bytes that moved through
//! a socket, in the order they did. Goes out, by way of the reducer: what an SDK's spans would have
//! given, with the evidence `ebpf`. Bytes of messages end here: method, route, status and what `traceparent` says are
//! what is kept of them; of gRPC its method and status, of Redis the command's name and an error's first
//! word; of SQL verb, table and an error's `SQLSTATE`; of DNS type, name and the code of the answer.
//!
//! [`conversation`] finds out what a connection speaks, and [`exchange`] is what comes of it. Of
//! HTTP/1.1, [`head`] reads heads, [`traceparent`] which trace they name, [`stream`] cuts a direction into messages, [`connection`] matches
//! requests with responses, [`route`] takes ids out of paths; [`http2`] does all that of HTTP/2 and
//! gRPC, [`redis`] of Redis, [`postgres`] of PostgreSQL, [`dns`] of DNS. [`names`] says whose process it is
//! ([`containers`] whose container), [`watch`] which are watched, [`connections`] counts the connections below
//! the requests, [`nat`] knows what their ends are called elsewhere, [`bridges`] which of them are called so on
//! other hosts too, [`table`] holds it together, [`tls`] finds
//! where OpenSSL is. All of that is plain state machines; [`task`] has the thread, the clock and the ring.

pub mod bridges;
pub mod connection;
pub mod connections;
pub mod containers;
pub mod conversation;
pub mod dns;
pub mod exchange;
pub mod head;
pub mod http2;
pub mod names;
pub mod nat;
pub mod postgres;
pub mod redis;
pub mod route;
pub mod stream;
pub mod table;
pub mod task;
pub mod tls;
pub mod traceparent;
pub mod watch;
