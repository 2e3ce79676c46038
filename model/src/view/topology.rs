//! Who calls whom.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::red::{Baseline, Red, State};
use crate::question::{WordError, words};
use crate::time::Time;

words!(
    /// What stands at an end of an edge.
    NodeKind, "node kind", {
        /// A service that reports itself.
        Service = "service",
        /// A database, known by those who call it.
        Database = "database",
        /// A queue or topic.
        Queue = "queue",
        /// Somebody outside.
        External = "external",
    }
);

words!(
    /// How many ends of an edge were seen.
    EdgeEnds, "evidence", {
        /// Caller and callee both reported it.
        Both = "both ends",
        /// Only one of them did.
        One = "one end",
    }
);

/// A node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// `db.system.name` or `messaging.system`.
    pub system: Option<String>,
    /// Whether silence means anything.
    pub state: State,
    /// Newest data about it.
    pub last_seen: Option<Time>,
    /// Its own numbers as a server; `null` when it reports none.
    pub red: Option<Red>,
    /// 0 calm, 1 moved (`!`), 2 failing (`!!`).
    pub level: u8,
    /// Calls between it and the node whose reach was asked for: negative upstream, 0 that node.
    #[serde(default)]
    pub hop: Option<i32>,
}

/// An edge: requests from one node to another, as the callee saw them where it did, else the caller.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EdgeRow {
    /// Caller.
    pub from: String,
    /// What the caller is.
    pub from_kind: NodeKind,
    /// Callee.
    pub to: String,
    /// What the callee is.
    pub to_kind: NodeKind,
    /// `http`, `grpc`, `postgresql`, `redis` … where known.
    pub protocol: Option<String>,
    /// How many ends were seen.
    pub ends: EdgeEnds,
    /// Numbers as the caller saw them (as the callee did, where only it was seen).
    pub red: Red,
    /// 99th percentile the callee measured, in nanoseconds: the difference is the way between.
    pub callee_p99_ns: Option<u64>,
    /// The connections below the requests; `null` where nobody saw them.
    #[serde(default)]
    pub connections: Option<Connections>,
    /// Against another window, when asked for.
    pub baseline: Option<Baseline>,
    /// 0 calm, 1 moved (`!`), 2 failing (`!!`).
    pub level: u8,
    /// The hop of its end that is farther from the node whose reach was asked for.
    #[serde(default)]
    pub hop: Option<i32>,
}

/// The connections that a caller opened to a callee, as the caller's kernel saw them.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Connections {
    /// How many were open, on average over the time the edge was observed in.
    pub open: f64,
    /// Share of their time in which a request was under way or a transaction held them, 0 to 1; `null` where
    /// the protocol is not read.
    pub busy_share: Option<f64>,
    /// Connections that came about.
    pub opened: u64,
    /// Connections that did not: refused, timed out, unreachable, given up.
    pub failed: u64,
    /// Of these refused.
    pub refused: u64,
    /// Connections that were open and were broken off by a reset, or because nothing came back any more.
    pub reset: u64,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// Bytes the callee has taken in.
    pub sent_bytes: u64,
    /// Bytes that came from it.
    pub received_bytes: u64,
    /// Mean of the round-trip times, in nanoseconds; `null` where none was read.
    pub rtt_ns: Option<u64>,
}
