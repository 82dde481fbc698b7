"""`newswire_outbox`: what an application's SQL inserts is an event, or is set aside, and never fails a transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from newswire import Event, Hub, NewswireError
from newswire.log.channels import check_channel
from newswire.log.sqlite import SqliteLog
from newswire.log.sqlite.schema import migrate
from newswire.testing.log_base import lost, opened, read_all
from newswire.wire.payload import to_event

pytestmark = pytest.mark.anyio

INSERT = "INSERT INTO newswire_outbox (channel, data, event) VALUES (?, ?, ?)"


@pytest.fixture(scope="module")
def view() -> Iterator[sqlite3.Connection]:
    """A log's tables, in memory."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    yield connection
    connection.close()


def taken(connection: sqlite3.Connection, channel: object, data: object, event: object) -> bool:
    """Whether a row becomes an event; if so it is that event."""
    connection.execute("BEGIN")
    connection.execute(INSERT, (channel, data, event))
    query = (
        "SELECT name, data, coalesce(type, 'message'), size FROM newswire_events JOIN newswire_channels ON channel = id"
    )
    events = connection.execute(query).fetchall()
    refused = connection.execute("SELECT wrong FROM newswire_refused").fetchall()
    connection.execute("ROLLBACK")
    assert len(events) + len(refused) == 1
    if events:
        assert events == [(channel, str(data), event or "message", len(str(data).encode()))]
    return bool(events)


def allowed(channel: str, event: str) -> bool:
    """Whether `Hub.publish` takes it."""
    try:
        check_channel(channel)
        to_event("x", event)
    except NewswireError:
        return False
    return not channel.startswith("$")


NAMES = st.text(max_size=12) | st.text("a.$*>/ é\x00\x7f\xa0\u2003\u3000", max_size=6) | st.just("x" * 256)
TYPES = st.text(max_size=8) | st.sampled_from(["error", "open", "newswire.x", "newswire", "message", "", "a\rb"])


@settings(max_examples=400)
@given(channel=NAMES, event=TYPES)
@pytest.mark.slow
def test_the_rules_are_those_of_publish(view: sqlite3.Connection, channel: str, event: str) -> None:
    """What SQL takes is what `Hub.publish` takes, but for newswire's own channels."""
    assert taken(view, channel, "x", event) == allowed(channel, event)


@pytest.mark.slow
def test_every_character(view: sqlite3.Connection) -> None:
    """Each character that no channel's name may have is refused, and its neighbours are not."""
    for code in range(0x3100):
        assert taken(view, f"a{chr(code)}b", "x", None) == allowed(f"a{chr(code)}b", "message"), hex(code)


def test_other_types(view: sqlite3.Connection) -> None:
    """Numbers become text; NULL and blobs, and text that is no UTF-8 in a name, are set aside."""
    assert taken(view, "a", 7, None)
    assert taken(view, "a", 1.5, None)
    assert not taken(view, "a", None, None)
    assert not taken(view, "a", b"x", None)
    assert not taken(view, None, "x", None)
    assert not taken(view, 5, "x", None)
    for sql in ("(CAST(x'61ff' AS TEXT), 'x', NULL)", "('a', 'x', CAST(x'c328' AS TEXT))"):
        view.execute("BEGIN")
        view.execute(f"INSERT INTO newswire_outbox (channel, data, event) VALUES {sql}")
        assert view.execute("SELECT count(*) FROM newswire_refused").fetchone() == (1,)
        view.execute("ROLLBACK")


async def test_what_is_set_aside_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A row that can't be an event leaves a line in the log, and the events around it come."""
    path = tmp_path / "app.db"
    async with Hub(f"sqlite:///{path}") as hub:
        reading = aiter(hub.subscribe("a", start="earliest"))
        other = sqlite3.connect(path)
        other.execute(INSERT, ("a", "1", None))
        other.commit()
        assert (await anext(reading)).data == "1"
        other.executemany(INSERT, [("a", "2", None), ("bad name", "secret", None), ("a", "3", None)])
        other.commit()
        assert [(await anext(reading)).data for _ in range(2)] == ["2", "3"]
        async with asyncio.timeout(5):
            while "its channel has a forbidden character (channel 'bad name'" not in caplog.text:
                await asyncio.sleep(0.01)
        assert "secret" not in caplog.text
        other.executemany(INSERT, [("a b", f"{number}", None) for number in range(1100)])
        assert other.execute("SELECT count(*) FROM newswire_refused").fetchone() == (1000,)
        other.rollback()
        other.execute("INSERT INTO newswire_outbox (channel, data) VALUES ('a', CAST(x'61ff62' AS TEXT))")
        other.commit()
        assert (await anext(reading)).data == "a\ufffdb"
        other.close()


async def test_in_a_trigger_under_a_conflict_clause(tmp_path: Path) -> None:
    """`INSERT OR REPLACE` of an application counts in all triggers under it, and changes no channel."""
    path = tmp_path / "app.db"
    async with opened(SqliteLog(path)) as log:
        await log.append([("orders", Event("first"))])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        other.execute(
            """CREATE TRIGGER on_order AFTER INSERT ON orders BEGIN
               INSERT INTO newswire_outbox (channel, data) VALUES ('orders', NEW.id); END"""
        )
        for clause in ("REPLACE", "IGNORE", "ROLLBACK"):
            other.execute(
                f"INSERT OR {clause} INTO orders VALUES (5)" if clause != "ROLLBACK" else "DELETE FROM orders"
            )
        other.execute("INSERT OR REPLACE INTO orders VALUES (6)")
        other.close()
        assert [entry.data for entry in await read_all(log, "orders")] == ["first", "5", "6"]


async def test_a_channel_that_was_forgotten(tmp_path: Path) -> None:
    """A channel that SQL makes again is in the same doubt as one that `publish` makes again."""
    path = tmp_path / "app.db"
    async with opened(SqliteLog(path)) as log:
        await log.append([("x", Event("1"))])
        other = sqlite3.connect(path, isolation_level=None)
        other.executemany("INSERT INTO newswire_forgotten VALUES (?, ?)", [("user.*", 1), ("*", 0), ("$a.*", 9)])
        other.execute("UPDATE newswire_meta SET forgets = forgets + 1")
        other.execute(INSERT, ("user.7", "x", None))
        other.execute(INSERT, ("user.7.a", "x", None))
        await log.append([("user.8", Event("x")), ("user.8.a", Event("x"))])
        found = other.execute("SELECT name, doubt FROM newswire_channels ORDER BY id").fetchall()
        assert found == [("x", 0), ("user.7", 1), ("user.7.a", 0), ("user.8", 1), ("user.8.a", 0)]
        assert await lost(log, "user.7") == await lost(log, "user.8")
        other.close()
