"""Very many channels, and logs that are large: what costs more there, and what does not.

Four questions, each with a target beside its figure: does publishing to channels that are seen once stay as fast, and
the process as small, after a million of them; what does a new channel cost beside ten thousand pattern subscriptions;
how long does a page of a hundred quiet channels take in a log of three million events, and other readers meanwhile; and
does retention keep up while channels are dropped all the time. Each part runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final, TypeVar

import uvloop

from benchmarks.build import BUILD
from benchmarks.processes import Failed
from benchmarks.report import Cell, Say, Size, Table, shown
from newswire import Event, Hub, Pattern, Retention
from newswire.log.channels import Channels
from newswire.log.sqlite import SqliteLog

TITLE: Final = "Channels"
_DATA: Final = "x" * 50
_BATCH: Final = 4000
_COLUMNS: Final = ("what", "figure", "target")

T = TypeVar("T")


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about three minutes in full."""
    channels = size.count(1_000_000, 300_000, 2_000)
    patterns = size.count(10_000, 10_000, 50)
    quiet_log = size.count(3_000_000, 1_000_000, 8_000)
    kept_log = size.count(2_000_000, 500_000, 8_000)
    seconds = size.pick(20, 10, 0.5)
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="channels-") as folder:
        seen_once: list[list[Cell]] = []
        for name, url in (("memory", "memory://"), ("SQLite, synchronous=FULL", f"sqlite:///{folder}/once.db")):
            say(f"{channels:,} channels seen once: {name}")
            seen_once.append(_apart(_seen_once, name, url, channels))
        say(f"{patterns:,} pattern subscriptions")
        rows = [_apart(_patterns, patterns)]
        say(f"100 quiet channels in a log of {quiet_log:,} events")
        rows += _apart(_quiet, f"{folder}/quiet.db", quiet_log)
        say(f"retention in a log of {kept_log:,} events, 5 drops a second")
        rows += _apart(_kept, f"{folder}/kept.db", kept_log, seconds)
    rates = ("first", "last", "last / first", "first, by the clock", "last, by the clock", "last / first, by the clock")
    columns = ("log", *rates, "target", "RSS MB, a tenth", "RSS MB, all")
    return [
        Table(
            f"{channels:,} channels, one event of 50 bytes each, 64 publishers: events a second, by CPU and clock",
            columns,
            seen_once,
            ("First and last: of ten parts of equal size. The memory log begins to drop its oldest at 64 MiB.",),
        ),
        Table("Patterns, quiet channels, retention", _COLUMNS, rows),
    ]


