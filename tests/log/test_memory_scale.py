"""The memory log with very many channels: what it knows of those it has nothing of, and what it does at once."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import tracemalloc

import pytest

from newswire.log.channels import Channels, Pattern
from newswire.log.engine import Entry
from newswire.log.forgotten import Forgotten
from newswire.log.memory import MemoryLog
from newswire.log.memory import engine as memory_engine
from newswire.log.memory import kept as memory_kept
from newswire.log.memory import losses as memory_losses
from newswire.log.memory.blocks import Blocks
from newswire.log.retention import Retention
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
    """A reader that lost nothing has no gap after others were forgotten; one that may have lost some has a doubt."""
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
        assert await losses(log, "job.1") == await losses(log, "job.new") == (0, 81)
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
        kept = log.engine._kept
        assert len(kept.channels) < 1500
        assert kept._aging.keys() == kept.channels.keys()
        assert len(kept._late) < 10_000
        assert len(kept.all) < 3000
        assert sum(map(sys.getsizeof, (kept._evicted, kept._aging, kept.losses.lost))) < 400_000
        assert len(await read_all(log, "busy")) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "retention"),
    [(30_000, None), (15_000, None), (1, None), (500, None), (30_000, Retention(max_age=3600))],
)
async def test_what_max_bytes_counts(channels: int, retention: Retention | None) -> None:
    """The bound is about memory, not about data: what events and channels take, whatever their number."""
    bound = 4 * 2**20 if channels > 1000 else 2**20
    events = bound // 140
    async with opened(MemoryLog(retention=retention, max_bytes=bound)) as log:
        gc.collect()
        tracemalloc.start()
        try:
            for first in range(0, events, 100):
                await log.append([(f"user.{n % channels}", Event(f"{n:0100}")) for n in range(first, first + 100)])
            gc.collect()  # another test may have changed when the collector runs
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert 0.7 * bound < taken < 1.35 * bound


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
async def test_removing_and_searching_at_random(seed: int) -> None:
    """Blocks find, give and remove as one sorted list does, whatever goes in which order."""
    dice = random.Random(seed)
    blocks = Blocks()
    model: list[Entry] = []
    latest = 0
    for _ in range(1500):
        match dice.randrange(6):
            case 0:
                added = [Entry(latest + 1 + each, "a", "message", "x", 0.0) for each in range(dice.choice([1, 3, 900]))]
                latest = added[-1].offset
                blocks.extend(added)
                model += added
            case 1:
                count = dice.choice([1, 1, 64, 500])
                taken = blocks.take_first(count)
                assert taken == model[: len(taken)]
                assert taken or not model
                del model[: len(taken)]
            case 2 if model:
                begin = dice.randrange(len(model))
                some = slice(begin, begin + dice.choice([1, 50, 1500]))
                for entry in model[some]:
                    assert blocks.remove(entry.offset)
                    assert not blocks.remove(entry.offset)
                del model[some]
            case 3:
                offset = dice.randrange(-1, latest + 2)
                assert blocks.find(offset) == next((entry for entry in model if entry.offset == offset), None)
            case _:
                offset, limit = dice.randrange(-1, latest + 2), dice.choice([1, 10, 3000])
                assert blocks.after(offset, limit) == [entry for entry in model if entry.offset > offset][:limit]
    assert len(blocks) == len(model)


async def test_a_channel_that_came_back_has_no_doubt_of_what_it_knows() -> None:
    """A channel whose last loss is remembered knows it, also after it has events again and others were forgotten."""
    async with opened(MemoryLog(max_bytes=100_000)) as log:
        for number in range(12_000):
            await publish(log, f"user.{number}", "x")
        [again] = await publish(log, "user.11000", "y")
        page = await log.read(Channels(["user.11000"]), 0, 10)
        assert (page.lost, page.doubt, offsets(page.entries)) == (11_001, 0, [again])


@pytest.mark.parametrize("rule", [None, Retention(max_events=40)])
async def test_pages_of_a_pattern_in_pieces(monkeypatch: pytest.MonkeyPatch, rule: Retention | None) -> None:
    """Pages of any size have all that a pattern matches and retention keeps, once and in order."""
    monkeypatch.setattr(memory_engine, "_SCAN", 32)
    dice = random.Random(8)
    async with opened(MemoryLog(retention=None if rule is None else {"a.*": rule})) as log:
        for _ in range(60):
            await log.append([(f"{dice.choice('abbb')}.{dice.randrange(3)}", Event("x")) for _ in range(10)])
        for wanted in ("a.*", "b.1", ">", "none.*"):
            everything = [
                entry for name in "ab" for each in range(3) for entry in await read_all(log, f"{name}.{each}")
            ]
            expected = sorted(entry for entry in everything if entry.channel in Channels([Pattern(wanted)]))
            for limit in (1, 2, 3, 4, 5, 31, 32, 33, 1000):
                assert await read_all(log, Pattern(wanted), limit=limit) == expected


async def test_a_small_page_looks_at_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page of a pattern costs depends on its size, where most events match."""
    async with opened(MemoryLog()) as log:
        await log.append([(f"user.{number % 50}", Event("x")) for number in range(10_000)])
        looked: list[Entry] = []
        has = memory_kept.Kept.has

        def look(kept: memory_kept.Kept, entry: Entry) -> bool:
            looked.append(entry)
            return has(kept, entry)

        monkeypatch.setattr(memory_kept.Kept, "has", look)
        page = await log.read(Channels([Pattern("user.*")]), 3000, 10)
        assert offsets(page.entries) == [*range(3001, 3011)]
        assert len(looked) < 50


async def test_a_large_drop_in_turns() -> None:
    """A cut through a channel of very many events lets the event loop go on, and so does what it frees."""
    async with opened(MemoryLog()) as log:
        await log.append([("busy", Event("x"))] * 20_000)
        dropping = asyncio.ensure_future(log.drop({"busy": 19_999}))
        passes = 0
        while not dropping.done():
            await asyncio.sleep(0)
            passes += 1
        assert passes >= 20
        assert await dropping == 19_999
        assert offsets(await read_all(log, "busy")) == [20_000]


@pytest.mark.slow
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
