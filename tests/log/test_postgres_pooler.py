"""The log in a PostgreSQL database behind a proxy that pools transactions."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import asyncpg
import pytest
from tests.fixtures.engines import Postgres
from tests.fixtures.pooler import Pooler
from tests.log.redis_reader import Reader
from tests.log.two_logs import two_logs

from newswire import open_log
from newswire.errors import LogUnavailable
from newswire.log.engine import Condition
from newswire.log.postgres.engine import PostgresEngine
from newswire.log.retention import Retention
from newswire.testing.log_base import opened, publish, read_all
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio


@pytest.fixture
def pooler(postgres: Postgres) -> Iterator[Pooler]:
    """A proxy in front of the server of all tests."""
    with Pooler(postgres.port) as pooler:
        yield pooler


@pytest.fixture
def options() -> str:
    """What the URL of a log behind a pooler has."""
    return f"?pooler=1&namespace={secrets.token_hex(8)}"


async def test_the_proxy_is_one(pooler: Pooler, postgres: Postgres) -> None:
    """What a session keeps is not there in the next transaction; a log that does not know of the proxy fails."""
    connection = await asyncpg.connect(pooler.url, statement_cache_size=0)
    await connection.execute("SET search_path = elsewhere")
    found = {await connection.fetchval("SELECT current_setting('search_path') FROM pg_sleep(0)") for _ in range(3)}
    assert found == {'"$user", public'}
    await connection.close()
    async with opened(open_log(f"{pooler.url}?namespace={secrets.token_hex(8)}")) as log:
        with pytest.raises(LogUnavailable):
            await log.span()
    assert pooler.refused


@pytest.mark.parametrize("direct", [False, True])
async def test_all_of_a_log(pooler: Pooler, postgres: Postgres, options: str, direct: bool) -> None:
    """Publishing, conditions, tokens, reading, following, retention and the outbox; with another way to listen, too."""
    url = f"{pooler.url}{options}{f'&listen={postgres.url}' if direct else ''}"
    async with opened(open_log(url, retention={"kept": Retention(max_events=1)})) as log, Reader(log) as reader:
        assert isinstance(log.engine, PostgresEngine)
        await publish(log, "a", *"123")
        assert await log.append_if([("a", Event("4"))], Condition("a", 3)) is not None
        assert await log.append_if([("a", Event("x"))], Condition("a", 3)) is None
        assert await log.append([("a", Event("5"))], token="t") == await log.append([("a", Event("5"))], token="t")
        await reader.saw("5")
        connection = await asyncpg.connect(postgres.url)
        outbox = log.engine.outbox
        await connection.execute(outbox.insert("gen_random_uuid()", "$1", "NULL", "$2"), "a", "6")
        await reader.saw("6")
        async with opened(open_log(url)) as other:
            await publish(other, "b", "7")
            await reader.saw("7")
        async with outbox.barrier() as barrier:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            position = await barrier.pass_(await connection.fetchval("SELECT pg_current_snapshot()::text"))
        assert position.offset == 7
        await connection.close()
        assert reader.seen == list("1234567")
        assert [entry.data for entry in await read_all(log, ">")] == list("1234567")
        await publish(log, "kept", *"89")
        await log.trim()
        assert [entry.data for entry in await read_all(log, "kept")] == ["9"]
        assert await log.drop({"a": 3}) == 3
        await postgres.run(f'DROP SCHEMA "{log.engine._schema.name}" CASCADE')
        await reader.told()
        await publish(log, "a", "new")
        await reader.saw("new")
    assert pooler.transactions > 30
    assert not pooler.refused


async def test_two_processes(pooler: Pooler, options: str) -> None:
    """Each event is there once, in order, at each of two."""
    async with two_logs(open_log(pooler.url + options), open_log(pooler.url + options)) as (publishers, readers):
        for publisher in publishers:
            await publisher.more(50)
        await asyncio.sleep(0)
    assert all(None not in reader.seen for reader in readers)
