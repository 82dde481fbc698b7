"""The memory log with very many channels: what it knows of those it has nothing of, and what it does at once."""

from __future__ import annotations

import asyncio
import random
import sys

import pytest

from newswire.log import memory_losses
from newswire.log.base import Retention
from newswire.log.channels import Channels, Pattern
from newswire.log.forgotten import Forgotten
from newswire.log.memory import MemoryLog
from newswire.testing.log_base import offsets, opened, publish, read_all
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remember few channels, and look at few at once."""
    monkeypatch.setattr(memory_losses, "_EMPTY_KEPT", 20)
    monkeypatch.setattr(memory_losses, "_SLICE", 3)


async def losses(log: MemoryLog, *channels: str) -> tuple[int, int]:
    """`lost` and `doubt` of a reader from the beginning."""
    page = await log.read(Channels(channels), 0, 1)
    return page.lost, page.doubt


@pytest.mark.usefixtures("few")
async def test_forgotten_channels() -> None:
    """Who lost nothing has no gap after others were forgotten; who may have, has a doubt."""
    now = 1000.0
    rules = {"job.*": Retention(max_age=5), "user.old": Retention(max_age=5)}
    async with opened(MemoryLog(retention=rules, clock=lambda: now)) as log:
        await publish(log, "user.old", "x")
        await publish(log, "user.1", "x")
        await log.append([(f"job.{number}", Event("x")) for number in range(100)])
        now += 10
        await log.trim()
        await publish(log, "user.2", "x")
        assert await losses(log, "user.1") == await losses(log, "other") == (0, 0)
        assert await losses(log, Pattern("job.*")) == await losses(log, Pattern(">")) == (102, 0)
        assert await losses(log, Pattern("user.*")) == (1, 0)
        assert await losses(log, "user.new") == (0, 1)
        assert await losses(log, "job.99") == (102, 0)
        assert await losses(log, "job.1") == await losses(log, "job.new") == (0, 82)
        assert await losses(log, Pattern("room.>"), "user.1") == (0, 0)


@pytest.mark.usefixtures("few")
async def test_losses_while_a_pattern_is_looked_up() -> None:
    """A pattern is looked up in slices; what is lost or dropped between them is known at the end."""
    dice = random.Random(5)
    async with opened(MemoryLog(retention={"a.*": Retention(max_events=1)})) as log:
        names = [f"a.{number}" for number in range(12)]
        stored: dict[str, list[int]] = {name: [] for name in names}

        async def write() -> None:
            for _ in range(200):
                name = dice.choice(names)
                if dice.random() < 0.1:
                    await log.drop({name: 2**62})
                    stored[name] = []
                else:
                    stored[name] += await publish(log, name, "x")
                await asyncio.sleep(0)

        writing = asyncio.ensure_future(write())
        while not writing.done():
            page = await log.read(Channels([Pattern("a.*")]), 0, 100)
            assert page.lost == max((each[-2] for each in stored.values() if len(each) > 1), default=0)
            await asyncio.sleep(0)
        await writing


async def test_what_is_kept_does_not_grow() -> None:
    """Channels that come and go leave nothing behind, whatever removes them."""
    now = 1000.0
    log = MemoryLog(retention=Retention(max_age=5, max_events=3), max_bytes=400_000, clock=lambda: now)
    async with opened(log):
        for number in range(5000):
            now += 0.01 if number % 7 else -0.05
            await log.append([(f"user.{number}", Event("x")), ("busy", Event("y")), ("again", Event("z"))])
            if number % 3 == 0:
                await log.drop({f"user.{number}": 2**62, "again": 2**62})
        kept = len(log._channels)
        assert kept < 1500
        assert log._aging.keys() == log._channels.keys()
        assert len(log._late) < 10_000
        assert len(log._all) < 3000
        assert sum(map(sys.getsizeof, (log._graves, log._aging, log._losses.lost))) < 400_000
        assert len(await read_all(log, "busy")) == 3


async def test_a_loop_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up a pattern among very many channels lets other tasks run in between."""
    async with opened(MemoryLog(retention=Retention(max_events=1))) as log:
        for _ in range(2):
            await log.append([(f"user.{number}", Event("x")) for number in range(20_000)])
        reading = asyncio.ensure_future(log.read(Channels([Pattern("room.*")]), 0, 1))
        passes = 0
        while not reading.done():
            await asyncio.sleep(0)
            passes += 1
        assert passes >= 20_000 // memory_losses._SLICE
        assert offsets((await reading).entries) == []


def test_more_shapes_than_are_kept() -> None:
    """Beyond a thousand first tokens the rest share one shape, which is a doubt for each of them."""
    forgotten = Forgotten()
    forgotten.add((f"t{number}.x", number + 1) for number in range(3000))
    forgotten.add([("$a.x", 5000), ("alone", 6000)])
    assert len(forgotten.shapes) < 1010
    again = Forgotten(forgotten.shapes)
    for each in (forgotten, again):
        assert each.doubt("t5.y") == 3000
        assert each.doubt("t5.y.z") == 0
        assert each.doubt("$b.x") == 5000
        assert each.of_patterns(Channels([Pattern("t5.*")])) == (6, 3000)
        assert each.of_patterns(Channels([Pattern("*.*")])) == (3000, 0)
        assert each.of_patterns(Channels([Pattern("*")])) == (6000, 0)
        assert each.of_patterns(Channels([Pattern("$a.*")])) == (0, 5000)
