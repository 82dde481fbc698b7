"""PostgreSQL, for the benchmark `engines`: `hub.publish` beside asyncpg that does nothing but insert.

Raw rows go into two tables: `bare` has a primary key only, and `by channel` also the index without which no one reads a
channel's events. A raw batch is one INSERT of an `unnest`, the fastest way that asyncpg has. Everything else is as for
the other engines.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any, Final

import asyncpg
import psutil
import uvloop
from tests.fixtures.engines import Postgres

from benchmarks.on_servers import DATA, Case, Meter, delivery, measured, published
from benchmarks.report import Cell, Say, Size, Table, median

_BATCH: Final = 64
_SETTINGS: Final = {"fsync off": (), "fsync on": ("-c", "fsync=on")}
_TABLES: Final = """
    CREATE TABLE IF NOT EXISTS bare (id bigserial PRIMARY KEY, channel text NOT NULL, data text NOT NULL);
    CREATE TABLE IF NOT EXISTS by_channel (id bigserial PRIMARY KEY, channel text NOT NULL, data text NOT NULL);
    CREATE INDEX IF NOT EXISTS by_channel_index ON by_channel (channel, id);
    TRUNCATE bare, by_channel"""


def tables(size: Size, say: Say) -> list[Table]:
    """Measure; a minute in full."""
    seconds = size.pick(2.0, 0.7, 0.05)
    rounds = size.count(3, 1, 1)
    base = "raw unnest of 64, by channel, 1 connection"
    cases: dict[str, Case] = {
        "raw INSERT, by channel, 1 connection": partial(_raw, table="by_channel", connections=1, batch=1),
        "hub.publish, 1 publisher": partial(published, publishers=1, batch=1),
        "raw INSERT, by channel, 64 connections": partial(
            _raw, table="by_channel", connections=size.count(64, 64, 4), batch=1
        ),
        "raw unnest of 64, bare, 1 connection": partial(_raw, table="bare", connections=1, batch=_BATCH),
        base: partial(_raw, table="by_channel", connections=1, batch=_BATCH),
        "hub.publish, 64 publishers": partial(published, publishers=64, batch=1),
        "hub.publish, 256 publishers": partial(published, publishers=256, batch=1),
        "hub.publish_many of 64, 1 publisher": partial(published, publishers=1, batch=_BATCH),
        "hub.publish_many of 64, 4 publishers": partial(published, publishers=4, batch=_BATCH),
    }
    found = []
    for setting, options in list(_SETTINGS.items())[: size.count(2, 2, 1)]:
        results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in cases}
        with Postgres(*options, on_disk=True) as server:
            for number in range(rounds):
                for name, case in cases.items():
                    say(f"PostgreSQL, {setting}, round {number + 1} of {rounds}: {name}")
                    uvloop.run(_make_tables(server.url))
                    meter = Meter(partial(server_cpu, server), seconds)
                    results[name].append(measured(case, server.url, meter))
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


async def _make_tables(url: str) -> None:
    connection: Any = await asyncpg.connect(url)
    await connection.execute(_TABLES)
    await connection.close()


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


async def _raw(url: str, meter: Meter, *, table: str, connections: int, batch: int) -> None:
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
