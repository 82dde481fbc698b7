"""Engines: publishing to a log on a server, beside the server's own client that does nothing but store; and delivery.

The server runs on the same machine, with nothing synced to the disk and with each write synced. Publishers are tasks in
one process that await one `hub.publish` after another; beside them, tasks that await one `XADD` of redis-py after
another, and pipelines of them, which wait only for all at once. CPU is this process's, server's apart. For the
delivery, a hub in another process has a subscriber, and both read the same clock.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

import redis.asyncio
from tests.fixtures.engines import Valkey

from benchmarks import on_nats, on_postgres
from benchmarks.on_servers import DATA, Case, Meter, delivery, measured, published
from benchmarks.report import Cell, Say, Size, Table, median

TITLE: Final = "Engines on servers"
_PIPELINE: Final = 64
_SERVERS: Final = {"no sync": (), "appendfsync always": ("--appendonly", "yes", "--appendfsync", "always")}


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about two minutes in full."""
    seconds = size.pick(2.0, 0.7, 0.05)
    rounds = size.count(3, 1, 1)
    cases: dict[str, Case] = {
        "raw XADD, 1 task": partial(_raw, tasks=1, batch=1),
        "hub.publish, 1 publisher": partial(published, publishers=1, batch=1),
        "raw XADD, 64 tasks": partial(_raw, tasks=64, batch=1),
        "raw XADD, pipelines of 64, 4 tasks": partial(_raw, tasks=4, batch=_PIPELINE),
        "hub.publish, 64 publishers": partial(published, publishers=64, batch=1),
        "hub.publish, 256 publishers": partial(published, publishers=256, batch=1),
        "hub.publish_many of 64, 4 publishers": partial(published, publishers=4, batch=_PIPELINE),
    }
    tables = []
    for setting, options in list(_SERVERS.items())[: size.count(2, 2, 1)]:
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in cases}
        with Valkey(*options, on_disk=True) as server:
            for number in range(rounds):
                for name, case in cases.items():
                    say(f"Valkey, {setting}, round {number + 1} of {rounds}: {name}")
                    server.ask("FLUSHALL")
                    meter = Meter(partial(_server_cpu, server), seconds)
                    found[name].append(measured(case, server.url, meter))
        piped = median(rate for rate, *_ in found["raw XADD, pipelines of 64, 4 tasks"]) or 1
        rows: list[list[Cell]] = []
        for name, results in found.items():
            rate, *cpu = (median(one[part] for one in results) or 0 for part in range(3))
            rows.append([name, round(rate), round(rate / piped, 2), *cpu])
        columns = ("Valkey", "events/s", "x pipelined", "client CPU µs/event", "server CPU µs/event")
        tables.append(Table(f"Events of 100 bytes, {setting}", columns, rows, ()))
    with Valkey(on_disk=True) as server:
        say("delivery from one process to another")
        tables.append(delivery("Valkey", server.url, size))
    return [*tables, *on_nats.tables(size, say), *on_postgres.tables(size, say)]


def _server_cpu(server: Valkey) -> float:
    info = dict(line.split(":") for line in server.ask("INFO", "cpu").decode().split("\r\n") if ":" in line)
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def _raw(url: str, meter: Meter, *, tasks: int, batch: int) -> None:
    client = redis.asyncio.Redis.from_url(url)
    await client.ping()
    stored = 0
    meter.start()

    async def store() -> None:
        nonlocal stored
        fields = {"c": "bench", "d": DATA}
        while stored == 0 or time.perf_counter() < meter.end:
            if batch == 1:
                await client.xadd("raw", fields)
            else:
                pipeline = client.pipeline(transaction=False)
                for _ in range(batch):
                    pipeline.xadd("raw", fields)
                await pipeline.execute()
            stored += batch

    await asyncio.gather(*(store() for _ in range(tasks)))
    meter.stop(stored)
    await client.aclose()
