"""The event loop's longest silence while fan-out goes on.

A timer in the server asks to be called every 2 ms; how much later it is called is a stall. On a shared machine another
process on the core looks like a stall as well, so the longest stretch of the loop's own CPU time without a look at the
clock is shown beside it: that is what newswire answers for.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks.contenders import ASGI, DIRECT, SSE_STARLETTE, Contender
from benchmarks.measure import subscribed, window
from benchmarks.processes import loading, serving
from benchmarks.report import Cell, Say, Size, Table, median

TITLE: Final = "Event loop"


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about half a minute in full."""
    subscribers, rate = size.count(5000, 5000, 40), size.pick(100, 100, 50)
    rounds, seconds = size.count(2, 1, 1), size.pick(3, 2, 0.3)
    found: dict[Contender, list[dict[str, Any]]] = {}
    for number in range(rounds):
        for contender in (DIRECT, ASGI, SSE_STARLETTE):
            say(f"round {number + 1} of {rounds}: {contender.name}")
            found.setdefault(contender, []).append(_stalls(contender, subscribers, rate, seconds))
    rows: list[list[Cell]] = [
        [
            contender.name,
            median(one["longest_cpu"] for one in results),
            max(one["longest_cpu"] for one in results),
            median(one["longest"] for one in results),
            median(one["p99"] for one in results),
        ]
        for contender, results in found.items()
    ]
    columns = ("server", "own CPU: longest, ms", "worst round", "wall: longest, ms", "wall: p99, ms")
    return [Table(f"{subscribers:,} subscribers, {rate:g} events a second of 100 bytes", columns, rows)]


def _stalls(contender: Contender, subscribers: int, rate: float, seconds: float) -> dict[str, Any]:
    with serving(contender.command()) as server, loading(server, subscribers) as load:
        subscribed(server, load)
        events = max(5, round(rate * seconds))
        window(server, load, rate=rate, events=events, query="&stalls=1", patience=3.0)
        stalls: dict[str, Any] = server.get("/stats")["stalls"]
        return stalls
