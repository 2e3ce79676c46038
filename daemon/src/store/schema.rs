//! The tables, as SQL: one definition per signal, from which every slice's table and the view over
//! all slices are made.
//!
//! Times are `BIGINT` Unix nanoseconds; trace ids are two `UBIGINT`s (big-endian halves), span ids
//! one. There are no keys and no indexes: DuckDB would keep them in memory and check them on every
//! append. Unknown is `NULL`, never an empty string and never 0, except where a comment says so.

use coral_model::time::{SECOND, Time};

/// Nanoseconds in an hour.
pub const HOUR: u64 = 3600 * SECOND;

/// Raised when an older build could no longer read or write the tables.
pub const VERSION: i64 = 5;

/// A kind of row with a table per hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// What rows' `resource` column means.
    Resources,
    /// Spans.
    Spans,
    /// Log records.
    Logs,
    /// Metric points.
    Metrics,
    /// RED deltas.
    Red,
    /// Joined edges.
    Edges,
    /// Ends of requests, kept for as long as a restart may need them.
    HalfEdges,
    /// Events.
    Events,
    /// Requests in flight.
    Inflight,
    /// Host readings.
    Hosts,
}

impl Signal {
    /// Every signal, in the order their tables are made.
    pub const ALL: [Self; 10] = [
        Self::Resources,
        Self::Spans,
        Self::Logs,
        Self::Metrics,
        Self::Red,
        Self::Edges,
        Self::HalfEdges,
        Self::Events,
        Self::Inflight,
        Self::Hosts,
    ];