def _apart(part: Callable[..., T], *arguments: object) -> T:
    """Run a part in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_in_loop, part, *arguments).result()


def _in_loop(part: Callable[..., Any], *arguments: object) -> Any:
    return uvloop.run(part(*arguments))


def _rss() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _target(met: bool, text: str) -> str:
    return f"{text}: {'met' if met else 'not met'}"


# -- (a) channels that are seen once


async def _seen_once(name: str, url: str, channels: int) -> list[Cell]:
    numbers = iter(range(channels))
    part = channels // 10
    small = 0.0
    stored = 0

    def now() -> tuple[float, float]:
        return time.process_time(), time.perf_counter()

    async def publisher() -> None:
        nonlocal small, stored
        for number in numbers:
            await hub.publish(f"user.{number}", _DATA)
            stored += 1
            if stored % part == 0:
                marks.append(now())
                small = small or _rss()

    async with Hub(url) as hub:
        marks = [now()]
        await asyncio.gather(*(publisher() for _ in range(64)))
    first, last = ([part / (end - begin) for begin, end in zip(marks[i], marks[i + 1], strict=True)] for i in (0, 9))
    cpu, wall = last[0] / first[0], last[1] / first[1]
    return [name, first[0], last[0], cpu, first[1], last[1], wall, _target(cpu >= 0.8, ">= 0.8"), small, _rss()]


# -- (b) pattern subscriptions


async def _patterns(count: int) -> list[Cell]:
    async with Hub("memory://") as hub:
        subscriptions = [hub.subscribe(Pattern(f"room.{number}.*")) for number in range(count)]
        waiting = [asyncio.ensure_future(anext(aiter(each))) for each in subscriptions]
        for _ in range(1000):
            await asyncio.sleep(0.01)
            if hub.stats().subscribers == count:
                break
        costs = []
        for first in range(0, 1000, 100):
            begun = time.process_time()
            for number in range(first, first + 100):
                await hub.publish(f"user.{number}", _DATA)
            costs.append((time.process_time() - begun) / 100)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    cost = sorted(costs)[len(costs) // 2] * 1e6
    what = f"publish to a new channel beside {count:,} pattern subscriptions, CPU time"
    return [what, f"{shown(cost)} µs", _target(cost <= 50, "<= 50 µs")]


# -- (c) quiet channels


async def _quiet(path: str, events: int) -> list[list[Cell]]:
    log = SqliteLog(path, synchronous="NORMAL")
    for begin in range(0, events, _BATCH):
        quiet = [(f"user.{begin // _BATCH * 7 % 2000}", Event(_DATA))]
        await log.append(quiet + [(f"busy.{number % 50}", Event(_DATA)) for number in range(_BATCH - 1)])
    dice = random.Random(1)
    alone: list[float] = []
    for _ in range(30):
        wanted = Channels([f"user.{dice.randrange(2000)}" for _ in range(100)])
        begun = time.perf_counter()
        page = await log.read(wanted, 0, 500)
        alone.append(time.perf_counter() - begun)
        if page.through < events:
            raise Failed(f"a page of 100 quiet channels ended at {page.through:,} of {events:,} events")
    waits: list[float] = []

    async def others() -> None:
        while True:
            wanted = Channels([f"user.{number}" for number in range(2000)])
            await log.read(wanted, 0, 500)

    tasks = [asyncio.ensure_future(others()) for _ in range(4)]
    for number in range(100):
        await asyncio.sleep(0.01)
        begun = time.perf_counter()
        await log.read(Channels([f"busy.{number % 50}"]), events - _BATCH, 50)
        waits.append(time.perf_counter() - begun)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await log.close()
    page, wait = sorted(alone)[len(alone) // 2] * 1e3, sorted(waits)[len(waits) // 2] * 1e3
    return [
        [
            f"a page of 100 quiet channels from the beginning of {events:,} events",
            f"{shown(page)} ms",
            _target(page <= 10, "<= 10 ms"),
        ],
        ["another reader's page, while four catch up on 2,000 quiet channels each", f"{shown(wait)} ms", None],
    ]


# -- (d) retention beside drops


async def _kept(path: str, events: int, seconds: float) -> list[list[Cell]]:
    rules = {"busy.*": Retention(max_events=events // 50)}
    log = SqliteLog(path, synchronous="NORMAL", retention=rules)

    def batch(size: int) -> list[tuple[str, Event]]:
        return [(f"busy.{number % 50}", Event(_DATA)) for number in range(size)]

    for _ in range(0, events, _BATCH):
        await log.append(batch(_BATCH))
    await log.trim()
    appended = removed = dropped = 0
    most = 0
    end = time.perf_counter() + seconds
    start = (await log.span()).earliest
    while time.perf_counter() < end:
        [position] = await log.append([(f"run.{dropped}", Event(_DATA))])
        await log.drop({f"run.{dropped}": position.offset})
        dropped += 1
        for _ in range(4):
            await log.append(batch(500))
            appended += 500
            await asyncio.sleep(0.05)
        removed = (await log.span()).earliest - start
        most = max(most, appended - removed)
    await log.close()
    over = appended - removed
    rate = appended / seconds
    return [
        [
            f"events over the limit after {seconds:g} s of {rate:,.0f} events/s and {dropped / seconds:.1f} drops/s",
            f"{over:,}",
            _target(over <= 4 * rate, "<= those of 4 s"),
        ]
    ]
