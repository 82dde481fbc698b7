"""Random transactions with savepoints, half of them rolled back, in processes that are killed at random moments.

Each event shares its transaction with a row. So the rows that are there in the end are what readers must have seen:
exactly these, each once.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from tests.fixtures.engines import Postgres

from newswire import Hub, Pattern

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TRANSACTOR = Path(__file__).with_name("transactor.py")
TRANSACTIONS = 200
KILLS = 6


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str, str]:
    """The URL of a log, its database, and a table in it."""
    name = f"killed_{uuid4().hex[:8]}"
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/app.db", f"{tmp_path}/app.db", name
    server: Postgres = request.getfixturevalue("postgres")
    return f"{server.url}?schema={name}", server.url, name


def connect(database: str) -> Any:
    if database.startswith("postgresql:"):
        return psycopg.connect(database, autocommit=True)
    return sqlite3.connect(database, isolation_level=None, timeout=30)


@asynccontextmanager
async def reading(hub: Hub, seen: list[str]) -> AsyncIterator[None]:
    """A reader from the beginning on."""

    async def read() -> None:
        async for event in hub.subscribe(Pattern("rows.*"), start="earliest"):
            assert event.event == "message", event
            seen.append(event.data)

    task = asyncio.create_task(read())
    yield
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def run(arguments: list[str], ended: list[int], dice: random.Random, kills: int) -> None:
    """Keep a transactor running, which is killed so many times, and at the end when there are enough transactions."""
    for number in range(kills + 1):
        command = [
            sys.executable,
            str(TRANSACTOR),
            *arguments[:-1],
            f"{arguments[-1]}-{number}",
            str(dice.random())[2:],
        ]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            left = dice.randint(5, 20)
            while left > 0 or (number == kills and ended[0] < TRANSACTIONS):
                assert await process.stdout.readline(), "it has ended by itself"
                ended[0] += 1
                left -= 1
            await asyncio.sleep(dice.random() / 50)
        finally:
            process.kill()
            await process.wait()


async def test_readers_see_exactly_what_was_committed(place: tuple[str, str, str]) -> None:
    """See the module. The one that is killed may be the leader, and in the middle of a transaction of its own."""
    url, database, table = place
    dice = random.Random(5)
    connection = connect(database)
    key = "INTEGER PRIMARY KEY" if "app.db" in database else "bigint GENERATED ALWAYS AS IDENTITY"
    connection.execute(f"CREATE TABLE {table} (id {key}, tag text)")
    seen: list[str] = []
    async with Hub(url) as hub, reading(hub, seen):
        ended = [0]
        names = ["a", "b"]
        await asyncio.gather(*(run([url, database, table, name], ended, dice, KILLS // len(names)) for name in names))
        assert ended[0] >= TRANSACTIONS
        await (await hub.publish("rows.end", "end", connection=connection)).wait(30)
        async with asyncio.timeout(30):
            while "end" not in seen:
                await asyncio.sleep(0.02)
        rows = [tag for (tag,) in connection.execute(f"SELECT tag FROM {table} ORDER BY id").fetchall()]
        assert len(rows) > TRANSACTIONS / 2
        assert len(seen) == len(set(seen))
        if "app.db" in database:
            assert seen == [*rows, "end"]
        else:
            assert sorted(seen) == sorted([*rows, "end"])
            for name in {tag.partition(".")[0] for tag in rows}:
                mine = [tag for tag in seen if tag.startswith(f"{name}.")]
                assert mine == [tag for tag in rows if tag.startswith(f"{name}.")]
    connection.close()


async def test_rows_and_what_follows_are_the_final_state(place: tuple[str, str, str]) -> None:
    """A random walk: rows of a snapshot, and then the events after its position, are the state at the end."""
    url, database, table = place
    dice = random.Random(6)
    writer, reader = connect(database), connect(database)
    writer.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY, value integer)")
    mark = "%s" if database.startswith("postgresql:") else "?"
    taken: list[tuple[str, dict[int, int]]] = []
    async with Hub(url) as hub:
        await hub.publish("rows.x", "before", connection=writer)

        async def write() -> None:
            for value in count():
                if value >= 150 and len({position for position, _ in taken}) > 10:
                    return  # as many snapshots as a busy machine needs time for
                writer.execute("BEGIN" if mark == "%s" else "BEGIN IMMEDIATE")
                for _ in range(dice.randint(1, 3)):
                    id_ = dice.randrange(8)
                    writer.execute(f"DELETE FROM {table} WHERE id = {mark}", (id_,))
                    if dice.random() < 0.7:
                        writer.execute(f"INSERT INTO {table} VALUES ({mark}, {mark})", (id_, value))
                        await hub.publish("rows.x", {"id": id_, "value": value}, connection=writer)
                    else:
                        await hub.publish("rows.x", {"id": id_}, connection=writer)
                    await asyncio.sleep(0)
                writer.execute(dice.choice(["COMMIT", "COMMIT", "ROLLBACK"]))
                await asyncio.sleep(dice.random() / 500)

        writing = asyncio.create_task(write())
        while not writing.done():
            async with hub.snapshot(reader) as position:
                await asyncio.sleep(dice.random() / 200)
                taken.append((position, dict(reader.execute(f"SELECT id, value FROM {table}").fetchall())))
            await asyncio.sleep(0.005)
        await writing
        await (await hub.publish("rows.x", "end", connection=writer)).wait(30)
        final = dict(reader.execute(f"SELECT id, value FROM {table}").fetchall())
        assert len({position for position, _ in taken}) > 10
        for position, state in taken:
            async for event in hub.subscribe("rows.x", after=position):
                assert event.event == "message"
                if event.data == "end":
                    break
                if event.data == "before":
                    continue
                change = event.json()
                if "value" in change:
                    state[change["id"]] = change["value"]
                else:
                    state.pop(change["id"], None)
            assert state == final
    writer.close()
    reader.close()
