"""The leader of the log in a PostgreSQL database: killed at any moment, and readers see what was committed, once."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import psycopg
import pytest
from tests.fixtures.engines import Postgres
from tests.log.many_channels import retention_by_itself
from tests.log.redis_reader import PATIENCE, Reader

from newswire.log.postgres import leader as leader_module
from newswire.log.postgres.engine import PostgresEngine, PostgresLog
from newswire.log.retention import Retention
from newswire.testing.log_base import opened, read_all

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KILLED = int(os.environ.get("NEWSWIRE_KILLED_LEADERS", "5"))  # 20 takes half a minute
_PROGRAM = Path(__file__).parent / "postgres_leader.py"
_LEADER = """
    SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND (classid::bigint << 32 | objid::bigint) = $1"""


@contextmanager
def a_process(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process on the log."""
    command = [sys.executable, str(_PROGRAM), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


async def leader_of(connection: Any, log: PostgresLog) -> str:
    """The name of the process that leads."""
    assert isinstance(log.engine, PostgresEngine)
    async with asyncio.timeout(PATIENCE):
        while not (found := await connection.fetch(_LEADER, log.engine._schema.lead)):
            await asyncio.sleep(0.01)
    return str(found[0][0])


async def transactions(url: str, insert: str, name: str, dice: random.Random, enough: asyncio.Event) -> list[str]:
    """Run random transactions with savepoints, half of which roll back. Returns what they committed, in order."""
    connection = await asyncpg.connect(url)
    committed: list[str] = []
    number = 0

    async def put(into: list[str]) -> None:
        nonlocal number
        number += 1
        data = f"{name} {number}"
        await connection.execute(insert, name, data)
        into.append(data)

    while not enough.is_set() or len(committed) < 40:
        mine: list[str] = []
        transaction = connection.transaction()
        await transaction.start()
        for _ in range(dice.randint(1, 4)):
            await put(mine)
            if dice.random() < 0.4:
                inner: list[str] = []
                savepoint = connection.transaction()
                await savepoint.start()
                for _ in range(dice.randint(1, 3)):
                    await put(inner)
                if dice.random() < 0.5:
                    await savepoint.rollback()
                else:
                    await savepoint.commit()
                    mine += inner
            if dice.random() < 0.3:
                await asyncio.sleep(dice.random() / 50)
        if dice.random() < 0.5:
            await transaction.rollback()
        else:
            await transaction.commit()
            committed += mine
    await connection.close()
    return committed


async def test_a_leader_that_is_killed_at_random_points(postgres: Postgres) -> None:
    """Readers see exactly what was committed, once, each session in its order, in a log without holes."""
    dice = random.Random(7)
    namespace = secrets.token_hex(8)
    url = f"{postgres.url}?namespace={namespace}"
    log = PostgresLog(postgres.url, namespace=namespace)
    async with opened(log), Reader(log) as reader:
        assert isinstance(log.engine, PostgresEngine)
        await log.engine._leader.close()
        insert = log.engine.outbox.insert("gen_random_uuid()", "$1", "NULL", "$2")
        connection = await asyncpg.connect(postgres.url)
        enough = asyncio.Event()
        running = [
            asyncio.create_task(transactions(postgres.url, insert, f"s{name}", random.Random(name), enough))
            for name in range(5)
        ]
        with ExitStack() as stack:
            processes: dict[str, subprocess.Popen[str]] = {}

            def another() -> None:
                name = f"process {len(processes)}"
                processes[name] = stack.enter_context(a_process(f"{url}&application_name={quote(name)}"))

            another()
            for _ in range(KILLED):
                another()
                leader = await leader_of(connection, log)
                await asyncio.sleep(dice.random() / 10)
                processes[leader].kill()
                processes[leader].wait()
            enough.set()
            committed = [await task for task in running]
        await connection.close()
        log.engine._leader.start()
        for each in committed:
            await reader.saw(each[-1])
        assert None not in reader.seen
        for name, each in enumerate(committed):
            assert [data for data in reader.seen if data is not None and data.startswith(f"s{name} ")] == each
        assert len(reader.seen) == sum(map(len, committed))
        offsets = [entry.offset for entry in await read_all(log, "s0", "s1", "s2", "s3", "s4")]
        assert offsets == list(range(1, len(offsets) + 1))


async def test_a_leader_that_stands_still_is_replaced(postgres: Postgres) -> None:
    """The server ends its session, and another process leads."""
    namespace = secrets.token_hex(8)
    with a_process(f"{postgres.url}?namespace={namespace}&idle_session_timeout=3s") as frozen:
        log = PostgresLog(f"{postgres.url}?application_name=other", namespace=namespace)
        async with opened(log), Reader(log) as reader:
            assert isinstance(log.engine, PostgresEngine)
            connection = await asyncpg.connect(postgres.url)
            assert await leader_of(connection, log) == "newswire"
            frozen.send_signal(signal.SIGSTOP)
            insert = log.engine.outbox.insert("gen_random_uuid()", "'a'", "NULL", "'new'")
            await connection.execute(insert)
            await reader.saw("new")
            assert await leader_of(connection, log) == "other"
            await connection.close()


@pytest.mark.parametrize("held", ["lead", "log", "keep"])
async def test_a_session_that_stops_in_the_middle_of_a_statement_is_ended(
    postgres: Postgres, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has no time limit for that; those who wait for the lead have one."""
    monkeypatch.setattr(leader_module, "_END_STOPPED", leader_module._END_STOPPED.replace("'5s'", "'1s'"))
    monkeypatch.setattr(leader_module, "_LOOK_SECONDS", 0.2)
    log = PostgresLog(postgres.url, namespace=secrets.token_hex(8))
    async with opened(log), Reader(log) as reader:
        assert isinstance(log.engine, PostgresEngine)
        schema = log.engine._schema
        await log.engine._leader.close()
        leader = await asyncpg.connect(postgres.url)
        stopped = await psycopg.AsyncConnection.connect(postgres.url, autocommit=True)
        await stopped.execute("SELECT pg_advisory_lock(%s)", [getattr(schema, held)])
        if held != "lead":
            await leader.execute("SELECT pg_advisory_lock($1)", schema.lead)
        with suppress(psycopg.OperationalError):  # its connection is ended
            async with stopped.pipeline():
                await (await stopped.execute("SELECT 1")).fetchall()  # and no Sync
                pid = stopped.info.backend_pid
                assert await leader.fetchval("SELECT state FROM pg_stat_activity WHERE pid = $1", pid) == "active"
                log.engine._leader.start()
                async with asyncio.timeout(PATIENCE):
                    while await leader.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid):
                        await asyncio.sleep(0.05)
        await leader.close()
        connection = await asyncpg.connect(postgres.url)
        await connection.execute(log.engine.outbox.insert("gen_random_uuid()", "'a'", "NULL", "'new'"))
        await reader.saw("new")
        await connection.close()


async def test_retention_by_itself(postgres: Postgres) -> None:
    """See `retention_by_itself`."""
    namespace = secrets.token_hex(8)
    retention = {"age": Retention(max_age=0.5), "count": Retention(max_events=2)}
    await retention_by_itself(lambda: PostgresLog(postgres.url, namespace=namespace, retention=retention))