    /// The view over all hours; also the stem of the hours' table names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resources => "resources",
            Self::Spans => "spans",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Red => "red",
            Self::Edges => "edges",
            Self::HalfEdges => "half_edges",
            Self::Events => "events",
            Self::Inflight => "inflight",
            Self::Hosts => "hosts",
        }
    }

    /// Columns of an hour's table, in the order the appender fills them.
    #[must_use]
    pub const fn columns(self) -> &'static str {
        match self {
            // One row per hour that mentions the resource: an hour can be dropped or moved away
            // with everything its rows need. The view shows each resource once.
            Self::Resources => {
                "id UBIGINT, service VARCHAR, namespace VARCHAR, instance VARCHAR, \
                 version VARCHAR, host VARCHAR, zone VARCHAR, \
                 attributes MAP(VARCHAR, VARCHAR), first_ns BIGINT"
            }
            // operation is RED's word for it, name the span's own where that differs; parent_id 0
            // is a root; kind and status are OTLP's numbers; code is the protocol's
            // status as text; events and links are JSON arrays.
            Self::Spans => {
                "start_ns BIGINT, duration_ns BIGINT, received_ns BIGINT, trace_hi UBIGINT, \
                 trace_lo UBIGINT, span_id UBIGINT, parent_id UBIGINT, service VARCHAR, \
                 operation VARCHAR, name VARCHAR, kind UTINYINT, status UTINYINT, code VARCHAR, \
                 error BOOLEAN, http_route VARCHAR, db_system VARCHAR, rpc_method VARCHAR, peer_service VARCHAR, \
                 resource UBIGINT, message VARCHAR, attributes MAP(VARCHAR, VARCHAR), \
                 events VARCHAR, links VARCHAR"
            }
            Self::Logs => {
                "time_ns BIGINT, received_ns BIGINT, service VARCHAR, severity UTINYINT, \
                 body VARCHAR, trace_hi UBIGINT, trace_lo UBIGINT, span_id UBIGINT, \
                 resource UBIGINT, attributes MAP(VARCHAR, VARCHAR)"
            }
            // kind is coral_model::view::MetricKind's word; extra is JSON: exponential buckets
            // (scale, zero_count, positive, negative), quantiles of a summary, min and max.
            Self::Metrics => {
                "time_ns BIGINT, start_ns BIGINT, received_ns BIGINT, metric VARCHAR, \
                 kind VARCHAR, unit VARCHAR, description VARCHAR, temporality VARCHAR, \
                 service VARCHAR, resource UBIGINT, attributes MAP(VARCHAR, VARCHAR), \
                 value DOUBLE, count UBIGINT, sum DOUBLE, bounds DOUBLE[], counts UBIGINT[], \
                 extra VARCHAR"
            }
            // Additive deltas, several rows per bucket; hist_* are parallel and ascending. evidence
            // is coral_model::view::Evidence's word, here and below: a request that spans and the
            // kernel tell of is in a row of each.
            Self::Red => {
                "bucket_ns BIGINT, received_ns BIGINT, resource UBIGINT, service VARCHAR, \
                 operation VARCHAR, kind UTINYINT, code VARCHAR, protocol VARCHAR, \
                 requests UBIGINT, errors UBIGINT, no_answer UBIGINT, sum_ns UBIGINT, \
                 hist_index USMALLINT[], hist_count UBIGINT[], slow_hi UBIGINT, slow_lo UBIGINT, \
                 slow_ns UBIGINT, error_hi UBIGINT, error_lo UBIGINT, sampled BOOLEAN, \
                 evidence VARCHAR"
            }
            // Additive deltas. Kinds are coral_model::view::NodeKind's words; ends is 1 or 2.
            // requests counts the callers' view (hist_*); a row with requests 0 adds only what the
            // callee measured of requests that an earlier row counted, or only connections (and says
            // nothing of ends then). conn_* and those between them are of the connections that the
            // caller opened: how many came about, did not, were refused among these, were broken off;
            // segments sent again, bytes the callee took and gave, round-trip times added up and how
            // many, for how long connections were open and for how long in use, all together.
            Self::Edges => {
                "bucket_ns BIGINT, received_ns BIGINT, from_name VARCHAR, from_kind VARCHAR, \
                 to_name VARCHAR, to_kind VARCHAR, protocol VARCHAR, ends UTINYINT, \
                 requests UBIGINT, errors UBIGINT, no_answer UBIGINT, sum_ns UBIGINT, \
                 hist_index USMALLINT[], hist_count UBIGINT[], callee_sum_ns UBIGINT, \
                 callee_hist_index USMALLINT[], callee_hist_count UBIGINT[], sampled BOOLEAN, \
                 evidence VARCHAR, conn_opened UBIGINT, conn_failed UBIGINT, conn_refused UBIGINT, \
                 conn_reset UBIGINT, retransmits UBIGINT, sent_bytes UBIGINT, \
                 received_bytes UBIGINT, rtt_sum_ns UBIGINT, rtt_count UBIGINT, \
                 conn_open_ns UBIGINT, conn_busy_ns UBIGINT"
            }
            // n rises by one; rows after commits.edges_to still wait (fate 0), were met by their
            // other end (1), or were counted and may still be met (2).
            Self::HalfEdges => {
                "n UBIGINT, received_ns BIGINT, key UBIGINT, resource UBIGINT, service VARCHAR, \
                 kind UTINYINT, protocol VARCHAR, peer VARCHAR, peer_kind VARCHAR, \
                 sampled BOOLEAN, end_ns BIGINT, duration_ns UBIGINT, error BOOLEAN, \
                 no_answer BOOLEAN, fate UTINYINT, evidence VARCHAR"
            }
            Self::Events => {
                "time_ns BIGINT, received_ns BIGINT, kind VARCHAR, service VARCHAR, host VARCHAR, \
                 text VARCHAR, source VARCHAR, attributes MAP(VARCHAR, VARCHAR)"
            }
            // agent is 32 hex digits.
            Self::Inflight => {
                "at_ns BIGINT, received_ns BIGINT, agent VARCHAR, resource UBIGINT, \
                 service VARCHAR, operation VARCHAR, count UBIGINT, oldest_start_ns BIGINT, \
                 oldest_hi UBIGINT, oldest_lo UBIGINT, exact BOOLEAN"
            }
            // row is a coral_model::view::HostRow as JSON.
            Self::Hosts => {
                "at_ns BIGINT, received_ns BIGINT, host VARCHAR, agent VARCHAR, row VARCHAR"
            }
        }
    }

    /// Names of the columns.
    #[must_use]
    pub fn column_names(self) -> Vec<&'static str> {
        definitions(self)
            .into_iter()
            .filter_map(|c| c.trim().split_once(' '))
            .map(|c| c.0)
            .collect()
    }

    /// The columns as they are selected from a file that a build of store version `version` wrote:
    /// what came later has the value that it then means.
    #[must_use]
    pub fn selected_from(self, version: i64) -> String {
        let later = |name: &str| {
            let of = |a: &&Added| a.signals.contains(&self) && a.columns.contains(&name);
            ADDED.iter().find(of).filter(|a| a.version > version)
        };
        let columns = self.column_names().into_iter().map(|name| match later(name) {
            Some(Added { value, kind, .. }) => format!("CAST({value} AS {kind}) AS {name}"),
            None => name.to_owned(),
        });
        columns.collect::<Vec<_>>().join(", ")
    }

    /// Where `received_ns` stands among the columns.
    #[must_use]
    pub const fn stamp_column(self) -> Option<usize> {
        match self {
            Self::Resources => None,
            Self::Spans | Self::Metrics => Some(2),
            _ => Some(1),
        }
    }

    /// Large signals are cut into parts and dropped first when the disk budget asks; the small ones
    /// are what remains of a time whose spans are gone.
    #[must_use]
    pub const fn bulky(self) -> bool {
        matches!(self, Self::Spans | Self::Logs | Self::Metrics | Self::HalfEdges)
    }
}

