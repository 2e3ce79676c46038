// A small application with the official Node OpenTelemetry SDK that says exactly what it sent.
//
// It makes traces, log records and metrics whose numbers follow from the arguments alone, exports them, and prints
// one JSON line with what a receiver must now have. It exits 1 when any export failed. See ../python/app.py: both
// send the same shapes.

import { randomUUID } from "node:crypto";
import { parseArgs } from "node:util";

import { SpanKind, SpanStatusCode, context, metrics, trace } from "@opentelemetry/api";
import { SeverityNumber, logs } from "@opentelemetry/api-logs";
import { hostDetector, resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor } from "@opentelemetry/sdk-logs";
import { AggregationType, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { NodeSDK } from "@opentelemetry/sdk-node";
import { BatchSpanProcessor } from "@opentelemetry/sdk-trace-node";

// Nothing may be dropped in the application: the queues are larger than anything asked for.
const QUEUE = 1_000_000;
const ROUTES = ["/items", "/items/{id}", "/cart"];
const SEVERITIES = [
  [SeverityNumber.INFO, "INFO"],
  [SeverityNumber.WARN, "WARN"],
  [SeverityNumber.ERROR, "ERROR"],
];

const { values: given } = parseArgs({
  options: {
    endpoint: { type: "string" },
    protocol: { type: "string", default: "grpc" },
    gzip: { type: "boolean", default: false },
    service: { type: "string", default: "node-app" },
    version: { type: "string", default: "1.2.3" },
    traces: { type: "string", default: "20" },
    logs: { type: "string", default: "30" },
    metrics: { type: "string", default: "50" },
  },
});
const args = { ...given };
for (const key of ["traces", "logs", "metrics"]) args[key] = Number.parseInt(given[key], 10);
const packages = { grpc: "grpc", "http/protobuf": "proto", "http/json": "http" };
if (!args.endpoint || !(args.protocol in packages)) {
  console.error("usage: app.mjs --endpoint URL [--protocol grpc|http/protobuf|http/json] [--gzip] [--traces N] …");
  process.exit(2);
}

async function exporter(signal, name) {
  const kind = packages[args.protocol];
  const module = await import(`@opentelemetry/exporter-${signal}-otlp-${kind}`);
  const path = { trace: "traces", logs: "logs", metrics: "metrics" }[signal];
  const base = args.endpoint.replace(/\/$/, "");
  const url = kind === "grpc" ? base : `${base}/v1/${path}`;
  return new module[name]({ url, timeoutMillis: 10_000, compression: args.gzip ? "gzip" : "none" });
}

// Counts what an exporter was given and what it said about it.
function tally(exporter) {
  const counted = { calls: 0, failed: 0, items: 0 };
  const inner = exporter.export.bind(exporter);
  exporter.export = (batch, done) => {
    counted.calls += 1;
    if (Array.isArray(batch)) counted.items += batch.length;
    inner(batch, (result) => {
      if (result.code !== 0) {
        counted.failed += 1;
        console.error(`export failed: ${result.error}`);
      }
      done(result);
    });
  };
  return counted;
}

const spans = await exporter("trace", "OTLPTraceExporter");
const records = await exporter("logs", "OTLPLogExporter");
const points = await exporter("metrics", "OTLPMetricExporter");
const tallies = { traces: tally(spans), logs: tally(records), metrics: tally(points) };

const instance = randomUUID();
const sdk = new NodeSDK({
  resource: resourceFromAttributes({
    "service.name": args.service,
    "service.namespace": "apps",
    "service.version": args.version,
    "service.instance.id": instance,
    "deployment.environment.name": "test",
    "process.pid": process.pid,
  }),
  resourceDetectors: [hostDetector],
  instrumentations: [],
  spanProcessors: [new BatchSpanProcessor(spans, { maxQueueSize: QUEUE, maxExportBatchSize: 512 })],
  logRecordProcessors: [
    new BatchLogRecordProcessor({ exporter: records, maxQueueSize: QUEUE, maxExportBatchSize: 512 }),
  ],
  // One collection, at shutdown: so the number of points is known.
  metricReaders: [
    new PeriodicExportingMetricReader({
      exporter: points,
      exportIntervalMillis: 3_600_000,
      exportTimeoutMillis: 10_000,
    }),
  ],
  views: [
    { instrumentName: "app.size", aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } },
  ],
});
sdk.start();

// A server span with two children each; every fifth one fails.
function sendTraces() {
  const tracer = trace.getTracer("coral.test.node", "1.0.0");
  const contexts = [];
  for (let i = 0; i < args.traces; i += 1) {
    const route = ROUTES[i % ROUTES.length];
    const failed = i % 5 === 0;
    const root = tracer.startSpan(`GET ${route}`, {
      kind: SpanKind.SERVER,
      root: true,
      attributes: {
        "http.request.method": "GET",
        "http.route": route,
        "http.response.status_code": failed ? 500 : 200,
        "server.address": "node.test",
        "app.index": i,
        "app.ratio": i / 4,
        "app.even": i % 2 === 0,
        "app.tags": ["a", "b", String(i)],
        "app.text": "süß 海 \u202e\x1b[31m",
      },
    });
    const at = trace.setSpan(context.active(), root);
    contexts.push(at);
    const inner = tracer.startSpan("compute", {}, at);
    inner.addEvent("step", { "step.number": 1 });
    inner.end();
    const query = tracer.startSpan(
      "SELECT items",
      {
        kind: SpanKind.CLIENT,
        attributes: {
          "db.system.name": "postgresql",
          "db.namespace": "shop",
          "db.operation.name": "SELECT",
          "db.query.text": "SELECT name FROM items WHERE id = $1",
          "server.address": "db.test",
          "server.port": 5432,
        },
        links: [{ context: root.spanContext(), attributes: { "link.kind": "self" } }],
      },
      at,
    );
    query.end();
    if (failed) {
      root.recordException(new TypeError(`item ${i} is broken`));
      root.setAttribute("error.type", "TypeError");
      root.setStatus({ code: SpanStatusCode.ERROR, message: `item ${i} is broken` });
    }
    root.end();
  }
  return contexts;
}

