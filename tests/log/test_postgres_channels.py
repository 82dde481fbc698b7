"""The log in a PostgreSQL database with many channels, and with users who may do little."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from tests.fixtures.engines import Postgres
from tests.log.many_channels import ManyChannels
from tests.log.redis_reader import Reader

from newswire import open_log
from newswire.errors import LogUnavailable
from newswire.log.channels import Channels, Pattern
from newswire.log.engine import Condition
from newswire.log.log import Log
from newswire.log.postgres.engine import PostgresEngine, PostgresLog
from newswire.log.retention import Retention
from newswire.testing.log_base import opened, publish, read_all
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio


@pytest.fixture
async def log(postgres: Postgres) -> AsyncIterator[Log]:
    """A log that keeps one event of most channels."""
    retention = {"all.>": Retention(), ">": Retention(max_bytes=10)}
    async with opened(PostgresLog(postgres.url, namespace=secrets.token_hex(8), retention=retention)) as log:
        yield log


class TestManyChannels(ManyChannels):
    """See there."""


async def test_pages_of_many_channels(log: Log) -> None:
    """Hundreds of channels are read in the order of the log, page by page."""
    names = [f"all.{number}" for number in range(900)]
    for round in range(3):
        await log.append([(name, Event(f"{name} {round}")) for name in names])
    wanted = names[::2]
    expected = [f"{name} {round}" for round in range(3) for name in wanted]
    for limit in (70, 1000):
        assert [entry.data for entry in await read_all(log, *wanted, limit=limit)] == expected


async def test_no_types_are_asked_for(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new connection costs the server no statement about types, whatever is stored and moved."""
    asked: list[object] = []
    introspect = asyncpg.Connection._introspect_types

    async def spy(connection: Any, types: Any, timeout: Any) -> Any:
        asked.append(types)
        return await introspect(connection, types, timeout)

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", spy)
    namespace = secrets.token_hex(8)
    async with (
        opened(PostgresLog(postgres.url, namespace=namespace)) as log,
        opened(PostgresLog(postgres.url, namespace=namespace)) as other,
        Reader(other) as reader,
    ):
        assert isinstance(log.engine, PostgresEngine)
        [first, second] = await log.append([("a", Event("1")), ("a", Event("2"))], token="once")
        assert await log.append([("a", Event("1")), ("a", Event("2"))], token="once") == [first, second]
        assert await other.append_if([("a", Event("3"))], Condition("a", second.offset))
        connection = await asyncpg.connect(postgres.url)
        await connection.execute(log.engine.outbox.insert("gen_random_uuid()", "'a'", "NULL", "'4'"))
        await connection.close()
        await reader.saw("4")
    assert not asked


async def test_a_quiet_pattern_in_a_long_log(log: Log) -> None:
    """A page looks at a bounded part of the log, and says how far it came."""
    for _ in range(6):
        await log.append([("all.busy", Event("x"))] * 4000)
    [last] = await publish(log, "quiet.1", "here")
    page = await log.read(Channels([Pattern("quiet.*")]), 0, 10)
    assert not page.entries
    assert 0 < page.through < last
    assert [entry.data for entry in await read_all(log, "quiet.*")] == ["here"]


@pytest.mark.parametrize(
    "name", ["all.a%b", "all.a-b", "all.(a)", "all.[x]", "all.ü^$", "all.a+?", "all.a_b", "all.\\d"]
)
async def test_patterns_take_names_literally(log: Log, name: str) -> None:
    """What means something in a regular expression means nothing in a channel's name."""
    await publish(log, f"{name}.1", "mine")
    for other in ("all.aab.1", "all.x.1", "all.7.1"):
        await publish(log, other, "other")
    assert [entry.data for entry in await read_all(log, f"{name}.*")] == ["mine"]


async def test_old_rows_are_cleaned_up(postgres: Postgres, log: Log) -> None:
    """Tokens, tickets and outcomes of calls go when no one can ask for them any more, and young ones stay."""
    engine = log.engine
    assert isinstance(engine, PostgresEngine)
    await log.append([("all.a", Event("1"))], token="old")
    schema = engine._schema.quoted
    await postgres.run(f"UPDATE {schema}.tokens SET at = at - interval '1 hour'")
    await postgres.run(f"UPDATE {schema}.calls SET at = at - interval '1 hour'")
    first = await log.append([("all.a", Event("2"))], token="young")
    await engine._retention.clean()
    assert (
        await postgres.run(f"SELECT (SELECT count(*) FROM {schema}.tokens), (SELECT count(*) FROM {schema}.calls)")
        == "1|1"
    )
    assert await log.append([("all.a", Event("2"))], token="young") == first


