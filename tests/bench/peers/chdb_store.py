"""The store's questions, asked of ClickHouse's engine over the same Parquet files.

Prints {"hour": ms, "day": ms, "trace": ms, "log": ms}: the 95th of 100 of the times of each. The
statements read what Coral reads: buckets of a minute and of an hour, the index of traces; windows are
whole minutes and hours, which spares chdb the ends.
"""

import json
import sys
import time

from chdb import session

store = sys.argv[1]
facts = json.load(open(f"{store}/facts.json"))
SECOND, SAMPLES = 1_000_000_000, 41
HOUR = 3600 * SECOND
asked = session.Session()


def table(kind):
    return f"file('{store}/segments/{kind}-*.parquet', Parquet)"


def red(kind, begin, end, services):
    named = ", ".join(f"'{name}'" for name in services)
    which = f" AND service IN ({named})" if services else ""
    return f"""
        SELECT service, operation, sum(requests), sum(errors), sum(no_answer), sum(sum_ns),
            sumMap(hist_index, hist_count), argMax((slow_hi, slow_lo), slow_ns), max(error_hi)
        FROM {table(kind)} WHERE bucket_ns >= {begin} AND bucket_ns < {end}{which}
        GROUP BY service, operation"""


def hour(n):
    room = (facts["to_ns"] - facts["from_ns"] - HOUR) // (60 * SECOND)
    begin = facts["from_ns"] + n * 2_654_435_761 % room * 60 * SECOND
    return [red("red-1m", begin, begin + HOUR, facts["busy"])]


def day(_):
    return [red("red-1h", facts["from_ns"], facts["to_ns"], [])]


def trace(n):
    trace_id = facts["traces"][n * 7 % len(facts["traces"])]
    key, high, low = int(trace_id[:8], 16), int(trace_id[:16], 16), int(trace_id[16:], 16)
    found = asked.query(
        f"SELECT min(first_ns), max(last_ns) FROM {table('spans-traces')} WHERE key = {key}", "CSV"
    )
    first, last = str(found).strip().split(",")
    return [
        f"SELECT * FROM {table('spans-rows')} WHERE start_ns >= {first} AND start_ns <= {last}"
        f" AND trace_hi = {high} AND trace_lo = {low} ORDER BY start_ns"
    ]


def log(_):
    return [
        f"SELECT * FROM {table('logs-rows')} WHERE positionCaseInsensitive(body, '{facts['needle']}') > 0"
        " ORDER BY time_ns DESC LIMIT 1000"
    ]


times = {}
for question in (hour, day, trace, log):
    spent = []
    for n in range(SAMPLES + 2):
        began = time.perf_counter()
        for statement in question(n):
            rows = asked.query(statement, "JSONCompactEachRow").bytes()
        spent.append((time.perf_counter() - began) * 1e3)
        if not rows:
            sys.exit(f"chdb found nothing for {question.__name__}")
    spent = sorted(spent[2:])
    times[question.__name__] = spent[int(0.95 * len(spent))]
print(json.dumps(times))
