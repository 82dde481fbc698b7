"""Publish: how many events a second are stored, and how long one publisher waits until its event is.

Publishers are tasks in one process, each of which awaits one `hub.publish` after another: so with one of them every
event is a commit (and a sync of the disk) of its own, and with many a commit takes along what came meanwhile. There are
no subscribers. At the end the file is opened again, and has to hold what was acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.build import BUILD
from benchmarks.processes import Failed
from benchmarks.publish_http import table
from benchmarks.report import Cell, Say, Size, Table, median
from newswire import Event, Hub, open_log

TITLE: Final = "Publish"
_DATA: Final = "x" * 200
_LOGS: Final = {
    "SQLite, synchronous=FULL": "sqlite:///{path}?synchronous=FULL",
    "SQLite, synchronous=NORMAL": "sqlite:///{path}?synchronous=NORMAL",
    "memory": "memory://",
}


@dataclass(frozen=True, slots=True)
class _Result:
    per_second: float
    p50_us: float
    p99_us: float


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about half a minute in full."""
    seconds = size.pick(2, 1, 0.1)
    rounds = size.count(3, 1, 1)
    cases = [(name, *load) for name in _LOGS for load in ((1, 1), (16, 1), (64, 1), (1, 64))]
    found: dict[tuple[str, int, int], list[_Result]] = {case: [] for case in cases}
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="publish-") as folder:
        syncs = syncs_per_second(folder)
        for number in range(rounds):
            for case in cases:
                name, publishers, batch = case
                say(f"round {number + 1} of {rounds}: {name}, publishers: {publishers}, batches of {batch}")
                found[case].append(uvloop.run(_publish(_LOGS[name], folder, publishers, batch, seconds)))
        over_http = table(folder, size, say)
    rows: list[list[Cell]] = [
        [
            f"{name}: {publishers} publisher{'s' if publishers > 1 else ''}{f', {batch} a batch' if batch > 1 else ''}",
            round(median(one.per_second for one in results) or 0),
            median(one.p50_us for one in results),
            median(one.p99_us for one in results),
        ]
        for (name, publishers, batch), results in found.items()
    ]
    notes = (
        f"The file is on {_disk(BUILD)}; a bare 4 KB append and fdatasync runs {syncs:,.0f} times a second there.",
        "What was acknowledged was counted in the file, opened again.",
    )
    columns = ("log", "events/s", "wait p50 µs", "wait p99 µs")
    return [Table("Events of 200 bytes, one process", columns, rows, notes), over_http]


async def _publish(url: str, folder: str, publishers: int, batch: int, seconds: float) -> _Result:
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".db", delete=False) as file:
        url = url.format(path=file.name)
    hub = Hub(url)
    waits: list[float] = []
    counted = 0

    async def publisher() -> None:
        nonlocal counted
        events = [("bench", Event(_DATA))] * batch
        while (begun := time.perf_counter()) < end:
            if batch == 1:
                await hub.publish("bench", _DATA)
            else:
                await hub.publish_many(events)
            waits.append(time.perf_counter() - begun)
            counted += batch

    async with hub:
        for _ in range(100):
            await hub.publish("bench", _DATA)
        begun = time.perf_counter()
        end = begun + seconds
        await asyncio.gather(*(publisher() for _ in range(publishers)))
        took = time.perf_counter() - begun
    if url.startswith("sqlite"):
        await _check(url, 100 + counted)
    waits.sort()
    return _Result(counted / took, waits[len(waits) // 2] * 1e6, waits[int(0.99 * (len(waits) - 1))] * 1e6)


async def _check(url: str, expected: int) -> None:
    log = open_log(url)
    try:
        span = await log.span()
    finally:
        await log.close()
    stored = span.latest - span.earliest
    if stored != expected:
        raise Failed(f"{expected:,} events were acknowledged, and the file has {stored:,}")


def syncs_per_second(folder: str) -> float:
    """What the disk can do: appends, each synced, a second."""
    block = b"x" * 4096
    descriptor = os.open(Path(folder) / "syncs", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        count, begun = 0, time.perf_counter()
        while (took := time.perf_counter() - begun) < 0.3:
            os.write(descriptor, block)
            os.fdatasync(descriptor)
            count += 1
        return count / took
    finally:
        os.close(descriptor)


def _disk(path: Path) -> str:
    """The file system and the device that `path` is on, such as `ext4 (vda)`."""
    device = path.stat().st_dev
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == f"{os.major(device)}:{os.minor(device)}":
            rest = fields[fields.index("-") + 1 :]
            return f"{rest[0]} ({Path(rest[1]).name})"
    return "a file system that /proc does not name"
