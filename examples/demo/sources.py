"""What the demo publishes about this machine, each second: its load, and the server's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import psutil  # type: ignore[import-untyped]  # it ships no types

from examples.demo.outbox import Outbox


class Counters:
    """The machine's counters of bytes, as rates since the last look."""

    def __init__(self) -> None:
        self._before = self._read()

    def _read(self) -> tuple[float, int, int, int, int]:
        network = psutil.net_io_counters()
        disk = psutil.disk_io_counters()  # None on a machine without disks of its own, such as a container
        return (
            time.monotonic(),
            network.bytes_recv if network else 0,
            network.bytes_sent if network else 0,
            disk.read_bytes if disk else 0,
            disk.write_bytes if disk else 0,
        )

    def rates(self) -> dict[str, float]:
        """Bytes a second, received, sent, read and written."""
        before, self._before = self._before, self._read()
        seconds = max(self._before[0] - before[0], 0.001)
        names = ("received", "sent", "read", "written")
        return {
            name: round(max(0, now - then) / seconds)
            for name, then, now in zip(names, before[1:], self._before[1:], strict=True)
        }


async def machine(outbox: Outbox) -> None:
    """Publish this machine's CPU, memory, disk and network each second."""
    counters = Counters()
    psutil.cpu_percent(percpu=True)  # the first call only starts the measurement
    async for now in seconds():
        memory = psutil.virtual_memory()
        outbox.put(
            "sample",
            t=now,
            cores=psutil.cpu_percent(percpu=True),
            memory=memory.total - memory.available,
            total=memory.total,
            load=round(psutil.getloadavg()[0], 2),
            **counters.rates(),
        )


async def server(outbox: Outbox, client: httpx2.AsyncClient, pid: Callable[[], int | None]) -> None:
    """Publish what the server's process uses and does, each second in which it lives."""
    process: psutil.Process | None = None
    delivered = 0
    async for now in seconds():
        try:
            if process is None or process.pid != pid():
                process = psutil.Process(pid())
                process.cpu_percent()
                delivered = 0
                continue
            stats: dict[str, Any] = (await client.get("/console/stats")).json()
            outbox.put(
                "sample",
                t=now,
                pid=process.pid,
                cpu=process.cpu_percent(),
                rss=process.memory_info().rss,
                subscribers=stats["subscribers"],
                delivered=max(0, stats["delivered"] - delivered),
            )
            delivered = stats["delivered"]
        except (psutil.NoSuchProcess, httpx2.TransportError, ValueError, KeyError):
            process = None  # it was killed between two lines


async def ticks(outbox: Outbox, rate: float) -> None:
    """Publish so many small events a second: something to count while the server is killed."""
    due = time.monotonic()
    while rate > 0:
        due = max(due + 1 / rate, time.monotonic() - 1)
        await asyncio.sleep(max(0, due - time.monotonic()))
        outbox.put("tick", t=milliseconds())


async def seconds() -> AsyncIterator[int]:
    """Yield the time, in milliseconds, at each full second."""
    while True:
        await asyncio.sleep(1 - time.time() % 1)
        yield milliseconds()


def milliseconds() -> int:
    """Now, in milliseconds since the Unix epoch, as JavaScript counts."""
    return round(time.time() * 1000)
