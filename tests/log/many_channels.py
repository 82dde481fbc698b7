"""What every engine on a server does with many channels: pages by pattern, forgotten names, retention by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.log.redis_reader import PATIENCE

from newswire.log.channels import Channels, Pattern
from newswire.log.engine import PAGE_BYTES
from newswire.log.log import Log
from newswire.testing.log_base import opened, publish, read_all
from newswire.wire.event import Event


class ManyChannels:
    """A module's `log` keeps all events of the channels below `all`, and one small event of any other."""

    async def test_pages_of_large_events_by_pattern(self, log: Log) -> None:
        """A page by a pattern ends early too, among events of other channels of any size."""
        large = "x" * (PAGE_BYTES // 3)
        for number in range(8):
            some = ("all.a", f"{number} {large}"), ("all.b.c", large), ("all.b.d", "s")
            await log.append([(channel, Event(data)) for channel, data in some])
        page = await log.read(Channels([Pattern("all.*")]), 0, 100)
        assert len(page.entries) == 2
        assert [entry.data[0] for entry in await read_all(log, "all.*")] == list("01234567")
        assert len(await read_all(log, "all.b.d")) == 8

    async def test_forgotten_channels(self, log: Log) -> None:
        """The names of channels without events are forgotten beyond a number; their readers can't be sure any more."""
        engine: Any = log.engine
        keeper = engine._retention
        for number in range(30):
            await publish(log, f"user.{number}", "more than it keeps")
        [there] = await publish(log, "user.there", "small")
        await log.trim()
        await publish(log, "order.1.x", "more than it keeps")
        await log.trim()
        assert await keeper.forget(10) == 21
        assert await keeper.forget(10) == 0

        async def missing(*channels: str) -> tuple[int, int]:
            page = await log.read(Channels(channels), 0, 1)
            return page.lost, page.doubt

        assert await missing("user.25") == (26, 0)  # it is known still
        assert await missing("user.3") == (0, 21)  # forgotten
        assert await missing("user.new") == (0, 21)  # as well, for all that is known
        assert await missing("user.there") == (0, 0)  # was there when it happened
        assert await missing("order.2.x", "else") == (0, 0)  # others
        assert await missing(Pattern("user.*")) == (30, 0)
        assert await missing(Pattern("order.>")) == (32, 0)
        assert await missing(Pattern("*.3")) == (0, 21)
        await publish(log, "user.3", "again")
        assert await missing("user.3") == (0, 21)
        assert there == 31
        assert await log.drop({"user.3": 99}) == 1


async def retention_by_itself(make: Callable[[], Log]) -> None:
    """One of the processes that share a log removes what is over, after followers had a second to see it; if it ends,
    another does.

    Args:
        make: a log that keeps half a second of the channel `age`, and two events of `count`.
    """

    async def emptied(log: Log) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(await read_all(log, "age", "count")) > 2:
                await asyncio.sleep(0.05)

    async with opened(make()) as log:
        async with opened(make()) as other:
            await publish(other, "age", *"123")
            await publish(other, "count", *"45678")
            assert len(await read_all(log, "age", "count")) == 8
            await emptied(other)
            assert [entry.data for entry in await read_all(log, ">")] == ["7", "8"]
        await publish(log, "age", "9")
        await publish(log, "count", "10")
        await emptied(log)
        assert [entry.data for entry in await read_all(log, ">")] == ["8", "10"]
