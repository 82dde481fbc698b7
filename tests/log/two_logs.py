"""Two processes on one log, as far as the log can tell, while a test makes trouble; and a check of their readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.log.redis_reader import PATIENCE, Reader

from newswire.errors import LogUnavailable, LogUncertain
from newswire.log.log import Log
from newswire.testing.log_base import opened
from newswire.wire.event import Event


class Publisher:
    """Publishes numbers all the time, one after the other, and each again under its token until it is there.

    Attributes:
        acknowledged: what is stored.
    """

    def __init__(self, log: Log, name: str) -> None:
        self.acknowledged: list[str] = []
        self.failures = 0
        self._log = log
        self._name = name

    async def run(self) -> None:
        number = 0
        while True:
            data = f"{self._name} {number}"
            try:
                await self._log.append([(self._name, Event(data))], token=data)
            except (LogUnavailable, LogUncertain):
                self.failures += 1
                await asyncio.sleep(0.005)
                continue
            self.acknowledged.append(data)
            number += 1
            await asyncio.sleep(0.0005)

    async def more(self, count: int = 20) -> None:
        """Wait until it has stored some more."""
        goal = len(self.acknowledged) + count
        async with asyncio.timeout(PATIENCE):
            while len(self.acknowledged) < goal:
                await asyncio.sleep(0.002)


@asynccontextmanager
async def publishing(log: Log, name: str) -> AsyncGenerator[Publisher]:
    """A publisher, for the time of the block."""
    publisher = Publisher(log, name)
    task = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def two_logs(one: Log, other: Log) -> AsyncGenerator[tuple[list[Publisher], list[Reader]]]:
    """Two log objects on one server with a publisher and a reader each; at the end, what the readers saw is checked."""
    async with (
        opened(one) as first,
        opened(other) as second,
        Reader(first) as reader,
        Reader(second) as another,
    ):
        async with publishing(first, "a") as a, publishing(second, "b") as b:
            await a.more()
            await b.more()
            yield [a, b], [reader, another]
            await a.more()
            await b.more()
        for publisher in (a, b):
            for each in (reader, another):
                await each.saw(publisher.acknowledged[-1])
        for each in (reader, another):
            assert None in each.seen or len(each.seen) == len(set(each.seen))
            for publisher in (a, b):
                own = [data for data in each.seen if data is None or data.startswith(publisher._name)]
                if None not in own:
                    assert own[: len(publisher.acknowledged)] == publisher.acknowledged


async def until_answered(log: Log) -> None:
    """Ask again until the log answers: its connection has gone, and the next attempt is not at once."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await log.span()
                return
            except LogUnavailable:
                await asyncio.sleep(0.01)


async def until_stored(log: Log, data: str) -> None:
    """Publish an event, again until it is stored; it is there once."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await log.append([("a", Event(data))], token=data)
                return
            except (LogUnavailable, LogUncertain):
                await asyncio.sleep(0.01)
