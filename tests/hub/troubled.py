"""A log that raises anything anywhere, while it is told to: for the tests of what lives upon a log."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

from newswire import Event, Position
from newswire.errors import Closed, LogCorrupt, LogError, LogUnavailable
from newswire.log.base import Entry, Log, Page, Span
from newswire.log.channels import Channels
from newswire.log.immediate import Take, follow_at_once


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


class TroubledLog:
    """A log whose calls fail now and then, before, in the midst of or after what they do.

    Args:
        inner: the log that does the work.
        dice: when and how.

    Attributes:
        trouble: how likely each step fails, from 0 to 1.
        fails: calls that failed.
    """

    def __init__(self, inner: Log, dice: random.Random) -> None:
        self.inner = inner
        self.trouble = 0.0
        self.fails = 0
        self._dice = dice

    async def _step(self) -> None:
        for _ in range(self._dice.choice([0, 0, 1, 3])):
            await asyncio.sleep(0)
        self._fail_perhaps()

    def _fail_perhaps(self) -> None:
        if self._dice.random() < self.trouble:
            self.fails += 1
            error = self._dice.choice(ERRORS)
            raise type(error)(*error.args)

    async def append(self, events: Sequence[tuple[str, Event]]) -> list[Position]:
        await self._step()
        positions = await self.inner.append(events)
        await self._step()
        return positions

    async def read(self, channels: Channels, after: int, limit: int) -> Page:
        await self._step()
        page = await self.inner.read(channels, after, limit)
        await self._step()
        return page

    async def span(self) -> Span:
        await self._step()
        return await self.inner.span()

    async def trim(self) -> int:
        return await self.inner.trim()

    async def close(self) -> None:
        await self.inner.close()

    def follow(self, after: int | None = None) -> AsyncIterator[Sequence[Entry]]:
        return self._follow(after, None)

    async def _follow(self, after: int | None, take: Take | None) -> AsyncIterator[Sequence[Entry]]:
        await self._step()
        entries = self.inner.follow(after) if take is None else follow_at_once(self.inner, after, take)
        try:
            async for batch in entries:
                await self._step()
                yield batch
                await self._step()
        finally:
            await entries.aclose()
            self._fail_perhaps()


class TroubledImmediateLog(TroubledLog):
    """One that calls back, and fails there too; whoever appended gets to feel it."""

    def submit(self, batches: object, settle: object) -> None:
        raise NotImplementedError("the hub does not submit")

    def follow_at_once(self, after: int | None, take: Take) -> AsyncIterator[Sequence[Entry]]:
        broken = False

        def taking(entries: Sequence[Entry], whole: bool) -> None:
            nonlocal broken
            if broken:
                return
            broken = True
            self._fail_perhaps()
            take(entries, whole)
            self._fail_perhaps()
            broken = False

        async def checked() -> AsyncIterator[Sequence[Entry]]:
            entries = self._follow(after, taking)
            waiting: asyncio.Future[Sequence[Entry]] | None = None
            try:
                while True:
                    waiting = asyncio.ensure_future(anext(entries))  # type: ignore[arg-type]
                    while not waiting.done():
                        await asyncio.wait([waiting], timeout=0.01)
                        if broken:
                            raise LogError("a callback failed")
                    try:
                        batch = waiting.result()
                    except StopAsyncIteration:
                        return
                    yield batch
            finally:
                if waiting is not None:
                    waiting.cancel()
                    await asyncio.gather(waiting, return_exceptions=True)
                await entries.aclose()

        return checked()
