"""Channels with a state: many keys, many readers, some of which take a kilobyte a second.

What do slow readers cost the others, and how old is what they get? The same load with and without them, in turns.
"""

from __future__ import annotations

import json
import select
from typing import Final

from benchmarks.contenders import DIRECT
from benchmarks.measure import Window, subscribed, window
from benchmarks.processes import Failed, Process, cores, loading, python, serving
from benchmarks.report import Cell, Say, Size, Table, median, spread, times

TITLE: Final = "State: the newest of each key"
_RATE: Final = 1000  # bytes a second that a slow reader takes
_COLUMNS: Final = (
    *("case", "p50 ms", "p99 ms", "p99, rounds", "x without", "CPU µs/delivery", "RSS growth MB"),
    *("slow ones read", "of it stale", "worst, s"),
)


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about two minutes in full."""
    keys, readers, slow = size.count(10_000, 10_000, 50), size.count(900, 900, 20), size.count(100, 100, 3)
    rate, seconds, rounds = 20.0, size.pick(20, 8, 0.5), size.count(3, 2, 1)
    found: dict[int, list[tuple[Window, dict[str, float], float]]] = {0: [], slow: []}
    for number in range(rounds):
        for count in found:
            say(f"round {number + 1} of {rounds}: {readers:,} fast readers, {count} slow")
            found[count].append(_measure(keys, readers, count, rate, seconds))
    base = median(one.p99_ms for one, _, _ in found[0])
    rows: list[list[Cell]] = []
    for count, results in found.items():
        p99 = median(one.p99_ms for one, _, _ in results)
        saw = [each for _, each, _ in results if each]
        rows.append(
            [
                f"{readers:,} fast readers" + (f", {count} that take {_RATE // 1000} KB/s" if count else ""),
                median(one.p50_ms for one, _, _ in results),
                p99,
                spread(one.p99_ms for one, _, _ in results),
                times(p99, base),
                median(one.cpu_us for one, _, _ in results),
                median(growth for _, _, growth in results),
                sum(int(each["events"]) for each in saw) if saw else None,
                f"{100 * sum(each['stale'] for each in saw) / max(1, sum(each['events'] for each in saw)):.1f}%"
                if saw
                else None,
                max(each["worst"] for each in saw) if saw else None,
            ]
        )
    note = (
        "An event is stale if a newer one of its key was published before it was read; the worst is by how long. What "
        "a slow reader's connection holds (the two sockets' buffers, some 20 KB) takes it some 20 s to read."
    )
    title = f"{keys:,} keys, {rate:g} events a second of 200 of them"
    return [Table(title, _COLUMNS, rows, (note,))]


def _measure(keys: int, readers: int, slow: int, rate: float, seconds: float) -> tuple[Window, dict[str, float], float]:
    environment = {"BENCH_KEYS": str(keys), "BENCH_WRITE_TIMEOUT": "none"}
    with serving(DIRECT.command(), environment) as server:
        server.get(f"/start?rate=1000000&events={keys}&size=100")
        server.until("all keys", lambda stats: stats["published"] >= keys)
        with loading(server, readers, path="/state") as load:
            subscribed(server, load)
            load.wait(keys * readers, 60)  # everybody has the state
            before = server.rss()
            clients = _slow(server.port, slow) if slow else None
            try:
                one = window(server, load, rate=rate, events=max(4, round(rate * seconds)), readers=readers)
                growth = (server.rss() - before) / 1e6
                return one, _end(clients) if clients else {}, growth
            finally:
                if clients is not None:
                    clients.stop()


def _slow(port: int, count: int) -> Process:
    clients = Process(python("benchmarks.slow_clients", str(port), str(count), str(_RATE)), core=cores()[1])
    assert clients.popen.stdout is not None
    if not select.select([clients.popen.stdout], [], [], 60)[0] or clients.popen.stdout.readline() != b"ready\n":
        raise Failed("the slow clients did not start")
    return clients


def _end(clients: Process) -> dict[str, float]:
    assert clients.popen.stdin is not None
    assert clients.popen.stdout is not None
    clients.popen.stdin.close()
    found: dict[str, float] = json.loads(clients.popen.stdout.readline())
    return found
