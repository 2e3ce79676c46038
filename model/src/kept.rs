//! What Coral keeps, field by field: where it comes from, and for how long.
//!
//! `coral doctor --privacy` prints it. The store's own test compares it with the columns that there
//! are, so that nothing is kept that is not listed here. Fields that Coral computes itself and that tell
//! of nobody (stamps, bookkeeping) are listed too.

use self::Origin::{Coral, Ebpf, Proc, Told};

/// Where a field comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// What applications send: OTLP, files and journals that are tailed, metrics that are scraped.
    Told,
    /// What the kernel sees of their requests, through eBPF.
    Ebpf,
    /// What the kernel tells any user, `/proc` and the like.
    Proc,
    /// Coral itself.
    Coral,
}

impl Origin {
    /// As it is printed.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Told => "applications",
            Self::Ebpf => "eBPF",
            Self::Proc => "/proc",
            Self::Coral => "Coral",
        }
    }
}

/// A field of what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Names of columns, by what they say together.
    pub columns: &'static [&'static str],
    /// Where they come from.
    pub from: &'static [Origin],
    /// What they say.
    pub what: &'static str,
}

/// A signal of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Its name, as in SQL.
    pub signal: &'static str,
    /// Settings that say how long; where there are several, by resolution. Where there is none, [`Self::until`].
    pub settings: &'static [&'static str],
    /// How long, where no setting says.
    pub until: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
}

const fn field(
    columns: &'static [&'static str],
    from: &'static [Origin],
    what: &'static str,
) -> Field {
    Field { columns, from, what }
}

const STAMP: Field = field(&["received_ns"], &[Coral], "when the colony stored it");
const RESOURCE: Field = field(&["resource"], &[Coral], "which row of `resources` it belongs to");
const SERVICE_TOLD: Field = field(&["service"], &[Told], "name of the service");
const SERVICE: Field = field(&["service"], &[Told, Ebpf], "name of the service");
const OPERATION: &str = "method and route without ids, command or procedure by name, name asked of DNS without ids; of what eBPF \
     sees no query string, key, parameter or literal";
const COUNTS: &[&str] = &["requests", "errors", "no_answer", "sum_ns", "hist_index", "hist_count"];
const RESOLUTIONS: &[&str] = &["retention.red_10s", "retention.red_1m", "retention.red_1h"];