function sendLogs(contexts) {
  const logger = logs.getLogger("coral.test.node");
  const bySeverity = { INFO: 0, WARN: 0, ERROR: 0 };
  let correlated = 0;
  for (let i = 0; i < args.logs; i += 1) {
    const [severityNumber, severityText] = SEVERITIES[i % SEVERITIES.length];
    const at = contexts.length > 0 && i % 2 === 0 ? contexts[i % contexts.length] : undefined;
    if (at) correlated += 1;
    logger.emit({
      context: at,
      severityNumber,
      severityText,
      body: `item ${i} processed`,
      attributes: { "app.index": i, "app.map": { depth: { two: i } }, "app.list": [1, 2.5, "x"] },
    });
    bySeverity[severityText] += 1;
  }
  return { bySeverity, correlated };
}

function sendMetrics() {
  const meter = metrics.getMeter("coral.test.node");
  const counter = meter.createCounter("app.items", { unit: "{item}" });
  const queue = meter.createUpDownCounter("app.queue", { unit: "{item}" });
  const gauge = meter.createGauge("app.temperature", { unit: "Cel" });
  const latency = meter.createHistogram("app.latency", { unit: "ms" });
  const size = meter.createHistogram("app.size", { unit: "By" });
  meter
    .createObservableCounter("app.observed")
    .addCallback((result) => result.observe(args.metrics * 7));
  if (args.metrics === 0) return { "app.observed": { type: "sum", points: 1, value: 0 } };
  const byKind = {};
  let level = 0;
  const latencies = [];
  const sizes = [];
  for (let i = 1; i <= args.metrics; i += 1) {
    const kind = i % 2 ? "odd" : "even";
    counter.add(i, { kind });
    byKind[kind] = (byKind[kind] ?? 0) + i;
    const step = i % 3 === 0 ? -1 : 2;
    queue.add(step);
    level += step;
    gauge.record(20.5 + i);
    latencies.push((i * 37) % 500);
    latency.record(latencies.at(-1));
    sizes.push(2 ** (i % 20));
    size.record(sizes.at(-1));
  }
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  const histogram = (type, list) => ({
    type,
    points: 1,
    count: list.length,
    sum: sum(list),
    min: Math.min(...list),
    max: Math.max(...list),
  });
  return {
    "app.items": {
      type: "sum",
      monotonic: true,
      points: Object.keys(byKind).length,
      value: sum(Object.values(byKind)),
      by: byKind,
    },
    "app.queue": { type: "sum", monotonic: false, points: 1, value: level },
    "app.temperature": { type: "gauge", points: 1, value: 20.5 + args.metrics },
    "app.latency": histogram("histogram", latencies),
    "app.size": histogram("exponential_histogram", sizes),
    "app.observed": { type: "sum", monotonic: true, points: 1, value: args.metrics * 7 },
  };
}

const contexts = sendTraces();
const { bySeverity, correlated } = sendLogs(contexts);
const sent = sendMetrics();
let shutdown = true;
await sdk.shutdown().catch((error) => {
  shutdown = false;
  console.error(`shutdown: ${error}`);
});

const failed = Object.values(tallies).reduce((total, one) => total + one.failed, 0);
const lost =
  tallies.traces.items !== 3 * args.traces ||
  tallies.logs.items !== args.logs ||
  tallies.metrics.calls !== 1;
const requests = Object.fromEntries(
  ROUTES.map((route, r) => [
    `GET ${route}`,
    [...Array(args.traces).keys()].filter((i) => i % ROUTES.length === r).length,
  ]),
);
console.log(
  JSON.stringify({
    language: "node",
    protocol: args.protocol,
    gzip: args.gzip,
    service: args.service,
    version: args.version,
    instance,
    pid: process.pid,
    traces: args.traces,
    spans: 3 * args.traces,
    spans_by_kind: { server: args.traces, internal: args.traces, client: args.traces },
    error_spans: Math.ceil(args.traces / 5),
    operations: Object.keys(requests).filter((name) => requests[name] > 0).sort(),
    requests_by_operation: requests,
    trace_ids: contexts.slice(0, 5).map((at) => trace.getSpanContext(at).traceId),
    logs: args.logs,
    logs_by_severity: bySeverity,
    logs_with_trace: correlated,
    metrics: sent,
    metric_points: Object.values(sent).reduce((total, metric) => total + metric.points, 0),
    exports: Object.fromEntries(Object.entries(tallies).map(([name, one]) => [name, one.calls])),
    failed_exports: failed,
  }),
);
process.exitCode = failed || lost || !shutdown ? 1 : 0;
