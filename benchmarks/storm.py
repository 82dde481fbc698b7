"""Reconnect storm: thousands of clients come back at once, each behind, after a restart of the server.

The log is a SQLite file with 10,000 events. The server is new, so its window is empty and what clients missed has to
be read from the file. Beside it, the same clients with nothing to catch up on: what connecting alone takes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.contenders import DIRECT
from benchmarks.processes import Server, loading, serving
from benchmarks.report import Cell, Say, Size, Table, median, times

TITLE: Final = "Reconnect storm"
_PAGE: Final = 512  # newswire.hub.history.PAGE_EVENTS


@dataclass(frozen=True, slots=True)
class _Storm:
    seconds: float
    cpu: float
    pages: int
    complete: bool


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about half a minute in full."""
    clients = size.count(5000, 5000, 30)
    stored = size.count(10_000, 10_000, 300)
    rounds = size.count(2, 1, 1)
    with tempfile.TemporaryDirectory(prefix="newswire-bench-") as folder:
        log = f"sqlite:///{folder}/storm.db"
        say(f"storing {stored:,} events")
        epoch, latest = _store(log, stored)
        cases: dict[str, tuple[int, int]] = {  # how far behind the first is, and over how many places they spread
            "nothing to catch up": (0, 1),
            "each 100 events behind": (100, 1),
            "each 100 to 200 behind": (200, 101),
            f"spread over {min(2000, stored - 100):,} events": (min(2000, stored - 100), min(2000, stored - 100)),
        }
        found: dict[str, list[_Storm]] = {}
        for number in range(rounds):
            for name, (behind, places) in cases.items():
                say(f"round {number + 1} of {rounds}: {clients:,} clients, {name}")
                found.setdefault(name, []).append(_storm(log, epoch, latest - behind, places, behind, clients))
    base = median(storm.seconds for storm in found["nothing to catch up"])
    rows: list[list[Cell]] = []
    for name, storms in found.items():
        behind = cases[name][0]
        rows.append(
            [
                name,
                median(storm.seconds for storm in storms),
                times(median(storm.seconds for storm in storms), base),
                median(storm.cpu for storm in storms),
                round(median(storm.pages for storm in storms) or 0),
                -(-stored // _PAGE) - (stored - behind) // _PAGE if behind else 0,  # pages begin at multiples of _PAGE
                "yes" if all(storm.complete for storm in storms) else "no",
            ]
        )
    columns = ("clients", "s to the last event", "x connecting", "server CPU s", "pages read", "distinct", "complete")
    return [Table(f"{clients:,} clients at once, direct path, SQLite log of {stored:,} events", columns, rows)]


def _store(log: str, count: int) -> tuple[str, int]:
    with serving(DIRECT.command(), {"BENCH_LOG": log}) as server:
        server.get(f"/start?rate=100000&events={count}&size=100&batch=500")
        done = _until_published(server)
        return str(done["epoch"]), count


def _until_published(server: Server) -> dict[str, Any]:
    over: Callable[[dict[str, Any]], bool] = lambda stats: not stats["publishing"]  # noqa: E731
    return server.until("the publisher's end", over)


def _storm(log: str, epoch: str, first: int, places: int, behind: int, clients: int) -> _Storm:
    # Client i is (behind - i % places) events behind.
    expected = sum(behind - index % places for index in range(clients))
    header = f"Last-Event-ID: {epoch}-%d"
    with serving(DIRECT.command(), {"BENCH_LOG": log}) as server:
        cpu = server.cpu()
        with loading(server, clients, header=header, first=first, modulo=places, at_once=4000) as load:
            seconds = load.ready()
            if expected:
                counts = load.wait(expected, 60)
                seconds = max(seconds, counts["seconds"])
                complete = counts["events"] == expected
            else:
                complete = True
            cpu = server.cpu() - cpu
            return _Storm(seconds, cpu, server.get("/stats")["pages_read"], complete)
