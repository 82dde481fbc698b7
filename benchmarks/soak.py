"""Soak: `newswire serve` for half an hour under readers that come and go, publishers, and random faults.

3,000 readers on 1,000 channels and one that all share; a tenth of them leave each minute, half of these without a word,
and come back with their cursor. 500 events a second are published over HTTP. Beside them strangers send half requests
and garbage, take streams that they never read, and cut connections by the dozen. Retention trims what is older than two
minutes. What must come out: nothing lost or doubled, and memory, file descriptors, tasks and the lag of the event loop
as flat at the end as after the first third, which is when caches are full.

`--minutes N` takes another time.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.processes import Failed, Server
from benchmarks.report import DOCS, Cell, Say, Size, Table
from benchmarks.soak_clients import Counts, Publisher, Reader, strangers
from benchmarks.svg import Line, chart

TITLE: Final = "Soak"
PLOTS_HERE: Final = True  # the charts stand on the results page
_COMMON: Final = "common"
_BUCKET: Final = re.compile(r'newswire_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)')
_TASKS: Final = re.compile(r"(?m)^newswire_event_loop_tasks (\S+)")


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server was like at one moment.

    Attributes:
        at: seconds since the begin.
        rss: resident memory, in bytes.
        fds: open file descriptors.
        tasks: of its event loop.
        lag: of its event loop since the last sample: what 99 of 100 looks were below, in seconds.
        cpu: seconds so far.
        delivered: events that readers got so far.
    """

    at: float
    rss: int
    fds: int
    tasks: int
    lag: float
    cpu: float
    delivered: int


_samples: list[Sample] = []  # of the last run, for the charts


def run(size: Size, say: Say, minutes: float | None = None, rate: float | None = None) -> list[Table]:
    """Measure; half an hour in full, two minutes with --quick, or as many as `--minutes` says."""
    minutes = size.pick(30, 2, 0.15) if minutes is None else minutes
    readers, rate = size.count(3000, 3000, 60), size.pick(500, 500, 100) if rate is None else rate
    with tempfile.TemporaryDirectory(prefix="newswire-bench-") as folder:
        newswire = str(Path(sys.executable).with_name("newswire"))
        log = f"sqlite:///{folder}/soak.db"
        command = [newswire, "serve", "--port", "{port}", "--log", log, "--retention", ">:max_age=2m"]
        command += ["--write-timeout", "10s", "--retry", "1000", "--publish-rate", "none"]
        clean = {name: "" for name in os.environ if name.startswith("NEWSWIRE_")}
        if clean:
            raise Failed(f"unset {', '.join(clean)}: they would be the server's settings")
        server = Server(command, ready="/health/ready")
        try:
            counts = asyncio.run(_soak(server, readers, rate, minutes * 60, say))
        finally:
            server.stop()
    return [_flatness(minutes, readers, rate), _outcome(counts)]


