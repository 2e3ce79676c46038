//! Writes the first corpora: `cargo run --release -p coral-fuzz --example seeds`. Found inputs are
//! added beside them by hand.

use std::fs;
use std::io;
use std::path::Path;

use coral_proto::record::{self, Kind};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

const TRACES: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"checkout"}},{"key":"process.pid","value":{"intValue":"7"}}]},"scopeSpans":[{"scope":{"name":"x","version":"1"},"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","parentSpanId":"eee19b7ec3c1b173","traceState":"ot=th:8","name":"GET /pay","kind":2,"startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"1544712661000000000","attributes":[{"key":"http.route","value":{"stringValue":"/pay"}},{"key":"http.response.status_code","value":{"intValue":"500"}},{"key":"deep","value":{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"doubleValue":1.5},{"boolValue":true},{"bytesValue":"AAEC"}]}}}]}}}],"events":[{"timeUnixNano":"1544712660500000000","name":"exception","attributes":[{"key":"exception.type","value":{"stringValue":"Boom"}}]}],"links":[{"traceId":"5b8efff798038103d269b633813fc60d","spanId":"eee19b7ec3c1b175"}],"status":{"code":2,"message":"no"}}]}]}]}"#;
const LOGS: &str = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}}]},"scopeLogs":[{"logRecords":[{"timeUnixNano":"1544712660300000000","observedTimeUnixNano":"1544712660300000000","severityNumber":17,"severityText":"Error","body":{"stringValue":"pool exhausted"},"attributes":[{"key":"n","value":{"intValue":"3"}}],"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174"}]}]}]}"#;
const METRICS: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}}]},"scopeMetrics":[{"metrics":[{"name":"queue","unit":"1","gauge":{"dataPoints":[{"asInt":"5","timeUnixNano":"1544712660300000000"}]}},{"name":"sum","sum":{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"asDouble":5.5,"startTimeUnixNano":"1","timeUnixNano":"2"}]}},{"name":"h","histogram":{"aggregationTemporality":1,"dataPoints":[{"count":"3","sum":6,"bucketCounts":["1","2"],"explicitBounds":[1.5],"timeUnixNano":"2"}]}},{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"count":"3","sum":6,"scale":-1,"zeroCount":"1","positive":{"offset":-2,"bucketCounts":["1","1"]},"timeUnixNano":"2"}]}},{"name":"s","summary":{"dataPoints":[{"count":"3","sum":6,"quantileValues":[{"quantile":0.5,"value":2}],"timeUnixNano":"2"}]}}]}]}]}"#;

fn write(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(name), bytes)
}

/// A request whose one attribute is nested `depth` deep: arrays in arrays.
fn nested(depth: usize) -> Vec<u8> {
    // ArrayValue.values = 1 inside AnyValue.array_value = 5, around an empty AnyValue.
    let mut value = Vec::new();
    for _ in 0..depth {
        value = field(5, &field(1, &value));
    }
    let attribute = [field(1, b"k"), field(2, &value)].concat();
    let span = [field(1, &[1; 16]), field(2, &[2; 8]), field(9, &attribute)].concat();
    field(1, &field(2, &field(2, &span)))
}

fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(body.len() as u64, &mut out);
    out.extend_from_slice(body);
    out
}