/// Tables that are not by hour.
///
/// `meta` holds the version. `commits` has a row per transaction: its stamp (`received_ns` of every
/// row in it), the edge join's next number and expiry watermark. `marks` has a row per transaction
/// and segment; the greatest `seq` counts, `gone` forgets. Both only grow between checkpoints, which
/// fold them, so that a commit appends and never updates.
pub const FIXED: &str = "\
    CREATE TABLE IF NOT EXISTS meta(key VARCHAR, value VARCHAR);\
    CREATE TABLE IF NOT EXISTS commits(received_ns BIGINT, half_next UBIGINT, edges_to UBIGINT);\
    CREATE TABLE IF NOT EXISTS marks(agent_hi UBIGINT, agent_lo UBIGINT, segment_hi UBIGINT, \
    segment_lo UBIGINT, seq UBIGINT, gone BOOLEAN);";

/// Columns that tables and files of earlier versions lack.
struct Added {
    /// The first version that has them.
    version: i64,
    signals: &'static [Signal],
    /// In the order of the table.
    columns: &'static [&'static str],
    kind: &'static str,
    /// What each means where it is missing.
    value: &'static str,
}

/// Columns are added behind the others, so that tables of both ages have them in one order.
static ADDED: [Added; 2] = [
    Added {
        version: 3,
        signals: &[Signal::Red, Signal::Edges, Signal::HalfEdges],
        columns: &["evidence"],
        kind: "VARCHAR",
        value: "'otlp'",
    },
    Added {
        version: 5,
        signals: &[Signal::Edges],
        columns: &[
            "conn_opened",
            "conn_failed",
            "conn_refused",
            "conn_reset",
            "retransmits",
            "sent_bytes",
            "received_bytes",
            "rtt_sum_ns",
            "rtt_count",
            "conn_open_ns",
            "conn_busy_ns",
        ],
        kind: "UBIGINT",
        value: "0",
    },
];

/// What takes a store of version `n + 1` to the next, by `n`; besides columns of tables.
const UPGRADES: [&str; 4] = [
    // 2: slices that have ended become Parquet files, named in a manifest.
    super::segment::MANIFEST,
    // 3: what saw a request. Files stay as they are, and the manifest says which lack it.
    "ALTER TABLE segments ADD COLUMN version UTINYINT DEFAULT 2;",
    // 4: an index of words beside log records that are sealed from then on.
    "",
    // 5: connections below requests.
    "",
];

/// What takes a store with these tables from the version before to `version`.
#[must_use]
pub fn upgrade(version: i64, tables: &[String]) -> String {
    let step = usize::try_from(version - 2).ok().and_then(|n| UPGRADES.get(n));
    let mut sql = (*step.unwrap_or(&"")).to_owned();
    for added in ADDED.iter().filter(|added| added.version == version) {
        let of = |table: &&String| {
            Slice::from_table(table).is_some_and(|(signal, _)| added.signals.contains(&signal))
        };
        for table in tables.iter().filter(of) {
            let Added { columns, kind, value, .. } = added;
            for column in *columns {
                sql.push_str(&format!(
                    "ALTER TABLE {table} ADD COLUMN {column} {kind} DEFAULT {value};"
                ));
            }
        }
    }
    sql
}

/// Which of a signal's tables: the hour of *receipt*, and a part where one hour is too large a piece
/// of the disk budget to be dropped at once.
///
/// The hour rows were received in, not the one they tell of: late rows then need no table that was
/// sealed or dropped before, the oldest table is the oldest on disk, and a clock gone wild in one
/// application cannot make tables. Min-max statistics inside DuckDB still skip what a time window
/// does not touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slice {
    /// Whole hours since the epoch.
    pub hour: u64,
    /// Part of the hour, from 0.
    pub part: u32,
}

