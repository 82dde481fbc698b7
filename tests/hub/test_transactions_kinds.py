"""Every kind of connection, on SQLite and PostgreSQL: an event is seen if and only if the transaction commits."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiosqlite
import asyncpg
import psycopg
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from tests.fixtures.engines import Postgres
from tests.fixtures.ports import free_port

from newswire import Hub, Position
from newswire.errors import InvalidConnection, LogUnavailable

pytestmark = pytest.mark.anyio


class Application:
    """One application: its database, and its way to talk to it.

    Attributes:
        connection: what it publishes through.
    """

    def __init__(self, connection: Any, execute: Any, commit: Any, rollback: Any) -> None:
        self.connection = connection
        self._calls = execute, commit, rollback

    async def execute(self, sql: str) -> list[Any]:
        """Execute a statement, and return its rows as lists."""
        answer = self._calls[0](sql)
        answer = await answer if hasattr(answer, "__await__") else answer
        if answer is None or isinstance(answer, str):
            return []
        if hasattr(answer, "returns_rows") and not answer.returns_rows:
            return []
        rows = answer.fetchall() if hasattr(answer, "fetchall") else answer
        rows = await rows if hasattr(rows, "__await__") else rows
        return [tuple(row) for row in rows]

    async def commit(self) -> None:
        """Commit the transaction."""
        answer = self._calls[1]()
        if hasattr(answer, "__await__"):
            await answer

    async def rollback(self) -> None:
        """Roll the transaction back."""
        answer = self._calls[2]()
        if hasattr(answer, "__await__"):
            await answer


@contextlib.asynccontextmanager
async def sqlite3_(url: str) -> AsyncIterator[Application]:
    connection = sqlite3.connect(url)
    connection.row_factory = lambda cursor, row: dict(zip([c[0] for c in cursor.description], row, strict=True))
    yield Application(
        connection, lambda sql: [each.values() for each in connection.execute(sql)], connection.commit,
        connection.rollback,
    )  # fmt: skip
    connection.close()


@contextlib.asynccontextmanager
async def aiosqlite_(url: str) -> AsyncIterator[Application]:
    async with aiosqlite.connect(url) as connection:
        yield Application(connection, connection.execute_fetchall, connection.commit, connection.rollback)


@contextlib.asynccontextmanager
async def core(url: str) -> AsyncIterator[Application]:
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        yield Application(connection, connection.exec_driver_sql, connection.commit, connection.rollback)
    engine.dispose()


@contextlib.asynccontextmanager
async def session(url: str) -> AsyncIterator[Application]:
    engine = sqlalchemy.create_engine(url)
    with Session(engine) as found:
        yield Application(found, lambda sql: found.execute(sqlalchemy.text(sql)), found.commit, found.rollback)
    engine.dispose()


@contextlib.asynccontextmanager
async def async_core(url: str) -> AsyncIterator[Application]:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        yield Application(connection, connection.exec_driver_sql, connection.commit, connection.rollback)
    await engine.dispose()


@contextlib.asynccontextmanager
async def async_session(url: str) -> AsyncIterator[Application]:
    engine = create_async_engine(url)
    async with AsyncSession(engine) as found:
        yield Application(found, lambda sql: found.execute(sqlalchemy.text(sql)), found.commit, found.rollback)
    await engine.dispose()


class _Lazy:
    """asyncpg's transactions, begun as the other drivers' are: by the first statement."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def execute(self, sql: str) -> Any:
        if not self.connection.is_in_transaction():
            await self.connection.execute("BEGIN")
        return await self.connection.fetch(sql)

    async def commit(self) -> None:
        await self.connection.execute("COMMIT")

    async def rollback(self) -> None:
        await self.connection.execute("ROLLBACK")


@contextlib.asynccontextmanager
async def asyncpg_(url: str) -> AsyncIterator[Application]:
    connection = await asyncpg.connect(url)
    lazy = _Lazy(connection)
    yield Application(connection, lazy.execute, lazy.commit, lazy.rollback)
    await connection.close()


@contextlib.asynccontextmanager
async def asyncpg_pool(url: str) -> AsyncIterator[Application]:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        lazy = _Lazy(connection)
        yield Application(connection, lazy.execute, lazy.commit, lazy.rollback)


@contextlib.asynccontextmanager
async def psycopg_(url: str) -> AsyncIterator[Application]:
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:

        def execute(sql: str) -> list[Any]:
            cursor = connection.execute(sql)
            return [each.values() for each in cursor] if cursor.description else []

        yield Application(connection, execute, connection.commit, connection.rollback)


@contextlib.asynccontextmanager
async def psycopg_async(url: str) -> AsyncIterator[Application]:
    async with await psycopg.AsyncConnection.connect(url) as connection:

        async def execute(sql: str) -> list[Any]:
            cursor = await connection.execute(sql)
            return await cursor.fetchall() if cursor.description else []

        yield Application(connection, execute, connection.commit, connection.rollback)


