"""Soak: `newswire serve` for half an hour under readers that come and go, publishers, and random faults.

3,000 readers on 1,000 channels and one that all share; a tenth of them leave each minute, half of these without a word,
and come back with their cursor. 500 events a second are published over HTTP. Beside them strangers send half requests
and garbage, take streams that they never read, and cut connections by the dozen. Retention trims what is older than two
minutes. What must come out: nothing lost or doubled, no gap, no 5xx, and memory, file descriptors, tasks and the lag of
the event loop no higher in the last third than in the second. (In the first, caches fill.) Each figure has a verdict.

`--minutes N` takes another time.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.processes import Failed, Server, cores
from benchmarks.report import DOCS, Cell, Say, Size, Table
from benchmarks.soak_clients import Counts, Publisher, Reader, strangers
from benchmarks.svg import Line, chart
from newswire.posix import allow_many_files

TITLE: Final = "Soak"
PLOTS_HERE: Final = True  # the charts stand on the results page
_COMMON: Final = "common"
_ENOUGH: Final = 0.95
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
        looks: how late its event loop was so far: the number of looks by the bound that they were below, in seconds.
        cpu: seconds so far.
        delivered: events that readers got so far.
    """

    at: float
    rss: int
    fds: int
    tasks: int
    looks: Mapping[float, float]
    cpu: float
    delivered: int


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure that must not grow.

    Attributes:
        name: with its unit.
        of: its value over some samples, which follow each other.
        ratio, more: it is flat while the end is at most `ratio` times the middle, plus `more`: what chance may add.
    """

    name: str
    of: Callable[[Sequence[Sample]], float]
    ratio: float
    more: float


def _lag(samples: Sequence[Sample]) -> float:
    """What 99 of 100 looks at the event loop between the first sample and the last were below, in milliseconds."""
    first, last = samples[0].looks, samples[-1].looks
    return quantile(0.99, {bound: count - first.get(bound, 0.0) for bound, count in last.items()}) * 1000


MEASURES: Final = (
    Measure("memory, MB", lambda samples: median(one.rss / 1e6 for one in samples), 1.05, 1),
    Measure("file descriptors", lambda samples: median(one.fds for one in samples), 1.02, 10),
    Measure("tasks", lambda samples: median(one.tasks for one in samples), 1.1, 20),
    Measure("loop lag, 99% below, ms", _lag, 1.25, 2.5),
)

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
            with _beside_the_server():
                counts = asyncio.run(_soak(server, readers, rate, minutes * 60, say))
        finally:
            server.stop()
    return [_flatness(minutes, readers, rate), _outcome(counts, rate * minutes * 60)]


@contextmanager
def _beside_the_server() -> Iterator[None]:
    """This process is the clients: it has the load's core, and files enough for all of them."""
    allow_many_files()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores()[1]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def _soak(server: Server, count: int, rate: float, seconds: float, say: Say) -> Counts:
    counts = Counts()
    rooms = max(1, count // 3)
    churn = 0.1 / 60 if seconds >= 20 else 2 / seconds  # a short run has its reconnects too
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
            await asyncio.wait_for(readers[index].opened.wait(), 300)
    await asyncio.wait_for(asyncio.gather(*(reader.opened.wait() for reader in readers)), 300)
    say(f"{count:,} readers are there")
    tasks += [asyncio.create_task(one.run()) for one in publishers]
    tasks.append(asyncio.create_task(strangers(server.port, readers, counts, seconds / 60 if seconds < 60 else 1.0)))
    sampling = asyncio.create_task(_sample(server, counts, seconds, say))
    ended, _ = await asyncio.wait([sampling, *tasks], return_when=asyncio.FIRST_COMPLETED)  # a client ends by an error
    for task in (sampling, *tasks):
        task.cancel()
    await asyncio.gather(sampling, *tasks, return_exceptions=True)
    for task in ended:
        try:
            task.result()
        except Exception as error:
            raise Failed(f"a client, or the sampling, failed: {error!r}") from error
    return counts


async def _sample(server: Server, counts: Counts, seconds: float, say: Say) -> None:
    _samples.clear()
    begun = time.monotonic()
    every = min(5.0, seconds / 12)
    told = 0
    while (at := time.monotonic() - begun) < seconds:
        try:
            text = await asyncio.to_thread(server.text, "/metrics")
        except OSError:
            counts.answers[0] += 1  # it may be overloaded for a moment; a server that is gone fails below
        else:
            looks = {float(bound): float(count) for bound, count in _BUCKET.findall(text)}
            tasks = int(float(_TASKS.findall(text)[0]))
            fds = len(os.listdir(f"/proc/{server.popen.pid}/fd"))
            _samples.append(Sample(at, server.rss(), fds, tasks, looks, server.cpu(), counts.delivered))
        if at // 60 > told:
            told = int(at // 60)
            say(f"minute {told}: {server.rss() / 1e6:.0f} MB, {counts.delivered:,} delivered, {counts.lost} lost")
        await asyncio.sleep(every)
    if len(_samples) < 6:
        raise server.failed(f"said how it is only {len(_samples)} times")


def quantile(part: float, buckets: Mapping[float, float]) -> float:
    """The value that so large a part of what was counted is below, evenly spread within a bucket.

    Args:
        part: 0.99 for 99%.
        buckets: how many were at most each bound; they add up, as Prometheus has it.
    """
    total, lower, before = max(buckets.values(), default=0.0), 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= part * total and count > before:
            return (
                lower if bound == float("inf") else lower + (bound - lower) * (part * total - before) / (count - before)
            )
        lower, before = bound, count
    return 0.0


def _thirds() -> tuple[list[Sample], list[Sample]]:
    """The second third and the last one."""
    third = max(1, len(_samples) // 3)
    return _samples[third : 2 * third], _samples[2 * third :]


def _flatness(minutes: float, readers: int, rate: float) -> Table:
    middle, last = _thirds()
    rows: list[list[Cell]] = []
    for measure in MEASURES:
        before, after = measure.of(middle), measure.of(last)
        flat = after <= before * measure.ratio + measure.more
        change = f"{(after / before - 1) * 100:+.1f}%" if before else None
        rows.append([measure.name, before, after, change, "flat" if flat else "grows"])
    spent = (_samples[-1].cpu - _samples[0].cpu) / max(1e-9, _samples[-1].at - _samples[0].at)
    allowed = "; ".join(f"{each.name.partition(',')[0]} {each.ratio - 1:.0%} + {each.more:g}" for each in MEASURES)
    notes = [
        f"The second third and the last one: medians of all samples. The server used {spent:.0%} of its core.",
        f"What is flat is at the end at most so much above the middle: {allowed}.",
    ]
    title = f"{minutes:g} minutes, {readers:,} readers, {rate:g} events a second"
    return Table(title, ("", "middle", "end", "change", "verdict"), rows, notes)


def _outcome(counts: Counts, asked: float) -> Table:
    """The table of the clients. With fewer events than `asked` it was no soak: something was too slow."""
    failed = sum(number for status, number in counts.answers.items() if status >= 500)
    none = {"lost": counts.lost, "doubled": counts.doubled, "gaps": counts.gaps, "answers of 5xx": failed}
    rows: list[list[Cell]] = [
        ["published", counts.published, "as asked" if counts.published >= _ENOUGH * asked else "TOO FEW"],
        ["delivered", counts.delivered, None],
        *([name, number, "none" if number == 0 else "WRONG"] for name, number in none.items()),
        ["reconnects", counts.reconnects, None],
        ["connections that broke", counts.answers[0], None],
        *([f"fault: {kind}", number, None] for kind, number in sorted(counts.faults.items())),
    ]
    return Table("What the clients saw", ("", "count", "verdict"), rows)


def plots(size: Size) -> dict[Path, str]:
    """The charts of the results page."""
    images = DOCS.parent / "images"

    def line(of: Callable[[Sample], float]) -> Line:
        return [(one.at / 60, of(one)) for one in _samples]

    charts: dict[str, tuple[str, str, Callable[[Sample], float]]] = {
        "memory": ("Memory of the server", "MB", lambda one: one.rss / 1e6),
        "descriptors": ("Open file descriptors", "descriptors", lambda one: one.fds),
        "tasks": ("Tasks of the event loop", "tasks", lambda one: one.tasks),
    }
    minute = max(2, len(_samples) // 30)  # of 30 minutes; less of a shorter run
    lag = [(_samples[end].at / 60, _lag(_samples[end - minute : end + 1])) for end in range(minute, len(_samples))]
    found = {
        images / f"soak-{name}.svg": chart(title, "minutes", unit, {title: line(of)})
        for name, (title, unit, of) in charts.items()
    }
    title = "Lag of the event loop, 99% below, over the last minute"
    return {**found, images / "soak-lag.svg": chart(title, "minutes", "ms", {title: lag})}
