"""Edges: what an event costs the origin, however many readers its edges have.

An origin and three edges, all `newswire serve`; the readers are spread over the edges. Events of 100 bytes are
published at the origin, one request each. Beside it: the same readers at the origin itself, without edges.
"""

from __future__ import annotations

import contextlib
import http.client
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.processes import Load, Server, loading, python
from benchmarks.report import Cell, Say, Size, Table

TITLE: Final = "Edges"
_EDGES: Final = 3
_COLUMNS: Final = (
    "readers",
    "at",
    "origin CPU µs/event",
    "x the fewest",
    "edges' CPU µs/delivery",
    "deliveries",
    "lost",
)


def run(size: Size, say: Say) -> list[Table]:
    """Measure; some two minutes in full."""
    most = size.count(_EDGES, _EDGES, 1)
    counts = (6,) if size is Size.SMOKE else (300, 1000, 3000)
    rate, seconds = size.pick(50, 50, 20), size.pick(10, 4, 0.5)
    rows: list[list[Cell]] = []
    for edges in (most, 0):
        base: float | None = None
        for readers in counts:
            say(f"{readers:,} readers at {edges or 'no'} edges")
            cost, spent, got, wanted = _measure(readers, edges, rate, seconds)
            base = base or cost
            at = f"{edges} edges" if edges else "the origin"
            rows.append([f"{readers:,}", at, cost, cost / base, spent if edges else None, got, wanted - got])
    notes = ("The cost of an event at the origin includes the request that publishes it. CPU time of the processes.",)
    return [Table(f"{rate:g} events a second of 100 bytes, {most} edges", _COLUMNS, rows, notes)]


def _measure(readers: int, edges: int, rate: float, seconds: float) -> tuple[float, float, int, int]:
    """CPU of the origin for an event, of the edges for a delivery, in µs; deliveries, and what they should be."""
    with tempfile.TemporaryDirectory(prefix="newswire-edges-") as folder, contextlib.ExitStack() as stack:
        origin = stack.enter_context(_serving("--log", f"sqlite:///{Path(folder).absolute()}/origin.db"))
        log = f"http://:k@127.0.0.1:{origin.port}/"
        servers = [stack.enter_context(_serving("--log", log)) for _ in range(edges)]
        places = servers or [origin]
        loads = [stack.enter_context(loading(place, readers // len(places), path="/channels/news")) for place in places]
        for load in loads:
            load.ready()
            load.reset()
        before, edge_before = origin.cpu(), sum(server.cpu() for server in servers)
        events = _publish(origin, rate, seconds)
        got = _wait(loads, events)
        spent = origin.cpu() - before
        edge_spent = sum(server.cpu() for server in servers) - edge_before
    return 1e6 * spent / events, 1e6 * edge_spent / max(got, 1), got, events * sum(load.count for load in loads)


@contextlib.contextmanager
def _serving(*flags: str) -> Iterator[Server]:
    command = python("newswire.cli.main", "serve", "--port", "{port}", "--edge-key", "k", "--retention", "none", *flags)
    server = Server(command, ready="/health/ready")
    try:
        yield server
    finally:
        server.stop()


def _publish(origin: Server, rate: float, seconds: float) -> int:
    """Publish at the origin. Returns how many."""
    connection = http.client.HTTPConnection("127.0.0.1", origin.port, timeout=60)
    begun, events = time.monotonic(), max(int(rate * seconds), 1)
    for number in range(events):
        time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        data = f"t={time.clock_gettime_ns(time.CLOCK_MONOTONIC):019d}".ljust(100, ".")  # what the load counts by
        connection.request("POST", "/channels/news", data)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise origin.failed(f"publishing gave {answer.status}: {body[:300]!r}")
    connection.close()
    return events


def _wait(loads: Sequence[Load], events: int) -> int:
    return sum(int(load.wait(events * load.count, 30)["events"]) for load in loads)