impl Slice {
    /// The first part of the hour a moment lies in.
    #[must_use]
    pub fn of(t: Time) -> Self {
        Self { hour: t.0 / HOUR, part: 0 }
    }

    /// When its hour began.
    #[must_use]
    pub fn start(self) -> Time {
        Time(self.hour.saturating_mul(HOUR))
    }

    /// The next part of the same hour.
    #[must_use]
    pub fn next_part(self) -> Self {
        Self { part: self.part.saturating_add(1), ..self }
    }

    /// `20261122T13`, `20261122T13p1`.
    #[must_use]
    pub fn label(self) -> String {
        let hour = self.start().format(&jiff::tz::TimeZone::UTC, "%Y%m%dT%H");
        match self.part {
            0 => hour,
            part => format!("{hour}p{part}"),
        }
    }

    /// Name of a signal's table: `spans_20261122T13`, `spans_20261122T13p1`.
    #[must_use]
    pub fn table(self, signal: Signal) -> String {
        format!("{}_{}", signal.name(), self.label())
    }

    /// What a table name says; `None` for tables that are not by hour.
    #[must_use]
    pub fn from_table(name: &str) -> Option<(Signal, Self)> {
        let (stem, rest) = name.rsplit_once('_')?;
        let signal = Signal::ALL.into_iter().find(|s| s.name() == stem)?;
        let (hour, part) = rest.split_once('p').unwrap_or((rest, "0"));
        let at = jiff::fmt::strtime::parse("%Y%m%dT%H%M", format!("{hour}00")).ok()?;
        let at = at.to_datetime().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        let hour = u64::try_from(at.timestamp().as_second() / 3600).ok()?;
        Some((signal, Self { hour, part: part.parse().ok()? }))
    }
}

/// `CREATE TABLE` for a signal's slice.
#[must_use]
pub fn create_table(signal: Signal, slice: Slice) -> String {
    format!("CREATE TABLE IF NOT EXISTS {}({})", slice.table(signal), signal.columns())
}

/// What stands around all slices of a signal in its view.
#[must_use]
pub const fn around(signal: Signal) -> (&'static str, &'static str) {
    match signal {
        Signal::Resources => (
            "SELECT id, any_value(service) AS service, any_value(namespace) AS namespace, \
             any_value(instance) AS instance, any_value(version) AS version, \
             any_value(host) AS host, any_value(zone) AS zone, \
             any_value(attributes) AS attributes, min(first_ns) AS first_ns FROM (",
            ") GROUP BY id",
        ),
        _ => ("", ""),
    }
}

/// `CREATE OR REPLACE VIEW` of a signal over a SELECT of everything it has.
#[must_use]
pub fn create_view(signal: Signal, body: &str) -> String {
    let (head, tail) = around(signal);
    format!("CREATE OR REPLACE VIEW {} AS {head}{body}{tail}", signal.name())
}

/// A SELECT without rows that has the signal's columns, so that questions never fail for want of
/// data.
#[must_use]
pub fn empty(signal: Signal) -> String {
    let list: Vec<_> = definitions(signal)
        .into_iter()
        .filter_map(|column| column.trim().split_once(' '))
        .map(|(name, kind)| format!("CAST(NULL AS {kind}) AS {name}"))
        .collect();
    format!("SELECT {} WHERE false", list.join(", "))
}

/// Each column's name and type. Types such as MAP(VARCHAR, VARCHAR) contain commas; split only
/// outside parentheses.
fn definitions(signal: Signal) -> Vec<&'static str> {
    let mut depth = 0usize;
    let outside = |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    signal.columns().split(outside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_found_again_in_its_table_name() {
        let slice = Slice::of(Time(1_795_353_600_000_000_000));
        for signal in Signal::ALL {
            for slice in [slice, slice.next_part().next_part()] {
                assert_eq!(Slice::from_table(&slice.table(signal)), Some((signal, slice)));
            }
        }
        assert_eq!(Slice::from_table("meta"), None);
        assert_eq!(Slice::from_table("spans_yesterday"), None);
    }

    #[test]
    fn nothing_is_kept_that_is_not_told_to_people() {
        for (signal, kept) in Signal::ALL.into_iter().zip(coral_model::kept::STORED) {
            assert_eq!(signal.name(), kept.signal);
            let mut told: Vec<&str> = kept.fields.iter().flat_map(|f| f.columns).copied().collect();
            let mut stored = signal.column_names();
            told.sort_unstable();
            stored.sort_unstable();
            assert_eq!(told, stored, "{}", kept.signal);
        }
    }
}
