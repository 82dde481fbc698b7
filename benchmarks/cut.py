"""A cut: all streams break at one moment, and all clients are back at once, each behind, while the server goes on.

The server is `newswire serve` on a SQLite file, on one core. Its clients connect as fast as it takes them, 4,000 at a
time, which is worse than clients with jitter. Each then gets the events that were published meanwhile. A client that
gets another answer than 200 ends the benchmark.
"""

from __future__ import annotations

import http.client
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.processes import Failed, Server, loading
from benchmarks.report import Cell, Say, Size, Table, median

TITLE: Final = "A cut"
_MISSED: Final = 20  # events
_WITHIN: Final = 30.0  # seconds
_GROWTH: Final = 1.3  # of memory, times what it was with all clients connected
_STAMP: Final = "t=" + "0" * 19  # what the load counts events by
_STATUS: Final = re.compile(r'newswire_http_requests_total\{.*status="5\d\d".*\} (\S+)')


def run(size: Size, say: Say) -> list[Table]:
    """Measure; under a minute."""
    clients = size.count(10_000, 10_000, 50)
    found = []
    for number in range(size.count(3, 1, 1)):
        say(f"round {number + 1}: {clients:,} clients")
        found.append(_cut(clients))
    seconds, before, peak, failed = zip(*found, strict=True)
    growth = max(after / was for was, after in zip(before, peak, strict=True))
    good = max(seconds) <= _WITHIN and growth <= _GROWTH and not any(failed)
    rows: list[list[Cell]] = [
        [
            f"{clients:,}",
            median(seconds),
            max(seconds),
            median(before),
            f"{growth:.2f}x",
            sum(failed),
            "good" if good else "BAD",
        ]
    ]
    columns = ("clients", "all back, s", "at most", "MB before", "peak after", "answers of 5xx", "verdict")
    notes = [
        f"Good: within {_WITHIN:g} s, a peak of at most {_GROWTH:g}x, and no 5xx.",
        f"Each has caught up on {_MISSED} events by then. The clients use the other core.",
    ]
    return [Table("All streams cut at one moment, and back", columns, rows, notes)]


def _cut(clients: int) -> tuple[float, float, float, int]:
    """Returns seconds until all have everything, memory before, the peak of it after, and answers of 5xx."""
    with tempfile.TemporaryDirectory(prefix="newswire-bench-") as folder:
        newswire = str(Path(sys.executable).with_name("newswire"))
        command = [newswire, "serve", "--port", "{port}", "--log", f"sqlite:///{folder}/cut.db"]
        server = Server(command, ready="/health/ready")
        try:
            header = f"Last-Event-ID: {_publish(server, 'the first')}"
            with loading(server, clients, path="/channels/bench", header=header, at_once=4000) as load:
                load.ready()
                _until(server, clients)
                before = server.rss()
                Path(f"/proc/{server.popen.pid}/clear_refs").write_text("5")  # the peak begins again
            for _ in range(_MISSED):
                _publish(server, _STAMP)
            begun = time.monotonic()
            with loading(server, clients, path="/channels/bench", header=header, at_once=4000) as load:
                load.ready()
                counts = load.wait(clients * _MISSED, 60)
                seconds = time.monotonic() - begun
                if counts["events"] < clients * _MISSED:
                    raise Failed(f"only {counts['events']:,} of {clients * _MISSED:,} events came")
            failed = sum(int(float(count)) for count in _STATUS.findall(server.text("/metrics")))
            return seconds, before / 1e6, server.peak_rss() / 1e6, failed
        finally:
            server.stop()


def _until(server: Server, clients: int) -> None:
    """Wait until the server has opened all streams."""
    deadline = time.monotonic() + 60
    while f"newswire_subscribers {float(clients)}" not in server.text("/metrics"):
        if time.monotonic() > deadline:
            raise Failed("the streams were not opened")
        time.sleep(0.05)


def _publish(server: Server, data: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", "/channels/bench", data)
        answer = connection.getresponse().read().decode()
        return re.findall(r'"id": ?"([^"]+)"', answer)[0]
    finally:
        connection.close()
