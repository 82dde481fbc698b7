"""What the parts of `LogSuite` have in common: how they get a log, and the few ways in which they look at one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, ClassVar, TypeAlias, cast

import anyio
import pytest

from newswire.log.channels import Channels, name_or_pattern
from newswire.log.engine import Batch, Entry, Outcome, Page
from newswire.log.log import Log
from newswire.wire.event import Event

MakeLog: TypeAlias = Callable[..., Log]

# A test that waits longer for something that has to happen fails. Far more than any log needs.
PATIENCE = 30.0


class LogTests:
    """The base of the suite's parts.

    Attributes:
        durable: whether a log that was closed can be made again, with all that was in it.
        per_channel: whether retention counts for each channel. An engine with one limit for the whole log has False:
            it refuses rules for patterns, and tells readers of what it removed by `Page.doubt`.
    """

    pytestmark: pytest.MarkDecorator = pytest.mark.anyio
    durable: ClassVar[bool] = True
    per_channel: ClassVar[bool] = True

    @pytest.fixture
    def anyio_backend(self) -> str:
        """A log lives on asyncio."""
        return "asyncio"

    @pytest.fixture
    def make_log(self) -> MakeLog:
        """Return a function that makes a log, with `retention` if it is given; the same log within one test."""
        raise NotImplementedError("a subclass of LogSuite has a fixture `make_log`")

    @pytest.fixture
    async def log(self, make_log: MakeLog) -> AsyncGenerator[Log]:
        """An empty log that keeps everything."""
        async with opened(make_log()) as log:
            yield log


@asynccontextmanager
async def opened(log: Log) -> AsyncGenerator[Log]:
    """Close a log at the end of the block."""
    try:
        yield log
    finally:
        await log.close()


async def publish(log: Log, channel: str, *data: str) -> list[int]:
    """Append events one by one; return their offsets."""
    return [(await log.append([(channel, Event(each))]))[0].offset for each in data]


async def submit(log: Log, *batches: Batch) -> Sequence[Outcome]:
    """Submit, and wait for the outcomes."""
    found: list[Sequence[Outcome]] = []
    done = anyio.Event()

    def on_done(outcomes: Sequence[Outcome], epoch: str) -> None:
        found.append(outcomes)
        done.set()

    log.submit(batches, on_done)
    with anyio.fail_after(PATIENCE):
        await done.wait()
    [outcomes] = found
    return outcomes


async def read_pages(
    log: Log, channels: Iterable[str], *, after: int = 0, limit: int = 100, end: int | None = None
) -> list[Page]:
    """Read page after page up to an offset, or else the end of the log."""
    pages = []
    wanted = Channels(map(name_or_pattern, channels))
    end = (await log.span()).latest if end is None else end
    while after < end:
        page = await log.read(wanted, after, limit)
        assert page.through > after, "a page before the end of the log goes on"
        assert len(page.entries) <= limit
        assert all(after < entry.offset <= page.through for entry in page.entries)
        pages.append(page)
        after = page.through
    return pages


async def read_all(log: Log, *channels: str, after: int = 0, limit: int = 100, end: int | None = None) -> list[Entry]:
    """All kept entries of the channels."""
    pages = await read_pages(log, channels, after=after, limit=limit, end=end)
    return [entry for page in pages for entry in page.entries]


async def lost(log: Log, *channels: str) -> int:
    """What a page reports as lost to a reader of the channels from the beginning."""
    return (await log.read(Channels(map(name_or_pattern, channels)), 0, 1)).lost


async def reported(log: Log, *channels: str, after: int = 0) -> int:
    """Up to where a reader of the channels after an offset hears that something is gone, or may be."""
    page = await log.read(Channels(map(name_or_pattern, channels)), after, 1)
    return max(page.lost, page.doubt)


def closing(follower: AsyncIterator[Sequence[Entry]]) -> aclosing[Any]:
    """Close a follower at the end of the block."""
    return aclosing(cast(Any, follower))


async def take(follower: AsyncIterator[Sequence[Entry]], count: int) -> list[Entry]:
    """The next entries of a follower, at least `count` of them."""
    entries: list[Entry] = []
    with anyio.fail_after(PATIENCE):
        while len(entries) < count:
            batch = await anext(follower)
            assert batch, "a follower is never given an empty batch"
            entries += batch
    return entries


def offsets(entries: Iterable[Entry]) -> list[int]:
    """The entries' offsets."""
    return [entry.offset for entry in entries]
