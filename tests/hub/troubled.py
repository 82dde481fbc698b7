"""An engine that raises anything anywhere, on command: for the tests of what lives upon a log."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

from newswire.errors import Closed, LogCorrupt, LogError, LogUnavailable
from newswire.log.channels import Channels
from newswire.log.engine import Batch, Engine, Entry, OnDone, OnEntries, Outcome, Page, Span
from newswire.log.log import Log, as_log_error


class Odd(BaseException):
    """No `Exception`, as gevent's timeouts and the panics of Rust are none."""


ERRORS: list[BaseException] = [
    LogUnavailable("away"),
    LogCorrupt("damaged"),
    LogError("failed"),
    Closed("closed"),
    ValueError("a bug"),
    KeyError("another"),
    OSError(5, "I/O"),
    TimeoutError(),
    MemoryError(),
    RecursionError(),
    StopIteration(),
    asyncio.CancelledError(),
    asyncio.InvalidStateError(),
    Odd("odd"),
]


class TroubledEngine(Engine):
    """An engine whose calls fail now and then, before, in the midst of or after what they do.

    Args:
        inner: the log that does the work.
        dice: when and how.
        immediate: whether it calls back within the call.

    Attributes:
        trouble: how likely each step fails, from 0 to 1.
        fails: calls that failed.
    """

    def __init__(self, inner: Log, dice: random.Random, *, immediate: bool) -> None:
        self.inner = inner
        self.trouble = 0.0
        self.fails = 0
        self.direct = immediate
        self.immediate = immediate and inner.engine.immediate  # type: ignore[misc]
        self._dice = dice
        self._tasks: set[asyncio.Task[None]] = set()

    async def _step(self) -> None:
        for _ in range(self._dice.choice([0, 0, 1, 3])):
            await asyncio.sleep(0)
        self._fail_perhaps()

    def _fail_perhaps(self) -> None:
        if self._dice.random() < self.trouble:
            self.fails += 1
            error = self._dice.choice(ERRORS)
            raise type(error)(*error.args)

    def submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        if self.direct:
            if self._dice.random() < self.trouble:
                raise LogError("not now")
            self.inner.engine.submit(batches, on_done)
            return
        task = asyncio.ensure_future(self._submit(batches, on_done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _submit(self, batches: Sequence[Batch], on_done: OnDone) -> None:
        done: asyncio.Future[tuple[Sequence[Outcome], str]] = asyncio.get_running_loop().create_future()
        try:
            await self._step()
            self.inner.engine.submit(batches, lambda *answer: done.set_result(answer))
            answer = await done
            await self._step()
        except BaseException as error:
            on_done([as_log_error(error) if isinstance(error, Exception) else LogError("odd")] * len(batches), "")
        else:
            on_done(*answer)

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        await self._step()
        page = await self.inner.read(channels, after, limit)
        await self._step()
        return page

    async def newest(self, channels: Sequence[str]) -> list[Entry | None]:
        await self._step()
        return await self.inner.newest(channels)

    async def span(self) -> Span:
        await self._step()
        return await self.inner.span()

    async def drop(self, cuts: Mapping[str, int]) -> int:
        return await self.inner.drop(cuts)

    async def trim(self) -> int:
        return await self.inner.trim()

    async def close(self) -> None:
        await self.inner.close()

    async def tail(self, after: int, epoch: str, on_entries: OnEntries, channels: Channels | None = None) -> None:
        await self._step()
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(entries: Sequence[Entry], last: bool) -> None:
            if not failed.done():
                try:
                    self._fail_perhaps()
                    on_entries(entries, last)
                    self._fail_perhaps()
                except BaseException as error:
                    failed.set_exception(OSError("stopped") if isinstance(error, StopIteration) else error)

        inner = asyncio.ensure_future(self.inner.engine.tail(after, epoch, take))
        try:
            await asyncio.wait([inner, failed], return_when=asyncio.FIRST_COMPLETED)
            (failed if failed.done() else inner).result()
        finally:
            inner.cancel()
            failed.cancel()
            await asyncio.wait([inner])
            self._fail_perhaps()


class TroubledLog(Log):
    """A log on such an engine."""

    engine: TroubledEngine

    def __init__(self, inner: Log, dice: random.Random, *, immediate: bool = False) -> None:
        super().__init__(TroubledEngine(inner, dice, immediate=immediate))
