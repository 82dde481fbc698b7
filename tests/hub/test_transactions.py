"""Publishing in a transaction of the caller's, on SQLite: an event is seen if and only if it commits."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from newswire import Hub, Pattern
from newswire.errors import InvalidChannel, InvalidConnection, InvalidEvent, LogUnavailable
from newswire.testing import next_event

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """The application's connection, to a database with a table of its own."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, state TEXT)")
    connection.commit()
    yield connection
    connection.close()


@pytest.fixture
async def hub(path: Path, connection: sqlite3.Connection) -> AsyncIterator[Hub]:
    async with Hub(f"sqlite:///{path}") as hub:
        yield hub


async def kept(hub: Hub, *channels: str) -> list[str]:
    """The data of all events."""
    page, _ = await hub.history(*(channels or (Pattern(">"),)), limit=1000)
    return [entry.data for entry in page.entries]


async def test_seen_if_and_only_if_it_commits(hub: Hub, connection: sqlite3.Connection) -> None:
    """No one sees it before the commit, and never after a rollback; the ticket has the position."""
    reading = aiter(hub.subscribe("orders", start="earliest"))
    connection.execute("INSERT INTO orders VALUES (1, 'new')")
    lost = await hub.publish("orders", {"id": 1}, connection=connection)
    with pytest.raises(TimeoutError, match="not committed, or was rolled back"):
        await lost.wait(timeout=0.1)
    assert await kept(hub) == []
    connection.rollback()
    connection.execute("INSERT INTO orders VALUES (2, 'new')")
    one = await hub.publish("orders", {"id": 2}, event="created", connection=connection)
    two = await hub.publish_many([("orders", "a"), ("other", "b\0é")], connection=connection)
    connection.commit()
    position = await one
    assert await two == [type(position)(position.epoch, offset) for offset in (2, 3)]
    event = await next_event(reading)
    assert (event.data, event.event, event.id) == ('{"id":2}', "created", str(position))
    assert await hub.publish("orders", "last") == type(position)(position.epoch, 4)
    assert await kept(hub) == ['{"id":2}', "a", "b\0é", "last"]
    with pytest.raises(TimeoutError):
        await lost.wait(timeout=0.05)


async def test_a_savepoint(hub: Hub, connection: sqlite3.Connection) -> None:
    """What a rolled-back savepoint published is gone, and the rest of the transaction is not."""
    connection.isolation_level = None
    connection.execute("BEGIN")
    await hub.publish("a", "1", connection=connection)
    connection.execute("SAVEPOINT inner")
    await hub.publish("a", "2", connection=connection)
    await hub.publish("new", "3", connection=connection)
    connection.execute("ROLLBACK TO inner")
    ticket = await hub.publish("a", "4", connection=connection)
    connection.execute("COMMIT")
    assert (await ticket).offset == 2
    assert await kept(hub) == ["1", "4"]


async def test_what_is_refused(hub: Hub, connection: sqlite3.Connection, tmp_path: Path) -> None:
    """Bad events, other databases, other logs and other objects are refused before anything is written."""
    with pytest.raises(InvalidEvent):
        await hub.publish("a", "x", event="a\nb", connection=connection)
    with pytest.raises(InvalidChannel):
        await hub.publish_many([("a", "good"), ("bad name", "x")], connection=connection)
    assert not connection.in_transaction
    other = sqlite3.connect(tmp_path / "other.db")
    with pytest.raises(InvalidConnection, match=r"other\.db open, and the log is .*app\.db"):
        await hub.publish("a", "x", connection=other)
    with pytest.raises(InvalidConnection, match=r"not builtins\.int"):
        await hub.publish("a", "x", connection=7)
    async with Hub() as memory:
        with pytest.raises(InvalidConnection, match="the log in memory is not in a database"):
            await memory.publish("a", "x", connection=other)
    other.close()


async def test_an_idempotency_key(hub: Hub, connection: sqlite3.Connection) -> None:
    """A key that was used publishes nothing again, through a connection or not; another length is an error."""
    one = await hub.publish("a", "1", connection=connection, idempotency_key="k")
    two = await hub.publish("a", "1", connection=connection, idempotency_key="k")
    connection.commit()
    assert await one == await two == await hub.publish("a", "1", idempotency_key="k")
    longer = await hub.publish_many([("a", "1"), ("a", "2")], connection=connection, idempotency_key="k")
    connection.commit()
    with pytest.raises(ValueError, match="another number of events"):
        await longer
    assert await kept(hub) == ["1"]