/// A call of a recorded connection; see `coral_fuzz::http1`.
fn call(code: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&[code][..], &length.to_le_bytes(), bytes].concat()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let traces = coral_agent::receive::json::to_protobuf(
        coral_agent::receive::Signal::Traces,
        TRACES.as_bytes(),
    )?;
    let logs = coral_agent::receive::json::to_protobuf(
        coral_agent::receive::Signal::Logs,
        LOGS.as_bytes(),
    )?;
    let metrics = coral_agent::receive::json::to_protobuf(
        coral_agent::receive::Signal::Metrics,
        METRICS.as_bytes(),
    )?;
    write(
        "otlp_traces",
        "span",
        &ExportTraceServiceRequest::decode(traces.as_slice())?.encode_to_vec(),
    )?;
    write(
        "otlp_logs",
        "record",
        &ExportLogsServiceRequest::decode(logs.as_slice())?.encode_to_vec(),
    )?;
    write(
        "otlp_metrics",
        "every-type",
        &ExportMetricsServiceRequest::decode(metrics.as_slice())?.encode_to_vec(),
    )?;
    for (name, depth) in [("nested-8", 8), ("nested-200", 200), ("nested-5000", 5000)] {
        write("otlp_traces", name, &nested(depth))?;
    }
    write(
        "otlp_traces",
        "long-varint",
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    )?;
    write("otlp_traces", "group", &[0x0b, 0x0c])?;
    for (name, text) in [("traces", TRACES), ("logs", LOGS), ("metrics", METRICS)] {
        write("otlp_json", name, text.as_bytes())?;
    }
    write("otlp_json", "deep", "[".repeat(4000).as_bytes())?;
    write("otlp_json", "odd", br#"{"resourceSpans":null,"unknown":{"a":[1,2,{"b":"\ud800"}]}}"#)?;
    let mut segment = Vec::new();
    record::append(&mut segment, Kind::Traces, 1, 5, &traces)?;
    record::append(&mut segment, Kind::Host, 2, 6, b"x")?;
    record::append(&mut segment, Kind::Event, 3, 7, &[7; 2000])?;
    write("spool_record", "three", &segment)?;
    for (n, text) in FILTERS.iter().enumerate() {
        write("filter", &format!("{n:02}"), text.as_bytes())?;
    }
    for (n, text) in PLACES.iter().enumerate() {
        write("place", &format!("{n:02}"), text.as_bytes())?;
    }
    for (n, text) in TIMES.iter().enumerate() {
        write("when", &format!("{n:02}"), text.as_bytes())?;
    }
    let connections =
        HTTP1.iter().map(|of| ("http1", of)).chain(RESP.iter().map(|of| ("resp", of)));
    for (target, (name, record)) in connections {
        let parts = record.iter().map(|(code, text)| call(*code, text.as_bytes()));
        write(target, name, &parts.collect::<Vec<_>>().concat())?;
    }
    for (name, record) in POSTGRES {
        let parts = record.iter().map(|(code, said)| {
            let bytes = said.iter().flat_map(|(kind, body)| message(*kind, body));
            let bytes: Vec<u8> = bytes.collect();
            let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
            [&[*code][..], &length.to_le_bytes(), &bytes].concat()
        });
        write("postgres", name, &parts.collect::<Vec<_>>().concat())?;
    }
    for (name, record) in DNS {
        let calls = record.iter().map(|(code, framed, message)| match framed {
            true => call(*code, &framed_by_length(message)),
            false => call(*code, message),
        });
        write("dns", name, &calls.collect::<Vec<_>>().concat())?;
    }
    for (name, record) in HTTP2 {
        let parts = record.iter().map(|(code, bytes)| call(*code, bytes));
        write("http2", name, &parts.collect::<Vec<_>>().concat())?;
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../agent/src/observe/fixtures");
    for (name, path) in KERNEL {
        write("kernel_text", name, &fs::read(fixtures.join(path))?)?;
    }
    Ok(())
}

const FILTERS: &[&str] = &[
    "service=checkout status=500.. duration=250ms..2s level=warn..",
    "not:route=/healthz name=a,b re:body=pool.* has:user.id",
    "(service=a or service=b) \"a quoted word\" error",
    "not (a or not:b=c) d='e f'",
    "status>=500 duration<2s service!=x",
    "re:body=[",
    "((((",
    "a=..",
    "=",
    "\"",
    "ü=ß or 日本",
];
const PLACES: &[&str] = &[
    "coral:1/local/traces/2026-11-22T14:02:31Z..2026-11-22T14:17:31Z/service=checkout/filter=error%3Dtrue",
    "coral:1/-/red/2026-11-22T14:02:31Z..2026-11-22T14:17:31Z/at=2026-11-22T14:03:00Z\
     /compare=2026-11-22T13:02:31Z..2026-11-22T13:17:31Z",
    "coral:2/local/red/x..y",
    "coral:1/../services/x",
    "coral:1/-/x/2026-11-22T14:02:31Z..2026-11-22T14:02:31Z",
];
const TIMES: &[&str] = &[
    "15m",
    "1h30m",
    "2026-11-22T13:00:00Z",
    "2026-11-22 13:00",
    "13:05",
    "now",
    "-5m",
    "yesterday 13:00",
    "99999999999999999999d",
    "1.5h",
    "250ms",
];
const KERNEL: &[(&str, &str)] = &[
    ("stat", "older/proc/stat"),
    ("meminfo", "linux-6.18/proc/meminfo"),
    ("diskstats", "older/proc/diskstats"),
    ("dev", "older/proc/net/dev"),
    ("snmp", "older/proc/net/snmp"),
    ("tcp", "linux-6.18/proc/net/tcp"),
    ("pressure", "linux-6.18/proc/pressure/memory"),
    ("limits", "older/proc/26231/limits"),
    ("pid-stat", "older/proc/26231/stat"),
    ("mountinfo", "linux-6.18/proc/self/mountinfo"),
    ("cgroup", "linux-6.18/proc/self/cgroup"),
];

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKS: &str =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n";
/// See `coral_fuzz::http1`.
const HTTP1: &[(&str, &[(u8, &str)])] = &[
    (
        "keep-alive",
        &[
            (
                0,
                "GET /a?b=c HTTP/1.1\r\nHost: x\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n",
            ),
            (1, OK),
            (0, "POST /users/42 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"),
            (1, CHUNKS),
            (4, ""),
            (5, ""),
        ],
    ),
    (
        "pipelined",
        &[
            (1, "GET /a HTTP/1.1\r\n\r\nHEAD /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n"),
            (0, "HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
            (0, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
        ],
    ),
    (
        "bulk-and-loss",
        &[
            (0, "GET /big HTTP/1.1\r\n\r\n"),
            (9, "HTTP/1.1 200 OK\r\nContent-Length: 1500\r\n\r\n"),
            (1, "x"),
            (2, ""),
            (0, "GET /a HTTP/1.1\r\n\r\n"),
            (3, "gone"),
            (25, CHUNKS),
            (6, ""),
            (0, "GET /up HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
            (1, "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            (0, "GET /no HTTP/1.1\r\n\r\n"),
        ],
    ),
    (
        "split",
        &[
            (0, "GE"),
            (0, "T / HT"),
            (0, "TP/1.0\n"),
            (0, "\n"),
            (1, "HTTP/1.0 200 OK\n\nbody"),
            (5, ""),
        ],
    ),
];

/// See `coral_fuzz::resp`.
const RESP: &[(&str, &[(u8, &str)])] = &[
    (
        "pipelined",
        &[
            (0, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
            (1, "+OK\r\n$1\r\nv\r\n"),
            (0, "*2\r\n$6\r\nconfig\r\n$3\r\nget\r\nPING\r\n"),
            (1, "-ERR wrong number of arguments\r\n+PONG\r\n"),
            (4, ""),
            (5, ""),
        ],
    ),
    (
        "split-and-long",
        &[
            (1, "*3\r\n$3\r\nS"),
            (1, "ET\r\n$1\r\nk\r\n$2"),
            (9, "000\r\n"),
            (9, "\r\n"),
            (0, "+O"),
            (0, "K\r\n"),
            (2, ""),
            (5, ""),
        ],
    ),
    (
        "resp3",
        &[
            (0, "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"),
            (1, "%2\r\n+a\r\n*2\r\n:1\r\n_\r\n+b\r\n~1\r\n#t\r\n"),
            (0, "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n"),
            (1, ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"),
            (1, "|1\r\n+ttl\r\n:3\r\n!9\r\nSYNTAX no\r\n"),
            (0, "*1\r\n$7\r\nMONITOR\r\n"),
            (1, "+OK\r\n+x\r\n"),
        ],
    ),
    (
        "loss",
        &[
            (0, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
            (3, "$1\r\nv\r\n"),
            (0, "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
            (1, "$1\r\nv\r\n"),
            (0, "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$3\r\nOFF\r\n"),
            (8, "PING\r\n"),
        ],
    ),
    ("nats", &[(1, "PING\r\n"), (0, "PONG\r\n"), (1, "GET / HTTP/1.1\r\n\r\n")]),
];

/// A message of PostgreSQL's: a kind and a length in front; of `0` the length alone, of `1` neither.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes();
    match kind {
        0 => [&length[..], body].concat(),
        1 => body.to_vec(),
        kind => [&[kind][..], &length, body].concat(),
    }
}

/// What is said in a call, as [`message`] has it.
type Said = &'static [(u8, &'static [u8])];
const READY: (u8, &[u8]) = (b'Z', b"I");
const BIND: (u8, &[u8]) = (b'B', b"\0s1\0\0\0\0\0\0\0");
const EXECUTE: (u8, &[u8]) = (b'E', b"\0\0\0\0\0");
/// See `coral_fuzz::postgres`.
const POSTGRES: &[(&str, &[(u8, Said)])] = &[
    (
        "simple",
        &[
            (0, &[(0, b"\x04\xd2\x16\x2f")]),
            (1, &[(1, b"N")]),
            (0, &[(0, b"\0\x03\0\0user\0me\0\0")]),
            (1, &[(b'R', b"\0\0\0\0"), (b'S', b"a\0b\0"), (b'K', b"12345678"), READY]),
            (0, &[(b'Q', b"BEGIN; UPDATE t SET a = 'secret' WHERE b = $1; COMMIT\0")]),
            (1, &[(b'C', b"BEGIN\0"), (b'C', b"UPDATE 1\0"), (b'C', b"COMMIT\0"), READY]),
            (0, &[(b'Q', b"SELECT 1/0 FROM (SELECT a FROM \"X\".y) z\0")]),
            (1, &[(b'N', b"SNOTICE\0\0"), (b'E', b"SERROR\0C22012\0Msecret\0\0"), READY]),
            (0, &[(b'X', b"")]),
            (4, &[]),
            (5, &[]),
        ],
    ),
    (
        "extended",
        &[
            (1, &[(b'P', b"s1\0INSERT INTO t VALUES ($1)\0\0\0"), (b'D', b"Ss1\0"), (b'S', b"")]),
            (0, &[(b'1', b""), (b't', b"\0\0"), (b'n', b""), READY]),
            (
                1,
                &[
                    BIND,
                    EXECUTE,
                    BIND,
                    EXECUTE,
                    BIND,
                    EXECUTE,
                    (b'S', b""),
                    BIND,
                    EXECUTE,
                    (b'S', b""),
                ],
            ),
            (0, &[(b'2', b""), (b'C', b"INSERT 0 1\0"), (b'2', b"")]),
            (0, &[(b'E', b"SERROR\0C23505\0\0"), READY, (b'2', b""), (b's', b""), READY]),
            (1, &[(b'C', b"Ss1\0"), BIND, EXECUTE, (b'H', b"")]),
            (0, &[(b'3', b""), (b'2', b""), (b'C', b"DELETE 3\0")]),
        ],
    ),
    (
        "copy-and-rows",
        &[
            (0, &[(b'Q', b"COPY t (a) FROM STDIN\0")]),
            (1, &[(b'G', b"\0\0\0")]),
            (0, &[(b'd', b"1\n"), (b'd', b"2\n")]),
            (0, &[(b'S', b""), (b'c', b"")]),
            (1, &[(b'C', b"COPY 2\0"), READY]),
            (0, &[(b'Q', b"WITH x AS (SELECT 1) SELECT * FROM x -- y\0")]),
            (9, &[(b'T', b"\0\0"), (1, b"D\0\0\x07\xd4")]),
            (9, &[]),
            (1, &[(b'C', b"SELECT 1\0"), READY]),
        ],
    ),
    (
        "loss",
        &[
            (0, &[(b'Q', b"TABLE a\0")]),
            (3, &[(b'T', b"\0\0")]),
            (1, &[(b'C', b"SELECT 0\0"), READY]),
            (0, &[(b'Q', b"VALUES (1)\0")]),
            (1, &[(b'T', b"\0\0"), (b'C', b"SELECT 1\0"), READY]),
            (8, &[(b'Q', b"SELECT $$ ")]),
        ],
    ),
    (
        "turned-away",
        &[
            (1, &[(0, b"\0\x03\0\0user\0me\0\0")]),
            (0, &[(b'E', b"SFATAL\0C28P01\0\0")]),
            (5, &[]),
            (1, &[(0, b"\x04\xd2\x16\x2f")]),
            (0, &[(1, b"S\x16\x03\x01")]),
        ],
    ),
    (
        "something-else",
        &[(0, &[(b'Q', b"x\0")]), (1, &[(b'Q', b"x\0")]), (1, &[(1, b"GET / HTTP/1.1\r\n\r\n")])],
    ),
];

/// What [`call`] takes.
type Bytes = (u8, &'static [u8]);

/// See `coral_fuzz::http2`.
const HTTP2: &[(&str, &[Bytes])] = &[
    (
        "multiplexed",
        &[
            // The preface, SETTINGS; GET / with two fields for the table, and once more from there.
            (0, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64"),
            (0, b"\0\0\x14\x01\x05\0\0\0\x01\x82\x86\x44\x02/a\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab"),
            (0, b"\x90\xf4\xff\0\0\x04\x01\x05\0\0\0\x03\x82\x86\xbf\xbe"),
            (1, b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0\0\0\x01\x01\x04\0\0\0\x03\x88"),
            (1, b"\0\0\x02\0\x01\0\0\0\x03ok\0\0\x01\x01\x05\0\0\0\x01\x8d"),
            (4, b""),
            (5, b""),
        ],
    ),
    (
        "grpc",
        &[
            (1, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            // :method POST, :path /a.B/C, content-type application/grpc; DATA.
            (1, b"\0\0\x19\x01\x04\0\0\0\x01\x83\x44\x04/B/C\x5f\x10application/grpc"),
            (1, b"\0\0\x05\0\x01\0\0\0\x01\0\0\0\0\0"),
            (0, b"\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x10\x01\x05\0\0\0\x01\x40\x0bgrpc-status\x0213"),
            (1, b"\0\0\x03\x01\x04\0\0\0\x03\x83\xbf\xbe\0\0\x04\x03\0\0\0\0\x03\0\0\0\x08"),
            (0, b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x03\0\0\0\0"),
        ],
    ),
    (
        "pieces-and-loss",
        &[
            (0, b"PRI * HT"),
            (0, b"TP/2.0\r\n\r\nSM\r\n\r\n\0\0"),
            // A block in two frames, with padding and priority.
            (0, b"\x0b\x01\x29\0\0\0\x01\x02\0\0\0\0\x10\x82\x86\x84\0\0\0\0\x02\x09\x04\0\0\0\x01"),
            (0, b"\x84\x84"),
            // A body of which only the head is known, and what is lost.
            (1, b"\0\0\x01\x01\x04\0\0\0\x01\x88"),
            (17, b"\0\x07\xd0\0\x01\0\0\0\x01"),
            (2, b"xxxxxxxxx"),
            (0, b"\0\0\x03\x01\x05\0\0\0\x05\x82\x86\xbe"),
            (0, b"\0\0\x03\x01\x05\0\0\0\x07\x82\x86\x84"),
            (1, b"\0\0\x01\x01\x05\0\0\0\x07\x89"),
            (25, b"\0\0\x01\x01"),
        ],
    ),
    (
        "older",
        &[
            (1, b"\0\0\x03\x01\x05\0\0\x01\x01\x82\x86\x84"),
            (0, b"\0\0\x02\x01\x04\0\0\x01\x01\x88\xbe\0\0\0\0\x01\0\0\x01\x01"),
            (1, b"\0\0\x03\x01\x05\0\0\x01\x03\x82\x86\xc0"),
            (0, b"\0\0\x07\x05\x04\0\0\x01\x03\0\0\0\x02\x82\x84\xbe\0\0\x01\x01\x05\0\0\x01\x03\x88"),
            (1, b"GET / HTTP/1.1\r\n\r\n"),
        ],
    ),
];

/// A message of DNS, behind its length.
fn framed_by_length(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], message].concat()
}

/// What [`call`] takes, over TCP where it says so.
type Sent = (u8, bool, &'static [u8]);
const ASK: &[u8] = b"\0\x07\x01\x20\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";
const ASK_MORE: &[u8] =
    b"\0\x08\x01\x20\0\x01\0\0\0\0\0\x01\x0aorder-2041\x02ab\x04test\0\0\x1c\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0";
/// Two aliases, one of them by a pointer, and an address.
const FOUND: &[u8] = b"\0\x07\x81\x80\0\x01\0\x02\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01\xc0\x0c\0\x05\0\x01\0\0\0\x1e\0\x07\x04edge\xc0\x10\xc0\x2d\0\x01\0\x01\0\0\x01\x2c\0\x04\x0a\0\0\x07";
const MISSING: &[u8] = b"\0\x08\x85\x83\0\x01\0\0\0\0\0\x01\x0aorder-2041\x02ab\x04test\0\0\x1c\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0";
/// See `coral_fuzz::dns`.
const DNS: &[(&str, &[Sent])] = &[
    (
        "datagrams",
        &[
            (0, false, ASK),
            (1, false, ASK),
            (1, false, FOUND),
            (0, false, FOUND),
            (2, false, ASK_MORE),
            (3, false, MISSING),
            (4, false, ASK),
            (5, false, b"\0\x07\x80\x01\0\0\0\0\0\0\0\0"),
        ],
    ),
    (
        "connection",
        &[
            (0, true, ASK),
            (0, true, ASK_MORE),
            (1, true, MISSING),
            (1, true, FOUND),
            (1, false, b"\0"),
            (1, false, b"\x21"),
            (1, false, ASK),
            (0, true, FOUND),
            (2, false, ASK),
            (0, true, ASK),
            (6, false, b""),
            (5, false, b""),
        ],
    ),
    (
        "circles",
        &[
            (0, false, b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\xc0\x0c\0\x01\0\x01"),
            (1, false, b"\0\x07\x81\0\0\x01\0\x01\0\0\0\0\x01a\0\0\x01\0\x01\xc0\x13\0\x01\0\x01\0\0\0\0\0\x04\x01\x02"),
            (8, true, ASK),
            (1, true, b"short"),
        ],
    ),
];
