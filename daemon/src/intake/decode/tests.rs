use std::sync::Arc;

use coral_model::view::{Evidence, SpanKind};
use coral_proto::record::append;
use coral_proto::v1;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1 as logs;
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as traces;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::counters::Counters;
use crate::store::{Options, Store, StoreError};

fn attribute(key: &str, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.into(), value, ..Default::default() }
}

fn text(text: &str) -> Value {
    Value::StringValue(text.into())
}

fn resource() -> Option<Resource> {
    let attributes = vec![
        attribute("service.name", text("cart")),
        attribute("service.version", text("v42")),
        attribute("process.pid", Value::IntValue(17)),
    ];
    Some(Resource { attributes, ..Default::default() })
}

fn span_request() -> Vec<u8> {
    let event = traces::span::Event {
        time_unix_nano: 1_000_000_000,
        name: "retry \"1\"\0".into(),
        attributes: vec![attribute("n", Value::IntValue(1))],
        ..Default::default()
    };
    let link =
        traces::span::Link { trace_id: vec![3; 16], span_id: vec![4; 8], ..Default::default() };
    let items =
        vec![AnyValue { value: Some(text("a")) }, AnyValue { value: Some(Value::BoolValue(true)) }];
    let span = traces::Span {
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        parent_span_id: vec![9; 8],
        name: "cart".into(),
        kind: 2,
        start_time_unix_nano: 5,
        end_time_unix_nano: 9,
        attributes: vec![
            attribute("http.request.method", text("GET")),
            attribute("http.route", text("/cart")),
            attribute("http.response.status_code", Value::IntValue(503)),
            attribute("twice", text("first")),
            attribute("twice", text("second")),
            attribute("list", Value::ArrayValue(ArrayValue { values: items })),
            attribute("nul\0", text("\u{202e}evil\0")),
        ],
        events: vec![event],
        links: vec![link],
        status: Some(traces::Status { code: 2, message: "boom".into() }),
        ..Default::default()
    };
    let invalid = traces::Span { trace_id: vec![0; 16], span_id: vec![1; 8], ..Default::default() };
    let scope = traces::ScopeSpans { spans: vec![span, invalid], ..Default::default() };
    let spans = traces::ResourceSpans {
        resource: resource(),
        scope_spans: vec![scope],
        ..Default::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![spans] }.encode_to_vec()
}

fn log_request() -> Vec<u8> {
    let body = |value| Some(AnyValue { value: Some(value) });
    let structured = logs::LogRecord {
        body: body(Value::ArrayValue(ArrayValue {
            values: vec![AnyValue { value: Some(text("x")) }],
        })),
        severity_text: "Warning".into(),
        ..Default::default()
    };
    let plain = logs::LogRecord {
        time_unix_nano: 5,
        severity_number: 17,
        body: body(text("pool exhausted")),
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        attributes: vec![attribute("k", text("v"))],
        event_name: "pool".into(),
        ..Default::default()
    };
    let scope = logs::ScopeLogs { log_records: vec![structured, plain], ..Default::default() };
    let logs =
        logs::ResourceLogs { resource: resource(), scope_logs: vec![scope], ..Default::default() };
    ExportLogsServiceRequest { resource_logs: vec![logs] }.encode_to_vec()
}

fn metric_request() -> Vec<u8> {
    use metrics::metric::Data;
    use metrics::number_data_point::Value as Number;
    let number = |value| metrics::NumberDataPoint {
        time_unix_nano: 9,
        value: Some(value),
        attributes: vec![attribute("k", text("v"))],
        ..Default::default()
    };
    let shapes = vec![
        Data::Gauge(metrics::Gauge { data_points: vec![number(Number::AsInt(-5))] }),
        Data::Sum(metrics::Sum {
            data_points: vec![number(Number::AsDouble(2.5))],
            aggregation_temporality: 2,
            is_monotonic: true,
        }),
        Data::Histogram(metrics::Histogram {
            data_points: vec![metrics::HistogramDataPoint {
                count: 3,
                sum: Some(6.0),
                bucket_counts: vec![1, 2],
                explicit_bounds: vec![2.0],
                min: Some(1.0),
                ..Default::default()
            }],
            aggregation_temporality: 1,
        }),
        Data::ExponentialHistogram(metrics::ExponentialHistogram {
            data_points: vec![metrics::ExponentialHistogramDataPoint {
                count: 4,
                scale: 3,
                zero_count: 1,
                positive: Some(metrics::exponential_histogram_data_point::Buckets {
                    offset: -2,
                    bucket_counts: vec![3],
                }),
                ..Default::default()
            }],
            aggregation_temporality: 1,
        }),
        Data::Summary(metrics::Summary {
            data_points: vec![metrics::SummaryDataPoint {
                count: 5,
                sum: 9.0,
                quantile_values: vec![metrics::summary_data_point::ValueAtQuantile {
                    quantile: 0.5,
                    value: 1.5,
                }],
                ..Default::default()
            }],
        }),
    ];
    let metrics = shapes.into_iter().enumerate().map(|(i, data)| metrics::Metric {
        name: format!("m{i}"),
        unit: "1".into(),
        data: Some(data),
        ..Default::default()
    });
    let scope = metrics::ScopeMetrics { metrics: metrics.collect(), ..Default::default() };
    let found = metrics::ResourceMetrics {
        resource: resource(),
        scope_metrics: vec![scope],
        ..Default::default()
    };
    ExportMetricsServiceRequest { resource_metrics: vec![found] }.encode_to_vec()
}

