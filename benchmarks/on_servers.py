"""What benchmarks of engines on servers have in common: publishing for some time, and the way to another process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import uvloop

from benchmarks.report import Cell, Size, Table
from newswire import Event, Hub

DATA: Final = "x" * 100
READER: Final = """
import sys, time, uvloop
from newswire import Hub

async def main():
    async with Hub(sys.argv[1]) as hub:
        waits = []
        subscription = hub.subscribe("bench")
        print("ready", flush=True)
        async for event in subscription:
            if event.data == "end":
                break
            waits.append(time.time() - float(event.data))
        print(*waits)

uvloop.run(main())
"""


class Meter:
    """Measures one case, from when its connections are there.

    Args:
        server_cpu: the seconds of CPU that the server has taken.
        seconds: how long to go on.

    Attributes:
        end: when to stop, by the performance counter.
        found: events a second, and microseconds of CPU for each: the client's and the server's.
    """

    def __init__(self, server_cpu: Callable[[], float], seconds: float) -> None:
        self.found: tuple[float, float, float] = (0.0, 0.0, 0.0)
        self._server_cpu = server_cpu
        self._seconds = seconds

    def start(self) -> None:
        """All is ready."""
        self._before = self._server_cpu(), time.process_time(), time.perf_counter()
        self.end: float = self._before[2] + self._seconds

    def stop(self, count: int) -> None:
        """So many events are stored."""
        there, own, begun = self._before
        took, own, there = time.perf_counter() - begun, time.process_time() - own, self._server_cpu() - there
        self.found = count / took, own / count * 1e6, there / count * 1e6


# What is measured, at the URL of a server.
Case: TypeAlias = Callable[[str, Meter], Awaitable[None]]


def measured(case: Case, url: str, meter: Meter) -> tuple[float, float, float]:
    """Measure a case. Returns `Meter.found`."""
    uvloop.run(_timed(case, url, meter))
    return meter.found


async def _timed(case: Case, url: str, meter: Meter) -> None:
    await case(url, meter)


async def published(url: str, meter: Meter, *, publishers: int, batch: int) -> None:
    """Publish to a log; see `publish_until`."""
    async with Hub(url) as hub:
        await hub.publish("bench", "first")
        meter.start()
        meter.stop(await publish_until(hub, meter.end, publishers, batch))


async def publish_until(hub: Hub, end: float, publishers: int, batch: int) -> int:
    """Publish from so many tasks, `batch` events at a time, until `end` of the performance counter, and at least once.

    Returns:
        how many events were stored.
    """
    stored = 0
    events = [("bench", Event(DATA))] * batch

    async def publish() -> None:
        nonlocal stored
        while stored == 0 or time.perf_counter() < end:
            if batch == 1:
                await hub.publish("bench", DATA)
            else:
                await hub.publish_many(events)
            stored += batch

    await asyncio.gather(*(publish() for _ in range(publishers)))
    return stored


def delivery(name: str, url: str, size: Size) -> Table:
    """How long an event takes to another process."""
    waits = sorted(delivered(url, size.count(4000, 1000, 50)))
    rows: list[list[Cell]] = [
        [what, waits[int(part * (len(waits) - 1))] * 1e3] for what, part in (("p50", 0.5), ("p99", 0.99), ("most", 1.0))
    ]
    return Table("Delivery to another process, 500 events/s", (name, "ms"), rows, ())


def delivered(url: str, count: int) -> list[float]:
    """How long each event takes to a subscriber of another hub, in seconds."""
    command = [sys.executable, "-c", READER, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        uvloop.run(_paced(url, count))
        waits = [float(text) for text in process.stdout.readline().split()]
    return waits[len(waits) // 10 :]  # the first ones warm up


async def _paced(url: str, count: int) -> None:
    async with Hub(url) as hub:
        await asyncio.sleep(0.5)  # until the other hub follows
        for _ in range(count):
            await hub.publish("bench", str(time.time()))
            await asyncio.sleep(0.002)
        await hub.publish("bench", "end")
