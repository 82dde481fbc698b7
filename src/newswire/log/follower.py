"""Iterating over all that is appended to a log: `Log.follow`.

The iterator is an object around a generator. Whatever cancels one waiting of a generator ends it for good, in silence:
then the next call makes another one, which goes on after what was given.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from newswire.errors import Closed
from newswire.log.engine import Entry, Span

_FOLLOWED: Final = 8192  # entries that a slow follower has in memory; then it reads on when it has taken them


class Followed(Protocol):
    """A log, as its follower sees it."""

    async def span(self) -> Span: ...

    def tail(self, after: int, epoch: str, on_entries: Callable[..., Any]) -> Awaitable[None]: ...


class Follower(AsyncIterator[Sequence[Entry]]):
    """The entries of a log, in order; see `Log.follow`. For one reader at a time."""

    def __init__(self, log: Followed, after: int | None) -> None:
        self._log = log
        self._at = after
        self._epoch: str | None = None  # from the first call on
        self._inner: AsyncGenerator[Sequence[Entry]] | None = None
        self._over = False

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> Sequence[Entry]:
        """What is next. Cancelling loses nothing: call it again.

        Raises:
            StopAsyncIteration: the log was closed.
            EpochChanged, TrimmedAway, Closed, LogUnavailable: see `Log.tail`; the iterator is over then.
            RuntimeError: another task waits for this iterator.
        """
        if self._over:
            raise StopAsyncIteration
        if self._inner is None:
            self._inner = self._follow()
        try:
            entries = await anext(self._inner)
        except asyncio.CancelledError:
            self._inner = None
            raise
        except RuntimeError:  # another task is in the generator
            raise
        except BaseException:
            self._over = True
            raise
        self._at = entries[-1].offset
        return entries

    async def aclose(self) -> None:
        """Free what it holds. Idempotent."""
        self._over = True
        inner, self._inner = self._inner, None
        if inner is not None:
            await inner.aclose()

    async def _follow(self) -> AsyncGenerator[Sequence[Entry]]:
        if self._epoch is None or self._at is None:
            span = await self._log.span()
            self._epoch, self._at = span.epoch, span.latest if self._at is None else max(self._at, 0)
        at = self._at
        while True:
            queue: deque[Sequence[Entry]] = deque()
            news = asyncio.Event()
            tail = asyncio.ensure_future(self._log.tail(at, self._epoch, partial(_enqueue, queue, news)))
            tail.add_done_callback(lambda _, news=news: news.set())  # type: ignore[misc]
            try:
                while not tail.done() or queue:
                    await news.wait()
                    news.clear()
                    while queue:
                        entries = queue.popleft()
                        at = entries[-1].offset
                        yield entries
                tail.result()
                return  # the log was closed
            except _TooSlow:
                continue
            except Closed:
                return
            finally:
                tail.cancel()
                await asyncio.wait([tail])
                if not tail.cancelled():
                    tail.exception()


class _TooSlow(Exception):
    """A follower has enough to do."""


def _enqueue(queue: deque[Sequence[Entry]], news: asyncio.Event, entries: Sequence[Entry], last: bool) -> None:
    if sum(map(len, queue)) > _FOLLOWED:
        raise _TooSlow
    queue.append(entries)
    news.set()