async def test_a_hub_that_is_not_open(path: Path, connection: sqlite3.Connection) -> None:
    """The first publish makes the log's tables, unless the caller's own transaction keeps the file locked."""
    hub = Hub(f"sqlite:///{path}?busy_timeout=0.1")
    connection.execute("INSERT INTO orders VALUES (1, 'new')")
    with pytest.raises(LogUnavailable, match="open the hub before the transaction"):
        await hub.publish("a", "1", connection=connection)
    connection.commit()
    ticket = await hub.publish("a", "1", connection=connection)
    connection.commit()
    assert (await ticket).offset == 1
    await hub.close()


def test_in_threads(path: Path, connection: sqlite3.Connection) -> None:
    """`hub.sync` writes in the caller's thread, and its ticket waits there."""
    hub = Hub(f"sqlite:///{path}")
    ticket = hub.sync.publish("a", "1", connection=connection)
    tickets = hub.sync.publish_many([("a", "2"), ("a", "3")], connection=connection)
    connection.commit()
    assert [ticket.wait(timeout=10).offset, *(each.offset for each in tickets.wait())] == [1, 2, 3]
    with hub.sync.snapshot(connection) as position:
        assert position.offset == 3
    hub.sync.close()


async def test_a_snapshot(hub: Hub, connection: sqlite3.Connection, path: Path) -> None:
    """Rows that are read in a snapshot are the state of its position; it ends the transaction that it began."""
    connection.execute("INSERT INTO orders VALUES (1, 'new')")
    await hub.publish("orders", "1", connection=connection)
    with pytest.raises(InvalidConnection, match="not committed"):
        async with hub.snapshot(connection):
            pass
    connection.commit()
    other = sqlite3.connect(path)
    async with hub.snapshot(other) as position:
        connection.execute("INSERT INTO orders VALUES (2, 'new')")
        await hub.publish("orders", "2", connection=connection)
        connection.commit()
        assert other.execute("SELECT id FROM orders").fetchall() == [(1,)]
    assert not other.in_transaction
    assert other.execute("SELECT id FROM orders").fetchall() == [(1,), (2,)]
    assert (await next_event(aiter(hub.subscribe("orders", after=position)))).data == "2"
    other.close()


async def test_many_tickets_at_once(hub: Hub, connection: sqlite3.Connection) -> None:
    """Tickets that are waited for together are looked for together; one that is given up leaves the others."""
    tickets = [await hub.publish("a", f"{number}", connection=connection) for number in range(200)]
    waiting = [asyncio.create_task(ticket.wait()) for ticket in tickets]
    await asyncio.sleep(0)
    waiting[7].cancel()
    connection.commit()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found.pop(7), asyncio.CancelledError)
    assert [position.offset for position in found] == [number for number in range(1, 201) if number != 8]


@pytest.mark.slow
async def test_the_hub_is_opened_again_and_again(path: Path, connection: sqlite3.Connection) -> None:
    """The application changes its database while no hub is open: cursors from before lead to what came since."""
    url = f"sqlite:///{path}"
    async with Hub(url) as hub:
        position = await hub.publish("a", "0")
    for number in range(1, 5):
        connection.execute("INSERT INTO orders (state) VALUES (?)", ("x" * 10_000_000,))  # SQLite makes a checkpoint
        connection.execute("INSERT INTO newswire_outbox (channel, data) VALUES ('a', ?)", (str(number),))
        connection.commit()
        async with Hub(url) as hub:
            reading = aiter(hub.subscribe("a", after=position))
            assert [(await next_event(reading)).data for _ in range(number)] == [f"{n}" for n in range(1, number + 1)]
            ticket = await hub.publish("b", "x", connection=connection)
            connection.commit()
            assert (await ticket).offset == 2 * number + 1


async def test_a_long_transaction_of_the_application(path: Path, connection: sqlite3.Connection) -> None:
    """While it has written, publishing without it is refused in time, and says why; one that reads does not matter."""
    async with Hub(f"sqlite:///{path}?busy_timeout=0.2") as hub:
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM orders").fetchall()
        await hub.publish("a", "1")
        ticket = await hub.publish("a", "2", connection=connection)
        with pytest.raises(LogUnavailable, match="or your application's that has written"):
            await hub.publish("a", "3")
        connection.commit()
        assert (await ticket).offset == 2
        assert (await hub.publish("a", "3")).offset == 3
        reader.close()
