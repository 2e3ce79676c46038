"""A service of gRPC and a client of it, with the official library and without any instrumentation.

`rpc.py serve` prints one JSON line with its port; each line of its standard input lets go of the calls
that it holds, answered by a line of JSON. `rpc.py call PORT` answers each line of its own,
`METHOD CALLS AT_ONCE SECONDS BYTES`, by a line of JSON: how many calls ended with which status."""

import concurrent.futures
import json
import sys
import threading

import grpc

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
held = threading.Event()


def echo(request, context):
    return request


def fail(request, context):
    context.abort(grpc.StatusCode.INTERNAL, "it was to fail")


def deny(request, context):
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "it was to be denied")


def slow(request, context):
    over = threading.Event()
    context.add_callback(over.set)
    over.wait(60)
    return b""


def hold(request, context):
    held.wait(120)
    return b""


def watch(request, context):
    """A stream that begins at once, and ends when it is let go of."""
    for n in range(50):
        yield str(n).encode()
    held.wait(120)
    yield b"last"


def serve():
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=160)
    server = grpc.server(pool, options=UNLIMITED)
    one = grpc.unary_unary_rpc_method_handler
    cart = {"Add": one(echo), "Fail": one(fail), "Deny": one(deny), "Slow": one(slow), "Hold": one(hold)}
    feed = {"Watch": grpc.unary_stream_rpc_method_handler(watch)}
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler("shop.Cart", cart),
        grpc.method_handlers_generic_handler("shop.Feed", feed),
    ))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    for _ in sys.stdin:
        held.set()
        print(json.dumps({"held": False}), flush=True)
    server.stop(None).wait()


def call(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=UNLIMITED) as channel:
        grpc.channel_ready_future(channel).result()
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            method, calls, at_once, seconds, size = line.split()
            if method == "/shop.Feed/Watch":
                messages = channel.unary_stream(method)(bytes(int(size)), timeout=float(seconds))
                print(json.dumps({"messages": len(list(messages))}), flush=True)
                continue
            stub = channel.unary_unary(method)
            room = threading.Semaphore(int(at_once))
            ended = []
            for _ in range(int(calls)):
                room.acquire()
                future = stub.future(bytes(int(size)), timeout=float(seconds))
                future.add_done_callback(lambda _: room.release())
                ended.append(future)
            statuses = {}
            for future in ended:
                status = str(future.code().value[0])
                statuses[status] = statuses.get(status, 0) + 1
            print(json.dumps(statuses), flush=True)


if sys.argv[1] == "serve":
    serve()
else:
    call(sys.argv[2])
