"""The outbox of the log in a PostgreSQL database: readers see what applications commit, once, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from tests.fixtures.engines import Postgres
from tests.log.redis_reader import PATIENCE, Reader

from newswire.log.log import Log
from newswire.log.postgres.engine import PostgresEngine, PostgresLog
from newswire.log.postgres.outbox import Outbox
from newswire.testing.log_base import opened, publish, read_all

pytestmark = pytest.mark.anyio


@pytest.fixture
async def log(postgres: Postgres) -> AsyncIterator[Log]:
    """A log of the test's own."""
    async with opened(PostgresLog(postgres.url, namespace=secrets.token_hex(8))) as log:
        await log.span()
        yield log


@asynccontextmanager
async def application(postgres: Postgres) -> AsyncGenerator[Any]:
    """A connection of an application's."""
    connection = await asyncpg.connect(postgres.url)
    try:
        yield connection
    finally:
        await connection.close()


def outbox_of(log: Log) -> Outbox:
    """The outbox of a log."""
    assert isinstance(log.engine, PostgresEngine)
    return log.engine.outbox


async def put(connection: Any, log: Log, channel: str, data: str, event: str | None = None) -> UUID:
    """Publish as an application does."""
    ticket = uuid4()
    outbox = outbox_of(log)
    await connection.execute(outbox.insert("$1", "$2", "$3", "$4"), ticket, channel, event, data)
    outbox.expect()
    return ticket


async def test_seen_if_and_only_if_it_commits(postgres: Postgres, log: Log) -> None:
    """An event of a transaction that rolls back, or of a savepoint that does, never comes; the others do, in order."""
    async with application(postgres) as connection, Reader(log) as reader:
        transaction = connection.transaction()
        await transaction.start()
        await put(connection, log, "a", "never")
        await transaction.rollback()
        async with connection.transaction():
            await put(connection, log, "a", "1")
            inner = connection.transaction()
            await inner.start()
            await put(connection, log, "a", "not this")
            await inner.rollback()
            ticket = await put(connection, log, "a", "2", "typed")
        await put(connection, log, "b", "3")
        await reader.saw("3")
        assert reader.seen == ["1", "2", "3"]
        entries = await read_all(log, "a", "b")
        assert [entry.offset for entry in entries] == [1, 2, 3]
        assert [entry.event for entry in entries] == ["message", "typed", "message"]
        position = (await outbox_of(log).find([ticket]))[ticket]
        assert position is not None
        assert (position.epoch, position.offset) == ((await log.span()).epoch, 2)
        assert await outbox_of(log).find([uuid4()]) == {}


async def test_the_function(postgres: Postgres, log: Log) -> None:
    """`newswire_publish` publishes and returns the ticket, and refuses what can't be an event."""
    assert isinstance(log.engine, PostgresEngine)
    function = f"{log.engine._schema.quoted}.newswire_publish"
    async with application(postgres) as connection, Reader(log) as reader:
        ticket = await connection.fetchval(f"SELECT {function}('orders.1', '{{}}', 'paid')")
        await connection.execute(f"SELECT {function}('orders.2', 'plain')")
        await reader.saw("plain")
        assert [(entry.channel, entry.event) for entry in await read_all(log, ">")] == [
            ("orders.1", "paid"),
            ("orders.2", "message"),
        ]
        assert (await outbox_of(log).find([ticket]))[ticket] is not None
        for channel, data, event, words in (
            ("", "x", "m", "can't be empty"),
            (None, "x", "m", "can't be empty"),
            ("a b", "x", "m", "white space"),
            ("a\u00a0b", "x", "m", "white space"),
            ("a\u2003b", "x", "m", "white space"),
            ("a.*", "x", "m", "white space"),
            ("a/b", "x", "m", "white space"),
            ("a..b", "x", "m", "empty token"),
            ("ä" * 200, "x", "m", "255 bytes"),
            ("a", None, "m", "NULL"),
            ("a", "x", "m\nn", "line breaks"),
            ("a", "x", "newswire.gap", "reserved"),
        ):
            with pytest.raises(asyncpg.CheckViolationError, match=words):
                await connection.execute(f"SELECT {function}($1, $2, $3)", channel, data, event)
        for good in ("ü", "a-b_c%d", "$internal.x", "a\u200bb"):
            await connection.execute(f"SELECT {function}($1, 'good')", good)


