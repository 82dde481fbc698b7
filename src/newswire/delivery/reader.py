"""Any iterable as bytes: one side draws items, the other takes all that is ready in one piece.

An async iterable is drawn by a task of its own. That keeps its context whole (it is opened, drawn and closed in one
task, as cancel scopes demand), lets heartbeats pass while it thinks, and joins what a fast producer yields. A sync
iterable is drawn by a thread of its own, in one context (`newswire.delivery.threads`). Lists and tuples never block,
so the task draws them too. Each runs ahead of the client by one write budget at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Final

from newswire.delivery.items import Item, encode_item
from newswire.delivery.threads import AHEAD, DrawingThread

# Seconds that the end of a stream waits for a thread to close its iterable. A longer `finally` goes on by itself.
_CLOSING: Final = 1.0


class IterableReader:
    """Draws from an iterable, ahead of its reader by a bounded number of bytes.

    `take` waits for items; `close` ends it at any time.

    Raises:
        Problem: a sync iterable, and there are too many threads.
    """

    def __init__(self, content: AsyncIterable[Item] | Iterable[Item]) -> None:
        self._ready: list[bytes] = []
        self._ready_bytes = 0
        self._over = False
        self._error: BaseException | None = None
        self._interrupted = False
        self._closing = False
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread: DrawingThread | None = None
        if isinstance(content, AsyncIterable) or type(content) in (list, tuple):
            self._task = asyncio.get_running_loop().create_task(self._draw(content), name="newswire stream")
        else:
            self._thread = DrawingThread(content, self._filled.set)

    # -- the drawing side

    async def _draw(self, content: AsyncIterable[Item] | Iterable[Item]) -> None:
        try:
            if isinstance(content, AsyncIterable):
                iterator = aiter(content)
                try:
                    async for item in iterator:
                        await self._put(encode_item(item))
                finally:
                    await _aclose(iterator)
            else:
                for item in content:
                    await self._put(encode_item(item))
        except asyncio.CancelledError as error:
            if self._closing:
                raise
            # Something that it waits for was cancelled. An end in order would say that this is all.
            self._error = RuntimeError("the iterable was cancelled, and not by its stream")
            self._error.__cause__ = error
        except BaseException as error:
            self._error = error
        finally:
            self._over = True
            self._filled.set()

    async def _put(self, block: bytes) -> None:
        self._ready.append(block)
        self._ready_bytes += len(block)
        self._filled.set()
        while self._ready_bytes >= AHEAD:
            self._taken.clear()
            await self._taken.wait()

    # -- the taking side

    async def take(self, timeout: float | None) -> bytes | None:
        """All that is ready, joined; empty after `timeout` seconds or an interruption; None at the end.

        Raises:
            BaseException: what the iterable raised, after everything before it was taken.
        """
        while True:
            self._fetch()
            if self._ready:
                joined = b"".join(self._ready)
                self._ready.clear()
                self._ready_bytes = 0
                self._taken.set()
                return joined
            if self._error is not None:
                raise self._error
            if self._over:
                return None
            if self._interrupted:
                return b""
            self._filled.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._filled.wait()
            except TimeoutError:
                return b""

    def _fetch(self) -> None:
        """Take what a thread has drawn."""
        thread = self._thread
        if thread is None or self._ready:
            return
        over = thread.over  # read before what is ready, which is complete then
        taken = thread.take()
        if taken:
            self._ready.append(taken)
        if over:
            self._error = thread.error
            self._over = True

    def interrupt(self) -> None:
        """Let `take` return, now and from now on: the stream ends."""
        self._interrupted = True
        self._filled.set()

    async def close(self) -> None:
        """Stop drawing, and close the iterable where it was drawn. What blocks in a thread is left behind."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        elif self._thread is not None and self._thread.close():
            try:
                async with asyncio.timeout(_CLOSING):
                    while not self._thread.over:
                        self._filled.clear()
                        self._thread.take()
                        if not self._thread.over:
                            await self._filled.wait()
            except TimeoutError:
                pass


async def _aclose(iterator: AsyncIterator[Item]) -> None:
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()
