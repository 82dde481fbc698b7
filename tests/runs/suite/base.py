"""What the parts of `RunSuite` have in common: two workers, sources, and the few ways in which they look at runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

from newswire.hub.frames import Chunk
from newswire.hub.hub import Hub
from newswire.hub.subscription import Subscription
from newswire.runs import Runs, WorkerOptions
from newswire.runs.reading.run import Run
from newswire.testing.log_base import PATIENCE, LogTests, MakeLog
from newswire.wire.event import Event

LEASE = 0.6  # seconds; a machine that is so busy that it gives no sign of life for three quarters of it is too busy


async def words(count: int, pause: float = 0.0) -> AsyncIterator[str]:
    """An answer."""
    for number in range(count):
        await asyncio.sleep(pause)
        yield f"{number} "


def answer(count: int) -> str:
    """What `words` say."""
    return "".join(f"{number} " for number in range(count))


async def read(run: Run, after: str | None = None) -> list[Event]:
    """All events of a run, up to and with its end."""
    with anyio.fail_after(PATIENCE):
        events = []
        async for event in run.subscribe(after):  # no comprehension: a cancelled one's traceback would keep the reader
            events.append(event)  # noqa: PERF401
        return events


async def until(call: Callable[[], Any]) -> None:
    """Wait until `call()` is true."""
    with anyio.fail_after(PATIENCE):
        while not call():  # of other processes' doing
            await asyncio.sleep(0.005)


class Noted:
    """An endless source that notes what becomes of it."""

    def __init__(self) -> None:
        self.begun = 0
        self.closed = 0

    async def __call__(self) -> AsyncIterator[str]:
        self.begun += 1
        try:
            while True:
                yield "tick "
                await asyncio.sleep(0.02)
        finally:
            self.closed += 1


class Taken:
    """A sink that keeps what it is given."""

    def __init__(self, reader: Subscription) -> None:
        self.chunks: list[bytes] = []
        self.over = asyncio.Event()
        self._reader = reader

    def write(self, chunk: Chunk) -> bool:
        self.chunks.append(chunk.raw)
        return True

    def end(self, last: Chunk | None) -> None:
        self._reader.ended()
        self.over.set()

    def cut(self) -> None:
        self.over.set()


async def kill(runs: Runs) -> None:
    """Stop all that a worker does, without a word to anybody, as kill -9 does."""
    worker = await runs._opened()
    await worker.monitor.stop()
    for production in list(worker.productions.values()):
        production.claim.over = True
        production.claim._stop_producer()


class RunTests(LogTests):
    """The base of the suite's parts: two workers on one log.

    Where the log is durable they have a hub each, as two processes would; else they share one.
    """

    @pytest.fixture
    async def pair(self, make_log: MakeLog) -> AsyncGenerator[tuple[Runs, Runs]]:
        """Two workers on one log."""
        async with self.two_workers(make_log) as pair:
            yield pair

    @asynccontextmanager
    async def two_workers(self, make_log: MakeLog, lease: float = LEASE) -> AsyncGenerator[tuple[Runs, Runs]]:
        """Two workers on one log, with leases of so many seconds."""
        options = WorkerOptions(lease=lease)
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(Hub(make_log()))
            second = await stack.enter_async_context(Hub(make_log())) if self.durable else first
            yield (
                await stack.enter_async_context(Runs(first, public=True, worker=options)),
                await stack.enter_async_context(Runs(second, public=True, worker=options)),
            )

    @pytest.fixture
    async def runs(self, pair: tuple[Runs, Runs]) -> Runs:
        """One worker."""
        return pair[0]

    @pytest.fixture
    async def other(self, pair: tuple[Runs, Runs]) -> Runs:
        """The other one."""
        return pair[1]
