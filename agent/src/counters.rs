//! What the agent counts: every name is on the wire once a second and reaches the screen.
//!
//! A name is written once, here, so that a counter cannot be forgotten in the report.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// All counters of one agent, since it started.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Counters {
            /// Every counter by name.
            #[must_use]
            pub fn to_map(&self) -> HashMap<String, u64> {
                HashMap::from([$((stringify!($name).to_owned(), self.$name.get()),)*])
            }
        }
    };
}

/// A number that only rises (or, for the few that are levels, is set).
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Sets a level.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Reads.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Spans accepted: in the spool and acknowledged.
    spans_received,
    /// Log records accepted.
    logs_received,
    /// Metric points accepted.
    metric_points_received,
    /// Spans in accepted requests that were rejected as invalid (partial success).
    spans_rejected,
    /// Log records in accepted requests that were rejected as unreadable (partial success).
    logs_rejected,
    /// Metric points in accepted requests that were rejected as invalid (partial success).
    metric_points_rejected,
    /// Requests accepted.
    requests_accepted,
    /// Requests that were not valid OTLP.
    requests_invalid,
    /// Requests in a media type or compression that is not spoken.
    requests_unspoken,
    /// Requests larger than the limits.
    requests_too_large,
    /// Requests refused because the in-flight byte budget was spent.
    requests_refused_busy,
    /// Requests refused because the spool was full.
    requests_refused_spool,
    /// Requests whose sender was too slow or went away.
    requests_broken_off,
    /// Connections accepted.
    connections_accepted,
    /// Connections open now.
    connections_open,
    /// Connections closed at once because too many were open.
    connections_refused,
    /// Connections closed because the sender did not speak in time.
    connections_timed_out,
    /// Bytes of OTLP bodies held in memory now.
    budget_bytes,
    /// The most of them there may be.
    budget_capacity_bytes,
    /// Ends of processes that found no room on their way from the kernel.
    process_ends_lost,
    /// Programs that were not looked at when they began, because too many began in that second.
    beginnings_not_looked_at,
    /// Requests that were seen to end through eBPF, at either end.
    requests_seen,
    /// Requests or responses of which nothing could be told: lost, older than the agent, or not
    /// understood.
    requests_unknown,
    /// Connections that went on encrypted, and not by way of an OpenSSL that is read: nothing of them
    /// was told.
    requests_encrypted,
    /// Files with OpenSSL in them that are read now.
    requests_tls_files,
    /// Files with OpenSSL in them that are not, because they are too many or the kernel refused it.
    requests_tls_files_refused,
    /// Calls of OpenSSL that were not followed because too many threads make them.
    requests_tls_calls_refused,
    /// Bytes of programs' output beyond what is captured of a process in a second, or without room.
    output_bytes_not_kept,
    /// Programs whose output was forgotten for room.
    outputs_forgotten,
    /// Prepared statements whose names were forgotten because one connection had too many.
    requests_statements_forgotten,
    /// Names of addresses that were forgotten, or not kept, because there were too many.
    requests_names_forgotten,
    /// Chunks of connections that were not followed because too many were.
    requests_connections_refused,
    /// Chunks that found no room on their way from the kernel.
    requests_chunks_lost,
    /// Sockets that the kernel's side did not follow because too many were.
    requests_sockets_refused,
    /// Spans made of requests that were seen through eBPF.
    spans_made,
    /// Requests seen through eBPF of which there is no span because there were too many, or no room in the spool.
    spans_left_out,
    /// Spans accepted and stored, but not counted as requests: their scope is that of an agent's own.
    spans_passed_over,
    /// Bytes that were not looked at, so as to cost no more than they may.
    requests_bytes_unread,
    /// Own observations dropped because the spool was full.
    dropped_observations,
    /// Spans of operations folded into `__other__`.
    folded_operations,
    /// Half-edges whose peer name was folded into `__other__`.
    folded_peers,
    /// Short-lived processes whose program was folded into `__other__`.
    folded_programs,
    /// Resources seen beyond the cache's bound.
    evicted_resources,
    /// Spans whose end lies more than ten minutes away from the agent's clock.
    spans_off_clock,
    /// Requests in flight that were given up on, their end never having arrived.
    inflight_abandoned,
    /// Requests in flight not tracked because the table was full.
    inflight_untracked,
    /// Resources whose silence is not told from death, because too many were heard.
    inflight_unheard,
    /// Reduced records written.
    reduced_written,
    /// Reduced records that could not be written yet.
    reduced_delayed,
    /// Scrapes of named metrics endpoints.
    scrapes,
    /// Scrapes that failed.
    scrapes_failed,
    /// Samples read by scrapes.
    scrape_samples,
    /// Samples of scrapes beyond a bound, left out.
    dropped_scrape_samples,
    /// Series of scrapes beyond a metric's bound: counters added up, the rest left out.
    folded_scrape_series,
    /// Samples of scrapes whose series had one already.
    scrape_repeated,
    /// Lines read of named log files and journals.
    log_lines_read,
    /// Lines of log files cut at their longest.
    log_lines_cut,
    /// Times a log waited because its source had read as much as it may.
    log_rate_waits,
    /// Times a log waited because the spool had no room.
    log_waits,
    /// Bytes of log files that were gone before they could be read.
    dropped_log_bytes,
    /// Entries of journals that could not be read.
    dropped_journal_entries,
    /// Records appended to the spool.
    spool_records,
    /// Rounds of `fdatasync` that made records of the spool durable.
    spool_syncs,
    /// Failed writes or syncs of the spool.
    spool_errors,
    /// 1 while the disk of the spool is too full to go on, else 0.
    spool_disk_full,
    /// Bytes found damaged at start and set aside.
    spool_damaged_bytes,
    /// Records replayed into the reducer at start.
    replayed_records,
    /// Sessions with the colony opened.
    sessions,
    /// Record bytes sent to the colony.
    shipped_bytes,
    /// Segments acknowledged, counted and deleted.
    segments_deleted,
}
