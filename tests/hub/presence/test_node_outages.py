"""A log that is away, and one that is another one: neither makes a ghost or a flicker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from tests.fixtures.engines import Valkey
from tests.hub.presence.suite import OPTIONS, Stream, changes

from newswire import Hub, Member
from newswire.log.memory import MemoryLog

pytestmark = pytest.mark.anyio

HEARTBEAT = OPTIONS.presence.heartbeat


@asynccontextmanager
async def room(url: str) -> AsyncIterator[tuple[Stream, Stream, Stream]]:
    """Two members on two nodes, and a third stream on the second node that watches."""
    async with AsyncExitStack() as stack:
        hubs = [Hub(url, presence=["room.*"], options=OPTIONS) for _ in range(2)]
        for hub in hubs:
            await stack.enter_async_context(hub)
        streams = Stream(hubs[0], Member("ada", 1)), Stream(hubs[1], Member("bob", 2)), Stream(hubs[1], True)
        for stream in streams:
            stack.push_async_callback(stream.close)
            await stream.until("ada", "bob")
        yield streams


@pytest.mark.slow
async def test_a_log_that_is_away() -> None:
    """No one can give a heartbeat, for longer than a node may be silent; no one is taken for dead."""
    with Valkey() as server:
        async with room(f"{server.url}?timeout=1") as (ada, bob, watcher):
            server.pause()
            await asyncio.sleep(3 * HEARTBEAT)
            server.resume()
            eve = Stream(watcher.hub, Member("eve"))
            await watcher.until("ada", "bob", "eve")
            await asyncio.sleep(2 * HEARTBEAT)  # a verdict would come within one
            for stream in (ada, bob, watcher):
                await stream.until("ada", "bob", "eve")
                assert [change for _, change in changes(stream.events)] == ["join"] * 3
            await eve.close()


@pytest.mark.slow
async def test_a_log_that_is_wiped() -> None:
    """Readers get a gap; then everybody who is there joins again, in the new log."""
    with Valkey() as server:
        async with room(server.url) as (ada, bob, watcher):
            server.ask("FLUSHALL")
            while (await watcher.next()).event != "newswire.gap":
                pass
            watcher.here.clear()
            await watcher.until_states({"ada": 1, "bob": 2})
            await bob.close()
            await watcher.until("ada")
            assert await watcher.hub.presence("room.1").members() == {"ada": 1}
            await ada.close()
            await watcher.until()


class Shared(MemoryLog):
    """A log of two hubs in one process: the first that closes leaves it open."""

    async def close(self) -> None: ...


async def test_a_log_that_is_full() -> None:
    """It has removed the notes about members who are there; a node that comes later learns of them all the same."""
    log = Shared(max_bytes=100_000)
    async with Hub(log, presence=["room.*"], options=OPTIONS) as first:
        ada, visitor = Stream(first, Member("ada", 1)), Stream(first, True)
        await ada.until("ada")
        for _ in range(4):
            await first.publish("other", "x" * 60_000)
        async with Hub(log, presence=["room.*"], options=OPTIONS) as second:
            bob = Stream(second, Member("bob", 2))
            await bob.until_states({"ada": 1, "bob": 2})
            await bob.close()
        await visitor.close()
        await ada.close()