async def _soak(server: Server, count: int, rate: float, seconds: float, say: Say) -> Counts:
    counts = Counts()
    rooms = max(1, count // 3)
    churn = 0.1 / 60 if seconds > 60 else 2 / seconds  # a short run has its reconnects too
    paths = (f"/stream?channel=room.{number % rooms}&channel={_COMMON}" for number in range(count))
    readers = [Reader(server.port, path, churn, counts) for path in paths]
    parts = min(50, rooms)  # each waits for its answers, so many are needed
    publishers = [
        Publisher(server.port, [f"room.{room}" for room in range(part, rooms, parts)], (rate - 1) / parts, counts)
        for part in range(parts)
    ]
    publishers.append(Publisher(server.port, [_COMMON], 1, counts))
    tasks = []
    for index, reader in enumerate(readers):
        tasks.append(asyncio.create_task(reader.run()))
        if index % 100 == 99:
            await asyncio.wait_for(readers[index].opened.wait(), 60)
    await asyncio.wait_for(asyncio.gather(*(reader.opened.wait() for reader in readers)), 120)
    say(f"{count:,} readers are there")
    tasks += [asyncio.create_task(one.run()) for one in publishers]
    tasks.append(asyncio.create_task(strangers(server.port, readers, counts, seconds / 60 if seconds < 60 else 1.0)))
    await _sample(server, counts, seconds, say)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise Failed(f"a client failed: {outcome!r}") from outcome
    return counts


async def _sample(server: Server, counts: Counts, seconds: float, say: Say) -> None:
    _samples.clear()
    begun = time.monotonic()
    every = min(5.0, seconds / 12)
    looked: dict[float, float] = {}
    told = 0
    while (at := time.monotonic() - begun) < seconds:
        text = await asyncio.to_thread(server.text, "/metrics")
        buckets = {float(bound): float(value) for bound, value in _BUCKET.findall(text)}
        lag = _below(0.99, {bound: value - looked.get(bound, 0.0) for bound, value in buckets.items()})
        looked = buckets
        tasks = int(float(_TASKS.findall(text)[0]))
        fds = len(os.listdir(f"/proc/{server.popen.pid}/fd"))
        _samples.append(Sample(at, server.rss(), fds, tasks, lag, server.cpu(), counts.delivered))
        if at // 60 > told:
            told = int(at // 60)
            say(f"minute {told}: {server.rss() / 1e6:.0f} MB, {counts.delivered:,} delivered, {counts.lost} lost")
        await asyncio.sleep(every)


def _below(part: float, buckets: dict[float, float]) -> float:
    """The bound that so large a part of what was counted is below; `buckets` add up, as Prometheus has it."""
    total = max(buckets.values(), default=0.0)
    finite = [bound for bound in buckets if bound < float("inf")]
    return next((bound for bound in finite if buckets[bound] >= part * total), max(finite, default=0.0))


def _thirds() -> tuple[list[Sample], list[Sample]]:
    """The second third and the last one."""
    third = max(1, len(_samples) // 3)
    return _samples[third : 2 * third], _samples[2 * third :]


def _flatness(minutes: float, readers: int, rate: float) -> Table:
    middle, last = _thirds()
    measures: dict[str, Callable[[Sample], float]] = {
        "memory, MB": lambda one: one.rss / 1e6,
        "file descriptors": lambda one: one.fds,
        "tasks": lambda one: one.tasks,
        "loop lag, 99%, ms below": lambda one: one.lag * 1000,
    }
    rows: list[list[Cell]] = []
    for name, of in measures.items():
        before, after = median(map(of, middle)), median(map(of, last))
        rows.append([name, before, after, f"{(after / before - 1) * 100:+.1f}%" if before else None])
    spent = (_samples[-1].cpu - _samples[0].cpu) / max(1e-9, _samples[-1].at - _samples[0].at)
    notes = [f"Medians of the second third and of the last. The server used {spent:.0%} of its core."]
    title = f"{minutes:g} minutes, {readers:,} readers, {rate:g} events a second"
    return Table(title, ("", "middle", "end", "change"), rows, notes)


def _outcome(counts: Counts) -> Table:
    rows: list[list[Cell]] = [
        ["published", counts.published],
        ["delivered", counts.delivered],
        ["lost", counts.lost],
        ["doubled", counts.doubled],
        ["gaps", counts.gaps],
        ["reconnects", counts.reconnects],
        ["answers of 5xx", sum(number for status, number in counts.answers.items() if status >= 500)],
        ["connections that broke", counts.answers[0]],
        *([f"fault: {kind}", number] for kind, number in sorted(counts.faults.items())),
    ]
    return Table("What the clients saw", ("", "count"), rows)


def plots(size: Size) -> dict[Path, str]:
    """The charts of the results page."""
    images = DOCS.parent / "images"

    def line(of: Callable[[Sample], float]) -> Line:
        return [(one.at / 60, of(one)) for one in _samples]

    charts: dict[str, tuple[str, str, Callable[[Sample], float]]] = {
        "memory": ("Memory of the server", "MB", lambda one: one.rss / 1e6),
        "descriptors": ("Open file descriptors", "descriptors", lambda one: one.fds),
        "tasks": ("Tasks of the event loop", "tasks", lambda one: one.tasks),
        "lag": ("Lag of the event loop, 99%", "ms", lambda one: one.lag * 1000),
    }
    return {
        images / f"soak-{name}.svg": chart(title, "minutes", unit, {title: line(of)})
        for name, (title, unit, of) in charts.items()
    }
