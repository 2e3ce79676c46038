"""A small application with the official Python OpenTelemetry SDK that says exactly what it sent.

It makes traces, log records and metrics whose numbers follow from the arguments alone, exports them, and prints
one JSON line with what a receiver must now have. It exits 1 when any export failed.
"""

import argparse
import json
import os
import socket
import sys
import uuid

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.metrics import Observation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode

# Nothing may be dropped in the application: the queues are larger than anything asked for.
QUEUE = 1_000_000
SEVERITIES = [
    (SeverityNumber.INFO, "INFO"),
    (SeverityNumber.WARN, "WARN"),
    (SeverityNumber.ERROR, "ERROR"),
]
ROUTES = ["/items", "/items/{id}", "/cart"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True, help="http://127.0.0.1:4317 (grpc) or :4318 (http)")
    parser.add_argument("--protocol", choices=["grpc", "http/protobuf"], default="grpc")
    parser.add_argument("--gzip", action="store_true")
    parser.add_argument("--service", default="python-app")
    parser.add_argument("--version", default="1.2.3")
    parser.add_argument("--traces", type=int, default=20)
    parser.add_argument("--logs", type=int, default=30)
    parser.add_argument("--metrics", type=int, default=50, help="how often each instrument is used")
    return parser.parse_args()


def exporters(args):
    if args.protocol == "grpc":
        from grpc import Compression
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        common = {
            "endpoint": args.endpoint,
            "insecure": True,
            "timeout": 10,
            "compression": Compression.Gzip if args.gzip else Compression.NoCompression,
        }
        return OTLPSpanExporter(**common), OTLPLogExporter(**common), OTLPMetricExporter(**common)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    common = {"timeout": 10, "compression": Compression.Gzip if args.gzip else Compression.NoCompression}
    base = args.endpoint.rstrip("/")
    return (
        OTLPSpanExporter(endpoint=f"{base}/v1/traces", **common),
        OTLPLogExporter(endpoint=f"{base}/v1/logs", **common),
        OTLPMetricExporter(endpoint=f"{base}/v1/metrics", **common),
    )


class Tally:
    """Counts what an exporter was given and what it said about it."""

    def __init__(self, exporter, good):
        self.calls = self.failed = self.items = 0
        inner = exporter.export

        def export(batch, *rest, **named):
            self.calls += 1
            if hasattr(batch, "__len__"):
                self.items += len(batch)
            try:
                result = inner(batch, *rest, **named)
            except Exception:
                self.failed += 1
                raise
            if result is not good:
                self.failed += 1
            return result

        exporter.export = export


def send_traces(provider, args):
    """A server span with two children each; every fifth one fails. Returns contexts by trace."""
    tracer = provider.get_tracer("coral.test.python", "1.0.0", attributes={"scope.kind": "test"})
    contexts = []
    for i in range(args.traces):
        route = ROUTES[i % len(ROUTES)]
        failed = i % 5 == 0
        with tracer.start_as_current_span(
            f"GET {route}",
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": "GET",
                "http.route": route,
                "http.response.status_code": 500 if failed else 200,
                "server.address": "python.test",
                "app.index": i,
                "app.ratio": i / 4,
                "app.even": i % 2 == 0,
                "app.tags": ["a", "b", str(i)],
                "app.text": "süß 海 \u202e\x1b[31m",
            },
        ) as root:
            contexts.append(trace.set_span_in_context(root))
            with tracer.start_as_current_span("compute") as inner:
                inner.add_event("step", {"step.number": 1})
            with tracer.start_as_current_span(
                "SELECT items",
                kind=SpanKind.CLIENT,
                attributes={
                    "db.system.name": "postgresql",
                    "db.namespace": "shop",
                    "db.operation.name": "SELECT",
                    "db.query.text": "SELECT name FROM items WHERE id = $1",
                    "server.address": "db.test",
                    "server.port": 5432,
                },
                links=[trace.Link(root.get_span_context(), {"link.kind": "self"})],
            ):
                pass
            if failed:
                root.record_exception(ValueError(f"item {i} is broken"))
                root.set_attribute("error.type", "ValueError")
                root.set_status(Status(StatusCode.ERROR, f"item {i} is broken"))
    return contexts


def send_logs(provider, args, contexts):
    logger = provider.get_logger("coral.test.python")
    by_severity = {text: 0 for _, text in SEVERITIES}
    correlated = 0
    for i in range(args.logs):
        number, text = SEVERITIES[i % len(SEVERITIES)]
        context = contexts[i % len(contexts)] if contexts and i % 2 == 0 else None
        correlated += context is not None
        logger.emit(
            context=context,
            severity_number=number,
            severity_text=text,
            body=f"item {i} processed",
            attributes={"app.index": i, "app.map": {"depth": {"two": i}}, "app.list": [1, 2.5, "x"]},
        )
        by_severity[text] += 1
    return by_severity, correlated