fn reduced() -> Vec<u8> {
    let strings = ["", "service.name", "cart", "GET /cart", "200", "http", "pay:80"];
    v1::Reduced {
        at_ns: 77,
        strings: strings.map(String::from).to_vec(),
        resources: vec![v1::Resource { id: 1, keys: vec![1], values: vec![2] }],
        red: vec![v1::RedDelta {
            bucket: 3,
            operation: 3,
            kind: 2,
            status: 4,
            protocol: 5,
            sum_ns: 9,
            hist_index: vec![10, 20],
            hist_count: vec![1, 2],
            ..Default::default()
        }],
        half_edges: Some(v1::HalfEdges {
            series: vec![v1::HalfSeries {
                kind: 3,
                protocol: 5,
                peer: 6,
                peer_kind: 3,
                ..Default::default()
            }],
            key: vec![0],
            series_index: vec![0],
            end_ns: vec![30_000_000_001],
            duration_ns: vec![4],
            flags: vec![3],
        }),
        inflight: vec![v1::Inflight { count: 2, oldest_start_ns: 5, ..Default::default() }],
        connections: vec![v1::ConnectionDelta {
            bucket: 3,
            protocol: 5,
            peer: 6,
            peer_kind: 3,
            opened: 7,
            busy_ns: 8,
            ..Default::default()
        }],
        ..Default::default()
    }
    .encode_to_vec()
}

fn frame(parts: &[(Kind, Vec<u8>)]) -> Bytes {
    let mut bytes = Vec::new();
    for (seq, (kind, body)) in (0u64..).zip(parts) {
        append(&mut bytes, *kind, seq, 42, body).unwrap();
    }
    bytes.into()
}

fn all() -> Vec<(Kind, Vec<u8>)> {
    let event = v1::AgentEvent {
        at_ns: 5,
        kind: "from_the_future".into(),
        text: "t".into(),
        ..Default::default()
    };
    vec![
        (Kind::Traces, span_request()),
        (Kind::Logs, log_request()),
        (Kind::Metrics, metric_request()),
        (Kind::Reduced, reduced()),
        (Kind::Event, event.encode_to_vec()),
    ]
}

fn decode(frame: &Bytes) -> Decoded {
    let origin = Origin { agent: AgentId([1; 16]), segment: SegmentId([2; 16]), after: None };
    Decoder::new(Arc::default()).frame(frame, 0, origin, Time(99))
}

#[tokio::test]
async fn every_kind_of_record_becomes_the_rows_it_says() {
    let decoded = decode(&frame(&all()));
    assert!(decoded.damaged.is_empty(), "{:?}", decoded.damaged);
    let opened = &decoded.batch.connections[0];
    let (series, tally) = (&opened.series, opened.tally);
    assert_eq!((opened.bucket, tally.opened, tally.busy_ns), (Time(30_000_000_000), 7, 8));
    assert_eq!((&*series.service, &*series.peer, &*series.protocol), ("cart", "pay:80", "http"));
    assert_eq!((series.kind, series.evidence), (SpanKind::Client, Evidence::Ebpf));
    assert_eq!((decoded.last, decoded.invalid, decoded.attributes_dropped), (Some(4), 1, 1));
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::new(Arc::new(Counters::default()))).unwrap();
    store.commit(decoded.batch).await.unwrap();
    let rows = |sql: &'static str| {
        let store = Arc::clone(&store);
        async move {
            let read = store.read(move |c| -> Result<Vec<String>, StoreError> {
                let mut statement = c.prepare(&format!(
                    "SELECT row_text::VARCHAR FROM (SELECT ({sql}) AS row_text)"
                ))?;
                Ok(statement.query_map([], |r| r.get(0))?.collect::<Result<_, _>>()?)
            });
            read.await.unwrap().concat()
        }
    };
    let got = rows(
        "SELECT concat_ws('|', operation, name, kind, status, code, error, http_route, service, message, duration_ns, \
         attributes['twice'], attributes['list'], length(attributes['nul' || chr(0)]), parent_id = span_id, links) FROM spans",
    )
    .await;
    assert_eq!(
        got,
        "GET /cart|cart|2|2|503|true|/cart|cart|boom|4|first|[\"a\",true]|6|false|\
         [{\"trace_id\":\"03030303030303030303030303030303\",\"span_id\":\"0404040404040404\"}]"
    );
    let got = rows("SELECT string_agg(concat_ws('|', time_ns, severity, body, attributes['k'], attributes['event.name']), ';' ORDER BY severity) FROM logs").await;
    assert_eq!(got, "42|13|[\"x\"];5|17|pool exhausted|v|pool");
    let got = rows(
        "SELECT string_agg(concat_ws('|', metric, kind, temporality, value, count, sum, bounds, counts, extra), ';' ORDER BY metric) FROM metrics",
    )
    .await;
    assert_eq!(
        got,
        "m0|gauge|-5.0|[]|[];m1|counter|cumulative|2.5|[]|[];m2|histogram|delta|3|6.0|[2.0]|[1, 2]|{\"min\":1.0};\
         m3|exponential_histogram|delta|4|[]|[]|{\"positive\":{\"counts\":[3],\"offset\":-2},\"scale\":3,\"zero_count\":1,\"zero_threshold\":0.0};\
         m4|summary|5|9.0|[]|[]|{\"quantiles\":{\"0.5\":1.5}}"
    );
    let got = rows("SELECT concat_ws('|', bucket_ns, service, operation, code, protocol, requests, sum_ns, hist_index, hist_count) FROM red").await;
    assert_eq!(got, "30000000000|cart|GET /cart|200|http|3|9|[10, 20]|[1, 2]");
    let got = rows("SELECT concat_ws('|', bucket_ns, from_name, to_name, to_kind, ends, requests, errors, no_answer) FROM edges WHERE requests > 0").await;
    assert_eq!(got, "30000000000|cart|pay:80|external|1|1|1|1");
    assert_eq!(
        rows("SELECT concat_ws('|', service, count, oldest_start_ns, exact) FROM inflight").await,
        "cart|2|5|false"
    );
    assert_eq!(
        rows("SELECT concat_ws('|', kind, attributes['kind'], text) FROM events").await,
        "note|from_the_future|t"
    );
    assert_eq!(
        rows("SELECT count(*) FROM resources").await,
        "2",
        "one from OTLP, one from the reducer"
    );
    store.close().await;
}