async def test_a_row_that_is_no_event_is_set_aside(
    postgres: Postgres, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    """It blocks no other, a line in the log says why, and its ticket says that it is nowhere."""
    async with application(postgres) as connection, Reader(log) as reader:
        async with connection.transaction():
            await put(connection, log, "a", "1")
            bad = await put(connection, log, "not good", "bad")
            await put(connection, log, "a", "2")
        await reader.saw("2")
        assert reader.seen == ["1", "2"]
        assert await outbox_of(log).find([bad]) == {bad: None}
        assert "not good: a channel's name has no white space" in caplog.text
        assert isinstance(log.engine, PostgresEngine)
        [row] = await connection.fetch(f"SELECT * FROM {log.engine._schema.quoted}.refused")
        assert (row["channel"], row["data"]) == ("not good", "bad")


async def test_an_open_transaction_delays_no_other(postgres: Postgres, log: Log) -> None:
    """Neither an unrelated one that writes, nor one that has published, nor one that only reads."""
    async with (
        application(postgres) as unrelated,
        application(postgres) as slow,
        application(postgres) as quick,
        Reader(log) as reader,
    ):
        await unrelated.execute("BEGIN; CREATE TEMP TABLE mine (x integer); INSERT INTO mine VALUES (1)")
        await slow.execute("BEGIN")
        await put(slow, log, "a", "slow")
        for number in range(50):
            await put(quick, log, "a", str(number))
            await reader.saw(str(number))
        assert reader.seen == [str(number) for number in range(50)]
        await slow.execute("COMMIT")
        await reader.saw("slow")
        await unrelated.execute("ROLLBACK")
        await publish(log, "a", "last")
        await reader.saw("last")
        assert len(reader.seen) == 52


async def with_trigger(connection: Any, log: Log, body: str) -> None:
    """Have the database do something for each event that is stored."""
    schema = outbox_of(log)._server.schema.quoted
    await connection.execute(
        f"CREATE FUNCTION {schema}.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$; "
        f"CREATE TRIGGER meddle BEFORE INSERT ON {schema}.events FOR EACH ROW EXECUTE FUNCTION {schema}.meddle()"
    )


@pytest.mark.slow
async def test_rows_that_take_longer_than_a_statement_may(postgres: Postgres) -> None:
    """Fewer are moved at a time, and all come in order."""
    url = f"{postgres.url}?statement_timeout=150"
    async with opened(PostgresLog(url, namespace=secrets.token_hex(8))) as log, application(postgres) as connection:
        await publish(log, "a", "before")
        await with_trigger(connection, log, "PERFORM pg_sleep(0.01)")
        async with Reader(log) as reader:
            async with connection.transaction():
                for number in range(60):
                    await put(connection, log, "a", str(number))
            await reader.saw("59")
            assert reader.seen == [str(number) for number in range(60)]


@pytest.mark.slow
async def test_a_row_that_can_t_be_moved(postgres: Postgres, log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """It is set aside, a line in the log and `newswire log info` say so; the others come, and it can be tried again."""
    async with application(postgres) as connection, Reader(log) as reader:
        await with_trigger(connection, log, "IF NEW.data = 'poison' THEN RAISE 'no such thing here'; END IF")
        async with connection.transaction():
            for data in ("1", "2", "poison", "3", "4"):
                await put(connection, log, "a", data)
        await reader.saw("4")
        await put(connection, log, "a", "5")
        await reader.saw("5")
        assert reader.seen == ["1", "2", "3", "4", "5"]
        assert caplog.text.count("was set aside: the server") == 1
        assert "no such thing here" in caplog.text
        schema = outbox_of(log)._server.schema.quoted
        assert any("1 of the outbox's rows could not be moved" in risk for risk in (await log.info()).risks)
        await connection.execute(
            f"DROP TRIGGER meddle ON {schema}.events; UPDATE {schema}.outbox SET aside = NULL, tx = DEFAULT"
        )
        await reader.saw("poison")
        assert not any("outbox" in risk for risk in (await log.info()).risks)


async def test_a_row_that_somebody_has_locked(postgres: Postgres, log: Log) -> None:
    """It keeps neither the others waiting nor those who publish to the log itself, and comes when it is free."""
    async with application(postgres) as connection, application(postgres) as other, Reader(log) as reader:
        schema = outbox_of(log)._server.schema
        await other.execute(f"BEGIN; SELECT pg_advisory_lock({schema.log})")  # till then nothing is moved
        await put(connection, log, "a", "locked")
        await other.execute(f"SELECT * FROM {schema.quoted}.outbox FOR UPDATE; SELECT pg_advisory_unlock({schema.log})")
        await put(connection, log, "a", "free")
        await reader.saw("free")
        await publish(log, "a", "direct")
        await reader.saw("direct")
        await other.execute("COMMIT")
        await reader.saw("locked")
        assert reader.seen == ["free", "direct", "locked"]


async def test_a_large_transaction(postgres: Postgres, log: Log) -> None:
    """Thousands of rows that commit together come together, in order, in some steps."""
    async with application(postgres) as connection, Reader(log) as reader:
        await put(connection, log, "a", "before")
        await reader.saw("before")
        head = outbox_of(log).insert("$1", "$2", "$3", "$4").partition("VALUES")[0]
        await connection.execute(
            f"{head} SELECT gen_random_uuid(), 'a', NULL, n::text FROM generate_series(1, 10500) AS n"
        )
        await put(connection, log, "a", "after")
        await reader.saw("after")
        assert reader.seen == ["before", *map(str, range(1, 10501)), "after"]


async def test_a_snapshot_and_its_position(postgres: Postgres, log: Log) -> None:
    """What a snapshot of the application sees is before the position, all else after it, however busy it is."""
    schema = "s" + secrets.token_hex(6)
    stop = asyncio.Event()

    async with application(postgres) as setup:
        await setup.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.rows (n bigint)")

    async def write(name: int) -> None:
        async with application(postgres) as connection:
            number = name
            while not stop.is_set():
                async with connection.transaction():
                    await connection.execute(f"INSERT INTO {schema}.rows VALUES ($1)", number)
                    await put(connection, log, "rows", str(number))
                number += 10

    async with Reader(log) as reader, application(postgres) as connection:
        writers = [asyncio.create_task(write(name)) for name in range(5)]
        taken = []
        for _ in range(10):
            await asyncio.sleep(0.02)
            async with outbox_of(log).barrier() as barrier:
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                position = await barrier.pass_(await connection.fetchval("SELECT pg_current_snapshot()::text"))
            rows = {row["n"] for row in await connection.fetch(f"SELECT n FROM {schema}.rows")}
            await connection.execute("COMMIT")
            taken.append((position, rows))
        stop.set()
        await asyncio.gather(*writers)
        await publish(log, "rows", "end")
        async with asyncio.timeout(PATIENCE):
            await reader.saw("end")
        entries = [entry for entry in await read_all(log, "rows") if entry.data != "end"]
        for position, rows in taken:
            assert {int(entry.data) for entry in entries if entry.offset <= position.offset} == rows
        assert len(taken[-1][1]) > 50


async def test_nothing_is_logged_of_what_works(postgres: Postgres, log: Log, caplog: pytest.LogCaptureFixture) -> None:
    """An outbox that is used leaves no line."""
    caplog.set_level(logging.INFO, "newswire")
    async with application(postgres) as connection, Reader(log) as reader:
        await put(connection, log, "a", "1")
        await reader.saw("1")
    assert caplog.text == ""