KINDS: dict[str, tuple[Any, str, str]] = {
    "sqlite3": (sqlite3_, "sqlite", "{}"),
    "aiosqlite": (aiosqlite_, "sqlite", "{}"),
    "sqlite core": (core, "sqlite", "sqlite:///{}"),
    "sqlite session": (session, "sqlite", "sqlite:///{}"),
    "sqlite async core": (async_core, "sqlite", "sqlite+aiosqlite:///{}"),
    "sqlite async session": (async_session, "sqlite", "sqlite+aiosqlite:///{}"),
    "asyncpg": (asyncpg_, "postgres", "postgresql{}"),
    "asyncpg pool": (asyncpg_pool, "postgres", "postgresql{}"),
    "psycopg": (psycopg_, "postgres", "postgresql{}"),
    "psycopg async": (psycopg_async, "postgres", "postgresql{}"),
    "postgres core": (core, "postgres", "postgresql+psycopg{}"),
    "postgres session": (session, "postgres", "postgresql+psycopg{}"),
    "postgres async core": (async_core, "postgres", "postgresql+asyncpg{}"),
    "postgres async core, psycopg": (async_core, "postgres", "postgresql+psycopg{}"),
    "postgres async session": (async_session, "postgres", "postgresql+asyncpg{}"),
}
OF_SQLITE = [kind for kind, found in KINDS.items() if found[1] == "sqlite"]
OF_POSTGRES = [kind for kind, found in KINDS.items() if found[1] == "postgres"]


@contextlib.asynccontextmanager
async def started(kind: str, place: str) -> AsyncIterator[Application]:
    make, _, url = KINDS[kind]
    async with make(url.format(place)) as application:
        yield application


@pytest.mark.parametrize("kind", OF_SQLITE)
async def test_on_sqlite(kind: str, tmp_path: Path) -> None:
    """See the module."""
    path = tmp_path / "app.db"
    async with Hub(f"sqlite:///{path}") as hub, started(kind, str(path)) as application:
        await check(hub, application, "orders")


@pytest.mark.parametrize("kind", OF_POSTGRES)
async def test_on_postgres(kind: str, postgres: Postgres) -> None:
    """See the module."""
    schema = f"kind_{uuid4().hex[:8]}"
    place = postgres.url.removeprefix("postgresql")
    async with Hub(f"{postgres.url}?schema={schema}") as hub, started(kind, place) as application:
        await check(hub, application, f"{schema}.orders")


async def check(hub: Hub, application: Application, table: str) -> None:
    """An event that is rolled back never comes, one that is committed does; a snapshot has its position."""
    connection = application.connection
    await application.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY)")
    await application.commit()
    await application.execute(f"INSERT INTO {table} VALUES (1)")
    lost = await hub.publish("orders", 1, connection=connection)
    await application.rollback()
    await application.execute(f"INSERT INTO {table} VALUES (2)")
    ticket = await hub.publish("orders", 2, connection=connection)
    tickets = await hub.publish_many([("orders", "it's 100% {sure}?"), ("orders", "é\n:x")], connection=connection)
    await application.commit()
    position = await ticket.wait(10)
    assert await tickets == [Position(position.epoch, position.offset + number) for number in (1, 2)]
    with pytest.raises(TimeoutError):
        await lost.wait(0.05)
    async with hub.snapshot(connection) as taken:
        assert taken.offset == position.offset + 2
        await hub.publish("orders", "later")
        assert await application.execute(f"SELECT id FROM {table}") == [(2,)]
    await application.rollback()
    page, _ = await hub.history("orders", after=taken)
    assert [entry.data for entry in page.entries] == ["later"]
    page, _ = await hub.history("orders")
    assert [entry.data for entry in page.entries] == ["2", "it's 100% {sure}?", "é\n:x", "later"]


async def test_psycopg_s_pipelines_and_cursors_of_the_application_s(postgres: Postgres) -> None:
    """Neither a pipeline nor a class of cursors with marks of its own for parameters makes a difference."""
    async with Hub(f"{postgres.url}?schema=kind_{uuid4().hex[:8]}") as hub:
        await hub.open()
        with psycopg.connect(postgres.url, cursor_factory=psycopg.RawCursor) as connection:
            with connection.pipeline():
                ticket = await hub.publish("orders", "100% $1", connection=connection)
            connection.commit()
            assert (await ticket.wait(10)).offset == 1
        async with await psycopg.AsyncConnection.connect(
            postgres.url, cursor_factory=psycopg.AsyncRawCursor
        ) as async_connection:
            async with async_connection.pipeline():
                ticket = await hub.publish("orders", "2", connection=async_connection)
            await async_connection.commit()
            assert (await ticket.wait(10)).offset == 2


