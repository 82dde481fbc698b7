"""The console's count of channels, beside a log that is replaced."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.hub.troubled import TroubledLog

from newswire import Event, Hub
from newswire.errors import LogUnavailable
from newswire.log.memory import MemoryLog
from newswire.server.activity import ActivityCounter

pytestmark = pytest.mark.anyio


def counted(counter: ActivityCounter) -> dict[str, int]:
    return {name: one.events for name, one in counter.busiest(10).items()}


async def test_it_goes_on_counting_in_the_log_that_took_its_place() -> None:
    """What the former log had is no longer shown; what the new log keeps, and what comes, is counted."""
    log = TroubledLog(MemoryLog(), random.Random(0))
    async with Hub(log) as hub:
        counter = ActivityCounter(hub)
        await counter.start()
        await hub.publish("old", "1")
        async with asyncio.timeout(5):
            while counted(counter) != {"old": 1}:
                await asyncio.sleep(0.001)
        replacement = log.engine.inner = MemoryLog()
        await replacement.append([("kept", Event("2"))])
        epoch = hub.epoch
        (await hub.runtime()).follower.restart(LogUnavailable("another log is there"))
        async with asyncio.timeout(5):
            while hub.epoch == epoch or not hub.following:
                await asyncio.sleep(0.001)
        await hub.publish("new", "3")
        async with asyncio.timeout(5):
            while counted(counter) != {"kept": 1, "new": 1} or counter.kept != 2:
                await asyncio.sleep(0.001)
        await hub.shutdown()
        await counter.close()
        assert counter.subscribers == 0