def send_metrics(provider, args):
    meter = provider.get_meter("coral.test.python")
    counter = meter.create_counter("app.items", unit="{item}")
    queue = meter.create_up_down_counter("app.queue", unit="{item}")
    gauge = meter.create_gauge("app.temperature", unit="Cel")
    latency = meter.create_histogram("app.latency", unit="ms")
    size = meter.create_histogram("app.size", unit="By")
    meter.create_observable_counter(
        "app.observed", callbacks=[lambda _options: [Observation(args.metrics * 7)]]
    )
    by_kind = {"even": 0, "odd": 0}
    level = 0
    latencies, sizes = [], []
    for i in range(1, args.metrics + 1):
        kind = "odd" if i % 2 else "even"
        counter.add(i, {"kind": kind})
        by_kind[kind] += i
        step = -1 if i % 3 == 0 else 2
        queue.add(step)
        level += step
        gauge.set(20.5 + i)
        latencies.append((i * 37) % 500)
        latency.record(latencies[-1])
        sizes.append(1 << (i % 20))
        size.record(sizes[-1])

    def histogram(kind, values):
        return {"type": kind, "points": 1, "count": len(values), "sum": sum(values),
                "min": min(values), "max": max(values)}

    if args.metrics == 0:
        return {"app.observed": {"type": "sum", "points": 1, "value": 0}}
    return {
        "app.items": {
            "type": "sum", "monotonic": True, "points": sum(1 for v in by_kind.values() if v),
            "value": sum(by_kind.values()), "by": {k: v for k, v in by_kind.items() if v},
        },
        "app.queue": {"type": "sum", "monotonic": False, "points": 1, "value": level},
        "app.temperature": {"type": "gauge", "points": 1, "value": 20.5 + args.metrics},
        "app.latency": histogram("histogram", latencies),
        "app.size": histogram("exponential_histogram", sizes),
        "app.observed": {"type": "sum", "monotonic": True, "points": 1, "value": args.metrics * 7},
    }


def main():
    args = arguments()
    instance = str(uuid.uuid4())
    resource = Resource.create(
        {
            "service.name": args.service,
            "service.namespace": "apps",
            "service.version": args.version,
            "service.instance.id": instance,
            "deployment.environment.name": "test",
            "host.name": socket.gethostname(),
            "process.pid": os.getpid(),
        }
    )
    spans, logs, metrics = exporters(args)
    tallies = {
        "traces": Tally(spans, SpanExportResult.SUCCESS),
        "logs": Tally(logs, LogRecordExportResult.SUCCESS),
        "metrics": Tally(metrics, MetricExportResult.SUCCESS),
    }

    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(spans, max_queue_size=QUEUE, max_export_batch_size=512))
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(
        BatchLogRecordProcessor(logs, max_queue_size=QUEUE, max_export_batch_size=512)
    )
    # One collection, at shutdown: so the number of points is known.
    reader = PeriodicExportingMetricReader(metrics, export_interval_millis=3_600_000)
    view = View(instrument_name="app.size", aggregation=ExponentialBucketHistogramAggregation())
    meters = MeterProvider(resource=resource, metric_readers=[reader], views=[view])

    contexts = send_traces(tracers, args)
    by_severity, correlated = send_logs(loggers, args, contexts)
    sent_metrics = send_metrics(meters, args)
    tracers.shutdown()
    loggers.shutdown()
    meters.shutdown()

    ids = [trace.get_current_span(c).get_span_context() for c in contexts]
    errors = len([i for i in range(args.traces) if i % 5 == 0])
    failed = sum(tally.failed for tally in tallies.values())
    lost = (
        tallies["traces"].items != 3 * args.traces
        or tallies["logs"].items != args.logs
        or tallies["metrics"].calls != 1
    )
    print(
        json.dumps(
            {
                "language": "python",
                "protocol": args.protocol,
                "gzip": args.gzip,
                "service": args.service,
                "version": args.version,
                "instance": instance,
                "pid": os.getpid(),
                "traces": args.traces,
                "spans": 3 * args.traces,
                "spans_by_kind": {k: args.traces for k in ("server", "internal", "client")},
                "error_spans": errors,
                "operations": sorted({f"GET {ROUTES[i % len(ROUTES)]}" for i in range(args.traces)}),
                "requests_by_operation": {
                    f"GET {route}": len([i for i in range(args.traces) if ROUTES[i % len(ROUTES)] == route])
                    for route in ROUTES
                },
                "trace_ids": [format(c.trace_id, "032x") for c in ids[:5]],
                "logs": args.logs,
                "logs_by_severity": by_severity,
                "logs_with_trace": correlated,
                "metrics": sent_metrics,
                "metric_points": sum(m["points"] for m in sent_metrics.values()),
                "exports": {name: tally.calls for name, tally in tallies.items()},
                "failed_exports": failed,
            }
        )
    )
    return 1 if failed or lost else 0


if __name__ == "__main__":
    sys.exit(main())