/// Everything the colony stores.
pub const STORED: [Kept; 10] = [
    Kept {
        signal: "resources",
        settings: &[],
        until: "as long as anything it explains",
        fields: &[
            field(&["id"], &[Coral], "hash of the rest"),
            SERVICE,
            field(
                &["namespace", "instance", "version", "host", "zone"],
                &[Told, Ebpf],
                "of the service, as it says; of what eBPF sees the host alone",
            ),
            field(
                &["attributes"],
                &[Told, Ebpf],
                "all attributes of the resource as sent; of what eBPF sees the executable's name and the container's id",
            ),
            field(&["first_ns"], &[Coral], "when it was first mentioned"),
        ],
    },
    Kept {
        signal: "spans",
        settings: &["retention.spans"],
        until: "",
        fields: &[
            STAMP,
            RESOURCE,
            SERVICE,
            field(&["start_ns", "duration_ns"], &[Told, Ebpf], "when, and for how long"),
            field(
                &["trace_hi", "trace_lo", "span_id", "parent_id"],
                &[Told, Ebpf],
                "ids of trace, span and parent; of what eBPF sees from `traceparent`, else hashes of addresses, ports and the minute",
            ),
            field(
                &[
                    "operation",
                    "name",
                    "kind",
                    "status",
                    "code",
                    "error",
                    "http_route",
                    "db_system",
                    "rpc_method",
                    "peer_service",
                ],
                &[Told, Ebpf],
                "as sent; of what eBPF sees, only with --spans on: what `red` and `edges` keep, of single requests, \
                 and the operation also where those fold it into `__other__`",
            ),
            field(
                &["message", "attributes", "events", "links"],
                &[Told, Ebpf],
                "as sent, whole: what an application writes into its spans is stored; of what eBPF sees the same once more, by \
                 OpenTelemetry's names",
            ),
        ],
    },
    Kept {
        signal: "logs",
        settings: &["retention.logs"],
        until: "",
        fields: &[
            STAMP,
            RESOURCE,
            SERVICE,
            field(&["time_ns", "severity"], &[Told, Ebpf], "when, how bad"),
            field(&["trace_hi", "trace_lo", "span_id"], &[Told], "ids of trace and span"),
            field(
                &["body", "attributes"],
                &[Told, Ebpf],
                "as sent, or as the line in the file or journal that `agent.toml` names, whole; of a service's process that \
                 ended badly the last 200 lines of its standard output and standard error (not with --output never)",
            ),
        ],
    },
    Kept {
        signal: "metrics",
        settings: &["retention.metrics"],
        until: "",
        fields: &[
            STAMP,
            RESOURCE,
            SERVICE_TOLD,
            field(&["time_ns", "start_ns"], &[Told], "when, since when"),
            field(
                &["metric", "kind", "unit", "description", "temporality"],
                &[Told],
                "what is measured",
            ),
            field(
                &["attributes"],
                &[Told],
                "labels as sent, or as scraped where `agent.toml` says",
            ),
            field(&["value", "count", "sum", "bounds", "counts", "extra"], &[Told], "the point"),
        ],
    },
    Kept {
        signal: "red",
        settings: RESOLUTIONS,
        until: "",
        fields: &[
            STAMP,
            RESOURCE,
            SERVICE,
            field(&["bucket_ns"], &[Coral], "ten seconds, a minute or an hour"),
            field(&["operation"], &[Told, Ebpf], OPERATION),
            field(&["kind", "code", "protocol"], &[Told, Ebpf], "which end, status, protocol"),
            field(COUNTS, &[Told, Ebpf], "how many, and how long they took"),
            field(
                &["slow_hi", "slow_lo", "slow_ns", "error_hi", "error_lo"],
                &[Told, Ebpf],
                "trace ids of the slowest and the last failed; of what eBPF sees from `traceparent`",
            ),
            field(&["sampled", "evidence"], &[Coral], "whether some are missing, who saw them"),
        ],
    },
    Kept {
        signal: "edges",
        settings: RESOLUTIONS,
        until: "",
        fields: &[
            STAMP,
            field(&["bucket_ns"], &[Coral], "ten seconds, a minute or an hour"),
            field(
                &["from_name", "from_kind", "to_name", "to_kind", "protocol"],
                &[Told, Ebpf],
                "who calls whom: services, databases, names or addresses of others",
            ),
            field(&["ends"], &[Coral], "how many ends were seen"),
            field(COUNTS, &[Told, Ebpf], "how many, and how long they took"),
            field(
                &["callee_sum_ns", "callee_hist_index", "callee_hist_count"],
                &[Told, Ebpf],
                "how long they took where they were answered",
            ),
            field(&["sampled", "evidence"], &[Coral], "whether some are missing, who saw them"),
            field(
                &[
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
                &[Ebpf],
                "connections that who calls opened: how many, how they ended, bytes, round-trip times, how long open and in use",
            ),
        ],
    },
    Kept {
        signal: "half_edges",
        settings: &[],
        until: "until their hour is over and joined",
        fields: &[
            STAMP,
            RESOURCE,
            SERVICE,
            field(&["n", "key", "fate"], &[Coral], "what is needed to join the ends of a call"),
            field(&["kind", "protocol"], &[Told, Ebpf], "which end, protocol"),
            field(
                &["peer", "peer_kind"],
                &[Told, Ebpf],
                "name or address and port of the other end; of what eBPF sees the name it was asked for by, without ids",
            ),
            field(
                &["end_ns", "duration_ns", "error", "no_answer"],
                &[Told, Ebpf],
                "when, how long, how it ended",
            ),
            field(&["sampled", "evidence"], &[Coral], "whether some are missing, who saw it"),
        ],
    },
    Kept {
        signal: "events",
        settings: &["retention.events"],
        until: "",
        fields: &[
            STAMP,
            field(
                &["time_ns", "kind", "service", "host", "source"],
                &[Coral, Proc],
                "what, when, where",
            ),
            field(
                &["text", "attributes"],
                &[Told, Ebpf, Proc, Coral],
                "what happened: of a process its name, exit code or signal, and name, pid and user of who sent it; \
                 of a service's process that ended badly one line of its output (not with --output never) and the names of requests that it \
                 left unanswered, method and route without ids; of a restart the build ids, and names of variables and files that are different; of a new log pattern an example; notes that people leave",
            ),
        ],
    },
    Kept {
        signal: "inflight",
        settings: &["retention.inflight"],
        until: "",
        fields: &[
            STAMP,
            RESOURCE,
            SERVICE,
            field(&["at_ns", "agent"], &[Coral], "when, which agent"),
            field(&["operation"], &[Told, Ebpf], OPERATION),
            field(
                &["count", "oldest_start_ns", "oldest_hi", "oldest_lo", "exact"],
                &[Told, Ebpf],
                "how many have no answer yet, since when the oldest, its trace id",
            ),
        ],
    },
    Kept {
        signal: "hosts",
        settings: &["retention.hosts"],
        until: "",
        fields: &[
            STAMP,
            field(&["at_ns", "host", "agent"], &[Proc], "when, which host and agent"),
            field(
                &["row"],
                &[Ebpf, Proc],
                "load, memory, disks, network; CPU, memory, threads and descriptors of each service's process \
                 with its pid; of processes that live for less than 2 s the command name and their parent's, how many there \
                 were, how long they lived, and how the last that failed ended, as of events",
            ),
        ],
    },
];

/// What passes through an agent's memory or disk and is not sent as it is.
pub const PASSING: [(&str, &str); 9] = [
    (
        "bytes of requests",
        "as the kernel sees them pass: read in the agent's memory, at most as much as is needed to find the next message, \
         and gone with it. Never written, never sent. Bodies, long values and rows are not even copied",
    ),
    (
        "addresses of names",
        "what DNS answered to programs of the host, in the agent's memory for at most a day, to call peers by",
    ),
    (
        "bytes of requests within TLS",
        "what programs that are watched give to OpenSSL and get from it, in clear text: read likewise, and gone likewise. No key is \
         read. coral-agent --tls never leaves it alone",
    ),
    (
        "output of programs",
        "the last 200 lines of each, where they go to a pipe or a terminal, in the agent's memory: stored only of a service's process \
         that ends badly. coral-agent --output files captures none",
    ),
    (
        "environment of a process",
        "OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are looked for, for its service's name. Of a service's process the names of \
         variables are remembered, and of each value a number that cannot be turned back: so that a restart tells which are different. \
         Names that are different are stored with the event; values never",
    ),
    (
        "command line of a process",
        "its first word is compared with the process's name. Of a service's process a number is made of it, and of each file that it \
         names, in the agent's memory; paths of files that are different after a restart are stored with the event",
    ),
    (
        "cgroup of a process",
        "systemd unit and container id are taken from it; of the container's labels its service, and the names of pod, container and namespace",
    ),
    (
        "spool",
        "what applications sent, compressed, on the agent's disk until the colony has stored it: at most `spool` bytes; then it is deleted",
    ),
    (
        "position in files that are tailed",
        "path, inode, offset and a hash of the beginning, on the agent's disk",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_one() {
        for kept in STORED {
            assert_eq!(kept.settings.is_empty(), !kept.until.is_empty(), "{}", kept.signal);
            for key in kept.settings {
                assert!(crate::config::settings().any(|spec| spec.key == *key), "{key}");
            }
        }
    }
}
