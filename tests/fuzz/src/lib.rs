//! Fuzz targets for every parser of bytes that come from outside.
//!
//! Each target is a plain `fn(&[u8])` that panics when a promise is broken: not only "does not crash",
//! but what the parser's callers rely on. `tests/replay.rs` runs each over its committed corpus
//! (`corpus/<target>/`) and seeded mutations of it, with the rest of the tests. To search for new
//! inputs, call the same functions from cargo-fuzz:
//! `fuzz_target!(|data: &[u8]| coral_fuzz::otlp_traces(data));`; what it finds is added to the corpus.

mod dns;
mod incident;
mod kernel;
mod otlp;
mod requests;
mod scrape;
mod text;

pub mod mutate;

pub use dns::dns;
pub use incident::incident;
pub use kernel::kernel_text;
pub use otlp::{otlp_json, otlp_logs, otlp_metrics, otlp_traces, spool_record};
pub use requests::{http1, http2, postgres, resp};
pub use scrape::{log_lines, pprof, prometheus_text};
pub use text::{filter, place, when};

/// A target: its name, which is its corpus's folder, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("spool_record", spool_record),
    ("otlp_traces", otlp_traces),
    ("otlp_logs", otlp_logs),
    ("otlp_metrics", otlp_metrics),
    ("otlp_json", otlp_json),
    ("filter", filter),
    ("place", place),
    ("when", when),
    ("kernel_text", kernel_text),
    ("prometheus_text", prometheus_text),
    ("log_lines", log_lines),
    ("pprof", pprof),
    ("incident", incident),
    ("http1", http1),
    ("resp", resp),
    ("postgres", postgres),
    ("http2", http2),
    ("dns", dns),
];
