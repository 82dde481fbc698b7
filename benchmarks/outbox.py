"""The outbox on PostgreSQL: publishing in the application's own transaction, beside the other ways to keep an order.

64 connections run transactions of one row each, as fast as they can. `bare INSERT` keeps no order: a reader that
follows the ids of such a table misses rows. The two techniques with a lock keep one: each transaction waits for the one
before. In the way of newswire a transaction inserts a row and waits for nothing; another process leads, and moves rows
to the log meanwhile. The server syncs each commit to the disk.

Then the delay from a commit to a subscriber in another process, alone and beside an unrelated transaction that has
written and stays open: for a minute in full.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any, Final

import asyncpg
import uvloop
from tests.fixtures.engines import Postgres

from benchmarks.on_servers import READER
from benchmarks.report import Cell, Say, Size, Table, median
from newswire import open_log

TITLE: Final = "Outbox"
_CONNECTIONS: Final = 64
_DATA: Final = "x" * 100
_SETUP: Final = """
    CREATE TABLE bare (id bigserial PRIMARY KEY, channel text NOT NULL, data text NOT NULL);
    CREATE TABLE ordered (id bigint PRIMARY KEY, channel text NOT NULL, data text NOT NULL);
    CREATE TABLE top (one integer PRIMARY KEY, id bigint NOT NULL);
    INSERT INTO top VALUES (1, 0);
    CREATE FUNCTION locked_row(channel text, data text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE next bigint;
    BEGIN
        SELECT id + 1 INTO next FROM top WHERE one = 1 FOR UPDATE;
        UPDATE top SET id = next WHERE one = 1;
        INSERT INTO ordered VALUES (next, channel, data);
    END $$;
    CREATE FUNCTION advisory_lock(channel text, data text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(1);
        INSERT INTO bare (channel, data) VALUES (channel, data);
    END $$"""
_WAYS: Final = {
    "bare INSERT (readers miss rows)": "INSERT INTO bare (channel, data) VALUES ($1, $2)",
    "outbox: INSERT": (
        "INSERT INTO newswire.outbox (ticket, channel, event, data) VALUES (gen_random_uuid(), $1, NULL, $2)"
    ),
    "outbox: newswire_publish()": "SELECT newswire.newswire_publish($1, $2)",
    "a row's lock": "SELECT locked_row($1, $2)",
    "an advisory lock": "SELECT advisory_lock($1, $2)",
}
_LEADER: Final = """
import asyncio, sys
from newswire import open_log

async def main():
    log = open_log(sys.argv[1])
    await log.span()
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def run(size: Size, say: Say) -> list[Table]:
    """Measure; two minutes in full."""
    seconds = size.pick(3.0, 1.0, 0.1)
    rounds = size.count(3, 1, 1)
    connections = size.count(_CONNECTIONS, _CONNECTIONS, 4)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in _WAYS}
    with Postgres("-c", "fsync=on", "-c", "max_connections=200", on_disk=True) as server:
        uvloop.run(_prepare(server.url))
        with subprocess.Popen([sys.executable, "-c", _LEADER, server.url], stdout=subprocess.PIPE, text=True) as leader:
            assert leader.stdout is not None
            assert leader.stdout.readline() == "ready\n"
            for number in range(rounds):
                for name, statement in _WAYS.items():
                    say(f"round {number + 1} of {rounds}: {name}")
                    found[name].append(uvloop.run(_transactions(server.url, statement, seconds, connections)))
            leader.kill()
        bare = [median(one[part] for one in found[next(iter(_WAYS))]) or 1 for part in (0, 1)]
        rows: list[list[Cell]] = []
        for name, results in found.items():
            rate, p99, backlog = (median(one[part] for one in results) or 0 for part in range(3))
            moved = round(backlog * 1e3) if name.startswith("outbox") else None
            rows.append([name, round(rate), round(rate / bare[0], 2), p99 * 1e3, round(p99 / bare[1], 2), moved])
        columns = ("64 connections", "transactions/s", "x bare", "p99 ms", "x bare", "ms until all were moved")
        tables = [Table("Transactions of one row of 100 bytes", columns, rows, ())]
        delays: list[list[Cell]] = []
        for beside in (None, size.pick(60.0, 5.0, 0.2)):
            name = "alone" if beside is None else f"beside an unrelated transaction, open for {beside:g} s"
            say(f"delay, {name}")
            waits = sorted(_delays(server.url, size.count(2000, 500, 20), beside))
            delays.append([name, *(waits[int(part * (len(waits) - 1))] * 1e3 for part in (0.5, 0.99, 1.0))])
    tables.append(Table("From a commit to a subscriber, 200 a second", ("", "p50 ms", "p99 ms", "most ms"), delays, ()))
    return tables


async def _prepare(url: str) -> None:
    connection: Any = await asyncpg.connect(url)
    await connection.execute(_SETUP)
    await connection.close()
    log = open_log(url)
    await log.span()
    await log.close()


async def _transactions(url: str, statement: str, seconds: float, count: int) -> tuple[float, float, float]:
    """Transactions a second, the longest of 99 in 100, and how long it took until the outbox was empty."""
    connections: list[Any] = [await asyncpg.connect(url) for _ in range(count)]
    waits: list[float] = []

    async def warm(connection: Any) -> Any:
        """A session's first call compiles a function and plans the statement: applications have pools."""
        prepared = await connection.prepare(statement)
        for _ in range(5):
            await prepared.fetch("bench.outbox", _DATA)
        return prepared

    async def work(prepared: Any) -> None:
        end = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < end:
            await prepared.fetch("bench.outbox", _DATA)
            waits.append(time.perf_counter() - begun)

    statements = await asyncio.gather(*map(warm, connections))
    begun = time.perf_counter()
    await asyncio.gather(*map(work, statements))
    took = time.perf_counter() - begun
    ended = time.perf_counter()
    while await connections[0].fetchval("SELECT count(*) FROM newswire.outbox"):  # noqa: ASYNC110
        await asyncio.sleep(0.002)  # another process empties it
    moved = time.perf_counter() - ended
    for connection in connections:
        await connection.close()
    waits.sort()
    return len(waits) / took, waits[int(0.99 * (len(waits) - 1))], moved


def _delays(url: str, count: int, beside: float | None) -> list[float]:
    """How long each event takes from its commit to a subscriber of another process, in seconds.

    Args:
        count: of the events, at least.
        beside: for how many seconds another transaction is open meanwhile, at least; None: none is.
    """
    with subprocess.Popen([sys.executable, "-c", READER, url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        uvloop.run(_paced(url, count, beside))
        waits = [float(text) for text in process.stdout.readline().split()]
    return waits[len(waits) // 10 :]  # the first ones warm up


async def _paced(url: str, count: int, beside: float | None) -> None:
    connection: Any = await asyncpg.connect(url)
    other: Any = await asyncpg.connect(url)
    if beside is not None:
        await other.execute("BEGIN; SELECT pg_current_xact_id()")
    until = time.perf_counter() + (beside or 0.0)
    statement = await connection.prepare(
        "INSERT INTO newswire.outbox (ticket, channel, event, data) VALUES (gen_random_uuid(), 'bench', NULL, $1)"
    )
    await asyncio.sleep(0.5)  # until the other hub follows
    while count > 0 or time.perf_counter() < until:
        await statement.fetch(str(time.time()))
        count -= 1
        await asyncio.sleep(0.005)
    await statement.fetch("end")
    await connection.close()
    await other.close()