async def test_a_snapshot_that_comes_too_late(postgres: Postgres) -> None:
    """A transaction of PostgreSQL's that has read can have no snapshot; one of a fresh transaction can."""
    schema = f"kind_{uuid4().hex[:8]}"
    async with Hub(f"{postgres.url}?schema={schema}") as hub, asyncpg_(postgres.url) as application:
        connection = application.connection
        for level in ("READ COMMITTED", "REPEATABLE READ"):
            await connection.execute(f"BEGIN ISOLATION LEVEL {level}")
            await connection.fetch("SELECT 1")
            other = await asyncpg.connect(postgres.url)
            async with other.transaction():
                await hub.publish("a", "1", connection=other)
            await other.close()
            with pytest.raises(InvalidConnection, match="has read or written already"):
                async with hub.snapshot(connection):
                    pass
            await connection.execute("ROLLBACK")
        await connection.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
        async with hub.snapshot(connection) as position:
            assert position.offset == 2
        assert connection.is_in_transaction()
        await connection.execute("ROLLBACK")


async def test_a_log_that_was_not_reached(postgres: Postgres) -> None:
    """The error says so, and blames no URL; the transaction goes on."""
    connection = await asyncpg.connect(postgres.url)
    hub = Hub(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres")
    async with connection.transaction():
        with pytest.raises(LogUnavailable, match="has not been reached yet"):
            await hub.publish("a", "1", connection=connection)
        assert await connection.fetchval("SELECT 1") == 1
    await hub.close()
    await connection.close()


async def test_another_database(postgres: Postgres, tmp_path: Path) -> None:
    """A connection to another database than the log's is refused, and its transaction goes on."""
    schema = f"kind_{uuid4().hex[:8]}"
    admin = await asyncpg.connect(postgres.url)
    await admin.execute(f"CREATE DATABASE {schema}")
    other = await asyncpg.connect(postgres.url.rpartition("/")[0] + f"/{schema}")
    async with Hub(f"{postgres.url}?schema={schema}") as hub:
        async with other.transaction():
            with pytest.raises(InvalidConnection, match="has not the log"):
                await hub.publish("a", "1", connection=other)
            assert await other.fetchval("SELECT 1") == 1
        with pytest.raises(InvalidConnection, match="has not the log"):
            async with hub.snapshot(other):
                pass
        assert not other.is_in_transaction()
        with (
            contextlib.closing(sqlite3.connect(tmp_path / "x.db")) as file,
            pytest.raises(InvalidConnection, match="to an SQLite file, and the log is in PostgreSQL"),
        ):
            await hub.publish("a", "1", connection=file)
    await other.close()
    await admin.close()


@pytest.fixture(params=["sqlite", "postgres"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, str]]:
    """Django's connection, and the URL of a log in its database."""
    import django
    from django.conf import settings
    from django.db import connections

    schema = f"kind_{uuid4().hex[:8]}"
    if request.param == "sqlite":
        config: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "app.db")}
        url = f"sqlite:///{tmp_path}/app.db"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        config = {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "postgres"}
        config |= {"HOST": "127.0.0.1", "PORT": server.port}
        url = f"{server.url}?schema={schema}"
    if not settings.configured:
        settings.configure(DATABASES={})
    django.setup()
    connections.settings = connections.configure_settings({"default": config})
    yield connections, url
    connections.settings = connections.configure_settings({})


def test_on_django(databases: tuple[Any, str]) -> None:
    """`transaction.atomic()` and `connection`, in a thread as a view's."""
    from django.db import connection, transaction

    connections, url = databases
    hub = Hub(url)
    hub.sync.open()
    table = f"orders_{uuid4().hex[:8]}"

    def view() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {table} (id integer)")
            with contextlib.suppress(KeyError), transaction.atomic():
                cursor.execute(f"INSERT INTO {table} VALUES (1)")
                lost = hub.sync.publish("orders", 1, connection=connection)
                raise KeyError
            with transaction.atomic():
                cursor.execute(f"INSERT INTO {table} VALUES (2)")
                ticket = hub.sync.publish("orders", "2 %s ?", connection=connections["default"])
            position = ticket.wait(10)
            with pytest.raises(TimeoutError):
                lost.wait(0.05)
            with hub.sync.snapshot(connection) as taken:
                assert taken == position
                cursor.execute(f"SELECT id FROM {table}")
                assert cursor.fetchall() == [(2,)]
            with transaction.atomic(), hub.sync.snapshot(connection) as taken:
                assert taken == position

    def in_thread() -> None:
        try:
            view()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as threads:
        threads.submit(in_thread).result(30)
    hub.sync.close()


async def test_awaited_where_it_can_t_be(tmp_path: Path) -> None:
    """`hub.sync` refuses a connection whose calls are awaited; an engine or a pool is no connection."""
    hub = Hub(f"sqlite:///{tmp_path}/app.db")
    async with aiosqlite.connect(tmp_path / "app.db") as connection:
        with pytest.raises(InvalidConnection, match="calls of this connection are awaited"):
            hub.sync.publish("a", "1", connection=connection)
    with pytest.raises(InvalidConnection, match="give a connection that you got from it"):
        await hub.publish("a", "1", connection=sqlalchemy.create_engine("sqlite://"))
    with pytest.raises(InvalidConnection, match="not to mysql"):
        await hub.publish("a", "1", connection=_mysql())


def _mysql() -> Any:
    class Connection:
        vendor = "mysql"

    Connection.__module__ = "django.db.backends.mysql.base"
    return Connection()
