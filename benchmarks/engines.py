"""Engines: publishing to a log on a server, beside the server's own client that does nothing but store; and delivery.

The server runs on the same machine, with nothing synced to the disk and with each write synced. Publishers are tasks in
one process that await one `hub.publish` after another; beside them, tasks that await one `XADD` of redis-py after
another, and pipelines of them, which wait only for all at once. CPU is this process's, server's apart. For the
delivery, a hub in another process has a subscriber, and both read the same clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import redis.asyncio
import uvloop
from tests.fixtures.engines import Valkey

from benchmarks import on_nats, on_postgres
from benchmarks.on_servers import DATA, delivery, published
from benchmarks.report import Cell, Say, Size, Table, median

TITLE: Final = "Engines on servers"
_PIPELINE: Final = 64
_SERVERS: Final = {"no sync": (), "appendfsync always": ("--appendonly", "yes", "--appendfsync", "always")}


@dataclass(frozen=True, slots=True)
class _Result:
    per_second: float
    cpu_us: float
    server_us: float


_Case: TypeAlias = Callable[[str, float], Awaitable[int]]


def run(size: Size, say: Say) -> list[Table]:
    """Measure; about two minutes in full."""
    seconds = size.pick(2.0, 0.7, 0.05)
    rounds = size.count(3, 1, 1)
    cases: dict[str, _Case] = {
        "raw XADD, 1 task": lambda url, seconds: _raw(url, seconds, 1, 1),
        "hub.publish, 1 publisher": lambda url, seconds: published(url, seconds, 1, 1),
        "raw XADD, 64 tasks": lambda url, seconds: _raw(url, seconds, 64, 1),
        "raw XADD, pipelines of 64, 4 tasks": lambda url, seconds: _raw(url, seconds, 4, _PIPELINE),
        "hub.publish, 64 publishers": lambda url, seconds: published(url, seconds, 64, 1),
        "hub.publish, 256 publishers": lambda url, seconds: published(url, seconds, 256, 1),
        "hub.publish_many of 64, 4 publishers": lambda url, seconds: published(url, seconds, 4, _PIPELINE),
    }
    tables = []
    for setting, options in list(_SERVERS.items())[: size.count(2, 2, 1)]:
        found: dict[str, list[_Result]] = {name: [] for name in cases}
        with Valkey(*options, on_disk=True) as server:
            for number in range(rounds):
                for name, case in cases.items():
                    say(f"Valkey, {setting}, round {number + 1} of {rounds}: {name}")
                    found[name].append(_measured(server, case, seconds))
        piped = median(one.per_second for one in found["raw XADD, pipelines of 64, 4 tasks"]) or 1
        rows: list[list[Cell]] = [
            [
                name,
                round(median(one.per_second for one in results) or 0),
                round((median(one.per_second for one in results) or 0) / piped, 2),
                median(one.cpu_us for one in results),
                median(one.server_us for one in results),
            ]
            for name, results in found.items()
        ]
        columns = ("Valkey", "events/s", "x pipelined", "client CPU µs/event", "server CPU µs/event")
        tables.append(Table(f"Events of 100 bytes, {setting}", columns, rows, ()))
    with Valkey(on_disk=True) as server:
        say("delivery from one process to another")
        tables.append(delivery("Valkey", server.url, size))
    return [*tables, *on_nats.tables(size, say), *on_postgres.tables(size, say)]


def _measured(server: Valkey, case: _Case, seconds: float) -> _Result:
    server.ask("FLUSHALL")
    before, cpu = _server_cpu(server), time.process_time()
    begun = time.perf_counter()
    while (count := uvloop.run(_timed(case, server.url, seconds))) == 0:
        seconds *= 2  # too short for one answer
        before, cpu, begun = _server_cpu(server), time.process_time(), time.perf_counter()
    took = time.perf_counter() - begun
    own = time.process_time() - cpu
    return _Result(count / took, own / count * 1e6, (_server_cpu(server) - before) / count * 1e6)


async def _timed(case: _Case, url: str, seconds: float) -> int:
    return await case(url, seconds)


def _server_cpu(server: Valkey) -> float:
    info = dict(line.split(":") for line in server.ask("INFO", "cpu").decode().split("\r\n") if ":" in line)
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def _raw(url: str, seconds: float, tasks: int, batch: int) -> int:
    client = redis.asyncio.Redis.from_url(url)
    stored = 0
    end = time.perf_counter() + seconds

    async def store() -> None:
        nonlocal stored
        fields = {"c": "bench", "d": DATA}
        while time.perf_counter() < end:
            if batch == 1:
                await client.xadd("raw", fields)
            else:
                pipeline = client.pipeline(transaction=False)
                for _ in range(batch):
                    pipeline.xadd("raw", fields)
                await pipeline.execute()
            stored += batch

    await asyncio.gather(*(store() for _ in range(tasks)))
    await client.aclose()
    return stored
