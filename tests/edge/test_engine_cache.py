"""An edge with a cache on its own disk: what it serves without the origin, and what it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.fixtures.origin import Many
from tests.fixtures.tcp_proxy import TcpProxy

from newswire.edge import EdgeLog
from newswire.errors import LogError
from newswire.hub.hub import Hub
from newswire.log import Channels, Log, Retention, open_log
from newswire.log.position import Position
from newswire.log.sqlite import SqliteLog
from newswire.testing.log_base import opened, publish

pytestmark = pytest.mark.anyio


@pytest.fixture
def origin(origins: Many, tmp_path: Path) -> Iterator[str]:
    """The URL of an origin on a file."""
    yield origins.add(SqliteLog(tmp_path / "origin.db"))
    origins.close()


@pytest.fixture
def proxy(origins: Many) -> Iterator[TcpProxy]:
    """A proxy in front of it."""
    with TcpProxy(origins.running.port) as proxy:
        yield proxy


@pytest.fixture
async def log(origin: str) -> AsyncIterator[Log]:
    """An edge without a cache."""
    async with opened(open_log(origin)) as log:
        yield log


def cached(proxy: TcpProxy, origin: str, file: Path) -> EdgeLog:
    """An edge with a cache, behind the proxy."""
    scheme, _, rest = origin.rpartition("@")
    return EdgeLog(f"{scheme}@127.0.0.1:{proxy.port}/{rest.partition('/')[2]}", timeout=1, cache=file)


async def seen(hub: Hub, after: Position, count: int) -> list[str]:
    """What a reader gets that comes back with a cursor."""
    reader = aiter(hub.subscribe("a", after=after))
    async with asyncio.timeout(20):
        return [(await anext(reader)).data for _ in range(count)]


async def pages(log: EdgeLog, after: int) -> list[str]:
    """What the edge's log has, read past the hub's window."""
    page = await log.read(Channels(["a"]), after, 100)
    return [entry.data for entry in page.entries]


async def filled(log: EdgeLog, through: int) -> None:
    """Wait until the cache has everything up to an offset on disk."""
    cache = log.engine._cache  # type: ignore[attr-defined]
    async with asyncio.timeout(20):
        while cache.at < through or cache._task is not None:
            await asyncio.sleep(0.01)


async def test_readers_are_served_while_the_origin_is_away(
    proxy: TcpProxy, origin: str, log: Log, tmp_path: Path
) -> None:
    """Those that come back with a cursor from the time of the cache; what is older needs the origin."""
    await publish(log, "a", "before")
    edge = cached(proxy, origin, tmp_path / "cache.db")
    async with Hub(edge) as hub:
        first = await hub.publish("a", "1")
        await publish(log, "a", "2", "3")
        await filled(edge, 4)
        proxy.refusing = True
        proxy.cut()
        assert await seen(hub, first, 2) == ["2", "3"]
        assert await pages(edge, 1) == ["1", "2", "3"]
        with pytest.raises(LogError):
            await edge.read(Channels(["a"]), 0, 100)
        proxy.refusing = False


async def test_the_cache_goes_on_after_a_restart_without_a_hole(
    proxy: TcpProxy, origin: str, log: Log, tmp_path: Path
) -> None:
    """The stream brings what came while the edge was down, for the cache alone."""
    for number in range(3):
        edge = cached(proxy, origin, tmp_path / "cache.db")
        async with Hub(edge) as hub:
            await hub.publish("a", f"live {number}")
            await filled(edge, 2 * number + 1)
        await publish(log, "a", f"meanwhile {number}")
    edge = cached(proxy, origin, tmp_path / "cache.db")
    async with Hub(edge) as hub:
        await hub.publish("a", "last")
        await filled(edge, 7)
        proxy.refusing = True
        proxy.cut()
        expected = [f"{what} {number}" for number in range(3) for what in ("live", "meanwhile")]
        assert await pages(edge, 0) == [*expected, "last"]
        proxy.refusing = False


async def test_a_cache_of_another_log_is_forgotten(
    proxy: TcpProxy, origins: Many, origin: str, log: Log, tmp_path: Path
) -> None:
    """Nothing of it comes to a reader."""
    async with opened(SqliteLog(tmp_path / "cache.db", retention=Retention())) as other:
        await publish(other, "a", "of another log", "2")
    (tmp_path / "cache.db-cache").touch()
    edge = cached(proxy, origin, tmp_path / "cache.db")
    async with Hub(edge) as hub:
        first = await hub.publish("a", "1")
        await hub.publish("a", "2")
        await filled(edge, 2)
        assert await seen(hub, first, 1) == ["2"]
        assert await pages(edge, 0) == ["1", "2"]


async def test_a_file_that_is_no_cache_stays_as_it_is(
    proxy: TcpProxy, origin: str, log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A log of somebody's, for example: the edge goes on without a cache, and says so."""
    async with opened(SqliteLog(tmp_path / "precious.db")) as other:
        await publish(other, "a", "1", "2")
    edge = cached(proxy, origin, tmp_path / "precious.db")
    async with Hub(edge) as hub:
        first = await hub.publish("a", "new")
        assert await seen(hub, Position(first.epoch, 0), 1) == ["new"]
    assert "precious.db is there, and is no cache of an edge's: name another file" in caplog.text
    async with opened(SqliteLog(tmp_path / "precious.db")) as other:
        assert [entry.data for entry in (await other.read(Channels(["a"]), 0, 10)).entries] == ["1", "2"]


async def test_a_damaged_cache_begins_again(proxy: TcpProxy, origin: str, log: Log, tmp_path: Path) -> None:
    """It need not be removed by hand."""
    file = tmp_path / "cache.db"
    edge = cached(proxy, origin, file)
    async with Hub(edge) as hub:
        await hub.publish("a", "1")
        await filled(edge, 1)
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"cache.db{suffix}").unlink(missing_ok=True)
    file.write_bytes(file.read_bytes()[:100] + b"A" * 8000)
    edge = cached(proxy, origin, file)
    async with Hub(edge) as hub:
        first = await hub.publish("a", "2")
        await hub.publish("a", "3")
        await filled(edge, 3)
        proxy.refusing = True
        proxy.cut()
        assert await seen(hub, first, 1) == ["3"]
        assert await pages(edge, 2) == ["3"]
        proxy.refusing = False


async def test_internal_channels_are_read_at_the_origin(proxy: TcpProxy, origin: str, log: Log, tmp_path: Path) -> None:
    """Those that write to them have to see the newest, and what was dropped must be gone."""
    edge = cached(proxy, origin, tmp_path / "cache.db")
    async with Hub(edge):
        await publish(log, "$x", "1", "2")
        await publish(log, "a", "3")
        await filled(edge, 3)
        await log.drop({"$x": 2})
        assert (await edge.read(Channels(["$x"]), 0, 100)).entries == []