async def test_logs_of_two_names(postgres: Postgres) -> None:
    """Logs of two namespaces, or schemas, have nothing in common, and two objects of one have all."""
    name = secrets.token_hex(8)
    async with (
        opened(PostgresLog(postgres.url, namespace=name)) as log,
        opened(PostgresLog(postgres.url, namespace=f"{name}.2")) as other,
        opened(PostgresLog(postgres.url, schema="a", namespace=name)) as third,
        opened(PostgresLog(postgres.url, schema=f"newswire_{name}")) as same,
    ):
        await publish(log, "a", "1")
        assert await read_all(other, "a") == await read_all(third, "a") == []
        assert await read_all(same, "a") == await read_all(log, "a") != []
        epochs = [(await each.span()).epoch for each in (log, other, third, same)]
        assert len(set(epochs)) == 3
        assert epochs[0] == epochs[3]


async def test_urls(postgres: Postgres) -> None:
    """All forms of a database's URL lead to the same log; options are read, and wrong ones refused."""
    name = secrets.token_hex(8)
    _, _, rest = postgres.url.partition("://")
    for number, scheme in enumerate(("postgresql", "postgres", "postgresql+asyncpg", "POSTGRESQL+psycopg")):
        async with opened(open_log(f"{scheme}://{rest}?namespace={name}&timeout=9&application_name=shop")) as log:
            assert await publish(log, "a", "x") == [number + 1]
    for bad, words in (
        ("pooler=perhaps", "pooler can't be 'perhaps'"),
        ("poll=0", "poll is"),
        ("timeout=0", "timeout must be"),
    ):
        with pytest.raises(ValueError, match=words):
            open_log(f"{postgres.url}?{bad}")


@pytest.mark.parametrize("namespace", ["a b", 'a"b', "a'b", "a;b", "x" * 60, "$$"])
def test_bad_names(namespace: str) -> None:
    """A namespace that can't be a part of a schema's name is refused."""
    with pytest.raises(ValueError, match="namespace"):
        PostgresLog("postgresql://", namespace=namespace)


async def test_users_with_few_rights(postgres: Postgres) -> None:
    """The rights that docs/engines.md lists are enough, and what goes beyond them is refused with a clear error."""
    name = secrets.token_hex(8)
    schema = f'"newswire_{name}"'
    async with opened(PostgresLog(postgres.url, namespace=name)) as log:
        await publish(log, "a", "1")
    postgres.sql(
        f"""CREATE ROLE hub_{name} LOGIN; CREATE ROLE app_{name} LOGIN;
        GRANT USAGE ON SCHEMA {schema} TO hub_{name}, app_{name};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO hub_{name};
        GRANT INSERT ON {schema}.outbox TO app_{name}"""
    )
    hub, app = (postgres.url.replace("postgres@", f"{kind}_{name}@") for kind in ("hub", "app"))
    retention = Retention(max_events=2)
    async with (
        opened(PostgresLog(hub, namespace=name, create=False, retention=retention)) as log,
        Reader(log) as reader,
    ):
        await publish(log, "a", "2")
        await reader.saw("2")
        connection = await asyncpg.connect(app)
        await connection.execute(f"SELECT {schema}.newswire_publish('a', '3')")
        assert isinstance(log.engine, PostgresEngine)
        await connection.execute(log.engine.outbox.insert("gen_random_uuid()", "'a'", "NULL", "'4'"))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"SELECT * FROM {schema}.events")
        await connection.close()
        await reader.saw("4")
        await log.trim()
        assert [entry.data for entry in await read_all(log, "a")] == ["3", "4"]
        await log.drop({"a": 9})
    async with opened(PostgresLog(app, namespace=name, create=False)) as log:
        with pytest.raises(LogUnavailable, match="does not let this user"):
            await log.span()
    async with opened(PostgresLog(hub, namespace=f"{name}.other")) as log:
        with pytest.raises(LogUnavailable, match="does not let this user"):
            await log.span()
