"""An application with the official Prometheus client: serves /metrics, and says what it counted.

Prints one JSON line with its port; then answers each line of its standard input with one line of JSON:
`work N` makes N requests, `truth` says what was counted, `many N` makes a counter with N series."""

import json
import sys

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary, start_http_server

registry = CollectorRegistry()
requests = Counter("shop_requests", "Requests, by method.", ["method"], registry=registry)
queue = Gauge("shop_queue_depth", "Jobs that wait.", registry=registry)
seconds = Histogram(
    "shop_request_seconds", "How long requests took.", buckets=(0.1, 0.25, 1.0), registry=registry
)
size = Summary("shop_body_bytes", "Sizes of bodies.", registry=registry)
Info("shop_build", "What runs.", registry=registry).info({"version": "v42"})
many = Counter("shop_many", "Too many series.", ["user"], registry=registry)

server, _ = start_http_server(0, addr="127.0.0.1", registry=registry)
print(json.dumps({"port": server.server_port}), flush=True)

took = [0.05, 0.2, 0.5, 3.0]
for line in sys.stdin:
    word, *rest = line.split()
    if word == "work":
        for n in range(int(rest[0])):
            requests.labels("GET" if n % 3 else "POST").inc()
            seconds.observe(took[n % 4])
            size.observe(100 + n)
        queue.set(int(rest[0]) / 2)
    if word == "many":
        for n in range(int(rest[0])):
            many.labels(f"user-{n}").inc()
    samples = {}
    for family in registry.collect():
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}"] = sample.value
    print(json.dumps(samples), flush=True)
