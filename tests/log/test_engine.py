"""What engines do for operators: tell of themselves, be read as a whole, take over another log's offsets."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.engines import Nats, Postgres, Valkey

from newswire.errors import LogError
from newswire.log import Log, MemoryLog, Retention, open_log
from newswire.log.channels import Channels
from newswire.log.engine import Copied, Losses
from newswire.log.nats.engine import NatsLog
from newswire.testing.log_base import closing, opened, publish, read_all, take
from newswire.wire.event import Event

pytestmark = pytest.mark.anyio
_numbers = itertools.count()
ENGINES = ("memory", "sqlite", "valkey", "postgres", "nats")


@pytest.fixture(params=ENGINES)
def make_log(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Log]:
    """Makes a new and empty log of each engine."""

    def make(**options: Any) -> Log:
        number = next(_numbers)
        options.setdefault("retention", Retention())
        if request.param == "memory":
            return MemoryLog(**options)
        if request.param == "sqlite":
            return open_log(f"sqlite:///{tmp_path}/{number}.db", **options)
        server: Valkey | Postgres | Nats = request.getfixturevalue(request.param)
        return open_log(f"{server.url}?namespace=engine{os.getpid()}-{number}", **options)

    return make


@pytest.fixture
async def original(tmp_path: Path) -> AsyncIterator[Log]:
    """A log with holes, an internal channel, a channel that has nothing left, and one that was dropped."""
    async with opened(open_log(f"sqlite:///{tmp_path}/original.db", retention={"few": Retention(max_events=2)})) as log:
        for number in range(5):
            await log.append([("few", Event(f"few {number}")), ("all", Event(f"all {number}", "note"))])
        await log.append([("$internal.x", Event("internal"))])
        await publish(log, "dropped", "1")
        await log.trim()
        await log.drop({"dropped": 2**40})
        yield log


async def missing(log: Log, channel: str) -> int:
    """Up to where a reader of a channel hears of a gap."""
    page = await log.read(Channels([channel]), 0, 1)
    return max(page.lost, page.doubt)


async def whole(log: Log) -> Copied:
    """All of a log."""
    page = await log.scan(0, 1000)
    span = await log.span()
    return Copied(entries=page.entries, through=page.through, lives=span.lives, losses=await log.losses())


async def test_a_scan_has_all_kept_events(original: Log) -> None:
    """Internal channels too, in order, page by page up to the end of the log, with holes where events are gone."""
    page = await original.scan(0, 1000)
    assert [entry.offset for entry in page.entries] == [2, 4, 6, 7, 8, 9, 10, 11]
    assert page.entries[-1].channel == "$internal.x"
    assert page.through == (await original.span()).latest == 12
    first = await original.scan(0, 3)
    assert (first.entries, first.through) == (page.entries[:3], 6)
    assert (await original.losses()).channels == {"few": 5}


async def test_a_copy_answers_as_its_original(original: Log, make_log: Callable[..., Log]) -> None:
    """Offsets, times, epoch, span, pages, losses and the newest events; the next event goes after all of them."""
    async with opened(make_log()) as copy:
        part = await whole(original)
        await copy.restore(part)
        assert await copy.span() == await original.span()
        assert (await copy.scan(0, 1000)).entries == part.entries
        for name in ("few", "all", "$internal.x", "dropped", "never"):
            assert await read_all(copy, name) == await read_all(original, name)
            assert await copy.newest([name]) == await original.newest([name])
        if isinstance(copy, NatsLog):  # it knows up to where something may be missing
            assert await missing(copy, "few") == await missing(copy, "all") == 5
            assert await copy.losses() == Losses({}, {">": 5})
        else:
            assert [await missing(copy, name) for name in ("few", "all", "dropped")] == [5, 0, 0]
            assert (await copy.losses()).channels == {"few": 5}
        [position] = await copy.append([("all", Event("next"))])
        assert position == f"{part.lives.epoch}-13"


async def test_a_copy_can_be_made_in_parts_which_may_come_again(original: Log, make_log: Callable[..., Log]) -> None:
    """As after a `kill -9` between two parts, or an answer that was lost."""
    async with opened(make_log()) as copy:
        part = await whole(original)
        first = Copied(entries=part.entries[:3], through=6, lives=part.lives)
        await copy.restore(first)
        assert (await copy.span()).latest == 6
        await copy.restore(first)
        await copy.restore(part)
        await copy.restore(part)
        assert (await copy.scan(0, 1000)).entries == part.entries
        assert await copy.span() == await original.span()


async def test_a_part_is_refused_if_earlier_ones_are_gone(original: Log, make_log: Callable[..., Log]) -> None:
    """A log that has lost its end must not get a hole that no one knows of. An empty one gets no life either."""
    async with opened(make_log()) as copy:
        part = await whole(original)
        last = Copied(entries=part.entries[-1:], through=part.through, lives=part.lives, after=part.through - 1)
        before = (await copy.span()).epoch
        with pytest.raises(LogError, match="lost events of the copy"):
            await copy.restore(last)
        assert (await copy.span()).epoch == before
        await copy.restore(Copied(entries=part.entries[:3], through=6, lives=part.lives))
        with pytest.raises(LogError, match="lost events of the copy"):
            await copy.restore(last)
        assert (await copy.span()).latest == 6
        await copy.restore(part)
        await copy.restore(last)
        assert await copy.span() == await original.span()


async def test_an_empty_end_keeps_its_offsets(make_log: Callable[..., Log]) -> None:
    """Where the newest events of the other log are gone, their offsets are not given again."""
    async with opened(MemoryLog()) as original, opened(make_log()) as copy:
        await publish(original, "a", "1", "2", "3")
        await original.drop({"a": 3})
        await copy.restore(await whole(original))
        assert (await copy.span()).latest == 3
        assert await publish(copy, "a", "4") == [4]
        page = await copy.read(Channels(["a"]), 0, 10)
        assert [entry.data for entry in page.entries] == ["4"]


async def test_a_log_with_events_of_its_own_is_no_copy(original: Log, make_log: Callable[..., Log]) -> None:
    """They would be at offsets that the other log gave to others."""
    async with opened(make_log()) as other:
        await publish(other, "a", "mine")
        with pytest.raises(LogError, match="events of its own"):
            await other.restore(await whole(original))
        assert [entry.data for entry in await read_all(other, "a")] == ["mine"]


async def test_a_copy_is_found_again(original: Log, make_log: Callable[..., Log], tmp_path: Path) -> None:
    """A file or a server has the epoch after the log was closed, and the lives with it."""
    async with opened(make_log()) as copy:
        await copy.restore(await whole(original))
        await copy.close()
        copy.reopen()
        assert await copy.span() == await original.span()
        assert (await copy.span()).lives.all == (await original.span()).lives.all


async def test_a_tail_goes_on_behind_a_copied_part(original: Log, make_log: Callable[..., Log]) -> None:
    """Followers of the copy get what is published there, and nothing twice."""
    async with opened(make_log()) as copy:
        await copy.restore(await whole(original))
        async with closing(copy.follow(12)) as follower:
            await publish(copy, "all", "next")
            assert [entry.data for entry in await take(follower, 1)] == ["next"]


async def test_info_says_what_the_log_has(original: Log, make_log: Callable[..., Log]) -> None:
    """How many events, how large, in which storage; no risk is named without a word on what to do."""
    async with opened(make_log(retention=Retention(max_events=7))) as log:
        await publish(log, "a", "1", "2", "3")
        info = await log.info()
        assert info.events == 3
        assert info.size
        assert info.storage
        assert "max_events=7" in info.retention
        assert await log.init() == await log.init()