#[test]
fn spans_that_an_agent_made_itself_are_told_from_those_it_was_sent() {
    let sent = ExportTraceServiceRequest::decode(&span_request()[..]).unwrap();
    let mut made = sent.resource_spans[0].clone();
    let seen = attribute("coral.evidence", text("ebpf"));
    made.resource.as_mut().unwrap().attributes.push(seen);
    let resource_spans = vec![sent.resource_spans[0].clone(), made];
    let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    let decoded = decode(&frame(&[(Kind::Traces, body)]));
    // One of each is invalid.
    assert_eq!((decoded.batch.spans.rows(), decoded.batch.made, decoded.invalid), (2, 1, 2));
}

#[test]
fn what_was_committed_before_is_left_out() {
    let origin = Origin { agent: AgentId([1; 16]), segment: SegmentId([2; 16]), after: Some(1) };
    let mut decoder = Decoder::new(Arc::default());
    let decoded = decoder.frame(&frame(&all()), 0, origin, Time(99));
    assert_eq!(
        (decoded.duplicates, decoded.batch.spans.rows(), decoded.batch.metrics.rows()),
        (2, 0, 5)
    );
    let origin = Origin { after: Some(4), ..origin };
    let decoded = decoder.frame(&frame(&all()), 0, origin, Time(99));
    assert_eq!((decoded.last, decoded.batch.is_empty()), (None, true));
}

#[test]
fn indices_that_point_nowhere_cost_only_their_row() {
    let mut reduced = v1::Reduced::decode(&reduced()[..]).unwrap();
    let bad = v1::RedDelta { resource: 9, ..reduced.red[0].clone() };
    let worse = v1::RedDelta { hist_index: vec![65_000, 1], ..reduced.red[0].clone() };
    reduced.red.extend([bad, worse]);
    let astray = v1::ConnectionDelta { peer: 9, ..reduced.connections[0] };
    reduced.connections.push(astray);
    reduced.half_edges.as_mut().unwrap().series_index[0] = 7;
    let decoded = decode(&frame(&[(Kind::Reduced, reduced.encode_to_vec())]));
    assert_eq!((decoded.batch.red.len(), decoded.batch.connections.len()), (1, 1));
    assert_eq!(decoded.damaged.len(), 1);
    assert!(decoded.damaged[0].why.contains("and 3 more"), "{}", decoded.damaged[0].why);
}

proptest! {
    #[test]
    fn damaged_bodies_never_panic_and_always_move_on(which in 0usize..5, at: usize, byte: u8, cut: usize) {
        let (kind, mut body) = all().remove(which);
        let len = body.len();
        body[at % len] = byte;
        body.truncate(cut % (len + 1));
        let decoded = decode(&frame(&[(kind, body)]));
        prop_assert_eq!(decoded.last, Some(0));
    }

    #[test]
    fn any_bytes_as_a_frame_end(bytes in prop::collection::vec(any::<u8>(), 1..400)) {
        prop_assert!(decode(&bytes.into()).last.is_some());
    }
}
