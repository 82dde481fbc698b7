"""Slow readers: clients that ask for the stream and never read. What they cost the server, and the others.

Two loads. *Many readers*: 1,000 subscribers of which 100 are stuck, until 1 GB went to the others, beside the same
without the stuck ones. *Much published*: the literal gigabyte through one channel, with few readers beside the stuck,
since a gigabyte to each of 900 would take the loopback an hour's quarter. No write time-out cuts the stuck ones off.
The log is SQLite, as `newswire serve` has it by default, but where a row says otherwise.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Final

from benchmarks.build import BUILD
from benchmarks.contenders import DIRECT, SSE_STARLETTE, Contender
from benchmarks.measure import Window, window
from benchmarks.processes import loading, serving
from benchmarks.report import Cell, Say, Size, Table, median

TITLE: Final = "Slow readers"
_MB: Final = 1e6
_SQLITE: Final = "sqlite:///{folder}/log.db"


@dataclass(frozen=True, slots=True)
class _Result:
    window: Window
    growth: float  # resident MB, from before the first event to the end
    peak: float  # resident MB at most, above the same


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about a minute and a half in full."""
    return [_many_readers(size, say), _much_published(size, say)]


def _many_readers(size: Size, say: Say) -> Table:
    subscribers, stuck = size.count(1000, 1000, 20), size.count(100, 100, 5)
    total = size.pick(1e9, 3e8, 1e6)
    event, rate = 10_000, 12.0
    events = max(3, round(total / event / (subscribers - stuck)))
    rounds = size.count(2, 1, 1)
    cases: list[tuple[str, Contender, int]] = [
        ("newswire direct, none stuck", DIRECT, 0),
        (f"newswire direct, {stuck} stuck", DIRECT, stuck),
    ]
    found: dict[str, list[_Result]] = {}
    for number in range(rounds):
        for name, contender, count in cases:
            say(f"round {number + 1} of {rounds}: {name}")
            # as many readers in both cases, so that only the stuck ones differ
            result = _measure(contender, subscribers - stuck + count, count, event=event, rate=rate, events=events)
            found.setdefault(name, []).append(result)
    rows = [_row(name, results) for name, results in found.items()]
    title = f"{subscribers - stuck:,} readers, {events:,} events of {event // 1000} KB at {rate:g} a second"
    return Table(title, _COLUMNS, rows)


def _much_published(size: Size, say: Say) -> Table:
    readers, stuck = size.count(10, 10, 2), size.count(100, 100, 5)
    event = 64_000
    events = max(3, round(size.pick(1e9, 5e8, 1e6) / event))
    rows = []
    for name, contender, count, log in (
        ("newswire direct, none stuck", DIRECT, 0, _SQLITE),
        (f"newswire direct, {stuck} stuck", DIRECT, stuck, _SQLITE),
        (f"newswire direct, {stuck} stuck, memory log", DIRECT, stuck, "memory://"),
        (f"sse-starlette, {stuck} stuck", SSE_STARLETTE, stuck, _SQLITE),
    ):
        say(f"{events * event / 1e9:.1f} GB published: {name}")
        result = _measure(contender, readers + count, count, event=event, rate=600, events=events, log=log)
        rows.append(_row(name, [result]))
    title = f"{events * event / 1e9:.1f} GB published in events of {event // 1000} KB, {readers} readers"
    note = (
        "The hub's window holds up to 16 MiB of the newest events, and a memory log up to 64 MiB, with stuck clients "
        "or without: what the stuck ones cost is the difference of the first two rows."
    )
    return Table(title, _COLUMNS, rows, (note,))


_COLUMNS: Final = ("case", "RSS growth MB", "peak MB", "others' p50 ms", "others' p99 ms", "got everything")


def _measure(
    contender: Contender, subscribers: int, stuck: int, *, event: int, rate: float, events: int, log: str = _SQLITE
) -> _Result:
    BUILD.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=BUILD, prefix="slow-") as folder,
        serving(contender.command(), {"BENCH_WRITE_TIMEOUT": "none", "BENCH_LOG": log.format(folder=folder)}) as server,
        loading(server, subscribers, stuck=stuck) as load,
    ):
        load.ready()
        server.until("all subscribers", lambda stats: stats["subscribers"] >= subscribers)
        before = server.rss()
        one = window(server, load, rate=rate, events=events, size=event, readers=subscribers - stuck)
        return _Result(one, (server.rss() - before) / _MB, (server.peak_rss() - before) / _MB)


def _row(name: str, results: list[_Result]) -> list[Cell]:
    return [
        name,
        median(result.growth for result in results),
        median(result.peak for result in results),
        median(result.window.p50_ms for result in results),
        median(result.window.p99_ms for result in results),
        "yes" if all(result.window.complete for result in results) else "no",
    ]
