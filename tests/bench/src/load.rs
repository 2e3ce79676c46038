//! The load: spans with eight attributes in batches of 500 over gRPC, from pre-encoded requests.
//!
//! Encoding happens once; each request only gets fresh ids and times patched in at known offsets, so
//! that the sender costs little and every span is still its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use coral_model::dice::{STEP, mixed};
use coral_tests::otlp::{int, now_ns, text};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};

/// Spans a request carries.
pub const BATCH: u64 = 500;
const ROUTES: [&str; 10] = [
    "/",
    "/cart",
    "/cart/{id}",
    "/checkout",
    "/products",
    "/products/{id}",
    "/login",
    "/search",
    "/orders",
    "/health",
];

/// Sends raw bytes as they are.
#[derive(Default, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        *self
    }
    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;
    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// A request with the places of its ids and times.
struct Template {
    bytes: Vec<u8>,
    traces: Vec<usize>,
    spans: Vec<usize>,
    parents: Vec<usize>,
    starts: Vec<usize>,
    ends: Vec<usize>,
}

impl Template {
    /// Spans of one service. Pairs CLIENT → SERVER share a trace, so that edges join.
    fn new(service: &str) -> Self {
        // Markers that occur nowhere else, found again in the encoded bytes.
        let trace = |n: u64| {
            [0xa1a1_a1a1_0000_0000 | n, 0xb2b2_b2b2_0000_0000 | n].map(u64::to_be_bytes).concat()
        };
        let span = |n: u64| (0xc3c3_c3c3_0000_0000 | n).to_be_bytes().to_vec();
        let parent = |n: u64| (0xd4d4_d4d4_0000_0000 | n).to_be_bytes().to_vec();
        let spans = (0..BATCH)
            .map(|n| Span {
                trace_id: trace(n),
                span_id: span(n),
                parent_span_id: parent(n),
                name: format!("GET {}", ROUTES[(n / 2 % 10) as usize]),
                kind: if n % 2 == 0 { 3 } else { 2 },
                start_time_unix_nano: 0xe5e5_e5e5_0000_0000 | n,
                end_time_unix_nano: 0xf6f6_f6f6_0000_0000 | n,
                attributes: vec![
                    text("http.request.method", "GET"),
                    text("http.route", ROUTES[(n / 2 % 10) as usize]),
                    text("url.path", &format!("/products/{}", n * 7919)),
                    int("http.response.status_code", if n % 50 == 1 { 500 } else { 200 }),
                    text("server.address", "catalog.shop.internal"),
                    int("server.port", 8080),
                    text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101"),
                    text("network.protocol.version", "1.1"),
                ],
                ..Default::default()
            })
            .collect();
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource {
                    attributes: vec![
                        text("service.name", service),
                        text("service.version", "v41"),
                        text("service.instance.id", &format!("{service}-1")),
                        text("host.name", "bench"),
                    ],
                    ..Default::default()
                }),
                scope_spans: vec![ScopeSpans { spans, ..Default::default() }],
                ..Default::default()
            }],
        };
        let bytes = request.encode_to_vec();
        let find = |needle: [u8; 4], little: bool| -> Vec<usize> {
            bytes
                .windows(8)
                .enumerate()
                .filter(|(_, w)| if little { w[4..] == needle } else { w[..4] == needle })
                .map(|(at, _)| at)
                .collect()
        };
        let template = Self {
            traces: find([0xa1; 4], false),
            spans: find([0xc3; 4], false),
            parents: find([0xd4; 4], false),
            starts: find([0xe5; 4], true),
            ends: find([0xf6; 4], true),
            bytes,
        };
        for found in
            [&template.traces, &template.spans, &template.parents, &template.starts, &template.ends]
        {
            assert_eq!(found.len() as u64, BATCH);
        }
        template
    }

    /// The request number `serial`, with ids of its own and ending now.
    fn request(&self, serial: u64) -> Bytes {
        let mut bytes = self.bytes.clone();
        let now = now_ns();
        let mut put = |at: usize, value: [u8; 8]| bytes[at..at + 8].copy_from_slice(&value);
        for n in 0..BATCH {
            let i = n as usize;
            let id = mix(serial * BATCH + n);
            // Odd spans are the callee of the even one before: same trace, parent = its span.
            let pair = mix(serial * BATCH + n / 2 * 2);
            put(self.traces[i], mix(pair).to_be_bytes());
            put(self.traces[i] + 8, pair.to_be_bytes());
            put(self.spans[i], id.to_be_bytes());
            put(self.parents[i], if n % 2 == 1 { pair } else { 0 }.to_be_bytes());
            let duration = 1_000_000 + id % 50_000_000;
            put(self.starts[i], (now - duration).to_le_bytes());
            put(self.ends[i], now.to_le_bytes());
        }
        Bytes::from(bytes)
    }
}

/// Well-spread ids from a counter; never 0, which is no id.
fn mix(n: u64) -> u64 {
    mixed(n.wrapping_add(STEP)) | 1
}

/// What a load run came to.
pub struct Sent {
    /// Spans acknowledged.
    pub spans: u64,
    /// Requests refused with back-pressure and sent again.
    pub refused: u64,
}

/// Sends `total` spans over `connections` connections; `per_second` limits the rate.
pub async fn send(
    address: &str,
    total: u64,
    connections: usize,
    per_second: Option<u64>,
) -> anyhow::Result<Sent> {
    let serial = Arc::new(AtomicU64::new(now_ns() / 1000));
    let left = Arc::new(AtomicU64::new(total / BATCH));
    let refused = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let first = serial.load(Ordering::Relaxed);
    for c in 0..connections {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(4 << 20)
            .connect()
            .await?;
        let (serial, left, refused) =
            (Arc::clone(&serial), Arc::clone(&left), Arc::clone(&refused));
        tasks.spawn(async move {
            let template = Template::new(&format!("service-{c}"));
            let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(1 << 20);
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
            {
                let number = serial.fetch_add(1, Ordering::Relaxed);
                if let Some(rate) = per_second {
                    let due = Duration::from_secs_f64(
                        (number - first) as f64 * BATCH as f64 / rate as f64,
                    );
                    tokio::time::sleep_until((started + due).into()).await;
                }
                let body = template.request(number);
                while let Err(status) = export(&mut client, body.clone()).await {
                    anyhow::ensure!(
                        matches!(
                            status.code(),
                            tonic::Code::Unavailable | tonic::Code::ResourceExhausted
                        ),
                        "the server refused: {status}"
                    );
                    refused.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(Sent { spans: total / BATCH * BATCH, refused: refused.load(Ordering::Relaxed) })
}

async fn export(
    client: &mut tonic::client::Grpc<Channel>,
    body: Bytes,
) -> Result<(), tonic::Status> {
    client.ready().await.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    );
    client.unary(tonic::Request::new(body), path, Raw).await.map(|_| ())
}
