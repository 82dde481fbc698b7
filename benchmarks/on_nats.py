"""NATS JetStream, for the benchmark `engines`: a hub beside nats-py's `publish_async`, which only stores.

The raw client sends without waiting and has up to 4,000 answers outstanding, in one task or in 64; also it waits for
each before the next, as one publisher of a hub does. CPU is this process's, the server's apart.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

import nats
import psutil
import uvloop
from tests.fixtures.engines import Nats

from benchmarks.on_servers import DATA, Case, Meter, delivery, measured, published
from benchmarks.report import Cell, Say, Size, Table, median

_PENDING: Final = 4000


def tables(size: Size, say: Say) -> list[Table]:
    """Measure; a minute in full."""
    found = [_throughput(size, say)]
    with Nats(on_disk=True) as server:
        say("NATS: delivery from one process to another")
        found.append(delivery("NATS JetStream", server.url, size))
    return found


def _throughput(size: Size, say: Say) -> Table:
    seconds = size.pick(2.0, 0.7, 0.05)
    rounds = size.count(3, 1, 1)
    raw_one, raw_many = "raw publish_async, 1 task", "raw publish_async, 64 tasks"
    cases: dict[str, Case] = {
        "raw publish, 1 task that awaits each": partial(_raw, tasks=1, awaited=True),
        "hub.publish, 1 publisher": partial(published, publishers=1, batch=1),
        raw_one: partial(_raw, tasks=1, awaited=False),
        raw_many: partial(_raw, tasks=64, awaited=False),
        "raw publish, 64 tasks that await each": partial(_raw, tasks=64, awaited=True),
        "hub.publish, 64 publishers": partial(published, publishers=64, batch=1),
        "hub.publish, 1,000 publishers": partial(published, publishers=1000, batch=1),
        "hub.publish_many of 64, 4 publishers": partial(published, publishers=4, batch=64),
        "hub.publish_many of 1,000, 1 publisher": partial(published, publishers=1, batch=1000),
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in cases}
    with Nats(on_disk=True) as server:
        for number in range(rounds):
            for name, case in cases.items():
                say(f"NATS, round {number + 1} of {rounds}: {name}")
                uvloop.run(_clear(server.url))
                found[name].append(measured(case, server.url, Meter(partial(_server_cpu, server), seconds)))

    def middle(name: str, column: int) -> float:
        return median(result[column] for result in found[name]) or 0

    base = middle(raw_many, 0) or 1
    rows: list[list[Cell]] = [
        [name, round(middle(name, 0)), round(middle(name, 0) / base, 2), middle(name, 1), middle(name, 2)]
        for name in cases
    ]
    columns = ("NATS JetStream", "events/s", "x publish_async", "client CPU µs/event", "server CPU µs/event")
    return Table("Events of 100 bytes, synced every two minutes (the default)", columns, rows, ())


def _server_cpu(server: Nats) -> float:
    assert server.process is not None
    times = psutil.Process(server.process.pid).cpu_times()
    return float(times.user + times.system)


async def _clear(url: str) -> None:
    client = await nats.connect(url)
    stream = client.jetstream()
    for info in await stream.streams_info():
        await stream.delete_stream(info.config.name or "")
    await client.close()


async def _raw(url: str, meter: Meter, *, tasks: int, awaited: bool) -> None:
    client = await nats.connect(url)
    stream = client.jetstream(publish_async_max_pending=_PENDING)
    await stream.add_stream(name="raw", subjects=["raw.>"])
    data, stored = DATA.encode(), 0
    meter.start()

    async def store() -> None:
        nonlocal stored
        while stored == 0 or time.perf_counter() < meter.end:
            if awaited:
                await stream.publish("raw.bench", data)
            else:
                await stream.publish_async("raw.bench", data)
            stored += 1
            if not awaited and stored % 100 == 0:
                await asyncio.sleep(0)

    await asyncio.gather(*(store() for _ in range(tasks)))
    if not awaited:
        await stream.publish_async_completed()
    meter.stop(stored)
    await client.close()
