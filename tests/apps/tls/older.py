"""Asks over one connection of HTTPS: `older.py CERT PORT` reads lines of words (the second is the method, then path
and how many) and says how many requests ended with which status."""

import http.client
import json
import ssl
import sys

context = ssl.create_default_context(cafile=sys.argv[1])
connection = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[2]), context=context)
for line in sys.stdin:
    _, method, path, n, *_ = line.split()
    counts = {}
    for _ in range(int(n)):
        connection.request(method, path)
        response = connection.getresponse()
        response.read()
        status = str(response.status)
        counts[status] = counts.get(status, 0) + 1
    print(json.dumps(counts), flush=True)
