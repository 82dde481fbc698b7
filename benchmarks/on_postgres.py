"""PostgreSQL, for the benchmark `engines`: `hub.publish` beside asyncpg that does nothing but insert.

Raw rows go into two tables: `bare` has a primary key only, and `by channel` also the index without which no one reads a
channel's events. A raw batch is one INSERT of an `unnest`, the fastest way that asyncpg has. Everything else is as for
the other engines.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeAlias

import asyncpg
import psutil
import uvloop
from tests.fixtures.engines import Postgres

from benchmarks.on_servers import DATA, delivery, publish_until
from benchmarks.report import Cell, Say, Size, Table, median
from newswire import Hub

_BATCH: Final = 64
_SETTINGS: Final = {"fsync off": (), "fsync on": ("-c", "fsync=on")}
_TABLES: Final = """
    CREATE TABLE IF NOT EXISTS bare (id bigserial PRIMARY KEY, channel text NOT NULL, data text NOT NULL);
    CREATE TABLE IF NOT EXISTS by_channel (id bigserial PRIMARY KEY, channel text NOT NULL, data text NOT NULL);
    CREATE INDEX IF NOT EXISTS by_channel_index ON by_channel (channel, id);
    TRUNCATE bare, by_channel"""

_Case: TypeAlias = Callable[[str, "_Meter"], Awaitable[None]]


def tables(size: Size, say: Say) -> list[Table]:
    """Measure; a minute in full."""
    seconds = size.pick(2.0, 0.7, 0.05)
    rounds = size.count(3, 1, 1)
    base = "raw unnest of 64, by channel, 1 connection"
    cases: dict[str, _Case] = {
        "raw INSERT, by channel, 1 connection": partial(_raw, table="by_channel", connections=1, batch=1),
        "hub.publish, 1 publisher": partial(_published, publishers=1, batch=1),
        "raw INSERT, by channel, 64 connections": partial(
            _raw, table="by_channel", connections=size.count(64, 64, 4), batch=1
        ),
        "raw unnest of 64, bare, 1 connection": partial(_raw, table="bare", connections=1, batch=_BATCH),
        base: partial(_raw, table="by_channel", connections=1, batch=_BATCH),
        "hub.publish, 64 publishers": partial(_published, publishers=64, batch=1),
        "hub.publish, 256 publishers": partial(_published, publishers=256, batch=1),
        "hub.publish_many of 64, 1 publisher": partial(_published, publishers=1, batch=_BATCH),
        "hub.publish_many of 64, 4 publishers": partial(_published, publishers=4, batch=_BATCH),
    }
    found = []
    for setting, options in list(_SETTINGS.items())[: size.count(2, 2, 1)]:
        results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in cases}
        with Postgres(*options, on_disk=True) as server:
            for number in range(rounds):
                for name, case in cases.items():
                    say(f"PostgreSQL, {setting}, round {number + 1} of {rounds}: {name}")
                    results[name].append(_measured(server, case, seconds))
        batches = median(one[0] for one in results[base]) or 1
        rows: list[list[Cell]] = []
        for name, each in results.items():
            rate = median(one[0] for one in each) or 0
            cpu = [median(one[part] for one in each) for part in (1, 2)]
            rows.append([name, round(rate), round(rate / batches, 2), *cpu])
        columns = ("PostgreSQL", "events/s", "x unnest", "client CPU µs/event", "server CPU µs/event")
        found.append(Table(f"Events of 100 bytes, {setting}", columns, rows, ()))
    with Postgres(on_disk=True) as server:
        say("PostgreSQL: delivery from one process to another")
        found.append(delivery("PostgreSQL", server.url, size))
    return found


class _Meter:
    """Measures one case, from when its connections are there.

    Attributes:
        end: when to stop.
        found: events a second, and microseconds of CPU for each: the client's and the server's.
    """

    def __init__(self, server: Postgres, seconds: float) -> None:
        self.found = (0.0, 0.0, 0.0)
        self._server = server
        self._seconds = seconds

    def start(self) -> None:
        """All is ready."""
        self._before = server_cpu(self._server), time.process_time(), time.perf_counter()
        self.end = self._before[2] + self._seconds

    def stop(self, count: int) -> None:
        """So many events are stored."""
        there, own, begun = self._before
        took, own, there = time.perf_counter() - begun, time.process_time() - own, server_cpu(self._server) - there
        self.found = count / took, own / count * 1e6, there / count * 1e6


def _measured(server: Postgres, case: _Case, seconds: float) -> tuple[float, float, float]:
    meter = _Meter(server, seconds)
    uvloop.run(_timed(case, server.url, meter))
    return meter.found


async def _timed(case: _Case, url: str, meter: _Meter) -> None:
    connection: Any = await asyncpg.connect(url)
    await connection.execute(_TABLES)
    await connection.close()
    await case(url, meter)


def server_cpu(server: Postgres) -> float:
    """Seconds that the server's processes have taken."""
    total = 0.0
    for process in server._tree():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


async def _published(url: str, meter: _Meter, *, publishers: int, batch: int) -> None:
    async with Hub(url) as hub:
        await hub.publish("bench", "first")
        meter.start()
        meter.stop(await publish_until(hub, meter.end, publishers, batch))


async def _raw(url: str, meter: _Meter, *, table: str, connections: int, batch: int) -> None:
    stored = 0
    opened: list[Any] = [await asyncpg.connect(url) for _ in range(connections)]
    meter.start()
    many = f"INSERT INTO {table} (channel, data) SELECT * FROM unnest($1::text[], $2::text[])"
    one = f"INSERT INTO {table} (channel, data) VALUES ($1, $2)"

    async def store(connection: Any) -> None:
        nonlocal stored
        while stored == 0 or time.perf_counter() < meter.end:
            if batch == 1:
                await connection.execute(one, "bench", DATA)
            else:
                await connection.execute(many, ["bench"] * batch, [DATA] * batch)
            stored += batch

    await asyncio.gather(*map(store, opened))
    meter.stop(stored)
    for connection in opened:
        await connection.close()
