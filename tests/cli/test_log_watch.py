"""`newswire log watch`: what it writes makes each change of a table an event, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from tests.fixtures.engines import Postgres
from tests.fixtures.serve import call_newswire

from newswire import Hub, Pattern

pytestmark = pytest.mark.slow


def watch(folder: Path, *arguments: str, status: int = 0) -> str:
    """Run the command; what it printed."""
    done = call_newswire("log", *arguments, folder=folder)
    assert done.returncode == status, done.stderr.decode()
    return (done.stderr if status else done.stdout).decode()


class Database:
    """An application's database, and the URL of the log in it."""

    def __init__(self, url: str, connection: Any, prefix: str) -> None:
        self.url = url
        self.connection = connection
        self.prefix = prefix

    def run(self, script: str) -> None:
        """Run statements, as `sqlite3` and `psql` do."""
        if isinstance(self.connection, sqlite3.Connection):
            self.connection.executescript(script)
        else:
            self.connection.execute(script)

    def events(self) -> list[tuple[str, str, Any]]:
        """All events: channel, type and row."""

        async def read() -> list[tuple[str, str, Any]]:
            async with Hub(self.url) as hub:
                await (await hub.publish("end", "end", connection=self.connection)).wait(20)
                page, _ = await hub.history(Pattern(">"), limit=1000)
                return [(e.channel, e.event, json.loads(e.data)) for e in page.entries if e.channel != "end"]

        return asyncio.run(read())


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """See `Database`."""
    schema = f"watch_{uuid4().hex[:8]}"
    if request.param == "sqlite":
        connection: Any = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
        yield Database(f"sqlite:///{tmp_path}/app.db", connection, "")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        connection = psycopg.connect(server.url, autocommit=True)
        connection.execute(f"CREATE SCHEMA app_{schema}")
        yield Database(f"{server.url}?schema={schema}", connection, f"app_{schema}.")
    connection.close()


def test_each_change_is_an_event(database: Database, tmp_path: Path) -> None:
    """Inserts, updates and deletes, in the order of the commits; a change of the channel is a delete and an insert."""
    table = f"{database.prefix}orders"
    many = ", ".join(f"c{number} integer" for number in range(90))
    database.run(f"""CREATE TABLE {table} (id integer PRIMARY KEY, "it's" text, place text, {many})""")
    watch(tmp_path, "init", database.url)
    sql = watch(tmp_path, "watch", table, "--channel", "orders.{place}.{id}", "--log", database.url)
    database.run(sql)
    database.run(sql)  # again: it takes the place of the former one
    execute = database.connection.execute
    execute(f"""INSERT INTO {table} (id, "it's", place) VALUES (1, 'x"', 'eu'), (2, NULL, 'us')""")
    execute(f"""UPDATE {table} SET "it's" = 'y' WHERE id = 1""")
    execute(f"UPDATE {table} SET place = 'us' WHERE id = 1")
    execute(f"UPDATE {table} SET place = place")  # changes nothing
    execute("BEGIN")
    execute(f"DELETE FROM {table}")
    execute("ROLLBACK")
    execute(f"INSERT INTO {table} (id, place) VALUES (3, 'no name'), (4, NULL)")  # set aside
    execute(f"DELETE FROM {table} WHERE id < 3")
    found = database.events()
    assert [(channel, event, row["id"], row["it's"]) for channel, event, row in found[:5]] == [
        ("orders.eu.1", "insert", 1, 'x"'),
        ("orders.us.2", "insert", 2, None),
        ("orders.eu.1", "update", 1, "y"),
        ("orders.eu.1", "delete", 1, "y"),
        ("orders.us.1", "insert", 1, "y"),
    ]
    assert sorted((channel, event) for channel, event, _ in found[5:]) == [
        ("orders.us.1", "delete"),
        ("orders.us.2", "delete"),
    ]
    assert list(found[0][2]) == ["id", "it's", "place", *(f"c{number}" for number in range(90))]
    assert execute(f"SELECT count(*) FROM {table}").fetchone() == (2,)
    database.run(watch(tmp_path, "watch", table, "--remove", "--log", database.url))
    execute(f"INSERT INTO {table} (id, place) VALUES (5, 'eu')")
    assert database.events() == found


def test_what_it_says(database: Database, tmp_path: Path) -> None:
    """What can't be: no log, no table, no column, no such channel."""
    table = f"{database.prefix}orders"
    data = "bytea" if database.prefix else "blob"
    database.run(f"CREATE TABLE {table} (id integer PRIMARY KEY, data {data}, f double precision)")

    def says(*arguments: str) -> str:
        status = 2 if any("{" in each and "}" not in each for each in arguments) or "--channel" not in arguments else 1
        return " ".join(watch(tmp_path, "watch", *arguments, "--log", database.url, status=status).split())

    if not database.prefix:
        assert "has no log: `newswire log init` makes one" in says(table, "--channel", "a.{id}")
    watch(tmp_path, "init", database.url)
    assert "no table 'nothing'" in says("nothing", "--channel", "a.{id}")
    assert "no column 'no'; it has id, data, f" in says(table, "--channel", "a.{no}")
    assert "a brace without its other one" in says(table, "--channel", "a.{id")
    assert "give --channel" in says(table)
    database.run(watch(tmp_path, "watch", table, "--channel", "all", "--log", database.url))
    blob, infinite = (r"'\x00ff'", "'-Infinity'") if database.prefix else ("x'00ff'", "-9e999")
    database.connection.execute(f"INSERT INTO {table} VALUES (1, {blob}, {infinite})")
    [(channel, event, row)] = database.events()
    assert (channel, event, row["data"].lower()[-4:], row["f"]) == ("all", "insert", "00ff", "-Infinity")
    if not database.prefix:
        database.run("CREATE VIRTUAL TABLE texts USING fts5(words)")
        assert "'texts' is a virtual table" in says("texts", "--channel", "a")


def test_other_logs(tmp_path: Path) -> None:
    """A log that is not in a database has no tables to watch."""
    assert "memory://" in watch(tmp_path, "watch", "a", "--channel", "b", "--log", "memory://", status=1)
